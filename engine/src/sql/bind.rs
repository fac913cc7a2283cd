//! Statements to a job: names looked up, views planned in their order, keys and bounds checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::sql::sqlparser::ast::Query;
use velib_operators::RowCodec;

use super::depth::{deep, is_too_deep};
use super::error::{SqlError, did_you_mean};
use super::functions::{check_deterministic, planning_state};
use super::lower::Lowering;
use super::relations::{Leaf, Relations};
use super::session::placed;
use super::statement::{Explained, Kind, Statement, ViewOptions};
use super::with;
use crate::plan::expire;
use crate::plan::properties::{self, Collections, Properties};
use crate::plan::{From, Input, Job, Node, View};
use crate::source::Resolved;

/// What a text is bound against.
#[derive(Clone, Default)]
pub struct Binding {
    /// What each source offers, by its name in the job. A relation without a name goes by its source's.
    pub resolved: BTreeMap<String, Resolved>,
    /// The sources that end by themselves: what they append is held like any other relation.
    pub bounded: BTreeSet<String>,
    /// Scalar functions beside DataFusion's, as zones are.
    pub functions: Vec<Arc<ScalarUDF>>,
}

/// Plans the views of a text.
///
/// # Errors
/// The first statement that cannot be bound or maintained, why, and what to write instead.
pub fn bind_job(name: &str, statements: &[Statement], binding: &Binding) -> Result<Job, SqlError> {
    deep(|| {
        let mut binder = Binder::new(binding);
        for statement in statements {
            binder.statement(statement)?;
        }
        Ok(binder.job(name))
    })
}

/// Plans one query (a `SELECT`, or an `EXPLAIN` of one) as if it were the last view of that text, named `query`.
///
/// # Errors
/// As [`bind_job`].
pub fn bind_query(statements: &[Statement], query: &Statement, binding: &Binding) -> Result<Job, SqlError> {
    let (Kind::Select(ast) | Kind::Explain(Explained::Query(ast))) = &query.kind else {
        return Err(query.error("this is no query", Some("a query begins with SELECT".to_owned())));
    };
    deep(|| {
        let mut binder = Binder::new(binding);
        for statement in statements {
            binder.statement(statement)?;
        }
        let plan = binder.plan(query, ast, &[])?;
        binder.materialize(query, "query", plan, &ViewOptions::default())?;
        Ok(binder.job("query"))
    })
}

struct Binder {
    relations: Relations,
    inputs: Vec<Input>,
    views: Vec<View>,
    collections: Collections,
    tables: BTreeMap<String, Table>,
}

/// A `CREATE TABLE`.
struct Table {
    schema: SchemaRef,
    key: Vec<usize>,
}

impl Binder {
    fn new(binding: &Binding) -> Self {
        let mut relations = Relations::new(planning_state(&binding.functions));
        let mut inputs = vec![];
        let mut collections = Collections::default();
        for (source, resolved) in &binding.resolved {
            for relation in &resolved.relations {
                let name = match relation.name.as_str() {
                    "" => source.clone(),
                    name => format!("{source}.{name}"),
                };
                let from = From::Input(inputs.len());
                relations.add_leaf(&name, Leaf::Collection(from), relation.schema.clone());
                let input = Input {
                    source: source.clone(),
                    relation: relation.name.clone(),
                    schema: relation.schema.clone(),
                    key: relation.key.clone(),
                    appended: relation.appended,
                    time_column: relation.time_column,
                };
                collections.inputs.push(Properties::of_input(&input, binding.bounded.contains(source)));
                inputs.push(input);
            }
        }
        Binder { relations, inputs, views: vec![], collections, tables: BTreeMap::new() }
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), SqlError> {
        match &statement.kind {
            Kind::CreateSource { .. } | Kind::SetParameter { .. } => Ok(()),
            Kind::CreateFunction { name, function } => {
                self.relations.add_function(name, function).map_err(|e| statement.planning_error(&e))
            }
            Kind::CreateView { name, columns, materialized, options, query } => {
                self.check_new(statement, name)?;
                let plan = self.plan(statement, query, columns)?;
                match materialized {
                    false => self.relations.add_view(name, plan),
                    true => self.materialize(statement, name, plan, options)?,
                }
                Ok(())
            }
            Kind::CreateTable { name, columns, key, options, .. } => {
                self.check_new(statement, name)?;
                if let Some(option) = options.keys().next() {
                    let message = format!("{option} is no setting of a table of a job: its rows are constants");
                    return Err(statement.error_at(option, message, Some("leave WITH (…) out".to_owned())));
                }
                let schema = self.relations.columns(columns.clone()).map_err(|e| statement.planning_error(&e))?;
                let key: Result<Vec<usize>, SqlError> =
                    key.iter().map(|c| column_of(statement, &schema, name, c)).collect();
                let key = key?;
                let schema = Arc::new(schema);
                let rows = RecordBatch::new_empty(schema.clone());
                self.relations.add_leaf(name, Leaf::Rows(rows), schema.clone());
                self.tables.insert(name.clone(), Table { schema, key });
                Ok(())
            }
            Kind::Insert { table, columns, query } => self.insert(statement, table, columns, query),
            Kind::CreateIndex { view, columns } => {
                let index = self.view(statement, view)?;
                let found: Result<Vec<usize>, SqlError> =
                    columns.iter().map(|c| column_of(statement, &self.views[index].schema, view, c)).collect();
                self.views[index].indexes.push(found?);
                Ok(())
            }
            // A view that is no table has nowhere to keep a comment.
            Kind::Comment { view, .. } if self.relations.is_view(view) => Ok(()),
            Kind::Comment { view, column, comment } => {
                let index = self.view(statement, view)?;
                match column {
                    None => self.views[index].comment = comment.clone(),
                    Some(column) => {
                        let at = column_of(statement, &self.views[index].schema, view, column)?;
                        self.views[index].column_comments[at] = comment.clone();
                    }
                }
                Ok(())
            }
            _ => Err(statement.error(
                "a job consists of sources, parameters, tables, functions, views, indexes and comments",
                Some("ask one-off questions with `velib query` or in `velib sql`".to_owned()),
            )),
        }
    }

    fn check_new(&self, statement: &Statement, name: &str) -> Result<(), SqlError> {
        match self.relations.contains(name) {
            true => Err(statement.error_at(name, format!("there is a relation {name} already"), None)),
            false => Ok(()),
        }
    }

    /// A query as DataFusion plans it, with names for its columns.
    fn plan(&self, statement: &Statement, query: &Query, columns: &[String]) -> Result<LogicalPlan, SqlError> {
        let planned = self.relations.plan(query).and_then(|plan| {
            check_deterministic(&plan)?;
            super::lower::rename(plan, columns)
        });
        planned.map_err(|e| statement.planning_error(&e))
    }

    fn materialize(
        &mut self,
        statement: &Statement,
        name: &str,
        plan: LogicalPlan,
        options: &ViewOptions,
    ) -> Result<(), SqlError> {
        let lowering = Lowering::new(self.relations.state(), &self.collections, &self.inputs, &self.views);
        let mut node = lowering.view(plan).map_err(|e| statement.planning_error(&e))?;
        if is_too_deep(&node) {
            return Err(statement.error_at(
                name,
                format!("view {name} is nested too deeply, with the views that it is made of"),
                Some("make one of them a materialized view, which is kept by itself".to_owned()),
            ));
        }
        let schema = node.schema();
        let key = match &options.key {
            Some(columns) => {
                columns.iter().map(|c| column_of(statement, &schema, name, c)).collect::<Result<Vec<_>, _>>()?
            }
            None => vec![],
        };
        let retain = with::retain(statement, name, &schema, options)?;
        if let Some(retain) = retain {
            expire::expire(&mut node, retain).map_err(|e| refused(statement, name, e))?;
        }
        properties::check_bounded(&node, &self.collections, retain).map_err(|e| refused(statement, name, e))?;
        let properties = properties::of(&node, &self.collections);
        let key = if key.is_empty() { properties.narrowest_key().unwrap_or_default() } else { key };
        let metrics = with::metrics(statement, name, &schema, &key, options)?;
        let from = From::View(self.views.len());
        self.relations.add_leaf(name, Leaf::Collection(from), schema.clone());
        self.collections.views.push(properties.as_view(name, &key, retain));
        self.views.push(View {
            name: name.to_owned(),
            plan: node,
            key,
            indexes: vec![],
            comment: None,
            column_comments: vec![None; schema.fields().len()],
            schema,
            retain,
            metrics,
        });
        Ok(())
    }

    fn insert(
        &mut self,
        statement: &Statement,
        table: &str,
        columns: &[String],
        query: &Query,
    ) -> Result<(), SqlError> {
        let Some(Table { schema, key }) = self.tables.get(table) else {
            let hint = did_you_mean(table, self.tables.keys().map(String::as_str));
            return Err(statement.error_at(table, format!("no table {table}"), hint));
        };
        let (schema, key) = (schema.clone(), key.clone());
        let targets: Vec<usize> = match columns {
            [] => (0..schema.fields().len()).collect(),
            named => named.iter().map(|c| column_of(statement, &schema, table, c)).collect::<Result<_, _>>()?,
        };
        let plan = self.plan(statement, query, &[])?;
        let lowering = Lowering::new(self.relations.state(), &self.collections, &self.inputs, &self.views);
        let rows = lowering.constant_rows(plan).map_err(|e| statement.planning_error(&e))?;
        let added = placed(statement, vec![rows], &targets, &schema)?;
        let Some(Leaf::Rows(before)) = self.relations.leaf(table) else {
            unreachable!("a table is a leaf of rows");
        };
        let rows = concat_batches(&schema, [&before, &added])
            .map_err(|e| statement.error(format!("rows of table {table}: {e}"), None))?;
        if !key.is_empty() && !is_unique(&rows, &key) {
            return Err(statement.error(format!("two rows of table {table} have the same primary key"), None));
        }
        self.relations.add_leaf(table, Leaf::Rows(rows), schema);
        Ok(())
    }

    fn view(&self, statement: &Statement, name: &str) -> Result<usize, SqlError> {
        self.views.iter().position(|v| v.name == name).ok_or_else(|| {
            let hint = did_you_mean(name, self.views.iter().map(|v| v.name.as_str()));
            statement.error_at(name, format!("no materialized view {name} above"), hint)
        })
    }

    /// The job, with only the inputs that a view reads.
    fn job(mut self, name: &str) -> Job {
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for view in &self.views {
            visit_inputs(&view.plan, &mut |input| {
                let next = places.len();
                places.entry(input).or_insert(next);
            });
        }
        for view in &mut self.views {
            renumber(&mut view.plan, &places);
        }
        let mut inputs: Vec<(usize, Input)> = self
            .inputs
            .into_iter()
            .enumerate()
            .filter_map(|(old, input)| places.get(&old).map(|new| (*new, input)))
            .collect();
        inputs.sort_by_key(|(place, _)| *place);
        let inputs = inputs.into_iter().map(|(_, input)| input).collect();
        Job { name: name.to_owned(), inputs, views: self.views }
    }
}

fn is_unique(rows: &RecordBatch, key: &[usize]) -> bool {
    let columns: Vec<ArrayRef> = key.iter().map(|c| rows.column(*c).clone()).collect();
    let keys = RowCodec::new(columns.iter().map(|c| c.data_type())).and_then(|c| c.encode(&columns, rows.num_rows()));
    keys.is_ok_and(|keys| keys.iter().collect::<BTreeSet<_>>().len() == keys.len())
}

fn visit_inputs(node: &Node, seen: &mut impl FnMut(usize)) {
    if let Node::Get(get) = node
        && let From::Input(index) = get.from
    {
        seen(index);
    }
    node.children().into_iter().for_each(|child| visit_inputs(child, seen));
}

fn renumber(node: &mut Node, places: &BTreeMap<usize, usize>) {
    if let Node::Get(get) = node
        && let From::Input(index) = &mut get.from
    {
        *index = places[index];
    }
    node.children_mut().into_iter().for_each(|child| renumber(child, places));
}

pub(super) fn column_of(
    statement: &Statement,
    schema: &Schema,
    relation: &str,
    column: &str,
) -> Result<usize, SqlError> {
    schema.index_of(column).map_err(|_| {
        let hint = did_you_mean(column, schema.fields().iter().map(|f| f.name().as_str()));
        statement.error_at(column, format!("no column {column} in {relation}"), hint)
    })
}

fn refused(statement: &Statement, view: &str, refusal: properties::Unbounded) -> SqlError {
    statement.error_at(view, format!("view {view} {}", refusal.reason), Some(refusal.remedy))
}
