//! Arithmetic that fails where its result does not fit or there is none, as PostgreSQL's does. DataFusion's own wraps
//! integers around, and divides floats by zero.
//!
//! A rule of the analyzer puts functions in the place of operators, so that both executions, constants and the
//! arguments of aggregates and windows are checked. Where a view computes columns, they become expressions again,
//! which read as they were written.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::kernels::numeric::{add, div, mul, neg, rem, sub};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::expressions::{self, NegativeExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::datum::apply;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Plus,
    Minus,
    Times,
    Quotient,
    Remainder,
    Negative,
}

impl Operation {
    const ALL: [Operation; 6] = [
        Operation::Plus,
        Operation::Minus,
        Operation::Times,
        Operation::Quotient,
        Operation::Remainder,
        Operation::Negative,
    ];

    /// The operation that `op` of two values of type `kind` is, if DataFusion's own does not fail where it should.
    fn of(op: Operator, kind: &DataType) -> Option<Self> {
        Some(match op {
            Operator::Plus if kind.is_integer() => Operation::Plus,
            Operator::Minus if kind.is_integer() => Operation::Minus,
            Operator::Multiply if kind.is_integer() => Operation::Times,
            Operator::Divide if is_float(kind) => Operation::Quotient,
            Operator::Modulo if is_float(kind) => Operation::Remainder,
            _ => return None,
        })
    }

    /// As it is written between two values.
    fn operator(self) -> Operator {
        match self {
            Operation::Plus => Operator::Plus,
            Operation::Minus | Operation::Negative => Operator::Minus,
            Operation::Times => Operator::Multiply,
            Operation::Quotient => Operator::Divide,
            Operation::Remainder => Operator::Modulo,
        }
    }

    /// Of arguments of one type.
    fn compute(self, arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
        let [left, right] = match arguments {
            [one] => [one, one],
            [left, right] => [left, right],
            _ => return Err(DataFusionError::Internal("arithmetic has one or two arguments".to_owned())),
        };
        let result = match self {
            Operation::Plus => apply(left, right, add)?,
            Operation::Minus => apply(left, right, sub)?,
            Operation::Times => apply(left, right, mul)?,
            Operation::Quotient => apply(left, right, div)?,
            Operation::Remainder => apply(left, right, rem)?,
            Operation::Negative => apply(left, right, |one, _| neg(one.get().0))?,
        };
        if matches!(self, Operation::Quotient | Operation::Remainder) {
            check_finite(left, right, &result)?;
        }
        Ok(result)
    }
}

fn is_float(kind: &DataType) -> bool {
    matches!(kind, DataType::Float32 | DataType::Float64)
}

/// Whether all values are finite, null or not.
pub(super) fn all_finite(values: &dyn Array) -> bool {
    match values.data_type() {
        DataType::Float64 => values.as_primitive::<Float64Type>().values().iter().all(|v| v.is_finite()),
        DataType::Float32 => values.as_primitive::<Float32Type>().values().iter().all(|v| v.is_finite()),
        _ => true,
    }
}

/// A quotient that is not finite has a reason.
fn check_finite(left: &ColumnarValue, right: &ColumnarValue, result: &ColumnarValue) -> Result<()> {
    let rows = [left, right, result].iter().find_map(|v| match v {
        ColumnarValue::Array(values) => Some(values.len()),
        ColumnarValue::Scalar(_) => None,
    });
    let rows = rows.unwrap_or(1);
    let result = result.to_array(rows)?;
    if all_finite(&result) {
        return Ok(());
    }
    let floats = |value: &ColumnarValue| arrow::compute::cast(&value.to_array(rows)?, &DataType::Float64);
    let (left, right, result) = (floats(left)?, floats(right)?, arrow::compute::cast(&result, &DataType::Float64)?);
    let [left, right, result] = [&left, &right, &result].map(|values| values.as_primitive::<Float64Type>());
    for row in (0..rows).filter(|row| result.is_valid(*row) && !result.value(*row).is_finite()) {
        if right.value(row) == 0.0 && !left.value(row).is_nan() {
            return Err(ArrowError::DivideByZero.into());
        }
        if result.value(row).is_infinite() && left.value(row).is_finite() {
            return Err(overflow());
        }
    }
    Ok(())
}

pub(super) fn overflow() -> DataFusionError {
    DataFusionError::Execution("value out of range: overflow".to_owned())
}

/// Puts checked functions in the place of operators. To be applied when operands are of one type.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|e| checked(e, &schema))?;
                Ok(changed.update_data(|e| name.restore(e)))
            })
        })
        .data()
    }
}

fn checked(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let kind = |e: &Expr| type_of(e, schema);
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let kinds = kind(&left).zip(kind(&right)).filter(|(left, right)| left == right);
            match kinds.and_then(|(kind, _)| Operation::of(op, &kind)) {
                Some(operation) => Transformed::yes(call(operation, vec![*left, *right])),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        Expr::Negative(inner) if kind(&inner).is_some_and(|kind| kind.is_integer()) => {
            Transformed::yes(call(Operation::Negative, vec![*inner]))
        }
        other => Transformed::no(other),
    })
}

/// The type of an operation is that of its arguments, which takes DataFusion long to find out of a long chain.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    let mut expr = expr;
    while let Expr::ScalarFunction(function) = expr
        && function.func.inner().is::<Checked>()
    {
        expr = &function.args[0];
    }
    expr.get_type(schema).ok()
}

fn call(operation: Operation, arguments: Vec<Expr>) -> Expr {
    static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> =
        LazyLock::new(|| Operation::ALL.iter().map(|o| Arc::new(ScalarUDF::from(Checked::new(*o)))).collect());
    FUNCTIONS[operation as usize].call(arguments)
}

/// An operation as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    fn new(operation: Operation) -> Self {
        Checked { operation, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn written(&self, names: &[String]) -> String {
        match names {
            [left, right] => format!("{left} {} {right}", self.operation.operator()),
            names => format!("(- {})", names.join(", ")),
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Plus => "plus",
            Operation::Minus => "minus",
            Operation::Times => "times",
            Operation::Quotient => "quotient",
            Operation::Remainder => "remainder",
            Operation::Negative => "negative",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(self.written(&arguments.iter().map(|a| a.schema_name().to_string()).collect::<Vec<_>>()))
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(self.written(&arguments.iter().map(Expr::to_string).collect::<Vec<_>>()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.operation.compute(&args.args)
    }
}

/// `expr`, of columns of `schema`, with operators in the place of functions again, all of them checked.
pub(super) fn operators(expr: velib_operators::Expr, schema: &Schema) -> Result<velib_operators::Expr> {
    expr.transform_up(|e| {
        let (operation, children) = if let Some(binary) = e.downcast_ref::<expressions::BinaryExpr>() {
            let (left, right) = (binary.left(), binary.right());
            let kind = left.data_type(schema)?;
            let same = right.data_type(schema)? == kind;
            (Operation::of(*binary.op(), &kind).filter(|_| same), vec![left.clone(), right.clone()])
        } else if let Some(negative) = e.downcast_ref::<NegativeExpr>() {
            let integer = negative.arg().data_type(schema)?.is_integer();
            (integer.then_some(Operation::Negative), vec![negative.arg().clone()])
        } else if let Some(function) = e.downcast_ref::<ScalarFunctionExpr>() {
            let checked = function.fun().inner().downcast_ref::<Checked>();
            (checked.map(|c| c.operation), function.args().to_vec())
        } else {
            (None, vec![])
        };
        let Some(operation) = operation else { return Ok(Transformed::no(e)) };
        Ok(Transformed::yes(match (operation, children.as_slice()) {
            (Operation::Plus | Operation::Minus | Operation::Times, [left, right]) => {
                let binary = expressions::BinaryExpr::new(left.clone(), operation.operator(), right.clone());
                Arc::new(binary.with_fail_on_overflow(true)) as velib_operators::Expr
            }
            _ => Arc::new(CheckedExpr { operation, children }),
        }))
    })
    .data()
}

/// An operation that DataFusion has no checked expression for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedExpr {
    operation: Operation,
    children: Vec<velib_operators::Expr>,
}

impl fmt::Display for CheckedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_sql(f)
    }
}

impl PhysicalExpr for CheckedExpr {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.children[0].data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.children.iter().try_fold(false, |any, child| Ok(any || child.nullable(schema)?))
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.children.iter().map(|child| child.evaluate(rows)).collect::<Result<Vec<_>>>()?;
        self.operation.compute(&values)
    }

    fn children(&self) -> Vec<&velib_operators::Expr> {
        self.children.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<velib_operators::Expr>) -> Result<velib_operators::Expr> {
        Ok(Arc::new(CheckedExpr { operation: self.operation, children }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.children.as_slice() {
            [left, right] => {
                expressions::BinaryExpr::new(left.clone(), self.operation.operator(), right.clone()).fmt_sql(f)
            }
            children => children.iter().try_for_each(|child| NegativeExpr::new(child.clone()).fmt_sql(f)),
        }
    }
}
