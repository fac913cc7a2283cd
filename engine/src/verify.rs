//! A view of a job, computed anew in batch, beside its table.
//!
//! All is read in one transaction that sees one commit of the job. What the view reads of other views is read from their
//! tables, and DataFusion computes it as of the timestamp that the tables are as of. What a source brought is in no
//! table, so views that read sources directly cannot be computed anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::util::display::array_value_to_string;
use datafusion::logical_expr::ScalarUDF;
use serde::Serialize;
use tokio_postgres::SimpleQueryMessage;
use velib_operators::Time;

use crate::catalog::{CatalogError, rebind};
use crate::command::Spec;
use crate::plan::{Job, View};
use crate::postgres::{PostgresError, connect, identifier};
use crate::sink::MULTIPLICITY;
use crate::sql::{self, Kind, Session, SqlError, Statement};

/// Rows of a difference that are told, of each side.
const TOLD: usize = 20;

/// Floats are equal when they differ by less, of the larger: sums of floats depend on their order.
const TOLERANCE: f64 = 1e-9;

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum VerifyError {
    #[error(transparent)]
    Database(#[from] PostgresError),
    #[error("{0}")]
    Catalog(#[from] CatalogError),
    #[error("{0}")]
    Sql(#[from] SqlError),
    #[error("{0}")]
    Refused(String),
}

impl VerifyError {
    /// It may be otherwise later.
    pub fn is_retriable(&self) -> bool {
        match self {
            VerifyError::Database(error) => error.is_retriable(),
            VerifyError::Catalog(error) => error.is_retriable(),
            VerifyError::Sql(_) | VerifyError::Refused(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for VerifyError {
    fn from(error: tokio_postgres::Error) -> Self {
        VerifyError::Database(error.into())
    }
}

/// What became of a view.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The view.
    pub view: String,
    /// Rows of its table.
    pub rows: usize,
    /// Why it could not be computed anew.
    pub not_computed: Option<String>,
    /// Rows that are computed and not in the table: their number, and the first of them.
    pub missing: Difference,
    /// Rows that are in the table and not computed.
    pub surplus: Difference,
}

/// Rows of one side only.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Difference {
    pub count: usize,
    /// As text, the values parted by commas.
    pub first: Vec<String>,
}

impl Verified {
    /// The table differs from what is computed.
    pub fn differs(&self) -> bool {
        self.missing.count + self.surplus.count > 0
    }
}

/// Verifies the view of that name, or all views, of a job.
///
/// # Errors
/// The database is not there; there is no such job or view, or the job has written nothing yet.
pub async fn verify(url: &str, job: &str, view: Option<&str>) -> Result<Vec<Verified>, VerifyError> {
    let client = connect(url, "velib verify").await?;
    let begin =
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL TIME ZONE 'UTC'; SET LOCAL datestyle = 'ISO'";
    client.batch_execute(begin).await?;
    let snapshot = Snapshot::open(client, job).await?;
    let views = &snapshot.job.views;
    if let Some(unknown) = view.filter(|name| !views.iter().any(|view| view.name == *name)) {
        let hint = sql::did_you_mean(unknown, views.iter().map(|view| view.name.as_str())).unwrap_or_default();
        return Err(VerifyError::Refused(format!("the job {job} has no view {unknown}; {hint}")));
    }
    let mut verified = vec![];
    for wanted in views.iter().filter(|wanted| view.is_none_or(|name| wanted.name == name)) {
        verified.push(snapshot.verify(wanted).await?);
    }
    Ok(verified)
}

/// The tables of a job as of one commit.
struct Snapshot {
    client: tokio_postgres::Client,
    job: Arc<Job>,
    statements: Vec<Statement>,
    functions: Vec<Arc<ScalarUDF>>,
    /// The last timestamp that is in the tables.
    now: Time,
}

impl Snapshot {
    async fn open(client: tokio_postgres::Client, job: &str) -> Result<Self, VerifyError> {
        let sql = "SELECT text, parameters::text, resolved, (SELECT upper FROM velib.frontier WHERE job = name)
                   FROM velib.jobs WHERE name = $1";
        let found = client.query_opt(sql, &[&job]).await?;
        let found = found.ok_or_else(|| VerifyError::Refused(format!("no job {job}; `velib jobs` lists them")))?;
        let broken =
            |e: serde_json::Error| VerifyError::Refused(format!("the definition of {job} is not readable: {e}"));
        let upper: Option<i64> = found.get(3);
        let upper = upper.ok_or_else(|| VerifyError::Refused(format!("the job {job} has written no tables yet")))?;
        let spec = Spec {
            name: job.to_owned(),
            text: found.get(0),
            parameters: serde_json::from_str(found.get(1)).map_err(broken)?,
            resolved: serde_json::from_str(found.get(2)).map_err(broken)?,
            explain: String::new(),
        };
        let statements = sql::parse(&spec.text, &spec.parameters)?;
        let prepared = rebind(spec)?;
        let now = Time::try_from(upper).unwrap_or_default().saturating_sub(1);
        Ok(Snapshot { client, job: prepared.plan, statements, functions: prepared.functions, now })
    }

    async fn verify(&self, view: &View) -> Result<Verified, VerifyError> {
        let actual = self.table(view).await;
        let computed = match &actual {
            Ok(_) => self.compute(view).await,
            Err(_) => Err(VerifyError::Refused(String::new())),
        };
        let mut verified = Verified {
            view: view.name.clone(),
            rows: actual.as_ref().map_or(0, RecordBatch::num_rows),
            not_computed: None,
            missing: Difference::default(),
            surplus: Difference::default(),
        };
        match (actual, computed) {
            (Err(error), _) | (Ok(_), Err(error)) if error.is_retriable() => return Err(error),
            (Err(error), _) | (Ok(_), Err(error)) => verified.not_computed = Some(error.to_string()),
            (Ok(actual), Ok(computed)) => {
                let (actual, computed) = (self.held(view, &actual), self.held(view, &computed));
                (verified.missing, verified.surplus) = differences(&computed, &actual);
            }
        }
        Ok(verified)
    }

    /// The rows of `view` by its query.
    async fn compute(&self, view: &View) -> Result<RecordBatch, VerifyError> {
        let mut session = Session::new(&self.functions, self.now);
        for statement in &self.statements {
            match &statement.kind {
                Kind::CreateFunction { .. } => session.add_function(statement)?,
                Kind::CreateTable { name, .. } => {
                    let (schema, _) = session.columns(statement)?;
                    session.add_table(name, schema, vec![])?;
                }
                Kind::Insert { table, .. } => {
                    let rows = session.changes(statement).await?.into_iter().map(|(rows, _)| rows);
                    session.append(table, rows.collect())?;
                }
                Kind::CreateView { name, .. } if *name == view.name => {
                    session.add_view(statement).map_err(|error| self.unreadable(error))?;
                    break;
                }
                Kind::CreateView { name, materialized: true, .. } => {
                    let read = self.job.views.iter().find(|view| view.name == *name);
                    let rows = self.table(read.expect("the job is of this text")).await?;
                    session.add_table(name, rows.schema(), vec![rows])?;
                }
                // What reads a source is missing for those that read it.
                Kind::CreateView { .. } => drop(session.add_view(statement)),
                _ => {}
            }
        }
        let asked = sql::parse(&format!("SELECT * FROM {}", identifier(&view.name)), &BTreeMap::new())?;
        let rows = session.query(&asked[0]).await?;
        let given = rows[0].schema();
        let rows = concat_batches(&given, &rows).map_err(|e| VerifyError::Refused(e.to_string()))?;
        let column = |(at, column): (usize, &ArrayRef)| convert(column, view.schema.field(at).data_type());
        let columns = rows.columns().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        batch(&view.schema, columns, rows.num_rows())
    }

    /// A relation that is not known here is one of a source.
    fn unreadable(&self, error: SqlError) -> VerifyError {
        match error.message.strip_prefix("no relation ") {
            Some(name) => VerifyError::Refused(format!("it reads {name}, which is in no table")),
            None => VerifyError::Sql(error),
        }
    }

    /// The rows of the table of `view`.
    async fn table(&self, view: &View) -> Result<RecordBatch, VerifyError> {
        let fields = view.schema.fields();
        if let Some(field) = fields.iter().find(|f| !is_read(f.data_type())) {
            let message = format!("column {} of {} is of a type that is not compared", field.name(), view.name);
            return Err(VerifyError::Refused(message));
        }
        let columns: Vec<String> = fields.iter().map(|f| identifier(f.name())).collect();
        let copies = if view.key.is_empty() { format!(", generate_series(1, {MULTIPLICITY})") } else { String::new() };
        let table = format!("{}.{}", identifier(&self.job.name), identifier(&view.name));
        // A view without columns has rows all the same.
        let columns = if columns.is_empty() { "''".to_owned() } else { columns.join(", ") };
        let answer = self.client.simple_query(&format!("SELECT {columns} FROM {table}{copies}")).await?;
        let rows: Vec<_> = answer
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        let column = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| {
            let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.get(at)).collect::<StringArray>());
            convert(&texts, field.data_type())
        };
        let columns = fields.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        batch(&view.schema, columns, rows.len())
    }

    /// The rows that the engine still holds: those that left memory by `retain` stay in the table as they were.
    fn held(&self, view: &View, rows: &RecordBatch) -> RecordBatch {
        let Some(retain) = view.retain else { return rows.clone() };
        let oldest = i64::try_from(self.now.saturating_sub(retain.after_ms)).unwrap_or(i64::MAX);
        let millis = cast(rows.column(retain.column), &DataType::Timestamp(TimeUnit::Millisecond, None));
        let Ok(millis) = millis else { return rows.clone() };
        let young = millis.as_primitive::<TimestampMillisecondType>().iter().map(|at| at.map(|at| at >= oldest));
        filter_record_batch(rows, &young.collect()).unwrap_or_else(|_| rows.clone())
    }
}

/// Types whose values are read from text.
fn is_read(kind: &DataType) -> bool {
    !matches!(kind, DataType::Interval(_) | DataType::Duration(_) | DataType::Binary | DataType::LargeBinary)
}

fn convert(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, VerifyError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, kind, &options).map_err(|e| VerifyError::Refused(format!("a value is not read: {e}")))
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, VerifyError> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), columns, &options)
        .map_err(|e| VerifyError::Refused(e.to_string()))
}

/// The rows of each side only: of `left`, and of `right`.
fn differences(left: &RecordBatch, right: &RecordBatch) -> (Difference, Difference) {
    let (mut left, right) = (by_exact(left), by_exact(right));
    let (mut only_left, mut only_right) = (Difference::default(), Difference::default());
    for (exact, there) in right {
        let mut here = left.remove(&exact).unwrap_or_default();
        for row in there {
            match here.iter().position(|other| are_near(other, &row)) {
                Some(at) => drop(here.swap_remove(at)),
                None => only_right.tell(&exact, &row),
            }
        }
        here.iter().for_each(|row| only_left.tell(&exact, row));
    }
    for (exact, here) in left {
        here.iter().for_each(|row| only_left.tell(&exact, row));
    }
    (only_left, only_right)
}

/// The floats of the rows, by the other values; null where a float stands.
type Rows = BTreeMap<Vec<Option<String>>, Vec<Vec<Option<f64>>>>;

fn by_exact(rows: &RecordBatch) -> Rows {
    let mut found = Rows::new();
    let floats: Vec<Option<ArrayRef>> = rows
        .columns()
        .iter()
        .map(|c| c.data_type().is_floating().then(|| cast(c, &DataType::Float64)).and_then(Result::ok))
        .collect();
    for row in 0..rows.num_rows() {
        let (mut exact, mut near) = (vec![], vec![]);
        for (column, floats) in rows.columns().iter().zip(&floats) {
            match floats.as_ref().map(|floats| floats.as_primitive::<Float64Type>()) {
                Some(floats) => near.push(floats.is_valid(row).then(|| floats.value(row))),
                None => {
                    exact.push(column.is_valid(row).then(|| array_value_to_string(column, row).unwrap_or_default()))
                }
            }
        }
        found.entry(exact).or_default().push(near);
    }
    found
}

fn are_near(left: &[Option<f64>], right: &[Option<f64>]) -> bool {
    left.iter().zip(right).all(|pair| match pair {
        (Some(l), Some(r)) => l == r || (l.is_nan() && r.is_nan()) || (l - r).abs() <= TOLERANCE * l.abs().max(r.abs()),
        (l, r) => l == r,
    })
}

impl Difference {
    fn tell(&mut self, exact: &[Option<String>], near: &[Option<f64>]) {
        self.count += 1;
        if self.first.len() < TOLD {
            let near = near.iter().map(|value| value.map(|value| value.to_string()));
            let values = exact.iter().cloned().chain(near).map(|value| value.unwrap_or_else(|| "null".to_owned()));
            self.first.push(values.collect::<Vec<_>>().join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array};

    #[test]
    fn rows_of_one_side_are_told() {
        let rows = |ids: Vec<i64>, values: Vec<Option<f64>>| {
            let columns: Vec<(&str, ArrayRef)> =
                vec![("id", Arc::new(Int64Array::from(ids))), ("x", Arc::new(Float64Array::from(values)))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let left = rows(vec![1, 2, 2, 3], vec![Some(0.1 + 0.2), None, None, Some(1.0)]);
        let right = rows(vec![3, 2, 1, 4], vec![Some(1.1), None, Some(0.3), Some(f64::NAN)]);
        let (missing, surplus) = differences(&left, &right);
        assert_eq!((missing.count, missing.first), (2, vec!["2, null".to_owned(), "3, 1".to_owned()]));
        assert_eq!((surplus.count, surplus.first), (2, vec!["3, 1.1".to_owned(), "4, NaN".to_owned()]));
    }
}
