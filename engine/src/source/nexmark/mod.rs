//! NEXMARK: the auction house by which streaming engines are compared, generated from a seed.
//!
//! The same proportions, ids and skew as the generator of Apache Beam and Flink
//! (<https://github.com/nexmark/nexmark>), with random numbers of its own: see [`events`]. The crate `nexmark` was
//! last released in January 2023, takes no seed, and makes an event of several strings where columns are wanted.

mod columns;
mod events;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::columns::relations;
use self::events::{Generator, House};
use super::settings::Settings;
use super::{Connector, Context, Event, Options, Resolved, Source, SourceError};

/// The most events of a snapshot, which are held at once, a few times over.
const MAX_TOGETHER: u64 = 1_000_000;

/// `CREATE SOURCE … FROM NEXMARK (events = …, seed = …)`.
pub struct Nexmark;

#[derive(Clone, Debug)]
struct Stream {
    house: House,
    /// How much event time is one snapshot.
    snapshot_ms: u64,
}

impl Connector for Nexmark {
    fn kind(&self) -> &'static str {
        "NEXMARK"
    }

    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError> {
        let known = [
            "events",
            "seed",
            "rate",
            "snapshot",
            "active_people",
            "in_flight_auctions",
            "hot_auction_ratio",
            "hot_bidder_ratio",
            "hot_seller_ratio",
        ];
        let settings = Settings::new(self.kind(), options, &known)?;
        let house = House {
            events: settings.whole("events", 1_000_000, 1..=1_000_000_000_000)?,
            seed: settings.whole("seed", 1, 0..=u64::MAX)?,
            rate: settings.whole("rate", 10_000, 1..=100_000_000)?,
            active_people: settings.whole("active_people", 1_000, 1..=1_000_000_000)?,
            in_flight_auctions: settings.whole("in_flight_auctions", 100, 1..=1_000_000_000)?,
            hot_auction_ratio: settings.whole("hot_auction_ratio", 2, 1..=1_000_000)?,
            hot_bidder_ratio: settings.whole("hot_bidder_ratio", 4, 1..=1_000_000)?,
            hot_seller_ratio: settings.whole("hot_seller_ratio", 4, 1..=1_000_000)?,
        };
        let second = Duration::from_secs(1);
        let snapshot = settings.duration("snapshot", second, Duration::from_millis(1)..=Duration::from_secs(3_600))?;
        let snapshot_ms = snapshot.as_millis() as u64;
        if house.rate.saturating_mul(snapshot_ms) / 1_000 > MAX_TOGETHER {
            let remedy = format!(
                "at {} events a second it has more than {MAX_TOGETHER}; write a shorter time or a lower rate",
                house.rate
            );
            return Err(settings.wrong("snapshot", &remedy));
        }
        Ok(Arc::new(Stream { house, snapshot_ms }))
    }
}

impl Stream {
    /// Generates everything, until nobody listens.
    fn generate(&self, out: &mpsc::Sender<Event>) {
        let mut generator = Generator::new(self.house.clone());
        while let Some(snapshot) = generator.advance(self.snapshot_ms) {
            if out.blocking_send(Event::Snapshot(snapshot)).is_err() {
                return;
            }
        }
    }
}

impl Source for Stream {
    fn identity(&self) -> String {
        format!("{self:?}")
    }

    fn bounded(&self) -> bool {
        true
    }

    fn resolve<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async { Ok(Resolved { relations: relations(), zones: None }) }.boxed()
    }

    fn run(self: Arc<Self>, _context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        async move {
            // An end by a closed channel is as good as any.
            let _ = tokio::task::spawn_blocking(move || self.generate(&out)).await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
