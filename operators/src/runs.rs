//! Expressions over timestamps are computed once for each run of rows with the same ones.
//!
//! All rows of a snapshot are of one time, and come one after another. What follows from the time alone (the hour that
//! it is in, the hour on the clocks of Paris, whether it is long ago) costs as much for a snapshot as for a row.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, FieldRef, Int64Type, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::Expr;

/// Fewer rows than this are computed one by one.
const ROWS: usize = 64;
/// So are runs that are shorter than this on average.
const LENGTH: usize = 4;

/// `expr`, computed run by run where it depends on timestamps only.
///
/// # Errors
/// An expression that does not fit `schema`.
pub fn by_run(expr: &Expr, schema: &Schema) -> Result<Expr> {
    if expr.children().is_empty() {
        return Ok(Arc::clone(expr));
    }
    let mut columns = vec![];
    let mut timestamps = true;
    expr.apply(|node| {
        if let Some(column) = node.downcast_ref::<Column>() {
            timestamps &= matches!(schema.field(column.index()).data_type(), DataType::Timestamp(..));
            if !columns.contains(&column.index()) {
                columns.push(column.index());
            }
        }
        Ok(if timestamps { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    if timestamps && !columns.is_empty() {
        let place = |node: Expr| match node.downcast_ref::<Column>() {
            Some(column) => {
                let place = columns.iter().position(|c| *c == column.index()).expect("it was found");
                Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as Expr))
            }
            None => Ok(Transformed::no(node)),
        };
        let of_heads = Arc::clone(expr).transform(place)?.data;
        return Ok(Arc::new(ByRun { expr: Arc::clone(expr), of_heads, columns }));
    }
    let children = expr.children().into_iter().map(|child| by_run(child, schema)).collect::<Result<Vec<_>>>()?;
    Arc::clone(expr).with_new_children(children)
}

/// An expression over timestamps.
#[derive(Debug, Eq)]
struct ByRun {
    expr: Expr,
    /// The same, over those columns alone.
    of_heads: Expr,
    columns: Vec<usize>,
}

impl PartialEq for ByRun {
    fn eq(&self, other: &Self) -> bool {
        self.expr.eq(&other.expr)
    }
}

impl Hash for ByRun {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expr.hash(state);
    }
}

impl ByRun {
    /// The first row of each run, and the run of each row; none if it is not worth while.
    fn runs(&self, batch: &RecordBatch) -> Option<(UInt32Array, UInt32Array)> {
        let rows = batch.num_rows();
        if rows < ROWS {
            return None;
        }
        let mut begins = vec![false; rows];
        begins[0] = true;
        for column in &self.columns {
            let column = batch.column(*column);
            let values = cast(column, &DataType::Int64).ok()?;
            let values = arrow::array::AsArray::as_primitive::<Int64Type>(&values).values().clone();
            begins[1..].iter_mut().zip(values.windows(2)).for_each(|(begins, pair)| *begins |= pair[0] != pair[1]);
            if let Some(nulls) = column.nulls() {
                (1..rows).for_each(|row| begins[row] |= nulls.is_null(row) != nulls.is_null(row - 1));
            }
        }
        if begins.iter().filter(|begins| **begins).count() * LENGTH > rows {
            return None;
        }
        let heads = UInt32Array::from_iter_values((0..rows as u32).filter(|row| begins[*row as usize]));
        let mut run = 0;
        let of_row = begins.iter().enumerate().map(|(row, begins)| {
            run += u32::from(*begins && row > 0);
            run
        });
        Some((heads, UInt32Array::from_iter_values(of_row)))
    }
}

impl PhysicalExpr for ByRun {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let Some((heads, of_row)) = self.runs(batch) else { return self.expr.evaluate(batch) };
        let columns = self.columns.iter().map(|column| take(batch.column(*column), &heads, None));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let schema = batch.schema().project(&self.columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(heads.len()));
        let reduced = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?;
        match self.of_heads.evaluate(&reduced)? {
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(take(&values, &of_row, None)?)),
            scalar => Ok(scalar),
        }
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.expr.return_field(schema)
    }

    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.expr.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.expr.nullable(schema)
    }

    fn children(&self) -> Vec<&Expr> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Expr>) -> Result<Expr> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt_sql(f)
    }
}

impl Display for ByRun {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::{Field, TimeUnit};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};

    #[test]
    fn runs_or_not_the_result_is_the_same() {
        let time = DataType::Timestamp(TimeUnit::Millisecond, None);
        let fields = [("a", time.clone()), ("b", time.clone()), ("n", DataType::Int64)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let column = |i: usize| Arc::new(Column::new(schema.field(i).name(), i)) as Expr;
        let number = |e: Expr| Arc::new(CastExpr::new(e, DataType::Int64, None)) as Expr;
        let binary = |a: Expr, op, b: Expr| Arc::new(BinaryExpr::new(a, op, b)) as Expr;
        let earlier = binary(column(1), Operator::Lt, column(0));
        let sum = binary(number(column(1)), Operator::Plus, column(2));
        for length in [1, 3, 50, 1000] {
            let rows = 0..1000i64;
            let value = |shift: i64| move |row: i64| (row / length % 7 != shift).then_some(row / length * shift % 5);
            let a: TimestampMillisecondArray = rows.clone().map(value(2)).collect();
            let b: TimestampMillisecondArray = rows.clone().map(value(3)).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(a), Arc::new(b), Arc::new(Int64Array::from_iter_values(rows))];
            let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
            for expr in [&earlier, &sum] {
                let wrapped = by_run(expr, &schema).unwrap();
                assert_eq!(wrapped.to_string(), expr.to_string());
                let of = |e: &Expr| e.evaluate(&batch).unwrap().into_array(1000).unwrap();
                assert_eq!(&of(&wrapped), &of(expr));
            }
        }
        let found = by_run(&earlier, &schema).unwrap();
        assert!(found.downcast_ref::<ByRun>().is_some_and(|by_run| by_run.columns == [1, 0]));
        let below = by_run(&sum, &schema).unwrap();
        assert!(below.downcast_ref::<ByRun>().is_none() && below.children()[0].downcast_ref::<ByRun>().is_some());
    }
}
