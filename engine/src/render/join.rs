//! `plan::Join`.

use velib_operators::join::{On, Side, join};
use velib_operators::{Expr, Rows};

use super::Render;
use super::expressions::Columns;
use crate::plan::{Join, Node};

impl<'scope> Render<'_, 'scope> {
    pub(super) fn join(&mut self, node: &Join, name: &str) -> Rows<'scope> {
        let left = self.side(&node.left, &node.left_keys, &format!("{name}.left"));
        let right = self.side(&node.right, &node.right_keys, &format!("{name}.right"));
        let (residual, schema) = (node.residual.clone(), node.schema.clone());
        let on = On { kind: node.kind, null_equal: node.null_equal, residual, schema };
        join(&left, &right, name, on, &mut self.errors)
    }

    pub(super) fn side(&mut self, node: &Node, keys: &[Expr], name: &str) -> Side<'scope> {
        let rows = self.node(node);
        let mut columns = Columns::of(&node.schema());
        let own = node.schema().fields().len();
        let key = keys.iter().map(|expr| columns.place(expr)).collect();
        let (rows, schema) = columns.evaluate(rows, &format!("{name}.keys"), &mut self.errors);
        Side { rows, schema, columns: own, key }
    }
}
