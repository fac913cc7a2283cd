//! How a table comes to hold what its view holds.
//!
//! A table that is there with the right columns moves by difference, through a staging table that is
//! filled by binary `COPY`. One that is new is filled by `COPY` itself and indexed afterwards. One whose
//! columns or key changed is made anew beside the old one and takes its name at the end: readers wait for
//! the renaming at most, and no statement finds a table empty or half full.

use tokio_postgres::Client;
use velib_operators::Time;

use super::SinkError;
use super::hydrate::{Contents, Registered};
use super::merge::Settled;
use super::postgres::bigint;
use super::statement::{insert, replace};
use super::table::{Identity, Table, bounded};
use super::types::Type;
use crate::plan::Retain;
use crate::postgres::identifier;

/// A table as it is: its columns (name, type, required), and those of its primary key.
#[derive(PartialEq, Eq)]
struct Found {
    columns: Vec<(String, String, bool)>,
    primary: Vec<String>,
}

/// Which rows of a table stay though the engine does not hold them.
pub(super) struct Stays {
    /// The column that tells a row's age.
    column: usize,
    /// A condition on the row `t`.
    condition: String,
}

/// Those that had left memory by the time of the first of the changes, and those older than `since`.
pub(super) fn stays(table: &Table, retain: Retain, settled: &Settled, since: Time) -> Stays {
    let column = &table.columns[retain.column];
    let zone = if column.kind == Type::TimestampTz { "" } else { " AT TIME ZONE 'UTC'" };
    let limit = bigint(settled.horizon.saturating_sub(retain.after_ms).max(since));
    let limit = format!("(to_timestamp({limit} / 1000.0){zone})");
    let name = identifier(&column.name);
    let condition = format!("(t.{name} IS NOT NULL AND t.{name} < {limit})");
    Stays { column: retain.column, condition }
}

/// Why a table could not be moved.
pub(super) enum Failure {
    Server(tokio_postgres::Error),
    Sink(SinkError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Server(error)
    }
}

/// Moves `table` to `contents`. Returns how many of its rows changed.
pub(super) async fn move_table(
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
