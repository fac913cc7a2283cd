//! The time of the simulated city, which is also that of the cluster which watches it.

use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Europe::Paris;

/// When the demo begins in the city: shortly before the rush.
const MORNING: (u32, u32) = (7, 30);

/// A clock that goes faster than the world's from `start` on, when they agreed: the engine's `[clock]`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When both clocks showed the same.
    pub start: DateTime<Utc>,
    /// Its seconds in one of ours.
    pub speed: f64,
}

impl Clock {
    /// It is the next working day's morning in the city. A clock that is no faster cannot be ahead: it
    /// shows what ours shows.
    pub fn new(now: DateTime<Utc>, speed: f64) -> Self {
        let now_ms = now.timestamp_millis();
        let start_ms = match speed > 1.0 {
            true => now_ms - ((morning(now).timestamp_millis() - now_ms) as f64 / (speed - 1.0)) as i64,
            false => now_ms,
        };
        // Whole milliseconds, as the engine takes them.
        Clock { start: DateTime::from_timestamp_millis(start_ms).unwrap_or(now), speed }
    }

    /// What it shows when ours shows `here`.
    pub fn city_time(&self, here: DateTime<Utc>) -> DateTime<Utc> {
        self.start + TimeDelta::microseconds(((here - self.start).as_seconds_f64() * self.speed * 1e6) as i64)
    }

    /// What ours showed when it showed `city`.
    pub fn real_time(&self, city: DateTime<Utc>) -> DateTime<Utc> {
        self.start + TimeDelta::microseconds(((city - self.start).as_seconds_f64() / self.speed * 1e6) as i64)
    }
}

/// The morning of the next working day, in the city's time.
fn morning(now: DateTime<Utc>) -> DateTime<Utc> {
    let mut day = now.with_timezone(&Paris).date_naive();
    loop {
        day += TimeDelta::days(1);
        let morning = day.and_hms_opt(MORNING.0, MORNING.1, 0).expect("a time of the day");
        match Paris.from_local_datetime(&morning).earliest() {
            Some(time) if !matches!(day.weekday(), Weekday::Sat | Weekday::Sun) => return time.to_utc(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_morning_in_the_city_whenever_the_demo_begins() {
        for (now, expected) in [
            ("2024-11-05T15:00:00Z", "2024-11-06T06:30:00+00:00"),
            ("2024-07-05T03:00:00Z", "2024-07-08T05:30:00+00:00"),
        ] {
            let now: DateTime<Utc> = now.parse().unwrap();
            let clock = Clock::new(now, 60.0);
            let off = (clock.city_time(now) - expected.parse::<DateTime<Utc>>().unwrap()).num_milliseconds();
            assert!(clock.start < now && off.abs() < 100, "{clock:?}");
            let later = now + TimeDelta::seconds(10);
            assert_eq!((clock.city_time(later) - clock.city_time(now)).num_seconds(), 600);
            assert!((clock.real_time(clock.city_time(later)) - later).num_milliseconds().abs() <= 1);
        }
        let now = Utc::now();
        assert!((Clock::new(now, 1.0).city_time(now) - now).num_milliseconds().abs() <= 1);
    }
}
