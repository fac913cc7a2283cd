//! Several feeds in one job: of several cities, and of the past and the present of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Client;

use super::cluster::{Cluster, eventually};
use super::feed::{self, Life, STATIONS, order, submission};

const FEW: usize = 60;

/// Stations and bikes by city, and the whole, in one transaction.
async fn look(sql: &Client) -> ((i64, i64), (i64, i64)) {
    let text =
        "SELECT (SELECT sum(stations) FROM cities.by_city)::bigint, (SELECT sum(bikes) FROM cities.by_city)::bigint,
                       stations, bikes FROM cities.total";
    let row = sql.query_one(text, &[]).await.unwrap();
    ((row.get(0), row.get(1)), (row.get(2), row.get(3)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_reads_the_feeds_of_several_cities() {
    let (large, small) = (feed::city().await, feed::city_of(FEW, 1_700_000_000).await);
    let source = |name: &str, url: &str| format!("CREATE SOURCE {name} FROM GBFS (url = '{url}', poll = '100 ms');\n");
    let text = source("large", &large.gbfs_url)
        + &source("small", &small.gbfs_url)
        + "CREATE VIEW status AS
             SELECT 'large' AS city, station_id, bikes FROM large.status
             UNION ALL SELECT 'small' AS city, station_id, bikes FROM small.status;
         CREATE MATERIALIZED VIEW by_city AS
             SELECT city, count(*) AS stations, sum(bikes) AS bikes FROM status GROUP BY city;
         CREATE MATERIALIZED VIEW total AS SELECT count(*) AS stations, sum(bikes) AS bikes FROM status;
         CREATE MATERIALIZED VIEW news AS SELECT count(*) AS rows FROM large.observations;";
    let mut cluster = Cluster::start(2, 1).await;
    assert_eq!(cluster.submit(&submission("cities", &text)).await.0, 201);
    cluster.until_status("cities", "running").await;
    let sql = cluster.connect().await;
    let both = (STATIONS + FEW) as i64;
    eventually("both cities", async || {
        let (sum, total) = look(&sql).await;
        assert_eq!(sum, total, "the views are of one moment, whoever's document came last");
        if total.0 == both { Ok(()) } else { Err(format!("{} stations", total.0)) }
    })
    .await;
    // One falls silent: it stays as it was, and the other goes on.
    order(&small, "500", 100).await;
    eventually("one feed's failure", async || {
        let job = cluster.job("cities").await;
        if job["sources"]["small"]["error"].is_string() { Ok(()) } else { Err(job.to_string()) }
    })
    .await;
    let rows = async || -> i64 { sql.query_one("SELECT rows FROM cities.news", &[]).await.unwrap().get(0) };
    let before = rows().await;
    eventually("news of the other", async || {
        let (sum, total) = look(&sql).await;
        assert_eq!((sum, total.0), (total, both));
        if rows().await > before { Ok(()) } else { Err(before.to_string()) }
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_comes_before_what_is_live_and_stays_over_a_restart() {
    let (life, city) = (Life::of(40), feed::city().await);
    let folder = tempfile::tempdir().unwrap();
    life.record(folder.path());
    let text = format!(
        "CREATE SOURCE past FROM GBFS (url = '{}/*.json');
         CREATE SOURCE present FROM GBFS (url = '{}', poll = '100 ms');
         CREATE MATERIALIZED VIEW rows AS
             SELECT 'past' AS part, count(*) AS rows FROM past.observations
             UNION ALL SELECT 'present' AS part, count(*) AS rows FROM present.observations;",
        folder.path().display(),
        city.gbfs_url
    );
    let mut cluster = Cluster::start(1, 2).await;
    assert_eq!(cluster.submit(&submission("mixed", &text)).await.0, 201);
    let recorded = (life.states.len() * STATIONS) as i64;
    let rows = async |sql: &Client, part: &str| -> i64 {
        let text = "SELECT coalesce(sum(rows), 0)::bigint FROM mixed.rows WHERE part = $1";
        sql.query_one(text, &[&part]).await.unwrap().get(0)
    };
    cluster.until_status("mixed", "running").await;
    let sql = cluster.connect().await;
    eventually("the recording and more", async || {
        let (past, present) = (rows(&sql, "past").await, rows(&sql, "present").await);
        if past == recorded && present > 0 { Ok(()) } else { Err(format!("{past}, {present}")) }
    })
    .await;
    // From here on the recording is there whole, whoever looks.
    let stop = Arc::new(AtomicBool::new(false));
    let (watching, stopped) = (cluster.connect().await, Arc::clone(&stop));
    let watch = tokio::spawn(async move {
        let mut looks = 0;
        while !stopped.load(Ordering::Relaxed) {
            let text = "SELECT sum(rows)::bigint FROM mixed.rows WHERE part = 'past'";
            let past: i64 = watching.query_one(text, &[]).await.unwrap().get(0);
            assert_eq!(past, recorded);
            looks += 1;
        }
        looks
    });
    cluster.kill(0);
    cluster.start_again(0);
    cluster.formed().await;
    let generation = cluster.job("mixed").await["frontier"]["generation"].clone();
    eventually("the tables of the next generation", async || {
        let job = cluster.job("mixed").await;
        let moved = job["status"] == "running" && job["sink"]["transactions"].as_u64() > Some(2);
        if moved { Ok(()) } else { Err(format!("{job} after {generation}")) }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert!(watch.await.unwrap() > 10);
    cluster.stop().await;
}
