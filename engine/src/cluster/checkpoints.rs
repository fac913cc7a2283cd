//! Writes the checkpoints of a job to the lake, beside its work.
//!
//! The timeline tells the operators to save at the end of a step; each writes its state when everything until there is
//! in it, and what all of them wrote comes here. It counts when it is in the lake. One at a time is under way: while
//! the lake does not take it, there is no other, and the job goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use velib_operators::{Saved, Time};

use crate::lake::Lake;
use crate::lake::checkpoint::{Checkpoint, Owner};
use crate::observe;
use crate::sink::task::Progress;
use crate::timeline::{Position, Saving};
use crate::worker::Saves;

/// Where and how often.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Not more often than so.
    pub every: Duration,
    /// As many are kept.
    pub keep: usize,
}

/// What a job is saved with.
pub struct Checkpoints {
    /// Where.
    pub lake: Lake,
    /// How often.
    pub settings: Settings,
    /// Of what.
    pub owner: Owner,
    /// What it goes on from.
    pub restored: Option<Checkpoint>,
}

/// Writes what is saved.
pub struct Writer {
    job: String,
    lake: Lake,
    keep: usize,
    owner: Owner,
    /// How far the tables were at first.
    shown: Time,
    positions: mpsc::UnboundedReceiver<(Position, OwnedSemaphorePermit)>,
    saved: mpsc::UnboundedReceiver<(Time, Vec<Saved>)>,
}

/// For the dataflow of a job, its timeline, and a task.
pub fn write(job: &str, lake: Lake, settings: &Settings, owner: Owner, shown: Time) -> (Saves, Saving, Writer) {
    observe::lake::saving(job);
    // There is one at a time, which the semaphore sees to: the channels need no limit of their own.
    let (position, positions) = mpsc::unbounded_channel();
    let (pieces, saved) = mpsc::unbounded_channel();
    let saves: Saves = Box::new(move |time, saved| {
        // The job is being stopped, and nobody writes any more.
        let _ = pieces.send((time, saved));
    });
    let (one, last) = (Arc::new(Semaphore::new(1)), (tokio::time::Instant::now(), 0));
    let saving = Saving { every: settings.every, one, positions: position, last };
    (saves, saving, Writer { job: job.to_owned(), lake, keep: settings.keep, owner, shown, positions, saved })
}

impl Writer {
    /// Writes until the job is gone, whose tables are as far as `shown` says.
    pub async fn run(mut self, shown: watch::Receiver<Progress>) {
        while let Some((position, _one)) = self.positions.recv().await {
            let begun = Instant::now();
            let saved = loop {
                match self.saved.recv().await {
                    Some((time, saved)) if time + 1 == position.upper => break saved,
                    Some(_) => {}
                    None => return,
                }
            };
            let (upper, as_of) = (position.upper, position.as_of);
            let checkpoint = Checkpoint { owner: self.owner.clone(), position, saved };
            let encoded = tokio::task::spawn_blocking(move || checkpoint.encode()).await;
            let written = match encoded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
                Ok(bytes) => {
                    let size = bytes.len();
                    let shown = shown.borrow().upper.unwrap_or(self.shown);
                    self.lake.save(&self.job, upper, bytes, self.keep, shown).await.map(|()| size)
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(bytes) => {
                    observe::lake::saved(&self.job, as_of, bytes, begun.elapsed());
                    tracing::debug!(job = self.job, upper, bytes, "a checkpoint is written");
                }
                Err(error) => {
                    observe::lake::not_saved(&self.job);
                    tracing::warn!(job = self.job, %error, "a checkpoint could not be written; the next one will do");
                }
            }
        }
    }
}
