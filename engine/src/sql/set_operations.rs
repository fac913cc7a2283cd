//! `INTERSECT ALL` and `EXCEPT ALL`, which count copies. DataFusion plans them as joins, which do not.
//!
//! The copies of a row are numbered on both sides: those with the same number are pairs. A row that is there three
//! times on the left and once on the right is in one pair, and two are left over.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};

/// The number of a copy. No text can name it.
const COPY: &str = "$copy";

/// Has set operations count copies.
pub(super) fn count_copies(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if counts(&join) => Ok(Transformed::yes(numbered(join)?)),
        node => Ok(Transformed::no(node)),
    })
    .data()
}

/// Only set operations are planned so. Where the left rows are distinct, there are no copies to count.
fn counts(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && !join.left.schema().fields().iter().any(|field| field.name() == COPY)
}

fn numbered(join: Join) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let number = |side: &Arc<LogicalPlan>| {
        let columns: Vec<Expr> = side.schema().columns().into_iter().map(Expr::Column).collect();
        let order = columns.iter().map(|column| column.clone().sort(true, false)).collect();
        let number = row_number().partition_by(columns.clone()).order_by(order).build()?;
        let name = number.schema_name().to_string();
        let windowed = LogicalPlanBuilder::from(side.as_ref().clone()).window([number])?;
        let number = Expr::Column(Column::from_name(name)).alias(COPY);
        windowed.project(columns.into_iter().chain([number]))?.build()
    };
    let (left, right) = (number(&join.left)?, number(&join.right)?);
    let mut keys: (Vec<Column>, Vec<Column>) = join
        .on
        .iter()
        .filter_map(|(left, right)| Some((left.try_as_col()?.clone(), right.try_as_col()?.clone())))
        .unzip();
    keys.0.push(Column::from_name(COPY));
    keys.1.push(Column::from_name(COPY));
    let (kind, nulls) = (join.join_type, join.null_equality);
    LogicalPlanBuilder::from(left).join_detailed(right, kind, keys, join.filter, nulls)?.project(columns)?.build()
}
