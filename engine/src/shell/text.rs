//! Values and types as PostgreSQL writes them.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Float32Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;

use crate::sink::types::Type;

/// The name of a type.
pub(super) fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", type_name(item.data_type())),
        other => Type::of(other).map_or_else(|_| other.to_string().to_lowercase(), Type::name),
    }
}

/// The value of a row; none where it is null.
pub(super) fn value(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) || column.data_type() == &DataType::Null {
        return None;
    }
    let one = column.slice(row, 1);
    let to = |kind: DataType| cast(&one, &kind).unwrap_or_else(|_| one.clone());
    Some(match column.data_type() {
        DataType::Boolean => if one.as_boolean().value(0) { "t" } else { "f" }.to_owned(),
        DataType::Float64 => float(format!("{:e}", one.as_primitive::<Float64Type>().value(0)), 15),
        DataType::Float32 => float(format!("{:e}", one.as_primitive::<Float32Type>().value(0)), 6),
        DataType::Timestamp(_, zone) => {
            let micros = to(DataType::Timestamp(TimeUnit::Microsecond, None));
            instant(micros.as_primitive::<TimestampMicrosecondType>().value(0), zone.is_some())
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let micros = to(DataType::Time64(TimeUnit::Microsecond));
            clock(micros.as_primitive::<Time64MicrosecondType>().value(0))
        }
        DataType::Interval(_) => {
            let whole = to(DataType::Interval(IntervalUnit::MonthDayNano));
            match whole.as_primitive_opt::<IntervalMonthDayNanoType>() {
                Some(whole) => {
                    let whole = whole.value(0);
                    interval(whole.months, whole.days, whole.nanoseconds / 1000)
                }
                None => plain(&one),
            }
        }
        DataType::Duration(_) => {
            let micros = to(DataType::Duration(TimeUnit::Microsecond));
            interval(0, 0, micros.as_primitive::<DurationMicrosecondType>().value(0))
        }
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => format!("\\x{}", plain(&one)),
        DataType::List(_) => list(&one.as_list::<i32>().value(0)),
        DataType::LargeList(_) => list(&one.as_list::<i64>().value(0)),
        DataType::Dictionary(_, kind) => return value(&to(kind.as_ref().clone()), 0),
        _ => plain(&one),
    })
}

fn plain(one: &ArrayRef) -> String {
    array_value_to_string(one, 0).unwrap_or_default()
}

/// From the shortest digits, `1.5e-7`: written out where the exponent is small.
fn float(scientific: String, most: i32) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return match scientific.as_str() {
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            other => other.to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    if !(-4..most).contains(&exponent) {
        let way = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{digits}e{way}{:02}", exponent.abs());
    }
    let digits = digits.replace('.', "");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole = exponent as usize + 1;
    match digits.len() > whole {
        true => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
        false => format!("{sign}{digits}{}", "0".repeat(whole - digits.len())),
    }
}

/// `2026-05-01 12:00:00.5`, with the offset of UTC where there is a zone.
fn instant(micros: i64, zoned: bool) -> String {
    let Some(time) = chrono::DateTime::from_timestamp_micros(micros) else { return micros.to_string() };
    let mut out = time.format("%Y-%m-%d %H:%M:%S").to_string();
    push_fraction(&mut out, micros.rem_euclid(1_000_000));
    if zoned {
        out.push_str("+00");
    }
    out
}

fn clock(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction(&mut out, micros % 1_000_000);
    out
}

fn push_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        out.push_str(format!(".{micros:06}").trim_end_matches('0'));
    }
}

/// `1 year 2 mons 3 days 04:05:06`
fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut parts = vec![];
    let mut part = |count: i32, unit: &str| {
        if count != 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    };
    part(months / 12, "year");
    part(months % 12, "mon");
    part(days, "day");
    if micros != 0 || parts.is_empty() {
        parts.push(format!("{}{}", if micros < 0 { "-" } else { "" }, clock(micros.abs())));
    }
    parts.join(" ")
}

/// `{a,"b c",NULL}`
fn list(items: &ArrayRef) -> String {
    let mut out = String::from("{");
    for row in 0..items.len() {
        if row > 0 {
            out.push(',');
        }
        match value(items, row) {
            None => out.push_str("NULL"),
            Some(text) => {
                let bare = !text.is_empty()
                    && !text.eq_ignore_ascii_case("null")
                    && !text.contains(|c: char| c.is_whitespace() || "{},\"\\".contains(c));
                match bare || matches!(items.data_type(), DataType::List(_) | DataType::LargeList(_)) {
                    true => out.push_str(&text),
                    // Writing to a string does not fail.
                    false => drop(write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
                }
            }
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray, TimestampMillisecondArray};
    use std::sync::Arc;

    #[test]
    fn floats() {
        let values = [0.1, 1e15, 123456789012345.0, 1.5e-5, 0.0001, -2.0, f64::NAN, f64::NEG_INFINITY, 0.0, 1e300];
        let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let texts: Vec<String> = (0..values.len()).filter_map(|row| value(&column, row)).collect();
        let expected =
            ["0.1", "1e+15", "123456789012345", "1.5e-05", "0.0001", "-2", "NaN", "-Infinity", "0", "1e+300"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn times() {
        let zoned: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-1, 1_500]).with_timezone("Europe/Paris"));
        assert_eq!(value(&zoned, 0).unwrap(), "1969-12-31 23:59:59.999+00");
        assert_eq!(value(&zoned, 1).unwrap(), "1970-01-01 00:00:01.5+00");
        assert_eq!(interval(14, -3, 90_061_500_000), "1 year 2 mons -3 days 25:01:01.5");
        assert_eq!(interval(0, 0, -60_000_000), "-00:01:00");
        assert_eq!(interval(0, 0, 0), "00:00:00");
    }

    #[test]
    fn lists() {
        let items: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b \"c\""), None, Some("")]));
        assert_eq!(list(&items), r#"{a,"b \"c\"",NULL,""}"#);
    }
}
