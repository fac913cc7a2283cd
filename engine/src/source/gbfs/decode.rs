//! From a document to tables: the bad station is dropped, the feed goes on, and it is said why.
//!
//! A *row fault* (no usable id, a count that is none, an id that was there before) costs the row; a *note*
//! (a position that cannot be) costs the field; a *document fault* (nothing in it can be used) costs the
//! document, so that the last good one stays.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::RecordBatch;
use hashbrown::HashSet;
use serde::Deserialize;
use serde_json::value::RawValue;
use velib_operators::Time;

use super::columns;
use super::document::{Document, VehicleType};
use super::station::Station;
use crate::source::Rejection;

/// Faults that are reported one by one; of the others, how many.
const MAX_FAULTS: usize = 100;
/// No system has longer ids.
const MAX_ID: usize = 256;

/// Which vehicle types are electric; others are not known.
pub(super) type VehicleTypes = HashMap<String, Propulsion>;

/// What moves a vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propulsion {
    Human,
    Electric,
}

/// What a document says of the stations.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) stations: Option<RecordBatch>,
    pub(super) status: Option<RecordBatch>,
    pub(super) rejections: Vec<Rejection>,
}

/// A station whose id can be used.
pub(super) struct Entry<'d, 'a> {
    /// Its position in the document.
    pub(super) index: usize,
    pub(super) id: Cow<'d, str>,
    pub(super) says: &'d Station<'a>,
}

/// What is wrong in a document.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

struct Fault {
    relation: &'static str,
    index: Option<usize>,
    reason: String,
}

impl Faults {
    /// Something about one entry.
    pub(super) fn row(&mut self, relation: &'static str, index: usize, reason: String) {
        self.0.push(Fault { relation, index: Some(index), reason });
    }

    /// Something about a relation as a whole.
    pub(super) fn relation(&mut self, relation: &'static str, reason: String) {
        self.0.push(Fault { relation, index: None, reason });
    }

    fn into_rejections(self, text: &str, time: Time) -> Vec<Rejection> {
        if self.0.is_empty() {
            return vec![];
        }
        let entries = entries(text);
        let more = self.0.len().saturating_sub(MAX_FAULTS);
        let rejection =
            |relation: &str, reason, sample| Rejection { time, relation: relation.to_owned(), reason, sample };
        let mut rejections: Vec<_> = self
            .0
            .into_iter()
            .take(MAX_FAULTS)
            .map(|fault| {
                let entry = fault.index.and_then(|index| entries.get(index)).map_or("", |entry| entry.get());
                rejection(fault.relation, fault.reason, Rejection::sample(entry))
            })
            .collect();
        if more > 0 {
            rejections.push(rejection("", format!("{more} more faults in the same document"), String::new()));
        }
        rejections
    }
}

/// The entries as they are written, for the record of what was refused. This reads the document again,
/// which a good one is spared.
fn entries(text: &str) -> Vec<&RawValue> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        stations: Vec<&'a RawValue>,
    }
    match serde_json::from_str::<Wrapped<'_>>(text) {
        Ok(wrapped) => wrapped.data.stations,
        Err(_) => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// The tables of `document`, which was read from `text`, as of `time`.
///
/// # Errors
/// Why nothing of it can be used.
pub(super) fn tables(document: &Document<'_>, text: &str, types: &VehicleTypes, time: Time) -> Result<Tables, String> {
    let Some(listed) = &document.stations else {
        return Err("no data.stations, and no bare list of stations".to_owned());
    };
    let mut faults = Faults::default();
    let entries = identified(listed, document.bare, &mut faults);
    if entries.is_empty() && !listed.is_empty() {
        let key = if document.bare { "stationcode" } else { "station_id" };
        let first = faults.0.first().map(|fault| fault.reason.as_str()).unwrap_or_default();
        return Err(format!("none of its {} entries has a usable {key}; the first: {first}", listed.len()));
    }
    let has_status = listed.iter().any(|station| station.has_status);
    let has_information = listed.iter().any(|station| station.has_information);
    if !has_status && !has_information && !listed.is_empty() {
        return Err("its stations have neither a status nor a name, position or capacity".to_owned());
    }
    // An empty list says nothing of what it would list: then it is the status that is empty.
    let status =
        (has_status || listed.is_empty()).then(|| columns::status(&entries, types, time, &mut faults)).transpose()?;
    let stations = if has_information { columns::stations(&entries, &mut faults) } else { None };
    Ok(Tables { stations, status, rejections: faults.into_rejections(text, time) })
}

/// The entries that have an id of their own. A bare list has only the code.
fn identified<'d, 'a>(listed: &'d [Station<'a>], bare: bool, faults: &mut Faults) -> Vec<Entry<'d, 'a>> {
    let mut entries = Vec::<Entry<'d, 'a>>::with_capacity(listed.len());
    let mut seen = HashSet::with_capacity(listed.len());
    let key = if bare { "stationcode" } else { "station_id" };
    for (index, says) in listed.iter().enumerate() {
        let given = if bare && says.id.is_null() { &says.code } else { &says.id };
        let fault = match given.text() {
            _ if !says.object => format!("entry {index} is no object"),
            Err(_) => format!("entry {index}: {key} is neither text nor a whole number"),
            Ok(None) => format!("entry {index} has no {key}"),
            Ok(Some(id)) if id.len() > MAX_ID => format!("entry {index}: {key} is longer than {MAX_ID} bytes"),
            Ok(Some(id)) if !seen.insert(id.clone()) => format!("station {id} is listed twice; the first one counts"),
            Ok(Some(id)) => {
                entries.push(Entry { index, id, says });
                continue;
            }
        };
        faults.row("", index, fault);
    }
    entries
}

/// Which types of vehicles are electric and which are not.
pub(super) fn vehicle_types(listed: &[VehicleType<'_>]) -> VehicleTypes {
    let known = listed.iter().filter_map(|kind| {
        let propulsion = match &*kind.propulsion.text().ok()?? {
            "human" => Propulsion::Human,
            other if other.starts_with("electric") => Propulsion::Electric,
            _ => return None,
        };
        Some((kind.id.text().ok()??.into_owned(), propulsion))
    });
    known.collect()
}
