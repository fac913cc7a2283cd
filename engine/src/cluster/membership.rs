//! The part of a process in the membership: its sign of life, what it sees of the others, and, while it leads, the
//! decisions.
//!
//! A thread of its own with a connection of its own: nothing that the process computes, plans or serves may keep its
//! heart from beating. It looks with every beat, and at once when the database says that something has changed. What is
//! to be done, [`decide`](super::decide) says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::decide::{Rules, Standpoint, Step, decide, standing};
use super::mesh::proof;
use crate::metrics;
use crate::postgres::PostgresError;
use crate::postgres::membership::{Decided, Place, Process, ProcessId, Registration, Registry, View};
use crate::server::Shared;

/// How long the database may take to answer; then the connection is given up.
const ANSWER: Duration = Duration::from_secs(2);
/// Processes that have been silent for so long are forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// Between two lines about an address that another process has.
const REPORT: Duration = Duration::from_secs(10);

/// What a membership is started with.
pub struct Settings {
    /// The database.
    pub url: String,
    /// What this process says of itself.
    pub registration: Registration,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// How is decided.
    pub rules: Rules,
    /// What all processes of the cluster know.
    pub secret: String,
}

/// The part of this process in the membership.
pub struct Membership {
    me: ProcessId,
    view: watch::Receiver<Arc<View>>,
    dissolve: watch::Receiver<u64>,
    place: watch::Sender<Place>,
    quit: mpsc::Sender<()>,
    ended: watch::Receiver<()>,
}

impl Membership {
    /// Begins to beat; what is seen is told to `shared`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(settings: Settings, shared: Arc<Shared>) -> std::io::Result<Membership> {
        let me = settings.registration.process;
        let (publish, view) = watch::channel(Arc::default());
        let (dissolving, dissolve) = watch::channel(0);
        let (place, mine) = watch::channel(Place::default());
        let (quit, quitting) = mpsc::channel(1);
        let (alive, ended) = watch::channel(());
        let heart = Heart {
            settings,
            shared,
            publish,
            dissolving,
            mine,
            quitting,
            registry: None,
            answering: None,
            answered: None,
            broken: None,
            known: 0,
            forgot: Instant::now(),
            reported: None,
            away: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("membership".into()).spawn(move || {
            runtime.block_on(heart.run());
            drop(alive);
        })?;
        Ok(Membership { me, view, dissolve, place, quit, ended })
    }

    /// Waits for a generation after `after` of which this process is to be part: its place in it.
    pub async fn next(&self, after: u64) -> (Decided, usize) {
        let mut view = self.view.clone();
        loop {
            {
                let now = view.borrow_and_update();
                let generation = &now.generation;
                let index = generation.members.iter().position(|member| *member == self.me);
                if let Some(index) = index.filter(|_| generation.number > after) {
                    return (generation.clone(), index);
                }
            }
            if view.changed().await.is_err() {
                // The thread is gone, which it only is at the end.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until there is a generation after `number`.
    pub async fn superseded(&self, number: u64) {
        let mut view = self.view.clone();
        if view.wait_for(|view| view.generation.number > number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until generation `number`, which this process leads, is to be ended in good order.
    pub async fn dissolving(&self, number: u64) {
        let mut dissolve = self.dissolve.clone();
        if dissolve.wait_for(|dissolved| *dissolved == number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// This process is part of a generation that has formed.
    pub fn formed(&self, number: u64, index: usize) {
        self.place.send_modify(|place| place.member = Some((number, index)));
    }

    /// Generations up to `number` are over for this process.
    pub fn ended(&self, number: u64) {
        self.place.send_modify(|place| {
            place.member = None;
            place.ended = place.ended.max(number);
        });
    }

    /// This process has been told to stop.
    pub fn leaving(&self) {
        self.place.send_modify(|place| place.leaving = true);
    }

    /// Takes leave of the database: returns when that is done, or the database has not answered in time.
    pub async fn leave(mut self) {
        // The thread may have ended by itself.
        let _ = self.quit.send(()).await;
        let _ = self.ended.changed().await;
    }
}

/// What the thread holds.
struct Heart {
    settings: Settings,
    shared: Arc<Shared>,
    publish: watch::Sender<Arc<View>>,
    dissolving: watch::Sender<u64>,
    mine: watch::Receiver<Place>,
    quitting: mpsc::Receiver<()>,
    registry: Option<Registry>,
    /// Since when the database has answered without a gap.
    answering: Option<Instant>,
    answered: Option<Instant>,
    /// A generation that is over, and since when that is known.
    broken: Option<(u64, Instant)>,
    known: u64,
    forgot: Instant,
    reported: Option<Instant>,
    away: bool,
}

impl Heart {
    async fn run(mut self) {
        loop {
            let begun = Instant::now();
            match self.beat().await {
                Ok(again) => {
                    self.shared.database(true);
                    self.away = false;
                    if again {
                        continue;
                    }
                }
                Err(error) => {
                    self.shared.database(false);
                    (self.registry, self.answering) = (None, None);
                    if !std::mem::replace(&mut self.away, true) {
                        tracing::warn!(%error, "the database is away; what runs goes on, nobody is taken for gone");
                    }
                }
            }
            let rest = self.settings.heartbeat.saturating_sub(begun.elapsed());
            let told = async {
                let told = match &mut self.registry {
                    Some(registry) => registry.changed().await,
                    None => None,
                };
                if told.is_none() {
                    // The connection is gone: the next beat finds out.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = told => {}
                changed = self.mine.changed() => if changed.is_err() { break },
                _ = self.quitting.recv() => break,
            }
        }
        if let Some(registry) = &self.registry
            && let Err(error) = registry.leave(self.settings.registration.process, ANSWER).await
        {
            tracing::debug!(%error, "the others will notice by themselves that this process is gone");
        }
    }

    /// One sign of life and one look. True: something was done, and is to be looked at at once.
    async fn beat(&mut self) -> Result<bool, PostgresError> {
        let (me, silence) = (self.settings.registration.process, self.settings.rules.silence);
        let begun = Instant::now();
        if self.registry.is_none() {
            self.registry = Some(Registry::open(&self.settings.url, ANSWER).await?);
        }
        let registry = self.registry.as_mut().expect("it was opened");
        let place = *self.mine.borrow_and_update();
        let Some(view) = registry.beat(me, place, silence, ANSWER).await? else {
            let registered = registry.register(&self.settings.registration, silence, ANSWER).await?;
            if !registered && self.reported.is_none_or(|reported| reported.elapsed() > REPORT) {
                // That of its predecessor, as a rule, which will soon be taken for gone.
                if self.reported.replace(Instant::now()).is_some() {
                    let api = &self.settings.registration.api;
                    tracing::warn!(
                        api,
                        "another process that lives advertises this address; give each an api.listen or api.advertise of its own"
                    );
                }
            }
            self.answering = None;
            return Ok(registered);
        };
        let now = Instant::now();
        // What was asked long ago, or answered late, says nothing about those who were held up as well.
        if self.answered.is_none_or(|last| now - last > silence) || now - begun > silence {
            self.answering = None;
        }
        self.answered = Some(now);
        let steady = now - *self.answering.get_or_insert(now);
        self.known = self.known.max(view.generation.number).max(place.ended);
        let broken = broken_for(&mut self.broken, &view, now);
        let from = Standpoint { me, known: self.known, steady, broken };
        let secret = &self.settings.secret;
        // Few processes, a hash each.
        let trusted = |process: &Process| process.proof == proof(secret, process.process);
        let step = decide(&view, &self.settings.rules, &from, trusted);
        self.shared.seen(&view, standing(&view, &self.settings.rules, me, trusted));
        let view = Arc::new(view);
        self.publish.send_replace(Arc::clone(&view));
        if view.leader == Some(me) && steady > FORGET && self.forgot.elapsed() > FORGET {
            self.forgot = now;
            registry.forget(FORGET, ANSWER).await?;
        }
        self.act(step, &view).await
    }

    async fn act(&mut self, step: Step, view: &View) -> Result<bool, PostgresError> {
        let (me, lease) = (self.settings.registration.process, self.settings.rules.silence);
        let registry = self.registry.as_mut().expect("it has just answered");
        match step {
            Step::Wait => Ok(false),
            Step::TakeLead => {
                let taken = registry.take_lead(me, view.leader, lease, ANSWER).await?;
                if taken {
                    tracing::info!("this process leads the cluster");
                }
                Ok(taken)
            }
            Step::Dissolve => {
                let number = view.generation.number;
                if self.dissolving.send_replace(number) != number {
                    tracing::info!(generation = number, "the processes change; the generation is ended for the next");
                }
                Ok(false)
            }
            Step::Form(members) => {
                let address = |id: &ProcessId| view.process(*id).map(|process| process.mesh.clone());
                let members: Vec<_> =
                    members.iter().map(|id| (*id, address(id).expect("of the rows of this view"))).collect();
                let lost = view.generation.members.iter().filter_map(|id| view.process(*id));
                let silent = lost.map(|process| process.silent_ms).filter(|ms| *ms > lease.as_millis() as i64).max();
                let decided = registry.decide(me, view.generation.number, self.known, &members, lease, ANSWER).await?;
                if let Some(number) = decided {
                    let addresses: Vec<&str> = members.iter().map(|(_, address)| address.as_str()).collect();
                    let processes = addresses.join(", ");
                    tracing::info!(generation = number, processes, silent_ms = silent, "a generation is to be formed");
                    if let Some(silent) = silent {
                        metrics::DETECTION.with_label_values::<&str>(&[]).observe(silent as f64 / 1e3);
                    }
                }
                Ok(decided.is_some())
            }
        }
    }
}

/// How long it has been known that the present generation is over: `known` is that of the last look.
fn broken_for(known: &mut Option<(u64, Instant)>, view: &View, now: Instant) -> Duration {
    let present = &view.generation;
    let over = |id: &ProcessId| view.process(*id).is_some_and(|process| process.place.ended >= present.number);
    *known = match *known {
        _ if !present.members.iter().any(over) => None,
        Some((number, since)) if number == present.number => Some((number, since)),
        _ => Some((present.number, now)),
    };
    known.map_or(Duration::ZERO, |(_, since)| now - since)
}
