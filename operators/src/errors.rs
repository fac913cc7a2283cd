//! Evaluation errors travel beside the rows, as a collection of their own.
//!
//! A row whose expression fails (division by zero, a bad cast) leaves the view and becomes a message that
//! stands as long as its cause does: when the row is retracted, so is the message.

use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::error::{DataFusionError, Result};
use timely::dataflow::Stream;
use timely::dataflow::operators::OkErr;

use crate::{Diff, Rows, Time, Updates};

/// Messages that appear and disappear: (message, timestamp, diff).
pub type Messages = Vec<(String, Time, Diff)>;

/// What a fallible operator sends.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Rows that could be computed.
    Rows(Updates),
    /// A row that could not: why, when, how many of them.
    Fault(String, Time, Diff),
}

/// Collects the error streams of a view while it is built.
#[derive(Default)]
pub struct Errors<'scope> {
    streams: Vec<Stream<'scope, Time, Messages>>,
}

impl<'scope> Errors<'scope> {
    /// The rows of a fallible operator; its faults are kept here.
    pub fn split(&mut self, outcomes: Stream<'scope, Time, Vec<Outcome>>) -> Rows<'scope> {
        let (rows, faults): (Rows<'scope>, Stream<'scope, Time, Messages>) = outcomes.ok_err(|outcome| match outcome {
            Outcome::Rows(updates) => Ok(updates),
            Outcome::Fault(text, time, diff) => Err((text, time, diff)),
        });
        self.streams.push(faults);
        rows
    }

    /// All the errors collected so far.
    pub fn take(&mut self) -> Vec<Stream<'scope, Time, Messages>> {
        std::mem::take(&mut self.streams)
    }
}

/// The part of an error that a reader can act on: its first line, at most 300 characters.
pub fn message(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("Arrow error: ").chars().take(300).collect()
}

/// What `compute` yields; if it panics, that is an error of the rows that it was computed of. No input
/// ends a worker.
///
/// # Errors
/// As `compute`.
pub fn guarded<T>(compute: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(DataFusionError::Execution(format!("a function failed: {text}")))
    })
}
