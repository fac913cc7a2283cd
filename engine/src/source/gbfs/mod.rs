//! GBFS feeds, live and recorded: what stations there are, and how they are, now and at each snapshot.
//!
//! Every version (1.0 to 3.0), Vélib's own dialect and the Paris open-data export come out as one schema
//! ([`relations`]). A document is read whatever its fields hold ([`document`]), judged ([`decode`]), doubted
//! if it lost most of its stations ([`guard`]), and arrives by [`live`] polling or from a [`recording`],
//! of documents or of tables ([`mod@parquet`]).

mod columns;
mod decode;
mod document;
mod guard;
mod live;
mod parquet;
mod recording;
mod relations;
mod scalar;
mod station;
mod visit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use chrono_tz::Tz;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Url;
use tokio::sync::mpsc;
use velib_operators::Time;

use super::fetch::{Manners, address};
use super::settings::Settings;
use super::{
    Connector, Context, Event, History, Options, Origin, Relation, Resolved, Snapshot, Source, SourceError, local, poll,
};

const POLL: Duration = Duration::from_secs(60);
const HOLD_BACK: f64 = 0.5;
const TIME_ZONE: Tz = Tz::Europe__Paris;
/// Times real time: slower or faster than this means nothing.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1e9;

/// `CREATE SOURCE … FROM GBFS (url = '…')`.
pub struct Gbfs;

/// A feed that is asked again and again.
#[derive(Clone, Debug)]
struct LiveFeed {
    /// A discovery document, or one that lists stations.
    url: Url,
    /// A second document, for what the stations are.
    information: Option<Url>,
    every: Duration,
    manners: Manners,
    hold_back: f64,
    history: History,
}

/// Documents that were recorded.
#[derive(Clone, Debug)]
struct RecordedFeed {
    path: String,
    zone: Tz,
    /// Times real time; none: as fast as it goes.
    speed: Option<f64>,
    max_bytes: usize,
    hold_back: f64,
}

impl Connector for Gbfs {
    fn kind(&self) -> &'static str {
        "GBFS"
    }

    fn bind(&self, options: &Options) -> Result<Arc<dyn Source>, SourceError> {
        let live = ["url", "information", "poll", "hold_back", "history"].into_iter().chain(Manners::SETTINGS);
        let known: Vec<_> = live.chain(["time_zone", "speed"]).collect();
        let settings = Settings::new(self.kind(), options, &known)?;
        let url = settings.required("url")?;
        let manners = Manners::bind(&settings)?;
        let every = poll::interval(&settings, POLL)?;
        let hold_back = settings.share("hold_back", HOLD_BACK)?;
        let zone = settings.time_zone("time_zone")?.unwrap_or(TIME_ZONE);
        let speed = settings.text("speed").map(|speed| {
            let times = speed.parse().ok().filter(|times| SPEEDS.contains(times));
            times.ok_or_else(|| settings.wrong("speed", "write how many times real time, such as '3600'"))
        });
        let speed = speed.transpose()?;
        let information = settings
            .text("information")
            .map(|url| address(url).ok_or_else(|| settings.wrong("information", "write an http or https address")));
        let information = information.transpose()?;
        match address(url) {
            Some(url) => {
                Ok(Arc::new(LiveFeed { url, information, every, manners, hold_back, history: settings.history()? }))
            }
            None if url.contains("://") => Err(settings.wrong("url", "write an http or https address, or a path")),
            None => {
                let (path, max_bytes) = (url.to_owned(), manners.max_bytes);
                Ok(Arc::new(RecordedFeed { path, zone, speed, max_bytes, hold_back }))
            }
        }
    }
}

impl Source for LiveFeed {
    fn identity(&self) -> String {
        // What a job begins with does not make it another feed.
        format!("{:?}", LiveFeed { history: History::All, ..self.clone() })
    }

    fn bounded(&self) -> bool {
        false
    }

    fn origin(&self) -> Option<Origin> {
        let information = self.information.as_ref().map(Url::as_str).unwrap_or_default();
        Some(Origin::of(&self.url, format!("GBFS {} {information}", self.url)))
    }

    fn history(&self) -> History {
        self.history
    }

    fn record(&self, _: &[Relation], snapshot: &Snapshot) -> BTreeMap<String, RecordBatch> {
        relations::record(snapshot)
    }

    fn restore(&self, _: &[Relation], time: Time, tables: BTreeMap<String, RecordBatch>) -> Snapshot {
        relations::restore(time, tables)
    }

    fn resolve<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        // The relations are the same for every feed: one that is down now may still be installed.
        async { Ok(relations::resolved()) }.boxed()
    }

    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        let every = self.every;
        poll::run(live::Live::new(&self), every, context, out).boxed()
    }
}

impl Source for RecordedFeed {
    fn identity(&self) -> String {
        format!("{self:?}")
    }

    fn bounded(&self) -> bool {
        true
    }

    fn resolve<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Resolved, SourceError>> {
        async { local::files(&context.folder, &self.path).map(|_| relations::resolved()) }.boxed()
    }

    fn run(self: Arc<Self>, context: Context, out: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        recording::play(self, context, out).boxed()
    }
}

#[cfg(test)]
mod tests;
