//! `AT TIME ZONE`, as PostgreSQL has it: a moment becomes what the clocks of the zone show, a timestamp without time
//! zone, and what the clocks of the zone show becomes the moment.
//!
//! A local time becomes a moment on every day: one that occurs twice, as the clocks go back, is the second; one that
//! does not occur, as they go forward, is counted on from before.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::array::timezone::Tz;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::error::refuse;

/// What `AT TIME ZONE` calls, with the zone before the time.
pub(crate) const TIMEZONE: &str = "timezone";

/// `timezone(zone, time)`
pub(super) fn timezone() -> ScalarUDF {
    ScalarUDF::from(Zoned { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Zoned {
    signature: Signature,
}

fn moments() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

const LOCAL: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn zone_of(value: Option<&ScalarValue>) -> Result<Tz> {
    let name = value.and_then(|value| value.try_as_str().flatten());
    name.and_then(|name| name.parse().ok()).ok_or_else(|| {
        let said = name.map(|name| format!("'{name}' ")).unwrap_or_default();
        refuse(
            format!("AT TIME ZONE {said}names no time zone"),
            "name one as the tz database does, as in AT TIME ZONE 'Europe/Paris'",
            "zone",
        )
    })
}

impl ScalarUDFImpl for Zoned {
    fn name(&self) -> &str {
        TIMEZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [_, DataType::Timestamp(_, None)] => Ok(vec![DataType::Utf8, LOCAL]),
            [_, DataType::Timestamp(..) | DataType::Date32 | DataType::Utf8 | DataType::Null] => {
                Ok(vec![DataType::Utf8, moments()])
            }
            _ => Err(DataFusionError::Plan("AT TIME ZONE follows a timestamp".to_owned())),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match &arguments[1] {
            DataType::Timestamp(_, None) => moments(),
            _ => LOCAL,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        zone_of(args.scalar_arguments[0])?;
        let kinds: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&kinds)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match &args.args[0] {
            ColumnarValue::Scalar(zone) => zone_of(Some(zone))?,
            ColumnarValue::Array(_) => zone_of(None)?,
        };
        let times = args.args[1].to_array(args.number_rows)?;
        let to_moments = matches!(times.data_type(), DataType::Timestamp(_, None));
        let times = cast(&times, &if to_moments { LOCAL } else { moments() })?;
        let convert = if to_moments { moment } else { local };
        let converted =
            times.as_primitive::<TimestampMicrosecondType>().try_unary::<_, TimestampMicrosecondType, _>(|micros| {
                convert(micros, &zone).ok_or_else(|| DataFusionError::Execution("timestamp out of range".into()))
            })?;
        let converted = if to_moments { converted.with_timezone("UTC") } else { converted.with_data_type(LOCAL) };
        Ok(ColumnarValue::Array(Arc::new(converted)))
    }
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(micros)?.naive_utc())
}

fn micros_of(offset: &impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * 1_000_000
}

/// What the clocks of `zone` show at the moment `micros` since 1970; none where the calendar does not reach.
fn local(micros: i64, zone: &Tz) -> Option<i64> {
    micros.checked_add(micros_of(&zone.offset_from_utc_datetime(&naive(micros)?)))
}

/// The moment of `micros` since 1970 on the clocks of `zone`.
fn moment(micros: i64, zone: &Tz) -> Option<i64> {
    let local = naive(micros)?;
    let offset = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
        LocalResult::None => {
            zone.offset_from_local_datetime(&local.checked_sub_signed(TimeDelta::days(1))?).latest()?
        }
    };
    micros.checked_sub(micros_of(&offset))
}
