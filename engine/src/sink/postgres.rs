//! The sink into PostgreSQL: all the views of a job in one transaction, with the frontier.
//!
//! The first transaction of an incarnation [hydrates](PostgresSink::hydrate): it is handed the full
//! contents and moves each table there by difference. Each later one [commits](PostgresSink::commit) what
//! changed, as one pipeline: `BEGIN`, the fence, the changes, `COMMIT` – one round trip.
//!
//! **The fence** is the row of `velib.frontier`: a transaction moves its upper on, and only if generation,
//! session and upper are those that this writer left there. A newer generation has put its own number
//! there; the older writer's transactions fail from then on. A writer that lost its connection takes a new
//! session number first ([`PostgresSink::recover`]): what its old connection still has under way fails too,
//! so that what it then reads is what there is, and no transaction is done twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use velib_operators::Time;

use super::change::Change;
use super::merge::Settled;
use super::pipeline::Pipeline;
use super::session::{COMMIT_LIMIT, Errors, HYDRATE_LIMIT, LOCK_LIMIT, Session, apply_errors, shortened, within};
use super::statement::Kind;
use super::table::{self, Table};
use super::{Changes, SinkError, fit, hydrate};
use crate::plan::Job;
use crate::postgres::store::instant;

/// What `velib.advance` raises.
const FENCED: &str = "VB001";

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Rows of tables that it changed.
    pub rows: u64,
    /// The same by view.
    pub by_view: Vec<u64>,
    /// Rows that were to be removed and were not there: somebody else writes to the tables.
    pub missing: u64,
    /// How long it took, from encoding to the server's answer.
    pub elapsed: Duration,
}

/// Writes the views of one job, as one generation of the cluster.
pub struct PostgresSink {
    pub(super) url: String,
    pub(super) job: Arc<Job>,
    pub(super) tables: Vec<Table>,
    pub(super) generation: u64,
    /// See [the settings](super::task::Settings).
    pub(super) restored_at: Time,
    session: Option<Session>,
    claim: Option<Claim>,
}

/// What this writer left in `velib.frontier`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub session: i64,
    pub upper: i64,
}

/// What of a transaction a statement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Begin,
    Fence,
    View(usize, Kind),
    Errors,
    Commit,
}

impl PostgresSink {
    /// A writer of the tables of `job` in the database at `url`, whose engine schema is there.
    ///
    /// # Errors
    /// A view that cannot be a table; no connection.
    pub async fn open(url: &str, job: Arc<Job>, generation: u64) -> Result<Self, SinkError> {
        let mut sink = PostgresSink::new(url, job, generation)?;
        sink.session = Some(Session::open(url, &sink.job.name).await?);
        Ok(sink)
    }

    /// As [`PostgresSink::open`], but connects only when there is something to do.
    ///
    /// # Errors
    /// A view that cannot be a table.
    pub fn new(url: &str, job: Arc<Job>, generation: u64) -> Result<Self, SinkError> {
        table::check(&job)?;
        let tables = job.views.iter().map(|view| Table::new(&job.name, view)).collect::<Result<_, _>>()?;
        Ok(PostgresSink { url: url.to_string(), job, tables, generation, restored_at: 0, session: None, claim: None })
    }

    /// The upper of the last transaction; none before the first.
    pub fn upper(&self) -> Option<Time> {
        self.claim.map(|claim| claim.upper as Time)
    }

    /// The first transaction hydrates, later ones commit.
    ///
    /// # Errors
    /// Those of both.
    pub async fn apply(&mut self, settled: &Settled) -> Result<Committed, SinkError> {
        if self.claim.is_none() { self.hydrate(settled).await } else { self.commit(settled).await }
    }

    /// Moves the tables to the contents in `settled`, which are those of all the views, in full.
    ///
    /// Readers see the tables as they were until all of them have moved. Tables of views that the job no
    /// longer has go; tables whose columns changed are made anew beside the old ones. Rows of views with
    /// `retain` that are older than what the engine holds stay. May be repeated after any error.
    ///
    /// # Errors
    /// [`SinkError::Fenced`], [`SinkError::KeyViolated`], [`SinkError::Occupied`]; a lost connection.
    pub async fn hydrate(&mut self, settled: &Settled) -> Result<Committed, SinkError> {
        let started = Instant::now();
        let mut settled = settled.clone();
        let (changes, errors) = self.prepare(&mut settled)?;
        let mut session = self.session().await?;
        let moved = within(
            HYDRATE_LIMIT,
            "hydrating the tables",
            hydrate::hydrate(&session.client, self, &settled, &changes, &errors),
        )
        .await;
        match moved {
            Ok((claim, by_view)) => {
                session.statements.clear();
                self.session = Some(session);
                self.claim = Some(claim);
                Ok(Committed { rows: by_view.iter().sum(), by_view, missing: 0, elapsed: started.elapsed() })
            }
            Err(error) => Err(self.give_up(session, error).await),
        }
    }

    /// Applies what changed since the last transaction.
    ///
    /// # Errors
    /// [`SinkError::Fenced`], [`SinkError::KeyViolated`]; a lost connection. After an error that is
    /// retriable, [`PostgresSink::recover`] tells what became of it.
    ///
    /// # Panics
    /// Before the tables have been hydrated.
    pub async fn commit(&mut self, settled: &Settled) -> Result<Committed, SinkError> {
        let started = Instant::now();
        let claim = self.claim.expect("the first transaction hydrates");
        let mut settled = settled.clone();
        let (changes, errors) = self.prepare(&mut settled)?;
        let mut session = self.session().await?;
        let outcome = within(
            COMMIT_LIMIT,
            "a transaction of the sink",
            self.transact(&mut session, claim, &settled, &changes, &errors),
        );
        match outcome.await {
            Ok((by_view, missing)) => {
                self.session = Some(session);
                self.claim = Some(Claim { upper: bigint(settled.closed.upper), ..claim });
                if missing > 0 {
                    tracing::warn!(job = self.job.name, missing, "rows to be removed were not there: who else writes?");
                }
                Ok(Committed { rows: by_view.iter().sum(), by_view, missing, elapsed: started.elapsed() })
            }
            Err(error) => Err(self.give_up(session, error).await),
        }
    }

    /// After a failed [`PostgresSink::commit`] up to `tried`: was it committed? Nothing of it is under way
    /// any more when this returns.
    ///
    /// # Errors
    /// [`SinkError::Fenced`]; the database is still away.
    pub async fn recover(&mut self, tried: Time) -> Result<bool, SinkError> {
        let Some(claim) = self.claim else { return Ok(false) };
        let session = self.session().await?;
        let sql = "UPDATE velib.frontier SET session = session + 1 WHERE job = $1 AND generation = $2
                   RETURNING session, upper";
        let generation = bigint(self.generation);
        let asked = async { Ok(session.client.query_opt(sql, &[&self.job.name, &generation]).await?) };
        let asked = within(COMMIT_LIMIT, "reading the frontier", asked).await;
        let row = match asked {
            Ok(row) => row,
            Err(error) => return Err(self.give_up(session, error).await),
        };
        self.session = Some(session);
        let found = row.map(|row| Claim { session: row.get(0), upper: row.get(1) });
        let found = found.filter(|found| found.upper == claim.upper || found.upper == bigint(tried));
        let Some(found) = found else { return Err(self.fenced()) };
        self.claim = Some(found);
        Ok(found.upper == bigint(tried))
    }

    /// What the transaction does to each view, and to `velib.errors`.
    fn prepare(&self, settled: &mut Settled) -> Result<(BTreeMap<usize, Change>, Errors), SinkError> {
        let mut errors: BTreeMap<(usize, String), i64> = BTreeMap::new();
        for (view, message, diff) in settled.closed.errors.drain(..) {
            *errors.entry((view, shortened(&message))).or_default() += diff;
        }
        let mut by_view = BTreeMap::new();
        for changes in &mut settled.closed.changes {
            let view = self.job.views.get(changes.view).ok_or_else(|| unknown(changes))?;
            let unfit = fit::fit(changes)
                .map_err(|e| SinkError::Malformed { view: view.name.clone(), reason: e.to_string() })?;
            for (message, diff) in unfit {
                *errors.entry((changes.view, shortened(&message))).or_default() += diff;
            }
            by_view.insert(changes.view, Change::new(view, &self.tables[changes.view], changes)?);
        }
        let standing = errors.into_iter().filter(|(_, diff)| *diff != 0);
        let named = standing
            .filter_map(|((view, message), diff)| Some((self.job.views.get(view)?.name.clone(), message, diff)));
        Ok((by_view, named.collect()))
    }

    async fn transact(
        &self,
        session: &mut Session,
        claim: Claim,
        settled: &Settled,
        changes: &BTreeMap<usize, Change>,
        errors: &[(String, String, i64)],
    ) -> Result<(Vec<u64>, u64), SinkError> {
        let steps: Vec<_> = changes
            .iter()
            .flat_map(|(view, change)| change.steps(&self.tables[*view]).map(move |(kind, rows)| (*view, kind, rows)))
            .collect();
        for (view, kind, _) in &steps {
            session.statement(&self.tables[*view], *view, *kind).await?;
        }
        let (as_of, upper) = (instant(settled.closed.as_of), bigint(settled.closed.upper));
        let generation = bigint(self.generation);
        let Session { client, advance, errors: count, statements } = session;
        let (client, advance) = (&*client, &*advance);
        let fence = async move {
            let fence: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&self.job.name, &generation, &claim.session, &claim.upper, &upper, &as_of];
            client.execute(advance, &fence).await
        };

        let mut pipeline = Pipeline::new(client);
        let sent: Result<_, (Part, tokio_postgres::Error)> = async {
            pipeline.text(Part::Begin, "BEGIN").await?;
            pipeline.send(Part::Fence, 0, Box::pin(fence)).await?;
            for (view, kind, rows) in steps {
                let parameters = changes[&view].parameters(&self.tables[view], kind, rows);
                let statement = statements[&(view, kind)].clone();
                pipeline.statement(Part::View(view, kind), statement, parameters).await?;
            }
            if !errors.is_empty() {
                for statement in &*count {
                    let statement = statement.clone();
                    let job = &self.job.name;
                    let apply = async move { apply_errors(client, &statement, job, errors).await };
                    pipeline.send(Part::Errors, 0, Box::pin(apply)).await?;
                }
            }
            pipeline.text(Part::Commit, "COMMIT").await?;
            pipeline.finish().await
        }
        .await;
        let answers = sent.map_err(|(part, error)| self.explain(part, error))?;

        let mut by_view = vec![0; self.tables.len()];
        for (part, rows) in answers {
            if let Part::View(view, _) = part {
                by_view[view] += rows;
            }
        }
        let wanted = changes.values().map(Change::rows).sum::<usize>() as u64;
        let missing = wanted.saturating_sub(by_view.iter().sum());
        Ok((by_view, missing))
    }

    /// What a refusal means.
    fn explain(&self, part: Part, error: tokio_postgres::Error) -> SinkError {
        if error.code().is_some_and(|code| code.code() == FENCED) {
            return self.fenced();
        }
        if let (Part::View(view, _), Some(&SqlState::UNIQUE_VIOLATION | &SqlState::CARDINALITY_VIOLATION)) =
            (part, error.code())
        {
            return violated(&self.tables[view], &error);
        }
        error.into()
    }

    pub(super) fn fenced(&self) -> SinkError {
        SinkError::Fenced { job: self.job.name.clone(), generation: self.generation }
    }

    /// The connection, or a new one.
    async fn session(&mut self) -> Result<Session, SinkError> {
        match self.session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => Ok(Session::open(&self.url, &self.job.name).await?),
        }
    }

    /// Ends the transaction that failed; keeps the connection if it is good for another one.
    async fn give_up(&mut self, session: Session, error: SinkError) -> SinkError {
        if !error.is_lost() {
            let rollback = async { Ok(session.client.batch_execute("ROLLBACK").await?) };
            let ended = within(LOCK_LIMIT, "rolling back", rollback).await;
            self.session = ended.is_ok().then_some(session);
        }
        error
    }
}

/// A key that two rows have, in the server's words.
pub(super) fn violated(table: &Table, error: &tokio_postgres::Error) -> SinkError {
    let refusal = error.as_db_error();
    let key = refusal.and_then(|e| e.detail().map(str::to_string)).unwrap_or_else(|| error.to_string());
    SinkError::KeyViolated { view: table.name.clone(), columns: table.key.join(", "), key }
}

fn unknown(changes: &Changes) -> SinkError {
    SinkError::Malformed { view: changes.view.to_string(), reason: "there is no view of that index".into() }
}

/// Times and generations as `bigint`; the end of time is the greatest.
pub(super) fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
