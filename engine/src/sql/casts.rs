//! Casts that a query writes, as PostgreSQL makes them where Arrow makes others: a float or a decimal becomes an
//! integer by rounding, where Arrow cuts it off. Of a float, halves go to the even neighbour.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Makes casts those of PostgreSQL. To be applied before any other rule adds casts of its own.
#[derive(Debug)]
pub(crate) struct Casts;

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|e| as_postgresql(e, &schema))?;
                Ok(changed.update_data(|e| name.restore(e)))
            })
        })
        .data()
    }
}

fn as_postgresql(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
    // What has no type yet has one that its neighbours decide: no float of its own.
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
    let inner = inner.as_ref().clone();
    let replaced = match (&from, field.data_type()) {
        (DataType::Float32 | DataType::Float64, to) if to.is_integer() => {
            cast_to(ScalarUDF::from(Rint::new()).call(vec![inner]), to)
        }
        (DataType::Decimal128(precision, scale), to) if to.is_integer() && *scale > 0 => {
            // One digit more: 9.9 is 10.
            let whole = DataType::Decimal128((precision + 1).min(38), 0);
            cast_to(cast_to(inner, &whole), to)
        }
        _ => return Ok(Transformed::no(expr)),
    };
    Ok(Transformed::yes(replaced))
}

fn cast_to(expr: Expr, to: &DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to.clone()))
}

/// The nearest whole number, of two the even one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rint {
    signature: Signature,
}

impl Rint {
    fn new() -> Self {
        Rint { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Rint {
    fn name(&self) -> &str {
        "rint"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let rounded: ArrayRef = match values.data_type() {
            DataType::Float32 => {
                Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even))
            }
            _ => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even)),
        };
        Ok(ColumnarValue::Array(rounded))
    }
}
