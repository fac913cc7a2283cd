//! The feed as a reader gets it, and every fault.

use std::collections::HashSet;

use chrono::DateTime;
use clap::ValueEnum;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::super::{Fault, FaultSettings, Settings, faults, serve, server::Running};
use super::{HOUR, TUESDAY};

/// A response as it came over the wire.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim()
    }
}

async fn request(running: &Running, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
        running.address
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A hanging response ends when the server stops; here, when patience does.
    let _ = timeout(Duration::from_millis(1_500), stream.read_to_end(&mut bytes)).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: bytes[end + 4..].to_vec() }
}

async fn read(running: &Running, path: &str) -> Answer {
    request(running, "GET", path, "", "").await
}

fn stepping() -> Settings {
    let address = "127.0.0.1:0".parse().unwrap();
    let start = DateTime::from_timestamp(TUESDAY + 8 * HOUR, 0);
    Settings { stations: 200, step: Some(60), start, address, ..Settings::default() }
}

#[tokio::test]
async fn serves_the_documents_that_discovery_lists() {
    let running = serve(stepping()).await.unwrap();
    let discovery = read(&running, "/gbfs.json").await.json();
    assert_eq!(discovery["version"], "2.3");
    let mut names = Vec::new();
    for feed in discovery["data"]["fr"]["feeds"].as_array().unwrap() {
        let base = format!("http://{}", running.address);
        let path = feed["url"].as_str().unwrap().strip_prefix(&base).unwrap();
        let answer = read(&running, path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json; charset=utf-8"), "{path}");
        assert!(answer.json()["last_updated"].as_i64().unwrap() >= TUESDAY);
        names.push(feed["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, ["system_information", "vehicle_types", "station_information", "station_status"]);
    let station = &read(&running, "/station_information.json").await.json()["data"]["stations"][0];
    assert!(station["station_id"].is_u64() && station["name"].is_string(), "{station}");
    let status = read(&running, "/station_status.json").await.json();
    for station in status["data"]["stations"].as_array().unwrap() {
        let sum = |a: &Value, b: &Value| a.as_u64().unwrap() + b.as_u64().unwrap();
        let (kinds, types) = (&station["num_bikes_available_types"], &station["vehicle_types_available"]);
        assert_eq!(sum(&kinds[0]["mechanical"], &kinds[1]["ebike"]), station["num_bikes_available"].as_u64().unwrap());
        assert_eq!(sum(&types[0]["count"], &types[1]["count"]), station["num_bikes_available"].as_u64().unwrap());
    }
    assert_eq!(read(&running, "/nothing.json").await.status, 404);
    let address = running.address;
    running.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    let again = serve(Settings { address, ..stepping() }).await.unwrap();
    let refused = serve(Settings { address, ..stepping() }).await.unwrap_err();
    assert!(refused.is_retriable() && refused.to_string().contains("--address"), "{refused}");
    again.stop().await;
}

#[tokio::test]
async fn steps_with_each_request_and_forces_a_share() {
    let running = serve(Settings { changed_share: Some(0.25), ..stepping() }).await.unwrap();
    let mut before: Option<Value> = None;
    for step in 0..5 {
        let now = read(&running, "/station_status.json").await.json();
        assert_eq!(now["last_updated"], TUESDAY + 8 * HOUR + step * 60);
        if let Some(before) = before {
            let rows = |document: &Value| document["data"]["stations"].as_array().unwrap().clone();
            let changed = rows(&now).into_iter().zip(rows(&before));
            let changed = changed.filter(|(a, b)| a["num_bikes_available"] != b["num_bikes_available"]).count();
            assert_eq!(changed, 50);
        }
        before = Some(now);
    }
}

#[tokio::test]
async fn runs_by_the_clock_and_says_when_nothing_is_new() {
    // Standing still, nearly.
    let running = serve(Settings { step: None, speed: 0.001, ..stepping() }).await.unwrap();
    for path in ["/station_status.json", "/station_information.json", "/quartiers.geojson"] {
        let first = read(&running, path).await;
        let etag = format!("If-None-Match: {}\r\n", first.header("etag"));
        let second = request(&running, "GET", path, &etag, "").await;
        assert_eq!((second.status, second.body.len()), (304, 0), "{path}");
        assert_eq!(request(&running, "GET", path, "If-None-Match: \"x\"\r\n", "").await.status, 200);
    }
    running.stop().await;
    let running = serve(Settings { step: None, speed: 3_600.0, ..stepping() }).await.unwrap();
    let first = read(&running, "/station_status.json").await.json();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second = read(&running, "/station_status.json").await.json();
    let passed = second["last_updated"].as_i64().unwrap() - first["last_updated"].as_i64().unwrap();
    assert!((1_400..20_000).contains(&passed), "{passed}");
}

#[tokio::test]
async fn plans_and_rates_order_faults() {
    let faults =
        FaultSettings { fault_at: vec!["2=500".parse().unwrap(), "4-5=404".parse().unwrap()], ..Default::default() };
    let running = serve(Settings { faults, ..stepping() }).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(read(&running, "/station_status.json").await.status);
    }
    assert_eq!(seen, [200, 500, 200, 404, 404, 200]);
    let faults = FaultSettings { fault: vec![Fault::Forbidden], fault_rate: Some(0.5), ..Default::default() };
    let running = serve(Settings { faults, ..stepping() }).await.unwrap();
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(read(&running, "/station_status.json").await.status == 403);
    }
    assert!((10..=30).contains(&refused), "{refused}");
}

#[tokio::test]
async fn every_fault_is_as_ordered() {
    let running = serve(stepping()).await.unwrap();
    let whole = read(&running, "/station_status.json").await;
    for fault in Fault::value_variants() {
        let body = format!(r#"{{"fault": "{fault}"}}"#);
        assert_eq!(request(&running, "POST", "/faults", "", &body).await.status, 204);
        check(*fault, &read(&running, "/station_status.json").await, whole.body.len());
        let after = read(&running, "/station_status.json").await;
        assert_eq!((after.status, after.json()["data"]["stations"].as_array().unwrap().len()), (200, 200), "{fault}");
    }
    for body in ["{}", r#"{"fault": "fire"}"#, r#"{"fault": "html", "times": 2}"#] {
        assert_eq!(request(&running, "POST", "/faults", "", body).await.status / 100, 4, "{body}");
    }
    let three = r#"{"fault": "500", "count": 3}"#;
    request(&running, "POST", "/faults", "", three).await;
    for expected in [500, 500, 500, 200] {
        assert_eq!(read(&running, "/station_status.json").await.status, expected);
    }
    // A response that hangs does not keep the server from stopping.
    request(&running, "POST", "/faults", "", r#"{"fault": "hang"}"#).await;
    let mut hanging = TcpStream::connect(running.address).await.unwrap();
    hanging.write_all(b"GET /station_status.json HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    hanging.read_exact(&mut [0; 1000]).await.unwrap();
    timeout(Duration::from_secs(2), running.stop()).await.unwrap();
}

fn check(fault: Fault, answer: &Answer, whole: usize) {
    let html = answer.body.starts_with(b"<!DOCTYPE html>");
    let similar = |length: usize| (length as f64 / whole as f64 - 0.5).abs() < 0.05;
    match fault {
        Fault::Forbidden => assert!(answer.status == 403 && html),
        Fault::NotFound => assert!(answer.status == 404 && html),
        Fault::ServerError => assert!(answer.status == 500 && html),
        Fault::Html => assert!(answer.status == 200 && html),
        Fault::Empty => assert!(answer.status == 200 && answer.body.is_empty()),
        Fault::Truncated => {
            assert!(similar(answer.body.len()) && answer.header("content-length") == answer.body.len().to_string());
        }
        Fault::Hang => assert!(answer.status == 200 && similar(answer.body.len()), "{}", answer.body.len()),
        Fault::Huge => assert!(answer.body.len() > 100 << 20),
        Fault::Latin1 => {
            assert!(std::str::from_utf8(&answer.body).is_err());
            let utf8: String = answer.body.iter().map(|&byte| char::from(byte)).collect();
            assert_eq!(serde_json::from_str::<Value>(&utf8).unwrap()["attribution"], "Vélib");
        }
        _ => check_rows(fault, &answer.json()),
    }
}

fn check_rows(fault: Fault, document: &Value) {
    let stations = document["data"]["stations"].as_array().unwrap();
    let count = |so: &dyn Fn(&Value) -> bool| stations.iter().filter(|station| so(station)).count();
    let some = 200 / faults::SOME;
    let updated = document["last_updated"].as_i64().unwrap();
    match fault {
        Fault::Duplicates => {
            let ids: HashSet<_> = stations.iter().map(|station| station["station_id"].as_u64()).collect();
            assert_eq!((stations.len(), ids.len()), (200 + some, 200));
        }
        Fault::MissingIds => assert_eq!(count(&|s| s.get("station_id").is_none()), some),
        Fault::WrongTypes => {
            assert_eq!(count(&|s| s["num_bikes_available"] == "five" && s["is_renting"].is_object()), some)
        }
        Fault::Negative => assert_eq!(count(&|s| s["num_bikes_available"] == -1), some),
        Fault::Future => {
            assert!(updated > TUESDAY + 2 * 24 * HOUR);
            assert_eq!(count(&|s| s["last_reported"] == updated), 200);
        }
        Fault::Shrunk => assert_eq!(stations.len(), 20),
        Fault::NullKeys => assert_eq!(count(&|s| s["station_id"].is_null() && s["stationCode"].is_null()), 200),
        _ => unreachable!("{fault} is no fault of rows"),
    }
}
