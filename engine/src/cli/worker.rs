//! `velib worker`: one process of a cluster.

use std::path::PathBuf;

use anyhow::Result;
use tokio::sync::watch;

use crate::cluster::process;
use crate::config::Settings;

/// Run one process of a cluster.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example (two processes on one machine, which find each other in the database):
  velib worker --api 127.0.0.1:7070
  velib worker --api 127.0.0.1:7071")]
pub struct Args {
    /// The settings; flags go over the environment, and that over this file.
    #[arg(long, env = "VELIB_CONFIG")]
    config: Option<PathBuf>,
    /// Where this process listens for the others.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Worker threads of this process, the same in all.
    #[arg(long)]
    workers: Option<usize>,
    /// Where the API of this process listens.
    #[arg(long, value_name = "HOST:PORT")]
    api: Option<String>,
    /// The database for results and records.
    #[arg(long, env = "VELIB_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A file with the secret that the processes share.
    #[arg(long)]
    secret_file: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<()> {
    let mut settings = Settings::load(args.config.as_deref(), std::env::vars())?;
    let cluster = &mut settings.cluster;
    cluster.workers = args.workers.unwrap_or(cluster.workers);
    if let Some(listen) = args.listen {
        cluster.listen = listen;
    }
    if let Some(file) = args.secret_file {
        cluster.secret_file = file;
    }
    if let Some(listen) = args.api {
        settings.api.listen = listen;
    }
    if let Some(url) = args.database_url {
        settings.database.url = url;
        settings.database.url_file = PathBuf::new();
    }
    let (send, stop) = watch::channel(false);
    tokio::spawn(async move {
        super::interrupted().await;
        tracing::info!("stopping");
        // Everything may have ended by itself.
        let _ = send.send(true);
    });
    process::run(settings, stop).await
}
