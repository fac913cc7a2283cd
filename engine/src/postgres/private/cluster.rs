//! The folder of a server's data: made by `initdb`, or copied from one made a moment ago.
//!
//! `initdb` takes more than a second, a copy a tenth of that. Servers that keep nothing are started by the
//! dozen, by tests, so the first leaves a *template* in the temporary folder for those that follow: a
//! cluster and its password, readable by nobody else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use super::account::{self, Account};
use super::programs::Programs;
use super::{NAME, PostgresError};

/// How long `initdb` or a copy may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Systems clear their temporary folders file by file: a template older than this may have holes.
const TEMPLATE_AGE: Duration = Duration::from_secs(12 * 3600);
/// Letters of a password: 128 bits in hexadecimal.
const PASSWORD_BYTES: usize = 16;

/// Opens the cluster in `folder`, or makes one; returns its password.
pub(super) async fn open_or_create(
    programs: &Programs,
    account: Option<&Account>,
    folder: &Path,
) -> Result<String, PostgresError> {
    let unusable = |error| PostgresError::folder(folder, error);
    fs::create_dir_all(folder).map_err(unusable)?;
    account::check_entry(account, folder)?;
    if folder.join("data/PG_VERSION").exists() {
        return reopen(programs, folder);
    }
    // An interrupted first start leaves a cluster without a version, or nothing but a password.
    let ours = ["data", "password", "server.log"];
    for entry in fs::read_dir(folder).map_err(unusable)?.flatten() {
        if !ours.iter().any(|name| entry.file_name() == *name) {
            let reason = format!(
                "it holds `{}` and is no folder of a velib server: choose an empty one",
                entry.file_name().to_string_lossy()
            );
            return Err(PostgresError::Folder { path: folder.to_owned(), reason });
        }
    }
    account::own(account, folder)?;
    let password = initialise(programs, account, folder).await?;
    // A thousand small files take the disk seconds, during which there is nothing in them to lose.
    let mut sync = account::command(account, &programs.path("initdb"));
    sync.arg("--sync-only").arg("-D").arg(folder.join("data"));
    tokio::spawn(async move {
        if let Err(error) = run("initdb --sync-only", sync).await {
            tracing::warn!(%error, "the new database may not survive a power cut");
        }
    });
    Ok(password)
}

/// The programs must be of the version that made the data.
fn reopen(programs: &Programs, folder: &Path) -> Result<String, PostgresError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| PostgresError::folder(&path, error))
    };
    let version = read("data/PG_VERSION")?;
    if version != programs.major.to_string() {
        let reason = format!(
            "its data is of PostgreSQL {version}, but {} is of version {}: set VELIB_POSTGRES_BIN to the programs of \
             version {version}, or choose another folder",
            programs.folder.display(),
            programs.major
        );
        return Err(PostgresError::Folder { path: folder.to_owned(), reason });
    }
    read("password")
}

/// Makes a cluster in the server's own temporary folder: a copy of the template where there is one, else
/// a new one, which becomes the template. Returns its password.
pub(super) async fn create_temporary(
    programs: &Programs,
    account: Option<&Account>,
    folder: &Path,
) -> Result<String, PostgresError> {
    let owner = fs::metadata(folder).map_err(|error| PostgresError::folder(folder, error))?.uid();
    let shelf = folder.parent().unwrap_or(Path::new("/tmp"));
    let template = shelf.join(format!("velib-postgres-template-{owner}-{}", programs.version));
    if let Some(password) = fit_password(&template, owner)
        && copy(account, &template.join("data"), folder).await.is_ok()
    {
        return Ok(password);
    }
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(|error| PostgresError::folder(&data, error))?;
    }
    let password = initialise(programs, account, folder).await?;
    // The template only saves time: without one, the next server takes longer.
    let _ = leave_template(account, folder, &template).await;
    Ok(password)
}

/// The password of a template that is whole, new, and out of everybody else's reach.
fn fit_password(template: &Path, owner: u32) -> Option<String> {
    let folder = fs::symlink_metadata(template).ok()?;
    let private = folder.is_dir() && folder.uid() == owner && folder.mode() & 0o077 == 0;
    let path = template.join("password");
    let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
    if !private || age > TEMPLATE_AGE {
        return None;
    }
    fs::read_to_string(path).ok().map(|password| password.trim().to_owned())
}

/// Appears under its name whole or not at all.
async fn leave_template(account: Option<&Account>, folder: &Path, template: &Path) -> Result<(), PostgresError> {
    let next = template.with_extension(format!("new-{}", hexadecimal::<4>()?));
    let unusable = |error| PostgresError::folder(&next, error);
    fs::DirBuilder::new().mode(0o700).create(&next).map_err(unusable)?;
    account::own(account, &next)?;
    let outcome = async {
        copy(account, &folder.join("data"), &next).await?;
        copy(account, &folder.join("password"), &next).await?;
        let old = next.with_extension("old");
        if fs::rename(template, &old).is_ok() {
            fs::remove_dir_all(&old).map_err(unusable)?;
        }
        fs::rename(&next, template).map_err(unusable)
    }
    .await;
    if outcome.is_err() {
        fs::remove_dir_all(&next).map_err(unusable)?;
    }
    outcome
}

async fn copy(account: Option<&Account>, from: &Path, to: &Path) -> Result<(), PostgresError> {
    let mut command = account::command(account, Path::new("cp"));
    command.arg("-Rp").arg(from).arg(to);
    run("cp", command).await
}

/// Runs `initdb` with a new password, which stays in `folder/password`.
async fn initialise(programs: &Programs, account: Option<&Account>, folder: &Path) -> Result<String, PostgresError> {
    let password = hexadecimal::<PASSWORD_BYTES>()?;
    let path = folder.join("password");
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    written.and_then(|mut file| writeln!(file, "{password}")).map_err(|error| PostgresError::folder(&path, error))?;
    account::own(account, &path)?;
    let mut command = account::command(account, &programs.path("initdb"));
    command.arg("-D").arg(folder.join("data")).arg("--pwfile").arg(&path);
    command.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", NAME]);
    run("initdb", command).await?;
    Ok(password)
}

async fn run(program: &str, command: std::process::Command) -> Result<(), PostgresError> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let failed = |reason| PostgresError::program(program, reason);
    let late = format!("not done after {} s", LIMIT.as_secs());
    let output = timeout(LIMIT, command.output()).await.map_err(|_| failed(late))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Random bytes fit for a secret.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], PostgresError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| PostgresError::folder(source, error))?;
    Ok(bytes)
}

fn hexadecimal<const N: usize>() -> Result<String, PostgresError> {
    Ok(random_bytes::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
