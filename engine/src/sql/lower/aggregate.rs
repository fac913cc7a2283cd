//! Groupings: accumulated where every aggregate of it can be, else computed anew from a group's rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{self, Expr as LogicalExpr, SortExpr};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::{self, Column, IsNotNullExpr};
use velib_operators::Expr;
use velib_operators::accumulate::{Accumulation, Function, Regression};

use super::map::{map, through_projection};
use super::{Lowering, bare};
use crate::plan::{Accumulate, Aggregate, AggregateCall, Join, JoinKind, Node};
use crate::sql::error::refuse;
use crate::sql::functions::misplaced_now;
use crate::sql::temporal::mentions_clock;

/// An aggregate that accumulates, and, if only distinct values count, which ones.
struct Planned {
    accumulation: Accumulation,
    distinct: bool,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&self, aggregate: &logical_expr::Aggregate) -> Result<Node> {
        if aggregate.group_expr.iter().any(|e| matches!(e, LogicalExpr::GroupingSet(_))) {
            return self.grouping_sets(aggregate);
        }
        let input = self.node(&aggregate.input)?;
        let append_only = self.properties(&input).append_only;
        let columns = aggregate.input.schema();
        let group = self.exprs(&aggregate.group_expr, columns)?;
        let schema = bare(&aggregate.schema);
        let mut planned = vec![];
        for (expr, field) in aggregate.aggr_expr.iter().zip(&schema.fields()[group.len()..]) {
            let call = call_of(expr)?;
            planned.push(self.accumulation(call, &aggregate.group_expr, columns, append_only, field.data_type())?);
        }
        match planned.into_iter().collect::<Option<Vec<Planned>>>() {
            Some(planned) => accumulate(input, group, planned, schema),
            None => self.recompute(aggregate, input, group, schema),
        }
    }

    /// The same with DataFusion's own aggregates.
    fn recompute(
        &self,
        aggregate: &logical_expr::Aggregate,
        input: Node,
        group: Vec<Expr>,
        schema: SchemaRef,
    ) -> Result<Node> {
        let columns = aggregate.input.schema();
        let context = PhysicalPlanningContext::default();
        let lower = |expr: &LogicalExpr| {
            if mentions_clock(expr) {
                return Err(misplaced_now());
            }
            let props = self.state.execution_props();
            let lowered = LoweredAggregateBuilder::new(expr, columns, columns.as_arrow(), props, &context).build()?;
            Ok(AggregateCall { function: lowered.aggregate, filter: lowered.filter })
        };
        let aggregates = aggregate.aggr_expr.iter().map(lower).collect::<Result<_>>()?;
        let global = group.is_empty();
        Ok(Node::Aggregate(Box::new(Aggregate { input, group, aggregates, global, schema })))
    }

    /// None: it cannot accumulate.
    fn accumulation(
        &self,
        call: &AggregateFunction,
        group: &[LogicalExpr],
        columns: &DFSchema,
        append_only: bool,
        output: &DataType,
    ) -> Result<Option<Planned>> {
        let params = &call.params;
        let name = call.func.name();
        let order: Vec<&SortExpr> = params.order_by.iter().filter(|o| !group.contains(&o.expr)).collect();
        let ordered = matches!(name, "first_value" | "last_value");
        if matches!(name, "first_value" | "last_value" | "nth_value") && order.is_empty() {
            return Err(refuse(
                format!("{name}() without ORDER BY takes a row at random"),
                &format!("say which row comes first, as in {name}(x ORDER BY observed_at)"),
                name,
            ));
        }
        let Some(function) = function_of(name, &order, append_only) else { return Ok(None) };
        let mut arguments = self.exprs(&params.args, columns)?;
        if matches!(function, Function::Count) {
            if arguments.len() > 1 {
                return Ok(None);
            }
            arguments.retain(|a| a.downcast_ref::<expressions::Literal>().is_none_or(|l| l.value().is_null()));
        }
        if matches!(function, Function::Sum | Function::Avg) && !is_number(&params.args[0], columns)? {
            return Ok(None);
        }
        let mut filter = params.filter.as_ref().map(|f| self.expr(f, columns)).transpose()?;
        if params.null_treatment == Some(NullTreatment::IgnoreNulls) && ordered {
            let present: Expr = Arc::new(IsNotNullExpr::new(arguments[0].clone()));
            filter = Some(match filter {
                Some(f) => Arc::new(expressions::BinaryExpr::new(f, logical_expr::Operator::And, present)),
                None => present,
            });
        }
        if ordered {
            arguments.push(self.expr(&order[0].expr, columns)?);
        }
        // The least of the distinct values is the least of the values.
        let sensitive = !matches!(function, Function::Min | Function::Max | Function::BoolAnd | Function::BoolOr);
        let distinct = params.distinct && sensitive;
        if distinct && (arguments.len() != 1 || ordered) {
            return Ok(None);
        }
        let accumulation = Accumulation { function, arguments, filter, output: output.clone() };
        Ok(Some(Planned { accumulation, distinct }))
    }
}

fn call_of(expr: &LogicalExpr) -> Result<&AggregateFunction> {
    match expr {
        LogicalExpr::AggregateFunction(call) => Ok(call),
        LogicalExpr::Alias(alias) => call_of(&alias.expr),
        other => Err(refuse(format!("{other} is no aggregate"), "", "")),
    }
}

fn is_number(argument: &LogicalExpr, columns: &DFSchema) -> Result<bool> {
    use logical_expr::ExprSchemable;
    Ok(match argument.get_type(columns)? {
        DataType::Float16 | DataType::Decimal256(..) => false,
        kind => kind.is_numeric(),
    })
}

/// The aggregate of that name that accumulates; some only do where no row is ever taken back.
fn function_of(name: &str, order: &[&SortExpr], append_only: bool) -> Option<Function> {
    Some(match name {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "avg" => Function::Avg,
        "stddev" => Function::Variance { sample: true, root: true },
        "stddev_pop" => Function::Variance { sample: false, root: true },
        "var" => Function::Variance { sample: true, root: false },
        "var_pop" => Function::Variance { sample: false, root: false },
        "bool_and" => Function::BoolAnd,
        "bool_or" => Function::BoolOr,
        "regr_slope" => Function::Regression(Regression::Slope),
        "regr_intercept" => Function::Regression(Regression::Intercept),
        "regr_r2" => Function::Regression(Regression::R2),
        "regr_count" => Function::Regression(Regression::Count),
        "regr_avgx" => Function::Regression(Regression::AvgX),
        "regr_avgy" => Function::Regression(Regression::AvgY),
        "regr_sxx" => Function::Regression(Regression::Sxx),
        "regr_syy" => Function::Regression(Regression::Syy),
        "regr_sxy" => Function::Regression(Regression::Sxy),
        "min" if append_only => Function::Min,
        "max" if append_only => Function::Max,
        "first_value" | "last_value" if append_only && order.len() == 1 => {
            let (descending, nulls_first) = (!order[0].asc, order[0].nulls_first);
            match name {
                "first_value" => Function::First { descending, nulls_first },
                _ => Function::Last { descending, nulls_first },
            }
        }
        _ => return None,
    })
}

/// One grouping for the plain aggregates and one for each argument whose distinct values count, side by
/// side by group.
fn accumulate(input: Node, mut group: Vec<Expr>, mut planned: Vec<Planned>, schema: SchemaRef) -> Result<Node> {
    let width = group.len();
    let mut reading: Vec<&mut Expr> = group.iter_mut().collect();
    for call in planned.iter_mut().map(|p| &mut p.accumulation) {
        reading.extend(call.arguments.iter_mut().chain(&mut call.filter));
    }
    let input = through_projection(input, reading)?;
    // Each branch: whether it is distinct, and the places of its aggregates in the output.
    let mut branches: Vec<(Option<usize>, Vec<usize>)> = vec![];
    for (at, plan) in planned.iter().enumerate() {
        let same = |first: &usize| {
            let first = &planned[*first].accumulation;
            first.arguments == plan.accumulation.arguments && first.filter == plan.accumulation.filter
        };
        let place = branches.iter_mut().find(|(first, _)| match first {
            None => !plan.distinct,
            Some(first) => plan.distinct && same(first),
        });
        match place {
            Some((_, members)) => members.push(at),
            None => branches.push((plan.distinct.then_some(at), vec![at])),
        }
    }
    if branches.is_empty() {
        branches.push((None, vec![]));
    }
    let single = branches.len() == 1;
    let mut places = vec![0; planned.len()];
    let mut joined: Option<Node> = None;
    for (distinct, members) in branches {
        let fields = (0..width).chain(members.iter().map(|m| width + m)).map(|i| schema.fields()[i].clone());
        let branch_schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let calls = members.iter().map(|m| planned[*m].accumulation.clone()).collect();
        let branch = match distinct {
            None => grouped(input.clone(), group.clone(), calls, branch_schema),
            Some(_) => of_distinct(input.clone(), &group, calls, branch_schema)?,
        };
        let offset = joined.as_ref().map_or(0, |n| n.schema().fields().len());
        members.iter().enumerate().for_each(|(i, m)| places[*m] = offset + width + i);
        joined = Some(match joined {
            None => branch,
            Some(left) => beside(left, branch, width),
        });
    }
    let node = joined.expect("there is a branch");
    if single {
        return Ok(node);
    }
    let columns = super::map::columns(&node.schema());
    let outputs = (0..width).chain(places).map(|i| columns[i].clone()).collect();
    map(node, vec![], Some(outputs), schema)
}

fn grouped(input: Node, group: Vec<Expr>, aggregates: Vec<Accumulation>, schema: SchemaRef) -> Node {
    let global = group.is_empty();
    Node::Accumulate(Box::new(Accumulate { input, group, aggregates, global, expiry: None, schema }))
}

/// Aggregates of the distinct values of their one argument: groups of the distinct values first.
fn of_distinct(input: Node, group: &[Expr], calls: Vec<Accumulation>, schema: SchemaRef) -> Result<Node> {
    let mut value = calls[0].arguments[0].clone();
    if let Some(filter) = &calls[0].filter {
        // A row that does not count is null, which no such aggregate counts; its group stays.
        value = expressions::case(None, vec![(filter.clone(), value)], None)?;
    }
    let kind = value.data_type(&input.schema())?;
    let width = group.len();
    let mut fields = schema.fields()[..width].to_vec();
    fields.push(Arc::new(Field::new("value", kind, true)));
    let keys = group.iter().cloned().chain([value]).collect();
    let distinct = Accumulate {
        input,
        group: keys,
        aggregates: vec![],
        global: false,
        expiry: None,
        schema: Arc::new(Schema::new(fields)),
    };
    let columns = super::map::columns(&distinct.schema);
    let argument: Expr = Arc::new(Column::new("value", width));
    let aggregates =
        calls.into_iter().map(|call| Accumulation { arguments: vec![argument.clone()], filter: None, ..call });
    let aggregates = aggregates.collect();
    Ok(grouped(Node::Accumulate(Box::new(distinct)), columns[..width].to_vec(), aggregates, schema))
}

fn beside(left: Node, right: Node, width: usize) -> Node {
    let (left_schema, right_schema) = (left.schema(), right.schema());
    let fields = left_schema.fields().iter().chain(right_schema.fields()).cloned();
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let left_keys = super::map::columns(&left_schema)[..width].to_vec();
    let right_keys = super::map::columns(&right_schema)[..width].to_vec();
    let (kind, residual) = (JoinKind::Inner, None);
    Node::Join(Box::new(Join { left, right, kind, left_keys, right_keys, null_equal: true, residual, schema }))
}
