//! What is written down of a request, a stream or a connection when it is over?
//!
//! Called at the one place where each of them ends. A listener without an access log costs a look at an empty cell; one
//! with a log formats its line into the thread's queue, without allocating or waiting, see
//! [`crate::telemetry::access_log`].
//!
//! Every exchange, tunnel and refused head leaves a line of its own, and so does a connection that failed before there
//! was any of them. Ends without a fault (a kept-alive connection that was idle, a drain) leave none.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use mesh_http1::Known;
use mesh_model::errors::Reason;

use crate::balance::EndpointState;
use crate::exchange::message::RequestRef;
use crate::exchange::{Context, Outcome, Peer, Taken};
use crate::io::Net;
use crate::plan::{AccessPlan, ListenerPlan};
use crate::telemetry::access_log::{Queue, Record, Sampler};
use crate::telemetry::{Finished, Nanos, Protocol};
use crate::thread::{Listener, Thread};

/// One thread's way to a listener's log.
pub struct AccessQueue {
    sampler: Sampler,
    queue: Queue,
}

impl AccessQueue {
    /// The way to `plan`'s log; the one there is when it leads to the same file.
    pub fn update(before: Option<Rc<Self>>, plan: Option<&AccessPlan>) -> Option<Rc<Self>> {
        let plan = plan?;
        match before {
            Some(before) if before.sampler == plan.sampler && before.queue.leads_to(&plan.output) => {
                Some(before)
            }
            _ => Some(Rc::new(Self {
                sampler: plan.sampler,
                queue: plan.output.queue(),
            })),
        }
    }
}

/// How many bytes of bodies or of a stream passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

/// Writes an exchange down.
#[inline]
pub fn request<N: Net, S>(
    cx: &Context<'_, N>,
    request: RequestRef<'_>,
    outcome: &Outcome<S>,
    end: &Finished,
    passed: Passed,
) {
    if let Some(log) = cx.listener.access_queue() {
        log_request(&log, cx, request, outcome, end, passed);
    }
}

#[cold]
fn log_request<N: Net, S>(
    log: &AccessQueue,
    cx: &Context<'_, N>,
    request: RequestRef<'_>,
    outcome: &Outcome<S>,
    end: &Finished,
    passed: Passed,
) {
    if !log.sampler.takes(cx.thread.random(), end.reason) {
        return;
    }
    let present = |value| Some(value).filter(|value: &&[u8]| !value.is_empty());
    // Who is trusted has its own id passed on.
    let own_id = cx
        .plan
        .trusts(cx.peer.ip)
        .then(|| request.value(Known::XRequestId))
        .flatten();
    log.queue.log(&Record {
        route: outcome.route.as_ref().and_then(Taken::name),
        cluster: outcome.cluster.as_ref().map(|cluster| cluster.as_str()),
        endpoint: outcome.endpoint.as_deref().map(|endpoint| &endpoint.address),
        protocol: if request.is_grpc() {
            Protocol::Grpc
        } else {
            cx.protocol
        },
        method: present(request.method()),
        host: present(request.authority()),
        path: present(request.path_and_query()),
        request_id: own_id.or_else(|| outcome.request_id.as_ref().map(|id| &id[..])),
        user_agent: user_agent(request),
        status: end.status,
        grpc_status: end.grpc_status,
        reason: end.reason,
        duration: end.duration,
        retries: Some(end.retries),
        bytes_in: passed.received,
        bytes_out: passed.sent,
        ..record(cx.plan, cx.peer, cx.protocol)
    });
}

/// Writes a tunnel down: a TCP or TLS stream, or a connection that left HTTP.
#[inline]
pub fn tunnel<N: Net>(
    from: &From<'_, N>,
    cluster: &str,
    endpoint: Option<&EndpointState>,
    end: &Finished,
    passed: Passed,
) {
    let Some(log) = from.listener.access_queue() else {
        return;
    };
    if !log.sampler.takes(from.thread.random(), end.reason) {
        return;
    }
    log.queue.log(&Record {
        cluster: Some(cluster),
        endpoint: endpoint.map(|endpoint| &endpoint.address),
        reason: end.reason,
        duration: end.duration,
        bytes_in: passed.received,
        bytes_out: passed.sent,
        ..record(from.plan, from.peer, from.protocol)
    });
}

/// Writes down that nothing came of a connection, or of a request's head.
#[cold]
pub fn refused<N: Net>(from: &From<'_, N>, reason: Reason, status: Option<u16>, duration: Nanos) {
    if let Some(log) = from.listener.access_queue() {
        log.queue.log(&Record {
            reason: Some(reason),
            status,
            duration,
            ..record(from.plan, from.peer, from.protocol)
        });
    }
}

/// Where something that is no exchange came from.
pub struct From<'a, N: Net> {
    /// The data thread.
    pub thread: &'a Thread<N>,
    /// The listener.
    pub listener: &'a Listener,
    /// Its plan.
    pub plan: &'a ListenerPlan,
    /// The client.
    pub peer: &'a Peer,
    /// What was spoken, as far as that was known.
    pub protocol: Protocol,
}

/// What all lines have.
fn record<'a>(plan: &'a ListenerPlan, peer: &'a Peer, protocol: Protocol) -> Record<'a> {
    let tls = peer.tls.as_deref();
    Record {
        client: peer.ip.map(|ip| SocketAddr::new(ip.to_canonical(), peer.port)),
        tls: tls.and_then(|tls| tls.version),
        sni: tls.and_then(|tls| tls.server_name.as_deref()),
        peer: tls.and_then(|tls| tls.peer.as_deref()),
        ..Record::new(now_ms(), &plan.name, protocol)
    }
}

/// The time of day: the one thing here that no test needs to be exact about.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn user_agent<'a>(request: RequestRef<'a>) -> Option<&'a [u8]> {
    request.named("user-agent").next()
}
