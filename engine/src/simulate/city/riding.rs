//! People: where they take a bike, where they go, and what they do at a full station.

use std::cmp::Reverse;

use rand::RngExt;

use super::super::rhythm::Flow;
use super::super::stations::Purpose;
use super::{Arrival, Bikes, City, NEIGHBOURS, TICK};

/// Bikes that attendants squeeze in beyond the docks.
const OVERFLOW: u32 = 6;

impl City {
    /// Somebody takes a bike, here or next door, and rides.
    pub(super) fn ride(&mut self, flow: &Flow) {
        let wish = self.attracted(flow.from);
        let has_bikes = |city: &Self, i: usize| city.is_open(i) && city.states[i].bikes.total() > 0;
        let Some(from) = self.here_or_near(wish, 3, has_bikes) else { return };
        let to = self.destination(from, flow.to);
        let bike = self.states[from].bikes.take(1, &mut self.rng);
        let speed = if bike.electric > 0 { 5.0 } else { 4.0 };
        let metres = 1.3 * self.stations[from].at.distance(self.stations[to].at);
        let seconds = (90.0 + metres / speed) * self.rng.random_range(0.8..1.4);
        self.depart(to, seconds as i64, bike);
    }

    /// Where a ride goes: a place for the purpose, rather not too far and not next door.
    fn destination(&mut self, from: usize, purpose: Purpose) -> usize {
        const TRIES: usize = 8;
        let mut to = from;
        for _ in 0..TRIES {
            to = self.attracted(purpose);
            let metres = self.stations[from].at.distance(self.stations[to].at);
            let taste = if metres < 400.0 { 0.05 } else { (-metres / 2_000.0).exp() };
            if self.rng.random_bool(taste) {
                break;
            }
        }
        to
    }

    /// A station, each as likely as it pulls.
    fn attracted(&mut self, purpose: Purpose) -> usize {
        let pulls = &self.pulls[purpose as usize];
        let point = self.rng.random::<f64>() * pulls.last().expect("a city has a station");
        pulls.partition_point(|sum| *sum <= point).min(pulls.len() - 1)
    }

    pub(super) fn depart(&mut self, station: usize, seconds: i64, bikes: Bikes) {
        self.departures += 1;
        let at = self.now + seconds.max(TICK);
        self.under_way.push(Reverse(Arrival { at, number: self.departures, station, bikes }));
    }

    /// Bikes are put on free docks, here or nearby. If there are none, a rider leaves the bike beside a
    /// full station or rides on, a truck brings the rest home.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { station, mut bikes, .. } = arrival;
        let has_room = |city: &Self, i: usize| city.is_open(i) && city.states[i].free_docks(&city.stations[i]) > 0;
        let patience = if bikes.total() == 1 && self.rng.random_bool(0.03) { 0 } else { NEIGHBOURS };
        while let Some(place) = self.here_or_near(station, patience, has_room) {
            let room = self.states[place].free_docks(&self.stations[place]);
            let parked = bikes.take(room, &mut self.rng);
            self.states[place].bikes.add(parked);
            if bikes.total() == 0 {
                return;
            }
        }
        let squeezes = |city: &Self, i: usize| {
            city.is_open(i) && city.states[i].bikes.total() < city.stations[i].capacity + OVERFLOW
        };
        if bikes.total() > 1 {
            self.depot.add(bikes);
        } else if squeezes(self, station) {
            self.states[station].bikes.add(bikes);
        } else {
            let onward = self.neighbours[station].get(NEIGHBOURS / 2).copied().unwrap_or(station);
            self.depart(onward, 180, bikes);
        }
    }
}
