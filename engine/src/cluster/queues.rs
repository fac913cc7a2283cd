//! What waits on the way of a job: looked at once a second, for the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use velib_operators::Time;

use super::generation::Generation;
use crate::metrics;
use crate::sink::Closed;
use crate::timeline::Entered;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Where something of a job may wait.
pub struct Queues {
    /// Its name.
    pub job: String,
    /// Commands and rows, for the workers.
    pub generation: Arc<Generation>,
    /// Timestamps that have entered,
    pub entered: Arc<Entered>,
    /// those below this one are committed;
    pub committed: watch::Receiver<Time>,
    /// of the others there may be so many.
    pub in_flight: usize,
    /// Steps for its sink.
    pub closed: mpsc::WeakSender<Closed>,
}

impl Queues {
    /// Looks at them again and again, until the sink is gone.
    pub async fn watch(self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(closed) = self.closed.upgrade() else { return };
            let [commands, feed] = self.generation.waiting();
            show("commands", "", commands);
            show("feed", "", feed);
            show("closed", &self.job, waiting(&closed));
            let in_flight = self.entered.in_flight(*self.committed.borrow());
            show("in_flight", &self.job, (in_flight, self.in_flight));
        }
    }
}

/// How many items wait in a channel, and how many may.
pub fn waiting<T>(channel: &mpsc::Sender<T>) -> (usize, usize) {
    (channel.max_capacity() - channel.capacity(), channel.max_capacity())
}

fn show(queue: &str, job: &str, (items, limit): (usize, usize)) {
    metrics::QUEUE_ITEMS.with_label_values(&[queue, job]).set(items as i64);
    metrics::QUEUE_LIMIT.with_label_values(&[queue, job]).set(limit as i64);
}
