//! Every metric, defined once: `velib_<noun>_<unit>[_total]`. Served at `/metrics`, listed in
//! `docs/metrics.md`.
//!
//! Labels are names of things that a job's text defines (job, source, view, operator), or one of a few words.
//! What only the leader knows (jobs, sources, tables) is there on the leader.

mod define;
mod process;
mod values;

use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    TextEncoder,
};

pub use define::Definition;
use define::{Kind, metrics};
pub use process::{cpu_seconds, resident_memory_bytes};
pub use values::{ROWS, Row, Values};

metrics! {
    "Sources" {
        SNAPSHOTS: IntCounterVec["job", "source"] = "velib_snapshots_total",
            "Snapshots that entered a job.";
        ROWS_IN: IntCounterVec["job", "source"] = "velib_rows_in_total",
            "Rows of the snapshots that entered a job.";
        QUARANTINED_ROWS: IntCounterVec["job", "source"] = "velib_quarantined_rows_total",
            "Rows that a source refused.";
        QUARANTINED_DOCUMENTS: IntCounterVec["job", "source"] = "velib_quarantined_documents_total",
            "Documents that a source refused as a whole, or in more than 100 rows.";
        POLLS: IntCounterVec["job", "source", "result"] = "velib_polls_total",
            "Polls of a live source, by result: new (it brought a snapshot), partial (a snapshot, but a part of the feed failed), unchanged (nothing new), failed. A feed that several jobs read is polled once and counted for each.";
        POLL_DURATION: HistogramVec["job", "source"] = "velib_poll_duration_seconds",
            "How long a poll took, from the request to decoded rows.",
            [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        FAILED_POLLS: IntGaugeVec["job", "source"] = "velib_failed_polls",
            "Polls of a live source that failed in a row, until now; 0: the last one was good.";
        LAST_GOOD_POLL: GaugeVec["job", "source"] = "velib_last_good_poll_timestamp_seconds",
            "When a live source was last asked with success, whether it brought anything new or not.";
        LAST_SNAPSHOT: GaugeVec["job", "source"] = "velib_last_snapshot_timestamp_seconds",
            "The time of the last snapshot of a source that entered. The lag of a live source is velib_clock_timestamp_seconds less this.";
        SOURCE_INFO: IntGaugeVec["job", "source", "kind"] = "velib_source_info",
            "1 for each source that is read. kind: gbfs or http, where it is polled; recording, where it ends by itself.";
    }
    "Lake" {
        LAKE_SNAPSHOTS: IntCounterVec["feed"] = "velib_lake_snapshots_total",
            "Snapshots that were written to the lake, by the name of the feed in it.";
        LAKE_BYTES: IntCounterVec["feed"] = "velib_lake_bytes_total",
            "Bytes of those.";
        LAKE_DURATION: HistogramVec["feed"] = "velib_lake_write_duration_seconds",
            "How long it took until a snapshot was durable, the try that succeeded.",
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        LAKE_FAILURES: IntCounterVec["feed"] = "velib_lake_write_failures_total",
            "Tries to write a snapshot that failed: the store is away, refuses, or is full.";
        LAKE_WAITING: IntGaugeVec["feed"] = "velib_lake_waiting_snapshots",
            "1 if a snapshot waits for the lake after a try that failed; its feed is not polled meanwhile.";
        LAKE_DAMAGED: IntCounterVec["feed"] = "velib_lake_damaged_objects_total",
            "Objects of the lake that were found unreadable or missing. velib lake verify names them.";
        LAKE_COMPACTED: IntCounterVec["feed"] = "velib_lake_compacted_snapshots_total",
            "Snapshots that the leader has moved from the log into the files of their hour.";
        LAKE_EXPIRED: IntCounterVec["feed"] = "velib_lake_expired_snapshots_total",
            "Snapshots that the leader has removed because they are older than lake.retention.";
        LAKE_LOGGED: IntGaugeVec["feed"] = "velib_lake_logged_snapshots",
            "Snapshots in the log after the last compaction: those of the hour that is not over, and little more.";
        LAKE_COMPACTION_FAILURES: IntCounterVec["feed"] = "velib_lake_compaction_failures_total",
            "Compactions that failed and are tried again; without a feed: what feeds there are could not be listed.";
    }
    "Checkpoints" {
        CHECKPOINT_DURATION: HistogramVec["job"] = "velib_checkpoint_duration_seconds",
            "From when the operators of a job were told to save until the checkpoint was in the lake.",
            [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        CHECKPOINT_BYTES: IntGaugeVec["job"] = "velib_checkpoint_size_bytes",
            "Size of the last checkpoint.";
        CHECKPOINT_TIMESTAMP: GaugeVec["job"] = "velib_checkpoint_as_of_timestamp_seconds",
            "The snapshot that the last checkpoint is as of.";
        CHECKPOINT_FAILURES: IntCounterVec["job"] = "velib_checkpoint_failures_total",
            "Checkpoints that could not be written; the job went on without.";
    }
    "Jobs" {
        JOB_STATUS: IntGaugeVec["job", "status"] = "velib_job_status",
            "1 for what a job does now, 0 for the rest of pending, running, paused, finished, failed.";
        FRONTIER: GaugeVec["job"] = "velib_frontier_timestamp_seconds",
            "Timestamps below this one have entered a job.";
        CLOCK: Gauge = "velib_clock_timestamp_seconds",
            "Now, by the clock of the timelines (another one than the world's only in rehearsals).";
    }
    "Tables" {
        VIEW_AS_OF: GaugeVec["job", "view"] = "velib_view_as_of_timestamp_seconds",
            "The snapshot that the table of a view is as of. Freshness is velib_clock_timestamp_seconds less this; it is that of the job's snapshots, as the tables of a job move together.";
        COMMITTED: GaugeVec["job"] = "velib_committed_timestamp_seconds",
            "Timestamps below this one are in the tables of a job.";
        SNAPSHOT_TO_COMMIT: HistogramVec["job"] = "velib_snapshot_to_commit_seconds",
            "From the arrival of a decoded snapshot to the commit of what it changed.",
            [0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        ROWS_OUT: IntCounterVec["job", "view"] = "velib_rows_out_total",
            "Rows changed in the table of a view.";
        TRANSACTIONS: IntCounterVec["job"] = "velib_transactions_total",
            "Transactions of a job that were committed.";
        TRANSACTION_DURATION: HistogramVec["job"] = "velib_transaction_duration_seconds",
            "How long a transaction took, from encoding to the server's answer.",
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        TRANSACTION_ROWS: HistogramVec["job"] = "velib_transaction_rows",
            "Rows changed by a transaction.",
            [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0];
        TRANSACTION_FAILURES: IntCounterVec["job"] = "velib_transaction_failures_total",
            "Tries to commit that failed: the database is away, or refuses.";
        DATABASE_UP: IntGauge = "velib_database_up",
            "1 if the last sign of life of this process reached the database, 0 if not.";
    }
    "Queues" {
        QUEUE_ITEMS: IntGaugeVec["queue", "job"] = "velib_queue_items",
            "What waits, looked at once a second. queue: commands and feed (of the fullest worker of the leader; without a job), in_flight (timestamps entered and not committed), closed (steps for the sink).";
        QUEUE_LIMIT: IntGaugeVec["queue", "job"] = "velib_queue_limit_items",
            "How many may wait there; then whoever sends waits. A live source does not wait for in_flight.";
        WAITING_ROWS: GaugeVec["job"] = "velib_waiting_rows",
            "Changed rows of a job that wait for the database. What undoes itself vanishes, so that the size of the views is the limit.";
    }
    "Dataflow" {
        OPERATOR_BUSY: CounterVec["job", "operator"] = "velib_operator_busy_seconds_total",
            "Time that the workers of this process spent in an operator, by its name in EXPLAIN; other: between operators, and in those beyond the limit of 256 names a job. Published once a second.";
        WORKER_BUSY: CounterVec["worker"] = "velib_worker_busy_seconds_total",
            "Time that a worker of this process spent in dataflows, by its number in the cluster. Published once a second.";
        ARRANGEMENT_RECORDS: IntGaugeVec["job", "arrangement"] = "velib_arrangement_records",
            "Updates (or groups) that this process holds for an operator, by the name of the arrangement in EXPLAIN; at most 256 names a job, the rest as other.";
        ARRANGEMENT_BYTES: IntGaugeVec["job", "arrangement"] = "velib_arrangement_bytes",
            "Memory of those, estimated from a sample.";
        ARRANGEMENT_BATCHES: IntGaugeVec["job", "arrangement"] = "velib_arrangement_batches",
            "Batches of those; many of them wait to be merged. Groups of an aggregate are one.";
    }
    "Views as metrics" {
        VIEW_VALUE: Values["job", "view", "column", "key", "name"] = "velib_view_value",
            "What stands in a column of a view WITH (metrics = …), as of its last commit. key: the primary key of the row; name: its column metrics_name. Times are seconds since 1970; of a truth value, true is 1; null is not there.";
        VIEW_VALUES_DROPPED: IntGaugeVec["job", "view"] = "velib_view_values_dropped_rows",
            "Rows of a view WITH (metrics = …) that are not shown as velib_view_value, being more than 250.";
    }
    "Cluster" {
        GENERATION: IntGauge = "velib_generation",
            "The generation that this process is part of; 0: none.";
        LEADER: IntGauge = "velib_leader",
            "1 if this process leads its generation.";
        GENERATIONS_FORMED: IntCounter = "velib_generations_formed_total",
            "Generations that this process has been part of since it started: one less is how often the cluster has begun anew.";
        PROCESSES_EXPECTED: IntGauge = "velib_expected_processes",
            "Processes of the newest generation that this process has part in.";
        PROCESSES_CONNECTED: IntGauge = "velib_connected_processes",
            "Processes that this one is connected with, itself among them.";
        PROCESSES_REGISTERED: IntGauge = "velib_registered_processes",
            "Processes that have a row in the database: members, standbys, and those gone that are not forgotten yet.";
        DETECTION: HistogramVec = "velib_detection_seconds",
            "How long a process had not been heard of when the leader formed a generation without it.",
            [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0];
        PAUSE: HistogramVec = "velib_pause_seconds",
            "From the end of a generation of this process to the beginning of its next.",
            [0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 60.0];
        READY: IntGauge = "velib_ready",
            "1 if /readyz says so: part of a generation, and committing; or a standby.";
    }
    "Process" {
        RESIDENT_MEMORY: IntGauge = "velib_resident_memory_bytes",
            "Resident memory of this process.";
        MEMORY_LIMIT: IntGauge = "velib_memory_limit_bytes",
            "What this process may have: the limit of its container, or the memory of the machine.";
        CPU: Counter = "velib_cpu_seconds_total",
            "Processor time of this process, user and system.";
        OPEN_FILES: IntGauge = "velib_open_files",
            "Open files and sockets of this process.";
        MAX_OPEN_FILES: IntGauge = "velib_max_open_files",
            "How many it may have.";
        STARTED: Gauge = "velib_start_timestamp_seconds",
            "When this process was started.";
        BUILD_INFO: IntGaugeVec["version"] = "velib_build_info",
            "1, with the version of the engine.";
    }
}

/// All metrics in Prometheus' text format.
pub fn text() -> String {
    define();
    process::update();
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = TextEncoder::new().encode(&prometheus::gather(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// This process has been started, now.
pub fn started(wall_clock_ms: u64) {
    STARTED.set(wall_clock_ms as f64 / 1e3);
    BUILD_INFO.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// The operators of a job are gone from this process.
pub fn forget_operators(job: &str) {
    OPERATOR_BUSY.forget(job);
}
