//! Rows as bytes: short ones inline, long ones shared, all of them sorting as their values do.
//!
//! The bytes are those of [`arrow_row`], so that a comparison of two rows is one `memcmp`, a key is a
//! prefix, and a batch of rows becomes columns again in one pass.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, downcast_primitive};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow_row::{RowConverter, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Diff;

const INLINE: usize = 22;

/// The bytes of a row. Cloning copies at most 22 bytes or a reference count.
#[derive(Clone)]
pub struct Row(Repr);

#[derive(Clone)]
enum Repr {
    Inline(u8, [u8; INLINE]),
    Shared(Arc<[u8]>),
}

impl Row {
    /// Copies `bytes`.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE {
            let mut inline = [0; INLINE];
            inline[..bytes.len()].copy_from_slice(bytes);
            Row(Repr::Inline(bytes.len() as u8, inline))
        } else {
            Row(Repr::Shared(bytes.into()))
        }
    }

    /// The encoded bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }

    /// A hash that is the same in every process of a cluster, for routing rows to workers.
    #[inline]
    pub fn route(&self) -> u64 {
        hash(self.as_slice())
    }

    /// Bytes held outside of the value itself.
    pub fn heap_size(&self) -> usize {
        match &self.0 {
            Repr::Inline(..) => 0,
            Repr::Shared(bytes) => bytes.len() + 16,
        }
    }
}

/// The hash that routes rows to workers: seeded with constants, equal in every process.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    static STATE: LazyLock<ahash::RandomState> = LazyLock::new(|| ahash::RandomState::with_seeds(1, 2, 3, 4));
    STATE.hash_one(bytes)
}

/// Sums the diffs of equal rows and drops those that cancel. Rows stay in the order in which they first came: to
/// sort long rows that have much in common costs more than to hash them.
pub fn consolidate(updates: &mut Vec<(Row, Diff)>) {
    let mut places: HashTable<usize> = HashTable::with_capacity(updates.len());
    let mut kept = 0;
    for at in 0..updates.len() {
        let place = places.entry(
            updates[at].0.route(),
            |place| updates[*place].0 == updates[at].0,
            |place| updates[*place].0.route(),
        );
        match place {
            Entry::Occupied(held) => {
                let held = *held.get();
                updates[held].1 += updates[at].1;
            }
            Entry::Vacant(free) => {
                free.insert(kept);
                updates.swap(at, kept);
                kept += 1;
            }
        }
    }
    updates.truncate(kept);
    updates.retain(|(_, diff)| *diff != 0);
}

impl Default for Row {
    fn default() -> Self {
        Row(Repr::Inline(0, [0; INLINE]))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl PartialEq for Row {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Row {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_slice())
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Row;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a row")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Row, E> {
                if bytes.len() > u32::MAX as usize {
                    return Err(E::custom("a row of more than 4 GiB"));
                }
                Ok(Row::new(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes).map_err(|e| D::Error::custom(e.to_string()))
    }
}

/// Encodes columns as rows and decodes rows as columns, for one list of types.
#[derive(Debug)]
pub struct RowCodec {
    converter: RowConverter,
    columns: usize,
}

impl RowCodec {
    /// A codec in ascending order, nulls first.
    ///
    /// # Errors
    /// A type that has no ordered encoding (a map).
    pub fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self, ArrowError> {
        Self::with_fields(types.into_iter().map(|t| SortField::new(t.clone())).collect())
    }

    /// A codec whose bytes sort by the options of each field.
    ///
    /// # Errors
    /// A type that has no ordered encoding (a map).
    pub fn with_fields(fields: Vec<SortField>) -> Result<Self, ArrowError> {
        let columns = fields.len();
        Ok(RowCodec { converter: RowConverter::new(fields)?, columns })
    }

    /// The rows of `columns`, which all have `len` values. No columns: `len` empty rows.
    ///
    /// # Errors
    /// Columns of other types than the codec's.
    pub fn encode(&self, columns: &[ArrayRef], len: usize) -> Result<Vec<Row>, ArrowError> {
        if self.columns == 0 {
            return Ok(vec![Row::default(); len]);
        }
        let rows = self.converter.convert_columns(columns)?;
        Ok(rows.iter().map(|row| Row::new(row.as_ref())).collect())
    }

    /// The columns of `rows`.
    ///
    /// # Errors
    /// Bytes that this codec did not write.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.columns == 0 {
            return Ok(vec![]);
        }
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.into_iter().map(|row| parser.parse(row.as_slice())))?;
        Ok(columns.into_iter().map(zero_nulls).collect())
    }
}

/// A null decodes as the least number, which functions that compute whole columns, nulls and all, would
/// overflow at: it becomes zero.
fn zero_nulls(column: ArrayRef) -> ArrayRef {
    let Some(nulls) = column.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return column };
    macro_rules! zeroed {
        ($kind:ty) => {{
            let column = column.as_primitive::<$kind>();
            let values = column.values().iter().enumerate();
            let values = values.map(|(i, value)| if nulls.is_valid(i) { *value } else { Default::default() });
            let zeroed = PrimitiveArray::<$kind>::new(values.collect(), Some(nulls));
            Arc::new(zeroed.with_data_type(column.data_type().clone()))
        }};
    }
    downcast_primitive! {
        column.data_type() => (zeroed),
        _ => column
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn rows_come_back_as_columns_and_sort_as_values() {
        let types = [DataType::Int64, DataType::Utf8];
        let codec = RowCodec::new(&types).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(-3), None, Some(7)])),
            Arc::new(StringArray::from(vec![Some("a name of more than twenty-two bytes"), Some("b"), None])),
        ];
        let rows = codec.encode(&columns, 3).unwrap();
        assert!(rows[1] < rows[0] && rows[0] < rows[2]);
        let back = codec.decode(&rows).unwrap();
        assert_eq!(&back, &columns);
    }

    #[test]
    fn what_stands_below_a_null_overflows_nowhere() {
        let codec = RowCodec::new(&[DataType::Int64]).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(3)]));
        let rows = codec.encode(std::slice::from_ref(&column), 2).unwrap();
        let back = codec.decode(&rows).unwrap();
        assert_eq!(&back[0], &column);
        assert_eq!(back[0].as_primitive::<arrow::datatypes::Int64Type>().values(), &[0, 3]);
    }

    #[test]
    fn equal_rows_are_summed_and_what_cancels_is_gone() {
        let row = |text: &str| Row::new(text.as_bytes());
        let long = "a text that is too long to be held inline";
        let mut updates: Vec<(Row, Diff)> =
            [("b", 1), (long, 2), ("a", 1), ("b", -1), (long, 1), ("c", 1), ("a", 0)].map(|(t, d)| (row(t), d)).into();
        consolidate(&mut updates);
        assert_eq!(updates, [(row(long), 3), (row("a"), 1), (row("c"), 1)]);
    }

    #[test]
    fn a_row_without_columns_is_empty() {
        let codec = RowCodec::new([]).unwrap();
        assert_eq!(codec.encode(&[], 2).unwrap(), vec![Row::default(); 2]);
    }
}
