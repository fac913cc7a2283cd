//! What can go wrong with PostgreSQL: in whose words, whether it may pass, and what to do.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::error::SqlState;

/// Why PostgreSQL did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The address is not one.
    #[error("the address of the database cannot be read: {0}; it looks like postgresql://user@host:5432/database")]
    Address(String),
    /// The address asks for TLS.
    #[error(
        "{server} is to be reached by TLS (sslmode=require), which this engine does not speak yet; \
         use sslmode=prefer or sslmode=disable on a trusted network, or a TLS proxy beside the engine"
    )]
    Tls {
        /// The server, without secrets.
        server: String,
    },
    /// Nobody answers in time.
    #[error("{what} took longer than {after:?} and was given up")]
    Timeout {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// There is no connection to be had.
    #[error("no connection to {server}: {reason}{}", advice(.remedy))]
    Connect {
        /// The server, without secrets.
        server: String,
        /// Why, in the server's or the system's words.
        reason: String,
        /// What to do, where something is known.
        remedy: Option<&'static str>,
        /// It may be otherwise later.
        retriable: bool,
    },
    /// The connection is gone, with what was under way on it.
    #[error("the connection to postgresql was lost: {0}")]
    Lost(String),
    /// The server refused a statement.
    #[error("postgresql refused: {message} (sqlstate {}){}", code.code(), advice(.remedy))]
    Refused {
        /// What kind of refusal.
        code: SqlState,
        /// The server's message and detail.
        message: String,
        /// What to do, where something is known.
        remedy: Option<&'static str>,
    },
    /// The driver and the server did not understand each other.
    #[error("the exchange with postgresql failed: {0}")]
    Protocol(String),
    /// The database belongs to a newer engine.
    #[error(
        "the database is at version {found} of the engine's schema and this engine knows {known}: \
         it was migrated by a newer engine; run that one, or restore the database from before"
    )]
    Newer {
        /// The version of the database.
        found: i32,
        /// The newest version of this engine.
        known: i32,
    },
    /// A row of the engine's own tables says something that this engine does not understand.
    #[error("{0}")]
    Unreadable(String),
}

fn advice(remedy: &Option<&'static str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}

impl PostgresError {
    /// The same may succeed later, without anybody doing anything to the engine.
    pub fn is_retriable(&self) -> bool {
        match self {
            PostgresError::Timeout { .. } | PostgresError::Lost(_) => true,
            PostgresError::Connect { retriable, .. } => *retriable,
            PostgresError::Refused { code, .. } => passes(code),
            _ => false,
        }
    }

    /// The connection cannot be used any more.
    pub fn is_lost(&self) -> bool {
        match self {
            PostgresError::Timeout { .. } | PostgresError::Lost(_) | PostgresError::Protocol(_) => true,
            PostgresError::Refused { code, .. } => code.code().starts_with("57P") || code.code() == "25P03",
            _ => false,
        }
    }

    /// The SQLSTATE of a refused statement.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            PostgresError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// As [`From`], for an error met while connecting to `server`.
    pub(super) fn connecting(server: &str, error: tokio_postgres::Error) -> Self {
        let server = server.to_string();
        match PostgresError::from(error) {
            PostgresError::Refused { code, message, remedy } => {
                PostgresError::Connect { server, reason: message, remedy, retriable: passes(&code) }
            }
            PostgresError::Lost(reason) => {
                PostgresError::Connect { server, reason, remedy: Some("is the server running there?"), retriable: true }
            }
            PostgresError::Protocol(reason) => {
                PostgresError::Connect { server, reason, remedy: None, retriable: false }
            }
            other => other,
        }
    }
}

/// Refusals that pass: lost and refused connections, shutdowns, conflicts with other transactions, locks
/// and time limits, and servers that are short of something or read-only for as long as a failover takes.
fn passes(code: &SqlState) -> bool {
    let code = code.code();
    matches!(&code[..2.min(code.len())], "08" | "40" | "53")
        || code.starts_with("57P")
        || matches!(code, "55P03" | "57014" | "25P03" | "25006" | "58030" | "55006")
}

/// What to do about a refusal.
fn remedy(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "28P01" | "28000" => "check the user, the password and pg_hba.conf of the server",
        "3D000" => "create the database first",
        "42501" => "let the owner of the object grant the right, or run the engine as its owner",
        "53100" => "free space on the disk of the server",
        "53300" => "raise max_connections of the server or run fewer clients",
        "57P03" => "the server is starting up or shutting down; it is tried again",
        "25006" => "the server is read-only: is it a standby?",
        "2BP01" => "drop or change what depends on it first",
        "42P01" | "3F000" => "has the engine's schema been migrated in this database?",
        _ => return None,
    })
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(refusal) = error.as_db_error() {
            let mut message = refusal.message().to_string();
            for more in [refusal.detail(), refusal.hint()].into_iter().flatten() {
                message = format!("{message}: {more}");
            }
            return PostgresError::Refused { code: refusal.code().clone(), message, remedy: remedy(refusal.code()) };
        }
        let mut text = error.to_string();
        let mut source = error.source();
        let mut io = error.is_closed() || text.starts_with("timeout");
        while let Some(cause) = source {
            io |= cause.is::<std::io::Error>();
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        if io { PostgresError::Lost(text) } else { PostgresError::Protocol(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_and_what_does_not() {
        for (code, expected) in [
            ("08006", true),
            ("40001", true),
            ("40P01", true),
            ("53300", true),
            ("57P01", true),
            ("57P03", true),
            ("57014", true),
            ("55P03", true),
            ("23505", false),
            ("42501", false),
            ("28P01", false),
            ("3D000", false),
        ] {
            assert_eq!(passes(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
