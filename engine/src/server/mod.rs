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

use crate::metrics;
use crate::plan;
use crate::postgres::Store;
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
    /// The place of this process; 0 leads.
    pub process: usize,
    context: Context,
    store: OnceLock<Arc<Store>>,
    /// Some: part of a generation; on the leader with its number.
    generation: watch::Sender<Option<Option<u64>>>,
    database: AtomicBool,
    jobs: Mutex<BTreeMap<String, JobView>>,
    plans: Mutex<BTreeMap<String, (Definition, Arc<plan::Job>)>>,
    submitted: Notify,
}

impl Shared {
    /// Of a process that is part of nothing yet.
    pub fn new(process: usize, context: Context) -> Self {
        let (generation, _) = watch::channel(None);
        Shared {
            process,
            context,
            store: OnceLock::new(),
            generation,
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

    /// A generation has formed; its number, on the leader.
    pub fn formed(&self, number: Option<u64>) {
        metrics::GENERATION.set(number.unwrap_or_default() as i64);
        metrics::GENERATIONS_FORMED.inc();
        self.generation.send_replace(Some(number));
    }

    /// The generation is over.
    pub fn dissolved(&self) {
        metrics::GENERATION.set(0);
        self.generation.send_replace(None);
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What [`Shared::formed`] and [`Shared::dissolved`] last said.
    pub fn watch(&self) -> watch::Receiver<Option<Option<u64>>> {
        self.generation.subscribe()
    }

    /// Whether the last sign of life of this process reached the database.
    pub fn database(&self, reached: bool) {
        metrics::DATABASE_UP.set(i64::from(reached));
        self.database.store(reached, Ordering::Relaxed);
    }

    /// Part of a generation, and committing what there is to commit.
    ///
    /// # Errors
    /// Why not. A job that has failed for good is none of the reasons: it fails wherever it runs.
    pub fn ready(&self) -> Result<(), String> {
        if self.generation.borrow().is_none() {
            return Err("waiting for a generation".to_owned());
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
        Ok(()) => (StatusCode::OK, "part of a generation, and committing\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
