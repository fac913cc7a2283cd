//! The database that results go to, and the command that brings them there.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::process::Command;
use tokio_postgres::{Client, NoTls};
use velib_engine::postgres::private::{Durability, Private};

/// A server of our own.
pub struct Server {
    private: Private,
    databases: AtomicU32,
}

impl Server {
    /// None where PostgreSQL is not installed.
    pub async fn start() -> Option<Server> {
        match Private::start(None, Durability::ThrowAway).await {
            Ok(private) => Some(Server { private, databases: AtomicU32::new(0) }),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = self.private.url();
        self.connect(&url).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        format!("{}/{name}", url.rsplit_once('/').unwrap().0)
    }

    /// A connection whose clock is UTC.
    pub async fn connect(&self, url: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
        client
    }
}

/// Runs a job until its sources have ended.
pub async fn run(job: &Path, parameters: &[(String, String)], database: &str, workers: usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
    command.arg("run").arg(job).args(["--once", "--workers", &workers.to_string(), "--database-url", database]);
    for (name, value) in parameters {
        command.arg("-p").arg(format!("{name}={value}"));
    }
    let done = command.output().await.unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{} with {parameters:?}: {errors}", job.display());
}
