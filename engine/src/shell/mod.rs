//! The engine as a database in this process: `velib sql`, and what the tests of views drive.
//!
//! Tables are held here; a materialized view is a job of one view on the real dataflow, whose sources are
//! the tables. Each statement that changes a table is one timestamp: its changes enter the jobs that read
//! the table. A query is answered in batch by DataFusion, over the rows of the tables and over what the
//! dataflow holds of the materialized views, which are never computed anew.
//!
//! Invariants: what a query sees of tables and views is as of one timestamp; a statement that fails
//! changes nothing.

mod answer;
mod catalog;
mod maintained;
mod table;
mod text;
mod wording;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use futures::FutureExt;
use velib_operators::Time;

pub use answer::{Answer, json};
use catalog::{Catalog, Object};
use maintained::Maintained;
use table::Table;

use crate::cluster::generation::{Generation, GenerationError};
use crate::plan::explain;
use crate::sink::{self, SinkError};
use crate::sql::{self, Explained, Kind, Session, SqlError, Statement};

/// Why a statement failed. The shell goes on.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The statement is wrong, or a value of it cannot be computed.
    #[error("{0}")]
    Sql(#[from] SqlError),
    /// The rows of a materialized view cannot all be computed: one of the messages that stand.
    #[error("error: view {view}: {message}")]
    Evaluation {
        /// The view.
        view: String,
        /// As PostgreSQL says it.
        message: String,
    },
    /// A table does not take the rows, or a name is not free, or not there.
    #[error("error: {0}")]
    Refused(String),
    /// A view cannot be a table.
    #[error("error: {0}")]
    Unsupported(#[from] sink::Unsupported),
    /// The rows of a view cannot be read.
    #[error("error: {0}")]
    Sink(#[from] SinkError),
    /// Too early or late for the clock.
    #[error("error: {0}")]
    Clock(String),
    /// The workers are gone: a bug. Views stay as they were last seen.
    #[error("error: the workers have ended: {0}")]
    Ended(String),
}

impl From<GenerationError> for ShellError {
    fn from(error: GenerationError) -> Self {
        ShellError::Ended(error.to_string())
    }
}

impl ShellError {
    /// In one line, as PostgreSQL would say it, without the place in the text.
    pub fn message(&self) -> String {
        match self {
            ShellError::Sql(error) => match &error.hint {
                Some(hint) => format!("{} ({hint})", wording::postgres(&error.message)),
                None => wording::postgres(&error.message),
            },
            other => other.to_string().trim_start_matches("error: ").to_owned(),
        }
    }
}

/// Tells the time in milliseconds since 1970.
pub type WallClock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A database of tables and maintained views.
pub struct Shell {
    generation: Generation,
    catalog: Catalog,
    wall_clock: WallClock,
    /// Set by hand, the clock only moves with statements.
    by_hand: bool,
    now: Time,
}

impl Shell {
    /// An empty one that computes on `workers` threads. Its clock follows `wall_clock`, but never stands
    /// still when rows change.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(workers: usize, wall_clock: WallClock) -> Result<Self, GenerationError> {
        let now = wall_clock();
        let generation = Generation::local(workers)?;
        Ok(Shell { generation, catalog: Catalog::default(), wall_clock, by_hand: false, now })
    }

    /// Lets the workers go.
    pub async fn stop(self) {
        // They may be gone already.
        let _ = self.generation.stop().await;
        self.generation.ended().await;
    }

    /// The logical time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Executes one statement.
    ///
    /// # Errors
    /// Why it could not be; then nothing has changed.
    pub async fn execute(&mut self, text: &str) -> Result<Answer, ShellError> {
        if let Some(answer) = self.own(text).await? {
            return Ok(answer);
        }
        let statements = sql::parse(text, &BTreeMap::new())?;
        let [statement] = statements.as_slice() else {
            return Err(ShellError::Refused("one statement is executed at a time".into()));
        };
        match &statement.kind {
            Kind::Select(_) => self.select(statement).await,
            Kind::Insert { .. } | Kind::Update { .. } | Kind::Delete { .. } => self.change(statement).await,
            Kind::CreateTable { .. } => self.create_table(statement),
            Kind::CreateView { .. } => self.create_view(statement).await,
            Kind::CreateFunction { name, .. } => {
                self.catalog.session_of_schemas(statement)?.add_function(statement)?;
                self.catalog.add_function(name, statement).map(|()| Answer::done())
            }
            Kind::Set => Ok(Answer::done()),
            Kind::Drop { name, if_exists: true, .. } if !self.catalog.contains(name) => Ok(Answer::done()),
            Kind::Drop { what, name, .. } if what == "function" => {
                self.catalog.remove_function(name).map(|()| Answer::done())
            }
            Kind::Drop { what, name, .. } => {
                if let Some(view) = self.catalog.remove(what, name)? {
                    self.generation.remove(view.id()).await?;
                }
                Ok(Answer::done())
            }
            Kind::Explain(explained) => self.explain(statement, explained),
            Kind::Show(what) => self.show(what).await,
            Kind::CreateIndex { view, .. } | Kind::Comment { view, .. } => {
                self.catalog.view(view).map(|_| Answer::done())
            }
            Kind::CreateSource { .. } | Kind::SetParameter { .. } => Err(ShellError::Refused(
                "sources and parameters belong to jobs: write them in a file for `velib run`".into(),
            )),
        }
    }

    /// Statements of the shell alone: `FLUSH`, `SET now`.
    async fn own(&mut self, text: &str) -> Result<Option<Answer>, ShellError> {
        let words = text.trim().trim_end_matches(';').trim();
        if words.eq_ignore_ascii_case("flush") {
            return self.close().await.map(|()| Some(Answer::done()));
        }
        let Some(rest) = strip_word(words, "set").and_then(|rest| strip_word(rest, "now")) else { return Ok(None) };
        let value = rest.trim_start().trim_start_matches('=').trim().trim_matches('\'');
        if value.eq_ignore_ascii_case("default") {
            self.by_hand = false;
            return Ok(Some(Answer::done()));
        }
        let time = instant(value)
            .ok_or_else(|| ShellError::Clock(format!("{value:?} is no time, as in SET now = '2026-05-01 12:00:00'")))?;
        if time < self.now && self.catalog.maintained().next().is_some() {
            return Err(ShellError::Clock("where there are materialized views, the clock does not go back".into()));
        }
        (self.by_hand, self.now) = (true, time);
        Ok(Some(Answer::done()))
    }

    /// Lets all views come up to now.
    async fn close(&mut self) -> Result<(), ShellError> {
        self.pass();
        for view in self.catalog.maintained() {
            view.close(&self.generation, self.now).await?;
        }
        Ok(())
    }

    /// Lets the clock follow the time of day.
    fn pass(&mut self) {
        if !self.by_hand {
            self.now = self.now.max((self.wall_clock)());
        }
    }

    /// The next timestamp.
    fn tick(&mut self) -> Time {
        self.now += 1;
        self.pass();
        self.now
    }

    /// The relations that `statement` names, as they are now, for DataFusion.
    async fn session(&self, statement: &Statement) -> Result<Session, ShellError> {
        let mut session = Session::new(&[], self.now);
        self.catalog.functions().try_for_each(|function| session.add_function(function))?;
        for object in self.catalog.read_by(statement, false) {
            match object {
                Object::Table(name, table) => session.add_table(name, table.schema(), table.batches().to_vec())?,
                Object::View(_, view) => session.add_view(view)?,
                Object::Maintained(name, _, view) => {
                    let rows = view.contents(&self.generation, self.now).await?;
                    session.add_table(name, rows.schema(), vec![rows])?;
                }
            }
        }
        Ok(session)
    }

    async fn select(&mut self, statement: &Statement) -> Result<Answer, ShellError> {
        self.pass();
        let session = self.session(statement).await?;
        let rows = guarded(session.query(statement)).await??;
        let schema = rows[0].schema();
        Ok(Answer::rows(concat_batches(&schema, &rows).map_err(|e| ShellError::Refused(e.to_string()))?))
    }

    async fn change(&mut self, statement: &Statement) -> Result<Answer, ShellError> {
        let (Kind::Insert { table: name, .. } | Kind::Update { table: name, .. } | Kind::Delete { table: name, .. }) =
            &statement.kind
        else {
            unreachable!("the caller looked");
        };
        self.catalog.table(name)?;
        self.pass();
        let session = self.session(statement).await?;
        let changes = guarded(session.changes(statement)).await??;
        let changes: Vec<_> = changes.into_iter().filter(|(rows, _)| rows.num_rows() > 0).collect();
        let table = self.catalog.table(name)?;
        table.apply(name, &changes).map_err(ShellError::Refused)?;
        let affected = changes.first().map_or(0, |(rows, _)| rows.num_rows());
        let time = self.tick();
        for view in self.catalog.maintained() {
            view.feed(&self.generation, name, time, &changes).await?;
        }
        Ok(Answer::affected(affected))
    }

    fn create_table(&mut self, statement: &Statement) -> Result<Answer, ShellError> {
        let Kind::CreateTable { name, options, if_not_exists, .. } = &statement.kind else {
            unreachable!("the caller looked")
        };
        if *if_not_exists && self.catalog.contains(name) {
            return Ok(Answer::done());
        }
        self.catalog.check_free(name)?;
        let (schema, key) = Session::new(&[], self.now).columns(statement)?;
        let table = Table::new(schema, key, options).map_err(ShellError::Refused)?;
        self.catalog.add(Object::Table(name.clone(), Box::new(table)));
        Ok(Answer::done())
    }

    async fn create_view(&mut self, statement: &Statement) -> Result<Answer, ShellError> {
        let Kind::CreateView { name, materialized, .. } = &statement.kind else { unreachable!("the caller looked") };
        self.catalog.check_free(name)?;
        if !materialized {
            // Planned for its errors. What it reads is put in when it is asked.
            self.catalog.session_of_schemas(statement)?.add_view(statement)?;
            self.catalog.add(Object::View(name.clone(), Box::new(statement.clone())));
            return Ok(Answer::done());
        }
        let job = Arc::new(self.catalog.bind(statement)?);
        sink::check(&job)?;
        let time = self.tick();
        let view = Maintained::install(&self.generation, job).await?;
        for source in view.sources() {
            let moments = self.catalog.table(source)?.moments();
            let first = time + 1 - moments.len() as Time;
            for (time, rows) in (first..).zip(moments) {
                view.feed(&self.generation, source, time, &[(rows, 1)]).await?;
            }
        }
        self.catalog.add(Object::Maintained(name.clone(), Box::new(statement.clone()), view));
        Ok(Answer::done())
    }

    fn explain(&self, statement: &Statement, explained: &Explained) -> Result<Answer, ShellError> {
        let job = match explained {
            Explained::Query(_) => self.catalog.bind_query(statement)?,
            Explained::View(name) => self.catalog.bind(self.catalog.view(name)?)?,
        };
        let text = explain::text(&job);
        Ok(Answer::columns(&[("QUERY PLAN", strings(text.lines()))]))
    }

    async fn show(&mut self, what: &str) -> Result<Answer, ShellError> {
        if what == "errors" {
            self.close().await?;
        }
        let objects = || self.catalog.objects();
        match what {
            "tables" | "views" | "all" => {
                let wanted = |o: &&Object| what == "all" || (what == "tables") == matches!(o, Object::Table(..));
                let shown: Vec<&Object> = objects().filter(wanted).collect();
                let names = strings(shown.iter().map(|o| o.name()));
                Ok(Answer::columns(&[("name", names), ("kind", strings(shown.iter().map(|o| o.kind())))]))
            }
            "errors" => {
                let mut errors = vec![];
                for object in objects() {
                    if let Object::Maintained(name, _, view) = object {
                        errors.extend(view.errors().into_iter().map(|(message, count)| (name, message, count)));
                    }
                }
                let counts: ArrayRef = Arc::new(errors.iter().map(|e| e.2).collect::<Int64Array>());
                let names = strings(errors.iter().map(|e| e.0.as_str()));
                let messages = strings(errors.iter().map(|e| e.1.as_str()));
                Ok(Answer::columns(&[("view", names), ("message", messages), ("rows", counts)]))
            }
            relation => {
                let schema = self.catalog.columns(relation)?;
                let kinds: Vec<String> = schema.fields().iter().map(|f| text::type_name(f.data_type())).collect();
                let names = strings(schema.fields().iter().map(|f| f.name().as_str()));
                Ok(Answer::columns(&[("column", names), ("type", strings(kinds.iter().map(String::as_str)))]))
            }
        }
    }
}

/// A function that panics fails the statement, not the shell.
async fn guarded<T>(computing: impl Future<Output = T>) -> Result<T, ShellError> {
    let failed = |_| ShellError::Refused("a function failed on a value: see the standard error".into());
    AssertUnwindSafe(computing).catch_unwind().await.map_err(failed)
}

fn strings<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.map(Some)))
}

/// What follows `word`, if `text` begins with it.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word))?;
    let rest = &text[head.len()..];
    rest.starts_with(|c: char| !c.is_alphanumeric() && c != '_').then(|| rest.trim_start())
}

/// A time as PostgreSQL writes it, in milliseconds.
fn instant(value: &str) -> Option<Time> {
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let written: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let time = cast(&written, &utc).ok()?;
    let time = arrow::array::AsArray::as_primitive::<TimestampMillisecondType>(&time).clone();
    arrow::array::Array::is_valid(&time, 0).then(|| time.value(0)).and_then(|ms| Time::try_from(ms).ok())
}

/// Rows that enter or leave a table.
type Changes = [(RecordBatch, velib_operators::Diff)];
