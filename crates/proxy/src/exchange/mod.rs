//! What happens to a request: route, endpoint, connection, pump, and again elsewhere when that is safe.
//!
//! ```text
//!   request ─> route ─┬─> answer from here (redirect, respond, refuse)
//!                     └─> cluster ─> endpoint ─> pool or connect ─> pump ─> done
//!                                       ^___________ failed, nothing sent ___|
//! ```
//!
//! A request keeps the listener's plan and the cluster's plan that it began with. Nothing waits between the moments when the
//! one and the other are taken; where it would (names that are found out first), both are taken behind that.

pub mod attempt;
pub mod connect;
mod decide;
pub mod fields;
pub mod find_out;
pub mod head;
mod kept;
pub mod local;
pub mod message;
mod outgoing;
mod over_http1;
mod over_http2;
pub mod pump;
pub mod request;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_identity::sni::Target;
use mesh_model::errors::Reason;
use mesh_model::policy::RuleId;
use mesh_model::spiffe::SpiffeId;

use crate::balance::{EndpointState, InFlight};
use crate::clock::{NEVER, Nanos};
use crate::io::{Net, TlsFacts};
use crate::plan::{ListenerPlan, Routes};
use crate::telemetry::{Label, OwnRoute, Protocol};
use crate::thread::{Drain, Listener, Thread};
use crate::timer::Deadline;
use crate::upstream::cluster::{Cluster, RequestPermit};
use crate::upstream::pool::Pooled;
pub use decide::Forward;
use decide::{Decided, Step, decide};
use message::Downstream;
use request::RequestKind;

/// What is said of a request for `https` that would be passed on without TLS.
const IN_CLEAR: &str = "https_in_clear";

/// Who is on the other end of a client's connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address; none behind a Unix socket.
    pub ip: Option<IpAddr>,
    /// Its port; 0 behind a Unix socket.
    pub port: u16,
    /// The address as text, `unknown` without one.
    pub text: Box<str>,
    /// `https` when TLS was terminated here.
    pub scheme: &'static str,
    /// What its TLS says, where somebody wants to know: kept for listeners with an access log or several certificates.
    pub tls: Option<Box<TlsFacts>>,
    /// What few clients have.
    pub facts: Option<Box<Facts>>,
}

/// What is known of a client that has something to do with a mesh.
#[derive(Debug, Default)]
pub struct Facts {
    /// What it has proved of itself: to policy, and to the workload that it calls.
    pub proved: Proved,
    /// What it called, where it is a workload that calls another.
    pub called: Option<Target>,
    /// Its identity as it stands in metrics, where it is a workload that calls another.
    pub label: Option<Label>,
    /// Where it connected to, where the kernel redirected it here.
    pub original: Option<SocketAddr>,
    /// The name that it has a tunnel to, or that its listener leads to: what it says is for that one.
    pub tunnel: Option<Box<str>>,
}

/// What a client has proved of itself.
#[derive(Debug, Default)]
pub enum Proved {
    /// It showed no certificate, or nobody asked.
    #[default]
    Nothing,
    /// It showed one that is believed and does not name exactly one SPIFFE id.
    Unreadable,
    /// Its identity.
    Identity(mesh_identity::Peer),
}

impl Peer {
    /// What is known of it, to be added to.
    pub fn facts_mut(&mut self) -> &mut Facts {
        self.facts.get_or_insert_default()
    }

    /// See [`Facts::proved`].
    pub fn proved(&self) -> &Proved {
        self.facts
            .as_ref()
            .map_or(&Proved::Nothing, |facts| &facts.proved)
    }

    /// See [`Facts::called`].
    #[inline]
    pub fn called(&self) -> Option<&Target> {
        self.facts.as_ref()?.called.as_ref()
    }

    /// See [`Facts::label`].
    #[inline]
    pub fn label(&self) -> Option<&Label> {
        self.facts.as_ref()?.label.as_ref()
    }

    /// See [`Facts::original`].
    #[inline]
    pub fn original(&self) -> Option<SocketAddr> {
        self.facts.as_ref()?.original
    }

    /// See [`Facts::tunnel`].
    #[inline]
    pub fn tunnel(&self) -> Option<&str> {
        self.facts.as_ref()?.tunnel.as_deref()
    }

    /// Its identity, where it is a workload of the mesh.
    pub fn workload(&self) -> Option<&SpiffeId> {
        match (self.called(), self.proved()) {
            (Some(_), Proved::Identity(identity)) => Some(&identity.id),
            _ => None,
        }
    }

    /// A peer that speaks plaintext.
    pub fn new(client: Option<SocketAddr>) -> Self {
        let ip = client.map(|client| client.ip());
        Self {
            ip,
            port: client.map_or(0, |client| client.port()),
            text: ip.map_or_else(|| "unknown".into(), |ip| ip.to_canonical().to_string().into()),
            scheme: "http",
            tls: None,
            facts: None,
        }
    }
}

/// What a connection lends to each of its exchanges.
pub struct Context<'a, N: Net> {
    /// The data thread.
    pub thread: &'a Rc<Thread<N>>,
    /// The listener that the client came through.
    pub listener: &'a Listener,
    /// Its plan, pinned.
    pub plan: &'a ListenerPlan,
    /// What [`Listener::judgement`] was when its head was there. Never newer than the plan: what changed since is looked at.
    pub judgement: u64,
    /// The client.
    pub peer: &'a Peer,
    /// Wakes this task in time.
    pub deadline: &'a Deadline,
    /// When the request's head was complete.
    pub started: Nanos,
    /// When the client's connection gets too old: an answer that begins later says that it is the last. [`NEVER`] where that
    /// is no answer's to say, or said anyway.
    pub old_at: Nanos,
    /// What the client speaks.
    pub protocol: Protocol,
}

impl<N: Net> Context<'_, N> {
    /// Asks the client, with an answer that begins now, to go elsewhere, where it has to.
    #[cold]
    fn ask_to_leave<D: Downstream>(&self, down: &mut D) {
        let is_old = self.old_at != NEVER && self.old_at <= self.thread.now();
        if is_old || self.listener.drain() != Drain::No {
            down.leave();
        }
    }
}

/// A route that took a request, and may outlive the plan.
pub struct Taken {
    routes: Arc<Routes>,
    id: u32,
}

impl Taken {
    /// The route's name.
    pub fn name(&self) -> Option<&str> {
        Some(self.routes.index.route(self.id)?.name())
    }
}

/// What became of a request.
pub struct Outcome<S> {
    /// Why the proxy answered or gave up; `None` when the server's response went through.
    pub reason: Option<Reason>,
    /// The status that was sent; 0 when none was.
    pub status: u16,
    /// The route that took it.
    pub route: Option<Taken>,
    /// The cluster that it went to.
    pub cluster: Option<Label>,
    /// What counts it.
    pub stats: OwnRoute,
    /// The endpoint that it went to last.
    pub endpoint: Option<Arc<EndpointState>>,
    /// Tries beyond the first.
    pub retries: u32,
    /// The policy's rule that let it in.
    pub rule: Option<RuleId>,
    /// The id that was made for it.
    pub request_id: Option<[u8; 36]>,
    /// The connection to the server, when both sides left HTTP. Boxed, since few do.
    pub tunnel: Option<Box<Left<S>>>,
    /// The name whose tunnel begins here: what comes is looked at like a new connection.
    pub inside: Option<Box<str>>,
    /// The code with which an HTTP/2 server took its stream back.
    pub reset: Option<mesh_http2::Code>,
}

/// A connection to a server that left HTTP. It counts as the request in flight that it began as until it is dropped.
pub struct Left<S> {
    /// The connection.
    pub pooled: Pooled<S>,
    /// Counts it at its endpoint.
    pub _in_flight: InFlight,
    /// Counts it in its cluster, where the server was asked.
    pub permit: Option<RequestPermit>,
}

impl<S> Outcome<S> {
    /// Nothing has become of it yet.
    pub fn new(stats: OwnRoute) -> Self {
        Self {
            reason: None,
            status: 0,
            route: None,
            cluster: None,
            stats,
            endpoint: None,
            retries: 0,
            rule: None,
            request_id: None,
            tunnel: None,
            inside: None,
            reset: None,
        }
    }
}

impl<S> Outcome<S> {
    /// The status of a gRPC call whose response has none: what the caller gets when the stream is aborted, or makes of
    /// the response by itself (gRPC's "HTTP to gRPC Status Code Mapping").
    pub fn missing_grpc_status(&self) -> u32 {
        match (self.reason, self.reset) {
            (Some(_), Some(code)) => crate::http2::fault::grpc_status(code),
            (Some(reason), None) => reason.grpc_status(),
            (None, _) => match self.status {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502 | 503 | 504 => 14,
                _ => 2,
            },
        }
    }
}

/// Deadlines of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// When the whole must be over.
    pub request: Nanos,
    /// How long nothing may move.
    pub stream_idle: Option<Duration>,
}

/// Serves one request. Every way out leaves a response queued in `down`, or none because the client is gone.
pub async fn exchange<N: Net, D: Downstream>(cx: &Context<'_, N>, down: &mut D) -> Outcome<N::Stream> {
    match &cx.plan.on_demand {
        Some(named)
            if cx.peer.called().is_none()
                && cx.plan.routes(cx.peer, down.request().authority()).is_none() =>
        {
            // Boxed: it is seldom asked, and would make every exchange's memory larger.
            Box::pin(find_out::exchange(cx, down, named)).await
        }
        _ => serve(cx, down, None).await,
    }
}

/// Serves a request whose name is known, or refuses it.
async fn serve<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    refused: Option<Reason>,
) -> Outcome<N::Stream> {
    let mut normal = Vec::new();
    let Decided { step, route, audited } = match refused {
        None => decide(cx, down, &mut normal),
        Some(reason) => Decided::refused(reason, None),
    };
    let telemetry = &cx.thread.telemetry;
    let none = telemetry.shared().none();
    let route_label = route.and_then(|(routes, route)| routes.labels.of(route));
    let is_grpc = down.request().is_grpc();
    if is_grpc {
        down.note_grpc_status();
    }
    let protocol = if is_grpc { Protocol::Grpc } else { cx.protocol };
    let cluster = match &step {
        Step::Forward(forward) => cx.thread.cluster_of(cx.listener, forward.cluster()),
        _ => None,
    };
    let cluster_label = cluster.as_ref().map(|cluster| cluster.plan().label.clone());
    let stats = telemetry.route(
        &cx.plan.label,
        route_label.unwrap_or(none.into()),
        cluster_label.as_ref().unwrap_or(none),
        protocol,
        cx.plan.called(cx.peer),
    );
    stats.started();
    if audited {
        stats.audited();
    }
    let mut outcome = Outcome::new(stats);
    outcome.route = route.map(|(routes, route)| Taken {
        routes: Arc::clone(routes),
        id: route.id(),
    });
    outcome.cluster = cluster_label;
    if let Step::Forward(forward) = &step {
        outcome.rule = forward.rule;
    }
    match step {
        Step::Refuse(reason, detail) => refuse(cx, down, &mut outcome, reason, detail),
        Step::Respond(route) => {
            if let Some(respond) = route.respond() {
                local::respond(down, respond, route.response_edits());
                outcome.status = respond.status;
            }
        }
        Step::Redirect(route, location) => {
            if let Some(redirect) = route.redirect() {
                local::redirect(down, redirect, &location, route.response_edits());
                outcome.status = redirect.status;
            }
        }
        Step::Forward(forward) => match cluster {
            Some(cluster) if is_in_clear(cx, down, &cluster) => {
                refuse(cx, down, &mut outcome, Reason::Misdirected, Some(IN_CLEAR));
            }
            Some(_) if forward.kind == RequestKind::Connect && connect::is_looked_into(cx) => {
                outcome.inside = connect::look_into(down);
                outcome.status = 200;
            }
            Some(cluster) if forward.kind == RequestKind::Connect => {
                connect::open(cx, down, &forward, &cluster, &mut outcome).await;
            }
            Some(cluster) => attempt::forward(cx, down, &forward, &cluster, &mut outcome).await,
            None => refuse(cx, down, &mut outcome, Reason::ClusterUnknown, None),
        },
    }
    outcome
}

/// Whether a client asks a forward proxy for `https`, which would be passed on without TLS (RFC 9110 section 7.4).
fn is_in_clear<N: Net, D: Downstream>(cx: &Context<'_, N>, down: &D, to: &Cluster<N::Stream>) -> bool {
    if !(cx.plan.resource.forward_proxy && down.request().is_absolute_https()) {
        return false;
    }
    let plan = to.plan();
    plan.tls.is_none() && plan.workload.is_none()
}

fn refuse<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    outcome: &mut Outcome<N::Stream>,
    reason: Reason,
    detail: Option<&str>,
) {
    let grpc = outcome
        .reset
        .map_or(reason.grpc_status(), crate::http2::fault::grpc_status);
    cx.ask_to_leave(down);
    local::refuse_as(down, reason, detail, grpc);
    outcome.reason = Some(reason);
    outcome.status = if down.request().is_grpc() {
        200
    } else {
        reason.status()
    };
}
