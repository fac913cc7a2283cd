//! The operator: trucks that even out the stations, stations out of service, and the forced traffic of
//! measurements.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::{City, Closure};

/// Bikes a truck holds.
const TRUCK: u32 = 20;

impl City {
    /// A truck takes from the fullest of a few stations (or the depot) to the emptiest.
    pub(super) fn send_truck(&mut self) {
        const LOOKS: usize = 64;
        let fill = |city: &Self, i: usize| {
            f64::from(city.states[i].bikes.total()) / f64::from(city.stations[i].capacity.max(1))
        };
        let seen: Vec<usize> = (0..LOOKS).map(|_| self.rng.random_range(0..self.stations.len())).collect();
        let open = seen.into_iter().filter(|&i| self.is_open(i));
        let (mut full, mut empty) = (None, None);
        for i in open {
            let (this, most, least) = (fill(self, i), full.map(|f| fill(self, f)), empty.map(|e| fill(self, e)));
            if this > 0.7 && most.is_none_or(|most| this > most) {
                full = Some(i);
            }
            if this < 0.25 && least.is_none_or(|least| this < least) {
                empty = Some(i);
            }
        }
        let Some(to) = empty else { return };
        let load = match full {
            _ if self.depot.total() > 0 => self.depot.take(TRUCK, &mut self.rng),
            Some(from) => {
                let surplus = self.states[from].bikes.total().saturating_sub(self.stations[from].capacity / 2);
                self.states[from].bikes.take(surplus.min(TRUCK), &mut self.rng)
            }
            None => return,
        };
        if load.total() > 0 {
            let seconds = self.rng.random_range(300..1_200);
            self.depart(to, seconds, load);
        }
    }

    /// A station goes out of service for hours: its power fails, or the street is dug up.
    pub(super) fn close(&mut self) {
        let station = self.rng.random_range(0..self.stations.len());
        let until = self.now + self.rng.random_range(3_600..8 * 3_600);
        let removed = self.rng.random_bool(0.3);
        if !self.is_open(station) {
            return;
        }
        self.states[station].closed = Some(Closure { until, removed });
        if removed {
            let bikes = std::mem::take(&mut self.states[station].bikes);
            self.depot.add(bikes);
        }
    }

    /// Moves one bike within each of so many pairs of stations that `share` of all stations change.
    pub(super) fn shuffle(&mut self, share: f64) {
        let mut open: Vec<usize> = (0..self.stations.len()).filter(|&i| self.is_open(i)).collect();
        open.shuffle(&mut self.rng);
        let mut pairs = (share * self.stations.len() as f64 / 2.0).round() as usize;
        let (mut givers, mut takers) = (Vec::new(), Vec::new());
        for i in open {
            // Whoever can do both does what the other side lacks.
            let gives = self.states[i].bikes.total() > 0;
            let takes = self.states[i].free_docks(&self.stations[i]) > 0;
            match (gives, takes) {
                _ if pairs == 0 => break,
                (true, true) if givers.len() <= takers.len() => givers.push(i),
                (true, false) => givers.push(i),
                (_, true) => takers.push(i),
                (false, false) => {}
            }
            while let (Some(&from), Some(&to), 1..) = (givers.last(), takers.last(), pairs) {
                let bike = self.states[from].bikes.take(1, &mut self.rng);
                self.states[to].bikes.add(bike);
                givers.pop();
                takers.pop();
                pairs -= 1;
            }
        }
    }
}
