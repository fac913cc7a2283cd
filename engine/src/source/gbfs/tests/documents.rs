//! One document at a time.

use super::*;

#[test]
fn every_dialect_is_one_schema() {
    let types = own("vehicle_types_3.0.json");
    let types = document::read(document::text(&types).unwrap()).unwrap().vehicle_types.unwrap();
    let types = decode::vehicle_types(&types);
    // station_id | bikes | mechanical | ebikes | docks | bikes_disabled | docks_disabled | flags | reported
    for (name, status) in [
        (
            "status_velib.json",
            &[
                "20702946965 | 5 | 1 | 4 | 30 | - | - | true | false | true | 15:20:00",
                "36255 | 3 | 2 | 1 | 7 | - | - | true | true | true | -",
            ][..],
        ),
        ("status_1.1_lyft.json", &["bfe5e69d | 16 | 14 | 2 | 30 | 6 | 2 | true | true | true | 15:53:20"]),
        ("status_2.3.json", &["s1 | 6 | 2 | 3 | 3 | 2 | 1 | true | true | false | 15:53:20"]),
        ("status_3.0.json", &["s1 | 6 | 2 | 3 | 3 | 2 | 1 | true | true | false | 15:53:20"]),
        (
            "opendata.json",
            &[
                "16107 | 14 | 10 | 4 | 21 | - | - | true | true | false | 15:53:20",
                "44015 | 16 | 11 | 5 | 4 | - | - | false | false | false | 15:02:50",
            ],
        ),
    ] {
        let tables = decode(&own(name), &types).unwrap();
        assert_eq!(lines(&tables.status.unwrap()), status, "{name}");
        assert_eq!(tables.rejections, [], "{name}");
    }
}

#[test]
fn what_stations_are() {
    let types = VehicleTypes::new();
    for (name, stations, notes) in [
        (
            "information_velib.json",
            &[
                "20702946965 | 16107 | Quai du Modèle | 48.865 | 2.275 | 35 | -",
                "36255 | 9020 | Square \"A\" | - | - | 10 | -",
                "36256 | 9021 | Place B | - | - | 0 | -",
                "36257 | 9022 | Place C | 48.88 | 2.34 | 12 | -",
            ][..],
            &[
                "station 36255: latitude and longitude are swapped, and left out",
                "station 36256: it has no position, and left out",
            ][..],
        ),
        ("information_3.0.json", &["s1 | GA | Garage A | 48.86 | 2.35 | 16 | north"], &[]),
        (
            "opendata.json",
            &[
                "16107 | 16107 | Quai du Modèle | 48.865983 | 2.275725 | 35 | Paris",
                "44015 | 44015 | Square A | 48.778 | 2.396 | 20 | Vitry-sur-Seine",
            ],
            &[],
        ),
    ] {
        let tables = decode(&own(name), &types).unwrap();
        assert_eq!(lines(&tables.stations.unwrap()), stations, "{name}");
        let reasons: Vec<_> = tables.rejections.iter().map(|rejection| &rejection.reason).collect();
        assert_eq!(reasons, notes, "{name}");
    }
}

#[test]
fn the_bad_station_is_dropped_and_the_feed_kept() {
    let tables = decode(&own("status_odd.json"), &VehicleTypes::new()).unwrap();
    assert_eq!(
        lines(&tables.status.unwrap()),
        [
            "42 | 5 | - | - | 3 | - | - | true | true | - | 15:53:20",
            "flag | 2 | - | - | - | - | - | - | - | - | -",
            "later | 2 | - | - | - | - | - | - | - | - | -",
        ]
    );
    let refused: Vec<_> = tables.rejections.iter().map(|r| (r.relation.as_str(), r.reason.as_str())).collect();
    assert_eq!(
        refused,
        [
            ("", "entry 0 has no station_id"),
            ("", "entry 2 has no station_id"),
            ("", "entry 3 is no object"),
            ("", "entry 4: station_id is neither text nor a whole number"),
            ("", "station 42 is listed twice; the first one counts"),
            ("status", "station minus: num_bikes_available is -1"),
            ("status", "station half: num_bikes_available is no whole number"),
            ("status", "station list: num_bikes_available is no whole number"),
            ("status", "station flag: is_renting is no flag, and left out"),
        ]
    );
    assert_eq!(tables.rejections[2].sample, "\"not an object\"");
    assert_eq!(tables.rejections[4].sample, r#"{"station_id": "42", "num_bikes_available": 9}"#);
}

#[test]
fn a_bad_document_is_refused_whole() {
    let good = own("status_velib.json");
    let cut = &good[..good.len() / 2];
    let with_bom = [b"\xef\xbb\xbf", &good[..]].concat();
    assert!(decode(&with_bom, &VehicleTypes::new()).is_ok());
    for (bytes, why) in [
        (cut, "cut short after"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<html><body>403</body></html>", "HTML"),
        (b"Forbidden", "not JSON"),
        (b"null", "no data.stations"),
        (b"{\"data\":{}}", "no data.stations"),
        (b"{\"data\":{\"stations\":{}}}", "no data.stations"),
        (b"{\"data\":{\"stations\":[{\"station_id\":1}]}}", "neither a status nor a name"),
        (b"{\"data\":{\"stations\":[{\"station_id\":1,\"num_bikes_available\":-1}]}}", "none of its 1 stations"),
        (b"[1,2]", "none of its 2 entries has a usable stationcode"),
        (b"{\"data\":{\"stations\":[]}} x", "not JSON"),
        (b"{\"name\":\"Op\xe9ra\"}", "not UTF-8 at byte 11"),
        (&b"{\"name\":\"\xc3"[..], "within a character"),
        (&own("opendata_no_code.json"), "none of its 2 entries has a usable stationcode"),
        ("[".repeat(100_000).as_bytes(), "cut short after"),
        (("[".repeat(100_000) + &"]".repeat(100_000)).as_bytes(), "none of its 1 entries"),
    ] {
        let error = decode(bytes, &VehicleTypes::new()).unwrap_err();
        assert!(error.contains(why), "{error} does not say {why}");
    }
}

#[test]
fn an_empty_list_is_a_system_without_stations() {
    let tables = decode(b"{\"data\":{\"stations\":[]}}", &VehicleTypes::new()).unwrap();
    assert_eq!(tables.status.unwrap().num_rows(), 0);
    assert!(tables.stations.is_none());
}

#[test]
fn what_is_unknown_of_all_stations_stays_as_it_was() {
    let tables = decode(&own("opendata_blank.json"), &VehicleTypes::new()).unwrap();
    assert!(tables.stations.is_none());
    assert_eq!(tables.status.unwrap().num_rows(), 2);
    assert_eq!(tables.rejections.len(), 1);
    assert!(tables.rejections[0].reason.contains("null in every entry"));
}

#[test]
fn faults_beyond_a_hundred_are_counted() {
    let entries = vec!["null"; 150].join(",");
    let text = format!("{{\"data\":{{\"stations\":[{{\"station_id\":1,\"num_docks_available\":1}},{entries}]}}}}");
    let tables = decode(text.as_bytes(), &VehicleTypes::new()).unwrap();
    assert_eq!(tables.rejections.len(), 101);
    assert_eq!(tables.rejections[100].reason, "50 more faults in the same document");
}

#[test]
fn a_discovery_document_lists_feeds() {
    for (name, feeds) in [("discovery_2.3.json", 4), ("discovery_3.0.json", 3)] {
        let bytes = own(name);
        let document = document::read(document::text(&bytes).unwrap()).unwrap();
        assert!(document.stations.is_none());
        assert_eq!(document.feeds.len(), feeds, "{name}");
    }
}
