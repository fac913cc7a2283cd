//! The model: bikes that people ride, trucks move and the works department locks away.
//!
//! A city is determined by its seed, its number of stations and the simulated time: it advances in ticks
//! of fixed length, whoever asks and however often. No bike appears or vanishes: each is at a station, in
//! somebody's hands, on a truck or in the depot.

mod riding;
mod service;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rstar::RTree;
use rstar::primitives::GeomWithData;

use super::map::Map;
use super::rhythm::{FLOWS, Moment};
use super::stations::{self, Purpose, Station};

/// Seconds of a tick.
const TICK: i64 = 10;
/// A new city lives through these before anybody looks, to have bikes on the road and a day behind it.
const WARM_UP: i64 = 3 * 3600;
/// The next stations that somebody tries whose own is empty or full.
const NEIGHBOURS: usize = 6;
/// Each of these is a rate an hour for each station.
const TRUCK_TOURS: f64 = 0.025;
const CLOSURES: f64 = 0.000_8;
const REPAIRS: f64 = 0.01;

/// Bikes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bikes {
    /// Without a motor.
    pub mechanical: u32,
    /// With one.
    pub electric: u32,
}

impl Bikes {
    /// Both kinds.
    pub fn total(self) -> u32 {
        self.mechanical + self.electric
    }

    fn add(&mut self, other: Self) {
        self.mechanical += other.mechanical;
        self.electric += other.electric;
    }

    /// Takes out up to `count` bikes, of both kinds in proportion.
    fn take(&mut self, count: u32, rng: &mut ChaCha8Rng) -> Self {
        let mut taken = Self::default();
        for _ in 0..count.min(self.total()) {
            let kind = rng.random_range(0..self.total()) < self.electric;
            let (from, to) = match kind {
                true => (&mut self.electric, &mut taken.electric),
                false => (&mut self.mechanical, &mut taken.mechanical),
            };
            *from -= 1;
            *to += 1;
        }
        taken
    }
}

/// What makes bikes move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// The life of a city.
    Rhythm,
    /// Every so many seconds, exactly this share of the stations changes (as far as pairs allow): for
    /// measurements.
    Forced {
        /// From 0 to 1.
        share: f64,
        /// Seconds of a step.
        every: i64,
    },
}

/// What a station's row in the feed says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// On its docks (or beside them).
    pub bikes: Bikes,
    /// Docks that take a bike.
    pub docks: u32,
    /// It is there.
    pub installed: bool,
    /// It gives out bikes and takes them back.
    pub open: bool,
    /// When it last called home, seconds since 1970: about once an hour, whatever happens in between.
    pub reported: i64,
}

#[derive(Clone, Debug)]
struct State {
    bikes: Bikes,
    broken_docks: u32,
    closed: Option<Closure>,
    reported: i64,
}

#[derive(Clone, Copy, Debug)]
struct Closure {
    until: i64,
    /// Dug up: its bikes are in the depot.
    removed: bool,
}

/// Bikes on their way: one with its rider, several on a truck. In order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: i64,
    /// Makes the order total, and so the same every time.
    number: u64,
    station: usize,
    bikes: Bikes,
}

/// A city at a simulated time.
#[derive(Clone, Debug)]
pub struct City {
    pub(super) map: Map,
    stations: Vec<Station>,
    states: Vec<State>,
    /// By station, nearest first.
    neighbours: Vec<Vec<usize>>,
    /// By [`Purpose`]: running sums of what the stations pull.
    pulls: [Vec<f64>; 4],
    under_way: BinaryHeap<Reverse<Arrival>>,
    departures: u64,
    depot: Bikes,
    traffic: Traffic,
    rng: ChaCha8Rng,
    now: i64,
}

impl City {
    /// The most stations a city can have.
    pub const STATIONS_LIMIT: usize = 50_000;

    /// A city at `start`, seconds since 1970.
    pub fn new(seed: u64, stations: usize, start: i64) -> Self {
        Self::with_traffic(seed, stations, start, Traffic::Rhythm)
    }

    /// A city whose bikes move by the given traffic.
    pub fn with_traffic(seed: u64, stations: usize, start: i64, traffic: Traffic) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let map = Map::new(&mut rng);
        let stations = stations::place(&map, stations.clamp(1, Self::STATIONS_LIMIT), &mut rng);
        let warm_up = if traffic == Traffic::Rhythm { WARM_UP } else { 0 };
        let now = start - warm_up;
        let states = stations.iter().map(|station| State::new(station, now, &mut rng)).collect();
        let neighbours = neighbours(&stations);
        let pulls = [Purpose::Home, Purpose::Work, Purpose::Leisure, Purpose::Any].map(|purpose| {
            let pull = |sum: &mut f64, station: &Station| {
                *sum += station.pull[purpose as usize];
                Some(*sum)
            };
            stations.iter().scan(0.0, pull).collect()
        });
        let under_way = BinaryHeap::new();
        let (departures, depot) = (0, Bikes::default());
        let mut city =
            Self { map, stations, states, neighbours, pulls, under_way, departures, depot, traffic, rng, now };
        city.advance_to(start);
        city
    }

    /// Lives on until `time` (seconds since 1970), tick by tick. The past is not to be had: an earlier
    /// time changes nothing.
    pub fn advance_to(&mut self, time: i64) {
        let tick = match self.traffic {
            Traffic::Rhythm => TICK,
            Traffic::Forced { every, .. } => every.max(1),
        };
        while self.now + tick <= time {
            self.now += tick;
            match self.traffic {
                Traffic::Rhythm => self.tick(),
                Traffic::Forced { share, .. } => self.shuffle(share),
            }
            self.report(tick);
        }
    }

    /// The time of the last tick, seconds since 1970.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Every station, in the order of [`Self::readings`].
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }

    /// What the feed says now, station by station.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + '_ {
        self.stations.iter().zip(&self.states).map(|(station, state)| {
            let removed = station.capacity == 0 || state.closed.is_some_and(|closure| closure.removed);
            Reading {
                bikes: state.bikes,
                docks: if removed { 0 } else { state.free_docks(station) },
                installed: !removed,
                open: state.is_open(station),
                reported: state.reported,
            }
        })
    }

    /// Every bike there is, wherever it is. Never changes.
    pub fn fleet(&self) -> Bikes {
        let mut fleet = self.depot;
        self.states.iter().for_each(|state| fleet.add(state.bikes));
        self.under_way.iter().for_each(|Reverse(arrival)| fleet.add(arrival.bikes));
        fleet
    }

    fn tick(&mut self) {
        while let Some(Reverse(arrival)) = self.under_way.peek().copied().filter(|next| next.0.at <= self.now) {
            self.under_way.pop();
            self.arrive(arrival);
        }
        let moment = Moment::at(self.now);
        for flow in &FLOWS {
            for _ in 0..self.events(flow.rate(moment)) {
                self.ride(flow);
            }
        }
        for _ in 0..self.events(TRUCK_TOURS / 3600.0) {
            self.send_truck();
        }
        for _ in 0..self.events(REPAIRS / 3600.0) {
            let station = self.rng.random_range(0..self.stations.len());
            self.states[station].broken_docks = broken_docks(&self.stations[station], &mut self.rng);
        }
        for _ in 0..self.events(CLOSURES / 3600.0) {
            self.close();
        }
    }

    /// How many of the events happen in this tick that happen at `rate` a second for each station.
    fn events(&mut self, rate: f64) -> u32 {
        poisson(rate * self.stations.len() as f64 * TICK as f64, &mut self.rng)
    }

    fn is_open(&self, station: usize) -> bool {
        self.states[station].is_open(&self.stations[station])
    }

    /// The station, or one of its next `patience` neighbours, where something is so.
    fn here_or_near(&self, station: usize, patience: usize, so: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let near = self.neighbours[station].iter().copied().take(patience);
        std::iter::once(station).chain(near).find(|&place| so(self, place))
    }

    /// Stations call home within minutes of the full hour, and whoever was closed long enough opens.
    fn report(&mut self, tick: i64) {
        let hourly = self.now.rem_euclid(3_600) < tick;
        for (station, state) in self.stations.iter().zip(&mut self.states) {
            if state.closed.is_some_and(|closure| closure.until <= self.now) {
                state.closed = None;
                state.reported = self.now;
            }
            if hourly && state.is_open(station) {
                state.reported = self.now - self.rng.random_range(0..180);
            }
        }
    }
}

impl State {
    fn new(station: &Station, now: i64, rng: &mut ChaCha8Rng) -> Self {
        const YEAR: i64 = 365 * 86_400;
        let dead = station.capacity == 0;
        let bikes = (f64::from(station.capacity) * rng.random_range(0.1..0.7)) as u32;
        let electric = (0..bikes).filter(|_| rng.random_bool(0.4)).count() as u32;
        let reported = now - if dead { rng.random_range(YEAR..3 * YEAR) } else { rng.random_range(0..3_600) };
        let broken_docks = broken_docks(station, rng);
        Self { bikes: Bikes { mechanical: bikes - electric, electric }, broken_docks, closed: None, reported }
    }

    fn is_open(&self, station: &Station) -> bool {
        station.capacity > 0 && self.closed.is_none()
    }

    fn free_docks(&self, station: &Station) -> u32 {
        station.capacity.saturating_sub(self.broken_docks + self.bikes.total())
    }
}

/// Half of the stations have some.
fn broken_docks(station: &Station, rng: &mut ChaCha8Rng) -> u32 {
    if rng.random_bool(0.5) { 0 } else { rng.random_range(1..=4).min(station.capacity / 4) }
}

fn neighbours(stations: &[Station]) -> Vec<Vec<usize>> {
    let located = |(i, station): (usize, &Station)| GeomWithData::new([station.at.x, station.at.y], i);
    let tree = RTree::bulk_load(stations.iter().enumerate().map(located).collect());
    let near = |(own, station): (usize, &Station)| {
        let by_distance = tree.nearest_neighbor_iter([station.at.x, station.at.y]);
        by_distance.map(|other| other.data).filter(|&other| other != own).take(NEIGHBOURS).collect()
    };
    stations.iter().enumerate().map(near).collect()
}

/// How often something happens that happens `mean` times on average.
fn poisson(mut mean: f64, rng: &mut ChaCha8Rng) -> u32 {
    // Large means in portions, for the product below must not vanish.
    const PORTION: f64 = 30.0;
    let mut count = 0;
    while mean > 0.0 {
        let limit = (-mean.min(PORTION)).exp();
        let mut product = rng.random::<f64>();
        while product > limit {
            product *= rng.random::<f64>();
            count += 1;
        }
        mean -= PORTION;
    }
    count
}
