//! Sinks: where the views of a job are kept for its readers.
//!
//! A sink is handed *closed* changes: everything that happened to all the views of a job up to one
//! timestamp, each view consolidated. It applies them together or not at all.
//!
//! [`task`] takes what a job closes, [`merge`]s what waits, and hands it to [`postgres`], which moves each
//! [`table`] and the frontier in one transaction. [`memory`] keeps views in the process.
//!
//! Invariants: nothing here knows sources or dataflows; a table never shows a state that no timestamp had.

pub mod error;
pub mod memory;
pub mod merge;
pub mod postgres;
pub mod table;
pub mod task;
pub mod types;

mod change;
mod encode;
mod fit;
mod hydrate;
mod numeric;
mod pipeline;
mod relocate;
mod session;
mod shown;
mod statement;
#[cfg(test)]
mod tests;

pub use error::{SinkError, Unsupported};
pub use memory::MemorySink;
pub use merge::{Merge, Settled};
pub use postgres::PostgresSink;
pub use table::{MULTIPLICITY, check};
pub use task::SinkHandle;

use arrow::array::{Int64Array, RecordBatch};
use velib_operators::Time;

/// The changes of a job's views, complete at all timestamps below `upper`.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Timestamps below this one are complete.
    pub upper: Time,
    /// The greatest timestamp at which anything entered: what the tables are as of.
    pub as_of: Time,
    /// By index of the view, only those that changed.
    pub changes: Vec<Changes>,
    /// Evaluation errors that came and went: (view, message), and how many.
    pub errors: Vec<(usize, String, i64)>,
}

/// The net changes of one view: no row twice, no diff zero.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Index into `plan::Job::views`.
    pub view: usize,
    /// Rows that appear or disappear.
    pub rows: RecordBatch,
    /// As many diffs as rows.
    pub diffs: Int64Array,
}
