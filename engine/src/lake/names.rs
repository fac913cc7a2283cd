//! Names in the lake: of feeds, of the objects of their logs, of the files of their hours.
//!
//! ```text
//! log/feed=<name>/<seq>.arrow                                             a snapshot
//! <relation>/feed=<name>/date=YYYY-MM-DD/hour=HH/<first>-<last>-<sum>.parquet   rows of an hour's snapshots
//! snapshots/feed=<name>/date=…/hour=…/<first>-<last>-<sum>.parquet        which snapshots these were
//! ```
//!
//! Numbers have 20 digits, so that names sort as they do; `<sum>` is the beginning of the SHA-256 of the file.

use chrono::{DateTime, NaiveDate};
use object_store::path::Path;
use sha2::{Digest, Sha256};
use velib_operators::Time;

use super::Seq;

/// Milliseconds of an hour.
pub const HOUR: Time = 3_600_000;
/// The folder of the logs.
pub const LOG: &str = "log";
/// The relation that lists the snapshots of an hour: what it does not list is not there.
pub const SNAPSHOTS: &str = "snapshots";
/// The folder of the checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// Where unreadable objects of logs go.
pub const DAMAGED: &str = "damaged";
/// The readable part of a feed's name is no longer.
const READABLE: usize = 48;
/// Hexadecimal digits of a checksum in the name of a file.
const SUM: usize = 16;

/// The name of a feed: from its address (host and path, without its query, where keys are kept), and a hash of
/// all that makes it another feed than others of the same address.
pub fn feed_name(address: &str, identity: &str) -> String {
    let mut readable = String::new();
    for c in address.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' | '.' => readable.push(c),
            _ if !readable.is_empty() && !readable.ends_with('-') => readable.push('-'),
            _ => {}
        }
        if readable.len() >= READABLE {
            break;
        }
    }
    format!("{}-{}", readable.trim_matches(['-', '.']), &sum(identity.as_bytes())[..8])
}

/// The beginning of the SHA-256 of `bytes`.
pub fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(SUM / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// The folder of a feed's log.
pub fn log_folder(feed: &str) -> Path {
    Path::from(format!("{LOG}/feed={feed}"))
}

/// A snapshot in the log.
pub fn log_object(feed: &str, seq: Seq) -> Path {
    Path::from(format!("{LOG}/feed={feed}/{seq:020}.arrow"))
}

/// The number of a snapshot in the log, by its name.
pub fn log_seq(path: &Path) -> Option<Seq> {
    path.filename()?.strip_suffix(".arrow").filter(|seq| seq.len() == 20)?.parse().ok()
}

/// Some snapshots of an hour, in Parquet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Hours since 1970.
    pub hour: u64,
    /// The first snapshot.
    pub first: Seq,
    /// The last snapshot.
    pub last: Seq,
    /// The checksum of the file that lists them.
    pub sum: String,
}

impl Part {
    /// Where it is: other parts of the same differ in their sums only.
    pub fn range(&self) -> (u64, Seq, Seq) {
        (self.hour, self.first, self.last)
    }

    /// All that `other` has, and more.
    pub fn covers(&self, other: &Part) -> bool {
        self.first <= other.first && other.last <= self.last && self != other
    }

    /// The snapshots are all older than that.
    pub fn is_before(&self, time: Time) -> bool {
        (self.hour + 1).saturating_mul(HOUR) <= time
    }

    /// The file that lists the snapshots.
    pub fn index(&self, feed: &str) -> Path {
        Path::from(format!("{}/{}", folder(SNAPSHOTS, feed, self.hour), file(self.first, self.last, &self.sum)))
    }

    /// By the name of its file.
    pub fn parse(path: &Path) -> Option<Part> {
        let parts: Vec<_> = path.parts().collect();
        let [.., date, hour, name] = &parts[..] else { return None };
        let date: NaiveDate = date.as_ref().strip_prefix("date=")?.parse().ok()?;
        let hour: u32 = hour.as_ref().strip_prefix("hour=")?.parse().ok()?;
        let begin = date.and_hms_opt(hour, 0, 0)?.and_utc().timestamp();
        let mut name = name.as_ref().strip_suffix(".parquet")?.split('-');
        let (first, last, sum) = (name.next()?.parse().ok()?, name.next()?.parse().ok()?, name.next()?.to_owned());
        Some(Part { hour: u64::try_from(begin).ok()? / 3_600, first, last, sum })
    }
}

/// The folder of a relation's files of an hour.
pub fn folder(relation: &str, feed: &str, hour: u64) -> String {
    let begin = i64::try_from(hour * 3_600).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    // The years that a timestamp can have are fewer than those of the calendar.
    format!("{relation}/feed={feed}/{}", begin.unwrap_or_default().format("date=%Y-%m-%d/hour=%H"))
}

/// A file of an hour.
pub fn file(first: Seq, last: Seq, sum: &str) -> String {
    format!("{first:020}-{last:020}-{sum}.parquet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_named_after_its_address_and_never_after_its_key() {
        let name = feed_name("Velib-Metropole.example/opendata//gbfs.json", "https://u:p@x/?key=secret");
        assert_eq!(
            name,
            format!("velib-metropole.example-opendata-gbfs.json-{}", &sum(b"https://u:p@x/?key=secret")[..8])
        );
        assert_ne!(feed_name("a", "1"), feed_name("a", "2"));
        assert!(feed_name(&"long".repeat(100), "").len() < 64);
    }

    #[test]
    fn names_of_objects_say_what_is_in_them() {
        assert_eq!(log_seq(&log_object("f", 42)), Some(42));
        assert_eq!(log_seq(&Path::from("log/feed=f/x.arrow")), None);
        let part = Part { hour: 480_775, first: 1, last: 60, sum: "0123456789abcdef".into() };
        let path = part.index("f");
        assert_eq!(
            path.as_ref(),
            "snapshots/feed=f/date=2024-11-05/hour=07/00000000000000000001-00000000000000000060-0123456789abcdef.parquet"
        );
        assert_eq!(Part::parse(&path), Some(part));
        assert_eq!(Part::parse(&Path::from("snapshots/feed=f/date=2024-11-05/hour=25/1-2-3.parquet")), None);
    }
}
