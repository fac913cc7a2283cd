//! Recorded documents, as fast as they go.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use velib_engine::postgres::private::{Durability, Private};

use crate::machine;

#[derive(clap::Args)]
pub struct Args {
    /// Recorded documents: a folder, a glob, or a .tar.zst.
    feed: String,
    /// The areas of the city.
    #[arg(long)]
    quartiers: String,
    /// The jobs; each is run by itself.
    #[arg(long, default_values = ["jobs/bikeshare/occupancy.sql", "jobs/bikeshare/critical.sql", "jobs/bikeshare/trends.sql"])]
    jobs: Vec<PathBuf>,
    /// Worker threads, one run each.
    #[arg(long, default_values_t = [1, 2])]
    workers: Vec<u16>,
}

pub async fn run(args: Args) -> Result<()> {
    println!("| job | workers | snapshots | rows in | rows out | seconds | CPU s | rows/s | rows/CPU s | peak MB |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for workers in &args.workers {
        for job in &args.jobs {
            let server = Private::start(None, Durability::ThrowAway).await?;
            let output = Command::new(machine::velib()?)
                .args(["run", "--once", "--output", "json", "--workers", &workers.to_string()])
                .args(["-p", &format!("feed={}", args.feed), "-p", &format!("quartiers={}", args.quartiers)])
                .args(["--database-url", &server.url()])
                .arg(job)
                .output()
                .context("velib run")?;
            ensure!(
                output.status.success(),
                "velib run {}: {}",
                job.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            let text = String::from_utf8(output.stdout)?;
            let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
            let number = |key: &str| summary[key].as_f64().unwrap_or(f64::NAN);
            println!(
                "| {} | {workers} | {} | {} | {} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
                summary["job"].as_str().unwrap_or_default(),
                number("snapshots"),
                number("rows_in"),
                number("rows_out"),
                number("seconds"),
                number("cpu_seconds"),
                number("rows_in") / number("seconds"),
                number("rows_in") / number("cpu_seconds"),
                number("peak_memory_mb"),
            );
        }
    }
    Ok(())
}
