//! Requests as they should be, and as they should not.

use der::asn1::ObjectIdentifier;
use proptest::prelude::*;
use x509_cert::ext::pkix::BasicConstraints;

use super::*;
use crate::testing::ID;

fn id() -> SpiffeId {
    ID.parse().unwrap()
}

/// A signed request with these attributes and this subject.
fn signed(attributes: Vec<Attribute>, subject: &str) -> Vec<u8> {
    let key = WorkloadKey::generate().unwrap();
    let info = CertReqInfo {
        version: Version::V1,
        subject: match subject {
            "" => Name::default(),
            subject => subject.parse().unwrap(),
        },
        public_key: public_key_info(key.public_key()).unwrap(),
        attributes: SetOfVec::try_from(attributes).unwrap(),
    };
    let signature = key.sign(&info.to_der().unwrap()).unwrap();
    let request = CertReq {
        info,
        algorithm: signature_algorithm(),
        signature: BitString::from_bytes(&signature).unwrap(),
    };
    request.to_der().unwrap()
}

fn wishing(extensions: Vec<Extension>) -> Vec<u8> {
    signed(vec![Attribute::try_from(ExtensionReq(extensions)).unwrap()], "")
}

fn names(uris: &[&str]) -> Extension {
    let uri = |uri: &&str| GeneralName::UniformResourceIdentifier(Ia5String::new(uri).unwrap());
    let names = SubjectAltName(uris.iter().map(uri).collect());
    (&names).to_extension(&Name::default(), &[]).unwrap()
}

#[test]
fn a_request_proves_its_key_and_names_an_identity() {
    let key = WorkloadKey::generate().unwrap();
    let csr = Csr::check(&request(&key, &id()).unwrap()).unwrap();
    assert_eq!(csr.public_key(), key.public_key());
    assert_eq!(csr.id(), Some(&id()));
}

#[test]
fn a_request_need_not_name_anybody() {
    assert_eq!(Csr::check(&signed(vec![], "")).unwrap().id(), None);
}

#[test]
fn all_else_is_refused() {
    let check = |der: &[u8]| Csr::check(der).unwrap_err();
    assert_eq!(check(&[0; MAX_BYTES + 1]), CsrError::TooLong);
    assert_eq!(check(b""), CsrError::Malformed);
    assert_eq!(check(&signed(vec![], "CN=web")), CsrError::Subject);
    let good = request(&WorkloadKey::generate().unwrap(), &id()).unwrap();
    assert_eq!(check(&[&good[..], &[0]].concat()), CsrError::Malformed);

    let authority = BasicConstraints {
        ca: true,
        path_len_constraint: None,
    };
    let authority = (&authority).to_extension(&Name::default(), &[]).unwrap();
    assert_eq!(check(&wishing(vec![authority.clone()])), CsrError::Extension);
    assert_eq!(
        check(&wishing(vec![names(&[ID]), authority])),
        CsrError::Extension
    );
    assert_eq!(
        check(&wishing(vec![names(&[ID]), names(&[ID])])),
        CsrError::Extension
    );
    assert_eq!(check(&wishing(vec![names(&[ID, ID])])), CsrError::Identity);
    assert_eq!(
        check(&wishing(vec![names(&["https://a.test"])])),
        CsrError::Identity
    );
    assert_eq!(
        check(&wishing(vec![names(&["spiffe://mesh.test/a\0b"])])),
        CsrError::Identity
    );

    let password = Attribute {
        oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7"),
        values: SetOfVec::default(),
    };
    assert_eq!(check(&signed(vec![password], "")), CsrError::Attribute);
}

#[test]
fn a_request_signed_with_another_key_proves_nothing() {
    let (own, other) = (WorkloadKey::generate().unwrap(), WorkloadKey::generate().unwrap());
    let mut read = CertReq::from_der(&request(&own, &id()).unwrap()).unwrap();
    read.info.public_key = public_key_info(other.public_key()).unwrap();
    assert_eq!(Csr::check(&read.to_der().unwrap()), Err(CsrError::Signature));
}

#[test]
fn a_key_that_is_none() {
    let own = WorkloadKey::generate().unwrap();
    let mut read = CertReq::from_der(&request(&own, &id()).unwrap()).unwrap();
    read.info.public_key = public_key_info(&[4; 65]).unwrap();
    assert_eq!(
        Csr::check(&read.to_der().unwrap()),
        Err(CsrError::Signature),
        "not on the curve"
    );
    read.info.public_key = public_key_info(&[4; 64]).unwrap();
    assert_eq!(Csr::check(&read.to_der().unwrap()), Err(CsrError::KeyType));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Csr::check(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut der = request(&WorkloadKey::generate().unwrap(), &id()).unwrap();
        let at = at.index(der.len());
        if let Some(place) = der.get_mut(at) {
            *place ^= change;
        }
        prop_assert!(Csr::check(&der).is_err());
    }
}
