//! Against the PostgreSQL of this machine; skipped where there is none.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;

/// Set for a process that is to hold a server until it is killed.
const HOLD: &str = "VELIB_TEST_HOLD_SERVER";

async fn started(folder: Option<PathBuf>, durability: Durability) -> Option<Private> {
    match Private::start(folder, durability).await {
        Err(PostgresError::NotInstalled { looked }) => {
            println!("skipped: no PostgreSQL ({looked})");
            None
        }
        outcome => Some(outcome.unwrap()),
    }
}

async fn ask(server: &Private, statement: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client.query_one(statement, &[]).await?.get(0))
}

#[tokio::test]
async fn starts_goes_away_and_comes_back() {
    let Some(mut server) = started(None, Durability::ThrowAway).await else { return };
    let url = server.url();
    for (setting, expected) in [
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("TimeZone", "UTC"),
        ("fsync", "off"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "off"),
        ("listen_addresses", "127.0.0.1"),
    ] {
        // `lc_collate` is no setting any more since version 16.
        let statement = match setting {
            "lc_collate" => "SELECT datcollate::text FROM pg_database WHERE datname = 'velib'".to_owned(),
            _ => format!("SELECT current_setting('{setting}')"),
        };
        assert_eq!(ask(&server, &statement).await.unwrap(), expected, "{setting}");
    }
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let session = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE kept AS SELECT 'here'::text AS word").await.unwrap();

    server.stop().await.unwrap();
    assert!(session.await.unwrap().is_err(), "the server's departure ends sessions");
    assert!(ask(&server, "SELECT word FROM kept").await.is_err());
    server.stop().await.expect("stopping twice is nothing");

    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(ask(&server, "SELECT word FROM kept").await.unwrap(), "here");
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "SELECT word FROM kept").await.unwrap(), "here");

    let folder = server.temporary.path().to_owned();
    drop(server);
    assert!(!folder.exists());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

#[tokio::test]
async fn several_at_once_and_quickly() {
    if started(None, Durability::ThrowAway).await.is_none() {
        return;
    }
    let start = Instant::now();
    let servers = futures::future::join_all((0..3).map(|_| started(None, Durability::ThrowAway))).await;
    println!("3 servers in {:?}", start.elapsed());
    let mut ports: Vec<u16> = servers.iter().flatten().map(Private::port).collect();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    for server in servers.iter().flatten() {
        assert_eq!(ask(server, "SELECT current_database()::text").await.unwrap(), "velib");
    }
}

#[tokio::test]
async fn nobody_enters_without_the_password() {
    let Some(server) = started(None, Durability::ThrowAway).await else { return };
    for password in ["guess", ""] {
        let url = server.url().replace(&server.password, password);
        assert!(tokio_postgres::connect(&url, NoTls).await.is_err(), "{url}");
    }
    let sockets = server.temporary.path().display();
    let url = format!("host={sockets} port={} user=velib dbname=velib", server.port());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

#[tokio::test]
async fn kept_data_is_there_the_next_time() {
    let place = tempfile::tempdir().unwrap();
    // As root, the server's user must be let in.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = place.path().join("demo");
    let Some(server) = started(Some(folder.clone()), Durability::Kept).await else { return };
    assert_eq!(ask(&server, "SELECT current_setting('fsync')").await.unwrap(), "on");
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE kept AS SELECT 'here'::text AS word").await.unwrap();

    let second = Private::start(Some(folder.clone()), Durability::Kept).await;
    assert!(matches!(second, Err(PostgresError::InUse { .. })), "{second:?}");

    drop(server);
    let server = Private::start(Some(folder), Durability::Kept).await.unwrap();
    assert_eq!(ask(&server, "SELECT word FROM kept").await.unwrap(), "here");
}

#[tokio::test]
async fn says_who_took_its_port_and_comes_back_later() {
    let Some(mut server) = started(None, Durability::ThrowAway).await else { return };
    server.stop().await.unwrap();
    let intruder = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let error = server.restart().await.unwrap_err();
    assert!(matches!(error, PostgresError::PortTaken { port } if port == server.port()), "{error}");
    drop(intruder);
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "SELECT current_user::text").await.unwrap(), "velib");
}

#[tokio::test]
async fn refuses_a_folder_of_something_else() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("thesis.txt"), "").unwrap();
    if started(None, Durability::ThrowAway).await.is_none() {
        return;
    }
    let error = Private::start(Some(place.path().to_owned()), Durability::Kept).await.unwrap_err().to_string();
    assert!(error.contains("thesis.txt") || error.contains("may not enter"), "{error}");
}

/// Not a test of its own: the process that [`leaves_no_orphan`] kills.
#[tokio::test]
async fn holds_a_server() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let Some(server) = started(None, Durability::ThrowAway).await else { return };
    println!("\nholding {} {}", server.port(), server.temporary.path().display());
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn leaves_no_orphan() {
    let Some(_) = started(None, Durability::ThrowAway).await else { return };
    let mut holder = this_test_binary("holds_a_server").env(HOLD, "1").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("holding ")).unwrap();
    let (port, folder) = line["holding ".len()..].split_once(' ').unwrap();
    let address = format!("127.0.0.1:{port}");
    assert!(std::net::TcpStream::connect(&address).is_ok());

    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + STOP_LIMIT;
    while std::net::TcpStream::connect(&address).is_ok() || Path::new(folder).exists() {
        assert!(Instant::now() < deadline, "the server or its folder {folder} is still there");
        sleep(POLL).await;
    }
}

#[tokio::test]
async fn works_without_root_too() {
    let Some(server) = started(None, Durability::ThrowAway).await else { return };
    let Some(account) = server.account.clone() else {
        println!("skipped: not root, so the other tests have shown it");
        return;
    };
    let binary = std::env::current_exe().unwrap();
    if account::check_entry(Some(&account), &binary).is_err() {
        println!("skipped: user {} cannot reach {}", account.name, binary.display());
        return;
    }
    let mut again = this_test_binary("starts_goes_away_and_comes_back");
    let output = again.current_dir("/").uid(account.uid).gid(account.gid).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn this_test_binary(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let path = module_path!().split_once("::").unwrap().1;
    command.args([&format!("{path}::{test}"), "--exact", "--nocapture"]);
    command
}
