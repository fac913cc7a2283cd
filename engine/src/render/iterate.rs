//! `plan::Iterate`.

use velib_operators::Rows;
use velib_operators::iterate::{JoinStep, Step, iterate};
use velib_operators::map::Program;

use super::Render;
use super::expressions::Columns;
use crate::plan::{Iterate, Join, Node};

impl<'scope> Render<'_, 'scope> {
    pub(super) fn iterate(&mut self, node: &Iterate, name: &str) -> Rows<'scope> {
        let base = self.node(&node.base);
        let step = self.step(&node.step);
        iterate(base, name, &node.schema, node.distinct, step, &mut self.errors)
    }

    /// What of a recursion reads the rows of a round.
    fn step(&mut self, node: &Node) -> Step<'scope> {
        if !node.reads_rounds() {
            return Step::Fixed(self.node(node));
        }
        let name = self.names.of(node);
        match node {
            Node::Map(map) => {
                let (predicates, outputs) = (map.predicates.clone(), map.outputs.clone());
                let program = Program { predicates, outputs, schema: map.schema.clone() };
                Step::Map(Box::new(self.step(&map.input)), program)
            }
            Node::Union(union) => Step::Union(union.inputs.iter().map(|input| self.step(input)).collect()),
            Node::Join(join) => Step::Join(Box::new(self.join_step(join, &name))),
            Node::Get(get) => {
                let outputs = Columns::kept(&get.columns);
                let program = Program { predicates: vec![], outputs: Some(outputs), schema: get.schema.clone() };
                Step::Map(Box::new(Step::Rounds), program)
            }
            other => unreachable!("the planner lets no {} into a recursion", other.kind()),
        }
    }

    fn join_step(&mut self, join: &Join, name: &str) -> JoinStep<'scope> {
        let rounds_first = join.left.reads_rounds();
        // In the order of the tree, as its operators are named.
        let (rounds, other) = if rounds_first {
            let rounds = self.step(&join.left);
            (rounds, self.side(&join.right, &join.right_keys, &format!("{name}.other")))
        } else {
            let other = self.side(&join.left, &join.left_keys, &format!("{name}.other"));
            (self.step(&join.right), other)
        };
        let (node, key) = if rounds_first { (&join.left, &join.left_keys) } else { (&join.right, &join.right_keys) };
        let predicates = join.residual.iter().cloned().collect();
        let pairs = Program { predicates, outputs: None, schema: join.schema.clone() };
        let (schema, key, null_equal) = (node.schema(), key.clone(), join.null_equal);
        JoinStep { rounds, schema, key, other, rounds_first, null_equal, pairs }
    }
}
