//! What is wrong with a text: where, what, and what to do about it.

use std::fmt;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{DataFusionError, SchemaError};

/// A text that is refused. Shown as the compiler of Rust shows its errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// From 1; 0: it concerns the text as a whole.
    pub line: usize,
    /// From 1, in characters; 0: it concerns the line as a whole.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
    /// What is wrong, with which named thing, and why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The line of the text.
    pub excerpt: String,
}

impl SqlError {
    /// An error about the whole text.
    pub fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        let message = message.into();
        SqlError { line: 0, column: 0, width: 1, message, hint, excerpt: String::new() }
    }

    /// The same error, at a position of `text`.
    pub fn at(mut self, text: &str, place: Place) -> Self {
        if place.line > 0 {
            self.line = place.line;
            self.column = place.column;
            self.width = place.width.max(1);
            self.excerpt = text.lines().nth(place.line - 1).unwrap_or_default().to_owned();
        }
        self
    }
}

impl std::error::Error for SqlError {}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if self.line > 0 {
            let before: String = self
                .excerpt
                .chars()
                .take(self.column.saturating_sub(1))
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            write!(f, "\n{margin}--> line {number}, column {}", self.column)?;
            write!(f, "\n{margin} |\n{number} | {}", self.excerpt)?;
            write!(f, "\n{margin} | {before}{}", "^".repeat(self.width))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{margin} = help: {hint}")?;
        }
        Ok(())
    }
}

/// A stretch of a line of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1; 0: nowhere in particular.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// Characters.
    pub width: usize,
}

/// Why a query cannot be maintained, on its way through DataFusion's own errors.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub message: String,
    pub hint: Option<String>,
    /// A word of the statement that the refusal is about, to show its place.
    pub word: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// An error of planning that names its remedy and, where there is one, the word that it is about.
pub(crate) fn refuse(message: impl Into<String>, hint: &str, word: &str) -> DataFusionError {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DataFusionError::External(Box::new(Refusal { message: message.into(), hint: some(hint), word: some(word) }))
}

/// The name of `offered` that `wanted` was probably meant to be.
pub(crate) fn did_you_mean<'a>(wanted: &str, offered: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let distance = |name: &str| levenshtein(&wanted.to_lowercase(), &name.to_lowercase());
    let nearest = offered.into_iter().map(|name| (distance(name), name)).min()?;
    (nearest.0 <= 1 + wanted.len() / 3).then(|| format!("did you mean {}?", nearest.1))
}

/// The message, remedy and word (to look for in the text) of an error of DataFusion.
pub(crate) fn explain(error: &DataFusionError) -> Refusal {
    let root = error.find_root();
    if let DataFusionError::External(inner) = root
        && let Some(refusal) = inner.downcast_ref::<Refusal>()
    {
        return Refusal { message: refusal.message.clone(), hint: refusal.hint.clone(), word: refusal.word.clone() };
    }
    if let DataFusionError::SchemaError(schema, _) = root {
        return explain_schema(schema);
    }
    let text = root.strip_backtrace();
    let text = ["Error during planning: ", "This feature is not implemented: ", "Execution error: ", "SQL error: "]
        .iter()
        .fold(text.as_str(), |t, prefix| t.strip_prefix(prefix).unwrap_or(t));
    let quoted = |text: &str, quote: char| text.split(quote).nth(1).map(str::to_owned);
    if let Some((_, rest)) = text.split_once("While expanding wildcard, column ")
        && let Some(column) = quoted(rest, '"')
    {
        let name = column.rsplit('.').next().unwrap_or(&column).to_owned();
        let hint = Some(format!("group by {name} too, or take one value of each group, as in max({name})"));
        return Refusal {
            message: format!("column {name} is neither grouped by nor aggregated"),
            hint,
            word: Some(name),
        };
    }
    let (message, hint) = match text.split_once("Did you mean ") {
        None => (text, None),
        Some((message, name)) => (message, quoted(name, '\'').map(|name| format!("did you mean {name}?"))),
    };
    let message = message.split(" No function matches").next().unwrap_or(message);
    let message = message.lines().next().unwrap_or(message).trim_end().trim_end_matches('.');
    Refusal { message: lower_first(message), hint, word: quoted(message, '\'') }
}

fn explain_schema(error: &SchemaError) -> Refusal {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let of = field.relation.as_ref().map(|r| format!(" of {r}")).unwrap_or_default();
            let hint = did_you_mean(&field.name, valid_fields.iter().map(|f| f.name.as_str())).or_else(|| {
                let mut names: Vec<&str> = valid_fields.iter().map(|f| f.name.as_str()).collect();
                names.dedup();
                (!names.is_empty()).then(|| format!("there are {}", names.join(", ")))
            });
            Refusal { message: format!("no column {}{of}", field.name), hint, word: Some(field.name.clone()) }
        }
        SchemaError::AmbiguousReference { field } => Refusal {
            message: format!("column {} is ambiguous: several relations have one of that name", field.name),
            hint: Some(format!("say which, as in relation.{}", field.name)),
            word: Some(field.name.clone()),
        },
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Refusal {
                message: format!("two columns are named {name}"),
                hint: Some("give one of them another name with AS".to_owned()),
                word: Some(name.clone()),
            }
        }
    }
}

/// The text with its first letter lower, unless it starts with a word in capitals.
pub(crate) fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
