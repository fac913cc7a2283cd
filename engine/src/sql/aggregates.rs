//! Aggregates that PostgreSQL has and DataFusion has otherwise or not at all.
//!
//! - `sum` of integers that does not fit is an error; DataFusion's own wraps around. (Views accumulate exact sums;
//!   this one serves windows and one-off queries.)
//! - `percentile_disc(p) WITHIN GROUP (ORDER BY x)`: the first value that at least a share `p` of the values is not
//!   after; `mode() WITHIN GROUP (ORDER BY x)`: the most frequent value, the first of several.
//! - `every`: `bool_and` by its name in the standard.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortOptions, cast, concat, partition, sort};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

use super::arithmetic::overflow;

/// All aggregates.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    let mut all: Vec<_> = all_default_aggregate_functions()
        .into_iter()
        .map(|function| match function.name() {
            "sum" => Arc::new(AggregateUDF::from(Sum { inner: function })),
            "bool_and" => Arc::new(function.as_ref().clone().with_aliases(["every"])),
            _ => function,
        })
        .collect();
    let percentile = Signature::user_defined(Volatility::Immutable);
    all.push(Arc::new(AggregateUDF::from(OfSorted { which: Which::Percentile, signature: percentile })));
    let mode = Signature::any(1, Volatility::Immutable);
    all.push(Arc::new(AggregateUDF::from(OfSorted { which: Which::Mode, signature: mode })));
    all
}

/// DataFusion's `sum`, but for integers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    inner: Arc<AggregateUDF>,
}

fn is_checked(args: &AccumulatorArgs) -> bool {
    args.return_field.data_type() == &DataType::Int64 && !args.is_distinct
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_checked(&args) {
            true => Ok(Box::new(IntegerSum::default())),
            false => self.inner.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_checked(&args) {
            true => Ok(Box::new(IntegerSum::default())),
            false => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.return_field.data_type() == &DataType::Int64 && !args.is_distinct {
            let sum = Field::new(format_state_name(args.name, "sum"), SUMS, true);
            return Ok(vec![Arc::new(sum)]);
        }
        self.inner.state_fields(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The type of sums in the making.
const SUMS: DataType = DataType::Decimal128(38, 0);

/// The sum of 64-bit integers, which only its end has to fit.
#[derive(Debug, Default)]
struct IntegerSum {
    sum: i128,
    count: u64,
}

impl IntegerSum {
    fn add(&mut self, values: &ArrayRef, sign: i128) {
        let values = values.as_primitive::<Int64Type>();
        self.sum += sign * values.iter().flatten().map(i128::from).sum::<i128>();
        let there = (values.len() - values.null_count()) as u64;
        self.count = if sign > 0 { self.count + there } else { self.count - there };
    }
}

impl Accumulator for IntegerSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], 1);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.count > 0).then(|| i64::try_from(self.sum)).transpose();
        sum.map(ScalarValue::Int64).map_err(|_| overflow())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal128((self.count > 0).then_some(self.sum), 38, 0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sums = states[0].as_primitive::<arrow::datatypes::Decimal128Type>();
        self.sum += sums.iter().flatten().sum::<i128>();
        self.count += (sums.len() - sums.null_count()) as u64;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Percentile,
    Mode,
}

/// One of the values, by their order.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSorted {
    which: Which,
    signature: Signature,
}

impl AggregateUDFImpl for OfSorted {
    fn name(&self) -> &str {
        match self.which {
            Which::Percentile => "percentile_disc",
            Which::Mode => "mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [value, share] if share.is_numeric() => Ok(vec![value.clone(), DataType::Float64]),
            _ => Err(DataFusionError::Plan(
                "percentile_disc is written as percentile_disc(0.5) WITHIN GROUP (ORDER BY x)".to_owned(),
            )),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let share = match self.which {
            Which::Mode => None,
            Which::Percentile => {
                let share = args.exprs[1].downcast_ref::<Literal>().map(|l| l.value().cast_to(&DataType::Float64));
                match share.transpose()? {
                    Some(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share) => Some(share),
                    _ => {
                        return Err(DataFusionError::Execution(
                            "the share of percentile_disc is a number between 0 and 1".to_owned(),
                        ));
                    }
                }
            }
        };
        let order = args.order_bys.first().map(|by| by.options).unwrap_or_default();
        let kind = args.return_field.data_type().clone();
        Ok(Box::new(Sorted { values: vec![], kind, order, share }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "values"), item, true))])
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// All values, until they are asked for.
#[derive(Debug)]
struct Sorted {
    values: Vec<ArrayRef>,
    kind: DataType,
    order: SortOptions,
    share: Option<f64>,
}

impl Sorted {
    fn whole(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.values.iter().map(AsRef::as_ref).collect();
        Ok(if parts.is_empty() { arrow::array::new_empty_array(&self.kind) } else { concat(&parts)? })
    }
}

impl Accumulator for Sorted {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.push(values[0].clone());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let order = SortOptions { nulls_first: false, ..self.order };
        let sorted = sort(&self.whole()?, Some(order))?;
        let there = sorted.slice(0, sorted.len() - sorted.null_count());
        if there.is_empty() {
            return ScalarValue::try_from(&self.kind);
        }
        let at = match self.share {
            Some(share) => ((share * there.len() as f64).ceil() as usize).max(1) - 1,
            None => {
                let runs = partition(std::slice::from_ref(&there))?.ranges();
                let longest = runs.into_iter().rev().max_by_key(|run| run.len());
                longest.map(|run| run.start).unwrap_or_default()
            }
        };
        ScalarValue::try_from_array(&there, at)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.iter().map(|values| values.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.whole()?;
        let all = (0..values.len()).map(|at| ScalarValue::try_from_array(&values, at)).collect::<Result<Vec<_>>>()?;
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&all, &self.kind))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for list in lists.iter().flatten() {
            self.values.push(cast(&list, &self.kind)?);
        }
        Ok(())
    }
}
