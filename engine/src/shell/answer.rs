//! What a statement came to, for people and for programs.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::Value;

use super::{ShellError, text};

/// The result of a statement.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The rows of a query.
    pub rows: Option<RecordBatch>,
    /// How many rows an `INSERT`, `UPDATE` or `DELETE` changed.
    pub affected: Option<usize>,
}

impl Answer {
    pub(super) fn done() -> Self {
        Answer { rows: None, affected: None }
    }

    pub(super) fn affected(count: usize) -> Self {
        Answer { rows: None, affected: Some(count) }
    }

    pub(super) fn rows(rows: RecordBatch) -> Self {
        Answer { rows: Some(rows), affected: None }
    }

    pub(super) fn columns(columns: &[(&str, ArrayRef)]) -> Self {
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let len = columns.first().map_or(0, |(_, column)| column.len());
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let columns = columns.iter().map(|(_, column)| column.clone()).collect();
        Answer::rows(RecordBatch::try_new_with_options(schema, columns, &options).expect("columns of one length"))
    }

    /// The rows as text, null where they are null.
    pub fn texts(&self) -> Vec<Vec<Option<String>>> {
        let Some(rows) = &self.rows else { return vec![] };
        (0..rows.num_rows()).map(|row| rows.columns().iter().map(|c| text::value(c, row)).collect()).collect()
    }

    /// The columns: name and type, as PostgreSQL names it.
    pub fn header(&self) -> Vec<(String, String)> {
        let Some(rows) = &self.rows else { return vec![] };
        rows.schema().fields().iter().map(|f| (f.name().clone(), text::type_name(f.data_type()))).collect()
    }

    /// A table with a header, as `psql` prints it.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let header = self.header();
        if self.rows.is_none() {
            let changed = |count| format!("{count} row{} changed\n", if count == 1 { "" } else { "s" });
            return self.affected.map_or_else(String::new, changed);
        }
        let cells: Vec<Vec<String>> =
            self.texts().into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
        let width = |at: usize| {
            let cells = cells.iter().flat_map(|row| row[at].lines()).map(|line| line.chars().count());
            cells.chain([header[at].0.chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let right: Vec<bool> =
            self.rows.iter().flat_map(|rows| rows.columns()).map(|c| c.data_type().is_numeric()).collect();
        let names: Vec<String> =
            header.iter().zip(&widths).map(|((name, _), width)| format!(" {name:<width$} ")).collect();
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}\n{}", names.join("|").trim_end(), rules.join("+"));
        for row in &cells {
            let cell = |(at, text): (usize, &String)| match right[at] {
                true => format!(" {text:>width$} ", width = widths[at]),
                false => format!(" {text:<width$} ", width = widths[at]),
            };
            let line: Vec<String> = row.iter().enumerate().map(cell).collect();
            let _ = writeln!(out, "{}", line.join("|").trim_end());
        }
        let _ = writeln!(out, "({} row{})", cells.len(), if cells.len() == 1 { "" } else { "s" });
        out
    }

    /// Comma-separated values with a header; null is nothing, an empty text is `""`.
    pub fn csv(&self) -> String {
        if self.rows.is_none() {
            return String::new();
        }
        let quoted = |text: &str| match text.is_empty() || text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_owned(),
        };
        let header = self.header().iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(",");
        let row = |row: Vec<Option<String>>| {
            row.iter().map(|cell| cell.as_deref().map_or_else(String::new, quoted)).collect::<Vec<_>>().join(",")
        };
        let rows = self.texts().into_iter().map(row);
        [header].into_iter().chain(rows).fold(String::new(), |out, line| out + &line + "\n")
    }
}

/// A statement's outcome in one line of JSON.
pub fn json(outcome: &Result<Answer, ShellError>) -> String {
    let answer = outcome.as_ref().ok();
    let columns: Vec<Value> = answer
        .map(Answer::header)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, kind)| serde_json::json!({ "name": name, "type": kind }))
        .collect();
    let mut rows = String::new();
    if let Some(batch) = answer.and_then(|answer| answer.rows.as_ref()) {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch.columns().iter().map(|column| json_value(column, row)).collect();
            let _ = write!(rows, "{}[{}]", if row > 0 { "," } else { "" }, cells.join(","));
        }
    }
    let affected = answer.and_then(|answer| answer.affected);
    let error = outcome.as_ref().err().map(ShellError::message);
    let (columns, affected, error) = (Value::from(columns), Value::from(affected), Value::from(error));
    format!("{{\"columns\":{columns},\"rows\":[{rows}],\"affected\":{affected},\"error\":{error}}}")
}

/// Numbers and booleans as JSON has them, all else as text.
fn json_value(column: &ArrayRef, row: usize) -> String {
    let Some(text) = text::value(column, row) else { return "null".to_owned() };
    match column.data_type() {
        DataType::Boolean => if text == "t" { "true" } else { "false" }.to_owned(),
        kind if kind.is_numeric() && text.ends_with(|c: char| c.is_ascii_digit()) => text,
        _ => Value::from(text).to_string(),
    }
}
