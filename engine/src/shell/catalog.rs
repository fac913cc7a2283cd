//! What the shell knows by name, in the order in which it was created.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;

use super::ShellError;
use super::maintained::Maintained;
use super::table::Table;
use crate::plan::Job;
use crate::sql::{self, Binding, Kind, Session, SqlError, Statement, ViewOptions};

/// Something with a name.
pub(super) enum Object {
    /// Rows.
    Table(String, Box<Table>),
    /// A name for a query.
    View(String, Box<Statement>),
    /// A query that is kept up to date.
    Maintained(String, Box<Statement>, Maintained),
}

impl Object {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Object::Table(name, _) | Object::View(name, _) | Object::Maintained(name, ..) => name,
        }
    }

    /// What it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Table(..) => "table",
            Object::View(..) => "view",
            Object::Maintained(..) => "materialized view",
        }
    }

    /// The query that it stands for.
    fn definition(&self) -> Option<&Statement> {
        match self {
            Object::Table(..) => None,
            Object::View(_, statement) | Object::Maintained(_, statement, _) => Some(statement),
        }
    }
}

/// Everything by name.
#[derive(Default)]
pub(super) struct Catalog {
    objects: Vec<Object>,
    /// In the order in which they were created: each may call those before it.
    functions: Vec<(String, Statement)>,
}

impl Catalog {
    /// All of it.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    /// The materialized views.
    pub fn maintained(&self) -> impl Iterator<Item = &Maintained> {
        self.objects.iter().filter_map(|object| match object {
            Object::Maintained(_, _, view) => Some(view),
            _ => None,
        })
    }

    /// Adds what was checked to be new.
    pub fn add(&mut self, object: Object) {
        self.objects.push(object);
    }

    /// The functions, in their order.
    pub fn functions(&self) -> impl Iterator<Item = &Statement> {
        self.functions.iter().map(|(_, statement)| statement)
    }

    /// Adds a function, which was checked.
    pub fn add_function(&mut self, name: &str, statement: &Statement) -> Result<(), ShellError> {
        if self.functions.iter().any(|(other, _)| other == name) {
            return Err(ShellError::Refused(format!("function \"{name}\" already exists")));
        }
        self.functions.push((name.to_owned(), statement.clone()));
        Ok(())
    }

    /// Forgets a function. Views that call it and are kept up to date go on; others cannot be asked any more.
    pub fn remove_function(&mut self, name: &str) -> Result<(), ShellError> {
        let place = self.functions.iter().position(|(other, _)| other == name);
        let place = place.ok_or_else(|| ShellError::Refused(format!("function \"{name}\" does not exist")))?;
        self.functions.remove(place);
        Ok(())
    }

    /// Whether there is a relation or function of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some() || self.functions.iter().any(|(other, _)| other == name)
    }

    /// No relation has the name yet.
    pub fn check_free(&self, name: &str) -> Result<(), ShellError> {
        match self.find(name) {
            None => Ok(()),
            Some(_) => Err(ShellError::Refused(format!("relation \"{name}\" already exists"))),
        }
    }

    /// A table.
    pub fn table(&mut self, name: &str) -> Result<&mut Table, ShellError> {
        match self.objects.iter_mut().find(|object| object.name() == name) {
            Some(Object::Table(_, table)) => Ok(table),
            Some(other) => Err(ShellError::Refused(format!("\"{name}\" is a {}, not a table", other.kind()))),
            None => Err(missing(name)),
        }
    }

    /// The definition of a view.
    pub fn view(&self, name: &str) -> Result<&Statement, ShellError> {
        let object = self.find(name).ok_or_else(|| missing(name))?;
        object.definition().ok_or_else(|| ShellError::Refused(format!("\"{name}\" is a table, not a view")))
    }

    /// Forgets a relation that no other reads; what was kept up to date is to be let go.
    pub fn remove(&mut self, what: &str, name: &str) -> Result<Option<Maintained>, ShellError> {
        let place = self.objects.iter().position(|object| object.name() == name).ok_or_else(|| missing(name))?;
        let kind = self.objects[place].kind();
        if (what == "table") != (kind == "table") {
            return Err(ShellError::Refused(format!("\"{name}\" is a {kind}, not a {what}")));
        }
        let readers = self.objects.iter().filter(|o| o.definition().is_some_and(|d| d.relations().contains(name)));
        let readers: Vec<&str> = readers.map(Object::name).collect();
        if !readers.is_empty() {
            return Err(ShellError::Refused(format!(
                "cannot drop {what} {name} because other objects depend on it: {}",
                readers.join(", ")
            )));
        }
        Ok(match self.objects.remove(place) {
            Object::Maintained(_, _, view) => Some(view),
            _ => None,
        })
    }

    /// What `statement` reads, each before what reads it; `through`: and what the materialized views
    /// among it read.
    pub fn read_by(&self, statement: &Statement, through: bool) -> Vec<&Object> {
        let mut wanted: BTreeSet<String> = statement.relations();
        let mut found = vec![];
        for object in self.objects.iter().rev().filter(|object| !is(object, statement)) {
            if wanted.contains(object.name()) {
                match object {
                    Object::Maintained(..) if !through => {}
                    _ => wanted.extend(object.definition().map(Statement::relations).unwrap_or_default()),
                }
                found.push(object);
            }
        }
        found.reverse();
        found
    }

    /// The job of a materialized view: the tables are its sources, the views that it reads are inlined.
    pub fn bind(&self, view: &Statement) -> Result<Job, SqlError> {
        let Kind::CreateView { name, .. } = &view.kind else { unreachable!("the caller looked") };
        let (mut statements, binding) = self.surroundings(view);
        statements.push(as_view(view, true));
        sql::bind_job(name, &statements, &binding)
    }

    /// The job that would maintain a query.
    pub fn bind_query(&self, query: &Statement) -> Result<Job, SqlError> {
        let (statements, binding) = self.surroundings(query);
        sql::bind_query(&statements, query, &binding)
    }

    fn surroundings(&self, statement: &Statement) -> (Vec<Statement>, Binding) {
        let (mut resolved, mut statements) = (BTreeMap::new(), self.functions().cloned().collect::<Vec<_>>());
        for object in self.read_by(statement, true) {
            match object {
                Object::Table(name, table) => {
                    resolved.insert(name.clone(), table.offers());
                }
                Object::View(_, view) | Object::Maintained(_, view, _) => statements.push(as_view(view, false)),
            }
        }
        let bounded = resolved.keys().cloned().collect();
        (statements, Binding { resolved, bounded, functions: vec![] })
    }

    /// A session in which `statement` can be planned, without rows.
    pub fn session_of_schemas(&self, statement: &Statement) -> Result<Session, ShellError> {
        let mut session = Session::new(&[], 0);
        self.functions().try_for_each(|function| session.add_function(function))?;
        for object in self.read_by(statement, false) {
            match object {
                Object::Table(name, table) => session.add_table(name, table.schema(), vec![])?,
                Object::View(_, view) => session.add_view(view)?,
                Object::Maintained(name, _, view) => {
                    session.add_table(name, view.job().views[0].schema.clone(), vec![])?;
                }
            }
        }
        Ok(session)
    }

    /// The columns of a relation.
    pub fn columns(&self, name: &str) -> Result<SchemaRef, ShellError> {
        match self.find(name).ok_or_else(|| missing(name))? {
            Object::Table(_, table) => Ok(table.schema()),
            Object::View(_, view) => Ok(self.bind(view)?.views[0].schema.clone()),
            Object::Maintained(_, _, view) => Ok(view.job().views[0].schema.clone()),
        }
    }

    fn find(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name() == name)
    }
}

fn missing(name: &str) -> ShellError {
    ShellError::Refused(format!("relation \"{name}\" does not exist"))
}

/// `object` is the one that `statement` creates.
fn is(object: &Object, statement: &Statement) -> bool {
    matches!(&statement.kind, Kind::CreateView { name, .. } if name == object.name())
}

/// The view, materialized or not.
fn as_view(statement: &Statement, maintained: bool) -> Statement {
    let mut statement = statement.clone();
    if let Kind::CreateView { materialized, options, .. } = &mut statement.kind {
        *materialized = maintained;
        if !maintained {
            *options = ViewOptions::default();
        }
    }
    statement
}
