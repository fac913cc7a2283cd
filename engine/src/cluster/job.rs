//! A job at work: its dataflow in a generation, its sources being read, its sink.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use velib_operators::Time;
use velib_operators::output::Closed as Output;

use super::checkpoints::{self, Checkpoints};
use super::generation::{Generation, GenerationError};
use super::queues::Queues;
use crate::catalog::Prepared;
use crate::command::JobId;
use crate::metrics;
use crate::observe;
use crate::plan::Job;
use crate::sink::task::{Progress, Settings as SinkSettings};
use crate::sink::{Changes, Closed, SinkError, SinkHandle};
use crate::source::Context;
use crate::source::feed::Feeds;
use crate::timeline::{Entered, Reader, Reading, Refused, Settings, Status, Subscribe, Timeline};

/// Why a job could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The generation is over.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// Its views cannot be tables.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What a job is started with.
pub struct Surroundings<'a> {
    /// Where it computes.
    pub generation: &'a Arc<Generation>,
    /// The number of the generation, which fences off writers of earlier ones.
    pub number: u64,
    /// The feeds that jobs share.
    pub feeds: &'a Feeds,
    /// For its sources.
    pub context: &'a Context,
    /// The database.
    pub database_url: &'a str,
    /// How its timeline is run.
    pub timeline: Settings,
    /// How its sink is run.
    pub sink: SinkSettings,
    /// Its state is saved, and may have been.
    pub checkpoints: Option<Checkpoints>,
    /// Where refused input goes.
    pub refused: mpsc::Sender<Refused>,
}

/// A running job.
pub struct RunningJob {
    /// What was installed.
    pub prepared: Prepared,
    id: JobId,
    generation: Arc<Generation>,
    /// The timeline, what waits for it, and what looks at the queues.
    tasks: JoinSet<()>,
    status: watch::Receiver<Status>,
    sink: SinkHandle,
    /// Tells what is committed.
    told: JoinHandle<()>,
}

impl RunningJob {
    /// Builds the dataflow, opens the sink, reads the sources.
    ///
    /// # Errors
    /// The generation ends before, or a view cannot be a table.
    pub async fn start(prepared: Prepared, around: Surroundings<'_>) -> Result<Self, StartError> {
        let name = &prepared.plan.name;
        let (saves, saving, writer, restored) = match around.checkpoints {
            Some(Checkpoints { lake, settings, owner, restored }) => {
                let (saves, saving, writer) = checkpoints::write(name, lake, &settings, owner, around.sink.hold_until);
                (Some(saves), Some(saving), Some(writer), restored)
            }
            None => (None, None, None, None),
        };
        let restored = restored.map(|checkpoint| (checkpoint.position, checkpoint.saved));
        let restored_at = restored.as_ref().map_or(0, |(position, _)| position.upper);
        let sink = SinkSettings { restored_at, ..around.sink };
        let sink = SinkHandle::start(around.database_url, prepared.plan.clone(), around.number, sink)?;
        let entered = Arc::new(Entered::default());
        let (times, closed, mut last) = (Arc::clone(&entered), sink.sender().clone(), None);
        let (publish, status) = watch::channel(Status::default());
        let passed = status.clone();
        let output = Box::new(move |output: Output| {
            // Time beyond what was let pass: the job is being dropped, and what was yet to come rushes out.
            if output.upper > passed.borrow().frontier {
                return;
            }
            let as_of = times.as_of(output.upper);
            // The clock alone is nothing to write down.
            let idle = output.changes.is_empty() && output.errors.is_empty() && last == Some(as_of);
            if !idle && as_of > 0 || !output.changes.is_empty() {
                last = Some(as_of);
                // A sink that has failed says so itself.
                let _ = closed.blocking_send(close(output, as_of));
            }
        });
        let id = around.generation.install(prepared.plan.clone(), prepared.spec.clone(), output, saves).await?;
        let shown = around.sink.hold_until;
        let context = Context { shown, ..around.context.clone() };
        let readers = prepared.sources.iter().map(|bound| {
            let (source, relations) = (bound.source.clone(), bound.relations.clone());
            let (bounded, feeds, context) = (source.bounded(), around.feeds.clone(), context.clone());
            let reader = Reader { name: bound.name.clone(), bounded, relations: relations.clone() };
            let kind = (!bounded).then_some(bound.kind.as_str());
            observe::source::reading(&prepared.plan.name, &bound.name, kind);
            let after = restored.as_ref().and_then(|(position, _)| position.sources.get(&bound.name));
            let after = after.map(|source| source.last);
            let reading = match feeds.history(&source, &relations, &context, after).filter(|_| !bounded) {
                Some((recorded, live)) => Reading { recorded: Some(recorded), live: Some(live) },
                None => {
                    let read = Box::new(move || feeds.subscribe(source, &relations, context)) as Subscribe;
                    let (recorded, live) = if bounded { (Some(read), None) } else { (None, Some(read)) };
                    Reading { recorded, live }
                }
            };
            (reader, reading)
        });
        let readers = readers.collect();
        let (committed, told) = committed(prepared.plan.clone(), sink.progress(), shown, Arc::clone(&entered));
        let queues = Queues {
            job: prepared.plan.name.clone(),
            generation: Arc::clone(around.generation),
            entered: Arc::clone(&entered),
            committed: committed.clone(),
            in_flight: around.timeline.in_flight,
            closed: sink.sender().downgrade(),
        };
        let timeline = Timeline {
            generation: Arc::clone(around.generation),
            id,
            job: prepared.plan.clone(),
            settings: around.timeline,
            entered: Arc::clone(&entered),
            committed,
            refused: around.refused,
            restored,
            saving,
            status: publish,
            context,
        };
        let mut tasks = JoinSet::new();
        // An end by the generation's is as good as any.
        tasks.spawn(async move { drop(timeline.run(readers).await) });
        let (mut caught_up, release) = (status.clone(), sink.release());
        tasks.spawn(async move {
            if caught_up.wait_for(|status| status.caught_up).await.is_ok() {
                release(entered.as_of(Time::MAX) + 1);
            }
        });
        tasks.spawn(queues.watch());
        if let Some(writer) = writer {
            tasks.spawn(writer.run(sink.progress()));
        }
        Ok(RunningJob { prepared, id, generation: Arc::clone(around.generation), tasks, status, sink, told })
    }

    /// How its sources are.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How its sink is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.sink.progress()
    }

    /// Holds its tables as they are, or lets them go on.
    pub fn pause(&self, paused: bool) {
        self.sink.pause(paused);
    }

    /// Waits until what is recorded has been read, and what is live once, and all of it is in the tables.
    pub async fn caught_up(&self) {
        let (mut status, mut progress) = (self.status.clone(), self.sink.progress());
        let read = status.wait_for(|status| status.caught_up).await.map(|status| match status.finished {
            true => Some(status.frontier),
            // The clock alone is not written down.
            false => status.sources.values().map(|source| source.last_snapshot + 1).max().filter(|time| *time > 1),
        });
        // The timeline is gone when the generation is: then, as without a snapshot, there is nothing to wait for.
        let Ok(Some(read)) = read else { return };
        let _ = progress.wait_for(|progress| progress.upper >= Some(read) || progress.ended).await;
    }

    /// Waits until its tables cannot be written any more.
    pub async fn failed(&self) {
        let mut progress = self.sink.progress();
        let _ = progress.wait_for(|progress| progress.ended).await;
    }

    /// Stops reading, commits what is closed, and lets the dataflow go.
    pub async fn stop(mut self) -> Progress {
        self.tasks.shutdown().await;
        // The generation may have ended on its own.
        let _ = self.generation.remove(self.id).await;
        let progress = self.sink.close().await;
        // Nobody tells of it any more when it is forgotten.
        let _ = self.told.await;
        metrics::forget(&self.prepared.plan.name);
        progress
    }
}

fn close(output: Output, as_of: Time) -> Closed {
    let changes = output.changes.into_iter().map(|(view, rows, diffs)| Changes { view, rows, diffs });
    Closed { upper: output.upper, as_of, changes: changes.collect(), errors: output.errors }
}

/// Timestamps below this one are in the tables, as is what has arrived of those that they have shown before. Tells
/// the metrics on the way.
fn committed(
    job: Arc<Job>,
    mut progress: watch::Receiver<Progress>,
    shown: Time,
    entered: Arc<Entered>,
) -> (watch::Receiver<Time>, JoinHandle<()>) {
    let (publish, committed) = watch::channel(0);
    let told = tokio::spawn(async move {
        let mut last = Progress::default();
        while progress.changed().await.is_ok() {
            let now = progress.borrow_and_update().clone();
            let (upper, arrived) = (now.upper.unwrap_or_default(), now.arrived);
            // What the clock alone moved has no arrival of its own.
            let moved = now.transactions > last.transactions && now.as_of != last.as_of;
            let age = if moved { entered.age(upper) } else { None };
            observe::table::progressed(&job, now.upper, now.as_of, now.waiting_rows, age);
            last = now;
            if publish.send(upper.max(shown.min(arrived))).is_err() {
                break;
            }
        }
    });
    (committed, told)
}
