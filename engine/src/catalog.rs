//! What a job's text names, made real: its sources bound to their connectors, its plan.
//!
//! [`prepare`] does so where the text is submitted, asking the sources what they offer; [`rebind`] does it
//! again in every other process from the answers, without asking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::command::Spec;
use crate::plan::{Job, explain};
use crate::sink;
use crate::source::zones::{Zones, zones_udf};
use crate::source::{CONNECTORS, Connector, Context, Relation, Resolved, Source, SourceError};
use crate::sql::{self, Binding, SourceStatement, SqlError, Statement};

/// A source of a job, ready to be read.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its name in the job.
    pub name: String,
    /// The word after `FROM`.
    pub kind: String,
    /// The source.
    pub source: Arc<dyn Source>,
    /// What it offers.
    pub relations: Vec<Relation>,
}

/// A job that can be installed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its plan.
    pub plan: Arc<Job>,
    /// Its sources, in the order of the text.
    pub sources: Vec<Bound>,
    /// Functions that come with them.
    pub functions: Vec<Arc<ScalarUDF>>,
    /// The same in writing.
    pub spec: Spec,
}

/// Why a job is refused, whole.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The text is wrong, or asks for what is not there.
    #[error("{0}")]
    Text(#[from] SqlError),
    /// A source cannot be asked now what it offers; later it may.
    #[error("source {name}: {error}")]
    Source {
        /// Its name in the job.
        name: String,
        /// Why.
        error: SourceError,
    },
    /// A view cannot be a table.
    #[error("error: {0}")]
    Table(#[from] sink::Unsupported),
    /// The name of the job.
    #[error(
        "{0:?} cannot name a job: a name starts with a letter, goes on with letters, digits and _, and has at most 63 of them"
    )]
    Name(String),
    /// No view that is kept.
    #[error("error: the text of {0} makes no materialized view; the job would do nothing")]
    Nothing(String),
}

impl CatalogError {
    /// It may be otherwise later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, CatalogError::Source { error: SourceError::Unavailable(_), .. })
    }
}

/// Plans a job, asking its sources what they offer.
///
/// # Errors
/// The first thing that is wrong with it.
pub async fn prepare(
    name: &str,
    text: &str,
    parameters: &BTreeMap<String, String>,
    context: &Context,
) -> Result<Prepared, CatalogError> {
    check_name(name)?;
    let statements = sql::parse(text, parameters)?;
    let mut resolved = BTreeMap::new();
    for statement in sql::sources(&statements)? {
        let source = bind_source(&statement, &statements)?;
        let offers = source.resolve(context).await.map_err(|error| match error {
            SourceError::Settings(message) => CatalogError::Text(statement.error(&statements, message)),
            error => CatalogError::Source { name: statement.name.clone(), error },
        })?;
        resolved.insert(statement.name.clone(), offers);
    }
    let spec = Spec {
        name: name.to_string(),
        text: text.to_string(),
        parameters: parameters.clone(),
        resolved,
        explain: String::new(),
    };
    let mut prepared = rebind(spec)?;
    if prepared.plan.views.is_empty() {
        return Err(CatalogError::Nothing(name.to_string()));
    }
    prepared.spec.explain = explain::text(&prepared.plan);
    Ok(prepared)
}

/// Plans a job again from what its sources answered.
///
/// # Errors
/// The first thing that is wrong with it; nothing, if it was prepared by the same version.
pub fn rebind(spec: Spec) -> Result<Prepared, CatalogError> {
    let statements = sql::parse(&spec.text, &spec.parameters)?;
    let mut sources = Vec::new();
    let mut functions: Vec<Arc<ScalarUDF>> = Vec::new();
    let mut bounded = BTreeSet::new();
    for statement in sql::sources(&statements)? {
        let source = bind_source(&statement, &statements)?;
        let name = statement.name.clone();
        let Some(offers) = spec.resolved.get(&name) else {
            return Err(statement.error(&statements, format!("it is not known what source {name} offers")).into());
        };
        if source.bounded() {
            bounded.insert(name.clone());
        }
        source.adopt(&offers.relations);
        functions.extend(zones_of(&name, offers).map_err(|error| statement.error(&statements, error.to_string()))?);
        let kind = statement.connector.clone();
        sources.push(Bound { name, kind, source, relations: offers.relations.clone() });
    }
    let binding = Binding { resolved: spec.resolved.clone(), bounded, functions: functions.clone() };
    let plan = sql::bind_job(&spec.name, &statements, &binding)?;
    sink::check(&plan)?;
    Ok(Prepared { plan: Arc::new(plan), sources, functions, spec })
}

/// The function `<source>_at(lon, lat)` of a source of zones.
fn zones_of(name: &str, offers: &Resolved) -> Result<Option<Arc<ScalarUDF>>, SourceError> {
    let Some(text) = &offers.zones else { return Ok(None) };
    let zones = Zones::parse(text)?;
    Ok(Some(Arc::new(zones_udf(&format!("{name}_at"), Arc::new(zones)))))
}

fn bind_source(statement: &SourceStatement, statements: &[Statement]) -> Result<Arc<dyn Source>, SqlError> {
    let Some(connector) = connector(&statement.connector) else {
        let kinds: Vec<&str> = CONNECTORS.iter().map(|connector| connector.kind()).collect();
        let message = format!("there is no source of kind {}; there are {}", statement.connector, kinds.join(", "));
        return Err(statement.error(statements, message));
    };
    connector.bind(&statement.options).map_err(|error| statement.error(statements, error.to_string()))
}

fn connector(kind: &str) -> Option<&'static dyn Connector> {
    CONNECTORS.iter().copied().find(|connector| connector.kind() == kind)
}

fn check_name(name: &str) -> Result<(), CatalogError> {
    let mut letters = name.chars();
    let good = letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= 63;
    if good { Ok(()) } else { Err(CatalogError::Name(name.to_string())) }
}
