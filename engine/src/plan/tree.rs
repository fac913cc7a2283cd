//! The inputs of an operator, whatever it is.

use super::Node;

impl Node {
    /// The operators that this one reads.
    pub fn children(&self) -> Vec<&Node> {
        match self {
            Node::Get(_) | Node::Constant(_) => vec![],
            Node::Map(n) => vec![&n.input],
            Node::Temporal(n) => vec![&n.input],
            Node::Join(n) => vec![&n.left, &n.right],
            Node::Accumulate(n) => vec![&n.input],
            Node::Aggregate(n) => vec![&n.input],
            Node::TopK(n) => vec![&n.input],
            Node::Window(n) => vec![&n.input],
            Node::Previous(n) => vec![&n.input],
            Node::Union(n) => n.inputs.iter().collect(),
            Node::Unnest(n) => vec![&n.input],
            Node::Iterate(n) => vec![&n.base, &n.step],
        }
    }

    /// The same, to change them.
    pub fn children_mut(&mut self) -> Vec<&mut Node> {
        match self {
            Node::Get(_) | Node::Constant(_) => vec![],
            Node::Map(n) => vec![&mut n.input],
            Node::Temporal(n) => vec![&mut n.input],
            Node::Join(n) => vec![&mut n.left, &mut n.right],
            Node::Accumulate(n) => vec![&mut n.input],
            Node::Aggregate(n) => vec![&mut n.input],
            Node::TopK(n) => vec![&mut n.input],
            Node::Window(n) => vec![&mut n.input],
            Node::Previous(n) => vec![&mut n.input],
            Node::Union(n) => n.inputs.iter_mut().collect(),
            Node::Unnest(n) => vec![&mut n.input],
            Node::Iterate(n) => vec![&mut n.base, &mut n.step],
        }
    }
}
