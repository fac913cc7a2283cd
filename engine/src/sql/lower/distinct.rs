//! `DISTINCT`, and where the clock's predicates stand best.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, DistinctOn, Expr, Filter, LogicalPlan, LogicalPlanBuilder};

use super::map::{columns, map, renamed};
use super::{Lowering, bare};
use crate::plan::{Accumulate, Node, TopK};
use crate::sql::error::refuse;
use crate::sql::temporal::{as_bound, mentions_clock};

impl Lowering<'_> {
    pub(super) fn distinct(&self, input: &LogicalPlan) -> Result<Node> {
        let schema = bare(input.schema());
        let input = self.node(input)?;
        if !self.properties(&input).keys.is_empty() {
            return Ok(renamed(input, schema));
        }
        let group = columns(&input.schema());
        let (aggregates, global, expiry) = (vec![], false, None);
        Ok(Node::Accumulate(Box::new(Accumulate { input, group, aggregates, global, expiry, schema })))
    }

    /// `DISTINCT ON (…)`: the first row of each partition.
    pub(super) fn distinct_on(&self, on: &DistinctOn) -> Result<Node> {
        let order = on.sort_expr.as_deref().unwrap_or_default();
        let rest: Vec<_> = order.iter().filter(|o| !on.on_expr.contains(&o.expr)).cloned().collect();
        if rest.is_empty() {
            return Err(refuse(
                "DISTINCT ON without a further ORDER BY keeps a row at random",
                "say which row of each comes first, as in ORDER BY station_id, observed_at DESC",
                "distinct",
            ));
        }
        let read = on.on_expr.iter().chain(&on.select_expr).chain(rest.iter().map(|o| &o.expr));
        let read: Vec<&Column> = read.flat_map(Expr::column_refs).collect();
        let columns = on.input.schema().columns().into_iter().filter(|c| read.contains(&c)).map(Expr::Column);
        let input = LogicalPlanBuilder::from(on.input.clone()).project(columns.collect::<Vec<_>>())?.build()?;
        let schema = input.schema();
        let partition = self.exprs(&on.on_expr, schema)?;
        let order = self.order(&rest, schema)?;
        let input = self.node(&input)?;
        let top = Node::TopK(Box::new(TopK { input, partition, order, offset: 0, limit: Some(1) }));
        let outputs = self.exprs(&on.select_expr, schema)?;
        map(top, vec![], Some(outputs), bare(&on.schema))
    }
}

/// Moves a predicate on the clock from below a grouping to above it, where all rows of a group share its
/// bound: the groups are held until then, not their rows.
pub(super) fn hoist_clock(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up(|node| match node {
        LogicalPlan::Aggregate(aggregate) => hoist(aggregate),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn hoist(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let grouping_set = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
    let LogicalPlan::Filter(filter) = aggregate.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    if grouping_set || aggregate.group_expr.is_empty() || !mentions_clock(&filter.predicate) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let (mut above, mut below) = (vec![], vec![]);
    for conjunct in split_conjunction_owned(filter.predicate.clone()) {
        match as_bound(&conjunct).and_then(|_| over_groups(&conjunct, &aggregate)) {
            Some(hoisted) => above.push(hoisted),
            None => below.push(conjunct),
        }
    }
    let Some(above) = conjunction(above) else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let input = match conjunction(below) {
        Some(below) => Arc::new(LogicalPlan::Filter(Filter::try_new(below, filter.input.clone())?)),
        None => filter.input.clone(),
    };
    aggregate.input = input;
    let grouped = Arc::new(LogicalPlan::Aggregate(aggregate));
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(above, grouped)?)))
}

/// `predicate` over the columns of a grouping, if it reads nothing but what the rows are grouped by.
fn over_groups(predicate: &Expr, aggregate: &Aggregate) -> Option<Expr> {
    let output: &DFSchema = &aggregate.schema;
    let rewritten = predicate
        .clone()
        .transform_down(|e| {
            let at = aggregate.group_expr.iter().position(|g| g.clone().unalias() == e);
            Ok(match at {
                Some(at) => {
                    let column = Expr::Column(Column::from(output.qualified_field(at)));
                    Transformed::new(column, true, datafusion::common::tree_node::TreeNodeRecursion::Jump)
                }
                None => Transformed::no(e),
            })
        })
        .data()
        .ok()?;
    let groups = &output.columns()[..aggregate.group_expr.len()];
    rewritten.column_refs().into_iter().all(|c| groups.contains(c)).then_some(rewritten)
}
