//! `velib run`: a job in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Format, parameter, parameters};
use crate::catalog;
use crate::cluster::generation::Generation;
use crate::cluster::job::{RunningJob, Surroundings};
use crate::cluster::process::wall_clock_ms;
use crate::metrics::cpu_seconds;
use crate::postgres::Store;
use crate::postgres::private::{Durability, Private};
use crate::source::feed::Feeds;
use crate::source::{Context, build_client};
use crate::timeline;

/// Run a job in this process, as `spark-submit --master local[2]` does.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  velib run jobs/bikeshare/occupancy.sql --workers 2 --once --embedded -p feed=recorded/*.json"
)]
pub struct Args {
    /// The file with the job's SQL; its name is the job's.
    file: PathBuf,
    /// Worker threads.
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// End when all sources that end have ended.
    #[arg(long)]
    once: bool,
    /// The database for the results.
    #[arg(long, env = "VELIB_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Start a private PostgreSQL for the results, for as long as this runs.
    #[arg(long, conflicts_with = "database_url")]
    embedded: bool,
    /// Set a parameter of the job.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Summary {
    job: String,
    snapshots: u64,
    rows_in: u64,
    rows_rejected: u64,
    rows_out: u64,
    transactions: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_memory_mb: f64,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let begun = Instant::now();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("the job {} cannot be read", args.file.display()))?;
    let name = args.file.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_")).unwrap_or_default();
    let context =
        Context { http: build_client()?, wall_clock_ms: Arc::new(wall_clock_ms), folder: std::env::current_dir()? };
    let prepared = catalog::prepare(&name, &text, &parameters(&args.param), &context).await?;
    if args.once && !prepared.sources.iter().any(|bound| bound.source.bounded()) {
        bail!(
            "--once ends with the sources that end, and {name} reads none; leave it out, or give it recorded documents"
        );
    }
    let mut private = None;
    let url = match (&args.database_url, args.embedded) {
        (Some(url), _) => url.clone(),
        (None, true) => {
            let server = Private::start(None, Durability::ThrowAway).await?;
            let url = server.url();
            eprintln!("results in a private PostgreSQL: {}", server.psql_line());
            private = Some(server);
            url
        }
        (None, false) => bail!(
            "no database for the results: give --database-url (or VELIB_DATABASE_URL), or --embedded for a private one"
        ),
    };
    let store = Store::open(&url).await?;
    let generation = Arc::new(Generation::local(usize::from(args.workers))?);
    let (refused, mut rejections) = mpsc::channel::<timeline::Refused>(64);
    let number = store.next_generation().await?;
    let job = RunningJob::start(
        prepared,
        Surroundings {
            generation: &generation,
            number,
            feeds: &Feeds::default(),
            context: &context,
            database_url: &url,
            timeline: timeline::Settings::default(),
            sink: Default::default(),
            refused,
        },
    )
    .await?;
    let quarantine = tokio::spawn(async move {
        while let Some(refused) = rejections.recv().await {
            if let Err(error) = store.quarantine(&name, &refused.source, &refused.rejections).await {
                tracing::warn!(%error, "refused input could not be kept");
            }
        }
    });
    tokio::select! {
        () = job.finished(), if args.once => {}
        () = super::interrupted() => {}
    }
    let status = job.status().borrow().clone();
    let name = job.prepared.spec.name.clone();
    let progress = job.stop().await;
    generation.stop().await?;
    drop(quarantine);
    if let Some(failure) = progress.failure {
        bail!("{failure}");
    }
    let summary = Summary {
        job: name,
        snapshots: status.sources.values().map(|source| source.snapshots).sum(),
        rows_in: status.sources.values().map(|source| source.rows).sum(),
        rows_rejected: status.sources.values().map(|source| source.rejected).sum(),
        rows_out: progress.rows,
        transactions: progress.transactions,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(),
        peak_memory_mb: peak_memory_mb(),
    };
    match format {
        Format::Json => println!("{}", serde_json::to_string(&summary)?),
        _ => println!(
            "{}: {} snapshots, {} rows in ({} refused), {} rows out in {} transactions; {:.2} s, {:.2} CPU s, {:.0} MB at most",
            summary.job,
            summary.snapshots,
            summary.rows_in,
            summary.rows_rejected,
            summary.rows_out,
            summary.transactions,
            summary.seconds,
            summary.cpu_seconds,
            summary.peak_memory_mb
        ),
    }
    if let Some(mut server) = private {
        server.stop().await?;
    }
    Ok(())
}

/// The most megabytes that this process has held so far.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    peak.unwrap_or_default() / 1024.0
}
