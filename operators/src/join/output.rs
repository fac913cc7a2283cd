//! What a join sends: pairs and single rows as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};

use super::{Kind, On, Side};
use crate::errors::Outcome;
use crate::map::{Program, batch};
use crate::{Diff, Row, RowCodec, Time, Updates};

/// The most rows of a batch that a join sends.
pub(super) const BATCH: usize = 8192;

/// A left row, a right row, how many of the pair come or go.
pub(super) type Pair = (Row, Row, Diff);

/// Decodes rows, and judges pairs.
pub(super) struct Output {
    kind: Kind,
    left: RowCodec,
    right: RowCodec,
    /// What makes a pair beside the key. Its columns are those of both sides, and the place of the pair.
    residual: Option<Program>,
    schema: SchemaRef,
    /// How many columns are the left's.
    width: usize,
}

impl Output {
    pub fn new(left: &Side<'_>, right: &Side<'_>, on: On) -> Self {
        let own = |side: &Side<'_>| side.schema.fields()[..side.columns].to_vec();
        let fields: Vec<_> = own(left).into_iter().chain(own(right)).collect();
        let residual = on.residual.map(|condition| {
            let mut fields = fields;
            fields.push(Arc::new(Field::new("place", DataType::UInt32, false)));
            Program { predicates: vec![condition], outputs: None, schema: Arc::new(Schema::new(fields)) }
        });
        Output {
            kind: on.kind,
            left: left.codec(),
            right: right.codec(),
            residual,
            schema: on.schema,
            width: left.columns,
        }
    }

    /// Gives `pairs`, if the join yields pairs, those that meet the residual condition; tells which do. None:
    /// all of them.
    pub fn pairs(&self, time: Time, pairs: &[Pair], give: &mut impl FnMut(Outcome)) -> Option<Vec<bool>> {
        let Some(residual) = &self.residual else {
            if self.kind.pairs() {
                for pairs in pairs.chunks(BATCH) {
                    let (columns, diffs) = self.columns(pairs);
                    give(Outcome::Rows(Updates::new(time, batch(&self.schema, columns, pairs.len()), diffs)));
                }
            }
            return None;
        };
        let mut found = vec![false; pairs.len()];
        for (pairs, found) in pairs.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            let (mut columns, diffs) = self.columns(pairs);
            columns.push(Arc::new(UInt32Array::from_iter_values(0..pairs.len() as u32)));
            let (met, faults) = residual.run(Updates::new(time, batch(&residual.schema, columns, pairs.len()), diffs));
            faults.into_iter().for_each(|(text, diff)| give(Outcome::Fault(text, time, diff)));
            let Some(met) = met else { continue };
            let (place, columns) = met.rows.columns().split_last().expect("it was added");
            place.as_primitive::<UInt32Type>().values().iter().for_each(|place| found[*place as usize] = true);
            if self.kind.pairs() {
                let rows = batch(&self.schema, columns.to_vec(), met.rows.num_rows());
                give(Outcome::Rows(Updates::new(time, rows, met.diffs)));
            }
        }
        Some(found)
    }

    /// Rows of one side by themselves, with nulls for the other where the join yields pairs.
    pub fn single(&self, time: Time, rows: &[(Row, Diff)], right: bool) -> Outcome {
        let codec = if right { &self.right } else { &self.left };
        let mut columns = codec.decode(rows.iter().map(|(row, _)| row)).expect("rows of this codec");
        if self.kind.pairs() {
            let (left, others) = self.schema.fields().split_at(self.width);
            let nulls = if right { left } else { others };
            let nulls = nulls.iter().map(|field| new_null_array(field.data_type(), rows.len()));
            let at = if right { 0 } else { columns.len() };
            columns.splice(at..at, nulls);
        }
        let diffs = Int64Array::from_iter_values(rows.iter().map(|(_, diff)| *diff));
        Outcome::Rows(Updates::new(time, batch(&self.schema, columns, rows.len()), diffs))
    }

    fn columns(&self, pairs: &[Pair]) -> (Vec<ArrayRef>, Int64Array) {
        let mut columns = self.left.decode(pairs.iter().map(|pair| &pair.0)).expect("rows of this codec");
        columns.extend(self.right.decode(pairs.iter().map(|pair| &pair.1)).expect("rows of this codec"));
        (columns, Int64Array::from_iter_values(pairs.iter().map(|pair| pair.2)))
    }
}
