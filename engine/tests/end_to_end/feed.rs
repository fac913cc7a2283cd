//! What the feed says, known to the tests: the same city that is served, lived through beforehand.

use std::path::Path;

use chrono::DateTime;
use serde_json::{Value, json};
use velib_engine::simulate::{City, Running, Settings, Traffic, serve};
use velib_engine::source::build_client;

pub const STATIONS: usize = 200;
/// Seconds between two documents.
const STEP: i64 = 60;
/// Of the stations, from one document to the next.
const CHANGED: f64 = 0.25;
const SEED: u64 = 1;
/// 2024-11-05T07:00:00Z.
pub const START: i64 = 1_730_790_000;

/// A station, its bikes and its docks, in the order of ids.
pub type Rows = Vec<(String, i64, i64)>;

/// What the first documents of the city say.
pub struct Life {
    pub states: Vec<Rows>,
}

fn born() -> City {
    City::with_traffic(SEED, STATIONS, START, Traffic::Forced { share: CHANGED, every: STEP })
}

impl Life {
    pub fn of(documents: usize) -> Life {
        let mut city = born();
        let mut state = |document| {
            city.advance_to(START + document as i64 * STEP);
            let rows = city.stations().iter().zip(city.readings()).map(|(station, reading)| {
                (station.id.to_string(), i64::from(reading.bikes.total()), i64::from(reading.docks))
            });
            let mut rows: Rows = rows.collect();
            rows.sort();
            rows
        };
        Life { states: (0..documents).map(&mut state).collect() }
    }

    /// Milliseconds of a recorded document.
    pub fn time(document: usize) -> i64 {
        (START + document as i64 * STEP) * 1_000
    }

    /// The document that says this.
    pub fn document(&self, rows: &Rows) -> Option<usize> {
        self.states.iter().position(|state| state == rows)
    }

    /// Documents as files named after their times, and the areas.
    pub fn record(&self, folder: &Path) {
        let mut city = born();
        std::fs::write(folder.join("quartiers.geojson"), city.quartiers_document()).unwrap();
        let name = |kind: &str, document: usize| {
            let time = DateTime::from_timestamp_millis(Life::time(document)).unwrap();
            folder.join(format!("{kind}_{}.json", time.format("%Y-%m-%dT%H-%M-%SZ")))
        };
        std::fs::write(name("information", 0), city.information_document()).unwrap();
        for document in 0..self.states.len() {
            city.advance_to(START + document as i64 * STEP);
            std::fs::write(name("status", document), city.status_document()).unwrap();
        }
    }
}

/// Bikes, docks, and the sum of the squares of bikes: bikes move from one station to another, so that the first two
/// are the same in every document, and only the last tells one document from another.
pub fn totals(rows: &Rows) -> (i64, i64, i64) {
    rows.iter().fold((0, 0, 0), |(bikes, docks, squares), row| (bikes + row.1, docks + row.2, squares + row.1 * row.1))
}

/// The city at the beginning; each poll brings the next document.
pub async fn city() -> Running {
    city_of(STATIONS, START).await
}

/// A city of so many stations, whose clock shows `start`, in seconds since 1970.
pub async fn city_of(stations: usize, start: i64) -> Running {
    let address = "127.0.0.1:0".parse().unwrap();
    let start = DateTime::from_timestamp(start, 0);
    let settings = Settings {
        seed: SEED,
        stations,
        step: Some(STEP as u32),
        changed_share: Some(CHANGED),
        start,
        address,
        ..Settings::default()
    };
    serve(settings).await.unwrap()
}

/// The next `count` polls go wrong in this way.
pub async fn order(city: &Running, fault: &str, count: u64) {
    let url = format!("http://{}/faults", city.address);
    let answer = build_client().unwrap().post(url).json(&json!({ "fault": fault, "count": count })).send().await;
    assert_eq!(answer.unwrap().status().as_u16(), 204, "{fault}");
}

/// The job of most tests: stations, areas and the whole, of a feed (address or path) and areas (path or url).
pub fn job(feed: &str, quartiers: &str) -> String {
    format!(
        "CREATE SOURCE velib FROM GBFS (url = '{feed}', poll = '100 ms', timeout = '1 s', max_bytes = '1 MB');
         CREATE SOURCE quartiers FROM GEOJSON ({quartiers}, id = 'c_qu', name = 'l_qu');
         CREATE VIEW placed AS
             SELECT station_id, coalesce(quartiers_at(lon, lat), 'outside') AS area FROM velib.stations;
         CREATE MATERIALIZED VIEW by_station AS SELECT station_id, bikes, docks FROM velib.status;
         CREATE MATERIALIZED VIEW by_area AS
             SELECT area, count(*) AS stations, sum(bikes) AS bikes, sum(docks) AS docks,
                 sum(bikes * bikes) AS squares
             FROM velib.status JOIN placed USING (station_id) GROUP BY area;
         CREATE MATERIALIZED VIEW total AS
             SELECT count(*) AS stations, sum(bikes) AS bikes, sum(docks) AS docks, sum(bikes * bikes) AS squares
             FROM velib.status;"
    )
}

/// [`job`] on a served city.
pub fn live_job(city: &Running) -> String {
    job(&city.gbfs_url, &format!("url = '{}'", city.quartiers_url))
}

/// [`job`] on what [`Life::record`] wrote.
pub fn recorded_job(folder: &Path) -> String {
    let path = folder.display();
    job(&format!("{path}/*.json"), &format!("path = '{path}/quartiers.geojson'"))
}

/// A submission of a job.
pub fn submission(name: &str, text: &str) -> Value {
    json!({ "name": name, "text": text })
}
