//! The statements that a text consists of.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{ColumnDef, Expr, ObjectName, Query, Visit, visit_relations};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error::{Place, SqlError, explain};
use super::own_functions::Function;
use super::tokens;
use crate::source::Options;

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What it says.
    pub kind: Kind,
    /// The whole text that it is from.
    pub text: Arc<str>,
    tokens: Arc<[TokenWithSpan]>,
}

/// What a statement says. Names are as they are looked up: lower case unless quoted.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `CREATE SOURCE name FROM KIND (…)`
    CreateSource {
        /// Its name in the job.
        name: String,
        /// The kind, in capitals.
        connector: String,
        /// The settings, as text.
        options: Options,
    },
    /// `SET PARAMETER name = literal`, already put in its places.
    SetParameter {
        /// Without the `$`.
        name: String,
        /// The value in force, as SQL.
        value: String,
    },
    /// `CREATE [MATERIALIZED] VIEW`
    CreateView {
        /// Its name in the job.
        name: String,
        /// Names for its columns, or none.
        columns: Vec<String>,
        /// Maintained, and a table in PostgreSQL.
        materialized: bool,
        /// `WITH (…)`
        options: ViewOptions,
        /// Its definition, which may be large.
        query: Arc<Query>,
    },
    /// `CREATE FUNCTION`
    CreateFunction {
        /// Its name.
        name: String,
        /// What it is.
        function: Box<Function>,
    },
    /// `SET name = value` of a setting of PostgreSQL's, which means nothing here.
    Set,
    /// `CREATE TABLE`
    CreateTable {
        /// If there is one of that name, nothing happens.
        if_not_exists: bool,
        /// Its name.
        name: String,
        /// Its columns.
        columns: Vec<ColumnDef>,
        /// Names of the columns of the primary key, or none.
        key: Vec<String>,
        /// `WITH (…)`, as text.
        options: Options,
    },
    /// `CREATE INDEX ON view (columns)`
    CreateIndex {
        /// The view.
        view: String,
        /// Names of its columns.
        columns: Vec<String>,
    },
    /// `COMMENT ON [MATERIALIZED] VIEW name` or `COMMENT ON COLUMN view.column`
    Comment {
        /// The view.
        view: String,
        /// Of this column of it.
        column: Option<String>,
        /// The words.
        comment: Option<String>,
    },
    /// `INSERT INTO table …`
    Insert {
        /// The table.
        table: String,
        /// Names of the columns that are given; none: all.
        columns: Vec<String>,
        /// The rows.
        query: Box<Query>,
    },
    /// `UPDATE table SET … WHERE …`
    Update {
        /// The table.
        table: String,
        /// Column and its new value.
        assignments: Vec<(String, Expr)>,
        /// Which rows.
        filter: Option<Expr>,
    },
    /// `DELETE FROM table WHERE …`
    Delete {
        /// The table.
        table: String,
        /// Which rows.
        filter: Option<Expr>,
    },
    /// A query that is asked once.
    Select(Box<Query>),
    /// `EXPLAIN` a query, or a view by its name.
    Explain(Explained),
    /// `DROP kind name`
    Drop {
        /// `view`, `table`, `function` or `source`.
        what: String,
        /// Its name.
        name: String,
        /// If there is none of that name, nothing happens.
        if_exists: bool,
    },
    /// `SHOW what`
    Show(String),
}

/// What `EXPLAIN` is about.
#[derive(Clone, Debug)]
pub enum Explained {
    /// A query.
    Query(Box<Query>),
    /// A view, by its name.
    View(String),
}

/// `WITH (…)` of a materialized view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewOptions {
    /// `key`: names of the columns of the primary key.
    pub key: Option<Vec<String>>,
    /// `retain`: milliseconds that a row outlives its time.
    pub retain_ms: Option<u64>,
    /// `retain_column`: the column that tells a row's time.
    pub retain_column: Option<String>,
    /// `metrics`: names of the columns that are shown as metrics.
    pub metrics: Option<Vec<String>>,
    /// `metrics_name`: the column that names a row there.
    pub metrics_name: Option<String>,
}

impl Kind {
    /// The query in the statement.
    pub(super) fn query_mut(&mut self) -> Option<&mut Query> {
        match self {
            Kind::CreateView { query, .. } => Some(Arc::make_mut(query)),
            Kind::Select(query) | Kind::Explain(Explained::Query(query)) | Kind::Insert { query, .. } => Some(query),
            _ => None,
        }
    }
}

impl Statement {
    pub(super) fn new(kind: Kind, text: Arc<str>, tokens: &[TokenWithSpan]) -> Self {
        Statement { kind, text, tokens: tokens.into() }
    }

    /// The relations that the statement reads or changes, and the names of its own `WITH` queries.
    pub fn relations(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        match &self.kind {
            Kind::CreateView { query, .. } => collect_relations(query.as_ref(), &mut names),
            Kind::Select(query) | Kind::Explain(Explained::Query(query)) => collect_relations(query, &mut names),
            Kind::Explain(Explained::View(view)) => {
                names.insert(view.clone());
            }
            Kind::Insert { table, query, .. } => {
                collect_relations(query, &mut names);
                names.insert(table.clone());
            }
            Kind::Update { table, assignments, filter } => {
                collect_relations(filter, &mut names);
                assignments.iter().for_each(|(_, value)| collect_relations(value, &mut names));
                names.insert(table.clone());
            }
            Kind::Delete { table, filter } => {
                collect_relations(filter, &mut names);
                names.insert(table.clone());
            }
            _ => {}
        }
        names
    }

    /// An error of this statement, at its first word.
    pub(super) fn error(&self, message: impl Into<String>, hint: Option<String>) -> SqlError {
        let first = self.tokens.iter().find(|t| !matches!(t.token, Token::Whitespace(_)));
        SqlError::new(message, hint).at(&self.text, first.map(tokens::place).unwrap_or_default())
    }

    /// An error of this statement, at the first occurrence of `word`.
    pub(super) fn error_at(&self, word: &str, message: impl Into<String>, hint: Option<String>) -> SqlError {
        let found = self.tokens.iter().find(|t| match &t.token {
            Token::Word(w) => w.value.eq_ignore_ascii_case(word),
            Token::SingleQuotedString(s) => s == word,
            _ => false,
        });
        match found {
            Some(token) => SqlError::new(message, hint).at(&self.text, tokens::place(token)),
            None => self.error(message, hint),
        }
    }

    /// What DataFusion says about this statement, in its place.
    pub(super) fn planning_error(&self, error: &datafusion::error::DataFusionError) -> SqlError {
        let refusal = explain(error);
        let span = error.diagnostic().and_then(|d| d.span).filter(|s| s.start.line > 0);
        if let Some(span) = span {
            let width = if span.end.line == span.start.line { span.end.column - span.start.column } else { 1 };
            let place =
                Place { line: span.start.line as usize, column: span.start.column as usize, width: width as usize };
            return SqlError::new(refusal.message, refusal.hint).at(&self.text, place);
        }
        match &refusal.word {
            Some(word) => self.error_at(word, refusal.message, refusal.hint),
            None => self.error(refusal.message, refusal.hint),
        }
    }
}

fn collect_relations(node: &impl Visit, names: &mut BTreeSet<String>) {
    let _: ControlFlow<()> = visit_relations(node, |relation: &ObjectName| {
        names.insert(super::parse::object(relation));
        ControlFlow::Continue(())
    });
}
