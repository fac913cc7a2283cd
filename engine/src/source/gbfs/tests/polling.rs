//! Polling a real server that behaves as servers do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::source::gbfs::Gbfs;
use crate::source::{Connector, Context, Event, Health, Options, Snapshot, build_client};

/// What the server answers: the path and how often it was asked before.
type Answer = dyn Fn(&str, usize, &HeaderMap) -> Response + Send + Sync;

#[derive(Clone)]
struct Server {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves on a port of its own; yields its address.
    async fn start(answer: impl Fn(&str, usize, &HeaderMap) -> Response + Send + Sync + 'static) -> (Self, String) {
        let server = Server { answer: Arc::new(answer), asked: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handle).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, address)
    }

    fn times_asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let before = server.times_asked(&path);
    server.asked.lock().unwrap().push(path.clone());
    (server.answer)(&path, before, request.headers())
}

/// The events of a feed at `url`.
fn poll(url: &str, options: &[(&str, &str)]) -> mpsc::Receiver<Event> {
    let mut all = Options::from([("url".to_owned(), url.to_owned()), ("poll".to_owned(), "20 ms".to_owned())]);
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let context =
        Context { http: build_client().unwrap(), wall_clock_ms: Arc::new(|| NOW), folder: PathBuf::from(".") };
    let (out, events) = mpsc::channel(1);
    tokio::spawn(Gbfs.bind(&all).unwrap().run(context, out));
    events
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    timeout(Duration::from_secs(10), events.recv()).await.expect("an event in time").expect("the source goes on")
}

async fn snapshot(events: &mut mpsc::Receiver<Event>) -> Snapshot {
    loop {
        if let Event::Snapshot(snapshot) = next(events).await {
            return snapshot;
        }
    }
}

async fn health(events: &mut mpsc::Receiver<Event>) -> Health {
    loop {
        if let Event::Health(health) = next(events).await {
            return health;
        }
    }
}

fn document(path: &str, version: &str) -> Response {
    let name = match path {
        "/gbfs.json" => format!("discovery_{version}.json"),
        "/status.json" => format!("status_{version}.json"),
        "/information.json" => "information_3.0.json".to_owned(),
        "/types.json" => "vehicle_types_3.0.json".to_owned(),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    own(&name).into_response()
}

/// The number of bikes at a station, in a document that is otherwise the same.
fn status(bikes: usize) -> Vec<u8> {
    let text = String::from_utf8(own("status_3.0.json")).unwrap();
    text.replace("\"num_vehicles_available\":6", &format!("\"num_vehicles_available\":{bikes}")).into_bytes()
}

#[tokio::test]
async fn discovery_leads_to_every_document() {
    for version in ["2.3", "3.0"] {
        let (_, address) = Server::start(move |path, _, headers| {
            assert!(headers[header::USER_AGENT].to_str().unwrap().starts_with("velibinsight/"));
            document(path, version)
        })
        .await;
        let mut events = poll(&format!("{address}/gbfs.json"), &[]);
        let first = snapshot(&mut events).await;
        assert_eq!(first.time, NOW);
        assert_eq!(lines(first.tables[0].as_ref().unwrap()), ["s1 | GA | Garage A | 48.86 | 2.35 | 16 | north"]);
        let observed = "s1 | 16:02:10 | 6 | 2 | 3 | 3 | 2 | 1 | true | true | false | 15:53:20";
        assert_eq!(lines(first.tables[2].as_ref().unwrap()), [observed], "{version}");
        let first = health(&mut events).await;
        assert!(first.new && first.took > Duration::ZERO);
        // The same bytes again are no news.
        let second = health(&mut events).await;
        assert_eq!((second.new, second.error), (false, None));
    }
}

#[tokio::test]
async fn a_validator_spares_the_body() {
    let conditional = Arc::new(AtomicUsize::new(0));
    let counted = conditional.clone();
    let (_, address) = Server::start(move |_, before, headers| {
        if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == "\"one\"") {
            assert_eq!(headers[header::IF_MODIFIED_SINCE], "Tue, 05 Nov 2024 16:02:10 GMT");
            counted.fetch_add(1, Ordering::SeqCst);
            if before < 3 {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            return ([(header::ETAG, "\"two\"")], status(7)).into_response();
        }
        let validators = [(header::ETAG, "\"one\""), (header::LAST_MODIFIED, "Tue, 05 Nov 2024 16:02:10 GMT")];
        (validators, status(6)).into_response()
    })
    .await;
    let mut events = poll(&format!("{address}/status.json"), &[]);
    let first = snapshot(&mut events).await;
    let second = snapshot(&mut events).await;
    assert!(second.time > first.time, "though the clock stands still");
    assert!(lines(second.tables[1].as_ref().unwrap())[0].starts_with("s1 | 7"));
    assert!(conditional.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_server_in_trouble_is_told_and_the_source_goes_on() {
    let (server, address) = Server::start(|_, before, _| match before {
        0 => StatusCode::FORBIDDEN.into_response(),
        1 => (StatusCode::NOT_FOUND, "no such feed").into_response(),
        2 => (StatusCode::INTERNAL_SERVER_ERROR, "{\"error\":true,\"reason\":\"maintenance\"}").into_response(),
        3 => "<html>busy</html>".into_response(),
        4 => status(6)[..100].to_vec().into_response(),
        5 => "".into_response(),
        _ => status(6).into_response(),
    })
    .await;
    let mut events = poll(&format!("{address}/status.json?key=secret"), &[("poll", "10 ms")]);
    let mut seen = vec![];
    loop {
        match next(&mut events).await {
            Event::Snapshot(snapshot) => break assert!(snapshot.tables[1].is_some()),
            Event::Health(health) => {
                assert!(health.next_poll >= NOW);
                seen.push(format!("H {}", health.error.unwrap()));
            }
            Event::Rejected(refused) => seen.extend(refused.iter().map(|refused| format!("R {}", refused.reason))),
        }
    }
    let url = format!("{address}/status.json");
    let short = "cut short after 100 bytes";
    assert_eq!(
        seen,
        [
            format!("H {url}: 403 Forbidden"),
            format!("H {url}: 404 Not Found: no such feed"),
            format!("H {url}: 500 Internal Server Error: maintenance"),
            format!("R {url}: HTML or XML in place of JSON"),
            format!("H {url}: HTML or XML in place of JSON"),
            format!("R {url}: {short}"),
            format!("H {url}: {short}"),
            format!("R {url}: empty"),
            format!("H {url}: empty"),
        ]
    );
    assert_eq!(server.times_asked("/status.json"), 7);
}

#[tokio::test]
async fn what_is_too_large_or_too_slow_is_given_up() {
    let megabyte = bytes::Bytes::from(vec![b' '; 1_000_000]);
    let (_, address) = Server::start(move |path, _, _| match path {
        // 200 MB without a length: it shows only while it comes.
        "/endless" => {
            let chunks = vec![megabyte.clone(); 200].into_iter().map(Ok::<_, std::io::Error>);
            Body::from_stream(futures::stream::iter(chunks)).into_response()
        }
        "/large" => vec![b' '; 3_000_000].into_response(),
        "/half" => {
            let chunks = [Ok(bytes::Bytes::from(status(6)[..50].to_vec())), Err(std::io::Error::other("broken"))];
            let late = |chunk| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                chunk
            };
            Body::from_stream(futures::stream::iter(chunks).then(late)).into_response()
        }
        "/round" => (StatusCode::FOUND, [(header::LOCATION, "/round")]).into_response(),
        _ => Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>()).into_response(),
    })
    .await;
    for (path, why) in [
        ("/endless", "the body is larger than 2000000 bytes: raise max_bytes if it should be"),
        ("/large", "the body is larger than 2000000 bytes: raise max_bytes if it should be"),
        ("/half", "error decoding response body"),
        ("/round", "more than 5 redirects"),
        ("/never", "no whole answer within 2s"),
    ] {
        let options = [("max_bytes", "2 MB"), ("timeout", "2 s")];
        let error = health(&mut poll(&format!("{address}{path}"), &options)).await.error.unwrap();
        assert!(error.contains(why), "{path}: {error}");
    }
    let nobody = health(&mut poll("http://127.0.0.1:9/", &[])).await.error.unwrap();
    assert!(nobody.contains("http://127.0.0.1:9/") && nobody.contains("refused"), "{nobody}");
}

#[tokio::test]
async fn a_limited_rate_is_respected() {
    let (server, address) = Server::start(|_, before, _| match before {
        0 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "120")]).into_response(),
        _ => status(6).into_response(),
    })
    .await;
    let mut events = poll(&format!("{address}/status.json"), &[]);
    let health = health(&mut events).await;
    assert!(health.error.unwrap().contains("429"));
    assert!((100_000..=120_000).contains(&(health.next_poll - NOW)), "{}", health.next_poll - NOW);
    assert!(timeout(Duration::from_millis(200), events.recv()).await.is_err());
    assert_eq!(server.times_asked("/status.json"), 1);
}

#[tokio::test]
async fn packed_bodies_are_unpacked() {
    let (_, address) = Server::start(|_, _, headers| {
        assert!(headers[header::ACCEPT_ENCODING].to_str().unwrap().contains("gzip"));
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, &own("opendata.json")).unwrap();
        ([(header::CONTENT_ENCODING, "gzip")], gz.finish().unwrap()).into_response()
    })
    .await;
    let snapshot = snapshot(&mut poll(&format!("{address}/exports/json"), &[])).await;
    assert!(snapshot.tables.iter().all(|table| table.as_ref().is_some_and(|table| table.num_rows() == 2)));
}

#[tokio::test]
async fn the_stations_are_asked_for_rarely_and_when_one_is_unknown() {
    let (server, address) = Server::start(|path, before, _| match path {
        "/information.json" if before == 0 => own("information_3.0.json").into_response(),
        "/information.json" => {
            let text = String::from_utf8(own("information_3.0.json")).unwrap();
            text.replace(
                "\"stations\":[",
                "\"stations\":[{\"station_id\":\"s2\",\"name\":\"New\",\"lat\":48.8,\"lon\":2.3},",
            )
            .into_response()
        }
        _ if before < 4 => status(before).into_response(),
        _ => {
            let text = String::from_utf8(status(before)).unwrap();
            text.replace("\"stations\":[", "\"stations\":[{\"station_id\":\"s2\",\"num_docks_available\":3},")
                .into_response()
        }
    })
    .await;
    let information = format!("{address}/information.json");
    let mut events = poll(&format!("{address}/status.json"), &[("information", &information)]);
    for expected in [1, 0, 0, 0, 2, 0] {
        let snapshot = snapshot(&mut events).await;
        assert_eq!(snapshot.tables[0].as_ref().map_or(0, |table| table.num_rows()), expected);
    }
    assert_eq!(server.times_asked("/information.json"), 2);
}

#[tokio::test]
async fn a_document_that_lost_its_stations_is_held_back() {
    let many = |count: usize, bikes: usize| {
        let stations = (0..count).map(|id| format!("{{\"station_id\":{id},\"num_bikes_available\":{bikes}}}"));
        format!("{{\"data\":{{\"stations\":[{}]}}}}", stations.collect::<Vec<_>>().join(","))
    };
    // The same bytes are asked for again until they are believed.
    let (_, address) = Server::start(move |_, before, _| match before {
        0 => many(100, 1).into_response(),
        _ => ([(header::ETAG, "\"few\"")], many(40, 2)).into_response(),
    })
    .await;
    let mut events = poll(&format!("{address}/status.json"), &[]);
    assert_eq!(snapshot(&mut events).await.tables[1].as_ref().unwrap().num_rows(), 100);
    let mut held = 0;
    loop {
        match next(&mut events).await {
            Event::Rejected(refused) => assert!(refused[0].reason.contains("60 of 100 stations are gone")),
            Event::Health(health) if health.new => {}
            Event::Health(health) => {
                held += 1;
                assert!(health.error.unwrap().contains("held back"));
            }
            Event::Snapshot(snapshot) => break assert_eq!(snapshot.tables[1].as_ref().unwrap().num_rows(), 40),
        }
    }
    assert_eq!(held, 2);
}

#[test]
fn settings_are_checked_without_asking() {
    for (options, why) in [
        (&[][..], "needs the setting 'url'"),
        (&[("url", "ftp://example.com")], "an http or https address, or a path"),
        (&[("url", "http://example.com"), ("pol", "60 s")], "no setting 'pol'"),
        (&[("url", "http://example.com"), ("poll", "often")], "'poll' cannot be 'often'"),
        (&[("url", "a.json"), ("speed", "0")], "how many times real time"),
        (&[("url", "http://example.com"), ("information", "a.json")], "an http or https address"),
    ] {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let error = Gbfs.bind(&options).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
    let bind = |poll: &str| {
        let options = [("url", "http://example.com/a"), ("poll", poll)].map(|(n, v)| (n.to_owned(), v.to_owned()));
        Gbfs.bind(&options.into()).unwrap().identity()
    };
    assert_eq!(bind("60 s"), bind("1 min"));
    assert_ne!(bind("60 s"), bind("2 min"));
}
