//! Builds the dataflow that a plan describes, operator by operator.
//!
//! Invariants: every worker of every process builds the same operators in the same order from the same
//! plan; nothing here parses, opens or waits.

mod expressions;
mod grouping;
mod iterate;
mod join;
mod ordered;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use timely::dataflow::operators::{Concat, Concatenate, ToStream};
use timely::dataflow::{Scope, Stream};
use velib_operators::accumulate::Age;
use velib_operators::map::{Program, map, project};
use velib_operators::output::{self, Closed};
use velib_operators::unnest::unnest;
use velib_operators::{Checkpoints, Errors, Expr, Keep, Rows, Saved, Steps, Time, Told, Updates, temporal};

use crate::plan::checkpoint::{number, saving};
use crate::plan::names::Names;
use crate::plan::{From, Job, Map, Node, Temporal};
use expressions::Columns;

/// Builds `job` over `inputs`, one stream for each of `Job::inputs`, or one that only tells the time where
/// it has none; `uppers` tells of the [`Steps`] of time. What its views yield comes together on worker `index`, where
/// `sink` is called as time passes. With `checkpoints`, its state can be saved and restored, as that stream says; what
/// is saved comes together on the same worker, where the function beside it is called.
pub fn job<'scope>(
    scope: Scope<'scope, Time>,
    job: &Job,
    inputs: Vec<Rows<'scope>>,
    uppers: Stream<'scope, Time, Vec<Time>>,
    checkpoints: Option<(Stream<'scope, Time, Vec<Told>>, impl FnMut(Time, Vec<Saved>) + 'static)>,
    index: usize,
    sink: impl FnMut(Closed) + 'static,
) {
    let (saves, saved) = checkpoints.unzip();
    let checkpoints = saves.map_or_else(Checkpoints::none, Checkpoints::told);
    let keeping = saving(job).map(|saving| saving.operators).unwrap_or_default();
    let (told, steps) = Steps::told(uppers);
    let inputs: Vec<_> = inputs.into_iter().map(|rows| rows.concat(told.clone())).collect();
    let mut collections: BTreeMap<usize, Rows<'scope>> = BTreeMap::new();
    let mut outputs = Vec::new();
    let mut built = HashMap::new();
    for (i, view) in job.views.iter().enumerate() {
        let names = Names::new(job, view);
        let errors = Errors::default();
        let (inputs, views, built, steps) = (&inputs, &collections, &mut built, &steps);
        let (checkpoints, keeping) = (&checkpoints, &keeping);
        let mut render = Render { scope, inputs, views, built, steps, checkpoints, keeping, names, errors };
        let mut rows = render.node(&view.plan);
        if job.inputs.is_empty() {
            rows = scope.concatenate([rows, inputs[0].clone()]);
        }
        let errors = render.errors.take();
        let retain = view.retain.map(|retain| Age { group: retain.column, after_ms: retain.after_ms });
        outputs.push(output::View { rows: rows.clone(), schema: view.schema.clone(), retain, errors });
        collections.insert(i, rows);
    }
    if let Some(saved) = saved {
        // Errors are rows of their own, and of what was saved there are none.
        let ends = collections.into_values().collect();
        checkpoints.collect(scope, &job.name, ends, index, saved);
    }
    output::output(scope, &format!("{}.output", job.name), outputs, index, &steps, sink);
}

/// One view under construction.
struct Render<'a, 'scope> {
    scope: Scope<'scope, Time>,
    inputs: &'a [Rows<'scope>],
    views: &'a BTreeMap<usize, Rows<'scope>>,
    /// What the job has computed so far, by its plan: equal parts are built once.
    built: &'a mut HashMap<String, Rows<'scope>>,
    steps: &'a Steps,
    checkpoints: &'a Checkpoints<'scope>,
    /// The operators that save, by number.
    keeping: &'a BTreeSet<u64>,
    names: Names,
    errors: Errors<'scope>,
}

impl<'scope> Render<'_, 'scope> {
    /// The rows of `node`, built if no equal one is.
    fn node(&mut self, node: &Node) -> Rows<'scope> {
        // A plan in writing holds all that the operators are built from.
        let plan = format!("{node:?}");
        if let Some(rows) = self.built.get(&plan) {
            self.names.pass(node);
            return rows.clone();
        }
        let name = self.names.of(node);
        let rows = self.build(node, &name);
        self.built.insert(plan, rows.clone());
        rows
    }

    /// For the state of `node`.
    fn keep(&self, node: &Node) -> Keep<'scope> {
        match number(node) {
            number if self.keeping.contains(&number) => self.checkpoints.of(number),
            _ => Keep::nothing(),
        }
    }

    fn build(&mut self, node: &Node, name: &str) -> Rows<'scope> {
        match node {
            Node::Get(get) => {
                let rows = match get.from {
                    From::Input(i) => self.inputs[i].clone(),
                    From::View(i) => self.views[&i].clone(),
                    From::Rounds => unreachable!("it is rendered with its recursion"),
                };
                project(rows, get.columns.clone(), get.schema.clone())
            }
            Node::Constant(rows) => {
                let first = self.scope.worker().index() == 0 && rows.num_rows() > 0;
                first.then(|| Updates::insert(0, rows.clone())).to_stream(self.scope)
            }
            Node::Map(node) => self.map(node, name),
            Node::Temporal(temporal) => self.temporal(temporal, self.keep(node), name),
            Node::Join(node) => self.join(node, name),
            Node::Accumulate(accumulate) => self.accumulate(accumulate, self.keep(node), name),
            Node::Aggregate(node) => self.aggregate(node, name),
            Node::TopK(node) => self.topk(node, name),
            Node::Window(node) => self.window(node, name),
            Node::Previous(previous) => self.previous(previous, self.keep(node), name),
            Node::Union(node) => {
                let inputs: Vec<_> = node.inputs.iter().map(|input| self.node(input)).collect();
                self.scope.concatenate(inputs)
            }
            Node::Unnest(node) => {
                let (lists, columns) = (node.lists.clone(), node.columns.clone());
                unnest(self.node(&node.input), name, lists, columns, node.schema.clone())
            }
            Node::Iterate(node) => self.iterate(node, name),
        }
    }

    fn map(&mut self, node: &Map, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let program =
            Program { predicates: node.predicates.clone(), outputs: node.outputs.clone(), schema: node.schema.clone() };
        map(input, name, program, &mut self.errors)
    }

    fn temporal(&mut self, node: &Temporal, keep: Keep<'scope>, name: &str) -> Rows<'scope> {
        let schema = node.input.schema();
        let mut columns = Columns::of(&schema);
        let mut bound = |bound: &Option<Expr>| bound.as_ref().map(|expr| columns.append(expr.clone()));
        let (from, until) = (bound(&node.from), bound(&node.until));
        let input = self.node(&node.input);
        let (input, _) = columns.evaluate(input, &format!("{name}.bounds"), &mut self.errors);
        temporal::temporal(input, name, schema, from, until, self.steps, keep)
    }
}
