//! The `velib` command: its arguments, and what each subcommand does with the engine.

mod run;
mod worker;
mod sql;

use std::collections::BTreeMap;

use clap::{Parser, Subcommand, ValueEnum};

/// Streaming SQL over bike-share feeds, maintained in PostgreSQL.
#[derive(Parser, Debug)]
#[command(name = "velib", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
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
    Run(run::Args),
    Worker(worker::Args),
    Sql(sql::Args),
}

/// `-p name=value`
fn parameter(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim_start_matches('$').to_string(), value.to_string()))
        .ok_or_else(|| format!("{text:?} is not name=value, as in -p low=0.2"))
}

fn parameters(given: &[(String, String)]) -> BTreeMap<String, String> {
    given.iter().cloned().collect()
}

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
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args, cli.output).await,
            Command::Worker(args) => worker::run(args).await,
            Command::Sql(args) => sql::run(args, cli.output).await,
        }
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            eprintln!("{}{text}", if text.starts_with("error:") { "" } else { "error: " });
            std::process::ExitCode::FAILURE
        }
    }
}
