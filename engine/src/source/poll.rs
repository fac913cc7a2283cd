//! Asking again and again: a live feed at its interval while all is well, ever more rarely while not; and what
//! is read once until it is there.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use velib_operators::{Time, row};

use super::fetch::FetchError;
use super::settings::Settings;
use super::{Context, Event, Health, Rejection, Snapshot, SourceError};

/// Failures double the interval up to this, where the interval itself is not longer.
const MAX_BACK_OFF: Duration = Duration::from_secs(600);
/// What is read once and is not there is looked for again after this, first.
const MISSING: Duration = Duration::from_secs(1);
/// The share of a back-off that differs from one process to another, so that they do not come in step.
const JITTER: f64 = 0.25;

/// Reads the setting `poll`.
pub(super) fn interval(settings: &Settings<'_>, default: Duration) -> Result<Duration, SourceError> {
    settings.duration("poll", default, Duration::from_millis(10)..=Duration::from_secs(7 * 86_400))
}

/// The times of a live source: the wall clock's, made strictly increasing.
pub(super) struct Clock {
    context: Context,
    last: Time,
}

impl Clock {
    /// Starts anew.
    pub(super) fn new(context: Context) -> Self {
        Clock { context, last: 0 }
    }

    /// Now, after every time that was given out before.
    pub(super) fn tick(&mut self) -> Time {
        self.last = self.wall().max(self.last + 1);
        self.last
    }

    /// Milliseconds since 1970.
    pub(super) fn wall(&self) -> Time {
        (self.context.wall_clock_ms)()
    }
}

/// What one poll brought.
pub(super) struct Polled {
    /// What was refused.
    pub(super) rejections: Vec<Rejection>,
    /// What is new.
    pub(super) snapshot: Option<Snapshot>,
    /// What went wrong. Without a snapshot, the feed has failed and is asked more rarely.
    pub(super) error: Option<FetchError>,
}

impl From<FetchError> for Polled {
    fn from(error: FetchError) -> Self {
        Polled { rejections: vec![], snapshot: None, error: Some(error) }
    }
}

/// A feed that can be asked.
pub(super) trait Poll: Send {
    /// Asks once.
    fn poll<'a>(&'a mut self, client: &'a reqwest::Client, clock: &'a mut Clock) -> BoxFuture<'a, Polled>;
}

/// Polls until the receiver is gone. A full channel delays the next poll; nothing is dropped.
pub(super) async fn run(mut feed: impl Poll, every: Duration, context: Context, out: mpsc::Sender<Event>) {
    let client = context.http.clone();
    let mut clock = Clock::new(context);
    let mut failures = 0_u32;
    loop {
        let started = Instant::now();
        let polled = tokio::select! {
            polled = feed.poll(&client, &mut clock) => polled,
            () = out.closed() => return,
        };
        let (took, wall) = (started.elapsed(), clock.wall());
        let failed = polled.error.is_some() && polled.snapshot.is_none();
        failures = if failed { failures.saturating_add(1) } else { 0 };
        let delay = if failed { back_off(every, failures, wall) } else { every };
        let delay = delay.max(polled.error.as_ref().and_then(|error| error.retry_after).unwrap_or_default());
        let next = started + delay;
        let wait = next.saturating_duration_since(Instant::now());
        let refused = Some(polled.rejections).filter(|rejections| !rejections.is_empty()).map(Event::Rejected);
        let (new, error) = (polled.snapshot.is_some(), polled.error.map(|error| error.message));
        let health = Health { time: wall, took, new, error, next_poll: wall + wait.as_millis() as Time };
        let health = Some(Event::Health(health));
        for event in refused.into_iter().chain(polled.snapshot.map(Event::Snapshot)).chain(health) {
            if out.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = out.closed() => return,
        }
    }
}

/// Tries until it succeeds, and says why it does not yet. `None`: nobody listens any more.
///
/// What was there when a job was submitted is there again sometime: to go on without it would be wrong, and to
/// give up would be for ever.
pub(super) async fn until_there<'a, T>(
    context: &Context,
    out: &mpsc::Sender<Event>,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, SourceError>>,
) -> Option<T> {
    let mut failures = 0_u32;
    loop {
        let error = match attempt().await {
            Ok(found) => return Some(found),
            Err(error) => error.to_string(),
        };
        failures = failures.saturating_add(1);
        let time = (context.wall_clock_ms)();
        let wait = back_off(MISSING, failures, time);
        let next_poll = time + wait.as_millis() as Time;
        let health = Health { time, took: Duration::ZERO, new: false, error: Some(error), next_poll };
        out.send(Event::Health(health)).await.ok()?;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = out.closed() => return None,
        }
    }
}

/// How long to wait after so many failures in a row: no less than the interval, longer each time up to a
/// limit, a little different in each process (by its wall clock).
fn back_off(every: Duration, failures: u32, wall: Time) -> Duration {
    let doubled = every.saturating_mul(1 << (failures.saturating_sub(1)).min(16));
    let limited = doubled.min(MAX_BACK_OFF).max(every);
    let share = row::hash(&wall.to_le_bytes()) as f64 / u64::MAX as f64;
    limited.mul_f64(1.0 + JITTER * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_asked_again_ever_more_rarely_within_limits() {
        let minute = Duration::from_secs(60);
        for (failures, least) in [(1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (1_000, 600)] {
            let wait = back_off(minute, failures, u64::from(failures)).as_secs_f64();
            assert!(wait >= f64::from(least) && wait <= f64::from(least) * 1.25, "{failures}: {wait}");
        }
        let day = Duration::from_secs(86_400);
        assert!(back_off(day, 9, 1) >= day, "never sooner than the interval");
    }
}
