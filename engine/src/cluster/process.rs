//! A process of the cluster: it takes part in one generation after the other, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;

use super::address::advertised;
use super::decide::Rules;
use super::generation::Generation;
use super::leader::Leader;
use super::membership::{Membership, Settings as MembershipSettings};
use super::mesh::{Mesh, proof};
use super::port::Port;
use super::tls::Tls;
use crate::catalog;
use crate::config::Settings;
use crate::lake::Lake;
use crate::lake::compact::Compactor;
use crate::metrics;
use crate::postgres::membership::{Decided, ProcessId, Registration};
use crate::postgres::{Backoff, PostgresError, Store};
use crate::server::{self, Shared};
use crate::source::{Context, build_client};

/// How long a process that stops waits for the others of its generation to let it go.
const LEAVE: Duration = Duration::from_secs(5);
/// How long the threads of a generation that was given up may take to end.
const ABANDON: Duration = Duration::from_secs(5);

/// The current time, in milliseconds since 1970.
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What a process takes from one generation into the next.
struct Process {
    settings: Settings,
    workers: usize,
    secret: String,
    tls: Option<Tls>,
    url: String,
    context: Context,
    lake: Option<Lake>,
    retention: Option<Duration>,
    port: Arc<Port>,
    store: Arc<Store>,
    shared: Arc<Shared>,
    membership: Membership,
    stop: watch::Receiver<bool>,
}

/// Runs this process until `stop` is set.
///
/// # Errors
/// Settings that cannot be used; an address that is taken.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> Result<()> {
    let (host, url, secret) = (whoami::hostname().unwrap_or_default(), settings.database_url()?, settings.secret()?);
    let workers = settings.cluster.workers.max(1);
    let (lake, retention) = (settings.lake.open()?, settings.lake.retention()?);
    let tls = settings.cluster.tls()?;
    let context = Context {
        http: build_client()?,
        wall_clock_ms: {
            let clock = settings.clock.clone();
            Arc::new(move || clock.time_ms(wall_clock_ms()))
        },
        folder: settings.sources.folder.clone(),
        shown: 0,
    };
    let me = ProcessId::new_v4();
    let shared = Arc::new(Shared::new(me, context.clone()));
    metrics::started(wall_clock_ms());
    let listening = server::start(&settings.api.listen, Arc::clone(&shared)).await?;
    let port = Arc::new(Port::open(&settings.cluster.listen)?);
    let api = advertised(&settings.api.advertise, listening, &host);
    let mesh = advertised(&settings.cluster.advertise, port.address(), &host);
    warn_of_exposure(listening, port.address(), &secret, tls.is_some());
    tracing::info!(api, mesh, workers, process = %me, "started");
    let mut stopping = stop.clone();
    let store = tokio::select! {
        store = open(&url) => Arc::new(store?),
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    };
    shared.set_store(Arc::clone(&store));
    let registration = Registration { process: me, api, mesh, workers: workers as i32, proof: proof(&secret, me) };
    let membership = MembershipSettings {
        url: url.clone(),
        registration,
        heartbeat: settings.cluster.heartbeat(),
        rules: Rules {
            silence: settings.cluster.silence(),
            settle: Duration::from_millis(settings.cluster.settle_ms),
            processes: settings.cluster.processes,
        },
        secret: secret.clone(),
    };
    let membership = Membership::start(membership, Arc::clone(&shared))?;
    let process = Process {
        settings,
        workers,
        secret,
        tls,
        url,
        context,
        lake,
        retention,
        port,
        store,
        shared,
        membership,
        stop,
    };
    let ended = process.generations().await;
    process.membership.leave().await;
    ended
}

impl Process {
    async fn generations(&self) -> Result<()> {
        let (mut after, mut over) = (0, None);
        while !*self.stop.borrow() {
            let (decided, index) = tokio::select! {
                next = self.membership.next(after) => next,
                () = self.stopped() => break,
            };
            after = decided.number;
            if let Some(generation) = self.form(&decided, index).await? {
                if let Some(over) = over.replace(Instant::now()) {
                    metrics::PAUSE.with_label_values::<&str>(&[]).observe(over.elapsed().as_secs_f64());
                }
                self.take_part(&generation, &decided, index).await;
                over = Some(Instant::now());
            }
            self.membership.ended(after);
        }
        Ok(())
    }

    async fn stopped(&self) {
        // The sender is gone: nobody is left to say go on.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// None: not all of its processes have come, there is a newer one, or this process is to stop.
    async fn form(&self, decided: &Decided, index: usize) -> Result<Option<Arc<Generation>>> {
        let (secret, tls) = (self.secret.clone(), self.tls.clone());
        let mesh = Mesh { generation: decided.clone(), index, workers: self.workers, secret, tls };
        let (halt, port) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.port));
        let halted = Arc::clone(&halt);
        let mut forming = tokio::task::spawn_blocking(move || mesh.form(&port, &halted));
        let sockets = tokio::select! {
            sockets = &mut forming => sockets?,
            () = self.membership.superseded(decided.number) => {
                halt.store(true, Ordering::Relaxed);
                forming.await?
            }
            () = self.stopped() => {
                halt.store(true, Ordering::Relaxed);
                forming.await?
            }
        };
        let Some(sockets) = sockets.filter(|_| !halt.load(Ordering::Relaxed)) else { return Ok(None) };
        let bind = Box::new(|spec: &crate::command::Spec| {
            catalog::rebind(spec.clone()).map(|prepared| prepared.plan.as_ref().clone()).map_err(|e| e.to_string())
        });
        Ok(Some(Arc::new(Generation::start(sockets, index, self.workers, bind)?)))
    }

    /// Computes in a generation until it is over for this process.
    async fn take_part(&self, generation: &Arc<Generation>, decided: &Decided, index: usize) {
        let (number, processes) = (decided.number, decided.members.len());
        tracing::info!(generation = number, processes, index, "a generation has formed");
        self.membership.formed(number, index);
        self.shared.formed(number, index);
        tokio::select! {
            () = self.work(generation, number, index) => {}
            _ = generation.ended() => {}
            () = self.membership.superseded(number) => {}
        }
        self.shared.dissolved();
        // One that others have left, or that does not end by itself, is given up.
        generation.abandon();
        match tokio::time::timeout(ABANDON, generation.ended()).await {
            Ok(reason) if reason.is_empty() => tracing::info!(generation = number, "the generation has ended"),
            Ok(reason) => {
                let reason = reason.lines().next().unwrap_or_default();
                tracing::warn!(generation = number, reason, "the generation has ended; forming the next");
            }
            Err(_) => {
                tracing::warn!(generation = number, "threads of the generation do not end; going on without them")
            }
        }
    }

    /// Compacts the lake, where there is one, for ever. It may be left at any point.
    async fn compact(&self) {
        if let (Some(lake), Some(interval)) = (&self.lake, self.settings.lake.compact_interval()) {
            let now = Arc::clone(&self.context.wall_clock_ms);
            Compactor::new(lake.clone(), self.retention).run(interval, move || now()).await;
        }
        std::future::pending().await
    }

    /// Leads or follows, until the generation may end.
    async fn work(&self, generation: &Arc<Generation>, number: u64, index: usize) {
        if index > 0 {
            self.stopped().await;
            self.membership.leaving();
            // When all stop, the leader still commits what is closed, which takes the others.
            let _ = tokio::time::timeout(LEAVE, generation.ended()).await;
            return;
        }
        let leader = Leader::new(
            Arc::clone(generation),
            number,
            Arc::clone(&self.store),
            self.url.clone(),
            self.context.clone(),
            &self.settings,
            Arc::clone(&self.shared),
        )
        .through(self.lake.as_ref(), self.settings.checkpoints.settings());
        let (end, ending) = watch::channel(false);
        let told = async {
            tokio::select! {
                () = self.stopped() => self.membership.leaving(),
                () = self.membership.dissolving(number) => {}
            }
            end.send_replace(true);
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = leader.run(ending) => {}
            () = told => {}
            () = self.compact() => {}
        }
        // It has told all of them to stop.
        let _ = tokio::time::timeout(LEAVE, generation.ended()).await;
    }
}

/// Says what stands open to others than this machine.
fn warn_of_exposure(api: std::net::SocketAddr, mesh: std::net::SocketAddr, secret: &str, encrypted: bool) {
    if !api.ip().is_loopback() {
        tracing::warn!(%api, "the API has no login: whoever reaches it may run jobs, which read files and addresses");
    }
    if !mesh.ip().is_loopback() && secret.is_empty() && !encrypted {
        tracing::info!(
            "the processes share no secret (cluster.secret) and no authority (cluster.tls_…): whoever reaches their ports may join them"
        );
    }
}

/// Opens the store, waiting for a database that is away.
async fn open(url: &str) -> Result<Store, PostgresError> {
    let mut backoff = Backoff::default();
    loop {
        match Store::open(url).await {
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "the database is waited for");
                tokio::time::sleep(backoff.wait()).await;
            }
            done => return done,
        }
    }
}
