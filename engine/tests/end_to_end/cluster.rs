//! Processes of `velib worker` and their database, for as long as a test runs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio_postgres::{Client, NoTls, Row};
use velib_engine::postgres::private::{Durability, Private};

use super::feed::{Life, Rows};

/// Nothing that is waited for takes longer, even on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of the tests";

/// A port that nobody listens on: below those that the system gives to connections by itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 15_000 + ((std::process::id() as u16).wrapping_mul(61).wrapping_add(step)) % 15_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `velib` with these arguments; killed when dropped.
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Process {
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
        command.args(arguments).envs(variables.iter().copied()).env("VELIB_CLUSTER__SECRET", SECRET);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Process { child, said }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As an administrator stops it.
    pub async fn terminate(mut self) -> ExitStatus {
        // The shell's own: a bare system has no program of that name.
        let kill = format!("kill -TERM {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        self.ended().await
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let ended = eventually("the process to end", async || child.try_wait().unwrap().ok_or(String::new())).await;
        // The rest of what it said is on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- process {} said\n{}---", self.child.id(), self.said());
        }
    }
}

/// Some processes, and their database.
pub struct Cluster {
    pub database: Private,
    pub processes: Vec<Option<Process>>,
    /// Where each listens for the others.
    pub meshes: Vec<String>,
    pub apis: Vec<String>,
    workers: usize,
    /// Further settings.
    variables: Vec<(String, String)>,
    http: reqwest::Client,
}

impl Cluster {
    /// None, with a line that says so, where there is no PostgreSQL.
    pub async fn start(processes: usize, workers: usize) -> Cluster {
        Cluster::start_with(processes, workers, vec![]).await
    }

    /// The same, with further settings.
    pub async fn start_with(processes: usize, workers: usize, variables: Vec<(String, String)>) -> Cluster {
        let database = Private::start(None, Durability::ThrowAway).await.unwrap();
        let address = |_| format!("127.0.0.1:{}", free_port());
        let meshes = (0..processes).map(address).collect();
        let apis = (0..processes).map(address).collect();
        let http = velib_engine::source::build_client().unwrap();
        let mut cluster = Cluster { database, processes: vec![], meshes, apis, workers, variables, http };
        for process in 0..processes {
            cluster.processes.push(Some(cluster.process(process)));
            // Who comes first leads: the tests count on process 0.
            eventually("its API", async || {
                let answer = cluster.http.get(format!("http://{}/healthz", cluster.apis[process])).send().await;
                answer.map_err(|error| error.to_string())
            })
            .await;
        }
        cluster.formed().await;
        cluster
    }

    fn process(&self, process: usize) -> Process {
        let (workers, api, mesh) = (self.workers.to_string(), &self.apis[process], &self.meshes[process]);
        let arguments = ["worker", "--workers", &workers, "--api", api, "--listen", mesh];
        let url = self.database.url();
        // Few snapshots at a time, so that there are many transactions to look between.
        let mut variables = vec![
            ("VELIB_DATABASE_URL", url.as_str()),
            ("VELIB_TIMELINE__IN_FLIGHT", "3"),
            ("VELIB_TIMELINE__TICK_MS", "200"),
            ("VELIB_TIMELINE__PATIENCE_MS", "2000"),
        ];
        variables.extend(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Process::start(&arguments, &variables)
    }

    /// Where the API of each process is.
    pub fn apis(&self) -> &[String] {
        &self.apis
    }

    /// What a process says in words.
    pub async fn words(&self, process: usize, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("http://{}{path}", self.apis[process])).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// `SIGKILL`.
    pub fn kill(&mut self, process: usize) {
        self.processes[process] = None;
    }

    /// One more process; its number.
    pub fn add(&mut self) -> usize {
        self.meshes.push(format!("127.0.0.1:{}", free_port()));
        self.apis.push(format!("127.0.0.1:{}", free_port()));
        self.processes.push(Some(self.process(self.processes.len())));
        self.processes.len() - 1
    }

    /// `STOP`, `CONT`.
    pub fn signal(&mut self, process: usize, signal: &str) {
        let id = self.processes[process].as_ref().unwrap().id();
        let kill = format!("kill -{signal} {id}");
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub fn start_again(&mut self, process: usize) {
        self.processes[process] = Some(self.process(process));
    }

    /// Waits until all processes are parts of one generation.
    pub async fn formed(&self) {
        for api in &self.apis {
            eventually("a generation", async || {
                let answer = self.http.get(format!("http://{api}/readyz")).send().await;
                answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())
            })
            .await;
        }
    }

    /// Every process ends well when it is told to, and none has panicked.
    pub async fn stop(&mut self) {
        let stopping = self.processes.iter_mut().filter_map(Option::take).map(async |process| {
            let said = Arc::clone(&process.said);
            let status = process.terminate().await;
            let said = said.lock().unwrap();
            assert!(status.success() && !said.contains("panicked"), "{status}: {said}");
        });
        futures::future::join_all(stopping).await;
    }

    pub async fn ask(&self, process: usize, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = self.http.request(method, format!("http://{}{path}", self.apis[process]));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    pub async fn submit(&self, submission: &Value) -> (u16, Value) {
        self.ask(0, Method::POST, "/api/jobs", Some(submission)).await
    }

    pub async fn job(&self, name: &str) -> Value {
        self.ask(0, Method::GET, &format!("/api/jobs/{name}"), None).await.1
    }

    pub async fn until_status(&self, name: &str, status: &str) -> Value {
        eventually(&format!("{name} to be {status}"), async || {
            let job = self.job(name).await;
            if job["status"] == status { Ok(job) } else { Err(job.to_string()) }
        })
        .await
    }

    pub async fn connect(&self) -> Client {
        connect(&self.database.url()).await.unwrap()
    }

    /// The document that the table of stations shows.
    pub async fn shown(&self, job: &str, life: &Life) -> usize {
        let rows = stations(&self.connect().await, job).await.unwrap();
        life.document(&rows).unwrap_or_else(|| panic!("{} rows that no document has", rows.len()))
    }

    /// Waits until the table of stations shows a document after `after`.
    pub async fn shows_more(&self, job: &str, life: &Life, after: usize) -> usize {
        let sql = self.connect().await;
        eventually("a later document", async || {
            let rows = stations(&sql, job).await.map_err(|error| error.to_string())?;
            let document = life.document(&rows);
            document.filter(|document| *document > after).ok_or(format!("{document:?} after {after}"))
        })
        .await
    }
}

pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The table of stations.
pub async fn stations(sql: &Client, job: &str) -> Result<Rows, tokio_postgres::Error> {
    let text = format!("SELECT station_id, bikes, docks FROM {job}.by_station ORDER BY station_id COLLATE \"C\"");
    let row = |row: &Row| (row.get(0), row.get(1), row.get(2));
    Ok(sql.query(&text, &[]).await?.iter().map(row).collect())
}

/// Waits for `probe` to succeed; its last error says what there was instead.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(instead) if begun.elapsed() > LIMIT => panic!("no {what} within {LIMIT:?}: {instead}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
