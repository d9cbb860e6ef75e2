//! What becomes of a connection from its first byte to its last?
//!
//! ```text
//!   accept ─> (for whom?) ─> (TLS) ─> what does it speak? ─┬─> HTTP/1 ─> exchange, exchange, ... ─> upgrade ─> tunnel
//!                                                          ├─> HTTP/2 ─> an exchange a stream
//!                                                          ├─> TLS by server name ─> tunnel
//!                                                          └─> anything ─> tunnel to the TCP target
//! ```
//!
//! For whom it speaks is said by a proxy in front (`proxy_header`), where the listener knows of one: from then on the
//! client is the one that the header names. What the socket itself decides was decided before.
//!
//! What it speaks is told by the listener; where that leaves a choice by ALPN, or by its first bytes (`first_bytes`).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use mesh_identity::tls::Protocol as Spoken;
use mesh_identity::{Rejection, Side};
use mesh_model::errors::Reason;
use mesh_model::resources::{ListenerProtocol, WeightedCluster};

use crate::access;
use crate::clock::after;
use crate::exchange::{Peer, Proved};
use crate::first_bytes::{by_first_bytes, of_workload};
use crate::io::Net;
use crate::io::wire::{Filled, ReadSize, Wire};
use crate::io::{Stream, TlsFacts};
use crate::own::is_of_this_machine;
use crate::plan::{ListenerPermit, ListenerPlan};
use crate::proxy_header::{Client, Header, header};
use crate::streams::{stream, stream_to};
use crate::telemetry::{Finished, Handshake, Limit, Protocol};
use crate::thread::{Listener, Thread};
use crate::timer::{Deadline, until};
use crate::tls::sniff::{Hello, client_hello};
use crate::upstream::connect::rejection;
use crate::workload::caller;

/// How long a connection that is quiet is taken for busy: a drain does not cut it, since a request may be on its way.
pub const WARM: std::time::Duration = std::time::Duration::from_secs(1);

/// A client's connection, with all that its engines need.
pub struct Connection<N: Net> {
    /// The stream, which whoever reads and writes takes out and puts back. Closed before it counts as such no more.
    pub wire: Wire<N::Stream>,
    /// What is known of the client.
    pub client: ClientState<N>,
}

impl<N: Net> Connection<N> {
    /// Its parts, for whoever gives the stream away.
    pub fn split(self) -> (ClientState<N>, Wire<N::Stream>) {
        (self.client, self.wire)
    }
}

/// What is known of a client that is connected, as long as it is.
pub struct ClientState<N: Net> {
    /// The data thread.
    pub thread: Rc<Thread<N>>,
    /// The listener it came through.
    pub listener: Rc<Listener>,
    /// The client.
    pub peer: Peer,
    /// Wakes this connection's task in time.
    pub deadline: Deadline,
    /// When it was accepted.
    pub opened: u64,
    /// Counts it as open until it is dropped.
    pub permit: ListenerPermit,
    /// Since when its first request's head is waited for: all of it must be there within `timeouts.header`.
    pub head_since: u64,
    /// HTTP/1 requests so far.
    pub served: u32,
    /// When the client was judged last, see [`Listener::judgement`]. From before its handshake on: who is revoked while
    /// something is under way is found out by what comes next.
    pub judged: u64,
}

impl<N: Net> ClientState<N> {
    /// Whether the client is believed no more since it was judged last. The connection is to end then.
    #[inline]
    pub fn is_revoked(&mut self) -> bool {
        let judgement = self.listener.judgement();
        if self.judged == judgement {
            return false;
        }
        self.judged = judgement;
        self.listener.plan().has_revoked(&self.peer)
    }
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
pub(crate) type Streamed = Result<Option<Reason>, Reason>;

/// Finds out what the client speaks; streams of bytes are passed on here, to their end.
pub async fn begin<N: Net>(mut connection: Connection<N>) -> Next<N> {
    let mut plan = connection.client.listener.plan();
    if plan.resource.local_only && !connection.client.is_local() {
        connection.client.tell_of_stranger(&plan);
        return over(&connection, Protocol::Tcp, Err(Reason::NotLocal));
    }
    if plan.resource.proxy_protocol && plan.trusts(connection.client.peer.ip) {
        match sent_for(&mut connection, &plan).await {
            Ok(Some(Client::Sender)) => {}
            Ok(Some(Client::Ip(address))) => connection.client.peer = Peer::new(Some(address)),
            Ok(Some(Client::Unix)) => connection.client.peer = Peer::new(None),
            Ok(None) => return Next::Over(None),
            Err(reason) => return over(&connection, Protocol::Tcp, Err(reason)),
        }
        connection.client.listener.renew(&mut plan);
    }
    if plan.resource.transparent
        && let Some(original) = connection.wire.io.original_destination()
    {
        if plan.resource.local_only && connection.client.is_own(original) {
            connection.client.tell_of_itself(&plan);
            return over(&connection, Protocol::Tcp, Err(Reason::LoopDetected));
        }
        connection.client.peer.facts_mut().original = Some(original);
    }
    if let Some(name) = &plan.resource.leads_to {
        connection.client.peer.facts_mut().tunnel = Some(name.as_str().into());
    }
    if let Some(tls) = &plan.tls {
        if plan.sni.is_some() {
            let streamed = match passes_through(&mut connection, &plan).await {
                Ok(Some(targets)) => {
                    Some(stream(&mut connection, &plan, Some(&targets), Protocol::Tls).await)
                }
                Ok(None) => None,
                Err(reason) => Some(Err(reason)),
            };
            if let Some(streamed) = streamed {
                return over(&connection, Protocol::Tls, streamed);
            }
        }
        let (config, shown) = match plan.may_be_misdirected() {
            true => {
                let (config, shown) = tls.config_once();
                (config, Some(shown))
            }
            false => (tls.config(), None),
        };
        connection = match handshake(connection, &plan, config, Caller::Any).await {
            Ok(connection) => connection,
            Err(reason) => return Next::Over(Some(reason)),
        };
        if let (Some(facts), Some(shown)) = (&mut connection.client.peer.tls, shown) {
            facts.shown = shown.get().cloned();
        }
        connection.client.listener.renew(&mut plan);
        // The client chooses where there is a choice. Bytes that are not read are passed on, whatever they are called.
        if plan.resource.protocol == ListenerProtocol::Auto && plan.reads_http() {
            match connection.wire.io.alpn() {
                Some(b"h2") => return Next::Http2(connection),
                Some(b"http/1.1") => return Next::Http1(connection),
                _ => {}
            }
        }
    }
    match plan.resource.protocol {
        ListenerProtocol::Http1 => Next::Http1(connection),
        ListenerProtocol::Http2 => Next::Http2(connection),
        ListenerProtocol::Tcp => {
            let streamed = stream(&mut connection, &plan, None, Protocol::Tcp).await;
            over(&connection, Protocol::Tcp, streamed)
        }
        ListenerProtocol::TlsPassthrough => {
            let streamed = pass_through(&mut connection, &plan).await;
            over(&connection, Protocol::Tls, streamed)
        }
        ListenerProtocol::Auto if !plan.reads_http() && plan.sni.is_none() && plan.workload.is_none() => {
            let streamed = stream(&mut connection, &plan, None, Protocol::Tcp).await;
            over(&connection, Protocol::Tcp, streamed)
        }
        ListenerProtocol::Auto => by_first_bytes(connection, &plan).await,
    }
}

/// Finds out what a client speaks in a tunnel to a name; streams of bytes are passed on here, to their end.
pub async fn begin_inside<N: Net>(mut connection: Connection<N>, name: Box<str>) -> Next<N> {
    let plan = connection.client.listener.plan();
    connection.client.peer.facts_mut().tunnel = Some(name);
    connection.client.head_since = connection.client.thread.now();
    by_first_bytes(connection, &plan).await
}

/// The end of a connection that never became HTTP.
pub(crate) fn over<N: Net>(connection: &Connection<N>, protocol: Protocol, streamed: Streamed) -> Next<N> {
    Next::Over(streamed.unwrap_or_else(|reason| {
        if reason == Reason::Denied {
            connection.client.denied(protocol);
        }
        connection.client.refused(reason, protocol, None);
        Some(reason)
    }))
}

/// Takes the header of the PROXY protocol from the front, and gives whom it names. What came behind it stays to be read.
/// `None` when whoever connected left without a word, as probes do.
async fn sent_for<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
) -> Result<Option<Client>, Reason> {
    let at = after(connection.client.head_since, plan.timeouts.header)
        .min(connection.client.listener.drain_deadline());
    let most = plan.resource.limits.proxy_header_bytes as usize;
    loop {
        match header(connection.wire.unread(), most) {
            Header::Complete { length, client } => {
                connection.wire.consume(length);
                return Ok(Some(client));
            }
            Header::Incomplete => {}
            Header::Invalid => return Err(Reason::ProxyHeaderInvalid),
            Header::TooLarge => {
                let stats = connection.client.thread.telemetry.listener(&plan.label);
                stats.limit_hit(Limit::ProxyHeaderBytes);
                return Err(Reason::ProxyHeaderInvalid);
            }
        }
        let filled = fill(connection, at, most).await;
        let said_nothing = connection.wire.unread().is_empty();
        match filled {
            Ok(Filled::Bytes(_)) => {}
            Ok(Filled::End) | Err(Reason::ClientClosed) if said_nothing => return Ok(None),
            Ok(_) => return Err(Reason::ProxyHeaderInvalid),
            Err(Reason::HeaderTimeout) => return Err(Reason::ProxyHeaderTimeout),
            Err(reason) => return Err(reason),
        }
    }
}

/// Reads more, by a deadline, into a buffer that may grow to `most`.
pub(crate) async fn fill<N: Net>(
    connection: &mut Connection<N>,
    at: u64,
    most: usize,
) -> Result<Filled, Reason> {
    let Connection {
        client:
            ClientState {
                deadline,
                listener,
                opened,
                ..
            },
        wire,
    } = connection;
    let warm = after(*opened, Some(WARM));
    let silent = wire.unread().is_empty();
    let leaves = || listener.closes_idle(warm).filter(|_| silent);
    deadline.set(at);
    let filled = until(
        deadline,
        poll_fn(|cx| {
            if let Some(leaves) = leaves() {
                deadline.set(at.min(leaves));
            }
            wire.poll_fill(cx, ReadSize::Small)
        }),
    )
    .await;
    match filled {
        Some(Ok(Filled::Full)) if wire.grow(most) => Ok(Filled::Bytes(0)),
        Some(Ok(filled)) => Ok(filled),
        Some(Err(_)) => Err(Reason::ClientClosed),
        None if leaves().is_some() => Err(Reason::Draining),
        None => Err(deadline.cut().unwrap_or(Reason::HeaderTimeout)),
    }
}

/// The targets of a TLS stream that is to be passed through; `None` when it is to be terminated here.
async fn passes_through<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
) -> Result<Option<Vec<WeightedCluster>>, Reason> {
    if plan.sni.is_none() {
        return Ok(None);
    }
    let name = server_name(connection, plan).await?;
    // It may have taken a while.
    let plan = connection.client.listener.plan();
    let targets = plan.sni.as_ref().and_then(|sni| sni.find(name.as_deref()));
    let targets = targets.map(<[_]>::to_vec);
    if connection.client.listener.access_queue().is_some() {
        let server_name = name.as_deref().map(Into::into);
        connection.client.peer.tls = Some(Box::new(TlsFacts {
            server_name,
            ..TlsFacts::default()
        }));
    }
    Ok(targets)
}

/// The server name of a TLS stream, once its ClientHello is there. One that servers might read differently is none, and
/// refused where names say more than that there is TLS.
async fn server_name<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
) -> Result<Option<String>, Reason> {
    let at = after(connection.client.thread.now(), plan.timeouts.handshake)
        .min(connection.client.listener.drain_deadline());
    loop {
        match client_hello(connection.wire.unread()) {
            Hello::ServerName(name) => return Ok(name),
            Hello::OddName if !plan.tells_names_apart() => return Ok(None),
            Hello::OddName | Hello::Invalid => return Err(Reason::TlsHandshakeFailed),
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

pub(crate) async fn pass_through<N: Net>(connection: &mut Connection<N>, plan: &ListenerPlan) -> Streamed {
    match passes_through(connection, plan).await? {
        Some(targets) => stream(connection, plan, Some(&targets), Protocol::Tls).await,
        None => {
            let client = &connection.client;
            if client.listener.plan().tcp(&client.peer).is_empty() {
                return Err(Reason::SniUnknown);
            }
            stream(connection, plan, None, Protocol::Tls).await
        }
    }
}

/// TLS on a listener that workloads call: theirs is terminated, and who calls and what is known by it; all other is
/// passed through or refused.
pub(crate) async fn from_workload<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan) -> Next<N> {
    let target = match (server_name(&mut connection, plan).await, &plan.workload) {
        (Ok(name), Some(workload)) => name.and_then(|name| workload.target(&name)).zip(Some(workload)),
        (Ok(_), None) => None,
        (Err(reason), _) => return over(&connection, Protocol::Tls, Err(reason)),
    };
    let Some((target, workload)) = target else {
        let streamed = pass_through(&mut connection, plan).await;
        return over(&connection, Protocol::Tls, streamed);
    };
    connection = match handshake(connection, plan, Arc::clone(workload.config()), Caller::Workload).await {
        Ok(connection) => connection,
        Err(reason) => return Next::Over(Some(reason)),
    };
    let io = &connection.wire.io;
    let (identity, spoken) = match caller(io.peer_certificate(), io.alpn()) {
        Ok(caller) => caller,
        Err(rejection) => {
            let reason = rejected(
                &connection.client.thread,
                plan,
                &connection.client.peer,
                rejection,
            );
            return over(&connection, Protocol::Tls, Err(reason));
        }
    };
    let label = connection
        .client
        .thread
        .telemetry
        .shared()
        .label(identity.id.as_str());
    let facts = connection.client.peer.facts_mut();
    facts.label = Some(label);
    facts.proved = Proved::Identity(identity);
    facts.called = Some(target);
    match spoken {
        Spoken::Http1 => Next::Http1(connection),
        Spoken::Http2 => Next::Http2(connection),
        Spoken::Tcp
            if plan.speaks_http(&connection.client.peer) && plan.takes_streams(&connection.client.peer) =>
        {
            // It may lead here again, though never from within TLS.
            Box::pin(of_workload(connection, plan)).await
        }
        Spoken::Tcp => {
            let streamed = stream_to(&mut connection, plan, None).await;
            over(&connection, Protocol::Tcp, streamed)
        }
    }
}

/// Counts and says that a workload that calls is not believed.
fn rejected<N: Net>(thread: &Thread<N>, plan: &ListenerPlan, peer: &Peer, rejection: Rejection) -> Reason {
    thread.telemetry.listener(&plan.label).rejected(rejection);
    let fields: [(&str, &dyn std::fmt::Display); 3] = [
        ("listener", &plan.name),
        ("client", &peer.text),
        ("rejection", &rejection.as_str()),
    ];
    thread.say_rejected("a caller was not believed", &fields);
    rejection.reason(Side::Client)
}

/// Who is expected to call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Any,
    Workload,
}

async fn handshake<N: Net>(
    connection: Connection<N>,
    plan: &ListenerPlan,
    config: Arc<rustls::ServerConfig>,
    caller: Caller,
) -> Result<Connection<N>, Reason> {
    let (mut client, mut wire) = connection.split();
    let thread = &client.thread;
    let stats = thread.telemetry.listener(&plan.label);
    let started = thread.now();
    let at = after(started, plan.timeouts.handshake).min(client.listener.drain_deadline());
    client.deadline.set(at);
    let prefix = wire.take_unread();
    let accepting = thread.net.accept_tls(wire.into_io(), prefix, config);
    let accepted = until(&client.deadline, accepting).await;
    stats.handshake(match &accepted {
        Some(Ok(_)) => Handshake::Done(thread.now() - started),
        _ => Handshake::Failed,
    });
    let failed = |reason| {
        let duration = thread.now() - client.opened;
        access::refused(&client.from(plan, Protocol::Tls), reason, None, duration);
        Err(reason)
    };
    let stream = match accepted {
        Some(Ok(stream)) => stream,
        Some(Err(error)) if caller == Caller::Workload => {
            return failed(match rejection(&error) {
                Some(rejection) => rejected(thread, plan, &client.peer, rejection),
                None => Reason::TlsHandshakeFailed,
            });
        }
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
        None => return failed(client.deadline.cut().unwrap_or(Reason::TlsHandshakeTimeout)),
    };
    client.peer.scheme = "https";
    // A policy may come later that asks for it. Of workloads more is looked at, by the caller.
    if caller == Caller::Any
        && let Some(certificate) = stream.peer_certificate()
    {
        client.peer.facts_mut().proved = match mesh_identity::Peer::of(certificate) {
            Ok(identity) => Proved::Identity(identity),
            Err(_) => Proved::Unreadable,
        };
    }
    let is_asked = client.listener.access_queue().is_some() || plan.may_be_misdirected();
    client.peer.tls = is_asked.then(|| stream.tls_facts()).flatten().map(Box::new);
    let wire = Wire::new(stream, Rc::clone(&thread.buffers));
    client.head_since = thread.now();
    Ok(Connection { client, wire })
}

impl<N: Net> ClientState<N> {
    /// Where it comes from, for the access log.
    pub(crate) fn from<'a>(&'a self, plan: &'a ListenerPlan, protocol: Protocol) -> access::From<'a, N> {
        access::From {
            thread: &self.thread,
            listener: &self.listener,
            plan,
            peer: &self.peer,
            protocol,
        }
    }

    /// Counts a stream that policy denied as a request is that it denied: by who called which port.
    fn denied(&self, protocol: Protocol) {
        let plan = self.listener.plan();
        let none = self.thread.telemetry.shared().none();
        let stats = self
            .thread
            .telemetry
            .route(&plan.label, none, none, protocol, plan.called(&self.peer));
        stats.started();
        stats.finished(&Finished {
            status: None,
            grpc_status: None,
            reason: Some(Reason::Denied),
            duration: self.thread.now() - self.opened,
            retries: 0,
        });
    }

    /// Whether its client is a program of this machine. Asks the system for those that come by an address of it that is
    /// not the loopback's.
    fn is_local(&self) -> bool {
        self.peer.ip.is_none_or(is_of_this_machine)
    }

    /// Whether this proxy itself made it, to there.
    fn is_own(&self, original: SocketAddr) -> bool {
        let from = self.peer.ip.map(|ip| SocketAddr::new(ip, self.peer.port));
        from.is_some_and(|from| self.thread.net.has_made(from, original))
    }

    /// Says that this proxy's own connections are redirected to it.
    fn tell_of_itself(&self, plan: &ListenerPlan) {
        if self.listener.tells_of_stranger(self.thread.now()) {
            let user = rustix::process::geteuid().as_raw();
            let mend =
                format!("run it as the user that mesh redirect exempts, or: mesh redirect on --uid {user}");
            let fields: [(&str, &dyn std::fmt::Display); 3] = [
                ("listener", &plan.label.as_str()),
                ("user", &user),
                ("mend", &mend),
            ];
            let what = "the sidecar's own connections are redirected to it, and refused";
            self.thread.guard.log.error(what, &fields);
        }
    }

    /// Says that somebody of another machine called where only programs of this one may.
    fn tell_of_stranger(&self, plan: &ListenerPlan) {
        if self.listener.tells_of_stranger(self.thread.now()) {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("listener", &plan.label.as_str()), ("client", &self.peer.text)];
            let what = "a client of another machine was refused: only programs of this one may connect here";
            self.thread.guard.log.warn(what, &fields);
        }
    }

    /// Writes down that nothing came of it, or of a request's head, and the status it was answered with.
    pub fn refused(&self, reason: Reason, protocol: Protocol, status: Option<u16>) {
        let plan = self.listener.plan();
        let duration = self.thread.now() - self.opened;
        access::refused(&self.from(&plan, protocol), reason, status, duration);
    }
}
