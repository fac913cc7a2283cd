//! `to_char(time, 'YYYY-MM-DD HH24:MI')` with the patterns of PostgreSQL.
//!
//! The format is a text in quotes and is read when the query is planned; a pattern that there is not is refused then.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::error::refuse;

/// The patterns, each before those that it begins with.
const PATTERNS: [&str; 52] = [
    "Y,YYY", "YYYY", "YYY", "YY", "Y", "IYYY", "IYY", "IY", "IW", "IDDD", "ID", "I", "HH24", "HH12", "HH", "MI",
    "SSSSS", "SSSS", "SS", "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "A.M.", "P.M.", "AM", "PM", "a.m.",
    "p.m.", "am", "pm", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "DAY", "Day", "day", "DY", "Dy", "dy",
    "DDD", "DD", "D", "CC",
];

/// Patterns that stand in any case.
const MORE: [&str; 7] = ["WW", "W", "Q", "TZH", "TZM", "TZ", "OF"];

/// What is known to PostgreSQL and not here.
const UNKNOWN: [&str; 11] = ["TM", "FX", "RM", "rm", "B.C.", "BC", "A.D.", "AD", "J", "SP", "tz"];

/// `to_char(time, format)`
pub(super) fn to_char() -> ScalarUDF {
    ScalarUDF::from(ToChar { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

/// A stretch of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Pattern {
        name: &'static str,
        /// `FM`: without blanks and zeros in front.
        bare: bool,
        /// `TH` or `th` behind it.
        ordinal: Option<bool>,
    },
}

fn parts_of(format: &str) -> Result<Vec<Part>> {
    let mut parts = vec![];
    let mut rest = format;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            parts.push(Part::Text(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let (bare, pattern) = match rest.get(..2) {
            Some(prefix) if prefix.eq_ignore_ascii_case("FM") => (true, &rest[2..]),
            _ => (false, rest),
        };
        if let Some(unknown) = UNKNOWN.iter().find(|name| pattern.starts_with(*name)) {
            return Err(refuse(
                format!("to_char has no pattern {unknown} here"),
                "there are those of dates and times but TM, FX, RM, BC, AD, J and SP; text stands in double quotes",
                format,
            ));
        }
        let any_case = |name: &str| pattern.get(..name.len()).is_some_and(|p| p.eq_ignore_ascii_case(name));
        let exact = PATTERNS.iter().find(|name| pattern.starts_with(**name));
        let lower = || PATTERNS.iter().filter(|name| !name.starts_with(['A', 'P', 'a', 'p'])).find(|n| any_case(n));
        match exact.or_else(|| MORE.iter().find(|name| any_case(name))).or_else(lower) {
            Some(name) => {
                rest = &pattern[name.len()..];
                let ordinal = match rest.get(..2) {
                    Some("TH") => Some(true),
                    Some("th") => Some(false),
                    _ => None,
                };
                if ordinal.is_some() {
                    rest = &rest[2..];
                }
                parts.push(Part::Pattern { name, bare, ordinal });
            }
            None => {
                // A backslash makes a quote behind it text.
                let text = rest.strip_prefix('\\').filter(|behind| behind.starts_with('"')).unwrap_or(rest);
                let text: String = text.chars().take(1).collect();
                rest = &rest[rest.find(&text).unwrap_or_default() + text.len()..];
                parts.push(Part::Text(text));
            }
        }
    }
    Ok(parts)
}

/// A number, with zeros in front up to `width`.
fn number(value: i64, width: usize, bare: bool) -> String {
    if bare { value.to_string() } else { format!("{value:0width$}") }
}

fn named(name: &str, pattern: &str, bare: bool, width: usize) -> String {
    let name = match pattern.chars().nth(1) {
        Some(second) if second.is_uppercase() => name.to_uppercase(),
        _ if pattern.starts_with(char::is_uppercase) => name.to_owned(),
        _ => name.to_lowercase(),
    };
    if bare { name } else { format!("{name:width$}") }
}

fn th(number: &str, upper: bool) -> &'static str {
    let last: u32 =
        number.chars().rev().take(2).collect::<String>().chars().rev().collect::<String>().parse().unwrap_or(0);
    let suffix = match (last / 10, last % 10) {
        (1, _) => ["th", "TH"],
        (_, 1) => ["st", "ST"],
        (_, 2) => ["nd", "ND"],
        (_, 3) => ["rd", "RD"],
        _ => ["th", "TH"],
    };
    suffix[usize::from(upper)]
}

/// What a pattern stands for.
fn shown(name: &str, bare: bool, time: &NaiveDateTime, zoned: bool) -> String {
    let year = i64::from(time.year());
    let week = time.iso_week();
    let (hour, micros) = (i64::from(time.hour()), i64::from(time.nanosecond() / 1_000));
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (month, day, ordinal) = (i64::from(time.month()), i64::from(time.day()), i64::from(time.ordinal()));
    let weekday = time.weekday();
    let half = |morning: &str, evening: &str| if hour < 12 { morning.to_owned() } else { evening.to_owned() };
    let fraction = |digits: u32| number(micros / 10i64.pow(6 - digits), digits as usize, bare);
    let two = |value: i64| number(value, 2, bare);
    match name {
        "Y,YYY" => format!("{},{:03}", year / 1_000, year % 1_000),
        "YYYY" => number(year, 4, bare),
        "YYY" => number(year % 1_000, 3, bare),
        "YY" => two(year % 100),
        "Y" => (year % 10).to_string(),
        "IYYY" => number(i64::from(week.year()), 4, bare),
        "IYY" => number(i64::from(week.year()) % 1_000, 3, bare),
        "IY" => two(i64::from(week.year()) % 100),
        "I" => (week.year() % 10).to_string(),
        "IW" => two(i64::from(week.week())),
        "ID" => weekday.number_from_monday().to_string(),
        "IDDD" => number(i64::from((week.week() - 1) * 7 + weekday.number_from_monday()), 3, bare),
        "HH24" => two(hour),
        "HH12" | "HH" => two(twelve),
        "MI" => two(i64::from(time.minute())),
        "SS" => two(i64::from(time.second())),
        "SSSS" | "SSSSS" => i64::from(time.num_seconds_from_midnight()).to_string(),
        "MS" | "FF3" => fraction(3),
        "US" | "FF6" => fraction(6),
        "FF1" => fraction(1),
        "FF2" => fraction(2),
        "FF4" => fraction(4),
        "FF5" => fraction(5),
        "AM" | "PM" => half("AM", "PM"),
        "am" | "pm" => half("am", "pm"),
        "A.M." | "P.M." => half("A.M.", "P.M."),
        "a.m." | "p.m." => half("a.m.", "p.m."),
        "MONTH" | "Month" | "month" => named(&time.format("%B").to_string(), name, bare, 9),
        "MON" | "Mon" | "mon" => named(&time.format("%b").to_string(), name, true, 3),
        "MM" => two(month),
        "DAY" | "Day" | "day" => named(&time.format("%A").to_string(), name, bare, 9),
        "DY" | "Dy" | "dy" => named(&time.format("%a").to_string(), name, true, 3),
        "DDD" => number(ordinal, 3, bare),
        "DD" => two(day),
        "D" => weekday.number_from_sunday().to_string(),
        "CC" => two((year + 99) / 100),
        "WW" => two((ordinal - 1) / 7 + 1),
        "W" => ((day - 1) / 7 + 1).to_string(),
        "Q" => ((month - 1) / 3 + 1).to_string(),
        "TZ" if zoned => "UTC".to_owned(),
        "OF" | "TZH" => "+00".to_owned(),
        "TZM" => "00".to_owned(),
        _ => String::new(),
    }
}

fn write(out: &mut String, parts: &[Part], time: &NaiveDateTime, zoned: bool) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Pattern { name, bare, ordinal } => {
                let text = shown(name, *bare, time, zoned);
                out.push_str(&text);
                if let Some(upper) = ordinal {
                    out.push_str(th(&text, *upper));
                }
            }
        }
    }
}

fn format_of(value: Option<&ScalarValue>) -> Result<Vec<Part>> {
    let format = value.and_then(|value| value.try_as_str().flatten()).ok_or_else(|| {
        refuse(
            "the format of to_char is no text in quotes",
            "write it out, as in to_char(observed_at, 'YYYY-MM-DD HH24:MI')",
            "to_char",
        )
    })?;
    parts_of(format)
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let time = match arguments {
            [DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 | DataType::Null, _] => None,
            [DataType::Timestamp(..), _] => Some("UTC".into()),
            // Refused with its name where its type is asked for.
            [other, _] => return Ok(vec![other.clone(), DataType::Utf8]),
            _ => return Err(DataFusionError::Plan("to_char takes a time and a format".to_owned())),
        };
        Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, time), DataType::Utf8])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = args.arg_fields[0].data_type();
        if !matches!(kind, DataType::Timestamp(..)) {
            return Err(refuse(
                format!("to_char of a value of type {kind} is not supported, only of dates and timestamps"),
                "write CAST(x AS TEXT) or round(…)",
                "to_char",
            ));
        }
        format_of(args.scalar_arguments[1])?;
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let parts = match &args.args[1] {
            ColumnarValue::Scalar(format) => format_of(Some(format))?,
            ColumnarValue::Array(_) => format_of(None)?,
        };
        let times = args.args[0].to_array(args.number_rows)?;
        let zoned = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
        let times = cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut out = StringBuilder::with_capacity(times.len(), times.len() * 16);
        let mut text = String::new();
        for micros in times {
            let Some(micros) = micros else {
                out.append_null();
                continue;
            };
            let time = DateTime::from_timestamp_micros(micros)
                .ok_or_else(|| DataFusionError::Execution("timestamp out of range".to_owned()))?;
            text.clear();
            write(&mut text, &parts, &time.naive_utc(), zoned);
            out.append_value(&text);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}
