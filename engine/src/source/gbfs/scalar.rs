//! A JSON value as feeds write it, and what it may mean.
//!
//! The same field is a number here, a number in a string there, `"OUI"` elsewhere. A [`Scalar`] takes any
//! JSON value without failing, so that one odd field never costs the document; the reader of a field asks
//! for what it should be.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Seconds beyond this are milliseconds: as seconds they would be the year 5138.
const MILLISECONDS: i64 = 100_000_000_000;
/// Feeds write this and less where they know no time (86400: the second day of 1970).
const SENTINEL: i64 = 86_400;
/// A report from further ahead is a mistake.
const FUTURE_MS: i64 = 86_400_000;

/// Any JSON value; of lists and objects only that they were there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Null, or not there.
    #[default]
    Null,
    Bool(bool),
    Signed(i64),
    /// Beyond `i64`; ids come that large.
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    /// A list or an object.
    Nested,
}

/// A value that is there, but is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong;

impl<'a> Scalar<'a> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Scalar::Null)
    }

    /// A count: a whole number, also `3.0` and `"3"`.
    pub(super) fn count(&self) -> Result<Option<i64>, Wrong> {
        match self {
            Scalar::Null => Ok(None),
            Scalar::Signed(n) => Ok(Some(*n)),
            Scalar::Float(x) => whole(*x).map(Some).ok_or(Wrong),
            Scalar::Text(text) if text.trim().is_empty() => Ok(None),
            Scalar::Text(text) => match text.trim().parse::<i64>() {
                Ok(n) => Ok(Some(n)),
                Err(_) => text.trim().parse().ok().and_then(whole).map(Some).ok_or(Wrong),
            },
            _ => Err(Wrong),
        }
    }

    /// A finite number, also in a string.
    pub(super) fn real(&self) -> Result<Option<f64>, Wrong> {
        let real = match self {
            Scalar::Null => return Ok(None),
            Scalar::Signed(n) => *n as f64,
            Scalar::Float(x) => *x,
            Scalar::Text(text) => text.trim().parse().map_err(|_| Wrong)?,
            _ => return Err(Wrong),
        };
        Some(real).filter(|real| real.is_finite()).map(Some).ok_or(Wrong)
    }

    /// A flag: true, 1, `"true"`, `"OUI"` and their opposites.
    pub(super) fn flag(&self) -> Result<Option<bool>, Wrong> {
        let is = |text: &str, words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match self {
            Scalar::Null => Ok(None),
            Scalar::Bool(flag) => Ok(Some(*flag)),
            Scalar::Signed(0) => Ok(Some(false)),
            Scalar::Signed(1) => Ok(Some(true)),
            Scalar::Text(text) if is(text, &["oui", "true", "yes", "1"]) => Ok(Some(true)),
            Scalar::Text(text) if is(text, &["non", "false", "no", "0"]) => Ok(Some(false)),
            Scalar::Text(text) if text.is_empty() => Ok(None),
            _ => Err(Wrong),
        }
    }

    /// Text, or a whole number as text. Nothing where it is blank. Text never holds the character NUL,
    /// which PostgreSQL cannot store.
    pub(super) fn text(&self) -> Result<Option<Cow<'_, str>>, Wrong> {
        match self {
            Scalar::Null => Ok(None),
            Scalar::Signed(n) => Ok(Some(n.to_string().into())),
            Scalar::Unsigned(n) => Ok(Some(n.to_string().into())),
            Scalar::Text(text) if text.trim().is_empty() => Ok(None),
            Scalar::Text(text) if text.contains('\0') => Ok(Some(text.replace('\0', "\u{fffd}").into())),
            Scalar::Text(text) => Ok(Some(Cow::Borrowed(text.as_ref()))),
            _ => Err(Wrong),
        }
    }

    /// An instant in milliseconds since 1970: seconds, milliseconds or RFC 3339. Nothing for what no
    /// instant is: sentinels, the distant past, what is more than a day after `now`.
    pub(super) fn instant(&self, now: i64) -> Option<i64> {
        let ms = match self {
            Scalar::Text(text) if text.contains('-') => {
                chrono::DateTime::parse_from_rfc3339(text.trim()).ok()?.timestamp_millis()
            }
            other => match other.real().ok()?? as i64 {
                n if n >= MILLISECONDS => n,
                n => n.saturating_mul(1_000),
            },
        };
        Some(ms).filter(|ms| *ms > SENTINEL * 1_000 && *ms <= now.saturating_add(FUTURE_MS))
    }
}

/// `3.0` is 3.
fn whole(x: f64) -> Option<i64> {
    // Beyond this, not every whole number has a double of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64)
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Signed(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
                Ok(i64::try_from(value).map_or(Scalar::Unsigned(value), Scalar::Signed))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Float(value))
            }
            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(value)))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(value.to_owned())))
            }
            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar<'de>, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Scalar<'de>, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Nested)
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_730_822_539_000;

    fn scalar(json: &str) -> Scalar<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn counts() {
        for (json, count) in [
            ("3", Ok(Some(3))),
            ("-1", Ok(Some(-1))),
            ("3.0", Ok(Some(3))),
            (r#""5""#, Ok(Some(5))),
            (r#"" 5.0 ""#, Ok(Some(5))),
            (r#""""#, Ok(None)),
            ("null", Ok(None)),
            ("3.5", Err(Wrong)),
            ("1e300", Err(Wrong)),
            ("18446744073709551615", Err(Wrong)),
            (r#""five""#, Err(Wrong)),
            ("true", Err(Wrong)),
            ("[3]", Err(Wrong)),
        ] {
            assert_eq!(scalar(json).count(), count, "{json}");
        }
    }

    #[test]
    fn flags() {
        for (json, flag) in [
            ("true", Ok(Some(true))),
            ("0", Ok(Some(false))),
            (r#""OUI""#, Ok(Some(true))),
            (r#""Non""#, Ok(Some(false))),
            (r#""true""#, Ok(Some(true))),
            ("null", Ok(None)),
            ("2", Err(Wrong)),
            (r#""perhaps""#, Err(Wrong)),
        ] {
            assert_eq!(scalar(json).flag(), flag, "{json}");
        }
    }

    #[test]
    fn ids() {
        for (json, text) in [
            (r#""16107""#, Ok(Some("16107"))),
            ("20702946965", Ok(Some("20702946965"))),
            ("18446744073709551615", Ok(Some("18446744073709551615"))),
            (r#""a\u0000b""#, Ok(Some("a\u{fffd}b"))),
            (r#"" ""#, Ok(None)),
            ("null", Ok(None)),
            ("1.5", Err(Wrong)),
            ("{}", Err(Wrong)),
        ] {
            assert_eq!(scalar(json).text(), text.map(|text| text.map(Cow::Borrowed)), "{json}");
        }
    }

    #[test]
    fn instants() {
        for (json, ms) in [
            ("1730822539", Some(NOW)),
            ("1730822539000", Some(NOW)),
            (r#""1730822539""#, Some(NOW)),
            (r#""2024-11-05T17:02:19+01:00""#, Some(NOW)),
            (r#""2024-03-21T09:25:53.343Z""#, Some(1_711_013_153_343)),
            ("86400", None),
            ("0", None),
            ("-62135596800", None),
            ("-1e300", None),
            (r#""-62135596800""#, None),
            ("1730908940", None),
            (r#""yesterday""#, None),
            ("null", None),
        ] {
            assert_eq!(scalar(json).instant(NOW), ms, "{json}");
        }
    }
}
