//! The `velib` command: its arguments, and what each subcommand does with the engine.
//!
//! A subcommand is a file: its arguments, an example, and a function. What it prints goes through
//! [`print`](mod@print), how it ends through [`main`].

mod completions;
mod control;
mod demo;
mod explain;
mod jobs;
mod lake;
mod log;
mod print;
mod probe;
mod query;
mod run;
mod scale;
mod simulate;
mod sql;
mod status;
mod submit;
mod verify;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand, ValueEnum};

use crate::client::{self, Client, ClientError};
use crate::lake::LakeError;
use crate::postgres::PostgresError;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Green.on_default());

/// Streaming SQL over bike-share feeds, maintained in PostgreSQL.
#[derive(Parser, Debug)]
#[command(name = "velib", version, max_term_width = 100, styles = STYLES, subcommand_required = true)]
#[command(after_help = "\
Examples:
  velib demo                                    all of it on this machine, to look at
  velib submit jobs/bikeshare/occupancy.sql     a job for the cluster
  velib query 'SELECT * FROM occupancy.area_now'

Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 3 cluster, database or lake not reachable.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Global options")]
    output: Format,
    /// How log lines are written, on standard error; VELIB_LOG says which.
    #[arg(long, global = true, value_enum, default_value_t = log::LogFormat::Auto, hide_possible_values = true)]
    #[arg(help_heading = "Global options", value_name = "auto|human|json")]
    log_format: log::LogFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// For programs.
    Json,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Worker(worker::Args),
    Sql(sql::Args),
    Submit(submit::Args),
    Jobs(jobs::ListArgs),
    Job(jobs::OneArgs),
    Pause(control::PauseArgs),
    Resume(control::ResumeArgs),
    Drop(control::DropArgs),
    Explain(explain::Args),
    Query(query::Args),
    Status(status::Args),
    Scale(scale::Args),
    Verify(verify::Args),
    Lake(lake::Args),
    Probe(probe::Args),
    Simulate(simulate::Args),
    Completions(completions::Args),
}

impl Command {
    /// What is logged where `VELIB_LOG` does not say.
    fn log_filter(&self) -> &'static str {
        match self {
            Command::Run(_) | Command::Worker(_) | Command::Simulate(_) => "warn,velib_engine=info",
            _ => "warn",
        }
    }

    async fn run(self, format: Format) -> Result<()> {
        match self {
            Command::Demo(args) => demo::run(args, format).await,
            Command::Run(args) => run::run(args, format).await,
            Command::Worker(args) => worker::run(args).await,
            Command::Sql(args) => sql::run(args, format).await,
            Command::Submit(args) => submit::run(args, format).await,
            Command::Jobs(args) => jobs::list(args, format).await,
            Command::Job(args) => jobs::one(args, format).await,
            Command::Pause(args) => control::pause(args, format).await,
            Command::Resume(args) => control::resume(args, format).await,
            Command::Drop(args) => control::drop(args, format).await,
            Command::Explain(args) => explain::run(args, format).await,
            Command::Query(args) => query::run(args, format).await,
            Command::Status(args) => status::run(args, format).await,
            Command::Verify(args) => verify::run(args, format).await,
            Command::Scale(args) => scale::run(args, format).await,
            Command::Lake(args) => lake::run(args, format).await,
            Command::Probe(args) => probe::run(args).await,
            Command::Simulate(args) => simulate::run(args, format).await,
            Command::Completions(args) => completions::run(args),
        }
    }
}

/// Where the cluster is.
#[derive(clap::Args, Debug)]
struct Api {
    /// The API of any process of the cluster.
    #[arg(long, env = "VELIB_API", value_name = "URL", default_value = client::ADDRESS)]
    api: String,
}

impl Api {
    fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.api)
    }
}

/// Parameters of a job.
#[derive(clap::Args, Debug)]
struct Parameters {
    /// Set a parameter of the job, over the default in its text.
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
}

impl Parameters {
    fn map(&self) -> BTreeMap<String, String> {
        self.param.iter().cloned().collect()
    }
}

/// `-p name=value`
fn parameter(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim_start_matches('$').to_string(), value.to_string()))
        .ok_or_else(|| format!("{text:?} is not name=value, as in -p low=0.2"))
}

/// The name that a job has by its file: `jobs/critical-stations.sql` is `critical_stations`.
fn job_name(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_")).unwrap_or_default()
}

/// The text of a job.
fn job_text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("the job {} cannot be read", file.display()))
}

/// The command has said itself what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Told;

/// Returns when the user or the system asks this process to stop.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    // Without a handler the signal ends the process by itself.
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start(cli.log_format, cli.command.log_filter());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::error(&format!("no threads to run on: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(cli.command.run(cli.output));
    // A read of the terminal that is under way must not hold the end up.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<Told>() {
                print::error(&format!("{error:#}"));
            }
            exit_code(&error)
        }
    }
}

/// 3: there was nobody to ask. 1: the answer is no.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let away = error.chain().any(|cause| {
        cause.downcast_ref::<ClientError>().is_some_and(ClientError::is_retriable)
            || cause.downcast_ref::<LakeError>().is_some_and(LakeError::is_retriable)
            || cause
                .downcast_ref::<PostgresError>()
                .is_some_and(|error| matches!(error, PostgresError::Connect { .. }) || error.is_retriable())
    });
    ExitCode::from(if away { 3 } else { 1 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_says_what_it_is_for_and_has_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(example.starts_with("Example") && example.contains(&format!("velib {name}")), "{name}: {example}");
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
        }
    }
}
