//! Every metric, defined once: `velib_<noun>_<unit>[_total]`. Served at `/metrics`.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramVec, IntCounterVec, IntGauge, TextEncoder, register_gauge, register_gauge_vec,
    register_histogram_vec, register_int_counter_vec, register_int_gauge,
};

/// What holds for every definition here.
const DEFINED: &str = "defined once, with a valid name";

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $make:expr;)+) => {
        $($(#[$doc])* pub static $name: LazyLock<$type> = LazyLock::new(|| $make.expect(DEFINED));)+

        /// Defines all of them, so that they are there before they first count.
        fn define() {
            $(LazyLock::force(&$name);)+
        }
    };
}

metrics! {
    /// The generation that this process leads; 0: none.
    GENERATION: IntGauge = register_int_gauge!("velib_generation", "The generation that this process leads; 0: none.");
    /// Snapshots that entered a job.
    SNAPSHOTS: IntCounterVec = register_int_counter_vec!("velib_snapshots_total", "Snapshots that entered a job.", &["job", "source"]);
    /// Rows of those.
    ROWS_IN: IntCounterVec = register_int_counter_vec!("velib_rows_in_total", "Rows that entered a job.", &["job", "source"]);
    /// Rows and documents that a source refused.
    REJECTED: IntCounterVec = register_int_counter_vec!("velib_rejected_total", "Rows and documents that a source refused.", &["job", "source"]);
    /// Polls that failed.
    POLL_ERRORS: IntCounterVec = register_int_counter_vec!("velib_poll_errors_total", "Polls of a source that failed.", &["job", "source"]);
    /// The time of a source's last snapshot.
    LAST_SNAPSHOT: GaugeVec = register_gauge_vec!("velib_last_snapshot_timestamp_seconds", "The time of a source's last snapshot.", &["job", "source"]);
    /// Timestamps below this one have entered.
    FRONTIER: GaugeVec = register_gauge_vec!("velib_frontier_timestamp_seconds", "Timestamps below this one have entered a job.", &["job"]);
    /// Timestamps below this one are in the tables.
    COMMITTED: GaugeVec = register_gauge_vec!("velib_committed_timestamp_seconds", "Timestamps below this one are in the tables of a job.", &["job"]);
    /// From the arrival of a snapshot to its commit.
    SNAPSHOT_TO_COMMIT: HistogramVec = register_histogram_vec!(
        "velib_snapshot_to_commit_seconds",
        "From the arrival of a decoded snapshot to the commit of what it changed.",
        &["job"],
        vec![0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0]
    );
    /// Rows of tables that were changed.
    ROWS_OUT: IntCounterVec = register_int_counter_vec!("velib_rows_out_total", "Rows changed in the tables of a job.", &["job"]);
    /// Transactions.
    TRANSACTIONS: IntCounterVec = register_int_counter_vec!("velib_transactions_total", "Transactions of a job.", &["job"]);
    /// Changed rows that wait for the database.
    WAITING_ROWS: GaugeVec = register_gauge_vec!("velib_waiting_rows", "Changed rows of a job that wait for the database.", &["job"]);
    /// Memory of this process.
    RESIDENT_MEMORY: Gauge = register_gauge!("velib_resident_memory_bytes", "Resident memory of this process.");
}

/// All metrics in Prometheus' text format.
pub fn text() -> String {
    define();
    RESIDENT_MEMORY.set(resident_memory_bytes() as f64);
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = TextEncoder::new().encode(&prometheus::gather(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Resident memory of this process in bytes; 0 where the system does not say.
pub fn resident_memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// The series of a job are forgotten when it is dropped.
pub fn forget(job: &str, sources: impl IntoIterator<Item = String>) {
    for source in sources {
        let labels = [job, &source];
        // A series that never counted is not there to be removed.
        let _ = (SNAPSHOTS.remove_label_values(&labels), ROWS_IN.remove_label_values(&labels));
        let _ = (REJECTED.remove_label_values(&labels), POLL_ERRORS.remove_label_values(&labels));
        let _ = LAST_SNAPSHOT.remove_label_values(&labels);
    }
    let job = [job];
    let _ = (FRONTIER.remove_label_values(&job), COMMITTED.remove_label_values(&job));
    let _ = (SNAPSHOT_TO_COMMIT.remove_label_values(&job), ROWS_OUT.remove_label_values(&job));
    let _ = (TRANSACTIONS.remove_label_values(&job), WAITING_ROWS.remove_label_values(&job));
}
