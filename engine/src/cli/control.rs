//! `velib pause`, `velib resume`, `velib drop`.

use std::io::{BufRead, IsTerminal};

use anyhow::{Result, bail};
use serde_json::json;

use super::print::{self, Cell, Side, Stream, Table, Tone};
use super::{Api, Format, jobs};
use crate::client::{Client, ClientError};
use crate::sql::did_you_mean;

/// Leave the tables of a job as they are; nothing is lost meanwhile.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  velib pause occupancy")]
pub struct PauseArgs {
    /// The name of the job.
    name: String,
    #[command(flatten)]
    api: Api,
}

/// Let a paused job go on: its tables catch up.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  velib resume occupancy")]
pub struct ResumeArgs {
    /// The name of the job.
    name: String,
    #[command(flatten)]
    api: Api,
}

/// Remove a job and its tables.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  velib drop occupancy\n  velib drop occupancy --yes      in a script")]
pub struct DropArgs {
    /// The name of the job.
    name: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    api: Api,
}

pub async fn pause(args: PauseArgs, format: Format) -> Result<()> {
    let client = args.api.client()?;
    let job = named(&client, &args.name, client.pause(&args.name)).await?;
    print::things(format, &job, |job| jobs::table(std::slice::from_ref(job)))
}

pub async fn resume(args: ResumeArgs, format: Format) -> Result<()> {
    let client = args.api.client()?;
    let job = named(&client, &args.name, client.resume(&args.name)).await?;
    print::things(format, &job, |job| jobs::table(std::slice::from_ref(job)))
}

pub async fn drop(args: DropArgs, format: Format) -> Result<()> {
    let client = args.api.client()?;
    let job = named(&client, &args.name, client.job(&args.name)).await?;
    if !args.yes && !agreed(&job.name, &job.views)? {
        Stream::Err.line("nothing was dropped");
        return Ok(());
    }
    named(&client, &args.name, client.drop_job(&args.name)).await?;
    let dropped = json!({"dropped": job.name, "views": job.views});
    print::things(format, &dropped, |_| {
        let mut table = Table::new([("dropped", Side::Left), ("tables", Side::Right)]);
        table.push(vec![Cell::toned(Tone::Strong, &job.name), job.views.len().to_string().into()]);
        table
    })
}

/// What the cluster answers about a job, with the name that was probably meant if there is no such job.
pub async fn named<T>(client: &Client, name: &str, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T> {
    let error = match answer.await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    if error.is_not_found()
        && let Ok(jobs) = client.jobs().await
        && let Some(hint) = did_you_mean(name, jobs.iter().map(|job| job.name.as_str()))
    {
        bail!("{error}; {hint}");
    }
    Err(error.into())
}

fn agreed(name: &str, views: &[String]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("dropping {name} removes its tables, and there is nobody to ask: say --yes");
    }
    let tables = print::counted(views.len(), "table");
    let err = Stream::Err;
    err.text(&format!("drop {} and its {tables} ({})? [y/N] ", err.paint(Tone::Strong, name), views.join(", ")));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
