//! Whose input a worker takes in next.
//!
//! A worker computes for all jobs. Were the input of all taken in at once, each would be done when the last one is; so
//! they take turns, a step of time each, and the one that has had the least of the worker's time is next. A job that
//! needs little does not wait for one that needs much, and one that reads years of history holds up nobody.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::command::JobId;
use crate::worker::Feed;

/// How many items may wait here; more wait in the queue they come from.
const WAITING: usize = 256;
/// The longest turn: a step that takes longer is finished beside those of others.
const LONGEST: Duration = Duration::from_millis(50);

/// The input that waits, by job.
#[derive(Default)]
pub struct Turns {
    waiting: HashMap<JobId, VecDeque<Feed>>,
    count: usize,
    /// The time that each job has had, counted from what the others had when it came.
    had: HashMap<JobId, Duration>,
    /// Whose turn it is, and since when.
    turn: Option<(JobId, Instant)>,
}

impl Turns {
    /// There is room for more.
    pub fn has_room(&self) -> bool {
        self.count < WAITING
    }

    /// Something waits.
    pub fn wait(&self) -> bool {
        self.count > 0
    }

    /// Adds what a job's dataflow is to take in.
    pub fn push(&mut self, item: Feed) {
        let job = item.job();
        let least = self.had.values().min().copied().unwrap_or_default();
        self.had.entry(job).or_insert(least);
        self.waiting.entry(job).or_default().push_back(item);
        self.count += 1;
    }

    /// The job is gone.
    pub fn forget(&mut self, job: JobId) {
        self.had.remove(&job);
        self.count -= self.waiting.remove(&job).map_or(0, |items| items.len());
    }

    /// What is to be taken in now, if the turn is over: the worker is `idle`, or it has been long. At most a step.
    pub fn next(&mut self, idle: bool) -> Vec<Feed> {
        if let Some((job, since)) = self.turn {
            let took = since.elapsed();
            if !idle && took < LONGEST {
                return vec![];
            }
            self.turn = None;
            self.had.entry(job).and_modify(|had| *had += took);
        }
        let had = |job: &JobId| self.had.get(job).copied().unwrap_or_default();
        let Some(job) = self.waiting.keys().min_by_key(|job| (had(job), **job)).copied() else { return vec![] };
        let items = self.waiting.get_mut(&job).expect("it waits");
        let step = items.iter().position(|item| matches!(item, Feed::Advance(..))).map_or(items.len(), |at| at + 1);
        let step: Vec<Feed> = items.drain(..step).collect();
        if items.is_empty() {
            self.waiting.remove(&job);
        }
        self.count -= step.len();
        self.turn = Some((job, Instant::now()));
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(items: &[Feed]) -> Vec<(JobId, u64)> {
        let advance = |item: &Feed| match item {
            Feed::Advance(job, time) => Some((*job, *time)),
            Feed::Rows(..) | Feed::Tell(..) => None,
        };
        items.iter().filter_map(advance).collect()
    }

    #[test]
    fn the_one_that_has_had_the_least_is_next_a_step_at_a_time() {
        let mut turns = Turns::default();
        for (job, time) in [(1, 10), (1, 20), (2, 10), (2, 20)] {
            turns.push(Feed::Advance(job, time));
        }
        assert_eq!(jobs(&turns.next(true)), [(1, 10)]);
        assert!(turns.next(false).is_empty(), "the turn is not over");
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(jobs(&turns.next(true)), [(2, 10)]);
        // It needs less.
        assert_eq!(jobs(&turns.next(true)), [(2, 20)]);
        turns.push(Feed::Advance(3, 10));
        turns.forget(3);
        assert_eq!(jobs(&turns.next(true)), [(1, 20)]);
        assert!(!turns.wait() && turns.next(true).is_empty());
    }

    #[test]
    fn a_long_turn_ends() {
        let mut turns = Turns::default();
        turns.push(Feed::Advance(1, 10));
        turns.push(Feed::Advance(2, 10));
        assert_eq!(jobs(&turns.next(false)), [(1, 10)]);
        std::thread::sleep(LONGEST);
        assert_eq!(jobs(&turns.next(false)), [(2, 10)]);
    }
}
