//! The admin server as its callers see it: over real sockets, byte by byte where that matters.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use mesh_model::resources::{
    Address, CertificateAndKey, Cluster, Listener, Pem, Resources, ServerTls, TlsVersion, WeightedCluster,
};

use super::{CONNECTIONS, Options};
use crate::log::{Level, Log};
use crate::proxy::{self, Change, Phase, Proxy};

/// A hung test is worse than a failed one.
const PATIENCE: Duration = Duration::from_secs(20);

fn started(address: &str) -> (Proxy, Address) {
    let options = proxy::Options {
        threads: 1,
        log: Arc::new(Log::new(Level::Info, |_| {})),
        ..proxy::Options::default()
    };
    let mut proxy = Proxy::start(options).unwrap();
    let options = Options {
        address: address.parse().unwrap(),
        lame_duck: Duration::ZERO,
    };
    let bound = proxy.serve_admin(options).unwrap();
    (proxy, bound)
}

fn admin() -> (Proxy, SocketAddr) {
    match started("127.0.0.1:0") {
        (proxy, Address::Ip(address)) => (proxy, address),
        (_, other) => panic!("{other}"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends bytes and reads until the server closes.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut socket = connect(address);
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    response
}

fn ask(address: SocketAddr, line: &str, rest: &str) -> (u16, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{rest}");
    let request = if rest.contains("\r\n\r\n") {
        request
    } else {
        request + "\r\n"
    };
    let response = exchange(address, &request);
    let status = response[9..12].parse().unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path}"), "")
}

#[test]
fn health_follows_the_proxy() {
    let (proxy, at) = admin();
    assert_eq!(get(at, "/live"), (200, "live\n".into()));
    let starting = (503, "starting: no configuration is in force yet\n".into());
    assert_eq!(get(at, "/ready"), starting);
    proxy.apply(Change::Replace(Resources::default())).unwrap();
    assert_eq!(get(at, "/ready"), (200, "ready\n".into()));
    assert_eq!(ask(at, "POST /drain", ""), (202, "draining\n".into()));
    let mut phase = proxy.phase();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime
        .block_on(phase.wait_for(|phase| *phase == Phase::Drained))
        .unwrap();
    assert_eq!(get(at, "/ready"), (503, "drained\n".into()));
    assert_eq!(get(at, "/live").0, 200, "the process is alive for all that");
}

#[test]
fn every_page_answers_and_checks_its_methods() {
    let (_proxy, at) = admin();
    for (path, allow) in [
        ("/live", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/stats", "GET, HEAD"),
        ("/config", "GET, HEAD"),
        ("/log-level", "GET, HEAD, PUT, POST"),
    ] {
        let (status, body) = get(at, path);
        assert_eq!(status, 200, "{path}");
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        let head = exchange(at, &request);
        let (fields, nothing) = head.split_once("\r\n\r\n").unwrap();
        assert_eq!(nothing, "", "{path}: HEAD has no body");
        if !matches!(path, "/metrics" | "/stats") {
            let length = format!("Content-Length: {}", body.len());
            assert!(fields.contains(&length), "{path}: {fields}");
        }
        let request = format!("DELETE {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        let refused = exchange(at, &request);
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains(&format!("Allow: {allow}\r\n")), "{refused}");
    }
    assert_eq!(get(at, "/drain").0, 405);
    assert_eq!(get(at, "/metrics?x=1").0, 200, "a query changes nothing");
    for path in ["/", "/metrics/", "/LIVE", "/%6cive", "//live"] {
        let (status, body) = get(at, path);
        assert_eq!(status, 404, "{path}");
        assert!(
            body.contains("/metrics") && body.contains("/drain"),
            "says what there is: {body}"
        );
    }
    assert_eq!(get(at, "http://elsewhere.test/metrics").0, 400, "no open proxy");
    let connect = exchange(
        at,
        "CONNECT elsewhere.test:80 HTTP/1.1\r\nHost: elsewhere.test:80\r\n\r\n",
    );
    assert!(connect.starts_with("HTTP/1.1 400 "), "{connect}");
}

#[test]
fn the_log_level_can_be_read_and_changed() {
    let (proxy, at) = admin();
    assert_eq!(get(at, "/log-level"), (200, "info\n".into()));
    let put = |body: &str| {
        ask(
            at,
            "PUT /log-level",
            &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        )
    };
    assert_eq!(put("debug"), (200, "debug\n".into()));
    assert_eq!(proxy.log().level(), Level::Debug);
    assert_eq!(put("loud"), (400, "expected error, warn, info or debug\n".into()));
    assert_eq!(
        ask(
            at,
            "POST /log-level",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nwa\r\n3\r\nrn\n\r\n0\r\n\r\n"
        ),
        (200, "warn\n".into())
    );
    assert_eq!(get(at, "/log-level").1, "warn\n");
    assert_eq!(put(&"x".repeat(2000)).0, 413);
    let tiny = "1\r\nx\r\n".repeat(2000);
    assert_eq!(
        ask(
            at,
            "PUT /log-level",
            &format!("Transfer-Encoding: chunked\r\n\r\n{tiny}0\r\n\r\n")
        )
        .0,
        413
    );
}

#[test]
fn other_origins_and_proxies_see_health_only() {
    let (_proxy, at) = admin();
    let foreign = [
        "Origin: http://attacker.test\r\n",
        "X-Forwarded-For: 10.0.0.1\r\n",
    ];
    for fields in foreign {
        for line in [
            "GET /config",
            "GET /stats",
            "GET /log-level",
            "PUT /log-level",
            "POST /drain",
        ] {
            assert_eq!(ask(at, line, fields).0, 403, "{line} {fields}");
        }
        assert_eq!(ask(at, "GET /live", fields).0, 200);
    }
    let rebound = "GET /config HTTP/1.1\r\nHost: attacker.test\r\nConnection: close\r\n\r\n";
    assert!(exchange(at, rebound).starts_with("HTTP/1.1 403 "));
}

#[test]
fn heads_are_read_strictly_and_bounded() {
    let (_proxy, at) = admin();
    for (request, status) in [
        ("GET /live HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /live HTTP/1.1\nHost: x\n\n".to_owned(), 400),
        (
            "GET /live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"
                .to_owned(),
            400,
        ),
        (
            format!(
                "GET /live HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
                "x".repeat(20_000)
            ),
            431,
        ),
        (
            format!("GET /live HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(70)),
            431,
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
    ] {
        let response = exchange(at, &request);
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {response}"
        );
        assert!(response.contains("Connection: close\r\n"));
    }
}

#[test]
fn a_connection_serves_many_requests_cut_anywhere() {
    let (_proxy, at) = admin();
    let one = format!("GET /live HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let last = format!("GET /live HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    let pipelined = format!("{one}{one}{last}");
    assert_eq!(exchange(at, &pipelined).matches("200 OK").count(), 3);
    let mut socket = connect(at);
    socket.set_nodelay(true).unwrap();
    for byte in pipelined.bytes() {
        socket.write_all(&[byte]).unwrap();
    }
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    assert_eq!(response.matches("live\n").count(), 3);
    let old = exchange(at, "GET /live HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 OK") && old.contains("Connection: close"));
}

#[test]
fn whoever_holds_connections_keeps_nobody_out() {
    let (_proxy, at) = admin();
    let mut served = connect(at);
    let request = format!("GET /live HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let mut silent: Vec<_> = (0..CONNECTIONS - 1).map(|_| connect(at)).collect();
    silent[1].write_all(b"GET /live HT").unwrap();
    // Activity keeps a place; the first of the silent ones loses it to each that comes.
    served.write_all(request.as_bytes()).unwrap();
    let mut response = [0; 15];
    served.read_exact(&mut response).unwrap();
    for _ in 0..3 {
        assert_eq!(get(at, "/live").0, 200);
    }
    let mut nothing = Vec::new();
    assert_eq!(silent[0].read_to_end(&mut nothing).unwrap(), 0, "made room");
    served.write_all(request.as_bytes()).unwrap();
    served.read_exact(&mut response).unwrap();
}

#[test]
fn a_unix_socket_is_this_host() {
    let path = std::env::temp_dir().join(format!("mesh-admin-{}.sock", std::process::id()));
    let (proxy, address) = started(&format!("unix:{}", path.display()));
    assert_eq!(address, Address::Unix(path.to_str().unwrap().into()));
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(b"GET /config HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    drop(proxy);
    assert!(!path.exists(), "its file goes with it");
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let (proxy, at) = admin();
    let certificate = rcgen::generate_simple_self_signed(["web.test".to_owned()]).unwrap();
    let mut listener = Listener::new("web", "127.0.0.1:0".parse().unwrap());
    listener.tcp = WeightedCluster::all("app");
    listener.tls = Some(ServerTls {
        certificates: vec![CertificateAndKey {
            certificate: Pem(certificate.cert.pem()),
            key: Pem(certificate.signing_key.serialize_pem()),
        }],
        client_certificates: None,
        minimum_version: TlsVersion::default(),
        alpn: Vec::new(),
    });
    let resources = Resources {
        listeners: vec![listener],
        clusters: vec![Cluster::new("app")],
        ..Resources::default()
    };
    proxy.apply(Change::Replace(resources)).unwrap();
    let (status, body) = get(at, "/config");
    assert_eq!(status, 200);
    assert!(
        body.contains("BEGIN CERTIFICATE") && !body.contains("PRIVATE KEY"),
        "{body}"
    );
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(shown["clusters"][0]["name"], "app");
}

#[test]
fn an_address_in_use_is_an_error() {
    let (_proxy, at) = admin();
    let mut other = Proxy::start(proxy::Options::default()).unwrap();
    let options = Options {
        address: Address::Ip(at),
        lame_duck: Duration::ZERO,
    };
    let error = other.serve_admin(options).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
