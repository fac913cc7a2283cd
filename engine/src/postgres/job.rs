//! A job as the cluster keeps it in `velib.jobs`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::PostgresError;

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

            /// Every one of them.
            pub const ALL: &[$name] = &[$($name::$variant),+];

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

impl Job {
    /// Reads a row of `velib.jobs`.
    pub(super) fn read(row: &Row) -> Result<Job, PostgresError> {
        let unreadable =
            |e: tokio_postgres::Error| PostgresError::Unreadable(format!("velib.jobs cannot be read: {e}"));
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
}
