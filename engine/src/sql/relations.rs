//! What names mean: the relations, views and functions that queries are planned against.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, Query, SetExpr, SetOperator, SetQuantifier, TimezoneInfo, Value, VisitMut,
    VisitorMut,
};
use std::ops::ControlFlow;

use super::error::{did_you_mean, refuse};
use super::subqueries::check_memberships;
use crate::plan::From;

/// What a scan of a plan reads.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// A relation of a source, or an earlier view.
    Collection(From),
    /// Rows that never change.
    Rows(RecordBatch),
}

/// A relation as DataFusion plans with it.
pub(crate) struct LeafSource {
    pub leaf: Leaf,
    pub schema: SchemaRef,
}

impl TableSource for LeafSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A `CREATE VIEW`, put in the place of its name.
struct ViewSource {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// The names of a job.
pub(crate) struct Relations {
    state: SessionState,
    tables: BTreeMap<String, Arc<dyn TableSource>>,
}

impl Relations {
    pub fn new(state: SessionState) -> Self {
        Relations { state, tables: BTreeMap::new() }
    }

    pub fn state(&self) -> &SessionState {
        &self.state
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Whether a name is that of a `CREATE VIEW`.
    pub fn is_view(&self, name: &str) -> bool {
        self.tables.get(name).is_some_and(|source| source.is::<ViewSource>())
    }

    /// What a name reads, if it is no view.
    pub fn leaf(&self, name: &str) -> Option<Leaf> {
        Some(self.tables.get(name)?.downcast_ref::<LeafSource>()?.leaf.clone())
    }

    pub fn add_leaf(&mut self, name: &str, leaf: Leaf, schema: SchemaRef) {
        self.add_source(name, Arc::new(LeafSource { leaf, schema }));
    }

    pub fn add_source(&mut self, name: &str, source: Arc<dyn TableSource>) {
        self.tables.insert(name.to_owned(), source);
    }

    pub fn add_view(&mut self, name: &str, plan: LogicalPlan) {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        self.tables.insert(name.to_owned(), Arc::new(ViewSource { schema, plan }));
    }

    /// The columns of a `CREATE TABLE`.
    pub fn columns(&self, columns: Vec<ast::ColumnDef>) -> Result<Schema> {
        self.planner().build_schema(columns)
    }

    /// A query as DataFusion plans it, not yet optimised.
    pub fn plan(&self, query: &Query) -> Result<LogicalPlan> {
        let mut query = query.clone();
        if let ControlFlow::Break(error) = VisitMut::visit(&mut query, &mut Spelling) {
            return Err(error);
        }
        let plan = self.planner().sql_statement_to_plan(ast::Statement::Query(Box::new(query)))?;
        check_memberships(&plan)?;
        Ok(plan)
    }

    fn planner(&self) -> SqlToRel<'_, Self> {
        let options = ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false);
        SqlToRel::new_with_options(self, options)
    }
}

impl ContextProvider for Relations {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let name = name.to_string();
        self.tables.get(&name).cloned().ok_or_else(|| {
            let hint = did_you_mean(&name, self.names())
                .unwrap_or_else(|| format!("there are {}", self.names().collect::<Vec<_>>().join(", ")));
            refuse(format!("no relation {name}"), &hint, &name)
        })
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// The name of the type that `AT TIME ZONE` casts to, with the zone as its modifier.
const ZONED: &str = "velib_zoned";

/// Types as PostgreSQL has them: timestamps are microseconds.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>> {
        let zone = match sql {
            ast::DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Some("UTC"),
            ast::DataType::Timestamp(None, _) => None,
            ast::DataType::Custom(name, zone) if name.to_string() == ZONED => zone.first().map(String::as_str),
            _ => return Ok(None),
        };
        let kind = DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        Ok(Some(Arc::new(Field::new("", kind, true))))
    }
}

/// Makes one spelling of two, and refuses what DataFusion would answer otherwise than SQL does.
struct Spelling;

impl VisitorMut for Spelling {
    type Break = datafusion::error::DataFusionError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if query.with.as_ref().is_some_and(|w| w.recursive) {
            return ControlFlow::Break(refuse(
                "WITH RECURSIVE is not supported",
                "write the steps out as joins, as many as are needed",
                "recursive",
            ));
        }
        check_set_operation(&query.body)
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Self::Break> {
        if matches!(expr, ast::Expr::IsDistinctFrom(..) | ast::Expr::IsNotDistinctFrom(..)) {
            return bind_distinct(expr);
        }
        let ast::Expr::AtTimeZone { timestamp, time_zone } = expr else { return ControlFlow::Continue(()) };
        let zone = match time_zone.as_ref() {
            ast::Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(zone) => Some(zone.clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(zone) = zone.filter(|z| z.parse::<arrow::array::timezone::Tz>().is_ok()) else {
            return ControlFlow::Break(refuse(
                format!("AT TIME ZONE {time_zone} is no time zone"),
                "name one as the tz database does, as in AT TIME ZONE 'Europe/Paris'",
                "zone",
            ));
        };
        *expr = ast::Expr::Cast {
            kind: CastKind::Cast,
            expr: timestamp.clone(),
            data_type: ast::DataType::Custom(vec![ast::Ident::new(ZONED)].into(), vec![zone]),
            array: false,
            format: None,
        };
        ControlFlow::Continue(())
    }
}

/// The parser reads `a IS DISTINCT FROM b AND c` as `a IS DISTINCT FROM (b AND c)`: what was not in
/// parentheses comes out again.
fn bind_distinct(expr: &mut ast::Expr) -> ControlFlow<datafusion::error::DataFusionError> {
    let (ast::Expr::IsDistinctFrom(_, right) | ast::Expr::IsNotDistinctFrom(_, right)) = expr else {
        return ControlFlow::Continue(());
    };
    let ast::Expr::BinaryOp { op, .. } = right.as_ref() else { return ControlFlow::Continue(()) };
    match op {
        BinaryOperator::And => {}
        BinaryOperator::Or => {
            return ControlFlow::Break(refuse(
                "it is open what OR joins behind IS DISTINCT FROM",
                "put it in parentheses, as in (a IS DISTINCT FROM b) OR c",
                "distinct",
            ));
        }
        _ => return ControlFlow::Continue(()),
    }
    let mut whole = std::mem::replace(right.as_mut(), ast::Expr::value(Value::Null));
    let mut first = &mut whole;
    while let ast::Expr::BinaryOp { left, op: BinaryOperator::And, .. } = first {
        first = left;
    }
    let compared = std::mem::replace(first, ast::Expr::value(Value::Null));
    **right = compared;
    std::mem::swap(first, expr);
    *expr = whole;
    ControlFlow::Continue(())
}

/// DataFusion plans `INTERSECT ALL` and `EXCEPT ALL` as joins, which do not count copies.
fn check_set_operation(body: &SetExpr) -> ControlFlow<datafusion::error::DataFusionError> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return ControlFlow::Continue(()) };
    let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
    if all && matches!(op, SetOperator::Intersect | SetOperator::Except) {
        let word = op.to_string().to_lowercase();
        return ControlFlow::Break(refuse(
            format!("{op} ALL is not supported"),
            &format!("use {op}, which yields each row once"),
            &word,
        ));
    }
    check_set_operation(left)?;
    check_set_operation(right)
}
