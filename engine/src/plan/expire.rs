//! Which groups leave memory with time: those of a view that says `retain`, and those that a temporal
//! filter above hides for good.
//!
//! Rows that are past leave every grouping that knows their time, at the same moment, so that what is
//! above never sees a group half gone.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal};
use velib_operators::Expr;
use velib_operators::accumulate::Age;

use super::properties::{Unbounded, column};
use super::{Join, JoinKind, Node, Retain, Temporal};
use crate::sql::TIMEZONE;

/// Lets the groups of `node` leave memory by `retain`: finds the groupings that its column comes from.
///
/// # Errors
/// The column is computed, so that no grouping knows its age.
pub fn expire(node: &mut Node, retain: Retain) -> Result<(), Unbounded> {
    let name = node.schema().field(retain.column).name().clone();
    if is_local(node, retain.column) {
        return Err(Unbounded {
            reason: format!("cannot retain by {name}: what the clocks of a time zone show does not tell a row's age"),
            remedy: "group by the moment too, as in date_trunc('hour', observed_at), and name that in retain_column"
                .to_owned(),
        });
    }
    if holds_groups(node) && !expire_column(node, retain.column, retain.after_ms) {
        return Err(Unbounded {
            reason: format!("cannot retain by {name}: it is no column that the rows are grouped by"),
            remedy: "name a timestamp column of GROUP BY with retain_column = '…'".to_owned(),
        });
    }
    Ok(())
}

/// Whether `column` is, or comes from, what `AT TIME ZONE` makes of a moment.
fn is_local(node: &Node, at: usize) -> bool {
    let of = |expr: &Expr, input: &Node| {
        let calls = expr.exists(|e| Ok(e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| f.name() == TIMEZONE)));
        let local = matches!(expr.data_type(&input.schema()), Ok(DataType::Timestamp(_, None)));
        (calls.unwrap_or_default() && local) || column(expr).is_some_and(|below| is_local(input, below))
    };
    match node {
        Node::Accumulate(n) => n.group.get(at).is_some_and(|group| of(group, &n.input)),
        Node::Aggregate(n) => n.group.get(at).is_some_and(|group| of(group, &n.input)),
        Node::Map(n) => match &n.outputs {
            None => is_local(&n.input, at),
            Some(outputs) => of(&outputs[at], &n.input),
        },
        Node::Join(n) => {
            let width = n.left.schema().fields().len();
            if at < width { is_local(&n.left, at) } else { is_local(&n.right, at - width) }
        }
        Node::Union(n) => n.inputs.iter().any(|input| is_local(input, at)),
        Node::Temporal(n) => is_local(&n.input, at),
        Node::TopK(n) => is_local(&n.input, at),
        Node::Window(n) if at < n.input.schema().fields().len() => is_local(&n.input, at),
        Node::Previous(n) if at < n.input.schema().fields().len() => is_local(&n.input, at),
        _ => false,
    }
}

/// Groups that a temporal filter hides for good leave memory a little later.
pub(crate) fn expire_below(temporal: &mut Temporal) {
    let Some((at, offset_ms)) = temporal.until.as_ref().and_then(column_and_offset) else { return };
    if matches!(temporal.input.schema().field(at).data_type(), DataType::Timestamp(..)) {
        let after_ms = u64::try_from(offset_ms).unwrap_or(0) + EXPIRY_MARGIN_MS;
        expire_column(&mut temporal.input, at, after_ms);
    }
}

/// How much later groups leave memory than they leave the view.
const EXPIRY_MARGIN_MS: u64 = 1_000;

/// The column and the milliseconds that are added to it, of a bound that is nothing else.
pub(crate) fn column_and_offset(bound: &Expr) -> Option<(usize, i64)> {
    if let Some(cast) = bound.downcast_ref::<CastExpr>() {
        return column_and_offset(cast.expr());
    }
    if let Some(at) = column(bound) {
        return Some((at, 0));
    }
    let sum = bound.downcast_ref::<BinaryExpr>().filter(|b| *b.op() == Operator::Plus)?;
    let (at, before) = column_and_offset(sum.left())?;
    let added = match sum.right().downcast_ref::<Literal>()?.value() {
        ScalarValue::DurationMillisecond(Some(n)) => *n,
        ScalarValue::DurationMicrosecond(Some(n)) => n.div_euclid(1_000),
        ScalarValue::DurationNanosecond(Some(n)) => n.div_euclid(1_000_000),
        _ => return None,
    };
    Some((at, before + added))
}

fn holds_groups(node: &Node) -> bool {
    matches!(node, Node::Accumulate(_)) || node.children().into_iter().any(holds_groups)
}

/// Sets the expiry of every grouping that `column` comes from. False: it comes from none.
fn expire_column(node: &mut Node, at: usize, after_ms: u64) -> bool {
    match node {
        Node::Accumulate(n) => {
            let Some(group) = n.group.get(at) else { return false };
            let below = column(group);
            n.expiry = Some(Age { group: at, after_ms });
            // What is below a grouping that expires expires with it, where it knows the same column.
            if let Some(below) = below {
                expire_column(&mut n.input, below, after_ms);
            }
            true
        }
        Node::Map(n) => match &n.outputs {
            None => expire_column(&mut n.input, at, after_ms),
            Some(outputs) => match column(&outputs[at]) {
                Some(below) => expire_column(&mut n.input, below, after_ms),
                None => false,
            },
        },
        Node::Temporal(n) => expire_column(&mut n.input, at, after_ms),
        Node::Join(n) => expire_join(n, at, after_ms),
        Node::Previous(n) if at < n.input.schema().fields().len() => expire_column(&mut n.input, at, after_ms),
        Node::Union(n) => n.inputs.iter_mut().all(|input| expire_column(input, at, after_ms)),
        Node::Get(_) | Node::Constant(_) => false,
        Node::Aggregate(_)
        | Node::TopK(_)
        | Node::Window(_)
        | Node::Previous(_)
        | Node::Unnest(_)
        | Node::Iterate(_) => false,
    }
}

fn expire_join(join: &mut Join, at: usize, after_ms: u64) -> bool {
    let width = join.left.schema().fields().len();
    if at >= width {
        return join.kind == JoinKind::Inner && {
            let found = expire_column(&mut join.right, at - width, after_ms);
            let partner = join.right_keys.iter().position(|k| found && column(k) == Some(at - width));
            if let Some(left) = partner.and_then(|p| column(&join.left_keys[p])) {
                expire_column(&mut join.left, left, after_ms);
            }
            found
        };
    }
    let found = join.kind != JoinKind::Full && expire_column(&mut join.left, at, after_ms);
    let partner = join.left_keys.iter().position(|k| found && column(k) == Some(at));
    if let Some(right) = partner.and_then(|p| column(&join.right_keys[p])) {
        expire_column(&mut join.right, right, after_ms);
    }
    found
}
