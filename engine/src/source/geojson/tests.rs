//! Places of a small collection, and those of Paris.

use std::path::{Path, PathBuf};

use arrow::array::AsArray;

use super::*;
use crate::source::build_client;
use crate::source::zones::Zones;

fn context(folder: &Path) -> Context {
    Context { http: build_client().unwrap(), wall_clock_ms: Arc::new(|| 0), folder: folder.to_owned(), shown: 0 }
}

fn bind(options: &[(&str, &str)]) -> Result<Arc<dyn Source>, SourceError> {
    Geojson.bind(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

async fn events(source: Arc<dyn Source>, context: Context) -> (Option<RecordBatch>, Vec<String>) {
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context, out));
    let (mut rows, mut reasons) = (None, vec![]);
    while let Some(event) = events.recv().await {
        match event {
            Event::Snapshot(snapshot) => {
                assert_eq!(snapshot.time, 0);
                rows = snapshot.tables.into_iter().next().unwrap();
            }
            Event::Rejected(rejections) => reasons.extend(rejections.into_iter().map(|rejection| rejection.reason)),
            Event::Health(health) => panic!("{health:?}"),
        }
    }
    (rows, reasons)
}

#[tokio::test]
async fn features_are_rows_and_zones() {
    let folder = tempfile::tempdir().unwrap();
    let square = r#"{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}"#;
    let feature = |properties: &str, geometry: &str| {
        format!(r#"{{"type":"Feature","properties":{properties},"geometry":{geometry}}}"#)
    };
    let features = [
        feature(r#"{"c":7,"l":"Seven","n":[1]}"#, square),
        feature(r#"{"c":"7","l":"Again"}"#, square),
        feature(r#"{"l":"None"}"#, square),
        feature(r#"{"c":"p"}"#, r#"{"type":"Point","coordinates":[1,2]}"#),
        feature(r#"{"c":"n"}"#, "null"),
    ];
    let text = format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","));
    std::fs::write(folder.path().join("a.geojson"), text).unwrap();
    let source = bind(&[("path", "a.geojson"), ("id", "c"), ("name", "l")]).unwrap();
    let resolved = source.resolve(&context(folder.path())).await.unwrap();
    let zones = Zones::parse(&resolved.zones.unwrap()).unwrap();
    assert_eq!(zones.zone_of(0.9, 0.1), Some("7"));
    let (rows, reasons) = events(source, context(folder.path())).await;
    let rows = rows.unwrap();
    let column = |index| rows.column(index).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(column(0), [Some("7"), Some("p"), Some("n")]);
    assert_eq!(column(1), [Some("Seven"), None, None]);
    assert_eq!(column(2), [Some(r#"{"n":[1]}"#), Some("{}"), Some("{}")]);
    assert_eq!(
        reasons,
        [
            "feature 7 is there twice; the first one counts",
            "feature 2 has no property c that could be its id",
            "feature p is no polygon, and around no point",
            "feature n is no polygon, and around no point",
        ]
    );
}

#[tokio::test]
async fn what_is_no_collection_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (text, why) in
        [("", "EOF while parsing"), ("{\"type\":\"Point\",\"coordinates\":[1,2]}", "not a feature collection")]
    {
        std::fs::write(folder.path().join("a"), text).unwrap();
        let source = bind(&[("path", "a"), ("id", "c")]).unwrap();
        let error = source.resolve(&context(folder.path())).await.unwrap_err().to_string();
        assert!(error.starts_with("a: ") && error.contains(why), "{error}");
        // It may have been better when the job was submitted, and will be again: the source waits for that.
        let (out, mut events) = mpsc::channel(1);
        tokio::spawn(source.run(context(folder.path()), out));
        match events.recv().await.unwrap() {
            Event::Health(health) => assert_eq!(health.error, Some(error)),
            event => panic!("{event:?}"),
        }
        std::fs::write(folder.path().join("a"), r#"{"type":"FeatureCollection","features":[]}"#).unwrap();
        assert!(matches!(events.recv().await, Some(Event::Snapshot(_))));
        assert!(events.recv().await.is_none());
    }
    for (options, why) in [
        (&[("id", "c")][..], "needs the setting 'path'"),
        (&[("path", "a")], "needs the setting 'id'"),
        (&[("path", "a"), ("url", "http://example.com"), ("id", "c")], "either a path or a url"),
        (&[("path", "a"), ("id", "c"), ("key", "name")], "identified by the column id"),
    ] {
        let error = bind(options).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Stations in the quartiers of Paris: the number of a station begins with its arrondissement.
#[tokio::test]
async fn the_quartiers_of_paris() {
    let data = std::env::var_os("VELIB_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let stations = data.join("velib/raw_gbfs/station_information_2025-10-18.json");
    if !stations.exists() {
        eprintln!("skipped: {} is not there (set VELIB_TEST_DATA)", stations.display());
        return;
    }
    let source = bind(&[("path", "zones/quartier_paris.geojson"), ("id", "c_qu"), ("name", "l_qu")]).unwrap();
    let zones = source.resolve(&context(&data)).await.unwrap().zones.unwrap();
    let zones = Zones::parse(&zones).unwrap();
    let (rows, reasons) = events(source, context(&data)).await;
    let rows = rows.unwrap();
    assert_eq!((rows.num_rows(), reasons.len()), (80, 0));
    let ids = rows.column(0).as_string::<i32>();
    let arrondissement = |quartier: &str| {
        let row = ids.iter().position(|id| id == Some(quartier)).unwrap();
        let properties: Value = serde_json::from_str(rows.column(2).as_string::<i32>().value(row)).unwrap();
        properties["c_ar"].as_u64().unwrap()
    };
    let document: Value = serde_json::from_slice(&std::fs::read(stations).unwrap()).unwrap();
    let (mut inside, mut agree) = (0, 0);
    for station in document["data"]["stations"].as_array().unwrap() {
        let (lon, lat) = (station["lon"].as_f64().unwrap(), station["lat"].as_f64().unwrap());
        let code: u64 = station["stationCode"].as_str().unwrap().parse().unwrap();
        if let Some(quartier) = zones.zone_of(lon, lat) {
            inside += 1;
            agree += u64::from(arrondissement(quartier) == code / 1_000);
        }
    }
    assert!(inside > 950, "{inside} stations lie in Paris");
    assert!(agree * 100 > inside * 98, "{agree} of {inside} agree");
}
