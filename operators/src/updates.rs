//! What flows between operators: a batch of rows, each with its diff, at one timestamp.

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::concat_batches;
use arrow_row::{RowConverter, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::map::{nullable, take_rows};
use crate::row::hash;
use crate::{Diff, Time};

/// Rows that appear or disappear at `time`. They travel under the capability of just that timestamp.
#[derive(Clone, Debug)]
pub struct Updates {
    /// The timestamp at which the collection changes.
    pub time: Time,
    /// The rows, one column an attribute.
    pub rows: RecordBatch,
    /// As many diffs as rows, never null, never zero.
    pub diffs: Int64Array,
}

impl Updates {
    /// Every row of `rows` appears once at `time`.
    pub fn insert(time: Time, rows: RecordBatch) -> Self {
        let diffs = Int64Array::from_value(1, rows.num_rows());
        Updates { time, rows, diffs }
    }

    /// `rows` change by `diffs` at `time`.
    ///
    /// # Panics
    /// If there is not one diff a row.
    pub fn new(time: Time, rows: RecordBatch, diffs: Int64Array) -> Self {
        assert_eq!(rows.num_rows(), diffs.len(), "one diff a row");
        Updates { time, rows, diffs }
    }

    /// The diffs as a slice.
    pub fn diffs(&self) -> &[Diff] {
        self.diffs.values()
    }
}

/// Rows and their diffs, put together: equal rows become one, those that cancel are gone. Rows stay in the order in
/// which they first came. None: nothing is left.
pub fn consolidate(pieces: &[(RecordBatch, Int64Array)]) -> Option<(RecordBatch, Int64Array)> {
    let schema = nullable(&pieces.first()?.0.schema());
    let rows = match pieces {
        [(only, _)] => only.clone(),
        several => concat_batches(&schema, several.iter().map(|(rows, _)| rows)).expect("pieces of one schema"),
    };
    let diffs = pieces.iter().flat_map(|(_, diffs)| diffs.values().iter().copied());
    if rows.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one = RecordBatch::try_new_with_options(schema, vec![], &options).expect("no columns");
        return Some(diffs.sum()).filter(|sum: &Diff| *sum != 0).map(|sum| (one, vec![sum].into()));
    }
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).expect("the planner checked the types");
    let encoded = converter.convert_columns(rows.columns()).expect("columns of the converter");
    // The first of each, with its hash and net diff.
    let mut kept: Vec<(u32, u64, Diff)> = Vec::with_capacity(rows.num_rows());
    let mut places: HashTable<u32> = HashTable::with_capacity(rows.num_rows());
    for (at, diff) in diffs.enumerate() {
        let bytes = encoded.row(at);
        let hashed = hash(bytes.as_ref());
        let equal = |place: &u32| encoded.row(kept[*place as usize].0 as usize) == bytes;
        match places.entry(hashed, equal, |place| kept[*place as usize].1) {
            Entry::Occupied(held) => kept[*held.get() as usize].2 += diff,
            Entry::Vacant(free) => {
                free.insert(kept.len() as u32);
                kept.push((at as u32, hashed, diff));
            }
        }
    }
    kept.retain(|(_, _, diff)| *diff != 0);
    let diffs = Int64Array::from_iter_values(kept.iter().map(|(_, _, diff)| *diff));
    if kept.len() == rows.num_rows() {
        return Some((rows, diffs));
    }
    let indices = UInt32Array::from_iter_values(kept.iter().map(|(at, _, _)| *at));
    (!kept.is_empty()).then(|| (take_rows(&rows, &indices).expect("indices of rows"), diffs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use std::sync::Arc;

    fn piece(rows: &[(&str, Diff)]) -> (RecordBatch, Int64Array) {
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
        let batch = RecordBatch::try_from_iter_with_nullable([("name", names, true)]).unwrap();
        (batch, Int64Array::from_iter_values(rows.iter().map(|row| row.1)))
    }

    #[test]
    fn what_comes_and_goes_is_gone() {
        let pieces = [piece(&[("a", 1), ("b", 2), ("a", -1)]), piece(&[("c", 1), ("b", -1)])];
        assert_eq!(consolidate(&pieces), Some(piece(&[("b", 1), ("c", 1)])));
        assert_eq!(consolidate(&pieces[..1]), Some(piece(&[("b", 2)])));
        assert_eq!(consolidate(&[piece(&[("a", 1)]), piece(&[("a", -1)])]), None);
        assert_eq!(consolidate(&[]), None);
        let empty = |rows: usize, diff: Diff| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let none = Arc::new(arrow::datatypes::Schema::empty());
            let batch = RecordBatch::try_new_with_options(none, vec![], &options).unwrap();
            (batch, Int64Array::from_value(diff, rows))
        };
        assert_eq!(consolidate(&[empty(2, 1), empty(1, -1)]), Some(empty(1, 1)));
        assert_eq!(consolidate(&[empty(2, 1), empty(1, -2)]), None);
    }
}
