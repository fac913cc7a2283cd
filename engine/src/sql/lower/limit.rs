//! `ORDER BY … LIMIT`: the first rows of one partition that is everything.

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::SortExpr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{FetchType, Limit, LogicalPlan, SkipType, Sort};
use datafusion::physical_expr::{PhysicalSortExpr, create_physical_sort_exprs};

use super::map::map;
use super::{Lowering, bare};
use crate::plan::{Node, TopK};
use crate::sql::error::refuse;
use crate::sql::functions::misplaced_now;
use crate::sql::temporal::mentions_clock;

impl Lowering<'_> {
    pub(super) fn limit(&self, limit: &Limit) -> Result<Node> {
        let (SkipType::Literal(offset), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Err(refuse("LIMIT and OFFSET need constants", "write a number", "limit"));
        };
        self.limited(&limit.input, offset, fetch)
    }

    /// Finds the order below projections, which do not change it.
    fn limited(&self, plan: &LogicalPlan, offset: usize, limit: Option<usize>) -> Result<Node> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.limited(&projection.input, offset, limit)?;
                let outputs = self.exprs(&projection.expr, projection.input.schema())?;
                map(input, vec![], Some(outputs), bare(&projection.schema))
            }
            LogicalPlan::SubqueryAlias(alias) => self.limited(&alias.input, offset, limit),
            LogicalPlan::Sort(Sort { expr, input, fetch: None }) => {
                let order = self.order(expr, input.schema())?;
                let input = self.node(input)?;
                Ok(Node::TopK(Box::new(TopK { input, partition: vec![], order, offset, limit })))
            }
            // No row is left out of at most one.
            other if other.max_rows().is_some_and(|rows| rows <= 1) && offset == 0 && limit != Some(0) => {
                self.node(other)
            }
            _ => Err(refuse(
                "LIMIT without ORDER BY keeps rows at random",
                "say which rows come first, as in ORDER BY bikes DESC LIMIT 10",
                "limit",
            )),
        }
    }

    pub(super) fn order(&self, order: &[SortExpr], schema: &DFSchema) -> Result<Vec<PhysicalSortExpr>> {
        if order.iter().any(|o| mentions_clock(&o.expr)) {
            return Err(misplaced_now());
        }
        create_physical_sort_exprs(order, schema, self.state.execution_props(), &PhysicalPlanningContext::default())
    }
}
