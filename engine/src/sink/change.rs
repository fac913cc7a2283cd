//! What the changes of a view do to its table: rows to remove, to insert, to put in the place of others.

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use bytes::{BufMut, BytesMut};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};
use velib_operators::Row;

use super::encode::{self, Column, Parameter};
use super::merge;
use super::statement::Kind;
use super::table::{Identity, Table};
use super::types::Type;
use super::{Changes, SinkError};
use crate::plan::View;

/// The most rows of one statement.
const STATEMENT_ROWS: usize = 10_000;
/// About the most bytes of one statement.
const STATEMENT_BYTES: usize = 4 << 20;
/// The bytes of [`ROW`](super::table::ROW).
const HASH: usize = 16;

/// The changes of a view, sorted by what they do. Rows are places in the changes.
pub(super) struct Change {
    columns: Vec<Column>,
    /// What identifies each row: the bytes of its key, or its hash.
    identities: Vec<Row>,
    /// How many copies come or go of each row that is named below, without sign.
    copies: Vec<i64>,
    bytes: usize,
    pub remove: Vec<u32>,
    pub insert: Vec<u32>,
    pub upsert: Vec<u32>,
}

impl Change {
    /// Sorts `changes`, which are settled and fit.
    ///
    /// # Errors
    /// Rows that do not fit the table; two rows of one key.
    pub fn new(view: &View, table: &Table, changes: &Changes) -> Result<Self, SinkError> {
        let malformed = |reason: String| SinkError::Malformed { view: view.name.clone(), reason };
        let batch = &changes.rows;
        if batch.num_columns() != table.width {
            return Err(malformed(format!("{} columns, not {}", batch.num_columns(), table.width)));
        }
        let columns = batch
            .columns()
            .iter()
            .map(Column::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| malformed(e.to_string()))?;
        for (column, wanted) in columns.iter().zip(&table.columns) {
            if column.kind() != wanted.kind {
                return Err(malformed(format!("column {} is {:?}, not {:?}", wanted.name, column.kind(), wanted.kind)));
            }
        }
        let identities = match &table.identity {
            Identity::Columns(key) => {
                merge::encode(batch, key.iter().copied()).map_err(|e| malformed(e.to_string()))?
            }
            Identity::Hash(of) => hashes(&columns, of, batch.num_rows()),
        };
        let mut change = Change {
            columns,
            identities,
            copies: vec![1; batch.num_rows()],
            bytes: batch.get_array_memory_size(),
            remove: vec![],
            insert: vec![],
            upsert: vec![],
        };
        if table.multiplicity {
            change.count(&changes.diffs);
        } else {
            change.pair(view, batch, &changes.diffs)?;
        }
        Ok(change)
    }

    /// Without a key: copies come and go. Rows that differ only in what PostgreSQL does not keep
    /// (nanoseconds) are the same there.
    fn count(&mut self, diffs: &Int64Array) {
        let mut net: HashMap<&Row, (u32, i64), ahash::RandomState> = HashMap::default();
        for ((place, row), diff) in (0..).zip(&self.identities).zip(diffs.values()) {
            net.entry(row).or_insert((place, 0)).1 += diff;
        }
        for (place, diff) in net.into_values().filter(|(_, diff)| *diff != 0) {
            self.copies[place as usize] = diff.abs();
            if diff > 0 { self.upsert.push(place) } else { self.remove.push(place) }
        }
        self.remove.sort_unstable();
        self.upsert.sort_unstable();
    }

    /// With a key: an old row goes, a new one comes, or both.
    fn pair(&mut self, view: &View, batch: &RecordBatch, diffs: &Int64Array) -> Result<(), SinkError> {
        let mut pairs: HashMap<&Row, (Option<u32>, Option<u32>), ahash::RandomState> = HashMap::default();
        for ((place, row), diff) in (0..).zip(&self.identities).zip(diffs.values()) {
            let pair = pairs.entry(row).or_default();
            let side = if *diff > 0 { &mut pair.1 } else { &mut pair.0 };
            let twice = side.replace(place).is_some();
            if *diff > 0 && (twice || *diff > 1) {
                return Err(violated(view, batch, place as usize));
            }
        }
        for pair in pairs.into_values() {
            match pair {
                (Some(_), Some(new)) => self.upsert.push(new),
                // A row that left memory is still in the table when its group comes back.
                (None, Some(new)) if view.retain.is_some() => self.upsert.push(new),
                (None, Some(new)) => self.insert.push(new),
                (Some(old), None) => self.remove.push(old),
                (None, None) => {}
            }
        }
        for list in [&mut self.remove, &mut self.insert, &mut self.upsert] {
            list.sort_unstable();
        }
        Ok(())
    }

    /// How many rows of the table change.
    pub fn rows(&self) -> usize {
        self.remove.len() + self.insert.len() + self.upsert.len()
    }

    /// The statements to run, with the rows of each.
    pub fn steps(&self, table: &Table) -> impl Iterator<Item = (Kind, &[u32])> {
        let fit = STATEMENT_BYTES * self.identities.len() / self.bytes.max(1);
        let most = fit.clamp(1, STATEMENT_ROWS);
        let lessen: &[u32] = if table.multiplicity { &self.remove } else { &[] };
        let lists = [
            (Kind::Remove, &*self.remove),
            (Kind::Lessen, lessen),
            (Kind::Insert, &*self.insert),
            (Kind::Upsert, &*self.upsert),
        ];
        lists.into_iter().flat_map(move |(kind, rows)| rows.chunks(most).map(move |rows| (kind, rows)))
    }

    /// The parameters of a step.
    pub fn parameters(&self, table: &Table, kind: Kind, rows: &[u32]) -> Vec<Parameter> {
        match kind {
            Kind::Remove | Kind::Lessen => self.identifying(table, rows),
            Kind::Insert | Kind::Upsert => self.full(table, rows),
        }
    }

    /// All columns of the table, of `rows`.
    fn full(&self, table: &Table, rows: &[u32]) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = self.columns.iter().map(|column| column.parameter(rows)).collect();
        self.own(table, rows, &mut parameters);
        parameters
    }

    /// What identifies `rows`, and how many copies where they are counted.
    fn identifying(&self, table: &Table, rows: &[u32]) -> Vec<Parameter> {
        let mut parameters = vec![];
        if let Identity::Columns(key) = &table.identity {
            parameters.extend(key.iter().map(|c| self.columns[*c].parameter(rows)));
        }
        self.own(table, rows, &mut parameters);
        parameters
    }

    fn own(&self, table: &Table, rows: &[u32], parameters: &mut Vec<Parameter>) {
        if let Identity::Hash(_) = &table.identity {
            let hash = |i: usize, out: &mut BytesMut| encode::put(out, self.identities[rows[i] as usize].as_slice());
            parameters.push(Parameter::array(Type::Uuid, rows.len(), hash));
        }
        if table.multiplicity {
            let copies = |i: usize, out: &mut BytesMut| encode::put(out, &self.copies[rows[i] as usize].to_be_bytes());
            parameters.push(Parameter::array(Type::BigInt, rows.len(), copies));
        }
    }

    /// Appends `row` as `COPY` in binary format has it.
    pub fn copy(&self, table: &Table, row: u32, out: &mut BytesMut) {
        let row = row as usize;
        out.put_i16(table.columns.len() as i16);
        self.columns.iter().for_each(|column| column.write(row, out));
        if let Identity::Hash(_) = &table.identity {
            encode::put(out, self.identities[row].as_slice());
        }
        if table.multiplicity {
            encode::put(out, &self.copies[row].to_be_bytes());
        }
    }
}

/// A hash of each row's columns `of`, by their bytes in PostgreSQL, so that it is the same for ever.
///
/// Of SHA-256 the first 128 bits: rows come from outside, and nobody shall be able to make two of them meet.
fn hashes(columns: &[Column], of: &[usize], rows: usize) -> Vec<Row> {
    let mut bytes = BytesMut::new();
    let hash = |row| {
        bytes.clear();
        of.iter().for_each(|c| columns[*c].write(row, &mut bytes));
        Row::new(&Sha256::digest(&bytes)[..HASH])
    };
    (0..rows).map(hash).collect()
}

fn violated(view: &View, batch: &RecordBatch, row: usize) -> SinkError {
    let name = |c: &usize| view.schema.field(*c).name().clone();
    let value = |c: &usize| {
        let column = batch.column(*c);
        if column.is_null(row) { "null".into() } else { array_value_to_string(column, row).unwrap_or_default() }
    };
    let key: Vec<_> = view.key.iter().map(|c| format!("{} = {}", name(c), value(c))).collect();
    SinkError::KeyViolated {
        view: view.name.clone(),
        columns: view.key.iter().map(name).collect::<Vec<_>>().join(", "),
        key: format!("several rows have {}", key.join(", ")),
    }
}
