//! Window functions: the row before, the first rows, or all of them computed anew by partition.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{self, Expr as LogicalExpr, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
use datafusion::physical_expr::window::StandardWindowExpr;
use datafusion::physical_plan::windows::WindowUDFExpr;
use datafusion::physical_planner::create_window_expr;
use velib_operators::Expr;

use super::map::{columns, map};
use super::{Lowering, bare};
use crate::plan::properties::column;
use crate::plan::{Map, Node, Previous, TopK, Window};
use crate::sql::error::refuse;
use crate::sql::functions::misplaced_now;
use crate::sql::temporal::mentions_clock;

impl Lowering<'_> {
    pub(super) fn window(&self, window: &logical_expr::Window) -> Result<Node> {
        let input_schema = window.input.schema();
        let width = input_schema.fields().len();
        let schema = bare(&window.schema);
        let mut calls = vec![];
        for expr in &window.window_expr {
            let call = call_of(expr)?;
            check_call(expr, call)?;
            calls.push(call);
        }
        // One operator for each way to partition and order.
        let mut groups: Vec<Vec<usize>> = vec![];
        for (at, call) in calls.iter().enumerate() {
            let same = |other: &usize| {
                let (a, b) = (&calls[*other].params, &call.params);
                a.partition_by == b.partition_by && a.order_by == b.order_by
            };
            match groups.iter_mut().find(|g| same(&g[0])) {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        let mut node = self.node(&window.input)?;
        let mut places = vec![0; calls.len()];
        let mut next = width;
        for group in &groups {
            for at in group {
                places[*at] = next;
                next += 1;
            }
            let added = group.iter().map(|at| schema.fields()[width + at].clone());
            let fields = node.schema().fields().iter().cloned().chain(added).collect::<Vec<_>>();
            let exprs: Vec<&LogicalExpr> = group.iter().map(|at| &window.window_expr[*at]).collect();
            node = self.window_group(node, &exprs, input_schema, Arc::new(Schema::new(fields)))?;
        }
        let all = columns(&node.schema());
        let outputs = (0..width).chain(places).map(|i| all[i].clone()).collect();
        map(node, vec![], Some(outputs), schema)
    }

    fn window_group(&self, input: Node, exprs: &[&LogicalExpr], over: &DFSchema, schema: SchemaRef) -> Result<Node> {
        let params = &call_of(exprs[0])?.params;
        let partition = self.exprs(&params.partition_by, over)?;
        let order = self.order(&params.order_by, over)?;
        let properties = self.properties(&input);
        let in_time = match order.as_slice() {
            [by] if !by.options.descending => column(&by.expr).filter(|by| Some(*by) == properties.time),
            _ => None,
        };
        let lags: Option<Vec<&LogicalExpr>> = exprs.iter().map(|e| lag_argument(e)).collect();
        if let (true, Some(order), Some(lags)) = (properties.append_only, in_time, lags) {
            let lags = lags.into_iter().map(|l| self.expr(l, over)).collect::<Result<_>>()?;
            return Ok(Node::Previous(Box::new(Previous { input, partition, order, lags, schema })));
        }
        let context = PhysicalPlanningContext::default();
        let function = |e: &&LogicalExpr| create_window_expr(e, over, self.state.execution_props(), &context);
        let functions = exprs.iter().map(function).collect::<Result<_>>()?;
        Ok(Node::Window(Box::new(Window { input, partition, order, functions, schema })))
    }
}

/// `row_number() <= k` over a window is its first `k` rows: takes the predicate that says so.
pub(super) fn first_rows(input: Node, predicates: &mut Vec<Expr>) -> Result<Node> {
    let window = match input {
        Node::Window(window) if numbers_rows(&window) => *window,
        // Columns in another order, or fewer of them.
        Node::Map(map) if map.predicates.is_empty() && matches!(map.input, Node::Window(_)) => {
            let Map { input, outputs: Some(outputs), schema, .. } = *map else {
                return Ok(Node::Map(map));
            };
            let through = |p: &Expr| super::map::substitute(p.clone(), &outputs);
            let mut below = predicates.iter().map(through).collect::<Result<Vec<_>>>()?;
            let all = below.len();
            let input = first_rows(input, &mut below)?;
            if below.len() < all {
                predicates.clear();
                return map_over(input, below, outputs, schema);
            }
            return Ok(Node::Map(Box::new(Map { input, predicates: vec![], outputs: Some(outputs), schema })));
        }
        input => return Ok(input),
    };
    let number = window.schema.fields().len() - 1;
    let Some((at, (offset, limit))) = predicates.iter().enumerate().find_map(|(i, p)| Some((i, numbered(p, number)?)))
    else {
        return Ok(Node::Window(Box::new(window)));
    };
    // The others choose among the first rows.
    predicates.remove(at);
    let Window { input, partition, order, functions, schema } = window;
    let top = TopK { input, partition: partition.clone(), order: order.clone(), offset, limit: Some(limit) };
    let input = Node::TopK(Box::new(top));
    if limit == 1 {
        let mut outputs = columns(&input.schema());
        outputs.push(Arc::new(Literal::new(ScalarValue::UInt64(Some(offset as u64 + 1)))));
        return map(input, vec![], Some(outputs), schema);
    }
    // The numbers of the first rows are the same without the others.
    Ok(Node::Window(Box::new(Window { input, partition, order, functions, schema })))
}

fn map_over(input: Node, predicates: Vec<Expr>, outputs: Vec<Expr>, schema: SchemaRef) -> Result<Node> {
    let columns = input.schema();
    let filtered = map(input, predicates, None, columns)?;
    map(filtered, vec![], Some(outputs), schema)
}

fn call_of(expr: &LogicalExpr) -> Result<&WindowFunction> {
    match expr {
        LogicalExpr::WindowFunction(call) => Ok(call),
        LogicalExpr::Alias(alias) => call_of(&alias.expr),
        other => Err(refuse(format!("{other} is no window function"), "", "")),
    }
}

fn check_call(expr: &LogicalExpr, call: &WindowFunction) -> Result<()> {
    let name = call.fun.name();
    let by_place = matches!(name, "row_number" | "ntile" | "lag" | "lead" | "first_value" | "last_value" | "nth_value");
    if by_place && call.params.order_by.is_empty() {
        return Err(refuse(
            format!("{name}() without ORDER BY numbers rows at random"),
            &format!("say which row comes first, as in {name}(…) OVER (PARTITION BY station_id ORDER BY observed_at)"),
            name,
        ));
    }
    match mentions_clock(expr) {
        true => Err(misplaced_now()),
        false => Ok(()),
    }
}

/// What `lag(e)` or `lag(e, 1)` carries over.
fn lag_argument(expr: &LogicalExpr) -> Option<&LogicalExpr> {
    let call = call_of(expr).ok()?;
    let params = &call.params;
    let plain =
        params.filter.is_none() && params.null_treatment != Some(NullTreatment::IgnoreNulls) && !params.distinct;
    let one = |e: &LogicalExpr| matches!(e, LogicalExpr::Literal(ScalarValue::Int64(Some(1)), _));
    match params.args.as_slice() {
        _ if call.fun.name() != "lag" || !plain => None,
        [value] => Some(value),
        [value, offset] if one(offset) => Some(value),
        _ => None,
    }
}

fn numbers_rows(window: &Window) -> bool {
    let [only] = window.functions.as_slice() else { return false };
    let standard = only.as_any().downcast_ref::<StandardWindowExpr>();
    let function = standard.and_then(|s| s.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>());
    function.is_some_and(|f| f.fun().name() == "row_number")
}

/// The offset and limit of a predicate on the row's number.
fn numbered(predicate: &Expr, number: usize) -> Option<(usize, usize)> {
    let comparison = predicate.downcast_ref::<BinaryExpr>()?;
    let (op, literal) = match (column(comparison.left()), column(comparison.right())) {
        (Some(at), None) if at == number => (*comparison.op(), comparison.right()),
        (None, Some(at)) if at == number => (comparison.op().swap()?, comparison.left()),
        _ => return None,
    };
    let value = match literal.downcast_ref::<Literal>()?.value() {
        ScalarValue::UInt64(Some(n)) => usize::try_from(*n).ok()?,
        ScalarValue::Int64(Some(n)) => usize::try_from(*n).ok()?,
        _ => return None,
    };
    match op {
        Operator::LtEq if value >= 1 => Some((0, value)),
        Operator::Lt if value >= 2 => Some((0, value - 1)),
        Operator::Eq if value >= 1 => Some((value - 1, 1)),
        _ => None,
    }
}
