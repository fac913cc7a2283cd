//! Reading a feed: its snapshots in their order, from any time on, wherever they are stored by now.
//!
//! A [`Replay`] plans what to read from the names alone, hours before `after` are not even listed; then it reads an hour
//! at a time. At the end it says so, and looks again when it is asked again: so the same reader goes on with what was
//! written since. What the compactor moves under its hands it finds in the other place.

use std::collections::{BTreeMap, VecDeque};

use velib_operators::Time;

use super::hour::Index;
use super::names::{HOUR, folder, log_object};
use super::{Damage, Entry, Lake, LakeError, Part, Seq};

/// What a reader comes upon.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A snapshot.
    Entry(Seq, Entry),
    /// Something that cannot be had any more.
    Damaged(Damage),
}

/// A reader of a feed.
#[derive(Debug)]
pub struct Replay {
    lake: Lake,
    feed: String,
    after: Option<Time>,
    /// The last snapshot that was found, or is known to be lost.
    last: Option<Seq>,
    /// The hour of that, if it was in one.
    hour: Option<u64>,
    plan: VecDeque<Unit>,
    ready: VecDeque<Found>,
    /// An object that was listed and then not there: once it may have been moved.
    missing: Option<String>,
}

/// What is read at a time.
#[derive(Clone, Debug)]
enum Unit {
    Logged(Seq),
    Part(Part),
}

impl Unit {
    fn range(&self) -> (Seq, Seq) {
        match self {
            Unit::Logged(seq) => (*seq, *seq),
            Unit::Part(part) => (part.first, part.last),
        }
    }
}

impl Lake {
    /// Reads the snapshots of `feed` that are later than `after`, all of them without.
    pub fn replay(&self, feed: &str, after: Option<Time>) -> Replay {
        Replay {
            lake: self.clone(),
            feed: feed.to_owned(),
            after,
            last: None,
            hour: after.map(|after| after / HOUR),
            plan: VecDeque::new(),
            ready: VecDeque::new(),
            missing: None,
        }
    }

    /// What is in a part: snapshots, and what of it is damaged.
    pub(super) async fn part(&self, feed: &str, part: &Part) -> Result<Vec<Found>, LakeError> {
        let path = part.index(feed);
        let bytes = self.store.get(&path).await?;
        let index = match Index::decode(&bytes, part) {
            Ok(index) => index,
            Err(reason) => return Ok(vec![Found::Damaged(Damage::new(&path, reason))]),
        };
        self.part_by(feed, part, index).await
    }

    /// The same, by its list.
    pub(super) async fn part_by(&self, feed: &str, part: &Part, index: Index) -> Result<Vec<Found>, LakeError> {
        let mut found: Vec<_> = index.holes(part).into_iter().map(|hole| Found::Damaged(lost(feed, hole))).collect();
        let mut files = vec![];
        for (name, file) in &index.files {
            let path = object_store::path::Path::from(format!("{}/{file}", folder(name, feed, part.hour)));
            match self.store.get(&path).await {
                Ok(bytes) => files.push((name.clone(), path, bytes)),
                // One that is moved takes its list along.
                Err(error) if error.is_missing() && self.store.get(&part.index(feed)).await.is_ok() => {
                    found.push(Found::Damaged(Damage::new(&path, "it is not there")));
                }
                Err(error) => return Err(error),
            }
        }
        let decode = move || {
            let mut entries: BTreeMap<Seq, Entry> = BTreeMap::new();
            let times: BTreeMap<Seq, Time> = index.snapshots.iter().map(|listed| (listed.seq, listed.time)).collect();
            let bare = index.snapshots.iter().filter(|listed| listed.rows.is_empty());
            entries.extend(bare.map(|listed| (listed.seq, Entry { time: listed.time, tables: BTreeMap::new() })));
            for (name, path, bytes) in &files {
                match index.table(name, bytes) {
                    Err(reason) => found.push(Found::Damaged(Damage::new(path, reason))),
                    Ok(tables) => {
                        for (seq, rows) in tables {
                            let entry = || Entry { time: times[&seq], tables: BTreeMap::new() };
                            entries.entry(seq).or_insert_with(entry).tables.insert(name.clone(), rows);
                        }
                    }
                }
            }
            found.extend(entries.into_iter().map(|(seq, entry)| Found::Entry(seq, entry)));
            found
        };
        Ok(tokio::task::spawn_blocking(decode).await.map_err(std::io::Error::other)?)
    }
}

/// Numbers that nothing has.
pub(super) fn lost(feed: &str, (first, last): (Seq, Seq)) -> Damage {
    let reason = match last - first {
        0 => "it is not there".to_owned(),
        more => format!("it is not there, nor are the {more} after it"),
    };
    Damage::new(log_object(feed, first), reason)
}

impl Replay {
    /// The next snapshot or damage; `None` at the end of what there is now. After an error, the same can be asked again.
    ///
    /// # Errors
    /// The store is away.
    pub async fn next(&mut self) -> Result<Option<Found>, LakeError> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(found));
            }
            if self.plan.is_empty() {
                self.look().await?;
            }
            let Some(unit) = self.plan.front().cloned() else { return Ok(None) };
            let found = match self.read(&unit).await {
                Ok(found) => found,
                Err(error) if error.is_missing() => {
                    self.gone(&unit);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.plan.pop_front();
            self.pass(&unit, found);
        }
    }

    /// A unit was listed and is not there: it has been moved, and is looked for again; if it is listed again, it is lost.
    fn gone(&mut self, unit: &Unit) {
        let object = match unit {
            Unit::Logged(seq) => log_object(&self.feed, *seq),
            Unit::Part(part) => part.index(&self.feed),
        };
        if self.missing.replace(object.to_string()) == Some(object.to_string()) {
            self.plan.pop_front();
            self.pass(unit, vec![Found::Damaged(Damage::new(object, "it is listed, and not there"))]);
        } else {
            self.plan.clear();
        }
    }

    async fn read(&self, unit: &Unit) -> Result<Vec<Found>, LakeError> {
        match unit {
            Unit::Part(part) => self.lake.part(&self.feed, part).await,
            Unit::Logged(seq) => Ok(vec![match self.lake.segment(&self.feed, *seq).await? {
                Ok(segment) => Found::Entry(*seq, segment.entry),
                Err(damage) => Found::Damaged(damage),
            }]),
        }
    }

    fn pass(&mut self, unit: &Unit, found: Vec<Found>) {
        let (last, after) = (self.last, self.after);
        self.ready.extend(found.into_iter().filter(|found| match found {
            // A part may begin with what was read from the log before.
            Found::Entry(seq, entry) => {
                last.is_none_or(|last| *seq > last) && after.is_none_or(|after| entry.time > after)
            }
            Found::Damaged(_) => true,
        }));
        self.last = self.last.max(Some(unit.range().1));
        if let Unit::Part(part) = unit {
            self.hour = Some(part.hour);
        }
    }

    /// Plans what there is beyond what was read.
    async fn look(&mut self) -> Result<(), LakeError> {
        let mut before = None;
        loop {
            let (plan, holes) = self.list().await?;
            // While others write, a list may have the second of two new objects and not the first: one that is missing
            // is missing twice.
            if holes.is_empty() || before.as_ref() == Some(&holes) {
                self.ready.extend(holes.into_iter().map(|hole| Found::Damaged(lost(&self.feed, hole))));
                self.plan = plan;
                return Ok(());
            }
            before = Some(holes);
        }
    }

    async fn list(&self) -> Result<(VecDeque<Unit>, Vec<(Seq, Seq)>), LakeError> {
        let read = self.last.unwrap_or_default();
        let listing = self.lake.listing(&self.feed, read, self.hour).await?;
        let parts = listing.parts.into_iter().map(Unit::Part);
        let mut units: Vec<_> = parts.chain(listing.logged.into_iter().map(Unit::Logged)).collect();
        units.sort_by_key(Unit::range);
        let (mut last, mut plan, mut holes) = (self.last, VecDeque::new(), vec![]);
        for unit in units {
            let (first, end) = unit.range();
            if last.is_some_and(|last| end <= last) {
                continue;
            }
            if let Some(last) = last.filter(|last| first > last + 1) {
                holes.push((last + 1, first - 1));
            }
            last = Some(end);
            let before = |part: &Part| self.after.is_some_and(|after| part.is_before(after + 1));
            if !matches!(&unit, Unit::Part(part) if before(part)) {
                plan.push_back(unit);
            }
        }
        Ok((plan, holes))
    }
}
