//! Aggregates that do not accumulate: a group that changed is computed anew from all its rows.
//!
//! Costs time and memory by the rows of a group; takes every aggregate that DataFusion has, with
//! `DISTINCT`, `ORDER BY` and `FILTER`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortColumn, filter_record_batch, lexsort_to_indices};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::arrange::{Layout, Values, arrange};
use crate::errors::{guarded, message};
use crate::map::{batch, take_rows};
use crate::recompute::{Group, Ordered, recompute};
use crate::{Diff, Errors, Expr, Row, RowCodec, Rows};

/// An aggregate of DataFusion and its filter, bound to the columns of the input.
#[derive(Clone, Debug)]
pub struct Call {
    /// With its arguments, order and distinctness.
    pub function: Arc<AggregateFunctionExpr>,
    /// Rows for which this is not true are left out.
    pub filter: Option<Expr>,
}

/// Groups `input` by the key of `layout`: the key's columns, then one a call. With `global`, the one
/// group of an empty key is always there, rows or not.
pub fn aggregate<'scope>(
    input: Rows<'scope>,
    name: &str,
    layout: &Layout,
    calls: Vec<Call>,
    global: bool,
    schema: SchemaRef,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let output = RowCodec::new(schema.fields().iter().map(|f| f.data_type())).expect("the planner checked the types");
    let group = Aggregate { keys: layout.key_codec(), values: Values::of(layout), calls, global, output, schema };
    recompute(arrange(input, name, layout), name, group, errors)
}

struct Aggregate {
    keys: RowCodec,
    values: Values,
    calls: Vec<Call>,
    global: bool,
    output: RowCodec,
    schema: SchemaRef,
}

impl Aggregate {
    fn row(&self, key: &Row, rows: &RecordBatch) -> Result<Row> {
        let mut columns: Vec<ArrayRef> = self.keys.decode([key])?;
        for (call, field) in self.calls.iter().zip(&self.schema.fields()[columns.len()..]) {
            let result = evaluate(call, rows)?;
            columns.push(arrow::compute::cast(&result, field.data_type())?);
        }
        Ok(self.output.encode(&columns, 1)?.remove(0))
    }
}

/// The value of one aggregate over `rows`, as a column of one.
fn evaluate(call: &Call, rows: &RecordBatch) -> Result<ArrayRef> {
    let mut rows = rows.clone();
    if let Some(filter) = &call.filter {
        let mask = filter.evaluate(&rows)?.into_array(rows.num_rows())?;
        rows = filter_record_batch(&rows, mask.as_boolean())?;
    }
    let order = call.function.order_bys();
    if !order.is_empty() && rows.num_rows() > 1 {
        let columns = order.iter().map(|by| by.evaluate_to_sort_column(&rows)).collect::<Result<Vec<SortColumn>>>()?;
        rows = take_rows(&rows, &lexsort_to_indices(&columns, None)?)?;
    }
    let mut accumulator = call.function.create_accumulator()?;
    if rows.num_rows() > 0 {
        // The accumulators of ordered aggregates take the columns of their order after their arguments.
        let arguments = call.function.expressions().into_iter().chain(order.iter().map(|by| by.expr.clone()));
        let arguments = arguments
            .map(|argument| argument.evaluate(&rows)?.into_array(rows.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        accumulator.update_batch(&arguments)?;
    }
    accumulator.evaluate()?.to_array()
}

impl Group for Aggregate {
    fn compute(
        &mut self,
        key: &Row,
        values: &mut Ordered<'_>,
        out: &mut Vec<(Row, Diff)>,
    ) -> std::result::Result<(), String> {
        let mut rows: Vec<&Row> = Vec::new();
        for (row, count) in values {
            rows.extend(std::iter::repeat_n(row, count as usize));
        }
        if rows.is_empty() && !self.global {
            return Ok(());
        }
        let len = rows.len();
        let rows = self.values.decode(rows, len);
        out.push((guarded(|| self.row(key, &rows)).map_err(|e| message(&e))?, 1));
        Ok(())
    }

    fn decode(&self, rows: &[Row]) -> RecordBatch {
        batch(&self.schema, self.output.decode(rows).expect("rows of this codec"), rows.len())
    }

    fn always(&self) -> Option<Row> {
        self.global.then(Row::default)
    }
}
