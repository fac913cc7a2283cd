//! The last step: states of groups as columns of results.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, UInt32Array, new_null_array,
};
use arrow::compute::{cast_with_options, take};
use arrow::datatypes::DataType;

use super::cell::{Cell, State};
use super::partial::compared;
use super::{Accumulator, Function, Grouping, Regression, key_codec};
use crate::errors::message;
use crate::exact::Float;
use crate::map::batch;
use crate::{Row, RowCodec};

/// A group's key and state.
pub(super) type Group<'a> = (&'a Row, &'a State);

/// Results of groups.
pub(super) struct Finished {
    /// A row each, but for those that have no result.
    pub rows: Option<RecordBatch>,
    /// Why they have none.
    pub faults: Vec<String>,
}

/// Turns states into rows.
pub(super) struct Finish {
    grouping: Grouping,
    keys: RowCodec,
    firsts: Vec<Option<RowCodec>>,
}

impl Finish {
    pub(super) fn new(grouping: &Grouping) -> Self {
        let firsts = grouping.aggregates.iter().map(|aggregate| {
            let fields = compared(aggregate, grouping);
            fields.map(|fields| RowCodec::with_fields(fields).expect("the planner checked the types"))
        });
        Finish { firsts: firsts.collect(), keys: key_codec(grouping), grouping: grouping.clone() }
    }

    /// The results of `groups`. Their keys may be those of others: `keys`.
    pub(super) fn columns(&self, groups: &[Group<'_>], keys: Option<&Finished>) -> Finished {
        if groups.is_empty() {
            return Finished { rows: None, faults: vec![] };
        }
        let keys = keys.and_then(|keys| keys.rows.as_ref()).filter(|keys| keys.num_rows() == groups.len());
        if let Ok(rows) = self.try_columns(groups, keys) {
            return Finished { rows: Some(rows), faults: vec![] };
        }
        let (mut good, mut faults) = (vec![], vec![]);
        for group in groups {
            match self.try_columns(&[*group], None) {
                Ok(_) => good.push(*group),
                Err(text) => faults.push(text),
            }
        }
        let rows = (!good.is_empty()).then(|| self.try_columns(&good, None).expect("each of them finished alone"));
        Finished { rows, faults }
    }

    fn try_columns(&self, groups: &[Group<'_>], keys: Option<&RecordBatch>) -> Result<RecordBatch, String> {
        let mut columns = match keys {
            Some(keys) => keys.columns()[..self.grouping.group.len()].to_vec(),
            None => self.keys.decode(groups.iter().map(|group| group.0)).expect("rows of this codec"),
        };
        for (i, aggregate) in self.grouping.aggregates.iter().enumerate() {
            let cells: Vec<&Cell> = groups.iter().map(|group| &group.1.cells[i]).collect();
            columns.push(self.column(aggregate, i, &cells)?);
        }
        Ok(batch(&self.grouping.output, columns, groups.len()))
    }

    fn column(&self, aggregate: &Accumulator, index: usize, cells: &[&Cell]) -> Result<ArrayRef, String> {
        let column: ArrayRef = match aggregate.function {
            Function::Min | Function::Max | Function::First { .. } | Function::Last { .. } => {
                let codec = self.firsts[index].as_ref().expect("has an encoding");
                return Ok(firsts(codec, cells, &aggregate.output));
            }
            Function::Sum | Function::Avg if matches!(cells.first(), Some(Cell::Integer(..))) => {
                let input = self.grouping.input.field(aggregate.arguments[0]).data_type();
                return match (aggregate.function, input) {
                    (Function::Sum, _) => integers(cells, &aggregate.output),
                    (_, DataType::Decimal128(_, scale)) => decimal_means(cells, *scale, &aggregate.output),
                    _ => {
                        let mean = |cell: &&Cell| integer(cell).map(|(n, sum)| sum as f64 / n as f64);
                        let means: ArrayRef = Arc::new(cells.iter().map(mean).collect::<Float64Array>());
                        cast(&means, &aggregate.output)
                    }
                };
            }
            Function::Count => Arc::new(Int64Array::from_iter_values(cells.iter().map(|cell| match cell {
                Cell::Count(count) => *count,
                _ => unreachable!("a count"),
            }))),
            Function::BoolAnd | Function::BoolOr => {
                let all = aggregate.function == Function::BoolAnd;
                Arc::new(
                    cells
                        .iter()
                        .map(|cell| match cell {
                            Cell::Bools(0, 0) => None,
                            Cell::Bools(trues, falses) => Some(if all { *falses == 0 } else { *trues > 0 }),
                            _ => unreachable!("booleans"),
                        })
                        .collect::<BooleanArray>(),
                )
            }
            function => Arc::new(cells.iter().map(|cell| float(function, cell)).collect::<Float64Array>()),
        };
        cast(&column, &aggregate.output)
    }
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, to, &options).map_err(|e| message(&e))
}

/// The values of `First` cells: the last column of what was compared.
fn firsts(codec: &RowCodec, cells: &[&Cell], output: &DataType) -> ArrayRef {
    let mut rows: Vec<&Row> = Vec::with_capacity(cells.len());
    let indices: UInt32Array = cells
        .iter()
        .map(|cell| match cell {
            Cell::First(Some(row)) => {
                rows.push(row);
                Some(rows.len() as u32 - 1)
            }
            _ => None,
        })
        .collect();
    if rows.is_empty() {
        return new_null_array(output, cells.len());
    }
    let values = codec.decode(rows).expect("rows of this codec").pop().expect("the value comes last");
    take(&values, &indices, None).expect("indices of values")
}

fn integer(cell: &Cell) -> Option<(i64, i128)> {
    match cell {
        Cell::Integer(0, _) => None,
        Cell::Integer(count, sum) => Some((*count, sum.get())),
        _ => unreachable!("a sum of integers"),
    }
}

fn integers(cells: &[&Cell], output: &DataType) -> Result<ArrayRef, String> {
    let sums = cells.iter().map(|cell| integer(cell).map(|(_, sum)| sum));
    if let DataType::Decimal128(precision, scale) = output {
        let sums =
            sums.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale).map_err(|e| message(&e))?;
        sums.validate_decimal_precision(*precision).map_err(|e| message(&e))?;
        return Ok(Arc::new(sums));
    }
    let overflow = |sum: i128| format!("the sum {sum} does not fit {output}");
    if *output == DataType::UInt64 {
        let sums = sums.map(|sum| sum.map(|sum| u64::try_from(sum).map_err(|_| overflow(sum))).transpose());
        return Ok(Arc::new(sums.collect::<Result<arrow::array::UInt64Array, _>>()?));
    }
    let sums = sums.map(|sum| sum.map(|sum| i64::try_from(sum).map_err(|_| overflow(sum))).transpose());
    let sums: ArrayRef = Arc::new(sums.collect::<Result<Int64Array, String>>()?);
    cast(&sums, output)
}

/// Means of decimals with `scale` digits behind the point, cut off behind the last digit of the result.
fn decimal_means(cells: &[&Cell], scale: i8, output: &DataType) -> Result<ArrayRef, String> {
    let DataType::Decimal128(precision, to) = *output else {
        let unit = 10f64.powi(i32::from(scale));
        let mean = |cell: &&Cell| integer(cell).map(|(n, sum)| sum as f64 / n as f64 / unit);
        let means: ArrayRef = Arc::new(cells.iter().map(mean).collect::<Float64Array>());
        return cast(&means, output);
    };
    let more = u32::try_from(to - scale).map_err(|_| format!("a mean has {scale} digits, which {output} has not"))?;
    let mean = |(n, sum): (i64, i128)| {
        let scaled = 10i128.checked_pow(more).and_then(|unit| sum.checked_mul(unit));
        scaled.map(|sum| sum / i128::from(n)).ok_or_else(|| format!("the sum {sum} of a mean does not fit {output}"))
    };
    let means = cells.iter().map(|cell| integer(cell).map(mean).transpose());
    let means = means.collect::<Result<Decimal128Array, _>>()?;
    let means = means.with_precision_and_scale(precision, to).map_err(|e| message(&e))?;
    means.validate_decimal_precision(precision).map_err(|e| message(&e))?;
    Ok(Arc::new(means))
}

/// Results that are floats.
fn float(function: Function, cell: &Cell) -> Option<f64> {
    match (function, cell) {
        (Function::Sum, Cell::Float(count, sum)) => (*count != 0).then(|| sum.value()),
        (Function::Avg, Cell::Float(count, sum)) => (*count != 0).then(|| {
            let (high, low) = sum.parts();
            high / *count as f64 + low / *count as f64
        }),
        (Function::Variance { sample, root }, Cell::Moments(moments)) => {
            let (n, [sum, squares]) = moments.as_ref();
            let free = n - i64::from(sample);
            (free > 0).then(|| {
                let variance = spread(*n, sum.parts(), sum.parts(), squares.parts()) / free as f64;
                if root { variance.sqrt() } else { variance }
            })
        }
        (Function::Regression(which), Cell::Pairs(pairs)) => regression(which, pairs.0, &pairs.1),
        _ => unreachable!("an aggregate and its cell"),
    }
}

fn regression(which: Regression, n: i64, [x, y, xx, yy, xy]: &[Float; 5]) -> Option<f64> {
    if which == Regression::Count {
        return Some(n as f64);
    }
    if n <= 0 {
        return None;
    }
    let count = n as f64;
    let (x, y) = (x.parts(), y.parts());
    let sxx = || spread(n, x, x, xx.parts()).max(0.0);
    let syy = || spread(n, y, y, yy.parts()).max(0.0);
    let sxy = || spread(n, x, y, xy.parts());
    let slope = || {
        let sxx = sxx();
        (n > 1 && sxx != 0.0).then(|| sxy() / sxx)
    };
    match which {
        Regression::AvgX => Some(x.0 / count),
        Regression::AvgY => Some(y.0 / count),
        Regression::Sxx => Some(sxx()),
        Regression::Syy => Some(syy()),
        Regression::Sxy => Some(sxy()),
        Regression::Slope => slope(),
        Regression::Intercept => slope().map(|slope| y.0 / count - slope * (x.0 / count)),
        Regression::R2 => {
            let (sxx, syy) = (sxx(), syy());
            match (n > 1 && sxx != 0.0, syy == 0.0) {
                (false, _) => None,
                (true, true) => Some(1.0),
                (true, false) => {
                    let sxy = sxy();
                    Some(sxy * sxy / (sxx * syy))
                }
            }
        }
        Regression::Count => unreachable!("answered above"),
    }
}

/// `Σab − Σa·Σb / n`, with twice a float's precision until the end: the terms may all but cancel.
fn spread(n: i64, a: (f64, f64), b: (f64, f64), ab: (f64, f64)) -> f64 {
    let high = a.0 * b.0;
    let low = a.0.mul_add(b.0, -high) + a.0 * b.1 + a.1 * b.0;
    let count = n as f64;
    // (high + low) / n as a float and what it leaves.
    let quotient = high / count;
    let rest = ((-quotient).mul_add(count, high) + low) / count;
    (ab.0 - quotient) + (ab.1 - rest)
}
