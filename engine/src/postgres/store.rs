//! The engine's own tables, by typed functions: jobs, generations, the processes of the cluster,
//! refused input, frontiers.
//!
//! One connection, opened again when it is lost; each function is one statement, and none is tried twice
//! by itself: see [`retry`](super::retry).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Row};
use velib_operators::Time;

use super::{PostgresError, connect, identifier, migrate};
use crate::source::Rejection;

/// How many refused inputs are kept for each job and source.
pub const QUARANTINE_KEPT: i64 = 10_000;
/// How many refused inputs go into one statement.
const QUARANTINE_BATCH: usize = 1_000;
/// The longest that one statement may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// A job as the cluster keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Counts the replacements of its definition.
    pub version: i64,
    /// The SQL, as submitted.
    pub text: String,
    /// The parameters given at submission.
    pub parameters: BTreeMap<String, String>,
    /// What its sources were found to offer; opaque here.
    pub resolved: String,
    /// What it is to do.
    pub desired: Desired,
    /// What it does.
    pub status: Status,
    /// Why, where there is something to say.
    pub status_detail: Option<String>,
    /// When it was first submitted.
    pub created_at: DateTime<Utc>,
    /// When any of this last changed.
    pub updated_at: DateTime<Utc>,
}

/// The definition of a job, to be installed.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Definition {
    pub name: String,
    pub text: String,
    pub parameters: BTreeMap<String, String>,
    pub resolved: String,
}

/// An enum that is kept as a word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// As it is written in the database.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            fn read(word: &str) -> Result<Self, PostgresError> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(PostgresError::Unreadable(format!(
                        "velib.jobs says {word:?} where one of {:?} is expected", [$($word),+]
                    ))),
                }
            }
        }
    };
}

words! {
    /// What a job is to do.
    Desired {
        /// Keep its tables up to date.
        Running = "running",
        /// Leave its tables as they are.
        Paused = "paused",
    }
}

words! {
    /// What a job does.
    Status {
        /// It has been submitted and no process has taken it up yet.
        Pending = "pending",
        /// It keeps its tables up to date.
        Running = "running",
        /// It leaves its tables as they are.
        Paused = "paused",
        /// It cannot go on; the detail says why.
        Failed = "failed",
        /// All its sources have ended.
        Finished = "finished",
    }
}

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

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Where the others reach it.
    pub address: String,
    /// Its place in its generation; none: it waits for the next one.
    pub index: Option<i32>,
    /// How many workers it runs.
    pub workers: i32,
    /// The generation that it is part of.
    pub generation: Option<i64>,
    /// The version of its engine.
    pub version: String,
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

    async fn client(&self) -> Result<Arc<Client>, PostgresError> {
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

    async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PostgresError> {
        Ok(self.client().await?.query(sql, parameters).await?)
    }

    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, PostgresError> {
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
        self.query("SELECT * FROM velib.jobs ORDER BY name", &[]).await?.iter().map(job).collect()
    }

    /// The job of that name.
    ///
    /// # Errors
    /// A lost connection; a row that this engine does not understand.
    pub async fn job(&self, name: &str) -> Result<Option<Job>, PostgresError> {
        self.query("SELECT * FROM velib.jobs WHERE name = $1", &[&name]).await?.first().map(job).transpose()
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
        transaction.commit().await?;
        Ok(known)
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

    /// Says that a process is there.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn heartbeat(&self, process: &Process) -> Result<(), PostgresError> {
        let sql = "INSERT INTO velib.cluster (address, index, workers, generation, version) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (address) DO UPDATE SET index = excluded.index, workers = excluded.workers,
                   generation = excluded.generation, version = excluded.version, heartbeat = clock_timestamp()";
        let p = process;
        self.execute(sql, &[&p.address, &p.index, &p.workers, &p.generation, &p.version]).await?;
        Ok(())
    }

    /// The processes heard of within `silence`, by the clock of the database. Those not heard of for ten
    /// times as long are forgotten.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn processes(&self, silence: Duration) -> Result<Vec<Process>, PostgresError> {
        let seconds = silence.as_secs_f64();
        let forget = "DELETE FROM velib.cluster WHERE heartbeat < clock_timestamp() - make_interval(secs => 10 * $1::float8)";
        self.execute(forget, &[&seconds]).await?;
        let sql = "SELECT address, index, workers, generation, version FROM velib.cluster
                   WHERE heartbeat >= clock_timestamp() - make_interval(secs => $1) ORDER BY index, address";
        let process = |row: &Row| Process {
            address: row.get(0),
            index: row.get(1),
            workers: row.get(2),
            generation: row.get(3),
            version: row.get(4),
        };
        Ok(self.query(sql, &[&seconds]).await?.iter().map(process).collect())
    }

    /// Forgets a process that leaves.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn leave(&self, address: &str) -> Result<(), PostgresError> {
        self.execute("DELETE FROM velib.cluster WHERE address = $1", &[&address]).await?;
        Ok(())
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

fn limit() -> String {
    format!("SET statement_timeout = {}", STATEMENT_LIMIT.as_millis())
}

/// The end of the year 9999: PostgreSQL's clock goes on for longer, chrono's and the readers' need not.
const LAST_INSTANT_MS: u64 = 253_402_300_799_999;

/// `time` as PostgreSQL keeps instants.
pub fn instant(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.min(LAST_INSTANT_MS))
}

fn job(row: &Row) -> Result<Job, PostgresError> {
    let unreadable = |e: tokio_postgres::Error| PostgresError::Unreadable(format!("velib.jobs cannot be read: {e}"));
    Ok(Job {
        name: row.try_get("name").map_err(unreadable)?,
        version: row.try_get("version").map_err(unreadable)?,
        text: row.try_get("text").map_err(unreadable)?,
        parameters: row.try_get::<_, Json<_>>("parameters").map_err(unreadable)?.0,
        resolved: row.try_get("resolved").map_err(unreadable)?,
        desired: Desired::read(row.try_get("desired").map_err(unreadable)?)?,
        status: Status::read(row.try_get("status").map_err(unreadable)?)?,
        status_detail: row.try_get("status_detail").map_err(unreadable)?,
        created_at: row.try_get("created_at").map_err(unreadable)?,
        updated_at: row.try_get("updated_at").map_err(unreadable)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::throwaway::Server;
    use crate::postgres::{READER, migrate};

    fn definition(name: &str) -> Definition {
        let parameters = BTreeMap::from([("low".to_string(), "0.1".to_string())]);
        Definition { name: name.into(), text: "CREATE …".into(), parameters, resolved: "{}".into() }
    }

    #[tokio::test]
    async fn jobs_come_change_and_go_and_their_listeners_are_told() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let store = Store::open(&url).await.unwrap();
        assert!(store.submit(&definition("occupancy")).await.unwrap());
        assert!(!store.submit(&definition("occupancy")).await.unwrap());
        assert!(store.submit(&definition("trends")).await.unwrap());
        let jobs = store.jobs().await.unwrap();
        assert_eq!(jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>(), ["occupancy", "trends"]);
        assert_eq!((jobs[0].version, jobs[0].desired, jobs[0].status), (1, Desired::Running, Status::Pending));
        assert_eq!(jobs[0].parameters["low"], "0.1");

        assert!(store.replace(&definition("occupancy")).await.unwrap());
        assert!(store.set_desired("occupancy", Desired::Paused).await.unwrap());
        store.set_status("occupancy", 1, Status::Failed, Some("of an older version")).await.unwrap();
        store.set_status("occupancy", 2, Status::Running, None).await.unwrap();
        let job = store.job("occupancy").await.unwrap().unwrap();
        assert_eq!(
            (job.version, job.desired, job.status, job.status_detail),
            (2, Desired::Paused, Status::Running, None)
        );

        assert!(store.drop_job("occupancy").await.unwrap());
        assert!(!store.drop_job("occupancy").await.unwrap());
        assert!(!store.replace(&definition("occupancy")).await.unwrap());
        assert!(store.job("occupancy").await.unwrap().is_none());
        assert_eq!(store.frontier("trends").await.unwrap(), None);
    }

    #[tokio::test]
    async fn generations_grow_and_processes_are_seen_while_they_beat() {
        let Some(server) = Server::shared() else { return };
        let store = Store::open(&server.database()).await.unwrap();
        let (first, second) = (store.next_generation().await.unwrap(), store.next_generation().await.unwrap());
        assert!(first < second);
        let process = |address: &str, index| Process {
            address: address.into(),
            index,
            workers: 2,
            generation: index.map(|_| 1),
            version: "0.1.0".into(),
        };
        for p in [process("b:1", None), process("a:1", Some(0)), process("b:1", Some(1))] {
            store.heartbeat(&p).await.unwrap();
        }
        let there = store.processes(Duration::from_secs(60)).await.unwrap();
        assert_eq!(there, [process("a:1", Some(0)), process("b:1", Some(1))]);
        store.leave("a:1").await.unwrap();
        assert_eq!(store.processes(Duration::from_secs(60)).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn quarantine_keeps_the_newest() {
        let Some(server) = Server::shared() else { return };
        let store = Store::open(&server.database()).await.unwrap();
        let rejected = |n: std::ops::Range<u64>| {
            n.map(|i| Rejection { time: i, relation: "status".into(), reason: format!("r{i}"), sample: "\0{".into() })
                .collect::<Vec<_>>()
        };
        store.quarantine("job", "velib", &rejected(0..QUARANTINE_KEPT as u64 + 500)).await.unwrap();
        store.quarantine("job", "velib", &rejected(20_000..20_010)).await.unwrap();
        store.quarantine("job", "other", &rejected(0..3)).await.unwrap();
        let sql = "SELECT source, count(*), min(at) FROM velib.quarantine GROUP BY 1 ORDER BY 1";
        let rows = store.query(sql, &[]).await.unwrap();
        let counts: Vec<(String, i64)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        assert_eq!(counts, [("other".into(), 3), ("velib".into(), QUARANTINE_KEPT)]);
        assert_eq!(rows[1].get::<_, SystemTime>(2), instant(510));
    }

    #[tokio::test]
    async fn migrations_run_once_side_by_side_and_never_backward() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let opened = futures::future::join_all((0..4).map(|_| Store::open(&url))).await;
        let store = opened.into_iter().collect::<Result<Vec<_>, _>>().unwrap().remove(0);
        assert!(migrate::reader_exists(&*store.client().await.unwrap()).await.unwrap());
        let may = format!(
            "SELECT has_table_privilege('{READER}', 'velib.frontier', 'SELECT'),
                                  has_table_privilege('{READER}', 'velib.frontier', 'INSERT')"
        );
        let rows = store.query(&may, &[]).await.unwrap();
        assert_eq!((rows[0].get(0), rows[0].get(1)), (true, false));
        let uncommented =
            "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
            WHERE relnamespace = 'velib'::regnamespace AND relkind = 'r' AND attnum > 0
              AND (col_description(c.oid, attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)";
        assert!(store.query(uncommented, &[]).await.unwrap().is_empty());

        store.execute("INSERT INTO velib.migrations (version, name) VALUES (999, 'of the future')", &[]).await.unwrap();
        let error = Store::open(&url).await.unwrap_err();
        assert!(matches!(error, PostgresError::Newer { found: 999, .. }) && !error.is_retriable(), "{error}");
    }

    #[tokio::test]
    async fn the_store_connects_again() {
        let Some(server) = Server::shared() else { return };
        let store = Store::open(&server.database()).await.unwrap();
        let error = store.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await.unwrap_err();
        assert!(error.is_retriable() && error.is_lost(), "{error}");
        let again = crate::postgres::retry("asking again", Duration::from_secs(5), || store.jobs()).await;
        assert!(again.unwrap().is_empty());
    }
}
