//! The groups that a worker holds, and how their results change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::cmp::not_distinct;

use super::cell::State;
use super::finish::{Finish, Finished};
use super::partial::{due, milliseconds};
use super::{Grouping, Part, key_codec};
use crate::checkpoint::{PIECE, pack};
use crate::errors::Outcome;
use crate::held::{Held, Hold, estimate};
use crate::{Diff, Row, Time, Updates};

pub(super) struct Groups {
    grouping: Grouping,
    states: HashMap<Row, State, ahash::RandomState>,
    /// The one that is there with or without rows.
    pinned: Option<Row>,
    finish: Finish,
}

impl Hold for Groups {
    fn held(&self) -> Held {
        let records = self.states.len();
        // A byte of the table tells which places are taken.
        let places = self.states.capacity() * (size_of::<(Row, State)>() + 1);
        let beside = estimate(self.states.iter(), records, |(key, state)| key.heap_size() + state.heap_size());
        Held { records, bytes: places + beside, batches: 1 }
    }
}

impl Groups {
    pub(super) fn new(grouping: &Grouping) -> Self {
        let finish = Finish::new(grouping);
        Groups { grouping: grouping.clone(), states: HashMap::default(), pinned: None, finish }
    }

    /// From now on there is the group of all rows, though there be none.
    pub(super) fn pin(&mut self, time: Time, give: impl FnMut(Outcome)) {
        let (key, state) = (Row::default(), State::new(&self.grouping));
        let new = self.finish.columns(&[(&key, &state)], None);
        self.states.insert(key.clone(), state);
        self.pinned = Some(key);
        send(time, new, 1, give);
    }

    /// Forgets groups, and takes their results back. A group that went and came again may be named more than once.
    pub(super) fn remove(&mut self, time: Time, keys: &[Row], give: impl FnMut(Outcome)) {
        let gone: Vec<(Row, State)> = keys.iter().filter_map(|key| self.states.remove_entry(key)).collect();
        let shown: Vec<_> = gone.iter().filter(|(_, state)| state.rows > 0).map(|(key, state)| (key, state)).collect();
        let old = self.finish.columns(&shown, None);
        send(time, old, -1, give);
    }

    /// Adds what arrived at `time`; `created` is told of new groups.
    pub(super) fn add(
        &mut self,
        time: Time,
        parts: Vec<Part>,
        mut created: impl FnMut(&Part),
        mut give: impl FnMut(Outcome),
    ) {
        let parts = each_once(parts);
        // Groups with a result before and after, only before, only after.
        let (mut both, mut gone, mut come) = (vec![], vec![], vec![]);
        for part in &parts {
            let pinned = self.pinned.as_ref() == Some(&part.key);
            let held = self.states.get(&part.key).map(|state| state.rows);
            let before = held.is_some_and(|rows| pinned || rows > 0);
            let after = pinned || held.unwrap_or(0) + part.state.rows > 0;
            match (before, after) {
                (true, true) => both.push(&part.key),
                (true, false) => gone.push(&part.key),
                (false, true) => come.push(&part.key),
                (false, false) => {}
            }
        }
        let old = self.finish.columns(&self.of(both.iter().chain(&gone)), None);
        for part in &parts {
            match self.states.get_mut(&part.key) {
                Some(held) => held.add(&part.state),
                None => {
                    created(part);
                    self.states.insert(part.key.clone(), part.state.clone());
                }
            }
        }
        let same_keys = (gone.is_empty() && come.is_empty()).then_some(&old);
        let new = self.finish.columns(&self.of(both.iter().chain(&come)), same_keys);
        let unchanged = unchanged(&old, &new, both.len());
        send(time, old.without(unchanged.as_ref()), -1, &mut give);
        send(time, new.without(unchanged.as_ref()), 1, give);
        for part in parts.iter().filter(|part| self.pinned.as_ref() != Some(&part.key)) {
            if self.states.get(&part.key).is_some_and(|state| state.rows <= 0) {
                self.states.remove(&part.key);
            }
        }
    }

    /// All that is held, in writing: what [`add`](Groups::add) makes the same groups of.
    pub(super) fn save(&self) -> Vec<Vec<u8>> {
        let all: Vec<(&Row, &State)> = self.states.iter().filter(|(_, state)| state.rows != 0).collect();
        let piece = |held: &[(&Row, &State)]| {
            let dues = self.dues(held.iter().map(|(key, _)| *key), held.len());
            let parts = held.iter().zip(dues).map(|((key, state), due)| (*key, *state, due));
            pack(&parts.collect::<Vec<_>>())
        };
        all.chunks(PIECE).map(piece).collect()
    }

    /// When the time of each group is past.
    fn dues<'a>(&self, keys: impl Iterator<Item = &'a Row>, len: usize) -> Vec<Time> {
        let Some(age) = self.grouping.expiry else { return vec![Time::MAX; len] };
        let columns = key_codec(&self.grouping).decode(keys).expect("keys of this grouping");
        let times = milliseconds(&columns[age.group]);
        (0..len).map(|row| due(&times, row, age.after_ms)).collect()
    }

    fn of<'a>(&'a self, keys: impl Iterator<Item = &'a &'a Row>) -> Vec<(&'a Row, &'a State)> {
        keys.map(|key| self.states.get_key_value(*key).expect("it is held")).collect()
    }
}

/// What is to be added to each group: it may come in parts from several workers.
fn each_once(parts: Vec<Part>) -> Vec<Part> {
    let mut places: HashMap<Row, usize, ahash::RandomState> = HashMap::default();
    places.reserve(parts.len());
    let mut all: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match places.entry(part.key.clone()) {
            Entry::Occupied(held) => all[*held.get()].state.add(&part.state),
            Entry::Vacant(free) => {
                free.insert(all.len());
                all.push(part);
            }
        }
    }
    all
}

/// Which of the first `count` results are the same before and after; none: no one is, or nobody knows.
fn unchanged(old: &Finished, new: &Finished, count: usize) -> Option<BooleanBuffer> {
    if !old.faults.is_empty() || !new.faults.is_empty() {
        return None;
    }
    let (old, new) = (old.rows.as_ref()?, new.rows.as_ref()?);
    let mut all = BooleanBuffer::new_set(count);
    for (old, new) in old.columns().iter().zip(new.columns()) {
        if !Arc::ptr_eq(old, new) {
            // Where a type cannot be compared, results are taken to differ.
            all = &all & not_distinct(&old.slice(0, count), &new.slice(0, count)).ok()?.values();
        }
    }
    (all.count_set_bits() > 0).then_some(all)
}

impl Finished {
    /// The results but for those of the first that are set.
    fn without(self, unchanged: Option<&BooleanBuffer>) -> Self {
        let (Some(rows), Some(unchanged)) = (&self.rows, unchanged) else { return self };
        let kept = |row: usize| row >= unchanged.len() || !unchanged.value(row);
        let kept = BooleanArray::new(BooleanBuffer::collect_bool(rows.num_rows(), kept), None);
        let rows = filter_record_batch(rows, &kept).expect("as many as rows");
        Finished { rows: Some(rows), ..self }
    }
}

fn send(time: Time, results: Finished, diff: Diff, mut give: impl FnMut(Outcome)) {
    if let Some(rows) = results.rows.filter(|rows| rows.num_rows() > 0) {
        let diffs = Int64Array::from_value(diff, rows.num_rows());
        give(Outcome::Rows(Updates::new(time, rows, diffs)));
    }
    results.faults.into_iter().for_each(|text| give(Outcome::Fault(text, time, diff)));
}
