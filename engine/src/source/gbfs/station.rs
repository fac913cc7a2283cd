//! One entry of a `stations` list, in every vocabulary: GBFS 1.0 to 3.0, Vélib, the Paris open-data site,
//! Lyft's additions.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::{Scalar, Wrong};
use super::visit::{Key, object, otherwise_default};

/// What an entry says, unjudged.
#[derive(Debug, Default)]
pub(super) struct Station<'a> {
    /// False for an entry that is no object.
    pub(super) object: bool,
    /// A key of `station_status` is there.
    pub(super) has_status: bool,
    /// A key of `station_information` is there.
    pub(super) has_information: bool,
    pub(super) id: Scalar<'a>,
    pub(super) code: Scalar<'a>,
    pub(super) short_name: Localized<'a>,
    pub(super) name: Localized<'a>,
    pub(super) lat: Scalar<'a>,
    pub(super) lon: Scalar<'a>,
    pub(super) position: Position<'a>,
    pub(super) capacity: Scalar<'a>,
    pub(super) region_id: Scalar<'a>,
    pub(super) region_name: Scalar<'a>,
    pub(super) bikes: Scalar<'a>,
    pub(super) vehicles: Scalar<'a>,
    pub(super) mechanical: Scalar<'a>,
    pub(super) ebikes: Scalar<'a>,
    pub(super) kinds: Kinds,
    pub(super) types: Types<'a>,
    pub(super) docks: Scalar<'a>,
    pub(super) bikes_disabled: Scalar<'a>,
    pub(super) vehicles_disabled: Scalar<'a>,
    pub(super) docks_disabled: Scalar<'a>,
    pub(super) is_installed: Scalar<'a>,
    pub(super) is_renting: Scalar<'a>,
    pub(super) is_returning: Scalar<'a>,
    pub(super) last_reported: Scalar<'a>,
}

impl<'de> Deserialize<'de> for Station<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Station<'de>;
            otherwise_default!(scalars);
            otherwise_default!(list);
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Station<'de>, A::Error> {
                let mut station = Station { object: true, ..Station::default() };
                while let Some(key) = object.next_key::<Key<'de>>()? {
                    station.read(&key.0, &mut object)?;
                }
                Ok(station)
            }
        }
        from.deserialize_any(Fields)
    }
}

impl<'de> Station<'de> {
    fn read<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        let mut status = true;
        match key {
            "num_bikes_available" | "numbikesavailable" => self.bikes = object.next_value()?,
            "num_docks_available" | "numdocksavailable" => self.docks = object.next_value()?,
            "num_vehicles_available" => self.vehicles = object.next_value()?,
            "num_ebikes_available" | "ebike" => self.ebikes = object.next_value()?,
            "mechanical" => self.mechanical = object.next_value()?,
            "num_bikes_available_types" => self.kinds = object.next_value()?,
            "vehicle_types_available" => self.types = object.next_value()?,
            "num_bikes_disabled" => self.bikes_disabled = object.next_value()?,
            "num_vehicles_disabled" => self.vehicles_disabled = object.next_value()?,
            "num_docks_disabled" => self.docks_disabled = object.next_value()?,
            "is_installed" => self.is_installed = object.next_value()?,
            "is_renting" => self.is_renting = object.next_value()?,
            "is_returning" => self.is_returning = object.next_value()?,
            "last_reported" | "duedate" => self.last_reported = object.next_value()?,
            _ => status = false,
        }
        self.has_status |= status;
        if status { Ok(()) } else { self.read_information(key, object) }
    }

    fn read_information<A: MapAccess<'de>>(&mut self, key: &str, object: &mut A) -> Result<(), A::Error> {
        let mut information = true;
        match key {
            "name" => self.name = object.next_value()?,
            "lat" => self.lat = object.next_value()?,
            "lon" => self.lon = object.next_value()?,
            "coordonnees_geo" => self.position = object.next_value()?,
            "capacity" => self.capacity = object.next_value()?,
            "region_id" => self.region_id = object.next_value()?,
            "nom_arrondissement_communes" => self.region_name = object.next_value()?,
            _ => information = false,
        }
        self.has_information |= information;
        match key {
            _ if information => {}
            "station_id" => self.id = object.next_value()?,
            "stationCode" | "stationcode" => self.code = object.next_value()?,
            "short_name" => self.short_name = object.next_value()?,
            _ => drop(object.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// A text, or (3.0) a list of it by language, of which the first counts.
#[derive(Debug, Default)]
pub(super) struct Localized<'a>(pub(super) Scalar<'a>);

impl<'de> Deserialize<'de> for Localized<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Localized<'de>;
            otherwise_default!(numbers);
            otherwise_default!(object);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Localized<'de>, E> {
                Ok(Localized(Scalar::Text(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Localized<'de>, E> {
                Ok(Localized(Scalar::Text(Cow::Owned(text.to_owned()))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Localized<'de>, A::Error> {
                let mut first = Scalar::Null;
                while let Some(Text { text }) = list.next_element()? {
                    if first.is_null() {
                        first = text;
                    }
                }
                Ok(Localized(first))
            }
        }
        from.deserialize_any(Texts)
    }
}

/// `{"text": …, "language": …}`.
#[derive(Default)]
struct Text<'a> {
    text: Scalar<'a>,
}

object!(Text { text: "text" });

/// `{"lon": …, "lat": …}`, or `[lat, lon]` in older exports.
#[derive(Debug, Default)]
pub(super) struct Position<'a> {
    pub(super) lat: Scalar<'a>,
    pub(super) lon: Scalar<'a>,
}

impl<'de> Deserialize<'de> for Position<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Point;
        impl<'de> Visitor<'de> for Point {
            type Value = Position<'de>;
            otherwise_default!(scalars);
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Position<'de>, A::Error> {
                let mut next = || Ok(list.next_element()?.unwrap_or_default());
                let position = Position { lat: next()?, lon: next()? };
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(position)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Position<'de>, A::Error> {
                let mut position = Position::default();
                while let Some(key) = object.next_key::<Key<'de>>()? {
                    match &*key.0 {
                        "lat" => position.lat = object.next_value()?,
                        "lon" => position.lon = object.next_value()?,
                        _ => drop(object.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(position)
            }
        }
        from.deserialize_any(Point)
    }
}

/// `num_bikes_available_types`: `[{"mechanical": 1}, {"ebike": 4}]`, or one object of both.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds {
    pub(super) mechanical: Option<i64>,
    pub(super) ebikes: Option<i64>,
    /// A count in it is none.
    pub(super) wrong: bool,
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Counts;
        impl<'de> Visitor<'de> for Counts {
            type Value = Kinds;
            otherwise_default!(scalars);
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kinds, A::Error> {
                let mut all = Kinds::default();
                while let Some(one) = list.next_element::<Kinds>()? {
                    all.mechanical = all.mechanical.or(one.mechanical);
                    all.ebikes = all.ebikes.or(one.ebikes);
                    all.wrong |= one.wrong;
                }
                Ok(all)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Kinds, A::Error> {
                let mut kinds = Kinds::default();
                while let Some(key) = object.next_key::<Key<'de>>()? {
                    let count = object.next_value::<Scalar<'de>>()?.count();
                    kinds.wrong |= count.is_err();
                    match &*key.0 {
                        "mechanical" => kinds.mechanical = count.unwrap_or_default(),
                        "ebike" | "ebikes" | "electric" => kinds.ebikes = count.unwrap_or_default(),
                        _ => {}
                    }
                }
                Ok(kinds)
            }
        }
        from.deserialize_any(Counts)
    }
}

/// `vehicle_types_available`: counts by the id of a vehicle type.
#[derive(Debug, Default)]
pub(super) struct Types<'a>(pub(super) Vec<(Scalar<'a>, Result<Option<i64>, Wrong>)>);

impl<'de> Deserialize<'de> for Types<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Counts;
        impl<'de> Visitor<'de> for Counts {
            type Value = Types<'de>;
            otherwise_default!(scalars);
            otherwise_default!(object);
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Types<'de>, A::Error> {
                let mut types = vec![];
                while let Some(Type { id, count }) = list.next_element()? {
                    types.push((id, count.count()));
                }
                Ok(Types(types))
            }
        }
        from.deserialize_any(Counts)
    }
}

/// `{"vehicle_type_id": …, "count": …}`.
#[derive(Default)]
struct Type<'a> {
    id: Scalar<'a>,
    count: Scalar<'a>,
}

object!(Type { id: "vehicle_type_id", count: "count" });
