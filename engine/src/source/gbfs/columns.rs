//! The columns of `stations` and `status`, entry by entry.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use velib_operators::Time;

use super::decode::{Entry, Faults, Propulsion, VehicleTypes};
use super::relations::{STATIONS_SCHEMA, STATUS_SCHEMA};
use super::scalar::{Scalar, Wrong};
use super::station::Station;

/// Bytes of text that a station may be expected to have, per column.
const TEXT: usize = 24;
/// Degrees within which stations of one system lie; see [`Positions`].
const NEAR: f64 = 2.0;

/// A count that makes a row unusable, by name.
struct Unusable(String);

fn count(name: &str, given: &Scalar<'_>) -> Result<Option<i64>, Unusable> {
    match given.count() {
        Ok(Some(n)) if n < 0 => Err(Unusable(format!("{name} is {n}"))),
        Ok(n) => Ok(n),
        Err(Wrong) => Err(Unusable(format!("{name} is no whole number"))),
    }
}

/// The counts of one station.
struct Counts {
    bikes: Option<i64>,
    mechanical: Option<i64>,
    ebikes: Option<i64>,
    docks: Option<i64>,
    bikes_disabled: Option<i64>,
    docks_disabled: Option<i64>,
}

impl Counts {
    fn read(says: &Station<'_>, types: &VehicleTypes) -> Result<Self, Unusable> {
        let bikes = count("num_bikes_available", &says.bikes)?;
        let bikes = if says.bikes.is_null() { count("num_vehicles_available", &says.vehicles)? } else { bikes };
        let disabled = count("num_bikes_disabled", &says.bikes_disabled)?;
        let (mechanical, ebikes) = split(says, bikes, types)?;
        Ok(Counts {
            bikes,
            mechanical,
            ebikes,
            docks: count("num_docks_available", &says.docks)?,
            bikes_disabled: disabled.or(count("num_vehicles_disabled", &says.vehicles_disabled)?),
            docks_disabled: count("num_docks_disabled", &says.docks_disabled)?,
        })
    }
}

/// Bikes without and with a motor, from whichever field tells.
fn split(says: &Station<'_>, bikes: Option<i64>, types: &VehicleTypes) -> Result<(Option<i64>, Option<i64>), Unusable> {
    let kinds = &says.kinds;
    if kinds.wrong || kinds.mechanical.is_some_and(|n| n < 0) || kinds.ebikes.is_some_and(|n| n < 0) {
        return Err(Unusable("num_bikes_available_types holds a count that is none".to_owned()));
    }
    let mechanical = kinds.mechanical.or(count("mechanical", &says.mechanical)?);
    let ebikes = kinds.ebikes.or(count("ebike", &says.ebikes)?);
    if mechanical.is_some() || ebikes.is_some() {
        // Lyft's num_ebikes_available is a part of num_bikes_available, whose rest has no name.
        let rest = || Some(bikes? - ebikes?).filter(|n| *n >= 0);
        return Ok((mechanical.or_else(rest), ebikes));
    }
    let (mut mechanical, mut ebikes) = (None, None);
    for (id, count) in &says.types.0 {
        let unusable = || Unusable("vehicle_types_available holds a count that is none".to_owned());
        let count = count.map_err(|Wrong| unusable())?.unwrap_or(0);
        if count < 0 {
            return Err(unusable());
        }
        let sum = match id.text().ok().flatten().and_then(|id| types.get(&*id)) {
            Some(Propulsion::Human) => &mut mechanical,
            Some(Propulsion::Electric) => &mut ebikes,
            None => continue,
        };
        *sum = Some(sum.unwrap_or(0_i64).saturating_add(count));
    }
    Ok((mechanical, ebikes))
}

/// The table `status`.
///
/// # Errors
/// No entry can be used.
pub(super) fn status(
    entries: &[Entry<'_, '_>],
    types: &VehicleTypes,
    time: Time,
    faults: &mut Faults,
) -> Result<RecordBatch, String> {
    let rows = entries.len();
    let now = i64::try_from(time).unwrap_or(i64::MAX);
    let mut ids = StringBuilder::with_capacity(rows, rows * TEXT);
    let mut counts: [Int64Builder; 6] = std::array::from_fn(|_| Int64Builder::with_capacity(rows));
    let mut flags: [BooleanBuilder; 3] = std::array::from_fn(|_| BooleanBuilder::with_capacity(rows));
    let mut reported = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
    let (mut used, mut unusable) = (0, None);
    for Entry { index, id, says } in entries {
        let read = match Counts::read(says, types) {
            Ok(read) => read,
            Err(Unusable(why)) => {
                let why = format!("station {id}: {why}");
                unusable.get_or_insert_with(|| why.clone());
                faults.row("status", *index, why);
                continue;
            }
        };
        let values = [read.bikes, read.mechanical, read.ebikes, read.docks, read.bikes_disabled, read.docks_disabled];
        counts.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
        let given = [&says.is_installed, &says.is_renting, &says.is_returning];
        let names = ["is_installed", "is_renting", "is_returning"];
        for ((column, given), name) in flags.iter_mut().zip(given).zip(names) {
            let flag = given.flag();
            column.append_option(flag.unwrap_or_default());
            if flag.is_err() {
                faults.row("status", *index, format!("station {id}: {name} is no flag, and left out"));
            }
        }
        ids.append_value(id);
        reported.append_option(says.last_reported.instant(now).map(|ms| ms.saturating_mul(1_000)));
        used += 1;
    }
    if let (0, Some(first)) = (used, unusable) {
        return Err(format!("none of its {rows} stations can be used; the first: {first}"));
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(ids.finish())];
    columns.extend(counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.extend(flags.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(reported.finish()));
    Ok(RecordBatch::try_new(STATUS_SCHEMA.clone(), columns).expect("the columns of the schema"))
}

/// The table `stations`; none where no entry says what its station is.
pub(super) fn stations(entries: &[Entry<'_, '_>], faults: &mut Faults) -> Option<RecordBatch> {
    let blank = |says: &Station<'_>| {
        let position = [&says.lat, &says.lon, &says.position.lat, &says.position.lon];
        says.name.0.is_null() && says.capacity.is_null() && position.into_iter().all(Scalar::is_null)
    };
    if !entries.is_empty() && entries.iter().all(|entry| blank(entry.says)) {
        let why = "name, position and capacity are null in every entry; what was known before stays";
        faults.relation("stations", why.to_owned());
        return None;
    }
    let positions = Positions::read(entries);
    let rows = entries.len();
    let text = || StringBuilder::with_capacity(rows, rows * TEXT);
    let (mut ids, mut codes, mut names, mut regions) = (text(), text(), text(), text());
    let real = || Float64Builder::with_capacity(rows);
    let (mut lats, mut lons) = (real(), real());
    let mut capacities = Int64Builder::with_capacity(rows);
    for (Entry { index, id, says }, position) in entries.iter().zip(&positions.0) {
        let capacity = match count("capacity", &says.capacity) {
            Ok(capacity) => capacity,
            Err(Unusable(why)) => {
                faults.row("stations", *index, format!("station {id}: {why}"));
                continue;
            }
        };
        let position =
            position.map_err(|why| faults.row("stations", *index, format!("station {id}: {why}, and left out")));
        lats.append_option(position.ok().map(|(lat, _)| lat));
        lons.append_option(position.ok().map(|(_, lon)| lon));
        capacities.append_option(capacity);
        ids.append_value(id);
        let first = |choices: [&Scalar<'_>; 2]| {
            choices.into_iter().find_map(|given| given.text().ok().flatten().map(|text| text.into_owned()))
        };
        codes.append_option(first([&says.code, &says.short_name.0]));
        names.append_option(says.name.0.text().ok().flatten());
        regions.append_option(first([&says.region_name, &says.region_id]));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(codes.finish()),
        Arc::new(names.finish()),
        Arc::new(lats.finish()),
        Arc::new(lons.finish()),
        Arc::new(capacities.finish()),
        Arc::new(regions.finish()),
    ];
    Some(RecordBatch::try_new(STATIONS_SCHEMA.clone(), columns).expect("the columns of the schema"))
}

/// The positions (latitude, longitude) of all stations. A system lies in one region: a station that is far
/// from its middle, and near with its numbers swapped, has them swapped.
struct Positions(Vec<Result<(f64, f64), &'static str>>);

impl Positions {
    fn read(entries: &[Entry<'_, '_>]) -> Self {
        let mut all: Vec<_> = entries.iter().map(|entry| position(entry.says)).collect();
        let middle = |pick: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = all.iter().flatten().map(pick).collect();
            let half = values.len() / 2;
            (!values.is_empty()).then(|| *values.select_nth_unstable_by(half, f64::total_cmp).1)
        };
        if let (Some(lat), Some(lon)) = (middle(|p| p.0), middle(|p| p.1)) {
            let near = |a: f64, b: f64| (a - b).abs() < NEAR;
            for one in &mut all {
                if let Ok((a, b)) = *one
                    && !(near(a, lat) && near(b, lon))
                    && near(b, lat)
                    && near(a, lon)
                {
                    *one = Err("latitude and longitude are swapped");
                }
            }
        }
        Positions(all)
    }
}

fn position(says: &Station<'_>) -> Result<(f64, f64), &'static str> {
    let choose = |direct: &Scalar<'_>, other: &Scalar<'_>| {
        let given = if direct.is_null() { other } else { direct };
        given.real().map_err(|Wrong| "its position is no pair of numbers")?.ok_or("it has no position")
    };
    let (lat, lon) = (choose(&says.lat, &says.position.lat)?, choose(&says.lon, &says.position.lon)?);
    if lat.abs() > 90.0 || lon.abs() > 180.0 {
        return Err("its position is not on earth");
    }
    if lat == 0.0 && lon == 0.0 {
        return Err("its position is 0, 0");
    }
    Ok((lat, lon))
}
