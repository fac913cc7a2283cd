//! What the processes of a cluster show each other when their connections are encrypted: each has a certificate of the
//! same authority, for the name under which the others reach it.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::wire::Wire;

/// Why connections cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("{} is no file with {what} in PEM ({setting}): {error}", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// Which.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
    /// Some files are named, others are not.
    #[error("TLS between processes takes three files, and {0} is empty; name all of them, or none")]
    Missing(&'static str),
    /// They do not fit together.
    #[error("the certificate, key and authority of the cluster (cluster.tls_…) do not do: {0}")]
    Unfit(String),
}

/// Both sides of an encrypted connection.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Of a certificate with those between it and the authority, its key, and the authority, each a file in PEM. None
    /// if none is named.
    ///
    /// # Errors
    /// A file that cannot be read or is something else; some are named and others not; a key of another certificate.
    pub fn load(certificate: &Path, key: &Path, authority: &Path) -> Result<Option<Tls>, TlsError> {
        let named = [
            ("cluster.tls_certificate_file", certificate),
            ("cluster.tls_key_file", key),
            ("cluster.tls_authority_file", authority),
        ];
        let [certificate, key, authority] = named;
        if named.iter().all(|(_, path)| path.as_os_str().is_empty()) {
            return Ok(None);
        }
        if let Some((setting, _)) = named.iter().find(|(_, path)| path.as_os_str().is_empty()) {
            return Err(TlsError::Missing(setting));
        }
        let chain = certificates(certificate)?;
        let wrong = file(key, "a private key");
        let key = PrivateKeyDer::from_pem_file(key.1).map_err(wrong)?;
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(unfit)?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(verifier.build().map_err(unfit)?)
            .with_single_cert(chain, key)
            .map_err(unfit)?;
        Ok(Some(Tls { client: Arc::new(client), server: Arc::new(server) }))
    }

    /// To the process that is reached at `host`, until `end`.
    ///
    /// # Errors
    /// It has no certificate for that name, does not want ours, or takes too long.
    pub fn connect(&self, socket: TcpStream, host: &str, end: Instant) -> std::io::Result<Wire> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string()).map_err(std::io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(std::io::Error::other)?;
        Wire::encrypted(socket, connection.into(), end)
    }

    /// With a process that has connected, until `end`.
    ///
    /// # Errors
    /// It has no certificate of the authority, or takes too long.
    pub fn accept(&self, socket: TcpStream, end: Instant) -> std::io::Result<Wire> {
        let connection = ServerConnection::new(Arc::clone(&self.server)).map_err(std::io::Error::other)?;
        Wire::encrypted(socket, connection.into(), end)
    }
}

fn unfit(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unfit(error.to_string())
}

fn file<'a>((setting, path): (&'static str, &'a Path), what: &'static str) -> impl Fn(pem::Error) -> TlsError + 'a {
    move |error| TlsError::File { setting, path: path.to_path_buf(), what, error }
}

fn certificates(named: (&'static str, &Path)) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = file(named, "certificates");
    let found: Vec<_> =
        CertificateDer::pem_file_iter(named.1).map_err(&wrong)?.collect::<Result<_, _>>().map_err(&wrong)?;
    if found.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(found) }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tempfile::TempDir;

    use super::*;

    /// Gives out certificates.
    pub struct Authority {
        folder: TempDir,
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        pub fn new() -> Authority {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "the authority of a cluster");
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            Authority { folder: TempDir::new().unwrap(), issuer: Issuer::new(params, key), pem }
        }

        /// Certificate, key and authority for a name, as files.
        pub fn files(&self, name: &str) -> [PathBuf; 3] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new([name.to_string()]).unwrap().signed_by(&key, &self.issuer).unwrap();
            let parts = [("crt", certificate.pem()), ("key", key.serialize_pem()), ("ca", self.pem.clone())];
            parts.map(|(kind, text)| {
                let path = self.folder.path().join(format!("{name}.{kind}"));
                std::fs::write(&path, text).unwrap();
                path
            })
        }

        pub fn tls(&self, name: &str) -> Tls {
            let [certificate, key, authority] = self.files(name);
            Tls::load(&certificate, &key, &authority).unwrap().unwrap()
        }
    }

    #[test]
    fn files_that_do_not_do_are_named() {
        let (none, authority) = (PathBuf::new(), Authority::new());
        let [certificate, key, root] = authority.files("one");
        let [_, other, _] = authority.files("other");
        assert!(Tls::load(&none, &none, &none).unwrap().is_none());
        let why = |a: &Path, b: &Path, c: &Path| Tls::load(a, b, c).err().unwrap().to_string();
        assert!(why(&certificate, &none, &root).contains("cluster.tls_key_file is empty"));
        let said = why(&certificate, &root, &root);
        assert!(said.contains("one.ca") && said.contains("private key"), "{said}");
        let said = why(&key, &key, &root);
        assert!(said.contains("one.key") && said.contains("cluster.tls_certificate_file"), "{said}");
        let said = why(&certificate, &key, Path::new("/nowhere"));
        assert!(said.contains("/nowhere") && said.contains("cluster.tls_authority_file"), "{said}");
        let said = why(&certificate, &other, &root);
        assert!(said.contains("do not do"), "{said}");
    }
}
