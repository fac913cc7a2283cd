//! `velib submit`: jobs for the cluster, and the wait for their first results.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::print::{self, Cell, Side, Stream, Table, Tone};
use super::{Api, Cli, Format, Parameters, Told, job_name, job_text};
use crate::client::{Client, ClientError};
use crate::postgres::identifier;
use crate::postgres::job::Status;
use crate::server::api::{Change, Frontier, Job, Submit};

/// Between two looks at a job that is about to have results.
const LOOK: Duration = Duration::from_millis(150);
/// How long a cluster that does not answer is asked again: its leader may be changing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plan and check jobs, and install them on the running cluster.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib submit jobs/bikeshare/occupancy.sql
  velib submit jobs/bikeshare/*.sql --replace -p poll='30 s'
  velib submit occupancy.sql --name occupancy_oslo -p feed=https://gbfs.urbansharing.com/oslobysykkel.no/gbfs.json")]
pub struct Args {
    /// Files with the SQL of a job each; the name of the file is that of the job.
    #[arg(required = true, value_name = "FILE.sql")]
    files: Vec<PathBuf>,
    /// Give the job this name.
    #[arg(long)]
    name: Option<String>,
    /// Replace a job of the same name: its tables move by the difference.
    #[arg(long)]
    replace: bool,
    /// Do not wait for the first results.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the first results; the job goes on whether or not anybody waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, conflicts_with = "no_wait")]
    timeout: u64,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    api: Api,
}

/// What became of a file.
#[derive(Serialize)]
struct Outcome {
    name: String,
    file: PathBuf,
    change: Change,
    views: Vec<String>,
    frontier: Option<Frontier>,
    seconds: f64,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    if args.name.is_some() && args.files.len() > 1 {
        let message =
            format!("--name is for one job, and there are {} files: submit them one by one", args.files.len());
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let jobs: Vec<(PathBuf, Submit)> = args.files.iter().map(|file| read(&args, file)).collect::<Result<_>>()?;
    let client = args.api.client()?;
    let (mut outcomes, mut refused) = (vec![], false);
    for (file, job) in jobs {
        match submit(&client, &args, file.clone(), &job).await {
            Ok(outcome) => {
                if format == Format::Table {
                    tell(&outcome);
                }
                outcomes.push(outcome);
            }
            // Each file is a job of its own: the others may be good.
            Err(error) if error.downcast_ref::<ClientError>().is_none_or(|error| !error.is_retriable()) => {
                print::error(&print::in_file(&format!("{error:#}"), &file));
                refused = true;
            }
            Err(error) => return Err(error),
        }
    }
    if format != Format::Table {
        print::things(format, &outcomes, |outcomes| table(outcomes))?;
    }
    if refused { Err(Told.into()) } else { Ok(()) }
}

fn read(args: &Args, file: &Path) -> Result<(PathBuf, Submit)> {
    let name = args.name.clone().unwrap_or_else(|| job_name(file));
    let job = Submit { name, text: job_text(file)?, parameters: args.parameters.map(), replace: args.replace };
    Ok((file.to_owned(), job))
}

async fn submit(client: &Client, args: &Args, file: PathBuf, job: &Submit) -> Result<Outcome> {
    let began = Instant::now();
    let progress = Progress::new(&job.name);
    progress.say("planning");
    let before = match client.job(&job.name).await {
        Ok(job) => job.frontier,
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let submitted = client.submit(job).await?;
    let before = if submitted.change == Change::Replaced { before } else { None };
    let mut frontier = None;
    if !args.no_wait {
        let limit = Duration::from_secs(args.timeout);
        frontier = first_results(client, &job.name, before, limit, |doing| progress.say(doing)).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Outcome { name: submitted.name, file, change: submitted.change, views: submitted.views, frontier, seconds })
}

/// Waits until the tables of a job are filled, by a commit after `before`. None: it is paused.
///
/// # Errors
/// The job fails, the cluster does not answer for a while, or the time is over.
pub async fn first_results(
    client: &Client,
    name: &str,
    before: Option<Frontier>,
    limit: Duration,
    mut say: impl FnMut(&str),
) -> Result<Option<Frontier>> {
    let before = before.map(|frontier| frontier.committed_at);
    let (began, mut answered) = (Instant::now(), Instant::now());
    let mut last = String::new();
    loop {
        let job = match client.job(name).await {
            Ok(job) => job,
            Err(error) if error.is_retriable() && answered.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        answered = Instant::now();
        let fresh = job.frontier.clone().filter(|frontier| Some(&frontier.committed_at) != before.as_ref());
        match job.status {
            Status::Running | Status::Finished if fresh.is_some() => return Ok(fresh),
            Status::Failed => bail!("{name} failed: {}", job.detail.as_deref().unwrap_or("it did not say why")),
            Status::Paused => return Ok(None),
            _ => {}
        }
        last = doing(&job).unwrap_or(last);
        if began.elapsed() > limit {
            bail!(
                "{name} is installed and has no results after {} s ({last}); it goes on by itself: look with `velib job {name}`",
                limit.as_secs()
            );
        }
        say(&last);
        tokio::time::sleep(LOOK).await;
    }
}

/// What a job without results is at.
fn doing(job: &Job) -> Option<String> {
    if let Some(error) = job.sink.as_ref().and_then(|sink| sink.error.as_ref()) {
        return Some(format!("held up by the database: {error}"));
    }
    if let Some((name, error)) = job.sources.iter().find_map(|(name, source)| Some((name, source.error.as_ref()?))) {
        return Some(format!("waiting for {name}: {error}"));
    }
    Some(match job.status {
        Status::Pending => job.detail.clone().unwrap_or_else(|| "waiting for the workers".to_string()),
        _ => match job.sources.iter().find(|(_, source)| source.snapshots == 0) {
            Some((name, _)) => format!("waiting for the first snapshot of {name}"),
            None => "computing".to_string(),
        },
    })
}

/// A spinner on a terminal, a line for each new thing elsewhere.
struct Progress {
    name: String,
    spinner: Option<ProgressBar>,
    said: std::cell::RefCell<String>,
}

impl Progress {
    fn new(name: &str) -> Self {
        let spinner = Stream::Err.is_coloured().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner:.cyan} {prefix:.bold} {msg}").expect("a good template");
            spinner.set_style(style);
            spinner.set_prefix(name.to_string());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Progress { name: name.to_string(), spinner, said: Default::default() }
    }

    fn say(&self, what: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(what.to_string()),
            None if *self.said.borrow() == what => {}
            None => Stream::Err.line(&format!("{}: {what}", self.name)),
        }
        what.clone_into(&mut self.said.borrow_mut());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Installed => "installed",
        Change::Replaced => "replaced",
        Change::Unchanged => "unchanged",
    }
}

fn tell(outcome: &Outcome) {
    let out = Stream::Out;
    let frontier = outcome
        .frontier
        .as_ref()
        .map(|frontier| format!(", as of {} after {:.1} s", print::api_time(&frontier.as_of), outcome.seconds));
    let views = print::counted(outcome.views.len(), "view");
    out.line(&format!(
        "{} {} {}: {views}{}",
        out.paint(Tone::Good, "✓"),
        out.paint(Tone::Strong, &outcome.name),
        word(outcome.change),
        frontier.unwrap_or_default()
    ));
    for view in &outcome.views {
        out.line(&format!("    {}.{view}", outcome.name));
    }
    if let Some(view) = outcome.views.first() {
        let table = format!("{}.{}", plain(&outcome.name), plain(view));
        let query = format!("SELECT * FROM {table} LIMIT 10");
        out.line(&format!("  {}", out.paint(Tone::Faint, "look with")));
        out.line(&format!("    {}", out.paint(Tone::Code, &format!("velib query '{query}'"))));
        out.line(&format!("    {}", out.paint(Tone::Code, &format!("psql \"$VELIB_DATABASE_URL\" -c '{query}'"))));
    }
}

/// A name as it may stand in a query, quoted where it must be.
fn plain(name: &str) -> String {
    let simple = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if simple { name.to_string() } else { identifier(name) }
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(["job", "change", "views", "as of", "committed at"].map(|head| (head, Side::Left)));
    for outcome in outcomes {
        let frontier = outcome.frontier.as_ref();
        table.push(vec![
            outcome.name.as_str().into(),
            Cell::from(word(outcome.change)),
            outcome.views.join(" ").into(),
            frontier.map(|frontier| frontier.as_of.clone()).unwrap_or_default().into(),
            frontier.map(|frontier| frontier.committed_at.clone()).unwrap_or_default().into(),
        ]);
    }
    table
}
