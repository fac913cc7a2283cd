//! `velib jobs` and `velib job`: what the cluster works on, and how far it is.

use anyhow::Result;
use chrono::{DateTime, Utc};

use super::print::{self, Cell, Side, Stream, Table, Tone, count};
use super::{Api, Format, explain};
use crate::postgres::job::{Desired, Status};
use crate::server::api::Job;

/// List the jobs of the cluster.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib jobs
  velib jobs --output json | jq -r '.[] | select(.status == \"failed\") | .name'")]
pub struct ListArgs {
    #[command(flatten)]
    api: Api,
}

/// Show a job: how far its tables are, how its sources are.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib job occupancy
  velib job occupancy --explain")]
pub struct OneArgs {
    /// Its name.
    name: String,
    /// Its plan: the operators, and what each holds in memory.
    #[arg(long)]
    explain: bool,
    /// The SQL that was submitted.
    #[arg(long, conflicts_with = "explain")]
    text: bool,
    #[command(flatten)]
    api: Api,
}

pub async fn list(args: ListArgs, format: Format) -> Result<()> {
    let jobs = args.api.client()?.jobs().await?;
    if jobs.is_empty() && format == Format::Table {
        Stream::Err.line("no jobs yet: velib submit FILE.sql installs one");
        return Ok(());
    }
    print::things(format, &jobs, |jobs| table(jobs))
}

pub async fn one(args: OneArgs, format: Format) -> Result<()> {
    let job = args.api.client()?.job(&args.name).await?;
    let out = Stream::Out;
    match format {
        Format::Table | Format::Csv if args.explain => {
            let plan = job.explain.as_deref().unwrap_or("it is not planned yet: a worker has to take it up first\n");
            out.text(&explain::coloured(plan));
            Ok(())
        }
        Format::Table | Format::Csv if args.text => {
            out.text(job.text.as_deref().unwrap_or_default());
            Ok(())
        }
        Format::Table => {
            describe(&job);
            Ok(())
        }
        Format::Csv | Format::Json => print::things(format, &job, |job| table(std::slice::from_ref(job))),
    }
}

/// How a job is, in a word and its colour.
pub fn state(job: &Job) -> Cell {
    let sink = job.sink.as_ref().and_then(|sink| sink.error.as_ref());
    match (job.status, job.desired) {
        (Status::Running, Desired::Paused) => Cell::toned(Tone::Warn, "pausing"),
        (Status::Running, _) if sink.is_some() => Cell::toned(Tone::Warn, "held up"),
        (Status::Running, _) => Cell::toned(Tone::Good, "running"),
        (Status::Failed, _) => Cell::toned(Tone::Bad, "failed"),
        (Status::Finished, _) => Cell::toned(Tone::Good, "finished"),
        (Status::Pending | Status::Paused, _) => Cell::toned(Tone::Warn, job.status.as_str()),
    }
}

/// The snapshot that its tables are as of.
fn as_of(job: &Job) -> Option<DateTime<Utc>> {
    job.frontier.as_ref().and_then(|frontier| print::parse_time(&frontier.as_of))
}

/// What there is to say about it, most pressing first.
fn remark(job: &Job) -> Option<String> {
    let sink = job.sink.as_ref().and_then(|sink| sink.error.as_ref()).map(|error| format!("database: {error}"));
    let source =
        || job.sources.iter().find_map(|(name, source)| source.error.as_ref().map(|error| format!("{name}: {error}")));
    job.detail.clone().or(sink).or_else(source)
}

/// A row a job.
pub fn table(jobs: &[Job]) -> Table {
    let mut table = Table::new([
        ("job", Side::Left),
        ("status", Side::Left),
        ("views", Side::Right),
        ("as of", Side::Left),
        ("behind", Side::Right),
        ("snapshots", Side::Right),
        ("refused", Side::Right),
        ("rows changed", Side::Right),
        ("remark", Side::Left),
    ]);
    for job in jobs {
        let snapshots: u64 = job.sources.values().map(|source| source.snapshots).sum();
        let refused: u64 = job.sources.values().map(|source| source.rejected).sum();
        let rows = job.sink.as_ref().map(|sink| Cell::count(sink.rows)).unwrap_or_default();
        table.push(vec![
            Cell::toned(Tone::Strong, &job.name),
            state(job),
            job.views.len().to_string().into(),
            as_of(job).map(print::time).unwrap_or_default().into(),
            as_of(job).filter(|then| *then <= Utc::now()).map(print::ago).unwrap_or_default().into(),
            Cell::count(snapshots),
            Cell::count(refused).with(if refused > 0 { Tone::Warn } else { Tone::Plain }),
            rows,
            Cell::toned(Tone::Faint, remark(job).unwrap_or_default()),
        ]);
    }
    table
}

fn describe(job: &Job) {
    let out = Stream::Out;
    let state = state(job);
    let mut facts: Vec<(&str, String)> = vec![("status", state.painted(out))];
    if let Some(detail) = &job.detail {
        facts.push(("why", detail.clone()));
    }
    facts.push(("submitted", format!("{}, version {}", print::api_time(&job.created_at), job.version)));
    match (&job.frontier, as_of(job)) {
        (Some(frontier), Some(then)) => {
            // The clock of a rehearsal may be ahead of ours.
            let ago = if then <= Utc::now() { format!(" ({} ago)", print::ago(then)) } else { String::new() };
            facts.push(("tables as of", format!("{}{ago}", print::time(then))));
            let committed = print::api_time(&frontier.committed_at);
            facts.push(("committed", format!("{committed} by generation {}", frontier.generation)));
        }
        _ => facts.push(("tables as of", "nothing yet".to_string())),
    }
    if let Some(sink) = &job.sink {
        let (rows, transactions) = (count(sink.rows), count(sink.transactions));
        let waiting = count(sink.waiting_rows as u64);
        facts.push((
            "written",
            format!(
                "{rows} rows in {transactions} transactions, the last in {:.1} ms; {waiting} rows wait",
                sink.last_ms
            ),
        ));
        if let Some(error) = &sink.error {
            facts.push(("database", out.paint(Tone::Bad, error)));
        }
    }
    for (name, value) in &job.parameters {
        facts.push(("parameter", format!("{name} = {value}")));
    }
    out.line(&out.paint(Tone::Strong, &job.name));
    for (name, value) in facts {
        out.line(&format!("  {} {value}", out.paint(Tone::Faint, &format!("{name:<13}"))));
    }
    out.line("");
    out.text(&sources(job).text(out.is_coloured()));
    out.line("");
    for view in &job.views {
        out.line(&format!("  {}.{view}", job.name));
    }
}

fn sources(job: &Job) -> Table {
    let mut table = Table::new([
        ("source", Side::Left),
        ("snapshots", Side::Right),
        ("rows", Side::Right),
        ("refused", Side::Right),
        ("last snapshot", Side::Left),
        ("health", Side::Left),
    ]);
    for (name, source) in &job.sources {
        let last = i64::try_from(source.last_snapshot).ok().filter(|last| *last > 0);
        let last = last.and_then(DateTime::from_timestamp_millis).map(print::time);
        table.push(vec![
            name.as_str().into(),
            Cell::count(source.snapshots),
            Cell::count(source.rows),
            Cell::count(source.rejected).with(if source.rejected > 0 { Tone::Warn } else { Tone::Plain }),
            last.unwrap_or_else(|| if source.snapshots > 0 { "at the start" } else { "none yet" }.to_string()).into(),
            match &source.error {
                None => Cell::toned(Tone::Good, "ok"),
                Some(error) => Cell::toned(Tone::Bad, error),
            },
        ]);
    }
    table
}
