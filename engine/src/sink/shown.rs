//! Views that are shown as metrics (`WITH (metrics = …)`): moved with each commit, by what it changed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::Changes;
use crate::metrics::{self, Row, VIEW_VALUE};
use crate::plan::{Job, Metrics, View};

/// The views of a job that are shown.
pub(super) struct Shown {
    job: Arc<Job>,
    begun: bool,
}

impl Shown {
    /// Of a job that has not committed anything yet.
    pub(super) fn new(job: Arc<Job>) -> Self {
        Shown { job, begun: false }
    }

    /// A transaction changed the tables so. The first one holds all there is.
    pub(super) fn committed(&mut self, changes: &[Changes]) {
        let job = &self.job.name;
        if !std::mem::replace(&mut self.begun, true) {
            for (view, shown) in self.job.views.iter().filter_map(|view| Some((view, view.metrics.as_ref()?))) {
                let column = |i: &usize| view.schema.field(*i).name().clone();
                VIEW_VALUE.show(job, &view.name, shown.columns.iter().map(column).collect());
            }
        }
        for changes in changes {
            let view = &self.job.views[changes.view];
            let Some(shown) = &view.metrics else { continue };
            let (gone, come) = rows(view, shown, changes).expect("the planner checked the types");
            let left = VIEW_VALUE.change(job, &view.name, gone, come);
            metrics::VIEW_VALUES_DROPPED.with_label_values(&[job, &view.name]).set(left as i64);
        }
    }
}

/// The keys of rows that go, and the rows that come with theirs.
type Moved = (Vec<String>, Vec<(String, Row)>);

fn rows(view: &View, shown: &Metrics, changes: &Changes) -> Result<Moved, ArrowError> {
    let column = |i: &usize| changes.rows.column(*i);
    let words = FormatOptions::new().with_null("");
    let text = |i: &usize| ArrayFormatter::try_new(column(i), &words);
    let keys = view.key.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let names = shown.name.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let values = shown.columns.iter().map(|i| numbers(column(i))).collect::<Result<Vec<_>, _>>()?;
    let say = |columns: &[ArrayFormatter<'_>], row| {
        columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(", ")
    };
    let (mut gone, mut come) = (vec![], vec![]);
    for (row, diff) in changes.diffs.values().iter().enumerate() {
        let key = say(&keys, row);
        if *diff < 0 {
            gone.push(key);
        } else {
            let value = |column: &Float64Array| column.is_valid(row).then(|| column.value(row));
            come.push((key, Row { name: say(&names, row), values: values.iter().map(value).collect() }));
        }
    }
    Ok((gone, come))
}

/// Times as seconds since 1970, true as 1.
fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    let as_is = |column: &ArrayRef| Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone());
    if !matches!(column.data_type(), DataType::Timestamp(..)) {
        return as_is(column);
    }
    let ms = cast(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?, &DataType::Int64)?;
    Ok(as_is(&ms)?.unary(|ms| ms / 1e3))
}
