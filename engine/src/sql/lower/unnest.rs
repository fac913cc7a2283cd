//! `unnest(list)`: a row for each item.

use datafusion::error::Result;
use datafusion::logical_expr;

use super::{Lowering, bare};
use crate::plan::{Node, Unnest};
use crate::sql::error::refuse;

impl Lowering<'_> {
    pub(super) fn unnest(&self, unnest: &logical_expr::Unnest) -> Result<Node> {
        if !unnest.struct_type_columns.is_empty() || unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
            return Err(refuse(
                "UNNEST of structs, or of lists in lists at once, is not supported",
                "take one list apart at a time, in a subquery each",
                "unnest",
            ));
        }
        let input = self.node(&unnest.input)?;
        let lists = unnest.list_type_columns.iter().map(|(at, _)| *at).collect();
        let (columns, schema) = (unnest.dependency_indices.clone(), bare(&unnest.schema));
        Ok(Node::Unnest(Box::new(Unnest { input, lists, columns, schema })))
    }
}
