//! Is a peer that OpenSSL plays believed when it should be, and refused with the exact reason when it should not?
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Read;
use std::net::TcpListener;

use mesh_identity::Rejection;
use mesh_identity::tls::Protocol;
use support::{BASKET, Call, FRONT, Failed, Leaf, Pki, s_client, s_server, serve_one};

/// Alternative names in DER, in hexadecimal: one URI, whatever its bytes.
fn raw_uri(uri: &[u8]) -> String {
    let mut der = vec![0x30, uri.len() as u8 + 2, 0x86, uri.len() as u8];
    der.extend_from_slice(uri);
    let hex: Vec<_> = der.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("DER:{}", hex.join(":"))
}

/// Certificates that nobody may believe, and why.
fn bad_leaves(id: &str) -> Vec<(&'static str, Leaf, Rejection)> {
    let of = Leaf::of(id);
    let nul = raw_uri(format!("{id}\0.evil").as_bytes());
    vec![
        (
            "wrong trust domain",
            Leaf::of("spiffe://other.test/ns/shop/sa/basket"),
            Rejection::WrongTrustDomain,
        ),
        (
            "a trust domain that begins as ours",
            Leaf::of("spiffe://mesh.test.evil.test/ns/shop/sa/basket"),
            Rejection::WrongTrustDomain,
        ),
        (
            "expired",
            Leaf {
                days: (-3, -1),
                ..of.clone()
            },
            Rejection::Expired,
        ),
        (
            "not yet valid",
            Leaf {
                days: (1, 3),
                ..of.clone()
            },
            Rejection::NotYetValid,
        ),
        ("NUL in the name", Leaf::named(&nul), Rejection::NotSpiffe),
        (
            "wildcard",
            Leaf::of("spiffe://mesh.test/ns/shop/sa/*"),
            Rejection::NotSpiffe,
        ),
        (
            "wildcard trust domain",
            Leaf::of("spiffe://*.test/ns/shop/sa/basket"),
            Rejection::NotSpiffe,
        ),
        (
            "two URIs",
            Leaf::named(&format!("URI:{id},URI:spiffe://mesh.test/ns/shop/sa/other")),
            Rejection::SeveralIdentities,
        ),
        (
            "a URI of another kind",
            Leaf::of("https://mesh.test/ns/shop/sa/basket"),
            Rejection::NotSpiffe,
        ),
        (
            "a DNS name alone",
            Leaf::named("DNS:basket.shop"),
            Rejection::NoIdentity,
        ),
        (
            "no name",
            Leaf {
                names: None,
                ..of.clone()
            },
            Rejection::NoIdentity,
        ),
        (
            "self-signed",
            Leaf {
                self_signed: true,
                ..of.clone()
            },
            Rejection::UnknownAuthority,
        ),
        (
            "an authority's",
            Leaf {
                authority: true,
                ..of
            },
            Rejection::AuthorityAsWorkload,
        ),
    ]
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn rejected<T: std::fmt::Debug>(result: Result<T, Failed>, what: &str) -> Rejection {
    let failed = result.expect_err(what);
    failed.rejection().unwrap_or_else(|| panic!("{what}: {failed:?}"))
}

#[test]
fn openssl_calls_a_workload() {
    let pki = Pki::new();
    let basket = pki.workload(BASKET);
    let front = pki.make(&Leaf::named(&format!("URI:{FRONT},DNS:front.shop")));
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let mut client = s_client(&pki, Some(&front), address, &["-alpn", "mesh/h2,mesh/tcp"]);
    let (caller, protocol) = serve_one(&listener, &basket).unwrap();
    assert_eq!((caller.id.as_str(), protocol), (FRONT, Protocol::Http2));
    client.ended();
    let mut answer = String::new();
    client
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert_eq!(answer, "pong\n");
}

#[test]
fn a_workload_calls_openssl() {
    let pki = Pki::new();
    let front = pki.workload(FRONT);
    let basket = pki.make(&Leaf::of(BASKET));
    let (_server, address) = s_server(&pki, &basket, &["-tls1_3"]);
    for _ in 0..3 {
        let mut call = Call::begin(&front, BASKET, address).unwrap();
        assert_eq!(call.say("hello").unwrap(), "olleh");
        let connection = call.connection();
        assert_eq!(Protocol::agreed(connection.alpn_protocol()), Ok(Protocol::Tcp));
        assert_eq!(
            connection.handshake_kind(),
            Some(rustls::HandshakeKind::Full),
            "never resumed"
        );
    }
}

#[test]
fn a_bad_caller_is_refused_with_its_reason() {
    let pki = Pki::new();
    let basket = pki.workload(BASKET);
    let listener = listener();
    let address = listener.local_addr().unwrap();
    for (what, leaf, reason) in bad_leaves(FRONT) {
        let leaf = pki.make(&leaf);
        let _client = s_client(&pki, Some(&leaf), address, &["-alpn", "mesh/tcp"]);
        assert_eq!(rejected(serve_one(&listener, &basket), what), reason, "{what}");
    }
}

#[test]
fn a_bad_server_is_refused_with_its_reason() {
    let pki = Pki::new();
    let front = pki.workload(FRONT);
    let bad = bad_leaves(BASKET);
    for (what, leaf, reason) in bad {
        let leaf = pki.make(&leaf);
        let (_server, address) = s_server(&pki, &leaf, &[]);
        let mut call = Call::begin(&front, BASKET, address).unwrap();
        assert_eq!(rejected(call.say("hello"), what), reason, "{what}");
    }
}

#[test]
fn the_right_authority_is_not_enough() {
    let pki = Pki::new();
    let front = pki.workload(FRONT);
    for other in [
        "spiffe://mesh.test/ns/shop/sa/baske",
        "spiffe://mesh.test/ns/shop/sa/Basket",
        FRONT,
    ] {
        let leaf = pki.make(&Leaf::of(other));
        let (_server, address) = s_server(&pki, &leaf, &[]);
        let mut call = Call::begin(&front, BASKET, address).unwrap();
        assert_eq!(rejected(call.say("hello"), other), Rejection::WrongIdentity);
    }
}

#[test]
fn tls_1_2_is_refused() {
    let pki = Pki::new();
    let (front, basket) = (pki.workload(FRONT), pki.workload(BASKET));
    let leaf = pki.make(&Leaf::of(FRONT));
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let _client = s_client(&pki, Some(&leaf), address, &["-tls1_2", "-alpn", "mesh/tcp"]);
    assert_eq!(
        rejected(serve_one(&listener, &basket), "caller"),
        Rejection::TlsVersion
    );
    let leaf = pki.make(&Leaf::of(BASKET));
    let (_server, address) = s_server(&pki, &leaf, &["-tls1_2"]);
    let mut call = Call::begin(&front, BASKET, address).unwrap();
    assert_eq!(rejected(call.say("hello"), "server"), Rejection::TlsVersion);
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let basket = pki.workload(BASKET);
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let _client = s_client(&pki, None, address, &["-alpn", "mesh/tcp"]);
    assert_eq!(
        rejected(serve_one(&listener, &basket), "caller"),
        Rejection::NoCertificate
    );
}

#[test]
fn a_caller_that_speaks_something_else_is_refused() {
    let pki = Pki::new();
    let basket = pki.workload(BASKET);
    let leaf = pki.make(&Leaf::of(FRONT));
    let listener = listener();
    let address = listener.local_addr().unwrap();
    for alpn in [&["-alpn", "h2,http/1.1"][..], &[]] {
        let _client = s_client(&pki, Some(&leaf), address, alpn);
        assert_eq!(
            rejected(serve_one(&listener, &basket), "caller"),
            Rejection::NoProtocol
        );
    }
}
