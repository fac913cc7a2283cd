//! The first transaction of an incarnation: every table of the job moves to the contents of its view.
//!
//! A table that is there with the right columns moves by difference, through a staging table that is
//! filled by binary `COPY`. One that is new is filled by `COPY` itself and indexed afterwards. One whose
//! columns or key changed is made anew beside the old one and takes its name at the end: readers wait for
//! the renaming at most, and never find a table empty or half full.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::SinkError;
use super::change::Change;
use super::merge::Settled;
use super::postgres::{Claim, ERRORS, HYDRATE_LIMIT, PostgresSink, apply_errors, bigint, violated};
use super::statement::{insert, replace};
use super::table::{Identity, Table, bounded};
use super::types::Type;
use crate::plan::Retain;
use crate::postgres::migrate::{grant_reader, reader_exists};
use crate::postgres::store::instant;
use crate::postgres::{identifier, literal};

/// `COPY` is fed in pieces of about this many bytes.
const PIECE: usize = 256 << 10;
/// The magic bytes, no flags, no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What `velib.views` says of a table.
struct Registered {
    key: Vec<String>,
    indexes: Vec<String>,
}

/// A table as it is: its columns (name, type, required), and those of its primary key.
#[derive(PartialEq, Eq)]
struct Found {
    columns: Vec<(String, String, bool)>,
    primary: Vec<String>,
}

/// Does it all in one transaction. Returns the claim and how many rows of tables changed.
pub(super) async fn hydrate(
    client: &Client,
    sink: &PostgresSink,
    settled: &Settled,
    changes: &BTreeMap<usize, Change>,
    errors: &[(String, String, i64)],
) -> Result<(Claim, u64), SinkError> {
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
    let mut rows = 0;
    for (index, (table, view)) in sink.tables.iter().zip(&sink.job.views).enumerate() {
        let contents = Contents::new(table, changes.get(&index))?;
        let before = registered.get(&table.name);
        let stays = view.retain.map(|retain| stays(table, retain, settled));
        let moved = move_table(client, table, before, &contents, stays.as_ref()).await;
        rows += moved.map_err(|error| match error {
            Failure::Server(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => violated(table, &error),
            Failure::Server(error) => error.into(),
            Failure::Sink(error) => error,
        })?;
        client.batch_execute(&table.describe()).await?;
        register(client, table, view.retain).await?;
    }
    client.execute("DELETE FROM velib.errors WHERE job = $1", &[job]).await?;
    let statement = client.prepare(ERRORS[0]).await?;
    apply_errors(client, &statement, job, errors).await?;
    client.batch_execute("COMMIT").await?;
    Ok((claim, rows))
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
        client.batch_execute(&grant_reader(job)).await?;
    }
    Ok(())
}

/// Which rows of a table stay though the engine does not hold them.
struct Stays {
    /// The column that tells a row's age.
    column: usize,
    /// A condition on the row `t`.
    condition: String,
}

fn stays(table: &Table, retain: Retain, settled: &Settled) -> Stays {
    let column = &table.columns[retain.column];
    let zone = if column.kind == Type::TimestampTz { "" } else { " AT TIME ZONE 'UTC'" };
    let limit = bigint(settled.horizon.saturating_sub(retain.after_ms));
    let limit = format!("(to_timestamp({limit} / 1000.0){zone})");
    let name = identifier(&column.name);
    let condition = format!("(t.{name} IS NOT NULL AND t.{name} < {limit})");
    Stays { column: retain.column, condition }
}

/// The full contents of a view.
struct Contents<'a> {
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
    async fn copy(&self, client: &Client, table: &Table, path: &str) -> Result<u64, tokio_postgres::Error> {
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

/// Why a table could not be moved.
enum Failure {
    Server(tokio_postgres::Error),
    Sink(SinkError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Server(error)
    }
}

async fn move_table(
    client: &Client,
    table: &Table,
    registered: Option<&Registered>,
    contents: &Contents<'_>,
    stays: Option<&Stays>,
) -> Result<u64, Failure> {
    let found = find(client, table).await?;
    match (found, registered) {
        (None, _) => fill_new(client, table, contents).await,
        (Some(_), None) => Err(Failure::Sink(SinkError::Occupied { table: table.path() })),
        (Some(found), Some(before)) if found == as_wanted(table) && before.key == table.key => {
            let rows = move_by_difference(client, table, contents, stays).await?;
            reindex(client, table, &before.indexes).await?;
            Ok(rows)
        }
        (Some(found), Some(before)) => swap(client, table, &found, before, contents, stays).await,
    }
}

async fn find(client: &Client, table: &Table) -> Result<Option<Found>, Failure> {
    let sql = "SELECT c.relkind = 'r', c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
               WHERE nspname = $1 AND relname = $2";
    let Some(row) = client.query_opt(sql, &[&table.schema, &table.name]).await? else { return Ok(None) };
    if !row.get::<_, bool>(0) {
        return Err(Failure::Sink(SinkError::Occupied { table: table.path() }));
    }
    let oid: u32 = row.get(1);
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
               WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let columns = client.query(sql, &[&oid]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let sql = "SELECT attname::text FROM pg_constraint, unnest(conkey) WITH ORDINALITY k(num, place)
               JOIN pg_attribute ON attrelid = $1 AND attnum = num
               WHERE conrelid = $1 AND contype = 'p' ORDER BY place";
    let primary = client.query(sql, &[&oid]).await?.iter().map(|row| row.get(0)).collect();
    Ok(Some(Found { columns, primary }))
}

fn as_wanted(table: &Table) -> Found {
    Found {
        columns: table.columns.iter().map(|c| (c.name.clone(), c.kind.name(), c.required)).collect(),
        primary: table.identifying().into_iter().map(|c| table.columns[c].name.clone()).collect(),
    }
}

async fn fill_new(client: &Client, table: &Table, contents: &Contents<'_>) -> Result<u64, Failure> {
    client.batch_execute(&table.create(&table.name)).await?;
    let rows = contents.copy(client, table, &table.path()).await?;
    client.batch_execute(&table.constrain(&table.name)).await?;
    for index in &table.indexes {
        client.batch_execute(&index.create(table, &index.name, &table.name)).await?;
    }
    client.batch_execute(&format!("ANALYZE {}", table.path())).await?;
    Ok(rows)
}

async fn move_by_difference(
    client: &Client,
    table: &Table,
    contents: &Contents<'_>,
    stays: Option<&Stays>,
) -> Result<u64, Failure> {
    let (path, stage) = (table.path(), "pg_temp.velib_stage");
    client.batch_execute(&format!("CREATE TEMP TABLE velib_stage (LIKE {path}) ON COMMIT DROP")).await?;
    contents.copy(client, table, stage).await?;
    client.batch_execute(&format!("ANALYZE {stage}")).await?;

    let same = |c: usize| format!("t.{0} = s.{0}", identifier(&table.columns[c].name));
    let same = table.identifying().into_iter().map(same).collect::<Vec<_>>().join(" AND ");
    let but = stays.map(|stays| format!(" AND NOT {}", stays.condition)).unwrap_or_default();
    let remove = format!("DELETE FROM {path} t WHERE NOT EXISTS (SELECT FROM {stage} s WHERE {same}){but}");
    // `*=` compares bytes: 1 month is not 30 days to it, and -0 not 0. Nulls are equal.
    let (left, right) = (table.all(|c| format!("t.{c}")), table.all(|c| format!("s.{c}")));
    let unchanged = format!("SELECT FROM {path} t WHERE {same} AND ROW({left})::record *= ROW({right})::record");
    let upsert = format!("{} WHERE NOT EXISTS ({unchanged}) {}", insert(table, &format!("{stage} s")), replace(table));
    let rows = client.execute(&remove, &[]).await? + client.execute(&upsert, &[]).await?;
    client.batch_execute(&format!("DROP TABLE {stage}")).await?;
    Ok(rows)
}

/// Makes the indexes those of the definition. Indexes that others have made stay.
async fn reindex(client: &Client, table: &Table, before: &[String]) -> Result<(), Failure> {
    for gone in before.iter().filter(|name| !table.indexes.iter().any(|index| index.name == **name)) {
        client.batch_execute(&format!("DROP INDEX IF EXISTS {}", table.sibling(gone))).await?;
    }
    let sql = "SELECT EXISTS (SELECT FROM pg_indexes WHERE schemaname = $1 AND tablename = $2 AND indexname = $3)";
    for index in &table.indexes {
        if !client.query_one(sql, &[&table.schema, &table.name, &index.name]).await?.get::<_, bool>(0) {
            client.batch_execute(&index.create(table, &index.name, &table.name)).await?;
        }
    }
    Ok(())
}

/// Makes the table anew beside the old one, and gives it its name.
async fn swap(
    client: &Client,
    table: &Table,
    found: &Found,
    before: &Registered,
    contents: &Contents<'_>,
    stays: Option<&Stays>,
) -> Result<u64, Failure> {
    let beside = bounded(&format!("velib_new_{}", table.name));
    client.batch_execute(&format!("DROP TABLE IF EXISTS {}", table.sibling(&beside))).await?;
    client.batch_execute(&table.create(&beside)).await?;
    let mut rows = contents.copy(client, table, &table.sibling(&beside)).await?;
    client.batch_execute(&table.constrain(&beside)).await?;
    if let Some(stays) = stays {
        rows += carry_over(client, table, found, before, &beside, stays).await?;
    }
    let temporary = |place: usize| bounded(&format!("{beside}_{place}_idx"));
    for (place, index) in table.indexes.iter().enumerate() {
        client.batch_execute(&index.create(table, &temporary(place), &beside)).await?;
    }
    client.batch_execute(&format!("ANALYZE {}", table.sibling(&beside))).await?;

    let primary = |name: &str| bounded(&format!("{name}_pkey"));
    let mut sql = format!(
        "DROP TABLE {}; ALTER TABLE {} RENAME TO {}; ALTER INDEX {} RENAME TO {}",
        table.path(),
        table.sibling(&beside),
        identifier(&table.name),
        table.sibling(&primary(&beside)),
        identifier(&primary(&table.name))
    );
    for (place, index) in table.indexes.iter().enumerate() {
        let (old, new) = (table.sibling(&temporary(place)), identifier(&index.name));
        sql += &format!("; ALTER INDEX {old} RENAME TO {new}");
    }
    client.batch_execute(&sql).await?;
    Ok(rows)
}

/// Rows of the old table that only it holds go into the new one, where its definition has room for them:
/// the same key, and nulls in the columns that are new.
async fn carry_over(
    client: &Client,
    table: &Table,
    found: &Found,
    before: &Registered,
    beside: &str,
    stays: &Stays,
) -> Result<u64, Failure> {
    let wanted = as_wanted(table);
    let there = |c: &(String, String, bool)| found.columns.iter().any(|old| old.0 == c.0 && old.1 == c.1);
    let common: Vec<_> = (0..wanted.columns.len()).filter(|c| there(&wanted.columns[*c])).collect();
    let missing = wanted.columns.iter().any(|c| c.2 && !there(c));
    let hashed_whole = matches!(table.identity, Identity::Hash(_)) && table.multiplicity;
    let aged = there(&wanted.columns[stays.column]) && table.key == before.key && wanted.primary == found.primary;
    if !aged || missing || hashed_whole {
        tracing::warn!(table = table.path(), "rows older than `retain` cannot be carried into its new definition");
        return Ok(0);
    }
    let (into, from) = (table.list(common.clone(), str::to_string), table.list(common, |c| format!("t.{c}")));
    let sql = format!(
        "INSERT INTO {} ({into}) SELECT {from} FROM {} t WHERE {} ON CONFLICT DO NOTHING",
        table.sibling(beside),
        table.path(),
        stays.condition
    );
    Ok(client.execute(&sql, &[]).await?)
}
