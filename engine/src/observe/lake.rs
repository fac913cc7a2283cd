//! What is written to the lake, and what is found damaged in it.

use std::time::Duration;

use velib_operators::Time;

use crate::lake::compact::Compacted;
use crate::metrics;

/// A feed is written.
pub fn writing(feed: &str) {
    // They are there before anything fails, so that the first time is seen as one.
    metrics::LAKE_FAILURES.with_label_values(&[feed]);
    metrics::LAKE_DAMAGED.with_label_values(&[feed]);
    metrics::LAKE_COMPACTION_FAILURES.with_label_values(&[feed]);
    metrics::LAKE_WAITING.with_label_values(&[feed]).set(0);
}

/// A snapshot is durable.
pub fn written(feed: &str, bytes: usize, took: Duration) {
    metrics::LAKE_SNAPSHOTS.with_label_values(&[feed]).inc();
    metrics::LAKE_BYTES.with_label_values(&[feed]).inc_by(bytes as u64);
    metrics::LAKE_DURATION.with_label_values(&[feed]).observe(took.as_secs_f64());
    metrics::LAKE_WAITING.with_label_values(&[feed]).set(0);
}

/// A snapshot could not be written, and waits.
pub fn failed(feed: &str) {
    metrics::LAKE_FAILURES.with_label_values(&[feed]).inc();
    metrics::LAKE_WAITING.with_label_values(&[feed]).set(1);
}

/// An object cannot be read.
pub fn damaged(feed: &str) {
    metrics::LAKE_DAMAGED.with_label_values(&[feed]).inc();
}

/// The state of a job is to be saved.
pub fn saving(job: &str) {
    metrics::CHECKPOINT_FAILURES.with_label_values(&[job]);
}

/// A checkpoint of a job is written.
pub fn saved(job: &str, as_of: Time, bytes: usize, took: Duration) {
    metrics::CHECKPOINT_DURATION.with_label_values(&[job]).observe(took.as_secs_f64());
    metrics::CHECKPOINT_BYTES.with_label_values(&[job]).set(bytes as i64);
    metrics::CHECKPOINT_TIMESTAMP.with_label_values(&[job]).set(as_of as f64 / 1e3);
}

/// It could not be.
pub fn not_saved(job: &str) {
    metrics::CHECKPOINT_FAILURES.with_label_values(&[job]).inc();
}

/// Hours of a feed have become files, or have gone.
pub fn compacted(feed: &str, done: &Compacted) {
    metrics::LAKE_COMPACTED.with_label_values(&[feed]).inc_by(done.snapshots);
    metrics::LAKE_EXPIRED.with_label_values(&[feed]).inc_by(done.expired);
    metrics::LAKE_LOGGED.with_label_values(&[feed]).set(done.logged as i64);
}

/// A feed, or without a name the lake, could not be compacted.
pub fn compaction_failed(feed: &str) {
    metrics::LAKE_COMPACTION_FAILURES.with_label_values(&[feed]).inc();
}
