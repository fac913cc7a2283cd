//! Rows that are there only for an interval of the timeline: `WHERE observed_at > now() - INTERVAL …`.
//!
//! A row that arrives early waits for its time; one that is there is scheduled to leave. Both are kept by
//! the timestamp at which they are due, in buckets that are consolidated as they grow, so that a row
//! which comes and goes many times before its time costs no more than one. What is due within one of the
//! [`Steps`] of time happens at its end: a row that would come and go within one is never there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMillisecondType};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capability, Concat, Operator};
use timely::progress::frontier::MutableAntichain;

use crate::checkpoint::{Keep, PIECE, both, pack};
use crate::exchange::Piece;
use crate::held::{Held, Hold, estimate};
use crate::map::{batch, take_rows};
use crate::schedule::Schedule;
use crate::stash::Stash;
use crate::updates::consolidate;
use crate::{Diff, Rows, Steps, Time, Updates, held};

/// Keeps each row from the timestamp in column `from` (inclusive) until that in column `until`
/// (exclusive), both `Timestamp(Millisecond)`; a null means never. The two columns are not passed on:
/// `schema` is that of the columns before them. What waits can be saved and restored: see [`Keep`].
pub fn temporal<'scope>(
    input: Rows<'scope>,
    name: &str,
    schema: SchemaRef,
    from: Option<usize>,
    until: Option<usize>,
    steps: &Steps,
    keep: Keep<'scope>,
) -> Rows<'scope> {
    // What was saved arrives again, as it came or as if it had been there always.
    let input = match keep.restored::<Piece>(&format!("{name}.restore")) {
        Some(restored) => input.concat(restored.map(|Piece { rows, diffs, .. }| Updates::new(0, rows, diffs))),
        None => input,
    };
    let (told, mut marks) = keep.split(input.scope());
    let (named, steps) = (name.to_owned(), steps.clone());
    input.binary_frontier::<_, CapacityContainerBuilder<Vec<Updates>>, _, _, _, _>(
        told,
        Pipeline,
        Pipeline,
        name,
        move |_, _| {
            let bounds = Bounds { schema, from, until };
            let waiting = Rc::new(RefCell::new(Waiting::default()));
            held::register(&named, &waiting);
            let mut stash: Stash<Updates> = Stash::default();
            move |(input, frontier), (told, told_frontier), output| {
                let mut waiting = waiting.borrow_mut();
                told.for_each(|capability, data| {
                    marks.hear(data, || capability.retain_least(0).expect("a message has a time"));
                });
                input.for_each(|capability, data| {
                    let capability = capability.retain_least(0).expect("a message has a time");
                    if marks.none_before(*capability.time(), told_frontier) {
                        let mut session = output.session(&capability);
                        for updates in data.drain(..) {
                            waiting.place(&bounds, updates, &capability, |updates| session.give(updates));
                        }
                    } else {
                        // What is to be saved must not have it yet.
                        stash.put(*capability.time(), data, || capability);
                    }
                });
                let frontier = &both(frontier, told_frontier);
                if frontier.is_empty() {
                    // The job is being dropped: what is yet to come does not come.
                    waiting.enter.clear();
                    waiting.leave.clear();
                    marks.clear();
                }
                loop {
                    while let Some((capability, updates)) = stash.next(|time| marks.none_before(time, told_frontier)) {
                        let mut session = output.session(&capability);
                        for updates in updates {
                            waiting.place(&bounds, updates, &capability, |updates| session.give(updates));
                        }
                    }
                    if marks.due(waiting.first().into_iter().chain(stash.first()).min(), frontier) {
                        marks.keep(waiting.save(&bounds));
                        continue;
                    }
                    let Some(first) = waiting.first().filter(|first| !frontier.less_equal(first)) else { break };
                    let end = steps.end(first);
                    let (capability, updates) = waiting.due(&bounds, end, frontier);
                    output.session(&capability).give_iterator(updates.into_iter());
                }
            }
        },
    )
}

/// When rows are there.
struct Bounds {
    /// Their columns.
    schema: SchemaRef,
    /// Columns behind them, which are not passed on.
    from: Option<usize>,
    until: Option<usize>,
}

impl Bounds {
    fn times(&self, rows: &RecordBatch, column: Option<usize>) -> Option<TimestampMillisecondArray> {
        column.map(|i| rows.column(i).as_primitive::<TimestampMillisecondType>().clone())
    }

    /// Rows without bounds, with those that they have when they are there until then.
    fn there_until(&self, rows: &RecordBatch, until: Time) -> RecordBatch {
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        let mut columns = rows.columns().to_vec();
        for at in fields.len()..=self.from.max(self.until).unwrap_or_default() {
            let time = if self.until == Some(at) { until as i64 } else { 0 };
            let times = TimestampMillisecondArray::from_value(time, rows.num_rows());
            fields.push(Arc::new(Field::new(format!("bound {at}"), times.data_type().clone(), true)));
            columns.push(Arc::new(times));
        }
        batch(&Arc::new(Schema::new(fields)), columns, rows.num_rows())
    }

    /// Some of the rows, without the bounds.
    fn pick(&self, updates: &Updates, indices: Vec<u32>) -> (RecordBatch, Int64Array) {
        let columns = updates.rows.columns()[..self.schema.fields().len()].to_vec();
        some(&batch(&self.schema, columns, updates.rows.num_rows()), &updates.diffs, indices)
    }
}

/// The rows of these indices, which are in order, and their diffs.
fn some(rows: &RecordBatch, diffs: &Int64Array, indices: Vec<u32>) -> (RecordBatch, Int64Array) {
    if indices.len() == rows.num_rows() {
        return (rows.clone(), diffs.clone());
    }
    let indices = UInt32Array::from(indices);
    let diffs = take(diffs, &indices, None).expect("indices of rows");
    (take_rows(rows, &indices).expect("indices of rows"), Int64Array::from(diffs.to_data()))
}

/// Rows that are due, by when.
#[derive(Debug, Default)]
struct Waiting {
    /// To appear; with their bounds, as they came.
    enter: Schedule<Bucket>,
    /// To disappear; without, and with the diffs of that.
    leave: Schedule<Bucket>,
}

impl Waiting {
    /// The earliest timestamp at which something is due.
    fn first(&self) -> Option<Time> {
        self.enter.first().into_iter().chain(self.leave.first()).min()
    }

    /// Gives the rows that are there from the timestamp of `capability` on; what else there is to happen is kept.
    fn place(
        &mut self,
        bounds: &Bounds,
        updates: Updates,
        capability: &Capability<Time>,
        mut give: impl FnMut(Updates),
    ) {
        let now = *capability.time();
        let (from, until) = (bounds.times(&updates.rows, bounds.from), bounds.times(&updates.rows, bounds.until));
        let (mut there, mut entering, mut leaving) = (vec![], Moves::default(), Moves::default());
        for row in 0..updates.rows.num_rows() {
            let start = match &from {
                None => now,
                Some(from) if from.is_null(row) => continue,
                Some(from) => now.max(from.value(row).max(0) as Time),
            };
            let end = match &until {
                None => Time::MAX,
                Some(until) if until.is_null(row) => continue,
                Some(until) => until.value(row).max(0) as Time,
            };
            if end <= start {
                continue;
            }
            if start > now {
                entering.add(start, row);
                continue;
            }
            there.push(row as u32);
            if end < Time::MAX {
                leaving.add(end, row);
            }
        }
        for (time, indices) in entering.all {
            let (rows, diffs) = some(&updates.rows, &updates.diffs, indices);
            self.enter.at(time, capability).add(rows, diffs);
        }
        for (time, indices) in leaving.all {
            let (rows, diffs) = bounds.pick(&updates, indices);
            self.leave.at(time, capability).add(rows, diffs.unary(|diff: Diff| -diff));
        }
        if !there.is_empty() {
            let (rows, diffs) = bounds.pick(&updates, there);
            give(Updates::new(now, rows, diffs));
        }
    }

    /// All that waits, in writing: rows with their bounds. Those that are there have been so since time began.
    fn save(&self, bounds: &Bounds) -> Vec<Vec<u8>> {
        let piece =
            |(rows, diffs): &(RecordBatch, Int64Array)| Piece { worker: 0, rows: rows.clone(), diffs: diffs.clone() };
        let entering = self.enter.all().flat_map(|bucket| &bucket.pieces).map(piece);
        let leaving = self.leave.due().flat_map(|(until, bucket)| bucket.pieces.iter().map(move |held| (until, held)));
        let leaving = leaving.map(|(until, (rows, diffs))| Piece {
            worker: 0,
            rows: bounds.there_until(rows, until),
            diffs: diffs.unary(|diff: Diff| -diff),
        });
        let (mut pieces, mut some, mut count) = (vec![], vec![], 0);
        for piece in entering.chain(leaving) {
            count += piece.rows.num_rows();
            some.push(piece);
            if count >= PIECE {
                pieces.push(pack(&std::mem::take(&mut some)));
                count = 0;
            }
        }
        pieces.push(pack(&some));
        pieces
    }

    /// What happens by `end`, where a step ends, and the right to say so.
    fn due(
        &mut self,
        bounds: &Bounds,
        end: Time,
        frontier: &MutableAntichain<Time>,
    ) -> (Capability<Time>, Vec<Updates>) {
        let (mut updates, mut held) = (vec![], None);
        let (mut entering, mut leaving) = (Bucket::default(), Bucket::default());
        for (schedule, bucket) in [(&mut self.enter, &mut entering), (&mut self.leave, &mut leaving)] {
            while schedule.first().is_some_and(|next| next <= end)
                && let Some((capability, more)) = schedule.next_closed(frontier)
            {
                held.get_or_insert_with(|| capability.delayed(&end));
                bucket.append(more);
            }
        }
        let capability = held.expect("something is due");
        entering.settle();
        for (rows, diffs) in entering.pieces {
            self.place(bounds, Updates::new(end, rows, diffs), &capability, |entered| updates.push(entered));
        }
        leaving.settle();
        updates.extend(leaving.pieces.into_iter().map(|(rows, diffs)| Updates::new(end, rows, diffs)));
        (capability, updates)
    }
}

impl Hold for Waiting {
    fn held(&self) -> Held {
        let all = || self.enter.all().chain(self.leave.all());
        let size = |bucket: &Bucket| -> usize {
            let piece = |(rows, diffs): &(RecordBatch, Int64Array)| {
                rows.get_array_memory_size() + diffs.get_array_memory_size()
            };
            bucket.pieces.iter().map(piece).sum()
        };
        let records = all().map(|bucket| bucket.rows).sum();
        Held { records, bytes: estimate(all(), all().count(), size), batches: 1 }
    }
}

/// Rows by when something happens to them. To those of a snapshot it does together: a time is looked up when it changes.
#[derive(Default)]
struct Moves {
    places: HashMap<Time, usize>,
    all: Vec<(Time, Vec<u32>)>,
    /// The place of the last.
    last: usize,
}

impl Moves {
    #[inline]
    fn add(&mut self, time: Time, row: usize) {
        if self.all.get(self.last).is_none_or(|held| held.0 != time) {
            self.last = *self.places.entry(time).or_insert_with(|| {
                self.all.push((time, vec![]));
                self.all.len() - 1
            });
        }
        self.all[self.last].1.push(row as u32);
    }
}

/// What is due at one timestamp.
#[derive(Debug, Default)]
struct Bucket {
    pieces: Vec<(RecordBatch, Int64Array)>,
    rows: usize,
    consolidated: usize,
}

impl Bucket {
    /// Below this many rows a bucket is left as it is.
    const SMALL: usize = 4096;

    fn add(&mut self, rows: RecordBatch, diffs: Int64Array) {
        self.rows += rows.num_rows();
        self.pieces.push((rows, diffs));
        if self.rows > Self::SMALL.max(2 * self.consolidated) {
            self.settle();
            self.consolidated = self.rows;
        }
    }

    fn append(&mut self, more: Bucket) {
        self.rows += more.rows;
        self.pieces.extend(more.pieces);
    }

    /// Rows that both come and go are dropped.
    fn settle(&mut self) {
        let of = |sign: fn(&Diff) -> bool| self.pieces.iter().any(|(_, diffs)| diffs.values().iter().any(sign));
        if !(of(|diff| *diff > 0) && of(|diff| *diff < 0)) {
            return;
        }
        self.pieces = consolidate(&self.pieces).into_iter().collect();
        self.rows = self.pieces.iter().map(|(rows, _)| rows.num_rows()).sum();
    }
}
