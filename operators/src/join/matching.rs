//! What a worker holds of a join, and what a timestamp does to it.

use std::collections::HashMap;
use std::ops::Range;

use differential_dataflow::consolidation::consolidate;

use super::group::{Group, count, sweep};
use super::output::{BATCH, Output, Pair};
use super::{Kind, On, Part, Side};
use crate::errors::Outcome;
use crate::held::{Held, Hold, estimate};
use crate::{Diff, Row, Time};

/// The rows that this worker holds, and what it sends.
pub(super) struct Matching {
    kind: Kind,
    groups: HashMap<Row, Group, ahash::RandomState>,
    output: Output,
    pairs: Vec<Pair>,
    /// Rows of the left and of the right side that come out by themselves.
    single: [Vec<(Row, Diff)>; 2],
}

/// A key whose rows have changed, until it is known which of its pairs meet the residual condition.
struct Changed<'a> {
    key: &'a Row,
    left: &'a [Part],
    right: &'a [Part],
    pairs: Range<usize>,
}

impl Matching {
    pub fn new(left: &Side<'_>, right: &Side<'_>, on: On) -> Self {
        let kind = on.kind;
        let output = Output::new(left, right, on);
        Matching { kind, groups: HashMap::default(), output, pairs: vec![], single: Default::default() }
    }

    /// Takes in all changes of a timestamp, consolidated, and gives what they change.
    pub fn step(&mut self, time: Time, parts: &[Part], give: &mut impl FnMut(Outcome)) {
        let mut changed = vec![];
        for of_key in parts.chunk_by(|a, b| a.0.0 == b.0.0) {
            let (left, right) = of_key.split_at(of_key.partition_point(|part| !part.0.1));
            match &of_key[0].0.0 {
                None => self.equals_nothing(left, right),
                Some(key) if self.kind == Kind::Inner => self.pair_up(time, key, left, right, give),
                Some(key) => {
                    let (begin, pairs) = (self.pairs.len(), &mut self.pairs);
                    let group = self.groups.entry(key.clone()).or_default();
                    group.change(left, right, |l, r, diff| pairs.push((l.clone(), r.clone(), diff)));
                    changed.push(Changed { key, left, right, pairs: begin..self.pairs.len() });
                    if self.pairs.len() >= BATCH {
                        self.settle(time, &mut changed, give);
                    }
                }
            }
        }
        self.settle(time, &mut changed, give);
        for (side, rows) in self.single.iter_mut().enumerate() {
            rows.chunks(BATCH).for_each(|rows| give(self.output.single(time, rows, side == 1)));
            rows.clear();
        }
    }

    /// Of an inner join nothing is to be counted: pairs go out as they come, however many a key has.
    fn pair_up(&mut self, time: Time, key: &Row, left: &[Part], right: &[Part], give: &mut impl FnMut(Outcome)) {
        let (pairs, output) = (&mut self.pairs, &self.output);
        let group = self.groups.entry(key.clone()).or_default();
        group.change(left, right, |l, r, diff| {
            pairs.push((l.clone(), r.clone(), diff));
            if pairs.len() == BATCH {
                output.pairs(time, pairs, give);
                pairs.clear();
            }
        });
        sweep(&mut group.left);
        sweep(&mut group.right);
        if group.len() == 0 {
            self.groups.remove(key);
        }
    }

    /// Sends the pairs that wait, and counts those of each row.
    fn settle(&mut self, time: Time, changed: &mut Vec<Changed<'_>>, give: &mut impl FnMut(Outcome)) {
        let found = self.output.pairs(time, &self.pairs, give);
        let [left, right] = &mut self.single;
        let mut counts: Vec<(Row, Diff)> = vec![];
        for changed in changed.drain(..) {
            let group = self.groups.get_mut(changed.key).expect("it was just changed");
            let pairs = || changed.pairs.clone().filter(|at| found.as_ref().is_none_or(|found| found[*at]));
            counts.extend(pairs().map(|at| (self.pairs[at].0.clone(), self.pairs[at].2)));
            consolidate(&mut counts);
            let paired = self.kind == Kind::Semi;
            count(&mut group.left, changed.left, &counts, paired, |row, diff| left.push((row.clone(), diff)));
            counts.clear();
            if self.kind == Kind::Full {
                counts.extend(pairs().map(|at| (self.pairs[at].1.clone(), self.pairs[at].2)));
                consolidate(&mut counts);
                count(&mut group.right, changed.right, &counts, false, |row, diff| right.push((row.clone(), diff)));
                counts.clear();
            } else {
                sweep(&mut group.right);
            }
            if group.len() == 0 {
                self.groups.remove(changed.key);
            }
        }
        self.pairs.clear();
    }

    /// Rows that no row equals are alone for ever, and need not be held.
    fn equals_nothing(&mut self, left: &[Part], right: &[Part]) {
        let [left_single, right_single] = &mut self.single;
        let rows = |parts: &[Part]| parts.iter().map(|((_, _, row), diff)| (row.clone(), *diff)).collect::<Vec<_>>();
        if matches!(self.kind, Kind::Left | Kind::Full | Kind::Anti) {
            left_single.extend(rows(left));
        }
        if self.kind == Kind::Full {
            right_single.extend(rows(right));
        }
    }
}

impl Hold for Matching {
    fn held(&self) -> Held {
        let (keys, places) = (self.groups.len(), self.groups.capacity() * (size_of::<(Row, Group)>() + 1));
        let records = estimate(self.groups.values(), keys, Group::len);
        let beside = estimate(self.groups.iter(), keys, |(key, group)| key.heap_size() + group.heap_size());
        Held { records, bytes: places + beside, batches: 1 }
    }
}
