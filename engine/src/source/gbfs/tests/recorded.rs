//! Recordings: folders and archives of documents, in time.

use std::io::Write;

use tokio::sync::mpsc;

use super::*;
use crate::source::gbfs::Gbfs;
use crate::source::{Connector, Context, Event, Options, Rejection, Snapshot, build_client};

fn context() -> Context {
    let wall_clock_ms = std::sync::Arc::new(|| NOW);
    Context { http: build_client().unwrap(), wall_clock_ms, folder: PathBuf::from("."), shown: 0 }
}

/// Plays a recording to its end.
async fn play(path: &Path, options: &[(&str, &str)]) -> (Vec<Snapshot>, Vec<Rejection>) {
    let mut all = Options::from([("url".to_owned(), path.display().to_string())]);
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let source = Gbfs.bind(&all).unwrap();
    assert!(source.bounded());
    assert_eq!(source.resolve(&context()).await.unwrap().relations.len(), 3);
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context(), out));
    let (mut snapshots, mut rejections) = (vec![], vec![]);
    while let Some(event) = events.recv().await {
        match event {
            Event::Snapshot(snapshot) => snapshots.push(snapshot),
            Event::Rejected(refused) => rejections.extend(refused),
            Event::Health(health) => panic!("a recording is not polled: {health:?}"),
        }
    }
    assert!(snapshots.is_sorted_by(|a, b| a.time < b.time), "times increase");
    (snapshots, rejections)
}

/// What a snapshot holds: `i` information, `s` status with its observations.
fn held(snapshot: &Snapshot) -> &'static str {
    match &snapshot.tables[..] {
        [Some(_), Some(_), Some(_)] => "is",
        [Some(_), None, None] => "i",
        [None, Some(_), Some(_)] => "s",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_folder_is_read_in_the_order_of_its_times() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("status_20241105_170210.json", &own("status_velib.json"));
    write("information_20241105_170210.json", &own("information_velib.json"));
    write("a_status_20241105_170310.json", b"<html>");
    write("z_status_20241105_170410.json", &own("status_velib.json"));
    write("z_status_20241105_170510.json.zst", &zstd::encode_all(&own("status_velib.json")[..], 1).unwrap());
    let (snapshots, rejections) = play(folder.path(), &[]).await;
    let got: Vec<_> = snapshots.iter().map(|snapshot| (snapshot.time - NOW, held(snapshot))).collect();
    assert_eq!(got, [(0, "is"), (120_000, "s"), (180_000, "s")]);
    let refused: Vec<_> = rejections.iter().map(|r| (r.time - NOW, r.relation.as_str(), r.reason.as_str())).collect();
    assert_eq!(refused[0].2, "station 36255: latitude and longitude are swapped, and left out");
    assert_eq!(refused[2], (60_000, "", "a_status_20241105_170310.json: HTML or XML in place of JSON"));
    let observed = lines(snapshots[1].tables[2].as_ref().unwrap());
    assert_eq!(observed[1], "36255 | 16:04:10 | 3 | 2 | 1 | 7 | - | - | true | true | true | -");
    let (again, _) = play(&folder.path().join("z_*"), &[("time_zone", "UTC"), ("speed", "1000000")]).await;
    assert_eq!(again[0].time, NOW + 120_000 + 3_600_000);
}

#[tokio::test]
async fn a_document_without_a_time_in_its_name_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), own("status_velib.json")).unwrap();
    std::fs::write(folder.path().join("b.json"), own("status_2.3.json")).unwrap();
    std::fs::write(folder.path().join("c.json"), own("opendata.json")).unwrap();
    let later = String::from_utf8(own("status_2.3.json")).unwrap();
    let later = later.replace("1730822530", "9223372036854775807").replace("1730822000", "9223372036854775807");
    std::fs::write(folder.path().join("b2.json"), later).unwrap();
    let (snapshots, rejections) = play(folder.path(), &[("hold_back", "100 %")]).await;
    assert_eq!(snapshots.iter().map(|snapshot| snapshot.time).collect::<Vec<_>>(), [NOW, NOW + 1]);
    let refused: Vec<_> = rejections.iter().map(|rejection| rejection.reason.as_str()).collect();
    assert!(refused.iter().any(|reason| reason.starts_with("b2.json: it has no time")), "{refused:?}");
    assert!(refused.iter().any(|reason| reason.starts_with("c.json: it has no time")), "{refused:?}");
}

#[tokio::test]
async fn an_archive_is_read_document_by_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.tar.gz");
    let gz = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gz);
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    add("a/velib_data_20241105_170210.json", &own("opendata.json"));
    add("a/velib_data_20241105_170710.json", &own("opendata_no_code.json"));
    add("a/velib_data_20241105_171210.json", &own("opendata_blank.json"));
    add("a/velib_data_20241105_170000.json", &own("opendata.json"));
    add("a/velib_data_20241105_171710.json", &vec![b' '; 4_000]);
    let mut gz = archive.into_inner().unwrap();
    gz.write_all(&[]).unwrap();
    gz.finish().unwrap();
    let (snapshots, rejections) = play(&path, &[("max_bytes", "2 kB")]).await;
    let got: Vec<_> = snapshots.iter().map(|snapshot| (snapshot.time - NOW, held(snapshot))).collect();
    assert_eq!(got, [(0, "is"), (600_000, "s")]);
    let reasons: Vec<_> = rejections.iter().map(|rejection| rejection.reason.as_str()).collect();
    assert!(reasons[0].contains("none of its 2 entries has a usable stationcode"), "{reasons:?}");
    assert!(reasons[1].contains("null in every entry"));
    assert!(reasons[2].contains("older than the one before it"));
    assert!(reasons[3].contains("larger than 2000 bytes"));
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..300]).unwrap();
    let (_, rejections) = play(&path, &[]).await;
    assert!(!rejections.is_empty(), "a damaged archive is reported");
}

/// Ten days of the Paris open-data site, byte for byte.
#[tokio::test]
async fn ten_days_of_the_open_data_site() {
    let name = "velib/raw_opendata/v2.1_exports_5min_2024-10-31_2024-11-10_raw769.tar.zst";
    let Some(path) = recorded(name) else { return };
    let (snapshots, rejections) = play(&path, &[]).await;
    let count = |text: &str| rejections.iter().filter(|rejection| rejection.reason.contains(text)).count();
    // Counted in the archive itself: 769 documents, of which 1 is cut short, 7 have no stationcode at all,
    // and 25 have neither name, position nor capacity.
    assert_eq!((count("not JSON") + count("cut short"), count("has a usable stationcode")), (1, 7));
    assert_eq!(snapshots.len(), 769 - 1 - 7);
    assert_eq!(snapshots.iter().filter(|snapshot| held(snapshot) == "s").count(), 25);
    assert_eq!(snapshots[0].time, 1_730_382_601_000);
    assert_eq!(snapshots[0].tables[1].as_ref().unwrap().num_rows(), 1_485);
    assert_eq!(rejections.iter().filter(|rejection| rejection.relation.is_empty()).count(), 8);
}

/// Whole feeds of every version.
#[test]
fn feeds_of_every_version() {
    for version in ["v2.1", "v2.2", "v2.3", "v3.0"] {
        for part in ["station_status", "station_information"] {
            let Some(path) = recorded(&format!("gbfs/entur_validator/{version}/{part}.json")) else { return };
            let tables = decode(&std::fs::read(&path).unwrap(), &VehicleTypes::new()).unwrap();
            assert_eq!(tables.rejections, [], "{version} {part}");
            let table = tables.status.or(tables.stations).unwrap();
            assert_eq!(table.num_rows(), 2, "{version} {part}");
        }
    }
    for version in ["v1.0", "v1.1", "v2.0", "v2.1", "v2.2", "v2.3", "v3.0"] {
        let Some(path) = recorded(&format!("gbfs/entur_validator/{version}/gbfs.json")) else { return };
        let bytes = std::fs::read(&path).unwrap();
        let document = document::read(document::text(&bytes).unwrap()).unwrap();
        assert!(document.stations.is_none() && document.feeds.len() >= 2, "{version}");
    }
}

/// Documents as they were served.
#[test]
fn real_feeds() {
    for (name, rows, notes) in [
        ("gbfs/real/citibike_1.1_2024-10-02/station_information.json", 2_226, 0),
        ("gbfs/real/citibike_1.1_2024-10-02/station_status.json", 2_226, 0),
        ("gbfs/real/oslo_2.3_2025-04-01/station_status.json", 256, 0),
        ("velib/raw_gbfs/station_information_2025-10-18.json", 1_495, 0),
        ("velib/raw_gbfs/station_status_2025-10-18.json", 1_495, 0),
        ("velib/raw_opendata/v2.1_export_2024-11-05T201501_ok.json", 1_485, 0),
        ("gbfs/odd/motis437_missing_station_id_and_wrong_types.json", 2, 3),
    ] {
        let Some(path) = recorded(name) else { return };
        let tables = decode(&std::fs::read(&path).unwrap(), &VehicleTypes::new()).unwrap();
        let got = tables.status.as_ref().or(tables.stations.as_ref()).unwrap().num_rows();
        assert_eq!((got, tables.rejections.len()), (rows, notes), "{name}");
    }
    for (name, why) in [
        ("gbfs/odd/latin1_not_utf8.json", "not UTF-8"),
        ("gbfs/odd/no_stations_key.json", "no data.stations"),
        ("gbfs/odd/oslo_2024-08-31_zero_length.json", "empty"),
        ("velib/raw_opendata/v2.1_export_2024-11-05T112001_TRUNCATED_at_524288.json", ""),
        ("velib/raw_opendata/v2.1_export_2024-11-01T095501_NO_stationcode.json", "usable stationcode"),
    ] {
        let Some(path) = recorded(name) else { return };
        let error = decode(&std::fs::read(&path).unwrap(), &VehicleTypes::new()).unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
    }
}
