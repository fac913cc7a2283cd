//! The snapshots of a case as GBFS documents, named after their times.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::case::Case;

/// A folder with a document for each snapshot.
pub fn write(case: &Case) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut date = String::new();
    let mut said: Vec<String> = vec![];
    for row in &case.snapshots.rows {
        let at = match row[0].split_once(' ') {
            Some((day, _)) => {
                day.clone_into(&mut date);
                row[0].clone()
            }
            None => format!("{date} {}", row[0]),
        };
        let at = instant(&at);
        said.resize(row.len(), String::new());
        for (before, cell) in said.iter_mut().zip(row) {
            if !cell.is_empty() {
                before.clone_from(cell);
            }
        }
        let columns = case.snapshots.columns.iter().zip(&said).skip(1).filter(|(_, cell)| *cell != "-");
        let stations: Vec<Value> = columns.map(|(id, cell)| station(case, id, cell, at)).collect();
        let document =
            json!({ "last_updated": at.timestamp(), "ttl": 60, "version": "2.3", "data": { "stations": stations } });
        let name = format!("snapshot_{}Z.json", at.format("%Y%m%dT%H%M%S"));
        std::fs::write(folder.path().join(name), document.to_string()).unwrap();
    }
    folder
}

fn instant(text: &str) -> DateTime<Utc> {
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"];
    let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    time.unwrap_or_else(|| panic!("{text} is no time")).and_utc()
}

fn station(case: &Case, id: &str, cell: &str, at: DateTime<Utc>) -> Value {
    let row = case.stations.rows.iter().find(|row| row[0] == id);
    let mut station = serde_json::Map::new();
    for (name, value) in case.stations.columns.iter().zip(row.unwrap_or_else(|| panic!("there is no station {id}"))) {
        let value = match name.as_str() {
            _ if value.is_empty() => continue,
            "lon" | "lat" | "capacity" => serde_json::from_str(value).unwrap(),
            _ => json!(value),
        };
        station.insert(if name == "region" { "region_id" } else { name }.to_owned(), value);
    }
    let mut words = cell.split_whitespace();
    let (bikes, docks) = words.next().unwrap().split_once('/').unwrap_or_else(|| panic!("{cell} is not bikes/docks"));
    let (mechanical, ebikes) = bikes.split_once('+').unwrap_or((bikes, "0"));
    let count = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{cell} is not bikes/docks"));
    let (mechanical, ebikes) = (count(mechanical), count(ebikes));
    let (mut is_open, mut is_installed, mut silent) = (true, true, 0);
    while let Some(word) = words.next() {
        match word {
            "closed" => is_open = false,
            "removed" => is_installed = false,
            "silent" => silent = count(words.next().unwrap_or_default()),
            other => panic!("{other} is nothing that a station says"),
        }
    }
    let status = json!({
        "num_bikes_available": mechanical + ebikes,
        "num_bikes_available_types": [{ "mechanical": mechanical }, { "ebike": ebikes }],
        "num_docks_available": count(docks),
        "is_installed": is_installed,
        "is_renting": is_open,
        "is_returning": is_open,
        "last_reported": at.timestamp() - 60 * silent,
    });
    station.extend(status.as_object().unwrap().clone());
    station.into()
}
