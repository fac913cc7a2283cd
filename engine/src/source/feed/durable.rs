//! Durable before it enters: a live feed's snapshots on their way through the lake.
//!
//! A snapshot is handed out when the lake has it, and not before; so whatever a job has seen can be had again. A store
//! that is away, refuses or is full is tried again for ever, ever more rarely: the feed is not polled meanwhile, so that
//! no more than the one snapshot waits, and it is not lost.
//!
//! The first snapshot of an hour (UTC) lists every relation that is known, whether its document has brought it again or
//! not: an hour of the lake can be read without those before it, which may be gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use velib_operators::Time;

use crate::lake::log::{Appended, Log};
use crate::lake::{Entry, Lake, LakeError};
use crate::observe;
use crate::source::{Relation, Snapshot, Source};

/// Before a snapshot is tried again, first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// What an hour of the lake covers, in milliseconds.
const HOUR: Time = 3_600_000;

/// The way of a feed into the lake.
pub(super) struct Durable {
    lake: Lake,
    feed: String,
    source: Arc<dyn Source>,
    relations: Vec<Relation>,
    log: Option<Log>,
    /// The hour of the last snapshot that was written here.
    hour: Option<Time>,
}

/// A newer generation writes the log.
pub(super) struct Superseded;

impl Durable {
    pub(super) fn new(lake: Lake, feed: String, source: Arc<dyn Source>, relations: &[Relation]) -> Self {
        observe::lake::writing(&feed);
        Durable { lake, feed, source, relations: relations.to_vec(), log: None, hour: None }
    }

    /// Writes `snapshot`, and what is `known` of relations that it does not list where an hour begins. Yields what to
    /// hand out: what others wrote before, and the snapshot, at the time that it has in the log.
    pub(super) async fn keep(&mut self, mut snapshot: Snapshot, known: &Snapshot) -> Result<Vec<Snapshot>, Superseded> {
        if self.hour != Some(snapshot.time / HOUR) {
            let tables = snapshot.tables.iter_mut().zip(&known.tables).zip(&self.relations);
            for ((table, known), _) in tables.filter(|(_, relation)| !relation.appended) {
                *table = table.take().or_else(|| known.clone());
            }
        }
        let time = snapshot.time;
        let mut entry = Entry { time, tables: self.source.record(&self.relations, &snapshot) };
        let (mut out, mut wait) = (vec![], WAIT.0);
        loop {
            let began = Instant::now();
            match self.append(&mut entry).await {
                Ok(Appended::Durable(_, bytes)) => {
                    observe::lake::written(&self.feed, bytes, began.elapsed());
                    break;
                }
                Ok(Appended::After(other)) => {
                    tracing::warn!(
                        feed = self.feed,
                        "a snapshot of an earlier writer is in the lake already: going on after it"
                    );
                    out.push(self.source.restore(&self.relations, other.time, other.tables));
                }
                Ok(Appended::AfterDamaged(_)) => observe::lake::damaged(&self.feed),
                Ok(Appended::Superseded(writer)) => {
                    tracing::error!(
                        feed = self.feed,
                        writer,
                        "a newer generation writes to this feed of the lake: this one has stopped reading it"
                    );
                    return Err(Superseded);
                }
                Err(error) => {
                    observe::lake::failed(&self.feed);
                    tracing::warn!(feed = self.feed, %error, wait_ms = wait.as_millis() as u64, "a snapshot waits for the lake");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT.1);
                }
            }
        }
        self.hour = Some(entry.time / HOUR);
        if entry.time != time {
            // Its rows have the time in them.
            snapshot = self.source.restore(&self.relations, entry.time, entry.tables);
        }
        out.push(snapshot);
        Ok(out)
    }

    async fn append(&mut self, entry: &mut Entry) -> Result<Appended, LakeError> {
        let log = match &mut self.log {
            Some(log) => log,
            None => self.log.insert(Log::open(&self.lake, &self.feed).await?),
        };
        log.append(entry).await
    }
}
