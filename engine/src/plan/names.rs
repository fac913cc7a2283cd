//! What operators are called, in `EXPLAIN` and in the dataflow alike: job, view, kind, and a number where a
//! view has several of a kind.

use super::{Job, Node, View};

/// Names the operators of a view, asked in the order of the tree, parents first.
pub struct Names {
    prefix: String,
    used: Vec<&'static str>,
}

impl Names {
    /// Of a view of a job.
    pub fn new(job: &Job, view: &View) -> Self {
        Names { prefix: format!("{}.{}", job.name, view.name), used: vec![] }
    }

    /// The name of the next operator of the tree, which is `node`.
    pub fn of(&mut self, node: &Node) -> String {
        let kind = node.kind();
        self.used.push(kind);
        match self.used.iter().filter(|k| **k == kind).count() {
            1 => format!("{}.{kind}", self.prefix),
            nth => format!("{}.{kind}.{nth}", self.prefix),
        }
    }

    /// Passes over `node` and all below it, which have been named before.
    pub fn pass(&mut self, node: &Node) {
        self.of(node);
        node.children().into_iter().for_each(|child| self.pass(child));
    }
}

impl Node {
    /// The name of the operator.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Get(_) => "get",
            Node::Constant(_) => "constant",
            Node::Map(_) => "map",
            Node::Temporal(_) => "temporal",
            Node::Join(_) => "join",
            Node::Accumulate(n) if n.aggregates.is_empty() => "distinct",
            Node::Accumulate(_) => "accumulate",
            Node::Aggregate(_) => "aggregate",
            Node::TopK(_) => "top_k",
            Node::Window(_) => "window",
            Node::Previous(_) => "previous",
            Node::Union(_) => "union",
        }
    }
}
