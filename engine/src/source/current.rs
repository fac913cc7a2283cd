//! Full listings become differences.
//!
//! A feed lists a relation whole each time; a dataflow wants what changed. [`Current`] holds the last
//! listing as encoded rows and compares the next one with it as a multiset: equal rows cancel, what is
//! left of the old is retracted, what is left of the new inserted.

use std::collections::hash_map::Entry;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use velib_operators::{Row, RowCodec};

/// A relation as it was last listed.
#[derive(Debug)]
pub struct Current {
    schema: SchemaRef,
    codec: RowCodec,
    rows: Vec<Row>,
    batch: Option<RecordBatch>,
}

impl Current {
    /// An empty relation of `schema`.
    ///
    /// # Errors
    /// A column of a type that has no ordered encoding (a map).
    pub fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let codec = RowCodec::new(schema.fields().iter().map(|field| field.data_type()))?;
        Ok(Current { schema, codec, rows: vec![], batch: None })
    }

    /// The rows as last listed; `None` before the first time.
    pub fn contents(&self) -> Option<&RecordBatch> {
        self.batch.as_ref()
    }

    /// The relation is `rows` from now on. Yields what changes: retractions (diff −1) of rows that are no
    /// longer there, then insertions (+1) of new ones; nothing for rows that stay.
    ///
    /// # Panics
    /// If `rows` have other columns than the relation.
    pub fn replace(&mut self, rows: RecordBatch) -> (RecordBatch, Int64Array) {
        let new = self.codec.encode(rows.columns(), rows.num_rows()).expect("the columns are the relation's");
        let mut copies = std::collections::HashMap::<&Row, usize, ahash::RandomState>::default();
        copies.reserve(self.rows.len());
        for row in &self.rows {
            *copies.entry(row).or_default() += 1;
        }
        let mut inserted = vec![];
        for (index, row) in new.iter().enumerate() {
            match copies.entry(row) {
                Entry::Occupied(mut left) if *left.get() > 0 => *left.get_mut() -= 1,
                _ => inserted.push(index as u32),
            }
        }
        let mut retracted = vec![];
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(left) = copies.get_mut(row).filter(|left| **left > 0) {
                *left -= 1;
                retracted.push(index as u32);
            }
        }
        let diffs = retracted.iter().map(|_| -1).chain(inserted.iter().map(|_| 1)).collect::<Vec<i64>>();
        let take = |batch: &RecordBatch, indices: Vec<u32>| {
            take_record_batch(batch, &UInt32Array::from(indices)).expect("indices of rows of this batch")
        };
        let mut parts = vec![take(&rows, inserted)];
        if let Some(old) = &self.batch {
            parts.insert(0, take(old, retracted));
        }
        let changes = concat_batches(&self.schema, &parts).expect("the columns are the relation's");
        self.rows = new;
        self.batch = Some(rows);
        (changes, diffs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use std::sync::Arc;

    fn batch(schema: &SchemaRef, rows: &[(&str, i64)]) -> RecordBatch {
        let names = StringArray::from_iter_values(rows.iter().map(|row| row.0));
        let counts = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        RecordBatch::try_new(schema.clone(), vec![Arc::new(names), Arc::new(counts)]).unwrap()
    }

    fn changes(rows: &RecordBatch, diffs: &Int64Array) -> Vec<(i64, String, i64)> {
        let names = rows.column(0).as_string::<i32>();
        let counts = rows.column(1).as_primitive::<Int64Type>();
        (0..rows.num_rows()).map(|i| (diffs.value(i), names.value(i).to_owned(), counts.value(i))).collect()
    }

    #[test]
    fn listings_become_differences() {
        let schema = super::super::schema(vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("count", DataType::Int64, false),
        ]);
        type Rows = &'static [(&'static str, i64)];
        type Changes = &'static [(i64, &'static str, i64)];
        let steps: [(Rows, Changes); 5] = [
            (&[("a", 1), ("b", 2), ("b", 2)], &[(1, "a", 1), (1, "b", 2), (1, "b", 2)]),
            (&[("b", 2), ("a", 1), ("b", 2)], &[]),
            (&[("b", 2), ("a", 3)], &[(-1, "b", 2), (-1, "a", 1), (1, "a", 3)]),
            (&[], &[(-1, "b", 2), (-1, "a", 3)]),
            (&[("b", 2)], &[(1, "b", 2)]),
        ];
        let mut current = Current::new(schema.clone()).unwrap();
        assert!(current.contents().is_none());
        for (listing, expected) in steps {
            let (rows, diffs) = current.replace(batch(&schema, listing));
            let expected: Vec<_> = expected.iter().map(|(d, n, c)| (*d, (*n).to_owned(), *c)).collect();
            assert_eq!(changes(&rows, &diffs), expected);
            assert_eq!(current.contents().unwrap().num_rows(), listing.len());
        }
    }
}
