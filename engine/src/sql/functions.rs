//! The functions and rules that queries are planned with: DataFusion's, less what cannot be maintained.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::{self as rules, AnalyzerRule, OptimizerRule};

use super::aggregates;
use super::arithmetic::CheckedArithmetic;
use super::casts::Casts;
use super::domains::within_domain;
use super::error::refuse;
use super::filters::{PushDownFilters, all_rules};
use super::intervals::ComparedIntervals;
use super::lengths::limited;
use super::operators::Operators;
use super::temporal::{Elsewhere, TemporalFilters};
use super::to_char::to_char;
use super::zones::timezone;

/// The name of the function that reads the timeline's clock.
pub(crate) const NOW: &str = "now";

/// Time zone of timestamps that are written without one.
const TIME_ZONE: &str = "UTC";

/// The type of `now()`.
pub(crate) fn now_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()))
}

/// A function whose value is the logical time of the timeline. It has none while planning:
/// [`TemporalFilters`] turns the predicates that it stands in into intervals, and anything else is refused.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    name: &'static str,
    aliases: Vec<String>,
    kind: DataType,
    signature: Signature,
}

impl Moment {
    pub(crate) fn function(name: &'static str, aliases: &[&str], kind: DataType) -> ScalarUDF {
        let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
        ScalarUDF::from(Moment { name, aliases, kind, signature: Signature::nullary(Volatility::Volatile) })
    }
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(misplaced_now())
    }
}

/// `now()` where it is none of a temporal filter.
pub(crate) fn misplaced_now() -> DataFusionError {
    refuse(
        "now() can only bound rows in WHERE: its value changes with every moment, so nothing else of it can be kept",
        "compare it with a column, as in WHERE observed_at > now() - INTERVAL '1 hour', joined to the rest by AND",
        NOW,
    )
}

/// The configuration of every plan of the engine.
fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some(TIME_ZONE.to_owned());
    options.optimizer.skip_failed_rules = false;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    config
}

/// What plans maintained views. `extra` functions stand beside DataFusion's.
pub(crate) fn planning_state(extra: &[Arc<ScalarUDF>]) -> SessionState {
    let rules = analyzer_rules(Elsewhere::Refused);
    state(extra).with_analyzer_rules(rules).with_optimizer_rules(optimizer_rules()).build()
}

/// What answers one-off queries: all of DataFusion, and `now()` wherever it stands.
pub(crate) fn session_state(extra: &[Arc<ScalarUDF>]) -> SessionState {
    let mut state =
        state(extra).with_analyzer_rules(analyzer_rules(Elsewhere::Value)).with_optimizer_rules(all_rules()).build();
    // Executed as it is written, a subquery with several rows is an error.
    state.config_mut().options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = true;
    state
}

/// What gives a query the meaning that it has in SQL, and in both executions.
fn analyzer_rules(elsewhere: Elsewhere) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(Casts));
    rules.push(Arc::new(ComparedIntervals));
    rules.push(Arc::new(TemporalFilters { elsewhere }));
    rules.push(Arc::new(CheckedArithmetic));
    rules
}

/// DataFusion with the engine's settings and functions.
fn state(extra: &[Arc<ScalarUDF>]) -> SessionStateBuilder {
    let now = Moment::function(NOW, &["current_timestamp"], now_type());
    let mut functions: HashMap<String, Arc<ScalarUDF>> = DEFAULT_FUNCTIONS.clone();
    let sign = functions.get("signum").map(|signum| Arc::new(signum.as_ref().clone().with_aliases(["sign"])));
    let own = [now, to_char(), timezone()].map(Arc::new);
    for function in extra.iter().cloned().chain(own).chain(sign) {
        for name in function.aliases() {
            functions.insert(name.clone(), function.clone());
        }
        functions.insert(function.name().to_owned(), function);
    }
    let mut builder = SessionStateBuilder::new().with_config(config()).with_default_features();
    // Under each name the entry of that name, so that an alias of a function that was replaced is gone.
    builder = builder.with_scalar_functions(functions.into_values().collect());
    builder = builder.with_aggregate_functions(aggregates::all());
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(Operators));
    builder
}

static DEFAULT_FUNCTIONS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let state = SessionStateBuilder::new().with_default_features().build();
    state
        .scalar_functions()
        .iter()
        .filter(|(_, f)| !matches!(f.name(), NOW | "to_char"))
        .map(|(n, f)| (n.clone(), within_domain(limited(f.clone()))))
        .collect()
});

/// DataFusion's rules, less those that are about reading files or that trade an order of rows for speed:
/// limits stay where they are written, next to their order.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(rules::rewrite_set_comparison::RewriteSetComparison::new()),
        Arc::new(rules::optimize_unions::OptimizeUnions::new()),
        Arc::new(rules::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(rules::eliminate_join::EliminateJoin::new()),
        Arc::new(rules::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(rules::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(rules::decorrelate_lateral_join::DecorrelateLateralJoin::new()),
        Arc::new(rules::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(rules::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(rules::eliminate_filter::EliminateFilter::new()),
        Arc::new(rules::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(rules::propagate_empty_relation::PropagateEmptyRelation::new()),
        Arc::new(rules::eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(PushDownFilters::new()),
        Arc::new(rules::eliminate_group_by_constant::EliminateGroupByConstant::new()),
        Arc::new(rules::common_subexpr_eliminate::CommonSubexprEliminate::new()),
        Arc::new(rules::optimize_projections::OptimizeProjections::new()),
    ]
}

/// Refuses functions whose value is not determined by their arguments, `now()` apart.
pub(crate) fn check_deterministic(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| match e {
                Expr::ScalarFunction(f)
                    if f.func.name() != NOW && f.func.signature().volatility != Volatility::Immutable =>
                {
                    Err(volatile(f.func.name()))
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(())
}

fn volatile(name: &str) -> DataFusionError {
    let hint = match name {
        "current_date" | "current_time" | "today" => {
            "bound rows by the clock with now(), as in WHERE observed_at > now() - INTERVAL '1 day'"
        }
        _ => "a maintained view must be the same whenever it is computed: compute such values where the rows are read",
    };
    refuse(format!("{name}() has another value at each call"), hint, name)
}
