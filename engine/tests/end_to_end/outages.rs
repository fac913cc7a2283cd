//! Processes, the database and the feed go away and come back: nothing is lost, and no table ever shows
//! what no document said.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use velib_engine::source::build_client;

use super::cluster::{Cluster, connect, eventually, stations};
use super::feed::{self, Life, live_job, order, submission};

/// Looks at the tables all the time, on connections of its own; whatever is seen was in one document.
struct Watch {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Watch {
    fn of(url: String, job: &'static str, life: &Arc<Life>) -> Watch {
        let (stop, life) = (Arc::new(AtomicBool::new(false)), Arc::clone(life));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut sql, mut looks) = (None, 0);
            while !stopped.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let Some(client) = &sql else {
                    sql = connect(&url).await.ok();
                    continue;
                };
                match stations(client, job).await {
                    Ok(rows) => {
                        assert!(life.document(&rows).is_some(), "{} rows that no document has", rows.len());
                        looks += 1;
                    }
                    // The database is away.
                    Err(_) if client.is_closed() => sql = None,
                    Err(error) if error.code().is_some_and(|code| code.code().starts_with("57P")) => sql = None,
                    Err(error) => panic!("{error:?}"),
                }
            }
            looks
        });
        Watch { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn generation(cluster: &Cluster, process: usize) -> u64 {
    cluster.ask(process, Method::GET, "/api/status", None).await.1["generation"].as_u64().unwrap_or_default()
}

/// Every snapshot that entered, counted by the database.
const HISTORY: &str = "
    CREATE MATERIALIZED VIEW history AS
        SELECT date_trunc('hour', observed_at) AS hour, count(*) AS rows, sum(bikes) AS bikes
        FROM velib.observations GROUP BY date_trunc('hour', observed_at);";

#[tokio::test(flavor = "multi_thread")]
async fn the_database_stops_and_starts_again() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let mut cluster = Cluster::start(2, 1).await;
    let (code, answer) = cluster.submit(&submission("city", &(live_job(&city) + HISTORY))).await;
    assert_eq!(code, 201, "{answer}");
    cluster.until_status("city", "running").await;
    cluster.shows_more("city", &life, 0).await;
    let watch = Watch::of(cluster.database.url(), "city", &life);
    let before = cluster.job("city").await;
    cluster.database.stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (code, answer) = cluster.ask(0, Method::GET, "/api/jobs", None).await;
    assert_eq!(code, 503, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("the database of the cluster"), "{answer}");
    let mut failing = 0;
    for process in 0..2 {
        assert_eq!(cluster.words(process, "/healthz").await, (200, "alive\n".to_owned()));
        eventually("a process that is not ready", async || match cluster.words(process, "/readyz").await {
            (503, reason) if reason.contains("the database is away") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let (_, metrics) = cluster.words(process, "/metrics").await;
        assert!(metrics.contains("\nvelib_ready 0\n") && metrics.contains("\nvelib_database_up 0\n"), "{metrics}");
        failing += usize::from(metrics.contains("velib_transaction_failures_total{job=\"city\"}"));
    }
    // One of them writes, whichever that is.
    assert_eq!(failing, 1);
    cluster.database.restart().await.unwrap();
    cluster.formed().await;
    let shown = cluster.shown("city", &life).await;
    let shown = cluster.shows_more("city", &life, shown).await;
    cluster.shows_more("city", &life, shown).await;
    let after = cluster.job("city").await;
    // In place: the same generation goes on from where it was.
    assert_eq!(before["frontier"]["generation"], after["frontier"]["generation"]);
    assert!(after["frontier"]["upper"].as_u64() > before["frontier"]["upper"].as_u64());
    // The feed falls silent; then every snapshot that entered is in the tables, once.
    order(&city, "500", 1_000).await;
    let sql = cluster.connect().await;
    eventually("every snapshot in the tables", async || {
        let rows: i64 = sql.query_one("SELECT sum(rows)::bigint FROM city.history", &[]).await.unwrap().get(0);
        let job = cluster.job("city").await;
        let feed = &job["sources"]["velib"];
        let entered = feed["snapshots"].as_i64().unwrap() * feed::STATIONS as i64;
        let silent = feed["error"].is_string();
        if silent && rows == entered { Ok(()) } else { Err(format!("{rows} rows of {entered}; {feed}")) }
    })
    .await;
    assert!(watch.end().await > 10);
    cluster.stop().await;
}

/// Connects to the ports of the mesh again and again, says nothing, nonsense, or HTTP, and stays.
fn strangers(meshes: Vec<String>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut held, mut heard) = (std::collections::VecDeque::new(), 0);
        for words in [&b""[..], b"VELIB\0\0\x03and then nonsense", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"].iter().cycle()
        {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            for mesh in &meshes {
                let Ok(mut socket) = TcpStream::connect(mesh) else { continue };
                heard += 1;
                // It may be closed on us.
                let _ = socket.write_all(words);
                held.push_back(socket);
            }
            while held.len() > 50 {
                held.pop_front();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        heard
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_killed_and_started_again_among_strangers() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let mut cluster = Cluster::start(2, 2).await;
    let (code, answer) = cluster.submit(&submission("city", &live_job(&city))).await;
    assert_eq!(code, 201, "{answer}");
    cluster.shows_more("city", &life, 0).await;
    let watch = Watch::of(cluster.database.url(), "city", &life);
    let stop = Arc::new(AtomicBool::new(false));
    let knocking = strangers(cluster.meshes.clone(), Arc::clone(&stop));
    // First one that follows, then the leader.
    for (killed, survivor) in [(1, 0), (0, 1)] {
        let (before, id) = (generation(&cluster, 0).await, cluster.processes[survivor].as_ref().unwrap().id());
        cluster.kill(killed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.start_again(killed);
        let again = eventually("the next generation", async || {
            cluster.formed().await;
            let now = generation(&cluster, 0).await;
            if now > before { Ok(now) } else { Err(format!("{now} after {before}")) }
        })
        .await;
        let survivor = cluster.processes[survivor].as_mut().unwrap();
        assert!(survivor.running() && survivor.id() == id, "the survivor went on in its place");
        let shown = cluster.shown("city", &life).await;
        cluster.shows_more("city", &life, shown).await;
        let job = cluster.until_status("city", "running").await;
        assert_eq!(job["frontier"]["generation"].as_u64(), Some(again), "{job}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(knocking.join().unwrap() > 10, "strangers were heard");
    assert!(watch.end().await > 10);
    cluster.stop().await;
}

/// Rows that leave by themselves, long after the test.
const RECENT: &str = "
    CREATE MATERIALIZED VIEW recent AS
        SELECT station_id, count(*) AS snapshots FROM velib.observations
        WHERE observed_at > now() - INTERVAL '1 hour' GROUP BY station_id;";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_while_its_feed_is_down() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let mut cluster = Cluster::start(2, 1).await;
    assert_eq!(cluster.submit(&submission("city", &(live_job(&city) + RECENT))).await.0, 201);
    let shown = cluster.shows_more("city", &life, 0).await;
    let watch = Watch::of(cluster.database.url(), "city", &life);
    cluster.stop().await;
    let sql = cluster.connect().await;
    let held = stations(&sql, "city").await.unwrap();
    assert!(life.document(&held) >= Some(shown));
    // What is due later has not happened yet because the cluster stopped.
    let text = "SELECT (SELECT count(*) FROM city.recent),
                       (SELECT upper <= extract(epoch FROM now()) * 1000 FROM velib.frontier)";
    let row = sql.query_one(text, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (feed::STATIONS as i64, true));
    // Failures come ever more rarely: this is longer than the first results wait for a feed.
    let begin = async |cluster: &mut Cluster| {
        for process in 0..2 {
            cluster.start_again(process);
        }
        cluster.formed().await;
        eventually("the feed's failure", async || {
            let job: Value = cluster.job("city").await;
            if job["sources"]["velib"]["error"].is_string() { Ok(()) } else { Err(job.to_string()) }
        })
        .await;
    };
    order(&city, "500", 7).await;
    begin(&mut cluster).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.job("city").await["status"], "pending");
    assert_eq!(stations(&sql, "city").await.unwrap(), held, "the tables stay as they were");
    cluster.stop().await;
    assert_eq!(stations(&sql, "city").await.unwrap(), held, "and do so when it stops");
    order(&city, "500", 3).await;
    begin(&mut cluster).await;
    cluster.shows_more("city", &life, shown).await;
    cluster.until_status("city", "running").await;
    assert!(watch.end().await > 10);
    cluster.stop().await;
}

/// What a job needs besides its feed is away when it starts: it waits for it, and holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_its_areas_while_others_go_on() {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let folder = tempfile::tempdir().unwrap();
    let areas = folder.path().join("quartiers.geojson");
    let answer = build_client().unwrap().get(&city.quartiers_url).send().await.unwrap();
    let text = answer.text().await.unwrap();
    std::fs::write(&areas, &text).unwrap();
    let mut cluster = Cluster::start(1, 2).await;
    let waits = feed::job(&city.gbfs_url, &format!("path = '{}'", areas.display()));
    for (name, text) in [("waits", &waits), ("goes_on", &live_job(&city))] {
        let (code, answer) = cluster.submit(&submission(name, text)).await;
        assert_eq!(code, 201, "{answer}");
        cluster.shows_more(name, &life, 0).await;
    }
    cluster.stop().await;
    let sql = cluster.connect().await;
    let held = stations(&sql, "waits").await.unwrap();
    std::fs::remove_file(&areas).unwrap();
    cluster.start_again(0);
    cluster.formed().await;
    // They read the same feed. This is longer than a reader who does not read could be ignored.
    let shown = cluster.shown("goes_on", &life).await;
    let later = cluster.shows_more("goes_on", &life, shown + 30).await;
    let job = cluster.job("waits").await;
    let error = job["sources"]["quartiers"]["error"].as_str().unwrap_or_default();
    assert!(job["status"] == "pending" && error.contains("quartiers.geojson: No such file"), "{job}");
    assert_eq!(stations(&sql, "waits").await.unwrap(), held, "its tables stay as they were");
    std::fs::write(&areas, &text).unwrap();
    cluster.shows_more("waits", &life, later).await;
    let nowhere: i64 =
        sql.query_one("SELECT count(*) FROM waits.by_area WHERE area = 'outside'", &[]).await.unwrap().get(0);
    let areas: i64 = sql.query_one("SELECT count(*) FROM waits.by_area", &[]).await.unwrap().get(0);
    assert!(areas > nowhere + 1, "{areas} areas");
    cluster.stop().await;
}
