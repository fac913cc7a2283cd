//! The city's web server: the documents of the simulated now, and the faults that were ordered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use chrono::Utc;
use futures::stream;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use super::city::City;
use super::faults::{Fault, Schedule, spoil};
use super::settings::{Settings, SimulateError};

/// How long open connections may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// The city lives on this often while nobody looks, so that the next who does need not wait for it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a hanging response hangs.
const HANG: Duration = Duration::from_secs(600);
/// How a huge response is made: blanks, chunk by chunk.
const HUGE_CHUNK: usize = 1 << 20;
const HUGE_CHUNKS: usize = 100;
const HTML: &str = "<!DOCTYPE html><html><head><title>Accès refusé</title></head><body><h1>403</h1></body></html>";

/// A city that is being served. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct Running {
    /// Where a GBFS source starts.
    pub gbfs_url: String,
    /// The polygons of the quartiers.
    pub quartiers_url: String,
    /// With the port that was taken.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Running {
    /// Ends open responses and stops listening; returns when the address is free again.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if timeout(STOP_LIMIT, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Makes the city and serves it until it is stopped.
///
/// # Errors
/// A setting is out of range, or the address is taken.
pub async fn serve(settings: Settings) -> Result<Running, SimulateError> {
    settings.check()?;
    let unusable = |source| SimulateError::Listen { address: settings.address, source };
    let listener = TcpListener::bind(settings.address).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let (stop, stopped) = watch::channel(false);
    let show = Arc::new(Show::new(&settings, address, stopped.clone()));
    let router = router(Arc::clone(&show));
    let server = tokio::spawn(async move {
        let ended = until_stopped(stopped.clone());
        let serving = axum::serve(listener, router).with_graceful_shutdown(ended).into_future();
        let living = async {
            let mut heartbeat = interval(HEARTBEAT);
            loop {
                heartbeat.tick().await;
                show.live_on();
            }
        };
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!(%error, %address, "the simulated city's server failed");
            },
            () = living => {}
        }
    });
    let base = format!("http://{address}");
    let (gbfs_url, quartiers_url) = (format!("{base}/gbfs.json"), format!("{base}/quartiers.geojson"));
    Ok(Running { gbfs_url, quartiers_url, address, stop, server })
}

/// Also when the other end is dropped.
async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error says that the other end is gone, which is the same to us.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn router(show: Arc<Show>) -> Router {
    Router::new()
        .route("/gbfs.json", get(discovery))
        .route("/station_status.json", get(status))
        .route("/station_information.json", get(|State(show): State<Arc<Show>>, headers| still(show, headers, 0)))
        .route("/vehicle_types.json", get(|State(show): State<Arc<Show>>, headers| still(show, headers, 1)))
        .route("/system_information.json", get(|State(show): State<Arc<Show>>, headers| still(show, headers, 2)))
        .route("/quartiers.geojson", get(|State(show): State<Arc<Show>>, headers| still(show, headers, 3)))
        .route("/faults", post(order))
        .with_state(show)
}

/// A body with its mark.
#[derive(Clone, Debug)]
struct Document {
    body: Bytes,
    etag: String,
}

/// What the server shows.
struct Show {
    stage: Mutex<Stage>,
    schedule: Mutex<Schedule>,
    /// Documents that never change: station_information, vehicle_types, system_information, quartiers.
    still: [Document; 4],
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
}

struct Stage {
    city: City,
    clock: Clock,
    mark: String,
    /// The status at the city's last tick, once somebody has asked for it.
    status: Option<(i64, Document)>,
}

enum Clock {
    Running { start: i64, since: Instant, speed: f64 },
    Stepping { next: i64, step: i64 },
}

impl Show {
    fn new(settings: &Settings, address: SocketAddr, stopped: watch::Receiver<bool>) -> Self {
        let start = settings.start.unwrap_or_else(Utc::now).timestamp();
        let city = City::with_traffic(settings.seed, settings.stations, start, settings.traffic());
        let clock = match settings.step {
            Some(step) => Clock::Stepping { next: start, step: i64::from(step) },
            None => Clock::Running { start, since: Instant::now(), speed: settings.speed },
        };
        let mark = format!("{:x}-{:x}", settings.seed, settings.stations);
        let still = [
            city.information_document(),
            city.vehicle_types_document(),
            city.system_information_document(),
            city.quartiers_document(),
        ];
        let still = still.map(|body| Document { body: body.into(), etag: format!("\"{mark}-{start:x}\"") });
        let stage = Mutex::new(Stage { city, clock, mark, status: None });
        let schedule = Mutex::new(Schedule::new(&settings.faults, settings.seed));
        Self { stage, schedule, still, address, stopped }
    }

    /// A request for the status: moves a stepping clock on.
    fn status(&self) -> Document {
        let mut stage = held(&self.stage);
        stage.live_on();
        if let Clock::Stepping { next, step } = &mut stage.clock {
            *next += *step;
        }
        stage.status()
    }

    fn live_on(&self) {
        held(&self.stage).live_on();
    }
}

/// Nothing that holds these locks can fail half-way.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    fn live_on(&mut self) {
        let now = match self.clock {
            Clock::Running { start, since, speed } => start + (since.elapsed().as_secs_f64() * speed) as i64,
            Clock::Stepping { next, .. } => next,
        };
        self.city.advance_to(now);
    }

    fn status(&mut self) -> Document {
        let now = self.city.now();
        match &self.status {
            Some((then, document)) if *then == now => document.clone(),
            _ => {
                let etag = format!("\"{}-{now:x}\"", self.mark);
                let document = Document { body: self.city.status_document().into(), etag };
                self.status = Some((now, document.clone()));
                document
            }
        }
    }
}

/// The URLs in it are those under which the reader reached us.
async fn discovery(State(show): State<Arc<Show>>, headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let base = host.map_or_else(|| format!("http://{}", show.address), |host| format!("http://{host}"));
    json_response(held(&show.stage).city.discovery_document(&base))
}

async fn still(show: Arc<Show>, headers: HeaderMap, index: usize) -> Response {
    conditional(&headers, &show.still[index])
}

async fn status(State(show): State<Arc<Show>>, headers: HeaderMap) -> Response {
    let document = show.status();
    let fault = held(&show.schedule).next();
    let Some(fault) = fault else { return conditional(&headers, &document) };
    let html = |status: StatusCode| (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], HTML).into_response();
    match fault {
        Fault::Forbidden => html(StatusCode::FORBIDDEN),
        Fault::NotFound => html(StatusCode::NOT_FOUND),
        Fault::ServerError => html(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::Html => html(StatusCode::OK),
        Fault::Huge => json_response(huge(document.body)),
        Fault::Hang => json_response(hanging(document.body, show.stopped.clone())),
        _ => {
            let text = std::str::from_utf8(&document.body).expect("the city writes UTF-8");
            json_response(spoil(text, fault))
        }
    }
}

fn json_response(body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], body.into()).into_response()
}

/// 304 to a reader who has it already.
fn conditional(headers: &HeaderMap, document: &Document) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same =
        known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == document.etag));
    let etag = [(ETAG, document.etag.clone())];
    if same {
        return (StatusCode::NOT_MODIFIED, etag).into_response();
    }
    (etag, json_response(document.body.clone())).into_response()
}

fn huge(document: Bytes) -> Body {
    let blanks = Bytes::from(vec![b' '; HUGE_CHUNK]);
    let chunks = std::iter::once(document).chain(std::iter::repeat_n(blanks, HUGE_CHUNKS));
    Body::from_stream(stream::iter(chunks.map(Ok::<_, std::convert::Infallible>)))
}

/// Half of it, and then a broken connection after a long while, or when the server stops.
fn hanging(document: Bytes, stopped: watch::Receiver<bool>) -> Body {
    let half = document.slice(..document.len() / 2);
    let chunks = stream::unfold(Some((Some(half), stopped)), |state| async move {
        let (half, stopped) = state?;
        match half {
            Some(half) => Some((Ok(half), Some((None, stopped)))),
            None => {
                tokio::select! {
                    () = sleep(HANG) => {}
                    () = until_stopped(stopped) => {}
                }
                Some((Err(std::io::Error::from(std::io::ErrorKind::TimedOut)), None))
            }
        }
    });
    Body::from_stream(chunks)
}

/// `{"fault": "html", "count": 3}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    fault: Fault,
    #[serde(default = "once")]
    count: u64,
}

fn once() -> u64 {
    1
}

async fn order(State(show): State<Arc<Show>>, Json(order): Json<Order>) -> StatusCode {
    if held(&show.schedule).order(order.fault, order.count) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::TOO_MANY_REQUESTS
    }
}
