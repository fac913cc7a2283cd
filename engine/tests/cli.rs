//! The command line as its users meet it: the program itself, with what it prints and how it ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use velib_engine::postgres::private::{Durability, Private};

const NOBODY: &str = "http://127.0.0.1:1";
const COMMANDS: [&str; 18] = [
    "demo",
    "run",
    "sql",
    "worker",
    "submit",
    "jobs",
    "job",
    "pause",
    "resume",
    "drop",
    "explain",
    "query",
    "status",
    "scale",
    "lake",
    "probe",
    "simulate",
    "completions",
];
const JOB: &str = "CREATE SOURCE velib FROM GBFS (url = 'http://127.0.0.1:1/gbfs.json');
CREATE MATERIALIZED VIEW areas AS
SELECT s.region, sum(t.bikes) AS bikes FROM velib.stations s JOIN velib.status t USING (station_id) GROUP BY s.region;
";

fn velib(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VELIB_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = velib(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn every_command_has_help_with_an_example() {
    let (code, help, _) = run(&["--help"]);
    assert!(code == 0 && help.contains("Exit codes: 0 done"), "{help}");
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help");
        let (code, help, _) = run(&[command, "--help"]);
        assert!(code == 0 && help.contains("\nExample") && help.contains(&format!("  velib {command}")), "{help}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0, "{shell}");
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
}

#[test]
fn a_cluster_that_is_not_there_is_exit_code_3_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let job = write(folder.path(), "areas.sql", JOB);
    for command in [
        vec!["jobs"],
        vec!["job", "a"],
        vec!["pause", "a"],
        vec!["resume", "a"],
        vec!["drop", "a", "--yes"],
        vec!["status"],
        vec!["probe"],
        vec!["probe", "--ready"],
        vec!["submit", &job],
    ] {
        let arguments = [&command[..], &["--api", NOBODY]].concat();
        let (code, out, error) = run(&arguments);
        assert_eq!((code, out.as_str()), (3, ""), "{command:?}: {error}");
        let told = "error: no cluster answers at http://127.0.0.1:1 (connection refused): start one with \
                    `velib worker`, or say where with --api or VELIB_API\n";
        assert!(error.ends_with(told), "{command:?}: {error}");
    }
}

#[test]
fn wrong_arguments_are_exit_code_2_and_missing_files_1() {
    let folder = tempfile::tempdir().unwrap();
    let job = write(folder.path(), "areas.sql", JOB);
    for (arguments, code, says) in [
        (vec!["jbos"], 2, "similar subcommands exist: 'job', 'jobs'"),
        (vec!["jobs", "--output", "xml"], 2, "[possible values: table, csv, json]"),
        (vec!["submit"], 2, "<FILE.sql>"),
        (vec!["submit", &job, &job, "--name", "x"], 2, "--name is for one job, and there are 2 files"),
        (vec!["submit", &job, "-p", "low"], 2, "\"low\" is not name=value, as in -p low=0.2"),
        (vec!["query", "SELECT 1"], 2, "--database-url <URL>"),
        (vec!["demo", "--speed", "0"], 2, "more than 0"),
        (vec!["submit", "none.sql"], 1, "error: the job none.sql cannot be read: No such file"),
        (vec!["explain", "none.sql"], 1, "error: the job none.sql cannot be read: No such file"),
        (vec!["jobs", "--api", "ftp://a"], 1, "the address of the cluster cannot be \"ftp://a\""),
    ] {
        let (actual, _, error) = run(&arguments);
        assert!(actual == code && error.contains(says), "{arguments:?}: {actual} {error}");
    }
}

#[test]
fn explain_shows_the_plan_or_the_place_of_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good-areas.sql", JOB);
    let (code, plan, error) = run(&["explain", &good]);
    assert!(code == 0 && plan.starts_with("view areas\n") && plan.contains("| holds "), "{error}{plan}");
    let (_, chart, _) = run(&["explain", &good, "--mermaid"]);
    assert!(chart.starts_with("flowchart TD\n"), "{chart}");
    let (_, described, _) = run(&["explain", &good, "--output", "json"]);
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!((&described["job"], &described["views"][0]), (&"good_areas".into(), &"areas".into()));

    let bad = write(folder.path(), "bad.sql", &JOB.replace("t.bikes", "t.bikez"));
    let (code, out, error) = run(&["explain", &bad]);
    let place = format!("--> {bad}:3:");
    assert!(code == 1 && out.is_empty(), "{error}");
    assert!(error.contains("bikez") && error.contains(&place) && error.contains("did you mean"), "{error}");
    let (code, _, error) = run(&["explain", &good, "-p", "low=1"]);
    assert!(code == 1 && error.contains("the text sets no parameter low"), "{error}");
}

/// None, with a line, where there is no PostgreSQL.
async fn server() -> Option<Private> {
    match Private::start(None, Durability::ThrowAway).await {
        Ok(server) => Some(server),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[tokio::test]
async fn queries_are_answered_in_every_format() {
    let Some(server) = server().await else { return };
    let url = server.url();
    let query = |sql: &str, output: &str| run(&["query", sql, "--database-url", &url, "--output", output]);
    let sql = "SELECT 'Île' AS area, 1204 AS bikes, 0.50::numeric AS rate, NULL::int AS docks, true AS open, \
               'a,\"b\"' AS note UNION ALL SELECT 'B', 7, 1, 2, false, ''";
    let (code, table, _) = query(sql, "table");
    let expected =
        "area  bikes  rate  docks  open  note\nÎle    1204  0.50      ∅  t     a,\"b\"\nB         7     1      2  f\n";
    assert_eq!((code, table.as_str()), (0, expected));
    let (_, csv, _) = query(sql, "csv");
    assert_eq!(csv, "area,bikes,rate,docks,open,note\nÎle,1204,0.50,,t,\"a,\"\"b\"\"\"\nB,7,1,2,f,\"\"\n");
    let (_, json, _) = query(sql, "json");
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["bikes"], 1204);
    assert_eq!((&rows[0]["docks"], &rows[1]["open"], &rows[1]["note"]), (&Value::Null, &false.into(), &"".into()));
    assert_eq!(query("SELECT 1 AS a WHERE false", "json").1, "[]\n");
    assert_eq!(query("SELECT 1 AS a; SELECT 2 AS b", "csv").1, "a\n1\nb\n2\n");
    let many = query("SELECT i FROM generate_series(1, 30000) AS i", "json").1;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&many).unwrap().len(), 30_000);
    let (_, _, more) = query("SELECT i FROM generate_series(1, 10003) AS i", "table");
    assert_eq!(more, "and 3 more rows, not shown: --output csv or json shows all\n");

    let (code, _, error) = query("SELECT\n  bikez FROM pg_class", "table");
    assert_eq!(code, 1);
    assert!(error.contains("--> line 2, column 3\n") && error.contains("  bikez FROM pg_class\n"), "{error}");
    assert!(error.contains("^^^^^\n"), "{error}");
    let (code, _, error) = query("CREATE TABLE x ()", "table");
    assert!(code == 1 && error.contains("velib query only reads"), "{error}");
    let (code, _, error) = run(&["query", "SELECT 1", "--database-url", "postgresql://a:s3cret@127.0.0.1:1/b"]);
    assert!(code == 3 && error.contains("is the server running there?") && !error.contains("s3cret"), "{error}");
}

/// A demo that runs, and its events.
struct Demo {
    process: Child,
    events: std::io::Lines<BufReader<std::process::ChildStdout>>,
    workers: Vec<u64>,
    url: String,
    queries: Vec<String>,
}

impl Demo {
    fn start() -> Demo {
        let arguments = ["demo", "--stations", "120", "--poll", "1 s", "--output", "json"];
        let mut process = velib(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = events.next().expect("the demo gets ready").unwrap();
        let ready: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(ready["event"], "ready");
        let texts = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect();
        let workers = ready["workers"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let psql = ready["psql"].as_str().unwrap();
        let url = psql.trim_start_matches("psql '").trim_end_matches('\'').to_string();
        Demo { process, events, workers, url, queries: texts(&ready["queries"]) }
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.events.next().expect("the demo goes on").unwrap()).unwrap()
    }

    fn signal(&self, signal: &str, id: u64) {
        // The shell's own: a bare system has no program of that name.
        let kill = format!("kill {signal} {id}");
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Nothing of it is left, after a moment.
    fn gone(&self) {
        let began = Instant::now();
        let lives = |id: &u64| Path::new(&format!("/proc/{id}/stat")).exists();
        while self.workers.iter().any(lives) || run(&["query", "SELECT 1", "--database-url", &self.url]).0 != 3 {
            assert!(began.elapsed() < Duration::from_secs(30), "something is left of the demo");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[tokio::test]
async fn the_demo_shows_snapshots_survives_an_accident_and_leaves_nothing() {
    if server().await.is_none() {
        return;
    }
    let mut demo = Demo::start();
    for query in &demo.queries {
        let (code, _, error) = run(&["query", query, "--database-url", &demo.url]);
        assert_eq!(code, 0, "{query}: {error}");
    }
    let event = demo.event();
    assert!(event["event"] == "snapshot" && event["rows_changed"].as_u64() > Some(0), "{event}");
    let killed = demo.workers.pop().unwrap();
    demo.signal("-KILL", killed);
    std::thread::sleep(Duration::from_secs(3));
    let after = chrono::Utc::now().to_rfc3339();
    while demo.event()["committed_at"].as_str().unwrap() < after.as_str() {}
    demo.signal("-INT", u64::from(demo.process.id()));
    let summary = loop {
        let event = demo.event();
        if event["event"] == "summary" {
            break event;
        }
    };
    assert_eq!(summary["worker_restarts"], 1, "{summary}");
    assert!(demo.process.wait().unwrap().success());
    demo.gone();
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_nothing_either() {
    if server().await.is_none() {
        return;
    }
    let mut demo = Demo::start();
    demo.process.kill().unwrap();
    demo.process.wait().unwrap();
    demo.gone();
}
