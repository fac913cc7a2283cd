//! The membership of the cluster in the database: a row a process, and one row that says who leads and which
//! processes compute together.
//!
//! One statement changes one row, so that the database decides between those who act at the same time; all
//! instants are by its clock. A [`Registry`] is a connection of its own, whose every use has a limit in time: who
//! waits for a database that says nothing cannot leave a sign of life either.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::connect::connect_listening;
use super::{PostgresError, Store};

/// Which process: made when it starts, never used again.
pub type ProcessId = uuid::Uuid;

/// What a process says of itself, once.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Which it is.
    pub process: ProcessId,
    /// Where its API is reached.
    pub api: String,
    /// Where the other processes reach it.
    pub mesh: String,
    /// How many workers it runs.
    pub workers: i32,
    /// Shows that it knows the secret of the cluster.
    pub proof: Vec<u8>,
}

/// What a process says of itself with each heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The generation that it is part of, and its place in it.
    pub member: Option<(u64, usize)>,
    /// Generations up to this one are over for it.
    pub ended: u64,
    /// It has been told to stop.
    pub leaving: bool,
}

/// A process, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Which it is.
    pub process: ProcessId,
    /// Where its API is reached.
    pub api: String,
    /// Where the other processes reach it.
    pub mesh: String,
    /// How many workers it runs.
    pub workers: i32,
    /// The version of its engine.
    pub version: String,
    /// Shows that it knows the secret of the cluster.
    pub proof: Vec<u8>,
    /// How long ago it came, in milliseconds.
    pub joined_ms: i64,
    /// How long it has been silent, in milliseconds.
    pub silent_ms: i64,
    /// What it said last.
    pub place: Place,
}

/// Which processes are to compute together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Its number; 0: there was none yet.
    pub number: u64,
    /// The processes in their order; the first leads.
    pub members: Vec<ProcessId>,
    /// Where each of them is reached.
    pub addresses: Vec<String>,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Who decides on generations.
    pub leader: Option<ProcessId>,
    /// How much longer it may, in milliseconds.
    pub lease_ms: i64,
    /// How many processes are to compute; none: all.
    pub wanted: Option<usize>,
    /// The newest generation.
    pub generation: Decided,
    /// How long ago it was decided, in milliseconds.
    pub decided_ms: i64,
    /// The processes, those first that came first.
    pub processes: Vec<Process>,
}

impl View {
    /// The row of a process.
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.iter().find(|process| process.process == id)
    }
}

/// A connection for one process's part in the membership.
pub struct Registry {
    client: Client,
    /// Ready when somebody has changed something, closed when the connection is.
    changed: mpsc::Receiver<()>,
    beat: Statement,
    renew: Statement,
    look: Statement,
}

const BEAT: &str = "UPDATE velib.cluster SET
        joined_at = CASE WHEN heartbeat < clock_timestamp() - make_interval(secs => $5) THEN clock_timestamp()
                    ELSE joined_at END,
        heartbeat = clock_timestamp(), generation = $2, index = $3, ended = $4, leaving = $6
    WHERE process = $1";
const RENEW: &str = "UPDATE velib.membership SET lease_until = clock_timestamp() + make_interval(secs => $2)
    WHERE leader = $1";
const LOOK: &str =
    "SELECT leader, (1000 * extract(epoch FROM greatest(lease_until, now() - '1 day'::interval) - now()))::bigint,
        wanted, m.generation, members, addresses,
        (1000 * extract(epoch FROM now() - greatest(decided_at, now() - '1 day'::interval)))::bigint,
        process, address, mesh, workers, version, proof,
        (1000 * extract(epoch FROM now() - joined_at))::bigint, (1000 * extract(epoch FROM now() - heartbeat))::bigint,
        c.generation, index, ended, leaving
    FROM velib.membership m LEFT JOIN velib.cluster c ON process IS NOT NULL ORDER BY joined_at, address";

impl Registry {
    /// Connects within `limit`.
    ///
    /// # Errors
    /// No connection.
    pub async fn open(url: &str, limit: Duration) -> Result<Self, PostgresError> {
        within("connecting", limit, async {
            let (client, changed) = connect_listening(url, "velib membership").await?;
            // A sign of life need not outlive a crash of the server: it is worth nothing after it.
            client
                .batch_execute(&format!(
                    "SET synchronous_commit = off; SET statement_timeout = {}; LISTEN velib_membership",
                    limit.as_millis()
                ))
                .await?;
            let (beat, renew, look) =
                tokio::try_join!(client.prepare(BEAT), client.prepare(RENEW), client.prepare(LOOK))?;
            Ok(Registry { client, changed, beat, renew, look })
        })
        .await
    }

    /// Makes the row of a process. False: another process that lives has its address.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn register(&self, of: &Registration, silence: Duration, limit: Duration) -> Result<bool, PostgresError> {
        let sql = "INSERT INTO velib.cluster (address, process, mesh, workers, version, proof)
                   VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (address) DO UPDATE SET process = excluded.process, mesh = excluded.mesh,
                       workers = excluded.workers, version = excluded.version, proof = excluded.proof,
                       joined_at = clock_timestamp(), heartbeat = clock_timestamp(),
                       generation = NULL, index = NULL, ended = 0, leaving = false
                   WHERE cluster.process IS NULL OR cluster.process = excluded.process
                      OR cluster.heartbeat < clock_timestamp() - make_interval(secs => $7)";
        let (version, silence) = (env!("CARGO_PKG_VERSION"), silence.as_secs_f64());
        Ok(within("registering", limit, async {
            Ok(self
                .client
                .execute(sql, &[&of.api, &of.process, &of.mesh, &of.workers, &version, &of.proof, &silence])
                .await?)
        })
        .await?
            > 0)
    }

    /// Leaves a sign of life, renews the lease if it is this process's, and looks at all of it. None: the process
    /// has no row.
    ///
    /// # Errors
    /// A lost connection; a row that this engine does not understand.
    pub async fn beat(
        &self,
        process: ProcessId,
        place: Place,
        silence: Duration,
        limit: Duration,
    ) -> Result<Option<View>, PostgresError> {
        let silence = silence.as_secs_f64();
        let generation = place.member.map(|(number, _)| number as i64);
        let (index, ended) = (place.member.map(|(_, index)| index as i32), place.ended as i64);
        within("a heartbeat", limit, async {
            let said: [&(dyn ToSql + Sync); 6] = [&process, &generation, &index, &ended, &silence, &place.leaving];
            let lease: [&(dyn ToSql + Sync); 2] = [&process, &silence];
            // Sent together, done in this order.
            let (beaten, _, rows) = tokio::try_join!(
                self.client.execute(&self.beat, &said),
                self.client.execute(&self.renew, &lease),
                self.client.query(&self.look, &[]),
            )?;
            if beaten == 0 { Ok(None) } else { read(&rows).map(Some) }
        })
        .await
    }

    /// Takes the lead from `from`, whose lease is over. False: somebody was quicker, or it has been renewed.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn take_lead(
        &self,
        process: ProcessId,
        from: Option<ProcessId>,
        lease: Duration,
        limit: Duration,
    ) -> Result<bool, PostgresError> {
        let sql = "UPDATE velib.membership
                   SET leader = $1, lease_until = clock_timestamp() + make_interval(secs => $3)
                   WHERE leader IS NOT DISTINCT FROM $2 AND (leader IS NULL OR lease_until < clock_timestamp())";
        let lease = lease.as_secs_f64();
        Ok(within("taking the lead", limit, async { Ok(self.client.execute(sql, &[&process, &from, &lease]).await?) })
            .await?
            > 0)
    }

    /// Writes down the generation after `before`, whose number is greater than `known`, and gives the lead to its
    /// first member. None: this process does not lead any more, or the generation is not `before`.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn decide(
        &mut self,
        process: ProcessId,
        before: u64,
        known: u64,
        members: &[(ProcessId, String)],
        lease: Duration,
        limit: Duration,
    ) -> Result<Option<u64>, PostgresError> {
        let ids: Vec<ProcessId> = members.iter().map(|(id, _)| *id).collect();
        let addresses: Vec<&str> = members.iter().map(|(_, address)| address.as_str()).collect();
        within("deciding on a generation", limit, async {
            let transaction = self.client.transaction().await?;
            // Unlike signs of life, what others act on has to last.
            transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
            // A database that was restored gives numbers again.
            let next = "SELECT CASE WHEN number > $1 THEN number ELSE setval('velib.generation', $1 + 1) END
                        FROM nextval('velib.generation') AS number";
            let number: i64 = transaction.query_one(next, &[&(known.max(before) as i64)]).await?.get(0);
            let sql = "UPDATE velib.membership SET generation = $3, members = $4, addresses = $5,
                           leader = $6, lease_until = clock_timestamp() + make_interval(secs => $7),
                           decided_at = clock_timestamp()
                       WHERE leader = $1 AND generation = $2";
            let lease = lease.as_secs_f64();
            let written = transaction
                .execute(sql, &[&process, &(before as i64), &number, &ids, &addresses, &ids[0], &lease])
                .await?;
            transaction.commit().await?;
            Ok((written > 0).then_some(number as u64))
        })
        .await
    }

    /// Removes the row of a process, and gives up the lead if it has it.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn leave(&self, process: ProcessId, limit: Duration) -> Result<(), PostgresError> {
        within("taking leave", limit, async {
            let lead = "UPDATE velib.membership SET leader = NULL WHERE leader = $1";
            self.client.execute("DELETE FROM velib.cluster WHERE process = $1", &[&process]).await?;
            self.client.execute(lead, &[&process]).await?;
            Ok(())
        })
        .await
    }

    /// Forgets processes that have been silent for `silence`.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn forget(&self, silence: Duration, limit: Duration) -> Result<(), PostgresError> {
        let sql = "DELETE FROM velib.cluster WHERE heartbeat < clock_timestamp() - make_interval(secs => $1)";
        let silence = silence.as_secs_f64();
        within("forgetting processes", limit, async { Ok(self.client.execute(sql, &[&silence]).await?) })
            .await
            .map(drop)
    }

    /// Returns when somebody has changed something; None: the connection is lost.
    pub async fn changed(&mut self) -> Option<()> {
        self.changed.recv().await?;
        // One look is enough for all of them.
        while self.changed.try_recv().is_ok() {}
        Some(())
    }
}

impl Store {
    /// Says how many processes are to compute; none: all.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn want(&self, processes: Option<u16>) -> Result<(), PostgresError> {
        let wanted = processes.map(i32::from);
        self.execute("UPDATE velib.membership SET wanted = $1", &[&wanted]).await?;
        Ok(())
    }

    /// Where the APIs of the processes are that were heard of within `silence`, by the clock of the database.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn heard_of(&self, silence: Duration) -> Result<Vec<String>, PostgresError> {
        let sql = "SELECT address FROM velib.cluster WHERE heartbeat >= clock_timestamp() - make_interval(secs => $1)
                   ORDER BY address";
        Ok(self.query(sql, &[&silence.as_secs_f64()]).await?.iter().map(|row| row.get(0)).collect())
    }
}

async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    let late = |_| PostgresError::Timeout { what: what.to_string(), after: limit };
    tokio::time::timeout(limit, work).await.map_err(late)?
}

fn read(rows: &[Row]) -> Result<View, PostgresError> {
    let Some(first) = rows.first() else {
        return Err(PostgresError::Unreadable("the row of velib.membership is gone".to_string()));
    };
    let mut view = View {
        leader: first.get(0),
        lease_ms: first.get(1),
        wanted: first.get::<_, Option<i32>>(2).map(|wanted| wanted.max(1) as usize),
        generation: Decided { number: first.get::<_, i64>(3) as u64, members: first.get(4), addresses: first.get(5) },
        decided_ms: first.get(6),
        processes: vec![],
    };
    for row in rows {
        let Some(process) = row.get(7) else { continue };
        let generation: Option<i64> = row.get(15);
        let index: Option<i32> = row.get(16);
        view.processes.push(Process {
            process,
            api: row.get(8),
            mesh: row.get::<_, Option<String>>(9).unwrap_or_default(),
            workers: row.get(10),
            version: row.get(11),
            proof: row.get::<_, Option<Vec<u8>>>(12).unwrap_or_default(),
            joined_ms: row.get(13),
            silent_ms: row.get(14),
            place: Place {
                member: generation.zip(index).map(|(number, index)| (number as u64, index as usize)),
                ended: row.get::<_, i64>(17) as u64,
                leaving: row.get(18),
            },
        });
    }
    Ok(view)
}
