//! `velib sql`: a shell on an engine in this process.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;

use super::Format;
use crate::cluster::process::wall_clock_ms;
use crate::shell::{Answer, Shell, ShellError, json};
use crate::sql;

/// Lines that may be read ahead of the statement that is executed.
const AHEAD: usize = 64;

const HELP: &str = r"Statements end with a semicolon:
  CREATE TABLE t (id BIGINT PRIMARY KEY, x DOUBLE PRECISION) [WITH (append_only = true)];
  INSERT INTO, UPDATE, DELETE FROM          each is one moment of the clock
  CREATE MATERIALIZED VIEW v AS SELECT …;   kept up to date with every change
  CREATE VIEW v AS SELECT …;                a name for a query
  SELECT …;                                 answered in batch; of a materialized view, what is kept
  EXPLAIN v;  EXPLAIN SELECT …;             how it is kept up to date
  SHOW errors;                              rows of views that cannot be computed, and why
  SET now = '2026-05-01 12:00:00';          holds the clock of now();  SET now = DEFAULT; lets it run
  FLUSH;                                    waits until all views are up to date
  DROP TABLE t;  DROP VIEW v;
Commands:  \d  all relations   \d NAME  its columns   \?  this   \q  leave
";

/// A shell on an engine in this process: tables, maintained views, queries. No database is needed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  velib sql\n  velib sql -c \"SELECT 1 + 1\"\n  velib sql schema.sql --output json")]
pub struct Args {
    /// Statements to execute, instead of those of a file or of the standard input.
    #[arg(short, long, value_name = "SQL", conflicts_with = "file")]
    command: Option<String>,
    /// A file of statements.
    file: Option<PathBuf>,
    /// Worker threads.
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
}

pub async fn run(args: Args, format: Format) -> Result<()> {
    let shell = Shell::new(usize::from(args.workers), Arc::new(wall_clock_ms))?;
    let mut session = Session { shell, format, failed: 0, interactive: false };
    match (&args.command, &args.file) {
        (Some(text), _) => session.all(text).await?,
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
            session.all(&text).await?;
        }
        (None, None) => session.input().await?,
    }
    let failed = if session.interactive { 0 } else { session.failed };
    session.shell.stop().await;
    match failed {
        0 => Ok(()),
        1 => bail!("a statement failed"),
        failed => bail!("{failed} statements failed"),
    }
}

struct Session {
    shell: Shell,
    format: Format,
    failed: usize,
    interactive: bool,
}

impl Session {
    /// Executes a whole text.
    async fn all(&mut self, text: &str) -> Result<()> {
        let rest = self.complete(text).await?;
        self.statement(rest).await
    }

    /// Executes what is typed or piped in, each statement as it is complete.
    async fn input(&mut self) -> Result<()> {
        self.interactive = std::io::stdin().is_terminal() && self.format == Format::Table;
        if self.interactive {
            println!("VelibInsight {}: \\? for help, \\q to leave", env!("CARGO_PKG_VERSION"));
        }
        let mut lines = lines();
        let mut pending = String::new();
        loop {
            self.prompt(&pending)?;
            let Some(line) = lines.recv().await else { break };
            let line = line.context("the standard input cannot be read")?;
            if pending.trim().is_empty() && line.trim_start().starts_with('\\') {
                if line.trim() == "\\q" {
                    return Ok(());
                }
                self.backslash(line.trim()).await?;
                continue;
            }
            pending.push_str(&line);
            if line.contains(';') {
                pending = self.complete(&pending).await?.to_owned();
            }
        }
        self.statement(&pending).await
    }

    fn prompt(&self, pending: &str) -> Result<()> {
        if self.interactive {
            print!("{}", if pending.trim().is_empty() { "velib=> " } else { "velib-> " });
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    /// Executes the complete statements of `text`; what is left.
    async fn complete<'a>(&mut self, text: &'a str) -> Result<&'a str> {
        let mut from = 0;
        for end in sql::ends(text) {
            self.statement(&text[from..end]).await?;
            from = end;
        }
        Ok(&text[from..])
    }

    async fn backslash(&mut self, command: &str) -> Result<()> {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("\\d", "") => self.statement("SHOW all").await,
            ("\\d", name) => self.statement(&format!("SHOW {name}")).await,
            ("\\?", _) => {
                print!("{HELP}");
                Ok(())
            }
            _ => {
                eprintln!("error: {command} is no command; \\? shows those that there are");
                Ok(())
            }
        }
    }

    /// Executes one statement and prints what comes of it; blanks and comments are none.
    async fn statement(&mut self, text: &str) -> Result<()> {
        let text = text.trim_start();
        if sql::is_blank(text) {
            return Ok(());
        }
        let outcome = self.shell.execute(text).await;
        self.failed += usize::from(outcome.is_err());
        print(&outcome, self.format)
    }
}

fn print(outcome: &Result<Answer, ShellError>, format: Format) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match (format, outcome) {
        (Format::Json, _) => writeln!(out, "{}", json(outcome))?,
        (_, Err(error)) => eprintln!("{error}"),
        (Format::Csv, Ok(answer)) => write!(out, "{}", answer.csv())?,
        (Format::Table, Ok(answer)) => write!(out, "{}", answer.table())?,
    }
    out.flush()?;
    Ok(())
}

/// The lines of the standard input, read by a thread of their own.
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (send, lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            let read = input.read_line(&mut line);
            let ended = !matches!(read, Ok(n) if n > 0);
            if matches!(read, Ok(0)) || send.blocking_send(read.map(|_| line)).is_err() || ended {
                return;
            }
        }
    });
    lines
}
