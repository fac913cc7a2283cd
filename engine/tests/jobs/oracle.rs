//! Hours of the real feed, and PostgreSQL as the judge of what is made of them.
//!
//! `raw.sql` keeps what the feed said as tables of the schema `raw`; the queries of `oracle/JOB` answer
//! from these tables as PostgreSQL understands them, with what `functions.sql` defines.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Documents that were recorded, unpacked.
pub struct Recording {
    pub documents: TempDir,
    pub quartiers: PathBuf,
}

/// The documents that are replayed: of a day, of the next one and of the same a week later, as their names say,
/// in the time of Paris. There are holes in them.
const DATES: [&str; 3] = ["20241102", "20241103", "20241109"];
const TIMES: std::ops::Range<&str> = "111000".."123000";

/// None, with a word about it, where the recording is not there.
pub fn recording() -> Option<Recording> {
    let shared = std::env::var_os("VELIB_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let packed = shared.join("velib/raw_opendata/v2.1_exports_5min_2024-10-31_2024-11-10_raw769.tar.zst");
    let quartiers = shared.join("zones/quartier_paris.geojson");
    let (Ok(file), true) = (std::fs::File::open(&packed), quartiers.exists()) else {
        eprintln!("skipped: {} is not there (set VELIB_TEST_DATA)", packed.display());
        return None;
    };
    let documents = tempfile::tempdir().unwrap();
    let mut reader = zstd::stream::read::Decoder::new(file).unwrap();
    reader.window_log_max(27).unwrap();
    for entry in tar::Archive::new(reader).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts: Vec<&str> = name.trim_end_matches(".json").split('_').collect();
        if let [.., date, time] = parts[..]
            && DATES.contains(&date)
            && TIMES.contains(&time)
        {
            entry.unpack(documents.path().join(name)).unwrap();
        }
    }
    Some(Recording { documents, quartiers })
}
