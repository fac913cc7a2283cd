//! `now()` in predicates, as intervals of time in which a row is there.
//!
//! A predicate that compares linear forms of `now()` (`e > now() - INTERVAL '1 hour'`,
//! `now() - e <= INTERVAL '5 min'`) is solved for `now()` and becomes `clock < until` or `clock >= from`,
//! with bounds in whole milliseconds, as the timeline counts. `clock` is a function of which the optimiser
//! knows only that it has no fixed value, so that it moves through the plan with its predicate. Such a predicate is the same in both executions: a maintained
//! view turns it into [`crate::plan::Temporal`], a one-off query puts the logical time in its place.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, ScalarUDF, lit,
};
use datafusion::optimizer::AnalyzerRule;

use super::error::refuse;
use super::functions::{Moment, NOW, misplaced_now, now_type};
use super::intervals::NANOS_PER_DAY;

/// What stands for the logical time, in milliseconds. No text can name it.
const CLOCK: &str = "$now";

const NANOS_PER_MILLI: i128 = 1_000_000;

/// An end of the time in which a row is there. Of type [`bound_type`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound {
    /// `clock >= from`
    From(Expr),
    /// `clock < until`
    Until(Expr),
}

/// The type of bounds: the timeline's own.
pub(crate) fn bound_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The bound that a predicate of a planned query is, if it is one.
pub(crate) fn as_bound(predicate: &Expr) -> Option<Bound> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return None };
    let (op, bound) = match (is_clock(left), is_clock(right)) {
        (true, false) => (*op, right),
        (false, true) => (op.swap()?, left),
        _ => return None,
    };
    match op {
        Operator::Lt => Some(Bound::Until(bound.as_ref().clone())),
        Operator::GtEq => Some(Bound::From(bound.as_ref().clone())),
        _ => None,
    }
}

/// Whether the logical time is anywhere in `expr`.
pub(crate) fn mentions_clock(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_clock(e) || is_now(e))).expect("the closure does not fail")
}

/// `expr` with the logical time `now_ms` in its place.
pub(crate) fn at_time(expr: Expr, now_ms: i64) -> Result<Transformed<Expr>> {
    expr.transform(|e| match is_clock(&e) {
        true => {
            let value = ScalarValue::TimestampMillisecond(Some(now_ms), Some("UTC".into()));
            Ok(Transformed::yes(lit(value)))
        }
        false => Ok(Transformed::no(e)),
    })
}

fn is_clock(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.name() == CLOCK)
}

fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(f) if f.func.name() == NOW)
}

fn mentions_now(expr: &Expr) -> bool {
    expr.exists(|e| Ok(is_now(e))).expect("the closure does not fail")
}

/// What `now()` is where it does not bound rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// An error: the query is to be maintained.
    Refused,
    /// The logical time: the query is asked once.
    Value,
}

/// Solves the predicates of filters and joins for `now()`.
#[derive(Debug)]
pub(crate) struct TemporalFilters {
    /// Where it is in something else.
    pub elsewhere: Elsewhere,
}

impl AnalyzerRule for TemporalFilters {
    fn name(&self) -> &str {
        "temporal_filters"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let solved = match node {
                LogicalPlan::Filter(filter) if mentions_now(&filter.predicate) => {
                    let predicate = self.solve_all(filter.predicate, filter.input.schema())?;
                    Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))
                }
                LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(mentions_now) => {
                    let both = join.left.schema().join(join.right.schema())?;
                    let filter = join.filter.map(|f| self.solve_all(f, &both)).transpose()?;
                    Transformed::yes(LogicalPlan::Join(Join { filter, ..join }))
                }
                other => Transformed::no(other),
            };
            solved.transform_data(|node| node.map_expressions(|e| self.rest(e)))
        })
        .data()
    }
}

impl TemporalFilters {
    fn solve_all(&self, predicate: Expr, schema: &DFSchema) -> Result<Expr> {
        let mut conjuncts = vec![];
        for conjunct in split_conjunction_owned(predicate) {
            match mentions_now(&conjunct) {
                true => match (solve(&conjunct, false, schema), self.elsewhere) {
                    (Err(error), Elsewhere::Refused) => return Err(error),
                    (Err(_), Elsewhere::Value) => conjuncts.push(conjunct),
                    (Ok(bounds), _) => conjuncts.extend(bounds),
                },
                false => conjuncts.push(conjunct),
            }
        }
        Ok(conjunction(conjuncts).expect("there is the conjunct that mentions now()"))
    }

    /// What is left of `now()` in an expression.
    fn rest(&self, expr: Expr) -> Result<Transformed<Expr>> {
        match (mentions_now(&expr), self.elsewhere) {
            (false, _) => Ok(Transformed::no(expr)),
            (true, Elsewhere::Refused) => Err(misplaced_now()),
            (true, Elsewhere::Value) => {
                let name = expr.schema_name().to_string();
                let replaced = expr.transform(|e| match is_now(&e) {
                    true => Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(clock()), now_type())))),
                    false => Ok(Transformed::no(e)),
                })?;
                // An output of a projection keeps the name that is known above.
                replaced.map_data(|e| e.alias_if_changed(name))
            }
        }
    }
}

/// A predicate, or its negation, as bounds on the clock.
fn solve(predicate: &Expr, negated: bool, schema: &DFSchema) -> Result<Vec<Expr>> {
    match predicate {
        Expr::Not(inner) => solve(inner, !negated, schema),
        Expr::Alias(alias) => solve(&alias.expr, negated, schema),
        Expr::Between(Between { expr, negated: false, low, high }) if !negated => {
            let mut bounds = compare(expr, Operator::GtEq, low, schema)?;
            bounds.extend(compare(expr, Operator::LtEq, high, schema)?);
            Ok(bounds)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let op = match negated {
                true => op.negate().ok_or_else(misplaced_now)?,
                false => *op,
            };
            compare(left, op, right, schema)
        }
        _ => Err(misplaced_now()),
    }
}

/// `clock * now + sum of signed timestamps + nanos`
#[derive(Default)]
struct Linear {
    clock: i32,
    terms: Vec<(i32, Expr)>,
    nanos: i128,
}

impl Linear {
    fn plus(mut self, other: Linear, sign: i32) -> Linear {
        self.clock += sign * other.clock;
        self.terms.extend(other.terms.into_iter().map(|(s, e)| (sign * s, e)));
        self.nanos += i128::from(sign) * other.nanos;
        self
    }
}

fn compare(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Result<Vec<Expr>> {
    if !mentions_now(left) && !mentions_now(right) {
        return Ok(vec![Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), op, Box::new(right.clone())))]);
    }
    // left - right, solved for the clock.
    let difference = linear(left, schema)?.plus(linear(right, schema)?, -1);
    let (op, sign) = match difference.clock {
        1 => (op, -1),
        -1 => (op.swap().ok_or_else(misplaced_now)?, 1),
        _ => return Err(misplaced_now()),
    };
    let [(s, term)] = difference.terms.as_slice() else { return Err(misplaced_now()) };
    if s * sign != 1 {
        return Err(misplaced_now());
    }
    let nanos = i128::from(sign) * difference.nanos;
    // The clock shows whole milliseconds: clock < x as clock < ceil(x), clock <= x as clock < floor(x) + 1.
    let bound = |up: Rounding| bound(term, nanos, up, schema);
    let is = |op: Operator, bound: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(clock()), op, Box::new(bound)));
    Ok(match op {
        Operator::Lt => vec![is(Operator::Lt, bound(Rounding::Ceiling)?)],
        Operator::LtEq => vec![is(Operator::Lt, bound(Rounding::FloorPlusOne)?)],
        Operator::GtEq => vec![is(Operator::GtEq, bound(Rounding::Ceiling)?)],
        Operator::Gt => vec![is(Operator::GtEq, bound(Rounding::FloorPlusOne)?)],
        _ => return Err(misplaced_now()),
    })
}

fn clock() -> Expr {
    static CLOCK_FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(Moment::function(CLOCK, &[], bound_type())));
    Expr::ScalarFunction(ScalarFunction::new_udf(CLOCK_FUNCTION.clone(), vec![]))
}

fn linear(expr: &Expr, schema: &DFSchema) -> Result<Linear> {
    if is_now(expr) {
        return Ok(Linear { clock: 1, ..Linear::default() });
    }
    if let Some(nanos) = constant(expr)? {
        return Ok(Linear { nanos, ..Linear::default() });
    }
    if !mentions_now(expr) {
        return match expr.get_type(schema)? {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                Ok(Linear { terms: vec![(1, expr.clone())], ..Linear::default() })
            }
            _ => Err(misplaced_now()),
        };
    }
    match expr {
        Expr::Alias(alias) => linear(&alias.expr, schema),
        Expr::Negative(inner) => Ok(Linear::default().plus(linear(inner, schema)?, -1)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            Ok(linear(left, schema)?.plus(linear(right, schema)?, 1))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            Ok(linear(left, schema)?.plus(linear(right, schema)?, -1))
        }
        Expr::Cast(Cast { expr, field }) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) | DataType::Duration(TimeUnit::Second) => Err(misplaced_now()),
            DataType::Timestamp(..) | DataType::Duration(_) | DataType::Interval(_) => linear(expr, schema),
            _ => Err(misplaced_now()),
        },
        _ => Err(misplaced_now()),
    }
}

/// The nanoseconds of a literal interval.
fn constant(expr: &Expr) -> Result<Option<i128>> {
    let nanos = match expr {
        Expr::Cast(Cast { expr, field })
            if matches!(field.data_type(), DataType::Interval(_) | DataType::Duration(_)) =>
        {
            return constant(expr);
        }
        Expr::Negative(inner) => return Ok(constant(inner)?.map(|n| -n)),
        Expr::Alias(alias) => return constant(&alias.expr),
        Expr::Literal(value, _) => match value {
            ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
                i128::from(i.days) * NANOS_PER_DAY + i128::from(i.nanoseconds)
            }
            ScalarValue::IntervalDayTime(Some(i)) => {
                i128::from(i.days) * NANOS_PER_DAY + i128::from(i.milliseconds) * NANOS_PER_MILLI
            }
            ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)) => {
                return Err(months());
            }
            ScalarValue::DurationSecond(Some(n)) => i128::from(*n) * 1_000_000_000,
            ScalarValue::DurationMillisecond(Some(n)) => i128::from(*n) * NANOS_PER_MILLI,
            ScalarValue::DurationMicrosecond(Some(n)) => i128::from(*n) * 1_000,
            ScalarValue::DurationNanosecond(Some(n)) => i128::from(*n),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(nanos))
}

fn months() -> DataFusionError {
    refuse(
        "an interval of months or years has no fixed length, so no row can be told when it leaves",
        "count in days, as in now() - INTERVAL '30 days'",
        NOW,
    )
}

#[derive(Clone, Copy)]
enum Rounding {
    Ceiling,
    FloorPlusOne,
}

/// `term + nanos`, rounded to whole milliseconds.
fn bound(term: &Expr, nanos: i128, rounding: Rounding, schema: &DFSchema) -> Result<Expr> {
    let own = match term.get_type(schema)? {
        DataType::Timestamp(unit, _) => unit,
        _ => TimeUnit::Millisecond,
    };
    let needed = match nanos {
        n if n % NANOS_PER_MILLI == 0 => TimeUnit::Millisecond,
        n if n % 1_000 == 0 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    let unit = own.max(needed);
    // The nanoseconds of a tick of the unit.
    let tick = match unit {
        TimeUnit::Second | TimeUnit::Millisecond => NANOS_PER_MILLI,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let up = match rounding {
        Rounding::Ceiling => NANOS_PER_MILLI - tick,
        Rounding::FloorPlusOne => NANOS_PER_MILLI,
    };
    let offset = i64::try_from((nanos + up) / tick)
        .map_err(|_| refuse("an interval beside now() is too long", "write a shorter interval", NOW))?;
    let mut bound = cast(term.clone(), DataType::Timestamp(unit, Some("UTC".into())), schema)?;
    if offset != 0 {
        bound = bound
            + lit(match unit {
                TimeUnit::Second | TimeUnit::Millisecond => ScalarValue::DurationMillisecond(Some(offset)),
                TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(Some(offset)),
                TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(Some(offset)),
            });
    }
    cast(bound, bound_type(), schema)
}

fn cast(expr: Expr, to: DataType, schema: &DFSchema) -> Result<Expr> {
    match expr.get_type(schema)? == to {
        true => Ok(expr),
        false => Ok(Expr::Cast(Cast::new(Box::new(expr), to))),
    }
}
