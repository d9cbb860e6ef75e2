//! What does a workload's certificate say of it?
//!
//! The rules are those of the SPIFFE X.509-SVID standard, sections 2 and 4: exactly one URI, it is the id, and the
//! certificate's key signs but is no authority's. Whether the certificate is to be believed is [`crate::verify()`]'s
//! question.

use std::time::SystemTime;

use der::Decode;
use mesh_model::spiffe::SpiffeId;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};

use crate::{Rejection, Serial};

/// Who is at the other end of a connection, or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub id: SpiffeId,
    /// Its certificate's serial number.
    pub serial: Serial,
    /// The certificate's first second.
    pub not_before: SystemTime,
    /// The certificate's last second.
    pub not_after: SystemTime,
}

impl Peer {
    /// Reads a certificate. For a connection whose handshake has succeeded this tells who the peer is.
    ///
    /// # Errors
    /// It is not one of a workload.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Rejection> {
        let certificate = Certificate::from_der(certificate).map_err(|_| Rejection::Malformed)?;
        let tbs = certificate.tbs_certificate();
        let constraints = tbs
            .get_extension::<BasicConstraints>()
            .map_err(|_| Rejection::Malformed)?;
        if constraints.is_some_and(|(_, constraints)| constraints.ca) {
            return Err(Rejection::AuthorityAsWorkload);
        }
        let usage = tbs
            .get_extension::<KeyUsage>()
            .map_err(|_| Rejection::Malformed)?;
        if usage
            .is_some_and(|(_, usage)| !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign())
        {
            return Err(Rejection::WrongUsage);
        }
        let names = tbs
            .get_extension::<SubjectAltName>()
            .map_err(|_| Rejection::Malformed)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let id = only_id(&names)?;
        Ok(Self {
            id,
            serial: Serial::new(tbs.serial_number().as_bytes()).ok_or(Rejection::Malformed)?,
            not_before: tbs.validity().not_before.to_system_time(),
            not_after: tbs.validity().not_after.to_system_time(),
        })
    }
}

/// The SPIFFE id among the alternative names. Names of other kinds may stand beside it and mean nothing.
pub(crate) fn only_id(names: &[GeneralName]) -> Result<SpiffeId, Rejection> {
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    });
    let uri = uris.next().ok_or(Rejection::NoIdentity)?;
    if uris.next().is_some() {
        return Err(Rejection::SeveralIdentities);
    }
    uri.parse().map_err(|_| Rejection::NotSpiffe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{ID, TestAuthority};

    #[test]
    fn one_uri_is_the_identity() {
        let authority = TestAuthority::new("a");
        let peer = Peer::of(&authority.leaf(ID)).unwrap();
        assert_eq!(peer.id.as_str(), ID);
        assert!(peer.not_before < peer.not_after);
        assert!(!peer.serial.as_bytes().is_empty());
    }

    #[test]
    fn what_names_no_workload() {
        let authority = TestAuthority::new("a");
        let of = |names: &[&str]| Peer::of(&authority.leaf_of(names, |_| {})).unwrap_err();
        assert_eq!(of(&[]), Rejection::NoIdentity);
        assert_eq!(of(&[ID, ID]), Rejection::SeveralIdentities);
        assert_eq!(of(&[ID, "https://mesh.test/"]), Rejection::SeveralIdentities);
        let odd = [
            "https://mesh.test/ns/a/sa/b",
            "spiffe://mesh.test/ns/a/sa/*",
            "spiffe://mesh.test/ns/a/sa/web\0evil",
            "spiffe://mesh.test/ns/a/sa/web%00",
            "spiffe://Mesh.test/ns/a/sa/b",
            "spiffe://mesh.test/ns/../sa/b",
            "spiffe://mesh.test/",
            "",
        ];
        for uri in odd {
            assert_eq!(of(&[uri]), Rejection::NotSpiffe, "{uri:?}");
        }
        assert_eq!(
            Peer::of(&authority.der()).unwrap_err(),
            Rejection::AuthorityAsWorkload
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_workload_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Peer::of(&CertificateDer::from(bytes)).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut der = TestAuthority::shared().leaf(ID).to_vec();
            let at = at.index(der.len());
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = Peer::of(&CertificateDer::from(der));
        }
    }
}
