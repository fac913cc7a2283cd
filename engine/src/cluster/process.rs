//! A process of the cluster: it forms generations with the others, one after the other, until it is told
//! to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use super::generation::Generation;
use super::leader::Leader;
use super::mesh::Mesh;
use crate::catalog;
use crate::config::Settings;
use crate::metrics;
use crate::postgres::{Backoff, PostgresError, Store};
use crate::server::{self, Shared};
use crate::source::{Context, build_client};

/// Between two signs of life in the database.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Before the next generation is tried, so that a peer which fails at once is not met in a tight loop.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a process that stops waits for the others of its generation to stop with it.
const LEAVE: Duration = Duration::from_secs(5);

/// The current time, in milliseconds since 1970.
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Runs this process until `stop` is set.
///
/// # Errors
/// Settings that cannot be used; an address that is taken.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> Result<()> {
    let mesh = Mesh {
        peers: settings.cluster.peers.clone(),
        process: settings.cluster.process,
        workers: settings.cluster.workers.max(1),
        secret: settings.secret()?,
    };
    anyhow::ensure!(
        mesh.process < mesh.peers.len().max(1),
        "cluster.process is {}, but cluster.peers names {}; processes are counted from 0",
        mesh.process,
        mesh.peers.len()
    );
    let context = Context {
        http: build_client()?,
        wall_clock_ms: {
            let clock = settings.clock.clone();
            Arc::new(move || clock.time_ms(wall_clock_ms()))
        },
        folder: settings.sources.folder.clone(),
    };
    let url = settings.database_url()?;
    let shared = Arc::new(Shared::new(mesh.process, context.clone()));
    metrics::started(wall_clock_ms());
    metrics::PROCESSES_EXPECTED.set(mesh.peers.len().max(1) as i64);
    let listening = server::start(&settings.api.listen, Arc::clone(&shared)).await?;
    let address = match settings.api.advertise.as_str() {
        "" => listening.to_string(),
        advertised => advertised.to_string(),
    };
    warn_of_exposure(listening, &mesh);
    tracing::info!(api = address, process = mesh.process, workers = mesh.workers, "started");
    let mut stopping = stop.clone();
    let stopped = async move {
        // The sender is gone: nobody is left to say go on.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    let store = tokio::select! {
        store = open(&url) => Arc::new(store?),
        () = &mut stopped => return Ok(()),
    };
    shared.set_store(Arc::clone(&store));
    let alive = tokio::spawn(heartbeat(Arc::clone(&store), Arc::clone(&shared), address.clone(), mesh.workers));
    loop {
        let flag = Arc::new(AtomicBool::new(false));
        let (forming, halt) = (mesh.clone(), Arc::clone(&flag));
        let mut formed = tokio::task::spawn_blocking(move || forming.form(&halt));
        let sockets = tokio::select! {
            sockets = &mut formed => sockets??,
            () = &mut stopped => {
                flag.store(true, Ordering::Relaxed);
                formed.await??
            }
        };
        let Some(sockets) = sockets.filter(|_| !*stop.borrow()) else { break };
        let bind = Box::new(|spec: &crate::command::Spec| {
            catalog::rebind(spec.clone()).map(|prepared| prepared.plan.as_ref().clone()).map_err(|e| e.to_string())
        });
        let generation = Arc::new(Generation::start(sockets, mesh.process, mesh.workers, bind)?);
        tracing::info!(processes = mesh.peers.len().max(1), "a generation has formed");
        if mesh.process == 0 {
            let number = tokio::select! {
                number = number(&store) => number?,
                () = &mut stopped => break,
            };
            shared.formed(Some(number));
            let leader = Leader::new(
                Arc::clone(&generation),
                number,
                Arc::clone(&store),
                url.clone(),
                context.clone(),
                &settings,
                Arc::clone(&shared),
            );
            tokio::select! {
                () = leader.run(stop.clone()) => {}
                _ = generation.ended() => {}
            }
        } else {
            shared.formed(None);
            tokio::select! {
                _ = generation.ended() => {}
                () = &mut stopped => {}
            }
        }
        shared.dissolved();
        if *stop.borrow() {
            // When all stop, the leader still commits what is closed, which takes the others; then it ends
            // the generation for all of them. When only this one stops, the others go on until it is gone.
            let _ = tokio::time::timeout(LEAVE, generation.ended()).await;
            break;
        }
        let reason = generation.ended().await;
        tracing::warn!(
            reason = reason.lines().next().unwrap_or_default(),
            "the generation has ended; forming the next"
        );
        tokio::time::sleep(PAUSE).await;
    }
    alive.abort();
    // A row that stays is forgotten when its heart has not beaten for a while.
    let _ = tokio::time::timeout(HEARTBEAT, store.leave(&address)).await;
    Ok(())
}

/// Says what stands open to others than this machine.
fn warn_of_exposure(listening: std::net::SocketAddr, mesh: &Mesh) {
    if !listening.ip().is_loopback() {
        tracing::warn!(api = %listening, "the API has no login: whoever reaches it may run jobs, which read files and addresses");
    }
    if mesh.peers.len() > 1 && mesh.secret.is_empty() {
        tracing::info!("the processes share no secret (cluster.secret): whoever reaches their ports may join them");
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

async fn number(store: &Store) -> Result<u64, PostgresError> {
    let mut backoff = Backoff::default();
    loop {
        match store.next_generation().await {
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "the database is waited for");
                tokio::time::sleep(backoff.wait()).await;
            }
            done => return done,
        }
    }
}

async fn heartbeat(store: Arc<Store>, shared: Arc<Shared>, address: String, workers: usize) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    let mut formed = shared.watch();
    loop {
        let generation = *formed.borrow_and_update();
        let process = crate::postgres::store::Process {
            address: address.clone(),
            index: generation.is_some().then_some(shared.process as i32),
            workers: workers as i32,
            generation: generation.flatten().map(|number| number as i64),
            version: env!("CARGO_PKG_VERSION").to_string(),
        };
        let left = tokio::time::timeout(HEARTBEAT, store.heartbeat(&process)).await;
        shared.database(matches!(left, Ok(Ok(()))));
        if let Ok(Err(error)) = left {
            tracing::debug!(%error, "no sign of life could be left");
        }
        tokio::select! {
            _ = tick.tick() => {}
            changed = formed.changed() => if changed.is_err() { return },
        }
    }
}
