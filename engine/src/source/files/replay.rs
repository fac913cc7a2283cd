//! Rows in the order of time become snapshots: one for each time.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use velib_operators::Time;

use crate::source::Snapshot;

/// Rows of one time that are held before they are sent on (as of a millisecond later, if there are more).
const MAX_ROWS: usize = 10_000_000;

/// Collects the rows of a time until the next one begins.
pub(super) struct Replay {
    schema: SchemaRef,
    /// The column of the time; none: all rows are of one.
    column: Option<usize>,
    /// The time of the rows that are held.
    now: Time,
    last: Option<Time>,
    held: Vec<RecordBatch>,
    rows: usize,
    late: usize,
}

impl Replay {
    /// Starts at `now`, which matters where no column tells the time.
    pub(super) fn new(schema: SchemaRef, column: Option<usize>, now: Time) -> Self {
        let now = if column.is_some() { 0 } else { now };
        Replay { schema, column, now, last: None, held: vec![], rows: 0, late: 0 }
    }

    /// Adds rows, and hands over the snapshots that are whole by now. Rows that go back in time are left
    /// out and counted: those who read on may rely on the order.
    pub(super) fn add<E>(
        &mut self,
        batch: &RecordBatch,
        mut send: impl FnMut(Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut start = 0;
        if let Some(column) = self.column {
            let times = batch.column(column).as_primitive::<TimestampMicrosecondType>().values();
            for (row, us) in times.iter().enumerate() {
                let time = Time::try_from(*us).unwrap_or(0) / 1_000;
                if time > self.now {
                    self.hold(batch.slice(start, row - start));
                    self.flush().map_or(Ok(()), &mut send)?;
                    (self.now, start) = (time, row);
                } else if time < self.now {
                    self.hold(batch.slice(start, row - start));
                    start = row + 1;
                    self.late += 1;
                }
            }
        }
        self.hold(batch.slice(start, batch.num_rows() - start));
        if self.rows >= MAX_ROWS {
            self.flush().map_or(Ok(()), &mut send)?;
        }
        Ok(())
    }

    /// The rows that are held, as a snapshot.
    pub(super) fn flush(&mut self) -> Option<Snapshot> {
        if self.rows == 0 {
            return None;
        }
        let rows = match &self.held[..] {
            [one] => one.clone(),
            several => concat_batches(&self.schema, several).expect("all batches have the columns of the relation"),
        };
        (self.held, self.rows) = (vec![], 0);
        let time = self.last.map_or(self.now, |last| self.now.max(last + 1));
        self.last = Some(time);
        Some(Snapshot { time, tables: vec![Some(rows)] })
    }

    /// How many rows went back in time since this was asked last.
    pub(super) fn late(&mut self) -> usize {
        std::mem::take(&mut self.late)
    }

    /// The time that the rows have come to.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    fn hold(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.rows += rows.num_rows();
            self.held.push(rows);
        }
    }
}
