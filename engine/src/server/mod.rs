//! The HTTP server of a process: API, health, metrics.
//!
//! Only the leader knows how jobs are; the other processes pass what they are asked on to it.

pub mod api;
mod jobs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use crate::cluster::decide::Standing;
use crate::metrics;
use crate::plan;
use crate::postgres::Store;
use crate::postgres::membership::{ProcessId, View};
use crate::sink::task::Progress;
use crate::source::Context;
use crate::timeline::Status;

/// A submission of more bytes is refused.
const BODY: usize = 4 << 20;

/// How a job is, for whoever asks.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its sources.
    pub status: watch::Receiver<Status>,
    /// Its sink.
    pub progress: watch::Receiver<Progress>,
}

/// Tells the definitions of a job of one name from each other: when it was created, and its version.
type Definition = (DateTime<Utc>, i64);

/// What the server shares with the rest of the process.
pub struct Shared {
    /// This process.
    me: ProcessId,
    context: Context,
    store: OnceLock<Arc<Store>>,
    /// The generation that this process is part of, and its place in it; 0 leads.
    generation: Mutex<Option<(u64, usize)>>,
    /// The cluster as it was last seen, and how this process stands in it.
    seen: Mutex<(View, Standing)>,
    database: AtomicBool,
    jobs: Mutex<BTreeMap<String, JobView>>,
    plans: Mutex<BTreeMap<String, (Definition, Arc<plan::Job>)>>,
    submitted: Notify,
}

impl Shared {
    /// Of a process that is part of nothing yet.
    pub fn new(me: ProcessId, context: Context) -> Self {
        Shared {
            me,
            context,
            store: OnceLock::new(),
            generation: Mutex::default(),
            seen: Mutex::new((View::default(), Standing::Waits("the database is waited for".to_owned()))),
            database: AtomicBool::new(false),
            jobs: Mutex::default(),
            plans: Mutex::default(),
            submitted: Notify::new(),
        }
    }

    /// The database is there.
    pub fn set_store(&self, store: Arc<Store>) {
        // It is set once, at start.
        let _ = self.store.set(store);
    }

    /// This process is part of a generation that has formed.
    pub fn formed(&self, number: u64, index: usize) {
        metrics::GENERATION.set(number as i64);
        metrics::LEADER.set(i64::from(index == 0));
        metrics::GENERATIONS_FORMED.inc();
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, index));
    }

    /// The generation is over.
    pub fn dissolved(&self) {
        metrics::GENERATION.set(0);
        metrics::LEADER.set(0);
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The cluster looks like this, and this process stands so in it.
    pub fn seen(&self, view: &View, standing: Standing) {
        metrics::PROCESSES_REGISTERED.set(view.processes.len() as i64);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Standing::Waits(why) = &standing
            && seen.1 != standing
        {
            tracing::info!(why, "this process has no part in a generation");
        }
        *seen = (view.clone(), standing);
    }

    fn view(&self) -> View {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn generation(&self) -> Option<(u64, usize)> {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the API of the leader of the newest generation is; None: there is none at this moment.
    fn leader(&self) -> Option<(ProcessId, String)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let leader = seen.0.process(*seen.0.generation.members.first()?)?;
        Some((leader.process, leader.api.clone()))
    }

    /// Whether the last sign of life of this process reached the database.
    pub fn database(&self, reached: bool) {
        metrics::DATABASE_UP.set(i64::from(reached));
        self.database.store(reached, Ordering::Relaxed);
    }

    /// Part of a generation, and committing what there is to commit; or there, if it is needed.
    ///
    /// # Errors
    /// Why not. A job that has failed for good is none of the reasons: it fails wherever it runs.
    pub fn ready(&self) -> Result<(), String> {
        let standing = self.seen.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        match standing {
            Standing::Waits(why) => return Err(why),
            Standing::Member(_) if self.generation().is_none() => return Err("waiting for a generation".to_owned()),
            _ => {}
        }
        if !self.database.load(Ordering::Relaxed) {
            return Err("the database is away".to_owned());
        }
        for (name, job) in self.jobs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let progress = job.progress.borrow();
            if progress.failed_tries > 0 && progress.failure.is_none() {
                let error = progress.error.as_deref().unwrap_or_default();
                return Err(format!("the tables of {name} cannot be written: {error}"));
            }
        }
        Ok(())
    }

    /// A job runs.
    pub fn insert(&self, name: &str, view: JobView) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), view);
    }

    /// It runs no more.
    pub fn remove(&self, name: &str) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The plan of a job, if it is that of this definition.
    fn plan(&self, name: &str, definition: Definition) -> Option<Arc<plan::Job>> {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.get(name).filter(|(of, _)| *of == definition).map(|(_, plan)| Arc::clone(plan))
    }

    /// Keeps the plan of a job, in the place of that of another definition.
    fn planned(&self, name: &str, definition: Definition, plan: &Arc<plan::Job>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.insert(name.to_string(), (definition, Arc::clone(plan)));
    }

    fn job(&self, name: &str) -> Option<JobView> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Returns when the jobs in the database have been changed through this process.
    pub async fn changed(&self) {
        self.submitted.notified().await;
    }
}

/// Listens on `address` from now on; tells on which, port 0 being any.
///
/// # Errors
/// The address is taken, or is none.
pub async fn start(address: &str, shared: Arc<Shared>) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
        format!("the API cannot listen on {address} (api.listen, --api); is another process using it?")
    })?;
    let bound = listener.local_addr()?;
    let api = Router::new()
        .route("/api/status", get(jobs::status))
        .route("/api/jobs", get(jobs::list).post(jobs::submit))
        .route("/api/jobs/{name}", get(jobs::show).delete(jobs::drop))
        .route("/api/jobs/{name}/pause", post(jobs::pause))
        .route("/api/jobs/{name}/resume", post(jobs::resume))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), jobs::to_leader))
        .layer(axum::extract::DefaultBodyLimit::max(BODY));
    let router = Router::new()
        .route("/api/scale", post(jobs::scale))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposed))
        .merge(api)
        .with_state(shared);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the API has ended");
        }
    });
    Ok(bound)
}

async fn exposed(State(shared): State<Arc<Shared>>) -> String {
    metrics::CLOCK.set((shared.context.wall_clock_ms)() as f64 / 1e3);
    metrics::READY.set(i64::from(shared.ready().is_ok()));
    metrics::text()
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.ready() {
        Ok(()) if shared.generation().is_none() => (StatusCode::OK, "standby\n".to_owned()),
        Ok(()) => (StatusCode::OK, "part of a generation, and committing\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
