//! `velib explain`: what the engine would do with a job.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::print::{self, Stream, Tone};
use super::{Format, Parameters, Told, job_name, job_text};
use crate::catalog;
use crate::cluster::process::wall_clock_ms;
use crate::plan::explain;
use crate::source::{Context, build_client};

/// Show the operators of a job, and what each holds in memory; nothing is installed.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib explain jobs/bikeshare/occupancy.sql
  velib explain jobs/bikeshare/occupancy.sql --mermaid > occupancy.mmd")]
pub struct Args {
    /// The file with the job's SQL.
    file: PathBuf,
    /// As a Mermaid flowchart.
    #[arg(long)]
    mermaid: bool,
    #[command(flatten)]
    parameters: Parameters,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let (name, text) = (job_name(&args.file), job_text(&args.file)?);
    let context = Context {
        http: build_client()?,
        wall_clock_ms: Arc::new(wall_clock_ms),
        folder: std::env::current_dir()?,
        shown: 0,
    };
    let prepared = match catalog::prepare(&name, &text, &args.parameters.map(), &context).await {
        Ok(prepared) => prepared,
        Err(error) => {
            print::error(&print::in_file(&error.to_string(), &args.file));
            return Err(Told.into());
        }
    };
    let plan = &prepared.plan;
    let out = Stream::Out;
    match format {
        Format::Json => {
            let views: Vec<_> = plan.views.iter().map(|view| &view.name).collect();
            let sources: Vec<_> = prepared.sources.iter().map(|bound| &bound.name).collect();
            let described = json!({
                "job": name, "sources": sources, "views": views,
                "explain": explain::text(plan), "mermaid": explain::mermaid(plan),
            });
            out.line(&serde_json::to_string_pretty(&described)?);
        }
        Format::Csv | Format::Table if args.mermaid => out.text(&explain::mermaid(plan)),
        Format::Csv | Format::Table => out.text(&coloured(&explain::text(plan))),
    }
    Ok(())
}

/// A plan with the names of its views, and what is held in memory, picked out.
pub fn coloured(plan: &str) -> String {
    let mut text = String::new();
    for line in plan.lines() {
        let tone = match line.trim_start() {
            _ if line.starts_with("view ") => Tone::Strong,
            held if held.starts_with("| holds") => Tone::Warn,
            _ => Tone::Plain,
        };
        text.push_str(&Stream::Out.paint(tone, line));
        text.push('\n');
    }
    text
}
