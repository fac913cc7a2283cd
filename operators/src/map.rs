//! Filter, then project: the stateless part of every view, on whole columns.
//!
//! A [`Program`] is evaluated on batches. Where a batch fails, it is halved until the rows that fail are
//! alone: they become messages, the others go on.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, filter_record_batch, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::errors::{Errors, Outcome, guarded, message};
use crate::runs::by_run;
use crate::{Diff, Expr, Rows, Updates};

/// Predicates and outputs, bound to the columns of the input.
#[derive(Clone, Debug)]
pub struct Program {
    /// Rows for which all of these are true are kept.
    pub predicates: Vec<Expr>,
    /// What is computed of the kept rows; `None`: their columns as they are.
    pub outputs: Option<Vec<Expr>>,
    /// The columns of the result.
    pub schema: SchemaRef,
}

impl Program {
    /// The same on batches of `schema`, where what follows from their timestamps is computed [run by run](by_run).
    fn by_run(&self, schema: &Schema) -> Self {
        let wrap = |exprs: &[Expr]| exprs.iter().map(|expr| by_run(expr, schema)).collect::<Result<Vec<_>>>();
        let predicates = wrap(&self.predicates).expect("the planner typed them");
        let outputs = self.outputs.as_ref().map(|outputs| wrap(outputs).expect("the planner typed them"));
        Program { predicates, outputs, schema: self.schema.clone() }
    }

    /// The result of one batch, and the messages of the rows that failed.
    pub fn run(&self, updates: Updates) -> (Option<Updates>, Vec<(String, Diff)>) {
        if updates.rows.num_rows() == 0 {
            return (None, vec![]);
        }
        let time = updates.time;
        match self.evaluate(&updates.rows, &updates.diffs) {
            Ok(result) => (result.map(|(rows, diffs)| Updates::new(time, rows, diffs)), vec![]),
            Err(_) => {
                let mut good = Vec::new();
                let mut bad = Vec::new();
                self.separate(&updates, 0, updates.rows.num_rows(), &mut good, &mut bad);
                let kept = UInt32Array::from(good);
                let rows = take_rows(&updates.rows, &kept).expect("indices of rows");
                let diffs = take(&updates.diffs, &kept, None).expect("indices of rows");
                let diffs = Int64Array::from(diffs.to_data());
                match self.evaluate(&rows, &diffs) {
                    Ok(result) => (result.map(|(rows, diffs)| Updates::new(time, rows, diffs)), bad),
                    // Rows that succeed alone and fail together: report rather than guess.
                    Err(error) => {
                        bad.extend(diffs.values().iter().map(|diff| (message(&error), *diff)));
                        (None, bad)
                    }
                }
            }
        }
    }

    fn evaluate(&self, rows: &RecordBatch, diffs: &Int64Array) -> Result<Option<(RecordBatch, Int64Array)>> {
        guarded(|| self.compute(rows, diffs))
    }

    fn compute(&self, rows: &RecordBatch, diffs: &Int64Array) -> Result<Option<(RecordBatch, Int64Array)>> {
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let mut kept = (rows.clone(), diffs.clone());
        for predicate in &self.predicates {
            let mask = predicate.evaluate(&kept.0)?.into_array(kept.0.num_rows())?;
            let mask: &BooleanArray = as_boolean_array(&mask)?;
            if mask.null_count() == 0 && mask.true_count() == mask.len() {
                continue;
            }
            let diffs = filter(&kept.1, mask)?;
            kept = (filter_record_batch(&kept.0, mask)?, Int64Array::from(diffs.to_data()));
            if kept.0.num_rows() == 0 {
                return Ok(None);
            }
        }
        let (rows, diffs) = kept;
        let Some(outputs) = &self.outputs else { return Ok(Some((rows, diffs))) };
        let columns = outputs
            .iter()
            .zip(self.schema.fields())
            .map(|(output, field)| {
                let column = output.evaluate(&rows)?.into_array(rows.num_rows())?;
                if column.data_type() == field.data_type() {
                    Ok(column)
                } else {
                    Ok(arrow::compute::cast(&column, field.data_type())?)
                }
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        Ok(Some((batch(&self.schema, columns, rows.num_rows()), diffs)))
    }

    /// Sorts the rows `start .. start + len` into those that evaluate and those that do not.
    fn separate(&self, all: &Updates, start: usize, len: usize, good: &mut Vec<u32>, bad: &mut Vec<(String, Diff)>) {
        match self.evaluate(&all.rows.slice(start, len), &all.diffs.slice(start, len)) {
            Ok(_) => good.extend((start..start + len).map(|row| row as u32)),
            Err(error) if len == 1 => bad.push((message(&error), all.diffs.value(start))),
            Err(_) => {
                let half = len / 2;
                self.separate(all, start, half, good, bad);
                self.separate(all, start + half, len - half, good, bad);
            }
        }
    }
}

/// A batch of `columns`, which the caller has made to fit `schema`.
///
/// # Panics
/// If they do not fit.
pub fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows)).with_match_field_names(false);
    RecordBatch::try_new_with_options(nullable(schema), columns, &options).expect("columns of the schema's types")
}

/// The rows of these indices, also of a batch without columns.
///
/// # Errors
/// An index beyond the rows.
pub fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|column| take(column, indices, None)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// The schema with every column nullable: a promise of `NOT NULL` is the planner's, and an outer join or a
/// feed may break it; rows are never lost for that.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    if schema.fields().iter().all(|field| field.is_nullable()) {
        return schema.clone();
    }
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields))
}

/// Runs `program` on every batch.
pub fn map<'scope>(input: Rows<'scope>, name: &str, program: Program, errors: &mut Errors<'scope>) -> Rows<'scope> {
    let outcomes = input.unary::<CapacityContainerBuilder<Vec<Outcome>>, _, _, _>(Pipeline, name, move |_, _| {
        let mut bound: Option<Program> = None;
        move |input, output| {
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for updates in data.drain(..) {
                    let time = updates.time;
                    let bound = bound.get_or_insert_with(|| program.by_run(&updates.rows.schema()));
                    let (result, failed) = bound.run(updates);
                    session.give_iterator(result.into_iter().map(Outcome::Rows));
                    session.give_iterator(failed.into_iter().map(|(text, diff)| Outcome::Fault(text, time, diff)));
                }
            });
        }
    });
    errors.split(outcomes)
}

/// Keeps the columns of these indices.
pub fn project<'scope>(input: Rows<'scope>, columns: Vec<usize>, schema: SchemaRef) -> Rows<'scope> {
    input.unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(Pipeline, "project", move |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                let kept = data.drain(..).map(|updates| {
                    let kept = columns.iter().map(|i| updates.rows.column(*i).clone()).collect();
                    let rows = batch(&schema, kept, updates.rows.num_rows());
                    Updates { rows, ..updates }
                });
                output.session(&capability).give_iterator(kept);
            });
        }
    })
}
