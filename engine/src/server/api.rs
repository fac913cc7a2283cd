//! What the HTTP API says: the shapes that server and client share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::postgres::job::{Desired, Status};
use crate::timeline::SourceStatus;

/// `POST /api/jobs`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The name of the job.
    pub name: String,
    /// Its SQL.
    pub text: String,
    /// Parameters over those of the text.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Replace a job of that name.
    #[serde(default)]
    pub replace: bool,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A new job.
    Installed,
    /// Another definition for a job.
    Replaced,
    /// The same as it was.
    Unchanged,
}

/// The answer to [`Submit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The name of the job.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Its materialized views.
    pub views: Vec<String>,
}

/// How far the tables of a job are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frontier {
    /// The generation that wrote last.
    pub generation: u64,
    /// Timestamps below this one, in milliseconds, are in the tables.
    pub upper: u64,
    /// The snapshot that the tables are as of, RFC 3339.
    pub as_of: String,
    /// When it was committed, RFC 3339.
    pub committed_at: String,
}

/// How the sink of a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// Transactions in this generation.
    pub transactions: u64,
    /// Rows changed in this generation.
    pub rows: u64,
    /// How long the last transaction took, in milliseconds.
    pub last_ms: f64,
    /// Changed rows that wait.
    pub waiting_rows: usize,
    /// The last error, if the last try failed.
    pub error: Option<String>,
}

/// `GET /api/jobs/{name}`; in `GET /api/jobs` and `GET /api/status` without text and plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name, and its schema in the database.
    pub name: String,
    /// Counts the replacements of its definition.
    pub version: i64,
    /// What it is to do.
    pub desired: Desired,
    /// What it does.
    pub status: Status,
    /// Why, where there is something to say.
    pub detail: Option<String>,
    /// When it was submitted, RFC 3339.
    pub created_at: String,
    /// How far its tables are; none: nothing has been committed.
    pub frontier: Option<Frontier>,
    /// Its materialized views.
    pub views: Vec<String>,
    /// How its sources are, by name.
    pub sources: BTreeMap<String, SourceStatus>,
    /// How its sink is; none: it does not run.
    pub sink: Option<Sink>,
    /// Its SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The parameters given with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<String>,
}

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Where its API is.
    pub address: String,
    /// Where the other processes reach it.
    pub mesh: String,
    /// Its place in the newest generation; none: it has no part in it. 0 is the leader.
    pub index: Option<i32>,
    /// How many workers it runs.
    pub workers: i32,
    /// The generation that it computes in.
    pub generation: Option<i64>,
    /// The version of its engine.
    pub version: String,
    /// How long it had not been heard of, in milliseconds.
    pub silent_ms: i64,
    /// It has been told to stop.
    pub leaving: bool,
}

/// `POST /api/scale`, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// How many processes are to compute; none: all there are.
    pub processes: Option<u16>,
}

/// `GET /api/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The leader's generation.
    pub generation: u64,
    /// How many processes are to compute; none: all there are.
    pub wanted: Option<usize>,
    /// The processes: the generation's in their order, then the others.
    pub processes: Vec<Process>,
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong, with which thing, and what to do.
    pub error: String,
}
