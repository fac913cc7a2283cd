//! Functions of numbers that have no value everywhere: `ln(0)` is an error, as in PostgreSQL, and not minus infinity.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::arithmetic::{all_finite, overflow};

/// `function` with an error where it has no value, if there are such places.
pub(super) fn within_domain(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "ln" | "log" | "log10" | "log2" | "power" | "exp" | "acos" | "asin" | "acosh" | "atanh" | "cosh" | "sinh"
        | "cot" | "sqrt" => Arc::new(ScalarUDF::from(Domain { inner: function })),
        _ => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Domain {
    inner: Arc<ScalarUDF>,
}

impl Domain {
    /// Why the function of finite arguments is not finite.
    fn reason(&self, arguments: &[f64]) -> DataFusionError {
        let last = arguments.last().copied().unwrap_or_default();
        let message = match self.inner.name() {
            "ln" | "log" | "log10" | "log2" if last == 0.0 => "cannot take logarithm of zero",
            "ln" | "log" | "log10" | "log2" if last < 0.0 => "cannot take logarithm of a negative number",
            "log" | "cot" => "division by zero",
            "sqrt" => "cannot take square root of a negative number",
            "power" if arguments[0] == 0.0 => "zero raised to a negative power is undefined",
            "power" if arguments[0] < 0.0 && last.fract() != 0.0 => {
                "a negative number raised to a non-integer power yields a complex result"
            }
            "acos" | "asin" | "acosh" | "atanh" => "input is out of range",
            _ => return overflow(),
        };
        DataFusionError::Execution(message.to_owned())
    }

    fn check(&self, arguments: &[ColumnarValue], rows: usize, result: &ColumnarValue) -> Result<()> {
        let whole = |value: &ColumnarValue| value.to_array(rows);
        let result = whole(result)?;
        if all_finite(&result) {
            return Ok(());
        }
        let floats = |values: &ArrayRef| cast(values, &DataType::Float64);
        let result = floats(&result)?;
        let arguments = arguments.iter().map(|a| Ok(floats(&whole(a)?)?)).collect::<Result<Vec<_>>>()?;
        for row in (0..rows).filter(|row| result.is_valid(*row)) {
            let given: Vec<f64> = arguments.iter().map(|a| a.as_primitive::<Float64Type>().value(row)).collect();
            let value = result.as_primitive::<Float64Type>().value(row);
            if !value.is_finite() && given.iter().all(|a| a.is_finite()) {
                return Err(self.reason(&given));
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Domain {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (arguments, rows) = (args.args.clone(), args.number_rows);
        let result = self.inner.invoke_with_args(args)?;
        self.check(&arguments, rows, &result)?;
        Ok(result)
    }
}
