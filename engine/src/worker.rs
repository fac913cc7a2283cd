//! One worker thread: it builds dataflows as commanded, takes in rows, and computes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::Input;
use timely::worker::Worker;
use tokio::sync::mpsc;
use velib_operators::output::Closed;
use velib_operators::{Saved, Time, Told, Updates};

use crate::command::{Command, CommandLog, JobId, Spec};
use crate::ending::Ending;
use crate::observe::dataflow::Dataflows;
use crate::plan::Job;
use crate::render;
use crate::turns::Turns;

/// How long an idle worker sleeps at most. It is woken for work; this only bounds the harm of a lost wake-up.
const PARK: Duration = Duration::from_millis(200);

/// What enters a dataflow through one worker.
#[derive(Debug)]
pub enum Feed {
    /// Rows of an input of a job.
    Rows(JobId, usize, Updates),
    /// What a job is told about its state, at a timestamp.
    Tell(JobId, Time, Told),
    /// No input of the job gets rows before this timestamp any more: a step of time ends before it.
    Advance(JobId, Time),
}

impl Feed {
    /// Whose it is.
    pub fn job(&self) -> JobId {
        let (Feed::Rows(job, ..) | Feed::Tell(job, ..) | Feed::Advance(job, _)) = self;
        *job
    }
}

/// Called with what a job's operators saved and the timestamp as of which it is, on the worker that gathers it.
pub type Saves = Box<dyn FnMut(Time, Vec<Saved>) + Send>;

/// Called with what a job's views yield, on the worker that gathers it.
pub type Output = Box<dyn FnMut(Closed) + Send>;

/// Turns a job in writing into its plan; the same plan in every process.
pub type Bind = dyn Fn(&Spec) -> Result<Job, String> + Send + Sync;

/// A job as this process knows it before its workers build it.
pub struct Prepared {
    /// Its plan.
    pub plan: Arc<Job>,
    /// What is done with its output, on the worker that gathers it.
    pub output: Mutex<Option<Output>>,
    /// What is done with its state, if it is to be saved.
    pub saves: Mutex<Option<Saves>>,
    /// Told by each worker of this process when the dataflow stands.
    pub installed: mpsc::UnboundedSender<()>,
}

/// What the threads of a process share.
pub struct Shared {
    /// Jobs that this process prepared, by id.
    pub jobs: Mutex<HashMap<JobId, Arc<Prepared>>>,
    /// Plans jobs that another process prepared.
    pub bind: Box<Bind>,
    /// Rows enter through this process.
    pub feeds: bool,
    /// How it ends.
    pub ending: Arc<Ending>,
}

impl Shared {
    fn prepared(&self, id: JobId, spec: &Spec) -> Arc<Prepared> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = jobs.entry(id).or_insert_with(|| {
            let plan =
                (self.bind)(spec).unwrap_or_else(|error| panic!("job {} does not plan here: {error}", spec.name));
            let explain = crate::plan::explain::text(&plan);
            assert!(
                explain == spec.explain,
                "job {} is planned differently here; are all processes of one version?\n{explain}\nis not\n{}",
                spec.name,
                spec.explain
            );
            let (installed, _) = mpsc::unbounded_channel();
            let (output, saves) = (Mutex::new(None), Mutex::new(None));
            Arc::new(Prepared { plan: Arc::new(plan), output, saves, installed })
        });
        Arc::clone(entry)
    }
}

/// The inputs of a job on this worker.
#[derive(Default)]
struct Inputs {
    /// None where rows do not enter.
    rows: Vec<InputHandle<Time, CapacityContainerBuilder<Vec<Updates>>>>,
    /// Where steps end: told by one worker to all.
    uppers: Option<InputHandle<Time, CapacityContainerBuilder<Vec<Time>>>>,
    /// What is told about state, by the same worker.
    told: Option<InputHandle<Time, CapacityContainerBuilder<Vec<Told>>>>,
}

/// Runs until told to stop and all workers have, or until the generation is given up.
pub fn run(
    worker: &mut Worker,
    shared: &Shared,
    mut commands: Option<mpsc::Receiver<Command>>,
    mut feed: mpsc::Receiver<Feed>,
) {
    let mut observed = Dataflows::observe(worker);
    let mut log = CommandLog::new(worker);
    let mut jobs: HashMap<JobId, Inputs> = HashMap::new();
    let mut turns = Turns::default();
    'work: while shared.ending.given_up().is_none() {
        while let Some(Ok(command)) = commands.as_mut().map(mpsc::Receiver::try_recv) {
            log.push(command);
        }
        while let Some(command) = log.receive() {
            match command {
                Command::Install { id, gather, saves, spec } => {
                    let prepared = shared.prepared(id, &spec);
                    observed.installing(id, &prepared.plan.name, worker.next_dataflow_index());
                    jobs.insert(id, install(worker, &prepared, gather, saves, shared.feeds));
                    // Nobody waits for the workers of other processes.
                    let _ = prepared.installed.send(());
                }
                Command::Drop { id } => {
                    jobs.remove(&id);
                    turns.forget(id);
                    observed.dropped(id);
                    shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                }
                Command::Stop => {
                    shared.ending.stop();
                    break 'work;
                }
            }
        }
        while turns.has_room()
            && let Ok(item) = feed.try_recv()
        {
            // What comes for a job that has been dropped is of no interest.
            if jobs.contains_key(&item.job()) {
                turns.push(item);
            }
        }
        let idle = !observed.have_run();
        turns.next(idle).into_iter().for_each(|item| take_in(&mut jobs, item));
        worker.step_or_park(Some(if turns.wait() { Duration::ZERO } else { PARK }));
        observed.publish();
    }
    drop((jobs, log));
    while worker.has_dataflows() && shared.ending.given_up().is_none() {
        worker.step_or_park(Some(PARK));
    }
    leave(worker);
}

/// Lets go what has not come to its end, and never will.
pub fn leave(worker: &mut Worker) {
    worker.installed_dataflows().into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
}

fn install(worker: &mut Worker, prepared: &Prepared, gather: usize, saves: bool, feeds: bool) -> Inputs {
    let plan = &prepared.plan;
    let gathers = worker.index() == gather;
    let mut output = prepared.output.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| gathers);
    let mut saved = prepared.saves.lock().unwrap_or_else(PoisonError::into_inner).take_if(|_| gathers);
    let sink = move |closed| {
        if let Some(output) = &mut output {
            output(closed);
        }
    };
    // A job that reads nothing has an input as well, for its time to pass.
    let mut rows: Vec<_> = (0..plan.inputs.len().max(1)).map(|_| InputHandle::new()).collect();
    let mut uppers = InputHandle::new();
    let mut told = InputHandle::new();
    worker.dataflow_named::<Time, _, _>(&plan.name, |scope| {
        let inputs = rows.iter_mut().map(|handle| scope.input_from(handle)).collect();
        let uppers = scope.input_from(&mut uppers);
        let saved = move |time, pieces| {
            if let Some(saved) = &mut saved {
                saved(time, pieces);
            }
        };
        let checkpoints = saves.then(|| (scope.input_from(&mut told), saved));
        render::job(scope, plan, inputs, uppers, checkpoints, gather, sink);
    });
    let first = worker.index() == 0;
    let (uppers, told) = (first.then_some(uppers), (first && saves).then_some(told));
    if feeds { Inputs { rows, uppers, told } } else { Inputs::default() }
}

fn take_in(jobs: &mut HashMap<JobId, Inputs>, item: Feed) {
    match item {
        Feed::Rows(job, input, updates) => {
            let Some(handle) = jobs.get_mut(&job).and_then(|inputs| inputs.rows.get_mut(input)) else { return };
            if *handle.time() < updates.time {
                handle.advance_to(updates.time);
            }
            handle.send(updates);
            handle.flush();
        }
        Feed::Tell(job, time, told) => {
            let Some(handle) = jobs.get_mut(&job).and_then(|inputs| inputs.told.as_mut()) else { return };
            if *handle.time() < time {
                handle.advance_to(time);
            }
            handle.send(told);
            handle.flush();
        }
        Feed::Advance(job, time) => {
            let Some(inputs) = jobs.get_mut(&job) else { return };
            if let Some(uppers) = inputs.uppers.as_mut().filter(|uppers| *uppers.time() < time) {
                uppers.send(time);
                uppers.advance_to(time);
                uppers.flush();
            }
            if let Some(told) = inputs.told.as_mut().filter(|told| *told.time() < time) {
                told.advance_to(time);
                told.flush();
            }
            for handle in inputs.rows.iter_mut().filter(|handle| *handle.time() < time) {
                handle.advance_to(time);
                handle.flush();
            }
        }
    }
}
