//! The model is determined by its seed, keeps its bikes, and lives as real cities do.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{Bikes, City, Reading, Station, Traffic, geometry};
use super::{HOUR, TUESDAY};

/// The mean share of stations that change within `minutes`, over some tries from `hour` on.
fn changing(city: &mut City, hour: f64, minutes: i64) -> f64 {
    const TRIES: i64 = 6;
    city.advance_to(TUESDAY + (hour * HOUR as f64) as i64);
    let counts = |city: &City| city.readings().map(|r| (r.bikes, r.docks)).collect::<Vec<_>>();
    let mut changed = 0;
    for _ in 0..TRIES {
        let before = counts(city);
        city.advance_to(city.now() + minutes * 60);
        changed += counts(city).iter().zip(&before).filter(|(now, before)| now != before).count();
    }
    changed as f64 / TRIES as f64 / city.stations().len() as f64
}

#[test]
fn lives_as_the_real_feed_does() {
    for seed in [1, 2, 3] {
        let mut city = City::new(seed, 1_500, TUESDAY);
        for (hour, minutes, low, high) in
            [(3.5, 5, 0.015, 0.045), (8.4, 1, 0.24, 0.31), (14.0, 5, 0.38, 0.52), (18.4, 1, 0.24, 0.31)]
        {
            let share = changing(&mut city, hour, minutes);
            assert!((low..=high).contains(&share), "seed {seed}, {hour} h, {minutes} min: {share:.3}");
        }
    }
}

#[test]
fn people_commute() {
    let mut city = City::new(1, 1_500, TUESDAY);
    // Offices are north-west of the centre: quartiers whose stations fill in the morning.
    let mut fill = |hour: i64| {
        city.advance_to(TUESDAY + hour * HOUR);
        let here = |s: &&(&Station, Reading)| s.0.at.distance(geometry::Point { x: -1_500.0, y: 900.0 }) < 1_500.0;
        let rows: Vec<_> = city.stations().iter().zip(city.readings()).collect();
        let office: Vec<_> = rows.iter().filter(here).collect();
        let bikes: u32 = office.iter().map(|(_, reading)| reading.bikes.total()).sum();
        let docks: u32 = office.iter().map(|(station, _)| station.capacity).sum();
        f64::from(bikes) / f64::from(docks)
    };
    let (night, noon, evening) = (fill(5), fill(11), fill(22));
    assert!(noon > night + 0.15 && noon > evening + 0.15, "{night:.2} {noon:.2} {evening:.2}");
}

#[test]
fn same_seed_same_bytes_however_it_is_asked() {
    let mut one = City::new(7, 300, TUESDAY);
    let mut other = City::new(7, 300, TUESDAY);
    for minute in 0..240 {
        one.advance_to(TUESDAY + 7 * HOUR + minute * 61);
    }
    other.advance_to(one.now());
    assert_eq!(one.status_document(), other.status_document());
    assert_eq!(one.information_document(), other.information_document());
    assert_eq!(one.quartiers_document(), other.quartiers_document());
    assert_ne!(one.quartiers_document(), City::new(8, 300, TUESDAY).quartiers_document());
}

#[test]
fn no_bike_is_lost() {
    for traffic in [Traffic::Rhythm, Traffic::Forced { share: 0.5, every: 60 }] {
        let mut city = City::with_traffic(3, 400, TUESDAY, traffic);
        let fleet = city.fleet();
        assert!(fleet.mechanical > fleet.electric && fleet.electric > 1_000);
        for hour in 1..=72 {
            city.advance_to(TUESDAY + hour * HOUR);
            assert_eq!(city.fleet(), fleet, "{traffic:?} {hour} h");
        }
    }
}

#[test]
fn a_forced_share_is_exact() {
    for share in [0.0, 0.03, 0.25, 0.6] {
        let mut city = City::with_traffic(1, 1_500, TUESDAY, Traffic::Forced { share, every: 30 });
        for step in 1..200 {
            let before: Vec<Bikes> = city.readings().map(|r| r.bikes).collect();
            city.advance_to(TUESDAY + step * 30);
            let changed = city.readings().zip(before).filter(|(now, before)| now.bikes != *before).count();
            assert_eq!(changed, 2 * (share * 750.0).round() as usize, "share {share}, step {step}");
        }
    }
}

#[test]
fn stations_are_as_varied_as_real_ones() {
    let mut city = City::new(1, 1_500, TUESDAY);
    city.advance_to(TUESDAY + 60 * HOUR);
    let stations = city.stations();
    let distinct = |of: &dyn Fn(&Station) -> String| stations.iter().map(of).collect::<HashSet<_>>().len();
    assert_eq!(distinct(&|s| s.id.to_string()), 1_500);
    assert_eq!(distinct(&|s| s.code.clone()), 1_500);
    assert_eq!(distinct(&|s| s.name.clone()), 1_500);
    assert!(stations.iter().all(|s| (4..=5).contains(&s.code.len())));
    assert!(stations.iter().all(|s| s.capacity == 0 || (12..=65).contains(&s.capacity)));
    assert!(stations.iter().filter(|s| s.id > u64::from(u32::MAX)).count() > 300);
    assert!((3..30).contains(&stations.iter().filter(|s| s.capacity == 0).count()));
    assert!(stations.iter().filter(|s| s.quartier.is_none()).count() > 100);
    let live = stations.iter().zip(city.readings()).filter(|(station, _)| station.capacity > 0);
    assert!(live.filter(|(_, reading)| !reading.open).count() > 0, "something is always closed");
    for count in [1, 2, 20, 12_000] {
        assert_eq!(
            City::with_traffic(1, count, TUESDAY, Traffic::Forced { share: 0.5, every: 60 }).stations().len(),
            count
        );
    }
    City::new(1, 1, TUESDAY).advance_to(TUESDAY + 24 * HOUR);
}

#[test]
fn every_station_is_in_the_quartier_it_names() {
    for seed in [1, 2] {
        let city = City::new(seed, 1_500, TUESDAY);
        let map: Value = serde_json::from_str(&city.quartiers_document()).unwrap();
        let features = map["features"].as_array().unwrap();
        assert_eq!(features.len(), 80);
        for station in city.stations() {
            let inside = |feature: &&Value| contains(&feature["geometry"]["coordinates"][0], station);
            let found: Vec<_> = features.iter().filter(inside).map(|f| f["properties"]["c_qu"].as_u64()).collect();
            let expected: Vec<_> = station.quartier.iter().map(|id| Some(u64::from(*id))).collect();
            assert_eq!(found, expected, "{}", station.name);
        }
        let arrondissements: HashSet<_> = features.iter().map(|f| f["properties"]["c_ar"].as_u64()).collect();
        assert_eq!(arrondissements.len(), 20);
    }
}

/// Even or odd: how often a line to the east crosses the ring.
fn contains(ring: &Value, station: &Station) -> bool {
    let point = |p: &Value| (p[0].as_f64().unwrap(), p[1].as_f64().unwrap());
    let ring: Vec<(f64, f64)> = ring.as_array().unwrap().iter().map(point).collect();
    assert_eq!(ring.first(), ring.last(), "rings are closed");
    let (x, y) = (station.longitude, station.latitude);
    let crosses = |edge: &&[(f64, f64)]| {
        let ((ax, ay), (bx, by)) = (edge[0], edge[1]);
        (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
    };
    ring.windows(2).filter(crosses).count() % 2 == 1
}
