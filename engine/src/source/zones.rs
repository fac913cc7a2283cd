//! Which zone a point lies in: an R-tree of bounding boxes, then the exact polygons.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, StringBuilder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use geo::{BoundingRect, Intersects, MultiPolygon, Point};
use geojson::feature::Id;
use geojson::{Feature, GeoJson, GeometryValue};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use velib_operators::row;

use super::SourceError;

/// Polygons with ids.
pub struct Zones {
    tree: RTree<GeomWithData<Rectangle<[f64; 2]>, usize>>,
    zones: Vec<(String, MultiPolygon)>,
    /// Of the text: equal texts are equal zones.
    print: u64,
}

impl Zones {
    /// Reads a GeoJSON feature collection whose features have an `id` and a polygon.
    ///
    /// # Errors
    /// The text is no such collection.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = |why: String| SourceError::Unavailable(format!("zones: {why}"));
        let json: GeoJson = text.parse().map_err(|error: geojson::Error| wrong(error.to_string()))?;
        let GeoJson::FeatureCollection(collection) = json else {
            return Err(wrong("not a feature collection".to_owned()));
        };
        let zone = |feature: Feature| {
            let id = match &feature.id {
                Some(Id::String(id)) => id.clone(),
                Some(Id::Number(id)) => id.to_string(),
                None => return Err(wrong("a feature has no id".to_owned())),
            };
            let polygons = feature.geometry.as_ref().and_then(|geometry| polygons(&geometry.value));
            Ok((id.clone(), polygons.ok_or_else(|| wrong(format!("feature {id} is no polygon")))?))
        };
        let zones = collection.features.into_iter().map(zone).collect::<Result<Vec<_>, _>>()?;
        let boxed = zones.iter().enumerate().filter_map(|(index, (_, polygons))| {
            let around = polygons.bounding_rect()?;
            let corners = Rectangle::from_corners(around.min().into(), around.max().into());
            Some(GeomWithData::new(corners, index))
        });
        Ok(Zones { tree: RTree::bulk_load(boxed.collect()), zones, print: row::hash(text.as_bytes()) })
    }

    /// The id of the zone around a point, its border included; of several, the one that is listed first.
    pub fn zone_of(&self, lon: f64, lat: f64) -> Option<&str> {
        if !(lon.is_finite() && lat.is_finite()) {
            return None;
        }
        let here = AABB::from_point([lon, lat]);
        let near = self.tree.locate_in_envelope_intersecting(here).map(|zone| zone.data);
        let point = Point::new(lon, lat);
        let index = near.filter(|index| self.zones[*index].1.intersects(&point)).min()?;
        Some(&self.zones[index].0)
    }
}

/// The polygons of a geometry; none where it is something else, or holds what is no number.
pub(super) fn polygons(geometry: &GeometryValue) -> Option<MultiPolygon> {
    let geometry: geo::Geometry = geometry.try_into().ok()?;
    match geometry {
        geo::Geometry::Polygon(polygon) => Some(MultiPolygon::new(vec![polygon])),
        geo::Geometry::MultiPolygon(polygons) => Some(polygons),
        _ => None,
    }
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} zones", self.zones.len())
    }
}

/// A scalar function `name(lon, lat)`: the id of the zone around a point, or null.
pub fn zones_udf(name: &str, zones: Arc<Zones>) -> ScalarUDF {
    let point = TypeSignature::Exact(vec![DataType::Float64, DataType::Float64]);
    let signature = Signature::new(point, Volatility::Immutable);
    ScalarUDF::new_from_impl(ZoneOf { name: name.to_owned(), signature, zones })
}

#[derive(Debug)]
struct ZoneOf {
    name: String,
    signature: Signature,
    zones: Arc<Zones>,
}

impl PartialEq for ZoneOf {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.zones.print == other.zones.print
    }
}

impl Eq for ZoneOf {}

impl Hash for ZoneOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.zones.print).hash(state);
    }
}

impl ScalarUDFImpl for ZoneOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let (lons, lats) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_primitive::<Float64Type>());
        let mut zones = StringBuilder::with_capacity(lons.len(), lons.len() * 8);
        for (lon, lat) in lons.iter().zip(lats) {
            zones.append_option(lon.zip(lat).and_then(|(lon, lat)| self.zones.zone_of(lon, lat)));
        }
        Ok(ColumnarValue::Array(Arc::new(zones.finish())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    const ZONES: &str = r#"{"type":"FeatureCollection","features":[
        {"type":"Feature","id":"ring","properties":null,"geometry":{"type":"Polygon","coordinates":
            [[[0,0],[4,0],[4,4],[0,4],[0,0]],[[1,1],[3,1],[3,3],[1,3],[1,1]]]}},
        {"type":"Feature","id":"two","properties":null,"geometry":{"type":"MultiPolygon","coordinates":
            [[[[4,0],[5,0],[5,4],[4,4],[4,0]]],[[[8,0],[9,0],[9,1],[8,0]]]]}}]}"#;

    #[test]
    fn a_point_lies_in_one_zone() {
        let zones = Zones::parse(ZONES).unwrap();
        for (lon, lat, zone) in [
            (0.5, 0.5, Some("ring")),
            (2.0, 2.0, None),
            (4.0, 2.0, Some("ring")),
            (4.5, 2.0, Some("two")),
            (8.9, 0.2, Some("two")),
            (8.1, 0.9, None),
            (f64::NAN, 2.0, None),
            (1e300, -1e300, None),
        ] {
            assert_eq!(zones.zone_of(lon, lat), zone, "{lon} {lat}");
        }
        for text in ["", "{}", "[1]", r#"{"type":"Point","coordinates":[1,2]}"#] {
            assert!(Zones::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn sql_asks_for_the_zone() {
        let context = SessionContext::new();
        let zones = Arc::new(Zones::parse(ZONES).unwrap());
        context.register_udf(zones_udf("zones_at", zones));
        let sql = "SELECT zones_at(lon, lat) FROM (VALUES (0.5, 0.5), (4.5, NULL), (4.5, 2), (2, 2)) AS p (lon, lat)";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let zones: Vec<_> = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter()).collect();
        assert_eq!(zones, [Some("ring"), None, Some("two"), None]);
    }
}
