//! `velib run`: a job in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::sync::mpsc;

use super::print::{self, Side, Table};
use super::{Format, Parameters, Told, job_name, job_text};
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

/// How long refused input may take to be written down, at the end.
const LAST_REFUSED: Duration = Duration::from_secs(10);

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
    /// End when all that is recorded has been read, and each live source once.
    #[arg(long)]
    once: bool,
    /// The database for the results.
    #[arg(long, env = "VELIB_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Start a private PostgreSQL for the results, for as long as this runs, whatever --database-url says.
    #[arg(long)]
    embedded: bool,
    #[command(flatten)]
    parameters: Parameters,
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
    let mut private = None;
    let url = match (&args.database_url, args.embedded) {
        (Some(url), false) => url.clone(),
        (_, true) => {
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
            checkpoints: None,
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
    let ended = tokio::select! {
        () = job.caught_up(), if args.once => None,
        () = job.failed() => None,
        reason = generation.ended() => Some(reason),
        () = super::interrupted() => None,
    };
    let status = job.status().borrow().clone();
    let name = job.prepared.spec.name.clone();
    let progress = job.stop().await;
    if let Some(reason) = ended {
        bail!("the workers have ended: {reason}");
    }
    generation.stop().await?;
    // What was refused until now is still to be written down.
    if tokio::time::timeout(LAST_REFUSED, quarantine).await.is_err() {
        tracing::warn!("some refused input could not be kept");
    }
    if let Some(failure) = progress.failure {
        bail!("{failure}");
    }
    let silent = status.sources.iter().find(|(_, source)| source.snapshots == 0 && source.error.is_some());
    if let (true, Some((source, status))) = (args.once, silent) {
        bail!("source {source} brought nothing: {}", status.error.as_deref().unwrap_or_default());
    }
    let summary = Summary {
        job: name,
        snapshots: status.sources.values().map(|source| source.snapshots).sum(),
        rows_in: status.sources.values().map(|source| source.rows).sum(),
        rows_rejected: status.sources.values().map(|source| source.rejected).sum(),
        rows_out: progress.rows,
        transactions: progress.transactions,
        seconds: begun.elapsed().as_millis() as f64 / 1e3,
        cpu_seconds: cpu_seconds(),
        peak_memory_mb: peak_memory_mb(),
    };
    match format {
        Format::Json => println!("{}", serde_json::to_string(&summary)?),
        Format::Csv => print!("{}", table(&summary).csv()),
        Format::Table => println!(
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

fn table(summary: &Summary) -> Table {
    let figures = [
        ("job", summary.job.clone()),
        ("snapshots", summary.snapshots.to_string()),
        ("rows in", summary.rows_in.to_string()),
        ("rows refused", summary.rows_rejected.to_string()),
        ("rows out", summary.rows_out.to_string()),
        ("transactions", summary.transactions.to_string()),
        ("seconds", format!("{:.2}", summary.seconds)),
        ("CPU seconds", format!("{:.2}", summary.cpu_seconds)),
        ("MB at most", format!("{:.0}", summary.peak_memory_mb)),
    ];
    let mut table = Table::new(figures.iter().map(|(head, _)| (*head, Side::Right)));
    table.push(figures.into_iter().map(|(_, figure)| figure.into()).collect());
    table
}

/// The most megabytes that this process has held so far.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    peak.unwrap_or_default() / 1024.0
}
