//! What waits to be committed: closed changes, one upon the other, consolidated.
//!
//! However long the database is away, what waits is bounded by the size of the views: changes that undo
//! each other are gone when the next ones come.
//!
//! A view with `retain` lets rows leave memory that stay in its table. Their deletions end here, when they
//! arrive: judged later, against a clock that has moved on, a true deletion would look like one of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, filter, filter_record_batch, take, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use hashbrown::HashMap;
use velib_operators::{Row, RowCodec, Time};

use super::{Changes, Closed, SinkError};
use crate::plan::{Job, Retain, View};

/// Rows below which consolidating early is not worth it.
const FLOOR: usize = 8_192;

/// Changes ready to be committed.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The changes, without those that only take rows out of memory.
    pub closed: Closed,
    /// The upper of the first of them: rows that had their time before it by more than `retain` are not in
    /// memory.
    pub horizon: Time,
}

/// Closed changes that wait.
#[derive(Debug)]
pub struct Merge {
    job: Arc<Job>,
    parts: VecDeque<Closed>,
    horizon: Option<Time>,
    rows: usize,
    consolidated: usize,
}

impl Merge {
    /// Nothing yet.
    pub fn new(job: Arc<Job>) -> Self {
        Merge { job, parts: VecDeque::new(), horizon: None, rows: 0, consolidated: 0 }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many changed rows wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Timestamps below this one are complete in what waits.
    pub fn upper(&self) -> Option<Time> {
        self.parts.back().map(|closed| closed.upper)
    }

    /// The last snapshot in what waits; 0: none has entered.
    pub fn as_of(&self) -> Option<Time> {
        self.parts.back().map(|closed| closed.as_of)
    }

    /// Adds what comes after all that waits.
    ///
    /// # Errors
    /// Changes that do not fit the job.
    pub fn add(&mut self, mut closed: Closed) -> Result<(), SinkError> {
        let horizon = horizon(&closed);
        for changes in &mut closed.changes {
            let view = self.job.views.get(changes.view).ok_or_else(|| SinkError::Malformed {
                view: changes.view.to_string(),
                reason: "there is no view of that index".into(),
            })?;
            if let Some(retain) = view.retain {
                settle(changes, retain, horizon).map_err(|e| malformed(view, &e))?;
            }
        }
        self.horizon.get_or_insert(horizon);
        self.rows += rows(&closed);
        self.parts.push_back(closed);
        if self.rows > FLOOR + 2 * self.consolidated { self.consolidate() } else { Ok(()) }
    }

    /// Takes all that waits, as one.
    ///
    /// # Errors
    /// Changes that do not fit the job.
    pub fn take(&mut self) -> Result<Option<Settled>, SinkError> {
        self.consolidate()?;
        let (Some(closed), Some(horizon)) = (self.parts.pop_front(), self.horizon.take()) else { return Ok(None) };
        (self.rows, self.consolidated) = (0, 0);
        Ok(Some(Settled { closed, horizon }))
    }

    /// Gives back what was taken and not committed. It comes before all that has been added since.
    pub fn restore(&mut self, settled: Settled) {
        self.horizon = Some(settled.horizon);
        self.rows += rows(&settled.closed);
        self.parts.push_front(settled.closed);
    }

    fn consolidate(&mut self) -> Result<(), SinkError> {
        if self.parts.len() > 1 {
            let parts: Vec<Closed> = self.parts.drain(..).collect();
            self.parts.push_back(merge(&self.job, &parts)?);
        }
        self.rows = self.parts.iter().map(rows).sum();
        self.consolidated = self.rows;
        Ok(())
    }
}

impl Settled {
    /// The changes of one step.
    ///
    /// # Errors
    /// Changes that do not fit the job.
    pub fn one(job: &Arc<Job>, closed: Closed) -> Result<Self, SinkError> {
        let mut merge = Merge::new(job.clone());
        merge.add(closed)?;
        Ok(merge.take()?.expect("it was just added"))
    }
}

/// The end of time closes a timeline without saying how late it is there.
fn horizon(closed: &Closed) -> Time {
    if closed.upper == Time::MAX { closed.as_of.saturating_add(1) } else { closed.upper }
}

fn rows(closed: &Closed) -> usize {
    closed.changes.iter().map(|changes| changes.rows.num_rows()).sum()
}

fn malformed(view: &View, error: &ArrowError) -> SinkError {
    SinkError::Malformed { view: view.name.clone(), reason: error.to_string() }
}

/// Takes the deletions out of `changes` that are of rows which stay in their table.
fn settle(changes: &mut Changes, retain: Retain, horizon: Time) -> Result<(), ArrowError> {
    if !changes.diffs.values().iter().any(|diff| *diff < 0) {
        return Ok(());
    }
    let limit = i64::try_from(horizon.saturating_sub(retain.after_ms)).unwrap_or(i64::MAX);
    let times = cast(changes.rows.column(retain.column), &DataType::Timestamp(TimeUnit::Millisecond, None))?;
    let times = times.as_primitive::<TimestampMillisecondType>();
    let kept: Vec<bool> = (0..times.len())
        .map(|row| changes.diffs.value(row) > 0 || times.is_null(row) || times.value(row) >= limit)
        .collect();
    if kept.contains(&false) {
        let kept = BooleanArray::from(kept);
        changes.rows = filter_record_batch(&changes.rows, &kept)?;
        changes.diffs = filter(&changes.diffs, &kept)?.as_primitive::<Int64Type>().clone();
    }
    Ok(())
}

/// The net of `parts`, in their order.
fn merge(job: &Job, parts: &[Closed]) -> Result<Closed, SinkError> {
    let mut by_view: BTreeMap<usize, Vec<&Changes>> = BTreeMap::new();
    let mut errors: BTreeMap<(usize, &str), i64> = BTreeMap::new();
    for closed in parts {
        for changes in &closed.changes {
            by_view.entry(changes.view).or_default().push(changes);
        }
        for (view, message, diff) in &closed.errors {
            *errors.entry((*view, message)).or_default() += diff;
        }
    }
    let mut changes = vec![];
    for (index, parts) in by_view {
        let view = &job.views[index];
        let net = net(view, &parts).map_err(|e| malformed(view, &e))?;
        changes.extend((net.rows.num_rows() > 0).then_some(net));
    }
    let errors = errors.into_iter().filter(|(_, diff)| *diff != 0);
    Ok(Closed {
        upper: parts.iter().map(|closed| closed.upper).max().unwrap_or_default(),
        as_of: parts.iter().map(|closed| closed.as_of).max().unwrap_or_default(),
        changes,
        errors: errors.map(|((view, message), diff)| (view, message.to_string(), diff)).collect(),
    })
}

/// The net changes of `view`.
fn net(view: &View, parts: &[&Changes]) -> Result<Changes, ArrowError> {
    if let [only] = parts {
        return Ok((*only).clone());
    }
    let batch = concat_batches(&parts[0].rows.schema(), parts.iter().map(|part| &part.rows))?;
    let diffs = parts.iter().flat_map(|part| part.diffs.values().iter().copied());
    let rows = encode(&batch, 0..batch.num_columns())?;

    // Each distinct row: its diff, and where it was last.
    let mut distinct: HashMap<&Row, (i64, u32), ahash::RandomState> = HashMap::default();
    for ((place, row), diff) in (0..).zip(&rows).zip(diffs) {
        let entry = distinct.entry(row).or_insert((0, place));
        *entry = (entry.0 + diff, place);
    }
    let mut left: Vec<(u32, i64)> =
        distinct.into_values().filter(|(diff, _)| *diff != 0).map(|(diff, place)| (place, diff)).collect();
    left.sort_unstable();
    if view.retain.is_some() && !view.key.is_empty() {
        newest_of_each_key(view, &batch, &mut left)?;
    }
    let places = UInt32Array::from_iter_values(left.iter().map(|(place, _)| *place));
    let rows = take_record_batch(&batch, &places)?;
    Ok(Changes { view: parts[0].view, rows, diffs: Int64Array::from_iter_values(left.iter().map(|(_, diff)| *diff)) })
}

/// A group that left memory and came back appears twice, though only its latest row is meant.
fn newest_of_each_key(view: &View, batch: &RecordBatch, left: &mut Vec<(u32, i64)>) -> Result<(), ArrowError> {
    let places = UInt32Array::from_iter_values(left.iter().map(|(place, _)| *place));
    let keys = view.key.iter().map(|c| take(batch.column(*c), &places, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
    let keys = RowCodec::new(keys.iter().map(|key| key.data_type()))?.encode(&keys, left.len())?;
    let mut newest: HashMap<&Row, u32, ahash::RandomState> = HashMap::default();
    for (key, (place, _)) in keys.iter().zip(left.iter()).filter(|(_, (_, diff))| *diff > 0) {
        newest.insert(key, *place);
    }
    let mut keys = keys.iter();
    left.retain(|(place, diff)| {
        let key = keys.next().expect("one key a row");
        *diff < 0 || newest[key] == *place
    });
    Ok(())
}

/// The rows of some columns of `batch`.
pub(super) fn encode(batch: &RecordBatch, columns: impl IntoIterator<Item = usize>) -> Result<Vec<Row>, ArrowError> {
    let columns: Vec<ArrayRef> = columns.into_iter().map(|c| batch.column(c).clone()).collect();
    RowCodec::new(columns.iter().map(|column| column.data_type()))?.encode(&columns, batch.num_rows())
}
