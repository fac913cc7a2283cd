//! Reading the settings of a `CREATE SOURCE`: durations, sizes, shares and zones as people write them.
//!
//! A setting that is unknown or out of its range is an error which names it and says what would do.

use std::time::Duration;

use chrono_tz::Tz;

use super::{History, Options, SourceError};

/// The settings of one source, with the names that its kind knows.
pub(super) struct Settings<'a> {
    kind: &'static str,
    options: &'a Options,
}

impl<'a> Settings<'a> {
    /// Checks that every name is one of `known`.
    pub(super) fn new(kind: &'static str, options: &'a Options, known: &[&str]) -> Result<Self, SourceError> {
        match options.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let known = known.join(", ");
                Err(SourceError::Settings(format!("{kind} has no setting '{name}'; its settings are {known}")))
            }
            None => Ok(Settings { kind, options }),
        }
    }

    /// The value of `name`, where it is given and not blank.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The value of `name`, which must be given.
    pub(super) fn required(&self, name: &str) -> Result<&'a str, SourceError> {
        self.text(name).ok_or_else(|| self.missing(name))
    }

    /// An error: the setting `name` is not given.
    pub(super) fn missing(&self, name: &str) -> SourceError {
        SourceError::Settings(format!("{} needs the setting '{name}': write {name} = '…'", self.kind))
    }

    /// An error about the setting `name`.
    pub(super) fn wrong(&self, name: &str, remedy: &str) -> SourceError {
        let value = self.text(name).unwrap_or_default();
        SourceError::Settings(format!("{} setting '{name}' cannot be '{value}': {remedy}", self.kind))
    }

    /// A length of time such as `60 s`, within `range`.
    pub(super) fn duration(
        &self,
        name: &str,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, SourceError> {
        let Some(value) = self.text(name) else { return Ok(default) };
        duration(value).filter(|value| range.contains(value)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(name, &format!("write a time from {least:?} to {most:?} such as '30 s' or '15 min'"))
        })
    }

    /// A whole number within `range`.
    pub(super) fn whole(
        &self,
        name: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, SourceError> {
        let Some(value) = self.text(name) else { return Ok(default) };
        value.parse().ok().filter(|value| range.contains(value)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(name, &format!("write a whole number from {least} to {most}"))
        })
    }

    /// `history`: `all`, `none`, or a length of time such as `30 days`.
    pub(super) fn history(&self) -> Result<History, SourceError> {
        match self.text("history") {
            None | Some("all") => Ok(History::All),
            Some("none") => Ok(History::None),
            Some(wanted) => duration(wanted)
                .map(History::Last)
                .ok_or_else(|| self.wrong("history", "write 'all', 'none' or a time such as '30 days'")),
        }
    }

    /// A number of bytes such as `64 MB`.
    pub(super) fn bytes(&self, name: &str, default: usize) -> Result<usize, SourceError> {
        let Some(value) = self.text(name) else { return Ok(default) };
        bytes(value).filter(|n| *n > 0).ok_or_else(|| self.wrong(name, "write a size such as '64 MB' or '500 kB'"))
    }

    /// A share from 0 to 1, written `50 %` or `0.5`.
    pub(super) fn share(&self, name: &str, default: f64) -> Result<f64, SourceError> {
        let Some(value) = self.text(name) else { return Ok(default) };
        let share = match value.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => value.parse(),
        };
        share
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| self.wrong(name, "write a share such as '50 %'"))
    }

    /// A time zone such as `Europe/Paris`.
    pub(super) fn time_zone(&self, name: &str) -> Result<Option<Tz>, SourceError> {
        let zone = |value: &str| value.parse().map_err(|_| self.wrong(name, "write a zone such as 'Europe/Paris'"));
        self.text(name).map(zone).transpose()
    }
}

/// Splits `64 MB` into 64 and `mb`.
fn amount(text: &str) -> Option<(f64, String)> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..unit].parse::<f64>().ok().filter(|number| number.is_finite())?;
    Some((number, text[unit..].trim().to_ascii_lowercase()))
}

/// A length of time such as `30 s` or `400 days`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = amount(text)?;
    let seconds = match unit.as_str() {
        "ms" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "min" | "m" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = amount(text)?;
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * factor) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_people_write_them() {
        for (text, ms) in [("60 s", 60_000), ("15min", 900_000), ("1.5 h", 5_400_000), ("250 ms", 250)] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1 s", "60", "1 fortnight", "9e99 s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(bytes("64 MB"), Some(64_000_000));
        assert_eq!(bytes("2 KiB"), Some(2048));
        assert_eq!(bytes("much"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let options = Options::from([("hold_back".into(), "120 %".into()), ("zone".into(), "Mars".into())]);
        let settings = Settings::new("GBFS", &options, &["hold_back", "zone"]).unwrap();
        let error = settings.share("hold_back", 0.5).unwrap_err().to_string();
        assert_eq!(error, "GBFS setting 'hold_back' cannot be '120 %': write a share such as '50 %'");
        assert!(settings.time_zone("zone").unwrap_err().to_string().contains("'Mars'"));
        assert!(settings.required("url").unwrap_err().to_string().contains("needs the setting 'url'"));
        let error = Settings::new("GBFS", &options, &["zone"]).err().unwrap().to_string();
        assert_eq!(error, "GBFS has no setting 'hold_back'; its settings are zone");
    }
}
