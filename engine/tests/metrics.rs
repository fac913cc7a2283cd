//! `docs/metrics.md` lists every metric: `UPDATE_METRICS=1` writes it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write;

use velib_engine::metrics::DEFINITIONS;

const HEAD: &str = "# Metrics

Each process serves these at `/metrics`, in Prometheus' text format. What concerns jobs, sources and tables is known to
the leader only; the dataflow, the cluster and the process are told by each for itself. Labels name what the text of a
job defines, or are one of a few words; the series of a job go when it is dropped. `job` is a job of the engine, so
that Prometheus must be told `honor_labels: true`: it calls the target by that name otherwise, and ours `exported_job`.

Names end with their unit: rows, seconds, bytes, or a point in time as `timestamp_seconds` since 1970. This page is
written from `engine/src/metrics` (`UPDATE_METRICS=1 cargo test --test metrics`).
";

fn page() -> String {
    let mut page = HEAD.to_string();
    for (group, definitions) in DEFINITIONS {
        write!(page, "\n## {group}\n\n| metric | type | labels | |\n|---|---|---|---|\n").unwrap();
        for definition in *definitions {
            let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, meaning) = (definition.name, definition.kind, definition.meaning);
            writeln!(page, "| `{name}` | {kind} | {} | {meaning} |", labels.join(" ")).unwrap();
        }
    }
    page
}

#[test]
fn the_page_lists_what_there_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == page(), "docs/metrics.md is not what engine/src/metrics says: UPDATE_METRICS=1 writes it");
}

#[test]
fn names_are_of_the_house() {
    const UNITS: [&str; 12] = [
        "objects",
        "seconds",
        "bytes",
        "rows",
        "records",
        "batches",
        "items",
        "polls",
        "documents",
        "snapshots",
        "transactions",
        "processes",
    ];
    // Without a unit: what is or is not, or counts events that have no other name; and rows that
    // come and go.
    const PLAIN: [&str; 17] = [
        "velib_checkpoint_failures_total",
        "velib_lake_compaction_failures_total",
        "velib_lake_write_failures_total",
        "velib_source_info",
        "velib_rows_in_total",
        "velib_rows_out_total",
        "velib_job_status",
        "velib_database_up",
        "velib_ready",
        "velib_build_info",
        "velib_generation",
        "velib_leader",
        "velib_view_value",
        "velib_transaction_failures_total",
        "velib_generations_formed_total",
        "velib_open_files",
        "velib_max_open_files",
    ];
    for definition in DEFINITIONS.iter().flat_map(|(_, definitions)| *definitions) {
        let name = definition.name;
        let noun = name.strip_prefix("velib_").unwrap_or_else(|| panic!("{name}: velib_ comes first"));
        let (noun, total) = noun.strip_suffix("_total").map_or((noun, false), |noun| (noun, true));
        assert_eq!(total, definition.kind == "counter", "{name}: counters, and only they, end with _total");
        let unit = UNITS.iter().any(|unit| noun == *unit || noun.ends_with(&format!("_{unit}")));
        assert!(unit || PLAIN.contains(&name), "{name}: the unit comes last");
    }
}
