//! What goes wrong with real feeds, to order: by plan, at random, or by a request.

use std::collections::VecDeque;
use std::str::FromStr;

use clap::ValueEnum;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One way for a response to `station_status` to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Forbidden, with a page in HTML
    #[serde(rename = "403")]
    #[value(name = "403")]
    Forbidden,
    /// Not found
    #[serde(rename = "404")]
    #[value(name = "404")]
    NotFound,
    /// Internal server error
    #[serde(rename = "500")]
    #[value(name = "500")]
    ServerError,
    /// 200, with a page in HTML
    Html,
    /// The document ends in the middle
    Truncated,
    /// Zero bytes
    Empty,
    /// The document is followed by a hundred megabytes of blanks
    Huge,
    /// Not UTF-8
    Latin1,
    /// Half of the document, and then nothing for ten minutes
    Hang,
    /// Some stations are listed twice, with other counts
    Duplicates,
    /// Some stations have no station_id
    MissingIds,
    /// Numbers are words, flags are objects
    WrongTypes,
    /// Counts of -1, times long before 1970
    Negative,
    /// Times are two days ahead
    Future,
    /// Nine stations in ten are missing
    Shrunk,
    /// station_id and stationCode are null in every row
    NullKeys,
}

/// What goes wrong, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct FaultSettings {
    /// Faults that may happen at random [default with a rate: all of them]
    #[arg(long = "fault", value_enum, value_delimiter = ',')]
    pub fault: Vec<Fault>,
    /// The share of requests for station_status (0 to 1) that go wrong [default with --fault: 0.05]
    #[arg(long)]
    pub fault_rate: Option<f64>,
    /// Faults by request, counted from 1: 12=html, 20-25=500
    #[arg(long = "fault-at", value_delimiter = ',')]
    pub fault_at: Vec<Planned>,
}

impl FaultSettings {
    const RATE: f64 = 0.05;
}

/// A fault for the requests from one number to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Planned {
    /// From 1.
    pub first: u64,
    /// At least `first`.
    pub last: u64,
    /// What happens.
    pub fault: Fault,
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("`{text}` is no plan: write request=fault, or first-last=fault, as 12=html or 20-25=500");
        let (requests, fault) = text.split_once('=').ok_or_else(refuse)?;
        let (first, last) = requests.split_once('-').unwrap_or((requests, requests));
        let number = |text: &str| text.trim().parse().map_err(|_| refuse());
        let fault = Fault::from_str(fault.trim(), false).map_err(|_| {
            let names: Vec<String> = Fault::value_variants().iter().map(ToString::to_string).collect();
            format!("`{fault}` is no fault: there are {}", names.join(", "))
        })?;
        let planned = Self { first: number(first)?, last: number(last)?, fault };
        if (1..=planned.last).contains(&planned.first) { Ok(planned) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for Planned {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Planned> for String {
    fn from(planned: Planned) -> Self {
        format!("{}-{}={}", planned.first, planned.last, planned.fault)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value().expect("no fault is skipped");
        f.write_str(value.get_name())
    }
}

/// Says for each request what goes wrong with it.
#[derive(Debug)]
pub(super) struct Schedule {
    planned: Vec<Planned>,
    kinds: Vec<Fault>,
    rate: f64,
    /// By request of a test: they come first.
    ordered: VecDeque<(Fault, u64)>,
    requests: u64,
    rng: ChaCha8Rng,
}

impl Schedule {
    /// Orders that wait; more are refused.
    const ORDERS_LIMIT: usize = 1_000;

    pub fn new(settings: &FaultSettings, seed: u64) -> Self {
        let all = Fault::value_variants();
        let kinds = if settings.fault.is_empty() { all.to_vec() } else { settings.fault.clone() };
        let wanted = if settings.fault.is_empty() { 0.0 } else { FaultSettings::RATE };
        Self {
            planned: settings.fault_at.clone(),
            kinds,
            rate: settings.fault_rate.unwrap_or(wanted),
            ordered: VecDeque::new(),
            requests: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The next `count` requests go wrong in this way, after those ordered before. False: too many wait.
    pub fn order(&mut self, fault: Fault, count: u64) -> bool {
        let room = self.ordered.len() < Self::ORDERS_LIMIT;
        if room && count > 0 {
            self.ordered.push_back((fault, count));
        }
        room
    }

    /// For one more request.
    pub fn next(&mut self) -> Option<Fault> {
        self.requests += 1;
        if let Some((fault, count)) = self.ordered.front_mut() {
            let fault = *fault;
            *count -= 1;
            if *count == 0 {
                self.ordered.pop_front();
            }
            return Some(fault);
        }
        let now = |planned: &&Planned| (planned.first..=planned.last).contains(&self.requests);
        if let Some(planned) = self.planned.iter().find(now) {
            return Some(planned.fault);
        }
        self.rng.random_bool(self.rate).then(|| self.kinds[self.rng.random_range(0..self.kinds.len())])
    }
}

/// The document with the fault in its content; faults of transport leave it as it is.
pub(super) fn spoil(document: &str, fault: Fault) -> Vec<u8> {
    match fault {
        Fault::Truncated => return document.as_bytes()[..document.len() / 2].to_vec(),
        Fault::Empty => return Vec::new(),
        // `é` is one byte there, and no character of UTF-8 begins or ends with it.
        Fault::Latin1 => {
            let (head, tail) = document.split_at(document.len() - 1);
            return [head.as_bytes(), b",\"attribution\":\"V\xe9lib\"", tail.as_bytes()].concat();
        }
        _ => {}
    }
    let mut document: Value = serde_json::from_str(document).expect("the city writes JSON");
    let updated = document["last_updated"].as_i64().unwrap_or_default();
    if fault == Fault::Future {
        document["last_updated"] = json!(updated + TWO_DAYS);
    }
    let Some(stations) = document["data"]["stations"].as_array_mut() else { return document.to_string().into_bytes() };
    match fault {
        Fault::Shrunk => stations.truncate(stations.len() / 10),
        Fault::Duplicates => {
            let again: Vec<Value> = stations.iter().step_by(SOME).cloned().map(with_more_bikes).collect();
            stations.extend(again);
        }
        _ => {}
    }
    for (i, station) in stations.iter_mut().enumerate() {
        let Some(station) = station.as_object_mut() else { continue };
        let some = i % SOME == 0;
        match fault {
            Fault::MissingIds if some => {
                station.remove("station_id");
            }
            Fault::WrongTypes if some => {
                station.insert("num_bikes_available".to_owned(), json!("five"));
                station.insert("is_renting".to_owned(), json!({ "value": true }));
                station.insert("last_reported".to_owned(), json!([updated]));
            }
            Fault::Negative if some => {
                station.insert("num_bikes_available".to_owned(), json!(-1));
                station.insert("num_docks_available".to_owned(), json!(-1));
                station.insert("last_reported".to_owned(), json!(-62_135_596_800_i64));
            }
            Fault::Future => {
                station.insert("last_reported".to_owned(), json!(updated + TWO_DAYS));
            }
            Fault::NullKeys => {
                station.insert("station_id".to_owned(), Value::Null);
                station.insert("stationCode".to_owned(), Value::Null);
            }
            _ => {}
        }
    }
    document.to_string().into_bytes()
}

/// One station in so many has the row faults.
pub(super) const SOME: usize = 20;
const TWO_DAYS: i64 = 2 * 86_400;

fn with_more_bikes(mut station: Value) -> Value {
    let bikes = station["num_bikes_available"].as_u64().unwrap_or_default();
    station["num_bikes_available"] = json!(bikes + 1);
    station
}
