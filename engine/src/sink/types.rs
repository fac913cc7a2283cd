//! The types of columns: what of Arrow's becomes what of PostgreSQL's.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// A type of PostgreSQL that a view's column can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Bool,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    /// Digits in all, and of them behind the point (negative: zeros before it).
    Numeric(u8, i8),
    Text,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
}

impl Type {
    /// The type for columns of `data`; else what to write instead.
    ///
    /// # Errors
    /// The remedy, as half a sentence.
    pub fn of(data: &DataType) -> Result<Type, &'static str> {
        Ok(match data {
            DataType::Boolean => Type::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::SmallInt,
            DataType::Int32 | DataType::UInt16 => Type::Integer,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Type::BigInt,
            DataType::Float32 => Type::Real,
            DataType::Float64 => Type::Double,
            DataType::Decimal128(precision, scale) => Type::Numeric(*precision, *scale),
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Type::Bytea
            }
            DataType::Date32 => Type::Date,
            DataType::Time32(_) | DataType::Time64(_) => Type::Time,
            DataType::Timestamp(_, None) => Type::Timestamp,
            DataType::Timestamp(_, Some(_)) => Type::TimestampTz,
            DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::YearMonth | IntervalUnit::DayTime)
            | DataType::Duration(_) => Type::Interval,
            DataType::Dictionary(_, value) => return Type::of(value),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(_, _)
            | DataType::ListView(_)
            | DataType::LargeListView(_) => return Err("use array_to_string(…, ',') or string_agg(…)"),
            DataType::Struct(_) => return Err("select its fields, each as a column"),
            DataType::Map(_, _) => return Err("select the values of its keys, each as a column"),
            DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal256(_, _) => {
                return Err("cast it to decimal(38, …)");
            }
            DataType::Float16 => return Err("cast it to real"),
            DataType::Date64 => return Err("cast it to date or to timestamp"),
            _ => return Err("cast it to text"),
        })
    }

    /// Its name, as `format_type` of PostgreSQL spells it.
    pub fn name(self) -> String {
        match self {
            Type::Numeric(precision, scale) => format!("numeric({precision},{scale})"),
            _ => self.element().to_string(),
        }
    }

    /// Its name without modifiers, as an array's elements have it.
    pub fn element(self) -> &'static str {
        match self {
            Type::Bool => "boolean",
            Type::SmallInt => "smallint",
            Type::Integer => "integer",
            Type::BigInt => "bigint",
            Type::Real => "real",
            Type::Double => "double precision",
            Type::Numeric(..) => "numeric",
            Type::Text => "text",
            Type::Bytea => "bytea",
            Type::Uuid => "uuid",
            Type::Date => "date",
            Type::Time => "time without time zone",
            Type::Timestamp => "timestamp without time zone",
            Type::TimestampTz => "timestamp with time zone",
            Type::Interval => "interval",
        }
    }

    /// Its object identifier, fixed for all servers (`pg_type.dat`).
    pub fn oid(self) -> u32 {
        match self {
            Type::Bool => 16,
            Type::Bytea => 17,
            Type::BigInt => 20,
            Type::SmallInt => 21,
            Type::Integer => 23,
            Type::Text => 25,
            Type::Real => 700,
            Type::Double => 701,
            Type::Date => 1082,
            Type::Time => 1083,
            Type::Timestamp => 1114,
            Type::TimestampTz => 1184,
            Type::Interval => 1186,
            Type::Numeric(..) => 1700,
            Type::Uuid => 2950,
        }
    }

    /// PostgreSQL finds two values equal exactly where their bytes are: not so for floats (-0 = 0) and
    /// intervals (1 month = 30 days), which therefore cannot identify a row by themselves.
    pub fn equal_means_same(self) -> bool {
        !matches!(self, Type::Real | Type::Double | Type::Interval)
    }
}

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
pub(super) const EPOCH_DAYS: i32 = 10_957;

/// Microseconds since 2000 of `value` units since 1970, towards the past where it lies between two; none
/// where PostgreSQL's calendar (4713 BC to 294276) does not reach.
pub(super) fn timestamp_us(value: i64, unit: TimeUnit) -> Option<i64> {
    const FIRST: i64 = -211_813_488_000_000_000;
    const END: i64 = 9_223_371_331_200_000_000;
    let us = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000)?,
        TimeUnit::Millisecond => value.checked_mul(1_000)?,
        TimeUnit::Microsecond => value,
        TimeUnit::Nanosecond => value.div_euclid(1_000),
    };
    us.checked_sub(EPOCH_US).filter(|us| (FIRST..END).contains(us))
}

/// Days since 2000 of `days` since 1970; none where PostgreSQL's calendar (4713 BC to 5874897) does not
/// reach.
pub(super) fn date_days(days: i32) -> Option<i32> {
    days.checked_sub(EPOCH_DAYS).filter(|days| (-2_451_545..2_145_031_949).contains(days))
}

/// Microseconds of `value` units; none where they are too many.
pub(super) fn duration_us(value: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use std::sync::Arc;

    #[test]
    fn names() {
        for (data, name) in [
            (DataType::UInt64, "bigint"),
            (DataType::Decimal128(10, 2), "numeric(10,2)"),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "text"),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), "timestamp with time zone"),
        ] {
            assert_eq!(Type::of(&data).unwrap().name(), name);
        }
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        assert!(Type::of(&list).unwrap_err().contains("array_to_string"));
    }

    #[test]
    fn times_beyond_the_calendar_are_none() {
        assert_eq!(timestamp_us(946_684_800, TimeUnit::Second), Some(0));
        assert_eq!(timestamp_us(-1, TimeUnit::Nanosecond), Some(-EPOCH_US - 1));
        assert_eq!(timestamp_us(i64::MAX, TimeUnit::Second), None);
        assert_eq!(timestamp_us(i64::MIN, TimeUnit::Microsecond), None);
        assert_eq!(date_days(EPOCH_DAYS), Some(0));
        assert_eq!((date_days(i32::MIN), date_days(i32::MAX)), (None, None));
    }
}
