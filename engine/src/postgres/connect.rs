//! Connections to PostgreSQL, and patience with it.
//!
//! A URL holds a password, so it is never printed: messages name the server as [`describe`] does.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};

use super::PostgresError;

/// The longest that opening a connection may take, where the URL does not say.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is probed after being idle for this long, this often, this many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// Sent data that is not acknowledged for this long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The first wait of [`Backoff`].
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait of [`Backoff`].
pub const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// Opens a connection to `url` that the server lists as `application`.
///
/// The connection is driven by a task of its own, which ends with the client or with the connection.
///
/// # Errors
/// An address that cannot be read, one that asks for TLS, a server that does not answer in time or refuses.
pub async fn connect(url: &str, application: &str) -> Result<Client, PostgresError> {
    let (client, connection, server) = open(url, application).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(server, error = %PostgresError::from(error), "connection to postgresql ended");
        }
    });
    Ok(client)
}

/// As [`connect`], for who listens to notifications: the receiver is told when some have come, and closed with the
/// connection.
///
/// # Errors
/// As [`connect`].
pub async fn connect_listening(url: &str, application: &str) -> Result<(Client, mpsc::Receiver<()>), PostgresError> {
    let (client, mut connection, server) = open(url, application).await?;
    // One that waits says as much as many.
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => drop(tell.try_send(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let error = PostgresError::from(error);
                    tracing::debug!(server, %error, "connection to postgresql ended");
                    return;
                }
                None => return,
            }
        }
    });
    Ok((client, told))
}

async fn open(
    url: &str,
    application: &str,
) -> Result<(Client, Connection<Socket, NoTlsStream>, String), PostgresError> {
    let mut config = parse(url)?;
    let server = server(&config);
    if config.get_ssl_mode() == SslMode::Require {
        return Err(PostgresError::Tls { server });
    }
    let limit = *config.get_connect_timeout().unwrap_or(&CONNECT_TIMEOUT);
    config.connect_timeout(limit);
    if config.get_application_name().is_none() {
        config.application_name(application);
    }
    let (idle, interval, retries) = KEEPALIVE;
    config.keepalives(true).keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(retries);
    config.tcp_user_timeout(UNACKNOWLEDGED);

    // The driver's own limit covers the socket; a server that accepts and then says nothing needs this one.
    let opened = tokio::time::timeout(limit, config.connect(NoTls)).await;
    let (client, connection) = opened
        .map_err(|_| PostgresError::Timeout { what: format!("connecting to {server}"), after: limit })?
        .map_err(|e| PostgresError::connecting(&server, e))?;
    Ok((client, connection, server))
}

/// The server, database and user of `url`, without its secrets.
pub fn describe(url: &str) -> String {
    parse(url).map_or_else(|_| "an address that cannot be read".to_string(), |config| server(&config))
}

fn parse(url: &str) -> Result<Config, PostgresError> {
    let config: Config = url.parse().map_err(|e: tokio_postgres::Error| {
        let cause = std::error::Error::source(&e).map(ToString::to_string);
        PostgresError::Address(cause.unwrap_or_else(|| e.to_string()))
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(PostgresError::Address("it names no host".to_string()));
    }
    Ok(config)
}

fn server(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgresql://{user}{host}:{port}/{database}")
}

/// Waits that double from one to the next up to a cap, each shortened by chance by up to a half, so that
/// clients that failed together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(BACKOFF_FIRST, BACKOFF_CAP)
    }
}

impl Backoff {
    /// Waits from about `first` to about `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Backoff { next: first, first, cap }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        let chance = RandomState::new().build_hasher().finish() % 1000;
        full / 2 + (full / 2).mul_f64(chance as f64 / 1000.0)
    }

    /// It worked: the next wait is a short one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Does `work` again while it fails with an error that may pass, for at most `patience`.
///
/// # Errors
/// The first error that does not pass, or the last one when the patience is at its end.
pub async fn retry<T, F, W>(what: &str, patience: Duration, mut work: F) -> Result<T, PostgresError>
where
    F: FnMut() -> W,
    W: Future<Output = Result<T, PostgresError>>,
{
    let started = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let wait = backoff.wait();
        if !error.is_retriable() || started.elapsed() + wait > patience {
            return Err(error);
        }
        tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "{what}: trying again");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_not_told() {
        let url = "postgresql://ada:s3cret@127.0.0.1:1/bikes?connect_timeout=2";
        assert_eq!(describe(url), "postgresql://ada@127.0.0.1:1/bikes");
        assert_eq!(describe("host=db user=ada password=s3cret dbname=bikes"), "postgresql://ada@db:5432/bikes");
        let error = connect(url, "test").await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(!error.to_string().contains("s3cret") && error.to_string().contains("127.0.0.1:1"), "{error}");
    }

    #[tokio::test]
    async fn addresses_that_cannot_work_are_refused_at_once() {
        for (url, word) in [
            ("postgresql://db/x?sslmode=require", "TLS"),
            ("postgresql:///x", "no host"),
            ("nonsense", "cannot be read"),
        ] {
            let error = connect(url, "test").await.unwrap_err();
            assert!(!error.is_retriable() && error.to_string().contains(word), "{url}: {error}");
        }
    }

    #[test]
    fn waits_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..8).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits[7] >= Duration::from_millis(500) && waits[7] <= Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(100));
    }
}
