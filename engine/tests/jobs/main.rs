//! The jobs in `jobs/`, run by the real command into a real PostgreSQL.
//!
//! Two checks. Golden cases: `jobs/*/tests/JOB/CASE.txt` holds a small feed and the tables that come of it
//! (see [`case`]); a new case is a new file. And oracles: `jobs/*/tests/oracle/JOB/VIEW.sql` answers the
//! same as a view in PostgreSQL's own SQL, over a recording of the real feed (see [`oracle`]). Beside them, the jobs
//! in `benches/nexmark` (see [`nexmark`]).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod case;
mod feed;
mod nexmark;
mod oracle;
mod server;
mod table;

use std::path::{Path, PathBuf};

use case::Case;
use server::{Server, run};
use table::Table;

/// Each case and each replay is run with as many workers.
const WORKERS: [usize; 2] = [1, 3];

/// The folder of the jobs.
fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/bikeshare")
}

/// The files of a folder that end so, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Those of the parameters that the job sets.
fn set_by(job: &Path, parameters: &[(String, String)]) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(job).unwrap();
    parameters.iter().filter(|(name, _)| text.contains(&format!("SET PARAMETER {name} "))).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn golden() {
    let Some(server) = Server::start().await else { return };
    let accept = std::env::var_os("UPDATE_JOBS").is_some();
    let mut wrong = vec![];
    let mut count = 0;
    for job in files(&jobs(), ".sql") {
        for path in files(&jobs().join("tests").join(stem(&job)), ".txt") {
            let text = std::fs::read_to_string(&path).unwrap();
            let case = Case::parse(&text);
            let documents = feed::write(&case);
            for workers in WORKERS {
                let database = server.database().await;
                let mut parameters = case.parameters.clone();
                parameters.push(("feed".into(), format!("{}/*.json", documents.path().display())));
                parameters.push(("quartiers".into(), jobs().join("tests/quartiers.geojson").display().to_string()));
                run(&job, &set_by(&job, &parameters), &database, workers).await;
                let client = server.connect(&database).await;
                let mut tables = vec![];
                for (view, expected) in &case.expected {
                    let columns = expected.columns.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
                    let sql = format!("SELECT {columns} FROM \"{}\".\"{view}\"", stem(&job));
                    tables.push((view.clone(), Table::read(&client, &sql).await));
                }
                count += 1;
                let actual = case.with(&tables);
                if accept {
                    std::fs::write(&path, actual).unwrap();
                } else if actual != text {
                    wrong.push(format!("{} with {workers} workers:\n{actual}", path.display()));
                }
            }
        }
    }
    assert!(count > 0, "there are golden cases");
    assert!(wrong.is_empty(), "UPDATE_JOBS=1 cargo test --test jobs accepts\n{}", wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded() {
    let Some(server) = Server::start().await else { return };
    let Some(recording) = oracle::recording() else { return };
    let parameters = vec![
        ("feed".to_owned(), format!("{}/*.json", recording.documents.path().display())),
        ("quartiers".to_owned(), recording.quartiers.display().to_string()),
    ];
    let raw = jobs().join("tests/oracle/raw.sql");
    let functions = std::fs::read_to_string(jobs().join("tests/oracle/functions.sql")).unwrap();
    for job in files(&jobs(), ".sql") {
        for workers in WORKERS {
            let database = server.database().await;
            run(&raw, &parameters, &database, workers).await;
            let mut parameters = parameters.clone();
            // The hour that runs as well.
            parameters.push(("publish_after".to_owned(), "0 seconds".to_owned()));
            run(&job, &set_by(&job, &parameters), &database, workers).await;
            let client = server.connect(&database).await;
            client.batch_execute(&functions).await.unwrap();
            for query in files(&jobs().join("tests/oracle").join(stem(&job)), ".sql") {
                let sql = std::fs::read_to_string(&query).unwrap();
                let expected = Table::read(&client, &sql).await;
                let columns = expected.columns.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
                let sql = format!("SELECT {columns} FROM \"{}\".\"{}\"", stem(&job), stem(&query));
                let actual = Table::read(&client, &sql).await;
                assert!(!expected.rows.is_empty(), "{} answers something", query.display());
                if let Some(difference) = actual.difference(&expected) {
                    panic!("{} with {workers} workers: {difference}", query.display());
                }
            }
        }
    }
}
