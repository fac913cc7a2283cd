//! The cluster as Kubernetes runs it, in containers: the image of the Dockerfile, the settings of the StatefulSet, names
//! by number as its headless service gives them, and a network that has nothing but them, a database and a city.
//!
//! `.ci/with-docker` starts a Docker engine for it where it can. Without one the test says that it was skipped.
#![allow(missing_docs, clippy::unwrap_used)]

mod docker;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use docker::{Container, Images, Network, docker, eventually, loudly, root};
use serde_json::Value;

const PROCESSES: usize = 3;
const STATIONS: usize = 300;
/// As orchestrators are asked to run it.
const CONFINED: [&str; 7] =
    ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt", "no-new-privileges", "--memory", "2g"];

/// A station, its bikes and its docks.
type Rows = Vec<(String, i64, i64)>;

struct Stack {
    // In the order in which they go.
    engines: Vec<Container>,
    city: Container,
    postgres: Container,
    network: Network,
    image: String,
    _secrets: tempfile::TempDir,
}

/// A file that a user of a container may read.
fn secret(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Stack {
    /// Everything at once: they wait for each other.
    fn start(images: Images) -> Stack {
        let network = Network::create();
        let secrets = tempfile::tempdir().unwrap();
        let (database, engine) = (secrets.path().join("database"), secrets.path().join("engine"));
        secret(&database, "postgres_password", "of the administrator");
        secret(&database, "velib_database_password", "of-the-engine");
        secret(&database, "grafana_database_password", "of-grafana");
        secret(&engine, "database-url", "postgresql://velib:of-the-engine@postgres:5432/velib");
        secret(&engine, "cluster-secret", "of the cluster");
        let roles = root().join("deploy/postgres/roles.sh");
        let options = [
            "--env=POSTGRES_DB=velib",
            "--env=POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password",
            &format!("--volume={}:/run/secrets:ro", database.display()),
            &format!("--volume={}:/docker-entrypoint-initdb.d/roles.sh:ro", roles.display()),
        ];
        let postgres = Container::run(&network, "postgres", "postgres", &options, &[&images.postgres]);
        let stations = STATIONS.to_string();
        // It says something else every ten seconds: time enough to compare, however slow the machine.
        let simulate =
            ["simulate", "--address=0.0.0.0:8580", "--speed=6", "--changed-share=0.2", "--stations", &stations];
        let arguments = [&[images.velib.as_str()][..], &simulate].concat();
        let city = Container::run(&network, "city", "city", &CONFINED, &arguments);
        let settings = root().join("deploy/kubernetes/base/velib.env");
        let settings = format!("--env-file={}", settings.display());
        let mount = format!("--volume={}:/run/secrets/velib:ro", engine.display());
        let options = [&CONFINED[..], &[settings.as_str(), mount.as_str()]].concat();
        let process = |index: usize| {
            let host = format!("velib-{index}");
            Container::run(&network, &host, &format!("{host}.velib"), &options, &[&images.velib, "worker"])
        };
        let engines = (0..PROCESSES).map(process).collect();
        Stack { engines, city, postgres, network, image: images.velib, _secrets: secrets }
    }

    /// As the Job of Kubernetes does it.
    fn submit(&self) -> Result<String, String> {
        let jobs = ["occupancy", "critical", "trends"].map(|job| format!("/usr/share/velib/jobs/bikeshare/{job}.sql"));
        let mut arguments =
            vec!["run", "--rm", "--network", &self.network.0, "--env=VELIB_API=http://velib-1.velib:7070"];
        arguments.extend(CONFINED);
        arguments.extend([self.image.as_str(), "submit", "--replace"]);
        arguments.extend(jobs.iter().map(String::as_str));
        arguments.extend(["--param=feed=http://city:8580/gbfs.json", "--param=poll=500 ms"]);
        arguments.push("--param=quartiers=http://city:8580/quartiers.geojson");
        docker(&arguments)
    }

    fn sql(&self, query: &str) -> Result<String, String> {
        self.postgres.exec(&["psql", "-XAtq", "--field-separator=;", "-U", "postgres", "-d", "velib", "-c", query])
    }

    /// As Grafana does.
    fn reader(&self, query: &str) -> Result<String, String> {
        let url = "postgresql://velib_grafana:of-grafana@postgres/velib";
        self.postgres.exec(&["psql", "-XAtq", url, "-c", query])
    }

    fn upper(&self) -> Result<u64, String> {
        let upper = self.sql("SELECT min(upper) FROM velib.frontier")?;
        upper.parse().map_err(|_| format!("no frontier: {upper}"))
    }

    /// Waits until every process, asked by itself, says that all are parts of one generation after `before`.
    fn formed(&self, before: u64) -> u64 {
        eventually("generation of all", || {
            let mut generation = 0;
            for engine in &self.engines {
                engine.exec(&["velib", "probe", "--ready"])?;
                let status = engine.exec(&["velib", "status", "--output", "json"])?;
                let status: Value = serde_json::from_str(&status).map_err(|error| error.to_string())?;
                let listed = status["processes"].as_array().unwrap().iter();
                let mut addresses: Vec<&str> = listed
                    .filter(|process| process["index"].is_u64() && process["generation"] == status["generation"])
                    .filter_map(|process| process["address"].as_str())
                    .collect();
                addresses.sort_unstable();
                let all = addresses == ["velib-0.velib:7070", "velib-1.velib:7070", "velib-2.velib:7070"];
                generation = status["generation"].as_u64().unwrap();
                if !all || generation <= before {
                    return Err(status.to_string());
                }
            }
            Ok(generation)
        })
    }

    /// What the city says at this moment, without anything of ours in between.
    fn said(&self) -> Result<Rows, String> {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/8580; \
                   printf 'GET /station_status.json HTTP/1.0\\r\\nHost: city\\r\\n\\r\\n' >&3; cat <&3";
        let answer = self.city.exec(&["bash", "-c", ask])?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let document: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let stations = document["data"]["stations"].as_array().ok_or("no stations")?;
        let count = |station: &Value, what: &str| station[what].as_i64().unwrap();
        let row = |station: &Value| {
            let id = station["station_id"].to_string();
            (id, count(station, "num_bikes_available"), count(station, "num_docks_available"))
        };
        let mut rows: Rows = stations.iter().map(row).collect();
        rows.sort();
        Ok(rows)
    }

    fn shown(&self) -> Result<Rows, String> {
        let text = self.sql("SELECT station_id, bikes, docks FROM occupancy.station_now")?;
        let row = |line: &str| {
            let mut cells = line.split(';');
            let mut cell = || cells.next().unwrap();
            (cell().to_string(), cell().parse().unwrap(), cell().parse().unwrap())
        };
        let mut rows: Rows = text.lines().map(row).collect();
        rows.sort();
        Ok(rows)
    }

    /// Waits until the tables show what the city says, and have moved past `before`.
    fn follows_the_city(&self, before: u64) -> (u64, Rows) {
        let found = eventually("table like the feed", || {
            // The city may have gone on between the two.
            let (said, shown, upper) = (self.said()?, self.shown()?, self.upper()?);
            if said.len() == STATIONS && said == shown && upper > before {
                return Ok((upper, shown));
            }
            let other = said.iter().zip(&shown).filter(|(said, shown)| said != shown).count();
            Err(format!("{} stations of {}, {other} otherwise; {upper} after {before}", shown.len(), said.len()))
        });
        // The views of a job never disagree with each other.
        let areas = "SELECT (SELECT sum(bikes) FROM occupancy.area_now) =
                            (SELECT sum(bikes) FROM occupancy.station_now WHERE state <> 'closed' AND area IS NOT NULL)";
        assert_eq!(self.sql(areas).unwrap(), "t");
        found
    }
}

#[test]
fn a_stateful_set_of_three_in_containers() {
    let Some(images) = Images::build() else { return };
    let bytes: f64 = docker(&["image", "inspect", "--format", "{{.Size}}", &images.velib]).unwrap().parse().unwrap();
    let began = Instant::now();
    let stack = Stack::start(images);
    let first = stack.formed(0);
    let formed = began.elapsed();
    stack.submit().unwrap();
    loudly(&format!(
        "containers: image {:.0} MB (with the program of the tests), {} processes formed after {:.1} s, three jobs in \
         their tables after {:.1} s",
        bytes / 1e6,
        PROCESSES,
        formed.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    ));
    let (upper, rows) = stack.follows_the_city(0);
    let since = |process: usize| stack.engines[process].inspect("{{.State.Running}} since {{.State.StartedAt}}");
    let untouched = since(2);

    // Confined: not root, nothing to write to, and a role that only reads.
    let engine = &stack.engines[1];
    assert_eq!(engine.exec(&["id", "-u"]).unwrap(), "10001");
    assert!(engine.exec(&["touch", "/usr/local/bin/x"]).unwrap_err().contains("Read-only file system"));
    eventually("healthy container", || match engine.inspect("{{.State.Health.Status}}").as_str() {
        "healthy" => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(stack.reader("SELECT count(*) FROM occupancy.station_now").unwrap(), STATIONS.to_string());
    let refused = stack.reader("BEGIN READ WRITE; DELETE FROM occupancy.station_now").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");

    // One of them is stopped as an orchestrator does it, and comes back under its name.
    engine.command("stop");
    assert_eq!(engine.inspect("{{.State.ExitCode}}"), "0");
    let stopped = stack.upper().unwrap();
    assert!(stopped >= upper);
    engine.command("start");
    let second = stack.formed(first);
    // It may take more than one snapshot until a station has changed.
    let upper = eventually("tables that go on with the city", || match stack.follows_the_city(stopped) {
        (upper, later) if later != rows => Ok(upper),
        _ => Err("they are as they were before the stop".to_string()),
    });

    // Another one is killed.
    stack.engines[0].command("kill");
    stack.engines[0].command("start");
    stack.formed(second);
    stack.follows_the_city(upper);
    // The one that was not touched has lived through it all.
    assert_eq!(since(2), untouched);
}
