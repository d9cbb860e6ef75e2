//! Certificates, files and handshakes for the tests beside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::{self, CertificateAndKey, Pem, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// A directory that goes when the test ends.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "mesh-tls-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that looks as if it had been written a minute ago, so that its times are to be relied on.
    pub(super) fn write(&self, name: &str, text: &str) -> Pem {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        self.age(name, Duration::from_secs(60));
        Pem(path.to_str().unwrap().to_owned())
    }

    pub(super) fn age(&self, name: &str, age: Duration) {
        let file = fs::File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority that signs the certificates of a test.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these names and its key, in PEM.
    pub(super) fn sign(&self, names: &[&str]) -> (String, String) {
        self.sign_with(names, |_| {}, &KeyPair::generate().unwrap())
    }

    pub(super) fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
        key: &KeyPair,
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        (
            params.signed_by(key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    /// A pair of files for these names.
    pub(super) fn files(&self, dir: &Dir, stem: &str, names: &[&str]) -> CertificateAndKey {
        let (certificate, key) = self.sign(names);
        CertificateAndKey {
            certificate: dir.write(&format!("{stem}.crt"), &certificate),
            key: dir.write(&format!("{stem}.key"), &key),
        }
    }

    pub(super) fn roots(&self) -> RootCertStore {
        use rustls::pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        roots
            .add(rustls::pki_types::CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        roots
    }

    /// A plain client that trusts this authority.
    pub(super) fn client(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

/// A listener's `tls` with these certificates and every default.
pub(super) fn server_tls(certificates: Vec<CertificateAndKey>) -> resources::ServerTls {
    resources::ServerTls {
        certificates,
        client_certificates: None,
        minimum_version: TlsVersion::default(),
        alpn: Vec::new(),
    }
}

/// `listeners[0].tls`
pub(super) fn listener_path() -> Vec<PathStep> {
    vec![
        PathStep::Key("listeners".into()),
        PathStep::Index(0),
        PathStep::Key("tls".into()),
    ]
}

/// The issues as an operator reads them.
pub(super) fn lines(issues: Vec<Issue>) -> Vec<String> {
    issues.iter().map(Issue::to_string).collect()
}

/// Both ends of a finished handshake.
pub(super) struct Shaken {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// A handshake in memory; the first error of either side otherwise.
pub(super) fn shake(
    client: &Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Shaken, rustls::Error> {
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(server)?;
    let mut bytes = Vec::new();
    // Two round trips and the tickets that follow; a few more than any handshake needs.
    for _ in 0..8 {
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut from_client = &bytes[..];
        while !from_client.is_empty() {
            server.read_tls(&mut from_client).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut from_server = &bytes[..];
        while !from_server.is_empty() {
            client.read_tls(&mut from_server).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Shaken { client, server })
}
