//! Rows of a file in the columns of the relation: found by name, converted where they differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

/// What was refused in a file: by reason, how many rows, and the first of the values.
pub(in crate::source) type Refused = BTreeMap<String, (usize, String)>;

/// The type of the time column in the output.
pub(super) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `batch` in the columns of `to`. A row with a value that cannot be converted is left out, as is one
/// without a time in column `time`.
pub(in crate::source) fn conform(
    batch: &RecordBatch,
    to: &SchemaRef,
    time: Option<usize>,
    refused: &mut Refused,
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let mut keep = BooleanBuffer::new_set(rows);
    let mut refuse = |lost: BooleanBuffer, given: &ArrayRef, why: String, keep: &mut BooleanBuffer| {
        if let Some(first) = lost.set_indices().next() {
            let sample = array_value_to_string(given, first).unwrap_or_default();
            refused.entry(why).or_insert((0, sample)).0 += lost.count_set_bits();
            *keep = &*keep & &!&lost;
        }
    };
    let mut columns = Vec::with_capacity(to.fields().len());
    for (index, field) in to.fields().iter().enumerate() {
        let given = match batch.column_by_name(field.name()) {
            Some(given) => given.clone(),
            None => new_null_array(field.data_type(), rows),
        };
        let converted = convert(&given, field.data_type())?;
        let lost = &valid(&given) & &!&valid(&converted);
        refuse(
            lost,
            &given,
            format!("{} is no {}; declare the columns if it should be something else", field.name(), field.data_type()),
            &mut keep,
        );
        if Some(index) == time {
            let times = converted.as_primitive::<TimestampMicrosecondType>();
            let none = BooleanBuffer::collect_bool(rows, |row| times.is_null(row) || times.value(row) < 0);
            refuse(none, &given, format!("{} is no time since 1970", field.name()), &mut keep);
        } else if !field.is_nullable() {
            refuse(!&valid(&converted), &given, format!("{} is null", field.name()), &mut keep);
        }
        columns.push(converted);
    }
    // Until the refused rows are out, a column may hold more nulls than it promises.
    let nullable = to.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let mut all = RecordBatch::try_new_with_options(crate::source::schema(nullable), columns, &options)?;
    if keep.count_set_bits() < rows {
        all = filter_record_batch(&all, &BooleanArray::new(keep, None))?;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
    RecordBatch::try_new_with_options(to.clone(), all.columns().to_vec(), &options)
}

/// Which values are there.
fn valid(array: &ArrayRef) -> BooleanBuffer {
    match array.logical_nulls() {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(array.len()),
    }
}

/// Values of another type; null where one cannot be.
fn convert(given: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if given.data_type() == to {
        return Ok(given.clone());
    }
    let safe = CastOptions { safe: true, ..CastOptions::default() };
    if !matches!(to, DataType::Timestamp(..)) {
        return cast_with_options(given, to, &safe);
    }
    if given.data_type().is_integer() {
        return cast(&microseconds(&cast_with_options(given, &DataType::Int64, &safe)?), to);
    }
    if let DataType::Timestamp(_, None) = given.data_type() {
        // A time without a zone is one of UTC, which takes no calendar.
        let plain = cast(given, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        return cast(&cast(&plain, &DataType::Int64)?, to);
    }
    if given.data_type() == &DataType::Utf8 {
        // Integers in text (CSV): if all that is there is one, these are Unix times.
        let whole = cast_with_options(given, &DataType::Int64, &safe)?;
        if whole.null_count() == given.null_count() {
            return cast(&microseconds(&whole), to);
        }
    }
    cast_with_options(given, to, &safe)
}

/// Unix times in microseconds, from whichever unit their size tells.
fn microseconds(times: &ArrayRef) -> ArrayRef {
    let times: &Int64Array = times.as_primitive::<Int64Type>();
    let largest = arrow::compute::max(times).unwrap_or(0);
    // Each limit is the year 5138 in the unit before.
    let (factor, divisor) = match largest {
        n if n < 100_000_000_000 => (1_000_000, 1),
        n if n < 100_000_000_000_000 => (1_000, 1),
        n if n < 100_000_000_000_000_000 => (1, 1),
        _ => (1, 1_000),
    };
    Arc::new(times.unary::<_, Int64Type>(|time| time.saturating_mul(factor) / divisor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::schema;
    use arrow::array::StringArray;
    use arrow::datatypes::Field;

    #[test]
    fn rows_are_converted_or_refused() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(StringArray::from(vec![Some("1"), Some("x"), None, Some("4")])) as ArrayRef),
            ("at", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), None]))),
        ])
        .unwrap();
        let to = schema(vec![
            Field::new("at", instant(), false),
            Field::new("n", DataType::Int64, true),
            Field::new("none", DataType::Utf8, true),
        ]);
        let mut refused = Refused::new();
        let rows = conform(&batch, &to, Some(0), &mut refused).unwrap();
        assert_eq!(rows.num_rows(), 2);
        assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().values(), &[1_000_000, 3_000_000]);
        let refused: Vec<_> = refused.into_iter().collect();
        assert_eq!(
            refused,
            [
                ("at is no time since 1970".to_owned(), (1, String::new())),
                ("n is no Int64; declare the columns if it should be something else".to_owned(), (1, "x".to_owned())),
            ]
        );
    }

    #[test]
    fn the_size_of_a_time_tells_its_unit() {
        for time in [1_638_293_340, 1_638_293_340_000, 1_638_293_340_000_000, 1_638_293_340_000_000_000] {
            let us = microseconds(&(Arc::new(Int64Array::from(vec![time])) as ArrayRef));
            assert_eq!(us.as_primitive::<Int64Type>().value(0), 1_638_293_340_000_000, "{time}");
        }
    }
}
