//! `cargo run --release -p velib-benches -- WORKLOAD`: what the engine does in numbers.
//!
//! Each workload drives the `velib` binary beside this one, as users do, on data from a seed or on
//! recorded documents, and prints its figures with the machine and the commit. Time on a shared machine is
//! noise: compare figures of one run, and quote CPU seconds.

mod batch;
mod cluster;
mod latency;
mod machine;
mod nexmark;
mod replay;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measure the engine")]
enum Workload {
    /// Recorded documents through the jobs of the mission, from files to PostgreSQL.
    Replay(replay::Args),
    /// The same jobs from scratch, on DataFusion's own executor.
    Batch(batch::Args),
    /// From a snapshot's arrival to its commit, at one snapshot a second.
    Latency(latency::Args),
    /// The queries of Nexmark, from the generator to PostgreSQL.
    Nexmark(nexmark::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let workload = Workload::parse();
    println!("{}", machine::describe());
    match workload {
        Workload::Replay(args) => replay::run(args).await,
        Workload::Batch(args) => batch::run(args).await,
        Workload::Latency(args) => latency::run(args).await,
        Workload::Nexmark(args) => nexmark::run(args).await,
    }
}
