//! FILES: recorded rows in Parquet, CSV or NDJSON, in the order of their time.

pub(super) mod conform;
mod format;
mod replay;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use velib_operators::Time;

use self::conform::{Refused, conform, instant};
use self::format::Format;
use self::replay::Replay;
use super::declared::{self, Column};
use super::settings::Settings;
use super::{
    Connector, Context, Event, Options, Rejection, Relation, Resolved, Source, SourceError, local, poll, schema,
};

/// `CREATE SOURCE … FROM FILES (path = '…')`.
pub struct Files;

#[derive(Clone, Debug)]
struct Recording {
    path: String,
    /// None: by the end of each file's name.
    format: Option<Format>,
    /// The column that tells the time of a row.
    time: Option<String>,
    declared: Option<Vec<Column>>,
    /// The columns that were found when the job was submitted.
    found: OnceLock<SchemaRef>,
}

/// The files, the relation's columns, and which of them is the time.
type Opened = (Vec<PathBuf>, SchemaRef, Option<usize>);

impl Connector for Files {
    fn kind(&self) -> &'static str {
        "FILES"
    }

    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError> {
        let settings = Settings::new(self.kind(), options, &["path", "format", "time", "columns", "key"])?;
        let path = settings.required("path")?.to_owned();
        if path.contains("://") {
            return Err(settings.wrong("path", "write a path on this machine"));
        }
        let format = settings.text("format").map(|name| {
            Format::named(name).ok_or_else(|| settings.wrong("format", "write 'parquet', 'csv' or 'ndjson'"))
        });
        let time = settings.text("time").map(str::to_owned);
        let declared = declared::columns(&settings)?;
        if let (Some(time), Some(columns)) = (&time, &declared)
            && !columns.iter().any(|column| column.name == *time)
        {
            return Err(settings.wrong("time", "it is not one of the declared columns"));
        }
        Ok(Arc::new(Recording { path, format: format.transpose()?, time, declared, found: OnceLock::new() }))
    }
}

impl Recording {
    fn format(&self, path: &Path) -> Result<Format, SourceError> {
        self.format.or_else(|| Format::of(path)).ok_or_else(|| {
            let name = path.display();
            SourceError::Settings(format!(
                "{name}: its name tells no format; write format = 'parquet', 'csv' or 'ndjson'"
            ))
        })
    }

    fn open(&self, folder: &Path) -> Result<Opened, SourceError> {
        let files = local::files(folder, &self.path)?;
        let columns = match (self.found.get(), &self.declared) {
            (Some(found), _) => found.clone(),
            (None, Some(columns)) => schema(columns.iter().map(Column::field).collect()),
            (None, None) => {
                let first = &files[0];
                let unavailable = |error: ArrowError| SourceError::Unavailable(format!("{}: {error}", first.display()));
                self.format(first)?.schema(first).map_err(unavailable)?
            }
        };
        let Some(time) = &self.time else { return Ok((files, columns, None)) };
        let index = columns.index_of(time).map_err(|_| {
            let names: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
            SourceError::Settings(format!("{}: no column {time}; there are {}", self.path, names.join(", ")))
        })?;
        let mut fields: Vec<Field> = columns.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields[index] = Field::new(time, instant(), false);
        Ok((files, schema(fields), Some(index)))
    }

    /// As [`Recording::open`], on a thread that may wait for the disk.
    async fn opened(&self, folder: &Path) -> Result<Opened, SourceError> {
        let (source, folder) = (self.clone(), folder.to_owned());
        tokio::task::spawn_blocking(move || source.open(&folder)).await.expect("opening files does not panic")
    }

    /// Reads everything, until nobody listens.
    fn read(&self, (files, columns, time): Opened, wall: Time, out: &mpsc::Sender<Event>) {
        let mut replay = Replay::new(columns.clone(), time, wall);
        for path in files {
            let mut refused = Refused::new();
            let send = |snapshot| out.blocking_send(Event::Snapshot(snapshot)).map_err(|_| Stop::Gone);
            let result = self.read_file(&path, &columns, time, &mut refused, |batch| replay.add(&batch, send));
            let name = local::name(&path);
            let mut rejections = vec![];
            for (why, (rows, sample)) in refused {
                rejections.push(reject(replay.now(), format!("{name}: {rows} rows left out: {why}"), sample));
            }
            match replay.late() {
                0 => {}
                late => {
                    let why =
                        format!("{name}: {late} rows go back in time and are left out; sort the file by its time");
                    rejections.push(reject(replay.now(), why, String::new()));
                }
            }
            match result {
                Ok(()) => {}
                Err(Stop::Gone) => return,
                Err(Stop::Unreadable(why)) => {
                    let why = format!("{name}: it cannot be read on: {why}");
                    rejections.push(reject(replay.now(), why, String::new()));
                }
            }
            if !rejections.is_empty() && out.blocking_send(Event::Rejected(rejections)).is_err() {
                return;
            }
        }
        if let Some(last) = replay.flush() {
            let _ = out.blocking_send(Event::Snapshot(last));
        }
    }

    fn read_file(
        &self,
        path: &Path,
        columns: &SchemaRef,
        time: Option<usize>,
        refused: &mut Refused,
        mut add: impl FnMut(RecordBatch) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let format = self.format(path).map_err(|error| Stop::Unreadable(error.to_string()))?;
        let declared = self.declared.as_ref().map(|columns| schema(columns.iter().map(Column::field).collect()));
        for batch in format.read(path, declared.as_ref())? {
            add(conform(&batch?, columns, time, refused)?)?;
        }
        Ok(())
    }
}

/// Why a file is not read on.
enum Stop {
    Gone,
    Unreadable(String),
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Stop::Unreadable(error.to_string())
    }
}

fn reject(time: Time, reason: String, sample: String) -> Rejection {
    Rejection { time, relation: String::new(), reason, sample: Rejection::sample(&sample) }
}

impl Source for Recording {
    fn identity(&self) -> String {
        format!("{self:?}")
    }

    fn bounded(&self) -> bool {
        true
    }

    fn resolve<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async move {
            let (_, schema, time_column) = self.opened(&context.folder).await?;
            let relation = Relation { name: String::new(), schema, key: vec![], appended: true, time_column };
            Ok(Resolved { relations: vec![relation], zones: None })
        }
        .boxed()
    }

    fn adopt(&self, relations: &[Relation]) {
        if let Some(relation) = relations.first() {
            // Columns that are known already stay.
            let _ = self.found.set(relation.schema.clone());
        }
    }

    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        async move {
            let open = || self.opened(&context.folder).boxed();
            let Some(opened) = poll::until_there(&context, &out, open).await else { return };
            let wall = (context.wall_clock_ms)();
            // An end by a closed channel is as good as any.
            let _ = tokio::task::spawn_blocking(move || self.read(opened, wall, &out)).await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
