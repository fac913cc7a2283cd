//! Feeds over TLS: who serves them must show a certificate of an authority that this machine trusts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const AREAS: &str = r#"{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"c":"7"},
    "geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}}]}"#;

/// Serves the areas over TLS with a certificate of an authority of its own, which is written to `authority`; yields
/// its port.
async fn serve(authority: &Path) -> u16 {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(authority, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust us leaves here.
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut request = vec![0; 4096];
            let _ = socket.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", AREAS.len());
            let _ = socket.write_all((head + AREAS).as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_against_the_authorities_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let port = serve(&authority).await;
    let explain = |host: &str, authorities: Option<&Path>| {
        let job = folder.path().join("areas.sql");
        let text = format!(
            "CREATE SOURCE areas FROM GEOJSON (url = 'https://{host}:{port}/areas', id = 'c');
             CREATE MATERIALIZED VIEW v AS SELECT id FROM areas;"
        );
        std::fs::write(&job, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_velib"));
        command.arg("explain").arg(job).stdin(Stdio::null());
        // As OpenSSL reads it, so does the engine.
        match authorities {
            Some(file) => command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR"),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        let done = command.output().unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    };
    let (good, error) = explain("localhost", Some(&authority));
    assert!(good, "{error}");
    let (good, error) = explain("localhost", None);
    assert!(!good && error.contains(&format!("source areas: https://localhost:{port}/areas: ")), "{error}");
    assert!(error.contains("invalid peer certificate"), "{error}");
    // Nor is a certificate good for another name,
    let (good, error) = explain("127.0.0.1", Some(&authority));
    assert!(!good && error.contains("not valid for name"), "{error}");
    // or where there are no authorities at all, as in the smallest of images; all else works there.
    let (good, error) = explain("localhost", Some(Path::new("/nowhere")));
    assert!(!good && error.contains("install ca-certificates") && error.contains("source areas: https"), "{error}");
}
