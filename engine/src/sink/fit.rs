//! Values that PostgreSQL cannot hold, though Arrow can: their rows become errors of the view.
//!
//! There are four: text with the character NUL, unsigned integers beyond `bigint`, instants and days
//! beyond the calendar, durations beyond `interval`. A row with one is left out, and `velib.errors` says so for as long as the
//! row would be there: one bad row takes nothing else with it.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{cast, filter, filter_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, DurationMillisecondType, DurationSecondType, Int64Type, TimeUnit, UInt64Type,
};
use arrow::error::ArrowError;

use super::Changes;
use super::types::{date_days, duration_us, timestamp_us};

/// Takes the rows out of `changes` that PostgreSQL cannot hold, and says for each why: (message, diff).
///
/// # Errors
/// None but those of Arrow's own kernels.
pub(super) fn fit(changes: &mut Changes) -> Result<Vec<(String, i64)>, ArrowError> {
    let mut errors = vec![];
    for column in 0..changes.rows.num_columns() {
        let schema = changes.rows.schema();
        let field = schema.field(column);
        let Some(bad) = unfit(changes.rows.column(column))? else { continue };
        for row in bad.iter().enumerate().filter_map(|(row, bad)| (bad == Some(true)).then_some(row)) {
            let message = format!(
                "column {}: this value of type {} cannot be kept in PostgreSQL ({})",
                field.name(),
                field.data_type(),
                reason(field.data_type())
            );
            errors.push((message, changes.diffs.value(row)));
        }
        let good = arrow::compute::not(&bad)?;
        changes.rows = filter_record_batch(&changes.rows, &good)?;
        changes.diffs = filter(&changes.diffs, &good)?.as_primitive::<Int64Type>().clone();
    }
    Ok(errors)
}

fn reason(data: &DataType) -> &'static str {
    match data {
        DataType::UInt64 => "it is more than 9223372036854775807",
        DataType::Date32 | DataType::Timestamp(..) => "it lies outside of the calendar, 4713 BC to 294276",
        DataType::Duration(_) => "it lasts longer than an interval can",
        _ => "it holds the character NUL",
    }
}

/// Which values do not fit, without nulls; none if all do.
fn unfit(array: &ArrayRef) -> Result<Option<BooleanArray>, ArrowError> {
    let bad: Vec<bool> = match array.data_type() {
        DataType::UInt64 => numbers(array.as_primitive::<UInt64Type>(), |v| i64::try_from(v).is_ok()),
        DataType::Date32 => numbers(array.as_primitive::<Date32Type>(), |v| date_days(v).is_some()),
        DataType::Timestamp(unit, _) => {
            let unit = *unit;
            let values = cast(array, &DataType::Int64)?;
            numbers(values.as_primitive::<Int64Type>(), |v| timestamp_us(v, unit).is_some())
        }
        DataType::Duration(unit @ TimeUnit::Second) => {
            numbers(array.as_primitive::<DurationSecondType>(), |v| duration_us(v, *unit).is_some())
        }
        DataType::Duration(unit @ TimeUnit::Millisecond) => {
            numbers(array.as_primitive::<DurationMillisecondType>(), |v| duration_us(v, *unit).is_some())
        }
        DataType::Utf8 => texts(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts(array.as_string::<i64>().iter()),
        DataType::Utf8View => texts(array.as_string_view().iter()),
        DataType::Dictionary(_, value) => return unfit(&cast(array, value)?),
        _ => return Ok(None),
    };
    Ok(bad.contains(&true).then(|| BooleanArray::from(bad)))
}

fn numbers<T: arrow::datatypes::ArrowPrimitiveType>(
    array: &arrow::array::PrimitiveArray<T>,
    fits: impl Fn(T::Native) -> bool,
) -> Vec<bool> {
    array.iter().map(|value| value.is_some_and(|value| !fits(value))).collect()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<bool> {
    values.map(|value| value.is_some_and(|text| text.as_bytes().contains(&0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampSecondArray, UInt64Array};
    use std::sync::Arc;

    #[test]
    fn rows_that_do_not_fit_become_errors() {
        let rows = RecordBatch::try_from_iter([
            ("n", Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX), None, Some(4)])) as ArrayRef),
            ("t", Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("c\0"), None]))),
            ("at", Arc::new(TimestampSecondArray::from(vec![0, 0, 0, i64::MAX]))),
        ])
        .unwrap();
        let mut changes = Changes { view: 0, rows, diffs: Int64Array::from(vec![1, -1, 2, 1]) };
        let errors = fit(&mut changes).unwrap();
        assert_eq!(changes.rows.num_rows(), 1);
        assert_eq!(changes.diffs.values(), &[1]);
        let diffs: Vec<_> = errors.iter().map(|(text, diff)| (text.split(':').next().unwrap(), *diff)).collect();
        assert_eq!(diffs, [("column n", -1), ("column t", 2), ("column at", 1)]);
    }
}
