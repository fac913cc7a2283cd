//! Joins, as those that [`crate::plan::JoinKind`] has.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{self, Expr as LogicalExpr, utils::split_conjunction};
use datafusion::physical_expr::expressions::{IsNullExpr, Literal};
use velib_operators::Expr;

use super::map::{columns, map, renamed};
use super::{Lowering, bare};
use crate::plan::{Join, JoinKind, Node, Union};
use crate::sql::error::refuse;
use crate::sql::functions::NOW;
use crate::sql::temporal::mentions_clock;

impl Lowering<'_> {
    pub(super) fn join(&self, join: &logical_expr::Join) -> Result<Node> {
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
        let keys = |side: fn(&(LogicalExpr, LogicalExpr)) -> &LogicalExpr, schema: &DFSchema| {
            join.on.iter().map(|pair| self.expr(side(pair), schema)).collect::<Result<Vec<Expr>>>()
        };
        let left_keys = keys(|(l, _)| l, left_schema)?;
        let right_keys = keys(|(_, r)| r, right_schema)?;
        let sides = Sides {
            left,
            right,
            left_keys,
            right_keys,
            null_equal: join.null_equality == NullEquality::NullEqualsNull,
        };
        let schema = bare(&join.schema);
        let residual = self.residual(join, left_schema, right_schema)?;
        let swapped = || self.residual(join, right_schema, left_schema);
        Ok(match join.join_type {
            JoinType::Inner => sides.join(JoinKind::Inner, residual, schema),
            JoinType::Left => sides.join(JoinKind::Left, residual, schema),
            JoinType::Full => sides.join(JoinKind::Full, residual, schema),
            JoinType::LeftSemi => sides.join(JoinKind::Semi, residual, schema),
            JoinType::LeftAnti if join.null_aware && join.on.len() != 1 => {
                return Err(refuse(
                    "NOT IN with a subquery that refers to the query around it is not supported",
                    "write NOT EXISTS (SELECT … WHERE …)",
                    "in",
                ));
            }
            JoinType::LeftAnti if join.null_aware => not_in(sides, residual, schema),
            JoinType::LeftAnti => sides.join(JoinKind::Anti, residual, schema),
            JoinType::Right => right_as_left(sides, swapped()?, schema)?,
            JoinType::RightSemi => sides.swap().join(JoinKind::Semi, swapped()?, schema),
            JoinType::RightAnti => sides.swap().join(JoinKind::Anti, swapped()?, schema),
            JoinType::LeftMark => mark(sides, residual, schema)?,
            JoinType::RightMark => mark(sides.swap(), swapped()?, schema)?,
        })
    }

    /// The condition that is no equality of keys, over the columns of one side and then the other.
    fn residual(&self, join: &logical_expr::Join, first: &DFSchema, second: &DFSchema) -> Result<Option<Expr>> {
        let Some(filter) = &join.filter else { return Ok(None) };
        if split_conjunction(filter).into_iter().any(mentions_clock) {
            return Err(refuse(
                "now() is compared with columns of both sides of a join",
                "bound each side by itself, as in WHERE observed_at > now() - INTERVAL '1 hour', before the join",
                NOW,
            ));
        }
        Ok(Some(self.expr(filter, &first.join(second)?)?))
    }
}

struct Sides {
    left: Node,
    right: Node,
    left_keys: Vec<Expr>,
    right_keys: Vec<Expr>,
    null_equal: bool,
}

impl Sides {
    fn swap(self) -> Sides {
        let Sides { left, right, left_keys, right_keys, null_equal } = self;
        Sides { left: right, right: left, left_keys: right_keys, right_keys: left_keys, null_equal }
    }

    fn join(self, kind: JoinKind, residual: Option<Expr>, schema: SchemaRef) -> Node {
        let Sides { left, right, left_keys, right_keys, null_equal } = self;
        Node::Join(Box::new(Join { left, right, kind, left_keys, right_keys, null_equal, residual, schema }))
    }
}

fn right_as_left(sides: Sides, residual: Option<Expr>, schema: SchemaRef) -> Result<Node> {
    let (left, right) = (sides.left.schema(), sides.right.schema());
    let left_width = left.fields().len();
    let right_width = right.fields().len();
    // As joined: the right side's columns, then the left side's.
    let fields = (0..right_width).map(|i| left_width + i).chain(0..left_width).map(|i| schema.fields()[i].clone());
    let joined: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let all = columns(&joined);
    let outputs = (0..left_width).map(|i| right_width + i).chain(0..right_width).map(|i| all[i].clone()).collect();
    map(sides.swap().join(JoinKind::Left, residual, joined), vec![], Some(outputs), schema)
}

/// The left columns, and whether there is a partner: the rows with one, and those without.
fn mark(sides: Sides, residual: Option<Expr>, schema: SchemaRef) -> Result<Node> {
    let narrow: SchemaRef = Arc::new(Schema::new(schema.fields()[..schema.fields().len() - 1].to_vec()));
    let marked = |kind: JoinKind, found: bool| {
        let Sides { left, right, left_keys, right_keys, null_equal } = &sides;
        let (left, right) = (left.clone(), right.clone());
        let (left_keys, right_keys) = (left_keys.clone(), right_keys.clone());
        let same = Sides { left, right, left_keys, right_keys, null_equal: *null_equal };
        let mut outputs = columns(&narrow);
        outputs.push(Arc::new(Literal::new(ScalarValue::Boolean(Some(found)))));
        map(same.join(kind, residual.clone(), narrow.clone()), vec![], Some(outputs), schema.clone())
    };
    let inputs = vec![marked(JoinKind::Semi, true)?, marked(JoinKind::Anti, false)?];
    Ok(Node::Union(Union { inputs: inputs.into_iter().map(|n| renamed(n, schema.clone())).collect(), schema }))
}

/// `NOT IN`: a row stays unless it equals a right row or, by a null on either side, might.
fn not_in(sides: Sides, residual: Option<Expr>, schema: SchemaRef) -> Node {
    let (left_schema, right_schema) = (sides.left.schema(), sides.right.schema());
    let nullable = |key: &Expr, schema: &SchemaRef| key.nullable(schema).unwrap_or(true);
    let left_nulls: Vec<Expr> = sides.left_keys.iter().filter(|k| nullable(k, &left_schema)).cloned().collect();
    let right_nulls: Vec<Expr> = sides.right_keys.iter().filter(|k| nullable(k, &right_schema)).cloned().collect();
    let right = sides.right.clone();
    let mut node = sides.join(JoinKind::Anti, residual.clone(), schema.clone());
    // Every right row with a null in its key, then every right row beside a left null.
    let pairs = |left: Node, right: Node, residual: Option<Expr>| {
        let (left_keys, right_keys) = (vec![], vec![]);
        let all = Sides { left, right, left_keys, right_keys, null_equal: false };
        all.join(JoinKind::Anti, residual, schema.clone())
    };
    for key in right_nulls {
        let predicates = vec![Arc::new(IsNullExpr::new(key)) as Expr];
        let nulls = map(right.clone(), predicates, None, right_schema.clone()).expect("a filter needs no substitution");
        node = pairs(node, nulls, residual.clone());
    }
    for key in left_nulls {
        let missing: Expr = Arc::new(IsNullExpr::new(key));
        let condition = match &residual {
            None => missing,
            Some(other) => Arc::new(datafusion::physical_expr::expressions::BinaryExpr::new(
                missing,
                logical_expr::Operator::And,
                other.clone(),
            )),
        };
        node = pairs(node, right.clone(), Some(condition));
    }
    node
}
