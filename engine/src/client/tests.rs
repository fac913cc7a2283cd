use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;

use super::*;

async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn refusals_come_in_the_words_of_the_cluster() {
    let missing = |Path(name): Path<String>| async move {
        (StatusCode::NOT_FOUND, Json(json!({"error": format!("there is no job {name}")})))
    };
    let router = axum::Router::new()
        .route("/api/jobs/{name}", get(missing).delete(|| async { StatusCode::NO_CONTENT }))
        .route("/readyz", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "waiting for 1 process") }))
        .route("/api/status", get(|| async { "<html>hello</html>" }));
    let client = Client::new(&serve(router).await).unwrap();
    let error = client.job("à/b").await.unwrap_err();
    assert!(error.is_not_found() && error.to_string() == "there is no job à/b", "{error}");
    client.drop_job("a").await.unwrap();
    let error = client.ready().await.unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("waiting for 1 process"), "{error}");
    let error = client.status().await.unwrap_err();
    assert!(error.to_string().contains("is the address right?"), "{error}");
    let error = client.jobs().await.unwrap_err();
    assert!(error.to_string().contains("404") && !error.is_not_found(), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_the_remedy() {
    let error = Client::new("127.0.0.1:1").unwrap().status().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no cluster answers at http://127.0.0.1:1 (connection refused): start one with `velib worker`, or say \
         where with --api or VELIB_API"
    );
    assert!(error.is_retriable());
    for address in ["ftp://a", "http://", "http://a:99999"] {
        let error = Client::new(address).unwrap_err();
        assert!(matches!(error, ClientError::Address { .. }), "{error}");
    }
}
