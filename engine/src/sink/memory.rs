//! A sink in memory: for `velib sql`, and for tests to compare with.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use velib_operators::{Row, RowCodec, Time};

use super::{Closed, SinkError, merge};
use crate::plan::Job;

/// The contents of the views of a job.
#[derive(Debug)]
pub struct MemorySink {
    upper: Time,
    as_of: Time,
    views: Vec<Contents>,
    errors: BTreeMap<(usize, String), i64>,
}

#[derive(Debug)]
struct Contents {
    name: String,
    schema: arrow::datatypes::SchemaRef,
    codec: RowCodec,
    rows: BTreeMap<Row, i64>,
}

impl MemorySink {
    /// Empty views of `job`.
    ///
    /// # Errors
    /// A view whose rows cannot be ordered (a map among its columns).
    pub fn new(job: &Job) -> Result<Self, SinkError> {
        let contents = |view: &crate::plan::View| {
            let codec = RowCodec::new(view.schema.fields().iter().map(|field| field.data_type()))
                .map_err(|e| SinkError::Malformed { view: view.name.clone(), reason: e.to_string() })?;
            Ok(Contents { name: view.name.clone(), schema: view.schema.clone(), codec, rows: BTreeMap::new() })
        };
        let views = job.views.iter().map(contents).collect::<Result<_, SinkError>>()?;
        Ok(MemorySink { upper: 0, as_of: 0, views, errors: BTreeMap::new() })
    }

    /// Applies what changed.
    ///
    /// # Errors
    /// Changes of other columns than the view's.
    ///
    /// # Panics
    /// In debug builds, if a view would hold a row less than no times.
    pub fn apply(&mut self, closed: &Closed) -> Result<(), SinkError> {
        for changes in &closed.changes {
            let view = &mut self.views[changes.view];
            let rows = merge::encode(&changes.rows, 0..changes.rows.num_columns())
                .map_err(|e| SinkError::Malformed { view: view.name.clone(), reason: e.to_string() })?;
            for (row, diff) in rows.into_iter().zip(changes.diffs.values()) {
                let count = view.rows.entry(row.clone()).or_default();
                *count += diff;
                if *count == 0 {
                    view.rows.remove(&row);
                }
            }
            debug_assert!(
                view.rows.values().all(|count| *count > 0),
                "view {} holds a row less than no times",
                view.name
            );
        }
        for (view, message, diff) in &closed.errors {
            *self.errors.entry((*view, message.clone())).or_default() += diff;
        }
        self.errors.retain(|_, count| *count != 0);
        (self.upper, self.as_of) = (closed.upper, closed.as_of);
        Ok(())
    }

    /// Timestamps below this one are in.
    pub fn upper(&self) -> Time {
        self.upper
    }

    /// What the views are as of.
    pub fn as_of(&self) -> Time {
        self.as_of
    }

    /// The rows of a view, in order, each as often as it is there.
    ///
    /// # Errors
    /// Rows that cannot be decoded.
    pub fn contents(&self, view: usize) -> Result<RecordBatch, SinkError> {
        let view = &self.views[view];
        let malformed =
            |e: arrow::error::ArrowError| SinkError::Malformed { view: view.name.clone(), reason: e.to_string() };
        let repeated =
            |(row, count): (&'_ Row, &i64)| std::iter::repeat_n(row.clone(), usize::try_from(*count).unwrap_or(0));
        let rows: Vec<Row> = view.rows.iter().flat_map(repeated).collect();
        let columns = view.codec.decode(&rows).map_err(malformed)?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(view.schema.clone(), columns, &options).map_err(malformed)
    }

    /// The evaluation errors that stand: (view, message), and how many.
    pub fn errors(&self) -> impl Iterator<Item = (usize, &str, i64)> {
        self.errors.iter().map(|((view, message), count)| (*view, message.as_str(), *count))
    }
}
