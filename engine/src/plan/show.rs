//! Expressions, aggregates and lengths of time in words, for `EXPLAIN`.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use velib_operators::Expr;
use velib_operators::accumulate::{Accumulation, Function};

use super::expire::column_and_offset;
use super::{AggregateCall, Node};

/// Milliseconds of the units in which lengths of time are told.
const UNITS: [(u64, &str); 5] =
    [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"), (1, "millisecond")];

pub(super) fn aggregate_call(call: &AggregateCall) -> String {
    let function = &call.function;
    let distinct = if function.is_distinct() { "distinct " } else { "" };
    let arguments = list(&function.expressions(), ", ");
    let order = if function.order_bys().is_empty() {
        String::new()
    } else {
        format!(" order{}", by_order(function.order_bys()))
    };
    let filter = call.filter.as_ref().map(|f| format!(" filter ({})", show(f))).unwrap_or_default();
    format!("{}({distinct}{arguments}{order}){filter}", function.fun().name())
}

pub(super) fn accumulation(a: &Accumulation) -> String {
    let (value, order) = match a.function {
        Function::First { descending, .. } | Function::Last { descending, .. } => {
            let direction = if descending { " desc" } else { "" };
            (&a.arguments[..1], format!(" order by {}{direction}", show(&a.arguments[1])))
        }
        _ => (&a.arguments[..], String::new()),
    };
    let name = match a.function {
        Function::Count => "count",
        Function::Sum => "sum",
        Function::Avg => "avg",
        Function::Variance { sample: true, root: true } => "stddev",
        Function::Variance { sample: false, root: true } => "stddev_pop",
        Function::Variance { sample: true, root: false } => "var",
        Function::Variance { sample: false, root: false } => "var_pop",
        Function::BoolAnd => "bool_and",
        Function::BoolOr => "bool_or",
        Function::Regression(which) => {
            let arguments = list(value, ", ");
            return format!("regr_{}({arguments})", format!("{which:?}").to_lowercase());
        }
        Function::Min => "min",
        Function::Max => "max",
        Function::First { .. } => "first_value",
        Function::Last { .. } => "last_value",
    };
    let arguments = if value.is_empty() { "*".to_owned() } else { list(value, ", ") };
    let filter = a.filter.as_ref().map(|f| format!(" filter ({})", show(f))).unwrap_or_default();
    format!("{name}({arguments}{order}){filter}")
}

pub(super) fn by_partition(partition: &[Expr]) -> String {
    if partition.is_empty() { String::new() } else { format!(" of each {}", list(partition, ", ")) }
}

pub(super) fn by_order(order: &[PhysicalSortExpr]) -> String {
    let one = |o: &PhysicalSortExpr| {
        let direction = if o.options.descending { " desc" } else { "" };
        // As PostgreSQL: nulls are the greatest.
        let nulls = match (o.options.descending, o.options.nulls_first) {
            (false, true) => " nulls first",
            (true, false) => " nulls last",
            _ => "",
        };
        format!("{}{direction}{nulls}", show(&o.expr))
    };
    let by: Vec<String> = order.iter().map(one).collect();
    if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) }
}

pub(super) fn aliased(expr: &Expr, name: &str) -> String {
    let (shown, name) = (show(expr), tidy(name));
    if shown == name { shown } else { format!("{shown} as {name}") }
}

pub(super) fn list(exprs: &[Expr], between: &str) -> String {
    exprs.iter().map(show).collect::<Vec<_>>().join(between)
}

/// An expression as SQL, near enough: DataFusion writes strings without quotes and intervals as Rust does.
pub(super) fn show(expr: &Expr) -> String {
    let quoted = expr.clone().transform_up(|e| {
        let text = match e.downcast_ref::<Literal>().map(Literal::value) {
            Some(ScalarValue::Utf8(Some(text))) => format!("'{}'", text.replace('\'', "''")),
            Some(ScalarValue::IntervalMonthDayNano(Some(i))) => {
                let months =
                    if i.months == 0 { String::new() } else { format!("{} ", count(i.months as usize, "month")) };
                let rest = length((i64::from(i.days) * 86_400_000 + i.nanoseconds / 1_000_000).unsigned_abs());
                format!("interval '{}'", format!("{months}{rest}").trim())
            }
            _ => match e.downcast_ref::<Column>() {
                Some(c) => return Ok(Transformed::yes(Arc::new(Column::new(&tidy(c.name()), c.index())) as Expr)),
                None => return Ok(Transformed::no(e)),
            },
        };
        Ok(Transformed::yes(Arc::new(Literal::new(ScalarValue::Utf8(Some(text)))) as Expr))
    });
    let shown = quoted.map(|t| t.data).unwrap_or_else(|_| expr.clone());
    fmt_sql(shown.as_ref()).to_string()
}

/// A name that DataFusion made of an expression, without types of literals and frames of windows.
pub(super) fn tidy(name: &str) -> String {
    let cuts = [" PARTITION BY [", " ORDER BY [", " ROWS BETWEEN", " RANGE BETWEEN"];
    let end = cuts.iter().filter_map(|cut| name.find(cut)).min().unwrap_or(name.len());
    let mut tidied = name[..end].to_owned();
    for kind in ["Int64(", "Float64(", "Utf8("] {
        while let Some(start) = tidied.find(kind) {
            let Some(length) = tidied[start..].find(')') else { break };
            tidied.replace_range(start + length..=start + length, "");
            tidied.replace_range(start..start + kind.len(), "");
        }
    }
    tidied.replace('"', "'")
}

/// A bound in whole milliseconds, as a column and a length of time where it is that.
pub(super) fn show_bound(bound: &Expr, input: &Node) -> String {
    match column_and_offset(bound) {
        Some((at, ms)) => {
            let name = tidy(input.schema().field(at).name());
            match ms {
                0 => name,
                ms if ms < 0 => format!("{name} - {}", length(ms.unsigned_abs())),
                ms => format!("{name} + {}", length(ms.unsigned_abs())),
            }
        }
        None => show(bound),
    }
}

pub(super) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

pub(super) fn length(ms: u64) -> String {
    let mut rest = ms;
    let mut parts = vec![];
    for (unit, name) in UNITS {
        if rest >= unit {
            parts.push(count((rest / unit) as usize, name));
            rest %= unit;
        }
    }
    parts.join(" ")
}

pub(super) fn relation_name(source: &str, relation: &str) -> String {
    if relation.is_empty() { source.to_owned() } else { format!("{source}.{relation}") }
}
