//! What is signed, what is stored, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use der::oid::AssociatedOid;
use rustls::crypto::aws_lc_rs::default_provider;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use super::*;
use crate::csr::request;
use crate::testing::{ID, TempDir, at, domain};

const MINUTE: Duration = Duration::from_secs(60);

/// Certificates of a minute, so that everything turns in an hour.
fn fast() -> Settings {
    let mut settings = Settings::new(domain()).with_ttl(MINUTE);
    settings.issuer_life = 4 * MINUTE;
    settings.root_life = 60 * MINUTE;
    settings
}

fn id() -> SpiffeId {
    ID.parse().unwrap()
}

fn csr() -> Csr {
    let key = WorkloadKey::generate().unwrap();
    Csr::check(&request(&key, &id()).unwrap()).unwrap()
}

fn believes(bundle: &TrustBundle, signed: &Signed, now: SystemTime) -> Result<Peer, Rejection> {
    let (leaf, others) = signed.chain.split_first().unwrap();
    let algorithms = default_provider().signature_verification_algorithms;
    verify(
        leaf,
        others,
        Side::Server,
        bundle,
        &DenyList::new(),
        &algorithms,
        now,
    )
}

#[test]
fn a_certificate_says_one_name_and_little_else() {
    let mut authority = Authority::in_memory(Settings::new(domain()), at(0)).unwrap();
    let csr = csr();
    let signed = authority.sign(&csr, &id(), at(10)).unwrap();
    let peer = believes(&signed.bundle, &signed, at(10)).unwrap();
    assert_eq!((peer.id, &peer.serial), (id(), &signed.serial));
    assert_eq!(peer.not_after, at(10 + 86_400), "24 hours");
    assert_eq!(peer.not_before, at(10) - CLOCK_SKEW);
    assert_eq!(signed.not_after, peer.not_after);
    assert_eq!(signed.chain.len(), 2);

    let read = Certificate::from_der(&signed.chain[0]).unwrap();
    let tbs = read.tbs_certificate();
    assert!(tbs.subject().is_empty());
    assert_eq!(tbs.serial_number().as_bytes().len(), 16);
    let key = &tbs.subject_public_key_info().subject_public_key;
    assert_eq!(key.as_bytes(), Some(csr.public_key()));
    let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
    assert!(critical && !constraints.ca);
    let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
    assert!(critical && usage.digital_signature() && !usage.key_cert_sign());
    let (_, purposes) = tbs.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert_eq!(purposes.0.len(), 2);
    let (critical, names) = tbs.get_extension::<SubjectAltName>().unwrap().unwrap();
    assert!(critical && names.0.len() == 1);
    assert_eq!(
        tbs.extensions()
            .unwrap()
            .iter()
            .filter(|one| one.extn_id == SubjectAltName::OID)
            .count(),
        1
    );
    assert_ne!(authority.sign(&csr, &id(), at(10)).unwrap().serial, signed.serial);
}

#[test]
fn what_is_not_signed() {
    let mut authority = Authority::in_memory(Settings::new(domain()), at(0)).unwrap();
    let other = "spiffe://mesh.test/ns/shop/sa/other".parse().unwrap();
    let foreign = "spiffe://other.test/ns/shop/sa/basket".parse().unwrap();
    assert!(matches!(
        authority.sign(&csr(), &other, at(1)),
        Err(SignError::OtherIdentity)
    ));
    assert!(matches!(
        authority.sign(&csr(), &foreign, at(1)),
        Err(SignError::OtherTrustDomain)
    ));
    let late = authority.active.ends;
    assert!(matches!(
        authority.sign(&csr(), &id(), late),
        Err(SignError::IssuerExpired)
    ));
}

#[test]
fn signing_has_a_rate() {
    let mut settings = Settings::new(domain());
    (settings.per_second, settings.burst) = (1, 2);
    let mut authority = Authority::in_memory(settings, at(0)).unwrap();
    let csr = csr();
    for _ in 0..2 {
        authority.sign(&csr, &id(), at(1)).unwrap();
    }
    let Err(SignError::RateLimited { retry_after }) = authority.sign(&csr, &id(), at(1)) else {
        panic!("signed");
    };
    assert_eq!(retry_after, Duration::from_secs(1));
    authority.sign(&csr, &id(), at(1) + retry_after).unwrap();
}

#[test]
fn no_certificate_outlives_its_issuer() {
    let mut authority = Authority::in_memory(fast(), at(0)).unwrap();
    let near = authority.active.ends - MINUTE / 2;
    let signed = authority.sign(&csr(), &id(), near).unwrap();
    assert_eq!(signed.not_after, authority.active.ends);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let open = |now| Authority::open(fast(), Directory::open(&path).unwrap(), now);
    let mut first = open(at(0)).unwrap();
    let signed = first.sign(&csr(), &id(), at(1)).unwrap();
    let (bundle, ends) = (first.bundle().clone(), first.active.ends);
    let promised = first.own.as_ref().unwrap().rotation.promised;
    assert!(promised >= signed.not_after);
    drop(first);
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    let mut again = open(at(2)).unwrap();
    assert_eq!((again.bundle(), again.active.ends), (&bundle, ends));
    assert_eq!(again.own.as_ref().unwrap().rotation.promised, promised);
    let signed = again.sign(&csr(), &id(), at(3)).unwrap();
    believes(&bundle, &signed, at(3)).unwrap();

    assert_eq!(again.rotate_root(at(4)).unwrap(), [Changed::RootAnnounced]);
    assert_eq!(again.rotate_root(at(4)).unwrap(), []);
    let both = again.bundle().clone();
    assert_eq!(both.roots().len(), 2);
    drop(again);
    let mut again = open(at(5)).unwrap();
    assert_eq!(again.bundle(), &both);
    drop(again.tick(at(5)).unwrap());
    drop(again);

    let late = open(at(50_000)).unwrap();
    assert_eq!(late.bundle().roots().len(), 1);
    let names = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names.len(),
        6,
        "a root, an issuer, the state and the lock: {names:?}"
    );
}

#[test]
fn a_clock_that_was_ahead_once_is_forgotten() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let day = Duration::from_secs(86_400);
    let open = |now| Authority::open(Settings::new(domain()), Directory::open(&path).unwrap(), now);
    let roots = open(at(0)).unwrap().bundle().clone();
    // A start by a clock that is ahead, and one by the right clock.
    let mut ahead = open(at(0) + 100 * day).unwrap();
    ahead.sign(&csr(), &id(), at(0) + 100 * day).unwrap();
    drop(ahead);
    let mut right = open(at(60)).unwrap();
    assert_eq!(right.active.ends, at(60) + 90 * day);
    // The same while it runs.
    assert_eq!(right.tick(at(60) + 200 * day).unwrap(), [Changed::IssuerRenewed]);
    assert_eq!(right.tick(at(120)).unwrap(), [Changed::IssuerRenewed]);
    let signed = right.sign(&csr(), &id(), at(121)).unwrap();
    believes(&roots, &signed, at(121)).unwrap();
    assert_eq!(right.bundle(), &roots);
}

#[test]
fn what_was_stored_and_is_damaged_is_refused() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let open = || Authority::open(fast(), Directory::open(&path).unwrap(), at(1));
    drop(open().unwrap());
    let mut of_other = fast();
    of_other.trust_domain = "other.test".parse().unwrap();
    let other = Authority::open(of_other, Directory::open(&path).unwrap(), at(1));
    assert!(matches!(other, Err(AuthorityError::State(_))));

    let swap = |name: &str, text: &[u8]| {
        let before = fs::read(path.join(name)).unwrap();
        fs::write(path.join(name), text).unwrap();
        let found = open().unwrap_err();
        fs::write(path.join(name), before).unwrap();
        found
    };
    assert!(matches!(swap("state.json", b"{"), AuthorityError::State(_)));
    assert!(matches!(swap("issuer-2.crt", b"hello"), AuthorityError::State(_)));
    assert!(matches!(swap("issuer-2.key", b"hello"), AuthorityError::Key(_)));
    let other = WorkloadKey::generate().unwrap().to_pem().unwrap();
    assert!(matches!(
        swap("issuer-2.key", other.as_bytes()),
        AuthorityError::OtherKey
    ));
    let elsewhere = Authority::in_memory(fast(), at(1)).unwrap();
    let found = swap("root-1.crt", elsewhere.bundle().to_pem().as_bytes());
    assert!(matches!(found, AuthorityError::Unbelieved(_)), "{found}");
    fs::set_permissions(path.join("root-1.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let found = open().unwrap_err();
    assert!(
        matches!(found, AuthorityError::Directory(DirectoryError::Open { .. })),
        "{found}"
    );
    fs::remove_file(path.join("issuer-2.key")).unwrap();
    fs::set_permissions(path.join("root-1.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open().is_err());
}

#[test]
fn what_can_not_be_stored_does_not_happen() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let mut authority = Authority::open(fast(), Directory::open(&path).unwrap(), at(0)).unwrap();
    let (bundle, ends) = (authority.bundle().clone(), authority.active.ends);
    fs::rename(&path, temp.path().join("away")).unwrap();
    assert!(matches!(
        authority.sign(&csr(), &id(), at(1)),
        Err(SignError::Directory(_))
    ));
    assert!(matches!(
        authority.rotate_root(at(1)),
        Err(AuthorityError::Directory(_))
    ));
    assert!(matches!(
        authority.tick(at(200)),
        Err(AuthorityError::Directory(_))
    ));
    assert_eq!((authority.bundle(), authority.active.ends), (&bundle, ends));
    fs::rename(temp.path().join("away"), &path).unwrap();
    assert_eq!(authority.tick(at(200)).unwrap(), [Changed::IssuerRenewed]);
    authority.sign(&csr(), &id(), at(200)).unwrap();
}

#[test]
fn a_start_that_was_cut_short_leaves_nothing_behind() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let directory = Directory::open(&path).unwrap();
    directory.write("root-1.crt", b"half").unwrap();
    directory.write("issuer-9.key", b"old").unwrap();
    let mut authority = Authority::open(fast(), directory, at(0)).unwrap();
    authority.sign(&csr(), &id(), at(1)).unwrap();
    assert!(!path.join("issuer-9.key").exists());
    drop(authority);
    Authority::open(fast(), Directory::open(&path).unwrap(), at(1)).unwrap();
}

/// Workloads renew at 70 % while issuers and roots turn over; each call between any two of them is judged.
#[test]
fn a_mesh_lives_through_rotations() {
    let mut authority = Authority::in_memory(fast(), at(0)).unwrap();
    let csr = csr();
    let mut held: Vec<Signed> = (0..4)
        .map(|_| authority.sign(&csr, &id(), at(0)).unwrap())
        .collect();
    let mut seen = Vec::new();
    for second in (0..3 * 3600).step_by(11) {
        let now = at(second);
        seen.extend(authority.tick(now).unwrap());
        for (at_workload, one) in held.iter_mut().enumerate() {
            // Each renews at its own time.
            let left = one.not_after.duration_since(now).unwrap_or_default();
            if left < MINUTE * 3 / 10 + Duration::from_secs(at_workload as u64) {
                *one = authority.sign(&csr, &id(), now).unwrap();
            }
        }
        for caller in &held {
            for called in &held {
                believes(&caller.bundle, called, now).unwrap();
            }
        }
    }
    let count = |what| seen.iter().filter(|one| **one == what).count();
    assert!(count(Changed::IssuerRenewed) > 50, "{seen:?}");
    assert!(
        count(Changed::RootSwitched) >= 2 && count(Changed::RootDropped) >= 2,
        "{seen:?}"
    );
}

/// The same with an authority that is started anew all the time, also in the middle of a rotation.
#[test]
fn a_mesh_lives_through_restarts() {
    let temp = TempDir::new();
    let path = temp.path().join("authority");
    let open = |now| Authority::open(fast(), Directory::open(&path).unwrap(), now).unwrap();
    let mut authority = Some(open(at(0)));
    let csr = csr();
    let mut held: Option<[Signed; 2]> = None;
    let mut roots = std::collections::HashSet::new();
    for (turn, second) in (0..2 * 3600).step_by(20).enumerate() {
        let now = at(second);
        if turn % 5 == 0 {
            drop(authority.take());
        }
        let authority = authority.get_or_insert_with(|| open(now));
        authority.tick(now).unwrap();
        let new = authority.sign(&csr, &id(), now).unwrap();
        roots.insert(authority.bundle().hash());
        // Two certificates in turn, so that one is always 20 seconds old.
        let [_, old] = held.take().unwrap_or_else(|| [new.clone(), new.clone()]);
        for (caller, called) in [(&old, &new), (&new, &old), (&old, &old)] {
            believes(&caller.bundle, called, now).unwrap();
        }
        held = Some([old, new]);
    }
    assert!(
        roots.len() >= 5,
        "one root, two, another one, two, a third: {}",
        roots.len()
    );
}

#[test]
fn an_issuer_that_the_operator_gives() {
    let owner = Authority::in_memory(Settings::new(domain()), at(0)).unwrap();
    let own = owner.own.as_ref().unwrap();
    let chain = to_pem(&owner.active.chain[0]);
    let key = owner.active.signer.key.to_pem().unwrap();
    let roots = owner.bundle().to_pem();
    let given = |chain: &str, key: &str, roots: &str, now| {
        Authority::given(
            Settings::new(domain()),
            chain.as_bytes(),
            key.as_bytes(),
            roots.as_bytes(),
            None,
            now,
        )
    };
    let mut authority = given(&chain, &key, &roots, at(1)).unwrap();
    let signed = authority.sign(&csr(), &id(), at(2)).unwrap();
    believes(owner.bundle(), &signed, at(2)).unwrap();
    assert_eq!(authority.due(), None);
    assert_eq!(authority.rotate_root(at(3)).unwrap(), []);
    assert_eq!(authority.active.ends, own.rotation.issuer.ends);

    let with_root = format!("{chain}{roots}");
    let mut authority = given(&with_root, &key, &roots, at(1)).unwrap();
    assert_eq!(
        authority.sign(&csr(), &id(), at(2)).unwrap().chain.len(),
        2,
        "roots are not sent"
    );

    let other = WorkloadKey::generate().unwrap().to_pem().unwrap();
    let stranger = Authority::in_memory(Settings::new(domain()), at(0)).unwrap();
    let leaf = signed.chain_pem();
    let late = owner.active.ends + MINUTE;
    assert!(matches!(
        given(&chain, &other, &roots, at(1)),
        Err(AuthorityError::OtherKey)
    ));
    assert!(matches!(
        given("", &key, &roots, at(1)),
        Err(AuthorityError::Chain)
    ));
    assert!(matches!(
        given(&roots, &key, &roots, at(1)),
        Err(AuthorityError::Chain)
    ));
    assert!(matches!(
        given(&leaf, &key, &roots, at(1)),
        Err(AuthorityError::OtherKey)
    ));
    assert!(matches!(
        given(&chain, "", &roots, at(1)),
        Err(AuthorityError::Key(_))
    ));
    assert!(matches!(
        given(&chain, &key, "", at(1)),
        Err(AuthorityError::Bundle(_))
    ));
    let found = given(&chain, &key, &stranger.bundle().to_pem(), at(1)).unwrap_err();
    assert!(matches!(found, AuthorityError::Unbelieved(_)), "{found}");
    let found = given(&chain, &key, &roots, late).unwrap_err();
    assert!(
        matches!(
            found,
            AuthorityError::OutOfTime {
                rejection: Rejection::Expired,
                ..
            }
        ),
        "{found}"
    );
    let found = given(&chain, &key, &roots, at(0) - Duration::from_secs(301)).unwrap_err();
    assert_eq!(
        found.to_string(),
        "nobody would believe what this issuer signs: not_yet_valid: it and its root are good from 2027-01-15T07:55:00Z to \
         2027-04-15T08:00:00Z, and this machine's clock says 2027-01-15T07:54:59Z: set the clock, or give another issuer"
    );
}
