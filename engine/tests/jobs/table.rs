//! Tables as text: of cases, of PostgreSQL.

use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Digits after the point that floats are told with.
const DIGITS: u32 = 6;
/// How far floats of two executions may be apart: half a unit of the last digit, twice.
const TOLERANCE: f64 = 1.1e-6;

/// Columns and rows. A null is an empty text.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// Their names.
    pub columns: Vec<String>,
    /// In order.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Lines of cells; the first has the names.
    pub fn parse(text: &str) -> Table {
        let cells = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let columns = lines.next().map(cells).unwrap_or_default();
        Table { columns, rows: lines.map(cells).collect() }
    }

    /// The answer to a query, ordered by all of its columns.
    pub async fn read(client: &Client, sql: &str) -> Table {
        let sql = sql.trim().trim_end_matches(';');
        let statement = client.prepare(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
        let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        let texts = statement.columns().iter().map(|column| {
            let name = format!("\"{}\"", column.name());
            let text = match *column.type_() {
                Type::FLOAT8 | Type::FLOAT4 | Type::NUMERIC => format!("trim_scale(round({name}::numeric, {DIGITS}))"),
                // 25 hours and a day and an hour are equal.
                Type::INTERVAL => format!("justify_hours({name})"),
                _ => name,
            };
            format!("coalesce({text}::text, '')")
        });
        let texts = texts.collect::<Vec<_>>().join(", ");
        let rows = client.query(&format!("SELECT {texts} FROM ({sql}\n) AS answer"), &[]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
        let mut rows: Vec<Vec<String>> =
            rows.iter().map(|row| (0..columns.len()).map(|i| row.get(i)).collect()).collect();
        rows.sort();
        Table { columns, rows }
    }

    /// The first rows that differ, and how many there are.
    pub fn difference(&self, expected: &Table) -> Option<String> {
        if self.rows.len() != expected.rows.len() {
            let first = |a: &Table, b: &Table| a.rows.iter().find(|row| !b.rows.contains(row)).cloned();
            return Some(format!(
                "{} rows instead of {}; only here {:?}, only there {:?}",
                self.rows.len(),
                expected.rows.len(),
                first(self, expected),
                first(expected, self)
            ));
        }
        let differ = |(a, b): &(&Vec<String>, &Vec<String>)| a.iter().zip(*b).any(|(a, b)| !near(a, b));
        let wrong: Vec<_> = self.rows.iter().zip(&expected.rows).filter(differ).collect();
        let (actual, expected) = wrong.first()?;
        Some(format!("{} of {} rows differ; {actual:?} instead of {expected:?}", wrong.len(), self.rows.len()))
    }
}

fn near(a: &str, b: &str) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE.max(a.abs() * 1e-12);
    a == b || matches!((a.parse(), b.parse()), (Ok(a), Ok(b)) if a != b && a_is_fraction(a, b) && close(a, b))
}

/// Whole numbers are counts and ids, which are equal or not.
fn a_is_fraction(a: f64, b: f64) -> bool {
    a.fract() != 0.0 || b.fract() != 0.0
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.columns.join(","))?;
        self.rows.iter().try_for_each(|row| write!(f, "\n{}", row.join(",")))
    }
}
