//! Sources: how the world's documents become relations.
//!
//! A source is a folder (or file) of one shape: settings bound from `CREATE SOURCE … FROM KIND (…)`,
//! `resolve` (what relations are there, with what columns), `run` (snapshots, in order of time). All of
//! them are registered in [`CONNECTORS`].
//!
//! Invariants: a source knows nothing of jobs, plans or PostgreSQL; whatever a peer sends, it neither
//! panics nor ends the source; what is refused is reported with its reason.

pub mod current;
mod declared;
pub mod feed;
mod fetch;
mod files;
mod gbfs;
mod geojson;
mod http;
mod local;
mod local_time;
mod nexmark;
mod poll;
mod settings;
pub mod zones;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use velib_operators::Time;

use crate::lake::Lake;

pub use fetch::build_client;
pub(crate) use settings::duration;

/// The settings of a `CREATE SOURCE`: `(name = value, …)`, values as text.
pub type Options = BTreeMap<String, String>;

/// What a source can do before it is bound: one entry a kind.
pub trait Connector: Send + Sync {
    /// The word after `FROM`, in capitals.
    fn kind(&self) -> &'static str;
    /// Checks the settings, without I/O.
    ///
    /// # Errors
    /// An unknown, missing or unusable setting, by name.
    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError>;
}

/// A source with its settings.
pub trait Source: Send + Sync + fmt::Debug {
    /// Equal for equal settings: sources of equal identity are read once and shared by all jobs.
    fn identity(&self) -> String;
    /// The source ends by itself (files), and its times are those of the recording.
    fn bounded(&self) -> bool;
    /// Finds out what relations there are. Reads as little as it takes.
    fn resolve<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>>;
    /// Takes `relations` for what it offers, as it once [resolved](Source::resolve) them: what was guessed then from
    /// documents must not be guessed otherwise from later ones. For sources that guess; once, before anything else.
    fn adopt(&self, _relations: &[Relation]) {}
    /// What its log in the lake is named after; none: it is not kept there.
    fn origin(&self) -> Option<Origin> {
        None
    }
    /// How much of what it has said a job begins with.
    fn history(&self) -> History {
        History::All
    }
    /// The least from which [`restore`](Source::restore) makes `snapshot` again: tables by name.
    fn record(&self, relations: &[Relation], snapshot: &Snapshot) -> BTreeMap<String, RecordBatch> {
        let tables = relations.iter().zip(&snapshot.tables);
        tables.filter_map(|(relation, rows)| Some((Lake::table_name(&relation.name), rows.clone()?))).collect()
    }
    /// The snapshot at `time` that was [recorded](Source::record) as `tables`.
    fn restore(&self, relations: &[Relation], time: Time, mut tables: BTreeMap<String, RecordBatch>) -> Snapshot {
        let tables = relations.iter().map(|relation| tables.remove(&Lake::table_name(&relation.name))).collect();
        Snapshot { time, tables }
    }
    /// Sends events until the source ends (then it returns) or the receiver is gone. The channel is
    /// bounded: a slow reader slows a bounded source down, and a live one drops nothing but polls late.
    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()>;
}

/// What makes a live source the one that it is, however it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// For people: where it comes from, without what may be secret.
    pub address: String,
    /// Equal for sources that say the same: all that decides what documents are asked for and what is read in them.
    pub identity: String,
}

impl Origin {
    /// What comes from `url`, told apart from other readings of the same address by `identity`.
    fn of(url: &reqwest::Url, identity: String) -> Self {
        let address = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        Origin { address, identity }
    }
}

/// How much of what a source has said a job begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// All that the lake has.
    #[default]
    All,
    /// The whole hours that this much is from.
    Last(Duration),
    /// What comes from now on.
    None,
}

/// What sources need of the process.
#[derive(Clone)]
pub struct Context {
    /// Shared connections; see [`build_client`].
    pub http: reqwest::Client,
    /// Milliseconds since 1970, now. Passed in so that tests can hold it.
    pub wall_clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Relative paths in settings start here.
    pub folder: std::path::PathBuf,
    /// What is recorded of times before this one has been shown: it is not played again at its own speed.
    pub shown: Time,
}

/// What a source offers; sent to every process of the cluster with the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// In the order of [`Snapshot::tables`].
    pub relations: Vec<Relation>,
    /// GEOJSON: polygons for the scalar function `<source>_at(lon, lat)`, as a GeoJSON feature
    /// collection whose features have only `id` (string) and geometry.
    pub zones: Option<String>,
}

/// A relation of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// Its name behind the source's (`velib.status`); empty where the source is the relation itself.
    pub name: String,
    /// Its columns.
    #[serde(with = "columns")]
    pub schema: SchemaRef,
    /// Columns that identify a row at any one time; empty where nothing does.
    pub key: Vec<usize>,
    /// Rows are only ever added; else each snapshot lists the relation whole, and what it no longer
    /// lists is retracted.
    pub appended: bool,
    /// The column that holds the snapshot's time.
    pub time_column: Option<usize>,
}

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// A good document, or several that belong together.
    Snapshot(Snapshot),
    /// Rows or documents that were refused, though the rest went on.
    Rejected(Vec<Rejection>),
    /// How a poll went, after what it brought.
    Health(Health),
}

/// The relations of a source at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Milliseconds since 1970: the fetch for live sources, the recording's for bounded ones. Strictly
    /// increasing within a source.
    pub time: Time,
    /// As many as relations; `None`: not part of this snapshot, stays as it was.
    pub tables: Vec<Option<RecordBatch>>,
}

/// Something refused: a row of `velib.quarantine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Milliseconds since 1970.
    pub time: Time,
    /// The relation, or empty for a whole document.
    pub relation: String,
    /// Why, in words for the operator of the feed.
    pub reason: String,
    /// The row or the beginning of the document, at most [`Rejection::SAMPLE`] bytes.
    pub sample: String,
}

impl Rejection {
    /// The most bytes of refused input that are kept.
    pub const SAMPLE: usize = 1024;

    /// The beginning of `text`, as much of it as is kept; without NUL, which PostgreSQL cannot store.
    pub fn sample(text: &str) -> String {
        text[..text.floor_char_boundary(Self::SAMPLE)].replace('\0', " ")
    }
}

/// How a poll went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Milliseconds since 1970.
    pub time: Time,
    /// From the request to decoded rows.
    pub took: Duration,
    /// It brought a snapshot.
    pub new: bool,
    /// What went wrong, though something may have come.
    pub error: Option<String>,
    /// When it will be asked again, milliseconds since 1970.
    pub next_poll: Time,
}

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The settings are wrong: they name the setting and the remedy.
    #[error("{0}")]
    Settings(String),
    /// The world is: it may be otherwise later.
    #[error("{0}")]
    Unavailable(String),
}

/// A schema without metadata, shared.
pub fn schema(fields: Vec<arrow::datatypes::Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// A schema in writing: name, type as Arrow spells it, nullability of each column.
mod columns {
    use super::*;
    use arrow::datatypes::{DataType, Field};
    use serde::de::Error;

    pub fn serialize<S: serde::Serializer>(schema: &SchemaRef, to: S) -> Result<S::Ok, S::Error> {
        let columns = schema.fields().iter().map(|f| (f.name(), f.data_type().to_string(), f.is_nullable()));
        to.collect_seq(columns)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SchemaRef, D::Error> {
        let columns = Vec::<(String, String, bool)>::deserialize(from)?;
        let field = |(name, kind, nullable): (String, String, bool)| {
            let kind: DataType = kind.parse().map_err(|e| D::Error::custom(format!("column {name}: {e}")))?;
            Ok(Field::new(name, kind, nullable))
        };
        Ok(schema(columns.into_iter().map(field).collect::<Result<_, _>>()?))
    }
}

/// Every kind of source.
pub const CONNECTORS: &[&dyn Connector] =
    &[&gbfs::Gbfs, &http::Http, &files::Files, &geojson::Geojson, &nexmark::Nexmark];
