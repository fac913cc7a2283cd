//! What is to happen at timestamps yet to come.
//!
//! Rows that leave by themselves, groups that expire: the operator keeps them by the timestamp at which
//! they are due, and holds one capability, for the earliest. A capability in the future holds nobody
//! back: the frontier waits for it only when time gets there.

use std::collections::BTreeMap;

use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;

use crate::Time;

/// Items by due timestamp.
#[derive(Debug)]
pub struct Schedule<T> {
    due: BTreeMap<Time, T>,
    hold: Option<Capability<Time>>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Schedule { due: BTreeMap::new(), hold: None }
    }
}

impl<T: Default> Schedule<T> {
    /// What is due at `time`, to add to. `now` is a capability at or before `time`.
    ///
    /// # Panics
    /// If `time` is before `now`.
    pub fn at(&mut self, time: Time, now: &Capability<Time>) -> &mut T {
        if self.hold.as_ref().is_none_or(|hold| *hold.time() > time) {
            self.hold = Some(now.delayed(&time));
        }
        self.due.entry(time).or_default()
    }

    /// The earliest timestamp with something due, if it is closed.
    pub fn next_closed(&mut self, frontier: &MutableAntichain<Time>) -> Option<(Capability<Time>, T)> {
        let entry = self.due.first_entry()?;
        if frontier.less_equal(entry.key()) {
            return None;
        }
        let (time, item) = entry.remove_entry();
        let hold = self.hold.as_ref().expect("held while anything is due");
        let capability = hold.delayed(&time);
        match self.due.first_key_value() {
            Some((next, _)) => self.hold = Some(hold.delayed(next)),
            None => self.hold = None,
        }
        Some((capability, item))
    }

    /// The earliest timestamp with something due.
    pub fn first(&self) -> Option<Time> {
        self.due.first_key_value().map(|(time, _)| *time)
    }

    /// All that is due, the earliest first.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.due.values()
    }

    /// All that is due, with when it is.
    pub fn due(&self) -> impl Iterator<Item = (Time, &T)> {
        self.due.iter().map(|(time, item)| (*time, item))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.due.clear();
        self.hold = None;
    }
}
