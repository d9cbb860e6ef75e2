//! Why is a peer not believed?
//!
//! [`Rejection`] is the one closed list. A verifier gives it, rustls carries it, [`Rejection::of`] gets it back from what
//! rustls says, so that a metric's label, a log line and the answer to a client are one word. Where TLS has an alert of
//! its own for the matter, the peer is sent that one; for all others it is `certificate_unknown`.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use mesh_model::errors::Reason;
use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

use crate::Side;

/// Builds the enum and its lookups from one table, so that no variant can miss a column.
macro_rules! rejections {
    ($($(#[doc = $doc:literal])+ $name:ident = $token:literal, $text:literal;)+) => {
        /// Why a peer is not believed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rejection {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rejection {
            /// Every rejection.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// How many rejections there are: the length of arrays indexed by [`Rejection::index`].
            pub const COUNT: usize = Self::ALL.len();

            /// A dense number below [`Rejection::COUNT`], for arrays of counters.
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The token used in metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $token),+ }
            }

            /// A short sentence.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

rejections! {
    /// The peer shows no certificate.
    NoCertificate = "no_certificate", "The peer shows no certificate.";
    /// The certificate, or one of its chain, is not what RFC 5280 says, or an extension stands in it twice.
    Malformed = "malformed", "The peer's certificate can't be read.";
    /// The chain has more certificates than [`crate::verify()`] looks at, or takes too long to check.
    ChainTooLong = "chain_too_long", "The peer's certificate chain is too long.";
    /// There are no roots yet: nobody is believed.
    NoTrustBundle = "no_trust_bundle", "There are no roots to judge certificates by.";
    /// No path leads to a root of the trust bundle.
    UnknownAuthority = "unknown_authority", "No root that is trusted signed the peer's certificate.";
    /// A signature of the chain, or the one over the handshake, is wrong or made in a way that is not supported.
    BadSignature = "bad_signature", "A signature of the peer is not valid.";
    /// The certificate, its issuer's or the root's has ended.
    Expired = "expired", "The peer's certificate has expired.";
    /// The certificate's or its issuer's first second is yet to come.
    NotYetValid = "not_yet_valid", "The peer's certificate is not valid yet.";
    /// The certificate is an authority's: with it a workload could make others.
    AuthorityAsWorkload = "authority_as_workload", "The peer shows an authority's certificate as its own.";
    /// The extended key usage is not for this side of a TLS connection, or the key usage is not to sign, or more.
    WrongUsage = "wrong_usage", "The peer's certificate is not for this use.";
    /// An issuer's constraints (names, length of the path, critical extensions) forbid the certificate.
    Constrained = "constrained", "The peer's certificate breaks a rule of its authority.";
    /// No URI among the alternative names.
    NoIdentity = "no_identity", "The peer's certificate names no SPIFFE id.";
    /// More than one URI among the alternative names: which one is it?
    SeveralIdentities = "several_identities", "The peer's certificate names more than one URI.";
    /// The one URI is no SPIFFE id of a workload.
    NotSpiffe = "not_spiffe", "The peer's certificate names no valid SPIFFE id.";
    /// The SPIFFE id is of a trust domain that this authority does not speak for.
    WrongTrustDomain = "wrong_trust_domain", "The peer is of another trust domain.";
    /// The peer is somebody else than was called.
    WrongIdentity = "wrong_identity", "The peer is not the one that was called.";
    /// The SPIFFE id or the certificate was revoked.
    Revoked = "revoked", "The peer's identity was revoked.";
    /// The peer does not speak TLS 1.3.
    TlsVersion = "tls_version", "The peer does not speak TLS 1.3.";
    /// The peer speaks none of the protocols offered by ALPN.
    NoProtocol = "no_protocol", "The peer speaks none of the mesh's protocols.";
    /// The peer ended the handshake over our certificate; its alert says no more than that.
    RefusedByPeer = "refused_by_peer", "The peer did not accept this certificate.";
}

impl Rejection {
    /// What a failed handshake says of the peer; `None` where the matter is another one, such as bytes that are no TLS.
    pub fn of(error: &Error) -> Option<Self> {
        use AlertDescription as Alert;
        match error {
            Error::InvalidCertificate(error) => Some(Self::of_certificate(error)),
            Error::NoCertificatesPresented => Some(Self::NoCertificate),
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )
            | Error::AlertReceived(Alert::ProtocolVersion) => Some(Self::TlsVersion),
            Error::NoApplicationProtocol | Error::AlertReceived(Alert::NoApplicationProtocol) => {
                Some(Self::NoProtocol)
            }
            Error::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
                // A signature that is not valid: roots of one name with two keys come to that.
                | Alert::DecryptError,
            ) => Some(Self::RefusedByPeer),
            _ => None,
        }
    }

    /// What the proxy answers and counts by it. `side` is where the peer is that is not believed.
    pub const fn reason(self, side: Side) -> Reason {
        match (side, self) {
            (Side::Client, Self::TlsVersion | Self::NoProtocol | Self::RefusedByPeer) => {
                Reason::TlsHandshakeFailed
            }
            (Side::Client, _) => Reason::ClientCertificate,
            (Side::Server, Self::TlsVersion | Self::NoProtocol | Self::RefusedByPeer) => Reason::UpstreamTls,
            (Side::Server, Self::WrongIdentity) => Reason::UpstreamName,
            (Side::Server, _) => Reason::UpstreamCertificate,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<Self>() {
                Some(rejection) => *rejection,
                None => Self::Malformed,
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongUsage
            }
            CertificateError::BadEncoding => Self::Malformed,
            _ => Self::BadSignature,
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NoCertificate => Self::NoCertificatesPresented,
            Rejection::Expired => CertificateError::Expired.into(),
            Rejection::NotYetValid => CertificateError::NotValidYet.into(),
            Rejection::UnknownAuthority => CertificateError::UnknownIssuer.into(),
            Rejection::BadSignature => CertificateError::BadSignature.into(),
            Rejection::Revoked => CertificateError::Revoked.into(),
            Rejection::WrongUsage => CertificateError::InvalidPurpose.into(),
            Rejection::Malformed => CertificateError::BadEncoding.into(),
            other => CertificateError::Other(OtherError(Arc::new(other))).into(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl StdError for Rejection {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_unique_and_plain() {
        let tokens: HashSet<_> = Rejection::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(tokens.len(), Rejection::ALL.len());
        assert!(
            tokens
                .iter()
                .all(|token| token.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()))
        );
    }

    #[test]
    fn the_page_names_each() {
        let page = include_str!("../../../docs/identity.md");
        for rejection in Rejection::ALL {
            assert!(
                page.contains(&format!("`{}`", rejection.as_str())),
                "{rejection:?}"
            );
        }
    }

    #[test]
    fn each_side_has_its_reasons() {
        assert_eq!(Rejection::Expired.reason(Side::Client), Reason::ClientCertificate);
        assert_eq!(
            Rejection::Expired.reason(Side::Server),
            Reason::UpstreamCertificate
        );
        assert_eq!(
            Rejection::WrongIdentity.reason(Side::Server),
            Reason::UpstreamName
        );
        assert_eq!(
            Rejection::TlsVersion.reason(Side::Client),
            Reason::TlsHandshakeFailed
        );
        assert_eq!(Rejection::RefusedByPeer.reason(Side::Server), Reason::UpstreamTls);
    }

    #[test]
    fn a_verifiers_word_survives_rustls() {
        let not_verifiers = [
            Rejection::TlsVersion,
            Rejection::NoProtocol,
            Rejection::RefusedByPeer,
        ];
        for &rejection in Rejection::ALL {
            if !not_verifiers.contains(&rejection) {
                assert_eq!(Rejection::of(&rejection.into()), Some(rejection));
            }
        }
        assert_eq!(Rejection::of(&Error::DecryptError), None);
    }
}
