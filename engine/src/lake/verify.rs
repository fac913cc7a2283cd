//! What a lake has, and whether it is as it was written.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::Serialize;
use velib_operators::Time;

use super::compact::LEFT;
use super::log::Log;
use super::names::{DAMAGED, HOUR, LOG, Part, SNAPSHOTS, log_folder, log_seq};
use super::read::Found;
use super::{Damage, Lake, LakeError, Seq};

/// Findings of a feed that are named; the rest is counted.
const NAMED: usize = 1_000;

/// A feed as the lake has it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub feed: String,
    /// Milliseconds since 1970: the beginning of its first hour, or its first snapshot where none is over.
    pub from: Option<Time>,
    /// The time of the last snapshot.
    pub to: Option<Time>,
    /// Hours that are files.
    pub hours: u64,
    /// Files of those, lists among them, and their bytes.
    pub files: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Snapshots in the log.
    pub logged: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Objects that were put aside as unreadable.
    pub damaged: u64,
}

/// Some snapshots of an hour that are files.
#[derive(Clone, Debug, Serialize)]
pub struct Hour {
    /// Its beginning, in milliseconds since 1970.
    pub hour: Time,
    /// The first snapshot.
    pub first: Seq,
    /// The last snapshot.
    pub last: Seq,
    /// The file that lists them.
    pub list: String,
}

/// What was read of a feed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Its name.
    pub feed: String,
    /// Snapshots that can be had.
    pub snapshots: u64,
    /// What is wrong, at most 1,000 of it.
    pub findings: Vec<Finding>,
    /// How much more is.
    pub more: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name in the lake.
    pub object: String,
    /// What about it.
    pub reason: String,
    /// What to do.
    pub remedy: &'static str,
}

impl From<Damage> for Finding {
    fn from(Damage { object, reason }: Damage) -> Self {
        let remedy = match object.split('/').next() {
            _ if reason.contains("not known to this version") => "a newer velib wrote it, and reads it",
            Some(LOG) => {
                "restore it, from a backup or an older version in the bucket; else its snapshot is lost, the rest is read"
            }
            Some(SNAPSHOTS) => "restore it; without it the files of its hour with these numbers are not read",
            _ => "restore it; else its rows are lost to new jobs, those of other relations are read",
        };
        Finding { object, reason, remedy }
    }
}

impl Verified {
    fn add(&mut self, finding: Finding) {
        match self.findings.len() < NAMED {
            true => self.findings.push(finding),
            false => self.more += 1,
        }
    }
}

impl Lake {
    /// What there is of a feed, by the names of its objects.
    ///
    /// # Errors
    /// The store is away.
    pub async fn summary(&self, feed: &str) -> Result<Summary, LakeError> {
        let listing = self.listing(feed, 0, None).await?;
        let mut sizes = BTreeMap::new();
        for folder in self.store.folders(None).await? {
            let below = match folder.as_str() {
                DAMAGED => format!("{DAMAGED}/{LOG}/feed={feed}"),
                _ => format!("{folder}/feed={feed}"),
            };
            let kind = if [LOG, DAMAGED].contains(&folder.as_str()) { folder } else { String::new() };
            let size: &mut (u64, u64) = sizes.entry(kind).or_default();
            for object in self.store.list(&Path::from(below), None).await? {
                *size = (size.0 + 1, size.1 + object.bytes);
            }
        }
        let size = |kind: &str| sizes.get(kind).copied().unwrap_or_default();
        let mut hours: Vec<_> = listing.parts.iter().map(|part| part.hour).collect();
        hours.dedup();
        let from = match (hours.first(), listing.logged.first()) {
            (Some(hour), _) => Some(hour * HOUR),
            (None, Some(seq)) => self.segment(feed, *seq).await?.ok().map(|segment| segment.entry.time),
            (None, None) => None,
        };
        let to = Some(Log::open(self, feed).await?.time()).filter(|time| *time > 0);
        let ((files, file_bytes), (logged, log_bytes), (damaged, _)) = (size(""), size(LOG), size(DAMAGED));
        let feed = feed.to_owned();
        Ok(Summary { feed, from, to, hours: hours.len() as u64, files, file_bytes, logged, log_bytes, damaged })
    }

    /// The hours of a feed that are files.
    ///
    /// # Errors
    /// The store is away.
    pub async fn hours(&self, feed: &str) -> Result<Vec<Hour>, LakeError> {
        let parts = self.listing(feed, Seq::MAX, None).await?.parts;
        let hour = |part: Part| {
            let list = part.index(feed).to_string();
            Hour { hour: part.hour * HOUR, first: part.first, last: part.last, list }
        };
        Ok(parts.into_iter().map(hour).collect())
    }

    /// Reads all that there is of a feed, as a job does, and names what it does not get; and what lies about. Tells
    /// `progress` how many snapshots were read.
    ///
    /// # Errors
    /// The store is away.
    pub async fn verify(&self, feed: &str, progress: impl Fn(u64)) -> Result<Verified, LakeError> {
        let mut verified = Verified { feed: feed.to_owned(), ..Verified::default() };
        let mut replay = self.replay(feed, None);
        while let Some(found) = replay.next().await? {
            match found {
                Found::Entry(..) => {
                    verified.snapshots += 1;
                    progress(verified.snapshots);
                }
                Found::Damaged(damage) => verified.add(damage.into()),
            }
        }
        let remedy = "it is not of the lake: put it elsewhere";
        for object in self.store.list(&log_folder(feed), None).await? {
            if log_seq(&object.path).is_none() {
                let (object, reason) = (object.path.to_string(), "its name is not that of a snapshot".to_owned());
                verified.add(Finding { object, reason, remedy });
            }
        }
        for file in self.unlisted(feed, LEFT).await? {
            let (reason, remedy) = match file.elsewhere {
                true => {
                    ("no list of snapshots names it", "`velib lake compact` removes it: an interrupted one has left it")
                }
                false => (
                    "the list of its snapshots is not there",
                    "restore the file of the same numbers below snapshots/; without it no job reads these rows",
                ),
            };
            verified.add(Finding { object: file.path.to_string(), reason: reason.to_owned(), remedy });
        }
        Ok(verified)
    }
}
