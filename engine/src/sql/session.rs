//! One-off questions on DataFusion's own executor, in the language of jobs.
//!
//! The same parser, functions and meaning of `now()` as for maintained views, so that each checks the
//! other: a query asked here as of a time is what its view holds at that time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TransformedResult;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::Result as Planned;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::sql::sqlparser::ast::{Expr, Ident, Query};
use datafusion::sql::sqlparser::parser::Parser;
use velib_operators::{Diff, Time};

use super::depth::deep;
use super::error::{SqlError, did_you_mean};
use super::functions::session_state;
use super::relations::Relations;
use super::statement::{Kind, Statement};
use super::temporal::at_time;
use super::tokens::DIALECT;

/// Tables in memory, and views of them, at one logical time.
pub struct Session {
    relations: Relations,
    tables: BTreeMap<String, SchemaRef>,
    /// What was appended to tables.
    rows: BTreeMap<String, Vec<RecordBatch>>,
    now_ms: i64,
}

impl Session {
    /// Without tables. `now` is what `now()` is; `functions` stand beside DataFusion's.
    pub fn new(functions: &[Arc<ScalarUDF>], now: Time) -> Self {
        let now_ms = i64::try_from(now).unwrap_or(i64::MAX);
        Session {
            relations: Relations::to_execute(session_state(functions)),
            tables: BTreeMap::new(),
            rows: BTreeMap::new(),
            now_ms,
        }
    }

    /// Rows under a name, which may be qualified by a source's. What had the name is replaced.
    ///
    /// # Errors
    /// Rows of other columns.
    pub fn add_table(&mut self, name: &str, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<(), SqlError> {
        let table = MemTable::try_new(schema.clone(), vec![rows])
            .map_err(|e| SqlError::new(format!("rows of {name}: {}", e.strip_backtrace()), None))?;
        self.relations.add_source(name, provider_as_source(Arc::new(table)));
        self.tables.insert(name.to_owned(), schema);
        Ok(())
    }

    /// More rows for a table of that name.
    ///
    /// # Errors
    /// There is none, or rows of other columns.
    pub fn append(&mut self, name: &str, rows: Vec<RecordBatch>) -> Result<(), SqlError> {
        let schema = self.tables.get(name).cloned();
        let schema = schema.ok_or_else(|| SqlError::new(format!("no table {name}"), None))?;
        let mut all = self.rows.remove(name).unwrap_or_default();
        all.extend(rows);
        self.rows.insert(name.to_owned(), all.clone());
        self.add_table(name, schema, all)
    }

    /// The columns of a `CREATE TABLE`, those of its key not null, and the places of its key.
    ///
    /// # Errors
    /// A type that there is not, a column of the key that there is not, or it creates no table.
    pub fn columns(&self, statement: &Statement) -> Result<(SchemaRef, Vec<usize>), SqlError> {
        let Kind::CreateTable { name, columns, key, .. } = &statement.kind else {
            return Err(statement.error("this creates no table", None));
        };
        let schema = self.relations.columns(columns.clone()).map_err(|e| statement.planning_error(&e))?;
        let declared = Arc::new(schema);
        let key = key.iter().map(|c| column(statement, &declared, name, c)).collect::<Result<Vec<_>, _>>()?;
        let fields = declared.fields().iter().enumerate();
        let fields = fields.map(|(i, f)| f.as_ref().clone().with_nullable(f.is_nullable() && !key.contains(&i)));
        Ok((Arc::new(Schema::new(fields.collect::<Vec<_>>())), key))
    }

    /// A `CREATE FUNCTION`.
    ///
    /// # Errors
    /// Its body does not plan, or it is no function.
    pub fn add_function(&mut self, statement: &Statement) -> Result<(), SqlError> {
        let Kind::CreateFunction { name, function } = &statement.kind else {
            return Err(statement.error("this is no function", None));
        };
        let added = deep(|| self.relations.add_function(name, function));
        added.map_err(|e| statement.planning_error(&e))
    }

    /// A `CREATE [MATERIALIZED] VIEW`, asked anew with each query that names it.
    ///
    /// # Errors
    /// Its query does not plan, or it is no view.
    pub fn add_view(&mut self, statement: &Statement) -> Result<(), SqlError> {
        let Kind::CreateView { name, columns, query, .. } = &statement.kind else {
            return Err(statement.error("this is no view", None));
        };
        let plan = deep(|| self.relations.plan(query).and_then(|plan| super::lower::rename(plan, columns)));
        self.relations.add_view(name, plan.map_err(|e| statement.planning_error(&e))?);
        Ok(())
    }

    /// The answer to a `SELECT`: at least one batch, so that its columns are known.
    ///
    /// # Errors
    /// The query does not plan, or fails on a row.
    pub async fn query(&self, statement: &Statement) -> Result<Vec<RecordBatch>, SqlError> {
        let Kind::Select(query) = &statement.kind else {
            return Err(statement.error("this is no query", Some("a query begins with SELECT".to_owned())));
        };
        self.run(query).map_err(|e| statement.planning_error(&e))
    }

    /// What `INSERT`, `UPDATE` or `DELETE` changes: rows of the table, and by how many copies of each.
    ///
    /// # Errors
    /// The table is not there, or a value does not go into its column.
    pub async fn changes(&self, statement: &Statement) -> Result<Vec<(RecordBatch, Diff)>, SqlError> {
        match &statement.kind {
            Kind::Insert { table, columns, query } => {
                let schema = self.schema(statement, table)?;
                let targets: Vec<usize> = match columns.as_slice() {
                    [] => (0..schema.fields().len()).collect(),
                    named => named.iter().map(|c| column(statement, &schema, table, c)).collect::<Result<_, _>>()?,
                };
                let rows = self.run(query).map_err(|e| statement.planning_error(&e))?;
                Ok(vec![(placed(statement, rows, &targets, &schema)?, 1)])
            }
            Kind::Delete { table, filter } => {
                let schema = self.schema(statement, table)?;
                let old = self.selected(statement, table, &schema, &BTreeMap::new(), filter.as_ref()).await?;
                Ok(vec![(old, -1)])
            }
            Kind::Update { table, assignments, filter } => {
                let schema = self.schema(statement, table)?;
                let mut values = BTreeMap::new();
                for (name, value) in assignments {
                    values.insert(column(statement, &schema, table, name)?, value);
                }
                let old = self.selected(statement, table, &schema, &BTreeMap::new(), filter.as_ref()).await?;
                let new = self.selected(statement, table, &schema, &values, filter.as_ref()).await?;
                Ok(vec![(old, -1), (new, 1)])
            }
            _ => Err(statement.error("this changes no rows", None)),
        }
    }

    /// The rows of a table that `filter` is true for, with `values` in the place of their columns.
    async fn selected(
        &self,
        statement: &Statement,
        table: &str,
        schema: &SchemaRef,
        values: &BTreeMap<usize, &Expr>,
        filter: Option<&Expr>,
    ) -> Result<RecordBatch, SqlError> {
        let name = |at: usize| Ident::with_quote('"', schema.field(at).name()).to_string();
        let value = |at: usize| values.get(&at).map_or_else(|| name(at), |e| format!("({e})"));
        let columns: Vec<String> =
            (0..schema.fields().len()).map(|at| format!("{} AS {}", value(at), name(at))).collect();
        let filter = filter.map(|f| format!(" WHERE {f}")).unwrap_or_default();
        let text = format!("SELECT {} FROM {table}{filter}", columns.join(", "));
        let query = Parser::new(&DIALECT)
            .try_with_sql(&text)
            .and_then(|mut parser| parser.parse_query())
            .map_err(|e| statement.error(e.to_string(), None))?;
        let rows = self.run(&query).map_err(|e| statement.planning_error(&e))?;
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        placed(statement, rows, &all, schema)
    }

    fn run(&self, query: &Query) -> Planned<Vec<RecordBatch>> {
        let state = self.relations.state();
        let answer: Planned<_> = deep(|| {
            let plan = self.relations.plan(query)?;
            let schema = Arc::new(plan.schema().as_arrow().clone());
            let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
            let timed = |node: LogicalPlan| node.map_expressions(|e| at_time(e, self.now_ms));
            let plan = plan.transform_up_with_subqueries(timed).data()?;
            // The tables are in memory: there is nothing to wait for but the computation, on this stack.
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            Ok((schema, runtime.block_on(DataFrame::new(state.clone(), plan).collect())?))
        });
        let (schema, rows) = answer?;
        Ok(if rows.is_empty() { vec![RecordBatch::new_empty(schema)] } else { rows })
    }

    fn schema(&self, statement: &Statement, table: &str) -> Result<SchemaRef, SqlError> {
        self.tables.get(table).cloned().ok_or_else(|| {
            let hint = did_you_mean(table, self.tables.keys().map(String::as_str));
            statement.error_at(table, format!("no table {table}"), hint)
        })
    }
}

/// Asks one query of tables in memory, at the logical time `now`.
///
/// # Errors
/// The query does not parse or plan, or fails on a row.
pub async fn query(
    tables: Vec<(&str, SchemaRef, Vec<RecordBatch>)>,
    functions: &[Arc<ScalarUDF>],
    now: Time,
    text: &str,
) -> Result<Vec<RecordBatch>, SqlError> {
    let statements = super::parse(text, &BTreeMap::new())?;
    let [statement] = statements.as_slice() else {
        return Err(SqlError::new("one query is asked at a time", None));
    };
    let mut session = Session::new(functions, now);
    for (name, schema, rows) in tables {
        session.add_table(name, schema, rows)?;
    }
    session.query(statement).await
}

/// The columns of `rows` as columns `targets` of a table, the others null.
pub(super) fn placed(
    statement: &Statement,
    rows: Vec<RecordBatch>,
    targets: &[usize],
    schema: &SchemaRef,
) -> Result<RecordBatch, SqlError> {
    let wrong = |e: &dyn std::fmt::Display| statement.error(super::error::lower_first(&e.to_string()), None);
    let given = rows[0].schema();
    if given.fields().len() != targets.len() {
        let message = format!("{} values a row for {} columns", given.fields().len(), targets.len());
        return Err(statement.error(message, None));
    }
    let rows = concat_batches(&given, &rows).map_err(|e| wrong(&e))?;
    let column = |at: usize| -> Result<ArrayRef, SqlError> {
        let field = schema.field(at);
        let options = CastOptions { safe: false, ..CastOptions::default() };
        match targets.iter().position(|t| *t == at) {
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
            Some(from) => cast_with_options(rows.column(from), field.data_type(), &options)
                .map_err(|e| statement.error(format!("column {}: {e}", field.name()), None)),
        }
    };
    let columns: Vec<ArrayRef> = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
    let null = schema.fields().iter().zip(&columns).find(|(f, c)| !f.is_nullable() && c.null_count() > 0);
    if let Some((field, _)) = null {
        return Err(statement.error(format!("column {} of a row is null, which it may not be", field.name()), None));
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| wrong(&e))
}

fn column(statement: &Statement, schema: &SchemaRef, table: &str, name: &str) -> Result<usize, SqlError> {
    schema.index_of(name).map_err(|_| {
        let hint = did_you_mean(name, schema.fields().iter().map(|f| f.name().as_str()));
        statement.error_at(name, format!("no column {name} in {table}"), hint)
    })
}
