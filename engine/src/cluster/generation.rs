//! A generation: one set of processes in one order, computing together until one of them is gone.
//!
//! Timely stops whole when a peer dies. So a generation is something that ends: its threads leave and report why
//! ([`Ending`]), and the process forms the next one without leaving.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use timely::WorkerConfig;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use tokio::sync::{mpsc, watch};
use velib_operators::{Time, Told, Updates};

use super::link::Link;
use super::queues::waiting;
use super::wire::Wire;
use crate::command::{Command, JobId, Spec};
use crate::ending::Ending;
use crate::plan::Job;
use crate::worker::{self, Bind, Feed, Output, Prepared, Saves, Shared};

/// Commands that wait for worker 0, and rows that wait for a worker.
const QUEUE: usize = 256;

/// Batches of more rows than this are shared out among the workers of the process.
const SHARE: usize = 4096;

/// Why something could not be done in a generation.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The threads could not be started.
    #[error("the workers could not be started: {0}")]
    Start(String),
    /// It is over: the next one will have to do it.
    #[error("the generation of workers has ended")]
    Ended,
}

/// This process's part of a generation.
pub struct Generation {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    feeds: Vec<mpsc::Sender<Feed>>,
    next: AtomicU64,
    ended: watch::Receiver<Option<String>>,
    /// To the other processes: closed when the generation is given up.
    sockets: Arc<Vec<TcpStream>>,
}

impl Generation {
    /// `workers` threads in this process alone.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn local(workers: usize) -> Result<Self, GenerationError> {
        let bind: Box<Bind> = Box::new(|spec| Err(format!("{} was not prepared", spec.name)));
        Self::start(vec![None], 0, workers, bind)
    }

    /// `workers` threads that compute with those of the processes behind `wires`: one wire a
    /// process, none at this one's own index.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn start(
        wires: Vec<Option<Wire>>,
        process: usize,
        workers: usize,
        bind: Box<Bind>,
    ) -> Result<Self, GenerationError> {
        let (commands, command_queue) = mpsc::channel(QUEUE);
        let (feeds, feed_queues): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(QUEUE)).unzip();
        let shared = Arc::new(Shared {
            jobs: Mutex::new(HashMap::new()),
            bind,
            feeds: process == 0,
            ending: Arc::new(Ending::default()),
        });
        let held = wires.iter().flatten().map(|wire| wire.socket().try_clone()).collect::<Result<Vec<_>, _>>();
        let held: Arc<Vec<_>> = Arc::new(held.map_err(|error| GenerationError::Start(error.to_string()))?);
        let mut config = WorkerConfig::default();
        // Idle arrangements go on merging, so that what is no longer told apart is not kept apart.
        let idle = differential_dataflow::Config { idle_merge_effort: Some(1000) };
        differential_dataflow::configure(&mut config, &idle);
        let hooks = Hooks::default();
        let threads = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
        let (builders, connections): (Vec<_>, _) = if wires.len() > 1 {
            let link = |(peer, wire): (_, Option<_>)| Some(Link::new(wire?, peer, Arc::clone(&shared.ending)));
            let links = wires.into_iter().enumerate().map(link).collect();
            let (builders, connections) = initialize_networking_from_sockets(threads, links, process, workers, hooks)
                .map_err(|error| GenerationError::Start(error.to_string()))?;
            (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Some(connections))
        } else {
            (threads.into_iter().map(AllocatorBuilder::Process).collect(), None)
        };
        let queues = Mutex::new((Some(command_queue), feed_queues.into_iter().map(Some).collect::<Vec<_>>()));
        let threads = Arc::clone(&shared);
        // The connections are not timely's to end with the workers: some may be waiting for a peer.
        let guards = timely::execute::execute_from(builders, Box::new(()), config, move |worker| {
            let local = worker.index() % workers;
            let (commands, feed) = {
                let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
                let commands = if worker.index() == 0 { queues.0.take() } else { None };
                (commands, queues.1[local].take().expect("one queue a worker"))
            };
            threads.ending.enter();
            let run = AssertUnwindSafe(|| worker::run(worker, &threads, commands, feed));
            if let Err(cause) = std::panic::catch_unwind(run) {
                threads.ending.give_up(|| format!("a worker panicked: {}", message(cause.as_ref())));
                // What the panic left behind may panic again; then it stays until the thread is gone.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| worker::leave(worker)));
            }
        })
        .map_err(GenerationError::Start)?;
        let (end, ended) = watch::channel(None);
        let (ending, sockets) = (Arc::clone(&shared.ending), Arc::clone(&held));
        std::thread::Builder::new()
            .name("generation".into())
            .spawn(move || {
                guards.join();
                if ending.given_up().is_some() {
                    shut(&sockets);
                }
                ending.left();
                // A peer that did not say goodbye makes a thread of timely panic that nobody depends on any more.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(connections)));
                // The last receiver may be gone with the process.
                let _ = end.send(Some(ending.given_up().unwrap_or_default().to_string()));
            })
            .map_err(|error| GenerationError::Start(error.to_string()))?;
        Ok(Generation { shared, commands, feeds, next: AtomicU64::new(1), ended, sockets: held })
    }

    /// Has every worker build `job`; returns when those of this process have. `output` is called on one
    /// of its threads with what the views yield; so is `saves`, if the state of the job is to be saved or restored.
    ///
    /// # Errors
    /// If the generation ends before.
    pub async fn install(
        &self,
        job: Arc<Job>,
        mut spec: Spec,
        output: Output,
        saves: Option<Saves>,
    ) -> Result<JobId, GenerationError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (installed, mut done) = mpsc::unbounded_channel();
        let gather = id as usize % self.feeds.len();
        spec.explain = crate::plan::explain::text(&job);
        let stateful = saves.is_some();
        let (output, saves) = (Mutex::new(Some(output)), Mutex::new(saves));
        let prepared = Prepared { plan: job, output, saves, installed };
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(prepared));
        self.command(Command::Install { id, gather, saves: stateful, spec }).await?;
        for _ in 0..self.feeds.len() {
            tokio::select! {
                done = done.recv() => done.ok_or(GenerationError::Ended)?,
                _ = self.ended() => return Err(GenerationError::Ended),
            }
        }
        Ok(id)
    }

    /// Has every worker let the job go.
    ///
    /// # Errors
    /// If the generation has ended.
    pub async fn remove(&self, id: JobId) -> Result<(), GenerationError> {
        self.command(Command::Drop { id }).await
    }

    /// Has every worker of every process leave.
    ///
    /// # Errors
    /// If the generation has ended.
    pub async fn stop(&self) -> Result<(), GenerationError> {
        self.command(Command::Stop).await
    }

    /// Ends this process's part at once, whether the other processes still speak to it or not. Of no effect on one
    /// that has ended.
    pub fn abandon(&self) {
        if self.ended.borrow().is_none() {
            self.shared.ending.give_up(|| "it was left".to_string());
            shut(&self.sockets);
        }
    }

    async fn command(&self, command: Command) -> Result<(), GenerationError> {
        self.commands.send(command).await.map_err(|_| GenerationError::Ended)?;
        self.shared.ending.wake();
        Ok(())
    }

    /// Rows enter an input of a job.
    ///
    /// # Errors
    /// If the generation has ended.
    pub async fn feed(&self, job: JobId, input: usize, updates: Updates) -> Result<(), GenerationError> {
        let (len, workers) = (updates.rows.num_rows(), self.feeds.len());
        if len <= SHARE || workers == 1 {
            return self.send(input % workers, Feed::Rows(job, input, updates)).await;
        }
        let share = len.div_ceil(workers);
        for (worker, start) in (0..len).step_by(share).enumerate() {
            let size = share.min(len - start);
            let part = Updates::new(updates.time, updates.rows.slice(start, size), updates.diffs.slice(start, size));
            self.send(worker, Feed::Rows(job, input, part)).await?;
        }
        Ok(())
    }

    /// Tells a job that is installed with `saves` about its state.
    ///
    /// # Errors
    /// If the generation has ended.
    pub async fn tell(&self, job: JobId, time: Time, told: Told) -> Result<(), GenerationError> {
        self.send(0, Feed::Tell(job, time, told)).await
    }

    /// No rows of the job enter before `time` any more.
    ///
    /// # Errors
    /// If the generation has ended.
    pub async fn advance(&self, job: JobId, time: Time) -> Result<(), GenerationError> {
        for worker in 0..self.feeds.len() {
            self.send(worker, Feed::Advance(job, time)).await?;
        }
        Ok(())
    }

    async fn send(&self, worker: usize, feed: Feed) -> Result<(), GenerationError> {
        self.feeds[worker].send(feed).await.map_err(|_| GenerationError::Ended)?;
        self.shared.ending.wake();
        Ok(())
    }

    /// How many commands wait, and how many items for the worker with the most of them; each with its limit.
    pub fn waiting(&self) -> [(usize, usize); 2] {
        [waiting(&self.commands), self.feeds.iter().map(waiting).max().unwrap_or_default()]
    }

    /// Returns when the generation is over: why, or nothing if it was stopped.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let reason = ended.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or_default()
    }
}

/// Ends connections, whether the other ends are alive or not: a thread may be waiting for a peer that neither reads
/// nor writes.
fn shut(sockets: &[TcpStream]) {
    for socket in sockets {
        // The other end may be gone.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

fn message(cause: &(dyn std::any::Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
