//! Processes are killed while the lake is written and compacted; every snapshot is in it once, and in the tables once,
//! and other programs read what it says. In a folder, and in a store that speaks S3 and goes away for a while.
//!
//! Python with `duckdb` and with `moto[server]` is looked for under the name that VELIB_PYTHON gives (else `python3`);
//! where they are not there, it is said what was left out.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use velib_engine::cluster::process::wall_clock_ms;

use super::cluster::{Cluster, eventually, free_port};
use super::feed::{self, order, submission};

/// An hour of the lake in three seconds.
const SPEED: &str = "1200";

fn python() -> String {
    std::env::var("VELIB_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// What a Python program prints. None, and it is said, where it has no such module.
fn ask_python(module: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let run = |program: &str, arguments: &[&str]| {
        Command::new(python()).args(["-c", program]).args(arguments).stdin(Stdio::null()).output()
    };
    if !run(&format!("import {module}"), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped, as {} has no module {module} (VELIB_PYTHON names another Python)", python());
        return None;
    }
    let output = run(program, arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Runs `velib lake …`: how it ended, and what it printed as JSON.
fn velib_lake(arguments: &[&str], variables: &[(String, String)]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
    command.arg("lake").args(arguments).args(["--output", "json"]).stdin(Stdio::null());
    let output = command.envs(variables.iter().map(|(name, value)| (name, value))).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn settings(url: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    // The clock begins with an hour.
    let start = (wall_clock_ms() / 3_600_000 * 3_600_000).to_string();
    let own = [
        ("VELIB_LAKE__URL", url),
        ("VELIB_LAKE__COMPACT_INTERVAL_MS", "300"),
        ("VELIB_CLOCK__SPEED", SPEED),
        ("VELIB_CLOCK__START_MS", &start),
    ];
    own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What every snapshot leaves in the tables.
const HISTORY: &str = "
    CREATE MATERIALIZED VIEW history AS
        SELECT date_trunc('hour', observed_at) AS hour, count(*) AS rows, sum(bikes * bikes)::bigint AS squares
        FROM velib.observations GROUP BY date_trunc('hour', observed_at);";

/// The tables after some processes were killed, and the lake was `away` for a while: how many rows of snapshots they
/// have counted, and the sum over them.
async fn killed(variables: &[(String, String)], mut away: impl AsyncFnMut()) -> (i64, i64) {
    let city = feed::city().await;
    let mut cluster = Cluster::start_with(2, 1, variables.to_vec()).await;
    let text = format!(
        "CREATE SOURCE velib FROM GBFS (url = '{}', poll = '100 ms', timeout = '1 s');{HISTORY}",
        city.gbfs_url
    );
    let (code, answer) = cluster.submit(&submission("city", &text)).await;
    assert_eq!(code, 201, "{answer}");
    let sql = cluster.connect().await;
    let counted = async || -> (i64, i64) {
        let row = sql.query_one("SELECT sum(rows)::bigint, sum(squares)::bigint FROM city.history", &[]).await;
        row.map(|row| (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1)))
            .map(|(rows, squares)| (rows.unwrap_or_default(), squares.unwrap_or_default()))
            .unwrap_or_default()
    };
    let mut last = 0;
    for (killed, milliseconds) in [(0, 900), (1, 1_700), (0, 400), (1, 2_300)] {
        last = eventually("more snapshots", async || {
            let (now, _) = counted().await;
            if now > last { Ok(now) } else { Err(format!("{now}")) }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        cluster.kill(killed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.start_again(killed);
        cluster.formed().await;
    }
    away().await;
    let counting = counted().await.0;
    eventually("more snapshots after the store was away", async || {
        let (now, _) = counted().await;
        if now > counting { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    order(&city, "500", 1_000_000).await;
    // What was fetched is written and shown.
    let mut before = counted().await;
    let all = eventually("the end", async || {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = counted().await;
        if std::mem::replace(&mut before, now) == now { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    // The hour in which the feed fell silent is over, too.
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.stop().await;
    all
}

/// The lake has just what the tables have counted, in files.
fn is_whole(variables: &[(String, String)], rows: i64) {
    let (code, verified) = velib_lake(&["verify"], variables);
    assert_eq!((code, verified[0]["findings"].as_array().map(Vec::len)), (0, Some(0)), "{verified}");
    assert_eq!(verified[0]["snapshots"].as_i64().unwrap() * feed::STATIONS as i64, rows, "{verified}");
    let (code, compacted) = velib_lake(&["compact"], variables);
    assert_eq!((code, &compacted[0]["error"]), (0, &Value::Null), "{compacted}");
    let (code, listed) = velib_lake(&["ls"], variables);
    assert_eq!(code, 0, "{listed}");
    let (hours, files, logged) = (&listed[0]["hours"], &listed[0]["files"], &listed[0]["logged"]);
    let (hours, files) = (hours.as_u64().unwrap(), files.as_u64().unwrap());
    assert!(hours > 3 && files <= 6 * hours && logged.as_u64().unwrap() < 60, "{listed}");
}

const DUCKDB: &str = "
import duckdb, sys
files = f\"read_parquet('{sys.argv[1]}/status/*/*/*/*.parquet', hive_partitioning = true)\"
lists = f\"read_parquet('{sys.argv[1]}/snapshots/*/*/*/*.parquet', hive_partitioning = true)\"
rows, squares = duckdb.sql(f'SELECT count(*), sum(bikes * bikes)::bigint FROM {files}').fetchall()[0]
listed, snapshots = duckdb.sql(f'SELECT sum(status_rows)::bigint, count(DISTINCT snapshot_seq) FROM {lists}').fetchall()[0]
assert rows == listed, (rows, listed)
# A partition is the hour of the times in it.
wrong = duckdb.sql(f\"SELECT count(*) FROM {files} WHERE strftime(snapshot_time AT TIME ZONE 'UTC', '%Y-%m-%d %H') \"
    \"<> strftime(date::date, '%Y-%m-%d') || ' ' || lpad(hour::varchar, 2, '0')\").fetchall()[0][0]
assert wrong == 0, wrong
print(rows, squares, snapshots)
";

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_killed_while_the_lake_is_written_and_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    let variables = settings(&lake.to_string_lossy(), &[]);
    let (rows, squares) = killed(&variables, async || {}).await;
    is_whole(&variables, rows);
    // By the clock of the world, in which the last hour is to come, some of it may be in the log.
    let forward = wall_clock_ms() + 400 * 86_400_000;
    let mut later = variables.clone();
    later.extend([("VELIB_CLOCK__START_MS".to_owned(), "0".to_owned())]);
    later.extend([("VELIB_CLOCK__SPEED".to_owned(), (forward as f64 / wall_clock_ms() as f64).to_string())]);
    let (code, compacted) = velib_lake(&["compact"], &later);
    assert_eq!((code, compacted[0]["logged"].as_u64()), (0, Some(0)), "{compacted}");
    if let Some(seen) = ask_python("duckdb", DUCKDB, &[&lake.to_string_lossy()]) {
        assert_eq!(seen, format!("{rows} {squares} {}", rows / feed::STATIONS as i64));
    }
    // A file is altered, one is gone, one is cut short: each is named, with what to do, and the rest is read.
    let (_, hours) = velib_lake(&["ls", &feed_of(&variables)], &variables);
    let list = |i: usize| lake.join(hours[i]["list"].as_str().unwrap());
    std::fs::remove_file(list(0)).unwrap();
    let bytes = std::fs::read(list(1)).unwrap();
    std::fs::write(list(1), &bytes[..bytes.len() / 2]).unwrap();
    let (code, verified) = velib_lake(&["verify"], &variables);
    let findings = verified[0]["findings"].as_array().unwrap();
    assert_eq!(code, 1, "{verified}");
    assert!(findings.iter().any(|found| found["object"] == hours[1]["list"]), "{verified}");
    let lost = "the list of its snapshots is not there";
    assert!(findings.iter().any(|found| found["reason"] == lost), "{verified}");
    assert!(findings.iter().all(|found| found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty())));
    assert!(verified[0]["snapshots"].as_u64() > Some(0), "{verified}");
}

fn feed_of(variables: &[(String, String)]) -> String {
    velib_lake(&["ls"], variables).1[0]["feed"].as_str().unwrap().to_owned()
}

/// Killed when dropped.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes connections on to `to`, or closes them while it is `shut`.
async fn gate(to: u16, shut: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let shut = Arc::clone(&shut);
            tokio::spawn(async move {
                let closing = async {
                    while !shut.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                let passing = async {
                    let mut outside = TcpStream::connect(("127.0.0.1", to)).await?;
                    tokio::io::copy_bidirectional(&mut inside, &mut outside).await
                };
                tokio::select! {
                    _ = passing => {}
                    () = closing => {}
                }
            });
        }
    });
    port
}

const BUCKET: &str = "
import boto3, sys
boto3.client('s3', endpoint_url=sys.argv[1], region_name='eu-west-1', aws_access_key_id='a',
    aws_secret_access_key='b').create_bucket(Bucket='bikes', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})
";

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_killed_and_the_object_store_goes_away_for_a_while() {
    if ask_python("moto.server", "", &[]).is_none() {
        return;
    }
    let port = free_port();
    let mut moto = Command::new(python());
    moto.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    let _moto = Moto(moto.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("the object store", async || {
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())
    })
    .await;
    ask_python("boto3", BUCKET, &[&format!("http://127.0.0.1:{port}")]).unwrap();
    let shut = Arc::new(AtomicBool::new(false));
    let endpoint = format!("http://127.0.0.1:{}", gate(port, Arc::clone(&shut)).await);
    let credentials = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let variables = settings("s3://bikes/a/lake", &credentials);
    let (rows, _) = killed(&variables, async || {
        shut.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (code, _) = tokio::task::block_in_place(|| velib_lake(&["ls"], &variables));
        assert_eq!(code, 3, "the store is away");
        shut.store(false, Ordering::Relaxed);
    })
    .await;
    tokio::task::block_in_place(|| is_whole(&variables, rows));
}
