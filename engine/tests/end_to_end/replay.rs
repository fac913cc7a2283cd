//! Recorded feeds at full speed: every transaction shows one snapshot in all views, whoever looks and
//! however many workers compute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;
use tokio_postgres::{Client, Error};

use super::cluster::{Cluster, eventually};
use super::feed::{self, Life, STATIONS, submission, totals};

const READERS: usize = 4;

/// What a transaction sees: `as_of`, then of stations, areas and the total how many stations, and their sums.
type Sight = (i64, [(i64, (i64, i64, i64)); 3]);

/// One transaction over all views; none before the first commit.
async fn look(sql: &Client) -> Result<Option<Sight>, Error> {
    sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let frontier = "SELECT (extract(epoch FROM as_of) * 1000)::bigint FROM velib.frontier WHERE job = 'city'";
    let Some(as_of) = sql.query_opt(frontier, &[]).await? else {
        sql.batch_execute("ROLLBACK").await?;
        return Ok(None);
    };
    let mut sums = [(0, (0, 0, 0)); 3];
    let views = [
        ("by_station", "count(*)", "bikes * bikes"),
        ("by_area", "coalesce(sum(stations), 0)::bigint", "squares"),
        ("total", "coalesce(sum(stations), 0)::bigint", "squares"),
    ];
    for (sum, (view, stations, squares)) in sums.iter_mut().zip(views) {
        let text = format!(
            "SELECT {stations}, coalesce(sum(bikes), 0)::bigint, coalesce(sum(docks), 0)::bigint,
                 coalesce(sum({squares}), 0)::bigint FROM city.{view}"
        );
        let row = sql.query_one(&text, &[]).await?;
        *sum = (row.get(0), (row.get(1), row.get(2), row.get(3)));
    }
    sql.batch_execute("COMMIT").await?;
    Ok(Some((as_of.get(0), sums)))
}

/// What the feed itself says: the sums of each snapshot, by its time.
struct Truth(BTreeMap<i64, (i64, i64, i64)>);

impl Truth {
    fn of(life: &Life) -> Truth {
        let truth = Truth(life.states.iter().enumerate().map(|(k, rows)| (Life::time(k), totals(rows))).collect());
        let distinct: BTreeSet<_> = truth.0.values().collect();
        assert!(distinct.len() * 10 > truth.0.len() * 9, "or a mixture of two snapshots could pass for one");
        truth
    }

    /// Looks again and again until it is told to stop: stations, areas and the total always are those of one
    /// snapshot, and no snapshot is followed by one before it. Yields which were seen.
    async fn watch(&self, sql: &Client, stop: &AtomicBool) -> Vec<i64> {
        let mut seen = vec![];
        while !stop.load(Ordering::Relaxed) {
            let Some((as_of, sums)) = look(sql).await.unwrap() else { continue };
            let said = *self.0.get(&as_of).unwrap_or_else(|| panic!("no snapshot has the time {as_of}"));
            assert_eq!(sums, [(STATIONS as i64, said); 3], "as of {as_of}");
            assert!(seen.last().is_none_or(|last| *last <= as_of), "{as_of} after {seen:?}");
            seen.push(as_of);
        }
        seen
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_shows_one_snapshot_in_all_views() {
    let life = Life::of(400);
    let folder = tempfile::tempdir().unwrap();
    life.record(folder.path());
    let truth = Truth::of(&life);
    let mut cluster = Cluster::start(2, 2).await;
    let done = AtomicBool::new(false);
    let reader = async || {
        let sql = cluster.connect().await;
        truth.watch(&sql, &done).await
    };
    let play = async {
        let (code, answer) = cluster.submit(&submission("city", &feed::recorded_job(folder.path()))).await;
        assert_eq!((code, &answer["views"]), (201, &json!(["by_station", "by_area", "total"])), "{answer}");
        cluster.until_status("city", "finished").await;
        done.store(true, Ordering::Relaxed);
    };
    let readers = futures::future::join_all((0..READERS).map(|_| reader()));
    let (seen, ()) = futures::future::join(readers, play).await;
    let looks: usize = seen.iter().map(Vec::len).sum();
    let distinct: BTreeSet<i64> = seen.into_iter().flatten().collect();
    eprintln!("{looks} looks, {} of {} snapshots seen", distinct.len(), life.states.len());
    // A recording is read by the hour.
    assert!(distinct.len() >= 3, "only {} snapshots seen", distinct.len());
    let rows = super::cluster::stations(&cluster.connect().await, "city").await.unwrap();
    assert_eq!(life.document(&rows), Some(life.states.len() - 1));
    cluster.stop().await;
}

/// The recording is read again from its beginning by whoever comes back, and nobody sees that.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_recording_shows_no_step_back() {
    let life = Life::of(400);
    let folder = tempfile::tempdir().unwrap();
    life.record(folder.path());
    let truth = Truth::of(&life);
    let mut cluster = Cluster::start(2, 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (sql, stopped) = (cluster.connect().await, Arc::clone(&stop));
    let watching = tokio::spawn(async move { truth.watch(&sql, &stopped).await });
    // At most ten documents a second: it is killed in the middle of them.
    let paced = feed::recorded_job(folder.path()).replace("poll = '100 ms'", "speed = '600'");
    let (code, answer) = cluster.submit(&submission("city", &paced)).await;
    assert_eq!(code, 201, "{answer}");
    let shown = cluster.shows_more("city", &life, 30).await;
    cluster.kill(0);
    cluster.start_again(0);
    cluster.formed().await;
    // What has been shown is not played at that pace again: it would take seconds.
    let begun = Instant::now();
    let shown = cluster.shows_more("city", &life, shown).await;
    eprintln!("caught up with {shown} documents in {:?}", begun.elapsed());
    // Told to stop while it catches up, it leaves the tables as they are.
    cluster.stop().await;
    for process in 0..2 {
        cluster.start_again(process);
    }
    cluster.formed().await;
    cluster.stop().await;
    for process in 0..2 {
        cluster.start_again(process);
    }
    cluster.formed().await;
    cluster.shows_more("city", &life, shown).await;
    stop.store(true, Ordering::Relaxed);
    assert!(watching.await.unwrap().len() > 10);
    cluster.stop().await;
}

/// Joins, distinct counts, extremes, ranks, and what was before.
const WIDE: &str = "
    CREATE MATERIALIZED VIEW extremes AS
        SELECT area, min(bikes) AS least, max(bikes) AS most, avg(bikes) AS mean, count(DISTINCT bikes) AS counts
        FROM velib.observations JOIN placed USING (station_id) GROUP BY area;
    CREATE MATERIALIZED VIEW fullest AS
        SELECT station_id, bikes FROM velib.status ORDER BY bikes DESC, station_id LIMIT 10;
    CREATE MATERIALIZED VIEW recent AS
        SELECT station_id, count(*) AS snapshots, sum(bikes) AS bikes FROM velib.observations
        WHERE observed_at > now() - INTERVAL '10 minutes' GROUP BY station_id;
    CREATE MATERIALIZED VIEW hours AS
        SELECT station_id, date_trunc('hour', observed_at) AS hour, avg(bikes) AS bikes, stddev_pop(bikes) AS spread
        FROM velib.observations GROUP BY station_id, date_trunc('hour', observed_at);";

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_processes_and_workers_gives_the_same_tables() {
    let life = Life::of(90);
    let folder = tempfile::tempdir().unwrap();
    life.record(folder.path());
    let text = feed::recorded_job(folder.path()) + WIDE;
    let views = ["by_station", "by_area", "total", "extremes", "fullest", "recent", "hours"];
    let mut first: Option<Vec<String>> = None;
    for (processes, workers) in [(1, 1), (1, 3), (2, 2)] {
        let mut cluster = Cluster::start(processes, workers).await;
        let (code, answer) = cluster.submit(&submission("city", &text)).await;
        assert_eq!(code, 201, "{answer}");
        cluster.until_status("city", "finished").await;
        let sql = cluster.connect().await;
        let mut tables = vec![];
        for view in views {
            let text = format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM city.{view} t");
            let table: String = sql.query_one(&text, &[]).await.unwrap().get(0);
            assert!(!table.is_empty(), "{view} on {processes} x {workers}");
            tables.push(table);
        }
        let errors = sql.query("SELECT view, message, count FROM velib.errors", &[]).await.unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        match &first {
            None => first = Some(tables),
            Some(first) => {
                for (view, (table, first)) in views.iter().zip(tables.iter().zip(first)) {
                    assert_eq!(table, first, "{view} on {processes} x {workers}");
                }
            }
        }
        cluster.stop().await;
    }
}

/// The Paris feed as it was recorded, with its odd documents.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_documents_of_paris_replay() {
    let data = std::env::var_os("VELIB_TEST_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        std::path::PathBuf::from,
    );
    if !data.join("velib/raw_opendata").is_dir() {
        eprintln!("skipped: no recorded feeds at {} (VELIB_TEST_DATA)", data.display());
        return;
    }
    let mut cluster = Cluster::start(1, 2).await;
    let path = data.join("velib/raw_opendata/v2.1_export_*.json");
    let text = format!(
        "CREATE SOURCE velib FROM GBFS (url = '{}');
         CREATE MATERIALIZED VIEW by_station AS SELECT station_id, bikes, docks FROM velib.status",
        path.display()
    );
    let (code, answer) = cluster.submit(&submission("paris", &text)).await;
    assert_eq!(code, 201, "{answer}");
    let job = cluster.until_status("paris", "finished").await;
    assert_eq!(job["sources"]["velib"]["snapshots"], 1, "{job}");
    let sql = cluster.connect().await;
    // One document is cut short, one has no keys: both are told, the good one is there whole.
    let reasons = eventually("two documents in quarantine", async || {
        let text = "SELECT reason FROM velib.quarantine WHERE job = 'paris' AND relation = '' ORDER BY id";
        let rows = sql.query(text, &[]).await.unwrap();
        let reasons: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if reasons.len() == 2 { Ok(reasons) } else { Err(format!("{reasons:?}")) }
    })
    .await;
    assert!(reasons[1].contains("cut short after 524288 bytes"), "{reasons:?}");
    assert!(super::cluster::stations(&sql, "paris").await.unwrap().len() > 1_400);
    cluster.stop().await;
}
