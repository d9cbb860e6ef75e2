//! Authorities, certificates, times and directories for the tests of this crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use der::asn1::Ia5String;
use mesh_model::spiffe::TrustDomain;
use rustls::pki_types::CertificateDer;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;

use crate::WorkloadKey;
use crate::authority::{Signer, Span, workload_extensions};

/// The workload of most tests.
pub(crate) const ID: &str = "spiffe://mesh.test/ns/shop/sa/basket";

pub(crate) fn domain() -> TrustDomain {
    "mesh.test".parse().unwrap()
}

/// Seconds after a day in 2027.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A root that signs whatever a test wants.
pub(crate) struct TestAuthority {
    signer: Signer,
    der: CertificateDer<'static>,
}

impl TestAuthority {
    /// For the whole of the time that tests play in.
    pub(crate) fn new(name: &str) -> Self {
        Self::between(name, at(0), at(1_000_000_000))
    }

    pub(crate) fn between(name: &str, not_before: SystemTime, not_after: SystemTime) -> Self {
        let signer = Signer::named(&format!("CN={name}"), WorkloadKey::generate().unwrap()).unwrap();
        let span = Span {
            not_before,
            not_after,
        };
        let der = signer.authority(&signer, None, span).unwrap();
        Self { signer, der }
    }

    /// One for all cases of a property.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<TestAuthority> = OnceLock::new();
        SHARED.get_or_init(|| Self::new("shared"))
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// A good certificate.
    pub(crate) fn leaf(&self, id: &str) -> CertificateDer<'static> {
        self.leaf_of(&[id], |_| {})
    }

    /// A certificate with these URIs, and with extensions that were changed.
    pub(crate) fn leaf_of(
        &self,
        uris: &[&str],
        change: impl FnOnce(&mut Vec<Extension>),
    ) -> CertificateDer<'static> {
        let key = WorkloadKey::generate().unwrap();
        self.make(&key, uris, at(0), at(1_000_000), change)
    }

    /// A good certificate for this key and time.
    pub(crate) fn leaf_for(
        &self,
        key: &WorkloadKey,
        id: &str,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> CertificateDer<'static> {
        self.make(key, &[id], not_before, not_after, |_| {})
    }

    fn make(
        &self,
        key: &WorkloadKey,
        uris: &[&str],
        not_before: SystemTime,
        not_after: SystemTime,
        change: impl FnOnce(&mut Vec<Extension>),
    ) -> CertificateDer<'static> {
        let uri = |uri: &&str| GeneralName::UniformResourceIdentifier(Ia5String::new(uri).unwrap());
        let names = SubjectAltName(uris.iter().map(uri).collect());
        let names = (&names).to_extension(&Name::default(), &[]).unwrap();
        let mut extensions = workload_extensions(names).unwrap();
        if uris.is_empty() {
            extensions.pop();
        }
        change(&mut extensions);
        let span = Span {
            not_before,
            not_after,
        };
        self.signer
            .sign(Name::default(), key.public_key(), span, extensions)
            .unwrap()
    }
}

/// A directory that goes when the test ends.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mesh-identity-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
