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
use velib_operators::Time;

use super::checkpoints::{self, Checkpoints};
use super::generation::Generation;
use super::job::{RunningJob, Surroundings};
use crate::catalog::{self, Prepared};
use crate::command::Spec;
use crate::config::Settings;
use crate::lake::checkpoint::{Checkpoint, Owner};
use crate::lake::{Lake, feed_name};
use crate::plan::checkpoint::{Saving, saving};
use crate::postgres::job::{Brief, Desired, Job as StoredJob, Status};
use crate::postgres::{PostgresError, Store};
use crate::server::{JobView, Shared};
use crate::sink::task::CLOSE_LIMIT;
use crate::source::feed::Feeds;
use crate::source::{Context, Source};
use crate::timeline::{self, Refused};
use crate::{metrics, observe};

/// Between two looks at the jobs in the database. A submission is looked at at once.
const LOOK: Duration = Duration::from_millis(500);
/// Refused input that waits to be written down.
const REFUSED: usize = 256;
/// What a job does whose tables are further than what it has read again.
const CATCHING_UP: &str = "catching up with what its tables show";
/// How long all the jobs together may take to commit what is closed, when the leader is told to stop: a little
/// longer than a sink tries.
const STOP: Duration = CLOSE_LIMIT.saturating_add(Duration::from_secs(5));

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
    /// Where the state of jobs is saved, and how.
    saving: Option<(Lake, checkpoints::Settings)>,
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
        let (saving, running) = (None, BTreeMap::new());
        Leader { generation, number, store, url, context, timeline, shared, feeds, saving, running }
    }

    /// Its live feeds go through `lake`, where there is one, and the state of its jobs is saved there.
    pub fn through(self, lake: Option<&Lake>, checkpoints: Option<checkpoints::Settings>) -> Self {
        let lake = lake.map(|lake| lake.written_by(self.number));
        Leader { feeds: Feeds::through(lake.clone()), saving: lake.zip(checkpoints), ..self }
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
        let jobs =
            std::mem::take(&mut self.running).into_iter().filter_map(|(name, running)| Some((name, running.job?)));
        let stopping = jobs.map(async |(name, job)| {
            tracing::info!(job = name, "stopping");
            job.stop().await
        });
        if tokio::time::timeout(STOP, futures::future::join_all(stopping)).await.is_err() {
            tracing::warn!("what is closed could not be committed in time; the next generation will do it again");
        }
        // It may have ended already.
        let _ = self.generation.stop().await;
    }

    async fn look(&mut self) -> Result<(), PostgresError> {
        let wanted = self.store.briefs().await?;
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
                // It may have been dropped since, or replaced: then the next look sees it.
                let Some(job) = self.store.job(&job.name).await? else { continue };
                let running = self.start(&job).await?;
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
        if let Some((lake, _)) = &self.saving
            && let Err(error) = lake.forget(name).await
        {
            // Another job of that name does not take them for its own.
            tracing::warn!(job = name, %error, "its checkpoints could not be removed");
        }
        self.store.clear(name).await
    }

    async fn start(&self, job: &StoredJob) -> Result<Running, PostgresError> {
        let paused = job.desired == Desired::Paused;
        let (refused, rejections) = mpsc::channel(REFUSED);
        let failed = |detail: String| {
            tracing::error!(job = job.name, detail, "the job cannot run");
            let (definition, detail) = ((job.created_at, job.version), Some(detail));
            Ok(Running { definition, job: None, refused: None, paused, status: Status::Failed, detail })
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
        let shown = self.shown(&prepared).await?;
        let checkpoints = self.checkpoints(&prepared, job.created_at, shown).await;
        let around = Surroundings {
            generation: &self.generation,
            number: self.number,
            feeds: &self.feeds,
            context: &self.context,
            database_url: &self.url,
            timeline: self.timeline,
            sink: crate::sink::task::Settings { paused, hold_until: shown, ..Default::default() },
            checkpoints,
            refused,
        };
        match RunningJob::start(prepared, around).await {
            Ok(running) => {
                tracing::info!(job = job.name, version = job.version, "installed");
                self.shared.insert(&job.name, JobView { status: running.status(), progress: running.progress() });
                Ok(Running {
                    definition: (job.created_at, job.version),
                    job: Some(running),
                    refused: Some(rejections),
                    paused,
                    status: Status::Pending,
                    detail: None,
                })
            }
            Err(error) => failed(error.to_string()),
        }
    }

    /// How far the tables of a job are, which it has to catch up with.
    async fn shown(&self, job: &Prepared) -> Result<Time, PostgresError> {
        let name = &job.spec.name;
        if job.sources.iter().all(|bound| self.feeds.repeats(bound.source.as_ref())) {
            // What an older writer still has to write is in the recordings, or in the lake: it must not go on while this one is behind.
            return Ok(self.store.take_over(name, self.number).await?.unwrap_or_default());
        }
        Ok(self.store.frontier(name).await?.map_or(0, |frontier| frontier.upper))
    }

    /// How the state of a job is saved, with what it goes on from.
    async fn checkpoints(&self, job: &Prepared, created: DateTime<Utc>, shown: Time) -> Option<Checkpoints> {
        let (lake, settings) = self.saving.clone()?;
        let name = &job.spec.name;
        let saving = match saving(&job.plan) {
            _ if !job.sources.iter().all(|bound| self.feeds.repeats(bound.source.as_ref())) => {
                Err("what a source of it says is not kept in the lake".to_owned())
            }
            saving => saving,
        };
        let saving = saving.inspect_err(|reason| {
            tracing::info!(job = name, reason, "no checkpoints of it: it will begin with its history");
        });
        let Saving { operators, appended } = saving.ok()?;
        let of = |source: &dyn Source| match source.origin() {
            Some(origin) => feed_name(&origin.address, &origin.identity),
            None => feed_name("recording", &source.identity()),
        };
        let sources = job.sources.iter().map(|bound| (bound.name.clone(), of(bound.source.as_ref()))).collect();
        let owner = Owner { created_ms: created.timestamp_millis(), sources, operators, appended };
        let restored = lake.checkpoint(name, &owner, shown).await.unwrap_or_else(|error| {
            tracing::warn!(job = name, %error, "its checkpoints cannot be read: it begins with its history");
            None
        });
        if let Some(Checkpoint { position, .. }) = &restored {
            tracing::info!(job = name, as_of = position.as_of, "goes on from a checkpoint");
        }
        Some(Checkpoints { lake, settings, owner, restored })
    }

    /// Pauses or resumes as desired, and writes down how it is.
    async fn tend(&mut self, wanted: &Brief) -> Result<(), PostgresError> {
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
                    let waits = if progress.arrived > 0 { CATCHING_UP } else { "waiting for the first snapshot" };
                    (Status::Pending, progress.error.clone().or(Some(waits.to_string())))
                }
            };
        }
        if let Some(job) = running.job.take_if(|_| running.status == Status::Failed) {
            // Nobody takes what it computes any more.
            job.stop().await;
            self.shared.remove(&wanted.name);
        }
        observe::job::status(&wanted.name, running.status);
        if (wanted.status, &wanted.status_detail) != (running.status, &running.detail) {
            self.store.set_status(&wanted.name, wanted.version, running.status, running.detail.as_deref()).await?;
        }
        Ok(())
    }
}
