//! An hour's snapshots as Parquet: plain for other programs, exact for us.
//!
//! Each table has a file, whose rows are those of all the snapshots, with two columns in front: `snapshot_time`, and
//! `snapshot_row`, the place of the row in its snapshot. Rows are sorted by the table's own first column (for GBFS the
//! station), then by time: what a station says hardly changes from one minute to the next, so that its columns shrink
//! to runs, and whoever asks for one station reads the few pages whose statistics have it. A further file lists the
//! snapshots, with the number of rows that each had in each table (null: the table was not part of it) and, in its
//! footer, the names of the files: with it the snapshots come back as they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use velib_operators::Time;

use super::names::{Part, file, sum};
use super::{Entry, Seq};

const FORMAT: &str = "1";
/// Rows of a row group: an hour of 1,500 stations is one.
const GROUP: usize = 1 << 17;
/// Rows of a page: what a reader of one station reads.
const PAGE: usize = 8_192;
/// Columns that are ours, in front of the table's.
const OWN: usize = 2;

/// A file to be written.
pub struct File {
    /// Its folder's first part.
    pub relation: String,
    /// Its own name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What the list of snapshots says.
#[derive(Debug)]
pub struct Index {
    /// In their order.
    pub snapshots: Vec<Listed>,
    /// The name of the file of each table.
    pub files: BTreeMap<String, String>,
}

/// A snapshot in the list.
#[derive(Debug)]
pub struct Listed {
    pub seq: Seq,
    pub time: Time,
    /// Of each table that was part of it.
    pub rows: BTreeMap<String, usize>,
}

/// The files of some snapshots of an hour, that of the list last, and the part that it makes. It has the numbers of
/// the range (first, last): those that no snapshot has are known to be lost.
pub fn encode(
    feed: &str,
    hour: u64,
    (first, last): (Seq, Seq),
    entries: &[(Seq, Entry)],
) -> Result<(Vec<File>, Part), ArrowError> {
    let mut names: Vec<&String> = entries.iter().flat_map(|(_, entry)| entry.tables.keys()).collect();
    names.sort();
    names.dedup();
    let (mut files, mut listed) = (vec![], BTreeMap::new());
    for name in &names {
        let rows = sorted(name, entries)?;
        let bytes = write(&rows, feed, Some(sorting()), vec![])?;
        let file = file(first, last, &sum(&bytes));
        listed.insert(name.to_string(), file.clone());
        files.push(File { relation: name.to_string(), name: file, bytes });
    }
    let seqs: ArrayRef = Arc::new(Int64Array::from_iter_values(entries.iter().map(|(seq, _)| *seq as i64)));
    let times = Arc::new(micros(entries.iter().map(|(_, entry)| (entry.time, 1))));
    let mut columns =
        vec![("snapshot_seq".to_owned(), seqs, false), ("snapshot_time".to_owned(), times as ArrayRef, false)];
    for name in &names {
        let rows = entries.iter().map(|(_, entry)| entry.tables.get(*name).map(|rows| rows.num_rows() as i64));
        columns.push((format!("{name}_rows"), Arc::new(rows.collect::<Int64Array>()), true));
    }
    let list = RecordBatch::try_from_iter_with_nullable(columns)?;
    let files_written = serde_json::to_string(&listed).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let bytes = write(&list, feed, None, vec![KeyValue::new("velib.files".to_owned(), files_written)])?;
    let part = Part { hour, first, last, sum: sum(&bytes) };
    files.push(File { relation: super::SNAPSHOTS.to_owned(), name: file(first, last, &part.sum), bytes });
    Ok((files, part))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Each time so many times over.
fn micros(times: impl Iterator<Item = (Time, usize)>) -> TimestampMicrosecondArray {
    let values = times.flat_map(|(time, rows)| {
        std::iter::repeat_n(i64::try_from(time).unwrap_or(i64::MAX).saturating_mul(1_000), rows)
    });
    TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC")
}

/// The table's columns with ours in front; names that the table has itself are made to differ.
fn widened(schema: &Schema) -> SchemaRef {
    let free = |name: &str| {
        let mut name = name.to_owned();
        while schema.field_with_name(&name).is_ok() {
            name.insert_str(0, "velib_");
        }
        name
    };
    let own =
        [Field::new(free("snapshot_time"), instant(), false), Field::new(free("snapshot_row"), DataType::Int32, false)];
    let fields = own.into_iter().map(Arc::new).chain(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn sorted(name: &str, entries: &[(Seq, Entry)]) -> Result<RecordBatch, ArrowError> {
    let parts = entries.iter().filter_map(|(_, entry)| Some((entry.time, entry.tables.get(name)?)));
    let parts: Vec<_> = parts.collect();
    let schema = parts[0].1.schema();
    let rows = concat_batches(&schema, parts.iter().map(|(_, rows)| *rows))?;
    let times: ArrayRef = Arc::new(micros(parts.iter().map(|(time, rows)| (*time, rows.num_rows()))));
    let places = parts.iter().flat_map(|(_, rows)| 0..i32::try_from(rows.num_rows()).unwrap_or(i32::MAX));
    let places: ArrayRef = Arc::new(Int32Array::from_iter_values(places));
    let mut columns = vec![times, places];
    columns.extend(rows.columns().iter().cloned());
    let rows = RecordBatch::try_new(widened(&schema), columns)?;
    // What has no order stays in that of time.
    let by = rows.columns().iter().skip(OWN).take(1).filter(|column| !column.data_type().is_nested());
    let by: Vec<_> = by.chain(&rows.columns()[..OWN]).map(plain).collect();
    take_record_batch(&rows, &lexsort_to_indices(&by, None)?)
}

fn plain(column: &ArrayRef) -> SortColumn {
    SortColumn { values: Arc::clone(column), options: None }
}

/// As other programs are told that rows are sorted: the table's first column, the time, the place.
fn sorting() -> Vec<SortingColumn> {
    let by = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
    [OWN as i32, 0, 1].map(by).to_vec()
}

fn write(
    rows: &RecordBatch,
    feed: &str,
    sorting: Option<Vec<SortingColumn>>,
    more: Vec<KeyValue>,
) -> Result<Vec<u8>, ArrowError> {
    let mut said = vec![
        KeyValue::new("velib.format".to_owned(), FORMAT.to_owned()),
        KeyValue::new("velib.feed".to_owned(), feed.to_owned()),
    ];
    said.extend(more);
    // A table that is nested at its beginning is sorted by time, which we do not say.
    let sorting = sorting.filter(|_| rows.columns().get(OWN).is_some_and(|first| !first.data_type().is_nested()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(ArrowError::from)?))
        .set_max_row_group_row_count(Some(GROUP))
        .set_data_page_row_count_limit(PAGE)
        .set_write_batch_size(PAGE)
        .set_sorting_columns(sorting)
        .set_key_value_metadata(Some(said))
        .build();
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(bytes)
}

/// The rows of a file, and what its footer says.
fn read(bytes: &Bytes, expected: &str) -> Result<(RecordBatch, BTreeMap<String, String>), String> {
    if sum(bytes) != expected {
        return Err("its checksum does not match its name".to_owned());
    }
    let read = || {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
        let said = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
        let said: BTreeMap<_, _> = said.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
        let schema = Arc::new(Schema::new(builder.schema().fields().clone()));
        let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
        let columns = concat_batches(batches.first().map_or(&schema, |batch| batch.schema_ref()), &batches)?;
        Ok::<_, ArrowError>((RecordBatch::try_new(schema, columns.columns().to_vec())?, said))
    };
    let (rows, said) = read().map_err(|error| format!("it cannot be read: {error}"))?;
    match said.get("velib.format").map(String::as_str) {
        Some(FORMAT) => Ok((rows, said)),
        format => Err(format!("format {} is not known to this version", format.unwrap_or("(none)"))),
    }
}

impl Index {
    /// Reads the list of a part.
    pub fn decode(bytes: &Bytes, part: &Part) -> Result<Index, String> {
        let (rows, said) = read(bytes, &part.sum)?;
        let files: BTreeMap<String, String> = said
            .get("velib.files")
            .and_then(|files| serde_json::from_str(files).ok())
            .ok_or("it names no files of tables")?;
        let (Some(seqs), Some(times)) = (
            rows.column(0).as_primitive_opt::<Int64Type>(),
            rows.column(1).as_primitive_opt::<TimestampMicrosecondType>(),
        ) else {
            return Err("it lists no snapshots".to_owned());
        };
        let mut counts = vec![];
        for name in files.keys() {
            let counted =
                rows.column_by_name(&format!("{name}_rows")).and_then(|rows| rows.as_primitive_opt::<Int64Type>());
            counts.push((name, counted.ok_or_else(|| format!("it does not count the rows of {name}"))?));
        }
        let snapshots = (0..rows.num_rows()).map(|row| Listed {
            seq: seqs.value(row) as Seq,
            time: times.value(row) as Time / 1_000,
            rows: counts
                .iter()
                .filter(|(_, counts)| counts.is_valid(row))
                .map(|(name, counts)| ((*name).clone(), counts.value(row) as usize))
                .collect(),
        });
        Ok(Index { snapshots: snapshots.collect(), files })
    }

    /// The numbers within the part that it does not list.
    pub fn holes(&self, part: &Part) -> Vec<(Seq, Seq)> {
        let mut holes = vec![];
        let mut next = part.first;
        for seq in self.snapshots.iter().map(|snapshot| snapshot.seq).chain([part.last + 1]) {
            if seq > next {
                holes.push((next, seq - 1));
            }
            next = seq + 1;
        }
        holes
    }

    /// The rows of a table, by snapshot, in the order in which they were listed.
    pub fn table(&self, name: &str, bytes: &Bytes) -> Result<Vec<(Seq, RecordBatch)>, String> {
        let file = self.files.get(name).and_then(|file| file.strip_suffix(".parquet")?.rsplit_once('-'));
        let (_, expected) = file.ok_or("it is not named as files are")?;
        let (rows, _) = read(bytes, expected)?;
        let wanted: usize = self.snapshots.iter().filter_map(|snapshot| snapshot.rows.get(name)).sum();
        if rows.num_rows() != wanted || rows.num_columns() < OWN {
            return Err(format!("it has {} rows and should have {wanted}", rows.num_rows()));
        }
        let by: Vec<_> = rows.columns()[..OWN].iter().map(plain).collect();
        let ordered = lexsort_to_indices(&by, None).and_then(|order| take_record_batch(&rows, &order));
        let ordered = ordered.and_then(|rows| rows.project(&(OWN..rows.num_columns()).collect::<Vec<_>>()));
        let ordered = ordered.map_err(|error| format!("it cannot be read: {error}"))?;
        let mut start = 0;
        let tables = self.snapshots.iter().filter_map(|snapshot| {
            let rows = *snapshot.rows.get(name)?;
            start += rows;
            Some((snapshot.seq, ordered.slice(start - rows, rows)))
        });
        Ok(tables.collect())
    }
}
