//! The table of a view: its columns, its identity, its indexes, and their names.
//!
//! A row is found by its *identity*. Where the view's key cannot be null and PostgreSQL tells its values
//! apart exactly as we do, the identity is the key: the primary key. Else it is one more column,
//! `velib_row`, a hash of the key (of the whole row where there is no key), which finds rows with nulls
//! and floats as well. Rows of a view without a key are counted in `velib_multiplicity`.

use arrow::datatypes::Schema;
use sha2::{Digest, Sha256};

use super::error::Unsupported;
use super::types::Type;
use crate::plan::{Job, View};
use crate::postgres::{identifier, literal};

/// The column that identifies rows which have no primary key of their own.
pub const ROW: &str = "velib_row";
/// The column that counts equal rows of a view without a key.
pub const MULTIPLICITY: &str = "velib_multiplicity";
/// The most bytes of a name in PostgreSQL; longer ones it cuts.
const NAME_BYTES: usize = 63;

/// What a row is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// These columns, the primary key.
    Columns(Vec<usize>),
    /// A hash of these columns, in [`ROW`].
    Hash(Vec<usize>),
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub kind: Type,
    pub required: bool,
    pub comment: Option<String>,
}

/// The table of a view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub schema: String,
    pub name: String,
    /// Those of the view, then [`ROW`] and [`MULTIPLICITY`] where there are.
    pub columns: Vec<Column>,
    /// How many columns are the view's own.
    pub width: usize,
    pub identity: Identity,
    pub multiplicity: bool,
    pub indexes: Vec<Index>,
    pub comment: Option<String>,
    /// The names of the view's key columns.
    pub key: Vec<String>,
}

/// An index beside the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub name: String,
    pub columns: Vec<String>,
}

/// Checks that the views of `job` can be tables.
///
/// # Errors
/// The first type or name that cannot be, by name.
pub fn check(job: &Job) -> Result<(), Unsupported> {
    let name = |what: &str, name: &str, reason| Unsupported::Name { what: what.into(), name: name.into(), reason };
    let reserved = job.name == "velib" || job.name == "information_schema" || job.name.starts_with("pg_");
    if reserved {
        return Err(name("a job", &job.name, "it is the name of its schema, and that schema belongs to another"));
    }
    plain("a job", &job.name)?;
    for view in &job.views {
        plain("a view", &view.name)?;
        Table::new(&job.name, view)?;
    }
    Ok(())
}

fn plain(what: &str, name: &str) -> Result<(), Unsupported> {
    let refuse = |reason| Err(Unsupported::Name { what: what.into(), name: name.into(), reason });
    if name.is_empty() {
        refuse("it is empty")
    } else if name.len() > NAME_BYTES {
        refuse("it has more than 63 bytes, which PostgreSQL would cut")
    } else if name.contains('\0') {
        refuse("it holds the character NUL")
    } else {
        Ok(())
    }
}

impl Table {
    /// The table of `view` of the job `job`.
    ///
    /// # Errors
    /// A column whose type or name cannot be kept.
    pub fn new(job: &str, view: &View) -> Result<Self, Unsupported> {
        let schema: &Schema = &view.schema;
        let mut columns = Vec::with_capacity(schema.fields().len() + 2);
        for (i, field) in schema.fields().iter().enumerate() {
            plain(&format!("a column of view {}", view.name), field.name())?;
            if [ROW, MULTIPLICITY].contains(&field.name().as_str()) {
                let what = format!("a column of view {}", view.name);
                let reason = "the engine adds a column of that name to tables";
                return Err(Unsupported::Name { what, name: field.name().clone(), reason });
            }
            let kind = Type::of(field.data_type()).map_err(|remedy| Unsupported::Type {
                view: view.name.clone(),
                column: field.name().clone(),
                kind: field.data_type().to_string(),
                remedy,
            })?;
            let comment = view.column_comments.get(i).cloned().flatten();
            columns.push(Column { name: field.name().clone(), kind, required: false, comment });
        }
        let width = columns.len();
        let names = |of: &[usize]| of.iter().map(|c| columns[*c].name.clone()).collect::<Vec<_>>();
        let mut indexes: Vec<Vec<String>> = view.indexes.iter().map(|of| names(of)).collect();
        let key = names(&view.key);

        let exact = |c: &usize| columns[*c].kind.equal_means_same() && !schema.field(*c).is_nullable();
        let identity = if !view.key.is_empty() && view.key.iter().all(exact) {
            Identity::Columns(view.key.clone())
        } else if view.key.is_empty() {
            Identity::Hash((0..width).collect())
        } else {
            indexes.insert(0, key.clone());
            Identity::Hash(view.key.clone())
        };
        let mut seen = vec![];
        indexes.retain(|columns| {
            !seen.contains(columns) && {
                seen.push(columns.clone());
                true
            }
        });

        let own = |name: &str, kind, comment: &str| Column {
            name: name.into(),
            kind,
            required: true,
            comment: Some(comment.into()),
        };
        match &identity {
            Identity::Columns(key) => key.iter().for_each(|c| columns[*c].required = true),
            Identity::Hash(_) => {
                columns.push(own(ROW, Type::Uuid, "Identifies the row: a hash of what tells it apart."))
            }
        }
        let multiplicity = view.key.is_empty();
        if multiplicity {
            columns.push(own(MULTIPLICITY, Type::BigInt, "How many equal rows this one stands for."));
        }
        let index = |columns: Vec<String>| Index { name: index_name(&view.name, &columns), columns };
        Ok(Table {
            schema: job.to_string(),
            name: view.name.clone(),
            columns,
            width,
            identity,
            multiplicity,
            indexes: indexes.into_iter().map(index).collect(),
            comment: view.comment.clone(),
            key,
        })
    }

    /// The columns that identify a row, by index.
    pub fn identifying(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Columns(key) => key.clone(),
            Identity::Hash(_) => vec![self.width],
        }
    }

    /// The qualified name.
    pub fn path(&self) -> String {
        self.sibling(&self.name)
    }

    /// Another name in the same schema, qualified.
    pub fn sibling(&self, name: &str) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(name))
    }

    /// The names of `columns`, each through `form`, with commas.
    pub fn list(&self, columns: impl IntoIterator<Item = usize>, form: impl Fn(&str) -> String) -> String {
        columns.into_iter().map(|c| form(&identifier(&self.columns[c].name))).collect::<Vec<_>>().join(", ")
    }

    /// The names of all the columns, each through `form`, with commas.
    pub fn all(&self, form: impl Fn(&str) -> String) -> String {
        self.list(0..self.columns.len(), form)
    }

    /// Creates it under the name `name`, without keys and indexes.
    pub fn create(&self, name: &str) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|c| format!("{} {}{}", identifier(&c.name), c.kind.name(), if c.required { " NOT NULL" } else { "" }))
            .collect();
        // Room on each page lets a changed row stay on its page, and its index entries as they are.
        format!("CREATE TABLE {} ({}) WITH (fillfactor = 80)", self.sibling(name), columns.join(", "))
    }

    /// Gives the table, which is called `name`, its primary key.
    pub fn constrain(&self, name: &str) -> String {
        let key = self.list(self.identifying(), str::to_string);
        let constraint = identifier(&bounded(&format!("{name}_pkey")));
        format!("ALTER TABLE {} ADD CONSTRAINT {constraint} PRIMARY KEY ({key})", self.sibling(name))
    }

    /// Says what the table, its columns and its indexes are.
    pub fn describe(&self) -> String {
        let says = |text: &Option<String>| text.as_deref().map_or_else(|| "NULL".to_string(), literal);
        let mut sql = format!("COMMENT ON TABLE {} IS {}", self.path(), says(&self.comment));
        for column in &self.columns {
            let name = identifier(&column.name);
            sql += &format!("; COMMENT ON COLUMN {}.{name} IS {}", self.path(), says(&column.comment));
        }
        sql
    }
}

impl Index {
    /// Creates it on `table`, which is called `on` for now.
    pub fn create(&self, table: &Table, name: &str, on: &str) -> String {
        let columns: Vec<_> = self.columns.iter().map(|c| identifier(c)).collect();
        format!("CREATE INDEX {} ON {} ({})", identifier(name), table.sibling(on), columns.join(", "))
    }
}

fn index_name(view: &str, columns: &[String]) -> String {
    bounded(&format!("{view}_{}_idx", columns.join("_")))
}

/// `name` if it is short enough, else its beginning and a hash of it all.
pub(super) fn bounded(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_string();
    }
    let hash: String = Sha256::digest(name.as_bytes())[..4].iter().map(|b| format!("{b:02x}")).collect();
    let mut end = NAME_BYTES - 1 - hash.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{hash}", &name[..end])
}
