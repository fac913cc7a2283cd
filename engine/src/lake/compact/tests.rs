//! Hours that become files, whatever happens on the way.

use std::collections::BTreeSet;

use super::*;
use crate::lake::log::{Appended, Log};
use crate::lake::tests::{entry, lake, read_on, write};
use crate::lake::verify::Finding;

const MINUTE: Time = 60_000;
/// When the first three hours are closed.
const LATER: Time = 3 * HOUR + GRACE;

fn compactor(lake: &Lake) -> Compactor {
    Compactor { left: Duration::ZERO, ..Compactor::new(lake.clone(), None) }
}

/// Every ten minutes, from the beginning of an hour on.
fn times(snapshots: u64) -> Vec<Time> {
    (0..snapshots).map(|i| HOUR + 1 + i * 10 * MINUTE).collect()
}

/// Names of all objects below a folder of the lake.
async fn names(lake: &Lake, folder: &str) -> Vec<String> {
    lake.store.list(&Path::from(folder), None).await.unwrap().iter().map(|object| object.path.to_string()).collect()
}

#[tokio::test]
async fn closed_hours_become_files_and_the_open_one_stays() {
    let (_folder, lake) = lake();
    let written = write(&lake, "f", &times(15)).await;
    let mut half_way = lake.replay("f", None);
    let Some(Found::Entry(1, first)) = half_way.next().await.unwrap() else { panic!() };
    assert_eq!(first, written[0]);
    let done = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    let expected = Compacted { snapshots: 12, files: 2, logged: 3, ..Compacted::default() };
    assert_eq!(done, expected);
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]));
    assert_eq!(read_on(&mut half_way).await, (written[1..].to_vec(), vec![]), "it had listed the log");
    assert_eq!(read_on(&mut lake.replay("f", Some(written[7].time))).await, (written[8..].to_vec(), vec![]));
    for relation in ["status", "stations", "snapshots"] {
        let files = names(&lake, relation).await;
        let hours = ["01", "02"].map(|hour| format!("{relation}/feed=f/date=1970-01-01/hour={hour}/"));
        assert!(files.len() == 2 && files.iter().zip(&hours).all(|(file, hour)| file.starts_with(hour)), "{files:?}");
    }
    // There is nothing more to do, and the log goes on.
    let again = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!(again, Compacted { logged: 3, ..Compacted::default() });
    let mut log = Log::open(&lake, "f").await.unwrap();
    assert!(matches!(log.append(&mut entry(1, &[], None)).await.unwrap(), Appended::Durable(16, _)));
}

#[tokio::test]
async fn what_comes_late_for_an_hour_joins_its_files() {
    let (_folder, lake) = lake();
    let mut written = write(&lake, "f", &[HOUR + 1, HOUR + 2]).await;
    for late in 0..3 {
        compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
        // The clock went back: its time is just after the last.
        written.extend(write(&lake, "f", &[5 + late]).await);
        assert_eq!(written.last().unwrap().time, HOUR + 3 + late);
    }
    let done = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!((done.snapshots, done.files, done.left), (1, 1, 0));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
    assert_eq!((names(&lake, "status").await.len(), names(&lake, "snapshots").await.len()), (1, 1));
    assert_eq!(names(&lake, "log").await, [""; 0]);
}

#[tokio::test]
async fn other_columns_begin_another_file_of_the_hour() {
    let (_folder, lake) = lake();
    let mut written = write(&lake, "f", &[HOUR + 1, HOUR + 2]).await;
    let mut log = Log::open(&lake, "f").await.unwrap();
    for time in [HOUR + 3, HOUR + 4] {
        let mut entry = entry(time, &[("a", 1)], None);
        let rows = entry.tables["status"].project(&[0]).unwrap();
        entry.tables.insert("status".to_owned(), rows);
        log.append(&mut entry).await.unwrap();
        written.push(entry);
    }
    let done = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!((done.snapshots, done.files), (4, 2));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
}

/// The objects of a lake in a folder, by path.
fn objects(folder: &std::path::Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(objects(&entry)),
            false => drop(found.insert(entry)),
        }
    }
    found
}

/// Puts a file where its folder may have gone with the last one in it.
fn put(path: &std::path::Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Every state that a compaction goes through: what is in the log before, what is there after; files come in their
/// order, then objects of the log go, then what is superseded goes. At each of them everything is read once, and the
/// next compaction ends as an undisturbed one does.
#[tokio::test]
async fn a_compaction_that_ends_at_any_step_is_finished_by_the_next() {
    let (folder, lake) = lake();
    let mut written = write(&lake, "f", &[HOUR + 1, HOUR + 2, HOUR + 3]).await;
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    written.extend(write(&lake, "f", &[HOUR + 4, HOUR + 5]).await);
    let bytes = |paths: &BTreeSet<std::path::PathBuf>| -> BTreeMap<_, _> {
        paths.iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let before = bytes(&objects(folder.path()));
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    let after = bytes(&objects(folder.path()));
    let rank = |path: &std::path::Path| {
        let name = path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
        (name.starts_with(SNAPSHOTS), name)
    };
    let mut coming: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    coming.sort_by_key(|path| rank(path));
    let mut going: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    going.sort_by_key(|path| {
        let (list, name) = rank(path);
        (!name.starts_with(LOG), !list, name)
    });
    assert_eq!((coming.len(), going.len()), (3, 5), "{coming:?} {going:?}");
    for steps in 0..=coming.len() + going.len() {
        for path in objects(folder.path()) {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &before {
            put(path, bytes);
        }
        for path in coming.iter().take(steps) {
            put(path, &after[*path]);
        }
        for path in going.iter().take(steps.saturating_sub(coming.len())) {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]), "after {steps} steps");
        compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
        assert_eq!(bytes(&objects(folder.path())), after, "after {steps} steps");
    }
}

#[tokio::test]
async fn a_file_that_was_half_written_under_another_name_goes_when_it_is_old() {
    let (folder, lake) = lake();
    let written = write(&lake, "f", &times(12)).await;
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    let there = objects(folder.path());
    let table = there.iter().find(|path| path.to_string_lossy().contains("/status/")).unwrap();
    // Of the same snapshots, and of others.
    for name in ["00000000000000000001-00000000000000000006-0123456789abcdef.parquet", "1-3-0123456789abcdef.parquet"] {
        std::fs::write(table.with_file_name(name), "half").unwrap();
    }
    let done = Compactor::new(lake.clone(), None).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!(done.left, 0, "a compaction may be at work");
    assert_eq!(compactor(&lake).feed("f", LATER, |_| {}).await.unwrap().left, 2);
    assert_eq!(objects(folder.path()), there);
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
}

#[tokio::test]
async fn files_whose_list_was_lost_stay_and_are_read_again_with_it() {
    let (folder, lake) = lake();
    let written = write(&lake, "f", &times(12)).await;
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    let list = folder.path().join(&lake.hours("f").await.unwrap()[0].list);
    let bytes = std::fs::read(&list).unwrap();
    std::fs::remove_file(&list).unwrap();
    assert_eq!(compactor(&lake).feed("f", LATER, |_| {}).await.unwrap().left, 0);
    let found = lake.verify("f", |_| {}).await.unwrap();
    assert_eq!((found.snapshots, found.findings.len()), (6, 2), "one a relation");
    assert!(found.findings.iter().all(|finding| finding.reason == "the list of its snapshots is not there"));
    put(&list, &bytes);
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
    assert!(lake.verify("f", |_| {}).await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn what_is_damaged_or_missing_in_the_log_is_put_aside_and_stays_named() {
    let (folder, lake) = lake();
    let mut written = write(&lake, "f", &times(12)).await;
    let path = |seq: Seq| folder.path().join(log_object("f", seq).as_ref());
    std::fs::write(path(3), "half").unwrap();
    std::fs::remove_file(path(5)).unwrap();
    std::fs::write(path(6), "").unwrap();
    let names_of = |found: &[Finding]| found.iter().map(|f| f.object.clone()).collect::<BTreeSet<_>>();
    let before = lake.verify("f", |_| {}).await.unwrap();
    let done = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!((done.snapshots, done.logged), (9, 0));
    let lost = [3, 5, 6].map(|seq| log_object("f", seq).to_string());
    assert_eq!(names_of(&before.findings), lost.iter().cloned().collect());
    let after = lake.verify("f", |_| {}).await.unwrap();
    // Those that follow each other are told as one.
    assert_eq!(names_of(&after.findings), lost[..2].iter().cloned().collect());
    assert!(after.findings.iter().all(|finding| finding.remedy.contains("restore it")));
    assert_eq!(names(&lake, "damaged").await, [3, 6].map(|seq| format!("damaged/{}", log_object("f", seq))));
    for lost in [5, 4, 2] {
        written.remove(lost);
    }
    assert_eq!(read_on(&mut lake.replay("f", None)).await.0, written);
    assert_eq!(lake.summary("f").await.unwrap().damaged, 2);
}

#[tokio::test]
async fn an_object_of_a_newer_version_is_left_alone() {
    let (folder, lake) = lake();
    write(&lake, "f", &times(6)).await;
    let path = folder.path().join(log_object("f", 4).as_ref());
    let segment = lake.segment("f", 4).await.unwrap().unwrap();
    std::fs::write(&path, segment.encode_as("2").unwrap()).unwrap();
    let there = objects(folder.path());
    let error = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("format 2 is not known"), "{error}");
    assert_eq!(objects(folder.path()), there);
}

#[tokio::test]
async fn files_that_are_broken_before_the_log_has_gone_are_made_again() {
    let (folder, lake) = lake();
    let written = write(&lake, "f", &times(6)).await;
    let logs: Vec<_> =
        objects(folder.path()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    let table = objects(folder.path()).into_iter().find(|path| path.to_string_lossy().contains("/status/")).unwrap();
    std::fs::write(&table, "half").unwrap();
    let verified = lake.verify("f", |_| {}).await.unwrap();
    assert_eq!(verified.findings[0].reason, "its checksum does not match its name");
    for (path, bytes) in logs {
        put(&path, &bytes);
    }
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
    assert!(lake.verify("f", |_| {}).await.unwrap().findings.is_empty());
    assert_eq!(names(&lake, "log").await, [""; 0]);
}

#[tokio::test]
async fn what_is_too_old_goes_by_the_hour_and_numbers_go_on() {
    let (_folder, lake) = lake();
    let written = write(&lake, "f", &times(18)).await;
    let kept = |hours: u64| Compactor { retention: Some(Duration::from_secs(hours * 3_600)), ..compactor(&lake) };
    let now = 4 * HOUR + GRACE;
    let done = kept(2).feed("f", now, |_| {}).await.unwrap();
    assert_eq!((done.snapshots, done.expired, done.left), (18, 6, 0));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written[6..].to_vec(), vec![]));
    // The last hour stays however old it is.
    let done = kept(1).feed("f", 1_000 * HOUR, |_| {}).await.unwrap();
    assert_eq!((done.expired, names(&lake, "status").await.len()), (6, 1));
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written[12..].to_vec(), vec![]));
    let mut log = Log::open(&lake, "f").await.unwrap();
    assert!(matches!(log.append(&mut entry(1, &[], None)).await.unwrap(), Appended::Durable(19, _)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_compactors_a_writer_and_readers_at_once_lose_and_double_nothing() {
    let (_folder, lake) = lake();
    let mut written = write(&lake, "f", &times(18)).await;
    let work = |lake: Lake| {
        tokio::spawn(async move {
            for now in [2 * HOUR + GRACE, 3 * HOUR + GRACE, 4 * HOUR + GRACE] {
                for _ in 0..3 {
                    compactor_of_old(&lake).feed("f", now, |_| {}).await.unwrap();
                }
            }
        })
    };
    let working = [work(lake.clone()), work(lake.clone())];
    let reading = tokio::spawn({
        let (lake, written) = (lake.clone(), written.clone());
        async move {
            for _ in 0..10 {
                let (entries, damaged) = read_on(&mut lake.replay("f", None)).await;
                assert_eq!((&entries[..written.len()], &damaged[..]), (&written[..], &[][..]));
            }
        }
    });
    written.extend(write(&lake, "f", &[4 * HOUR + 1, 4 * HOUR + 2]).await);
    for task in working {
        task.await.unwrap();
    }
    reading.await.unwrap();
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
    assert!(lake.verify("f", |_| {}).await.unwrap().findings.is_empty());
}

/// One that leaves files of others at work.
fn compactor_of_old(lake: &Lake) -> Compactor {
    Compactor::new(lake.clone(), None)
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_that_refuses_is_an_error_and_works_again_later() {
    let (folder, lake) = lake();
    let written = write(&lake, "f", &times(6)).await;
    // A file is in the way of the folder of a table.
    let way = folder.path().join("status");
    std::fs::write(&way, "").unwrap();
    let error = compactor(&lake).feed("f", LATER, |_| {}).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written.clone(), vec![]));
    std::fs::remove_file(&way).unwrap();
    compactor(&lake).feed("f", LATER, |_| {}).await.unwrap();
    assert_eq!(read_on(&mut lake.replay("f", None)).await, (written, vec![]));
    assert_eq!(names(&lake, "log").await, [""; 0]);
}
