//! The queries of Nexmark, from the generator to PostgreSQL, beside the same SQL from scratch on DataFusion's own
//! executor and beside what others have published.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use velib_engine::postgres::private::{Durability, Private};

use crate::{batch, machine};

/// Events a second on 16 cores, of Feldera and of Flink (streaming), by query; 0: none is given.
///
/// From `benchmark/README.md` of <https://github.com/feldera/feldera>, at [`COMMIT`]: "16-core Nexmark Streaming
/// Performance".
const PUBLISHED: [(u32, u32); 23] = [
    (6_973_987, 2_642_776),
    (6_595_871, 2_604_438),
    (6_748_549, 3_122_073),
    (6_608_075, 2_039_692),
    (4_233_521, 501_017),
    (6_589_786, 661_901),
    (3_997_921, 0),
    (3_136_763, 281_262),
    (6_641_870, 2_103_271),
    (910_680, 209_547),
    (0, 0),
    (0, 547_783),
    (6_682_259, 2_002_162),
    (3_675_255, 1_571_314),
    (6_858_711, 2_191_541),
    (3_539_322, 912_326),
    (810_701, 233_294),
    (3_870_269, 1_713_796),
    (1_358_216, 511_146),
    (1_201_216, 1_011_419),
    (1_352_192, 266_441),
    (6_634_820, 1_229_695),
    (6_305_568, 1_521_838),
];
/// The cores of those,
const CORES: u32 = 16;
/// and the version that they are from.
const COMMIT: &str = "1eb7bb0a126737532cf03f5357a44c8142bfa456";
/// The query that reads next to nothing.
const GENERATOR: &str = "generator";

#[derive(clap::Args)]
pub struct Args {
    /// The folder of the queries.
    #[arg(long, default_value = "benches/nexmark")]
    folder: PathBuf,
    /// Which of them (`q3,q8`); all, if none is named.
    #[arg(long, value_delimiter = ',')]
    queries: Vec<String>,
    /// How many events.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// What they are generated from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Worker threads, one run each.
    #[arg(long, default_values_t = [1, 2])]
    workers: Vec<u16>,
    /// Where the table is written to.
    #[arg(long, default_value = "benches/results/nexmark.md")]
    output: PathBuf,
    /// In this process, the one query from scratch: for the process that measures it.
    #[arg(long, hide = true)]
    inside: bool,
}

impl Args {
    fn parameters(&self) -> BTreeMap<String, String> {
        [("events", self.events), ("seed", self.seed)].map(|(name, value)| (name.to_owned(), value.to_string())).into()
    }

    fn job(&self, query: &str) -> PathBuf {
        self.folder.join(format!("{query}.sql"))
    }

    fn queries(&self) -> Vec<String> {
        match &self.queries[..] {
            [] => [GENERATOR.to_owned()].into_iter().chain((0..PUBLISHED.len()).map(|n| format!("q{n}"))).collect(),
            some => some.to_vec(),
        }
    }
}

pub async fn run(args: Args) -> Result<()> {
    if args.inside {
        return batch::inside(&args.job(&args.queries()[0]), &args.parameters()).await;
    }
    let mut text = String::new();
    head(&args, &mut text)?;
    print!("{text}");
    for query in args.queries() {
        let line = measure(&args, &query).await?;
        println!("{line}");
        writeln!(text, "{line}")?;
        // Those that follow may take too much.
        std::fs::write(&args.output, &text).with_context(|| args.output.display().to_string())?;
    }
    Ok(())
}

fn head(args: &Args, text: &mut String) -> Result<()> {
    writeln!(text, "# Nexmark: {} events, seed {}\n", grouped(args.events as f64), args.seed)?;
    writeln!(text, "Measured: {}.\n", machine::describe())?;
    writeln!(
        text,
        "k/CPU s: thousands of events by the second of CPU that the engine's process used, from the generator to \
         committed tables; `{GENERATOR}` is what generating takes of it, PostgreSQL's processes are not counted. k/s: \
         the same by the clock. DataFusion: the same SQL, once, over all the events in memory, generating not \
         counted.\n\nFeldera and Flink (SQL, streaming): by the clock on {CORES} cores, divided by {CORES}, as \
         [published by Feldera](https://github.com/feldera/feldera/blob/{COMMIT}/benchmark/README.md#sample-results); \
         the machine is not named there, so compare how they relate to each other. What the queries are is \
         [beside them](../nexmark/README.md).\n"
    )?;
    let each = |name: &str| args.workers.iter().map(|n| format!(" {name}, {n} |")).collect::<String>();
    writeln!(
        text,
        "| query |{}{}{} rows out | DataFusion k/CPU s | Feldera k/s a core | Flink k/s a core |",
        each("k/CPU s, workers"),
        each("k/s, workers"),
        each("peak MB, workers"),
    )?;
    writeln!(text, "|---|{}", "--:|".repeat(3 * args.workers.len() + 4))?;
    Ok(())
}

async fn measure(args: &Args, query: &str) -> Result<String> {
    let thousands = args.events as f64 / 1e3;
    let (mut by_cpu, mut by_second, mut peak, mut rows) = (vec![], vec![], vec![], 0.0);
    for workers in &args.workers {
        let summary = maintained(args, query, *workers).await?;
        let number = |key: &str| summary[key].as_f64().unwrap_or(f64::NAN);
        by_cpu.push(grouped(thousands / number("cpu_seconds")));
        by_second.push(grouped(thousands / number("seconds")));
        peak.push(grouped(number("peak_memory_mb")));
        rows = number("rows_out");
    }
    let batch = last_line(Command::new(std::env::current_exe()?).args([
        "nexmark",
        "--inside",
        "--folder",
        &args.folder.to_string_lossy(),
        "--queries",
        query,
        "--events",
        &args.events.to_string(),
        "--seed",
        &args.seed.to_string(),
    ]));
    // What does not fit into memory has no figure, nor what reads nothing.
    let batch = batch.ok().filter(|_| query != GENERATOR).and_then(|figures| {
        Some(grouped(thousands / (figures["cpu_seconds"].as_f64()? - figures["reading"].as_f64()?)))
    });
    let number = query.strip_prefix('q').and_then(|number| number.parse::<usize>().ok());
    let (feldera, flink) = number.and_then(|number| PUBLISHED.get(number).copied()).unwrap_or_default();
    let published = |all: u32| if all == 0 { String::new() } else { grouped(f64::from(all / CORES) / 1e3) };
    let mut cells = vec![format!("[{query}](../nexmark/{query}.sql)")];
    cells.extend(by_cpu.into_iter().chain(by_second).chain(peak));
    cells.extend([grouped(rows), batch.unwrap_or_default(), published(feldera), published(flink)]);
    Ok(format!("| {} |", cells.join(" | ")))
}

/// The summary of `velib run`.
async fn maintained(args: &Args, query: &str, workers: u16) -> Result<Value> {
    let server = Private::start(None, Durability::ThrowAway).await?;
    let mut command = Command::new(machine::velib()?);
    command.args(["run", "--once", "--output", "json", "--workers", &workers.to_string()]);
    for (name, value) in args.parameters() {
        command.args(["-p", &format!("{name}={value}")]);
    }
    command.args(["--database-url", &server.url()]).arg(args.job(query));
    last_line(&mut command)
}

/// The last line that a command writes, as JSON.
fn last_line(command: &mut Command) -> Result<Value> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

/// A whole number with commas.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
