//! Files of rows, batch by batch: Parquet, CSV, NDJSON.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::json;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::source::{local, schema};

/// Rows of a batch: few enough to be held many times over, enough to be worth a batch.
const BATCH: usize = 8_192;
/// Rows that types are inferred from, where a file does not give them. Many: a system of which all ids but
/// a few are numbers may not list those few for days.
const INFERRED: usize = 100_000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Ndjson,
}

/// The batches of a file, in the columns of the file.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

impl Format {
    /// By the name of a setting or the end of a file's name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        }
    }

    /// The format that a file's name ends in, packed or not.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = local::name(path);
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        Self::named(name.rsplit_once('.')?.1)
    }

    /// The columns of a file: those that it gives, or those that its first rows suggest.
    pub(super) fn schema(self, path: &Path) -> Result<SchemaRef, ArrowError> {
        let inferred = match self {
            Format::Parquet => ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.schema().as_ref().clone(),
            Format::Csv => {
                let format = csv::reader::Format::default().with_header(true);
                format.infer_schema(local::open(path)?, Some(INFERRED))?.0
            }
            Format::Ndjson => json::reader::infer_json_schema(BufReader::new(local::open(path)?), Some(INFERRED))?.0,
        };
        let plain = |field: &Arc<Field>| Field::new(field.name(), plain(field.data_type()), field.is_nullable());
        Ok(schema(inferred.fields().iter().map(plain).collect()))
    }

    /// Reads a file. `declared` are the columns that are wanted, where that is known.
    pub(super) fn read(self, path: &Path, declared: Option<&SchemaRef>) -> Result<Batches, ArrowError> {
        Ok(match self {
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
                Box::new(builder.with_batch_size(BATCH).build()?)
            }
            Format::Csv => {
                // Read as text: a cell that is not of its column's type then costs its row, not the file.
                let format = csv::reader::Format::default().with_header(true);
                let (header, _) = format.infer_schema(local::open(path)?, Some(0))?;
                let text = header.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
                let builder = csv::ReaderBuilder::new(schema(text.collect())).with_header(true);
                Box::new(builder.with_batch_size(BATCH).build(local::open(path)?)?)
            }
            Format::Ndjson => {
                let columns = match declared {
                    Some(declared) => declared.clone(),
                    None => self.schema(path)?,
                };
                let builder = json::ReaderBuilder::new(columns).with_batch_size(BATCH).with_coerce_primitive(true);
                Box::new(builder.build(BufReader::new(local::open(path)?))?)
            }
        })
    }
}

/// Types without the ways in which files save space.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, values) => plain(values),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}
