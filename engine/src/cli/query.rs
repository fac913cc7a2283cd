//! `velib query`: a one-off question over the tables that the jobs keep.
//!
//! The database answers it in a read-only transaction. What the values are is asked first, so that numbers
//! are numbers in JSON; then the rows come as PostgreSQL writes them, one at a time.

use std::pin::pin;

use anyhow::Result;
use futures::TryStreamExt;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::Format;
use super::print::{Cell, Side, Stream, Table, Tone, counted, csv_row};
use crate::postgres::{PostgresError, connect};
use crate::sql::{Place, SqlError};

/// A table is laid out when all its rows are there: more than this many are not shown as one.
const TABLE_ROWS: usize = 10_000;
/// Rows are written when there are so many bytes of them.
const WRITE_BYTES: usize = 1 << 16;

/// Ask PostgreSQL a question over the tables of the jobs.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib query 'SELECT area, bikes FROM occupancy.area_now ORDER BY bikes DESC LIMIT 5'
  velib query 'TABLE velib.frontier' --output json
  velib query 'SELECT * FROM occupancy.station_hour' --output csv > hours.csv")]
pub struct Args {
    /// A query, in PostgreSQL's SQL. It cannot change anything.
    sql: String,
    /// The database with the results.
    #[arg(long, env = "VELIB_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let client = connect(&args.database_url, "velib query").await?;
    client.batch_execute("SET default_transaction_read_only = on").await.map_err(PostgresError::from)?;
    let columns = columns(&client, &args.sql).await?;
    let mut printer = Printer::new(format, columns);
    let answered = async {
        let mut messages = pin!(client.simple_query_raw(&args.sql).await?);
        while let Some(message) = messages.try_next().await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    printer.begin(columns.iter().map(|column| column.name().to_string()).collect());
                }
                SimpleQueryMessage::Row(row) => printer.row(&row),
                _ => {}
            }
        }
        Ok(())
    };
    answered.await.map_err(|error| refusal(&args.sql, error))?;
    printer.end();
    Ok(())
}

/// The types of the columns; none for several statements at once, whose values are all taken as text.
async fn columns(client: &Client, sql: &str) -> Result<Vec<Type>> {
    match client.prepare(sql).await {
        Ok(statement) => Ok(statement.columns().iter().map(|column| column.type_().clone()).collect()),
        Err(error) => {
            let several = error.as_db_error().is_some_and(|error| error.message().contains("multiple commands"));
            if several { Ok(vec![]) } else { Err(refusal(sql, error)) }
        }
    }
}

/// The error with its place in the query, where PostgreSQL tells it.
fn refusal(sql: &str, error: tokio_postgres::Error) -> anyhow::Error {
    let Some(refused) = error.as_db_error() else { return PostgresError::from(error).into() };
    let place = match refused.position() {
        Some(ErrorPosition::Original(position)) => place(sql, *position as usize),
        _ => Place::default(),
    };
    let read_only = refused.code().code() == "25006";
    let remedy = if read_only { Some("velib query only reads; use psql to change things") } else { refused.hint() };
    let mut message = refused.message().to_string();
    if let Some(detail) = refused.detail() {
        message = format!("{message}: {detail}");
    }
    SqlError::new(message, remedy.map(str::to_string)).at(sql, place).into()
}

/// The line and column of a character of `sql`, counted from 1, and how long the word there is.
fn place(sql: &str, position: usize) -> Place {
    let before: String = sql.chars().take(position.saturating_sub(1)).collect();
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    let rest = sql.chars().skip(position.saturating_sub(1));
    let width = rest.take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.')).count();
    Place { line: before.matches('\n').count() + 1, column, width }
}

/// Writes rows as they come, or lays them out at the end.
struct Printer {
    format: Format,
    types: Vec<Type>,
    heads: Vec<String>,
    table: Table,
    rows: usize,
    /// Not written yet.
    waiting: String,
}

impl Printer {
    fn new(format: Format, types: Vec<Type>) -> Self {
        Printer { format, types, heads: vec![], table: Table::default(), rows: 0, waiting: String::new() }
    }

    fn kind(&self, column: usize) -> Type {
        self.types.get(column).cloned().unwrap_or(Type::TEXT)
    }

    fn begin(&mut self, heads: Vec<String>) {
        self.end();
        self.rows = 0;
        match self.format {
            Format::Table => {
                let sides = (0..heads.len()).map(|column| match is_number(&self.kind(column)) {
                    true => Side::Right,
                    false => Side::Left,
                });
                self.table = Table::new(heads.iter().cloned().zip(sides));
            }
            Format::Csv => self.write(&csv_row(heads.iter().map(|head| Some(head.as_str())))),
            Format::Json => {}
        }
        self.heads = heads;
    }

    fn row(&mut self, row: &SimpleQueryRow) {
        self.rows += 1;
        let cells = || (0..row.len()).map(|column| row.get(column));
        match self.format {
            Format::Table if self.rows <= TABLE_ROWS => {
                let cells = cells().map(|cell| match cell {
                    Some(text) => text.into(),
                    None => Cell::toned(Tone::Faint, "∅"),
                });
                self.table.push(cells.collect());
            }
            Format::Table => {}
            Format::Csv => self.write(&csv_row(cells())),
            Format::Json => {
                let fields = self.heads.iter().zip(cells()).enumerate().map(|(column, (head, cell))| {
                    let value = cell.map_or_else(|| "null".to_string(), |cell| value(&self.kind(column), cell));
                    format!("{}:{value}", quoted(head))
                });
                let object = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
                self.write(&format!("{}{object}", if self.rows == 1 { "[" } else { ",\n " }));
            }
        }
    }

    fn end(&mut self) {
        if self.heads.is_empty() {
            return;
        }
        let (out, err) = (Stream::Out, Stream::Err);
        match self.format {
            Format::Json => self.write(if self.rows == 0 { "[]\n" } else { "]\n" }),
            Format::Csv => {}
            Format::Table => {
                out.text(&self.table.text(out.is_coloured()));
                if self.rows > TABLE_ROWS {
                    let more = counted(self.rows - TABLE_ROWS, "more row");
                    err.line(&format!("and {more}, not shown: --output csv or json shows all"));
                } else if out.is_terminal() {
                    err.line(&err.paint(Tone::Faint, &format!("({})", counted(self.rows, "row"))));
                }
            }
        }
        self.heads.clear();
        out.text(&std::mem::take(&mut self.waiting));
    }

    fn write(&mut self, text: &str) {
        self.waiting.push_str(text);
        if self.waiting.len() > WRITE_BYTES {
            Stream::Out.text(&std::mem::take(&mut self.waiting));
        }
    }
}

fn is_number(kind: &Type) -> bool {
    matches!(*kind, Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC | Type::OID)
}

/// A value as JSON. What JSON has no number for (NaN) is a string.
fn value(kind: &Type, text: &str) -> String {
    match *kind {
        Type::BOOL => if text == "t" { "true" } else { "false" }.to_string(),
        Type::JSON | Type::JSONB => text.to_string(),
        _ if is_number(kind) && serde_json::from_str::<serde_json::Number>(text).is_ok() => text.to_string(),
        _ => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_are() {
        for (kind, text, json) in [
            (Type::INT8, "12", "12"),
            (Type::NUMERIC, "0.50", "0.50"),
            (Type::FLOAT8, "NaN", "\"NaN\""),
            (Type::BOOL, "f", "false"),
            (Type::TEXT, "a\"b", "\"a\\\"b\""),
            (Type::JSONB, "{\"a\": 1}", "{\"a\": 1}"),
        ] {
            assert_eq!(value(&kind, text), json, "{kind} {text}");
        }
    }

    #[test]
    fn places_are_counted_in_letters() {
        let place = place("SELECT 'é',\n  bikez FROM x", 15);
        assert_eq!((place.line, place.column, place.width), (2, 3, 5));
    }
}
