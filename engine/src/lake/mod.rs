//! The lake: every snapshot of every live feed, durable before anybody sees it, in one order a feed.
//!
//! A feed has a **log**: one object a snapshot, numbered from 1 ([`segment`]). The number is taken by creating the
//! object, which a store does for one writer only ([`log`]): whoever finds it taken reads what is there and knows that
//! it is not alone. When an hour is over, its snapshots become Parquet files that other programs read as they are
//! ([`hour`], [`compact`]), and the objects of the log go. [`read`] puts the two together again: a feed is the sequence
//! of its snapshots from any time on, exactly as they were handed out.
//!
//! Beside the feeds are the [checkpoints](checkpoint) of jobs.
//!
//! A file that lists the snapshots of an hour is what makes the other files of the hour count; it is written last.
//! So a crash at any point leaves either the log, or the files, or both, and readers leave out of the log what the
//! files have.
//!
//! Invariants: an [`Entry`] is tables by name, and what they mean is their source's business; times within a feed are
//! strictly increasing, as numbers are; an object that was written never changes; each has a checksum, and one that
//! does not match is named and passed over, never believed and never fatal.

pub mod checkpoint;
pub mod compact;
mod error;
mod hour;
pub mod log;
mod names;
pub mod read;
mod seal;
mod segment;
mod store;
pub mod verify;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use object_store::path::Path;
use velib_operators::Time;

pub use self::error::{Damage, LakeError};
pub use self::names::feed_name;
use self::names::{LOG, Part, SNAPSHOTS, log_folder, log_object, log_seq};
use self::segment::Segment;
use self::store::Store;

/// The number of a snapshot in its feed, from 1.
pub type Seq = u64;

/// Names that tables cannot have: they are taken by the lake itself.
const TAKEN: [&str; 4] = [names::LOG, names::SNAPSHOTS, names::DAMAGED, names::CHECKPOINTS];

/// A snapshot as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub time: Time,
    /// Its tables, by name. One that is not there was not part of the snapshot; one without rows was.
    pub tables: BTreeMap<String, RecordBatch>,
}

/// A lake, and who writes to it.
#[derive(Clone, Debug)]
pub struct Lake {
    store: Store,
    /// The generation: of two that write to one log, the newer one goes on.
    writer: u64,
}

/// What there is of a feed, as listed.
#[derive(Clone, Debug, Default)]
struct Listing {
    /// Snapshots in the log that no part has.
    logged: Vec<Seq>,
    /// Snapshots in the log that a part has.
    covered: Vec<Seq>,
    /// In order, none of them covered by another.
    parts: Vec<Part>,
    /// Parts that others cover.
    superseded: Vec<Part>,
}

impl Lake {
    /// Opens the lake at a path, `file://…`, `s3://bucket/prefix` or `gs://bucket/prefix`; the object stores take
    /// credentials from the environment, from files, or from the role of the machine.
    ///
    /// # Errors
    /// It is no such address, or the folder cannot be made. Whether the store answers is not tried.
    pub fn open(url: &str) -> Result<Lake, LakeError> {
        Ok(Lake { store: Store::open(url)?, writer: 0 })
    }

    /// The same, written by a generation.
    pub fn written_by(&self, writer: u64) -> Lake {
        Lake { writer, ..self.clone() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// The name under which the table of a relation is stored: its own, unless that is taken or empty.
    pub fn table_name(relation: &str) -> String {
        match relation {
            "" => "rows".to_owned(),
            taken if TAKEN.contains(&taken) => format!("{taken}_"),
            name => name.to_owned(),
        }
    }

    /// The feeds that it has, by name.
    ///
    /// # Errors
    /// The store is away.
    pub async fn feeds(&self) -> Result<Vec<String>, LakeError> {
        let mut feeds = vec![];
        for folder in [LOG, SNAPSHOTS] {
            let found = self.store.folders(Some(&Path::from(folder))).await?;
            feeds.extend(found.iter().filter_map(|name| name.strip_prefix("feed=")).map(str::to_owned));
        }
        feeds.sort();
        feeds.dedup();
        Ok(feeds)
    }

    /// What there is of a feed: of the log what is after `last`, of the hours those from `hour` on.
    ///
    /// The log is listed first: what is moved to an hour meanwhile is then seen twice, and not never.
    async fn listing(&self, feed: &str, last: Seq, hour: Option<u64>) -> Result<Listing, LakeError> {
        let after = log_object(feed, last);
        let logged = self.store.list(&log_folder(feed), Some(&after)).await?;
        let folder = Path::from(format!("{SNAPSHOTS}/feed={feed}"));
        let from = hour.map(|hour| Path::from(names::folder(SNAPSHOTS, feed, hour)));
        let found = self.store.list(&folder, from.as_ref()).await?;
        let mut all: Vec<Part> = found.iter().filter_map(|object| Part::parse(&object.path)).collect();
        // Of two of the same range, the first by name.
        all.sort_by(|a, b| {
            (a.first, std::cmp::Reverse(a.last), &a.sum).cmp(&(b.first, std::cmp::Reverse(b.last), &b.sum))
        });
        let (mut parts, mut superseded) = (Vec::<Part>::new(), vec![]);
        for part in all {
            match parts.last() {
                Some(before) if before.covers(&part) => superseded.push(part),
                _ => parts.push(part),
            }
        }
        let in_part = |seq: &Seq| {
            let next = parts.partition_point(|part| part.last < *seq);
            parts.get(next).is_some_and(|part| part.first <= *seq)
        };
        let (covered, logged) = logged.iter().filter_map(|object| log_seq(&object.path)).partition(in_part);
        Ok(Listing { logged, covered, parts, superseded })
    }

    /// Reads a snapshot of the log.
    async fn segment(&self, feed: &str, seq: Seq) -> Result<Result<Segment, Damage>, LakeError> {
        let path = log_object(feed, seq);
        let bytes = self.store.get(&path).await?;
        let read = Segment::decode(&bytes).and_then(|segment| match segment.seq == seq && segment.feed == feed {
            true => Ok(segment),
            false => Err(format!("it is snapshot {} of {}", segment.seq, segment.feed)),
        });
        Ok(read.map_err(|reason| Damage::new(&path, reason)))
    }
}

#[cfg(test)]
mod tests;
