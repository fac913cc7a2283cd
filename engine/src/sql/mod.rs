//! Job text to plan: parse, bind against what the sources offer, plan and optimise with DataFusion, lower
//! to [`crate::plan`].
//!
//! Invariants: nothing here does I/O; a query that cannot be maintained exactly is refused by name, with
//! its place in the text and the remedy, never planned as something else.

mod aggregates;
mod arithmetic;
mod bind;
mod casts;
mod depth;
mod domains;
mod error;
mod filters;
mod functions;
mod interval_times;
mod intervals;
mod json;
mod lengths;
mod lower;
mod operators;
mod own_functions;
mod parse;
mod relations;
mod session;
mod set_operations;
mod statement;
mod subqueries;
mod table_functions;
mod temporal;
mod to_char;
mod tokens;
mod with;
mod zones;

pub use bind::{Binding, bind_job, bind_query};
pub(crate) use error::did_you_mean;
pub use error::{Place, SqlError};
pub use own_functions::Function;
pub use parse::parse;
pub use session::{Session, query};
pub use statement::{Explained, Kind, Statement, ViewOptions};
pub use tokens::{ends, is_blank};
pub(crate) use zones::TIMEZONE;

use crate::source::Options;

/// A `CREATE SOURCE` of a text, for the caller to bind with its connector and resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatement {
    /// Its name in the job.
    pub name: String,
    /// The kind, in capitals.
    pub connector: String,
    /// The settings.
    pub options: Options,
    statement: usize,
}

/// The sources that a text creates, in its order.
///
/// # Errors
/// Two sources of one name.
pub fn sources(statements: &[Statement]) -> Result<Vec<SourceStatement>, SqlError> {
    let mut sources: Vec<SourceStatement> = vec![];
    for (index, statement) in statements.iter().enumerate() {
        let Kind::CreateSource { name, connector, options } = &statement.kind else { continue };
        if sources.iter().any(|s| s.name == *name) {
            return Err(statement.error_at(name, format!("there is a source {name} already"), None));
        }
        let (name, connector, options) = (name.clone(), connector.clone(), options.clone());
        sources.push(SourceStatement { name, connector, options, statement: index });
    }
    Ok(sources)
}

impl SourceStatement {
    /// An error of this source, shown at its statement among `statements`.
    pub fn error(&self, statements: &[Statement], message: impl Into<String>) -> SqlError {
        statements[self.statement].error_at(&self.name, message, None)
    }
}

/// A fixed length of time in milliseconds: `'2 days'`, `'90 min'`, `'1 hour 30 minutes'`.
pub fn duration_ms(text: &str) -> Option<u64> {
    let spaced: String = text
        .char_indices()
        .flat_map(|(i, c)| {
            let before = text[..i].chars().next_back();
            let turn = before.is_some_and(|b| (b.is_ascii_digit() || b == '.') && c.is_alphabetic());
            turn.then_some(' ').into_iter().chain([c])
        })
        .collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let mut total = 0.0;
    for pair in words.chunks(2) {
        let number: f64 = pair[0].parse().ok().filter(|n: &f64| *n >= 0.0)?;
        total += number * unit_ms(pair[1])?;
    }
    (total > 0.0 && total < 1e15).then_some(total as u64)
}

fn unit_ms(unit: &str) -> Option<f64> {
    Some(match unit.to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
        "h" | "hour" | "hours" => 3600e3,
        "d" | "day" | "days" => 86_400e3,
        "w" | "week" | "weeks" => 604_800e3,
        _ => return None,
    })
}
