//! Subqueries that DataFusion would answer otherwise than SQL does, refused.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::error::refuse;

/// A scalar subquery becomes a join in a maintained view, which would not notice that it has two rows.
///
/// # Errors
/// A subquery that stands for a value and may have several rows.
pub(crate) fn check_single_rows(plan: &LogicalPlan) -> Result<()> {
    each_expression(plan, |expr, _| {
        expr.apply(|e| match e {
            Expr::ScalarSubquery(query) if query.outer_ref_columns.is_empty() && !is_single(&query.subquery) => {
                Err(refuse(
                    "a subquery that stands for a value may have several rows",
                    "make it one row, as in (SELECT max(x) FROM …), or join it",
                    "",
                ))
            }
            _ => Ok(TreeNodeRecursion::Continue),
        })?;
        Ok(())
    })
}

fn is_single(plan: &LogicalPlan) -> bool {
    plan.max_rows().is_some_and(|rows| rows <= 1)
        || match plan {
            LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            LogicalPlan::Projection(projection) => is_single(&projection.input),
            LogicalPlan::SubqueryAlias(alias) => is_single(&alias.input),
            LogicalPlan::Filter(filter) => is_single(&filter.input),
            LogicalPlan::Sort(sort) => is_single(&sort.input),
            _ => false,
        }
}

/// `x IN (SELECT y …)` is null where a null decides it. DataFusion knows so where the predicate stands by
/// itself; within others it makes null false, which differs wherever false and null differ.
///
/// # Errors
/// Such a predicate, if there may be nulls.
pub(crate) fn check_memberships(plan: &LogicalPlan) -> Result<()> {
    each_expression(plan, |expr, node| {
        let inputs = node.inputs();
        let mut schema = DFSchema::empty();
        inputs.iter().for_each(|input| schema.merge(input.schema()));
        let place = if matches!(node, LogicalPlan::Filter(_)) { Place::Conjunct } else { Place::Value };
        membership(expr, place, &schema)
    })
}

/// Where a predicate stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Alone, or joined to others by AND.
    Conjunct,
    /// Where null is as good as false.
    Positive,
    /// Where null and false differ.
    Value,
}

fn membership(expr: &Expr, place: Place, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            membership(left, place, schema)?;
            membership(right, place, schema)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let place = if place == Place::Conjunct { Place::Positive } else { place };
            membership(left, place, schema)?;
            membership(right, place, schema)
        }
        Expr::Alias(alias) => membership(&alias.expr, place, schema),
        Expr::Not(inner) if place == Place::Conjunct && matches!(**inner, Expr::InSubquery(_)) => Ok(()),
        Expr::InSubquery(query) => {
            let decided = match place {
                Place::Conjunct => true,
                Place::Positive => !query.negated,
                Place::Value => false,
            };
            let nulls = query.expr.nullable(schema).unwrap_or(true)
                || query.subquery.subquery.schema().fields().iter().any(|f| f.is_nullable());
            match !decided && nulls {
                true => Err(in_value()),
                false => Ok(()),
            }
        }
        other => {
            other.apply_children(|child| {
                membership(child, Place::Value, schema)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(())
        }
    }
}

fn in_value() -> DataFusionError {
    refuse(
        "IN with a subquery is null where a null decides it, which is not supported inside of NOT, CASE or an output",
        "write EXISTS (SELECT … WHERE …), or leave nulls out with IS NOT NULL",
        "in",
    )
}

fn each_expression(plan: &LogicalPlan, mut check: impl FnMut(&Expr, &LogicalPlan) -> Result<()>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            check(expr, node)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}
