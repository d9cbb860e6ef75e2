//! How does a control plane hear its sidecars?
//!
//! ```text
//!   accept ── TLS ──┬── no certificate: a stranger, for a short while, who may ask for one
//!                   └── a certificate: a caller, whose streams end when it does, or when it is dismissed
//!   accept ── no TLS, on the loopback ── a subscriber, who is told resources and nothing else
//!        HTTP/2 ── by path ──> Service
//! ```
//!
//! Invariants:
//! - Strangers and those who shake hands have a bound of their own ([`Limits::strangers`]): they keep no sidecar out. Nor
//!   does one identity keep out the others ([`Limits::of_one`]).
//! - The head of an answer is sent at once, before its first message: callers of gRPC wait for it.
//! - A caller is asked for at each call, and for as long as a stream lasts ([`Service::dismissed`]).

mod call;
mod shares;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use mesh_identity::Peer;
use mesh_identity::tls::H2;
use mesh_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use self::shares::Shares;
use crate::message::{ControlMessage, SidecarMessage, SignRequest, SignResponse};
use crate::status::Status;
use crate::stream::Duplex;
use crate::{keep_alive, window};

/// How long TLS and the beginning of HTTP/2 may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long somebody without a certificate may stay: the time of a decision about one, twice.
const STRANGER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a decision about a certificate may take. The caller waits a little longer.
const SIGN_DEADLINE: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, somebody who was refused is listened to, so that the reason arrives.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;
/// How long connections may take to end when the server closes.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How long the operating system is left alone when it has no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams of one connection at a time. A sidecar has three.
const STREAMS: u32 = 16;

/// How many are heard at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of callers with a certificate. Twice the sidecars that one control plane serves: while one reconnects,
    /// the connection before may not have been missed yet.
    pub connections: usize,
    /// Those of one identity: half of them, since all copies of a service are one.
    pub of_one: usize,
    /// Connections without one, and those that have not shaken hands.
    pub strangers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            of_one: 5_000,
            strangers: 512,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// From where.
    pub address: SocketAddr,
    /// By its certificate. There always is one but for [`Service::sign`], and on a listener for subscribers alone.
    pub peer: Option<Peer>,
    /// Whom it listens to.
    pub(crate) hears: Hears,
}

/// Whom a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// Sidecars, by TLS: whoever has a certificate, and strangers who ask for one.
    Sidecars,
    /// Subscribers of xDS, without TLS and whoever they are, who are told resources and nothing else. For the loopback:
    /// clients of gRPC and other proxies know no certificates of ours.
    Subscribers,
}

/// The stream of incremental xDS.
pub type Delta = Duplex<DeltaDiscoveryResponse, DeltaDiscoveryRequest>;
/// The stream of xDS by the state of the world.
pub type StateOfTheWorld = Duplex<DiscoveryResponse, DiscoveryRequest>;
/// The stream of reports.
pub type Reports = Duplex<ControlMessage, SidecarMessage>;

/// What is done for callers. A stream ends with what its method returns, and any of them may be dropped at any await.
pub trait Service: Send + Sync + 'static {
    /// Gives a certificate, or says why not.
    fn sign(
        &self,
        caller: &Caller,
        request: SignRequest,
    ) -> impl Future<Output = Result<SignResponse, Status>> + Send;

    /// Serves incremental xDS.
    fn delta(&self, caller: &Caller, stream: &mut Delta) -> impl Future<Output = Result<(), Status>> + Send;

    /// Serves xDS by the state of the world.
    fn state_of_the_world(
        &self,
        caller: &Caller,
        stream: &mut StateOfTheWorld,
    ) -> impl Future<Output = Result<(), Status>> + Send;

    /// Hears a sidecar.
    fn report(
        &self,
        caller: &Caller,
        stream: &mut Reports,
    ) -> impl Future<Output = Result<(), Status>> + Send;

    /// When this caller may call no more: why. Its streams end with that.
    fn dismissed(&self, caller: &Caller) -> impl Future<Output = Status> + Send;
}

/// A server.
pub struct Server<S> {
    service: Arc<S>,
    acceptor: TlsAcceptor,
    connections: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    shares: Arc<Shares>,
    of_one: usize,
}

impl<S: Service> Server<S> {
    /// With the control plane's configuration of TLS, in which clients may show no certificate.
    pub fn new(service: Arc<S>, tls: Arc<ServerConfig>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            service,
            acceptor: TlsAcceptor::from(tls),
            connections: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            shares: Arc::default(),
            of_one: limits.of_one,
        })
    }

    /// Hears whoever connects, until `closing` is true or its sender is gone. Then connections have some seconds to end.
    /// Several listeners may be served.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, hears: Hears, closing: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut closed = closing.clone();
        loop {
            tokio::select! {
                biased;
                () = closes(&mut closed) => break,
                accepted = self.accept(&listener) => match accepted {
                    Ok((socket, address, stranger)) => {
                        let (server, closing) = (Arc::clone(&self), closing.clone());
                        connections.spawn(async move {
                            match hears {
                                Hears::Sidecars => server.sidecar(socket, address, stranger, closing).await,
                                Hears::Subscribers => server.subscriber(socket, address, stranger, closing).await,
                            }
                        });
                    }
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        // What has not ended by then is dropped with the set.
        let _ = timeout(CLOSE_DEADLINE, ended).await;
    }

    /// The next connection, when there is room for a stranger.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let room = Arc::clone(&self.strangers).acquire_owned().await;
        let room = room.map_err(io::Error::other)?;
        let (socket, address) = listener.accept().await?;
        Ok((socket, address, room))
    }

    /// A connection without TLS.
    async fn subscriber(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        stranger: OwnedSemaphorePermit,
        closing: watch::Receiver<bool>,
    ) {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let Ok(Ok(connection)) = timeout_at(deadline, builder().handshake(socket)).await else {
            return;
        };
        drop(stranger);
        let Ok(_room) = Arc::clone(&self.connections).try_acquire_owned() else {
            return;
        };
        let caller = Caller {
            address,
            peer: None,
            hears: Hears::Subscribers,
        };
        self.hear(connection, caller, None, closing).await;
    }

    /// A connection with TLS.
    async fn sidecar(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        stranger: OwnedSemaphorePermit,
        closing: watch::Receiver<bool>,
    ) {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let accepting = self.acceptor.accept(socket).into_fallible();
        let stream = match timeout_at(deadline, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((_, socket))) => return linger(socket).await,
            Err(_) => return,
        };
        let tls = stream.get_ref().1;
        if tls.alpn_protocol() != Some(H2) {
            return;
        }
        // One that was shown was judged by TLS.
        let shown = tls.peer_certificates().and_then(<[_]>::first);
        let peer = match shown.map(Peer::of).transpose() {
            Ok(peer) => peer,
            Err(_) => return,
        };
        let (_room, leaves) = match &peer {
            None => ((stranger, None), Some(Instant::now() + STRANGER_DEADLINE)),
            Some(peer) => {
                let Some(share) = self.shares.take(&peer.id, self.of_one) else {
                    return;
                };
                let Ok(room) = Arc::clone(&self.connections).try_acquire_owned() else {
                    return;
                };
                // An argument lives as long as the call: kept, it would count every sidecar as a stranger.
                drop(stranger);
                ((room, Some(share)), None)
            }
        };
        let Ok(Ok(connection)) = timeout_at(deadline, builder().handshake(stream)).await else {
            return;
        };
        let caller = Caller {
            address,
            peer,
            hears: Hears::Sidecars,
        };
        self.hear(connection, caller, leaves, closing).await;
    }

    /// Takes the calls of one connection. They end with it.
    async fn hear<Io: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut connection: h2::server::Connection<Io, Bytes>,
        caller: Caller,
        leaves: Option<Instant>,
        closing: watch::Receiver<bool>,
    ) {
        let unanswered = keep_alive::unanswered(connection.ping_pong());
        tokio::pin!(unanswered);
        let mut calls = JoinSet::new();
        let mut closed = closing.clone();
        let mut leaving = false;
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        calls.spawn(self.call(caller.clone(), request, respond, closing.clone()));
                    }
                    Some(Err(_)) | None => return,
                },
                () = closes(&mut closed), if !leaving => {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                Some(_) = calls.join_next() => {}
                () = sleep_until(leaves.unwrap_or_else(Instant::now)), if leaves.is_some() => return,
                () = &mut unanswered => return,
            }
        }
    }

    fn call(
        &self,
        caller: Caller,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        closing: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<S> {
        call::answer(Arc::clone(&self.service), caller, request, respond, closing)
    }
}

/// Lets a caller who was refused read why: a socket that is closed with bytes unread takes back what it said last.
async fn linger(mut socket: TcpStream) {
    let reading = async {
        socket.shutdown().await?;
        let (mut unread, mut left) = ([0; 1024], LINGER_BYTES);
        while left > 0 {
            match socket.read(&mut unread).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, io::Error>(())
    };
    let _ = timeout(LINGER, reading).await;
}

fn builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(window::STREAM)
        .initial_connection_window_size(window::CONNECTION)
        .max_header_list_size(window::HEADERS)
        .max_send_buffer_size(window::SENDING)
        .max_concurrent_streams(STREAMS);
    builder
}

/// When the server closes.
async fn closes(closing: &mut watch::Receiver<bool>) {
    // A server that nobody can close any more closes too.
    let _ = closing.wait_for(|closing| *closing).await;
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
