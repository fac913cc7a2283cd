//! `plan::Join`: every kind of join from the inner one.

use timely::dataflow::operators::Concatenate;
use velib_operators::join::{Side, divide, inner, pad};
use velib_operators::{Expr, Rows};

use super::Render;
use super::expressions::Columns;
use crate::plan::{Join, JoinKind, Node};

impl<'scope> Render<'_, 'scope> {
    pub(super) fn join(&mut self, node: &Join, name: &str) -> Rows<'scope> {
        let left = self.side(&node.left, &node.left_keys, name);
        let right = self.side(&node.right, &node.right_keys, name);
        let (l, r) = (left.schema.fields().len(), right.schema.fields().len());
        let both = match node.kind {
            JoinKind::Semi | JoinKind::Anti => {
                let fields = left.schema.fields().iter().chain(right.schema.fields()).cloned();
                crate::source::schema(fields.map(|field| field.as_ref().clone()).collect())
            }
            _ => node.schema.clone(),
        };
        let pairs = inner(&left, &right, name, node.null_equal, node.residual.clone(), &both, &mut self.errors);
        match node.kind {
            JoinKind::Inner => pairs,
            JoinKind::Semi => divide(&left, pairs, 0..l, name, &mut self.errors).0,
            JoinKind::Anti => divide(&left, pairs, 0..l, name, &mut self.errors).1,
            JoinKind::Left => {
                let (_, alone) = divide(&left, pairs.clone(), 0..l, name, &mut self.errors);
                self.scope.concatenate([pairs, pad(alone, both, false)])
            }
            JoinKind::Full => {
                let (_, left_alone) = divide(&left, pairs.clone(), 0..l, name, &mut self.errors);
                let (_, right_alone) = divide(&right, pairs.clone(), l..l + r, name, &mut self.errors);
                self.scope.concatenate([pairs, pad(left_alone, both.clone(), false), pad(right_alone, both, true)])
            }
        }
    }

    fn side(&mut self, node: &Node, keys: &[Expr], name: &str) -> Side<'scope> {
        let rows = self.node(node);
        let schema = node.schema();
        let mut columns = Columns::of(&schema);
        let key = keys.iter().map(|expr| columns.place(expr)).collect();
        let (keyed, keyed_schema) = columns.evaluate(rows.clone(), &format!("{name}.keys"), &mut self.errors);
        Side { rows, schema, keyed, keyed_schema, key }
    }
}
