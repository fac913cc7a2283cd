//! When what entered did so, so that it is known what is under way and how old it is.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use velib_operators::Time;

/// The timestamps at which something entered, and when that was.
#[derive(Debug, Default)]
pub struct Entered {
    times: Mutex<(VecDeque<(Time, Instant)>, Time)>,
}

impl Entered {
    /// Nothing has entered after `as_of`, and what had until then is there again.
    pub(super) fn resume(&self, as_of: Time) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).1 = as_of;
    }

    pub(super) fn add(&self, time: Time) {
        let (times, _) = &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.back().is_none_or(|last| last.0 != time) {
            times.push_back((time, Instant::now()));
        }
    }

    /// The last timestamp below `upper` at which something entered; 0: none.
    pub fn as_of(&self, upper: Time) -> Time {
        let (times, before) = &*self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().rev().find(|entry| entry.0 < upper).map_or(*before, |entry| entry.0)
    }

    /// How long ago the last timestamp below `upper` entered, if it has not been forgotten.
    pub fn age(&self, upper: Time) -> Option<Duration> {
        let (times, _) = &*self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().rev().find(|entry| entry.0 < upper).map(|entry| entry.1.elapsed())
    }

    /// How many are not below `committed`; the others are forgotten but for the last.
    pub fn in_flight(&self, committed: Time) -> usize {
        let (times, before) = &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = times.pop_front_if(|entry| entry.0 < committed) {
            *before = entry.0;
        }
        times.len()
    }
}
