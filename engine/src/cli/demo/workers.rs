//! The cluster of the demo: processes of this program on this machine.
//!
//! Between us and each worker stands a small shell: when its input ends, because we say so or because we are
//! gone, it asks the worker to stop. So nothing is left behind, not even by `kill -9`. A worker that ends by
//! itself is started again.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::mpsc;

use super::clock::Clock;
use crate::cli::log;

/// Tells the worker's process id, waits for the end of its input, asks the worker to stop, and ends with it.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- >&2 & worker=$!
echo "$worker"
exec >/dev/null 2>&1
( read -r _ <&3; kill -TERM "$worker" ) & watcher=$!
wait "$worker"; code=$?
kill "$watcher"
exit "$code"
"#;

/// How long workers may take to commit what they have and to leave.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often workers that end by themselves are started again, in all.
const RESTARTS: usize = 20;
/// Before a worker that has ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// The last lines of a worker's log, for when it ends too soon.
const TAIL: usize = 12;
/// Log lines that wait to be shown; more are dropped.
const NOTICES: usize = 64;
/// The same is said once in this time.
const REPEAT: Duration = Duration::from_secs(30);

/// What is to run.
pub struct Layout {
    /// How many processes.
    pub processes: usize,
    /// How many threads each.
    pub workers: usize,
    /// The URL of the database.
    pub database: String,
    /// What they take for the time, if not the world's.
    pub clock: Option<Clock>,
}

/// The processes.
pub struct Workers {
    layout: Layout,
    secret: String,
    apis: Vec<String>,
    running: Vec<Running>,
    restarts: usize,
    say: mpsc::Sender<String>,
    said: mpsc::Receiver<String>,
    recent: VecDeque<(Instant, String)>,
}

struct Running {
    shell: Child,
    /// The worker goes when this is dropped.
    leash: Option<ChildStdin>,
    id: u32,
    tail: Arc<Mutex<VecDeque<String>>>,
    ended: Option<Instant>,
}

impl Workers {
    /// Starts them on free ports.
    pub async fn start(layout: Layout) -> Result<Self> {
        let ports = free_ports(layout.processes)?;
        let apis = ports.iter().map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST)).collect();
        let (say, said) = mpsc::channel(NOTICES);
        let (running, recent) = (vec![], VecDeque::new());
        let mut workers = Workers { layout, secret: secret()?, apis, running, restarts: 0, say, said, recent };
        for index in 0..workers.layout.processes {
            let running = workers.launch(index).await?;
            workers.running.push(running);
        }
        Ok(workers)
    }

    /// Where the API of one of them is.
    pub fn api(&self) -> &str {
        &self.apis[0]
    }

    /// The process ids.
    pub fn process_ids(&self) -> Vec<u32> {
        self.running.iter().map(|running| running.id).collect()
    }

    /// How often one had to be started again.
    pub fn restarts(&self) -> usize {
        self.restarts
    }

    /// How much memory each holds now; nothing where the system does not say.
    pub fn memory_mb(&self) -> Vec<f64> {
        let held = |id: u32| {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some((kilobytes / 102.4).round() / 10.0)
        };
        self.process_ids().into_iter().filter_map(held).collect()
    }

    /// Whether all of them live.
    pub fn check(&mut self) -> Result<()> {
        for (index, running) in self.running.iter_mut().enumerate() {
            if let Some(status) = running.shell.try_wait()? {
                let tail = running.tail();
                bail!("worker {index} has ended ({}); the end of its log:\n{tail}", outcome(status.code()));
            }
        }
        Ok(())
    }

    /// Starts again what has ended, and tells what is worth telling.
    pub async fn tend(&mut self) -> Result<Vec<String>> {
        let mut notices = vec![];
        for index in 0..self.running.len() {
            let running = &mut self.running[index];
            if let Some(ended) = running.ended {
                if ended.elapsed() > RESTART_PAUSE {
                    self.running[index] = self.launch(index).await?;
                    notices.push(format!("worker {index} is started again, as process {}", self.running[index].id));
                }
            } else if let Some(status) = running.shell.try_wait()? {
                running.ended = Some(Instant::now());
                self.restarts += 1;
                if self.restarts > RESTARTS {
                    bail!("workers have ended {RESTARTS} times; the end of the last log:\n{}", running.tail());
                }
                notices.push(format!("worker {index} has ended ({})", outcome(status.code())));
            }
        }
        while let Ok(line) = self.said.try_recv() {
            self.recent.retain(|(when, _)| when.elapsed() < REPEAT);
            if !self.recent.iter().any(|(_, said)| *said == line) {
                self.recent.push_back((Instant::now(), line.clone()));
                notices.push(line);
            }
        }
        Ok(notices)
    }

    /// Asks all of them to stop, and makes those that do not.
    pub async fn stop(mut self) {
        for running in &mut self.running {
            running.leash = None;
        }
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        for running in &mut self.running {
            if tokio::time::timeout_at(deadline, running.shell.wait()).await.is_err() {
                // If it is gone already, there is nothing left to do.
                let kill = format!("kill -KILL {}", running.id);
                let _ = Command::new("/bin/sh").args(["-c", &kill]).stderr(Stdio::null()).status().await;
                let _ = running.shell.wait().await;
            }
        }
    }

    async fn launch(&self, index: usize) -> Result<Running> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISOR, "velib-worker"]).arg(program).arg("worker");
        command.args(["--workers", &self.layout.workers.to_string(), "--api", &self.apis[index]]);
        command.args(["--log-format", "json"]);
        // Settings of another cluster are none of this one's; what is secret is not for the list of processes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VELIB_")) {
            if name != log::FILTER {
                command.env_remove(name);
            }
        }
        command.env("VELIB_DATABASE_URL", &self.layout.database).env("VELIB_CLUSTER__SECRET", &self.secret);
        command.env("VELIB_CLUSTER__PROCESSES", self.layout.processes.to_string());
        if let Some(clock) = &self.layout.clock {
            let start = clock.start.timestamp_millis().to_string();
            command.env("VELIB_CLOCK__SPEED", format!("{:?}", clock.speed)).env("VELIB_CLOCK__START_MS", start);
        }
        // Out of reach of the terminal's Ctrl-C: the demo stops things in their order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = command.spawn().context("/bin/sh could not be started")?;
        let tail = Arc::default();
        if let Some(lines) = shell.stderr.take() {
            tokio::spawn(listen(index, lines, Arc::clone(&tail), self.say.clone()));
        }
        let leash = shell.stdin.take();
        let mut line = String::new();
        if let Some(out) = shell.stdout.take() {
            BufReader::new(out).read_line(&mut line).await?;
        }
        let id = line.trim().parse().with_context(|| format!("worker {index} could not be started"))?;
        Ok(Running { shell, leash, id, tail, ended: None })
    }
}

impl Running {
    fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Reads the log of a worker: warnings and errors are told, the last lines are kept.
async fn listen(index: usize, log: ChildStderr, tail: Arc<Mutex<VecDeque<String>>>, say: mpsc::Sender<String>) {
    let everything = std::env::var_os(log::FILTER).is_some();
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (pressing, text) = readable(&line);
        {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text.clone());
        }
        if pressing || everything {
            // Too many to be read: the oldest say enough.
            let _ = say.try_send(format!("worker {index}: {text}"));
        }
    }
}

/// A line of a log in JSON: whether it is a warning or worse, and in words.
fn readable(line: &str) -> (bool, String) {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return (true, line.to_string()) };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let others = fields.iter().filter(|(name, _)| {
        !matches!(name.as_str(), "timestamp" | "level" | "target" | "message" | "span" | "spans" | "thread" | "place")
    });
    let others: Vec<String> = others
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_string)))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    (matches!(text("level"), "WARN" | "ERROR"), format!("{}{others}", text("message")))
}

/// The shell ends with the worker's exit code, or with 128 and the signal.
fn outcome(code: Option<i32>) -> String {
    match code {
        Some(code @ 129..) => format!("signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => "killed".to_string(),
    }
}

/// All are held until all are known, so that none is given twice.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}

fn secret() -> Result<String> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_read() {
        let line = r#"{"timestamp":"t","level":"WARN","message":"a peer is gone","target":"x","peer":"a:1","tries":3}"#;
        assert_eq!(readable(line), (true, "a peer is gone (peer=a:1, tries=3)".to_string()));
        assert_eq!(readable(r#"{"level":"INFO","message":"started"}"#), (false, "started".to_string()));
        assert_eq!(readable("thread panicked"), (true, "thread panicked".to_string()));
    }
}
