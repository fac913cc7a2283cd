//! The engine's own tables, by typed functions: jobs, generations, refused input, frontiers. Who is in the
//! cluster: see [`membership`](super::membership).
//!
//! One connection, opened again when it is lost; each function is one statement, and none is tried twice
//! by itself: see [`retry`](super::retry).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Row, Transaction};
use velib_operators::Time;

use super::job::{Brief, Definition, Desired, Job, Status};
use super::{PostgresError, connect, identifier, migrate};
use crate::source::Rejection;

/// How many refused inputs are kept for each job and source.
pub const QUARANTINE_KEPT: i64 = 10_000;
/// How many refused inputs go into one statement.
const QUARANTINE_BATCH: usize = 1_000;
/// The longest that one statement may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// How far the tables of a job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// The generation that wrote last.
    pub generation: u64,
    /// Timestamps below this one are in the tables.
    pub upper: Time,
    /// The snapshot that the tables are as of.
    pub as_of: DateTime<Utc>,
    /// When that was committed.
    pub committed_at: DateTime<Utc>,
}

/// The engine's own tables.
#[derive(Debug)]
pub struct Store {
    url: String,
    client: Mutex<Option<Arc<Client>>>,
}

impl Store {
    /// Connects to `url` and brings the engine's schema up to date.
    ///
    /// # Errors
    /// No connection, no right to migrate, a database of a newer engine.
    pub async fn open(url: &str) -> Result<Self, PostgresError> {
        let mut client = Store::connect(url).await?;
        // A migration may take long, and waits for that of another process.
        client.batch_execute("SET statement_timeout = 0").await?;
        migrate::migrate(&mut client).await?;
        client.batch_execute(&limit()).await?;
        Ok(Store { url: url.to_string(), client: Mutex::new(Some(Arc::new(client))) })
    }

    async fn connect(url: &str) -> Result<Client, PostgresError> {
        let client = connect(url, "velib").await?;
        client.batch_execute(&limit()).await?;
        Ok(client)
    }

    pub(super) async fn client(&self) -> Result<Arc<Client>, PostgresError> {
        let mut held = self.client.lock().await;
        match held.as_ref().filter(|client| !client.is_closed()) {
            Some(client) => Ok(client.clone()),
            None => {
                let client = Arc::new(Store::connect(&self.url).await?);
                *held = Some(client.clone());
                Ok(client)
            }
        }
    }

    pub(super) async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        Ok(self.client().await?.query(sql, parameters).await?)
    }

    pub(super) async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, PostgresError> {
        Ok(self.client().await?.execute(sql, parameters).await?)
    }

    /// Installs a job. False: there is one of that name already, and it stays as it is.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn submit(&self, job: &Definition) -> Result<bool, PostgresError> {
        let sql = "INSERT INTO velib.jobs (name, text, parameters, resolved) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (name) DO NOTHING";
        Ok(self.execute(sql, &[&job.name, &job.text, &Json(&job.parameters), &job.resolved]).await? > 0)
    }

    /// Replaces the definition of a job, which keeps what it is desired to do. False: there is none.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn replace(&self, job: &Definition) -> Result<bool, PostgresError> {
        let sql = "UPDATE velib.jobs SET version = version + 1, text = $2, parameters = $3, resolved = $4,
                   status = 'pending', status_detail = NULL, updated_at = clock_timestamp() WHERE name = $1";
        Ok(self.execute(sql, &[&job.name, &job.text, &Json(&job.parameters), &job.resolved]).await? > 0)
    }

    /// All the jobs, by name.
    ///
    /// # Errors
    /// A lost connection; a row that this engine does not understand.
    pub async fn jobs(&self) -> Result<Vec<Job>, PostgresError> {
        self.query("SELECT * FROM velib.jobs ORDER BY name", &[]).await?.iter().map(Job::read).collect()
    }

    /// All the jobs without their definitions, by name: for who looks all the time.
    ///
    /// # Errors
    /// A lost connection; a row that this engine does not understand.
    pub async fn briefs(&self) -> Result<Vec<Brief>, PostgresError> {
        let sql = format!("SELECT {} FROM velib.jobs ORDER BY name", Brief::COLUMNS);
        self.query(&sql, &[]).await?.iter().map(Brief::read).collect()
    }

    /// The job of that name.
    ///
    /// # Errors
    /// A lost connection; a row that this engine does not understand.
    pub async fn job(&self, name: &str) -> Result<Option<Job>, PostgresError> {
        self.query("SELECT * FROM velib.jobs WHERE name = $1", &[&name]).await?.first().map(Job::read).transpose()
    }

    /// Says what a job is to do. False: there is none.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn set_desired(&self, name: &str, desired: Desired) -> Result<bool, PostgresError> {
        let sql = "UPDATE velib.jobs SET desired = $2, updated_at = clock_timestamp() WHERE name = $1";
        Ok(self.execute(sql, &[&name, &desired.as_str()]).await? > 0)
    }

    /// Says what a job does. Of no effect if its definition is no more of that version.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn set_status(
        &self,
        name: &str,
        version: i64,
        status: Status,
        detail: Option<&str>,
    ) -> Result<(), PostgresError> {
        let sql = "UPDATE velib.jobs SET status = $3, status_detail = $4, updated_at = clock_timestamp()
                   WHERE name = $1 AND version = $2 AND (status, status_detail) IS DISTINCT FROM ($3, $4)";
        self.execute(sql, &[&name, &version, &status.as_str(), &detail]).await?;
        Ok(())
    }

    /// Removes a job with its tables, in one transaction. What others put into its schema stays, and the
    /// schema with it. False: there is none.
    ///
    /// # Errors
    /// A lost connection; objects of others that depend on its tables.
    pub async fn drop_job(&self, name: &str) -> Result<bool, PostgresError> {
        // A connection of its own: a transaction must not be shared with what others ask of the store.
        let mut client = Store::connect(&self.url).await?;
        let transaction = client.transaction().await?;
        let known = transaction.execute("DELETE FROM velib.jobs WHERE name = $1", &[&name]).await? > 0;
        remove_tables(&transaction, name).await?;
        transaction.commit().await?;
        Ok(known)
    }

    /// Removes what a job that was dropped still wrote while it was: its tables and its frontier. To be
    /// called when it has stopped, and before another one of its name is started.
    ///
    /// # Errors
    /// As [`Store::drop_job`].
    pub async fn clear(&self, name: &str) -> Result<(), PostgresError> {
        let mut client = Store::connect(&self.url).await?;
        let transaction = client.transaction().await?;
        remove_tables(&transaction, name).await?;
        Ok(transaction.commit().await?)
    }

    /// A number greater than all that were given before.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn next_generation(&self) -> Result<u64, PostgresError> {
        let rows = self.query("SELECT nextval('velib.generation')", &[]).await?;
        Ok(rows[0].get::<_, i64>(0) as u64)
    }

    /// How far the tables of a job are; none: nothing has been committed yet.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn frontier(&self, job: &str) -> Result<Option<Frontier>, PostgresError> {
        let sql = "SELECT generation, upper, as_of, committed_at FROM velib.frontier WHERE job = $1";
        Ok(self.query(sql, &[&job]).await?.first().map(|row| Frontier {
            generation: row.get::<_, i64>(0) as u64,
            upper: row.get::<_, i64>(1) as u64,
            as_of: row.get(2),
            committed_at: row.get(3),
        }))
    }

    /// Fences off the writers of lesser generations, whose tables stay. Returns how far these are; none: nothing has
    /// been committed yet, or a greater generation has taken over.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn take_over(&self, job: &str, generation: u64) -> Result<Option<Time>, PostgresError> {
        let sql = "UPDATE velib.frontier SET generation = $2, session = session + 1
                   WHERE job = $1 AND generation <= $2 RETURNING upper";
        let rows = self.query(sql, &[&job, &(generation as i64)]).await?;
        Ok(rows.first().map(|row| row.get::<_, i64>(0) as u64))
    }

    /// Keeps refused input of a source that a job reads: the newest [`QUARANTINE_KEPT`].
    ///
    /// # Errors
    /// A lost connection.
    pub async fn quarantine(&self, job: &str, source: &str, rejected: &[Rejection]) -> Result<(), PostgresError> {
        let newest = &rejected[rejected.len().saturating_sub(QUARANTINE_KEPT as usize)..];
        for batch in newest.chunks(QUARANTINE_BATCH) {
            let text =
                |f: fn(&Rejection) -> &str| batch.iter().map(|r| f(r).replace('\0', "\u{fffd}")).collect::<Vec<_>>();
            let at: Vec<SystemTime> = batch.iter().map(|r| instant(r.time)).collect();
            let sql = "INSERT INTO velib.quarantine (job, source, relation, at, reason, sample)
                       SELECT $1, $2, * FROM unnest($3::text[], $4::timestamptz[], $5::text[], $6::text[])";
            let (relation, reason, sample) = (text(|r| &r.relation), text(|r| &r.reason), text(|r| &r.sample));
            self.execute(sql, &[&job, &source, &relation, &at, &reason, &sample]).await?;
        }
        let bound = "DELETE FROM velib.quarantine WHERE job = $1 AND source = $2 AND id <= (
                         SELECT id FROM velib.quarantine WHERE job = $1 AND source = $2
                         ORDER BY id DESC OFFSET $3 LIMIT 1)";
        self.execute(bound, &[&job, &source, &QUARANTINE_KEPT]).await?;
        Ok(())
    }
}

/// Removes the tables of a job, what the engine says of them, and the schema, if nothing of others is in it.
async fn remove_tables(transaction: &Transaction<'_>, name: &str) -> Result<(), PostgresError> {
    for table in ["velib.frontier", "velib.errors", "velib.quarantine"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE job = $1"), &[&name]).await?;
    }
    let views = transaction.query("DELETE FROM velib.views WHERE job = $1 RETURNING view", &[&name]).await?;
    for view in &views {
        let table = format!("{}.{}", identifier(name), identifier(view.get(0)));
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await?;
    }
    if !views.is_empty() {
        transaction.batch_execute("SAVEPOINT schema").await?;
        match transaction.batch_execute(&format!("DROP SCHEMA IF EXISTS {}", identifier(name))).await {
            Err(e)
                if e.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST)
                    || e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                transaction.batch_execute("ROLLBACK TO SAVEPOINT schema").await?;
            }
            dropped => dropped?,
        }
    }
    Ok(())
}

fn limit() -> String {
    format!("SET statement_timeout = {}", STATEMENT_LIMIT.as_millis())
}

/// The end of the year 9999: PostgreSQL's clock goes on for longer, chrono's and the readers' need not.
const LAST_INSTANT_MS: u64 = 253_402_300_799_999;

/// `time` as PostgreSQL keeps instants.
pub fn instant(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.min(LAST_INSTANT_MS))
}
