//! From a snapshot's arrival to its commit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use velib_engine::postgres::private::{Durability, Private};
use velib_engine::simulate;

use crate::cluster::Cluster;
use crate::machine::quantile;

/// Between two looks at the metrics: less than between two commits.
const LOOK: Duration = Duration::from_millis(450);

#[derive(clap::Args)]
pub struct Args {
    /// The jobs, all at once.
    #[arg(long, default_values = ["jobs/bikeshare/occupancy.sql", "jobs/bikeshare/critical.sql", "jobs/bikeshare/trends.sql"])]
    jobs: Vec<PathBuf>,
    /// Stations of the city.
    #[arg(long, default_value_t = 1500)]
    stations: usize,
    /// The share of them that changes each second.
    #[arg(long, default_value_t = 0.25)]
    changed: f64,
    /// Seconds to measure, after as many as the start takes.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Processes × workers, one run each.
    #[arg(long, default_values = ["1x1", "1x2", "2x1", "2x2"])]
    shapes: Vec<String>,
}

pub async fn run(args: Args) -> Result<()> {
    println!("{} stations, {:.0} % changed, one snapshot a second", args.stations, 100.0 * args.changed);
    println!(
        "| processes × workers | job | commits | p50 ms | p90 ms | p99 ms | rows a transaction | of that in PostgreSQL, mean ms | CPU ms a second, by process | peak MB, by process |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for shape in &args.shapes {
        let (processes, workers) =
            shape.split_once('x').ok_or_else(|| anyhow::anyhow!("a shape is 2x2, not {shape}"))?;
        measure(&args, processes.parse()?, workers.parse()?).await?;
    }
    Ok(())
}

async fn measure(args: &Args, processes: usize, workers: usize) -> Result<()> {
    let server = Private::start(None, Durability::Kept).await?;
    let city = simulate::serve(simulate::Settings {
        stations: args.stations,
        step: Some(60),
        changed_share: Some(args.changed),
        address: ([127, 0, 0, 1], 0).into(),
        ..Default::default()
    })
    .await?;
    let cluster = Cluster::start(&server.url(), processes, workers).await?;
    for job in &args.jobs {
        let name = job.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let parameters = json!({ "feed": city.gbfs_url, "quartiers": city.quartiers_url, "poll": "1 s" });
        cluster.submit(&name, &std::fs::read_to_string(job)?, parameters).await?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, transactions_before) = (cluster.usage(), transactions(&cluster).await?);
    let begun = Instant::now();
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        // The sum of a histogram between two looks at it, one commit apart, is that commit's time.
        let metrics: BTreeMap<String, f64> =
            cluster.metrics("velib_snapshot_to_commit_seconds").await?.into_iter().collect();
        for (name, count) in metrics.iter().filter(|(name, _)| name.contains("_count{")) {
            let job = name.split('"').nth(1).unwrap_or_default().to_owned();
            let sum = metrics[&name.replace("_count{", "_sum{")];
            if last.get(name).is_some_and(|before| *count == before + 1.0) {
                samples.entry(job.clone()).or_default().push(1e3 * (sum - last[&format!("sum {job}")]));
            }
            last.insert(name.clone(), *count);
            last.insert(format!("sum {job}"), sum);
        }
        tokio::time::sleep(LOOK).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (after, transactions_after) = (cluster.usage(), transactions(&cluster).await?);
    let list = |values: Vec<f64>| values.iter().map(|value| format!("{value:.0}")).collect::<Vec<_>>().join(", ");
    let cpu = list(before.iter().zip(&after).map(|(before, after)| 1e3 * (after.0 - before.0) / seconds).collect());
    let peak = list(after.iter().map(|usage| usage.1).collect());
    for (job, mut times) in samples {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(&mut times, share));
        let more = |of: &str| {
            let name = format!("velib_transaction_{of}{{job=\"{job}\"}}");
            let of = |all: &BTreeMap<String, f64>| all.get(&name).copied().unwrap_or_default();
            of(&transactions_after) - of(&transactions_before)
        };
        let rows = more("rows_sum") / more("rows_count");
        let database = 1e3 * more("duration_seconds_sum") / more("duration_seconds_count");
        println!(
            "| {processes} × {workers} | {job} | {} | {p50:.1} | {p90:.1} | {p99:.1} | {rows:.0} | {database:.1} | {cpu} | {peak} |",
            times.len()
        );
    }
    drop(cluster);
    city.stop().await;
    Ok(())
}

/// What all transactions so far took and changed, by the name of the series.
async fn transactions(cluster: &Cluster) -> Result<BTreeMap<String, f64>> {
    Ok(cluster.metrics("velib_transaction_").await?.into_iter().collect())
}
