//! Who the server runs as: ourselves, or an unprivileged user where we are root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::PostgresError;

/// An unprivileged user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// In order of preference.
const NAMES: [&str; 2] = ["postgres", "nobody"];
/// What `nobody` is where no list of users says otherwise.
const NOBODY: u32 = 65_534;

/// Makes a temporary folder that the server's user owns, with a path of at most `limit` bytes; also tells
/// who that user is: `None` for ourselves, an account where we are root.
pub(super) fn temporary_folder(limit: usize) -> Result<(TempDir, Option<Account>), PostgresError> {
    let preferred = std::env::temp_dir();
    let short = Path::new("/tmp");
    let mut folder = make(&preferred)?;
    // A file belongs to the user who makes it: that is who we are.
    let we_are_root = fs::metadata(folder.path()).map_err(|error| PostgresError::folder(&preferred, error))?.uid() == 0;
    let account = we_are_root.then(unprivileged);
    let unfit = folder.path().as_os_str().len() > limit || check_entry(account.as_ref(), &preferred).is_err();
    if unfit && preferred != short {
        folder = make(short)?;
    }
    own(account.as_ref(), folder.path())?;
    Ok((folder, account))
}

fn make(parent: &Path) -> Result<TempDir, PostgresError> {
    tempfile::Builder::new().prefix("velib-").tempdir_in(parent).map_err(|error| PostgresError::folder(parent, error))
}

fn unprivileged() -> Account {
    let list = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = NAMES.iter().find_map(|name| list.lines().find_map(|line| parse(line).filter(|a| a.name == *name)));
    found.unwrap_or(Account { name: "nobody".to_owned(), uid: NOBODY, gid: NOBODY })
}

/// `name:password:uid:gid:…`
fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    (uid != 0).then_some(Account { name, uid, gid })
}

/// Gives a folder or file to the server's user.
pub(super) fn own(account: Option<&Account>, path: &Path) -> Result<(), PostgresError> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(account.uid), Some(account.gid)).map_err(|error| PostgresError::folder(path, error))
}

/// The server's user must be able to enter every folder on the way: `/root`, say, lets nobody in.
pub(super) fn check_entry(account: Option<&Account>, path: &Path) -> Result<(), PostgresError> {
    let Some(account) = account else { return Ok(()) };
    for folder in path.ancestors() {
        let Ok(metadata) = fs::metadata(folder) else { continue };
        let bit = match () {
            () if metadata.uid() == account.uid => 0o100,
            () if metadata.gid() == account.gid => 0o010,
            () => 0o001,
        };
        if metadata.mode() & bit == 0 {
            let reason = format!(
                "as root, the server runs as user `{}`, who may not enter {}: choose a folder elsewhere, or do not \
                 run as root",
                account.name,
                folder.display()
            );
            return Err(PostgresError::Folder { path: path.to_owned(), reason });
        }
    }
    Ok(())
}

/// A program to run as the server's user, out of reach of our terminal's Ctrl-C and of our environment's
/// settings for PostgreSQL.
pub(super) fn command(account: Option<&Account>, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").process_group(0).stdin(Stdio::null()).env("LC_ALL", "C");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}
