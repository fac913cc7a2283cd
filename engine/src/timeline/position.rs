//! Where a timeline is, to go on from there: written down when the state of the job is saved, and taken up again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use velib_operators::{Saved, Time, Told};

use super::{Open, Timeline};
use crate::cluster::generation::GenerationError;
use crate::source::Snapshot;

/// Where a timeline was at the end of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Everything below this timestamp had entered.
    pub upper: Time,
    /// The last timestamp at which something did.
    pub as_of: Time,
    /// By name of the source.
    pub sources: BTreeMap<String, SourcePosition>,
}

/// Where a source was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourcePosition {
    /// The time of its last snapshot.
    pub last: Time,
    /// What it listed, by relation; those that are appended are not among them.
    pub tables: BTreeMap<String, RecordBatch>,
}

/// How the state of a job is saved.
pub struct Saving {
    /// Not more often than so.
    pub every: Duration,
    /// One at a time: whoever writes it gives back what came with the position.
    pub one: Arc<Semaphore>,
    /// Where the positions go for which the job's operators have been told to save.
    pub positions: mpsc::UnboundedSender<(Position, OwnedSemaphorePermit)>,
    /// When that was last, and as of what.
    pub last: (Instant, Time),
}

impl Timeline {
    /// The state enters, and what the sources listed then.
    pub(super) async fn resume(
        &mut self,
        opens: impl Iterator<Item = &mut Open>,
        mut position: Position,
        saved: Vec<Saved>,
    ) -> Result<(), GenerationError> {
        for saved in saved {
            self.generation.tell(self.id, 0, Told::Restore(saved)).await?;
        }
        self.entered.resume(position.as_of);
        for open in opens {
            let Some(mut source) = position.sources.remove(&open.reader.name) else { continue };
            (open.last, open.restored) = (Some(source.last), Some(source.last));
            for (known, relation) in open.relations.iter_mut().zip(&open.reader.relations) {
                known.pending.extend(source.tables.remove(&relation.name));
            }
            self.enter(open, position.upper - 1).await?;
            self.status.send_modify(|status| {
                status.sources.entry(open.reader.name.clone()).or_default().last_snapshot = source.last;
            });
        }
        self.advance(position.upper).await
    }

    /// Has the state saved as of the end of the step, if it is time to.
    pub(super) async fn save(&mut self, opens: &[Open], upper: Time) -> Result<(), GenerationError> {
        let as_of = self.entered.as_of(upper);
        let Some(saving) = &mut self.saving else { return Ok(()) };
        let (since, before) = saving.last;
        if opens.is_empty() || as_of == before || since.elapsed() < saving.every {
            return Ok(());
        }
        let Ok(one) = Arc::clone(&saving.one).try_acquire_owned() else { return Ok(()) };
        let sources = opens.iter().filter_map(|open| {
            let listed = open.relations.iter().zip(&open.reader.relations).filter_map(|(known, relation)| {
                Some((relation.name.clone(), known.current.as_ref()?.contents()?.clone()))
            });
            Some((open.reader.name.clone(), SourcePosition { last: open.last?, tables: listed.collect() }))
        });
        let position = Position { upper, as_of, sources: sources.collect() };
        saving.last = (Instant::now(), as_of);
        // Nobody writes it any more: the job is being stopped.
        let _ = saving.positions.send((position, one));
        self.generation.tell(self.id, upper - 1, Told::Save).await
    }
}

impl Open {
    /// What of a snapshot is not in the state that was restored.
    pub(super) fn unseen(&self, mut snapshot: Snapshot) -> Option<Snapshot> {
        if self.restored.is_none_or(|restored| snapshot.time > restored) {
            return Some(snapshot);
        }
        // What is always there may have been changed since; rows were appended once.
        for (rows, relation) in snapshot.tables.iter_mut().zip(&self.reader.relations) {
            rows.take_if(|_| relation.appended);
        }
        (snapshot.time == 0).then_some(snapshot)
    }
}
