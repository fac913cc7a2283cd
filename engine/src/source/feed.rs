//! Sharing sources: a live feed is polled once, however many jobs read it.
//!
//! Sources of equal [`identity`](Source::identity) have one task. It hands every event to all of its
//! subscribers and remembers the state of every relation, so that a job which comes later starts from the
//! whole of it instead of waiting for the next document. A bounded source is a recording with a beginning:
//! each subscriber reads one of its own.
//!
//! Invariants: nothing is dropped. A subscriber that does not read holds up the others and, in the end,
//! the polls; when the last one goes, the source is let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use futures::future::select_all;
use tokio::sync::{Notify, mpsc};
use velib_operators::Time;

use super::{Context, Event, Relation, Snapshot, Source};

/// Events that may wait for a subscriber.
const QUEUE: usize = 16;

/// The live feeds of this process.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    running: Arc<Mutex<HashMap<String, Running>>>,
}

/// A feed that somebody reads.
#[derive(Debug)]
struct Running {
    /// Subscribers that its task has not seen yet.
    joining: Vec<mpsc::Sender<Arc<Event>>>,
    /// Wakes the task to see them.
    joined: Arc<Notify>,
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
        let identity = source.identity();
        let mut running = self.lock();
        if let Some(feed) = running.get_mut(&identity) {
            feed.joining.push(subscriber);
            feed.joined.notify_one();
        } else {
            let joined = Arc::new(Notify::new());
            running.insert(identity.clone(), Running { joining: vec![], joined: joined.clone() });
            let known = Known::new(relations);
            let task = Task { feeds: self.clone(), identity, joined, known, subscribers: vec![subscriber] };
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
    identity: String,
    joined: Arc<Notify>,
    known: Known,
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
                        self.feeds.lock().remove(&self.identity);
                        break;
                    };
                    if let Event::Snapshot(snapshot) = &event {
                        self.known.update(snapshot);
                    }
                    let event = Arc::new(event);
                    for subscriber in &self.subscribers {
                        // One that is gone is removed below.
                        let _ = subscriber.send(event.clone()).await;
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

    /// Gives those who joined all that is known.
    async fn admit(&mut self) {
        let joining = match self.feeds.lock().get_mut(&self.identity) {
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
        let empty = running.get(&self.identity).is_none_or(|feed| feed.joining.is_empty());
        if empty {
            running.remove(&self.identity);
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
