//! What the sink of a job did.

use std::time::Duration;

use velib_operators::Time;

use crate::metrics;
use crate::plan::Job;

/// A transaction was committed: rows changed by view, and how long it took.
pub fn committed(job: &Job, rows: &[u64], took: Duration) {
    let name = [job.name.as_str()];
    metrics::TRANSACTIONS.with_label_values(&name).inc();
    if rows.is_empty() {
        // The answer was lost: how much, and how long it took, is not known.
        return;
    }
    metrics::TRANSACTION_DURATION.with_label_values(&name).observe(took.as_secs_f64());
    metrics::TRANSACTION_ROWS.with_label_values(&name).observe(rows.iter().sum::<u64>() as f64);
    for (view, rows) in job.views.iter().zip(rows) {
        metrics::ROWS_OUT.with_label_values(&[&job.name, &view.name]).inc_by(*rows);
    }
}

/// A transaction was not committed, and is tried again.
pub fn failed(job: &Job) {
    metrics::TRANSACTION_FAILURES.with_label_values(&[&job.name]).inc();
}

/// How far the tables are, and what waits to go there. `age`: how long ago the snapshot arrived that they are as
/// of, if it is another one than before.
pub fn progressed(job: &Job, upper: Option<Time>, as_of: Time, waiting_rows: usize, age: Option<Duration>) {
    let name = [job.name.as_str()];
    metrics::WAITING_ROWS.with_label_values(&name).set(waiting_rows as f64);
    // It is there before anything fails, so that the first time is seen as one.
    metrics::TRANSACTION_FAILURES.with_label_values(&name);
    let Some(upper) = upper else { return };
    metrics::COMMITTED.with_label_values(&name).set(upper as f64 / 1e3);
    for view in &job.views {
        metrics::VIEW_AS_OF.with_label_values(&[&job.name, &view.name]).set(as_of as f64 / 1e3);
    }
    if let Some(age) = age {
        metrics::SNAPSHOT_TO_COMMIT.with_label_values(&name).observe(age.as_secs_f64());
    }
}
