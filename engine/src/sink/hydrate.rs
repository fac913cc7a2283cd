//! The first transaction of an incarnation: every table of the job moves to the contents of its view.
//!
//! How a single table moves is in [`relocate`](super::relocate).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::SinkError;
use super::change::Change;
use super::merge::Settled;
use super::postgres::{Claim, PostgresSink, bigint, violated};
use super::relocate::{Failure, move_table, stays};
use super::session::{ERRORS, HYDRATE_LIMIT, apply_errors};
use super::table::Table;
use crate::plan::Retain;
use crate::plan::checkpoint::saving;
use crate::postgres::migrate::{grant_reader, reader_exists};
use crate::postgres::store::instant;
use crate::postgres::{READER, identifier, literal};

/// `COPY` is fed in pieces of about this many bytes.
const PIECE: usize = 256 << 10;
/// The magic bytes, no flags, no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What `velib.views` says of a table.
pub(super) struct Registered {
    pub key: Vec<String>,
    pub indexes: Vec<String>,
}

/// Does it all in one transaction. Returns the claim and how many rows changed, by view.
pub(super) async fn hydrate(
    client: &Client,
    sink: &PostgresSink,
    settled: &Settled,
    changes: &BTreeMap<usize, Change>,
    errors: &[(String, String, i64)],
) -> Result<(Claim, Vec<u64>), SinkError> {
    let job = &sink.job.name;
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL enable_seqscan = on; \
         SET LOCAL plan_cache_mode = auto; SET LOCAL work_mem = '64MB'",
        HYDRATE_LIMIT.as_millis()
    );
    client.batch_execute(&begin).await?;
    let claim = claim(client, sink, settled).await?;
    let registered = registered(client, job).await?;
    ensure_schema(client, job).await?;

    let wanted: BTreeSet<&str> = sink.tables.iter().map(|table| table.name.as_str()).collect();
    for view in registered.keys().filter(|view| !wanted.contains(view.as_str())) {
        let table = format!("{}.{}", identifier(job), identifier(view));
        client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await?;
        client.execute("DELETE FROM velib.views WHERE job = $1 AND view = $2", &[job, view]).await?;
    }
    // Of a state that was restored, these hold what came since.
    let appended = match sink.restored_at {
        0 => BTreeSet::new(),
        _ => saving(&sink.job).map(|saving| saving.appended).unwrap_or_default(),
    };
    let mut by_view = vec![];
    for (index, (table, view)) in sink.tables.iter().zip(&sink.job.views).enumerate() {
        let contents = Contents::new(table, changes.get(&index))?;
        let before = registered.get(&table.name);
        let stays = view.retain.map(|retain| {
            let since = if appended.contains(&index) { sink.restored_at } else { 0 };
            stays(table, retain, settled, since)
        });
        let moved = move_table(client, table, before, &contents, stays.as_ref()).await;
        by_view.push(moved.map_err(|error| match error {
            Failure::Server(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => violated(table, &error),
            Failure::Server(error) => error.into(),
            Failure::Sink(error) => error,
        })?);
        client.batch_execute(&table.describe()).await?;
        register(client, table, view.retain).await?;
    }
    client.execute("DELETE FROM velib.errors WHERE job = $1", &[job]).await?;
    let statement = client.prepare(ERRORS[0]).await?;
    apply_errors(client, &statement, job, errors).await?;
    client.batch_execute("COMMIT").await?;
    Ok((claim, by_view))
}

/// Takes the frontier over, unless a newer generation has it. Whoever else writes waits from here on.
async fn claim(client: &Client, sink: &PostgresSink, settled: &Settled) -> Result<Claim, SinkError> {
    let sql = "INSERT INTO velib.frontier AS f (job, generation, session, upper, as_of) VALUES ($1, $2, 0, $3, $4)
               ON CONFLICT (job) DO UPDATE SET generation = excluded.generation, session = f.session + 1,
                   upper = excluded.upper, as_of = excluded.as_of, committed_at = clock_timestamp()
               WHERE f.generation <= excluded.generation RETURNING session, upper";
    let (generation, upper) = (bigint(sink.generation), bigint(settled.closed.upper));
    let row = client.query_opt(sql, &[&sink.job.name, &generation, &upper, &instant(settled.closed.as_of)]).await?;
    row.map(|row| Claim { session: row.get(0), upper: row.get(1) }).ok_or_else(|| sink.fenced())
}

async fn registered(client: &Client, job: &str) -> Result<BTreeMap<String, Registered>, tokio_postgres::Error> {
    let rows = client.query("SELECT view, key, indexes FROM velib.views WHERE job = $1", &[&job]).await?;
    Ok(rows.iter().map(|row| (row.get(0), Registered { key: row.get(1), indexes: row.get(2) })).collect())
}

async fn register(client: &Client, table: &Table, retain: Option<Retain>) -> Result<(), tokio_postgres::Error> {
    let seconds = retain.map(|retain| retain.after_ms as f64 / 1e3);
    let indexes: Vec<&str> = table.indexes.iter().map(|index| index.name.as_str()).collect();
    let sql = "INSERT INTO velib.views (job, view, key, retain, comment, indexes)
               VALUES ($1, $2, $3, make_interval(secs => $4), $5, $6)
               ON CONFLICT (job, view) DO UPDATE SET key = excluded.key, retain = excluded.retain,
                   comment = excluded.comment, indexes = excluded.indexes";
    client.execute(sql, &[&table.schema, &table.name, &table.key, &seconds, &table.comment, &indexes]).await?;
    Ok(())
}

/// The schema of the job, for the role that may only read to look into.
async fn ensure_schema(client: &Client, job: &str) -> Result<(), SinkError> {
    let owned = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $1";
    let ours = match client.query_opt(owned, &[&job]).await? {
        Some(row) => row.get(0),
        None => {
            let comment = literal(&format!("The views of the job {job}, kept up to date by VelibInsight."));
            let schema = identifier(job);
            client.batch_execute(&format!("CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS {comment}")).await?;
            true
        }
    };
    if ours && reader_exists(client).await? {
        let may = "SELECT has_schema_privilege($1, $2, 'USAGE')";
        if !client.query_one(may, &[&READER, &job]).await?.get::<_, bool>(0) {
            client.batch_execute(&grant_reader(job)).await?;
        }
    }
    Ok(())
}

/// The full contents of a view.
pub(super) struct Contents<'a> {
    change: Option<&'a Change>,
    rows: Vec<u32>,
}

impl<'a> Contents<'a> {
    fn new(table: &Table, change: Option<&'a Change>) -> Result<Self, SinkError> {
        if change.is_some_and(|change| !change.remove.is_empty()) {
            let reason = "its full contents hold a row less than no times".to_string();
            return Err(SinkError::Malformed { view: table.name.clone(), reason });
        }
        let rows = change.map(|change| [&*change.insert, &*change.upsert].concat()).unwrap_or_default();
        Ok(Contents { change, rows })
    }

    /// Copies them into `path`, which has the columns of `table`.
    pub async fn copy(&self, client: &Client, table: &Table, path: &str) -> Result<u64, tokio_postgres::Error> {
        let Some(change) = self.change.filter(|_| !self.rows.is_empty()) else { return Ok(0) };
        let columns = table.all(str::to_string);
        let sql = format!("COPY {path} ({columns}) FROM STDIN (FORMAT binary)");
        let mut into = std::pin::pin!(client.copy_in::<_, Bytes>(&sql).await?);
        let mut piece = BytesMut::with_capacity(PIECE + PIECE / 4);
        piece.put_slice(COPY_HEADER);
        for row in &self.rows {
            change.copy(table, *row, &mut piece);
            if piece.len() >= PIECE {
                into.send(piece.split().freeze()).await?;
                piece.reserve(PIECE + PIECE / 4);
            }
        }
        piece.put_i16(-1);
        into.send(piece.freeze()).await?;
        into.finish().await
    }
}
