//! Every document of a feed in one pass: a discovery document, stations, their status, vehicle types, the
//! bare array of the Paris open-data site.
//!
//! What a document is shows in what it holds, not in where it came from. Reading fails only where the
//! JSON itself does; any field may have any type (see [`Scalar`]). Text is borrowed from the document.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::Scalar;
use super::station::Station;
use super::visit::{Key, List, object, otherwise_default};

/// A document, as it came.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    /// The document is a bare array.
    pub(super) bare: bool,
    /// `last_updated`, or Vélib's `lastUpdatedOther`.
    pub(super) last_updated: Scalar<'a>,
    /// `data.stations`, or the bare array.
    pub(super) stations: Option<Vec<Station<'a>>>,
    /// `data.feeds`, or those of all languages.
    pub(super) feeds: Vec<Feed<'a>>,
    /// `data.vehicle_types`.
    pub(super) vehicle_types: Option<Vec<VehicleType<'a>>>,
}

/// An entry of a discovery document.
#[derive(Debug, Default)]
pub(super) struct Feed<'a> {
    pub(super) name: Scalar<'a>,
    pub(super) url: Scalar<'a>,
}

/// A kind of vehicle.
#[derive(Debug, Default)]
pub(super) struct VehicleType<'a> {
    pub(super) id: Scalar<'a>,
    pub(super) propulsion: Scalar<'a>,
}

/// The text of a document: whole, UTF-8, without byte-order mark.
///
/// # Errors
/// Why the bytes are no JSON text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| match error.error_len() {
        None => format!("cut short after {} bytes, within a character", bytes.len()),
        Some(_) => format!("not UTF-8 at byte {}", error.valid_up_to()),
    })?;
    match text.trim_start().chars().next() {
        None => Err("empty".to_owned()),
        Some('<') => Err("HTML or XML in place of JSON".to_owned()),
        Some(_) => Ok(text),
    }
}

/// Reads a document.
///
/// # Errors
/// Why the text is no JSON.
pub(super) fn read(text: &str) -> Result<Document<'_>, String> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => format!("cut short after {} bytes", text.len()),
        _ => format!("not JSON: {error}"),
    })
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Document<'de>;
            otherwise_default!(scalars);
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document<'de>, A::Error> {
                let mut stations = vec![];
                while let Some(station) = list.next_element()? {
                    stations.push(station);
                }
                Ok(Document { bare: true, stations: Some(stations), ..Document::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Document<'de>, A::Error> {
                let mut document = Document::default();
                let mut updated = Scalar::Null;
                while let Some(key) = object.next_key::<Key<'de>>()? {
                    match &*key.0 {
                        "last_updated" => updated = object.next_value()?,
                        "lastUpdatedOther" => document.last_updated = object.next_value()?,
                        "data" => {
                            let Data { stations, feeds, vehicle_types } = object.next_value()?;
                            document = Document { stations, feeds, vehicle_types, ..document };
                        }
                        _ => drop(object.next_value::<IgnoredAny>()?),
                    }
                }
                if !updated.is_null() {
                    document.last_updated = updated;
                }
                Ok(document)
            }
        }
        from.deserialize_any(Top)
    }
}

/// What is under `data`.
#[derive(Default)]
struct Data<'a> {
    stations: Option<Vec<Station<'a>>>,
    feeds: Vec<Feed<'a>>,
    vehicle_types: Option<Vec<VehicleType<'a>>>,
}

impl<'de> Deserialize<'de> for Data<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Data<'de>;
            otherwise_default!(scalars);
            otherwise_default!(list);
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Data<'de>, A::Error> {
                let mut data = Data::default();
                while let Some(key) = object.next_key::<Key<'de>>()? {
                    match &*key.0 {
                        "stations" => data.stations = object.next_value::<List<_>>()?.0,
                        "vehicle_types" => data.vehicle_types = object.next_value::<List<_>>()?.0,
                        "feeds" => data.feeds.extend(object.next_value::<List<_>>()?.0.unwrap_or_default()),
                        // Before 3.0, the feeds are listed by language.
                        _ => {
                            let language = object.next_value::<Language<'de>>()?;
                            data.feeds.extend(language.feeds.0.unwrap_or_default());
                        }
                    }
                }
                Ok(data)
            }
        }
        from.deserialize_any(Parts)
    }
}

/// The feeds of one language.
#[derive(Default)]
struct Language<'a> {
    feeds: List<Feed<'a>>,
}

object!(Language { feeds: "feeds" });
object!(Feed { name: "name", url: "url" });
object!(VehicleType { id: "vehicle_type_id", propulsion: "propulsion_type" });
