#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What a real client sends first when it looks for this name, which may be an IP address.
fn real_hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The message of a hello that lies in one record.
fn message(hello: &[u8]) -> &[u8] {
    &hello[5..]
}

/// A message in records of these lengths, the last of them taking the rest.
fn in_records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut rest = message;
    for len in lengths.iter().copied().chain([usize::MAX]) {
        let (fragment, after) = rest.split_at(len.min(rest.len()));
        if !fragment.is_empty() {
            records.extend([22, 3, 1]);
            records.extend(u16::try_from(fragment.len()).unwrap().to_be_bytes());
            records.extend(fragment);
        }
        rest = after;
    }
    records
}

/// A ClientHello with these extensions and nothing else of interest.
fn made_hello(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    if let Some(extensions) = extensions {
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
    }
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    in_records(&message, &[])
}

/// A `server_name` extension with these (type, name) pairs.
fn names(list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (kind, name) in list {
        inner.push(*kind);
        inner.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        inner.extend(*name);
    }
    let len = u16::try_from(inner.len()).unwrap();
    [&[0, 0][..], &(len + 2).to_be_bytes(), &len.to_be_bytes(), &inner].concat()
}

fn named(name: &str) -> Hello {
    Hello::ServerName(Some(name.to_owned()))
}

#[test]
fn a_real_hello_at_every_length() {
    let hello = real_hello("shop.test");
    for n in 0..hello.len() {
        assert_eq!(client_hello(&hello[..n]), Hello::Incomplete, "{n} bytes");
    }
    assert_eq!(client_hello(&hello), named("shop.test"));
    let more = [hello.as_slice(), b"anything"].concat();
    assert_eq!(client_hello(&more), named("shop.test"));
}

#[test]
fn a_real_hello_without_a_name() {
    assert_eq!(client_hello(&real_hello("127.0.0.1")), Hello::ServerName(None));
}

#[test]
fn names_that_servers_might_read_differently_are_told_from_names() {
    let cases: [(&str, Option<Vec<u8>>, Hello); 22] = [
        ("no extensions", None, Hello::ServerName(None)),
        ("empty extensions", Some(vec![]), Hello::ServerName(None)),
        (
            "another extension",
            Some(vec![0, 43, 0, 1, 9]),
            Hello::ServerName(None),
        ),
        ("a name", Some(names(&[(0, b"a.test")])), named("a.test")),
        ("upper case", Some(names(&[(0, b"A.Test")])), named("a.test")),
        ("underscore", Some(names(&[(0, b"a_b.test")])), named("a_b.test")),
        (
            "an address",
            Some(names(&[(0, b"10.0.0.1")])),
            Hello::ServerName(None),
        ),
        ("a final dot", Some(names(&[(0, b"a.test.")])), named("a.test")),
        (
            "an address and a dot",
            Some(names(&[(0, b"10.0.0.1.")])),
            Hello::ServerName(None),
        ),
        ("two final dots", Some(names(&[(0, b"a.test..")])), Hello::OddName),
        ("a dot", Some(names(&[(0, b".")])), Hello::OddName),
        ("an empty label", Some(names(&[(0, b"a..test")])), Hello::OddName),
        (
            "a leading hyphen",
            Some(names(&[(0, b"-a.test")])),
            Hello::OddName,
        ),
        ("a space", Some(names(&[(0, b"a b.test")])), Hello::OddName),
        ("a wildcard", Some(names(&[(0, b"*.test")])), Hello::OddName),
        ("an empty name", Some(names(&[(0, b"")])), Hello::Invalid),
        ("an empty list", Some(names(&[])), Hello::Invalid),
        ("NUL", Some(names(&[(0, b"a.test\0.b")])), Hello::OddName),
        (
            "not ASCII",
            Some(names(&[(0, "ä.test".as_bytes())])),
            Hello::OddName,
        ),
        (
            "two names",
            Some(names(&[(0, b"a.test"), (0, b"b.test")])),
            Hello::Invalid,
        ),
        ("another type", Some(names(&[(1, b"a.test")])), Hello::Invalid),
        (
            "twice",
            Some([names(&[(0, b"a.test")]), names(&[(0, b"b.test")])].concat()),
            Hello::Invalid,
        ),
    ];
    for (what, extensions, expected) in cases {
        assert_eq!(
            client_hello(&made_hello(extensions.as_deref())),
            expected,
            "{what}"
        );
    }
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let cases: [(&str, &[u8]); 8] = [
        ("HTTP", b"G"),
        ("an alert", &[21]),
        ("SSL 2", &[0x80]),
        ("another major version", &[22, 2]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("a record that is too long", &[22, 3, 1, 0x40, 1]),
        ("a ServerHello", &[22, 3, 1, 0, 9, 2]),
        ("a message that is too long", &[22, 3, 1, 0x40, 0, 1, 0, 0x40, 1]),
    ];
    for (what, bytes) in cases {
        assert_eq!(client_hello(bytes), Hello::Invalid, "{what}");
        assert!(
            bytes.len() == 1 || client_hello(&bytes[..bytes.len() - 1]) == Hello::Incomplete,
            "{what}"
        );
    }
}

#[test]
fn waiting_is_bounded() {
    let hello = real_hello("shop.test");
    let message = message(&hello);
    let most = vec![1; MAX_RECORDS - 1];
    assert_eq!(client_hello(&in_records(message, &most)), named("shop.test"));
    assert_eq!(
        client_hello(&in_records(message, &[most, vec![1]].concat())),
        Hello::Invalid
    );

    // The longest message that is waited for, in two records; it is decided when its last byte is there.
    let mut longest = vec![1, 0, 0x40, 0];
    longest.resize(4 + MAX_HELLO, 0);
    let records = in_records(&longest, &[MAX_HELLO]);
    assert_eq!(client_hello(&records[..records.len() - 1]), Hello::Incomplete);
    assert_eq!(client_hello(&records), Hello::Invalid);
}

#[test]
fn the_minor_version_of_a_record_says_nothing() {
    for minor in [0, 3, 5, 255] {
        let mut hello = real_hello("shop.test");
        hello[2] = minor;
        assert_eq!(client_hello(&hello), named("shop.test"));
    }
}

proptest! {
    /// However a hello is cut into records and reads, the name is the same.
    #[test]
    fn records_change_nothing(lengths in proptest::collection::vec(1usize..400, 0..MAX_RECORDS - 1), read in 0usize..2000) {
        let hello = real_hello("shop.test");
        let records = in_records(message(&hello), &lengths);
        prop_assert_eq!(client_hello(&records), named("shop.test"));
        let read = read.min(records.len() - 1);
        prop_assert_eq!(client_hello(&records[..read]), Hello::Incomplete);
    }

    /// Nothing panics, and what is decided stays decided.
    #[test]
    fn decisions_are_final(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0usize..4) {
        let starts: [&[u8]; 4] = [&[], &[22, 3, 1], &[22, 3, 1, 0, 90, 1, 0, 0, 86, 3, 3], &[22, 3, 3, 0, 2, 1, 0, 22, 3, 3]];
        let bytes = [starts[start], &bytes].concat();
        let mut decided = Hello::Incomplete;
        for n in 0..=bytes.len() {
            let now = client_hello(&bytes[..n]);
            if decided != Hello::Incomplete {
                prop_assert_eq!(&now, &decided);
            }
            decided = now;
        }
    }

    /// A server that accepts a damaged hello sees the name that it was passed on by.
    #[test]
    fn a_server_sees_the_same_name(at in 0usize..1600, value: u8, name in "[a-z0-9._-]{1,20}") {
        let mut hello = match name.parse::<std::net::IpAddr>() {
            Err(_) if rustls::pki_types::DnsName::try_from(name.as_str()).is_ok() => real_hello(&name),
            _ => made_hello(Some(&names(&[(0, name.as_bytes())]))),
        };
        let at = at % hello.len();
        hello[at] = value;
        let mut acceptor = Acceptor::default();
        let mut bytes = &hello[..];
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes).unwrap();
        }
        if let Ok(Some(accepted)) = acceptor.accept() {
            let seen = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
            match client_hello(&hello) {
                Hello::ServerName(name) => prop_assert_eq!(name, seen),
                Hello::OddName | Hello::Invalid => prop_assert_eq!(seen, None),
                Hello::Incomplete => prop_assert!(false, "a server needs no more bytes"),
            }
        }
    }
}
