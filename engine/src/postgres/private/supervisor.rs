//! Between us and the server: how it starts, how it is told to go, and that it goes when we do.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::account::{self, Account};
use super::{POLL, PostgresError, cluster};

/// Ports are chosen below those that systems hand out by themselves, so that nobody is given ours while
/// the server is away for a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Starts the server and waits for the end of its input, which is the word `keep` or the end of the
/// owner. Then it asks for a fast shutdown; if the owner is gone, it removes the folder in `$1` as well.
/// If the server ends by itself, so does the shell, with the server's exit code.
pub(super) const SUPERVISOR: &str = r#"
remove=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
exec 2>/dev/null
( read -r word <&3; kill -INT "$server"; [ "$word" = keep ] ) & watcher=$!
wait "$server"; code=$?
kill "$watcher"
wait "$watcher"
[ $? -ne 1 ] || [ -z "$remove" ] || rm -rf -- "$remove"
exit "$code"
"#;

/// Waits for the end of a process, though not for ever.
pub(super) async fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL / 4).await;
    }
    true
}

/// Immediate shutdown of the server on this data: its next start recovers from the log. The process id is
/// the first line of its lock file.
pub(super) fn make_leave(account: Option<&Account>, folder: &Path) {
    let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    let Some(pid) = lock.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return };
    let mut kill = account::command(account, Path::new("/bin/sh"));
    // If the process is gone already, there is nothing left to do.
    let _ = kill.args(["-c", "kill -QUIT \"$1\"", "kill", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Reads from the log why a server ended before it let anybody in.
pub(super) fn why_it_ended(log: String, folder: &Path, port: u16) -> PostgresError {
    if log.contains("lock file \"postmaster.pid\" already exists") || log.contains("pre-existing shared memory") {
        return PostgresError::InUse { folder: folder.to_owned() };
    }
    if log.contains("could not create any TCP/IP sockets") || log.contains("Address already in use") {
        return PostgresError::PortTaken { port };
    }
    PostgresError::NotStarted { reason: "it ended at once".to_owned(), log }
}

/// A port that nobody listens on at the moment.
pub(super) fn free_port() -> Result<u16, PostgresError> {
    const LOOKS: usize = 200;
    let span = PORTS.end - PORTS.start;
    for _ in 0..LOOKS {
        let port = PORTS.start + u16::from_le_bytes(cluster::random_bytes()?) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(PostgresError::PortTaken { port: PORTS.start })
}
