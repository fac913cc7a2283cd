//! Builds the dataflow that a plan describes, operator by operator.
//!
//! Invariants: every worker of every process builds the same operators in the same order from the same
//! plan; nothing here parses, opens or waits.

mod expressions;
mod grouping;
mod join;
mod ordered;

use std::collections::BTreeMap;

use timely::dataflow::Scope;
use timely::dataflow::operators::{Concatenate, ToStream};
use velib_operators::map::{Program, map};
use velib_operators::output::{self, Closed};
use velib_operators::{Errors, Rows, Time, Updates, temporal};

use crate::plan::{From, Job, Map, Node, Temporal};
use expressions::Columns;

/// Builds `job` over `inputs`, one stream for each of `Job::inputs`, or one that only tells the time where it has none. What its views yield comes together
/// on worker `index`, where `sink` is called as the frontier moves.
pub fn job<'scope>(
    scope: Scope<'scope, Time>,
    job: &Job,
    inputs: Vec<Rows<'scope>>,
    index: usize,
    sink: impl FnMut(Closed) + 'static,
) {
    let mut collections: BTreeMap<usize, Rows<'scope>> = BTreeMap::new();
    let mut outputs = Vec::new();
    for (i, view) in job.views.iter().enumerate() {
        let mut render = Render { scope, inputs: &inputs, views: &collections, errors: Errors::default() };
        let mut rows = render.node(&view.plan, &view.name);
        if job.inputs.is_empty() {
            rows = scope.concatenate([rows, inputs[0].clone()]);
        }
        let errors = render.errors.take();
        outputs.push(output::View { rows: rows.clone(), schema: view.schema.clone(), errors });
        collections.insert(i, rows);
    }
    output::output(scope, &format!("{}.output", job.name), outputs, index, sink);
}

/// One view under construction.
struct Render<'a, 'scope> {
    scope: Scope<'scope, Time>,
    inputs: &'a [Rows<'scope>],
    views: &'a BTreeMap<usize, Rows<'scope>>,
    errors: Errors<'scope>,
}

impl<'scope> Render<'_, 'scope> {
    /// The rows of `node`; `path` names what it serves.
    fn node(&mut self, node: &Node, path: &str) -> Rows<'scope> {
        match node {
            Node::Get(get) => {
                let rows = match get.from {
                    From::Input(i) => self.inputs[i].clone(),
                    From::View(i) => self.views[&i].clone(),
                };
                velib_operators::join::project(rows, get.columns.clone(), get.schema.clone())
            }
            Node::Constant(rows) => {
                let first = self.scope.worker().index() == 0 && rows.num_rows() > 0;
                first.then(|| Updates::insert(0, rows.clone())).to_stream(self.scope)
            }
            Node::Map(node) => self.map(node, path),
            Node::Temporal(node) => self.temporal(node, path),
            Node::Join(node) => self.join(node, path),
            Node::Accumulate(node) => self.accumulate(node, path),
            Node::Aggregate(node) => self.aggregate(node, path),
            Node::TopK(node) => self.topk(node, path),
            Node::Window(node) => self.window(node, path),
            Node::Previous(node) => self.previous(node, path),
            Node::Union(node) => {
                let inputs: Vec<_> = node.inputs.iter().map(|input| self.node(input, path)).collect();
                self.scope.concatenate(inputs)
            }
        }
    }

    fn map(&mut self, node: &Map, path: &str) -> Rows<'scope> {
        let input = self.node(&node.input, path);
        let program =
            Program { predicates: node.predicates.clone(), outputs: node.outputs.clone(), schema: node.schema.clone() };
        map(input, &format!("{path}.map"), program, &mut self.errors)
    }

    fn temporal(&mut self, node: &Temporal, path: &str) -> Rows<'scope> {
        let schema = node.input.schema();
        let mut columns = Columns::of(&schema);
        let mut bound =
            |bound: &Option<_>| bound.as_ref().map(|expr| columns.append(expressions::instant(expr, &schema)));
        let (from, until) = (bound(&node.from), bound(&node.until));
        let input = self.node(&node.input, path);
        let (input, _) = columns.evaluate(input, &format!("{path}.bounds"), &mut self.errors);
        temporal::temporal(input, &format!("{path}.temporal"), schema, from, until)
    }
}
