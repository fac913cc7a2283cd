//! What `WITH (…)` of a materialized view says, held to the columns of the view.

use arrow::datatypes::{DataType, Schema};

use super::bind::column_of;
use super::error::SqlError;
use super::statement::{Statement, ViewOptions};
use crate::plan::{Metrics, Retain};

/// `retain` and `retain_column`.
pub(super) fn retain(
    statement: &Statement,
    view: &str,
    schema: &Schema,
    options: &ViewOptions,
) -> Result<Option<Retain>, SqlError> {
    let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(..));
    let Some(after_ms) = options.retain_ms else {
        return match &options.retain_column {
            None => Ok(None),
            Some(column) => Err(statement.error_at(
                "retain_column",
                format!("view {view} names {column} as retain_column, but does not say how long to retain"),
                Some("add retain = '2 days'".to_owned()),
            )),
        };
    };
    let column = match &options.retain_column {
        Some(column) => column_of(statement, schema, view, column)?,
        None => {
            let times: Vec<usize> =
                (0..schema.fields().len()).filter(|i| is_time(schema.field(*i).data_type())).collect();
            let [column] = times.as_slice() else {
                return Err(statement.error_at(
                    "retain",
                    format!(
                        "view {view} has {} timestamp columns, so which one tells a row's age is open",
                        times.len()
                    ),
                    Some("name it with retain_column = '…'".to_owned()),
                ));
            };
            *column
        }
    };
    if !is_time(schema.field(column).data_type()) {
        return Err(statement.error_at(
            "retain_column",
            format!(
                "column {} of {view} is no timestamp, so it does not tell a row's age",
                schema.field(column).name()
            ),
            None,
        ));
    }
    Ok(Some(Retain { column, after_ms }))
}

/// `metrics` and `metrics_name`.
pub(super) fn metrics(
    statement: &Statement,
    view: &str,
    schema: &Schema,
    key: &[usize],
    options: &ViewOptions,
) -> Result<Option<Metrics>, SqlError> {
    let Some(columns) = &options.metrics else {
        return match &options.metrics_name {
            None => Ok(None),
            Some(_) => Err(statement.error_at(
                "metrics_name",
                format!("view {view} names its rows for metrics, but does not say which columns are shown"),
                Some("add metrics = 'column, column'".to_owned()),
            )),
        };
    };
    let column = |name: &String| column_of(statement, schema, view, name);
    let columns: Vec<usize> = columns.iter().map(column).collect::<Result<_, _>>()?;
    let refuse = |reason: String, remedy: &str| {
        Err(statement.error_at("metrics", format!("view {view} {reason}"), Some(remedy.to_owned())))
    };
    let shown = |kind: &DataType| kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Timestamp(..));
    if let Some(column) = columns.iter().find(|i| !shown(schema.field(**i).data_type())) {
        let reason = format!("has a column {} that is no number, time or truth value", schema.field(*column).name());
        return refuse(reason, "show what can be drawn; metrics_name = 'column' names the rows");
    }
    if key.is_empty() {
        return refuse("has no key, by which metrics are told apart".to_owned(), "add key = 'column'");
    }
    if options.retain_ms.is_some() {
        return refuse(
            "keeps rows that have left memory, which metrics cannot show".to_owned(),
            "show a view over it that holds few rows",
        );
    }
    Ok(Some(Metrics { columns, name: options.metrics_name.as_ref().map(column).transpose()? }))
}
