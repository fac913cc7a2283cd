//! Arithmetic on integers that fails where its result does not fit, as PostgreSQL's does; DataFusion's own
//! wraps around.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::BinaryExpr;
use velib_operators::Expr;

/// `expr`, of columns of `schema`, in which sums, differences and products of integers are checked.
pub(super) fn checked(expr: Expr, schema: &Schema) -> Result<Expr> {
    expr.transform_up(|e| {
        let Some(binary) = e.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(e)) };
        let counts = matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply);
        if !counts || !binary.left().data_type(schema)?.is_integer() || !binary.right().data_type(schema)?.is_integer()
        {
            return Ok(Transformed::no(e));
        }
        let (left, right) = (binary.left().clone(), binary.right().clone());
        let checked = BinaryExpr::new(left, *binary.op(), right).with_fail_on_overflow(true);
        Ok(Transformed::yes(Arc::new(checked) as Expr))
    })
    .data()
}
