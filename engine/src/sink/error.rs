//! Why a sink cannot take what it is handed.

use crate::postgres::PostgresError;

/// Why a sink cannot take what it is handed.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// PostgreSQL did not do as asked.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A newer generation has taken the job over; this writer is to stop.
    #[error(
        "generation {generation} may write the tables of job {job} no more: a newer one has taken over; \
         this process has nothing to do but to join it"
    )]
    Fenced {
        /// The job.
        job: String,
        /// The generation of this writer.
        generation: u64,
    },
    /// The key of a view identifies several rows.
    #[error(
        "the key ({columns}) of view {view} is not unique: {key}; \
         declare a key that is, or none, and submit the job again with --replace"
    )]
    KeyViolated {
        /// The view.
        view: String,
        /// The columns of its key.
        columns: String,
        /// The key that two rows have.
        key: String,
    },
    /// A view cannot be a table.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
    /// Something of that name is there already and is not the engine's.
    #[error(
        "{table} is there already and was not made by this engine; \
         rename it or give the view (or the job) another name"
    )]
    Occupied {
        /// The table.
        table: String,
    },
    /// What was handed over is not what the job's plan says.
    #[error("the changes of view {view} do not fit its definition: {reason}; this is a bug of the engine")]
    Malformed {
        /// The view.
        view: String,
        /// In what they differ.
        reason: String,
    },
}

impl SinkError {
    /// The same may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, SinkError::Postgres(error) if error.is_retriable())
    }

    /// The connection that it happened on cannot be used any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, SinkError::Postgres(error) if error.is_lost())
    }
}

impl From<tokio_postgres::Error> for SinkError {
    fn from(error: tokio_postgres::Error) -> Self {
        SinkError::Postgres(error.into())
    }
}

/// What of a view has no place in PostgreSQL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A column of a type without a counterpart.
    #[error("column {column} of view {view} is of type {kind}, which is kept in no column of PostgreSQL; {remedy}")]
    Type {
        /// The view.
        view: String,
        /// The column.
        column: String,
        /// Its type.
        kind: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A name that PostgreSQL or the engine keeps to itself.
    #[error("{what} cannot be named {name:?}: {reason}; choose another name")]
    Name {
        /// A job, a view or a column.
        what: String,
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}
