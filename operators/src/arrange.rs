//! Arrangements: a collection held by key, for operators that look things up in it.
//!
//! The key's rows are on the worker that the key's hash names, in every process the same.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_row::SortField;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use crate::map::batch;
use crate::{Diff, Row, RowCodec, Rows, Time, Updates, held};

/// A key, a value, and how they change.
pub type Keyed = ((Row, Row), Time, Diff);

/// Values by key, as of any timestamp not yet compacted.
pub type Trace = TraceAgent<ValSpine<Row, Row, Time, Diff>>;

/// How the columns of a batch become keys and values.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The columns of the input.
    pub schema: SchemaRef,
    /// Columns of the key, by index.
    pub key: Vec<usize>,
    /// Columns by which the values of a key are sorted, before their own columns.
    pub order: Vec<(usize, SortOptions)>,
    /// The first so many columns of the input are the value.
    pub columns: usize,
}

impl Layout {
    /// Whole rows by `key`, in the order of their columns.
    pub fn by(schema: SchemaRef, key: Vec<usize>) -> Self {
        let columns = schema.fields().len();
        Layout { schema, key, order: vec![], columns }
    }

    /// Encodes keys.
    pub fn key_codec(&self) -> RowCodec {
        RowCodec::new(self.key.iter().map(|i| self.schema.field(*i).data_type()))
            .expect("the planner checked the types")
    }

    /// Encodes values: the columns of the order, then the value's.
    pub fn value_codec(&self) -> RowCodec {
        let order = self
            .order
            .iter()
            .map(|(i, options)| SortField::new_with_options(self.schema.field(*i).data_type().clone(), *options));
        let all = self.schema.fields()[..self.columns].iter().map(|field| SortField::new(field.data_type().clone()));
        RowCodec::with_fields(order.chain(all).collect()).expect("the planner checked the types")
    }

    /// The columns of a value.
    pub fn value_schema(&self) -> SchemaRef {
        if self.columns == self.schema.fields().len() {
            return self.schema.clone();
        }
        Arc::new(Schema::new(self.schema.fields()[..self.columns].to_vec()))
    }

    fn encode(&self, keys: &RowCodec, values: &RowCodec, updates: &Updates, mut give: impl FnMut(Keyed)) {
        let rows = &updates.rows;
        let column = |i: &usize| rows.column(*i).clone();
        let key_columns: Vec<_> = self.key.iter().map(column).collect();
        let own = rows.columns()[..self.columns].iter().cloned();
        let value_columns: Vec<_> = self.order.iter().map(|(i, _)| column(i)).chain(own).collect();
        let keys = keys.encode(&key_columns, rows.num_rows()).expect("columns of the layout");
        let values = values.encode(&value_columns, rows.num_rows()).expect("columns of the layout");
        for ((key, value), diff) in keys.into_iter().zip(values).zip(updates.diffs()) {
            give(((key, value), updates.time, *diff));
        }
    }
}

/// Decodes the values of a layout.
#[derive(Debug)]
pub struct Values {
    codec: RowCodec,
    order: usize,
    schema: SchemaRef,
}

impl Values {
    /// Of values that were arranged by `layout`.
    pub fn of(layout: &Layout) -> Self {
        Values { codec: layout.value_codec(), order: layout.order.len(), schema: layout.value_schema() }
    }

    /// `rows`, of which there are `len`, as a batch of the value's columns.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a Row>, len: usize) -> RecordBatch {
        let mut columns = self.codec.decode(rows).expect("rows of this codec");
        batch(&self.schema, if self.order == 0 { columns } else { columns.split_off(self.order) }, len)
    }
}

/// Arranges `input` by the key of `layout`. The name is that of the object which it serves.
pub fn arrange<'scope>(input: Rows<'scope>, name: &str, layout: &Layout) -> Arranged<'scope, Trace> {
    let (keys, values, layout) = (layout.key_codec(), layout.value_codec(), layout.clone());
    let encode = format!("{name}.encode");
    let keyed = input.unary::<CapacityContainerBuilder<Vec<Keyed>>, _, _, _>(Pipeline, &encode, move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for updates in data.drain(..) {
                    layout.encode(&keys, &values, &updates, |update| session.give(update));
                }
            });
        }
    });
    let arranged = arrange_core(keyed, Exchange::new(|update: &Keyed| update.0.0.route()), name, ValBatcher::new);
    held::register(name, &arranged.trace.trace_box_unstable());
    arranged
}
