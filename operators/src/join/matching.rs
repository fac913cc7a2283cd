//! What a worker holds of a join, and what a timestamp does to it.

use std::collections::HashMap;
use std::ops::Range;

use differential_dataflow::consolidation::consolidate;

use super::group::{Group, List, count, rows_after, sweep};
use super::output::{BATCH, Output, Pair};
use super::{Kind, On, Part, Side};
use crate::errors::Outcome;
use crate::held::{Held, Hold, estimate};
use crate::{Diff, Row, Time};

/// The most pairs of a key, where rows of both sides are many. More are an explosion that no worker survives.
const MAX_PAIRS: usize = 1 << 24;

/// Rows of a side that are many.
const MANY: usize = 256;

const TOO_MANY: &str = "a join has more than 16777216 pairs of rows of one key: join by more columns, or group before";

fn is_too_many(left: usize, right: usize) -> bool {
    left.min(right) > MANY && left.saturating_mul(right) > MAX_PAIRS
}

/// The rows that this worker holds, and what it sends.
pub(super) struct Matching {
    kind: Kind,
    groups: HashMap<Row, Group, ahash::RandomState>,
    output: Output,
    pairs: Vec<Pair>,
    /// Rows of the left and of the right side that come out by themselves.
    single: [Vec<(Row, Diff)>; 2],
    /// Whether all pairs of a key are held or sent, so that there is a [limit](MAX_PAIRS) to them.
    limited: bool,
    /// The most rows that any key has had, of each side.
    longest: [usize; 2],
    /// Keys that are beyond the limit: an error stands for their rows.
    beyond: HashMap<Row, Group, ahash::RandomState>,
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
        let limited = match kind {
            Kind::Inner => on.residual.is_none(),
            Kind::Left | Kind::Full => true,
            Kind::Semi | Kind::Anti => on.residual.is_some(),
        };
        let output = Output::new(left, right, on);
        let (groups, beyond) = (HashMap::default(), HashMap::default());
        let (pairs, single, longest) = (vec![], Default::default(), [0; 2]);
        Matching { kind, groups, output, pairs, single, limited, longest, beyond }
    }

    /// Takes in all changes of a timestamp, consolidated, and gives what they change.
    pub fn step(&mut self, time: Time, parts: &[Part], give: &mut impl FnMut(Outcome)) {
        let mut changed = vec![];
        for of_key in parts.chunk_by(|a, b| a.0.0 == b.0.0) {
            let (left, right) = of_key.split_at(of_key.partition_point(|part| !part.0.1));
            match &of_key[0].0.0 {
                None => self.equals_nothing(left, right),
                Some(key) if self.is_beyond(key, left, right) => {
                    self.settle(time, &mut changed, give);
                    self.hold_back(time, key, left, right, give);
                }
                Some(key) if self.kind == Kind::Inner => self.pair_up(time, key, left, right, give),
                Some(key) => {
                    let (begin, pairs) = (self.pairs.len(), &mut self.pairs);
                    let group = self.groups.entry(key.clone()).or_default();
                    group.change(left, right, |l, r, diff| pairs.push((l.clone(), r.clone(), diff)));
                    self.longest = [self.longest[0].max(group.left.len()), self.longest[1].max(group.right.len())];
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
        self.longest = [self.longest[0].max(group.left.len()), self.longest[1].max(group.right.len())];
        sweep(&mut group.left);
        sweep(&mut group.right);
        if group.len() == 0 {
            self.groups.remove(key);
        }
    }

    /// Whether a key is beyond the limit, or will be with these changes.
    fn is_beyond(&self, key: &Row, left: &[Part], right: &[Part]) -> bool {
        let most = (self.longest[0] + left.len()).saturating_mul(self.longest[1] + right.len());
        if !self.limited || (most <= MAX_PAIRS && self.beyond.is_empty()) {
            return false;
        }
        let none = Group::default();
        let group = self.groups.get(key).unwrap_or(&none);
        self.beyond.contains_key(key) || is_too_many(rows_after(&group.left, left), rows_after(&group.right, right))
    }

    /// Takes in the changes of a key that is beyond the limit before or after them.
    fn hold_back(&mut self, time: Time, key: &Row, left: &[Part], right: &[Part], give: &mut impl FnMut(Outcome)) {
        let parts = |group: &Group, sign: Diff| {
            let side = |list: &List, right| {
                list.iter().map(move |h| ((Some(key.clone()), right, h.row.clone()), sign * h.diff)).collect::<Vec<_>>()
            };
            [side(&group.left, false), side(&group.right, true)].concat()
        };
        let mut fault = |diff| give(Outcome::Fault(TOO_MANY.to_owned(), time, diff));
        let mut group = match self.beyond.remove(key) {
            Some(group) => group,
            None => {
                fault(1);
                let group = self.groups.get(key);
                let (back, again) = group.map(|group| (parts(group, -1), parts(group, 1))).unwrap_or_default();
                self.step(time, &back, give);
                let mut group = Group::default();
                let (left, right) = again.split_at(again.partition_point(|part| !part.0.1));
                group.take_in(left, right);
                group
            }
        };
        group.take_in(left, right);
        if is_too_many(group.left.len(), group.right.len()) {
            self.beyond.insert(key.clone(), group);
            return;
        }
        give(Outcome::Fault(TOO_MANY.to_owned(), time, -1));
        self.step(time, &parts(&group, 1), give);
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
        let (keys, places) =
            (self.groups.len() + self.beyond.len(), self.groups.capacity() * (size_of::<(Row, Group)>() + 1));
        let records = estimate(self.groups.values().chain(self.beyond.values()), keys, Group::len);
        let beside =
            estimate(self.groups.iter().chain(&self.beyond), keys, |(key, group)| key.heap_size() + group.heap_size());
        Held { records, bytes: places + beside, batches: 1 }
    }
}
