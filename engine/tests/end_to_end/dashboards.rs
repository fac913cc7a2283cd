//! The dashboards of Grafana: their files are what their source makes, and every query of every panel has an
//! answer in a PostgreSQL and a Prometheus that a real run has filled.
//!
//! The run is a week of a simulated city as recorded documents, until a rush hour, read by the jobs of
//! `jobs/bikeshare`; and a feed with faults, for what Prometheus counts of live sources. Nothing of it can be had
//! without Node.js and the packages of `dashboards/package-lock.json`; the queries also need Prometheus.
//!
//! `VELIB_PICTURES=folder` has the dashboards drawn there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::{Value, json};
use velib_engine::simulate::City;

use super::cluster::{Cluster, eventually};
use super::feed;
use super::prometheus::Prometheus;

/// Of the city that is recorded.
const STATIONS: usize = 200;
/// A Thursday, 08:45 in Paris: when the recording ends.
const END: i64 = 1_730_965_500;
/// More than a week, so that a week ago is known.
const LENGTH: i64 = 8 * 86_400;
/// Near enough for the hours: jobs take counts to be known for so long.
const STEP: i64 = 20 * 60;
/// Trends are of several counts in 15 minutes.
const LAST_STEP: i64 = 5 * 60;
const LAST: i64 = 2 * 3_600;
/// How long Prometheus looks on: rates are over a minute.
const WATCHED: Duration = Duration::from_secs(45);
/// A week of three jobs, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(600);

/// What goes wrong on the way: some rows are left out by a view, and some of a feed are refused.
const FAULTY: &str = "
    CREATE SOURCE velib FROM GBFS (url = '{feed}', poll = '500 ms', timeout = '1 s');
    CREATE MATERIALIZED VIEW shares AS
        SELECT station_id, 100 / (bikes / 3) AS of_thirds FROM velib.status;";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// Runs a script of `dashboards/package.json`; what it says, if it fails.
fn npm(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("npm").args(arguments).current_dir(folder()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("npm could not be started: {error}"))?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The packages of the lock file, unless they are there. False, with a line that says so, where they cannot be had.
fn packages() -> bool {
    // Of two that install them at once, each takes away what the other has put there.
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(install)
}

fn install() -> bool {
    let folder = folder();
    let modified = |path: PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let installed = modified(folder.join("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= modified(folder.join("package-lock.json")) {
        return true;
    }
    match npm(&["ci", "--no-audit", "--no-fund"]) {
        Ok(_) => true,
        Err(why) => {
            eprintln!("SKIPPED: the dashboards are not checked, for want of Node.js or its packages: {why}");
            false
        }
    }
}

#[test]
fn files_are_what_their_source_makes() {
    if packages() {
        npm(&["run", "--silent", "current"]).unwrap_or_else(|said| panic!("{said}"));
        npm(&["run", "--silent", "test"]).unwrap_or_else(|said| panic!("{said}"));
    }
}

/// Documents as files named after their times, and the areas.
fn record(folder: &Path) {
    let mut city = City::new(1, STATIONS, END - LENGTH);
    std::fs::write(folder.join("quartiers.geojson"), city.quartiers_document()).unwrap();
    let name = |kind: &str, time: i64| {
        let time = DateTime::from_timestamp(time, 0).unwrap();
        folder.join(format!("{kind}_{}.json", time.format("%Y-%m-%dT%H-%M-%SZ")))
    };
    std::fs::write(name("information", END - LENGTH), city.information_document()).unwrap();
    let mut time = END - LENGTH;
    while time <= END {
        city.advance_to(time);
        std::fs::write(name("status", time), city.status_document()).unwrap();
        time += if time < END - LAST { STEP } else { LAST_STEP };
    }
}

async fn submit(cluster: &Cluster, name: &str, text: &str, parameters: &Value) {
    let (code, answer) = cluster.submit(&json!({ "name": name, "text": text, "parameters": parameters })).await;
    assert_eq!(code, 201, "{name}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_panel_has_an_answer() {
    if !packages() {
        return;
    }
    // A week is read at once, which takes all there is: nobody is to be taken for gone meanwhile.
    let patient = vec![("VELIB_CLUSTER__SILENCE_MS".to_owned(), "10000".to_owned())];
    let mut cluster = Cluster::start_with(2, 2, patient).await;
    let Some(prometheus) = Prometheus::start(cluster.apis()) else {
        return eprintln!("SKIPPED: prometheus is not installed, so no query of the dashboards is run");
    };
    let watched = Instant::now();

    let city = feed::city().await;
    submit(&cluster, "faulty", &FAULTY.replace("{feed}", &city.gbfs_url), &json!({})).await;
    let recording = tempfile::tempdir().unwrap();
    record(recording.path());
    let path = recording.path().display();
    let parameters = json!({ "feed": format!("{path}/*.json"), "quartiers": format!("{path}/quartiers.geojson") });
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/bikeshare");
    for name in ["occupancy", "critical", "trends"] {
        let text = std::fs::read_to_string(jobs.join(format!("{name}.sql"))).unwrap();
        submit(&cluster, name, &text, &parameters).await;
    }
    let begun = Instant::now();
    for name in ["occupancy", "critical", "trends"] {
        while cluster.job(name).await["status"] != "finished" {
            assert!(begun.elapsed() < LIMIT, "{name} is not finished: {}", cluster.job(name).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    eprintln!("a week of three jobs in {:.1} s", begun.elapsed().as_secs_f64());
    for fault in ["html", "missing-ids", "negative"] {
        feed::order(&city, fault, 3).await;
    }
    tokio::time::sleep(WATCHED.saturating_sub(watched.elapsed()).max(Duration::from_secs(15))).await;

    let sql = cluster.connect().await;
    eventually("refused rows", async || {
        let refused: i64 = sql.query_one("SELECT count(*) FROM velib.quarantine", &[]).await.unwrap().get(0);
        if refused > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    // As the role that Grafana has.
    let role = "CREATE ROLE velib_grafana LOGIN PASSWORD 'grafana' IN ROLE velib_reader";
    sql.batch_execute(&format!("{role}; ANALYZE")).await.unwrap();
    let url = cluster.database.url();
    let (_, server) = url.rsplit_once('@').unwrap();
    let postgres = format!("postgresql://velib_grafana:grafana@{server}");
    let minutes = watched.elapsed().as_secs().div_ceil(60).to_string();
    let prometheus = format!("http://{}", prometheus.address);
    let sources = ["--postgres", &postgres, "--prometheus", &prometheus, "--minutes", &minutes];
    let run = |script, more: &[&str]| npm(&[&["run", "--silent", script, "--"][..], &sources[..], more].concat());
    let checked = run("check", &[]);
    if let Ok(pictures) = std::env::var("VELIB_PICTURES") {
        let drawn = run("draw", &["--out", &pictures]);
        eprintln!("{}", drawn.unwrap_or_else(|said| panic!("{said}")));
    }
    eprintln!("{}", checked.unwrap_or_else(|said| panic!("{said}")));
    cluster.stop().await;
}
