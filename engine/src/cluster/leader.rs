//! The leader of a generation: it runs the jobs that the database says there are to be.
//!
//! Jobs live in PostgreSQL. The leader compares what is there with what runs, and moves the one towards
//! the other; so a cluster that starts again builds its jobs by itself, and every process may take
//! submissions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

use super::generation::Generation;
use super::job::{RunningJob, Surroundings};
use crate::catalog;
use crate::command::Spec;
use crate::config::Settings;
use crate::postgres::job::{Desired, Job as StoredJob, Status};
use crate::postgres::{PostgresError, Store};
use crate::server::{JobView, Shared};
use crate::source::Context;
use crate::source::feed::Feeds;
use crate::timeline::{self, Refused};
use crate::{metrics, observe};

/// Between two looks at the jobs in the database. A submission is looked at at once.
const LOOK: Duration = Duration::from_millis(500);
/// Refused input that waits to be written down.
const REFUSED: usize = 256;

/// Runs the jobs.
pub struct Leader {
    generation: Arc<Generation>,
    number: u64,
    store: Arc<Store>,
    url: String,
    context: Context,
    timeline: timeline::Settings,
    shared: Arc<Shared>,
    feeds: Feeds,
    running: BTreeMap<String, Running>,
}

struct Running {
    /// When it was first submitted, and the version: another job of the same name differs in one of them.
    definition: (DateTime<Utc>, i64),
    job: Option<RunningJob>,
    refused: Option<mpsc::Receiver<Refused>>,
    paused: bool,
    status: Status,
    detail: Option<String>,
}

impl Leader {
    /// Of a generation that has just formed.
    pub fn new(
        generation: Arc<Generation>,
        number: u64,
        store: Arc<Store>,
        url: String,
        context: Context,
        settings: &Settings,
        shared: Arc<Shared>,
    ) -> Self {
        let (feeds, timeline) = (Feeds::default(), settings.timeline.settings());
        Leader { generation, number, store, url, context, timeline, shared, feeds, running: BTreeMap::new() }
    }

    /// Runs until `stop`; then commits what is closed and leaves.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut away = false;
        loop {
            match self.look().await {
                Ok(()) => away = false,
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(%error, "the jobs cannot be looked up; those that run go on");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.shared.changed() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        for (name, running) in std::mem::take(&mut self.running) {
            if let Some(job) = running.job {
                tracing::info!(job = name, "stopping");
                job.stop().await;
            }
        }
        // It may have ended already.
        let _ = self.generation.stop().await;
    }

    async fn look(&mut self) -> Result<(), PostgresError> {
        let wanted = self.store.jobs().await?;
        let gone: Vec<String> =
            self.running.keys().filter(|name| wanted.iter().all(|job| job.name != **name)).cloned().collect();
        for name in gone {
            self.discard(&name).await?;
        }
        for job in &wanted {
            match self.running.get(&job.name).map(|running| running.definition) {
                Some((created, _)) if created != job.created_at => self.discard(&job.name).await?,
                Some((_, version)) if version != job.version => self.stop(&job.name).await,
                _ => {}
            }
            if !self.running.contains_key(&job.name) {
                let running = self.start(job).await;
                self.running.insert(job.name.clone(), running);
            }
            self.tend(job).await?;
        }
        Ok(())
    }

    async fn stop(&mut self, name: &str) {
        if let Some(Running { job: Some(job), .. }) = self.running.remove(name) {
            tracing::info!(job = name, "removing");
            job.stop().await;
        }
        self.shared.remove(name);
        metrics::forget(name);
    }

    /// Stops a job that was dropped. What it has not committed is not wanted any more, and what it has
    /// committed while it was dropped goes.
    async fn discard(&mut self, name: &str) -> Result<(), PostgresError> {
        if let Some(Running { job: Some(job), .. }) = self.running.get(name) {
            job.pause(true);
        }
        self.stop(name).await;
        self.store.clear(name).await
    }

    async fn start(&self, job: &StoredJob) -> Running {
        let paused = job.desired == Desired::Paused;
        let (refused, rejections) = mpsc::channel(REFUSED);
        let failed = |detail: String| {
            tracing::error!(job = job.name, detail, "the job cannot run");
            let (definition, detail) = ((job.created_at, job.version), Some(detail));
            Running { definition, job: None, refused: None, paused, status: Status::Failed, detail }
        };
        let spec = Spec {
            name: job.name.clone(),
            text: job.text.clone(),
            parameters: job.parameters.clone(),
            resolved: match serde_json::from_str(&job.resolved) {
                Ok(resolved) => resolved,
                Err(error) => {
                    return failed(format!("what its sources offer cannot be read: {error}; submit it again"));
                }
            },
            explain: String::new(),
        };
        let prepared = match catalog::rebind(spec) {
            Ok(prepared) => prepared,
            Err(error) => return failed(error.to_string()),
        };
        let around = Surroundings {
            generation: &self.generation,
            number: self.number,
            feeds: &self.feeds,
            context: &self.context,
            database_url: &self.url,
            timeline: self.timeline,
            sink: crate::sink::task::Settings { paused, ..Default::default() },
            refused,
        };
        match RunningJob::start(prepared, around).await {
            Ok(running) => {
                tracing::info!(job = job.name, version = job.version, "installed");
                self.shared.insert(&job.name, JobView { status: running.status(), progress: running.progress() });
                Running {
                    definition: (job.created_at, job.version),
                    job: Some(running),
                    refused: Some(rejections),
                    paused,
                    status: Status::Pending,
                    detail: None,
                }
            }
            Err(error) => failed(error.to_string()),
        }
    }

    /// Pauses or resumes as desired, and writes down how it is.
    async fn tend(&mut self, wanted: &StoredJob) -> Result<(), PostgresError> {
        let running = self.running.get_mut(&wanted.name).expect("it was started");
        let mut refused = Vec::new();
        while let Some(Ok(more)) = running.refused.as_mut().map(mpsc::Receiver::try_recv) {
            refused.push(more);
        }
        for Refused { source, rejections } in refused {
            self.store.quarantine(&wanted.name, &source, &rejections).await?;
        }
        if let Some(job) = &running.job {
            let paused = wanted.desired == Desired::Paused;
            if paused != running.paused {
                job.pause(paused);
                running.paused = paused;
            }
            let progress = job.progress().borrow().clone();
            let status = job.status().borrow().clone();
            let done = status.finished && progress.upper >= Some(status.frontier);
            (running.status, running.detail) = match &progress.failure {
                Some(error) => (Status::Failed, Some(error.to_string())),
                None if paused => (Status::Paused, None),
                None if done => (Status::Finished, None),
                None if progress.upper.is_some() => (Status::Running, progress.error.clone()),
                None => {
                    (Status::Pending, progress.error.clone().or(Some("waiting for the first snapshot".to_string())))
                }
            };
        }
        observe::job::status(&wanted.name, running.status);
        if (wanted.status, &wanted.status_detail) != (running.status, &running.detail) {
            self.store.set_status(&wanted.name, wanted.version, running.status, running.detail.as_deref()).await?;
        }
        Ok(())
    }
}
