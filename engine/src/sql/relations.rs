//! What names mean: the relations, views and functions that queries are planned against.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, LimitClause, Query, TimezoneInfo, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

use super::error::{did_you_mean, refuse};
use super::own_functions::{Function, OwnFunctions};
use super::set_operations::count_copies;
use super::subqueries::check_memberships;
use super::tokens::DIALECT;
use super::zones::TIMEZONE;
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
    /// Plans are executed by DataFusion.
    executes: bool,
    tables: BTreeMap<String, Arc<dyn TableSource>>,
    functions: OwnFunctions,
}

impl Relations {
    /// For plans that are lowered.
    pub fn new(state: SessionState) -> Self {
        Relations { state, executes: false, tables: BTreeMap::new(), functions: OwnFunctions::default() }
    }

    /// For plans that DataFusion executes.
    pub fn to_execute(state: SessionState) -> Self {
        Relations { executes: true, ..Self::new(state) }
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

    /// A `CREATE FUNCTION`, of which is checked that it has a value.
    ///
    /// # Errors
    /// Its body does not plan, or it has become too large.
    pub fn add_function(&mut self, name: &str, function: &Function) -> Result<()> {
        if self.state.scalar_functions().contains_key(name) || self.state.aggregate_functions().contains_key(name) {
            return Err(refuse(format!("there is a function {name} already"), "give it another name", name));
        }
        self.functions.add(name, function.clone())?;
        let nulls: Vec<String> = function.arguments.iter().map(|(_, kind)| format!("CAST(NULL AS {kind})")).collect();
        let call = format!("SELECT {name}({})", nulls.join(", "));
        let query = Parser::new(&DIALECT).try_with_sql(&call).and_then(|mut parser| parser.parse_query());
        self.plan(query.as_ref().map_err(|e| refuse(e.to_string(), "", name))?).map(|_| ())
    }

    /// The columns of a `CREATE TABLE`.
    pub fn columns(&self, columns: Vec<ast::ColumnDef>) -> Result<Schema> {
        self.planner().build_schema(columns)
    }

    /// A query as DataFusion plans it, not yet optimised.
    pub fn plan(&self, query: &Query) -> Result<LogicalPlan> {
        let mut query = query.clone();
        self.functions.expand(&mut query)?;
        if let ControlFlow::Break(error) = VisitMut::visit(&mut query, &mut Spelling) {
            return Err(error);
        }
        let plan = self.planner().sql_statement_to_plan(ast::Statement::Query(Box::new(query)))?;
        check_memberships(&plan)?;
        count_copies(plan)
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

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(match self.executes {
            true => provider_as_source(Arc::new(CteWorkTable::new(name, schema))),
            false => Arc::new(LeafSource { leaf: Leaf::Collection(From::Rounds), schema }),
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

/// Types as PostgreSQL has them: timestamps are microseconds.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>> {
        let zone = match sql {
            ast::DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Some("UTC"),
            ast::DataType::Timestamp(None, _) => None,
            // As the type json of PostgreSQL: what is in it is looked for in the text.
            ast::DataType::JSON => return Ok(Some(Arc::new(Field::new("", DataType::Utf8, true)))),
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
        first_rows(query)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Self::Break> {
        if let ast::TableFactor::Table { sample: Some(_), .. } | ast::TableFactor::Derived { sample: Some(_), .. } =
            factor
        {
            return ControlFlow::Break(refuse(
                "TABLESAMPLE is not supported: a sample is another one each time",
                "filter by a column, which takes the same rows each time: WHERE id % 10 = 0",
                "tablesample",
            ));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Self::Break> {
        if matches!(expr, ast::Expr::IsDistinctFrom(..) | ast::Expr::IsNotDistinctFrom(..)) {
            return bind_distinct(expr);
        }
        if let ast::Expr::AtTimeZone { timestamp, time_zone } = expr {
            let arguments = [time_zone, timestamp].map(|argument| {
                let argument = std::mem::replace(argument.as_mut(), ast::Expr::value(Value::Null));
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument))
            });
            *expr = function(TIMEZONE, arguments.into());
        }
        if let ast::Expr::Interval(interval) = expr
            && let ast::Expr::Value(value) = interval.value.as_mut()
            && let Value::SingleQuotedString(text) = &mut value.value
        {
            *text = in_units(text);
        }
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

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`.
fn first_rows(query: &mut Query) -> ControlFlow<datafusion::error::DataFusionError> {
    let Some(fetch) = query.fetch.take() else { return ControlFlow::Continue(()) };
    if fetch.with_ties || fetch.percent {
        return ControlFlow::Break(refuse(
            "FETCH FIRST with PERCENT or WITH TIES is not supported",
            "write FETCH FIRST 10 ROWS ONLY, or filter by rank() OVER (ORDER BY …)",
            "fetch",
        ));
    }
    let first = fetch.quantity.unwrap_or_else(|| ast::Expr::value(Value::Number("1".to_owned(), false)));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(first),
        other => *other = Some(LimitClause::LimitOffset { limit: Some(first), offset: None, limit_by: vec![] }),
    }
    ControlFlow::Continue(())
}

/// A call of a function.
fn function(name: &str, arguments: Vec<ast::FunctionArg>) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name: ast::Ident::new(name).into(),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// A length of time with its clock in units, as Arrow reads it: `1 day 04:05:06` as `1 day 4 hours 5 minutes 6 seconds`.
fn in_units(text: &str) -> String {
    let word = |word: &str| {
        let (sign, digits) = word.strip_prefix('-').map_or(("", word), |digits| ("-", digits));
        let parts: Vec<&str> = digits.split(':').collect();
        let numbers = parts.iter().all(|part| part.parse::<f64>().is_ok());
        match parts.len() {
            2 | 3 if numbers => {
                let units = ["hours", "minutes", "seconds"];
                parts.iter().zip(units).map(|(part, unit)| format!("{sign}{part} {unit}")).collect::<Vec<_>>().join(" ")
            }
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
