//! A control plane that we did not write, and a stream to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use mesh_model::resources::{Cluster, Endpoints};
use mesh_xds::client::{Client, Event, Form};
use mesh_xds::grpc::{Deframer, frame};
use mesh_xds::kind::Kind;
use mesh_xds::translate::Translate;
use mesh_xds::wire::{Any, DeltaDiscoveryResponse};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);
const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The `go` command, if there is one.
pub(crate) fn go() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/local/go/bin")])
        .map(|folder| folder.join("go"))
        .find(|go| go.is_file())
}

/// go-control-plane's server as a process.
pub(crate) struct ControlPlane {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
    pub(crate) port: u16,
}

impl ControlPlane {
    pub(crate) fn start(go: &Path) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-control-plane");
        let built = Command::new(go)
            .args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go-control-plane"))
            .envs([
                ("GOFLAGS", "-mod=readonly"),
                ("GOTOOLCHAIN", "local"),
                ("CGO_ENABLED", "0"),
            ])
            .status();
        assert!(built.unwrap().success(), "go build");
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut control_plane = Self {
            process,
            input,
            output,
            port: 0,
        };
        let line = control_plane.says("port ");
        control_plane.port = line.trim_start_matches("port ").parse().unwrap();
        control_plane
    }

    /// Sets all resources there are.
    pub(crate) fn set(&mut self, version: &str, port: u16, clusters: &str) {
        writeln!(self.input, "set {version} {port} {clusters}").unwrap();
        self.says(&format!("done {version}"));
    }

    /// Waits for a line that starts so; those before it are passed over.
    pub(crate) fn says(&mut self, start: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(error) => panic!("the control plane did not say `{start}`: {error}"),
            }
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a sidecar would have put into its store.
#[derive(Default)]
pub(crate) struct Believed {
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) endpoints: BTreeMap<String, Endpoints>,
    /// How often anything was accepted, by kind.
    pub(crate) accepted: BTreeMap<Kind, usize>,
    /// Clusters that were refused.
    pub(crate) refused: Vec<String>,
    pub(crate) events: Vec<Event>,
}

impl Believed {
    fn accept(&mut self, kind: Kind, name: &str, any: &Any) -> Result<(), String> {
        let refused = |refusal: mesh_xds::translate::Refusal| refusal.to_string();
        match kind {
            Kind::Cluster => {
                let cluster = Cluster::from_any(any).map_err(|refusal| {
                    self.refused.push(name.to_owned());
                    refused(refusal)
                })?;
                self.clusters.insert(name.to_owned(), cluster);
            }
            Kind::Endpoints => {
                let endpoints = Endpoints::from_any(any).map_err(refused)?;
                self.endpoints.insert(name.to_owned(), endpoints);
            }
            Kind::Secret | Kind::Listener | Kind::RouteTable => return Err("nobody asked".into()),
        }
        *self.accepted.entry(kind).or_default() += 1;
        Ok(())
    }
}

/// An open stream. Dropping it ends the connection.
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    /// Servers of gRPC send the head with the first message, which may never come.
    head: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    deframer: Deframer,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Stream {
    pub(crate) async fn open(port: u16, client: &mut Client) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (requests, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::post(format!("http://127.0.0.1:{port}{METHOD}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut send) = requests
            .ready()
            .await
            .unwrap()
            .send_request(request, false)
            .unwrap();
        client.connected(Form::Delta, Instant::now());
        flush(client, &mut send);
        Self {
            send,
            head: Some(response),
            receive: None,
            deframer: Deframer::default(),
            connection,
        }
    }

    async fn read(&mut self) -> Bytes {
        if let Some(head) = self.head.take() {
            let response = head.await.unwrap();
            assert_eq!(response.status(), 200);
            self.receive = Some(response.into_body());
        }
        let receive = self.receive.as_mut().unwrap();
        let bytes = receive.data().await.expect("an open stream").unwrap();
        receive.flow_control().release_capacity(bytes.len()).unwrap();
        bytes
    }

    /// Sends what there is to say, and reads on until `done`.
    pub(crate) async fn until(
        &mut self,
        client: &mut Client,
        believed: &mut Believed,
        done: impl Fn(&Believed) -> bool,
    ) {
        loop {
            flush(client, &mut self.send);
            believed.events.extend(std::iter::from_fn(|| client.poll_event()));
            if done(believed) {
                return;
            }
            let bytes = timeout(DEADLINE, self.read()).await.expect("an answer in time");
            self.deframer.push(&bytes);
            while let Some(message) = self.deframer.next_message().unwrap() {
                let response = DeltaDiscoveryResponse::decode(&*message).unwrap();
                client.received(response, Instant::now(), |kind, name, any| {
                    believed.accept(kind, name, any)
                });
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn flush(client: &mut Client, send: &mut SendStream<Bytes>) {
    while let Some(request) = client.poll_request() {
        send.send_data(frame(&request).into(), false).unwrap();
    }
}
