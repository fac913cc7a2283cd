//! Files of this machine: which ones a path means, and what is in them, unpacked.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::SourceError;

/// Archives are packed with a window of up to 2^27 bytes (`zstd --long=27`), which is held in memory.
const WINDOW_LOG: u32 = 27;

/// The files that `path` means, in the order of their names: itself, those of a folder, or those that
/// match it as a pattern. Relative paths start in `folder`. Hidden files do not count in folders.
///
/// # Errors
/// There are none, or they cannot be listed.
pub(super) fn files(folder: &Path, path: &str) -> Result<Vec<PathBuf>, SourceError> {
    let whole = folder.join(path);
    let unavailable = |why: String| SourceError::Unavailable(format!("{}: {why}", whole.display()));
    if whole.is_file() {
        return Ok(vec![whole]);
    }
    let mut found = vec![];
    if whole.is_dir() {
        for entry in std::fs::read_dir(&whole).map_err(|error| unavailable(error.to_string()))? {
            found.push(entry.map_err(|error| unavailable(error.to_string()))?.path());
        }
        found.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    } else if path.contains(['*', '?', '[']) {
        let pattern = match Path::new(path).is_absolute() {
            true => path.to_owned(),
            false => format!("{}/{path}", glob::Pattern::escape(&folder.to_string_lossy())),
        };
        let paths =
            glob::glob(&pattern).map_err(|error| SourceError::Settings(format!("pattern '{path}': {error}")))?;
        found.extend(paths.filter_map(Result::ok));
    } else {
        return Err(unavailable("no such file or folder".to_owned()));
    }
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() { Err(unavailable("no files there".to_owned())) } else { Ok(found) }
}

/// Opens a file; `.gz` and `.zst` are unpacked while they are read.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    unpack(&path.to_string_lossy(), BufReader::new(File::open(path)?))
}

/// Unpacks what the name says is packed.
pub(super) fn unpack<R: io::BufRead + Send + 'static>(name: &str, reader: R) -> io::Result<Box<dyn Read + Send>> {
    if name.ends_with(".gz") || name.ends_with(".tgz") {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if name.ends_with(".zst") {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

/// Everything in `reader`, as long as it is no more than `limit` bytes.
pub(super) fn read(reader: impl Read, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = reader.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if read > limit {
        return Err(format!("larger than {limit} bytes: raise max_bytes if it should be"));
    }
    Ok(bytes)
}

/// The name of a file without its folders.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_path_means_a_file_a_folder_or_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "c.csv", ".hidden"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let names = |path: &str| {
            files(folder.path(), path).map(|files| files.iter().map(|path| name(path)).collect::<Vec<_>>())
        };
        assert_eq!(names("c.csv").unwrap(), ["c.csv"]);
        assert_eq!(names(".").unwrap(), ["a.json", "b.json", "c.csv"]);
        assert_eq!(names("*.json").unwrap(), ["a.json", "b.json"]);
        assert!(names("nowhere").unwrap_err().to_string().contains("no such file"));
        assert!(names("*.parquet").unwrap_err().to_string().contains("no files there"));
        assert!(names("[").is_err());
    }

    #[test]
    fn packed_files_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let gz = folder.path().join("a.json.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(b"text").unwrap();
        encoder.finish().unwrap();
        let zst = folder.path().join("a.json.zst");
        std::fs::write(&zst, zstd::encode_all(&b"text"[..], 1).unwrap()).unwrap();
        for path in [gz, zst] {
            assert_eq!(read(open(&path).unwrap(), 4).unwrap(), b"text");
            assert!(read(open(&path).unwrap(), 3).unwrap_err().contains("larger than 3 bytes"));
        }
    }
}
