//! The stations of a city: where they are, what they are called, who goes there.

use std::collections::HashSet;
use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::geometry::{Point, area, middle};
use super::map::{self, Map};
use super::names::StationNames;

/// What people do at a place, and so when they come and go. Indexes [`Station::pull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Home = 0,
    Work = 1,
    Leisure = 2,
    /// All of them.
    Any = 3,
}

/// What does not change about a station.
#[derive(Clone, Debug)]
pub struct Station {
    /// The feed's key: an integer, for many stations beyond 32 bits.
    pub id: u64,
    /// What is written on the station: `17042`, mostly the arrondissement (or commune) and a number.
    pub code: String,
    /// Where it is, in words.
    pub name: String,
    /// Degrees.
    pub longitude: f64,
    /// Degrees.
    pub latitude: f64,
    /// Docks; 0 for the dead stations that feeds go on listing.
    pub capacity: u32,
    /// `c_qu` of the quartier it is in; `None` in the suburbs.
    pub quartier: Option<u32>,
    pub(super) at: Point,
    /// How much it attracts, by [`Purpose`].
    pub(super) pull: [f64; 4],
}

/// Of all stations; the rest is in the suburbs.
const IN_CITY: f64 = 0.86;
/// Listed but never to be used again.
const DEAD: f64 = 0.008;
/// Codes that name another arrondissement than the station's own.
const ASTRAY: f64 = 0.014;
/// Real feeds number their newer stations so.
const LONG_IDS: std::ops::Range<u64> = (1 << 32)..20_702_946_965;
const SHORT_IDS: std::ops::Range<u64> = 10_000..999_999_999;
/// The communes around the city have the codes after the arrondissements'.
const COMMUNES: f64 = 28.0;
const FIRST_COMMUNE: u32 = 21;

/// Places `count` stations: evenly by area in the city, some in the suburbs.
pub(super) fn place(map: &Map, count: usize, rng: &mut ChaCha8Rng) -> Vec<Station> {
    let in_city = (count as f64 * IN_CITY).round() as usize;
    let areas: Vec<f64> = map.quartiers.iter().map(|quartier| area(&quartier.cell)).collect();
    let step = areas.iter().sum::<f64>() / in_city.max(1) as f64;
    let mut registry = Registry::new(count);
    let mut stations = Vec::with_capacity(count);
    let (mut seen, mut placed) = (0.0, 0);
    for (quartier, area) in map.quartiers.iter().zip(&areas) {
        seen += area;
        let here = stations.len();
        while placed < in_city && (placed as f64 + 0.5) * step <= seen {
            let at = far_from(&stations[here..], || map::inside(quartier, rng));
            let pull = character(middle(&quartier.cell), 1.0);
            stations.push(registry.station(map, at, Some(quartier.id), quartier.arrondissement, pull, rng));
            placed += 1;
        }
    }
    let suburbs = stations.len();
    while stations.len() < count {
        let at = far_from(&stations[suburbs..], || map::suburb(rng));
        let commune = FIRST_COMMUNE + ((at.y.atan2(at.x) / TAU).rem_euclid(1.0) * COMMUNES) as u32;
        stations.push(registry.station(map, at, None, commune, character(at, 0.45), rng));
    }
    stations
}

/// The best of a few places: the one farthest from the stations that are there already.
fn far_from(stations: &[Station], mut place: impl FnMut() -> Point) -> Point {
    const PLACES: usize = 10;
    let room = |p: Point| stations.iter().map(|s| s.at.distance(p)).fold(f64::INFINITY, f64::min);
    let mut best = place();
    for _ in 1..PLACES {
        let other = place();
        if room(other) > room(best) {
            best = other;
        }
    }
    best
}

/// What a place attracts people for: offices lie north-west of the centre and in the south-east, cafés
/// and theatres in the centre and along the river, homes everywhere else.
fn character(at: Point, density: f64) -> [f64; 4] {
    let near = |x: f64, y: f64, reach: f64| (-(at.distance(Point { x, y }) / reach).powi(2)).exp();
    let work = 0.25 + 1.9 * near(-1_500.0, 900.0, 2_200.0) + 1.3 * near(3_000.0, -2_300.0, 1_300.0);
    let leisure = 0.3 + 1.6 * near(700.0, -200.0, 1_700.0) + 0.8 * near(-300.0, 3_600.0, 900.0);
    let home = 1.5 / (0.6 + work);
    [home * density, work * density, leisure * density, 0.0]
}

/// Hands out ids, codes and names, none twice.
struct Registry {
    names: StationNames,
    ids: HashSet<u64>,
    /// Stations so far by area code.
    numbers: Vec<u32>,
    /// Numbers an area can have: 1,000, or more in cities far larger than life.
    block: u32,
}

impl Registry {
    fn new(count: usize) -> Self {
        let block = if count > 8_000 { 10_000 } else { 1_000 };
        Self { names: StationNames::new(), ids: HashSet::new(), numbers: vec![0; 64], block }
    }

    fn station(
        &mut self,
        map: &Map,
        at: Point,
        quartier: Option<u32>,
        area: u32,
        character: [f64; 4],
        rng: &mut ChaCha8Rng,
    ) -> Station {
        let range = if rng.random_bool(0.4) { LONG_IDS } else { SHORT_IDS };
        let mut id = rng.random_range(range.clone());
        while !self.ids.insert(id) {
            id = rng.random_range(range.clone());
        }
        let area = if rng.random_bool(ASTRAY) { area % 20 + 1 } else { area };
        self.numbers[area as usize] += 1;
        let code = (area * self.block + self.numbers[area as usize]).to_string();
        let capacity =
            if rng.random_bool(DEAD) { 0 } else { 12 + (53.0 * rng.random::<f64>().powf(1.8)).round() as u32 };
        let popularity = (0.35 * normal(rng)).exp() * (0.4 + f64::from(capacity) / 50.0);
        let mut pull = character.map(|weight| weight * popularity);
        pull[Purpose::Any as usize] = pull.iter().sum();
        let [longitude, latitude] = map.place(at);
        Station { id, code, name: self.names.next(rng), longitude, latitude, capacity, quartier, at, pull }
    }
}

/// Roughly normal, mean 0, variance 1: the sum of twelve.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}
