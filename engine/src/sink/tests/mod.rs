//! Tests of the sink against a real PostgreSQL.

mod faults;
mod model;
mod semantics;
mod values;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tokio_postgres::Client;

use super::{Changes, Closed, Merge, PostgresSink, Settled};
use crate::plan::{Job, Node, Retain, View};
use crate::postgres::{Store, connect};

/// A view of the columns `fields` with the key `key`.
fn view(name: &str, fields: Vec<Field>, key: &[usize]) -> View {
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    View {
        name: name.into(),
        plan: Node::Constant(RecordBatch::new_empty(schema.clone())),
        column_comments: vec![None; schema.fields().len()],
        schema,
        key: key.to_vec(),
        indexes: vec![],
        comment: Some(format!("what {name} is")),
        retain: None,
        metrics: None,
    }
}

/// `k` (not null), `v`, `s`.
fn simple(name: &str, key: &[usize]) -> View {
    let text = Field::new("s", DataType::Utf8, true);
    view(name, vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Int64, true), text], key)
}

/// `at`, `v`, by `at`; rows stay in the table.
fn retained(name: &str, after_ms: u64) -> View {
    let at = Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let mut view = view(name, vec![at, Field::new("v", DataType::Int64, true)], &[0]);
    view.retain = Some(Retain { column: 0, after_ms });
    view
}

fn job(name: &str, views: Vec<View>) -> Arc<Job> {
    Arc::new(Job { name: name.into(), inputs: vec![], views })
}

/// Rows of a [`simple`] view: (k, v, s, diff).
fn rows(view: usize, rows: &[(i64, Option<i64>, Option<&str>, i64)]) -> Changes {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(simple("", &[]).schema, columns).unwrap();
    Changes { view, rows: batch, diffs: rows.iter().map(|row| Some(row.3)).collect() }
}

/// Rows of a [`retained`] view: (at, v, diff).
fn times(view: usize, rows: &[(i64, i64, i64)]) -> Changes {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    let batch = RecordBatch::try_new(retained("", 0).schema, columns).unwrap();
    Changes { view, rows: batch, diffs: rows.iter().map(|row| Some(row.2)).collect() }
}

fn closed(upper: u64, changes: Vec<Changes>) -> Closed {
    Closed { upper, as_of: upper - 1, changes, errors: vec![] }
}

fn settled(job: &Arc<Job>, upper: u64, changes: Vec<Changes>) -> Settled {
    Settled::one(job, closed(upper, changes)).unwrap()
}

/// A client of its own, in a database with the engine's schema.
async fn reader(url: &str) -> Client {
    Store::open(url).await.unwrap();
    connect(url, "test").await.unwrap()
}

async fn sink(url: &str, job: &Arc<Job>, generation: u64) -> PostgresSink {
    PostgresSink::open(url, job.clone(), generation).await.unwrap()
}

/// The rows of a query, each as PostgreSQL writes it.
async fn table(client: &Client, query: &str) -> Vec<String> {
    let sql = format!("SELECT q::text FROM ({query}) q ORDER BY 1");
    client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
