//! What is held of a key: the rows of both sides.

use smallvec::SmallVec;

use super::Part;
use crate::{Diff, Row};

/// A row of one side.
pub(super) struct Held {
    pub row: Row,
    pub diff: Diff,
    /// The sum of the diffs of the pairs that it is in, where that is counted.
    pub pairs: Diff,
}

/// The rows of one side, sorted. Most keys are unique.
pub(super) type List = SmallVec<[Held; 1]>;

/// The rows of a key.
#[derive(Default)]
pub(super) struct Group {
    pub left: List,
    pub right: List,
}

impl Group {
    pub fn len(&self) -> usize {
        self.left.len() + self.right.len()
    }

    /// Bytes held outside of the value itself.
    pub fn heap_size(&self) -> usize {
        let list = |list: &List| {
            let places = if list.spilled() { list.capacity() * size_of::<Held>() } else { 0 };
            places + list.iter().map(|held| held.row.heap_size()).sum::<usize>()
        };
        list(&self.left) + list(&self.right)
    }

    /// Takes changes in and tells `pair` of the pairs that they make. Rows that are gone stay in the lists,
    /// with a diff of 0, until they are [swept](sweep).
    pub fn change(&mut self, left: &[Part], right: &[Part], mut pair: impl FnMut(&Row, &Row, Diff)) {
        let mut all = |left: &List, right: &List, sign: Diff| {
            for l in left.iter().filter(|l| l.diff != 0) {
                right.iter().filter(|r| r.diff != 0).for_each(|r| pair(&l.row, &r.row, sign * l.diff * r.diff));
            }
        };
        let (l, r) = (self.left.len(), self.right.len());
        let (l_then, r_then) = (after(l, left), after(r, right));
        if left.len() * r + l_then * right.len() > l * r + l_then * r_then {
            all(&self.left, &self.right, -1);
            merge(&mut self.left, left);
            merge(&mut self.right, right);
            all(&self.left, &self.right, 1);
            return;
        }
        for ((_, _, l), diff) in left {
            self.right.iter().for_each(|r| pair(l, &r.row, diff * r.diff));
        }
        merge(&mut self.left, left);
        for ((_, _, r), diff) in right {
            let there = self.left.iter().filter(|l| l.diff != 0);
            there.for_each(|l| pair(&l.row, r, l.diff * diff));
        }
        merge(&mut self.right, right);
    }
}

impl Group {
    /// Takes changes in that make no pairs.
    pub fn take_in(&mut self, left: &[Part], right: &[Part]) {
        for (list, changes) in [(&mut self.left, left), (&mut self.right, right)] {
            merge(list, changes);
            sweep(list);
        }
    }
}

/// How many rows there will be.
pub(super) fn rows_after(list: &List, changes: &[Part]) -> usize {
    let change = |((_, _, row), diff): &Part| match list.binary_search_by(|held| held.row.cmp(row)) {
        Ok(at) if list[at].diff + diff == 0 => -1,
        Ok(_) => 0,
        Err(_) => 1,
    };
    list.len().saturating_add_signed(changes.iter().map(change).sum())
}

/// About how many rows there will be.
fn after(len: usize, changes: &[Part]) -> usize {
    let come = changes.iter().filter(|change| change.1 > 0).count();
    (len + 2 * come).saturating_sub(changes.len())
}

/// Adds changes, which are sorted as the list is.
fn merge(list: &mut List, changes: &[Part]) {
    for ((_, _, row), diff) in changes {
        match list.binary_search_by(|held| held.row.cmp(row)) {
            Ok(at) => list[at].diff += diff,
            Err(at) => list.insert(at, Held { row: row.clone(), diff: *diff, pairs: 0 }),
        }
    }
}

/// Removes the rows that are gone.
pub(super) fn sweep(list: &mut List) {
    if list.iter().any(|held| held.diff == 0) {
        list.retain(|held| held.diff != 0);
    }
}

/// Adds to the counts of pairs, after `changes` were merged; both are sorted as the list is. Tells `moved` of
/// the rows that are in a pair (`paired`) or alone (not `paired`) more or less often than before.
pub(super) fn count(
    list: &mut List,
    changes: &[Part],
    pairs: &[(Row, Diff)],
    paired: bool,
    mut moved: impl FnMut(&Row, Diff),
) {
    let (mut changes, mut pairs) = (changes.iter().peekable(), pairs.iter().peekable());
    loop {
        let row = match (changes.peek(), pairs.peek()) {
            (None, None) => break,
            (Some(((_, _, row), _)), None) | (None, Some((row, _))) => row,
            (Some(((_, _, a), _)), Some((b, _))) => a.min(b),
        };
        let change = changes.next_if(|((_, _, changed), _)| changed == row).map_or(0, |change| change.1);
        let more = pairs.next_if(|(of, _)| of == row).map_or(0, |pair| pair.1);
        let at = list.binary_search_by(|held| held.row.cmp(row)).expect("rows stay until they are swept");
        let held = &mut list[at];
        let counts = |diff: Diff, pairs: Diff| if (pairs != 0) == paired { diff } else { 0 };
        let before = counts(held.diff - change, held.pairs);
        held.pairs += more;
        let now = counts(held.diff, held.pairs);
        if now != before {
            moved(row, now - before);
        }
    }
    sweep(list);
}
