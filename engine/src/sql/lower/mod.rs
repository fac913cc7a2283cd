//! DataFusion's optimised plans to [`crate::plan`]: one file an operator.
//!
//! Each node of a plan becomes one whose columns are those of the node, in its order, so that expressions
//! are bound by position. What has no counterpart is refused by name.

mod aggregate;
mod distinct;
mod grouping_sets;
mod join;
mod limit;
mod map;
mod recursion;
mod unnest;
mod window;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, Union, Values};
use datafusion::physical_expr::create_physical_expr;

use super::arithmetic;
use super::error::refuse;
use super::functions::misplaced_now;
use super::relations::{Leaf, LeafSource};
use super::subqueries::check_single_rows;
use super::temporal::mentions_clock;
use crate::plan::properties::{self, Collections, Properties};
use crate::plan::{self, From, Get, Input, Node, View};

/// Lowers the queries of a job.
pub(crate) struct Lowering<'a> {
    state: &'a SessionState,
    collections: &'a Collections,
    inputs: &'a [Input],
    views: &'a [View],
}

impl<'a> Lowering<'a> {
    pub fn new(state: &'a SessionState, collections: &'a Collections, inputs: &'a [Input], views: &'a [View]) -> Self {
        Lowering { state, collections, inputs, views }
    }

    /// A query as DataFusion plans it, to a tree of operators with its columns.
    ///
    /// # Errors
    /// What it uses that cannot be maintained.
    pub fn view(&self, plan: LogicalPlan) -> Result<Node> {
        check_names(&plan)?;
        check_single_rows(&plan)?;
        let schema = bare(plan.schema());
        let optimised = distinct::hoist_clock(self.state.optimize(&plan)?)?;
        let node = self.node(&optimised)?;
        Ok(map::renamed(node, schema))
    }

    /// The rows of a query without relations.
    ///
    /// # Errors
    /// It reads a relation.
    pub fn constant_rows(&self, plan: LogicalPlan) -> Result<RecordBatch> {
        match self.view(plan)? {
            Node::Constant(rows) => Ok(rows),
            _ => Err(refuse("the rows of a table of a job are constants", "write INSERT INTO … VALUES (…)", "")),
        }
    }

    fn node(&self, plan: &LogicalPlan) -> Result<Node> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Limit(limit) => self.limit(limit),
            // Rows of a collection have no order; with a limit, `limit` reads the order itself.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => self.recursion(query),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let schema = bare(&empty.schema);
                let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), rows)).collect();
                constant(schema, columns, rows)
            }
            other => Err(unsupported(other)),
        }
    }

    fn scan(&self, scan: &TableScan) -> Result<Node> {
        let source = scan.source.downcast_ref::<LeafSource>().ok_or_else(|| {
            refuse(format!("{} is no relation of this job", scan.table_name), "", scan.table_name.table())
        })?;
        let all: Vec<usize> = (0..source.schema.fields().len()).collect();
        let columns = scan.projection.clone().unwrap_or(all);
        let schema = bare(&scan.projected_schema);
        match &source.leaf {
            Leaf::Rows(rows) => {
                let columns = columns.iter().map(|c| rows.column(*c).clone()).collect();
                constant(schema, columns, rows.num_rows())
            }
            Leaf::Collection(from) => Ok(Node::Get(Get { from: *from, name: self.name(*from), columns, schema })),
        }
    }

    fn name(&self, from: From) -> String {
        match from {
            From::Input(index) => {
                let input = &self.inputs[index];
                match input.relation.as_str() {
                    "" => input.source.clone(),
                    relation => format!("{}.{relation}", input.source),
                }
            }
            From::View(index) => self.views[index].name.clone(),
            From::Rounds => "rounds".to_owned(),
        }
    }

    fn union(&self, union: &Union) -> Result<Node> {
        let schema = bare(&union.schema);
        let mut inputs = vec![];
        for input in &union.inputs {
            inputs.push(map::renamed(self.node(input)?, schema.clone()));
        }
        Ok(Node::Union(plan::Union { inputs, schema }))
    }

    fn values(&self, values: &Values) -> Result<Node> {
        let schema = bare(&values.schema);
        let none = DFSchema::empty();
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let mut columns: Vec<ArrayRef> = vec![];
        for at in 0..schema.fields().len() {
            let cell = |row: &Vec<Expr>| self.expr(&row[at], &none)?.evaluate(&one)?.into_array(1);
            let cells = values.values.iter().map(cell).collect::<Result<Vec<_>>>()?;
            let kind = schema.field(at).data_type();
            let cells = cells.iter().map(|c| arrow::compute::cast(c, kind)).collect::<Result<Vec<_>, _>>()?;
            let parts: Vec<&dyn arrow::array::Array> = cells.iter().map(AsRef::as_ref).collect();
            columns.push(arrow::compute::concat(&parts)?);
        }
        constant(schema, columns, values.values.len())
    }

    /// Binds an expression to the columns of its input.
    fn expr(&self, expr: &Expr, input: &DFSchema) -> Result<velib_operators::Expr> {
        if mentions_clock(expr) {
            return Err(misplaced_now());
        }
        let unbound = expr.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
        if unbound {
            return Err(refuse(
                "a subquery refers to the query around it in a way that has no join",
                "write it as a join",
                "",
            ));
        }
        let bound =
            create_physical_expr(expr, input, self.state.execution_props(), &PhysicalPlanningContext::default())?;
        arithmetic::operators(bound, input.as_arrow())
    }

    fn exprs(&self, exprs: &[Expr], input: &DFSchema) -> Result<Vec<velib_operators::Expr>> {
        exprs.iter().map(|e| self.expr(e, input)).collect()
    }

    fn properties(&self, node: &Node) -> Properties {
        properties::of(node, self.collections)
    }
}

/// The schema of a node, without qualifiers and metadata.
fn bare(schema: &DFSchema) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_metadata(Default::default())).collect();
    Arc::new(Schema::new(fields))
}

fn constant(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<Node> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // Nulls may have come into a column that was declared without.
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(f, c)| f.as_ref().clone().with_nullable(f.is_nullable() || c.null_count() > 0))
        .collect();
    Ok(Node::Constant(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?))
}

/// Gives the columns of a view their names, and checks that each has its own.
pub(super) fn rename(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    if names.is_empty() {
        return Ok(plan);
    }
    let columns = plan.schema().columns();
    if columns.len() != names.len() {
        return Err(refuse(format!("{} names for {} columns", names.len(), columns.len()), "", ""));
    }
    let exprs = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(plan).project(exprs.collect::<Vec<_>>())?.build()
}

fn check_names(plan: &LogicalPlan) -> Result<()> {
    let names: Vec<&String> = plan.schema().fields().iter().map(|f| f.name()).collect();
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        None => Ok(()),
        Some((_, name)) => {
            Err(refuse(format!("two columns are named {name}"), "give one of them another name with AS", name))
        }
    }
}

fn unsupported(plan: &LogicalPlan) -> DataFusionError {
    let (what, word) = match plan {
        LogicalPlan::Subquery(_) => {
            return refuse(
                "LATERAL is not supported in a maintained view where it has no join",
                "write it as a join; lists are taken apart in outputs, as in SELECT id, unnest(list) AS item FROM …",
                "lateral",
            );
        }
        LogicalPlan::Sort(_) => ("this ORDER BY", "order"),
        other => return refuse(format!("{} is not supported", other.display()), "", ""),
    };
    refuse(format!("{what} is not supported in a maintained view"), "", word)
}
