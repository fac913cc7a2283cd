//! Lengths of time times a number, or divided by one: `2 * INTERVAL '1 hour'`.
//!
//! As in PostgreSQL, what is left of a month goes on as days (30 a month), what is left of a day as time.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::arithmetic::overflow;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// What `op` of a length of time and a number is, if it is one of these. Of literals, a literal.
pub(super) fn operator(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    static TIMES: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::from(Scale::new(false)));
    static OVER: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::from(Scale::new(true)));
    let is_length = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(_) | DataType::Duration(_)));
    let is_number = |e: &Expr| e.get_type(schema).is_ok_and(|kind| kind.is_numeric());
    let (length, number, over) = match op {
        BinaryOperator::Multiply if is_length(left) && is_number(right) => (left, right, false),
        BinaryOperator::Multiply if is_number(left) && is_length(right) => (right, left, false),
        BinaryOperator::Divide if is_length(left) && is_number(right) => (left, right, true),
        _ => return None,
    };
    if let (Expr::Literal(length, _), Some(number)) = (length, constant(number))
        && let Ok(ScalarValue::IntervalMonthDayNano(Some(length))) = length.cast_to(&INTERVAL)
        && let Ok(scaled) = scale(length, number, over)
    {
        return Some(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(scaled)), None));
    }
    Some(if over { &OVER } else { &TIMES }.call(vec![length.clone(), number.clone()]))
}

fn constant(number: &Expr) -> Option<f64> {
    match number {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(value)) => value,
            _ => None,
        },
        Expr::Negative(inner) => Some(-constant(inner)?),
        _ => None,
    }
}

/// `length` times `number`, or divided by it.
fn scale(length: IntervalMonthDayNano, number: f64, over: bool) -> Result<IntervalMonthDayNano> {
    if over && number == 0.0 {
        return Err(arrow::error::ArrowError::DivideByZero.into());
    }
    let scaled = |value: f64| if over { value / number } else { value * number };
    // To a millionth, as floats are not exact.
    let rounded = |value: f64| (value * 1e6).round_ties_even() / 1e6;
    let (months, days) = (scaled(f64::from(length.months)), scaled(f64::from(length.days)));
    let more_days = rounded((months - months.trunc()) * 30.0);
    let mut whole_days = days.trunc() + more_days.trunc();
    let mut seconds = rounded((days - days.trunc() + more_days - more_days.trunc()) * 86_400.0);
    if seconds.abs() >= 86_400.0 {
        whole_days += (seconds / 86_400.0).trunc();
        seconds %= 86_400.0;
    }
    let micros = (scaled(length.nanoseconds as f64 / 1e3) + seconds * 1e6).round_ties_even();
    let fits = |value: f64, most: f64| if value.abs() < most { Ok(value) } else { Err(overflow()) };
    Ok(IntervalMonthDayNano::new(
        fits(months.trunc(), 2f64.powi(31))? as i32,
        fits(whole_days, 2f64.powi(31))? as i32,
        fits(micros * 1e3, 2f64.powi(63))? as i64,
    ))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scale {
    over: bool,
    signature: Signature,
}

impl Scale {
    fn new(over: bool) -> Self {
        let taken = TypeSignature::Exact(vec![INTERVAL, DataType::Float64]);
        Scale { over, signature: Signature::new(taken, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Scale {
    fn name(&self) -> &str {
        if self.over { "interval_div" } else { "interval_mul" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let whole = |at: usize, kind: &DataType| -> Result<ArrayRef> {
            Ok(cast(&args.args[at].to_array(args.number_rows)?, kind)?)
        };
        let (lengths, numbers) = (whole(0, &INTERVAL)?, whole(1, &DataType::Float64)?);
        let (lengths, numbers) =
            (lengths.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Float64Type>());
        let mut out = IntervalMonthDayNanoBuilder::with_capacity(lengths.len());
        for (length, number) in lengths.iter().zip(numbers) {
            let scaled = length.zip(number).map(|(length, number)| scale(length, number, self.over)).transpose()?;
            out.append_option(scaled);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}
