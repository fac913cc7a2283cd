//! `plan::TopK`, `plan::Window` and `plan::Previous`: what depends on the order of rows.

use velib_operators::arrange::Layout;
use velib_operators::previous::{self, previous};
use velib_operators::topk::topk;
use velib_operators::window::window;
use velib_operators::{Keep, Rows};

use super::Render;
use super::expressions::Columns;
use crate::plan::{Previous, TopK, Window};

impl<'scope> Render<'_, 'scope> {
    pub(super) fn topk(&mut self, node: &TopK, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let schema = node.input.schema();
        let mut columns = Columns::of(&schema);
        let key = node.partition.iter().map(|expr| columns.place(expr)).collect();
        let order = columns.order(&node.order);
        let (input, keyed) = columns.evaluate(input, &format!("{name}.columns"), &mut self.errors);
        let layout = Layout { columns: schema.fields().len(), order, ..Layout::by(keyed, key) };
        topk(input, name, &layout, node.offset, node.limit, &mut self.errors)
    }

    pub(super) fn window(&mut self, node: &Window, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let schema = node.input.schema();
        let mut columns = Columns::of(&schema);
        let key = node.partition.iter().map(|expr| columns.place(expr)).collect();
        let order = columns.order(&node.order);
        let (input, keyed) = columns.evaluate(input, &format!("{name}.columns"), &mut self.errors);
        let layout = Layout { columns: schema.fields().len(), order, ..Layout::by(keyed, key) };
        let functions = node.functions.clone();
        window(input, name, &layout, functions, node.schema.clone(), &mut self.errors)
    }

    pub(super) fn previous(&mut self, node: &Previous, keep: Keep<'scope>, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let schema = node.input.schema();
        // The lags stand behind the columns of the input; what they are computed of need not be there.
        let mut columns = Columns::of(&schema);
        let partition = node.partition.iter().map(|expr| columns.place(expr)).collect();
        let lags = node.lags.iter().map(|expr| columns.place(expr)).collect();
        let (input, keyed) = columns.evaluate(input, &format!("{name}.columns"), &mut self.errors);
        let layout =
            previous::Layout { schema: keyed, columns: schema.fields().len(), partition, order: node.order, lags };
        previous(input, name, layout, node.schema.clone(), keep)
    }
}
