//! Files of each format, and a month of a real system.

use std::io::Write;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;

use super::*;
use crate::source::Snapshot;
use crate::source::build_client;

fn context(folder: &Path) -> Context {
    Context { http: build_client().unwrap(), wall_clock_ms: Arc::new(|| 5_000), folder: folder.to_owned(), shown: 0 }
}

fn bind(options: &[(&str, &str)]) -> Result<Arc<dyn Source>, SourceError> {
    Files.bind(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// The columns, the snapshots (time, rows) and what was refused.
async fn read(folder: &Path, options: &[(&str, &str)]) -> (Relation, Vec<(Time, RecordBatch)>, Vec<String>) {
    let source = bind(options).unwrap();
    let relation = source.resolve(&context(folder)).await.unwrap().relations.remove(0);
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context(folder), out));
    let (mut snapshots, mut refused) = (vec![], vec![]);
    while let Some(event) = events.recv().await {
        match event {
            Event::Snapshot(Snapshot { time, tables }) => {
                let rows = tables.into_iter().next().unwrap().unwrap();
                assert_eq!(rows.schema(), relation.schema);
                snapshots.push((time, rows));
            }
            Event::Rejected(rejections) => refused.extend(rejections.into_iter().map(|rejection| rejection.reason)),
            Event::Health(health) => panic!("{health:?}"),
        }
    }
    assert!(snapshots.is_sorted_by(|a, b| a.0 < b.0));
    (relation, snapshots, refused)
}

fn counts(snapshots: &[(Time, RecordBatch)]) -> Vec<(Time, usize)> {
    snapshots.iter().map(|(time, rows)| (*time, rows.num_rows())).collect()
}

#[tokio::test]
async fn rows_of_one_time_are_one_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut gz = flate2::write::GzEncoder::new(
        std::fs::File::create(folder.path().join("a.csv.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    gz.write_all(b"ts,station,bikes\n10,a,1\n10,b,2\n20,a,x\n20,b,3\n15,c,4\n30,a,5\n,a,6\n").unwrap();
    gz.finish().unwrap();
    std::fs::write(folder.path().join("b.csv"), "station,ts\na,30\na,40\n").unwrap();
    let (relation, snapshots, refused) = read(
        folder.path(),
        &[("path", "*.csv*"), ("time", "ts"), ("columns", "ts bigint, station text, bikes bigint")],
    )
    .await;
    assert!(relation.appended);
    assert_eq!(relation.time_column, Some(0));
    assert_eq!(relation.schema.field(0).data_type(), &instant());
    assert_eq!(counts(&snapshots), [(10_000, 2), (20_000, 1), (30_000, 2), (40_000, 1)]);
    assert_eq!(
        refused,
        [
            "a.csv.gz: 1 rows left out: bikes is no Int64; declare the columns if it should be something else",
            "a.csv.gz: 1 rows left out: ts is no time since 1970",
            "a.csv.gz: 1 rows go back in time and are left out; sort the file by its time",
        ]
    );
    assert!(snapshots[3].1.column(2).is_null(0), "a column that a file does not have");
}

#[tokio::test]
async fn every_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let rows = RecordBatch::try_from_iter([
        ("at", Arc::new(Int64Array::from(vec![1_000_000_000_000, 1_000_000_000_000, 1_000_000_060_000])) as ArrayRef),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
    ])
    .unwrap();
    let file = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let lines = "{\"at\":1000000000,\"name\":\"a\"}\n{\"at\":1000000000}\n{\"at\":1000000060,\"name\":\"c\"}\n";
    std::fs::write(folder.path().join("b.ndjson.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
    std::fs::write(
        folder.path().join("c"),
        "at,name\n2001-09-09T01:46:40Z,a\n2001-09-09T01:46:40Z,\n2001-09-09T01:47:40Z,c\n",
    )
    .unwrap();
    for (path, format) in [("a.parquet", "parquet"), ("b.ndjson.zst", "ndjson"), ("c", "csv")] {
        let (relation, snapshots, refused) =
            read(folder.path(), &[("path", path), ("format", format), ("time", "at")]).await;
        assert_eq!(relation.schema.field(1).data_type(), &DataType::Utf8);
        assert_eq!(counts(&snapshots), [(1_000_000_000_000, 2), (1_000_000_060_000, 1)], "{path}");
        assert_eq!(refused, [""; 0], "{path}");
        let (relation, snapshots, _) = read(folder.path(), &[("path", path), ("format", format)]).await;
        assert_eq!((relation.time_column, counts(&snapshots)), (None, vec![(5_000, 3)]), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "n\n1\n2\n").unwrap();
    std::fs::write(folder.path().join("b.csv"), [0x1f, 0x8b, 0xff, b'\n', 0xfe]).unwrap();
    std::fs::write(folder.path().join("c.txt"), "?").unwrap();
    std::fs::write(folder.path().join("d.parquet"), "PAR1").unwrap();
    let (_, snapshots, refused) = read(folder.path(), &[("path", "*.*")]).await;
    assert_eq!(counts(&snapshots), [(5_000, 2)]);
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[1].starts_with("c.txt: it cannot be read on: ") && refused[1].contains("write format ="));
    for (options, why) in [
        (&[("path", "d.parquet")][..], "d.parquet: "),
        (&[("path", "nowhere.csv")], "no such file"),
        (&[("path", "a.csv"), ("time", "at")], "no column at; there are n"),
    ] {
        let error = bind(options).unwrap().resolve(&context(folder.path())).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    for (options, why) in [
        (&[][..], "needs the setting 'path'"),
        (&[("path", "s3://lake/a.parquet")], "on this machine"),
        (&[("path", "a"), ("format", "xls")], "'parquet', 'csv' or 'ndjson'"),
        (&[("path", "a"), ("time", "at"), ("columns", "n bigint")], "not one of the declared"),
    ] {
        let error = bind(options).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// A job that starts again must find the columns that it was planned with, and waits for files that are away.
#[tokio::test]
async fn columns_stay_as_they_were_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.csv");
    std::fs::write(&file, "at,n\n2024-11-05T16:00:00Z,1\n").unwrap();
    let options = [("path", "a.csv"), ("time", "at")];
    let found = bind(&options).unwrap().resolve(&context(folder.path())).await.unwrap().relations;
    std::fs::remove_file(&file).unwrap();
    let source = bind(&options).unwrap();
    source.adopt(&found);
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context(folder.path()), out));
    let Some(Event::Health(health)) = events.recv().await else { panic!("it says what it waits for") };
    assert!(health.error.unwrap().contains("no such file"));
    std::fs::write(&file, "at,n,x\n2024-11-05T16:00:00Z,one,1\n2024-11-05T16:01:00Z,2,2\n").unwrap();
    let (mut rows, mut refused) = (vec![], vec![]);
    while let Some(event) = events.recv().await {
        match event {
            Event::Snapshot(snapshot) => rows.push(snapshot.tables[0].clone().unwrap()),
            Event::Rejected(rejections) => refused.extend(rejections),
            // Half of a file may have been there.
            Event::Health(_) => {}
        }
    }
    assert_eq!(rows.len(), 1, "{refused:?}");
    assert_eq!((rows[0].schema(), rows[0].num_rows()), (found[0].schema.clone(), 1));
    assert!(refused[0].reason.contains("n is no Int64"), "{refused:?}");
}

/// 34 days, hourly, of the Paris system.
#[tokio::test]
async fn a_month_of_history() {
    let data = std::env::var_os("VELIB_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = "velib/history/opendata_hourly_2021-11-30_2022-01-03.csv.gz";
    if !data.join(path).exists() {
        eprintln!("skipped: {} is not there (set VELIB_TEST_DATA)", data.join(path).display());
        return;
    }
    let (relation, snapshots, refused) = read(&data, &[("path", path), ("time", "ts")]).await;
    assert_eq!(relation.schema.fields().len(), 11);
    assert_eq!(snapshots.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), 1_172_886);
    assert_eq!(snapshots.len(), 811, "distinct times, counted in the file");
    assert_eq!(snapshots[0].0, 1_638_293_340_000);
    assert_eq!(refused, [""; 0]);
}
