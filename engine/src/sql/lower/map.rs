//! Projections and filters: chains of them become one [`Map`].

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Filter, Projection};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use std::sync::Arc;
use velib_operators::Expr;

use super::{Lowering, bare};
use crate::plan::expire::expire_below;
use crate::plan::properties::column;
use crate::plan::{Map, Node, Temporal, Window};
use crate::sql::temporal::{Bound, as_bound};

impl Lowering<'_> {
    pub(super) fn projection(&self, projection: &Projection) -> Result<Node> {
        let input = self.node(&projection.input)?;
        let outputs = self.exprs(&projection.expr, projection.input.schema())?;
        map(input, vec![], Some(outputs), bare(&projection.schema))
    }

    /// Predicates on the clock become intervals, after the others have thinned the rows.
    pub(super) fn filter(&self, filter: &Filter) -> Result<Node> {
        let schema = filter.input.schema();
        let (mut predicates, mut from, mut until) = (vec![], vec![], vec![]);
        for conjunct in split_conjunction(&filter.predicate) {
            match as_bound(conjunct) {
                Some(Bound::From(bound)) => from.push(self.expr(&bound, schema)?),
                Some(Bound::Until(bound)) => until.push(self.expr(&bound, schema)?),
                None => predicates.push(self.expr(conjunct, schema)?),
            }
        }
        let input = super::window::first_rows(self.node(&filter.input)?, &mut predicates)?;
        let columns = input.schema();
        let mut node = map(input, predicates, None, columns)?;
        let (mut from, mut until) = (from.into_iter(), until.into_iter());
        loop {
            let (from, until) = (from.next(), until.next());
            if from.is_none() && until.is_none() {
                return Ok(node);
            }
            let mut temporal = Temporal { input: node, from, until };
            expire_below(&mut temporal);
            node = Node::Temporal(Box::new(temporal));
        }
    }
}

/// Filters by `predicates`, then computes `outputs`, in one step with what `input` does of that kind.
pub(super) fn map(
    input: Node,
    mut predicates: Vec<Expr>,
    outputs: Option<Vec<Expr>>,
    schema: SchemaRef,
) -> Result<Node> {
    let outputs = outputs.filter(|o| !is_identity(o, &input));
    if predicates.is_empty() && outputs.is_none() {
        return Ok(renamed(input, schema));
    }
    // A window that only chose rows has done so.
    let input = match input {
        Node::Window(window) if is_idle(&window, &predicates, outputs.as_deref()) => window.input,
        input => input,
    };
    let mut get = match input {
        Node::Map(inner) => return over_map(*inner, predicates, outputs, schema),
        Node::Get(get) => get,
        input => return Ok(Node::Map(Box::new(Map { input, predicates, outputs, schema }))),
    };
    // A relation is asked for fewer of its columns.
    let kept: Option<Vec<usize>> = outputs.as_ref().and_then(|o| o.iter().map(column).collect());
    match kept {
        Some(kept) if predicates.is_empty() && same_names(&kept, &get.schema, &schema) => {
            get.columns = kept.iter().map(|c| get.columns[*c]).collect();
            get.schema = schema;
            Ok(Node::Get(get))
        }
        _ => {
            predicates.shrink_to_fit();
            Ok(Node::Map(Box::new(Map { input: Node::Get(get), predicates, outputs, schema })))
        }
    }
}

/// The same rows under the names of `schema`.
pub(super) fn renamed(mut node: Node, schema: SchemaRef) -> Node {
    let current = node.schema();
    if current.fields().iter().zip(schema.fields()).all(|(a, b)| a.name() == b.name()) {
        return node;
    }
    match &mut node {
        Node::Map(n) => {
            n.outputs.get_or_insert_with(|| columns(&current));
            n.schema = schema;
        }
        Node::Join(n) => n.schema = schema,
        Node::Accumulate(n) => n.schema = schema,
        Node::Aggregate(n) => n.schema = schema,
        Node::Union(n) => n.schema = schema,
        _ => {
            let outputs = Some(columns(&current));
            return Node::Map(Box::new(Map { input: node, predicates: vec![], outputs, schema }));
        }
    }
    node
}

/// Expressions that are the columns of `schema`.
pub(super) fn columns(schema: &SchemaRef) -> Vec<Expr> {
    let column = |(i, f): (usize, &Arc<arrow::datatypes::Field>)| Arc::new(Column::new(f.name(), i)) as Expr;
    schema.fields().iter().enumerate().map(column).collect()
}

fn over_map(mut inner: Map, predicates: Vec<Expr>, outputs: Option<Vec<Expr>>, schema: SchemaRef) -> Result<Node> {
    let Some(computed) = inner.outputs.take() else {
        inner.predicates.extend(predicates);
        return Ok(Node::Map(Box::new(Map { outputs, schema, ..inner })));
    };
    let readers = || predicates.iter().chain(outputs.iter().flatten());
    if !readers().all(|e| reads_cheaply(e, &computed, readers())) {
        inner.outputs = Some(computed);
        return Ok(Node::Map(Box::new(Map { input: Node::Map(Box::new(inner)), predicates, outputs, schema })));
    }
    for predicate in predicates {
        inner.predicates.push(substitute(predicate, &computed)?);
    }
    let outputs = match outputs {
        None => computed,
        Some(outputs) => outputs.into_iter().map(|o| substitute(o, &computed)).collect::<Result<_>>()?,
    };
    map(inner.input, inner.predicates, Some(outputs), schema)
}

/// Whether no computed column that `expr` reads would be computed twice.
fn reads_cheaply<'a>(expr: &Expr, computed: &[Expr], readers: impl Iterator<Item = &'a Expr> + Clone) -> bool {
    reads(expr).into_iter().all(|at| {
        let free = is_free(&computed[at]);
        free || readers.clone().flat_map(reads).filter(|r| *r == at).count() <= 1
    })
}

/// Computing it anew costs less than to keep it in a column.
fn is_free(expr: &Expr) -> bool {
    let inner = expr.downcast_ref::<CastExpr>().map_or(expr, |cast| cast.expr());
    inner.is::<Column>() || inner.is::<Literal>()
}

/// What reads `input` by expressions reads what is below its projection, where that costs nothing.
pub(super) fn through_projection(input: Node, mut exprs: Vec<&mut Expr>) -> Result<Node> {
    let Node::Map(mut map) = input else { return Ok(input) };
    let Some(computed) = &map.outputs else { return Ok(Node::Map(map)) };
    let readers: Vec<Expr> = exprs.iter().map(|e| (**e).clone()).collect();
    if !readers.iter().all(|e| reads_cheaply(e, computed, readers.iter())) {
        return Ok(Node::Map(map));
    }
    for expr in &mut exprs {
        **expr = substitute((**expr).clone(), computed)?;
    }
    if map.predicates.is_empty() {
        return Ok(map.input);
    }
    map.outputs = None;
    map.schema = map.input.schema();
    Ok(Node::Map(map))
}

/// The columns that an expression reads, each as often as it does.
fn reads(expr: &Expr) -> Vec<usize> {
    let mut found = vec![];
    expr.apply(|e| {
        found.extend(column(e));
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })
    .expect("the closure does not fail");
    found
}

/// `expr` with the expressions `computed` in the place of the columns of those numbers.
pub(super) fn substitute(expr: Expr, computed: &[Expr]) -> Result<Expr> {
    expr.transform_up(|e| match column(&e) {
        Some(at) => Ok(Transformed::yes(computed[at].clone())),
        None => Ok(Transformed::no(e)),
    })
    .data()
}

fn is_idle(window: &Window, predicates: &[Expr], outputs: Option<&[Expr]>) -> bool {
    let width = window.input.schema().fields().len();
    outputs.is_some_and(|outputs| predicates.iter().chain(outputs).flat_map(reads).all(|at| at < width))
}

fn is_identity(outputs: &[Expr], input: &Node) -> bool {
    outputs.len() == input.schema().fields().len() && outputs.iter().enumerate().all(|(i, o)| column(o) == Some(i))
}

fn same_names(kept: &[usize], from: &SchemaRef, to: &SchemaRef) -> bool {
    let distinct = kept.iter().enumerate().all(|(i, c)| !kept[..i].contains(c));
    distinct && kept.iter().zip(to.fields()).all(|(c, f)| from.field(*c).name() == f.name())
}
