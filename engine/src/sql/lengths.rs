//! Functions that make long text of a number: `repeat`, `lpad` and `rpad`, with a limit.
//!
//! A row that asks for more fails by itself, before any memory is taken, so that no input holds up a worker.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Bytes of one value.
const MAX_VALUE: i64 = 16 << 20;

/// Bytes of all the values of a batch; one that has more is computed in parts.
const MAX_BATCH: i64 = 256 << 20;

/// `function` within the limits, if it is one that needs them.
pub(super) fn limited(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "repeat" | "lpad" | "rpad" => Arc::new(ScalarUDF::from(Limited { inner: function })),
        _ => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    inner: Arc<ScalarUDF>,
}

impl Limited {
    /// The bytes that the values of a batch will have at most.
    fn check(&self, arguments: &ScalarFunctionArgs) -> Result<()> {
        let [text, number, ..] = arguments.args.as_slice() else { return Ok(()) };
        let whole = |value: &ColumnarValue| value.clone().into_array(arguments.number_rows);
        let numbers = cast(&whole(number)?, &DataType::Int64)?;
        let lengths = cast(&length(&whole(text)?)?, &DataType::Int64)?;
        let mut sum = 0i64;
        for (number, length) in numbers.as_primitive::<Int64Type>().iter().zip(lengths.as_primitive::<Int64Type>()) {
            let (Some(number), Some(length)) = (number, length) else { continue };
            let bytes = match self.inner.name() {
                "repeat" => number.max(0).saturating_mul(length),
                _ => number.max(0),
            };
            sum = sum.saturating_add(bytes);
            if bytes > MAX_VALUE || sum > MAX_BATCH {
                return Err(DataFusionError::Execution(format!("{}: requested length too large", self.inner.name())));
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Limited {
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

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut arguments = arguments;
        self.check(&arguments)?;
        if let Some(number) = arguments.args.get_mut(1) {
            *number = ColumnarValue::Array(not_negative(number, arguments.number_rows)?);
        }
        self.inner.invoke_with_args(arguments)
    }
}

/// Below nothing is nothing: DataFusion's own pads fail at it.
fn not_negative(number: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    let numbers = number.clone().into_array(rows)?;
    let raised: Int64Array = cast(&numbers, &DataType::Int64)?.as_primitive::<Int64Type>().unary(|n| n.max(0));
    Ok(cast(&raised, numbers.data_type())?)
}
