//! A materialized view of the shell: a job on the dataflow, and what it has yielded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Int64Array, RecordBatch};
use tokio::sync::watch;
use velib_operators::output::Closed as Output;
use velib_operators::{Time, Updates};

use super::{Changes, ShellError, wording};
use crate::cluster::generation::{Generation, GenerationError};
use crate::command::{JobId, Spec};
use crate::plan::Job;
use crate::sink::{self, Closed, MemorySink, Settled, SinkError};

/// A view that is kept up to date.
pub(super) struct Maintained {
    id: JobId,
    job: Arc<Job>,
    held: Arc<Mutex<Held>>,
    upper: watch::Receiver<Time>,
}

/// What the view holds, and why it could not be told any more.
struct Held {
    rows: MemorySink,
    failure: Option<SinkError>,
}

impl Maintained {
    /// Has the workers build `job`, of one view.
    pub async fn install(generation: &Generation, job: Arc<Job>) -> Result<Self, ShellError> {
        let held = Arc::new(Mutex::new(Held { rows: MemorySink::new(&job)?, failure: None }));
        let (publish, upper) = watch::channel(0);
        let (filling, plan) = (Arc::clone(&held), Arc::clone(&job));
        let output = Box::new(move |output: Output| {
            let upper = output.upper;
            let mut held = filling.lock().unwrap_or_else(PoisonError::into_inner);
            if held.failure.is_none() && !(output.changes.is_empty() && output.errors.is_empty()) {
                let applied = close(&plan, output).and_then(|closed| held.rows.apply(&closed));
                held.failure = applied.err();
            }
            drop(held);
            publish.send_replace(upper);
        });
        let spec = Spec { name: job.name.clone(), ..Spec::default() };
        let id = generation.install(job.clone(), spec, output, None).await?;
        Ok(Maintained { id, job, held, upper })
    }

    /// Its number in the generation.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Its plan.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The tables that it reads.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.job.inputs.iter().map(|input| input.source.as_str())
    }

    /// What changes in `table` at `time`.
    pub async fn feed(
        &self,
        generation: &Generation,
        table: &str,
        time: Time,
        changes: &Changes,
    ) -> Result<(), GenerationError> {
        for (input, _) in self.sources().enumerate().filter(|(_, source)| *source == table) {
            for (rows, diff) in changes {
                let diffs = Int64Array::from_value(*diff, rows.num_rows());
                generation.feed(self.id, input, Updates::new(time, rows.clone(), diffs)).await?;
            }
        }
        Ok(())
    }

    /// Lets all that entered up to `now` come out.
    pub async fn close(&self, generation: &Generation, now: Time) -> Result<(), ShellError> {
        let mut upper = self.upper.clone();
        if *upper.borrow() > now {
            return Ok(());
        }
        generation.advance(self.id, now + 1).await?;
        tokio::select! {
            closed = upper.wait_for(|upper| *upper > now) => closed.map(|_| ()).map_err(|_| ShellError::Ended("a view was let go".into())),
            reason = generation.ended() => Err(ShellError::Ended(reason)),
        }
    }

    /// Its rows at `now`.
    ///
    /// # Errors
    /// The first of the errors that stand, as a batch query would report it.
    pub async fn contents(&self, generation: &Generation, now: Time) -> Result<RecordBatch, ShellError> {
        self.close(generation, now).await?;
        let held = self.held();
        if let Some(failure) = &held.failure {
            return Err(ShellError::Refused(failure.to_string()));
        }
        if let Some((_, message, _)) = held.rows.errors().next() {
            let view = self.job.views[0].name.clone();
            return Err(ShellError::Evaluation { view, message: wording::postgres(message) });
        }
        Ok(held.rows.contents(0)?)
    }

    /// The errors that stand, and on how many rows.
    pub fn errors(&self) -> Vec<(String, i64)> {
        self.held().rows.errors().map(|(_, message, count)| (wording::postgres(message), count)).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the sink of a job takes it: what only left memory stays.
fn close(job: &Arc<Job>, output: Output) -> Result<Closed, SinkError> {
    let changes = output.changes.into_iter().map(|(view, rows, diffs)| sink::Changes { view, rows, diffs });
    let as_of = output.upper.saturating_sub(1);
    let closed = Closed { upper: output.upper, as_of, changes: changes.collect(), errors: output.errors };
    Ok(Settled::one(job, closed)?.closed)
}
