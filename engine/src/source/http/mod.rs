//! HTTP: any JSON over HTTP whose rows are a list of objects, or an object of lists.

mod path;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono_tz::Tz;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::sync::mpsc;

use self::path::Path;
use self::table::Rows;
use super::declared::{self, Column};
use super::fetch::{FetchError, Fetched, Manners, Validators, address, fetch, plain};
use super::poll::{self, Clock, Poll, Polled};
use super::settings::Settings;
use super::{
    Connector, Context, Event, History, Options, Origin, Rejection, Relation, Resolved, Snapshot, Source, SourceError,
    schema,
};

const POLL: Duration = Duration::from_secs(15 * 60);
/// Rows that are reported one by one; of the others, how many.
const MAX_REFUSED: usize = 100;

/// `CREATE SOURCE … FROM HTTP (url = '…')`.
pub struct Http;

#[derive(Clone, Debug)]
struct Config {
    url: Url,
    every: Duration,
    rows: Path,
    columnar: bool,
    key: Vec<String>,
    declared: Option<Vec<Column>>,
    zone: Option<Tz>,
    manners: Manners,
    history: History,
}

/// A document that is asked for again and again.
#[derive(Debug)]
struct Table {
    config: Config,
    /// The columns of the first document, where they are not declared.
    inferred: OnceLock<Vec<Column>>,
}

impl Connector for Http {
    fn kind(&self) -> &'static str {
        "HTTP"
    }

    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError> {
        let own = ["url", "poll", "format", "rows", "shape", "key", "columns", "time_zone", "history"];
        let known: Vec<_> = own.into_iter().chain(Manners::SETTINGS).collect();
        let settings = Settings::new(self.kind(), options, &known)?;
        let url = address(settings.required("url")?);
        let url = url.ok_or_else(|| settings.wrong("url", "write an http or https address"))?;
        if settings.text("format").is_some_and(|format| !format.eq_ignore_ascii_case("json")) {
            return Err(settings.wrong("format", "the format is 'json'"));
        }
        let rows = Path::parse(settings.text("rows").unwrap_or("$"));
        let columnar = match settings.text("shape").unwrap_or("rows") {
            "rows" => false,
            "columnar" => true,
            _ => return Err(settings.wrong("shape", "write 'rows' or 'columnar'")),
        };
        let declared = declared::columns(&settings)?;
        let key =
            settings.text("key").map_or(vec![], |key| key.split(',').map(|name| name.trim().to_owned()).collect());
        if let Some(columns) = &declared
            && let Some(name) = key.iter().find(|name| !columns.iter().any(|column| column.name == **name))
        {
            return Err(settings.wrong("key", &format!("{name} is not one of the declared columns")));
        }
        let config = Config {
            url,
            every: poll::interval(&settings, POLL)?,
            rows: rows.ok_or_else(|| settings.wrong("rows", "write a path such as '$.data.items'"))?,
            columnar,
            key,
            declared,
            zone: settings.time_zone("time_zone")?,
            manners: Manners::bind(&settings)?,
            history: settings.history()?,
        };
        Ok(Arc::new(Table { config, inferred: OnceLock::new() }))
    }
}

impl Config {
    fn rows<'a>(&self, document: &'a Value) -> Result<Rows<'a>, String> {
        let found = self.rows.find(document).ok_or("there is nothing where the rows should be")?;
        if self.columnar { Rows::columnar(found) } else { Rows::listed(found) }
    }

    /// The columns that a document suggests.
    fn infer(&self, bytes: &[u8]) -> Result<Vec<Column>, String> {
        let document = read(bytes)?;
        let columns = self.rows(&document)?.infer(self.zone);
        if columns.is_empty() {
            return Err("it has no rows to see the columns from: declare them with columns = '…'".to_owned());
        }
        match self.key.iter().find(|name| !columns.iter().any(|column| column.name == **name)) {
            Some(name) => Err(format!("it has no column {name}, which the key names")),
            None => Ok(columns),
        }
    }

    fn key(&self, columns: &[Column]) -> Vec<usize> {
        let position = |name: &String| columns.iter().position(|column| column.name == *name);
        self.key.iter().filter_map(position).collect()
    }
}

fn read(bytes: &[u8]) -> Result<Value, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|error| if error.is_eof() { "cut short, or empty".to_owned() } else { format!("not JSON: {error}") })
}

impl Table {
    fn columns(&self) -> Option<&Vec<Column>> {
        self.config.declared.as_ref().or_else(|| self.inferred.get())
    }
}

impl Source for Table {
    fn identity(&self) -> String {
        // Of two jobs, each may have found other columns.
        format!("{:?} {:?}", Config { history: History::All, ..self.config.clone() }, self.columns())
    }

    fn bounded(&self) -> bool {
        false
    }

    fn origin(&self) -> Option<Origin> {
        let Config { url, rows, columnar, key, zone, .. } = &self.config;
        let columns = self.columns();
        Some(Origin::of(url, format!("HTTP {url} {rows:?} {columnar} {key:?} {columns:?} {zone:?}")))
    }

    fn history(&self) -> History {
        self.config.history
    }

    fn resolve<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async move {
            let config = &self.config;
            if self.columns().is_none() {
                let now = (context.wall_clock_ms)();
                let fetched = fetch(&context.http, &config.url, &config.manners, &Validators::default(), now).await;
                let bytes = match fetched.map_err(|error| SourceError::Unavailable(error.message))? {
                    Fetched::Body(bytes, _) => bytes,
                    Fetched::Unchanged => vec![],
                };
                let unavailable = |why| SourceError::Unavailable(format!("{}: {why}", plain(&config.url)));
                // Another call may have been first: then its columns hold.
                let _ = self.inferred.set(config.infer(&bytes).map_err(unavailable)?);
            }
            let columns = self.columns().expect("they are declared, or were inferred just now");
            let relation = Relation {
                name: String::new(),
                schema: schema(columns.iter().map(Column::field).collect()),
                key: config.key(columns),
                appended: false,
                time_column: None,
            };
            Ok(Resolved { relations: vec![relation], zones: None })
        }
        .boxed()
    }

    fn adopt(&self, relations: &[Relation]) {
        let columns = |relation: &Relation| relation.schema.fields().iter().map(|field| Column::of(field)).collect();
        if let Some(columns) = relations.first().and_then(columns) {
            // Columns that are known already stay.
            let _ = self.inferred.set(columns);
        }
    }

    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        let every = self.config.every;
        poll::run(Polling { table: self, accepted: Validators::default() }, every, context, out).boxed()
    }
}

/// A table that is polled.
struct Polling {
    table: Arc<Table>,
    accepted: Validators,
}

impl Poll for Polling {
    fn poll<'a>(&'a mut self, client: &'a Client, clock: &'a mut Clock) -> BoxFuture<'a, Polled> {
        async move {
            let Config { url, manners, .. } = &self.table.config;
            match fetch(client, url, manners, &self.accepted, clock.wall()).await {
                Ok(Fetched::Unchanged) => Polled { rejections: vec![], snapshot: None, error: None },
                Ok(Fetched::Body(bytes, validators)) => {
                    let polled = self.decode(&bytes, clock);
                    if polled.snapshot.is_some() {
                        self.accepted = validators;
                    }
                    polled
                }
                Err(error) => error.into(),
            }
        }
        .boxed()
    }
}

impl Polling {
    fn decode(&self, bytes: &[u8], clock: &mut Clock) -> Polled {
        let time = clock.tick();
        let reject = |reason, sample: &str| Rejection {
            time,
            relation: String::new(),
            reason,
            sample: Rejection::sample(sample),
        };
        match self.table_of(bytes) {
            Ok((rows, refused)) => {
                let more = refused.len().saturating_sub(MAX_REFUSED);
                let listed = refused.into_iter().take(MAX_REFUSED);
                let mut rejections: Vec<_> = listed.map(|(reason, sample)| reject(reason, &sample)).collect();
                if more > 0 {
                    rejections.push(reject(format!("{more} more rows of the same document"), ""));
                }
                Polled { rejections, snapshot: Some(Snapshot { time, tables: vec![Some(rows)] }), error: None }
            }
            Err(why) => {
                let message = format!("{}: {why}", plain(&self.table.config.url));
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(Rejection::SAMPLE)]);
                let rejections = vec![reject(message.clone(), &start)];
                Polled { rejections, ..FetchError { message, retry_after: None }.into() }
            }
        }
    }

    fn table_of(&self, bytes: &[u8]) -> Result<(arrow::array::RecordBatch, Vec<(String, String)>), String> {
        let config = &self.table.config;
        let document = read(bytes)?;
        let rows = config.rows(&document)?;
        let columns = match self.table.columns() {
            Some(columns) => columns,
            None => {
                let inferred = config.infer(bytes)?;
                self.table.inferred.get_or_init(|| inferred)
            }
        };
        let (table, refused) = rows.table(columns, &config.key(columns), config.zone);
        match refused.first() {
            Some((first, _)) if table.num_rows() == 0 => {
                Err(format!("none of its rows can be used; the first: {first}"))
            }
            _ => Ok((table, refused)),
        }
    }
}

#[cfg(test)]
mod tests;
