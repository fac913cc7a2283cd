//! The queries of Nexmark, as `benches/nexmark` has them, with PostgreSQL as the judge.
//!
//! PostgreSQL gets the events as the tables of a schema `nexmark`, and then the text of each query as it is, less the
//! source. Each query is run twice: as it stands, and with all of its views kept, so that what is only summed up
//! in the end is compared row by row.

use std::path::Path;

use tokio_postgres::Client;

use super::server::{Server, run};
use super::table::Table;
use super::{files, stem};

/// An event a second, so that they take seven hours: recordings enter by the hour, and what an hour brings changes
/// what the ones before brought.
const EVENTS: &str = "25000";

/// The events themselves; the name of the job is that of the source in the queries.
const RAW: &str = "
    SET PARAMETER events = 1;
    CREATE SOURCE generated FROM NEXMARK (events = $events, rate = 1);
    CREATE MATERIALIZED VIEW person AS SELECT * FROM generated.person;
    CREATE MATERIALIZED VIEW auction AS SELECT * FROM generated.auction;
    CREATE MATERIALIZED VIEW bid AS SELECT * FROM generated.bid;
";

#[tokio::test(flavor = "multi_thread")]
async fn nexmark() {
    let Some(server) = Server::start().await else { return };
    let database = server.database().await;
    let folder = tempfile::tempdir().unwrap();
    let parameters = [("events".to_owned(), EVENTS.to_owned())];
    let raw = folder.path().join("nexmark.sql");
    std::fs::write(&raw, RAW).unwrap();
    run(&raw, &parameters, &database, 1).await;
    let client = server.connect(&database).await;
    let queries = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/nexmark"), ".sql");
    assert!(queries.len() > 20);
    let mut wrong = vec![];
    for query in queries {
        let name = stem(&query);
        let text = std::fs::read_to_string(&query)
            .unwrap()
            .replace("seed = $seed", "seed = $seed, rate = 1, snapshot = '5 min'");
        client.batch_execute(&judged(&name, &text)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let kept = text.replace("CREATE VIEW", "CREATE MATERIALIZED VIEW");
        for (text, workers) in [(&text, 1), (&kept, 3)] {
            std::fs::write(folder.path().join(format!("{name}.sql")), text).unwrap();
            run(&folder.path().join(format!("{name}.sql")), &parameters, &database, workers).await;
            for view in text.lines().filter_map(|line| line.strip_prefix("CREATE MATERIALIZED VIEW ")) {
                let view = view.split(' ').next().unwrap();
                let (actual, expected) = both(&client, &name, view).await;
                assert!(!expected.rows.is_empty(), "{name}: {view} has something");
                if let Some(difference) = actual.difference(&expected) {
                    wrong.push(format!("{name}: {view} with {workers} workers: {difference}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The views of a query as PostgreSQL's own, in a schema beside that of the job.
fn judged(name: &str, text: &str) -> String {
    let of_engine = |line: &&str| !line.starts_with("SET PARAMETER") && !line.starts_with("CREATE SOURCE");
    let text: Vec<&str> = text.lines().filter(of_engine).collect();
    format!("CREATE SCHEMA judge_{name}; SET search_path = judge_{name};\n{}", text.join("\n"))
}

/// A view as the engine has it, and as PostgreSQL has it.
async fn both(client: &Client, name: &str, view: &str) -> (Table, Table) {
    let table = client.prepare(&format!("SELECT * FROM {name}.{view}")).await.unwrap();
    let (columns, own): (Vec<&str>, Vec<&str>) =
        table.columns().iter().map(|column| column.name()).partition(|column| !column.starts_with("velib_"));
    let columns = columns.join(", ");
    let times = if own.contains(&"velib_multiplicity") { ", generate_series(1, velib_multiplicity)" } else { "" };
    let actual = Table::read(client, &format!("SELECT {columns} FROM {name}.{view}{times}")).await;
    let expected = Table::read(client, &format!("SELECT {columns} FROM judge_{name}.{view}")).await;
    (actual, expected)
}
