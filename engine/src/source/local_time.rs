//! Local times: of recordings in the names of their files, and of documents that give no offset.

use chrono::{LocalResult, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use velib_operators::Time;

/// The moment of `local` in `zone`. An hour that occurs twice is the first of the two; one that does not
/// occur (the clocks went forward) is as if they had gone forward after it.
pub(super) fn moment(local: NaiveDateTime, zone: Tz) -> Option<i64> {
    let hour = TimeDelta::hours(1);
    let at = match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => at,
        LocalResult::Ambiguous(first, _) => first,
        LocalResult::None => {
            let before = zone.from_local_datetime(&local.checked_sub_signed(hour)?).earliest()?;
            before.checked_add_signed(hour)?
        }
    };
    Some(at.timestamp_millis())
}

/// Milliseconds since 1970 of a written date and time: with an offset, or local to `zone` where one is
/// given.
pub(super) fn parse(text: &str, zone: Option<Tz>) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    // ISO 8601 lets seconds be left out.
    for format in ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f%z"] {
        if let Ok(at) = chrono::DateTime::parse_from_str(text, format) {
            return Some(at.timestamp_millis());
        }
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    moment(local, zone?)
}

/// The moment that a file is named after: the last date with a time in its name, such as
/// `20241031_145001`, `2024-11-05T112001` or `2024-11-05_16-48-41`; in UTC where a `Z` follows.
pub(super) fn in_name(name: &str, zone: Tz) -> Option<Time> {
    let bytes = name.as_bytes();
    (0..bytes.len()).rev().find_map(|start| {
        if start > 0 && bytes[start - 1].is_ascii_digit() {
            return None;
        }
        let mut rest = &bytes[start..];
        let year = digits(&mut rest, 4)?;
        skip(&mut rest, b"-");
        let month = digits(&mut rest, 2)?;
        skip(&mut rest, b"-");
        let day = digits(&mut rest, 2)?;
        skip(&mut rest, b"T_- ");
        let hour = digits(&mut rest, 2)?;
        skip(&mut rest, b":-_");
        let minute = digits(&mut rest, 2)?;
        skip(&mut rest, b":-_");
        let second = digits(&mut rest, 2)?;
        let zone = match rest.first() {
            Some(digit) if digit.is_ascii_digit() => return None,
            Some(b'Z') => Tz::UTC,
            _ => zone,
        };
        let day = chrono::NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        moment(day.and_hms_opt(hour, minute, second)?, zone)?.try_into().ok()
    })
}

fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (number, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    number.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u32::from(digit - b'0')))
}

fn skip(rest: &mut &[u8], separators: &[u8]) {
    if let Some((first, tail)) = rest.split_first()
        && separators.contains(first)
    {
        *rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_an_offset_or_in_a_zone() {
        let paris = Some(Tz::Europe__Paris);
        for (text, zone, ms) in [
            ("2023-09-25T00:00", paris, Some(1_695_592_800_000)),
            ("2023-09-25 00:00:00.5", paris, Some(1_695_592_800_500)),
            ("2023-09-25T00:00", None, None),
            ("2023-09-24T22:00Z", None, None),
            ("2023-09-24T22:00:00Z", None, Some(1_695_592_800_000)),
            ("2023-09-25T00:00+02:00", None, Some(1_695_592_800_000)),
            ("2023-09-25T00:00:00+0200", paris, Some(1_695_592_800_000)),
            ("soon", paris, None),
        ] {
            assert_eq!(parse(text, zone), ms, "{text}");
        }
    }

    #[test]
    fn files_are_named_after_moments() {
        let paris = Tz::Europe__Paris;
        for (name, seconds) in [
            ("velib_data_20241031_145001.json", Some(1_730_382_601)),
            ("v2.1_export_2024-11-05T112001.json", Some(1_730_802_001)),
            ("velib_station_status_2024-11-05_16-48-41.jsonl", Some(1_730_821_721)),
            ("status_2024-11-05T15:48:41Z.json.gz", Some(1_730_821_721)),
            // Clocks went back: 02:30 was there twice.
            ("a_20241027_023000.json", Some(1_729_989_000)),
            // Clocks went forward: 02:30 was not there.
            ("a_20240331_023000.json", Some(1_711_848_600)),
            ("station_status_2025-10-18.json", None),
            ("a_20241399_145001.json", None),
            ("a_20241031_1450012.json", None),
            ("é_2024103", None),
        ] {
            assert_eq!(in_name(name, paris), seconds.map(|s| s * 1_000), "{name}");
        }
    }
}
