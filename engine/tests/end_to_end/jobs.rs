//! Jobs are installed, replaced, paused, dropped, and come back with the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use velib_engine::simulate::Running;

use super::cluster::{Cluster, eventually, stations};
use super::feed::{self, Life, live_job, submission};

fn replacement(name: &str, text: &str) -> Value {
    json!({ "name": name, "text": text, "replace": true })
}

/// What there is of a job in the database.
async fn traces(cluster: &Cluster, job: &str) -> i64 {
    let text = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1)
                     + (SELECT count(*) FROM velib.frontier WHERE job = $1)
                     + (SELECT count(*) FROM velib.views WHERE job = $1)
                     + (SELECT count(*) FROM velib.jobs WHERE name = $1)";
    cluster.connect().await.query_one(text, &[&job]).await.unwrap().get(0)
}

/// Whether the only one who asks the feed are we: each request is a step of its clock.
async fn nobody_reads(city: &Running) -> bool {
    let http = velib_engine::source::build_client().unwrap();
    let time = async || {
        let url = format!("http://{}/station_status.json", city.address);
        let document: Value = http.get(url).send().await.unwrap().json().await.unwrap();
        document["last_updated"].as_i64().unwrap()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = time().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    time().await - before == 60
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_replaced_under_its_readers() {
    let (life, city) = (Life::of(1_500), feed::city().await);
    let mut cluster = Cluster::start(1, 2).await;
    let text = live_job(&city);
    let (code, answer) = cluster.submit(&submission("city", &text)).await;
    assert_eq!((code, &answer["change"]), (201, &json!("installed")));
    let (code, answer) = cluster.submit(&submission("city", &text)).await;
    assert_eq!((code, &answer["change"]), (200, &json!("unchanged")));
    let other = text.replace(
        "SELECT station_id, bikes, docks FROM velib.status",
        "
        SELECT station_id, docks, bikes, bikes + docks AS places FROM velib.status",
    );
    let (code, answer) = cluster.submit(&submission("city", &other)).await;
    assert_eq!(code, 409);
    assert!(answer["error"].as_str().unwrap().contains("--replace"), "{answer}");
    cluster.shows_more("city", &life, 0).await;
    let done = AtomicBool::new(false);
    let reader = async {
        let (sql, mut looks) = (cluster.connect().await, 0);
        while !done.load(Ordering::Relaxed) {
            // A fresh statement each time, as dashboards send them.
            let text = format!("SELECT count(*), sum(bikes)::text FROM city.by_station -- {looks}");
            let row = sql.query_one(&text, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), feed::STATIONS as i64);
            looks += 1;
        }
        looks
    };
    let replace = async {
        for (version, text) in [(2, &other), (3, &text), (4, &other)] {
            let (code, answer) = cluster.submit(&replacement("city", text)).await;
            assert_eq!((code, &answer["change"]), (200, &json!("replaced")), "{answer}");
            let job = cluster.until_status("city", "running").await;
            assert_eq!(job["version"], version);
            let shown = cluster.shown("city", &life).await;
            cluster.shows_more("city", &life, shown).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (looks, ()) = futures::future::join(reader, replace).await;
    assert!(looks > 50, "{looks}");
    let wrong = cluster.connect().await.query("SELECT 1 FROM city.by_station WHERE places <> bikes + docks", &[]).await;
    assert!(wrong.unwrap().is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_pause_resume_and_come_back_with_the_cluster() {
    let (life, city) = (Life::of(1_500), feed::city().await);
    let mut cluster = Cluster::start(2, 1).await;
    for name in ["held", "other"] {
        // Through a process that does not lead.
        let (code, answer) = cluster.ask(1, Method::POST, "/api/jobs", Some(&submission(name, &live_job(&city)))).await;
        assert_eq!(code, 201, "{answer}");
    }
    let shown = cluster.shows_more("held", &life, 0).await;
    let (code, job) = cluster.ask(1, Method::POST, "/api/jobs/held/pause", None).await;
    assert_eq!((code, &job["desired"]), (200, &json!("paused")), "{job}");
    cluster.until_status("held", "paused").await;
    let sql = cluster.connect().await;
    // A transaction that was under way may still end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = stations(&sql, "held").await.unwrap();
    assert!(life.document(&held) >= Some(shown));
    let other = cluster.shows_more("other", &life, shown).await;
    cluster.shows_more("other", &life, other).await;
    assert_eq!(stations(&sql, "held").await.unwrap(), held);
    // It stays paused, and its tables as they are, over a restart of everything.
    cluster.stop().await;
    assert_eq!(stations(&sql, "held").await.unwrap(), held);
    for process in 0..2 {
        cluster.start_again(process);
    }
    cluster.formed().await;
    cluster.until_status("other", "running").await;
    cluster.until_status("held", "paused").await;
    let document = cluster.shown("other", &life).await;
    cluster.shows_more("other", &life, document).await;
    assert_eq!(stations(&sql, "held").await.unwrap(), held);
    assert_eq!(cluster.ask(0, Method::POST, "/api/jobs/held/resume", None).await.0, 200);
    cluster.shows_more("held", &life, document).await;
    cluster.until_status("held", "running").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_job_leaves_nothing_behind() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let mut cluster = Cluster::start(2, 2).await;
    let text = live_job(&city);
    for name in ["kept", "gone"] {
        assert_eq!(cluster.submit(&submission(name, &text)).await.0, 201);
        cluster.shows_more(name, &life, 0).await;
    }
    let delete = async |name: &str| cluster.ask(0, Method::DELETE, &format!("/api/jobs/{name}"), None).await;
    assert_eq!(delete("gone").await.0, 204);
    assert_eq!(traces(&cluster, "gone").await, 0);
    let (code, answer) = delete("gone").await;
    assert_eq!((code, answer["error"].as_str().unwrap().contains("there is no job gone")), (404, true));
    // As soon as it is there, in the middle of its first transaction, and with another definition at once.
    let other = text.replace(
        "SELECT station_id, bikes, docks FROM velib.status",
        "
        SELECT station_id, bikes, docks, bikes + docks AS places FROM velib.status",
    );
    for pause in [0, 60, 200] {
        assert_eq!(cluster.submit(&submission("gone", &text)).await.0, 201);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        assert_eq!(delete("gone").await.0, 204);
        assert_eq!(cluster.submit(&submission("gone", &other)).await.0, 201);
        let sql = cluster.connect().await;
        eventually("the table of the second definition", async || {
            let sum = sql.query_one("SELECT sum(places - bikes - docks)::bigint FROM gone.by_station", &[]).await;
            match sum {
                Ok(row) if row.get::<_, Option<i64>>(0) == Some(0) => Ok(()),
                Ok(_) => Err("an empty table".to_owned()),
                Err(error) => Err(format!("{error:?}; {}", cluster.job("gone").await)),
            }
        })
        .await;
        cluster.until_status("gone", "running").await;
        assert_eq!(delete("gone").await.0, 204);
    }
    // Nothing that was under way brings it back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(traces(&cluster, "gone").await, 0);
    let document = cluster.shown("kept", &life).await;
    cluster.shows_more("kept", &life, document).await;
    // Nobody reads the feed any more when the last job that does is gone.
    assert_eq!(delete("kept").await.0, 204);
    assert!(nobody_reads(&city).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_tables_cannot_be_written_is_let_go() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let mut cluster = Cluster::start(2, 1).await;
    let text = live_job(&city);
    let wrong = text.replace("VIEW by_station AS", "VIEW by_station WITH (key = 'bikes') AS");
    assert_eq!(cluster.submit(&submission("city", &wrong)).await.0, 201);
    let job = cluster.until_status("city", "failed").await;
    assert!(job["detail"].as_str().unwrap().contains("by_station"), "{job}");
    // It computes for nobody, so it reads nothing any more; and it stays failed.
    assert!(nobody_reads(&city).await);
    assert_eq!(cluster.job("city").await["status"], "failed");
    assert_eq!(cluster.submit(&replacement("city", &text)).await.0, 200);
    cluster.until_status("city", "running").await;
    cluster.shows_more("city", &life, 0).await;
    cluster.stop().await;
}
