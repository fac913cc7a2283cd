//! The engine's own schema: versioned, forward only.
//!
//! Each migration is a file, numbered without gaps, and runs in one transaction with the row that records
//! it. An advisory lock keeps processes that start together from migrating together. What has been
//! released is not edited: a change is a further file.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{PostgresError, READER, SCHEMA, identifier};

/// The migrations, in order; the version of one is its place, counted from 1.
const MIGRATIONS: &[(&str, &str)] = &[
    ("engine", include_str!("migrations/0001_engine.sql")),
    ("membership", include_str!("migrations/0002_membership.sql")),
];

/// "velib" in ASCII: the advisory lock of migrations.
const LOCK: i64 = 0x76_656c_6962;

/// What is there before the first migration, so that there is somewhere to record it.
const ORIGIN: &str = "
    CREATE TABLE IF NOT EXISTS velib.migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    COMMENT ON TABLE velib.migrations IS 'The migrations of this schema that have been applied.';
    COMMENT ON COLUMN velib.migrations.version IS 'Its number.';
    COMMENT ON COLUMN velib.migrations.name IS 'What it was about.';
    COMMENT ON COLUMN velib.migrations.applied_at IS 'When it was applied.';
    COMMENT ON SCHEMA velib IS 'VelibInsight: the state of the engine. Readable; only the engine writes here.'";

/// Brings the engine's schema up to this engine's version, and lets [`READER`] read it.
///
/// # Errors
/// A database of a newer engine ([`PostgresError::Newer`]), missing rights, a lost connection.
pub async fn migrate(client: &mut Client) -> Result<(), PostgresError> {
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let migrated = migrate_locked(client).await;
    // Without a connection there is no lock to give back, and the first error is the one to tell.
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await;
    migrated?;
    unlocked?;
    Ok(())
}

async fn migrate_locked(client: &mut Client) -> Result<(), PostgresError> {
    let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    if !client.query_one(there, &[&SCHEMA]).await?.get::<_, bool>(0) {
        client.batch_execute(&format!("CREATE SCHEMA {}", identifier(SCHEMA))).await?;
    }
    // `IF NOT EXISTS` says so each time it does nothing.
    client.batch_execute(&format!("SET client_min_messages = warning; {ORIGIN}; RESET client_min_messages")).await?;

    let found = client.query_one("SELECT coalesce(max(version), 0) FROM velib.migrations", &[]).await?.get(0);
    let known = MIGRATIONS.len() as i32;
    if found > known {
        return Err(PostgresError::Newer { found, known });
    }
    for (version, (name, sql)) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = client.transaction().await?;
        transaction.batch_execute(sql).await?;
        let record = "INSERT INTO velib.migrations (version, name) VALUES ($1, $2)";
        transaction.execute(record, &[&version, name]).await?;
        transaction.commit().await?;
        tracing::info!(version, name, "migrated the engine's schema");
    }
    if ensure_reader(client).await? {
        // One transaction: nobody reads in between what is taken back.
        client.batch_execute(&format!("{}; {}", grant_reader(SCHEMA), hide_definitions())).await?;
    }
    Ok(())
}

/// Keeps from [`READER`] what jobs are made of: addresses and parameters may hold keys; and what a secret could be
/// guessed by.
fn hide_definitions() -> String {
    let reader = identifier(READER);
    format!(
        "REVOKE SELECT ON velib.jobs FROM {reader}; \
         GRANT SELECT (name, version, desired, status, status_detail, created_at, updated_at) ON velib.jobs TO {reader}; \
         REVOKE SELECT ON velib.cluster FROM {reader}; \
         GRANT SELECT (address, index, workers, generation, heartbeat, version, process, mesh, joined_at, ended, leaving) \
             ON velib.cluster TO {reader}"
    )
}

/// True if the role that may only read is there, or could be created.
async fn ensure_reader(client: &Client) -> Result<bool, PostgresError> {
    if reader_exists(client).await? {
        return Ok(true);
    }
    match client.batch_execute(&format!("CREATE ROLE {} NOLOGIN", identifier(READER))).await {
        Ok(()) => {
            let comment =
                "COMMENT ON ROLE velib_reader IS 'May read what VelibInsight writes; grant it to those who shall.'";
            client.batch_execute(comment).await?;
            Ok(true)
        }
        Err(e) if e.code() == Some(&SqlState::DUPLICATE_OBJECT) || e.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            Ok(true)
        }
        Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            tracing::warn!(
                "the role {READER} is not there and this user may not create roles: readers need grants of their own; \
                 let an administrator run: CREATE ROLE {READER} NOLOGIN"
            );
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// True if the role that may only read is there.
///
/// # Errors
/// A lost connection.
pub async fn reader_exists(client: &Client) -> Result<bool, PostgresError> {
    let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    Ok(client.query_one(there, &[&READER]).await?.get(0))
}

/// Lets [`READER`] read what is in `schema` and what will be.
pub fn grant_reader(schema: &str) -> String {
    let (schema, reader) = (identifier(schema), identifier(READER));
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO {reader}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}"
    )
}
