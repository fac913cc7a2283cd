//! The same SQL over the same files, once and from scratch, on DataFusion's own executor: what a batch engine needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use tokio::sync::mpsc;
use velib_engine::catalog;
use velib_engine::source::zones::{Zones, zones_udf};
use velib_engine::source::{Context, Event, build_client};
use velib_engine::sql::{self, Kind, Session};

use crate::machine;

#[derive(clap::Args)]
pub struct Args {
    /// Recorded documents or tables: a folder, a glob, or a .tar.zst.
    feed: String,
    /// The areas of the city.
    #[arg(long)]
    quartiers: String,
    /// The jobs; each is run by itself.
    #[arg(long, default_values = ["jobs/bikeshare/occupancy.sql", "jobs/bikeshare/critical.sql", "jobs/bikeshare/trends.sql"])]
    jobs: Vec<PathBuf>,
    /// In this process, the one job: for the process that measures it.
    #[arg(long, hide = true)]
    inside: bool,
}

pub async fn run(args: Args) -> Result<()> {
    if args.inside {
        let parameters = [("feed", args.feed), ("quartiers", args.quartiers)];
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        return inside(&args.jobs[0], &parameters).await;
    }
    println!("| job | rows in | rows of the views | CPU s | of it, reading | peak MB |");
    println!("|---|---|---|---|---|---|");
    for job in &args.jobs {
        // A process each, for its memory.
        let output = Command::new(std::env::current_exe()?)
            .args(["batch", "--inside", &args.feed, "--quartiers", &args.quartiers, "--jobs"])
            .arg(job)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // One that needs more memory than there is, is killed and says nothing.
        ensure!(output.status.success(), "{}: {}: {}", job.display(), output.status, said.trim());
        let text = String::from_utf8(output.stdout)?;
        let figures: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let number = |key: &str| figures[key].as_f64().unwrap_or(f64::NAN);
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.0} |",
            stem(job),
            number("rows_in"),
            number("rows_out"),
            number("cpu_seconds"),
            number("reading"),
            number("peak_memory_mb")
        );
    }
    Ok(())
}

fn stem(job: &Path) -> String {
    job.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads all of the sources, then asks each materialized view, with those before it as tables.
pub async fn inside(job: &Path, parameters: &BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(job).with_context(|| job.display().to_string())?;
    let context = Context {
        http: build_client().map_err(|e| anyhow!("{e}"))?,
        wall_clock_ms: Arc::new(|| 0),
        folder: std::env::current_dir()?,
        shown: 0,
    };
    let prepared = catalog::prepare(&stem(job), &text, parameters, &context).await?;
    let (mut tables, mut functions, mut now, mut rows_in) = (vec![], vec![], 0, 0);
    for bound in prepared.sources {
        let (send, mut events) = mpsc::channel(4);
        let reading = tokio::spawn(bound.source.run(context.clone(), send));
        let mut rows = vec![vec![]; bound.relations.len()];
        while let Some(event) = events.recv().await {
            let Event::Snapshot(snapshot) = event else { continue };
            now = now.max(snapshot.time);
            for ((rows, relation), table) in rows.iter_mut().zip(&bound.relations).zip(snapshot.tables) {
                let Some(table) = table else { continue };
                rows_in += table.num_rows();
                if !relation.appended {
                    rows.clear();
                }
                rows.push(table);
            }
        }
        reading.await?;
        if let Some(zones) = prepared.spec.resolved.get(&bound.name).and_then(|offers| offers.zones.as_ref()) {
            functions.push(Arc::new(zones_udf(&format!("{}_at", bound.name), Arc::new(Zones::parse(zones)?))));
        }
        for (relation, rows) in bound.relations.iter().zip(rows) {
            let name = [bound.name.as_str(), &relation.name].join(".");
            tables.push((name.trim_end_matches('.').to_owned(), relation.schema.clone(), rows));
        }
    }
    let reading = machine::usage(std::process::id()).0;
    let mut session = Session::new(&functions, now);
    for (name, schema, rows) in tables {
        session.add_table(&name, schema, rows)?;
    }
    let mut rows_out = 0;
    for statement in sql::parse(&text, parameters)? {
        let Kind::CreateView { name, materialized, .. } = &statement.kind else { continue };
        session.add_view(&statement)?;
        if *materialized {
            let all = sql::parse(&format!("SELECT * FROM {name}"), &BTreeMap::new())?;
            let rows = session.query(&all[0]).await?;
            rows_out += rows.iter().map(|rows| rows.num_rows()).sum::<usize>();
            session.add_table(name, rows[0].schema(), rows)?;
        }
    }
    let (cpu, peak) = machine::usage(std::process::id());
    let figures = json!({
        "rows_in": rows_in, "rows_out": rows_out, "cpu_seconds": cpu, "reading": reading, "peak_memory_mb": peak
    });
    println!("{figures}");
    Ok(())
}
