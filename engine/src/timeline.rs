//! The timeline of a job: in what order the snapshots of its sources enter, and how time passes.
//!
//! Recorded sources come first, merged by their times. Then the live ones follow the clock: a snapshot
//! enters at the time of its fetch, made not to go back, and time passes though a feed be silent, so that
//! a feed that is down holds nobody up. All the sources of a job enter through one process, which closes a
//! timestamp for all of them at once as soon as a snapshot is in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use velib_operators::{Time, Updates};

use crate::cluster::generation::{Generation, GenerationError};
use crate::command::JobId;
use crate::plan::{From, Job, Node};
use crate::source::current::Current;
use crate::source::feed::Subscription;
use crate::source::{Context, Event, Rejection, Relation, Snapshot};
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
        Settings { in_flight: 32, tick: Duration::from_secs(1), patience: Duration::from_secs(30) }
    }
}

/// The timestamps at which something entered, and when that was.
#[derive(Debug, Default)]
pub struct Entered {
    times: Mutex<(VecDeque<(Time, Instant)>, Time)>,
}

impl Entered {
    fn add(&self, time: Time) {
        let (times, _) = &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.back().is_none_or(|last| last.0 != time) {
            times.push_back((time, Instant::now()));
        }
    }

    /// The last timestamp below `upper` at which something entered; 0: none.
    pub fn as_of(&self, upper: Time) -> Time {
        let (times, before) = &*self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().rev().find(|entry| entry.0 < upper).map_or(*before, |entry| entry.0)
    }

    /// How long ago the last timestamp below `upper` entered, if it has not been forgotten.
    pub fn age(&self, upper: Time) -> Option<Duration> {
        let (times, _) = &*self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().rev().find(|entry| entry.0 < upper).map(|entry| entry.1.elapsed())
    }

    /// How many are not below `committed`; the others are forgotten but for the last.
    pub fn in_flight(&self, committed: Time) -> usize {
        let (times, before) = &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = times.pop_front_if(|entry| entry.0 < committed) {
            *before = entry.0;
        }
        times.len()
    }
}

/// A source of a job, being read.
pub struct Reader {
    /// Its name in the job.
    pub name: String,
    /// It ends by itself.
    pub bounded: bool,
    /// What it offers.
    pub relations: Vec<Relation>,
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
    /// For whoever looks.
    pub status: watch::Sender<Status>,
    /// The clock.
    pub context: Context,
}

struct Open {
    reader: Reader,
    events: Option<Subscription>,
    head: Option<Snapshot>,
    ended: bool,
    seen: bool,
    /// By relation, what it lists now.
    current: BTreeMap<usize, Current>,
    /// The inputs of the job that read each relation.
    inputs: Vec<Vec<usize>>,
}

impl Timeline {
    /// Runs until all sources have ended, or for ever.
    ///
    /// # Errors
    /// If the generation ends.
    pub async fn run(mut self, readers: Vec<(Reader, Subscription)>) -> Result<(), GenerationError> {
        let read = inputs_read(&self.job);
        let (recorded, live): (Vec<Open>, Vec<Open>) = readers
            .into_iter()
            .map(|(reader, events)| {
                let events = Some(events);
                let inputs = reader.relations.iter().map(|relation| {
                    let of = |i: &usize| {
                        self.job.inputs[*i].source == reader.name && self.job.inputs[*i].relation == relation.name
                    };
                    read.iter().copied().filter(of).collect()
                });
                let inputs = inputs.collect();
                self.status.send_modify(|status| {
                    status.sources.insert(reader.name.clone(), SourceStatus::default());
                });
                Open { reader, events, head: None, ended: false, seen: false, current: BTreeMap::new(), inputs }
            })
            .partition(|open| open.reader.bounded);
        self.replay(recorded).await?;
        if !live.is_empty() {
            self.follow(live).await?;
        } else if self.frontier() == 0 {
            // Nothing of it has a time: what there is, is as of now.
            let now = (self.context.wall_clock_ms)();
            self.entered.add(now);
            self.pass(now + 1).await?;
        }
        self.status.send_modify(|status| status.finished = true);
        Ok(())
    }

    /// Recorded snapshots, in order of time.
    async fn replay(&mut self, mut sources: Vec<Open>) -> Result<(), GenerationError> {
        loop {
            for open in &mut sources {
                while open.head.is_none() && !open.ended {
                    let event = open.events.as_mut().expect("a recorded source is read here").next().await;
                    self.hear(open, event.as_deref());
                }
            }
            let Some(time) = sources.iter().filter_map(|open| open.head.as_ref()).map(|head| head.time).min() else {
                break;
            };
            let at = time.max(self.frontier());
            for open in &mut sources {
                if let Some(snapshot) = open.head.take_if(|head| head.time == time) {
                    self.enter(open, at, &snapshot).await?;
                }
            }
            // What is always there (zones) enters with what comes first.
            if time > 0 {
                self.pass(at + 1).await?;
                self.wait_for_commits().await;
            }
        }
        Ok(())
    }

    /// Live snapshots, as they come, and the clock.
    async fn follow(&mut self, mut sources: Vec<Open>) -> Result<(), GenerationError> {
        let (send, mut events) = mpsc::channel::<(usize, Option<Arc<Event>>)>(1);
        for (i, open) in sources.iter_mut().enumerate() {
            let mut subscription = open.events.take().expect("a live source is read once");
            let send = send.clone();
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
                        self.enter(open, at, &snapshot).await?;
                        if settled(&sources) {
                            self.pass(at + 1).await?;
                        }
                        // A feed is shared: a job that is paused must not hold up the others by not reading.
                        // What closes is merged by the sink, which needs no more for many than for one.
                        self.entered.in_flight(*self.committed.borrow());
                    }
                }
                _ = tick.tick() => {
                    let now = (self.context.wall_clock_ms)();
                    if settled(&sources) && now > self.frontier() {
                        self.pass(now).await?;
                    }
                }
                _ = generation.ended() => return Err(GenerationError::Ended),
            }
        }
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
            Some(Event::Snapshot(snapshot)) => open.head = Some(snapshot.clone()),
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

    async fn enter(&self, open: &mut Open, at: Time, snapshot: &Snapshot) -> Result<(), GenerationError> {
        open.seen = true;
        let mut rows_in = 0;
        for (relation, table) in snapshot.tables.iter().enumerate() {
            let Some(rows) = table else { continue };
            rows_in += rows.num_rows() as u64;
            if open.inputs[relation].is_empty() {
                continue;
            }
            let updates = if open.reader.relations[relation].appended {
                Updates::insert(at, rows.clone())
            } else {
                let schema = open.reader.relations[relation].schema.clone();
                let current = open
                    .current
                    .entry(relation)
                    .or_insert_with(|| Current::new(schema).expect("the types of a relation have an ordered encoding"));
                let (rows, diffs) = current.replace(rows.clone());
                Updates::new(at, rows, diffs)
            };
            if updates.rows.num_rows() > 0 {
                for input in &open.inputs[relation] {
                    self.generation.feed(self.id, *input, updates.clone()).await?;
                }
            }
        }
        self.entered.add(at);
        observe::source::entered(&self.job.name, &open.reader.name, rows_in, at);
        self.status.send_modify(|status| {
            let source = status.sources.entry(open.reader.name.clone()).or_default();
            source.snapshots += 1;
            source.rows += rows_in;
            source.last_snapshot = at;
            source.error = None;
        });
        Ok(())
    }

    async fn pass(&self, to: Time) -> Result<(), GenerationError> {
        self.status.send_modify(|status| status.frontier = to);
        metrics::FRONTIER.with_label_values(&[&self.job.name]).set(to as f64 / 1e3);
        self.generation.advance(self.id, to).await
    }

    /// Waits while as much is under way as may be.
    async fn wait_for_commits(&mut self) {
        let (entered, limit) = (&self.entered, self.settings.in_flight);
        // The sink is gone: the job is about to be stopped, and nobody counts any more.
        let _ = self.committed.wait_for(|committed| entered.in_flight(*committed) < limit).await;
    }
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
