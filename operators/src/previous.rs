//! Each row beside the row before it: `lag(…) OVER (PARTITION BY … ORDER BY time)` on rows that arrive in
//! order of time and are never taken back. What is held is one row a partition, however long the history.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use crate::held::{Held, Hold, estimate};
use crate::map::batch;
use crate::stash::Stash;
use crate::{Row, RowCodec, Rows, Updates, held};

/// The partition, the row, what the next row of the partition sees of it.
type Step = (Row, Row, Row);

/// By partition, what the next row sees.
#[derive(Default)]
struct Last(HashMap<Row, Row, ahash::RandomState>);

impl Hold for Last {
    fn held(&self) -> Held {
        let (records, places) = (self.0.len(), self.0.capacity() * (size_of::<(Row, Row)>() + 1));
        let beside = estimate(self.0.iter(), records, |(key, row)| key.heap_size() + row.heap_size());
        Held { records, bytes: places + beside, batches: 1 }
    }
}

/// The first `columns` columns of `input`, then the columns `lags` of the row before in the partition; nulls at a
/// partition's first row. Rows of one partition at one timestamp follow each other in the order of their
/// columns.
///
/// # Panics
/// If a row is taken back.
pub fn previous<'scope>(
    input: Rows<'scope>,
    name: &str,
    input_schema: &SchemaRef,
    columns: usize,
    partition: &[usize],
    lags: &[usize],
    schema: SchemaRef,
) -> Rows<'scope> {
    let codec = {
        let input_schema = input_schema.clone();
        move |columns: &[usize]| {
            RowCodec::new(columns.iter().map(|i| input_schema.field(*i).data_type()))
                .expect("the planner checked the types")
        }
    };
    let all: Vec<usize> = (0..columns).collect();
    let (keys, rows, carried) = (codec(partition), codec(&all), codec(lags));
    let (partition, kept, kept_columns) = (partition.to_vec(), lags.to_vec(), columns);
    let encode = format!("{name}.encode");
    let steps = input.unary::<CapacityContainerBuilder<Vec<Step>>, _, _, _>(Pipeline, &encode, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for updates in data.drain(..) {
                    let len = updates.rows.num_rows();
                    let pick = |indices: &[usize]| -> Vec<ArrayRef> {
                        indices.iter().map(|i| updates.rows.column(*i).clone()).collect()
                    };
                    let keys = keys.encode(&pick(&partition), len).expect("columns of the codec");
                    let carried = carried.encode(&pick(&kept), len).expect("columns of the codec");
                    let rows = rows.encode(&updates.rows.columns()[..kept_columns], len).expect("columns of the codec");
                    for (((key, row), next), diff) in keys.into_iter().zip(rows).zip(carried).zip(updates.diffs()) {
                        assert!(*diff > 0, "a row of an append-only relation was taken back");
                        session.give_iterator(std::iter::repeat_n((key, row, next), *diff as usize));
                    }
                }
            });
        }
    });
    let (rows, carried) = (codec(&all), codec(lags));
    let lag_types: Vec<_> = lags.iter().map(|i| input_schema.field(*i).data_type().clone()).collect();
    let (route, named) = (Exchange::new(|step: &Step| step.0.route()), name.to_owned());
    steps.unary_frontier::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(route, name, move |_, _| {
        let mut stash: Stash<Step> = Stash::default();
        let last = Rc::new(RefCell::new(Last::default()));
        held::register(&named, &last);
        move |(input, frontier), output| {
            let Last(last) = &mut *last.borrow_mut();
            input.for_each(|capability, data| {
                let time = *capability.least().expect("a message has a time");
                stash.put(time, data, || capability.retain_least(0).expect("a message has a time"));
            });
            while let Some((capability, mut steps)) = stash.next_closed(frontier) {
                steps.sort_unstable();
                let len = steps.len();
                let mut before: Vec<Row> = Vec::with_capacity(len);
                let mut found: Vec<Option<u32>> = Vec::with_capacity(len);
                for (key, _, next) in &steps {
                    let old = last.insert(key.clone(), next.clone());
                    found.push(old.map(|old| {
                        before.push(old);
                        before.len() as u32 - 1
                    }));
                }
                let mut columns = rows.decode(steps.iter().map(|step| &step.1)).expect("rows of this codec");
                let found = UInt32Array::from(found);
                if before.is_empty() {
                    columns.extend(lag_types.iter().map(|kind| new_null_array(kind, len)));
                } else {
                    let carried = carried.decode(&before).expect("rows of this codec");
                    columns.extend(carried.iter().map(|column| take(column, &found, None).expect("indices of rows")));
                }
                debug_assert!(columns.iter().all(|column| column.len() == len));
                let rows = batch(&schema, columns, len);
                output.session(&capability).give(Updates::new(
                    *capability.time(),
                    rows,
                    Int64Array::from_value(1, len),
                ));
            }
        }
    })
}
