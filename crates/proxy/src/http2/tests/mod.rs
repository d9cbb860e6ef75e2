//! Whole connections over loopback sockets, against peers of the `h2` crate and against bytes.

mod again;
mod client;
mod floods;
mod leaving;
mod refused;
mod server;
mod swaps;
mod trailers;
mod upstream;
mod upstream_bounds;
mod upstream_waits;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use mesh_model::resources::Address;
use mesh_model::validate::parse;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::{Change, Options, Proxy};
use crate::telemetry::Limit;
use crate::telemetry::stats::LimitTotals;

/// Long enough for anything on loopback; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy with one listener, and where that is.
struct Front {
    proxy: Proxy,
    address: SocketAddr,
}

/// Starts a proxy that forwards `/` to an HTTP/1 server and answers `/here` itself.
fn front(upstream: SocketAddr, listener: Value) -> Front {
    front_of(&[upstream], json!({ "protocol": "http1" }), listener)
}

/// Starts a proxy that forwards `/` to a cluster of these servers.
fn front_of(upstreams: &[SocketAddr], cluster: Value, listener: Value) -> Front {
    front_on(1, upstreams, cluster, listener)
}

/// The same, on some threads.
fn front_on(threads: usize, upstreams: &[SocketAddr], cluster: Value, listener: Value) -> Front {
    let (mut cluster, mut listener) = (cluster, listener);
    cluster["name"] = "site".into();
    let endpoints: Vec<_> = upstreams
        .iter()
        .map(|address| json!({ "address": address.to_string() }))
        .collect();
    listener["name"] = "web".into();
    listener["address"] = "127.0.0.1:0".into();
    listener["routes"] = "main".into();
    let here = "here".repeat(16 * 1024);
    let resources = json!({
        "listeners": [listener],
        "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
            { "name": "here", "match": { "path": { "kind": "exact", "value": "/here" } },
              "action": { "kind": "respond", "status": 200, "body": here } },
            { "name": "nowhere", "match": { "path": { "kind": "prefix", "value": "/nowhere" } },
              "action": { "kind": "forward", "to": [{ "cluster": "nowhere" }] } },
            { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } },
        ] }] }],
        "clusters": [cluster, { "name": "nowhere" }],
        "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": endpoints }] }],
    });
    let options = Options {
        threads,
        ..Options::default()
    };
    let proxy = Proxy::start(options).unwrap();
    let applied = proxy
        .apply(Change::Replace(parse(&resources.to_string()).unwrap()))
        .unwrap();
    let Address::Ip(address) = applied.addresses[0].1.clone() else {
        panic!("not an address")
    };
    Front { proxy, address }
}

impl Front {
    /// Connections to the servers: opened, open, requests that found one, requests that did not.
    fn connections(&self) -> (u64, u64, u64, u64) {
        let report = self.proxy.look();
        let site = report.clusters.iter().find(|(name, _)| name.as_str() == "site");
        site.map_or((0, 0, 0, 0), |(_, totals)| {
            let opened = totals.connected.count();
            (opened, totals.active(), totals.pool_hits, totals.pool_misses)
        })
    }

    /// Calls by `grpc-status`, over all routes.
    fn grpc_statuses(&self) -> Vec<(Option<u32>, u64)> {
        let report = self.proxy.look();
        let all = report
            .routes
            .iter()
            .flat_map(|(_, totals)| totals.grpc_statuses().collect::<Vec<_>>());
        all.collect()
    }

    /// How often a limit of the listener was reached.
    fn limit(&self, limit: Limit) -> u64 {
        let report = self.proxy.look();
        let totals = report.listeners.iter().find(|(name, _)| name.as_str() == "web");
        totals.map_or(0, |(_, totals)| count(&totals.limits, limit))
    }

    /// How often a limit of the cluster was reached.
    fn cluster_limit(&self, limit: Limit) -> u64 {
        let report = self.proxy.look();
        let totals = report.clusters.iter().find(|(name, _)| name.as_str() == "site");
        totals.map_or(0, |(_, totals)| count(&totals.limits, limit))
    }
}

fn count(limits: &LimitTotals, limit: Limit) -> u64 {
    limits
        .iter()
        .find(|(name, _)| *name == limit)
        .map_or(0, |(_, count)| count)
}

/// An HTTP/1 server that answers each connection by a script.
async fn scripted<F, R>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(script(socket));
        }
    });
    address
}

/// Reads until a text has come; gives everything so far.
async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let n = socket.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    seen
}

/// A server that answers every request without a body with `hello`.
async fn hello() -> SocketAddr {
    scripted(|mut socket| async move {
        while read_until(&mut socket, "\r\n\r\n").await.ends_with("\r\n\r\n") {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            if socket.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// An HTTP/2 server that handles each stream in a task.
async fn http2_server<F, R>(builder: h2::server::Builder, handle: F) -> SocketAddr
where
    F: Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    scripted(move |socket| {
        let (builder, handle) = (builder.clone(), handle.clone());
        async move {
            socket.set_nodelay(true).unwrap();
            // Who asks may leave at any time.
            let Ok(mut connection) = builder.handshake(socket).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(handle(request, respond));
            }
        }
    })
    .await
}

/// Waits for a condition.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// A client's connection, driven by a task.
async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://shop.test{path}")).body(()).unwrap()
}

/// A whole response.
struct Whole {
    head: http::response::Parts,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    async fn read(response: Response<h2::RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            body.extend_from_slice(&piece);
            stream.flow_control().release_capacity(piece.len())?;
        }
        let trailers = stream.trailers().await?;
        Ok(Self { head, body, trailers })
    }

    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

/// Sends a request without a body and reads the response.
async fn fetch(send: &mut SendRequest<Bytes>, request: Request<()>) -> Result<Whole, h2::Error> {
    let exchange = async {
        let mut ready = send.clone().ready().await?;
        let (response, _) = ready.send_request(request, true)?;
        Whole::read(response.await?).await
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

/// A frame's bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A request's head as it arrives.
pub(super) fn head(fields: &[(&str, &str)]) -> Box<mesh_http2::Head> {
    use mesh_http2::meter::{Budgets, Role};
    let settings = mesh_http2::Settings {
        streams: 1,
        stream_window: 65_535,
        connection_window: 65_535,
        header_bytes: 65_536,
        budgets: Budgets::new(65_536),
    };
    let buffers = crate::buffer::Buffers::new();
    let pool = std::rc::Rc::new(mesh_http2::Pool::new(super::socket::WriteBuffers(buffers)));
    let [mut client, mut server] = [Role::Client, Role::Server]
        .map(|role| mesh_http2::Connection::new(role, settings, std::rc::Rc::clone(&pool)));
    let key = client.open_stream(false).unwrap();
    client
        .head(key, true, |out| {
            for (name, value) in fields {
                out.field(
                    mesh_http1::classify(name.as_bytes()),
                    name.as_bytes(),
                    value.as_bytes(),
                    false,
                );
            }
        })
        .unwrap();
    server.receive(client.unsent(), 0);
    server.arrived().unwrap().1
}
