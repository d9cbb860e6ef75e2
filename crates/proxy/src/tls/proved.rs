//! Policies that come while clients are there know them by the certificates that they came with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_model::resources::Address;
use mesh_model::validate::parse;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use super::fixtures::{Authority, Dir};
use crate::proxy::{Change, Options, Proxy};

/// Long enough for anything on loopback; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);
const ME: &str = "spiffe://mesh.test/ns/shop/sa/me";

/// A client of this authority, which calls itself [`ME`].
fn client(authority: &Authority) -> ClientConfig {
    let (certificate, key) = authority.sign_with(
        &[],
        |params| {
            params
                .subject_alt_names
                .push(SanType::URI(ME.try_into().unwrap()));
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth);
        },
        &KeyPair::generate().unwrap(),
    );
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(vec![certificate], key)
        .unwrap()
}

/// The status of an answer without a body, or of the last one.
fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()[9..12].to_owned()
}

#[test]
fn who_was_there_before_the_first_policy_is_denied_by_name() {
    let (dir, authority) = (Dir::new(), Authority::new("all"));
    let server = authority.files(&dir, "server", &["a.test"]);
    let roots = dir.write("roots.crt", &authority.pem);
    let resources = |policies: Value| {
        let resources = json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:0", "protocol": "http1", "routes": "main",
                "tls": { "certificates": [{ "certificate": server.certificate, "key": server.key }],
                    "clientCertificates": { "roots": roots } } }],
            "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
                { "action": { "kind": "respond", "status": 200 } } ] }] }],
            "policies": policies,
        });
        Change::Replace(parse(&resources.to_string()).unwrap())
    };
    let proxy = Proxy::start(Options {
        threads: 1,
        ..Options::default()
    })
    .unwrap();
    let applied = proxy.apply(resources(json!([]))).unwrap();
    let Address::Ip(address) = applied.addresses[0].1.clone() else {
        panic!("not an address")
    };
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = "a.test".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(client(&authority)), name).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    assert_eq!(ask(&mut stream), "200");
    let deny = json!([{ "name": "not-me", "targets": [{ "kind": "listener", "value": "web" }], "action": "deny",
        "rules": [{ "from": [{ "kind": "identity", "value": ME }] }] }]);
    proxy.apply(resources(deny)).unwrap();
    // Its thread hears of it a moment later.
    let since = Instant::now();
    while ask(&mut stream) != "403" {
        assert!(since.elapsed() < PATIENCE, "it is let in");
    }
}
