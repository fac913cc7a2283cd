//! What a live feed has said before: from the lake, and then live, without gap or overlap.
//!
//! First the log is read to its end, as a recording is. Then the feed is subscribed to; all that it hands out is in the
//! log before. So at the first live snapshot the log is read on, and live snapshots that are not later than the last
//! one from the log are left out. Meanwhile the feed is read already, by a subscriber that lets everything go, so that
//! what it says while a long history is read is in the log too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use velib_operators::Time;

use super::{Feeds, QUEUE, Receiver, Subscription};
use crate::lake::read::{Found, Replay};
use crate::lake::{Damage, Lake};
use crate::observe;
use crate::source::{Context, Event, History, Rejection, Relation, Source};

/// Before the store is asked again, first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Milliseconds of an hour: histories begin with one.
const HOUR: Time = 3_600_000;

/// Begins to read.
pub type Begin = Box<dyn FnOnce() -> Subscription + Send>;

struct Past {
    feed: String,
    source: Arc<dyn Source>,
    relations: Vec<Relation>,
    replay: Replay,
    /// The time of the last snapshot.
    last: Time,
}

impl Feeds {
    /// What `source` has said, or only what is later than `after`, and how it goes on; none, where that is not kept or not wanted.
    ///
    /// The two are to be begun in this order, the second when the first has ended.
    pub fn history(
        &self,
        source: &Arc<dyn Source>,
        relations: &[Relation],
        context: &Context,
        after: Option<Time>,
    ) -> Option<(Begin, Begin)> {
        let (lake, feed) = self.log_of(source.as_ref())?;
        let after = match source.history() {
            History::None => return None,
            History::All => after,
            History::Last(wanted) => {
                let begin = (context.wall_clock_ms)().saturating_sub(wanted.as_millis() as Time);
                Some((begin / HOUR * HOUR).saturating_sub(1)).max(after)
            }
        };
        let past = Past::new(&lake, feed, source, relations, after);
        let (hand_over, taken_over) = oneshot::channel();
        let reading = {
            let (feeds, source, relations, context) =
                (self.clone(), source.clone(), relations.to_vec(), context.clone());
            move || feeds.subscribe(source, &relations, context)
        };
        let early = reading.clone();
        let recorded = move || {
            let (out, events) = mpsc::channel(QUEUE);
            let mut early = early();
            let draining = tokio::spawn(async move { while early.next().await.is_some() {} });
            tokio::spawn(async move {
                let mut past = past;
                if past.read(&out, Time::MAX).await.is_ok() {
                    // Nobody takes over what is stopped.
                    let _ = hand_over.send((past, draining));
                } else {
                    draining.abort();
                }
            });
            Subscription(Receiver::Own(events))
        };
        let live = move || {
            let (out, events) = mpsc::channel(QUEUE);
            let mut live = reading();
            tokio::spawn(async move {
                let Ok((mut past, draining)) = taken_over.await else { return };
                draining.abort();
                let mut joined = false;
                loop {
                    let event = tokio::select! {
                        event = live.next() => event,
                        () = out.closed() => return,
                    };
                    let Some(event) = event else { return };
                    if let Event::Snapshot(snapshot) = event.as_ref() {
                        if !std::mem::replace(&mut joined, true) && past.read(&out, snapshot.time).await.is_err() {
                            return;
                        }
                        if snapshot.time <= past.last {
                            continue;
                        }
                    }
                    if out.send(event.as_ref().clone()).await.is_err() {
                        return;
                    }
                }
            });
            Subscription(Receiver::Own(events))
        };
        Some((Box::new(recorded), Box::new(live)))
    }
}

/// Nobody listens any more.
struct Gone;

impl Past {
    fn new(lake: &Lake, feed: String, source: &Arc<dyn Source>, relations: &[Relation], after: Option<Time>) -> Self {
        let (source, relations) = (source.clone(), relations.to_vec());
        Past { replay: lake.replay(&feed, after), feed, source, relations, last: after.unwrap_or_default() }
    }

    /// Sends what there is, up to the end or a snapshot of `until`.
    async fn read(&mut self, out: &mpsc::Sender<Event>, until: Time) -> Result<(), Gone> {
        let mut wait = WAIT.0;
        while self.last < until {
            let event = match self.replay.next().await {
                Ok(None) => return Ok(()),
                Ok(Some(Found::Entry(_, entry))) => {
                    self.last = entry.time;
                    Event::Snapshot(self.source.restore(&self.relations, entry.time, entry.tables))
                }
                Ok(Some(Found::Damaged(damage))) => self.damaged(damage),
                Err(error) => {
                    tracing::warn!(feed = self.feed, %error, wait_ms = wait.as_millis() as u64, "history waits for the lake");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = out.closed() => return Err(Gone),
                    }
                    wait = (wait * 2).min(WAIT.1);
                    continue;
                }
            };
            wait = WAIT.0;
            out.send(event).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// A damaged object is a refused document: the rest goes on.
    fn damaged(&self, damage: Damage) -> Event {
        tracing::warn!(feed = self.feed, object = damage.object, reason = damage.reason, "damaged in the lake");
        observe::lake::damaged(&self.feed);
        let (relation, sample) = (String::new(), String::new());
        Event::Rejected(vec![Rejection { time: self.last, relation, reason: format!("lake: {damage}"), sample }])
    }
}
