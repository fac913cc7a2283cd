//! What a GBFS feed offers, whatever its version: three relations.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use velib_operators::Time;

use crate::source::{Relation, Resolved, Snapshot, schema};

/// Positions in [`Snapshot::tables`].
pub(super) const STATIONS: usize = 0;
pub(super) const STATUS: usize = 1;
pub(super) const OBSERVATIONS: usize = 2;

/// The type of instants: `timestamptz`.
pub(super) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// What each station is.
pub(super) static STATIONS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        Field::new("station_id", DataType::Utf8, false),
        Field::new("code", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("lat", DataType::Float64, true),
        Field::new("lon", DataType::Float64, true),
        Field::new("capacity", DataType::Int64, true),
        Field::new("region", DataType::Utf8, true),
    ])
});

/// How each station is now.
pub(super) static STATUS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![Field::new("station_id", DataType::Utf8, false)];
    fields.extend(measures());
    schema(fields)
});

/// How each station was at each snapshot.
pub(super) static OBSERVATIONS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let station = Field::new("station_id", DataType::Utf8, false);
    let mut fields = vec![station, Field::new("observed_at", instant(), false)];
    fields.extend(measures());
    schema(fields)
});

fn measures() -> Vec<Field> {
    let counts = ["bikes", "mechanical", "ebikes", "docks", "bikes_disabled", "docks_disabled"];
    let flags = ["is_installed", "is_renting", "is_returning"];
    let counts = counts.map(|name| Field::new(name, DataType::Int64, true));
    let flags = flags.map(|name| Field::new(name, DataType::Boolean, true));
    let mut fields = counts.into_iter().chain(flags).collect::<Vec<_>>();
    fields.push(Field::new("last_reported", instant(), true));
    fields
}

/// The relations, the same for every feed.
pub(super) fn resolved() -> Resolved {
    let current = |name: &str, schema: &SchemaRef| Relation {
        name: name.to_owned(),
        schema: schema.clone(),
        key: vec![0],
        appended: false,
        time_column: None,
    };
    let observations = Relation {
        name: "observations".to_owned(),
        schema: OBSERVATIONS_SCHEMA.clone(),
        key: vec![0, 1],
        appended: true,
        time_column: Some(1),
    };
    let relations = vec![current("stations", &STATIONS_SCHEMA), current("status", &STATUS_SCHEMA), observations];
    Resolved { relations, zones: None }
}

/// A snapshot at `time`: every status is an observation of that time.
pub(super) fn snapshot(time: Time, stations: Option<RecordBatch>, status: Option<RecordBatch>) -> Snapshot {
    let observations = status.as_ref().map(|status| {
        let us = i64::try_from(time).unwrap_or(i64::MAX).saturating_mul(1_000);
        let observed_at = TimestampMicrosecondArray::from_value(us, status.num_rows()).with_timezone("UTC");
        let mut columns = status.columns().to_vec();
        columns.insert(1, Arc::new(observed_at) as ArrayRef);
        RecordBatch::try_new(OBSERVATIONS_SCHEMA.clone(), columns).expect("the columns of status and the time")
    });
    listed(time, stations, status.zip(observations))
}

/// The tables of a snapshot that say all of it: what was observed is how the stations are, and the time.
pub(super) fn record(snapshot: &Snapshot) -> BTreeMap<String, RecordBatch> {
    let table = |name: &str, i: usize| Some((name.to_owned(), snapshot.tables[i].clone()?));
    [table("stations", STATIONS), table("status", STATUS)].into_iter().flatten().collect()
}

/// The snapshot of which these are the tables. Columns are those of the time when they were recorded; whether they are
/// those of today, the timeline sees to.
pub(super) fn restore(time: Time, mut tables: BTreeMap<String, RecordBatch>) -> Snapshot {
    let (stations, status) = (tables.remove("stations"), tables.remove("status"));
    match status {
        // Of another version, without an observation that could be made of it.
        Some(status) if !same_columns(&status, &STATUS_SCHEMA) => {
            Snapshot { time, tables: vec![stations, Some(status), None] }
        }
        status => snapshot(time, stations, status),
    }
}

fn same_columns(rows: &RecordBatch, schema: &SchemaRef) -> bool {
    let types = |schema: &SchemaRef| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    types(&rows.schema()) == types(schema)
}

/// A snapshot at `time` of stations, and of how they are and were until then.
pub(super) fn listed(
    time: Time,
    stations: Option<RecordBatch>,
    observed: Option<(RecordBatch, RecordBatch)>,
) -> Snapshot {
    let mut tables = vec![None; 3];
    tables[STATIONS] = stations;
    (tables[STATUS], tables[OBSERVATIONS]) = observed.unzip();
    Snapshot { time, tables }
}
