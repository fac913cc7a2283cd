//! PostgreSQL: connections, the engine's own schema, and what the engine keeps in it.

pub mod connect;
pub mod error;
pub mod job;
pub mod membership;
pub mod migrate;
pub mod private;
pub mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod throwaway;

pub use connect::{Backoff, connect, describe, retry};
pub use error::PostgresError;
pub use store::Store;

/// The schema of the engine's own tables.
pub const SCHEMA: &str = "velib";

/// The role that may only read: what dashboards connect as is made a member of it.
pub const READER: &str = "velib_reader";

/// `name` as an identifier of SQL: quoted, with quotes doubled.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a literal of SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod quoting {
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out_of_their_quotes() {
        assert_eq!(identifier("a\"b; drop"), "\"a\"\"b; drop\"");
        assert_eq!(literal("l'heure"), "'l''heure'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
