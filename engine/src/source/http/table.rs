//! JSON values become columns: of declared types, or of those that the values suggest.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondBuilder,
};
use chrono_tz::Tz;
use hashbrown::HashSet;
use serde_json::{Map, Value};

use crate::source::declared::{Column, Kind};
use crate::source::{local_time, schema};

/// Unix times beyond this are milliseconds: as seconds they would be the year 5138.
const MILLISECONDS: f64 = 1e11;

/// The rows of a document.
pub(super) enum Rows<'a> {
    /// A list of objects.
    Listed(Vec<&'a Value>),
    /// An object of lists, as long as each other; and how long.
    Columnar(&'a Map<String, Value>, usize),
}

impl<'a> Rows<'a> {
    /// A list of objects, or a single one.
    pub(super) fn listed(found: &'a Value) -> Result<Self, String> {
        match found {
            Value::Array(items) => Ok(Rows::Listed(items.iter().collect())),
            Value::Object(_) => Ok(Rows::Listed(vec![found])),
            _ => Err("where the rows should be is neither a list nor an object".to_owned()),
        }
    }

    /// An object of lists. What is no list in it does not count.
    pub(super) fn columnar(found: &'a Value) -> Result<Self, String> {
        let Value::Object(columns) = found else {
            return Err("where the columns should be is no object".to_owned());
        };
        let mut lengths = columns.iter().filter_map(|(name, values)| Some((name, values.as_array()?.len())));
        let Some((first, len)) = lengths.next() else {
            return Err("where the columns should be is no list".to_owned());
        };
        match lengths.find(|(_, other)| *other != len) {
            Some((name, other)) => Err(format!("{first} has {len} values, and {name} has {other}")),
            None => Ok(Rows::Columnar(columns, len)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Rows::Listed(items) => items.len(),
            Rows::Columnar(_, len) => *len,
        }
    }

    fn cell(&self, row: usize, name: &str) -> &'a Value {
        let found = match self {
            Rows::Listed(items) => items[row].get(name),
            Rows::Columnar(columns, _) => columns.get(name).and_then(|values| values.get(row)),
        };
        found.unwrap_or(&Value::Null)
    }

    /// The columns that the values suggest, by name.
    pub(super) fn infer(&self, zone: Option<Tz>) -> Vec<Column> {
        let names: BTreeSet<&String> = match self {
            Rows::Listed(items) => items.iter().filter_map(|item| item.as_object()).flat_map(Map::keys).collect(),
            Rows::Columnar(columns, _) => columns.iter().filter(|(_, v)| v.is_array()).map(|(name, _)| name).collect(),
        };
        let column = |name: &String| {
            let values = (0..self.len()).map(|row| self.cell(row, name)).filter(|value| !value.is_null());
            Column { name: name.clone(), kind: suggested(values, zone) }
        };
        names.into_iter().map(column).collect()
    }

    /// The table of all rows that fit, and why the others do not.
    pub(super) fn table(
        &self,
        columns: &[Column],
        key: &[usize],
        zone: Option<Tz>,
    ) -> (RecordBatch, Vec<(String, String)>) {
        let mut builders: Vec<_> = columns.iter().map(|column| Builder::new(column.kind, self.len())).collect();
        let (mut refused, mut keys, mut used) = (vec![], HashSet::new(), 0);
        for row in 0..self.len() {
            match self.row(row, columns, key, zone).and_then(|(cells, key)| match key {
                Some(key) if !keys.insert(key.clone()) => {
                    Err(format!("key {key} is there twice; the first one counts"))
                }
                _ => Ok(cells),
            }) {
                Ok(cells) => {
                    builders.iter_mut().zip(cells).for_each(|(builder, cell)| builder.push(cell));
                    used += 1;
                }
                Err(why) => refused.push((format!("row {row}: {why}"), self.sample(row))),
            }
        }
        let columns_of = schema(columns.iter().map(Column::field).collect());
        let arrays = builders.into_iter().map(Builder::finish).collect();
        let rows = RecordBatchOptions::new().with_row_count(Some(used));
        let table = RecordBatch::try_new_with_options(columns_of, arrays, &rows).expect("the columns of the schema");
        (table, refused)
    }

    /// The cells of a row, and its key in writing where there is one.
    fn row(
        &self,
        row: usize,
        columns: &[Column],
        key: &[usize],
        zone: Option<Tz>,
    ) -> Result<(Vec<Cell>, Option<String>), String> {
        if let Rows::Listed(items) = self
            && !items[row].is_object()
        {
            return Err("it is no object".to_owned());
        }
        let cell = |column: &Column| {
            let value = self.cell(row, &column.name);
            Cell::read(value, column.kind, zone).ok_or_else(|| {
                let remedy = match column.kind {
                    Kind::Timestamptz if value.is_string() && zone.is_none() => "; give a time_zone for local times",
                    _ => "; declare the columns if it should be something else",
                };
                format!("{} is {value}, which is no {}{remedy}", column.name, column.kind.name())
            })
        };
        let cells = columns.iter().map(cell).collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = key.iter().find(|at| matches!(cells[**at], Cell::Null)) {
            return Err(format!("its key {} is null", columns[*at].name));
        }
        let written = key.iter().map(|at| format!("{:?}", cells[*at])).collect::<Vec<_>>().join(", ");
        Ok((cells, (!key.is_empty()).then_some(written)))
    }

    fn sample(&self, row: usize) -> String {
        match self {
            Rows::Listed(items) => items[row].to_string(),
            Rows::Columnar(columns, _) => {
                let cell = |(name, values): (&String, &Value)| Some((name.clone(), values.get(row)?.clone()));
                Value::Object(columns.iter().filter_map(cell).collect()).to_string()
            }
        }
    }
}

/// The narrowest type of all values; text where they differ, or where there are none.
fn suggested<'a>(values: impl Iterator<Item = &'a Value>, zone: Option<Tz>) -> Kind {
    let one = |value: &Value| match value {
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) if number.is_i64() => Kind::Bigint,
        Value::Number(_) => Kind::Double,
        Value::String(text) if local_time::parse(text, zone).is_some() => Kind::Timestamptz,
        _ => Kind::Text,
    };
    let together = |a: Kind, b: Kind| match (a, b) {
        (a, b) if a == b => a,
        (Kind::Bigint, Kind::Double) | (Kind::Double, Kind::Bigint) => Kind::Double,
        _ => Kind::Text,
    };
    values.map(one).reduce(together).unwrap_or(Kind::Text)
}

/// A value of the type of its column.
#[derive(Debug)]
enum Cell {
    Null,
    Text(String),
    Bigint(i64),
    Double(f64),
    Boolean(bool),
    /// Microseconds since 1970.
    Instant(i64),
}

impl Cell {
    /// `None` where the value cannot be of the type.
    fn read(value: &Value, kind: Kind, zone: Option<Tz>) -> Option<Self> {
        if value.is_null() {
            return Some(Cell::Null);
        }
        let text = value.as_str().map(str::trim);
        Some(match kind {
            // PostgreSQL cannot store the character NUL.
            Kind::Text => Cell::Text(match value {
                Value::String(text) => text.replace('\0', "\u{fffd}"),
                other => other.to_string(),
            }),
            Kind::Bigint => Cell::Bigint(match text {
                Some(text) => text.parse().ok()?,
                None => value.as_i64().or_else(|| whole(value.as_f64()?))?,
            }),
            Kind::Double => Cell::Double(match text {
                Some(text) => text.parse().ok().filter(|x: &f64| x.is_finite())?,
                None => value.as_f64()?,
            }),
            Kind::Boolean => Cell::Boolean(match (value, text) {
                (Value::Bool(flag), _) => *flag,
                (_, Some("true")) => true,
                (_, Some("false")) => false,
                _ => match value.as_i64()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
            }),
            Kind::Timestamptz => Cell::Instant(match text {
                Some(text) => local_time::parse(text, zone)?.checked_mul(1_000)?,
                None => match value.as_f64()? {
                    ms if ms.abs() >= MILLISECONDS => (ms * 1e3) as i64,
                    seconds => (seconds * 1e6) as i64,
                },
            }),
        })
    }
}

fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0).then_some(x as i64)
}

/// A column that is being filled.
enum Builder {
    Text(StringBuilder),
    Bigint(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Text => Builder::Text(StringBuilder::new()),
            Kind::Bigint => Builder::Bigint(Int64Builder::with_capacity(rows)),
            Kind::Double => Builder::Double(Float64Builder::with_capacity(rows)),
            Kind::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(rows)),
            Kind::Timestamptz => {
                Builder::Instant(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Builder::Text(column), Cell::Text(text)) => column.append_value(text),
            (Builder::Bigint(column), Cell::Bigint(n)) => column.append_value(n),
            (Builder::Double(column), Cell::Double(x)) => column.append_value(x),
            (Builder::Boolean(column), Cell::Boolean(flag)) => column.append_value(flag),
            (Builder::Instant(column), Cell::Instant(us)) => column.append_value(us),
            (Builder::Text(column), _) => column.append_null(),
            (Builder::Bigint(column), _) => column.append_null(),
            (Builder::Double(column), _) => column.append_null(),
            (Builder::Boolean(column), _) => column.append_null(),
            (Builder::Instant(column), _) => column.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Builder::Text(mut column) => Arc::new(column.finish()),
            Builder::Bigint(mut column) => Arc::new(column.finish()),
            Builder::Double(mut column) => Arc::new(column.finish()),
            Builder::Boolean(mut column) => Arc::new(column.finish()),
            Builder::Instant(mut column) => Arc::new(column.finish()),
        }
    }
}
