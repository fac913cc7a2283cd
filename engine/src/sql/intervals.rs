//! Comparisons of lengths of time, as PostgreSQL makes them: a day is 24 hours, a month 30 days.
//!
//! Arrow compares months, then days, then nanoseconds, so that two days as a difference of times (all
//! nanoseconds) would be less than one day as an interval. Both executions plan with this rule.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::error::refuse;

pub(crate) const NANOS_PER_DAY: i128 = 86_400_000_000_000;
const DAYS_PER_MONTH: i128 = 30;

/// Writes the intervals that are compared as nanoseconds alone.
#[derive(Debug)]
pub(crate) struct ComparedIntervals;

impl AnalyzerRule for ComparedIntervals {
    fn name(&self) -> &str {
        "compared_intervals"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let compared = expr.transform_up(compared)?;
                Ok(compared.update_data(|e| name.restore(e)))
            })
        })
        .data()
    }
}

fn compared(expr: Expr) -> Result<Transformed<Expr>> {
    let in_nanos = |e: Box<Expr>| in_nanos(*e).map(Box::new);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
            let (left, right) = (in_nanos(left)?, in_nanos(right)?);
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let (expr, low, high) = (in_nanos(expr)?, in_nanos(low)?, in_nanos(high)?);
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let list = list.into_iter().map(self::in_nanos).collect::<Result<_>>()?;
            Transformed::yes(Expr::InList(InList { expr: in_nanos(expr)?, list, negated }))
        }
        other => Transformed::no(other),
    })
}

/// A side of a comparison.
fn in_nanos(side: Expr) -> Result<Expr> {
    if !is_interval(&side) {
        return Ok(side);
    }
    let nanos = nanos_of(&side).and_then(|n| i64::try_from(n).ok()).ok_or_else(uncomparable)?;
    let interval = IntervalMonthDayNano::new(0, 0, nanos);
    Ok(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), None))
}

fn uncomparable() -> DataFusionError {
    refuse(
        "intervals of days or months are compared that are not constant",
        "compare a difference of times with a constant, as in a - b > INTERVAL '1 day'",
        "interval",
    )
}

/// Whether `expr` is computed from interval literals, and nothing else that would give it a type.
fn is_interval(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => matches!(value.data_type(), DataType::Interval(_)) && !value.is_null(),
        Expr::Alias(alias) => is_interval(&alias.expr),
        Expr::Negative(inner) => is_interval(inner),
        Expr::Cast(Cast { expr, field }) => {
            matches!(field.data_type(), DataType::Interval(_)) && (is_interval(expr) || is_text(expr))
        }
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => is_interval(left) && is_interval(right),
        _ => false,
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

/// The nanoseconds of a constant interval.
fn nanos_of(expr: &Expr) -> Option<i128> {
    match expr {
        Expr::Alias(alias) => nanos_of(&alias.expr),
        Expr::Negative(inner) => Some(-nanos_of(inner)?),
        Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
            Expr::Literal(text, _) if is_text(expr) => {
                nanos_of(&Expr::Literal(text.cast_to(field.data_type()).ok()?, None))
            }
            other => nanos_of(other),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => Some(nanos_of(left)? + nanos_of(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => Some(nanos_of(left)? - nanos_of(right)?),
        Expr::Literal(value, _) => match value {
            ScalarValue::IntervalMonthDayNano(Some(i)) => {
                let days = i128::from(i.months) * DAYS_PER_MONTH + i128::from(i.days);
                Some(days * NANOS_PER_DAY + i128::from(i.nanoseconds))
            }
            ScalarValue::IntervalYearMonth(Some(months)) => Some(i128::from(*months) * DAYS_PER_MONTH * NANOS_PER_DAY),
            ScalarValue::IntervalDayTime(Some(i)) => {
                Some(i128::from(i.days) * NANOS_PER_DAY + i128::from(i.milliseconds) * 1_000_000)
            }
            _ => None,
        },
        _ => None,
    }
}
