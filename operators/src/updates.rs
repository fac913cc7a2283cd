//! What flows between operators: a batch of rows, each with its diff, at one timestamp.

use arrow::array::{Int64Array, RecordBatch};

use crate::{Diff, Time};

/// Rows that appear or disappear at `time`. They travel under the capability of just that timestamp.
#[derive(Clone, Debug)]
pub struct Updates {
    /// The timestamp at which the collection changes.
    pub time: Time,
    /// The rows, one column an attribute.
    pub rows: RecordBatch,
    /// As many diffs as rows, never null, never zero.
    pub diffs: Int64Array,
}

impl Updates {
    /// Every row of `rows` appears once at `time`.
    pub fn insert(time: Time, rows: RecordBatch) -> Self {
        let diffs = Int64Array::from_value(1, rows.num_rows());
        Updates { time, rows, diffs }
    }

    /// `rows` change by `diffs` at `time`.
    ///
    /// # Panics
    /// If there is not one diff a row.
    pub fn new(time: Time, rows: RecordBatch, diffs: Int64Array) -> Self {
        assert_eq!(rows.num_rows(), diffs.len(), "one diff a row");
        Updates { time, rows, diffs }
    }

    /// The diffs as a slice.
    pub fn diffs(&self) -> &[Diff] {
        self.diffs.values()
    }
}
