//! Rows that are there only for an interval of the timeline: `WHERE observed_at > now() - INTERVAL …`.
//!
//! A row that arrives early waits for its time; one that is there is scheduled to leave. Both are kept by
//! the timestamp at which they are due, in buckets that are consolidated as they grow, so that a row
//! which comes and goes many times before its time costs no more than one. What is due within one of the
//! [`Steps`] of time happens at its end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::held::{Held, Hold, estimate};
use crate::map::{batch, take_rows};
use crate::schedule::Schedule;
use crate::{Diff, Row, RowCodec, Rows, Steps, Time, Updates, held, row};

/// Keeps each row from the timestamp in column `from` (inclusive) until that in column `until`
/// (exclusive), both `Timestamp(Millisecond)`; a null means never. The two columns are not passed on:
/// `schema` is that of the columns before them.
pub fn temporal<'scope>(
    input: Rows<'scope>,
    name: &str,
    schema: SchemaRef,
    from: Option<usize>,
    until: Option<usize>,
    steps: &Steps,
) -> Rows<'scope> {
    let (named, steps) = (name.to_owned(), steps.clone());
    input.unary_frontier::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, name, move |_, _| {
        let codec =
            RowCodec::new(schema.fields().iter().map(|f| f.data_type())).expect("the planner checked the types");
        let due = Rc::new(RefCell::new(Schedule::<Bucket>::default()));
        held::register(&named, &due);
        move |(input, frontier), output| {
            let mut due = due.borrow_mut();
            input.for_each(|capability, data| {
                let capability = capability.retain_least(0).expect("a message has a time");
                for updates in data.drain(..) {
                    for (time, piece) in place(updates, &schema, from, until) {
                        if time == *capability.time() {
                            output.session(&capability).give(piece);
                        } else {
                            due.at(time, &capability).add(piece, &codec, &schema);
                        }
                    }
                }
            });
            if frontier.is_empty() {
                // The job is being dropped: what is yet to come does not come.
                due.clear();
            }
            while let Some((capability, mut bucket)) = due.next_closed(frontier) {
                let end = steps.end(*capability.time());
                while due.first().is_some_and(|next| next <= end)
                    && let Some((_, more)) = due.next_closed(frontier)
                {
                    bucket.append(more);
                }
                if bucket.may_cancel() {
                    bucket.consolidate(&codec, &schema);
                }
                output
                    .session(&capability.delayed(&end))
                    .give_iterator(bucket.pieces.drain(..).map(|(rows, diffs)| Updates::new(end, rows, diffs)));
            }
        }
    })
}

/// Splits `updates` by the timestamps at which its rows appear and disappear.
fn place(updates: Updates, schema: &SchemaRef, from: Option<usize>, until: Option<usize>) -> Vec<(Time, Updates)> {
    let len = updates.rows.num_rows();
    let bound = |column: Option<usize>| {
        column.map(|i| updates.rows.column(i).as_primitive::<TimestampMillisecondType>().clone())
    };
    let (from, until) = (bound(from), bound(until));
    let mut moves: HashMap<(Time, bool), Vec<u32>> = HashMap::new();
    for row in 0..len {
        let start = match &from {
            None => updates.time,
            Some(from) if from.is_null(row) => continue,
            Some(from) => updates.time.max(from.value(row).max(0) as Time),
        };
        match &until {
            None => {}
            Some(until) if until.is_null(row) => continue,
            Some(until) => {
                let end = until.value(row).max(0) as Time;
                if end <= start {
                    continue;
                }
                moves.entry((end, true)).or_default().push(row as u32);
            }
        }
        moves.entry((start, false)).or_default().push(row as u32);
    }
    let columns = updates.rows.columns()[..schema.fields().len()].to_vec();
    let rows = batch(schema, columns, len);
    let pieces = moves.into_iter().map(|((time, leaves), indices)| {
        let (rows, diffs) = if indices.len() == len {
            (rows.clone(), updates.diffs.clone())
        } else {
            let indices = UInt32Array::from(indices);
            let diffs = take(&updates.diffs, &indices, None).expect("indices of rows");
            (take_rows(&rows, &indices).expect("indices of rows"), Int64Array::from(diffs.to_data()))
        };
        let diffs = if leaves { diffs.unary(|diff: Diff| -diff) } else { diffs };
        (time, Updates::new(time, rows, diffs))
    });
    pieces.collect()
}

/// What is due at one timestamp.
#[derive(Debug, Default)]
struct Bucket {
    pieces: Vec<(RecordBatch, Int64Array)>,
    rows: usize,
    consolidated: usize,
}

impl Hold for Schedule<Bucket> {
    fn held(&self) -> Held {
        let records = self.all().map(|bucket| bucket.rows).sum();
        let size = |bucket: &Bucket| -> usize {
            let piece = |(rows, diffs): &(RecordBatch, Int64Array)| {
                rows.get_array_memory_size() + diffs.get_array_memory_size()
            };
            bucket.pieces.iter().map(piece).sum()
        };
        let buckets = self.all().count();
        Held { records, bytes: estimate(self.all(), buckets, size), batches: 1 }
    }
}

impl Bucket {
    /// Below this many rows a bucket is left as it is.
    const SMALL: usize = 4096;

    fn add(&mut self, updates: Updates, codec: &RowCodec, schema: &SchemaRef) {
        self.rows += updates.rows.num_rows();
        self.pieces.push((updates.rows, updates.diffs));
        if self.rows > Self::SMALL.max(2 * self.consolidated) {
            self.consolidate(codec, schema);
        }
    }

    fn append(&mut self, more: Bucket) {
        self.rows += more.rows;
        self.pieces.extend(more.pieces);
    }

    /// Rows both come and go.
    fn may_cancel(&self) -> bool {
        let of = |sign: fn(&Diff) -> bool| self.pieces.iter().any(|(_, diffs)| diffs.values().iter().any(sign));
        self.pieces.len() > 1 && of(|diff| *diff > 0) && of(|diff| *diff < 0)
    }

    fn consolidate(&mut self, codec: &RowCodec, schema: &SchemaRef) {
        if self.pieces.len() > 1 {
            let all = concat_batches(&self.pieces[0].0.schema(), self.pieces.iter().map(|(rows, _)| rows))
                .expect("one schema");
            let diffs = self.pieces.iter().flat_map(|(_, diffs)| diffs.values().iter().copied());
            let rows = codec.encode(all.columns(), all.num_rows()).expect("columns of the codec");
            let mut net: Vec<(Row, Diff)> = rows.into_iter().zip(diffs).collect();
            row::consolidate(&mut net);
            let columns = codec.decode(net.iter().map(|(row, _)| row)).expect("rows of this codec");
            let diffs = Int64Array::from_iter_values(net.iter().map(|(_, diff)| *diff));
            self.pieces = if net.is_empty() { vec![] } else { vec![(batch(schema, columns, net.len()), diffs)] };
        }
        self.rows = self.pieces.iter().map(|(rows, _)| rows.num_rows()).sum();
        self.consolidated = self.rows;
    }
}
