//! Sharing sources: a live feed is polled once, however many jobs read it.
//!
//! Sources of equal [`identity`](Source::identity) have one task. It hands every event to all of its
//! subscribers and remembers the state of every relation, so that a job which comes later starts from the
//! whole of it instead of waiting for the next document. A bounded source is a recording with a beginning:
//! each subscriber reads one of its own.
//!
//! Where there is a lake, a snapshot is in it before anybody gets it ([`durable`]), and a job begins with what the lake
//! has ([`history`]). A log has one writer: there, sources of equal [origin](Source::origin) are shared though they ask
//! in different ways, in that of the first.
//!
//! Invariants: nothing is dropped. A subscriber that does not read holds up the others and, in the end,
//! the polls; when the last one goes, the source is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::select_all;
use tokio::sync::{Notify, mpsc};
use velib_operators::Time;

use self::durable::Durable;
use super::{Context, Event, Relation, Snapshot, Source};
use crate::lake::{Lake, feed_name};

mod durable;
mod history;

pub use history::Begin;

/// Events that may wait for a subscriber.
const QUEUE: usize = 16;
/// Between two looks for those who have joined while a snapshot is written.
const JOINED: Duration = Duration::from_millis(100);

/// The live feeds of this process.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    running: Arc<Mutex<HashMap<String, Running>>>,
    lake: Option<Lake>,
}

/// A feed that somebody reads.
#[derive(Debug)]
struct Running {
    /// Subscribers that its task has not seen yet.
    joining: Vec<mpsc::Sender<Arc<Event>>>,
    /// Wakes the task to see them.
    joined: Arc<Notify>,
    /// The source that is read.
    identity: String,
}

/// The events of a source, for one reader. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription(Receiver);

#[derive(Debug)]
enum Receiver {
    Shared(mpsc::Receiver<Arc<Event>>),
    Own(mpsc::Receiver<Event>),
}

impl Subscription {
    /// The next event; `None` when a bounded source has ended. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match &mut self.0 {
            Receiver::Shared(events) => events.recv().await,
            Receiver::Own(events) => events.recv().await.map(Arc::new),
        }
    }
}

impl Feeds {
    /// Feeds whose snapshots go through `lake`, where there is one.
    pub fn through(lake: Option<Lake>) -> Self {
        Feeds { lake, ..Feeds::default() }
    }

    /// The lake, and the name of a source's log in it.
    fn log_of(&self, source: &dyn Source) -> Option<(Lake, String)> {
        let (lake, origin) = (self.lake.clone()?, source.origin()?);
        Some((lake, feed_name(&origin.address, &origin.identity)))
    }

    /// A job that reads `source` again reads what it has read before.
    pub fn repeats(&self, source: &dyn Source) -> bool {
        source.bounded() || (self.log_of(source).is_some() && source.history() == super::History::All)
    }

    /// Reads `source`, whose relations are `relations`. A live source that is read already is shared: the
    /// first event is then a snapshot of all that is known.
    ///
    /// Must be called in a tokio runtime.
    pub fn subscribe(&self, source: Arc<dyn Source>, relations: &[Relation], context: Context) -> Subscription {
        if source.bounded() {
            let (out, events) = mpsc::channel(QUEUE);
            tokio::spawn(source.run(context, out));
            return Subscription(Receiver::Own(events));
        }
        let (subscriber, events) = mpsc::channel(QUEUE);
        let (log, identity) = (self.log_of(source.as_ref()), source.identity());
        let shared = log.as_ref().map_or_else(|| identity.clone(), |(_, name)| name.clone());
        let mut running = self.lock();
        if let Some(feed) = running.get_mut(&shared) {
            if feed.identity != identity {
                tracing::warn!(
                    feed = shared,
                    "it is read already, with other settings, which hold until all its jobs have gone"
                );
            }
            feed.joining.push(subscriber);
            feed.joined.notify_one();
        } else {
            let joined = Arc::new(Notify::new());
            running.insert(shared.clone(), Running { joining: vec![], joined: joined.clone(), identity });
            let known = Known::new(relations);
            let durable = log.map(|(lake, name)| Durable::new(lake, name, source.clone(), relations));
            let task = Task { feeds: self.clone(), shared, joined, known, durable, subscribers: vec![subscriber] };
            tokio::spawn(task.run(source, context));
        }
        Subscription(Receiver::Shared(events))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        // The map is whole at every point where a thread could die.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What runs a shared feed.
struct Task {
    feeds: Feeds,
    /// Its name among those that run.
    shared: String,
    joined: Arc<Notify>,
    known: Known,
    durable: Option<Durable>,
    subscribers: Vec<mpsc::Sender<Arc<Event>>>,
}

impl Task {
    async fn run(mut self, source: Arc<dyn Source>, context: Context) {
        let (out, mut events) = mpsc::channel(1);
        let reader = tokio::spawn(source.run(context, out));
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else {
                        // It ended by itself: who joined in the meantime finds its channel closed.
                        self.feeds.lock().remove(&self.shared);
                        break;
                    };
                    for event in self.keep(event).await {
                        self.hand_out(event).await;
                    }
                }
                () = self.joined.notified() => {}
                () = any_closed(&self.subscribers) => {}
            }
            self.subscribers.retain(|subscriber| !subscriber.is_closed());
            self.admit().await;
            if self.subscribers.is_empty() && self.leave() {
                break;
            }
        }
        reader.abort();
    }

    /// What is to be handed out for `event`, when it is durable.
    async fn keep(&mut self, event: Event) -> Vec<Event> {
        let (snapshot, durable) = match (event, &mut self.durable) {
            (Event::Snapshot(snapshot), Some(durable)) => (snapshot, durable),
            (event, _) => return vec![event],
        };
        let known = self.known.listing();
        let kept = tokio::select! {
            kept = durable.keep(snapshot, &known) => kept.ok(),
            // Nobody waits for it any more. What is in the lake by then stays there.
            () = nobody(&self.subscribers, &self.feeds, &self.shared) => None,
        };
        match kept {
            Some(snapshots) => snapshots.into_iter().map(Event::Snapshot).collect(),
            None => {
                // Of a newer generation, which is about to end this one: until then, it says no more.
                all_closed(&self.subscribers).await;
                vec![]
            }
        }
    }

    async fn hand_out(&mut self, event: Event) {
        if let Event::Snapshot(snapshot) = &event {
            self.known.update(snapshot);
        }
        let event = Arc::new(event);
        for subscriber in &self.subscribers {
            // One that is gone is removed later.
            let _ = subscriber.send(event.clone()).await;
        }
    }

    /// Gives those who joined all that is known.
    async fn admit(&mut self) {
        let joining = match self.feeds.lock().get_mut(&self.shared) {
            Some(feed) => std::mem::take(&mut feed.joining),
            None => vec![],
        };
        for subscriber in joining {
            for snapshot in self.known.snapshots() {
                let _ = subscriber.send(Arc::new(Event::Snapshot(snapshot))).await;
            }
            self.subscribers.push(subscriber);
        }
    }

    /// Takes the feed out of the registry, unless somebody joined in the meantime.
    fn leave(&self) -> bool {
        let mut running = self.feeds.lock();
        let empty = running.get(&self.shared).is_none_or(|feed| feed.joining.is_empty());
        if empty {
            running.remove(&self.shared);
        }
        empty
    }
}

/// Waits until a subscriber goes.
async fn any_closed(subscribers: &[mpsc::Sender<Arc<Event>>]) {
    if subscribers.is_empty() {
        return std::future::pending().await;
    }
    select_all(subscribers.iter().map(|subscriber| Box::pin(subscriber.closed()))).await;
}

/// Waits until all subscribers have gone.
async fn all_closed(subscribers: &[mpsc::Sender<Arc<Event>>]) {
    for subscriber in subscribers {
        subscriber.closed().await;
    }
}

/// Waits until all subscribers have gone, and those who have joined since.
async fn nobody(subscribers: &[mpsc::Sender<Arc<Event>>], feeds: &Feeds, shared: &str) {
    all_closed(subscribers).await;
    let waits = || feeds.lock().get(shared).is_some_and(|feed| feed.joining.iter().any(|joined| !joined.is_closed()));
    while waits() {
        tokio::time::sleep(JOINED).await;
    }
}

/// The state of every relation.
struct Known {
    /// What is only ever added to: of it, the last rows and their time are known.
    appended: Vec<bool>,
    tables: Vec<Option<(Time, RecordBatch)>>,
    time: Time,
}

impl Known {
    fn new(relations: &[Relation]) -> Self {
        let appended: Vec<_> = relations.iter().map(|relation| relation.appended).collect();
        Known { tables: vec![None; appended.len()], appended, time: 0 }
    }

    /// All tables as they were last listed.
    fn listing(&self) -> Snapshot {
        let tables = self.tables.iter().map(|table| table.as_ref().map(|(_, rows)| rows.clone()));
        Snapshot { time: self.time, tables: tables.collect() }
    }

    fn update(&mut self, snapshot: &Snapshot) {
        self.time = snapshot.time;
        for (known, table) in self.tables.iter_mut().zip(&snapshot.tables) {
            if let Some(table) = table {
                *known = Some((snapshot.time, table.clone()));
            }
        }
    }

    /// All tables as one snapshot. Appended rows belong to the time at which they came: where that is not
    /// the latest, they make a snapshot before.
    fn snapshots(&self) -> Vec<Snapshot> {
        let of_time = |time: Time, pick: &dyn Fn(bool, Time) -> bool| {
            let pairs = self.tables.iter().zip(&self.appended);
            let tables: Vec<_> = pairs
                .map(|(table, appended)| {
                    table.as_ref().filter(|(at, _)| pick(*appended, *at)).map(|(_, rows)| rows.clone())
                })
                .collect();
            Some(Snapshot { time, tables }).filter(|snapshot| snapshot.tables.iter().any(Option::is_some))
        };
        let earlier = self.tables.iter().zip(&self.appended).filter(|(_, appended)| **appended);
        let mut times: Vec<_> = earlier.filter_map(|(table, _)| Some(table.as_ref()?.0)).collect();
        times.sort_unstable();
        times.dedup();
        times.retain(|time| *time < self.time);
        let before = times.into_iter().filter_map(|time| of_time(time, &|appended, at| appended && at == time));
        let last = of_time(self.time, &|appended, at| !appended || at == self.time);
        before.chain(last).collect()
    }
}

#[cfg(test)]
mod tests;
