//! Whatever jobs, feeds and settings say, the answer names what is wrong, and all else goes on.

use std::time::Duration;

use super::cluster::{Cluster, Process, eventually, free_port};
use super::feed::{self, Life, live_job, order, submission};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_is_refused_whole() {
    let city = feed::city().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let source = format!("CREATE SOURCE velib FROM GBFS (url = '{}');\n", city.gbfs_url);
    let view = |select: &str| format!("{source}CREATE MATERIALIZED VIEW v AS {select}");
    let mut cluster = Cluster::start(1, 1).await;
    let cases: Vec<(&str, String, u16, &[&str])> = vec![
        ("bad", view("SELECT station_id FROM FROM velib.status"), 400, &["line 2", "expected"]),
        (
            "bad",
            view("SELECT bikez FROM velib.status"),
            400,
            &["no column bikez", "line 2, column", "did you mean bikes?"],
        ),
        ("bad", view("SELECT station_id FROM velib.statuses"), 400, &["no relation velib.statuses", "line 2"]),
        (
            "bad",
            view(
                "SELECT station_id FROM velib.status s WHERE station_id NOT IN (SELECT t.station_id FROM velib.status t WHERE t.bikes = s.docks)",
            ),
            400,
            &["not supported", "line 2"],
        ),
        ("bad", view("SELECT * FROM velib.observations"), 400, &["line 2", "retain"]),
        (
            "bad",
            "\nCREATE SOURCE x FROM KAFKA (url = 'x'); CREATE MATERIALIZED VIEW v AS SELECT 1 AS x".into(),
            400,
            &["no source of kind KAFKA", "GBFS", "line 2"],
        ),
        (
            "bad",
            "CREATE SOURCE x FROM GBFS (url = 'http://x/', pol = '1 s')".into(),
            400,
            &["no setting 'pol'", "poll", "line 1"],
        ),
        ("bad", "CREATE SOURCE x FROM GBFS (url = 'nowhere/*.json')".into(), 502, &["source x", "nowhere"]),
        (
            "bad",
            format!("CREATE SOURCE x FROM GEOJSON (url = '{nobody}/x', id = 'id')"),
            502,
            &["source x", "http://127.0.0.1:"],
        ),
        ("Bad name", source.clone(), 400, &["\"Bad name\"", "a name starts with"]),
        ("bad", String::new(), 400, &["view"]),
    ];
    for (name, text, expected, says) in cases {
        let (code, answer) = cluster.submit(&submission(name, &text)).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(code, expected, "{text}: {answer}");
        assert!(says.iter().all(|words| error.contains(words)), "{text}: {error}");
    }
    let (code, answer) = cluster.submit(&serde_json::json!({ "name": "bad", "sql": "" })).await;
    assert_eq!((code, answer["error"].as_str().unwrap().contains("unknown field `sql`")), (400, true), "{answer}");
    let sql = cluster.connect().await;
    let rows = sql.query("SELECT name FROM velib.jobs UNION ALL SELECT job FROM velib.frontier", &[]).await.unwrap();
    assert!(rows.is_empty());
    // A feed that is down when it is submitted may come: the job waits for it and says so.
    let text = format!(
        "CREATE SOURCE velib FROM GBFS (url = '{nobody}/gbfs.json', poll = '100 ms');
         CREATE MATERIALIZED VIEW total AS SELECT count(*) AS stations FROM velib.status"
    );
    assert_eq!(cluster.submit(&submission("waits", &text)).await.0, 201);
    eventually("the reason why it waits", async || {
        let job = cluster.job("waits").await;
        let error = job["sources"]["velib"]["error"].as_str().unwrap_or_default();
        if error.contains(&nobody) { Ok(()) } else { Err(job.to_string()) }
    })
    .await;
    // Longer than the first results wait for it: there still are none.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let job = cluster.until_status("waits", "pending").await;
    assert!(job["frontier"].is_null(), "{job}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_feed_answers_the_last_good_state_stays() {
    let (life, city) = (Life::of(2_000), feed::city().await);
    let mut cluster = Cluster::start(1, 2).await;
    assert_eq!(cluster.submit(&submission("city", &live_job(&city))).await.0, 201);
    cluster.shows_more("city", &life, 0).await;
    let sql = cluster.connect().await;
    // Documents that cannot be used: an error while they last, and in quarantine where there was a document.
    for (fault, error, kept) in [
        ("403", "403 Forbidden", false),
        ("404", "404 Not Found", false),
        ("500", "500 Internal Server Error", false),
        ("html", "HTML or XML", true),
        ("truncated", "cut short", true),
        ("empty", "empty", true),
        ("latin1", "not UTF-8", true),
        ("hang", "no whole answer within 1s", false),
        ("huge", "larger than", false),
        ("null-keys", "usable station_id", true),
    ] {
        order(&city, fault, 3).await;
        eventually(&format!("error of {fault}"), async || {
            let job = cluster.job("city").await;
            let said = job["sources"]["velib"]["error"].as_str().unwrap_or_default();
            if said.contains(error) { Ok(()) } else { Err(job.to_string()) }
        })
        .await;
        let shown = cluster.shown("city", &life).await;
        if kept {
            let text = "SELECT count(*) FROM velib.quarantine WHERE job = 'city' AND reason LIKE '%' || $1 || '%'";
            eventually(&format!("{fault} in quarantine"), async || {
                let found: i64 = sql.query_one(text, &[&error]).await.unwrap().get(0);
                if found > 0 { Ok(()) } else { Err("nothing".to_owned()) }
            })
            .await;
        }
        cluster.shows_more("city", &life, shown).await;
    }
    // Rows that cannot be used: those are left out, the others go on.
    for (fault, reason, left) in [
        ("duplicates", "is listed twice", 200),
        ("missing-ids", "has no station_id", 190),
        ("wrong-types", "num_bikes_available", 190),
        ("negative", "-1", 190),
    ] {
        order(&city, fault, 8).await;
        let text = "SELECT count(*) FROM velib.quarantine WHERE job = 'city' AND reason LIKE '%' || $1 || '%'";
        eventually(&format!("{fault} in quarantine, {left} rows left"), async || {
            let found: i64 = sql.query_one(text, &[&reason]).await.unwrap().get(0);
            let total: i64 = sql.query_one("SELECT stations::bigint FROM city.total", &[]).await.unwrap().get(0);
            if found >= 10 && (total == left || left == 200) { Ok(()) } else { Err(format!("{found}, {total} rows")) }
        })
        .await;
        cluster.shows_more("city", &life, 0).await;
    }
    cluster.stop().await;
}

/// What a document from the future counts is now; what it says of times is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn times_from_the_future_are_left_out() {
    let city = feed::city_of(feed::STATIONS, chrono::Utc::now().timestamp()).await;
    let mut cluster = Cluster::start(1, 1).await;
    let reported = "
        CREATE MATERIALIZED VIEW reported AS
            SELECT count(*) AS stations, count(last_reported) AS told FROM velib.status;";
    assert_eq!(cluster.submit(&submission("city", &(live_job(&city) + reported))).await.0, 201);
    cluster.until_status("city", "running").await;
    let sql = cluster.connect().await;
    let told = async |expected: usize| {
        eventually(&format!("{expected} stations that have reported"), async || {
            let row = sql.query_one("SELECT stations, told FROM city.reported", &[]).await.unwrap();
            let found: (i64, i64) = (row.get(0), row.get(1));
            if found == (feed::STATIONS as i64, expected as i64) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    told(feed::STATIONS).await;
    order(&city, "future", 20).await;
    told(0).await;
    told(feed::STATIONS).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_start_says_why() {
    let cluster = Cluster::start(1, 1).await;
    let url = cluster.database.url();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("velib.toml");
    std::fs::write(&file, "[cluster]\nworkerz = 3\n").unwrap();
    let file = file.display().to_string();
    let api = format!("127.0.0.1:{}", free_port());
    let wrong = "postgresql://nobody:hushhush@127.0.0.1:1/x?sslmode=require";
    let cases: [(&[&str], &str, &[&str]); 6] = [
        (&["--api", &taken], &url, &[&taken, "--api", "another process"]),
        (&["--api", &api, "--listen", &taken], &url, &[&taken, "--listen", "another process"]),
        (&["--api", &api, "--config", &file], &url, &[&file, "no setting cluster.workerz", "workers"]),
        (&["--api", &api, "--config", "/nowhere.toml"], &url, &["/nowhere.toml", "No such file"]),
        (&["--api", &api], "", &["no database", "--database-url"]),
        (&["--api", &api], wrong, &["127.0.0.1:1", "TLS"]),
    ];
    for (arguments, url, says) in cases {
        let arguments: Vec<&str> = std::iter::once("worker").chain(arguments.iter().copied()).collect();
        let mut process = Process::start(&arguments, &[("VELIB_DATABASE_URL", url)]);
        let status = process.ended().await;
        let said = process.said();
        assert!(!status.success(), "{arguments:?}");
        assert!(says.iter().all(|words| said.contains(words)), "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("hushhush"), "{said}");
    }
}
