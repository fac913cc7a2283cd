//! What the tests of the lake share.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::log::{Appended, Log};
use super::read::Found;
use super::*;

/// A table of names and numbers.
pub fn table(rows: &[(&str, i64)]) -> RecordBatch {
    let fields = [Field::new("name", DataType::Utf8, false), Field::new("count", DataType::Int64, true)];
    let names = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let counts: Int64Array = rows.iter().map(|row| Some(row.1).filter(|count| *count >= 0)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![Arc::new(names), Arc::new(counts)]).unwrap()
}

/// A snapshot of a table `status`, and of one `stations`.
pub fn entry(time: Time, status: &[(&str, i64)], stations: Option<&[(&str, i64)]>) -> Entry {
    let mut tables = BTreeMap::from([("status".to_owned(), table(status))]);
    tables.extend(stations.map(|rows| ("stations".to_owned(), table(rows))));
    Entry { time, tables }
}

/// A lake in a folder that goes with it.
pub fn lake() -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(&folder.path().to_string_lossy()).unwrap().written_by(1);
    (folder, lake)
}

/// Snapshots at these times.
pub async fn write(lake: &Lake, feed: &str, times: &[Time]) -> Vec<Entry> {
    let mut log = Log::open(lake, feed).await.unwrap();
    let mut written = vec![];
    for (i, time) in times.iter().enumerate() {
        let stations: Option<&[_]> = if i % 3 == 0 { Some(&[("b", 20), ("a", -1)]) } else { None };
        let rows = [("b", i as i64), ("a", -1), ("b", 3)];
        let mut entry = entry(*time, &rows[..i % 4], stations);
        assert!(matches!(log.append(&mut entry).await.unwrap(), Appended::Durable(..)));
        written.push(entry);
    }
    written
}

/// All that a reader finds until the end.
pub async fn read_on(replay: &mut read::Replay) -> (Vec<Entry>, Vec<String>) {
    let (mut entries, mut damaged) = (vec![], vec![]);
    while let Some(found) = replay.next().await.unwrap() {
        match found {
            Found::Entry(_, entry) => entries.push(entry),
            Found::Damaged(damage) => damaged.push(damage.to_string()),
        }
    }
    (entries, damaged)
}

#[tokio::test]
async fn what_is_appended_is_read_in_order_and_read_on() {
    let (_folder, lake) = lake();
    let first = write(&lake, "f", &[1_000, 2_000]).await;
    let mut replay = lake.replay("f", None);
    assert_eq!(read_on(&mut replay).await, (first, vec![]));
    let more = write(&lake, "f", &[3_000]).await;
    assert_eq!(read_on(&mut replay).await, (more.clone(), vec![]));
    assert_eq!(read_on(&mut lake.replay("f", Some(2_000))).await, (more, vec![]));
    assert_eq!(lake.feeds().await.unwrap(), ["f"]);
}

#[tokio::test]
async fn time_goes_on_though_the_clock_went_back() {
    let (_folder, lake) = lake();
    write(&lake, "f", &[5_000]).await;
    let times: Vec<_> = write(&lake, "f", &[10, 6_000]).await.iter().map(|entry| entry.time).collect();
    assert_eq!(times, [5_001, 6_000]);
}

#[tokio::test]
async fn the_newer_of_two_writers_goes_on_and_the_older_stops() {
    let (_folder, lake) = lake();
    let (mut old, mut new) = (Log::open(&lake, "f").await.unwrap(), Log::open(&lake.written_by(2), "f").await.unwrap());
    let mut first = entry(1_000, &[("a", 1)], None);
    assert!(matches!(old.append(&mut first).await.unwrap(), Appended::Durable(1, _)));
    let mut second = entry(900, &[("a", 2)], None);
    assert_eq!(new.append(&mut second).await.unwrap(), Appended::After(first.clone()));
    assert!(matches!(new.append(&mut second).await.unwrap(), Appended::Durable(2, _)));
    assert_eq!(second.time, 1_001);
    assert_eq!(old.append(&mut entry(2_000, &[], None)).await.unwrap(), Appended::Superseded(2));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (vec![first, second], vec![]));
}

#[tokio::test]
async fn what_the_same_writer_had_given_up_and_is_there_comes_first() {
    let (_folder, lake) = lake();
    let (mut given_up, mut log) = (Log::open(&lake, "f").await.unwrap(), Log::open(&lake, "f").await.unwrap());
    let mut first = entry(1_000, &[("a", 1)], None);
    assert!(matches!(given_up.append(&mut first).await.unwrap(), Appended::Durable(1, _)));
    let mut second = entry(2_000, &[("a", 2)], None);
    assert_eq!(log.append(&mut second).await.unwrap(), Appended::After(first.clone()));
    assert!(matches!(log.append(&mut second).await.unwrap(), Appended::Durable(2, _)));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (vec![first, second], vec![]));
}

#[tokio::test]
async fn a_hole_and_a_damaged_object_are_named_and_the_rest_is_read() {
    let (folder, lake) = lake();
    let mut written = write(&lake, "f", &[1_000, 2_000, 3_000, 4_000]).await;
    let path = |seq: Seq| folder.path().join(log_object("f", seq).as_ref());
    std::fs::remove_file(path(2)).unwrap();
    std::fs::write(path(3), "half").unwrap();
    let mut damaged = read_on(&mut lake.replay("f", None)).await;
    damaged.1.sort();
    written.drain(1..3);
    let name = "log/feed=f/0000000000000000000";
    assert_eq!(
        damaged,
        (written, vec![format!("{name}2.arrow: it is not there"), format!("{name}3.arrow: it is cut short")])
    );
    // A writer goes on after them.
    let mut log = Log::open(&lake, "f").await.unwrap();
    assert!(matches!(log.append(&mut entry(1, &[], None)).await.unwrap(), Appended::Durable(5, _)));
}

#[tokio::test]
async fn an_hour_in_files_is_what_the_log_said_and_stands_for_it() {
    let (folder, lake) = lake();
    let written = write(&lake, "f", &[1_000, 2_000, 3_000, 4_000, 5_000, 6_000]).await;
    let entries: Vec<_> = (1..).zip(written.iter().cloned()).take(5).collect();
    let (files, part) = hour::encode("f", 0, (1, 5), &entries).unwrap();
    for file in &files {
        // Until the last one is there, none of them counts.
        assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]));
        let path = format!("{}/{}", names::folder(&file.relation, "f", 0), file.name);
        lake.store.put(&Path::from(path), file.bytes.clone()).await.unwrap();
    }
    for seq in 1..=5 {
        assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]), "{seq}");
        lake.store.delete(&log_object("f", seq)).await.unwrap();
    }
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]));
    let log = Log::open(&lake, "f").await.unwrap();
    assert_eq!(log.time(), 6_000);
    // A file that was altered is named; what the others have of its snapshots is read.
    let index = folder.path().join(part.index("f").as_ref());
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let (entries, damaged) = read_on(&mut lake.replay("f", None)).await;
    assert_eq!((entries, damaged.len()), (written[5..].to_vec(), 1), "{damaged:?}");
    assert!(damaged[0].ends_with("its checksum does not match its name"), "{damaged:?}");
}
