//! The demo on the terminal: how it gets going, a line a snapshot, and what it comes to.

use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, Local, Utc};
use chrono_tz::Europe::Paris;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::cli::Format;
use crate::cli::print::{Stream, Tone, count, csv_row};

/// Queries worth typing, with what they show.
pub const QUERIES: [(&str, &str); 3] = [
    (
        "the emptiest areas",
        "SELECT area, bikes, docks, round(100 * rate) AS percent FROM occupancy.area_now ORDER BY rate LIMIT 5;",
    ),
    (
        "the stations that have been critical for longest",
        "SELECT name, kind, since, bikes, docks FROM critical.critical_now ORDER BY since LIMIT 5;",
    ),
    (
        "where bikes go the fastest",
        "SELECT direction, name, round(slope_15) AS an_hour, bikes, docks FROM trends.fastest WHERE place <= 3;",
    ),
];

/// Station names on a line, of alarms that began.
const NAMES: usize = 2;
/// Letters of a station's name.
const NAME_LETTERS: usize = 28;
/// Lines until the heads are told again.
const PAGE: usize = 40;

/// A snapshot, or several, in the tables.
#[derive(Default)]
pub struct Line {
    /// When it was committed.
    pub committed: DateTime<Utc>,
    /// What time it was in the city.
    pub city: DateTime<Utc>,
    /// From the snapshot to the commit, in milliseconds.
    pub ms: Option<u64>,
    /// How many.
    pub snapshots: u64,
    /// Rows of tables that changed.
    pub rows: u64,
    /// Alarms that stand.
    pub critical: usize,
    /// Those that were not there before: kind and station.
    pub began: Vec<(String, String)>,
    /// How many of those before are not there.
    pub ended: usize,
}

/// How to look from elsewhere.
pub struct Look {
    /// Of the private database.
    pub psql: Option<String>,
    /// The API.
    pub api: String,
    /// The process ids of the workers.
    pub workers: Vec<u32>,
}

/// What it comes to.
#[derive(Serialize)]
#[allow(missing_docs)]
pub struct Summary {
    pub seconds: f64,
    pub snapshots: u64,
    pub commit_p50_ms: Option<u64>,
    pub commit_p99_ms: Option<u64>,
    pub commit_max_ms: Option<u64>,
    pub rows_read: u64,
    pub rows_refused: u64,
    pub rows_changed: u64,
    pub worker_memory_mb: Vec<f64>,
    pub worker_restarts: usize,
}

/// Something that is being started.
pub struct Step {
    what: &'static str,
    began: Instant,
    spinner: Option<ProgressBar>,
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Where it is shown.
pub struct Show {
    format: Format,
    lines: usize,
}

impl Show {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        Show { format, lines: 0 }
    }

    /// What is not a result goes to where results do not.
    fn stream(&self) -> Stream {
        if self.format == Format::Table { Stream::Out } else { Stream::Err }
    }

    /// Something is being started.
    pub fn begin(&self, what: &'static str) -> Step {
        let spinner = Stream::Err.is_coloured().then(|| {
            let spinner = ProgressBar::new_spinner();
            spinner.set_style(ProgressStyle::with_template("{spinner:.cyan} {msg}").expect("a good template"));
            spinner.set_message(what);
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Step { what, began: Instant::now(), spinner }
    }

    /// It runs.
    pub fn done(&self, step: Step, detail: &str) {
        let (what, took) = (step.what, step.began.elapsed().as_secs_f64());
        drop(step);
        let to = self.stream();
        let took = to.paint(Tone::Faint, &format!("{took:.1} s"));
        let what = to.paint(Tone::Strong, &format!("{what:<10}"));
        to.line(&format!("{} {what} {detail}  {took}", to.paint(Tone::Good, "✓")));
    }

    /// Everything runs: how to look at it.
    pub fn ready(&mut self, look: &Look) -> Result<()> {
        if self.format == Format::Json {
            let queries = QUERIES.map(|(_, query)| query);
            let ready = json!({
                "event": "ready", "psql": look.psql, "api": look.api, "workers": look.workers, "queries": queries,
            });
            Stream::Out.line(&serde_json::to_string(&ready)?);
            return Ok(());
        }
        let to = self.stream();
        let head = |text: &str| to.line(&format!("\n{}", to.paint(Tone::Faint, text)));
        let code = |text: &str| to.line(&format!("  {}", to.paint(Tone::Code, text)));
        head("in another terminal: the tables, with psql");
        code(look.psql.as_deref().unwrap_or("psql \"$VELIB_DATABASE_URL\""));
        for (what, query) in QUERIES {
            to.line(&format!("    {}", to.paint(Tone::Faint, &format!("-- {what}"))));
            to.line(&format!("    {}", to.paint(Tone::Code, query)));
        }
        head("the cluster");
        code(&format!("velib status --api {}", look.api));
        if let Some(id) = look.workers.last() {
            head("an accident: the worker comes back, the jobs begin anew, the tables go on");
            code(&format!("kill -9 {id}"));
        }
        to.line("");
        Ok(())
    }

    /// A snapshot has arrived.
    pub fn snapshot(&mut self, line: &Line) -> Result<()> {
        match self.format {
            Format::Json => {
                let event = json!({
                    "event": "snapshot", "committed_at": line.committed.to_rfc3339(), "city": line.city.to_rfc3339(),
                    "ms": line.ms, "snapshots": line.snapshots, "rows_changed": line.rows, "critical": line.critical,
                    "began": line.began.len(), "ended": line.ended,
                });
                Stream::Out.line(&serde_json::to_string(&event)?);
            }
            Format::Csv => {
                if self.lines == 0 {
                    Stream::Out.text("committed_at,city,ms,snapshots,rows_changed,critical,began,ended\n");
                }
                let ms = line.ms.map(|ms| ms.to_string());
                let (snapshots, rows) = (line.snapshots.to_string(), line.rows.to_string());
                let alarms = [line.critical, line.began.len(), line.ended].map(|count| count.to_string());
                let (committed, city) = (line.committed.to_rfc3339(), line.city.to_rfc3339());
                let cells = [Some(&committed), Some(&city), ms.as_ref(), Some(&snapshots), Some(&rows)];
                let cells = cells.into_iter().chain(alarms.iter().map(Some));
                Stream::Out.text(&csv_row(cells.map(|cell| cell.map(String::as_str))));
            }
            Format::Table => self.line(line),
        }
        self.lines += 1;
        Ok(())
    }

    fn line(&self, line: &Line) {
        let to = Stream::Out;
        if self.lines.is_multiple_of(PAGE) {
            let took = if line.ms.is_some() { "to commit" } else { "snapshots" };
            let heads =
                format!("{:<8}  {:<12}  {took:>9}  {:>12}  critical stations", "here", "in the city", "rows changed");
            to.line(&to.paint(Tone::Faint, &heads));
        }
        let took = match line.ms {
            Some(ms) => format!("{ms} ms"),
            None => count(line.snapshots),
        };
        let here = line.committed.with_timezone(&Local).format("%H:%M:%S");
        let city = line.city.with_timezone(&Paris);
        let city = if line.ms.is_some() { city.format("%a %H:%M") } else { city.format("%d %b %H:%M") };
        let mut change = String::new();
        if !line.began.is_empty() {
            change.push_str(&to.paint(Tone::Warn, &format!(" +{}", line.began.len())));
        }
        if line.ended > 0 {
            change.push_str(&to.paint(Tone::Good, &format!(" −{}", line.ended)));
        }
        let mut names: Vec<String> =
            line.began.iter().take(NAMES).map(|(kind, name)| format!("{} is {kind}", clipped(name))).collect();
        if line.began.len() > NAMES {
            names.push("…".to_string());
        }
        to.short_line(&format!(
            "{}  {:<12}  {}  {:>12}  {:>4}{change}  {}",
            to.paint(Tone::Faint, &here.to_string()),
            city.to_string(),
            to.paint(Tone::Strong, &format!("{took:>9}")),
            count(line.rows),
            line.critical,
            to.paint(Tone::Faint, &names.join(", ")),
        ));
    }

    /// Something else has happened.
    pub fn notice(&self, text: &str) {
        let to = self.stream();
        let now = Local::now().format("%H:%M:%S");
        let text = to.paint(Tone::Warn, text);
        to.line(&format!("{}  {text}", to.paint(Tone::Faint, &now.to_string())));
    }

    /// The end begins.
    pub fn stopping(&self) {
        // After the terminal's own ^C.
        let lead = if Stream::Err.is_terminal() { "\r" } else { "" };
        Stream::Err.line(&format!("{lead}{}", Stream::Err.paint(Tone::Faint, "stopping")));
    }

    /// What it comes to.
    pub fn summary(&self, summary: &Summary) -> Result<()> {
        match self.format {
            Format::Json => {
                let mut event = serde_json::to_value(summary)?;
                event["event"] = "summary".into();
                Stream::Out.line(&serde_json::to_string(&event)?);
            }
            Format::Csv => Stream::Err.line(&in_words(summary)),
            Format::Table => Stream::Out.line(&in_words(summary)),
        }
        Ok(())
    }
}

fn in_words(summary: &Summary) -> String {
    let mut parts = vec![format!("{} snapshots in {:.0} s", count(summary.snapshots), summary.seconds)];
    if let (Some(p50), Some(p99), Some(max)) = (summary.commit_p50_ms, summary.commit_p99_ms, summary.commit_max_ms) {
        parts.push(format!("from snapshot to commit {p50} ms (median), {p99} ms (99 %), {max} ms (longest)"));
    }
    let refused =
        if summary.rows_refused > 0 { format!(" ({} refused)", count(summary.rows_refused)) } else { String::new() };
    parts.push(format!(
        "{} rows read{refused}, {} rows changed",
        count(summary.rows_read),
        count(summary.rows_changed)
    ));
    if !summary.worker_memory_mb.is_empty() {
        let each: Vec<String> = summary.worker_memory_mb.iter().map(|mb| format!("{mb:.0}")).collect();
        parts.push(format!("workers hold {} MB", each.join(" + ")));
    }
    if summary.worker_restarts > 0 {
        parts.push(format!("{} restarts", summary.worker_restarts));
    }
    parts.join("\n")
}

fn clipped(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS {
        return name.to_string();
    }
    name.chars().take(NAME_LETTERS - 1).chain(['…']).collect()
}
