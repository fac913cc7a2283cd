//! A private PostgreSQL server, for `velib demo`, `velib run --embedded` and the tests.
//!
//! The server belongs to the [`Private`] value: it listens on a free port of the loopback address, lets
//! nobody in without a random password, and goes when the value is dropped or the process ends, however
//! it ends. The last is the work of a small shell that stands between the two (see [`supervisor`]):
//! `SIGKILL` leaves us no time to stop a server, but it closes our end of a pipe.
//!
//! A server refuses to run as root. Where we are root, it runs as `postgres` or `nobody`.

mod account;
mod cluster;
mod error;
mod programs;
mod supervisor;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use account::Account;
pub use error::PostgresError;
use programs::Programs;
use supervisor::{SUPERVISOR, ended_within, free_port, make_leave, why_it_ended};

/// The role that owns everything, and the database that it owns.
const NAME: &str = "velib";
/// How long a server may take to accept connections: it may have to recover a large log first.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to let a session in, or to refuse it.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long a fast shutdown may take before the server is made to leave.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long the server of a process that was killed a moment ago may still hold the folder.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
/// A log longer than this begins anew with the next start.
const LOG_LIMIT: u64 = 10 << 20;
/// Between two looks at something that is about to happen.
const POLL: Duration = Duration::from_millis(20);
/// Somebody else may take a port between our look at it and the server's: how often to choose again.
const PORT_ATTEMPTS: usize = 5;
/// The system's limit on the length of a socket's path, less the name PostgreSQL gives the socket.
const SOCKET_FOLDER_LIMIT: usize = 107 - "/.s.PGSQL.65535.lock".len();

/// What a server's data must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut, as any database's.
    Kept,
    /// Nothing beyond the server's own restart: faster, for tests.
    ThrowAway,
}

/// A running (or stopped) server of our own. Dropping it stops the server.
#[derive(Debug)]
pub struct Private {
    programs: Programs,
    account: Option<Account>,
    durability: Durability,
    /// Holds `data/`, `server.log` and `password`, for the next start.
    folder: PathBuf,
    /// Sockets, and `folder` itself where none was given. Removed on drop.
    temporary: TempDir,
    port: u16,
    password: String,
    /// Where in its log the running server's part begins.
    log_start: u64,
    supervisor: Option<Child>,
}

impl Private {
    /// Starts a server with its data in `folder`, which is made if need be and stays; without one, in a
    /// temporary folder that goes with the server. Returns once the server accepts connections.
    ///
    /// # Errors
    /// No PostgreSQL is installed (nor could be downloaded), the folder cannot be used or is in use, or
    /// the server does not start: the message has the end of its log.
    pub async fn start(folder: Option<PathBuf>, durability: Durability) -> Result<Self, PostgresError> {
        let (temporary, account) = account::temporary_folder(SOCKET_FOLDER_LIMIT)?;
        let programs = programs::find(account.is_some()).await?;
        let (folder, password) = match folder {
            Some(folder) => {
                // The server starts in another folder than ours.
                let folder = std::path::absolute(&folder).map_err(|error| PostgresError::folder(&folder, error))?;
                let password = cluster::open_or_create(&programs, account.as_ref(), &folder).await?;
                (folder, password)
            }
            None => {
                let password = cluster::create_temporary(&programs, account.as_ref(), temporary.path()).await?;
                (temporary.path().to_owned(), password)
            }
        };
        let mut server = Self {
            programs,
            account,
            durability,
            folder,
            temporary,
            port: 0,
            password,
            log_start: 0,
            supervisor: None,
        };
        server.launch_on_free_port().await?;
        server.create_database().await?;
        Ok(server)
    }

    /// `postgresql://velib:PASSWORD@127.0.0.1:PORT/velib`. Contains the password: not for logs.
    pub fn url(&self) -> String {
        format!("postgresql://{NAME}:{}@{}:{}/{NAME}", self.password, Ipv4Addr::LOCALHOST, self.port)
    }

    /// A line that the user can paste into a shell of theirs.
    pub fn psql_line(&self) -> String {
        format!("psql '{}'", self.url())
    }

    /// The port, the same for as long as the value lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Takes the server away: sessions end, the data stays, and [`Self::restart`] brings it back.
    ///
    /// # Errors
    /// The server does not leave, not even when made to.
    pub async fn stop(&mut self) -> Result<(), PostgresError> {
        let Some(mut supervisor) = self.supervisor.take() else { return Ok(()) };
        if let Some(mut owner) = supervisor.stdin.take() {
            // An error means that the supervisor is gone, and the server with it.
            let _ = owner.write_all(b"keep\n");
        }
        if ended_within(&mut supervisor, STOP_LIMIT).await {
            return Ok(());
        }
        make_leave(self.account.as_ref(), &self.folder);
        if ended_within(&mut supervisor, STOP_LIMIT).await {
            return Ok(());
        }
        self.supervisor = Some(supervisor);
        Err(PostgresError::Stuck { folder: self.folder.clone() })
    }

    /// Stops the server if it runs and starts it again, on the same port with the same data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop().await?;
        self.launch().await
    }

    async fn launch_on_free_port(&mut self) -> Result<(), PostgresError> {
        let mut attempt = 0;
        let first = Instant::now();
        loop {
            self.port = free_port()?;
            match self.launch().await {
                Err(PostgresError::PortTaken { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(PostgresError::InUse { .. }) if first.elapsed() < RELEASE_LIMIT => sleep(POLL * 5).await,
                outcome => return outcome,
            }
        }
    }

    /// Starts the server on `self.port` and waits until it lets us in.
    async fn launch(&mut self) -> Result<(), PostgresError> {
        let log_path = self.log_path();
        let (log, errors) = self.open_log().map_err(|error| PostgresError::folder(&log_path, error))?;
        let mut command = account::command(self.account.as_ref(), Path::new("/bin/sh"));
        command.arg("-c").arg(SUPERVISOR).arg("velib-postgres").arg(self.temporary.path());
        command.arg(self.programs.path("postgres")).arg("-D").arg(self.folder.join("data"));
        for (name, value) in self.configuration() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::piped()).stdout(log).stderr(errors);
        let supervisor = command.spawn().map_err(|error| PostgresError::program("/bin/sh", error.to_string()))?;
        self.supervisor = Some(supervisor);
        let outcome = self.wait_until_ready().await;
        if outcome.is_err() {
            self.supervisor = None;
        }
        outcome
    }

    fn configuration(&self) -> Vec<(&'static str, String)> {
        let mut configuration = vec![
            ("listen_addresses", Ipv4Addr::LOCALHOST.to_string()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.temporary.path().display().to_string()),
            ("TimeZone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_checkpoints", "off".to_owned()),
            ("lc_messages", "C".to_owned()),
        ];
        if self.durability == Durability::ThrowAway {
            configuration.push(("fsync", "off".to_owned()));
            configuration.push(("full_page_writes", "off".to_owned()));
        }
        configuration
    }

    async fn wait_until_ready(&mut self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let supervisor = self.supervisor.as_mut().expect("launched by the caller");
            if supervisor.try_wait().ok().flatten().is_some() {
                return Err(why_it_ended(self.log_tail(), &self.folder, self.port));
            }
            match self.connect("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let reason = format!("no connection within {} s ({error})", READY_LIMIT.as_secs());
                    return Err(PostgresError::NotStarted { reason, log: self.log_tail() });
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// Whoever listens on the port may be somebody else, and have nothing to say.
    async fn connect(&self, database: &str) -> Result<tokio_postgres::Client, PostgresError> {
        let mut config = tokio_postgres::Config::new();
        config.host(Ipv4Addr::LOCALHOST.to_string()).port(self.port).user(NAME).password(&self.password);
        config.dbname(database);
        let silent = |_| PostgresError::Silent { port: self.port };
        let (client, connection) = timeout(CONNECT_LIMIT, config.connect(NoTls)).await.map_err(silent)??;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn create_database(&self) -> Result<(), PostgresError> {
        let client = self.connect("postgres").await?;
        let found = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&NAME]).await?;
        if found.is_none() {
            client.batch_execute(&format!("CREATE DATABASE {NAME}")).await?;
        }
        Ok(())
    }

    /// To append to, for it may turn out that another server runs here and writes to it.
    fn open_log(&mut self) -> io::Result<(File, File)> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        if log.metadata()?.len() > LOG_LIMIT {
            log.set_len(0)?;
        }
        self.log_start = log.metadata()?.len();
        Ok((log.try_clone()?, log))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let since_launch = usize::try_from(self.log_start).ok().and_then(|start| log.get(start..));
        let log = String::from_utf8_lossy(since_launch.unwrap_or_default());
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        drop(supervisor.stdin.take());
        let deadline = Instant::now() + STOP_LIMIT / 2;
        while matches!(supervisor.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // The supervisor sees a slow shutdown through. Where nothing is kept, an abrupt one does.
                if self.durability == Durability::ThrowAway {
                    make_leave(self.account.as_ref(), &self.folder);
                }
                return;
            }
            std::thread::sleep(POLL / 4);
        }
    }
}

#[cfg(test)]
mod tests;
