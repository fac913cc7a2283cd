//! What a source of a job brought, and how it was asked.

use velib_operators::Time;

use crate::metrics;
use crate::source::{Health, Rejection};

/// A source is being read: a live one of a kind, or a recording.
pub fn reading(job: &str, source: &str, kind: Option<&str>) {
    let kind = kind.map_or("recording".to_owned(), str::to_lowercase);
    metrics::SOURCE_INFO.with_label_values(&[job, source, &kind]).set(1);
    // They are there before anything happens, so that the first time is seen as one.
    metrics::QUARANTINED_ROWS.with_label_values(&[job, source]);
    metrics::QUARANTINED_DOCUMENTS.with_label_values(&[job, source]);
}

/// A poll has come to an end.
pub fn polled(job: &str, source: &str, health: &Health) {
    let labels = [job, source];
    let failed = health.error.is_some();
    let result = match (health.new, failed) {
        (true, false) => "new",
        (true, true) => "partial",
        (false, false) => "unchanged",
        (false, true) => "failed",
    };
    metrics::POLLS.with_label_values(&[job, source, result]).inc();
    metrics::POLL_DURATION.with_label_values(&labels).observe(health.took.as_secs_f64());
    let in_a_row = metrics::FAILED_POLLS.with_label_values(&labels);
    if result == "failed" {
        in_a_row.inc();
    } else {
        in_a_row.set(0);
        metrics::LAST_GOOD_POLL.with_label_values(&labels).set(health.time as f64 / 1e3);
    }
}

/// Input was refused. What concerns no relation concerns the document.
pub fn refused(job: &str, source: &str, rejections: &[Rejection]) {
    let documents = rejections.iter().filter(|rejection| rejection.relation.is_empty()).count();
    metrics::QUARANTINED_DOCUMENTS.with_label_values(&[job, source]).inc_by(documents as u64);
    metrics::QUARANTINED_ROWS.with_label_values(&[job, source]).inc_by((rejections.len() - documents) as u64);
}

/// A snapshot of so many rows has entered.
pub fn entered(job: &str, source: &str, rows: u64, at: Time) {
    let labels = [job, source];
    metrics::SNAPSHOTS.with_label_values(&labels).inc();
    metrics::ROWS_IN.with_label_values(&labels).inc_by(rows);
    metrics::LAST_SNAPSHOT.with_label_values(&labels).set(at as f64 / 1e3);
}
