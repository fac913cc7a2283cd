//! Nothing that a peer sends makes decoding panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const DOCUMENTS: [&str; 8] = [
    "status_velib.json",
    "information_velib.json",
    "status_2.3.json",
    "status_3.0.json",
    "information_3.0.json",
    "opendata.json",
    "discovery_2.3.json",
    "status_odd.json",
];

/// Whatever was read keeps what the schema promises: a batch was made, with ids that are there.
fn check(bytes: &[u8]) {
    if let Ok(tables) = decode(bytes, &VehicleTypes::new()) {
        for table in [tables.stations, tables.status].into_iter().flatten() {
            assert_eq!(table.column(0).null_count(), 0);
            lines(&table);
        }
        assert!(tables.rejections.iter().all(|rejection| rejection.sample.len() <= 1024));
    }
}

/// Values that have come in the place of others.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(1e308)),
        Just(json!("\u{0}")),
        Just(json!("OUI")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[{"a": [1]}]])),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ]
}

/// Puts `value` in the place of the node that comes as the `place`-th, wherever that is.
fn replace(node: &mut Value, place: &mut usize, value: &Value) {
    if *place == 0 {
        *node = value.clone();
    }
    *place = place.wrapping_sub(1);
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, place, value)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, place, value)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn damaged(name in prop::sample::select(&DOCUMENTS[..]), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = own(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
        check(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn other_values(name in prop::sample::select(&DOCUMENTS[..]), changes in prop::collection::vec((0..120_usize, odd()), 1..5)) {
        let mut document: Value = serde_json::from_slice(&own(name)).unwrap();
        for (mut place, value) in changes {
            replace(&mut document, &mut place, &value);
        }
        check(document.to_string().as_bytes());
    }
}
