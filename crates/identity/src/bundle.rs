//! Whom does a trust domain believe? Its roots, of which there are several while one takes the place of another.
//!
//! Bundles are compared and named by a hash of what they hold, not by when or in which order it came, so that two control
//! planes that hold the same roots say the same.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use der::{Decode, EncodePem};
use mesh_model::spiffe::TrustDomain;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_cert::Certificate;
use x509_cert::ext::pkix::BasicConstraints;

/// The most roots of one bundle. A rotation needs two; an operator who joins organisations a handful.
pub const MAX_ROOTS: usize = 32;

/// The longest text that is read as a bundle, in bytes: [`MAX_ROOTS`] certificates with the comments that some tools write.
pub const MAX_BYTES: usize = 1 << 20;

/// The roots of a trust domain.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    /// Sorted by their DER, each once.
    roots: Vec<Root>,
    /// Of each root, as path building takes them.
    anchors: Vec<TrustAnchor<'static>>,
    hash: ContentHash,
}

#[derive(Clone, PartialEq, Eq)]
struct Root {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    not_after: SystemTime,
}

/// SHA-256 over what a bundle holds, or over one of its roots.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

/// What is wrong with roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The text is not PEM.
    #[error("the trust bundle is not PEM")]
    NotPem,
    /// There is none.
    #[error("the trust bundle holds no certificate")]
    Empty,
    /// More than [`MAX_ROOTS`], or more than [`MAX_BYTES`].
    #[error("the trust bundle is too large: at most {MAX_ROOTS} roots in 1 MiB")]
    TooLarge,
    /// One can't be read.
    #[error("certificate {number} of the trust bundle can't be read")]
    Malformed {
        /// Which, from 1.
        number: usize,
    },
    /// One is no authority's.
    #[error("certificate {number} of the trust bundle is no authority's")]
    NotAnAuthority {
        /// Which, from 1.
        number: usize,
    },
}

impl TrustBundle {
    /// Nobody is believed.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self::sorted(trust_domain, Vec::new())
    }

    /// From certificates in DER.
    ///
    /// # Errors
    /// There is none, there are too many, or one can't be a root.
    pub fn from_der(
        trust_domain: TrustDomain,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let mut read = Vec::new();
        for (at, der) in roots.into_iter().enumerate() {
            if at >= MAX_ROOTS {
                return Err(BundleError::TooLarge);
            }
            read.push(Root::read(der, at + 1)?);
        }
        if read.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok(Self::sorted(trust_domain, read))
    }

    /// From a PEM text.
    ///
    /// # Errors
    /// As [`TrustBundle::from_der`], or it is not PEM.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        if text.len() > MAX_BYTES {
            return Err(BundleError::TooLarge);
        }
        let roots = CertificateDer::pem_slice_iter(text)
            .take(MAX_ROOTS + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BundleError::NotPem)?;
        Self::from_der(trust_domain, roots)
    }

    /// Whether a root is in both.
    pub fn shares_root(&self, other: &Self) -> bool {
        self.roots
            .iter()
            .any(|root| other.roots.iter().any(|theirs| theirs.der == root.der))
    }

    fn sorted(trust_domain: TrustDomain, mut roots: Vec<Root>) -> Self {
        roots.sort_by(|a, b| a.der.as_ref().cmp(b.der.as_ref()));
        roots.dedup_by(|a, b| a.der == b.der);
        let mut content = trust_domain.as_str().as_bytes().to_vec();
        for root in &roots {
            content.extend_from_slice(digest(&SHA256, &root.der).as_ref());
        }
        Self {
            trust_domain,
            anchors: roots.iter().map(|root| root.anchor.clone()).collect(),
            roots,
            hash: ContentHash::of(&content),
        }
    }

    /// The trust domain that the roots speak for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots in DER, in an order that depends on them alone.
    pub fn roots(&self) -> impl ExactSizeIterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.der)
    }

    /// What names each root, for who remembers whom a bundle believed and need not hold it.
    pub fn fingerprints(&self) -> impl Iterator<Item = ContentHash> {
        self.roots().map(|root| ContentHash::of(root))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The name of what the bundle holds.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The roots in PEM.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| to_pem(&root.der)).collect()
    }

    /// When the last root ends; `None` when there is none.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.roots.iter().map(|root| root.not_after).max()
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// When the roots with this anchor end; path building looks at an anchor's name and key alone.
    pub(crate) fn anchor_ends(&self, anchor: &TrustAnchor<'_>) -> Option<SystemTime> {
        let same = |root: &&Root| {
            root.anchor.subject == anchor.subject
                && root.anchor.subject_public_key_info == anchor.subject_public_key_info
        };
        let ends = self.roots.iter().filter(same).map(|root| root.not_after);
        ends.max()
    }
}

impl Root {
    fn read(der: CertificateDer<'static>, number: usize) -> Result<Self, BundleError> {
        let malformed = BundleError::Malformed { number };
        let certificate = Certificate::from_der(&der).map_err(|_| malformed.clone())?;
        let tbs = certificate.tbs_certificate();
        let constraints = tbs
            .get_extension::<BasicConstraints>()
            .map_err(|_| malformed.clone())?;
        if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(BundleError::NotAnAuthority { number });
        }
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|_| malformed)?
            .to_owned();
        Ok(Self {
            not_after: tbs.validity().not_after.to_system_time(),
            anchor,
            der,
        })
    }
}

/// A certificate in PEM; nothing where it is none, which a certificate that was read or made never is.
pub(crate) fn to_pem(der: &CertificateDer<'_>) -> String {
    Certificate::from_der(der)
        .and_then(|certificate| certificate.to_pem(der::pem::LineEnding::LF))
        .unwrap_or_default()
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            roots,
            hash,
            ..
        } = self;
        write!(f, "TrustBundle({trust_domain}, {} roots, {hash})", roots.len())
    }
}

impl ContentHash {
    fn of(content: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, content).as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TestAuthority, domain};

    #[test]
    fn order_and_repetition_mean_nothing() {
        let (a, b) = (TestAuthority::new("a"), TestAuthority::new("b"));
        let one = TrustBundle::from_der(domain(), [a.der(), b.der(), a.der()]).unwrap();
        let two = TrustBundle::from_der(domain(), [b.der(), a.der()]).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.hash(), two.hash());
        assert_eq!(one.roots().len(), 2);
        let only_a = TrustBundle::from_der(domain(), [a.der()]).unwrap();
        assert_ne!(only_a.hash(), one.hash());
        let only_b = TrustBundle::from_der(domain(), [b.der()]).unwrap();
        let named = |bundle: &TrustBundle| bundle.fingerprints().collect::<Vec<_>>();
        assert!(named(&only_a).iter().all(|root| named(&one).contains(root)));
        assert!(!named(&only_a).contains(&named(&only_b)[0]));
        assert_eq!(
            TrustBundle::from_pem(domain(), one.to_pem().as_bytes()).unwrap(),
            one
        );
        assert!(TrustBundle::empty(domain()).is_empty());
    }

    #[test]
    fn what_is_no_bundle() {
        let read = |text: &[u8]| TrustBundle::from_pem(domain(), text).unwrap_err();
        assert_eq!(read(b""), BundleError::Empty);
        assert_eq!(read(b"-----BEGIN CERTIFICATE-----\nAA"), BundleError::NotPem);
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert_eq!(read(empty.as_bytes()), BundleError::Malformed { number: 1 });
        assert_eq!(read(&vec![b' '; MAX_BYTES + 1]), BundleError::TooLarge);
        let authority = TestAuthority::new("a");
        let leaf = authority.leaf("spiffe://mesh.test/ns/a/sa/b");
        let found = TrustBundle::from_der(domain(), [authority.der(), leaf]).unwrap_err();
        assert_eq!(found, BundleError::NotAnAuthority { number: 2 });
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_bundle_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = TrustBundle::from_pem(domain(), &bytes);
            prop_assert!(TrustBundle::from_der(domain(), [CertificateDer::from(bytes)]).is_err());
        }
    }
}
