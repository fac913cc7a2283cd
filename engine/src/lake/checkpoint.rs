//! Checkpoints: what a job held when its time had come so far.
//!
//! ```text
//! checkpoints/job=<name>/<upper>.ckpt
//! ```
//!
//! One object each, written whole and never changed: a word and the format, what it says; it is
//! [sealed](super::seal).
//! It counts when it is there. Numbers have 20 digits, so that names sort as they do.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use velib_operators::{Saved, Time};

use super::names::CHECKPOINTS;
use super::seal::{End, open, seal};
use super::{Lake, LakeError};
use crate::timeline::{Position, SourcePosition};

/// What comes first: the number is that of the format, and of the format of states.
const BEGIN: &[u8; 8] = b"VELIBCK1";
const END: &End = b"VELIBEND";

/// What a checkpoint is of: another job, or another plan, cannot go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// When the job was first submitted, in milliseconds.
    pub created_ms: i64,
    /// What its sources are, by name: a hash, as some name secrets.
    pub sources: BTreeMap<String, String>,
    /// The operators that save, by number.
    pub operators: BTreeSet<u64>,
    /// The views whose rows are only ever added, by index.
    pub appended: BTreeSet<usize>,
}

/// The state of a job.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What it is of.
    pub owner: Owner,
    /// How far its time had come.
    pub position: Position,
    /// What its operators held.
    pub saved: Vec<Saved>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    owner: Owner,
    upper: Time,
    as_of: Time,
    sources: BTreeMap<String, WrittenSource>,
    saved: Vec<Saved>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSource {
    last: Time,
    /// Arrow IPC streams, by relation.
    tables: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// As bytes.
    ///
    /// # Errors
    /// Tables that Arrow IPC cannot hold.
    pub fn encode(self) -> Result<Vec<u8>, LakeError> {
        let wrong = |error: ArrowError| LakeError::Encode(error.to_string());
        let sources = self.position.sources.into_iter().map(|(name, source)| {
            let tables = source.tables.into_iter().map(|(relation, rows)| Ok((relation, to_ipc(&rows)?)));
            let tables = tables.collect::<Result<_, ArrowError>>()?;
            Ok((name, WrittenSource { last: source.last, tables }))
        });
        let sources = sources.collect::<Result<_, ArrowError>>().map_err(wrong)?;
        let (upper, as_of) = (self.position.upper, self.position.as_of);
        let written = Written { owner: self.owner, upper, as_of, sources, saved: self.saved };
        let bytes =
            postcard::to_extend(&written, BEGIN.to_vec()).map_err(|error| LakeError::Encode(error.to_string()))?;
        Ok(seal(bytes, END))
    }

    /// What `bytes` say.
    ///
    /// # Errors
    /// In words: they are cut short, altered, or of a format that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
        let said = open(bytes, END)?.strip_prefix(BEGIN).ok_or("its format is not known to this version")?;
        let written: Written = postcard::from_bytes(said).map_err(|error| format!("it cannot be read: {error}"))?;
        let sources = written.sources.into_iter().map(|(name, source)| {
            let tables = source.tables.into_iter().map(|(relation, bytes)| Ok((relation, from_ipc(&bytes)?)));
            Ok((name, SourcePosition { last: source.last, tables: tables.collect::<Result<_, ArrowError>>()? }))
        });
        let sources =
            sources.collect::<Result<_, ArrowError>>().map_err(|error| format!("it cannot be read: {error}"))?;
        let position = Position { upper: written.upper, as_of: written.as_of, sources };
        Ok(Checkpoint { owner: written.owner, position, saved: written.saved })
    }
}

impl Lake {
    /// Writes a checkpoint of `job`, as [encoded](Checkpoint::encode), and lets go of all but the last `keep`, and of
    /// the last that is no further than its tables, which are at `shown`.
    ///
    /// # Errors
    /// The store is away, refuses, or is full.
    pub async fn save(
        &self,
        job: &str,
        upper: Time,
        bytes: Vec<u8>,
        keep: usize,
        shown: Time,
    ) -> Result<(), LakeError> {
        self.store.put(&object(job, upper), bytes).await?;
        let all = self.uppers(job).await?;
        // Those that are further are of a time that has been taken back with the tables.
        let (before, beyond): (Vec<_>, Vec<_>) = all.into_iter().partition(|other| *other <= upper);
        let old = before.len().saturating_sub(keep.max(1));
        let of_use = before.iter().rev().find(|upper| **upper <= shown).copied();
        for upper in before.into_iter().take(old).filter(|upper| Some(*upper) != of_use).chain(beyond) {
            self.store.delete(&object(job, upper)).await?;
        }
        Ok(())
    }

    /// The last checkpoint of `job` that is no further than `shown` and that `owner` can go on from. What is in
    /// the way is said in the log.
    ///
    /// # Errors
    /// The store is away.
    pub async fn checkpoint(&self, job: &str, owner: &Owner, shown: Time) -> Result<Option<Checkpoint>, LakeError> {
        let uppers = self.uppers(job).await?;
        for upper in uppers.into_iter().rev().filter(|upper| *upper <= shown) {
            let path = object(job, upper);
            let bytes = self.store.get(&path).await?;
            match Checkpoint::decode(&bytes) {
                Ok(checkpoint) if checkpoint.owner == *owner => return Ok(Some(checkpoint)),
                Ok(_) => {
                    tracing::info!(
                        job,
                        "its plan or a source is another than in its checkpoints: it begins with its history"
                    );
                    return Ok(None);
                }
                Err(reason) => tracing::warn!(job, object = %path, reason, "a checkpoint is of no use"),
            }
        }
        Ok(None)
    }

    /// Lets go of all checkpoints of `job`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget(&self, job: &str) -> Result<(), LakeError> {
        for upper in self.uppers(job).await? {
            self.store.delete(&object(job, upper)).await?;
        }
        Ok(())
    }

    async fn uppers(&self, job: &str) -> Result<Vec<Time>, LakeError> {
        let found = self.store.list(&folder(job), None).await?;
        let upper = |path: &Path| path.filename()?.strip_suffix(".ckpt")?.parse().ok();
        Ok(found.iter().filter_map(|object| upper(&object.path)).collect())
    }
}

fn folder(job: &str) -> Path {
    Path::from_iter([CHECKPOINTS, &format!("job={job}")])
}

fn object(job: &str, upper: Time) -> Path {
    folder(job).join(format!("{upper:020}.ckpt"))
}

fn to_ipc(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let packed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(vec![], &rows.schema(), packed)?;
    writer.write(rows)?;
    writer.into_inner()
}

fn from_ipc(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::entry;

    fn checkpoint(upper: Time) -> Checkpoint {
        let owner = Owner {
            created_ms: 5,
            sources: [("feed".to_owned(), "of a city".to_owned())].into(),
            operators: [1, 2].into(),
            appended: [0].into(),
        };
        let tables = entry(1_000, &[("a", 1), ("b", 2)], Some(&[])).tables;
        let sources = [("feed".to_owned(), SourcePosition { last: 7, tables })].into();
        let saved = vec![Saved { operator: 1, bytes: vec![1, 2, 3] }];
        Checkpoint { owner, position: Position { upper, as_of: upper - 1, sources }, saved }
    }

    #[test]
    fn what_is_written_is_read_and_what_was_altered_is_noticed() {
        let bytes = checkpoint(10).encode().unwrap();
        let read = Checkpoint::decode(&bytes).unwrap();
        assert_eq!((read.owner, read.saved, read.position), {
            let as_written = checkpoint(10);
            (as_written.owner, as_written.saved, as_written.position)
        });
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            assert!(Checkpoint::decode(&altered).is_err(), "byte {at}");
            assert!(Checkpoint::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }

    #[tokio::test]
    async fn the_last_one_that_fits_is_found_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap()).unwrap();
        let owner = checkpoint(1).owner;
        for upper in [10, 20, 30, 40] {
            lake.save("j", upper, checkpoint(upper).encode().unwrap(), 3, upper).await.unwrap();
        }
        let found = async |shown| lake.checkpoint("j", &owner, shown).await.unwrap().map(|found| found.position.upper);
        assert_eq!((found(100).await, found(39).await, found(19).await), (Some(40), Some(30), None));

        // Half written, or of a version to come: the one before it.
        let path = folder.path().join("checkpoints/job=j/00000000000000000040.ckpt");
        std::fs::write(&path, b"VELIBCK2 and so on, which is a format that is not known to this version").unwrap();
        assert_eq!(found(100).await, Some(30));
        // Of another plan: none.
        let other = Owner { operators: [3].into(), ..owner.clone() };
        assert!(lake.checkpoint("j", &other, 100).await.unwrap().is_none());
        // The tables went back: so do the checkpoints.
        lake.save("j", 25, checkpoint(25).encode().unwrap(), 3, 25).await.unwrap();
        assert_eq!(found(100).await, Some(25));
        // The tables stay where they are for long: so does what they can go on from.
        for upper in [30, 40, 50, 60] {
            lake.save("j", upper, checkpoint(upper).encode().unwrap(), 2, 26).await.unwrap();
        }
        assert_eq!((found(26).await, found(45).await, found(100).await), (Some(25), Some(25), Some(60)));
        lake.forget("j").await.unwrap();
        assert_eq!(found(100).await, None);
    }
}
