//! Polling a feed: what its documents are, when each is due, and what of them is believed.
//!
//! The status is asked for at each poll. What the stations are changes rarely: that is asked for every
//! [`INFORMATION_POLLS`] polls, and as soon as the status lists a station that is not known yet (once for
//! each such station, as some are never described). A feed that fails [`REDISCOVER`] times in a row may
//! have moved: its discovery document is read again.

use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use hashbrown::HashSet;
use reqwest::{Client, Url};
use velib_operators::Time;

use super::decode::{self, Tables, VehicleTypes};
use super::guard::{Guard, Standing};
use super::{LiveFeed, document, relations};
use crate::source::Rejection;
use crate::source::fetch::{FetchError, Fetched, Manners, Validators, address, fetch, plain};
use crate::source::poll::{Clock, Poll, Polled};

const INFORMATION_POLLS: u32 = 10;
const REDISCOVER: u32 = 3;

/// A feed that is polled.
pub(super) struct Live {
    url: Url,
    information: Option<Url>,
    manners: Manners,
    /// Known once the discovery document was read.
    parts: Option<Parts>,
    status: Judge,
    stations: Judge,
    types: VehicleTypes,
    /// Polls until the stations are asked for again.
    until_information: u32,
    /// Stations that are not described, though that was asked for.
    undescribed: HashSet<u64>,
    failures: u32,
}

/// The documents of a feed.
struct Parts {
    status: Part,
    information: Option<Part>,
    vehicle_types: Option<Part>,
}

/// One document.
struct Part {
    url: Url,
    accepted: Validators,
}

/// What is believed of one kind of document.
struct Judge {
    guard: Guard,
    standing: Standing,
}

/// A document that came, with what to keep once it is accepted.
struct Body {
    bytes: Vec<u8>,
    validators: Validators,
}

/// The good and the bad of one poll.
#[derive(Default)]
struct Findings {
    rejections: Vec<Rejection>,
    stations: Option<RecordBatch>,
    status: Option<RecordBatch>,
    error: Option<FetchError>,
}

impl Part {
    fn new(url: Url) -> Self {
        Part { url, accepted: Validators::default() }
    }

    /// The document, unless it is the one that was accepted last.
    async fn ask(&self, client: &Client, manners: &Manners, now: Time) -> Result<Option<Body>, FetchError> {
        Ok(match fetch(client, &self.url, manners, &self.accepted, now).await? {
            Fetched::Unchanged => None,
            Fetched::Body(bytes, validators) => Some(Body { bytes, validators }),
        })
    }
}

impl Findings {
    /// Notes that the document at `url` is refused as a whole.
    fn refuse(&mut self, url: &Url, why: &str, bytes: &[u8], time: Time) {
        let reason = format!("{}: {why}", plain(url));
        let start = &bytes[..bytes.len().min(Rejection::SAMPLE)];
        let sample = Rejection::sample(&String::from_utf8_lossy(start));
        self.rejections.push(Rejection { time, relation: String::new(), reason: reason.clone(), sample });
        self.error.get_or_insert(FetchError { message: reason, retry_after: None });
    }
}

impl Poll for Live {
    fn poll<'a>(&'a mut self, client: &'a Client, clock: &'a mut Clock) -> BoxFuture<'a, Polled> {
        self.poll_once(client, clock).boxed()
    }
}

impl Live {
    /// Nothing is asked yet.
    pub(super) fn new(feed: &LiveFeed) -> Self {
        let judge = || Judge { guard: Guard::new(feed.hold_back), standing: Standing::default() };
        Live {
            url: feed.url.clone(),
            information: feed.information.clone(),
            manners: feed.manners.clone(),
            parts: None,
            status: judge(),
            stations: judge(),
            types: VehicleTypes::default(),
            until_information: 0,
            undescribed: HashSet::new(),
            failures: 0,
        }
    }

    async fn poll_once(&mut self, client: &Client, clock: &mut Clock) -> Polled {
        let mut found = Findings::default();
        if let Err(error) = self.ask_all(client, clock, &mut found).await {
            found.error = Some(error);
        }
        let something = found.status.is_some() || found.stations.is_some();
        self.failures = if found.error.is_some() && !something { self.failures + 1 } else { 0 };
        if self.failures >= REDISCOVER {
            (self.parts, self.failures) = (None, 0);
        }
        let time = clock.tick();
        for rejection in &mut found.rejections {
            rejection.time = time;
        }
        let snapshot = something.then(|| relations::snapshot(time, found.stations, found.status));
        Polled { rejections: found.rejections, snapshot, error: found.error }
    }

    async fn ask_all(&mut self, client: &Client, clock: &Clock, found: &mut Findings) -> Result<(), FetchError> {
        let body = if self.parts.is_none() { self.discover(client, clock, found).await? } else { None };
        let Some(parts) = &self.parts else { return Ok(()) };
        let due = self.until_information == 0;
        if due && let Some(part) = &parts.vehicle_types {
            // Without it, bikes cannot be told from e-bikes, but all else can.
            match part.ask(client, &self.manners, clock.wall()).await {
                Ok(Some(body)) => self.read_types(&body, clock.wall(), found),
                Ok(None) => {}
                Err(error) => found.error = Some(error),
            }
        }
        let Some(parts) = &self.parts else { return Ok(()) };
        let body = match body {
            Some(body) => Some(body),
            None => parts.status.ask(client, &self.manners, clock.wall()).await?,
        };
        if let Some(body) = body {
            self.read_status(body, clock.wall(), found);
        }
        let due = due || found.status.as_ref().is_some_and(|status| self.unknown(status));
        self.until_information = if due { INFORMATION_POLLS } else { self.until_information } - 1;
        if due {
            self.ask_information(client, clock, found).await;
        }
        Ok(())
    }

    /// Finds out what documents there are. Yields the body, if it is one that lists stations itself.
    async fn discover(
        &mut self,
        client: &Client,
        clock: &Clock,
        found: &mut Findings,
    ) -> Result<Option<Body>, FetchError> {
        let asked = Part::new(self.url.clone());
        let Some(body) = asked.ask(client, &self.manners, clock.wall()).await? else { return Ok(None) };
        let parts = document::text(&body.bytes).and_then(document::read).and_then(|document| {
            let information = self.information.clone().map(Part::new);
            if document.stations.is_some() || document.feeds.is_empty() {
                return Ok((Parts { status: Part::new(self.url.clone()), information, vehicle_types: None }, true));
            }
            let listed = |name: &str| {
                let feed =
                    document.feeds.iter().find(|feed| feed.name.text().ok().flatten().as_deref() == Some(name))?;
                let url = self.url.join(&feed.url.text().ok()??).ok()?;
                address(url.as_str()).map(Part::new)
            };
            let status = listed("station_status").ok_or("it lists no station_status with a usable address")?;
            let information = information.or_else(|| listed("station_information"));
            Ok((Parts { status, information, vehicle_types: listed("vehicle_types") }, false))
        });
        match parts {
            Ok((parts, direct)) => {
                self.parts = Some(parts);
                self.until_information = 0;
                Ok(direct.then_some(body))
            }
            Err(why) => {
                found.refuse(&self.url, &why, &body.bytes, clock.wall());
                Ok(None)
            }
        }
    }

    fn read_types(&mut self, body: &Body, now: Time, found: &mut Findings) {
        let Some(part) = self.parts.as_mut().and_then(|parts| parts.vehicle_types.as_mut()) else { return };
        let read = document::text(&body.bytes).and_then(document::read);
        match read.and_then(|document| {
            document
                .vehicle_types
                .ok_or_else(|| "no data.vehicle_types".to_owned())
                .map(|listed| decode::vehicle_types(&listed))
        }) {
            Ok(types) => {
                self.types = types;
                part.accepted = body.validators.clone();
            }
            Err(why) => found.refuse(&part.url, &why, &body.bytes, now),
        }
    }

    fn read_status(&mut self, body: Body, now: Time, found: &mut Findings) {
        let Some(parts) = &mut self.parts else { return };
        match read(&body.bytes, &self.types, now) {
            Ok(tables) => {
                let status = tables.status.ok_or_else(|| "its stations have no status".to_owned());
                match status.and_then(|status| self.status.guard.check(&status).map(|()| status)) {
                    Ok(status) => {
                        found.status = Some(status);
                        parts.status.accepted = body.validators;
                    }
                    Err(why) => return found.refuse(&parts.status.url, &why, &body.bytes, now),
                }
                found.rejections.extend(self.status.standing.news(tables.rejections));
                // The open-data site says in one document what stations are and how they are.
                if let Some(stations) = tables.stations {
                    self.describe(stations, now, found);
                }
            }
            Err(why) => found.refuse(&parts.status.url, &why, &body.bytes, now),
        }
    }

    async fn ask_information(&mut self, client: &Client, clock: &Clock, found: &mut Findings) {
        let Some(part) = self.parts.as_ref().and_then(|parts| parts.information.as_ref()) else { return };
        let body = match part.ask(client, &self.manners, clock.wall()).await {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) => {
                found.error.get_or_insert(error);
                return;
            }
        };
        let url = part.url.clone();
        let tables = read(&body.bytes, &self.types, clock.wall());
        match tables.and_then(|tables| match tables.stations {
            Some(stations) => Ok((stations, tables.rejections)),
            None => Err("it says nothing of what its stations are".to_owned()),
        }) {
            Ok((stations, rejections)) => {
                found.rejections.extend(self.stations.standing.news(rejections));
                if self.describe(stations, clock.wall(), found)
                    && let Some(part) = self.parts.as_mut().and_then(|parts| parts.information.as_mut())
                {
                    part.accepted = body.validators;
                }
            }
            Err(why) => found.refuse(&url, &why, &body.bytes, clock.wall()),
        }
    }

    /// Takes over what the stations are, unless most are gone.
    fn describe(&mut self, stations: RecordBatch, time: Time, found: &mut Findings) -> bool {
        match self.stations.guard.check(&stations) {
            Ok(()) => {
                found.stations = Some(stations);
                true
            }
            Err(reason) => {
                let (relation, sample) = ("stations".to_owned(), String::new());
                found.rejections.push(Rejection { time, relation, reason, sample });
                false
            }
        }
    }

    /// Whether the status lists stations that are not described and were not asked for yet.
    fn unknown(&mut self, status: &RecordBatch) -> bool {
        let unknown: HashSet<u64> = self.stations.guard.unknown(status).collect();
        let new = !unknown.is_subset(&self.undescribed);
        self.undescribed = unknown;
        new
    }
}

fn read(bytes: &[u8], types: &VehicleTypes, now: Time) -> Result<Tables, String> {
    let text = document::text(bytes)?;
    decode::tables(&document::read(text)?, text, types, now)
}
