//! The steps in which the time of a job passes.
//!
//! Time is moved from the end of one step to the end of the next, and nobody can look in between. What is due within
//! a step (rows that enter or leave by a temporal filter) happens at its end: a snapshot, with all that becomes due
//! since the one before it, is one timestamp, and so is an hour of snapshots that are caught up with.
//!
//! Whoever moves the time says where each step ends. It is told to all workers, in the dataflow itself: an operator
//! sees a frontier beyond a timestamp only after its worker has heard of the step that the timestamp is in.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Broadcast;

use crate::{Rows, Time, Updates};

/// The steps that a worker has heard of: by what they end before, in order. If it has heard of none, each timestamp
/// is a step.
#[derive(Clone, Debug, Default)]
pub struct Steps(Rc<RefCell<VecDeque<Time>>>);

impl Steps {
    /// Tells all workers of `uppers`: each is sent at a timestamp of the step that ends before it. The stream has no
    /// rows; operators that are to know of a step must be downstream of it.
    pub fn told(uppers: Stream<'_, Time, Vec<Time>>) -> (Rows<'_>, Self) {
        let steps = Steps::default();
        let heard = steps.clone();
        let told = uppers.broadcast().unary::<CapacityContainerBuilder<Vec<Updates>>, _, _, _>(
            Pipeline,
            "steps",
            move |_, _| move |input, _| input.for_each(|_, uppers| uppers.drain(..).for_each(|upper| heard.add(upper))),
        );
        (told, steps)
    }

    fn add(&self, upper: Time) {
        let mut uppers = self.0.borrow_mut();
        debug_assert!(uppers.back().is_none_or(|last| *last < upper), "steps follow one another");
        uppers.push_back(upper);
    }

    /// The last timestamp of the step that `time` is in.
    pub fn end(&self, time: Time) -> Time {
        let uppers = self.0.borrow();
        uppers.get(uppers.partition_point(|upper| *upper <= time)).map_or(time, |upper| upper - 1)
    }

    /// The first timestamp of the step that `time` is in.
    pub fn begin(&self, time: Time) -> Time {
        let uppers = self.0.borrow();
        let before = uppers.partition_point(|upper| *upper <= time);
        match before.checked_sub(1) {
            Some(last) => uppers[last],
            None if uppers.is_empty() => time,
            None => 0,
        }
    }

    /// The steps that are over at `frontier` end before this. None needs to be known any more but the last.
    pub fn over(&self, frontier: Time) -> Time {
        let mut uppers = self.0.borrow_mut();
        if uppers.is_empty() {
            return frontier;
        }
        let over = uppers.partition_point(|upper| *upper <= frontier);
        if over > 1 {
            uppers.drain(..over - 1);
        }
        if over == 0 { 0 } else { uppers[0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_in_the_step_that_ends_after_it() {
        let steps = Steps::default();
        assert_eq!((steps.begin(7), steps.end(7), steps.over(7)), (7, 7, 7));
        [10, 20, 35].into_iter().for_each(|upper| steps.add(upper));
        assert_eq!((steps.begin(0), steps.end(0)), (0, 9));
        assert_eq!((steps.begin(9), steps.end(9)), (0, 9));
        assert_eq!((steps.begin(10), steps.end(10)), (10, 19));
        assert_eq!((steps.begin(34), steps.end(20)), (20, 34));
        assert_eq!((steps.begin(40), steps.end(40)), (35, 40));
        assert_eq!((steps.over(9), steps.over(10), steps.over(34)), (0, 10, 20));
        // What is over is forgotten, but for where it ended.
        assert_eq!((steps.begin(20), steps.end(20), steps.begin(19)), (20, 34, 0));
    }
}
