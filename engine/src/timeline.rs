//! The timeline of a job: in what order the snapshots of its sources enter, and how time passes.
//!
//! Recorded sources come first, merged by their times, and with them what the lake has of live ones. Then the live ones
//! follow the clock: a snapshot enters at the time of its fetch, made not to go back, and time passes though a feed be
//! silent, so that a feed that is down holds nobody up. All the sources of a job enter through one process, and time
//! passes for all of them at once, in [steps](velib_operators::steps): as soon as a live snapshot is in; of recorded
//! ones, as many at a time as are there, within an hour.

mod entered;
mod position;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use velib_operators::{Saved, Time, Updates};

pub use self::entered::Entered;
pub use self::position::{Position, Saving, SourcePosition};

use crate::cluster::generation::{Generation, GenerationError};
use crate::command::JobId;
use crate::plan::{From, Job, Node};
use crate::source::current::Current;
use crate::source::feed::Subscription;
use crate::source::{Context, Event, Health, Rejection, Relation, Snapshot};
use crate::{metrics, observe};

/// How a timeline is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Timestamps that have entered and are not committed yet; when there are as many, recordings wait.
    pub in_flight: usize,
    /// How often time passes without a snapshot.
    pub tick: Duration,
    /// How long the first results wait for a live source that has not answered yet.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { in_flight: 4, tick: Duration::from_secs(1), patience: Duration::from_secs(30) }
    }
}

/// Recorded snapshots of one step are from the same so many milliseconds,
const STEP: Time = 3_600_000;
/// have about as many rows,
const STEP_ROWS: usize = 1 << 17;
/// and follow each other so fast.
const STEP_WAIT: Duration = Duration::from_millis(20);

/// A source of a job, being read.
pub struct Reader {
    /// Its name in the job.
    pub name: String,
    /// It ends by itself.
    pub bounded: bool,
    /// What it offers.
    pub relations: Vec<Relation>,
}

/// Begins to read a source. A live one is left alone until the recorded ones have ended: it is shared, and a reader
/// that does not read yet would hold up the others.
pub type Subscribe = Box<dyn FnOnce() -> Subscription + Send>;

/// How a source is read: one that ends by itself is a recording, a live one goes on, with or without what is recorded
/// of it before.
pub struct Reading {
    /// What was recorded.
    pub recorded: Option<Subscribe>,
    /// What comes.
    pub live: Option<Subscribe>,
}

/// How a source is, for whoever looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceStatus {
    /// Snapshots that entered.
    pub snapshots: u64,
    /// Rows of them.
    pub rows: u64,
    /// Rows and documents that were refused.
    pub rejected: u64,
    /// The time of the last snapshot, in milliseconds; 0: none yet.
    pub last_snapshot: Time,
    /// Why the last poll brought nothing, if it failed.
    pub error: Option<String>,
}

/// How a timeline is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Timestamps below this one have entered.
    pub frontier: Time,
    /// By name of the source.
    pub sources: BTreeMap<String, SourceStatus>,
    /// The recorded sources have ended, and the live ones have answered or had the time to.
    pub caught_up: bool,
    /// All sources have ended.
    pub finished: bool,
}

/// What a timeline reports beside rows.
#[derive(Debug)]
pub struct Refused {
    /// The source.
    pub source: String,
    /// What it refused.
    pub rejections: Vec<Rejection>,
}

/// Brings the snapshots of a job's sources into its dataflow.
pub struct Timeline {
    /// The dataflow.
    pub generation: Arc<Generation>,
    /// The job in it.
    pub id: JobId,
    /// Its plan.
    pub job: Arc<Job>,
    /// How it is run.
    pub settings: Settings,
    /// Shared with the job's output.
    pub entered: Arc<Entered>,
    /// Timestamps below this one are where the views are read.
    pub committed: watch::Receiver<Time>,
    /// What sources refused goes here; when it is full, the rest is only counted.
    pub refused: mpsc::Sender<Refused>,
    /// The state that it goes on from.
    pub restored: Option<(Position, Vec<Saved>)>,
    /// Its state is saved.
    pub saving: Option<Saving>,
    /// For whoever looks.
    pub status: watch::Sender<Status>,
    /// The clock.
    pub context: Context,
}

struct Open {
    reader: Reader,
    head: Option<Snapshot>,
    ended: bool,
    seen: bool,
    /// The time of the last snapshot; none: there was none.
    last: Option<Time>,
    /// Snapshots until this one are in the state that was restored.
    restored: Option<Time>,
    /// By relation.
    relations: Vec<Known>,
}

/// What a relation has said.
struct Known {
    /// The inputs of the job that read it.
    inputs: Vec<usize>,
    /// What it lists, for those that read it now.
    current: Option<Current>,
    /// What enters with the next step: of an appended relation all rows, of another the last listing.
    pending: Vec<RecordBatch>,
}

impl Timeline {
    /// Runs until all sources have ended, or for ever.
    ///
    /// # Errors
    /// If the generation ends.
    pub async fn run(mut self, readers: Vec<(Reader, Reading)>) -> Result<(), GenerationError> {
        let read = inputs_read(&self.job);
        let opens = readers.into_iter().map(|(reader, reading)| {
            let relations = reader.relations.iter().map(|relation| {
                let of = |i: &usize| {
                    self.job.inputs[*i].source == reader.name && self.job.inputs[*i].relation == relation.name
                };
                Known { inputs: read.iter().copied().filter(of).collect(), current: None, pending: vec![] }
            });
            let relations = relations.collect();
            self.status.send_modify(|status| {
                status.sources.insert(reader.name.clone(), SourceStatus::default());
            });
            let (last, restored) = (None, None);
            (Open { reader, head: None, ended: false, seen: false, last, restored, relations }, reading)
        });
        let mut opens: Vec<_> = opens.collect();
        if let Some((position, saved)) = self.restored.take() {
            self.resume(opens.iter_mut().map(|(open, _)| open), position, saved).await?;
        }
        let (recorded, live): (Vec<_>, Vec<_>) = opens.into_iter().partition(|(_, reading)| reading.recorded.is_some());
        let generation = Arc::clone(&self.generation);
        let (sources, going_on): (Vec<_>, Vec<_>) =
            recorded.into_iter().map(|(open, reading)| ((open, reading.recorded), reading.live)).unzip();
        let sources = sources.into_iter().filter_map(|(open, recorded)| Some((open, recorded?))).collect();
        let replayed = tokio::select! {
            replayed = self.replay(sources) => replayed?,
            _ = generation.ended() => return Err(GenerationError::Ended),
        };
        let mut live: Vec<_> = live.into_iter().filter_map(|(open, reading)| Some((open, reading.live?))).collect();
        let mut recorded = vec![];
        for (open, goes_on) in replayed.into_iter().zip(going_on) {
            match goes_on {
                // What it said before is not yet what it says now.
                Some(subscribe) => live.push((Open { ended: false, seen: false, ..open }, subscribe)),
                None => recorded.push(open),
            }
        }
        if !live.is_empty() {
            self.follow(live, recorded).await?;
        } else if self.frontier() == 0 {
            // Nothing of it has a time: what there is, is as of now.
            let now = (self.context.wall_clock_ms)();
            self.entered.add(now);
            self.pass(&mut recorded, now + 1).await?;
        }
        self.status.send_modify(|status| (status.caught_up, status.finished) = (true, true));
        Ok(())
    }

    /// Recorded snapshots, in order of time. Yields the sources, with what has no time and enters with what comes next.
    async fn replay(&mut self, sources: Vec<(Open, Subscribe)>) -> Result<Vec<Open>, GenerationError> {
        let (mut opens, subscribe): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let mut events: Vec<Subscription> = subscribe.into_iter().map(|subscribe| subscribe()).collect();
        while let Some(first) = self.next_time(&mut opens, &mut events).await {
            let (mut last, mut rows) = (first, 0);
            loop {
                for open in &mut opens {
                    if let Some(snapshot) = open.head.take_if(|head| head.time == last) {
                        rows += self.take(open, snapshot);
                    }
                }
                if first == 0 || rows >= STEP_ROWS {
                    break;
                }
                let next = tokio::time::timeout(STEP_WAIT, self.next_time(&mut opens, &mut events)).await;
                match next {
                    Ok(Some(time)) if time / STEP == first / STEP => last = time,
                    _ => break,
                }
            }
            // What is always there (zones) enters with what comes first.
            if last > 0 {
                let frontier = self.frontier();
                if frontier > 0 && first > frontier + STEP {
                    // What becomes due in a gap does so before what comes after it.
                    self.pass(&mut [], first).await?;
                }
                let at = last.max(frontier);
                self.entered.add(at);
                self.pass(&mut opens, at + 1).await?;
                self.wait_for_commits().await;
            }
        }
        Ok(opens)
    }

    /// The time of the snapshot that comes next; none if all sources have ended. May be cancelled without loss.
    async fn next_time(&self, opens: &mut [Open], events: &mut [Subscription]) -> Option<Time> {
        for (open, events) in opens.iter_mut().zip(events) {
            while open.head.is_none() && !open.ended {
                let event = events.next().await;
                self.hear(open, event.as_deref());
            }
        }
        opens.iter().filter_map(|open| open.head.as_ref()).map(|head| head.time).min()
    }

    /// Live snapshots, as they come, and the clock.
    async fn follow(&mut self, sources: Vec<(Open, Subscribe)>, recorded: Vec<Open>) -> Result<(), GenerationError> {
        let (send, mut events) = mpsc::channel::<(usize, Option<Arc<Event>>)>(1);
        let (mut sources, subscribe): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        sources.extend(recorded);
        for (i, subscribe) in subscribe.into_iter().enumerate() {
            let (mut subscription, send) = (subscribe(), send.clone());
            tokio::spawn(async move {
                loop {
                    let event = subscription.next().await;
                    let last = event.is_none();
                    // The timeline is gone, and the subscription with it.
                    if send.send((i, event)).await.is_err() || last {
                        break;
                    }
                }
            });
        }
        drop(send);
        let patience = Instant::now() + self.settings.patience;
        let mut tick = tokio::time::interval(self.settings.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let generation = Arc::clone(&self.generation);
        loop {
            let settled =
                |sources: &[Open]| sources.iter().all(|open| open.seen || open.ended) || Instant::now() >= patience;
            tokio::select! {
                event = events.recv() => {
                    let Some((i, event)) = event else { return Ok(()) };
                    let open = &mut sources[i];
                    self.hear(open, event.as_deref());
                    if let Some(snapshot) = open.head.take() {
                        let at = snapshot.time.max(self.frontier());
                        self.take(open, snapshot);
                        if settled(&sources) {
                            self.entered.add(at);
                            self.pass(&mut sources, at + 1).await?;
                            self.catch_up();
                            // A tick right after it would make two transactions of one.
                            tick.reset();
                        }
                        // A feed is shared: a job that is paused must not hold up the others by not reading.
                        // What closes is merged by the sink, which needs no more for many than for one.
                        self.entered.in_flight(*self.committed.borrow());
                    }
                }
                _ = tick.tick() => {
                    let now = (self.context.wall_clock_ms)();
                    if settled(&sources) && now > self.frontier() {
                        self.pass(&mut sources, now).await?;
                        self.catch_up();
                    }
                }
                _ = generation.ended() => return Err(GenerationError::Ended),
            }
        }
    }

    fn catch_up(&self) {
        self.status.send_if_modified(|status| !std::mem::replace(&mut status.caught_up, true));
    }

    fn frontier(&self) -> Time {
        self.status.borrow().frontier
    }

    fn hear(&self, open: &mut Open, event: Option<&Event>) {
        let name = open.reader.name.clone();
        let status = |change: &mut dyn FnMut(&mut SourceStatus)| {
            self.status.send_modify(|status| change(status.sources.entry(name.clone()).or_default()));
        };
        match event {
            None => open.ended = true,
            Some(Event::Snapshot(snapshot)) => open.head = open.unseen(snapshot.clone()),
            Some(Event::Rejected(rejections)) => {
                status(&mut |source| source.rejected += rejections.len() as u64);
                observe::source::refused(&self.job.name, &name, rejections);
                let refused = Refused { source: name.clone(), rejections: rejections.clone() };
                if self.refused.try_send(refused).is_err() {
                    tracing::warn!(source = name, "refused input is counted but not kept: too much of it at once");
                }
            }
            Some(Event::Health(health)) => {
                observe::source::polled(&self.job.name, &name, health);
                if let Some(error) = &health.error {
                    tracing::warn!(source = name, %error, "the source brings nothing");
                }
                status(&mut |source| source.error.clone_from(&health.error));
            }
        }
    }

    /// Takes a snapshot in, to enter with the next step. Tells how many rows it has.
    fn take(&self, open: &mut Open, snapshot: Snapshot) -> usize {
        open.seen = true;
        open.last = Some(snapshot.time);
        let tables = || {
            let tables = snapshot.tables.iter().zip(&open.reader.relations);
            tables.filter_map(|(rows, relation)| Some((rows.as_ref()?, relation)))
        };
        if !tables().all(|(rows, relation)| same_types(&rows.schema(), &relation.schema)) {
            let error = "it offers other columns than when the job was submitted: submit it again, with --replace";
            let (time, error) = (snapshot.time, Some(error.into()));
            let health = Health { time, took: Duration::ZERO, new: false, error, next_poll: time };
            self.hear(open, Some(&Event::Health(health)));
            return 0;
        }
        let rows_in = tables().map(|(rows, _)| rows.num_rows()).sum();
        for ((known, relation), rows) in open.relations.iter_mut().zip(&open.reader.relations).zip(snapshot.tables) {
            let Some(rows) = rows.filter(|_| !known.inputs.is_empty()) else { continue };
            if !relation.appended {
                known.pending.clear();
            }
            known.pending.push(rows);
        }
        let at = snapshot.time.max(self.frontier());
        observe::source::entered(&self.job.name, &open.reader.name, rows_in as u64, at);
        self.status.send_modify(|status| {
            let source = status.sources.entry(open.reader.name.clone()).or_default();
            source.snapshots += 1;
            source.rows += rows_in as u64;
            source.last_snapshot = at;
            source.error = None;
        });
        rows_in
    }

    /// A step: what was taken in enters at its end, the timestamp before `upper`.
    async fn pass(&mut self, opens: &mut [Open], upper: Time) -> Result<(), GenerationError> {
        if opens.iter().flat_map(|open| &open.relations).any(|known| !known.pending.is_empty()) {
            self.entered.add(upper - 1);
        }
        for open in opens.iter_mut() {
            self.enter(open, upper - 1).await?;
        }
        self.save(opens, upper).await?;
        self.advance(upper).await
    }

    /// What was taken in of a source enters.
    async fn enter(&self, open: &mut Open, at: Time) -> Result<(), GenerationError> {
        for (known, relation) in open.relations.iter_mut().zip(&open.reader.relations) {
            let Some(updates) = known.enter(relation, at) else { continue };
            for input in &known.inputs {
                self.generation.feed(self.id, *input, updates.clone()).await?;
            }
        }
        Ok(())
    }

    async fn advance(&self, upper: Time) -> Result<(), GenerationError> {
        self.status.send_modify(|status| status.frontier = upper);
        metrics::FRONTIER.with_label_values(&[&self.job.name]).set(upper as f64 / 1e3);
        self.generation.advance(self.id, upper).await
    }

    /// Waits while as much is under way as may be.
    async fn wait_for_commits(&mut self) {
        let (entered, limit) = (&self.entered, self.settings.in_flight);
        // The sink is gone: the job is about to be stopped, and nobody counts any more.
        let _ = self.committed.wait_for(|committed| entered.in_flight(*committed) < limit).await;
    }
}

impl Known {
    /// What is pending, as changes at `at`.
    fn enter(&mut self, relation: &Relation, at: Time) -> Option<Updates> {
        let last = self.pending.pop()?;
        let updates = if relation.appended {
            self.pending.push(last);
            let rows = concat_batches(&self.pending[0].schema(), &self.pending).expect("the columns of the relation");
            Updates::insert(at, rows)
        } else {
            let current = self.current.get_or_insert_with(|| {
                Current::new(relation.schema.clone()).expect("the types of a relation have an ordered encoding")
            });
            let (rows, diffs) = current.replace(last);
            Updates::new(at, rows, diffs)
        };
        self.pending.clear();
        (updates.rows.num_rows() > 0).then_some(updates)
    }
}

fn same_types(one: &Schema, other: &Schema) -> bool {
    let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    types(one) == types(other)
}

/// The inputs that any view of the job reads.
fn inputs_read(job: &Job) -> Vec<usize> {
    fn visit(node: &Node, read: &mut Vec<usize>) {
        if let Node::Get(get) = node
            && let From::Input(i) = get.from
        {
            read.push(i);
        }
        node.children().into_iter().for_each(|child| visit(child, read));
    }
    let mut read = vec![];
    job.views.iter().for_each(|view| visit(&view.plan, &mut read));
    read.sort_unstable();
    read.dedup();
    read
}
