//! Holds what arrives until its timestamp is closed.
//!
//! Input comes in any order of timestamps and in many pieces. An operator with state wants each timestamp
//! once, whole, in order: it puts pieces here, and takes timestamps out as the frontier passes them.

use std::collections::BTreeMap;

use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use crate::Time;

/// Pieces by timestamp, each timestamp with the right to answer at it.
#[derive(Debug)]
pub struct Stash<T> {
    pending: BTreeMap<Time, (Capability<Time>, Vec<T>)>,
}

impl<T> Default for Stash<T> {
    fn default() -> Self {
        Stash { pending: BTreeMap::new() }
    }
}

impl<T> Stash<T> {
    /// Adds `items` at `time`; `capability` is asked for at the first of a timestamp.
    pub fn put(&mut self, time: Time, items: &mut Vec<T>, capability: impl FnOnce() -> Capability<Time>) {
        let (_, held) = self.pending.entry(time).or_insert_with(|| (capability(), Vec::new()));
        if held.is_empty() {
            std::mem::swap(held, items);
        } else {
            held.append(items);
        }
    }

    /// The earliest timestamp held.
    pub fn first(&self) -> Option<Time> {
        self.pending.first_key_value().map(|(time, _)| *time)
    }

    /// What is held of the earliest timestamp, if it `may` be had.
    pub fn next(&mut self, may: impl FnOnce(Time) -> bool) -> Option<(Capability<Time>, Vec<T>)> {
        let entry = self.pending.first_entry()?;
        may(*entry.key()).then(|| entry.remove())
    }

    /// The earliest timestamp held, if it is closed.
    pub fn next_closed(&mut self, frontier: &MutableAntichain<Time>) -> Option<(Capability<Time>, Vec<T>)> {
        let entry = self.pending.first_entry()?;
        if frontier.less_equal(entry.key()) {
            return None;
        }
        Some(entry.remove())
    }
}
