//! The documents of a city's feed.
//!
//! GBFS 2.3, in the dialect of the Vélib feed: integer station ids, `stationCode`, counts by kind as an
//! array of one-key objects (beside the standard's own spelling), flags as 0 and 1.

use serde::Serialize;
use serde_json::json;

use super::city::City;
use super::map::CENTRE;

/// Seconds after which a reader may ask again.
const TTL: u32 = 60;
const VERSION: &str = "2.3";

/// What is around every document.
#[derive(Serialize)]
struct Envelope<T> {
    last_updated: i64,
    ttl: u32,
    version: &'static str,
    data: T,
}

#[derive(Serialize)]
struct Stations<T> {
    stations: Vec<T>,
}

#[derive(Serialize)]
struct Status<'a> {
    station_id: u64,
    #[serde(rename = "stationCode")]
    code: &'a str,
    num_bikes_available: u32,
    num_bikes_available_types: [Count; 2],
    vehicle_types_available: [TypeCount; 2],
    num_docks_available: u32,
    is_installed: u8,
    is_renting: u8,
    is_returning: u8,
    last_reported: i64,
}

/// `{"mechanical": 3}`
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Count {
    Mechanical(u32),
    Ebike(u32),
}

#[derive(Serialize)]
struct TypeCount {
    vehicle_type_id: &'static str,
    count: u32,
}

#[derive(Serialize)]
struct Information<'a> {
    station_id: u64,
    #[serde(rename = "stationCode")]
    code: &'a str,
    name: &'a str,
    lat: f64,
    lon: f64,
    capacity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rental_methods: Option<[&'static str; 1]>,
}

impl City {
    /// `station_status.json` as of now.
    pub fn status_document(&self) -> String {
        let rows = self.stations().iter().zip(self.readings()).map(|(station, reading)| Status {
            station_id: station.id,
            code: &station.code,
            num_bikes_available: reading.bikes.total(),
            num_bikes_available_types: [
                Count::Mechanical(reading.bikes.mechanical),
                Count::Ebike(reading.bikes.electric),
            ],
            vehicle_types_available: [
                TypeCount { vehicle_type_id: "mechanical", count: reading.bikes.mechanical },
                TypeCount { vehicle_type_id: "ebike", count: reading.bikes.electric },
            ],
            num_docks_available: reading.docks,
            is_installed: reading.installed.into(),
            is_renting: reading.open.into(),
            is_returning: reading.open.into(),
            last_reported: reading.reported,
        });
        self.document(Stations { stations: rows.collect() })
    }

    /// `station_information.json` as of now; only `last_updated` ever changes.
    pub fn information_document(&self) -> String {
        let rows = self.stations().iter().map(|station| Information {
            station_id: station.id,
            code: &station.code,
            name: &station.name,
            lat: station.latitude,
            lon: station.longitude,
            capacity: station.capacity,
            // As in the real feed, some stations have a card reader.
            rental_methods: (station.capacity % 4 == 1).then_some(["CREDITCARD"]),
        });
        self.document(Stations { stations: rows.collect() })
    }

    /// `vehicle_types.json`.
    pub fn vehicle_types_document(&self) -> String {
        self.document(json!({ "vehicle_types": [
            { "vehicle_type_id": "mechanical", "form_factor": "bicycle", "propulsion_type": "human" },
            {
                "vehicle_type_id": "ebike",
                "form_factor": "bicycle",
                "propulsion_type": "electric_assist",
                "max_range_meters": 50_000,
            },
        ]}))
    }

    /// `system_information.json`.
    pub fn system_information_document(&self) -> String {
        self.document(json!({
            "system_id": "velib-simulated",
            "language": "fr",
            "name": "Vélib simulé",
            "timezone": "Europe/Paris",
            "center": { "lat": CENTRE[1], "lon": CENTRE[0] },
        }))
    }

    /// `gbfs.json`: where the other documents are, below `base` (`http://host:port`).
    pub fn discovery_document(&self, base: &str) -> String {
        let names = ["system_information", "vehicle_types", "station_information", "station_status"];
        let feeds = names.map(|name| json!({ "name": name, "url": format!("{base}/{name}.json") }));
        self.document(json!({ "fr": { "feeds": feeds } }))
    }

    /// The quartiers as GeoJSON, with `c_qu` (id), `l_qu` (name) and `c_ar` (arrondissement).
    pub fn quartiers_document(&self) -> String {
        self.map.geojson()
    }

    fn document(&self, data: impl Serialize) -> String {
        let envelope = Envelope { last_updated: self.now(), ttl: TTL, version: VERSION, data };
        serde_json::to_string(&envelope).expect("numbers, strings and flags are JSON")
    }
}
