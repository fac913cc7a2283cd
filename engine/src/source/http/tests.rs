//! Documents of several shapes, over real HTTP.

use std::path::PathBuf;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::source::build_client;

const NOW: u64 = 1_700_000_000_000;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn document(text: impl Into<String>) -> Router {
    let text = text.into();
    Router::new().fallback(get(move || async move { text }))
}

fn context() -> Context {
    Context { http: build_client().unwrap(), wall_clock_ms: Arc::new(|| NOW), folder: PathBuf::from("."), shown: 0 }
}

fn bind(url: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Source>, SourceError> {
    let all = [("url", url)].into_iter().chain(options.iter().copied());
    Http.bind(&all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The columns and the first table of a document, and what was refused of it.
async fn first(text: impl Into<String>, options: &[(&str, &str)]) -> (Relation, Vec<String>, Vec<String>) {
    let source = bind(&serve(document(text)).await, options).unwrap();
    let relation = source.resolve(&context()).await.unwrap().relations.remove(0);
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context(), out));
    let mut refused = vec![];
    loop {
        match events.recv().await.unwrap() {
            Event::Rejected(rejections) => refused.extend(rejections.into_iter().map(|rejection| rejection.reason)),
            Event::Health(health) => panic!("{health:?} {refused:?}"),
            Event::Snapshot(snapshot) => {
                assert_eq!(snapshot.time, NOW);
                let table = snapshot.tables[0].clone().unwrap();
                assert_eq!(table.schema(), relation.schema);
                let options = FormatOptions::new().with_null("-");
                let columns = table.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
                let columns: Vec<_> = columns.collect();
                let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ");
                return (relation, (0..table.num_rows()).map(line).collect(), refused);
            }
        }
    }
}

fn types(relation: &Relation) -> String {
    let fields = relation.schema.fields().iter();
    fields.map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn columns_of_a_forecast() {
    let text = r#"{"elevation":184.0,"hourly":{"rain":[0.0,0.1],"temperature_2m":[11.6,null],
        "time":["2023-09-25T00:00","2023-09-25T01:00"],"code":[1,2]},"hourly_units":{"rain":"mm"}}"#;
    let options = [("rows", "$.hourly"), ("shape", "columnar"), ("time_zone", "Europe/Paris"), ("key", "time")];
    let (relation, rows, refused) = first(text, &options).await;
    assert_eq!(types(&relation), "code Int64, rain Float64, temperature_2m Float64, time Timestamp(µs, \"UTC\")");
    assert_eq!(relation.key, [3]);
    assert_eq!(rows, ["1 | 0.0 | 11.6 | 2023-09-24T22:00:00Z", "2 | 0.1 | - | 2023-09-24T23:00:00Z"]);
    assert!(refused.is_empty());
}

/// A forecast and a record of traffic as they were served.
#[tokio::test]
async fn recorded_documents() {
    let data = std::env::var_os("VELIB_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let forecast = [("rows", "$.hourly"), ("shape", "columnar"), ("time_zone", "Europe/Paris"), ("key", "time")];
    let traffic = [("rows", "$.results"), ("key", "iu_ac, t_1h")];
    for (name, options, rows, first) in [
        ("open_meteo_hourly_lyon_2023-09-25.json", &forecast[..], 24, "0.0 | 11.6 | 2023-09-24T22:00:00Z"),
        ("paris_traffic_record_v2.1_2026-07-17.json", &traffic, 1, "2002-03-05 | 2023-01-01 | Ouvert | Fluide | "),
    ] {
        let path = data.join("context").join(name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is not there (set VELIB_TEST_DATA)", path.display());
            return;
        };
        let (_, lines, refused) = self::first(text, options).await;
        assert!(lines.len() == rows && lines[0].starts_with(first), "{name}: {lines:?}");
        assert_eq!(refused, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn rows_of_a_list() {
    let text = json!({"data": {"items": [
        {"id": "a", "n": 1, "ok": true, "at": "2024-11-05T16:00:00Z", "more": {"x": [1]}, "mixed": 1},
        {"id": "b", "n": 2.5, "ok": null, "at": null, "mixed": "two"},
        {"id": "a", "n": 3}, {"n": 4}, 5,
    ]}});
    let (relation, rows, refused) = first(text.to_string(), &[("rows", "$.data.items"), ("key", "id")]).await;
    assert_eq!(types(&relation), "at Timestamp(µs, \"UTC\"), id Utf8, mixed Utf8, more Utf8, n Float64, ok Boolean");
    assert_eq!(rows, [r#"2024-11-05T16:00:00Z | a | 1 | {"x":[1]} | 1.0 | true"#, "- | b | two | - | 2.5 | -"]);
    assert_eq!(refused.len(), 3);
    assert!(refused[0].contains("is there twice") && refused[1].contains("its key id is null"), "{refused:?}");
    assert_eq!(refused[2], "row 4: it is no object");
}

#[tokio::test]
async fn declared_columns_need_no_document() {
    let columns = ("columns", "n bigint, at timestamptz, name text, on boolean, x double");
    let source = bind("http://127.0.0.1:9/", &[columns]).unwrap();
    assert_eq!(source.resolve(&context()).await.unwrap().relations[0].schema.fields().len(), 5);
    let text = r#"[{"n":"7","at":1700000000,"name":5,"on":1,"x":"1.5","other":1},{"n":1.5},{"at":"2023-09-25T00:00"}]"#;
    let (_, rows, refused) = first(text, &[columns]).await;
    assert_eq!(rows, ["7 | 2023-11-14T22:13:20Z | 5 | true | 1.5"]);
    assert_eq!(
        refused,
        [
            "row 1: n is 1.5, which is no bigint; declare the columns if it should be something else",
            "row 2: at is \"2023-09-25T00:00\", which is no timestamptz; give a time_zone for local times",
        ]
    );
}

/// A job that starts again must find the columns that it was planned with, whatever the document suggests now.
#[tokio::test]
async fn columns_stay_as_they_were_found() {
    let found = bind(&serve(document(r#"[{"id":"a","n":1},{"id":"b","n":2}]"#)).await, &[]).unwrap();
    let found = found.resolve(&context()).await.unwrap().relations;
    let source = bind(&serve(document(r#"[{"id":1,"n":null,"x":1},{"id":"c","n":3}]"#)).await, &[]).unwrap();
    let before = source.identity();
    source.adopt(&found);
    assert_ne!(source.identity(), before, "it is not read with jobs that found other columns");
    let (out, mut events) = mpsc::channel(1);
    tokio::spawn(source.run(context(), out));
    let Some(Event::Snapshot(snapshot)) = events.recv().await else { panic!("a snapshot") };
    let table = snapshot.tables[0].clone().unwrap();
    assert_eq!((table.schema(), table.num_rows()), (found[0].schema.clone(), 2));
}

#[tokio::test]
async fn what_the_server_says_is_told() {
    let answer = (StatusCode::BAD_REQUEST, r#"{"error":true,"reason":"Latitude must be in range"}"#);
    let address = serve(Router::new().fallback(get(move || async move { answer }))).await;
    let error = bind(&address, &[]).unwrap().resolve(&context()).await.unwrap_err().to_string();
    assert_eq!(error, format!("{address}/: 400 Bad Request: Latitude must be in range"));
    for (text, options, why) in [
        ("", &[][..], "cut short, or empty"),
        ("<html>", &[], "not JSON"),
        ("{\"a\":1}", &[("rows", "$.b")], "nothing where the rows should be"),
        ("[]", &[], "declare them"),
        ("[1]", &[("columns", "n bigint")], "none of its rows can be used"),
        ("{\"a\":[1],\"b\":[1,2]}", &[("shape", "columnar")], "a has 1 values, and b has 2"),
        ("[{\"a\":1}]", &[("key", "b")], "no column b"),
    ] {
        let (out, mut events) = mpsc::channel(1);
        tokio::spawn(bind(&serve(document(text)).await, options).unwrap().run(context(), out));
        let Some(Event::Rejected(rejections)) = events.recv().await else { panic!("{text}") };
        assert!(rejections[0].reason.contains(why), "{rejections:?}");
        let Some(Event::Health(health)) = events.recv().await else { panic!("{text}") };
        assert!(health.error.unwrap().contains(why));
    }
    for (options, why) in [
        (&[("format", "xml")][..], "the format is 'json'"),
        (&[("rows", "hourly")], "write a path"),
        (&[("shape", "round")], "'rows' or 'columnar'"),
        (&[("columns", "a text"), ("key", "b")], "not one of the declared columns"),
    ] {
        let error = bind("http://example.com", options).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
