//! A real Prometheus reads two processes, with the rules of `deploy/`, and answers what the tables say.
//! Without one (Debian's `prometheus`) it is skipped, and says so.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::cluster::{Cluster, eventually, free_port};
use super::feed::{self, Life, live_job, order, submission};

/// Killed when dropped.
pub struct Prometheus {
    child: Child,
    pub address: String,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Reads `targets` every second. None where it is not installed.
    pub fn start(targets: &[String]) -> Option<Prometheus> {
        let folder = tempfile::tempdir().unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/rules/*.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{rules}']
scrape_configs:
  - job_name: velib
    honor_labels: true
    static_configs: [{{targets: ['{}']}}]
",
            targets.join("', '")
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            child => {
                let http = velib_engine::source::build_client().unwrap();
                Some(Prometheus { child: child.unwrap(), address, http, _folder: folder })
            }
        }
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("http://{}{path}", self.address), query).unwrap();
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// The values of an instant query, by the labels `by`.
    async fn query(&self, query: &str, by: &[&str]) -> Result<BTreeMap<String, f64>, String> {
        let data = self.ask("/api/v1/query", &[("query", query)]).await?;
        let series = data["result"].as_array().unwrap().iter().map(|series| {
            let labels: Vec<&str> = by.iter().map(|label| series["metric"][label].as_str().unwrap_or("")).collect();
            (labels.join(" "), series["value"][1].as_str().unwrap().parse().unwrap())
        });
        Ok(series.collect())
    }

    /// Waits until the answer is such.
    async fn until(&self, query: &str, by: &[&str], good: impl Fn(&[f64]) -> bool) -> BTreeMap<String, f64> {
        eventually(query, async || {
            let found = self.query(query, by).await?;
            let values: Vec<f64> = found.values().copied().collect();
            if good(&values) { Ok(found) } else { Err(format!("{found:?}")) }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SHOWN: &str = "
    CREATE MATERIALIZED VIEW shown WITH (metrics = 'bikes, rate, moved', metrics_name = 'words') AS
    SELECT area, 'area ' || area AS words, sum(bikes) AS bikes, max(last_reported) AS moved,
        CAST(sum(bikes) AS DOUBLE PRECISION) / nullif(sum(bikes) + sum(docks), 0) AS rate
    FROM velib.status JOIN placed USING (station_id) GROUP BY area;";

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_reads_two_processes() {
    let (life, city) = (Life::of(1_500), feed::city().await);
    let mut cluster = Cluster::start(2, 2).await;
    let Some(prometheus) = Prometheus::start(cluster.apis()) else {
        return eprintln!("SKIPPED: prometheus is not installed, so nobody reads the metrics");
    };
    assert_eq!(cluster.submit(&submission("city", &(live_job(&city) + SHOWN))).await.0, 201);
    cluster.shows_more("city", &life, 3).await;

    let every = |count: usize, value: f64| {
        move |found: &[f64]| found.len() == count && found.iter().all(|found| *found == value)
    };
    let some = |count: usize| move |found: &[f64]| found.len() == count && found.iter().all(|found| *found > 0.0);
    prometheus.until("up{job='velib'}", &["instance"], every(2, 1.0)).await;
    prometheus.until("velib_ready", &["instance"], every(2, 1.0)).await;
    prometheus.until("velib_database_up", &["instance"], every(2, 1.0)).await;
    prometheus.until("velib_connected_processes == velib_expected_processes", &["instance"], every(2, 2.0)).await;
    prometheus.until("velib_generations_formed_total", &["instance"], every(2, 1.0)).await;
    prometheus.until("velib_build_info", &["version"], every(1, 1.0)).await;
    prometheus.until("velib_job_status{job='city'} == 1", &["status"], every(1, 1.0)).await;
    prometheus.until("velib_source_info{job='city'}", &["source", "kind"], every(2, 1.0)).await;
    prometheus.until("rate(velib_snapshots_total{job='city', source='velib'}[5s])", &[], some(1)).await;
    prometheus.until("rate(velib_rows_out_total{view='by_station'}[5s])", &[], some(1)).await;
    prometheus.until("rate(velib_transaction_duration_seconds_count{job='city'}[5s])", &[], some(1)).await;
    prometheus.until("rate(velib_poll_duration_seconds_sum{source='velib'}[5s])", &[], some(1)).await;
    // What the workers of both processes did, and what they hold.
    prometheus.until("rate(velib_worker_busy_seconds_total[5s])", &["worker"], some(4)).await;
    let busy = "sum by (operator) (rate(velib_operator_busy_seconds_total{job='city'}[5s]))";
    let busy = prometheus.until(busy, &["operator"], |found| found.len() > 4).await;
    assert!(busy.keys().any(|name| name == "city.by_area.join") && busy["city.by_area.join"] > 0.0, "{busy:?}");
    let groups = "sum(velib_arrangement_records{arrangement='city.by_area.accumulate'})";
    let sql = cluster.connect().await;
    let areas: i64 = sql.query_one("SELECT count(*) FROM city.by_area", &[]).await.unwrap().get(0);
    prometheus.until(groups, &[], every(1, areas as f64)).await;
    // Both sides of the join, about.
    let stations = "sum(velib_arrangement_records{arrangement='city.by_area.join'})";
    prometheus.until(stations, &[], |found| found.len() == 1 && found[0] >= 1.5 * feed::STATIONS as f64).await;
    prometheus.until("velib_arrangement_bytes > velib_arrangement_records", &["arrangement"], |f| f.len() > 2).await;
    for queue in ["commands", "feed", "closed", "in_flight"] {
        let room = format!("velib_queue_limit_items{{queue='{queue}'}} > velib_queue_items");
        prometheus.until(&room, &["queue"], |found| found.len() == 1).await;
    }
    let fresh = "velib_clock_timestamp_seconds - on (instance) group_right () velib_view_as_of_timestamp_seconds";
    prometheus.until(fresh, &["view"], |found| found.len() == 4 && found.iter().all(|age| *age < 10.0)).await;

    // All rules are evaluated, and say nothing of a cluster that is well.
    let rules = eventually("every rule to be evaluated", async || {
        let groups = prometheus.ask("/api/v1/rules", &[]).await?["groups"].clone();
        let rules: Vec<Value> =
            groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        if rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok") {
            Ok(rules)
        } else {
            Err(groups.to_string())
        }
    })
    .await;
    let firing: Vec<&Value> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:?}");

    // The feed falls silent: that is told, and what is shown of a view is what its table says.
    order(&city, "500", 1_000).await;
    prometheus.until("velib_failed_polls{source='velib'} >= 2", &[], some(1)).await;
    prometheus.until("velib_polls_total{source='velib', result=~'new|failed'}", &["result"], some(2)).await;
    let text = "SELECT area, words, bikes::float8, rate, extract(epoch FROM moved)::float8 FROM city.shown";
    let mut expected = BTreeMap::new();
    for row in sql.query(text, &[]).await.unwrap() {
        let (area, words): (String, String) = (row.get(0), row.get(1));
        for (i, column) in ["bikes", "rate", "moved"].iter().enumerate() {
            // What is not known is no series.
            let value: Option<f64> = row.get(2 + i);
            expected.extend(value.map(|value| (format!("{column} {area} {words}"), value)));
        }
    }
    assert!(expected.len() >= 6);
    let query = "velib_view_value{job='city', view='shown'}";
    eventually("the rows of the view", async || {
        let found = prometheus.query(query, &["column", "key", "name"]).await?;
        let same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * b.1.abs());
        if same { Ok(()) } else { Err(format!("{found:?} is not {expected:?}")) }
    })
    .await;

    // Nothing is left of a job that is dropped, in either process.
    let size = metrics(&cluster, 0).await.len() + metrics(&cluster, 1).await.len();
    eprintln!("a scrape of both processes: {size} bytes");
    let (code, _) = cluster.ask(0, Method::DELETE, "/api/jobs/city", None).await;
    assert_eq!(code / 100, 2);
    eventually("the series of the job to go", async || {
        let left = metrics(&cluster, 0).await + &metrics(&cluster, 1).await;
        let left: Vec<&str> = left.lines().filter(|line| line.contains("\"city\"")).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    })
    .await;
    cluster.stop().await;
}

async fn metrics(cluster: &Cluster, process: usize) -> String {
    cluster.words(process, "/metrics").await.1
}
