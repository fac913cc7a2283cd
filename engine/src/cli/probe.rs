//! `velib probe`: the health checks of a process, for whoever restarts it or waits for it.

use anyhow::Result;

use super::Api;

/// Ask one process whether it is alive, by the exit code.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib probe
  until velib probe --ready --api http://10.0.0.2:7070; do sleep 1; done")]
pub struct Args {
    /// Whether it is part of a cluster that can be given work.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    api: Api,
}

pub async fn run(args: Args) -> Result<()> {
    let client = args.api.client()?;
    match args.ready {
        true => client.ready().await?,
        false => client.healthy().await?,
    }
    Ok(())
}
