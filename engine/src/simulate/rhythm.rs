//! When people ride, and from where to where: the day and the week of a city.
//!
//! A *flow* is the number of trips a minute for each thousand stations, hour by hour. The totals are
//! calibrated on recordings of a real feed: 24 to 31 % of the stations change in a minute of the rush
//! hour, some 45 % in five minutes of the day, 3 % in five minutes of the night.

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Europe::Paris;

use super::stations::Purpose;

/// Trips from places of one kind to places of another.
pub(super) struct Flow {
    pub from: Purpose,
    pub to: Purpose,
    weekday: [f32; 24],
    weekend: [f32; 24],
}

/// By the full hour, local time; straight lines between.
#[rustfmt::skip]
pub(super) const FLOWS: [Flow; 5] = [
    Flow {
        from: Purpose::Home,
        to: Purpose::Work,
        weekday: [0.5, 0.3, 0.2, 0.2, 0.3, 2.0, 9.0, 38.0, 82.0, 58.0, 20.0, 14.0, 12.0, 17.0, 12.0, 9.0, 7.0, 6.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        weekend: [0.5, 0.4, 0.3, 0.2, 0.3, 0.8, 2.0, 5.0, 9.0, 12.0, 13.0, 12.0, 11.0, 11.0, 11.0, 10.0, 9.0, 8.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    },
    Flow {
        from: Purpose::Work,
        to: Purpose::Home,
        weekday: [4.0, 2.0, 1.0, 0.7, 0.5, 0.5, 0.7, 1.0, 3.0, 4.0, 5.0, 8.0, 15.0, 13.0, 11.0, 15.0, 34.0, 66.0, 86.0, 70.0, 38.0, 25.0, 14.0, 8.0],
        weekend: [4.0, 3.0, 2.0, 1.0, 0.6, 0.5, 0.5, 0.8, 2.0, 3.0, 5.0, 8.0, 11.0, 12.0, 12.0, 12.0, 13.0, 14.0, 14.0, 12.0, 9.0, 7.0, 6.0, 5.0],
    },
    Flow {
        from: Purpose::Home,
        to: Purpose::Leisure,
        weekday: [1.0, 0.6, 0.4, 0.2, 0.2, 0.2, 0.3, 1.0, 2.0, 4.0, 8.0, 10.0, 12.0, 12.0, 10.0, 10.0, 10.0, 12.0, 18.0, 30.0, 28.0, 14.0, 6.0, 3.0],
        weekend: [3.0, 2.0, 1.0, 0.5, 0.3, 0.3, 0.4, 1.0, 4.0, 10.0, 22.0, 32.0, 36.0, 38.0, 42.0, 42.0, 38.0, 34.0, 32.0, 34.0, 28.0, 16.0, 9.0, 5.0],
    },
    Flow {
        from: Purpose::Leisure,
        to: Purpose::Home,
        weekday: [14.0, 8.0, 4.0, 1.5, 0.6, 0.4, 0.4, 0.6, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 10.0, 10.0, 11.0, 13.0, 15.0, 14.0, 16.0, 22.0, 28.0, 22.0],
        weekend: [26.0, 20.0, 12.0, 6.0, 3.0, 1.5, 0.8, 0.8, 1.0, 3.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0, 42.0, 46.0, 44.0, 36.0, 28.0, 28.0, 32.0, 30.0],
    },
    Flow {
        from: Purpose::Any,
        to: Purpose::Any,
        weekday: [4.0, 2.5, 1.5, 0.9, 0.8, 1.0, 3.5, 28.0, 118.0, 114.0, 40.0, 28.0, 34.0, 34.0, 29.0, 29.0, 46.0, 66.0, 82.0, 56.0, 26.0, 15.0, 11.0, 8.0],
        weekend: [7.0, 5.0, 3.0, 1.6, 1.0, 0.9, 1.0, 2.0, 5.0, 11.0, 20.0, 28.0, 32.0, 34.0, 36.0, 36.0, 36.0, 34.0, 32.0, 27.0, 20.0, 15.0, 12.0, 9.0],
    },
];

/// What kind of a moment it is, on the spot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    weekend: bool,
    hour: usize,
    /// Of the hour that has passed, 0 to 1.
    share: f32,
}

impl Moment {
    /// Of a time in seconds since 1970.
    pub fn at(time: i64) -> Self {
        let utc: DateTime<Utc> = DateTime::from_timestamp(time, 0).unwrap_or_default();
        let local = Paris.from_utc_datetime(&utc.naive_utc());
        let weekend = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
        let seconds = local.minute() * 60 + local.second();
        Self { weekend, hour: local.hour() as usize, share: seconds as f32 / 3600.0 }
    }
}

impl Flow {
    /// Trips a second for each station.
    pub fn rate(&self, moment: Moment) -> f64 {
        let hours = if moment.weekend { &self.weekend } else { &self.weekday };
        let (this, next) = (hours[moment.hour], hours[(moment.hour + 1) % hours.len()]);
        f64::from(this + (next - this) * moment.share) / 1000.0 / 60.0
    }
}
