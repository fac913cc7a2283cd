//! Writing a feed's log: one writer at a time, and what happens to the other.
//!
//! The next snapshot takes the number after the last by creating its object; a store lets one writer do that. Whoever
//! finds the number taken reads what is there:
//! - its own snapshot: the answer to an earlier try was lost, and all is well;
//! - one of an **older** generation, which does not know yet that it is over: its snapshots are part of the log, so the
//!   newer writer hands them on to its own readers, and goes on after them;
//! - another one of its own generation: of a reading that was given up while it wrote. It is handed on likewise;
//! - one of a **newer** generation: this writer is the old one, and stops for ever.
//!
//! So everybody's jobs see what the log says, in its order. Times are made to increase beyond what the log has, though
//! the clock went back over a restart.

use velib_operators::Time;

use super::names::{HOUR, log_object};
use super::segment::Segment;
use super::{Entry, Lake, LakeError, Part, Seq, hour};

/// The log of a feed, being written.
#[derive(Debug)]
pub struct Log {
    lake: Lake,
    feed: String,
    last: Seq,
    time: Time,
}

/// What became of a snapshot.
#[derive(Debug, PartialEq)]
pub enum Appended {
    /// It is durable, under this number, in so many bytes.
    Durable(Seq, usize),
    /// Another snapshot was first: it belongs before, and this one is to be tried again.
    After(Entry),
    /// Another object was first, and cannot be read: this one is to be tried again.
    AfterDamaged(Seq),
    /// A newer generation writes.
    Superseded(u64),
}

impl Log {
    /// Finds the end of the log of `feed`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn open(lake: &Lake, feed: &str) -> Result<Log, LakeError> {
        let mut log = Log { lake: lake.clone(), feed: feed.to_owned(), last: 0, time: 0 };
        log.find_end().await?;
        Ok(log)
    }

    async fn find_end(&mut self) -> Result<(), LakeError> {
        let listing = self.lake.listing(&self.feed, 0, None).await?;
        if let Some(part) = listing.parts.last() {
            self.last = self.last.max(part.last);
            self.time = self.time.max(self.time_of(part).await?);
        }
        if let Some(last) = listing.logged.last() {
            self.last = self.last.max(*last);
        }
        // The last that can be read says the time.
        for seq in listing.logged.iter().rev() {
            match self.lake.segment(&self.feed, *seq).await {
                Ok(Ok(segment)) => {
                    self.time = self.time.max(segment.entry.time);
                    break;
                }
                Ok(Err(damage)) => {
                    tracing::warn!(object = damage.object, reason = damage.reason, "damaged in the lake")
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The time of the last snapshot of a part; where it cannot be read, the end of its hour.
    async fn time_of(&self, part: &Part) -> Result<Time, LakeError> {
        let end = (part.hour + 1) * HOUR - 1;
        match self.lake.store.get(&part.index(&self.feed)).await {
            Ok(bytes) => Ok(hour::Index::decode(&bytes, part)
                .ok()
                .and_then(|index| index.snapshots.last().map(|snapshot| snapshot.time))
                .unwrap_or(end)),
            Err(error) if error.is_missing() => Ok(end),
            Err(error) => Err(error),
        }
    }

    /// The time of the last snapshot; 0: there is none.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Tries to write `entry` after the last snapshot, at its time or just after that of the last, which is then its
    /// time.
    ///
    /// # Errors
    /// The store is away, refuses or is full: whether it was written is not known, and the same is to be tried again.
    pub async fn append(&mut self, entry: &mut Entry) -> Result<Appended, LakeError> {
        entry.time = entry.time.max(self.time + 1);
        let seq = self.last + 1;
        let segment = Segment { feed: self.feed.clone(), seq, writer: self.lake.writer, entry: entry.clone() };
        let bytes = segment.encode()?;
        let size = bytes.len();
        if self.lake.store.create(&log_object(&self.feed, seq), bytes).await? {
            (self.last, self.time) = (seq, entry.time);
            return Ok(Appended::Durable(seq, size));
        }
        let found = match self.lake.segment(&self.feed, seq).await {
            Ok(found) => found,
            Err(error) if error.is_missing() => {
                // It has become part of an hour in the meantime: others have been here for long.
                self.find_end().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        match found {
            Ok(found) if found == segment => {
                (self.last, self.time) = (seq, entry.time);
                Ok(Appended::Durable(seq, size))
            }
            Ok(found) if found.writer <= self.lake.writer => {
                (self.last, self.time) = (seq, self.time.max(found.entry.time));
                Ok(Appended::After(found.entry))
            }
            Ok(found) => Ok(Appended::Superseded(found.writer)),
            Err(damage) => {
                tracing::warn!(object = damage.object, reason = damage.reason, "damaged in the lake");
                self.last = seq;
                Ok(Appended::AfterDamaged(seq))
            }
        }
    }
}
