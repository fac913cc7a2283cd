//! Where this machine has a PostgreSQL server's programs.
//!
//! In order: the folder in `VELIB_POSTGRES_BIN`, what `pg_config` says, the search path, the places where
//! packages put them (newest version first), and, with the feature `download`, the user's cache, filled
//! from the internet if need be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresError;

/// The folder to use, for those who have several or an odd one.
const VARIABLE: &str = "VELIB_POSTGRES_BIN";
/// Older servers are passed over: they are no longer maintained.
const OLDEST: u32 = 13;
/// Where packages put them; each has a version in its path.
const PLACES: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Library/PostgreSQL/*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// The programs of one installation.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub folder: PathBuf,
    /// `15.14`.
    pub version: String,
    /// `15`.
    pub major: u32,
}

impl Programs {
    /// The path of one.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// Takes a folder that has what is needed, of a version that will do.
    fn look(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        // `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`
        let answer = answer_of(&folder.join("postgres"), "--version")?;
        let version = answer.split_whitespace().nth(2)?.to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let major = digits.parse().ok().filter(|major| *major >= OLDEST)?;
        Some(Self { folder: folder.to_owned(), version, major })
    }
}

/// Finds (or downloads) programs. `shared`: they will run as another user than ourselves.
pub(super) async fn find(shared: bool) -> Result<Programs, PostgresError> {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        let folder = PathBuf::from(folder);
        return Programs::look(&folder).ok_or_else(|| {
            let reason =
                format!("{VARIABLE} names it, but it has no `initdb` and `postgres` of version {OLDEST} or newer");
            PostgresError::Folder { path: folder, reason }
        });
    }
    match installed().iter().find_map(|folder| Programs::look(folder)) {
        Some(programs) => Ok(programs),
        None => downloaded(shared).await,
    }
}

fn installed() -> Vec<PathBuf> {
    let told = answer_of(Path::new("pg_config"), "--bindir").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = told.into_iter().chain(std::env::split_paths(&path)).collect();
    for place in PLACES {
        let mut found: Vec<PathBuf> = glob::glob(place).into_iter().flatten().flatten().collect();
        found.sort_by_key(|folder| std::cmp::Reverse(version_in(folder)));
        folders.extend(found);
    }
    folders
}

/// The last number in a path, so that 15 comes after 9.6.
fn version_in(folder: &Path) -> u32 {
    let text = folder.to_string_lossy();
    let numbers = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let major = numbers.filter_map(|word| word.split('.').next()?.parse().ok()).next_back();
    major.unwrap_or(0)
}

fn answer_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let answer = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !answer.is_empty()).then_some(answer)
}

#[cfg(not(feature = "download"))]
async fn downloaded(_shared: bool) -> Result<Programs, PostgresError> {
    let looked = format!("looked in pg_config, PATH, {}", PLACES.join(", "));
    Err(PostgresError::NotInstalled { looked })
}

#[cfg(feature = "download")]
use download::downloaded;

#[cfg(feature = "download")]
mod download {
    //! Fetches the programs once into the user's cache.

    use std::collections::HashMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use postgresql_embedded::{PostgreSQL, Settings, V17};
    use tokio::time::timeout;

    use super::{PostgresError, Programs};

    const RELEASES: &str = "https://github.com/theseus-rs/postgresql-binaries";
    /// Some 30 MB over a slow line.
    const LIMIT: Duration = Duration::from_secs(600);

    pub(super) async fn downloaded(shared: bool) -> Result<Programs, PostgresError> {
        let cache = cache_folder(shared);
        if let Some(programs) = cached(&cache) {
            return Ok(programs);
        }
        tracing::info!(folder = %cache.display(), "no PostgreSQL is installed here: downloading one");
        let failed = |reason: String| PostgresError::NotInstalled { looked: format!("download failed: {reason}") };
        let fetched = timeout(LIMIT, fetch(&cache)).await;
        fetched.map_err(|_| failed(format!("not done after {} s", LIMIT.as_secs())))?.map_err(failed)?;
        cached(&cache).ok_or_else(|| failed(format!("what came into {} does not run here", cache.display())))
    }

    fn cached(cache: &Path) -> Option<Programs> {
        let folders = fs::read_dir(cache).ok()?.flatten();
        folders.filter_map(|entry| Programs::look(&entry.path().join("bin"))).max_by_key(|programs| programs.major)
    }

    /// Unpacks into a folder beside and renames it, so that the cache never holds half an installation.
    async fn fetch(cache: &Path) -> Result<(), String> {
        fs::create_dir_all(cache).map_err(|error| error.to_string())?;
        let place = tempfile::Builder::new().prefix(".incoming-").tempdir_in(cache);
        let place = place.map_err(|error| error.to_string())?;
        // The crate installs and initialises in one go. A cluster that seems to be there already leaves it
        // with the installation, all that is wanted of it.
        let seeming = place.path().join("data");
        fs::create_dir(&seeming)
            .and_then(|()| fs::write(seeming.join("postgresql.conf"), ""))
            .map_err(|e| e.to_string())?;
        let mut installer = PostgreSQL::new(Settings {
            releases_url: RELEASES.to_owned(),
            version: V17.clone(),
            installation_dir: place.path().join("programs"),
            password_file: place.path().join("password"),
            data_dir: seeming,
            host: "127.0.0.1".to_owned(),
            port: 0,
            username: "postgres".to_owned(),
            password: String::new(),
            temporary: false,
            timeout: Some(LIMIT),
            configuration: HashMap::new(),
            trust_installation_dir: false,
            socket_dir: None,
        });
        installer.setup().await.map_err(|error| error.to_string())?;
        let programs = &installer.settings().installation_dir;
        let name = programs.file_name().ok_or("the installation has no name")?;
        match fs::rename(programs, cache.join(name)) {
            Err(error) if !cache.join(name).exists() => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Root's own cache is closed to the user that the server will run as.
    fn cache_folder(shared: bool) -> PathBuf {
        let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let cache = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
            _ if shared => PathBuf::from("/var/cache"),
            Some(cache) => cache,
            None if cfg!(target_os = "macos") => {
                home().map_or_else(std::env::temp_dir, |home| home.join("Library/Caches"))
            }
            None => home().map_or_else(std::env::temp_dir, |home| home.join(".cache")),
        };
        cache.join("velib/postgresql")
    }
}
