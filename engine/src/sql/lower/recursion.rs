//! `WITH RECURSIVE`: rows, and what follows from them, round by round.
//!
//! A step may filter, compute, and join what it has so far with relations. It sees one round at a time, so nothing in
//! it may depend on all the rounds at once: no aggregates, orders, outer joins, or itself twice.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::RecursiveQuery;
use datafusion::physical_expr::expressions::CastExpr;
use velib_operators::Expr;

use super::map::map;
use super::{Lowering, bare};
use crate::plan::{From, Iterate, JoinKind, Node};
use crate::sql::error::refuse;

impl Lowering<'_> {
    pub(super) fn recursion(&self, query: &RecursiveQuery) -> Result<Node> {
        let schema = bare(&query.schema);
        let base = typed(self.node(&query.static_term)?, &schema)?;
        let step = typed(self.node(&query.recursive_term)?, &schema)?;
        check_step(&step)?;
        Ok(Node::Iterate(Box::new(Iterate { base, step, distinct: query.is_distinct, schema })))
    }
}

/// The same rows with the names and types of `schema`.
fn typed(node: Node, schema: &SchemaRef) -> Result<Node> {
    let own = node.schema();
    let cast = |(at, column): (usize, Expr)| -> Expr {
        let kind = schema.field(at).data_type();
        if own.field(at).data_type() == kind { column } else { Arc::new(CastExpr::new(column, kind.clone(), None)) }
    };
    let columns = super::map::columns(&own).into_iter().enumerate().map(cast).collect();
    map(node, vec![], Some(columns), schema.clone())
}

/// # Errors
/// What of a step is not the same row by row.
fn check_step(node: &Node) -> Result<()> {
    if !node.reads_rounds() {
        return Ok(());
    }
    match node {
        Node::Get(_) => Ok(()),
        Node::Map(map) => check_step(&map.input),
        Node::Union(union) => union.inputs.iter().try_for_each(check_step),
        Node::Join(join) if join.left.reads_rounds() && join.right.reads_rounds() => {
            Err(refused("joins it with itself"))
        }
        Node::Join(join) if join.kind == JoinKind::Inner => check_step(&join.left).and(check_step(&join.right)),
        Node::Join(_) => Err(refused("uses it in an outer join, EXISTS or IN")),
        Node::Accumulate(_) | Node::Aggregate(_) => Err(refused("aggregates it or takes it DISTINCT")),
        Node::Window(_) | Node::TopK(_) | Node::Previous(_) => Err(refused("depends on its order")),
        Node::Temporal(_) => Err(refused("compares it with now()")),
        _ => Err(refused(&format!("uses it in {}", node.kind()))),
    }
}

fn refused(what: &str) -> DataFusionError {
    refuse(
        format!("the recursive part of WITH RECURSIVE {what}"),
        "join it with other relations, filter and compute there; aggregate and order what comes out",
        "recursive",
    )
}

impl Node {
    /// Whether it reads what the recursion that it is in has so far.
    pub(crate) fn reads_rounds(&self) -> bool {
        match self {
            Node::Get(get) => get.from == From::Rounds,
            // It reads its own.
            Node::Iterate(_) => false,
            _ => self.children().into_iter().any(Node::reads_rounds),
        }
    }
}
