//! Is whoever was revoked cut off, on either side?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_identity::{Denied, DenyList, MeshTls};
use mesh_proxy::proxy::Proxy;
use mesh_proxy::telemetry::json;
use serde_json::{Value, json};

use super::support::{
    HALF, Mesh, Open, REST, application, apply, get, id, inbound, outbound, proxy, said, wait_for,
};

/// Believes nobody who is denied.
fn deny(identity: &MeshTls, denied: Denied) {
    let mut list = DenyList::new();
    list.deny(denied, None, SystemTime::now()).unwrap();
    identity.set_denied(Arc::new(list));
}

#[test]
fn who_is_revoked_is_cut_off() {
    let mesh = Mesh::new();
    let identity = mesh.workload("basket");
    let basket = proxy(Arc::clone(&identity));
    let at = apply(&basket, &inbound(application(), json!([])))[0];
    let (web, till) = (proxy(mesh.workload("web")), proxy(mesh.workload("till")));
    let of_web = apply(&web, &outbound(at, "basket", 3000));
    let of_till = apply(&till, &outbound(at, "basket", 3000));
    let mut web_http = Open::new(of_web[0], HALF, "half");
    let mut web_tcp = Open::new(of_web[1], "hello\n", "echo:hello\n");
    let mut till_tcp = Open::new(of_till[1], "hello\n", "echo:hello\n");
    deny(&identity, Denied::Id(id("web").parse().unwrap()));
    basket.judge_again();
    web_http.ends();
    web_tcp.ends();
    till_tcp.says("again\n", "echo:again\n");
    let answer = get(of_web[0], "/", "");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn who_called_a_port_that_is_declared_no_more_is_cut_off() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let mut resources = inbound(application(), json!([]));
    let with_ports = |resources: &mut Value, ports: &[u16]| {
        let port =
            |port| json!({ "port": port, "routes": "application", "tcp": [{ "cluster": "application" }] });
        let ports: Vec<_> = ports.iter().map(port).collect();
        resources["listeners"][0]["workload"]["ports"] = json!(ports);
        apply(&basket, resources)[0]
    };
    let at = with_ports(&mut resources, &[4000, 3000]);
    let web = mesh.workload("web");
    let [
        (_old, mut old_http, mut old_tcp),
        (_new, mut new_http, mut new_tcp),
    ] = [3000, 4000].map(|port| {
        let caller = proxy(Arc::clone(&web));
        let own = apply(&caller, &outbound(at, "basket", port));
        let http = Open::new(own[0], HALF, "half");
        (caller, http, Open::new(own[1], "hello\n", "echo:hello\n"))
    });
    assert_eq!(with_ports(&mut resources, &[4000]), at);
    old_http.ends();
    old_tcp.ends();
    new_http.says(REST, "half");
    new_tcp.says("again\n", "echo:again\n");
}

/// How many connections a proxy has to its one cluster: open ones, and those of them that are idle.
fn connections(proxy: &Proxy) -> (u64, u64) {
    let stats = json::render(&proxy.look());
    let of = |name: &str| stats["clusters"][0][name].as_u64().unwrap();
    (of("active"), of("idle"))
}

/// Requests and streams of a proxy that ended since their server was believed no more.
fn cut_off(proxy: &Proxy) -> u64 {
    let stats = json::render(&proxy.look());
    let routes = stats["routes"].as_array().unwrap().iter();
    let cut = routes.filter_map(|route| route["reasons"]["upstream_certificate"].as_u64());
    cut.sum()
}

/// A request over HTTP/2 whose response does not end by itself.
struct OverHttp2 {
    runtime: tokio::runtime::Runtime,
    body: h2::RecvStream,
}

impl OverHttp2 {
    fn new(address: std::net::SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let body = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            let request = http::Request::get("http://basket/half").body(()).unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(&body.data().await.unwrap().unwrap()[..], b"half");
            body
        });
        Self { runtime, body }
    }

    /// Waits for its end, which is a reset.
    fn ends(&mut self) {
        let body = &mut self.body;
        let more = self.runtime.block_on(async {
            let more = tokio::time::timeout(Duration::from_secs(20), body.data());
            more.await.expect("it ends")
        });
        assert!(more.unwrap().is_err());
    }
}

/// What a caller has open towards a server: an idle connection, a request over each version of HTTP, a stream of bytes.
struct Opened {
    caller: Proxy,
    at: Vec<std::net::SocketAddr>,
    http1: Open,
    http2: OverHttp2,
    tcp: Open,
}

impl Opened {
    fn new(identity: &Arc<MeshTls>, server: std::net::SocketAddr) -> Self {
        let caller = proxy(Arc::clone(identity));
        let at = apply(&caller, &outbound(server, "basket", 3000));
        let http2 = OverHttp2::new(at[0]);
        let tcp = Open::new(at[1], "hello\n", "echo:hello\n");
        let http1 = Open::new(at[0], HALF, "half");
        assert!(said(at[0], "GET / HTTP/1.1\r\nhost: basket\r\n\r\n", "basket").contains(" 200 "));
        let opened = Self {
            caller,
            at,
            http1,
            http2,
            tcp,
        };
        wait_for(|| connections(&opened.caller), &(4, 1));
        opened
    }
}

#[test]
fn a_server_that_is_revoked_is_left() {
    let mesh = Mesh::new();
    let web = mesh.workload("web");
    let [one, other] = [(); 2].map(|()| mesh.workload("basket"));
    let servers = [&one, &other].map(|identity| {
        let server = proxy(Arc::clone(identity));
        let at = apply(&server, &inbound(application(), json!([])))[0];
        (server, at)
    });
    let [mut to_one, mut to_other] = [0, 1].map(|server: usize| Opened::new(&web, servers[server].1));
    let serial = one.svid().unwrap().own().serial.clone();
    deny(&web, Denied::Serial(serial));
    for opened in [&to_one, &to_other] {
        opened.caller.judge_again();
    }
    to_one.http1.ends();
    to_one.http2.ends();
    to_one.tcp.ends();
    wait_for(|| connections(&to_one.caller), &(0, 0));
    wait_for(|| cut_off(&to_one.caller), &3);
    let answer = get(to_one.at[0], "/", "");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_certificate"),
        "{answer}"
    );
    // The other one has another certificate.
    to_other.tcp.says("again\n", "echo:again\n");
    assert_eq!(connections(&to_other.caller), (4, 1));
    to_other.http1.says(REST, "half");
    deny(&web, Denied::Id(id("basket").parse().unwrap()));
    to_other.caller.judge_again();
    to_other.http2.ends();
    to_other.tcp.ends();
    wait_for(|| connections(&to_other.caller), &(0, 0));
}

/// Whoever has no answer yet is told.
#[test]
fn a_request_without_an_answer_says_that_its_server_was_revoked() {
    let mesh = Mesh::new();
    let web = mesh.workload("web");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(silent.local_addr().unwrap(), json!([])))[0];
    let caller = proxy(Arc::clone(&web));
    let own = apply(&caller, &outbound(at, "basket", 3000));
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| get(own[0], "/", ""));
        // It has arrived.
        let (mut stream, _) = silent.accept().unwrap();
        assert!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap() > 0);
        deny(&web, Denied::Id(id("basket").parse().unwrap()));
        caller.judge_again();
        asked.join().unwrap()
    });
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_certificate: revoked"),
        "{answer}"
    );
}
