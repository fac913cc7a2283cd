//! Why a private server cannot be had, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private PostgreSQL server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server programs were found.
    #[error(
        "no PostgreSQL server is installed here ({looked}): install one (`apt install postgresql`, \
         `dnf install postgresql-server`, `brew install postgresql@17`), or set VELIB_POSTGRES_BIN to the folder \
         that has `initdb` and `postgres`, or give the URL of a server of yours"
    )]
    NotInstalled {
        /// Where was looked, or why the download failed.
        looked: String,
    },
    /// A folder or file of the server cannot be used.
    #[error("folder {}: {reason}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why, and the remedy.
        reason: String,
    },
    /// A program did not do its work.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// What it said.
        reason: String,
    },
    /// Another server runs on the same data.
    #[error(
        "folder {} is in use by another server: stop the velib process that runs there, or choose another folder",
        folder.display()
    )]
    InUse {
        /// The data's folder.
        folder: PathBuf,
    },
    /// The port was taken in the meantime.
    #[error("port {port} of 127.0.0.1 is in use by another program: try again, or free it")]
    PortTaken {
        /// Which.
        port: u16,
    },
    /// Something accepts connections and does not answer.
    #[error("port {port} of 127.0.0.1 does not answer as a PostgreSQL server: try again, or free the port")]
    Silent {
        /// Which.
        port: u16,
    },
    /// The server ended or never let us in.
    #[error("the private PostgreSQL server did not start: {reason}; the end of its log:\n{log}")]
    NotStarted {
        /// What was seen from outside.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server does not stop.
    #[error("the private PostgreSQL server in {} does not stop: end the process in its postmaster.pid", folder.display())]
    Stuck {
        /// Its folder.
        folder: PathBuf,
    },
    /// The server runs but refuses what it is asked.
    #[error("the private PostgreSQL server refused a statement: {0}")]
    Statement(#[from] tokio_postgres::Error),
}

impl PostgresError {
    pub(super) fn folder(path: &Path, error: io::Error) -> Self {
        Self::Folder { path: path.to_owned(), reason: error.to_string() }
    }

    pub(super) fn program(program: &str, reason: String) -> Self {
        Self::Program { program: program.to_owned(), reason }
    }

    /// Trying again later may help.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::PortTaken { .. } | Self::Silent { .. } | Self::Statement(_))
    }
}
