//! `plan::Accumulate` and `plan::Aggregate`.

use velib_operators::accumulate::{Accumulator, Grouping, accumulate};
use velib_operators::aggregate::{Call, aggregate};
use velib_operators::arrange::Layout;
use velib_operators::{Keep, Rows};

use super::Render;
use super::expressions::{Columns, only_where};
use crate::plan::{Accumulate, Aggregate};

impl<'scope> Render<'_, 'scope> {
    pub(super) fn accumulate(&mut self, node: &Accumulate, keep: Keep<'scope>, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let mut columns = Columns::none(&node.input.schema());
        let group = node.group.iter().map(|expr| columns.append(expr.clone())).collect();
        let aggregates = node.aggregates.iter().map(|aggregate| Accumulator {
            function: aggregate.function,
            arguments: aggregate.arguments.iter().map(|a| columns.place(&only_where(&aggregate.filter, a))).collect(),
            filter: aggregate.filter.as_ref().map(|filter| columns.place(filter)),
            output: aggregate.output.clone(),
        });
        let aggregates = aggregates.collect();
        let (input, schema) = columns.evaluate(input, &format!("{name}.columns"), &mut self.errors);
        let grouping = Grouping {
            input: schema,
            group,
            aggregates,
            global: node.global,
            expiry: node.expiry,
            output: node.schema.clone(),
        };
        accumulate(input, name, grouping, self.steps, keep, &mut self.errors)
    }

    pub(super) fn aggregate(&mut self, node: &Aggregate, name: &str) -> Rows<'scope> {
        let input = self.node(&node.input);
        let schema = node.input.schema();
        let mut columns = Columns::of(&schema);
        let key = node.group.iter().map(|expr| columns.place(expr)).collect();
        let (input, keyed) = columns.evaluate(input, &format!("{name}.columns"), &mut self.errors);
        let layout = Layout { columns: schema.fields().len(), ..Layout::by(keyed, key) };
        let calls =
            node.aggregates.iter().map(|call| Call { function: call.function.clone(), filter: call.filter.clone() });
        aggregate(input, name, &layout, calls.collect(), node.global, node.schema.clone(), &mut self.errors)
    }
}
