//! Settings: defaults, then `velib.toml`, then the environment, then flags. `default.toml` holds and
//! explains every one of them; a key that is not there is an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use crate::cluster::checkpoints;
use crate::cluster::tls::{Tls, TlsError};
use crate::lake;
use crate::source::duration;
use crate::timeline;

const DEFAULTS: &str = include_str!("default.toml");

/// The settings of a process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Settings {
    pub database: Database,
    pub cluster: Cluster,
    pub api: Api,
    pub sources: Sources,
    pub lake: Lake,
    pub checkpoints: Checkpoints,
    pub timeline: Timeline,
    pub clock: Clock,
}

/// `[database]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Database {
    pub url: String,
    pub url_file: PathBuf,
}

/// `[cluster]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Cluster {
    pub listen: String,
    pub advertise: String,
    pub heartbeat_ms: u64,
    pub silence_ms: u64,
    pub settle_ms: u64,
    pub processes: usize,
    pub workers: usize,
    pub secret: String,
    pub secret_file: PathBuf,
    pub tls_certificate_file: PathBuf,
    pub tls_key_file: PathBuf,
    pub tls_authority_file: PathBuf,
}

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Api {
    pub listen: String,
    pub advertise: String,
}

/// `[sources]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Sources {
    pub folder: PathBuf,
}

/// `[lake]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Lake {
    pub url: String,
    pub retention: String,
    pub compact_interval_ms: u64,
}

/// `[checkpoints]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Checkpoints {
    pub interval_ms: u64,
    pub keep: usize,
}

/// `[timeline]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Timeline {
    pub in_flight: usize,
    pub tick_ms: u64,
    pub patience_ms: u64,
}

/// `[clock]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Clock {
    pub speed: f64,
    pub start_ms: u64,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named.
    #[error("the {what} {} cannot be read: {error}", path.display())]
    File {
        /// What it is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A key or value that is not one.
    #[error("{origin}: {reason}")]
    Setting {
        /// The file or variable.
        origin: String,
        /// What about it, and what would be right.
        reason: String,
    },
}

impl Settings {
    /// The defaults, under `file`, under those of `variables` whose names start with `VELIB_` and have a
    /// section (`VELIB_CLUSTER__WORKERS`).
    ///
    /// # Errors
    /// An unknown key, a value of another type, an unreadable file.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let defaults: Table = DEFAULTS.parse().expect("the defaults are valid");
        let mut table = defaults.clone();
        if let Some(path) = file {
            let text = read("settings", path)?;
            let origin = path.display().to_string();
            let given: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Setting {
                origin: origin.clone(),
                reason: error.to_string().trim_end().to_string(),
            })?;
            for (section, values) in given {
                let Value::Table(values) = values else {
                    return Err(unknown(&origin, &section, defaults.keys()));
                };
                for (key, value) in values {
                    set(&mut table, &origin, &section, &key, value)?;
                }
            }
        }
        for (name, text) in variables {
            let Some((section, key)) = name.strip_prefix("VELIB_").and_then(|rest| rest.split_once("__")) else {
                continue;
            };
            let (section, key) = (section.to_lowercase(), key.to_lowercase());
            let value = match table.get(&section).and_then(|section| section.get(&key)) {
                Some(Value::String(_)) | None => Value::String(text),
                Some(_) => {
                    format!("value = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("value")).ok_or_else(
                        || ConfigError::Setting { origin: name.clone(), reason: format!("{text:?} is no number") },
                    )?
                }
            };
            set(&mut table, &name, &section, &key, value)?;
        }
        table.try_into().map_err(|error| ConfigError::Setting {
            origin: "settings".to_string(),
            reason: error.to_string().trim_end().to_string(),
        })
    }

    /// The address of the database.
    ///
    /// # Errors
    /// None is given, or its file cannot be read.
    pub fn database_url(&self) -> Result<String, ConfigError> {
        secret("database address", &self.database.url, &self.database.url_file)?.ok_or_else(|| ConfigError::Setting {
            origin: "database.url".to_string(),
            reason: "no database: give --database-url, VELIB_DATABASE_URL, or the setting".to_string(),
        })
    }

    /// What the processes of the cluster know; empty: nothing.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn secret(&self) -> Result<String, ConfigError> {
        Ok(secret("secret of the cluster", &self.cluster.secret, &self.cluster.secret_file)?.unwrap_or_default())
    }
}

impl Cluster {
    /// Between two signs of life.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.max(10))
    }

    /// After which a process is taken for gone: two beats at least.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms).max(2 * self.heartbeat())
    }

    /// What the processes encrypt with, if they do.
    ///
    /// # Errors
    /// Files that cannot be read, are something else, or do not fit together.
    pub fn tls(&self) -> Result<Option<Tls>, TlsError> {
        Tls::load(&self.tls_certificate_file, &self.tls_key_file, &self.tls_authority_file)
    }
}

impl Lake {
    /// Opens it, where there is to be one.
    ///
    /// # Errors
    /// It is no address of one.
    pub fn open(&self) -> Result<Option<lake::Lake>, ConfigError> {
        let wrong =
            |error: lake::LakeError| ConfigError::Setting { origin: "lake.url".into(), reason: error.to_string() };
        Some(self.url.trim()).filter(|url| !url.is_empty()).map(lake::Lake::open).transpose().map_err(wrong)
    }

    /// How long snapshots are kept; none: for ever.
    ///
    /// # Errors
    /// It is no length of time, or shorter than an hour.
    pub fn retention(&self) -> Result<Option<Duration>, ConfigError> {
        let text = self.retention.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || ConfigError::Setting {
            origin: "lake.retention".into(),
            reason: format!("{text:?} is no time of an hour or more: write '400 days', or nothing to keep all"),
        };
        duration(text).filter(|kept| *kept >= Duration::from_secs(3_600)).map(Some).ok_or_else(wrong)
    }

    /// Between two looks for hours that are over; none: nobody looks.
    pub fn compact_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.compact_interval_ms)).filter(|interval| !interval.is_zero())
    }
}

impl Checkpoints {
    /// As jobs take them; none: there are to be none.
    pub fn settings(&self) -> Option<checkpoints::Settings> {
        let every = Duration::from_millis(self.interval_ms);
        Some(checkpoints::Settings { every, keep: self.keep }).filter(|settings| !settings.every.is_zero())
    }
}

impl Timeline {
    /// As the timeline takes them.
    pub fn settings(&self) -> timeline::Settings {
        timeline::Settings {
            in_flight: self.in_flight.max(1),
            tick: Duration::from_millis(self.tick_ms.max(1)),
            patience: Duration::from_millis(self.patience_ms),
        }
    }
}

impl Clock {
    /// The time that `wall_clock_ms` is taken for.
    pub fn time_ms(&self, wall_clock_ms: u64) -> u64 {
        match wall_clock_ms.checked_sub(self.start_ms) {
            Some(since) if self.speed > 0.0 => self.start_ms + (since as f64 * self.speed) as u64,
            _ => wall_clock_ms,
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("url_file", &self.url_file).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::File { what, path: path.to_path_buf(), error })
}

fn secret(what: &'static str, plain: &str, file: &Path) -> Result<Option<String>, ConfigError> {
    if !file.as_os_str().is_empty() {
        return Ok(Some(read(what, file)?.trim().to_string()));
    }
    Ok((!plain.is_empty()).then(|| plain.to_string()))
}

fn set(table: &mut Table, origin: &str, section: &str, key: &str, value: Value) -> Result<(), ConfigError> {
    let sections: Vec<String> = table.keys().cloned().collect();
    let Some(Value::Table(values)) = table.get_mut(section) else {
        return Err(unknown(origin, section, sections.iter()));
    };
    if !values.contains_key(key) {
        return Err(unknown(origin, &format!("{section}.{key}"), values.keys()));
    }
    values.insert(key.to_string(), value);
    Ok(())
}

fn unknown<'a>(origin: &str, key: &str, known: impl Iterator<Item = &'a String>) -> ConfigError {
    let known = known.cloned().collect::<Vec<_>>().join(", ");
    ConfigError::Setting { origin: origin.to_string(), reason: format!("there is no setting {key}; there are {known}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::load(Some(file.path()), variables)
    }

    #[test]
    fn each_layer_goes_over_the_one_before() {
        let settings = load("[cluster]\nworkers = 3\nprocesses = 1", &[("VELIB_CLUSTER__WORKERS", "5")]).unwrap();
        assert_eq!((settings.cluster.workers, settings.cluster.processes), (5, 1));
        assert_eq!(settings.api.listen, "127.0.0.1:7070");
        let settings = load("", &[("VELIB_CLUSTER__LISTEN", "a:1"), ("VELIB_LOG", "debug")]).unwrap();
        assert_eq!(settings.cluster.listen, "a:1");
    }

    #[test]
    fn a_rehearsal_has_a_faster_clock() {
        let clock = Clock { speed: 60.0, start_ms: 1_000_000 };
        assert_eq!([999_999, 1_000_000, 1_001_000].map(|ms| clock.time_ms(ms)), [999_999, 1_000_000, 1_060_000]);
        assert_eq!(load("", &[]).unwrap().clock.time_ms(1_764_000_000_000), 1_764_000_000_000);
    }

    #[test]
    fn what_is_not_a_setting_is_an_error_that_names_it() {
        for (text, variables, says) in [
            ("[cluster]\nworker = 3", vec![], "there is no setting cluster.worker; there are"),
            ("[clutser]\nworkers = 3", vec![], "there is no setting clutser; there are"),
            ("workers = 3", vec![], "there is no setting workers; there are"),
            ("[cluster]\nworkers = \"many\"", vec![], "invalid type: string \"many\""),
            ("", vec![("VELIB_API__PORT", "1")], "VELIB_API__PORT: there is no setting api.port"),
            ("", vec![("VELIB_CLUSTER__WORKERS", "x y")], "VELIB_CLUSTER__WORKERS: \"x y\" is no number"),
        ] {
            let error = load(text, &variables).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
