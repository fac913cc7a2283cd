//! Rows on their way to the workers that hold their keys, as columns.
//!
//! Between the threads of a process a piece is passed on as it is; between processes it is written as Arrow's IPC
//! stream.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Updates;
use crate::map::take_rows;
use crate::row::hash;

/// Some rows of a batch: those that one worker holds the keys of.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The index of the worker.
    pub worker: u64,
    /// The rows.
    pub rows: RecordBatch,
    /// As many diffs.
    pub diffs: Int64Array,
}

/// Parts `updates` among `workers`, by the `keys` of its rows; none: all have the same.
pub fn part<K: AsRef<[u8]>>(updates: Updates, keys: Option<impl Iterator<Item = K>>, workers: u64) -> Vec<Piece> {
    let Updates { rows, diffs, .. } = updates;
    let Some(keys) = keys.filter(|_| workers > 1) else {
        return vec![Piece { worker: hash(&[]) % workers, rows, diffs }];
    };
    let mut by_worker: Vec<Vec<u32>> = vec![vec![]; workers as usize];
    for (at, key) in keys.enumerate() {
        by_worker[(hash(key.as_ref()) % workers) as usize].push(at as u32);
    }
    let parts = by_worker.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).map(|(worker, indices)| {
        let indices = UInt32Array::from(indices);
        let diffs: ArrayRef = take(&diffs, &indices, None).expect("indices of rows");
        let rows = take_rows(&rows, &indices).expect("indices of rows");
        Piece { worker: worker as u64, rows, diffs: Int64Array::from(diffs.to_data()) }
    });
    parts.collect()
}

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![];
        let written = StreamWriter::try_new(&mut bytes, &self.rows.schema()).and_then(|mut writer| {
            writer.write(&self.rows)?;
            writer.finish()
        });
        written.map_err(S::Error::custom)?;
        (self.worker, self.diffs.values().as_ref(), bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (worker, diffs, bytes) = <(u64, Vec<i64>, Vec<u8>)>::deserialize(deserializer)?;
        let read = StreamReader::try_new(bytes.as_slice(), None).and_then(|mut reader| reader.next().transpose());
        let rows = read.map_err(D::Error::custom)?.ok_or_else(|| D::Error::custom("a piece without rows"))?;
        Ok(Piece { worker, rows, diffs: diffs.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{RecordBatchOptions, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn a_piece_crosses_between_processes() {
        let schema = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Châtelet"), None]));
        let rows = RecordBatch::try_new(schema, vec![names]).unwrap();
        let options = RecordBatchOptions::new().with_row_count(Some(2));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        for rows in [rows, empty] {
            let piece = Piece { worker: 3, rows, diffs: vec![1, -2].into() };
            let back: Piece = bincode::deserialize(&bincode::serialize(&piece).unwrap()).unwrap();
            assert_eq!((back.worker, &back.rows, &back.diffs), (3, &piece.rows, &piece.diffs));
        }
    }
}
