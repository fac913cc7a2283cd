//! Filters moved towards the rows that they are about, as DataFusion does, with one exception.
//!
//! An aggregate without `GROUP BY` has one row whatever comes in, so no filter may move below it. One
//! that reads no column at all (`WHERE label = 'y'` over `SELECT 'x' AS label, count(*)`) seems to
//! DataFusion to read nothing but group columns, and would: the row would be that of no input, and stay.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{Filter, LogicalPlan};
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// [`PushDownFilter`], but never below an aggregate of everything.
#[derive(Debug)]
pub(crate) struct PushDownFilters(PushDownFilter);

impl PushDownFilters {
    pub fn new() -> Self {
        PushDownFilters(PushDownFilter::new())
    }
}

impl OptimizerRule for PushDownFilters {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Filter(filter) if is_over_one_row(filter) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn is_over_one_row(filter: &Filter) -> bool {
    match filter.input.as_ref() {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        // Filters upon each other become one on their way.
        LogicalPlan::Filter(below) => is_over_one_row(below),
        _ => false,
    }
}

/// All of DataFusion's rules, with this one in its place.
pub(crate) fn all_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own = PushDownFilters::new();
    let mut rules = Optimizer::new().rules;
    for rule in &mut rules {
        if rule.name() == own.name() {
            *rule = Arc::new(PushDownFilters::new());
        }
    }
    rules
}
