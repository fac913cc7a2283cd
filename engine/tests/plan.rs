//! SQL to plan: what is planned is pinned as `EXPLAIN`, what is refused as its message.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use velib_engine::plan::explain;
use velib_engine::source::{Relation, Resolved};
use velib_engine::sql::{self, Binding, SqlError};

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn relation(name: &str, key: &[usize], time_column: Option<usize>, columns: &[(&str, DataType)]) -> Relation {
    let field = |(i, (name, kind)): (usize, &(&str, DataType))| Field::new(*name, kind.clone(), !key.contains(&i));
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    let schema = Arc::new(Schema::new(fields));
    Relation { name: name.to_owned(), schema, key: key.to_vec(), appended: time_column.is_some(), time_column }
}

fn binding() -> Binding {
    use DataType::{Boolean, Float64, Int64, Utf8};
    let counts = ["bikes", "mechanical", "ebikes", "docks", "bikes_disabled", "docks_disabled"];
    let state: Vec<(&str, DataType)> = counts
        .map(|c| (c, Int64))
        .into_iter()
        .chain(["is_installed", "is_renting", "is_returning"].map(|c| (c, Boolean)))
        .chain([("last_reported", time())])
        .collect();
    let status: Vec<_> = [("station_id", Utf8)].into_iter().chain(state.clone()).collect();
    let observations: Vec<_> = [("station_id", Utf8), ("observed_at", time())].into_iter().chain(state).collect();
    let stations = [
        ("station_id", Utf8),
        ("code", Utf8),
        ("name", Utf8),
        ("lat", Float64),
        ("lon", Float64),
        ("capacity", Int64),
        ("region", Utf8),
    ];
    let velib = Resolved {
        relations: vec![
            relation("stations", &[0], None, &stations),
            relation("status", &[0], None, &status),
            relation("observations", &[0, 1], Some(1), &observations),
        ],
        zones: None,
    };
    let weather = [("at", time()), ("temperature", Float64)];
    let weather = Resolved { relations: vec![relation("", &[0], None, &weather)], zones: None };
    let past = Resolved { relations: vec![relation("", &[0, 1], Some(1), &observations)], zones: None };
    let resolved =
        BTreeMap::from([("velib".to_owned(), velib), ("weather".to_owned(), weather), ("past".to_owned(), past)]);
    Binding { resolved, bounded: ["past".to_owned()].into(), functions: vec![] }
}

fn bind(text: &str) -> Result<velib_engine::plan::Job, SqlError> {
    let statements = sql::parse(text, &BTreeMap::new())?;
    sql::bind_job("job", &statements, &binding())
}

fn plan(text: &str) -> String {
    match bind(text) {
        Ok(job) => explain::text(&job),
        Err(error) => format!("{error}\n"),
    }
}

/// Text files of cases: `-- name`, a query or job, `----`, what comes of it. `UPDATE_PLANS=1` rewrites them.
fn check(file: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(file);
    let before = std::fs::read_to_string(&path).expect("the file of cases is beside the tests");
    let (mut after, mut wrong) = (String::new(), vec![]);
    for case in before.split("\n\n\n") {
        let (text, expected) = case.split_once("\n----\n").unwrap_or((case.trim_end(), ""));
        let job = match text.to_lowercase().contains("create ") {
            true => text.to_owned(),
            false => format!("CREATE MATERIALIZED VIEW v AS\n{text}"),
        };
        if !after.is_empty() {
            after.push_str("\n\n");
        }
        let planned = plan(&job);
        if planned.trim_end() != expected.trim_end() {
            wrong.push(format!("{text}\n---- expected\n{expected}\n---- planned\n{planned}"));
        }
        after.push_str(&format!("{text}\n----\n{planned}"));
    }
    if std::env::var_os("UPDATE_PLANS").is_some() {
        std::fs::write(&path, &after).expect("the folder of the tests can be written");
        return;
    }
    assert!(wrong.is_empty(), "{file}; UPDATE_PLANS=1 cargo test --test plan accepts\n{}", wrong.join("\n\n"));
}

#[test]
fn planned() {
    check("planned.txt");
}

#[test]
fn refused() {
    check("refused.txt");
}
