//! Handshakes in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection};

use super::*;
use crate::sni::Target;
use crate::testing::{ID, TestAuthority, at, domain};
use crate::verify::unix_time;
use crate::{Denied, Peer, Rejection, WorkloadKey};

const OTHER: &str = "spiffe://mesh.test/ns/shop/sa/front";

#[derive(Debug)]
struct Stopped(SystemTime);

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0))
    }
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// A workload at a second of the tests' time.
fn workload(authority: &TestAuthority, own: &str, now: u64) -> MeshTls {
    let tls = MeshTls::with_clock(domain(), Arc::new(Stopped(at(now))));
    tls.set_bundle(Arc::new(
        TrustBundle::from_der(domain(), [authority.der()]).unwrap(),
    ));
    tls.set_svid(Arc::new(svid(authority, own)));
    tls
}

fn svid(authority: &TestAuthority, own: &str) -> Svid {
    let key = WorkloadKey::generate().unwrap();
    let leaf = authority.leaf_for(&key, own, at(0), at(1000));
    Svid::new(&key, vec![leaf], at(0)).unwrap()
}

/// What each side has to say in the end.
struct Ends {
    client: Result<ClientConnection, Error>,
    server: Result<ServerConnection, Error>,
}

impl Ends {
    fn client(&self) -> Option<Rejection> {
        self.client.as_ref().err().and_then(Rejection::of)
    }

    fn server(&self) -> Option<Rejection> {
        self.server.as_ref().err().and_then(Rejection::of)
    }
}

fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Ends {
    let name = Target::new(8080, "basket", "shop", &domain()).unwrap();
    let mut client = ClientConnection::new(client, name.server_name().unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut client_end, mut server_end) = (Ok(()), Ok(()));
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut left = bytes.as_slice();
        while !left.is_empty() && server_end.is_ok() {
            server.read_tls(&mut left).unwrap();
            server_end = server.process_new_packets().map(|_| ());
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut left = bytes.as_slice();
        while !left.is_empty() && client_end.is_ok() {
            client.read_tls(&mut left).unwrap();
            client_end = client.process_new_packets().map(|_| ());
        }
    }
    Ends {
        client: client_end.map(|()| client),
        server: server_end.map(|()| server),
    }
}

fn call(client: &MeshTls, expected: &str, server: &MeshTls) -> Ends {
    let client = client.client_config(&id(expected), Protocol::Http2).unwrap();
    shake(client, server.server_config(Protocol::ALL).unwrap())
}

#[test]
fn two_workloads_know_each_other() {
    let authority = TestAuthority::new("a");
    let (front, basket) = (workload(&authority, OTHER, 10), workload(&authority, ID, 10));
    let ends = call(&front, ID, &basket);
    let (client, server) = (ends.client.unwrap(), ends.server.unwrap());
    let called = Peer::of(&client.peer_certificates().unwrap()[0]).unwrap();
    let caller = Peer::of(&server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!((called.id.as_str(), caller.id.as_str()), (ID, OTHER));
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    assert_eq!(Protocol::agreed(server.alpn_protocol()), Ok(Protocol::Http2));
    assert_eq!(server.server_name(), Some("p8080.basket.shop.mesh.test"));
}

#[test]
fn nothing_is_resumed() {
    let authority = TestAuthority::new("a");
    let (front, basket) = (workload(&authority, OTHER, 10), workload(&authority, ID, 10));
    let client = front.client_config(&id(ID), Protocol::Http1).unwrap();
    let server = basket.server_config(Protocol::ALL).unwrap();
    for _ in 0..3 {
        let ends = shake(Arc::clone(&client), Arc::clone(&server));
        let client = ends.client.unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

#[test]
fn the_wrong_one_is_told_so() {
    let (authority, stranger) = (TestAuthority::new("a"), TestAuthority::new("b"));
    let (front, basket) = (workload(&authority, OTHER, 10), workload(&authority, ID, 10));
    let ends = call(&front, "spiffe://mesh.test/ns/shop/sa/baske", &basket);
    assert_eq!(ends.client(), Some(Rejection::WrongIdentity));
    assert_eq!(ends.server(), Some(Rejection::RefusedByPeer));

    let ends = call(&workload(&stranger, OTHER, 10), ID, &basket);
    assert_eq!(ends.client(), Some(Rejection::UnknownAuthority));
    let mixed = workload(&authority, OTHER, 10);
    mixed.set_svid(Arc::new(svid(&stranger, OTHER)));
    let ends = call(&mixed, ID, &basket);
    assert_eq!(ends.server(), Some(Rejection::UnknownAuthority));
    assert_eq!(ends.client(), Some(Rejection::RefusedByPeer));
}

#[test]
fn each_sides_clock_judges() {
    let authority = TestAuthority::new("a");
    let basket = workload(&authority, ID, 10);
    let late = call(&workload(&authority, OTHER, 1001), ID, &basket);
    assert_eq!(late.client(), Some(Rejection::Expired));
    let late = call(
        &workload(&authority, OTHER, 10),
        ID,
        &workload(&authority, ID, 1001),
    );
    assert_eq!(late.server(), Some(Rejection::Expired));
}

#[test]
fn without_a_certificate_or_roots_nothing_works() {
    let authority = TestAuthority::new("a");
    let (front, basket) = (workload(&authority, OTHER, 10), workload(&authority, ID, 10));
    let none = MeshTls::with_clock(domain(), Arc::new(Stopped(at(10))));
    assert_eq!(call(&none, ID, &basket).client(), Some(Rejection::NoTrustBundle));
    assert!(call(&front, ID, &none).server.is_err());
    none.set_svid(Arc::new(svid(&authority, ID)));
    assert_eq!(call(&front, ID, &none).server(), Some(Rejection::NoTrustBundle));
    let nameless = MeshTls::with_clock(domain(), Arc::new(Stopped(at(10))));
    nameless.set_bundle(front.bundle());
    assert_eq!(
        call(&nameless, ID, &basket).server(),
        Some(Rejection::NoCertificate)
    );
}

#[test]
fn what_changes_is_seen_by_configurations_that_are_there() {
    let (old, new) = (TestAuthority::new("a"), TestAuthority::new("b"));
    let (front, basket) = (workload(&old, OTHER, 10), workload(&old, ID, 10));
    let client = front.client_config(&id(ID), Protocol::Tcp).unwrap();
    let server = basket.server_config(Protocol::ALL).unwrap();
    let go = || shake(Arc::clone(&client), Arc::clone(&server));
    assert!(go().server.is_ok());

    let both = Arc::new(TrustBundle::from_der(domain(), [old.der(), new.der()]).unwrap());
    front.set_bundle(Arc::clone(&both));
    basket.set_svid(Arc::new(svid(&new, ID)));
    let ends = go();
    let shown = ends.client.unwrap().peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, basket.svid().unwrap().chain()[0]);

    front.set_bundle(Arc::new(TrustBundle::from_der(domain(), [old.der()]).unwrap()));
    assert_eq!(go().client(), Some(Rejection::UnknownAuthority));
    front.set_bundle(both);

    let mut denied = DenyList::new();
    let caller = front.svid().unwrap().own().clone();
    denied
        .deny(
            Denied::Serial(caller.serial.clone()),
            Some(caller.not_after),
            at(10),
        )
        .unwrap();
    basket.set_denied(Arc::new(denied));
    assert!(basket.denied().denies(&caller));
    let ends = go();
    assert_eq!(ends.server(), Some(Rejection::Revoked));
    front.set_svid(Arc::new(svid(&old, OTHER)));
    assert!(go().server.is_ok(), "another certificate of the same identity");
}

/// A chain that was good a moment ago is not believed for that.
#[test]
fn what_was_good_is_judged_by_what_is() {
    let (ours, other) = (TestAuthority::new("a"), TestAuthority::new("b"));
    let clock = Arc::new(Moving(AtomicU64::new(10)));
    let basket = MeshTls::with_clock(domain(), Arc::clone(&clock) as Arc<dyn TimeProvider>);
    let believing =
        |authority: &TestAuthority| Arc::new(TrustBundle::from_der(domain(), [authority.der()]).unwrap());
    basket.set_bundle(believing(&ours));
    basket.set_svid(Arc::new(svid(&ours, ID)));
    let front = workload(&ours, OTHER, 10);
    let go = || call(&front, ID, &basket).server();
    for _ in 0..3 {
        assert_eq!(go(), None);
    }
    basket.set_bundle(believing(&other));
    assert_eq!(go(), Some(Rejection::UnknownAuthority));
    basket.set_bundle(believing(&ours));
    assert_eq!(go(), None);
    let mut denied = DenyList::new();
    denied.deny(Denied::Id(id(OTHER)), None, at(10)).unwrap();
    basket.set_denied(Arc::new(denied));
    assert_eq!(go(), Some(Rejection::Revoked));
    basket.set_denied(Arc::default());
    assert_eq!(go(), None);
    clock.0.store(1001, Ordering::Relaxed);
    assert_eq!(go(), Some(Rejection::Expired));
    clock.0.store(10, Ordering::Relaxed);
    assert_eq!(go(), None);

    // Whoever shows the certificate without its key has nothing of it.
    let stolen = front.svid().unwrap().chain().to_vec();
    let thief = CertifiedKey::new(stolen, Arc::new(WorkloadKey::generate().unwrap()));
    let config = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        Arc::new(Stopped(at(10))),
    );
    let mut config = config
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Expected::new(
            id(ID),
            Arc::clone(&front.live),
            &front.provider,
        )))
        .with_client_cert_resolver(Arc::new(Always(Arc::new(thief))));
    config.alpn_protocols = vec![Protocol::Tcp.as_bytes().to_vec()];
    let ends = shake(Arc::new(config), basket.server_config(Protocol::ALL).unwrap());
    assert_eq!(ends.server(), Some(Rejection::BadSignature));
}

#[derive(Debug)]
struct Moving(AtomicU64);

impl TimeProvider for Moving {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(at(self.0.load(Ordering::Relaxed))))
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn there_is_no_other_protocol() {
    let authority = TestAuthority::new("a");
    let (front, basket) = (workload(&authority, OTHER, 10), workload(&authority, ID, 10));
    let client = front.client_config(&id(ID), Protocol::Http2).unwrap();
    let ends = shake(client, basket.server_config(&[Protocol::Tcp]).unwrap());
    assert_eq!(ends.server(), Some(Rejection::NoProtocol));
    assert_eq!(ends.client(), Some(Rejection::NoProtocol));
}

#[test]
fn remaining_life_is_known() {
    let authority = TestAuthority::new("a");
    let tls = workload(&authority, ID, 10);
    // Of its 1000 s, the first 300 are for clocks that are behind.
    assert_eq!(tls.svid().unwrap().remaining(at(10)), Duration::from_secs(690));
}

#[test]
fn the_control_plane_hears_who_has_no_certificate_and_nobody_with_a_bad_one() {
    let (authority, stranger) = (TestAuthority::new("a"), TestAuthority::new("b"));
    let control = workload(&authority, ID, 10);
    let call = |caller: &MeshTls| {
        let client = caller.control_client_config(&id(ID)).unwrap();
        shake(client, control.control_server_config().unwrap())
    };
    let ends = call(&workload(&authority, OTHER, 10));
    let server = ends.server.unwrap();
    assert_eq!(server.alpn_protocol(), Some(H2));
    let caller = Peer::of(&server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(caller.id.as_str(), OTHER);

    let new = MeshTls::with_clock(domain(), Arc::new(Stopped(at(10))));
    assert_eq!(call(&new).client(), Some(Rejection::NoTrustBundle));
    new.set_bundle(control.bundle());
    let ends = call(&new);
    assert!(ends.client.is_ok());
    assert_eq!(ends.server.unwrap().peer_certificates(), None);

    // One that has ended is not shown, so that another one can be asked for.
    let client = workload(&authority, OTHER, 1001)
        .control_client_config(&id(ID))
        .unwrap();
    let ends = shake(
        client,
        workload(&authority, ID, 10).control_server_config().unwrap(),
    );
    assert_eq!(
        ends.client(),
        Some(Rejection::Expired),
        "by its clock the control plane's ended too"
    );
    let late = workload(&authority, OTHER, 1001);
    let (key, bundle) = (WorkloadKey::generate().unwrap(), control.bundle());
    let renewed = authority.leaf_for(&key, ID, at(0), at(5000));
    let called = MeshTls::with_clock(domain(), Arc::new(Stopped(at(1001))));
    called.set_bundle(bundle);
    called.set_svid(Arc::new(Svid::new(&key, vec![renewed], at(1001)).unwrap()));
    let client = late.control_client_config(&id(ID)).unwrap();
    let ends = shake(client, called.control_server_config().unwrap());
    assert_eq!(ends.server.unwrap().peer_certificates(), None);

    // Bad is not the same as none.
    let foreign = workload(&stranger, OTHER, 10);
    foreign.set_bundle(control.bundle());
    assert_eq!(call(&foreign).server(), Some(Rejection::UnknownAuthority));
    // And workloads do not hear strangers.
    let client = new.client_config(&id(ID), Protocol::Http2).unwrap();
    let ends = shake(client, control.server_config(Protocol::ALL).unwrap());
    assert_eq!(ends.server(), Some(Rejection::NoCertificate));
}
