//! A cluster of real processes on this machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::machine;

/// How long the processes may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// Its processes are killed when it is dropped.
pub struct Cluster {
    processes: Vec<Child>,
    /// The API of the leader.
    pub api: String,
    http: reqwest::Client,
}

impl Cluster {
    pub async fn start(database_url: &str, processes: usize, workers: usize) -> Result<Self> {
        let listeners: Vec<TcpListener> =
            (0..processes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let apis: Vec<String> =
            listeners.iter().map(|l| l.local_addr().map(|a| a.to_string())).collect::<Result<_, _>>()?;
        drop(listeners);
        let mut running = Vec::new();
        for api in &apis {
            let child = Command::new(machine::velib()?)
                .args(["worker", "--workers", &workers.to_string(), "--api", api])
                .env("VELIB_CLUSTER__PROCESSES", processes.to_string())
                .env("VELIB_DATABASE_URL", database_url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            running.push(child);
        }
        let mut cluster = Cluster {
            processes: running,
            api: format!("http://{}", apis[0]),
            http: velib_engine::source::build_client()?,
        };
        let begun = Instant::now();
        while !cluster.http.get(format!("{}/readyz", cluster.api)).send().await.is_ok_and(|r| r.status().is_success()) {
            ensure!(begun.elapsed() < READY, "the processes do not get ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let status: Value = cluster.http.get(format!("{}/api/status", cluster.api)).send().await?.json().await?;
        let listed = status["processes"].as_array().into_iter().flatten();
        let leader = listed.filter(|process| process["index"] == 0).find_map(|process| process["address"].as_str());
        cluster.api = format!("http://{}", leader.context("the processes have no leader")?);
        Ok(cluster)
    }

    pub async fn submit(&self, name: &str, text: &str, parameters: Value) -> Result<()> {
        let body = json!({ "name": name, "text": text, "parameters": parameters });
        let answer = self.http.post(format!("{}/api/jobs", self.api)).json(&body).send().await?;
        if !answer.status().is_success() {
            bail!("{name}: {}", answer.text().await?);
        }
        Ok(())
    }

    /// The metrics of the leader, those whose names start with `prefix`.
    pub async fn metrics(&self, prefix: &str) -> Result<Vec<(String, f64)>> {
        let text = self.http.get(format!("{}/metrics", self.api)).send().await?.text().await?;
        let of = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            name.starts_with(prefix).then(|| Some((name.to_owned(), value.parse().ok()?))).flatten()
        };
        Ok(text.lines().filter_map(of).collect())
    }

    /// CPU seconds and peak megabytes of each process.
    pub fn usage(&self) -> Vec<(f64, f64)> {
        self.processes.iter().map(|child| machine::usage(child.id())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
