//! Window functions: each partition that changed is computed anew, in its order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::window::WindowExpr;

use crate::arrange::{Layout, Values, arrange};
use crate::errors::{guarded, message};
use crate::map::batch;
use crate::recompute::{Group, Ordered, recompute};
use crate::{Diff, Errors, Row, RowCodec, Rows};

/// The columns of the input, then one a function. `layout` partitions by its key and sorts by its order;
/// rows that are equal by it come in the order of all their columns.
pub fn window<'scope>(
    input: Rows<'scope>,
    name: &str,
    layout: &Layout,
    functions: Vec<Arc<dyn WindowExpr>>,
    schema: SchemaRef,
    errors: &mut Errors<'scope>,
) -> Rows<'scope> {
    let output = RowCodec::new(schema.fields().iter().map(|f| f.data_type())).expect("the planner checked the types");
    let group = Window { input: Values::of(layout), functions, output, schema };
    recompute(arrange(input, name, layout), name, group, errors)
}

struct Window {
    input: Values,
    functions: Vec<Arc<dyn WindowExpr>>,
    output: RowCodec,
    schema: SchemaRef,
}

impl Group for Window {
    fn compute(&mut self, _: &Row, values: &mut Ordered<'_>, out: &mut Vec<(Row, Diff)>) -> Result<(), String> {
        let mut rows: Vec<&Row> = Vec::new();
        for (row, count) in values {
            rows.extend(std::iter::repeat_n(row, count as usize));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let len = rows.len();
        let partition = self.input.decode(rows, len);
        let mut columns: Vec<ArrayRef> = partition.columns().to_vec();
        for (function, field) in self.functions.iter().zip(&self.schema.fields()[columns.len()..]) {
            let column = guarded(|| function.evaluate(&partition)).map_err(|e| message(&e))?;
            let column = arrow::compute::cast(&column, field.data_type()).map_err(|e| message(&e))?;
            columns.push(column);
        }
        let rows = self.output.encode(&columns, len).map_err(|e| message(&e))?;
        out.extend(rows.into_iter().map(|row| (row, 1)));
        Ok(())
    }

    fn decode(&self, rows: &[Row]) -> RecordBatch {
        batch(&self.schema, self.output.decode(rows).expect("rows of this codec"), rows.len())
    }
}
