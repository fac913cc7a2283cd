//! The task of a job's sink: takes what the job closes, merges what waits, commits, and does not give up.
//!
//! ```text
//! closed ──▶ [channel] ──▶ merge ──▶ settled ──▶ PostgresSink ──▶ committed upper
//!                            ▲                        │ failed: what became of it?
//!                            └──── not committed ─────┘
//! ```
//!
//! While one transaction is under way the next one gathers: the slower the database, the larger the
//! batches. With the database away they go on gathering, and changes that undo each other vanish. An error
//! that cannot pass ends the task and stands in [`Progress::failure`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use velib_operators::Time;

use super::merge::{Merge, Settled};
use super::postgres::{Committed, PostgresSink};
use super::shown::Shown;
use super::{Closed, SinkError};
use crate::observe;
use crate::plan::Job;
use crate::postgres::Backoff;

/// How many closed steps wait in the channel; the task takes them out even while the database is away.
const CHANNEL: usize = 16;
/// So many changed rows are held back for tables not to take a step back; more are committed as they come.
const HELD_ROWS: usize = 2_000_000;
/// How long a task that is closed goes on trying to commit what it has.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// How a sink is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Holds commits from the beginning.
    pub paused: bool,
    /// Holds commits until this much is complete, or until it is [released](SinkHandle::release): tables that are
    /// further than the dataflow do not move back while it catches up.
    pub hold_until: Time,
    /// The first contents are those of a state that was saved at this time: rows of views that are only ever added
    /// to are in the tables alone if they are older. 0: they are whole.
    pub restored_at: Time,
    /// How long a task that is closed goes on trying.
    pub close_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { paused: false, hold_until: 0, restored_at: 0, close_limit: CLOSE_LIMIT }
    }
}

/// How far a sink is, and how it is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Timestamps below this one are in the tables; none: nothing has been committed yet.
    pub upper: Option<Time>,
    /// Timestamps below this one have arrived.
    pub arrived: Time,
    /// The snapshot that the tables are as of.
    pub as_of: Time,
    /// Transactions so far.
    pub transactions: u64,
    /// Rows of tables changed so far.
    pub rows: u64,
    /// Rows that were to be removed and were not there, so far.
    pub missing: u64,
    /// How long the last transaction took, in milliseconds.
    pub last_ms: f64,
    /// Changed rows that wait, after those that undo each other are gone.
    pub waiting_rows: usize,
    /// Tries since the last transaction that was committed.
    pub failed_tries: u64,
    /// The last error since the last transaction that was committed.
    pub error: Option<String>,
    /// The error that ended the task.
    pub failure: Option<Arc<SinkError>>,
    /// The task has ended.
    pub ended: bool,
}

/// What holds commits.
#[derive(Clone, Copy, Debug)]
struct Hold {
    paused: bool,
    until: Time,
}

/// A running sink. Dropping it closes it, without waiting for the end.
#[derive(Debug)]
pub struct SinkHandle {
    closed: mpsc::Sender<Closed>,
    hold: watch::Sender<Hold>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl SinkHandle {
    /// Starts the task on the current runtime. The first [`Closed`] that it is sent holds the full contents
    /// of all views; each further one what has changed since. Nothing is committed before the first that is as
    /// of a snapshot.
    ///
    /// # Errors
    /// A view that cannot be a table. The database may be away.
    pub fn start(url: &str, job: Arc<Job>, generation: u64, settings: Settings) -> Result<Self, SinkError> {
        let mut sink = PostgresSink::new(url, job.clone(), generation)?;
        sink.restored_at = settings.restored_at;
        let (closed, receiver) = mpsc::channel(CHANNEL);
        let (hold, held) = watch::channel(Hold { paused: settings.paused, until: settings.hold_until });
        let (publish, progress) = watch::channel(Progress::default());
        let inbox = Inbox { receiver: Some(receiver), merge: Merge::new(job.clone()), publish };
        let backoff = Backoff::default();
        let shown = Shown::new(job.clone());
        let task = Task { job, sink, inbox, held, settings, backoff, deadline: None, shown };
        Ok(SinkHandle { closed, hold, progress, task: tokio::spawn(task.run()) })
    }

    /// Where closed steps go, in order. Its other end is gone when the task has failed.
    pub fn sender(&self) -> &mpsc::Sender<Closed> {
        &self.closed
    }

    /// Holds commits, or goes on. What comes in the meantime is merged.
    pub fn pause(&self, paused: bool) {
        self.hold.send_modify(|hold| hold.paused = paused);
    }

    /// Says, when it is called, that there is no more to catch up with than what is below that time.
    pub fn release(&self) -> impl FnOnce(Time) + Send + use<> {
        let hold = self.hold.clone();
        move |upper| hold.send_modify(|hold| hold.until = hold.until.min(upper))
    }

    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Commits what waits (unless it is paused, or behind its tables), within the settings' limit, and ends.
    pub async fn close(self) -> Progress {
        drop(self.closed);
        // A task that panicked has said nothing: its progress is the last that it published.
        let _ = self.task.await;
        self.progress.borrow().clone()
    }
}

struct Task {
    job: Arc<Job>,
    sink: PostgresSink,
    inbox: Inbox,
    held: watch::Receiver<Hold>,
    settings: Settings,
    backoff: Backoff,
    /// When a closed task gives up.
    deadline: Option<Instant>,
    shown: Shown,
}

/// What arrives, and what waits. Apart from the sink, so that it receives while the sink is at work.
struct Inbox {
    /// None: closed.
    receiver: Option<mpsc::Receiver<Closed>>,
    merge: Merge,
    publish: watch::Sender<Progress>,
}

impl Inbox {
    /// The next step, merged with those that wait. Pending for ever when closed.
    async fn receive(&mut self) -> Result<(), SinkError> {
        let Some(receiver) = &mut self.receiver else { return std::future::pending().await };
        match receiver.recv().await {
            Some(closed) => self.add(closed),
            None => {
                self.receiver = None;
                Ok(())
            }
        }
    }

    fn add(&mut self, closed: Closed) -> Result<(), SinkError> {
        self.merge.add(closed)?;
        let (rows, arrived) = (self.merge.rows(), self.merge.upper().unwrap_or_default());
        self.publish.send_modify(|progress| (progress.waiting_rows, progress.arrived) = (rows, arrived));
        Ok(())
    }

    /// Receives while `work` is under way.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, SinkError> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                received = self.receive() => received?,
            }
        }
    }
}

impl Task {
    async fn run(mut self) {
        let failure = self.work().await.err().map(Arc::new);
        if let Some(error) = &failure {
            tracing::error!(job = self.job.name, %error, "the sink ends");
        }
        self.inbox.publish.send_modify(|progress| {
            progress.error = failure.as_ref().map(ToString::to_string).or(progress.error.take());
            progress.failure = failure;
            progress.ended = true;
        });
    }

    async fn work(&mut self) -> Result<(), SinkError> {
        loop {
            self.gather().await?;
            let closed = self.inbox.receiver.is_none();
            if self.inbox.merge.is_empty() || (closed && !self.may()) {
                return Ok(());
            }
            if let Some(settled) = self.inbox.merge.take()? {
                self.deliver(settled).await?;
            }
        }
    }

    /// Receives until there is something that may be committed, or until it is closed.
    async fn gather(&mut self) -> Result<(), SinkError> {
        loop {
            // What has arrived in the meantime goes into the same transaction.
            while let Some(Ok(closed)) = self.inbox.receiver.as_mut().map(mpsc::Receiver::try_recv) {
                self.inbox.add(closed)?;
            }
            self.held.mark_unchanged();
            if self.inbox.receiver.is_none() || (!self.inbox.merge.is_empty() && self.may()) {
                return Ok(());
            }
            tokio::select! {
                received = self.inbox.receive() => received?,
                changed = self.held.changed() => if let (Err(_), Some(receiver)) = (changed, &mut self.inbox.receiver) {
                    // The handle is gone: what is in the channel is the rest.
                    receiver.close();
                },
            }
        }
    }

    /// Whether what waits may be committed.
    fn may(&self) -> bool {
        let Hold { paused, until } = *self.held.borrow();
        let (first, waits) = (self.sink.upper().is_none(), &self.inbox.merge);
        // Views of nothing: a `count(*)` is 0 before the first snapshot. Tables that are there must not move to
        // that, nor to what was before them.
        let nothing_entered = waits.as_of() == Some(0);
        let behind = waits.upper() < Some(until) && waits.rows() < HELD_ROWS;
        !paused && !(first && (nothing_entered || behind))
    }

    /// Tries to commit `settled`; what could not be committed waits again.
    async fn deliver(&mut self, settled: Settled) -> Result<(), SinkError> {
        let tried = settled.closed.upper;
        let mut error = match self.inbox.during(self.sink.apply(&settled)).await? {
            Ok(committed) => {
                self.committed(&settled, committed);
                return Ok(());
            }
            Err(error) => error,
        };
        loop {
            if !error.is_retriable() {
                return Err(error);
            }
            self.wait(error).await?;
            match self.inbox.during(self.sink.recover(tried)).await? {
                Ok(true) => {
                    self.committed(&settled, Committed::default());
                    return Ok(());
                }
                Ok(false) => {
                    self.inbox.merge.restore(settled);
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
    }

    /// Waits before the next try, and goes on receiving. A closed task does not wait for ever: then `error`
    /// is how it ends.
    async fn wait(&mut self, error: SinkError) -> Result<(), SinkError> {
        let wait = self.backoff.wait();
        tracing::warn!(job = self.job.name, %error, wait_ms = wait.as_millis() as u64, "the sink tries again");
        observe::table::failed(&self.job);
        self.inbox.publish.send_modify(|progress| {
            progress.failed_tries += 1;
            progress.error = Some(error.to_string());
        });
        self.inbox.during(tokio::time::sleep(wait)).await?;
        if self.inbox.receiver.is_none() {
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.settings.close_limit);
            if Instant::now() >= deadline {
                return Err(error);
            }
        }
        Ok(())
    }

    fn committed(&mut self, settled: &Settled, committed: Committed) {
        self.backoff.reset();
        observe::table::committed(&self.job, &committed.by_view, committed.elapsed);
        self.shown.committed(&settled.closed.changes);
        let waiting_rows = self.inbox.merge.rows();
        self.inbox.publish.send_modify(|progress| {
            progress.upper = Some(settled.closed.upper);
            progress.as_of = settled.closed.as_of;
            progress.transactions += 1;
            progress.rows += committed.rows;
            progress.missing += committed.missing;
            progress.last_ms = committed.elapsed.as_secs_f64() * 1e3;
            progress.waiting_rows = waiting_rows;
            progress.failed_tries = 0;
            progress.error = None;
        });
    }
}
