//! Chains that are believed, and each reason why one is not.

use rustls::crypto::aws_lc_rs::default_provider;
use x509_cert::ext::ToExtension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};
use x509_cert::name::Name;

use super::*;
use crate::testing::{ID, TestAuthority, at, domain};
use crate::{Denied, WorkloadKey};

fn judge(leaf: &CertificateDer<'_>, bundle: &TrustBundle, now: SystemTime) -> Result<Peer, Rejection> {
    judge_side(leaf, bundle, Side::Client, now)
}

fn judge_side(
    leaf: &CertificateDer<'_>,
    bundle: &TrustBundle,
    side: Side,
    now: SystemTime,
) -> Result<Peer, Rejection> {
    let algorithms = default_provider().signature_verification_algorithms;
    verify(leaf, &[], side, bundle, &DenyList::new(), &algorithms, now)
}

fn bundle_of(authority: &TestAuthority) -> TrustBundle {
    TrustBundle::from_der(domain(), [authority.der()]).unwrap()
}

#[test]
fn a_good_chain_tells_who_it_is() {
    let authority = TestAuthority::new("a");
    for side in [Side::Client, Side::Server] {
        let peer = judge_side(&authority.leaf(ID), &bundle_of(&authority), side, at(5)).unwrap();
        assert_eq!(peer.id.as_str(), ID);
    }
}

#[test]
fn each_reason_has_its_name() {
    let (ours, other) = (TestAuthority::new("a"), TestAuthority::new("b"));
    let bundle = bundle_of(&ours);
    let now = at(500);
    let of = |leaf: CertificateDer<'_>| judge(&leaf, &bundle, now).unwrap_err();
    let key = WorkloadKey::generate().unwrap();

    assert_eq!(of(other.leaf(ID)), Rejection::UnknownAuthority);
    assert_eq!(of(ours.leaf_for(&key, ID, at(0), at(499))), Rejection::Expired);
    assert_eq!(
        of(ours.leaf_for(&key, ID, at(501), at(900))),
        Rejection::NotYetValid
    );
    assert_eq!(of(ours.der()), Rejection::AuthorityAsWorkload);
    assert_eq!(of(other.der()), Rejection::AuthorityAsWorkload);
    assert_eq!(
        of(ours.leaf("spiffe://other.test/ns/shop/sa/basket")),
        Rejection::WrongTrustDomain
    );
    assert_eq!(
        of(ours.leaf("spiffe://mesh.test.evil/ns/shop/sa/basket")),
        Rejection::WrongTrustDomain
    );
    assert_eq!(
        of(ours.leaf("spiffe://evilmesh.test/ns/shop/sa/basket")),
        Rejection::WrongTrustDomain
    );
    assert_eq!(of(ours.leaf_of(&[], |_| {})), Rejection::NoIdentity);
    assert_eq!(of(ours.leaf_of(&[ID, ID], |_| {})), Rejection::SeveralIdentities);
    assert_eq!(
        of(ours.leaf("spiffe://mesh.test/ns/shop/sa/basket\0")),
        Rejection::NotSpiffe
    );
    assert_eq!(
        of(ours.leaf("spiffe://mesh.test/ns/shop/sa/*")),
        Rejection::NotSpiffe
    );
    assert_eq!(of(CertificateDer::from(vec![0x30, 0])), Rejection::Malformed);

    let subject = Name::default();
    let leaf = ours.leaf_of(&[ID], |extensions| {
        let usage = KeyUsage(KeyUsages::DigitalSignature | KeyUsages::KeyCertSign);
        extensions[1] = (&usage).to_extension(&subject, &[]).unwrap();
    });
    assert_eq!(of(leaf), Rejection::WrongUsage);
    let leaf = ours.leaf_of(&[ID], |extensions| {
        let usage = KeyUsage(KeyUsages::KeyEncipherment.into());
        extensions[1] = (&usage).to_extension(&subject, &[]).unwrap();
    });
    assert_eq!(of(leaf), Rejection::WrongUsage);
    let leaf = ours.leaf_of(&[ID], |extensions| {
        let purposes = ExtendedKeyUsage(vec![der::oid::ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1")]);
        extensions[2] = (&purposes).to_extension(&subject, &[]).unwrap();
    });
    assert_eq!(
        judge_side(&leaf, &bundle, Side::Client, now),
        Err(Rejection::WrongUsage)
    );
    assert!(judge_side(&leaf, &bundle, Side::Server, now).is_ok());
    let leaf = ours.leaf_of(&[ID], |extensions| {
        let authority = BasicConstraints {
            ca: true,
            path_len_constraint: None,
        };
        extensions[0] = (&authority).to_extension(&subject, &[]).unwrap();
    });
    assert_eq!(of(leaf), Rejection::AuthorityAsWorkload);
    let leaf = ours.leaf_of(&[ID], |extensions| extensions.push(extensions[3].clone()));
    assert!(matches!(of(leaf), Rejection::Malformed), "the names stand twice");
}

#[test]
fn a_signature_that_is_not_the_authoritys() {
    let ours = TestAuthority::new("a");
    let mut leaf = ours.leaf(ID).to_vec();
    *leaf.last_mut().unwrap() ^= 1;
    let found = judge(&CertificateDer::from(leaf), &bundle_of(&ours), at(5)).unwrap_err();
    assert_eq!(found, Rejection::BadSignature);
    let same_name = TestAuthority::new("a");
    let found = judge(&same_name.leaf(ID), &bundle_of(&ours), at(5)).unwrap_err();
    assert!(
        matches!(found, Rejection::BadSignature | Rejection::UnknownAuthority),
        "{found:?}"
    );
}

#[test]
fn without_roots_nobody_is_believed() {
    let leaf = TestAuthority::new("a").leaf(ID);
    let none = TrustBundle::empty(domain());
    assert_eq!(judge(&leaf, &none, at(5)), Err(Rejection::NoTrustBundle));
}

#[test]
fn a_root_that_has_ended_speaks_for_nobody() {
    let old = TestAuthority::between("a", at(0), at(100));
    let key = WorkloadKey::generate().unwrap();
    let leaf = old.leaf_for(&key, ID, at(0), at(1000));
    assert!(judge(&leaf, &bundle_of(&old), at(100)).is_ok());
    assert_eq!(judge(&leaf, &bundle_of(&old), at(101)), Err(Rejection::Expired));
}

#[test]
fn who_is_denied_is_revoked() {
    let authority = TestAuthority::new("a");
    let (leaf, bundle) = (authority.leaf(ID), bundle_of(&authority));
    let peer = Peer::of(&leaf).unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    for denied in [Denied::Id(peer.id), Denied::Serial(peer.serial)] {
        let mut list = DenyList::new();
        list.deny(denied, None, at(5)).unwrap();
        let found = verify(&leaf, &[], Side::Client, &bundle, &list, &algorithms, at(5));
        assert_eq!(found, Err(Rejection::Revoked));
    }
}

#[test]
fn a_chain_is_bounded() {
    let authority = TestAuthority::new("a");
    let others = vec![authority.der(); MAX_CHAIN];
    let algorithms = default_provider().signature_verification_algorithms;
    let bundle = bundle_of(&authority);
    let none = DenyList::new();
    let found = verify(
        &authority.leaf(ID),
        &others,
        Side::Client,
        &bundle,
        &none,
        &algorithms,
        at(5),
    );
    assert_eq!(found, Err(Rejection::ChainTooLong));
}
