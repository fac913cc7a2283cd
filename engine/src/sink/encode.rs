//! Columns as PostgreSQL's binary format has them, for `COPY` (row by row) and for array parameters
//! (column by column), without an allocation a value.
//!
//! A value is its length (four bytes, −1 for null) and its bytes; numbers are big-endian; instants are
//! microseconds since 2000-01-01. What PostgreSQL cannot hold has been taken out before by
//! [`fit`](super::fit), whose checks mirror the conversions here.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTime, IntervalDayTimeType, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, to_sql_checked};

use super::numeric;
use super::types::{Type, date_days, duration_us, timestamp_us};

const FITS: &str = "rows that PostgreSQL cannot hold were taken out before";

/// Appends the value of a row of a column.
type Write = Box<dyn Fn(&ArrayRef, usize, &mut BytesMut) + Send + Sync>;

/// A column that can be written value by value.
pub(super) struct Column {
    array: ArrayRef,
    write: Write,
    kind: Type,
}

impl Column {
    /// A writer of `array`.
    ///
    /// # Errors
    /// A type without a counterpart: views are checked for those when they are planned.
    pub fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let kind = Type::of(array.data_type())
            .map_err(|_| ArrowError::NotYetImplemented(format!("{} in PostgreSQL", array.data_type())))?;
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value)?,
            _ => array.clone(),
        };
        let write = writer(array.data_type());
        Ok(Column { array, write, kind })
    }

    /// The type of the column in PostgreSQL.
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// Appends the value of `row` to `out`, its length first.
    #[inline]
    pub fn write(&self, row: usize, out: &mut BytesMut) {
        if self.array.is_null(row) || self.array.data_type() == &DataType::Null {
            out.put_i32(-1);
        } else {
            (self.write)(&self.array, row, out);
        }
    }

    /// The values of `rows` as an array parameter.
    pub fn parameter(&self, rows: &[u32]) -> Parameter {
        Parameter::array(self.kind, rows.len(), |i, out| self.write(rows[i] as usize, out))
    }
}

/// A parameter of a statement, encoded.
#[derive(Debug)]
pub(super) struct Parameter(Bytes);

impl Parameter {
    /// An array of `len` values, which `write` appends one by one, each with its length first.
    pub fn array(kind: Type, len: usize, mut write: impl FnMut(usize, &mut BytesMut)) -> Self {
        let mut out = BytesMut::with_capacity(20 + 12 * len);
        out.put_i32(1); // dimensions
        out.put_i32(1); // may hold nulls
        out.put_u32(kind.oid());
        out.put_i32(i32::try_from(len).expect("statements take at most ARRAY_ROWS rows"));
        out.put_i32(1); // the first index
        for i in 0..len {
            write(i, &mut out);
        }
        Parameter(out.freeze())
    }

    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl ToSql for Parameter {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Appends `bytes` as a value.
#[inline]
pub(super) fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("Arrow's own offsets and PostgreSQL's limit of 1 GB are less"));
    out.put_slice(bytes);
}

/// A writer of primitive values.
fn native<T: ArrowPrimitiveType, const N: usize>(
    to_bytes: impl Fn(T::Native) -> [u8; N] + Send + Sync + 'static,
) -> Write
where
    T::Native: ArrowNativeType,
{
    Box::new(move |array, row, out| {
        out.put_i32(N as i32);
        out.put_slice(&to_bytes(array.as_primitive::<T>().value(row)));
    })
}

fn writer(data: &DataType) -> Write {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    match data {
        DataType::Boolean => Box::new(|array, row, out| put(out, &[u8::from(array.as_boolean().value(row))])),
        DataType::Int8 => native::<Int8Type, 2>(|v| i16::from(v).to_be_bytes()),
        DataType::UInt8 => native::<UInt8Type, 2>(|v| i16::from(v).to_be_bytes()),
        DataType::Int16 => native::<Int16Type, 2>(i16::to_be_bytes),
        DataType::UInt16 => native::<UInt16Type, 4>(|v| i32::from(v).to_be_bytes()),
        DataType::Int32 => native::<Int32Type, 4>(i32::to_be_bytes),
        DataType::UInt32 => native::<UInt32Type, 8>(|v| i64::from(v).to_be_bytes()),
        DataType::Int64 => native::<Int64Type, 8>(i64::to_be_bytes),
        DataType::UInt64 => native::<UInt64Type, 8>(|v| i64::try_from(v).expect(FITS).to_be_bytes()),
        DataType::Float32 => native::<Float32Type, 4>(f32::to_be_bytes),
        DataType::Float64 => native::<Float64Type, 8>(f64::to_be_bytes),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            Box::new(move |array, row, out| numeric::put(array.as_primitive::<Decimal128Type>().value(row), scale, out))
        }
        DataType::Utf8 => Box::new(|array, row, out| put(out, array.as_string::<i32>().value(row).as_bytes())),
        DataType::LargeUtf8 => Box::new(|array, row, out| put(out, array.as_string::<i64>().value(row).as_bytes())),
        DataType::Utf8View => Box::new(|array, row, out| put(out, array.as_string_view().value(row).as_bytes())),
        DataType::Binary => Box::new(|array, row, out| put(out, array.as_binary::<i32>().value(row))),
        DataType::LargeBinary => Box::new(|array, row, out| put(out, array.as_binary::<i64>().value(row))),
        DataType::BinaryView => Box::new(|array, row, out| put(out, array.as_binary_view().value(row))),
        DataType::FixedSizeBinary(_) => Box::new(|array, row, out| put(out, array.as_fixed_size_binary().value(row))),
        DataType::Date32 => native::<Date32Type, 4>(|v| date_days(v).expect(FITS).to_be_bytes()),
        DataType::Timestamp(Second, _) => native::<TimestampSecondType, 8>(|v| instant(v, Second)),
        DataType::Timestamp(Millisecond, _) => native::<TimestampMillisecondType, 8>(|v| instant(v, Millisecond)),
        DataType::Timestamp(Microsecond, _) => native::<TimestampMicrosecondType, 8>(|v| instant(v, Microsecond)),
        DataType::Timestamp(Nanosecond, _) => native::<TimestampNanosecondType, 8>(|v| instant(v, Nanosecond)),
        DataType::Time32(Second) => native::<Time32SecondType, 8>(|v| (i64::from(v) * 1_000_000).to_be_bytes()),
        DataType::Time32(_) => native::<Time32MillisecondType, 8>(|v| (i64::from(v) * 1_000).to_be_bytes()),
        DataType::Time64(Nanosecond) => native::<Time64NanosecondType, 8>(|v| (v / 1_000).to_be_bytes()),
        DataType::Time64(_) => native::<Time64MicrosecondType, 8>(i64::to_be_bytes),
        DataType::Duration(Second) => native::<DurationSecondType, 16>(|v| lasting(v, Second)),
        DataType::Duration(Millisecond) => native::<DurationMillisecondType, 16>(|v| lasting(v, Millisecond)),
        DataType::Duration(Microsecond) => native::<DurationMicrosecondType, 16>(|v| lasting(v, Microsecond)),
        DataType::Duration(Nanosecond) => native::<DurationNanosecondType, 16>(|v| lasting(v, Nanosecond)),
        DataType::Interval(IntervalUnit::YearMonth) => native::<IntervalYearMonthType, 16>(|v| interval(v, 0, 0)),
        DataType::Interval(IntervalUnit::DayTime) => native::<IntervalDayTimeType, 16>(|v: IntervalDayTime| {
            interval(0, v.days, i64::from(v.milliseconds) * 1_000)
        }),
        DataType::Interval(_) => native::<IntervalMonthDayNanoType, 16>(|v: IntervalMonthDayNano| {
            interval(v.months, v.days, v.nanoseconds / 1_000)
        }),
        // Only nulls: `Column::new` lets no other type pass.
        _ => Box::new(|_, _, out| out.put_i32(-1)),
    }
}

fn instant(value: i64, unit: TimeUnit) -> [u8; 8] {
    timestamp_us(value, unit).expect(FITS).to_be_bytes()
}

fn lasting(value: i64, unit: TimeUnit) -> [u8; 16] {
    interval(0, 0, duration_us(value, unit).expect(FITS))
}

fn interval(months: i32, days: i32, us: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&us.to_be_bytes());
    bytes[8..12].copy_from_slice(&days.to_be_bytes());
    bytes[12..].copy_from_slice(&months.to_be_bytes());
    bytes
}
