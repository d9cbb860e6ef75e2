//! A mesh in one process: an authority, proxies with identities, an application that tells what it saw.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use mesh_identity::authority::{Authority, Settings};
use mesh_identity::{Csr, Manager, MeshTls};
use mesh_model::resources::Address;
use mesh_proxy::log::{Level, Log};
use mesh_proxy::proxy::{Change, Options, Proxy};
use serde_json::{Value, json};

/// No wait of a test is longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A request whose response stays half until its body comes, and that body.
pub(crate) const HALF: &str = "POST /half HTTP/1.1\r\nhost: basket\r\ntransfer-encoding: chunked\r\n\r\n";
pub(crate) const REST: &str = "1\r\nx\r\n0\r\n\r\n";

/// An authority for `mesh.test`.
pub(crate) struct Mesh(Mutex<Authority>);

impl Mesh {
    pub(crate) fn new() -> Self {
        let settings = Settings::new("mesh.test".parse().unwrap());
        Self(Mutex::new(
            Authority::in_memory(settings, SystemTime::now()).unwrap(),
        ))
    }

    /// A workload's identity, signed.
    pub(crate) fn workload(&self, name: &str) -> Arc<MeshTls> {
        self.identity(&id(name))
    }

    /// The same, of any namespace.
    pub(crate) fn identity(&self, id: &str) -> Arc<MeshTls> {
        let tls = Arc::new(MeshTls::new("mesh.test".parse().unwrap()));
        let now = SystemTime::now();
        let mut manager = Manager::new(id.parse().unwrap(), Arc::clone(&tls), now, 1);
        let request = manager.request().unwrap();
        let csr = Csr::check(&request).unwrap();
        let signed = self.0.lock().unwrap().sign(&csr, manager.id(), now).unwrap();
        manager.answered(signed.chain, signed.bundle, now).unwrap();
        tls
    }
}

pub(crate) fn id(name: &str) -> String {
    format!("spiffe://mesh.test/ns/shop/sa/{name}")
}

/// A proxy with an identity.
pub(crate) fn proxy(identity: Arc<MeshTls>) -> Proxy {
    Proxy::start(Options {
        identity: Some(identity),
        ..Options::default()
    })
    .unwrap()
}

/// A proxy with an identity, and a look at the lines of its log.
pub(crate) fn heard(identity: Arc<MeshTls>) -> (Proxy, impl Fn() -> Vec<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Log::new(Level::Warn, {
        let lines = Arc::clone(&lines);
        move |entry| lines.lock().unwrap().push(entry.text())
    });
    let options = Options {
        identity: Some(identity),
        log: Arc::new(log),
        ..Options::default()
    };
    (Proxy::start(options).unwrap(), move || {
        lines.lock().unwrap().clone()
    })
}

/// Replaces what a proxy does, and tells where its listeners are.
pub(crate) fn apply(proxy: &Proxy, resources: &Value) -> Vec<SocketAddr> {
    let resources = serde_json::from_value(resources.clone()).unwrap();
    let applied = proxy.apply(Change::Replace(resources)).unwrap();
    let of = |(_, address)| match address {
        Address::Ip(address) => address,
        Address::Unix(_) => panic!("no socket of a test is one of Unix"),
    };
    applied.addresses.into_iter().map(of).collect()
}

/// What the proxy beside `basket` does for an application on port 3000 of the service.
pub(crate) fn inbound(application: SocketAddr, policies: Value) -> Value {
    json!({
        "listeners": [{
            "name": "inbound", "address": "127.0.0.1:0", "direction": "inbound",
            "workload": { "ports": [
                { "port": 3000, "routes": "application", "tcp": [{ "cluster": "application" }] },
            ] },
            "routes": "application",
            "defaultPolicy": "allowAuthenticated",
        }],
        "routeTables": [table("application")],
        "clusters": [{ "name": "application" }],
        "endpoints": [endpoints("application", application, None)],
        "policies": policies,
    })
}

/// What the proxy beside a caller does to reach a port of `basket`, at this proxy, which must be this one.
pub(crate) fn outbound(peer: SocketAddr, identity: &str, port: u16) -> Value {
    json!({
        "listeners": [
            { "name": "http", "address": "127.0.0.1:0", "direction": "outbound", "routes": "basket" },
            { "name": "tcp", "address": "127.0.0.1:0", "direction": "outbound", "protocol": "tcp",
              "tcp": [{ "cluster": "basket" }] },
        ],
        "routeTables": [table("basket")],
        "clusters": [{
            "name": "basket",
            "workload": { "serverName": format!("p{port}.basket.shop.mesh.test") },
        }],
        "endpoints": [endpoints("basket", peer, Some(&id(identity)))],
    })
}

fn table(cluster: &str) -> Value {
    let action = json!({ "kind": "forward", "to": [{ "cluster": cluster }] });
    json!({ "name": cluster, "virtualHosts": [{ "hosts": ["*"], "routes": [{ "name": cluster, "action": action }] }] })
}

fn endpoints(cluster: &str, address: SocketAddr, identity: Option<&str>) -> Value {
    let endpoint = json!({ "address": address.to_string(), "identity": identity });
    json!({ "cluster": cluster, "localities": [{ "endpoints": [endpoint] }] })
}

/// An application that answers requests with their heads, and anything else with `echo:` and itself.
pub(crate) fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    address
}

fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if head.is_empty() && !line.contains(" HTTP/1.") {
            let _ = write!(writer, "echo:{line}");
            continue;
        }
        head.push_str(&line);
        if line == "\r\n" && head.contains(" /upgrade ") {
            let switching =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            let _ = writer.write_all(switching);
            head.clear();
            continue;
        }
        if line == "\r\n" && head.contains(" /half ") {
            // The rest comes with the body.
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
            let mut more = [0; 1];
            if reader.read(&mut more).unwrap_or(0) > 0 {
                let _ = writer.write_all(b"half");
            }
            return;
        }
        if line == "\r\n" {
            let _ = write!(
                writer,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}",
                head.len()
            );
            head.clear();
        }
    }
}

/// An application that says `hello` before it is asked, and then the same as its clients.
pub(crate) fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut says = b"hello".to_vec();
                while !says.is_empty() && stream.write_all(&says).is_ok() {
                    let n = stream.read(&mut buffer).unwrap_or(0);
                    says = buffer[..n].to_vec();
                }
            });
        }
    });
    address
}

/// The way to a server that tells when it was called.
pub(crate) fn reported(to: SocketAddr) -> (SocketAddr, Receiver<()>) {
    let (calls, called) = channel();
    let at = wire(move || {
        let server = TcpStream::connect(to).unwrap();
        let _ = calls.send(());
        server
    });
    (at, called)
}

/// The way to a server, held up on each connection until something was called.
pub(crate) fn held(to: SocketAddr, called: Receiver<()>) -> SocketAddr {
    wire(move || {
        let server = TcpStream::connect(to).unwrap();
        let _ = called.recv_timeout(DEADLINE);
        server
    })
}

/// The way to a server that sees all who take it at this address.
pub(crate) fn seen_at(address: IpAddr, to: SocketAddr) -> SocketAddr {
    wire(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let server = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((address, 0).into()).unwrap();
            socket.connect(to).await.unwrap().into_std().unwrap()
        });
        server.set_nonblocking(false).unwrap();
        server
    })
}

/// A wire to a server, which is called for each connection.
fn wire(call: impl Fn() -> TcpStream + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = call();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

/// Sends something and reads until the other side ends, or has said `until`.
pub(crate) fn said(address: SocketAddr, bytes: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.contains(until) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    answer
}

/// A request and its answer, whose connection is closed then.
pub(crate) fn get(address: SocketAddr, path: &str, more: &str) -> String {
    said(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: basket\r\nconnection: close\r\n{more}\r\n"),
        "\0",
    )
}

/// Waits until something is so.
pub(crate) fn wait_for<T: PartialEq + std::fmt::Debug>(look: impl Fn() -> T, wanted: &T) {
    let end = Instant::now() + DEADLINE;
    loop {
        let is = look();
        if is == *wanted {
            return;
        }
        assert!(Instant::now() < end, "{is:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A client that is amid something.
pub(crate) struct Open(TcpStream);

impl Open {
    /// Says something and waits until the answer holds this.
    pub(crate) fn new(address: SocketAddr, bytes: &str, until: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut open = Self(stream);
        open.says(bytes, until);
        open
    }

    /// Says something more.
    pub(crate) fn says(&mut self, bytes: &str, until: &str) {
        self.0.write_all(bytes.as_bytes()).unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4096]);
        while !answer.contains(until) {
            let n = self.0.read(&mut buffer).unwrap();
            assert!(n > 0, "it ended after {answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    /// Waits for its end.
    pub(crate) fn ends(&mut self) {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer) {
            Ok(n) => assert_eq!(n, 0, "more came"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}
