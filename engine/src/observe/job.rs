//! How a job is.

use crate::metrics;
use crate::postgres::job::Status;

/// What a job does now.
pub fn status(job: &str, now: Status) {
    for status in Status::ALL {
        metrics::JOB_STATUS.with_label_values(&[job, status.as_str()]).set(i64::from(*status == now));
    }
}
