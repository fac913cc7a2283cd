//! Recordings in Parquet: what documents said, as tables.
//!
//! A file with a column `observed_at` has observations, in the order of that time; any other lists stations. Columns
//! are found by the names that the relations have.

use std::fs::File;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use velib_operators::Time;

use super::relations::{OBSERVATIONS_SCHEMA, STATIONS_SCHEMA, STATUS_SCHEMA, listed};
use crate::source::Snapshot;
use crate::source::files::conform::{Refused, conform};

/// Rows that are read at a time.
const BATCH: usize = 32_768;
/// Snapshots that nobody tells apart are handed on together, up to about so many rows,
const TOGETHER: usize = 65_536;
/// within so many milliseconds.
const HOUR: Time = 3_600_000;
/// The column that tells observations from stations, by its place among theirs.
const OBSERVED_AT: usize = 1;

/// Tables become snapshots.
pub(super) struct Tables {
    /// Each time is a snapshot of its own.
    apart: bool,
    stations: Option<RecordBatch>,
    /// Observations that have not been handed on, and how many rows they have.
    held: Vec<RecordBatch>,
    rows: usize,
    /// The rows of the last time among them.
    last_rows: usize,
    now: Time,
}

/// Why a file is not read on.
pub(super) enum Stop<E> {
    /// It cannot be.
    Unreadable(ArrowError),
    /// By whoever takes what is read.
    Taken(E),
}

impl<E> From<ArrowError> for Stop<E> {
    fn from(error: ArrowError) -> Self {
        Stop::Unreadable(error)
    }
}

impl Tables {
    pub(super) fn new(apart: bool) -> Self {
        Tables { apart, stations: None, held: vec![], rows: 0, last_rows: 0, now: 0 }
    }

    /// The time that observations have come to.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Reads a file and hands on the snapshots that are whole by now; `refused` are rows that are left out.
    pub(super) fn read<E>(
        &mut self,
        path: &Path,
        refused: &mut Refused,
        mut give: impl FnMut(Snapshot) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(ArrowError::from)?)
            .map_err(ArrowError::from)?;
        let observations = builder.schema().index_of(OBSERVATIONS_SCHEMA.field(OBSERVED_AT).name()).is_ok();
        let schema = if observations { &OBSERVATIONS_SCHEMA } else { &STATIONS_SCHEMA };
        let wanted: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(ArrowError::from)?;
        let mut stations = vec![];
        for batch in reader {
            let rows = conform(&batch?, schema, observations.then_some(OBSERVED_AT), refused)?;
            if observations {
                self.add(rows, refused, &mut give).map_err(Stop::Taken)?;
            } else {
                stations.push(rows);
            }
        }
        if !observations {
            self.stations = Some(concat_batches(&STATIONS_SCHEMA, &stations)?);
        }
        Ok(())
    }

    fn add<E>(
        &mut self,
        rows: RecordBatch,
        refused: &mut Refused,
        give: &mut impl FnMut(Snapshot) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.in_order(rows, refused);
        let times = rows.column(OBSERVED_AT).as_primitive::<TimestampMicrosecondType>().values().clone();
        let mut start = 0;
        let mut from = 0;
        for run in times.chunk_by(|a, b| a == b) {
            let time = Time::try_from(run[0]).unwrap_or(0) / 1_000;
            if time > self.now {
                let whole = self.rows + from - start;
                if whole > 0 && (self.apart || whole >= TOGETHER || time / HOUR != self.now / HOUR) {
                    self.hold(rows.slice(start, from - start));
                    start = from;
                    self.flush().map_or(Ok(()), &mut *give)?;
                }
                self.last_rows = 0;
                self.now = time;
            }
            self.last_rows += run.len();
            from += run.len();
        }
        self.hold(rows.slice(start, from - start));
        Ok(())
    }

    /// Without the rows that go back in time: those who read on may rely on the order.
    fn in_order(&self, rows: RecordBatch, refused: &mut Refused) -> RecordBatch {
        let times = rows.column(OBSERVED_AT).as_primitive::<TimestampMicrosecondType>();
        let mut now = i64::try_from(self.now).unwrap_or(i64::MAX).saturating_mul(1_000);
        if times.values().first().is_none_or(|first| *first >= now) && times.values().is_sorted() {
            return rows;
        }
        let kept = times.values().iter().map(|time| {
            let kept = *time >= now;
            now = now.max(*time);
            Some(kept)
        });
        let kept = kept.collect();
        let in_order = filter_record_batch(&rows, &kept).expect("as many as rows");
        let why = "they go back in time; sort the file by observed_at".to_owned();
        refused.entry(why).or_default().0 += rows.num_rows() - in_order.num_rows();
        in_order
    }

    fn hold(&mut self, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.rows += rows.num_rows();
            self.held.push(rows);
        }
    }

    /// What has not been handed on, as a snapshot: all its observations, and how stations are at the last of them.
    pub(super) fn flush(&mut self) -> Option<Snapshot> {
        let stations = self.stations.take();
        if self.rows == 0 && stations.is_none() {
            return None;
        }
        let all = match &self.held[..] {
            [one] => one.clone(),
            several => concat_batches(&OBSERVATIONS_SCHEMA, several).expect("all have the columns of observations"),
        };
        let status = all.slice(all.num_rows() - self.last_rows, self.last_rows);
        (self.held, self.rows, self.last_rows) = (vec![], 0, 0);
        let mut columns = status.columns().to_vec();
        columns.remove(OBSERVED_AT);
        let status = RecordBatch::try_new(STATUS_SCHEMA.clone(), columns).expect("the columns of a status");
        Some(listed(self.now, stations, (all.num_rows() > 0).then_some((status, all))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::gbfs::relations::{OBSERVATIONS, STATUS};
    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::ArrowWriter;
    use std::convert::Infallible;
    use std::sync::Arc;

    fn write(path: &Path, rows: &[(&str, i64, i64)]) {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1 * 60_000_000));
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let bikes: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
        let batch =
            RecordBatch::try_from_iter([("bikes", bikes), ("observed_at", times), ("station_id", ids)]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// Time in minutes, observations, stations that have a status.
    fn play(apart: bool, files: &[&[(&str, i64, i64)]]) -> (Vec<(Time, usize, usize)>, Refused) {
        let folder = tempfile::tempdir().unwrap();
        let (mut tables, mut refused, mut found) = (Tables::new(apart), Refused::new(), vec![]);
        let mut take = |snapshot: Snapshot| {
            let rows = |i: usize| snapshot.tables[i].as_ref().map_or(0, RecordBatch::num_rows);
            found.push((snapshot.time / 60_000, rows(OBSERVATIONS), rows(STATUS)));
        };
        for rows in files {
            let path = folder.path().join("a.parquet");
            write(&path, rows);
            let read = tables.read(&path, &mut refused, |snapshot| {
                take(snapshot);
                Ok::<_, Infallible>(())
            });
            assert!(read.is_ok());
        }
        tables.flush().into_iter().for_each(take);
        (found, refused)
    }

    #[test]
    fn snapshots_of_an_hour_come_together_unless_they_are_told_apart() {
        let files: [&[_]; 2] =
            [&[("a", 1, 3), ("b", 1, 4), ("a", 2, 3)], &[("b", 2, 5), ("a", 61, 0), ("a", 3, 7), ("b", 62, 1)]];
        let (together, refused) = play(false, &files);
        assert_eq!(together, [(2, 4, 2), (62, 2, 1)]);
        assert_eq!(refused.into_values().map(|(rows, _)| rows).collect::<Vec<_>>(), [1]);
        let (apart, _) = play(true, &files);
        assert_eq!(apart, [(1, 2, 2), (2, 2, 2), (61, 1, 1), (62, 1, 1)]);
    }
}
