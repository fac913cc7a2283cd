//! A connection of the sink: its guards, what is prepared on it, and how `velib.errors` is counted.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::SinkError;
use super::statement::Kind;
use super::table::Table;
use crate::postgres::{PostgresError, connect};

/// The longest that one statement of a commit may take, and its transaction.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(60);
/// The longest that a hydration may take.
pub const HYDRATE_LIMIT: Duration = Duration::from_secs(3_600);
/// The longest that a writer waits for a lock: readers of a table that is swapped hold it up, and new
/// readers wait behind it.
pub const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// The longest that a transaction may be left alone by its writer.
pub const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// The most bytes of a message in `velib.errors`: it is part of the key.
const MESSAGE_BYTES: usize = 1_024;

/// Changes of `velib.errors`: view, message, diff. No two of one view and message.
pub(super) type Errors = Vec<(String, String, i64)>;

/// A connection and what is prepared on it.
pub(super) struct Session {
    pub client: Client,
    pub advance: Statement,
    pub errors: [Statement; 2],
    pub statements: HashMap<(usize, Kind), Statement>,
}

impl Session {
    /// Connects, sets the guards, prepares what every transaction needs.
    pub async fn open(url: &str, job: &str) -> Result<Session, PostgresError> {
        let client = connect(url, &format!("velib sink {job}")).await?;
        // Plans are made once, for arrays of unknown length: an index lookup for each of their rows is right
        // at any size, whatever the table's size was when the plan was made.
        let settings = format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET lock_timeout = {}; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
             SET client_min_messages = warning",
            COMMIT_LIMIT.as_millis(),
            IDLE_LIMIT.as_millis(),
            LOCK_LIMIT.as_millis()
        );
        client.batch_execute(&settings).await?;
        let advance = client.prepare("SELECT velib.advance($1, $2, $3, $4, $5, $6)").await?;
        let errors = [client.prepare(ERRORS[0]).await?, client.prepare(ERRORS[1]).await?];
        Ok(Session { client, advance, errors, statements: HashMap::new() })
    }

    /// Prepares a statement, if it is not yet.
    pub async fn statement(&mut self, table: &Table, view: usize, kind: Kind) -> Result<(), PostgresError> {
        if !self.statements.contains_key(&(view, kind)) {
            let statement = self.client.prepare(&kind.text(table)).await?;
            self.statements.insert((view, kind), statement);
        }
        Ok(())
    }
}

/// Adds to the counts of `velib.errors`, or takes away the rows that count nothing any more.
pub(super) async fn apply_errors(
    client: &Client,
    statement: &Statement,
    job: &str,
    errors: &[(String, String, i64)],
) -> Result<u64, tokio_postgres::Error> {
    let views: Vec<&str> = errors.iter().map(|e| e.0.as_str()).collect();
    let messages: Vec<&str> = errors.iter().map(|e| e.1.as_str()).collect();
    let counts: Vec<i64> = errors.iter().map(|e| e.2).collect();
    client.execute(statement, &[&job, &views, &messages, &counts]).await
}

/// The statements of [`apply_errors`], in order. Both take the same parameters.
pub(super) const ERRORS: [&str; 2] = [
    "INSERT INTO velib.errors AS e (job, view, message, count)
     SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])
     ON CONFLICT (job, view, message) DO UPDATE SET count = e.count + excluded.count",
    "DELETE FROM velib.errors e USING unnest($2::text[], $3::text[], $4::bigint[]) AS s(view, message, diff)
     WHERE e.job = $1 AND e.view = s.view AND e.message = s.message AND e.count = 0",
];

/// The beginning of a message, as far as it is kept.
pub(super) fn shortened(message: &str) -> String {
    let mut end = message.len().min(MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].replace('\0', "\u{fffd}")
}

/// `work`, for at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let timeout = || PostgresError::Timeout { what: what.into(), after: limit };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timeout().into()))
}
