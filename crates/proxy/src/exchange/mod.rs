//! What happens to a request: route, endpoint, connection, pump, and again elsewhere when that is safe.
//!
//! ```text
//!   request ─> route ─┬─> answer from here (redirect, respond, refuse)
//!                     └─> cluster ─> endpoint ─> pool or connect ─> pump ─> done
//!                                       ^___________ failed, nothing sent ___|
//! ```
//!
//! A request keeps the listener's plan and the cluster's plan that it began with.

pub mod attempt;
pub mod head;
pub mod local;
pub mod message;
pub mod pump;
pub mod request;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_model::errors::Reason;
use mesh_model::filter::{redirect_location, rewrite_path};
use mesh_model::resources::Action;
use mesh_model::route::{CompiledRoute, pick_cluster};

use crate::balance::EndpointState;
use crate::clock::{NEVER, Nanos, after};
use crate::io::Net;
use crate::plan::ListenerPlan;
use crate::telemetry::{Label, Own, Protocol, RouteStats};
use crate::thread::{Listener, Thread};
use crate::timer::Deadline;
use crate::upstream::pool::Pooled;
use message::Downstream;
use request::{PathError, RequestKind, View};

/// Who is on the other end of a client's connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address; none behind a Unix socket.
    pub ip: Option<IpAddr>,
    /// The address as text, `unknown` without one.
    pub text: Box<str>,
    /// `https` when TLS was terminated here.
    pub scheme: &'static str,
}

/// What a connection lends to each of its exchanges.
pub struct Context<'a, N: Net> {
    /// The data thread.
    pub thread: &'a Rc<Thread<N>>,
    /// The listener that the client came through.
    pub listener: &'a Listener,
    /// Its plan, pinned.
    pub plan: &'a ListenerPlan,
    /// The client.
    pub peer: &'a Peer,
    /// Wakes this task in time.
    pub deadline: &'a Deadline,
    /// When the request's head was complete.
    pub started: Nanos,
    /// What the client speaks.
    pub protocol: Protocol,
}

/// What became of a request.
pub struct Outcome<S> {
    /// Why the proxy answered or gave up; `None` when the server's response went through.
    pub reason: Option<Reason>,
    /// The status that was sent; 0 when none was.
    pub status: u16,
    /// The route that took it.
    pub route: Option<Arc<CompiledRoute>>,
    /// The cluster that it went to.
    pub cluster: Option<Label>,
    /// What counts it.
    pub stats: Rc<Own<RouteStats>>,
    /// The endpoint that it went to last.
    pub endpoint: Option<Arc<EndpointState>>,
    /// Tries beyond the first.
    pub retries: u32,
    /// The connection to the server, when both sides left HTTP.
    pub tunnel: Option<Pooled<S>>,
}

impl<S> Outcome<S> {
    fn new(stats: Rc<Own<RouteStats>>) -> Self {
        Self {
            reason: None,
            status: 0,
            route: None,
            cluster: None,
            stats,
            endpoint: None,
            retries: 0,
            tunnel: None,
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
    let mut normal = Vec::new();
    let (step, route) = decide(cx, down, &mut normal);
    let telemetry = &cx.thread.telemetry;
    let none = telemetry.shared().none();
    let route_label = match (&route, &cx.plan.routes) {
        (Some(route), Some(routes)) => routes.labels.get(route.id as usize).unwrap_or(none),
        _ => none,
    };
    let protocol = if down.request().is_grpc() {
        Protocol::Grpc
    } else {
        cx.protocol
    };
    let cluster = match &step {
        Step::Forward(forward) => cx.thread.cluster(&forward.cluster),
        _ => None,
    };
    let cluster_label = cluster.as_ref().map(|cluster| cluster.plan().label.clone());
    let stats = telemetry.route(
        &cx.plan.label,
        route_label,
        cluster_label.as_ref().unwrap_or(none),
        protocol,
    );
    stats.started();
    let mut outcome = Outcome::new(stats);
    outcome.route = route;
    outcome.cluster = cluster_label;
    match step {
        Step::Refuse(reason, detail) => refuse(down, &mut outcome, reason, detail),
        Step::Respond(route) => {
            if let Some(respond) = route.respond() {
                local::respond(down, respond);
                outcome.status = respond.status;
            }
        }
        Step::Redirect(route, location) => {
            if let Some(redirect) = route.redirect() {
                local::redirect(down, redirect, &location);
                outcome.status = redirect.status;
            }
        }
        Step::Forward(forward) => match cluster {
            Some(cluster) => attempt::forward(cx, down, &forward, &cluster, &mut outcome).await,
            None => refuse(down, &mut outcome, Reason::ClusterUnknown, None),
        },
    }
    outcome
}

fn refuse<D: Downstream, S>(down: &mut D, outcome: &mut Outcome<S>, reason: Reason, detail: Option<&str>) {
    local::refuse(down, reason, detail);
    outcome.reason = Some(reason);
    outcome.status = if down.request().is_grpc() {
        200
    } else {
        reason.status()
    };
}

enum Step {
    Refuse(Reason, Option<&'static str>),
    Respond(Arc<CompiledRoute>),
    Redirect(Arc<CompiledRoute>, String),
    Forward(Forward),
}

/// A request that goes to a cluster.
pub struct Forward {
    /// The route.
    pub route: Arc<CompiledRoute>,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Path and query when they differ from what came.
    pub target: Option<Vec<u8>>,
    /// What consistent hashing hashes.
    pub hash: Option<u64>,
    /// Plain, upgrade or CONNECT.
    pub kind: RequestKind,
    /// Deadlines.
    pub deadlines: Deadlines,
}

/// Everything that can be said of a request before anything waits: what to do, and the route that says so.
fn decide<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &D,
    normal: &mut Vec<u8>,
) -> (Step, Option<Arc<CompiledRoute>>) {
    let request = down.request();
    let kind = request.kind();
    let view = match View::new(request, cx.plan.resource.escaped_slashes, normal) {
        Ok(view) => view,
        Err(PathError(detail)) => return (Step::Refuse(Reason::BadRequest, Some(detail)), None),
    };
    let Some(routes) = &cx.plan.routes else {
        return (Step::Refuse(Reason::NoRoute, None), None);
    };
    let forward_proxy = cx.plan.resource.forward_proxy;
    let as_proxy = matches!(kind, RequestKind::Connect) || (forward_proxy && request.is_absolute());
    if as_proxy && !(forward_proxy && routes.index.knows_host(view.host)) {
        return (Step::Refuse(Reason::ForwardDenied, None), None);
    }
    let Some(matched) = routes.index.find(&view) else {
        return (Step::Refuse(Reason::NoRoute, None), None);
    };
    let route = Arc::clone(matched.route);
    let step = match &route.route.action {
        Action::Respond(_) => Step::Respond(Arc::clone(&route)),
        Action::Redirect(to) => {
            let location = redirect_location(
                to,
                cx.peer.scheme,
                view.host,
                view.path,
                view.query,
                matched.prefix_len,
            );
            Step::Redirect(Arc::clone(&route), location)
        }
        Action::Forward { to } => {
            let Some(cluster) = pick_cluster(to, cx.thread.random()) else {
                return (Step::Refuse(Reason::ClusterUnknown, None), Some(route));
            };
            let hash = if route.route.hash_key.is_empty() {
                None
            } else {
                route.hash_key(&view, cx.peer.ip)
            };
            let mut target = Vec::new();
            let rewritten = rewrite_path(&route.route.filters, view.path, matched.prefix_len, &mut target);
            let target = (rewritten || view.changed).then(|| {
                if !rewritten {
                    target.extend_from_slice(view.path);
                }
                if view.has_query {
                    target.push(b'?');
                    target.extend_from_slice(view.query);
                }
                target
            });
            let timeouts = &route.route.timeouts;
            let span = timeouts.request.map_or(cx.plan.timeouts.request, |t| t.enabled());
            let grpc = request.grpc_timeout();
            let request_deadline =
                after(cx.started, span).min(grpc.map_or(NEVER, |span| after(cx.started, Some(span))));
            Step::Forward(Forward {
                cluster: Arc::from(cluster.cluster.as_str()),
                target,
                hash,
                kind,
                deadlines: Deadlines {
                    request: request_deadline,
                    stream_idle: timeouts
                        .stream_idle
                        .map_or(cx.plan.timeouts.stream_idle, |t| t.enabled()),
                },
                route: Arc::clone(&route),
            })
        }
    };
    (step, Some(route))
}
