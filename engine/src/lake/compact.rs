//! Compaction: hours that are over become Parquet, and leave the log.
//!
//! In this order, so that readers have every snapshot once, wherever this ends: the files of the tables, read back and
//! compared; the list, from when on they count and the log is passed over; then, when all of it has been read once
//! more, the objects of the log go. Whoever comes next finds what was begun and finishes it. Two at a time do the same
//! work twice and no harm.
//!
//! A snapshot that comes late for an hour that is files already (a clock went back) makes another file of that hour,
//! with what the last one has as long as there is room: lists that another one covers do not count, and go. Files that
//! no list names are what an interrupted compaction leaves: they go when they are too old to belong to one at work, and
//! only if their snapshots are elsewhere. Else it is their list that was lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::Serialize;
use velib_operators::Time;

use super::hour::{Index, encode};
use super::names::{DAMAGED, HOUR, LOG, SNAPSHOTS, folder, log_object};
use super::read::Found;
use super::segment::{Segment, is_whole};
use super::{Entry, Lake, LakeError, Listing, Part, Seq};
use crate::observe;

/// How long after its end an hour is closed, in milliseconds: what was fetched before may still be on its way.
const GRACE: Time = 120_000;
/// Snapshots of a list, and bytes of their rows in memory: what is beyond goes into another file of the hour.
const PART: (usize, usize) = (20_000, 128 << 20);
/// Objects that are read or removed at a time.
const AT_ONCE: usize = 8;
/// How old a file is that no list names, and no compaction at work will.
pub(super) const LEFT: Duration = Duration::from_secs(3_600);

/// Compacts the feeds of a lake, and removes what is older than it is to be kept.
#[derive(Clone, Debug)]
pub struct Compactor {
    lake: Lake,
    retention: Option<Duration>,
    /// It rests after each file for as long as that took: others work here.
    gentle: bool,
    left: Duration,
    /// Feeds that were looked through for files that no list names.
    swept: BTreeSet<String>,
}

/// What was done to a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Snapshots that came from the log into files.
    pub snapshots: u64,
    /// Lists that were written.
    pub files: u64,
    /// Snapshots that were removed because of their age.
    pub expired: u64,
    /// Files that no list named, removed.
    pub left: u64,
    /// Snapshots in the log, still.
    pub logged: u64,
}

/// Snapshots that become files together.
struct Batch {
    hour: u64,
    range: (Seq, Seq),
    bytes: usize,
    entries: Vec<(Seq, Entry)>,
}

/// The log of a feed, read some objects ahead.
struct Ahead<'a> {
    lake: &'a Lake,
    feed: &'a str,
    rest: VecDeque<Seq>,
    /// None: it cannot be read.
    read: VecDeque<(Seq, Option<Entry>)>,
}

impl Ahead<'_> {
    async fn first(&mut self) -> Result<Option<&(Seq, Option<Entry>)>, LakeError> {
        if self.read.is_empty() {
            let next: Vec<_> = self.rest.drain(..AT_ONCE.min(self.rest.len())).collect();
            let (lake, feed) = (self.lake, self.feed);
            let read = stream::iter(next).map(|seq| logged(lake, feed, seq)).buffered(AT_ONCE);
            self.read = read.try_collect().await?;
        }
        Ok(self.read.front())
    }
}

async fn logged(lake: &Lake, feed: &str, seq: Seq) -> Result<(Seq, Option<Entry>), LakeError> {
    let path = log_object(feed, seq);
    let bytes = lake.store.get(&path).await?;
    match Segment::decode(&bytes) {
        Ok(segment) if segment.seq == seq && segment.feed == feed => Ok((seq, Some(segment.entry))),
        Err(reason) if is_whole(&bytes) => Err(LakeError::Unknown { object: path.to_string(), reason }),
        _ => Ok((seq, None)),
    }
}

/// Bytes of the rows, in memory.
fn bytes(entry: &Entry) -> usize {
    entry.tables.values().map(|rows| rows.get_array_memory_size()).sum()
}

/// What cannot be one table: columns that have changed.
fn fits(batch: &Batch, entry: &Entry) -> bool {
    entry.tables.iter().all(|(name, rows)| {
        let mut before = batch.entries.iter().rev().filter_map(|(_, before)| before.tables.get(name));
        before.next().is_none_or(|before| before.schema() == rows.schema())
    })
}

impl Compactor {
    /// Of a lake that keeps hours for so long; for ever without.
    pub fn new(lake: Lake, retention: Option<Duration>) -> Self {
        Compactor { lake, retention, gentle: false, left: LEFT, swept: BTreeSet::new() }
    }

    /// Looks every `interval` for what there is to do, at half of a core at most, for ever. What fails is told, and
    /// tried again the next time.
    pub async fn run(mut self, interval: Duration, now: impl Fn() -> Time) {
        self.gentle = true;
        loop {
            tokio::time::sleep(interval).await;
            let feeds = match self.lake.feeds().await {
                Ok(feeds) => feeds,
                Err(error) => {
                    tracing::warn!(%error, "the lake cannot be compacted now; tried again");
                    observe::lake::compaction_failed("");
                    continue;
                }
            };
            for feed in feeds {
                match self.feed(&feed, now(), |_| {}).await {
                    Ok(done) => observe::lake::compacted(&feed, &done),
                    Err(error) => {
                        tracing::warn!(feed, %error, "a feed of the lake cannot be compacted now; tried again");
                        observe::lake::compaction_failed(&feed);
                    }
                }
            }
        }
    }

    /// Does all that there is to do for `feed` at this time, and tells `progress` after each file.
    ///
    /// # Errors
    /// The store is away, or an object is of a newer version; what was done is done.
    pub async fn feed(&mut self, feed: &str, now: Time, progress: impl Fn(&Compacted)) -> Result<Compacted, LakeError> {
        let mut done = Compacted::default();
        let listing = self.listing(feed).await?;
        self.finish(feed, &listing).await?;
        let (lake, mut last) = (self.lake.clone(), listing.parts.last().cloned());
        let mut ahead =
            Ahead { lake: &lake, feed, rest: listing.logged.iter().copied().collect(), read: VecDeque::new() };
        loop {
            let began = Instant::now();
            let batch = match gather(&mut ahead, now).await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                // Another one compacts it.
                Err(error) if error.is_missing() => break,
                Err(error) => return Err(error),
            };
            let (from, to) = batch.range;
            let snapshots = batch.entries.len() as u64;
            let (batch, superseded) = self.with_last(feed, batch, last.take()).await?;
            let part = self.write(feed, batch).await?;
            let covered = listing.logged.iter().copied().filter(|seq| (from..=to).contains(seq)).collect();
            self.finish(feed, &Listing { logged: vec![], covered, parts: vec![part.clone()], superseded }).await?;
            last = Some(part);
            (done.snapshots, done.files) = (done.snapshots + snapshots, done.files + 1);
            progress(&done);
            if self.gentle {
                tokio::time::sleep(began.elapsed()).await;
            }
        }
        done.logged = (ahead.rest.len() + ahead.read.len()) as u64;
        done.expired = self.expire(feed, now).await?;
        // A look at every file of the feed: where something was done, and once in any case.
        if done.files + done.expired > 0 || !self.swept.contains(feed) {
            done.left = self.sweep(feed, now).await?;
            self.swept.insert(feed.to_owned());
        }
        Ok(done)
    }

    /// What there is. While others write, a list may have the second of two new objects and not the first: a number
    /// that is missing is missing twice.
    async fn listing(&self, feed: &str) -> Result<Listing, LakeError> {
        let mut before = None;
        loop {
            let listing = self.lake.listing(feed, 0, None).await?;
            let gaps: Vec<_> =
                listing.logged.windows(2).filter(|pair| pair[0] + 1 < pair[1]).map(<[_]>::to_vec).collect();
            if gaps.is_empty() || before.as_ref() == Some(&gaps) {
                return Ok(listing);
            }
            before = Some(gaps);
        }
    }

    /// The batch together with the last part, if that is of the same hour, sound, and there is room; and what the
    /// files then stand for.
    async fn with_last(
        &self,
        feed: &str,
        mut batch: Batch,
        last: Option<Part>,
    ) -> Result<(Batch, Vec<Part>), LakeError> {
        let Some(last) = last.filter(|last| last.hour == batch.hour && last.last + 1 == batch.range.0) else {
            return Ok((batch, vec![]));
        };
        if (batch.range.1 - last.first) as usize >= PART.0 {
            return Ok((batch, vec![]));
        }
        let found = match self.lake.part(feed, &last).await {
            // Another one has covered it, and covers this.
            Err(error) if error.is_missing() => return Ok((batch, vec![])),
            found => found?,
        };
        let mut joined = Batch { entries: vec![], ..batch };
        for found in found {
            match found {
                Found::Entry(seq, entry) if fits(&joined, &entry) => {
                    joined.bytes += bytes(&entry);
                    joined.entries.push((seq, entry));
                }
                // It stays as it is, with what is known of it.
                _ => return Ok((batch, vec![])),
            }
        }
        if joined.bytes > PART.1 || batch.entries.first().is_some_and(|(_, entry)| !fits(&joined, entry)) {
            return Ok((batch, vec![]));
        }
        joined.range.0 = last.first;
        joined.entries.append(&mut batch.entries);
        Ok((joined, vec![last]))
    }

    /// Files of the batch: from now on they stand for it.
    async fn write(&self, feed: &str, batch: Batch) -> Result<Part, LakeError> {
        let name = feed.to_owned();
        let encoding = tokio::task::spawn_blocking(move || {
            let encoded = encode(&name, batch.hour, batch.range, &batch.entries);
            (encoded, batch.entries)
        });
        let (encoded, entries) = encoding.await.map_err(std::io::Error::other)?;
        let (mut files, part) = encoded.map_err(|error| LakeError::Encode(error.to_string()))?;
        let list = files.pop().ok_or_else(|| LakeError::Encode("an hour without a list".to_owned()))?;
        for file in files {
            let path = format!("{}/{}", folder(&file.relation, feed, part.hour), file.name);
            self.lake.store.put(&Path::from(path), file.bytes).await?;
        }
        let index = Index::decode(&list.bytes.clone().into(), &part).map_err(LakeError::Encode)?;
        let found = self.lake.part_by(feed, &part, index).await?;
        let read = found.into_iter().filter_map(|found| match found {
            Found::Entry(seq, entry) => Some((seq, entry)),
            Found::Damaged(_) => None,
        });
        if !read.eq(entries) {
            let range = format!("{} to {}", part.first, part.last);
            return Err(LakeError::Encode(format!("snapshots {range} of {feed} are not read back as written")));
        }
        self.lake.store.put(&part.index(feed), list.bytes).await?;
        Ok(part)
    }

    /// Removes what the parts stand for, when they have been read.
    async fn finish(&self, feed: &str, listing: &Listing) -> Result<(), LakeError> {
        for part in &listing.parts {
            let range = part.first..=part.last;
            let covered: Vec<_> = listing.covered.iter().copied().filter(|seq| range.contains(seq)).collect();
            let superseded: Vec<_> = listing.superseded.iter().filter(|old| part.covers(old)).collect();
            if covered.is_empty() && superseded.is_empty() {
                continue;
            }
            let found = match self.lake.part(feed, part).await {
                // Another one has covered it.
                Err(error) if error.is_missing() => continue,
                found => found?,
            };
            let (mut has, mut broken) = (BTreeSet::new(), None);
            for found in found {
                match found {
                    Found::Entry(seq, _) => drop(has.insert(seq)),
                    // A number that it does not have was not there to be read.
                    Found::Damaged(damage) if damage.object.starts_with(LOG) => {}
                    Found::Damaged(damage) => broken = Some(damage),
                }
            }
            if let Some(damage) = broken {
                tracing::warn!(feed, object = damage.object, reason = damage.reason, "damaged in the lake");
                observe::lake::damaged(feed);
                // If the log has all of it, still: it counts again.
                let logged = self.lake.listing(feed, part.first.saturating_sub(1), None).await?.covered;
                if range.clone().eq(logged.into_iter().take_while(|seq| range.contains(seq))) {
                    self.lake.store.delete(&part.index(feed)).await?;
                }
                continue;
            }
            let removing = stream::iter(covered).map(|seq| {
                let (path, has) = (log_object(feed, seq), has.contains(&seq));
                async move {
                    match has {
                        true => self.lake.store.delete(&path).await,
                        false => match self.lake.store.set_aside(&path, &aside(&path)).await {
                            Err(error) if error.is_missing() => Ok(()),
                            done => done,
                        },
                    }
                }
            });
            removing.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            for old in superseded {
                self.remove(feed, old).await?;
            }
        }
        Ok(())
    }

    /// Removes a part: its list first, so that nobody misses its files.
    async fn remove(&self, feed: &str, part: &Part) -> Result<(), LakeError> {
        let path = part.index(feed);
        let files = match self.lake.store.get(&path).await {
            // Files that it does not name any more are found by `sweep`.
            Ok(bytes) => Index::decode(&bytes, part).map(|index| index.files).unwrap_or_default(),
            Err(error) if error.is_missing() => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        self.lake.store.delete(&path).await?;
        for (relation, file) in files {
            let path = format!("{}/{file}", folder(&relation, feed, part.hour));
            self.lake.store.delete(&Path::from(path)).await?;
        }
        Ok(())
    }

    /// Removes hours that are older than they are to be kept; the last one stays, as its numbers go on. Yields how many
    /// snapshots they had.
    async fn expire(&self, feed: &str, now: Time) -> Result<u64, LakeError> {
        let Some(retention) = self.retention else { return Ok(0) };
        let before = now.saturating_sub(retention.as_millis() as Time);
        let listing = self.lake.listing(feed, Seq::MAX, None).await?;
        let mut snapshots = 0;
        let kept = listing.parts.len().saturating_sub(1);
        for part in listing.parts[..kept].iter().filter(|part| part.is_before(before)) {
            self.remove(feed, part).await?;
            snapshots += part.last - part.first + 1;
        }
        Ok(snapshots)
    }

    /// Removes files that no list names and nobody needs. Yields how many.
    async fn sweep(&self, feed: &str, now: Time) -> Result<u64, LakeError> {
        let before = self.retention.map(|retention| now.saturating_sub(retention.as_millis() as Time));
        let mut removed = 0;
        for file in self.lake.unlisted(feed, self.left).await? {
            if file.elsewhere || before.is_some_and(|before| file.part.is_before(before)) {
                self.lake.store.delete(&file.path).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A file of a table that no list names.
pub(super) struct Unlisted {
    pub(super) path: Path,
    /// As its name says.
    pub(super) part: Part,
    /// Its snapshots are in the log or in other files. Else its list is what is missing.
    pub(super) elsewhere: bool,
}

/// Where an object of the log goes that cannot be read.
fn aside(path: &Path) -> Path {
    Path::from(format!("{DAMAGED}/{path}"))
}

/// The next snapshots of one closed hour, as many as become files together.
async fn gather(ahead: &mut Ahead<'_>, now: Time) -> Result<Option<Batch>, LakeError> {
    let (mut batch, mut from) = (None::<Batch>, None);
    while let Some((seq, entry)) = ahead.first().await? {
        let seq = *seq;
        match (entry, &mut batch) {
            (Some(entry), _) if (entry.time / HOUR + 1) * HOUR + GRACE > now => break,
            (Some(entry), Some(batch)) => {
                let (hour, size) = (entry.time / HOUR, bytes(entry));
                let full = batch.entries.len() >= PART.0 || batch.bytes + size > PART.1;
                if hour != batch.hour || full || !fits(batch, entry) {
                    break;
                }
                batch.bytes += size;
                batch.range.1 = seq;
                batch.entries.push((seq, entry.clone()));
            }
            (Some(entry), none) => {
                let range = (from.unwrap_or(seq), seq);
                let (hour, bytes) = (entry.time / HOUR, bytes(entry));
                *none = Some(Batch { hour, range, bytes, entries: vec![(seq, entry.clone())] });
            }
            // What cannot be read goes with what is before it, or else after it.
            (None, Some(batch)) => batch.range.1 = seq,
            (None, None) => from = from.or(Some(seq)),
        }
        ahead.read.pop_front();
    }
    Ok(batch)
}

impl Lake {
    /// The files of tables of `feed` that no list names. Those whose snapshots are elsewhere may belong to a compaction
    /// at work, and are told if they are of that age.
    pub(super) async fn unlisted(&self, feed: &str, age: Duration) -> Result<Vec<Unlisted>, LakeError> {
        let mut files = vec![];
        let taken = [LOG, SNAPSHOTS, DAMAGED];
        for relation in self.store.folders(None).await?.into_iter().filter(|name| !taken.contains(&name.as_str())) {
            for object in self.store.list(&Path::from(format!("{relation}/feed={feed}")), None).await? {
                files.extend(Part::parse(&object.path).map(|part| (relation.clone(), part, object)));
            }
        }
        // After the files: a list that has come meanwhile is seen.
        let Listing { logged, parts, superseded, .. } = self.listing(feed, 0, None).await?;
        let lists: BTreeMap<_, _> = parts.iter().chain(&superseded).map(|part| (part.range(), part)).collect();
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for (relation, part, _) in &files {
            *counts.entry((relation.clone(), part.range())).or_default() += 1;
        }
        let mut unlisted = vec![];
        for (relation, part, object) in files {
            if let Some(list) = lists.get(&part.range()) {
                // Of two of the same range the list says which.
                if counts[&(relation.clone(), part.range())] == 1 {
                    continue;
                }
                let Ok(index) = Index::decode(&self.store.get(&list.index(feed)).await?, list) else { continue };
                if index.files.get(&relation).map(String::as_str) == object.path.filename() {
                    continue;
                }
            }
            let next = logged.partition_point(|seq| *seq < part.first);
            let elsewhere = parts.iter().any(|other| other.first <= part.last && part.first <= other.last)
                || logged.get(next).is_some_and(|seq| *seq <= part.last);
            if !elsewhere || object.is_older_than(age) {
                unlisted.push(Unlisted { path: object.path, part, elsewhere });
            }
        }
        Ok(unlisted)
    }
}

#[cfg(test)]
mod tests;
