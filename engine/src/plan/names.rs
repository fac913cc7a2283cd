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

/// The operator of the plan that `part` is of: parts have its name, and words of their own after it.
pub fn operator(part: &str) -> Option<&str> {
    let mut end = part.len();
    loop {
        let (before, word) = part[..end].rsplit_once('.')?;
        if KINDS.contains(&word) {
            // The number of the operator, if it has one.
            let rest = part.get(end + 1..).unwrap_or_default();
            let number = rest.split('.').next().filter(|word| word.parse::<u32>().is_ok());
            return Some(&part[..end + number.map_or(0, |number| 1 + number.len())]);
        }
        end = before.len();
    }
}

/// Whether `name` is that of an operator of the job.
pub fn is_of(name: &str, job: &str) -> bool {
    name.strip_prefix(job).is_some_and(|rest| rest.starts_with('.'))
}

const KINDS: [&str; 14] = [
    "get",
    "constant",
    "map",
    "temporal",
    "join",
    "distinct",
    "accumulate",
    "aggregate",
    "top_k",
    "window",
    "previous",
    "union",
    "unnest",
    "iterate",
];

impl Node {
    /// The name of the operator, one of [`KINDS`].
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
            Node::Unnest(_) => "unnest",
            Node::Iterate(_) => "iterate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_an_operator() {
        for (part, operator_of) in [
            ("j.v.join", Some("j.v.join")),
            ("j.v.join.left", Some("j.v.join")),
            ("j.v.join.matched.fold", Some("j.v.join")),
            ("j.v.map.12", Some("j.v.map.12")),
            ("j.v.map.12.columns", Some("j.v.map.12")),
            // Views may be called so.
            ("j.join.top_k.3.encode", Some("j.join.top_k.3")),
            ("j.join.map", Some("j.join.map")),
            ("j.output", None),
            ("Concatenate", None),
        ] {
            assert_eq!(operator(part), operator_of, "{part}");
        }
        assert!(is_of("j.v.join", "j") && !is_of("jj.v.join", "j") && !is_of("j", "j"));
    }
}
