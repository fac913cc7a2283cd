//! The rules of Prometheus and the routes of Alertmanager in `deploy/`, by their own tools. Without
//! `promtool` and `amtool` (Debian's `prometheus` and `prometheus-alertmanager`) they are skipped, and say so.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder of `deploy/`, each with what it says.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(root().join("deploy").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is not empty");
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
    files.into_iter().map(read).collect()
}

/// Runs a tool that must have nothing to say against it.
fn run(tool: &str, arguments: &[&str]) {
    match Command::new(tool).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {tool} is not installed, so {} is not checked", arguments.join(" "));
        }
        output => {
            let output = output.unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{tool} {}:\n{}", arguments.join(" "), String::from_utf8_lossy(&said));
        }
    }
}

fn check(tool: &str, arguments: &[&str], folder: &str) {
    for (path, _) in files(folder) {
        run(tool, &[arguments, &[path.to_str().unwrap()]].concat());
    }
}

#[test]
fn rules_are_right() {
    check("promtool", &["check", "rules", "--lint=all", "--lint-fatal"], "prometheus/rules");
    let config = root().join("deploy/prometheus/prometheus.yml");
    run("promtool", &["check", "config", config.to_str().unwrap()]);
}

#[test]
fn alerts_fire_when_they_should() {
    check("promtool", &["test", "rules"], "prometheus/tests");
}

#[test]
fn routes_are_right() {
    check("amtool", &["check-config"], "alertmanager");
    let config = root().join("deploy/alertmanager/alertmanager.yml");
    for (receiver, labels) in [
        ("engineers-at-once", ["audience=engine", "severity=critical"]),
        ("engineers", ["audience=engine", "severity=warning"]),
        ("operations", ["audience=service", "severity=warning"]),
        ("engineers", ["audience=somebody", "severity=critical"]),
    ] {
        let file = format!("--config.file={}", config.display());
        let verify = format!("--verify.receivers={receiver}");
        run("amtool", &[&["config", "routes", "test", &file, &verify][..], &labels].concat());
    }
}

/// Every alert says how bad it is, what it means and what to do; there is a case for it, a section of
/// `docs/alerts.md`, and no metric in it that is not listed.
#[test]
fn alerts_are_complete() {
    let page = std::fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let listed = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let cases: String = files("prometheus/tests").into_iter().map(|(_, text)| text).collect();
    let mut alerts = vec![];
    for (path, text) in files("prometheus/rules") {
        for rule in text.split("- alert: ").skip(1) {
            let name = rule.lines().next().unwrap().trim();
            let anchor = format!("docs/alerts.md#{}\n", name.to_lowercase());
            for part in ["severity: ", "audience: ", "summary: ", "description: ", anchor.as_str()] {
                assert!(rule.contains(part), "{}: {name} has no {part}", path.display());
            }
            assert!(page.contains(&format!("\n### {name}\n")), "docs/alerts.md says nothing of {name}");
            let fires = format!("alertname: {name}\n        exp_alerts:");
            assert!(cases.contains(&fires), "no case in which {name} fires");
            alerts.push(name.to_owned());
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("velib_") {
                assert!(listed.contains(&format!("`{word}`")), "{}: there is no metric {word}", path.display());
            }
        }
    }
    for section in page.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(alerts.iter().any(|alert| alert == section), "docs/alerts.md: there is no alert {section}");
    }
}

/// Killed when dropped.
struct Alertmanager(Child);

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What reaches Slack of two alerts, through a real Alertmanager with the configuration as it is but for
/// where the secrets are, and for how long it waits.
#[tokio::test]
async fn messages_can_be_read() {
    let (heard, mut messages) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slack = listener.local_addr().unwrap();
    let hear = async move |axum::Json(message): axum::Json<Value>| {
        heard.send(message).unwrap();
        "ok"
    };
    let router = axum::Router::new().route("/hook", axum::routing::post(hear));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("slack_webhook"), format!("http://{slack}/hook")).unwrap();
    std::fs::write(folder.path().join("smtp_password"), "none").unwrap();
    let config = std::fs::read_to_string(root().join("deploy/alertmanager/alertmanager.yml")).unwrap();
    let config =
        config.replace("/run/secrets", folder.path().to_str().unwrap()).replace("smtp.example.org", "127.0.0.1");
    let config = config.replace("group_wait: 30s", "group_wait: 100ms").replace("group_wait: 2m", "group_wait: 100ms");
    let file = folder.path().join("alertmanager.yml");
    std::fs::write(&file, config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _alertmanager = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return eprintln!("SKIPPED: prometheus-alertmanager is not installed, so no message is written");
        }
        child => Alertmanager(child.unwrap()),
    };
    let alert = |name: &str, audience: &str, severity: &str, summary: &str| {
        json!({
            "labels": {"alertname": name, "audience": audience, "severity": severity, "job": "occupancy"},
            "annotations": {"summary": summary, "description": "What to do.", "runbook_url": "http://runbook"},
        })
    };
    let alerts = json!([
        alert("VelibViewBehind", "engine", "critical", "The view is behind"),
        alert("VelibAreaShortOfBikes", "service", "warning", "West is short of bikes"),
    ]);
    let http = velib_engine::source::build_client().unwrap();
    let url = format!("http://127.0.0.1:{port}/api/v2/alerts");
    let mut tries = 0;
    while http.post(&url).json(&alerts).send().await.is_err() {
        tries += 1;
        assert!(tries < 200, "Alertmanager does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut said = vec![];
    for _ in 0..2 {
        let message = tokio::time::timeout(Duration::from_secs(30), messages.recv()).await;
        let message = message.expect("a message in time").unwrap();
        let of = |part: &str| message["attachments"][0][part].as_str().unwrap_or_default().trim().to_owned();
        said.push([message["channel"].as_str().unwrap().to_owned(), of("title"), of("title_link"), of("text")]);
    }
    said.sort();
    assert_eq!(
        said,
        [
            ["#velib-operations", "VelibAreaShortOfBikes: 1", "http://runbook", "• West is short of bikes"],
            ["#velibinsight", "critical: VelibViewBehind", "http://runbook", "*The view is behind*\nWhat to do."],
        ]
    );
}
