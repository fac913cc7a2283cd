//! `velib lake`: what is kept of live feeds, in order and whole.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use chrono::DateTime;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::print::{self, Cell, Side, Stream, Table, Tone};
use super::{Format, Told};
use crate::cluster::process::wall_clock_ms;
use crate::config::Settings;
use crate::lake::Lake;
use crate::lake::compact::{Compacted, Compactor};
use crate::lake::verify::{Finding, Verified};
use crate::sql::did_you_mean;

/// Look at the lake, compact it, verify it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib lake ls --lake s3://bikes/lake
  velib lake verify --config velib.toml
  velib lake compact --lake /srv/lake")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Ls(LsArgs),
    Compact(CompactArgs),
    Verify(VerifyArgs),
}

/// List the feeds, or the hours of one.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib lake ls --lake /srv/lake
  velib lake ls velib-metropole.example-gbfs.json-5ac3e2f1 --output json")]
struct LsArgs {
    /// The feed whose hours are listed.
    feed: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Make Parquet of the hours that are over, and remove what is older than lake.retention. The leader of a cluster does
/// the same by itself.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  velib lake compact --lake s3://bikes/lake")]
struct CompactArgs {
    /// These feeds only.
    feed: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Read everything, and name what is damaged or missing, with what to do; exit code 1 if something is.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  velib lake verify --lake s3://bikes/lake --output json")]
struct VerifyArgs {
    /// These feeds only.
    feed: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Which lake.
#[derive(clap::Args, Debug)]
struct Place {
    /// The lake: a folder, file://…, s3://bucket/prefix or gs://bucket/prefix.
    #[arg(long, env = "VELIB_LAKE__URL", value_name = "URL")]
    lake: Option<String>,
    /// The settings of the cluster, which say where it is and how long snapshots are kept.
    #[arg(long, env = "VELIB_CONFIG")]
    config: Option<PathBuf>,
}

impl Place {
    fn open(&self) -> Result<(Settings, Lake)> {
        let mut settings = Settings::load(self.config.as_deref(), std::env::vars())?;
        if let Some(url) = &self.lake {
            settings.lake.url.clone_from(url);
        }
        match settings.lake.open()? {
            Some(lake) => Ok((settings, lake)),
            None => {
                bail!("no lake: say where with --lake, VELIB_LAKE__URL, or lake.url in the file that --config names")
            }
        }
    }
}

/// The feeds that are meant: those `named`, or all.
async fn feeds(lake: &Lake, named: &[String]) -> Result<Vec<String>> {
    let all = lake.feeds().await?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        let hint = did_you_mean(unknown, all.iter().map(String::as_str));
        let hint = hint.unwrap_or_else(|| "`velib lake ls` lists those that there are".to_owned());
        bail!("the lake {} has no feed {unknown}; {hint}", lake.url());
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    match args.command {
        Command::Ls(args) => ls(args, format).await,
        Command::Compact(args) => compact(args, format).await,
        Command::Verify(args) => verify(args, format).await,
    }
}

async fn ls(args: LsArgs, format: Format) -> Result<()> {
    let (_, lake) = args.place.open()?;
    let named: Vec<String> = args.feed.into_iter().collect();
    let feeds = feeds(&lake, &named).await?;
    if let [feed] = &named[..] {
        return print::things(format, &lake.hours(feed).await?, |hours| {
            let heads = [("hour", Side::Left), ("first", Side::Right), ("last", Side::Right), ("list", Side::Left)];
            let mut table = Table::new(heads);
            for hour in hours {
                let numbers = [hour.first, hour.last].map(Cell::count);
                let [first, last] = numbers;
                table.push(vec![time(Some(hour.hour)), first, last, Cell::toned(Tone::Faint, &hour.list)]);
            }
            table
        });
    }
    let mut found = vec![];
    for feed in &feeds {
        found.push(lake.summary(feed).await?);
    }
    print::things(format, &found, |found| {
        let mut table = Table::new([
            ("feed", Side::Left),
            ("from", Side::Left),
            ("to", Side::Left),
            ("hours", Side::Right),
            ("files", Side::Right),
            ("size", Side::Right),
            ("in the log", Side::Right),
            ("size of the log", Side::Right),
            ("damaged", Side::Right),
        ]);
        for feed in found {
            table.push(vec![
                Cell::toned(Tone::Strong, &feed.feed),
                time(feed.from),
                time(feed.to),
                Cell::count(feed.hours),
                Cell::count(feed.files),
                HumanBytes(feed.file_bytes).to_string().into(),
                Cell::count(feed.logged),
                HumanBytes(feed.log_bytes).to_string().into(),
                Cell::count(feed.damaged).with(if feed.damaged > 0 { Tone::Bad } else { Tone::Plain }),
            ]);
        }
        table
    })
}

/// How it went with a feed.
#[derive(Serialize)]
struct Outcome {
    feed: String,
    #[serde(flatten)]
    done: Compacted,
    error: Option<String>,
}

async fn compact(args: CompactArgs, format: Format) -> Result<()> {
    let (settings, lake) = args.place.open()?;
    let mut compactor = Compactor::new(lake.clone(), settings.lake.retention()?);
    let (mut outcomes, spinner) = (vec![], spinner());
    for feed in feeds(&lake, &args.feed).await? {
        let said = |done: &Compacted| {
            let words =
                format!("{feed}: {} in {}", snapshots(done.snapshots), print::counted(done.files as usize, "file"));
            spinner.set_message(words);
        };
        let (done, error) = match compactor.feed(&feed, settings.clock.time_ms(wall_clock_ms()), said).await {
            Ok(done) => (done, None),
            Err(error) => (Compacted::default(), Some(error.to_string())),
        };
        outcomes.push(Outcome { feed, done, error });
    }
    spinner.finish_and_clear();
    print::things(format, &outcomes, |outcomes| {
        let mut table = Table::new([
            ("feed", Side::Left),
            ("compacted", Side::Right),
            ("lists", Side::Right),
            ("expired", Side::Right),
            ("left files removed", Side::Right),
            ("in the log", Side::Right),
            ("error", Side::Left),
        ]);
        for Outcome { feed, done, error } in outcomes {
            let mut row = vec![Cell::toned(Tone::Strong, feed)];
            row.extend([done.snapshots, done.files, done.expired, done.left, done.logged].map(Cell::count));
            row.push(Cell::toned(Tone::Bad, error.as_deref().unwrap_or_default()));
            table.push(row);
        }
        table
    })?;
    match outcomes.iter().all(|outcome| outcome.error.is_none()) {
        true => Ok(()),
        false => bail!("some feeds could not be compacted; what was done is done, and the rest can be tried again"),
    }
}

async fn verify(args: VerifyArgs, format: Format) -> Result<()> {
    let (_, lake) = args.place.open()?;
    let (mut feeds_read, spinner) = (vec![], spinner());
    for feed in feeds(&lake, &args.feed).await? {
        let said = |read| spinner.set_message(format!("{feed}: {} read", snapshots(read)));
        feeds_read.push(lake.verify(&feed, said).await?);
    }
    spinner.finish_and_clear();
    let findings: Vec<&Finding> = feeds_read.iter().flat_map(|feed: &Verified| &feed.findings).collect();
    let more: u64 = feeds_read.iter().map(|feed| feed.more).sum();
    if !findings.is_empty() || matches!(format, Format::Json) {
        print::things(format, &feeds_read, |_| {
            let mut table = Table::new([("object", Side::Left), ("finding", Side::Left), ("remedy", Side::Left)]);
            for Finding { object, reason, remedy } in &findings {
                table.push(vec![object.into(), Cell::toned(Tone::Bad, reason), Cell::toned(Tone::Code, *remedy)]);
            }
            table
        })?;
    }
    let read: u64 = feeds_read.iter().map(|feed| feed.snapshots).sum();
    let of = format!("{} of {}", snapshots(read), print::counted(feeds_read.len(), "feed"));
    if findings.is_empty() {
        Stream::Err.line(&format!("{of} are as they were written"));
        return Ok(());
    }
    let more = if more > 0 { format!(", and {} more", print::count(more)) } else { String::new() };
    print::error(&format!("{}{more}; {of} can be read", print::counted(findings.len(), "finding")));
    Err(Told.into())
}

fn snapshots(number: u64) -> String {
    print::counted(number as usize, "snapshot")
}

fn time(time: Option<u64>) -> Cell {
    let time = time.and_then(|time| DateTime::from_timestamp_millis(i64::try_from(time).ok()?));
    time.map(print::time).unwrap_or_default().into()
}

/// On a terminal; elsewhere nobody sees it.
fn spinner() -> ProgressBar {
    if !Stream::Err.is_coloured() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner:.cyan} {msg}").expect("a good template");
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
