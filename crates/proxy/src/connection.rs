//! What becomes of a connection from its first byte to its last?
//!
//! ```text
//!   accept ─> (TLS) ─> what does it speak? ─┬─> HTTP/1 ─> exchange, exchange, ... ─> upgrade ─> tunnel
//!                                           ├─> HTTP/2 ─> an exchange a stream
//!                                           ├─> TLS by server name ─> tunnel
//!                                           └─> anything ─> tunnel to the TCP target
//! ```
//!
//! Nothing is guessed early: a partial request line, preface or ClientHello waits until the header timeout. On a
//! listener with a TCP target, [`SILENCE`] without a byte makes the proxy call the target; should the server speak
//! first, the stream is TCP; should the client speak first after all, its bytes are looked at as ever. A server that
//! greets as HTTP/2 is no reason to pass bytes unseen: its client is waited for.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use mesh_model::errors::Reason;
use mesh_model::resources::{ListenerProtocol, WeightedCluster};

use crate::access;
use crate::balance::{EndpointState, Outcome as Verdict};
use crate::clock::after;
use crate::detect::{Detected, detect, greets_as_http2};
use crate::exchange::Peer;
use crate::http1;
use crate::io::Net;
use crate::io::wire::{Filled, ReadSize, Wire};
use crate::io::{Stream, TlsFacts};
use crate::plan::{ListenerPermit, ListenerPlan};
use crate::relay::Relay;
use crate::telemetry::{Handshake, Label, Protocol};
use crate::thread::{Listener, Thread};
use crate::timer::{Deadline, until};
use crate::tls::sniff::{Hello, client_hello};
use crate::upstream::pool::Pooled;
use crate::upstream::stream::{Dialled, dial};

/// How long a client may be silent before the TCP target is called: long enough that a client that speaks first is
/// seldom misjudged, short enough that nobody notices.
pub const SILENCE: std::time::Duration = std::time::Duration::from_millis(10);
/// How long a silent client may still speak when the TCP target can't be reached: should it speak HTTP, it learns why
/// from a response.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(1);
/// How long a connection that is quiet is taken for busy: a drain does not cut it, since a request may be on its way.
pub const WARM: std::time::Duration = std::time::Duration::from_secs(1);

/// A client's connection, with all that its engines need.
pub struct Connection<N: Net> {
    /// The data thread.
    pub thread: Rc<Thread<N>>,
    /// The listener it came through.
    pub listener: Rc<Listener>,
    /// The client.
    pub peer: Peer,
    /// Wakes this connection's task in time.
    pub deadline: Deadline,
    /// The stream.
    pub wire: Wire<N::Stream>,
    /// When it was accepted.
    pub opened: u64,
    /// Counts it as open until it is dropped.
    pub permit: ListenerPermit,
    /// HTTP/1 requests so far.
    pub served: u32,
}

/// What the first bytes lead to.
pub enum Next<N: Net> {
    /// HTTP/1 requests.
    Http1(Connection<N>),
    /// An HTTP/2 connection.
    Http2(Connection<N>),
    /// The connection's end.
    Over(Option<Reason>),
}

/// How a stream of bytes went: `Err` when nothing came of it, so that it is not counted nor written down yet.
type Streamed = Result<Option<Reason>, Reason>;

/// Finds out what the client speaks; streams of bytes are passed on here, to their end.
pub async fn begin<N: Net>(mut connection: Connection<N>) -> Next<N> {
    let plan = connection.listener.plan();
    if let Some(tls) = &plan.tls {
        if plan.sni.is_some() {
            let streamed = match passes_through(&mut connection, &plan).await {
                Ok(Some(targets)) => Some(stream(&mut connection, &plan, &targets, Protocol::Tls).await),
                Ok(None) => None,
                Err(reason) => Some(Err(reason)),
            };
            if let Some(streamed) = streamed {
                return over(&connection, Protocol::Tls, streamed);
            }
        }
        connection = match handshake(connection, &plan, tls.config()).await {
            Ok(connection) => connection,
            Err(reason) => return Next::Over(Some(reason)),
        };
        match connection.wire.io.alpn() {
            Some(b"h2") => return Next::Http2(connection),
            Some(b"http/1.1") => return Next::Http1(connection),
            _ => {}
        }
    }
    match plan.resource.protocol {
        ListenerProtocol::Http1 => Next::Http1(connection),
        ListenerProtocol::Http2 => Next::Http2(connection),
        ListenerProtocol::Tcp => {
            let streamed = stream(&mut connection, &plan, &plan.resource.tcp, Protocol::Tcp).await;
            over(&connection, Protocol::Tcp, streamed)
        }
        ListenerProtocol::TlsPassthrough => {
            let streamed = pass_through(&mut connection, &plan).await;
            over(&connection, Protocol::Tls, streamed)
        }
        ListenerProtocol::Auto if plan.routes.is_none() && plan.sni.is_none() => {
            let streamed = stream(&mut connection, &plan, &plan.resource.tcp, Protocol::Tcp).await;
            over(&connection, Protocol::Tcp, streamed)
        }
        ListenerProtocol::Auto => by_first_bytes(connection, &plan).await,
    }
}

/// The end of a connection that never became HTTP.
fn over<N: Net>(connection: &Connection<N>, protocol: Protocol, streamed: Streamed) -> Next<N> {
    Next::Over(streamed.unwrap_or_else(|reason| {
        connection.refused(reason, protocol, None);
        Some(reason)
    }))
}

async fn by_first_bytes<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan) -> Next<N> {
    let tcp = &plan.resource.tcp;
    let stats = connection.thread.telemetry.listener(&plan.label);
    let mut server = None;
    if !tcp.is_empty() && connection.wire.unread().is_empty() {
        match first_byte(&mut connection, SILENCE).await {
            FirstByte::Came => {}
            FirstByte::Ended => return Next::Over(None),
            FirstByte::Silence => match server_first(&mut connection, plan).await {
                ServerFirst::ClientSpoke(dialled) => server = dialled,
                ServerFirst::Over(streamed) => return over(&connection, Protocol::Tcp, streamed),
            },
        }
    }
    let most = plan.http1.head_bytes;
    let at = after(connection.thread.now(), plan.timeouts.header).min(connection.listener.drain_deadline());
    loop {
        let detected = detect(connection.wire.unread(), most);
        match detected {
            Detected::Undecided => {}
            Detected::Http1 if plan.routes.is_some() => {
                stats.detected(Protocol::Http1);
                return Next::Http1(connection);
            }
            Detected::Http2 if plan.routes.is_some() => {
                stats.detected(Protocol::Http2);
                return Next::Http2(connection);
            }
            Detected::Tls if plan.sni.is_some() && plan.tls.is_none() => {
                stats.detected(Protocol::Tls);
                let streamed = pass_through(&mut connection, plan).await;
                return over(&connection, Protocol::Tls, streamed);
            }
            _ if !tcp.is_empty() => {
                stats.detected(Protocol::Tcp);
                let streamed = stream_to(&mut connection, plan, server).await;
                return over(&connection, Protocol::Tcp, streamed);
            }
            Detected::Tls => return over(&connection, Protocol::Tls, Err(Reason::TlsNotConfigured)),
            // The HTTP/1 engine says what is wrong with it.
            _ if plan.routes.is_some() => return Next::Http1(connection),
            _ => return over(&connection, Protocol::Tcp, Err(Reason::NotHttp)),
        }
        match fill(&mut connection, at, most).await {
            Ok(Filled::Bytes(_)) => {}
            Ok(Filled::End) if connection.wire.unread().is_empty() => return Next::Over(None),
            Ok(_) if !tcp.is_empty() => {
                let streamed = stream_to(&mut connection, plan, server).await;
                return over(&connection, Protocol::Tcp, streamed);
            }
            Ok(_) if plan.routes.is_some() => return Next::Http1(connection),
            Ok(_) => return over(&connection, Protocol::Tcp, Err(Reason::NotHttp)),
            // Waiting is no way around HTTP's rules: what may still become a request never becomes a TCP stream.
            Err(Reason::HeaderTimeout) if plan.routes.is_some() && is_text(connection.wire.unread()) => {
                return Next::Over(Some(http1::connection::too_slow(connection, plan).await));
            }
            Err(reason) => return over(&connection, Protocol::Tcp, Err(reason)),
        }
    }
}

/// Whether an answer in HTTP/1 would be understood: something was said, and it is no TLS.
fn is_text(unread: &[u8]) -> bool {
    unread.first().is_some_and(|first| *first != 0x16)
}

/// Reads more, by a deadline, into a buffer that may grow to `most`.
async fn fill<N: Net>(connection: &mut Connection<N>, at: u64, most: usize) -> Result<Filled, Reason> {
    let Connection {
        wire,
        deadline,
        listener,
        opened,
        ..
    } = connection;
    let warm = after(*opened, Some(WARM));
    let silent = wire.unread().is_empty();
    let leaves = || silent && listener.is_closing();
    deadline.set(at);
    let filled = until(
        deadline,
        poll_fn(|cx| {
            if leaves() {
                deadline.set(at.min(warm));
            }
            wire.poll_fill(cx, ReadSize::Small)
        }),
    )
    .await;
    match filled {
        Some(Ok(Filled::Full)) if wire.grow(most) => Ok(Filled::Bytes(0)),
        Some(Ok(filled)) => Ok(filled),
        Some(Err(_)) => Err(Reason::ClientClosed),
        None if leaves() => Err(Reason::Draining),
        None => Err(Reason::HeaderTimeout),
    }
}

enum FirstByte {
    Came,
    Ended,
    Silence,
}

async fn first_byte<N: Net>(connection: &mut Connection<N>, span: std::time::Duration) -> FirstByte {
    let Connection {
        thread,
        wire,
        deadline,
        ..
    } = connection;
    deadline.set(after(thread.now(), Some(span)));
    match until(deadline, poll_fn(|cx| wire.poll_fill(cx, ReadSize::Small))).await {
        Some(Ok(Filled::Bytes(_) | Filled::Full)) => FirstByte::Came,
        Some(Ok(Filled::End) | Err(_)) => FirstByte::Ended,
        None => FirstByte::Silence,
    }
}

enum ServerFirst<S> {
    /// The client spoke after all; the server that waits, if one could be reached.
    ClientSpoke(Option<Dialled<S>>),
    Over(Streamed),
}

/// Calls the TCP target and sees who speaks first.
async fn server_first<N: Net>(connection: &mut Connection<N>, plan: &ListenerPlan) -> ServerFirst<N::Stream> {
    let mut server = match stream_server(connection, &plan.resource.tcp).await {
        Ok(server) => server,
        Err(reason) => {
            return match first_byte(connection, LAST_WORD).await {
                FirstByte::Came => ServerFirst::ClientSpoke(None),
                FirstByte::Ended => ServerFirst::Over(Ok(None)),
                FirstByte::Silence => {
                    connection.wire.io.reset_on_drop();
                    ServerFirst::Over(Err(reason))
                }
            };
        }
    };
    let Connection {
        thread,
        listener,
        wire,
        deadline,
        opened,
        ..
    } = &mut *connection;
    let is_http = plan.routes.is_some();
    let idle = after(thread.now(), plan.timeouts.tcp_idle);
    let warm = after(*opened, Some(WARM));
    deadline.set(idle);
    let client_spoke = until(
        deadline,
        poll_fn(|cx| {
            if wire.poll_fill(cx, ReadSize::Small).is_ready() {
                return Poll::Ready(true);
            }
            while let Poll::Ready(filled) = server.pooled.wire.poll_fill(cx, ReadSize::Small) {
                let more = matches!(filled, Ok(Filled::Bytes(_)));
                if !more || !is_http || greets_as_http2(server.pooled.wire.unread()).is_some() {
                    return Poll::Ready(false);
                }
            }
            if listener.is_closing() {
                deadline.set(idle.min(warm));
            }
            Poll::Pending
        }),
    )
    .await;
    match client_spoke {
        Some(true) => ServerFirst::ClientSpoke(Some(server)),
        Some(false) if is_http && greets_as_http2(server.pooled.wire.unread()) == Some(true) => {
            ServerFirst::ClientSpoke(None)
        }
        Some(false) => {
            thread.telemetry.listener(&plan.label).detected(Protocol::Tcp);
            ServerFirst::Over(Ok(relay(connection, plan, server, Protocol::Tcp).await))
        }
        None if listener.is_closing() => ServerFirst::Over(Err(Reason::Draining)),
        None => ServerFirst::Over(Err(Reason::IdleTimeout)),
    }
}

/// The targets of a TLS stream that is to be passed through; `None` when it is to be terminated here.
async fn passes_through<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
) -> Result<Option<Vec<WeightedCluster>>, Reason> {
    let Some(sni) = &plan.sni else { return Ok(None) };
    let at =
        after(connection.thread.now(), plan.timeouts.handshake).min(connection.listener.drain_deadline());
    loop {
        match client_hello(connection.wire.unread()) {
            Hello::ServerName(name) => {
                let targets = sni.find(name.as_deref()).map(<[_]>::to_vec);
                if connection.listener.access_queue().is_some() {
                    let server_name = name.as_deref().map(Into::into);
                    connection.peer.tls = Some(Box::new(TlsFacts {
                        server_name,
                        ..TlsFacts::default()
                    }));
                }
                return Ok(targets);
            }
            Hello::Invalid => return Err(Reason::TlsHandshakeFailed),
            Hello::Incomplete => {}
        }
        match fill(connection, at, plan.http1.head_bytes).await {
            Ok(Filled::Bytes(_)) => {}
            Ok(_) => return Err(Reason::TlsHandshakeFailed),
            Err(Reason::HeaderTimeout) => return Err(Reason::TlsHandshakeTimeout),
            Err(reason) => return Err(reason),
        }
    }
}

async fn pass_through<N: Net>(connection: &mut Connection<N>, plan: &ListenerPlan) -> Streamed {
    match passes_through(connection, plan).await? {
        Some(targets) => stream(connection, plan, &targets, Protocol::Tls).await,
        None if !plan.resource.tcp.is_empty() => {
            stream(connection, plan, &plan.resource.tcp, Protocol::Tls).await
        }
        None => Err(Reason::SniUnknown),
    }
}

async fn handshake<N: Net>(
    connection: Connection<N>,
    plan: &ListenerPlan,
    config: Arc<rustls::ServerConfig>,
) -> Result<Connection<N>, Reason> {
    let Connection {
        thread,
        listener,
        mut peer,
        deadline,
        mut wire,
        opened,
        permit,
        served,
    } = connection;
    let stats = thread.telemetry.listener(&plan.label);
    let started = thread.now();
    deadline.set(after(started, plan.timeouts.handshake).min(listener.drain_deadline()));
    let prefix = wire.take_unread();
    let accepted = until(&deadline, thread.net.accept_tls(wire.into_io(), prefix, config)).await;
    stats.handshake(match &accepted {
        Some(Ok(_)) => Handshake::Done(thread.now() - started),
        _ => Handshake::Failed,
    });
    let failed = |reason| {
        let from = access::From {
            thread: &thread,
            listener: &listener,
            plan,
            peer: &peer,
            protocol: Protocol::Tls,
        };
        access::refused(&from, reason, None, thread.now() - opened);
        Err(reason)
    };
    let stream = match accepted {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => {
            let no_certificate = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|e| {
                    matches!(
                        e,
                        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)
                    )
                });
            return failed(if no_certificate {
                Reason::ClientCertificate
            } else {
                Reason::TlsHandshakeFailed
            });
        }
        None => return failed(Reason::TlsHandshakeTimeout),
    };
    peer.scheme = "https";
    peer.tls = listener
        .access_queue()
        .and_then(|_| stream.tls_facts())
        .map(Box::new);
    let wire = Wire::new(stream, Rc::clone(&thread.buffers));
    Ok(Connection {
        thread,
        listener,
        peer,
        deadline,
        wire,
        opened,
        permit,
        served,
    })
}

/// Passes a stream to one of these clusters.
async fn stream<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    to: &[WeightedCluster],
    protocol: Protocol,
) -> Streamed {
    match stream_server(connection, to).await {
        Ok(server) => Ok(relay(connection, plan, server, protocol).await),
        Err(reason) => {
            connection.wire.io.reset_on_drop();
            Err(reason)
        }
    }
}

/// Passes a stream to the TCP target, or to the server that was called already.
async fn stream_to<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: Option<Dialled<N::Stream>>,
) -> Streamed {
    match server {
        Some(server) => Ok(relay(connection, plan, server, Protocol::Tcp).await),
        None => stream(connection, plan, &plan.resource.tcp, Protocol::Tcp).await,
    }
}

async fn stream_server<N: Net>(
    connection: &Connection<N>,
    to: &[WeightedCluster],
) -> Result<Dialled<N::Stream>, Reason> {
    let not_after = connection.listener.drain_deadline();
    dial(&connection.thread, &connection.deadline, not_after, to).await
}

async fn relay<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: Dialled<N::Stream>,
    protocol: Protocol,
) -> Option<Reason> {
    let Dialled {
        mut pooled,
        in_flight,
        cluster,
    } = server;
    let endpoint = Some(&**in_flight.endpoint());
    let reason = pass(connection, plan, &mut pooled, &cluster, endpoint, protocol).await;
    let now = connection.thread.now();
    in_flight.finish(
        now,
        if reason == Some(Reason::UpstreamIncomplete) {
            Verdict::Failure
        } else {
            Verdict::Cancelled
        },
    );
    reason
}

/// Passes bytes between a client and a server to their end, see [`Relay`].
pub async fn pass<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: &mut Pooled<N::Stream>,
    cluster: &Label,
    endpoint: Option<&EndpointState>,
    protocol: Protocol,
) -> Option<Reason> {
    let Connection {
        thread,
        listener,
        peer,
        deadline,
        wire,
        ..
    } = connection;
    let relay = Relay {
        from: access::From {
            thread,
            listener,
            plan,
            peer,
            protocol,
        },
        deadline,
        cluster,
        endpoint,
    };
    relay.pass(wire, &mut server.wire).await
}

impl<N: Net> Connection<N> {
    /// Where it comes from, for the access log.
    fn from<'a>(&'a self, plan: &'a ListenerPlan, protocol: Protocol) -> access::From<'a, N> {
        access::From {
            thread: &self.thread,
            listener: &self.listener,
            plan,
            peer: &self.peer,
            protocol,
        }
    }

    /// Writes down that nothing came of it, or of a request's head, and the status it was answered with.
    pub fn refused(&self, reason: Reason, protocol: Protocol, status: Option<u16>) {
        let plan = self.listener.plan();
        let duration = self.thread.now() - self.opened;
        access::refused(&self.from(&plan, protocol), reason, status, duration);
    }
}
