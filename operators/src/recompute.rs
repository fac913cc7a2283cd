//! Per key, from scratch: the operator behind top-k, windows and aggregates that do not accumulate.
//!
//! When rows of a key change, what the key yields is computed from its rows before and after, and the
//! difference is sent. The rows are an arrangement in the order that the computation wants; one that
//! looks at the first few only (top-k) reads no further. Times are totally ordered, so no output needs to
//! be kept: what was sent before is what the rows before yield.

use arrow::array::{Int64Array, RecordBatch};
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::{Cursor, TraceReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{CapabilitySet, Operator};
use timely::progress::Antichain;

use crate::arrange::Trace;
use crate::errors::{Errors, Outcome};
use crate::{Diff, Row, Rows, Time, Updates, row};

/// Rows of a key in order, each with its multiplicity.
pub type Ordered<'a> = dyn Iterator<Item = (&'a Row, Diff)> + 'a;

/// What keys yield.
pub trait Group: 'static {
    /// Appends the rows that `key` yields of `values`, which may be empty. Equal values give equal rows.
    ///
    /// # Errors
    /// The message that stands in for the rows.
    fn compute(&mut self, key: &Row, values: &mut Ordered<'_>, out: &mut Vec<(Row, Diff)>) -> Result<(), String>;

    /// Rows that [`Group::compute`] appended, as columns.
    fn decode(&self, rows: &[Row]) -> RecordBatch;

    /// The one key that yields rows though it has no values.
    fn always(&self) -> Option<Row> {
        None
    }
}

/// Keeps what `group` yields of every key of `arranged` up to date.
pub fn recompute<'scope, G: Group>(
    arranged: Arranged<'scope, Trace>,
    name: &str,
    mut group: G,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let mut trace = arranged.trace.clone();
    let scope = arranged.stream.scope();
    let (index, peers) = (scope.worker().index() as u64, scope.worker().peers() as u64);
    let outcomes = arranged.stream.unary_frontier::<CapacityContainerBuilder<Vec<Outcome>>, _, _, _>(
        Pipeline,
        name,
        move |capability, _| {
            let mut start = group.always().filter(|key| key.route() % peers == index).map(|key| {
                let mut rows = Vec::new();
                let result = group.compute(&key, &mut std::iter::empty(), &mut rows);
                (capability, result.map(|()| rows))
            });
            let mut lower = Antichain::from_elem(0);
            let mut upper = Antichain::from_elem(0);
            let mut changed = Changed::default();
            move |(input, _frontier), output| {
                if let Some((capability, result)) = start.take() {
                    changed.add(result, 1);
                    changed.send(*capability.time(), &group, |outcome| output.session(&capability).give(outcome));
                }
                lower.clone_from(&upper);
                let mut capabilities = CapabilitySet::new();
                let mut batches = Vec::new();
                input.for_each(|capability, data| {
                    for held in capability.retain_stamp(0).iter() {
                        capabilities.insert(held.clone());
                    }
                    for batch in data.drain(..) {
                        upper.clone_from(batch.upper());
                        batches.extend(batch.inner);
                    }
                });
                if !batches.is_empty() {
                    let before = trace.batches_through(lower.borrow()).expect("held at the last upper");
                    let (mut news, news_store) = cursor_list(batches);
                    let (mut olds, olds_store) = cursor_list(before);
                    let mut results = Vec::new();
                    while let Some(key) = news.get_key(&news_store) {
                        let mut updates: Vec<(&Row, Time, Diff)> = Vec::new();
                        while let Some(value) = news.get_val(&news_store) {
                            news.map_times(&news_store, |time, diff| updates.push((value, *time, *diff)));
                            news.step_val(&news_store);
                        }
                        let mut times: Vec<Time> = updates.iter().map(|update| update.1).collect();
                        times.sort_unstable();
                        times.dedup();
                        olds.seek_key(&olds_store, key);
                        let present = olds.get_key(&olds_store) == Some(key);
                        let mut yields = |upto: Option<Time>| {
                            if present {
                                olds.rewind_vals(&olds_store);
                            }
                            let mut i = 0;
                            let mut values = std::iter::from_fn(|| {
                                loop {
                                    let old = if present { olds.get_val(&olds_store) } else { None };
                                    let new = updates.get(i).map(|update| update.0);
                                    let value = match (old, new) {
                                        (None, None) => return None,
                                        (Some(value), None) | (None, Some(value)) => value,
                                        (Some(old), Some(new)) => old.min(new),
                                    };
                                    let mut count = 0;
                                    if old == Some(value) {
                                        olds.map_times(&olds_store, |_, diff| count += *diff);
                                        olds.step_val(&olds_store);
                                    }
                                    while updates.get(i).is_some_and(|update| update.0 == value) {
                                        if upto.is_some_and(|upto| updates[i].1 <= upto) {
                                            count += updates[i].2;
                                        }
                                        i += 1;
                                    }
                                    if count > 0 {
                                        return Some((value, count));
                                    }
                                }
                            });
                            let mut rows = Vec::new();
                            group.compute(key, &mut values, &mut rows).map(|()| rows)
                        };
                        let mut old = yields(None);
                        for time in times {
                            let new = yields(Some(time));
                            results.push((time, std::mem::replace(&mut old, new.clone()), new));
                        }
                        news.step_key(&news_store);
                    }
                    results.sort_by_key(|result| result.0);
                    let mut results = results.into_iter().peekable();
                    while let Some((time, old, new)) = results.next() {
                        changed.add(old, -1);
                        changed.add(new, 1);
                        if results.peek().is_none_or(|next| next.0 != time) {
                            let capability = capabilities.delayed(&time);
                            changed.send(time, &group, |outcome| output.session(&capability).give(outcome));
                        }
                    }
                }
                trace.advance_upper(&mut upper);
                trace.set_logical_compaction(upper.borrow());
                trace.set_physical_compaction(upper.borrow());
            }
        },
    );
    errors.split(outcomes)
}

/// What changes at one timestamp.
#[derive(Default)]
struct Changed {
    rows: Vec<(Row, Diff)>,
    messages: Vec<(String, Diff)>,
}

impl Changed {
    fn add(&mut self, result: Result<Vec<(Row, Diff)>, String>, sign: Diff) {
        match result {
            Ok(rows) => self.rows.extend(rows.into_iter().map(|(row, diff)| (row, diff * sign))),
            Err(text) => self.messages.push((text, sign)),
        }
    }

    fn send(&mut self, time: Time, group: &impl Group, mut give: impl FnMut(Outcome)) {
        row::consolidate(&mut self.rows);
        differential_dataflow::consolidation::consolidate(&mut self.messages);
        if !self.rows.is_empty() {
            let (rows, diffs): (Vec<Row>, Vec<Diff>) = self.rows.drain(..).unzip();
            give(Outcome::Rows(Updates::new(time, group.decode(&rows), Int64Array::from(diffs))));
        }
        for (text, diff) in self.messages.drain(..) {
            give(Outcome::Fault(text, time, diff));
        }
    }
}
