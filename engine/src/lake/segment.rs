//! A snapshot in the log: Arrow IPC streams one after the other, and a checksum.
//!
//! The first stream has no columns and says, in the metadata of its schema, what this is: format, feed, number, time,
//! writer. One stream a table follows, packed with zstd, named by the metadata of its schema; it is [sealed](super::seal).

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

use super::seal::{End, open, seal};
use super::{Entry, LakeError, Seq};

const FORMAT: &str = "1";
const END: &End = b"VELIBLOG";

/// A snapshot as it is in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The feed.
    pub feed: String,
    /// Its number.
    pub seq: Seq,
    /// The generation that wrote it.
    pub writer: u64,
    /// What it says.
    pub entry: Entry,
}

/// Its checksum is that of what it holds: if it cannot be read all the same, another version wrote it.
pub fn is_whole(bytes: &[u8]) -> bool {
    open(bytes, END).is_ok()
}

impl Segment {
    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, LakeError> {
        self.encode_as(FORMAT)
    }

    /// The same, in the name of a format.
    pub(super) fn encode_as(&self, format: &str) -> Result<Vec<u8>, LakeError> {
        let bytes = self.streams(format).map_err(|error| LakeError::Encode(error.to_string()))?;
        Ok(seal(bytes, END))
    }

    fn streams(&self, format: &str) -> Result<Vec<u8>, ArrowError> {
        let envelope = [
            ("velib.format", format.to_owned()),
            ("velib.feed", self.feed.clone()),
            ("velib.seq", self.seq.to_string()),
            ("velib.time", self.entry.time.to_string()),
            ("velib.writer", self.writer.to_string()),
            ("velib.tables", self.entry.tables.len().to_string()),
        ];
        let envelope: HashMap<_, _> = envelope.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut bytes = vec![];
        StreamWriter::try_new(&mut bytes, &Schema::empty().with_metadata(envelope))?.finish()?;
        let packed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
        for (name, rows) in &self.entry.tables {
            let named = HashMap::from([("velib.table".to_owned(), name.clone())]);
            let schema = Arc::new(Schema::new(rows.schema().fields().clone()).with_metadata(named));
            let mut stream = StreamWriter::try_new_with_options(&mut bytes, &schema, packed.clone())?;
            if rows.num_rows() > 0 {
                stream.write(&rows.clone().with_schema(schema)?)?;
            }
            stream.finish()?;
        }
        Ok(bytes)
    }

    /// What `bytes` say.
    ///
    /// # Errors
    /// In words: they are cut short, altered, or of a format that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Segment, String> {
        Self::read(open(bytes, END)?).map_err(|error| format!("it cannot be read: {error}"))
    }

    fn read(body: &[u8]) -> Result<Segment, ArrowError> {
        let mut rest = Cursor::new(body);
        let envelope = StreamReader::try_new(&mut rest, None)?;
        let said = envelope.schema().metadata().clone();
        // To its end, where the next one begins.
        envelope.for_each(drop);
        let missing = |key: &str| ArrowError::ParseError(format!("it has no {key}"));
        let text = |key: &str| said.get(key).ok_or_else(|| missing(key));
        let number = |key: &str| text(key)?.parse::<u64>().map_err(|_| missing(key));
        if text("velib.format")? != FORMAT {
            return Err(ArrowError::ParseError(format!(
                "format {} is not known to this version",
                text("velib.format")?
            )));
        }
        let mut tables = BTreeMap::new();
        for _ in 0..number("velib.tables")? {
            let stream = StreamReader::try_new(&mut rest, None)?;
            let named = stream.schema();
            let name = named.metadata().get("velib.table").ok_or_else(|| missing("velib.table"))?;
            let batches = stream.collect::<Result<Vec<_>, _>>()?;
            let rows = concat_batches(&named, &batches)?;
            let plain = Arc::new(Schema::new(named.fields().clone()));
            tables.insert(name.clone(), RecordBatch::try_new(plain, rows.columns().to_vec())?);
        }
        Ok(Segment {
            feed: text("velib.feed")?.clone(),
            seq: number("velib.seq")?,
            writer: number("velib.writer")?,
            entry: Entry { time: number("velib.time")?, tables },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::entry;
    use proptest::prelude::*;

    fn segment() -> Segment {
        Segment { feed: "f".into(), seq: 7, writer: 3, entry: entry(1_000, &[("a", 1), ("b", 2)], Some(&[])) }
    }

    #[test]
    fn what_is_written_is_read_to_the_order_of_rows_and_the_empty_table() {
        assert_eq!(Segment::decode(&segment().encode().unwrap()).unwrap(), segment());
        assert_eq!(Segment::decode(b"").unwrap_err(), "it is cut short");
    }

    proptest! {
        #[test]
        fn a_byte_that_was_altered_and_an_end_that_is_missing_are_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = segment().encode().unwrap();
            let at = at.index(bytes.len());
            prop_assert!(Segment::decode(&bytes[..at]).is_err());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Segment::decode(&bytes).is_err());
        }
    }
}
