//! Documents of every version and oddity, and what comes of them.

mod documents;
mod polling;
mod random;
mod recorded;

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::decode::{self, Tables, VehicleTypes};
use super::document;

/// 2024-11-05 17:02:10 in Paris.
const NOW: u64 = 1_730_822_530_000;

/// A document written for these tests.
fn own(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gbfs").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A recorded document, where the recordings are.
fn recorded(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("VELIB_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there (set VELIB_TEST_DATA)", path.display());
        return None;
    }
    Some(path)
}

fn decode(bytes: &[u8], types: &VehicleTypes) -> Result<Tables, String> {
    let text = document::text(bytes)?;
    decode::tables(&document::read(text)?, text, types, NOW)
}

/// A table as lines of values, `-` for null.
fn lines(table: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("-").with_timestamp_tz_format(Some("%H:%M:%S"));
    let columns: Vec<_> =
        table.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..table.num_rows()).map(line).collect()
}
