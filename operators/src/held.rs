//! What the operators of a worker hold, for whoever looks.
//!
//! An operator registers what it holds under the name of the object that it serves. Nothing is counted
//! until somebody asks on that thread, and then as little as tells the size: rows are of a kind within an
//! operator, so that a few of them stand for all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::rc::{Rc, Weak};

use differential_dataflow::operators::arrange::agent::trace_box::TraceBox;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::implementations::ValSpine;

use crate::{Diff, Row, Time};

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Updates, rows or groups.
    pub records: usize,
    /// Memory, estimated. Rows that several operators share are counted for each.
    pub bytes: usize,
    /// Pieces that an arrangement keeps apart until they are merged.
    pub batches: usize,
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Held) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.batches += other.batches;
    }
}

/// What can tell how much it holds, in a time that does not grow with that.
pub trait Hold {
    /// How much it is now.
    fn held(&self) -> Held;
}

/// By name, what holds something as long as it is there.
type Holding = Vec<(String, Weak<RefCell<dyn Hold>>)>;

thread_local! {
    static HOLDING: RefCell<Holding> = const { RefCell::new(vec![]) };
}

/// Has `state`, as long as it is there, counted under `name`.
pub fn register<T: Hold + 'static>(name: &str, state: &Rc<RefCell<T>>) {
    let state: Rc<RefCell<dyn Hold>> = Rc::clone(state) as _;
    HOLDING.with_borrow_mut(|holding| holding.push((name.to_owned(), Rc::downgrade(&state))));
}

/// What the operators of this thread hold, by name. To be asked between their steps.
pub fn all() -> BTreeMap<String, Held> {
    let mut all = BTreeMap::<String, Held>::new();
    HOLDING.with_borrow_mut(|holding| {
        holding.retain(|(name, state)| {
            let Some(state) = state.upgrade() else { return false };
            *all.entry(name.clone()).or_default() += state.borrow().held();
            true
        });
    });
    all
}

/// How many items stand for all of them.
const SAMPLE: usize = 32;

/// The sum of `size` over `items`, of which there are `len`, from a few of them.
pub(crate) fn estimate<T>(items: impl Iterator<Item = T>, len: usize, size: impl Fn(T) -> usize) -> usize {
    let (count, sum) = items.take(SAMPLE).fold((0, 0), |(count, sum), item| (count + 1, sum + size(item)));
    (sum * len).checked_div(count).unwrap_or(0)
}

/// Bytes of rows in a vector: in it, and beside it.
fn rows(rows: &Vec<Row>) -> usize {
    // Spread over all of them, as they are sorted and lengths may go with that.
    let spread = rows.iter().step_by(rows.len().div_ceil(SAMPLE).max(1));
    rows.capacity() * size_of::<Row>() + estimate(spread, rows.len(), Row::heap_size)
}

impl Hold for TraceBox<ValSpine<Row, Row, Time, Diff>> {
    fn held(&self) -> Held {
        let mut held = Held::default();
        self.trace().map_spans(|span| {
            let Some(batch) = &span.inner else { return };
            let storage = &batch.storage;
            held.batches += 1;
            held.records += batch.updates;
            held.bytes += rows(&storage.keys) + rows(&storage.vals.vals);
            held.bytes += storage.upds.times.capacity() * size_of::<Time>();
            held.bytes += storage.upds.diffs.capacity() * size_of::<Diff>();
            // Where the values of each key and the updates of each value begin.
            held.bytes += (storage.keys.len() + storage.vals.vals.len()) * size_of::<u32>();
        });
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Held);

    impl Hold for Fixed {
        fn held(&self) -> Held {
            self.0
        }
    }

    #[test]
    fn what_is_there_is_counted_by_name() {
        let held = |records| Held { records, bytes: 10 * records, batches: 1 };
        let [a, b, c] = [1, 2, 3].map(|records| Rc::new(RefCell::new(Fixed(held(records)))));
        register("x", &a);
        register("x", &b);
        register("y", &c);
        assert_eq!(
            all(),
            BTreeMap::from([("x".into(), Held { records: 3, bytes: 30, batches: 2 }), ("y".into(), held(3)),])
        );
        drop((a, c));
        b.borrow_mut().0 = held(7);
        assert_eq!(all(), BTreeMap::from([("x".into(), held(7))]));
        drop(b);
        assert_eq!(all(), BTreeMap::new());
    }

    #[test]
    fn a_few_stand_for_all() {
        let long = Row::new(&[7; 84]);
        let many = vec![long; 1_000];
        assert_eq!(rows(&many), many.capacity() * size_of::<Row>() + 1_000 * 100);
        assert_eq!(rows(&vec![]), 0);
        // Every other row is long.
        let mixed: Vec<Row> = (0..1_000).map(|i| Row::new(if i / 3 % 2 == 0 { &[1; 84] } else { &[1; 4] })).collect();
        let beside = rows(&mixed) - mixed.capacity() * size_of::<Row>();
        assert!((30_000..70_000).contains(&beside), "{beside}");
    }
}
