//! What arrives in the tables: which snapshot, how long it took, what it changed.
//!
//! The truth is `velib.frontier`: a row a job, moved in the transaction that moves the job's tables. A
//! snapshot has arrived when all jobs are as of it, or of a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client as Postgres;

use super::clock::Clock;
use super::show::{Line, Summary};
use crate::client::Client;
use crate::postgres::job::Status;
use crate::postgres::{PostgresError, connect};

/// A snapshot is told after this, though a job has not arrived at it.
const PATIENCE: Duration = Duration::from_secs(3);
/// A job whose time has passed on before a snapshot reaches it takes it in at its own time: what two jobs
/// took in within this many real milliseconds is the same snapshot.
const SAME_MS: f64 = 400.0;
/// The job that has the table of alarms.
const ALARMS: &str = "critical";
/// Snapshots that some jobs have not arrived at; the oldest are told when there are more.
const PENDING: usize = 32;
/// How many lines a second a recording may make.
const RECORDED_PAUSE: Duration = Duration::from_millis(500);
/// As many latencies are kept, for the percentiles: a week of polls every second.
const LATENCIES: usize = 604_800;

/// Looks at the tables from the outside.
pub struct Watch {
    url: String,
    database: Option<Postgres>,
    api: Client,
    jobs: Vec<String>,
    /// Of the simulated city; a recording has none.
    clock: Option<Clock>,
    began: Instant,
    /// The snapshot that each job is as of.
    as_of: BTreeMap<String, DateTime<Utc>>,
    /// Snapshots that some job is as of and not all have arrived at.
    pending: BTreeMap<DateTime<Utc>, Pending>,
    /// The last snapshot that was told.
    last: Option<DateTime<Utc>>,
    alarms: BTreeMap<(String, String), String>,
    counts: Counts,
    told: Instant,
    over: bool,
    latencies: Vec<u64>,
    snapshots: u64,
    rows: u64,
}

struct Pending {
    since: Instant,
    committed: DateTime<Utc>,
    jobs: BTreeSet<String>,
}

/// What the cluster counts since its generation began.
#[derive(Default)]
struct Counts {
    /// By job.
    rows: BTreeMap<String, u64>,
    /// All jobs read the same feed: of the one that has come furthest.
    snapshots: Option<u64>,
}

impl Counts {
    /// How many rows and snapshots more than before, of what each job has written and taken in.
    fn advance(&mut self, jobs: impl Iterator<Item = (String, u64, u64)>) -> (u64, u64) {
        // A new generation counts from nothing.
        let since = |before: Option<u64>, now: u64| match before {
            Some(before) if before <= now => now - before,
            _ => now,
        };
        let (mut rows, mut furthest) = (0, 0);
        for (job, written, taken) in jobs {
            rows += since(self.rows.insert(job, written), written);
            furthest = furthest.max(taken);
        }
        (rows, since(self.snapshots.replace(furthest), furthest))
    }
}

impl Watch {
    /// What is in the tables now is the beginning, not news.
    pub async fn start(url: &str, api: Client, jobs: Vec<String>, clock: Option<Clock>) -> Result<Self> {
        let mut watch = Watch {
            url: url.to_string(),
            database: None,
            api,
            jobs,
            clock,
            began: Instant::now(),
            as_of: BTreeMap::new(),
            pending: BTreeMap::new(),
            last: None,
            alarms: BTreeMap::new(),
            counts: Counts::default(),
            told: Instant::now(),
            over: false,
            latencies: vec![],
            snapshots: 0,
            rows: 0,
        };
        if watch.clock.is_some() {
            // Before the frontiers: what comes between the two looks is then counted to the first line, not to none.
            watch.changed().await;
            for (job, as_of, _) in watch.frontiers().await? {
                watch.as_of.insert(job, as_of);
            }
            watch.alarms = watch.alarms_now().await?;
        }
        Ok(watch)
    }

    /// How long it has looked.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The recording has ended and all of it is in the tables.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What has arrived since the last look.
    pub async fn look(&mut self) -> Result<Vec<Line>> {
        let outcome = match self.clock {
            Some(clock) => self.look_live(clock).await,
            None => self.look_recorded().await,
        };
        if outcome.is_err() {
            // The connection may be the reason.
            self.database = None;
        }
        outcome
    }

    async fn look_live(&mut self, clock: Clock) -> Result<Vec<Line>> {
        let same = TimeDelta::milliseconds((SAME_MS * clock.speed) as i64);
        for (job, as_of, committed) in self.frontiers().await? {
            let before = self.as_of.insert(job.clone(), as_of);
            if before.is_some_and(|before| before >= as_of) || self.last.is_some_and(|last| as_of - last < same) {
                continue;
            }
            let known = self.pending.range(as_of - same..=as_of + same).next().map(|(snapshot, _)| *snapshot);
            let pending = self.pending.entry(known.unwrap_or(as_of)).or_insert_with(|| Pending {
                since: Instant::now(),
                committed,
                jobs: BTreeSet::new(),
            });
            pending.committed = pending.committed.max(committed);
            pending.jobs.insert(job);
        }
        let mut lines = vec![];
        while let Some(first) = self.pending.first_entry() {
            let snapshot = *first.key();
            let all = self.jobs.iter().all(|job| self.as_of.get(job).is_some_and(|as_of| *as_of > snapshot - same));
            let waited = first.get().since.elapsed() > PATIENCE;
            if !all && !waited && self.pending.len() <= PENDING {
                break;
            }
            let Some((_, pending)) = self.pending.pop_first() else { break };
            self.last = Some(snapshot);
            lines.push(self.line(clock, snapshot, pending.committed).await?);
        }
        Ok(lines)
    }

    async fn line(&mut self, clock: Clock, snapshot: DateTime<Utc>, committed: DateTime<Utc>) -> Result<Line> {
        let ms = (committed - clock.real_time(snapshot)).num_milliseconds().max(0) as u64;
        if self.latencies.len() < LATENCIES {
            self.latencies.push(ms);
        }
        let (rows, _) = self.changed().await;
        self.snapshots += 1;
        self.rows += rows;
        self.with_alarms(Line { committed, city: snapshot, ms: Some(ms), snapshots: 1, rows, ..Line::default() }).await
    }

    /// A recording goes by faster than anybody can read: a line is what has come since the one before.
    async fn look_recorded(&mut self) -> Result<Vec<Line>> {
        if self.told.elapsed() < RECORDED_PAUSE {
            return Ok(vec![]);
        }
        self.told = Instant::now();
        let over = self.api.jobs().await.is_ok_and(|jobs| {
            jobs.iter().filter(|job| self.jobs.contains(&job.name)).all(|job| job.status == Status::Finished)
        });
        let frontiers = self.frontiers().await?;
        let (rows, snapshots) = self.changed().await;
        self.over = over;
        let alarms = frontiers.iter().any(|(job, ..)| job == ALARMS);
        // Jobs whose first results are not there yet are not looked at.
        let Some((_, as_of, committed)) = frontiers.into_iter().min_by_key(|(_, as_of, _)| *as_of) else {
            return Ok(vec![]);
        };
        if rows == 0 && snapshots == 0 {
            return Ok(vec![]);
        }
        self.snapshots += snapshots;
        self.rows += rows;
        let line = Line { committed, city: as_of, ms: None, snapshots, rows, ..Line::default() };
        Ok(vec![if alarms { self.with_alarms(line).await? } else { line }])
    }

    async fn with_alarms(&mut self, mut line: Line) -> Result<Line> {
        let now = self.alarms_now().await?;
        let began = now.iter().filter(|(key, _)| !self.alarms.contains_key(*key));
        line.began = began.map(|((_, kind), name)| (kind.clone(), name.clone())).collect();
        line.ended = self.alarms.keys().filter(|key| !now.contains_key(*key)).count();
        line.critical = now.len();
        self.alarms = now;
        Ok(line)
    }

    /// Rows changed and snapshots taken in since the last call, as the cluster counts them.
    async fn changed(&mut self) -> (u64, u64) {
        let Ok(jobs) = self.api.jobs().await else { return (0, 0) };
        let ours = jobs.into_iter().filter(|job| self.jobs.contains(&job.name));
        self.counts.advance(ours.map(|job| {
            let written = job.sink.map(|sink| sink.rows).unwrap_or_default();
            let taken = job.sources.values().map(|source| source.snapshots).max().unwrap_or_default();
            (job.name, written, taken)
        }))
    }

    async fn frontiers(&mut self) -> Result<Vec<(String, DateTime<Utc>, DateTime<Utc>)>> {
        let jobs = self.jobs.clone();
        let rows = self
            .database()
            .await?
            .query("SELECT job, as_of, committed_at FROM velib.frontier WHERE job = ANY($1)", &[&jobs])
            .await
            .map_err(PostgresError::from)?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// The names of the stations by id and kind of alarm.
    async fn alarms_now(&mut self) -> Result<BTreeMap<(String, String), String>> {
        let sql = "SELECT station_id, kind, coalesce(name, station_id) FROM critical.critical_now";
        let rows = self.database().await?.query(sql, &[]).await.map_err(PostgresError::from)?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
    }

    async fn database(&mut self) -> Result<&Postgres> {
        let open = match self.database.take().filter(|database| !database.is_closed()) {
            Some(database) => database,
            None => connect(&self.url, "velib demo").await?,
        };
        Ok(self.database.insert(open))
    }

    /// All that has been seen.
    pub async fn summary(&mut self, memory_mb: Vec<f64>, restarts: usize) -> Summary {
        let jobs = self.api.jobs().await.unwrap_or_default();
        let rejected = jobs.iter().flat_map(|job| job.sources.values()).map(|source| source.rejected).sum();
        let read = jobs.iter().flat_map(|job| job.sources.values()).map(|source| source.rows).max();
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let last = self.latencies.len().checked_sub(1)?;
            self.latencies.get((last as f64 * share).round() as usize).copied()
        };
        Summary {
            seconds: (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            snapshots: self.snapshots,
            commit_p50_ms: at(0.5),
            commit_p99_ms: at(0.99),
            commit_max_ms: at(1.0),
            rows_read: read.unwrap_or_default(),
            rows_refused: rejected,
            rows_changed: self.rows,
            worker_memory_mb: memory_mb,
            worker_restarts: restarts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_once_whichever_job_takes_it_in_first() {
        let mut counts = Counts::default();
        let mut advance = |a: (u64, u64), b: (u64, u64)| {
            counts.advance([("a".to_string(), a.0, a.1), ("b".to_string(), b.0, b.1)].into_iter())
        };
        assert_eq!(advance((10, 5), (1, 1)), (11, 5));
        assert_eq!(advance((10, 5), (9, 6)), (8, 1));
        assert_eq!(advance((30, 7), (9, 6)), (20, 1));
        assert_eq!(advance((3, 2), (4, 1)), (7, 2), "a new generation");
    }
}
