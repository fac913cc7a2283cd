//! The commands against a cluster, as they are typed: what they print, and how they end.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::cluster::Cluster;
use super::feed::{self, Life, live_job};

/// Somebody at a shell, whose environment says where the cluster and its database are.
#[derive(Default)]
struct User {
    api: Option<String>,
    database: Option<String>,
}

impl User {
    /// Exit code, standard output, standard error.
    fn types(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
        command.args(arguments);
        for (name, value) in [("VELIB_API", &self.api), ("VELIB_DATABASE_URL", &self.database)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let done = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    /// What a command answers to programs.
    fn asks(&self, arguments: &[&str]) -> Value {
        let (code, out, error) = self.types(&[arguments, &["--output", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {error}");
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{arguments:?}: {why}: {out}"))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_looked_after_from_the_command_line() {
    let (life, city) = (Life::of(1_500), feed::city().await);
    let mut cluster = Cluster::start(2, 1).await;
    // Any process may be asked.
    let user = User { api: Some(format!("http://{}", cluster.apis[1])), database: Some(cluster.database.url()) };
    let folder = tempfile::tempdir().unwrap();
    let text = live_job(&city);
    let good = write(folder.path(), "paris.sql", &text);

    assert!(user.types(&["jobs"]).2.contains("no jobs yet: velib submit FILE.sql"));
    let (code, out, error) = user.types(&["submit", &good]);
    assert!(code == 0 && out.contains("paris installed: 3 views, as of "), "{out}{error}");
    assert_eq!(user.asks(&["submit", &good])[0]["change"], "unchanged");

    // Another text of the same name needs a word; what is wrong is told with its place, and changes nothing.
    let (before, _) = text.split_once("CREATE MATERIALIZED VIEW total").unwrap();
    let other = format!("{before}CREATE MATERIALIZED VIEW total AS SELECT count(*) AS stations FROM velib.status;");
    write(folder.path(), "paris.sql", &other);
    let (code, _, error) = user.types(&["submit", &good]);
    assert!(code == 1 && error.contains("--replace"), "{error}");
    let bad = write(folder.path(), "bad.sql", &text.replace("sum(docks)", "sum(dockz)"));
    let (code, out, error) = user.types(&["submit", &bad, "--name", "paris", "--replace"]);
    let line = 1 + text.lines().position(|line| line.contains("sum(docks)")).unwrap();
    assert!(code == 1 && out.is_empty() && error.contains(&format!("--> {bad}:{line}:")), "{error}");
    assert!(error.contains("no column dockz") && error.contains("did you mean docks?"), "{error}");
    assert_eq!(user.asks(&["job", "paris"])["version"], 1);
    assert_eq!(user.asks(&["submit", &good, "--replace"])[0]["change"], "replaced");
    assert_eq!(
        user.asks(&["query", "SELECT stations FROM paris.total"]),
        serde_json::json!([{"stations": feed::STATIONS}])
    );

    assert_eq!(user.asks(&["jobs"])[0]["status"], "running");
    assert_eq!(user.asks(&["pause", "paris"])["desired"], "paused");
    cluster.until_status("paris", "paused").await;
    assert_eq!(user.asks(&["resume", "paris"])["desired"], "running");
    let job = cluster.until_status("paris", "running").await;
    assert_eq!(job["sources"]["velib"]["error"], Value::Null, "{job}");
    cluster.shows_more("paris", &life, 0).await;
    let status = user.asks(&["status"]);
    assert_eq!((status["processes"].as_array().unwrap().len(), status["jobs"].as_array().unwrap().len()), (2, 1));
    for (arguments, says) in [
        (&["job", "paris"][..], "paris.by_area"),
        (&["job", "paris", "--explain"], "| holds "),
        (&["job", "paris", "--text"], "CREATE SOURCE velib"),
        (&["jobs", "--output", "csv"], "paris,running,3,"),
        (&["status"], "2 processes, 2 workers, 1 job"),
    ] {
        let (code, out, error) = user.types(arguments);
        assert!(code == 0 && out.contains(says), "{arguments:?}: {out}{error}");
    }

    for (arguments, says) in [
        (&["job", "pariss"][..], "there is no job pariss"),
        (&["pause", "pariss"], "did you mean paris?"),
        (&["drop", "paris"], "there is nobody to ask: say --yes"),
    ] {
        let (code, _, error) = user.types(arguments);
        assert!(code == 1 && error.contains(says), "{arguments:?}: {error}");
    }
    assert_eq!(user.asks(&["drop", "paris", "--yes"])["dropped"], "paris");
    assert_eq!(user.asks(&["jobs"]), serde_json::json!([]));
    let (code, _, error) = user.types(&["query", "SELECT * FROM paris.total"]);
    assert!(code == 1 && error.contains("paris.total"), "{error}");
    cluster.stop().await;
}

/// A job in a process of its own, as scripts run it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::of(20);
    life.record(folder.path());
    std::fs::write(folder.path().join("status_2024-11-05T08-00-00Z.json"), "<html>").unwrap();
    let recorded = write(folder.path(), "recorded.sql", &feed::recorded_job(folder.path()));
    let nowhere = User::default();
    let summary = nowhere.asks(&["run", &recorded, "--once", "--embedded", "--workers", "2"]);
    // The documents, of which the first comes with the stations, and the areas.
    assert_eq!((&summary["job"], summary["snapshots"].as_u64()), (&"recorded".into(), Some(21)), "{summary}");
    assert_eq!(summary["rows_rejected"], 1);
    for figure in ["rows_in", "rows_out", "transactions", "seconds"] {
        assert!(summary[figure].as_f64() > Some(0.0), "{figure}: {summary}");
    }
    assert!(cfg!(not(target_os = "linux")) || summary["peak_memory_mb"].as_f64() > Some(1.0), "{summary}");

    // In a database that is there, what was refused is there as well when it ends.
    let cluster = Cluster::start(1, 1).await;
    let user = User { api: None, database: Some(cluster.database.url()) };
    let (code, out, error) = user.types(&["run", &recorded, "--once"]);
    assert!(code == 0 && out.starts_with("recorded: 21 snapshots, "), "{out}{error}");
    let (_, out, _) = user.types(&["run", &recorded, "--once", "--output", "csv"]);
    assert!(out.contains("\nrecorded,21,"), "{out}");
    let refused = user.asks(&["query", "SELECT reason FROM velib.quarantine"]);
    assert!(refused[0]["reason"].as_str().unwrap().contains("HTML"), "{refused}");
    assert_eq!(cluster.shown("recorded", &life).await, life.states.len() - 1);

    // Live sources are read once; one that says nothing is an error.
    let city = feed::city().await;
    let live = write(folder.path(), "live.sql", &live_job(&city));
    let summary = user.asks(&["run", &live, "--once"]);
    assert!(summary["snapshots"].as_u64() >= Some(2) && summary["rows_out"].as_u64() > Some(0), "{summary}");
    let (code, _, error) = user.types(&["run", &live, "--once", "--database-url", "postgresql://nobody@127.0.0.1:1/x"]);
    assert!(code == 3 && error.contains("127.0.0.1:1"), "{code} {error}");
    let (code, _, error) = nowhere.types(&["run", &live, "--once"]);
    assert!(code == 1 && error.contains("--embedded"), "{code} {error}");
    let bad = write(folder.path(), "bad.sql", "CREATE MATERIALIZED VIEW v AS\nSELECT x FROM nowhere");
    let (code, _, error) = user.types(&["run", &bad]);
    assert!(
        code == 1 && error.contains("no relation nowhere") && error.contains(&format!("--> {bad}:2:15")),
        "{error}"
    );
}

const VERIFIED: &str = "
CREATE TABLE kinds (low BIGINT, kind TEXT);
INSERT INTO kinds VALUES (0, 'few'), (10, 'many');
CREATE FUNCTION tens (n BIGINT) RETURNS BIGINT RETURN n / 10 * 10;
CREATE MATERIALIZED VIEW rates WITH (key = 'station_id') AS
SELECT station_id, bikes, CAST(bikes AS DOUBLE PRECISION) / nullif(bikes + docks, 0) AS rate, bikes > docks AS full_ish
FROM by_station;
CREATE VIEW in_tens AS SELECT tens(bikes) AS tens, rate, full_ish FROM rates;
CREATE MATERIALIZED VIEW by_tens AS
SELECT tens, full_ish, count(*) AS n, avg(rate) AS rate, max(k.kind) AS kind
FROM in_tens LEFT JOIN kinds k ON k.low = least(tens, 10) GROUP BY tens, full_ish;
CREATE MATERIALIZED VIEW bag AS SELECT tens, full_ish FROM in_tens;
";

#[tokio::test(flavor = "multi_thread")]
async fn views_are_verified_and_what_differs_is_told() {
    let (life, city) = (Life::of(1_500), feed::city().await);
    let cluster = Cluster::start(1, 2).await;
    let user = User { api: Some(format!("http://{}", cluster.apis[0])), database: Some(cluster.database.url()) };
    let text = format!("{}{VERIFIED}", live_job(&city));
    let (code, answer) = cluster.submit(&feed::submission("city", &text)).await;
    assert_eq!(code, 201, "{answer}");
    cluster.shows_more("city", &life, 0).await;

    let views = user.asks(&["verify", "city"]);
    let of = |name: &str| views.as_array().unwrap().iter().find(|view| view["view"] == name).unwrap().clone();
    for name in ["rates", "by_tens", "bag"] {
        let view = of(name);
        assert!(view["not_computed"].is_null() && view["rows"].as_u64() > Some(0), "{view}");
        assert_eq!(
            (view["missing"]["count"].as_u64(), view["surplus"]["count"].as_u64()),
            (Some(0), Some(0)),
            "{view}"
        );
    }
    let reason = of("by_station")["not_computed"].as_str().unwrap().to_owned();
    assert!(reason.contains("velib.") && reason.contains("in no table"), "{reason}");

    let (code, _, error) = user.types(&["pause", "city"]);
    assert_eq!(code, 0, "{error}");
    cluster.until_status("city", "paused").await;
    let sql = cluster.connect().await;
    let change =
        "UPDATE city.by_tens SET n = n + 1 WHERE (tens, full_ish) = (SELECT tens, full_ish FROM city.by_tens LIMIT 1)";
    assert_eq!(sql.execute(change, &[]).await.unwrap(), 1);
    let (code, out, error) = user.types(&["verify", "city", "by_tens"]);
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("\n+ by_tens: ") && out.contains("\n- by_tens: "), "{out}");
    assert!(error.contains("1 view differ"), "{error}");
    assert_eq!(user.types(&["verify", "city", "bag"]).0, 0);
    let (code, _, error) = user.types(&["verify", "city", "by_ten"]);
    assert!(code == 1 && error.contains("did you mean by_tens?"), "{error}");
    let (code, _, error) = user.types(&["verify", "town"]);
    assert!(code == 1 && error.contains("no job town"), "{error}");
}
