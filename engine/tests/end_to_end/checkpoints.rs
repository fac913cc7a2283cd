//! Jobs go on from their checkpoints: the tables are those of a job that has read its history whole.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;
use velib_engine::cluster::process::wall_clock_ms;

use super::cluster::{Cluster, eventually};
use super::feed::{self, order};

const JOBS: [&str; 3] = ["critical", "occupancy", "trends"];

/// The shipped jobs, over another feed; alarms are soon.
fn submission(job: &str, name: &str, feed: &str, quartiers: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../jobs/bikeshare/{job}.sql"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut parameters = json!({ "feed": feed, "poll": "200 ms", "quartiers": quartiers });
    if job == "critical" {
        parameters["low"] = json!("4");
    }
    json!({ "name": name, "text": text, "parameters": parameters })
}

/// What the tables of a job hold: name, rows, and a hash over them.
async fn contents(sql: &Client, job: &str) -> Vec<(String, i64, Option<String>)> {
    let views = sql.query("SELECT view FROM velib.views WHERE job = $1 ORDER BY view", &[&job]).await.unwrap();
    let mut contents = vec![];
    for view in views {
        let view: String = view.get(0);
        let text = format!("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {job}.{view} t");
        let row = sql.query_one(&text, &[]).await.unwrap();
        contents.push((view, row.get(0), row.get(1)));
    }
    contents
}

fn checkpoints(lake: &Path, job: &str) -> Vec<std::path::PathBuf> {
    let Ok(files) = std::fs::read_dir(lake.join(format!("checkpoints/job={job}"))) else { return vec![] };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_from_their_checkpoints() {
    let (city, lake) = (feed::city().await, tempfile::tempdir().unwrap());
    // An hour in six seconds.
    let start = wall_clock_ms().to_string();
    let variables = [
        ("VELIB_LAKE__URL", lake.path().to_str().unwrap()),
        ("VELIB_CHECKPOINTS__INTERVAL_MS", "500"),
        ("VELIB_CLOCK__SPEED", "600"),
        ("VELIB_CLOCK__START_MS", &start),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut cluster = Cluster::start_with(2, 1, variables.to_vec()).await;
    for job in JOBS {
        let (code, answer) = cluster.submit(&submission(job, job, &city.gbfs_url, &city.quartiers_url)).await;
        assert_eq!(code, 201, "{answer}");
    }
    let sql = cluster.connect().await;
    let as_of = async |job: &str| -> Result<i64, String> {
        let text =
            "SELECT coalesce(max(extract(epoch FROM as_of) * 1000), 0)::bigint FROM velib.frontier WHERE job = $1";
        sql.query_one(text, &[&job]).await.map(|row| row.get(0)).map_err(|error| error.to_string())
    };
    let mut said = String::new();
    for (round, killed) in [1, 0, 1, 0].into_iter().enumerate() {
        for job in JOBS {
            let before = as_of(job).await.unwrap();
            eventually("two more checkpoints, and tables that are further", async || {
                let upper = |path: &Path| path.file_stem()?.to_str()?.parse::<i64>().ok();
                let newest = checkpoints(lake.path(), job).last().and_then(|path| upper(path)).unwrap_or_default();
                let shown = as_of(job).await?;
                if newest > before + 600_000 && shown + 1 >= newest {
                    Ok(())
                } else {
                    Err(format!("{job}: {newest}, {shown}"))
                }
            })
            .await;
        }
        if round == 2 {
            let newest = checkpoints(lake.path(), "critical").pop().unwrap();
            std::fs::write(newest, "half").unwrap();
        }
        said += &cluster.processes[killed].as_ref().unwrap().said();
        cluster.kill(killed);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        cluster.start_again(killed);
        cluster.formed().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    order(&city, "500", 1_000_000).await;
    for job in JOBS {
        let name = format!("{job}_whole");
        let (code, answer) = cluster.submit(&submission(job, &name, &city.gbfs_url, &city.quartiers_url)).await;
        assert_eq!(code, 201, "{answer}");
        let rows = eventually("equal tables", async || {
            let (restored, whole) = (contents(&sql, job).await, contents(&sql, &name).await);
            if !whole.is_empty() && restored == whole {
                Ok(whole)
            } else {
                Err(format!("{restored:?} is not {whole:?}"))
            }
        })
        .await;
        eprintln!("{job}: {:?}", rows.iter().map(|(view, rows, _)| (view, rows)).collect::<Vec<_>>());
        assert!(rows.iter().any(|(_, rows, _)| *rows > 0), "{rows:?}");
    }
    said += &cluster.processes.iter().flatten().map(|process| process.said()).collect::<Vec<_>>().concat();
    for job in JOBS {
        let went_on = said.lines().filter(|line| line.contains("goes on from a checkpoint") && line.contains(job));
        assert!(went_on.count() >= 4, "{job}\n{said}");
    }
    assert!(said.contains("a checkpoint is of no use"), "{said}");
    assert!(!said.contains("no checkpoints of it"), "{said}");

    // Another feed under the same name and plan: what was held is not of it.
    let other = feed::city_of(50, feed::START).await;
    let mut replacement = submission("critical", "critical", &other.gbfs_url, &other.quartiers_url);
    replacement["replace"] = json!(true);
    let (code, answer) = cluster.submit(&replacement).await;
    assert_eq!(code, 200, "{answer}");
    eventually("its history alone", async || {
        let said = cluster.processes.iter().flatten().map(|process| process.said()).collect::<Vec<_>>().concat();
        let begun = said.lines().any(|line| line.contains("another than in its checkpoints"));
        if begun { Ok(()) } else { Err(said) }
    })
    .await;
    cluster.stop().await;
    assert!(JOBS.iter().all(|job| (1..=4).contains(&checkpoints(lake.path(), job).len())));
}
