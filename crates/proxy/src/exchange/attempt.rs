//! How does a request get to a server that takes it?
//!
//! Up to [`TRIES`] times: an endpoint that can't be connected to is put aside and another is asked, since nothing was
//! sent. A pooled connection that its server closed just when we used it costs a try on a new one, for methods that
//! may be repeated (RFC 9110 section 9.2.2) and only while no byte of a body has gone.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use mesh_http1::Method;
use mesh_model::errors::Reason;
use mesh_model::resources::{Discovery, HostRewrite, UpstreamProtocol};

use super::head::{Outgoing, Trust};
use super::message::{Downstream, Fault, Length, RequestRef, ResponseEdits, Upstream};
use super::pump::{End, Pump};
use super::request::RequestKind;
use super::{Context, Forward, Outcome, refuse};
use crate::balance::{EndpointState, Outcome as Verdict, Tried};
use crate::clock::{NEVER, Nanos, after};
use crate::http1::client::ClientExchange;
use crate::io::Net;
use crate::io::wire::Wire;
use crate::telemetry::Limit;
use crate::timer::Deadline;
use crate::upstream::cluster::{Cluster, ClusterPlan};
use crate::upstream::pool::{OpenConnection, Pooled};

/// Tries for one request: the first and two more. More would multiply load just when servers fail.
const TRIES: u32 = 3;
/// How long a client that ended its side is still served. Clients that are gone look the same until we write.
const HALF_CLOSED_GRACE: Nanos = 5_000_000_000;

/// Waits for a future until a deadline; `None` when that came first.
pub async fn until<F: Future>(deadline: &Deadline, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        deadline.poll(cx).map(|()| None)
    })
    .await
}

/// How a try ended when it did not end the exchange.
enum Failure {
    /// Another try may do better.
    Again(Reason),
    /// It would not.
    Final(Reason, Option<&'static str>),
}

/// Sends a request to its cluster.
pub async fn forward<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    forward: &Forward,
    cluster: &Cluster<N::Stream>,
    outcome: &mut Outcome<N::Stream>,
) {
    let plan = cluster.plan();
    let Some(_permit) = plan.shared.request(plan.resource.limits.requests) else {
        cx.thread
            .telemetry
            .cluster(&plan.label)
            .limit_hit(Limit::Requests);
        return refuse(down, outcome, Reason::RequestLimit, None);
    };
    let mut tried = Tried::default();
    let mut last = None;
    for attempt in 0..TRIES {
        outcome.retries = attempt;
        let now = cx.thread.now();
        let picked = plan
            .pick(now, &mut cx.thread.rng.borrow_mut(), forward.hash, &tried)
            .map(|picked| (picked.index, Arc::clone(picked.endpoint)));
        let (index, endpoint) = match picked {
            Ok(picked) => picked,
            // Nobody else is left: what the tried ones said is the better story.
            Err(reason) => return refuse(down, outcome, last.unwrap_or(reason), None),
        };
        outcome.endpoint = Some(Arc::clone(&endpoint));
        match attempt_once(cx, down, forward, cluster, &plan, &endpoint, outcome).await {
            Ok(()) => return,
            Err(Failure::Again(reason)) if attempt + 1 < TRIES => {
                last = Some(reason);
                if reason != Reason::UpstreamClosed {
                    tried.insert(index);
                }
            }
            Err(Failure::Again(reason) | Failure::Final(reason, None)) => {
                return fail(down, outcome, reason, None);
            }
            Err(Failure::Final(reason, detail)) => return fail(down, outcome, reason, detail),
        }
    }
}

/// Answers if that is still possible.
fn fail<D: Downstream, S>(down: &mut D, outcome: &mut Outcome<S>, reason: Reason, detail: Option<&str>) {
    if down.started() || reason == Reason::ClientClosed {
        outcome.reason = Some(reason);
    } else {
        refuse(down, outcome, reason, detail);
    }
}

async fn attempt_once<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    forward: &Forward,
    cluster: &Cluster<N::Stream>,
    plan: &ClusterPlan,
    endpoint: &Arc<EndpointState>,
    outcome: &mut Outcome<N::Stream>,
) -> Result<(), Failure> {
    let now = cx.thread.now();
    let in_flight = endpoint.start(now);
    if forward.kind == RequestKind::Plain && speaks_http2(plan, down.request()) {
        return Err(Failure::Final(Reason::Internal, Some("http2_upstream")));
    }
    let mut pooled = match cluster.take(endpoint) {
        Some(pooled) => {
            cx.thread.telemetry.cluster(&plan.label).pool_hit();
            pooled
        }
        None => connect(cx, plan, endpoint, forward.deadlines.request).await?,
    };
    let request = down.request();
    let method = method_of(request);
    let repeatable = !matches!(
        method,
        Method::Post | Method::Patch | Method::Connect | Method::Other
    );
    let parts = Parts::new(cx, plan, endpoint, forward);
    let outgoing = parts.outgoing(cx, forward, request, down.length());
    let head = cx.thread.response_head();
    let Pooled {
        wire,
        opened,
        exchanges,
        open,
        ..
    } = pooled;
    let mut up = ClientExchange::start(wire, head, request, &outgoing, method, cx.plan.http1);
    let edits = ResponseEdits {
        headers: &forward.route.response_edits,
        via: cx.plan.resource.via.as_deref(),
    };
    let mut pump = Pump::default();
    let end = run(cx, down, &mut up, &mut pump, &edits, forward).await;
    let now = cx.thread.now();
    if pump.response_payload() > 0 || matches!(end, Ok(End::Complete | End::Tunnel)) {
        outcome.status = up.response().status();
    }
    let begun = up.response_begun();
    let (wire, head, reusable) = up.finish_exchange();
    cx.thread.put_response_head(head);
    pooled = Pooled {
        wire,
        opened,
        idle_since: now,
        exchanges: exchanges + 1,
        open,
    };
    match end {
        Ok(End::Complete) => {
            let verdict = if outcome.status >= 500 {
                Verdict::Failure
            } else {
                Verdict::Success
            };
            in_flight.finish(now, verdict);
            if reusable {
                cluster.put(endpoint, pooled);
            }
            Ok(())
        }
        Ok(End::Tunnel) => {
            in_flight.finish(now, Verdict::Success);
            outcome.tunnel = Some(pooled);
            Ok(())
        }
        Ok(End::Cancelled) => Err(Failure::Final(Reason::ClientClosed, None)),
        Ok(End::Downstream(fault)) => Err(downstream_failure(fault)),
        Ok(End::Upstream(fault)) => {
            in_flight.finish(now, Verdict::Failure);
            let untouched = !begun && !down.started() && pump.request_payload() == 0;
            let raced = exchanges > 0 && matches!(fault, Fault::Io(_) | Fault::Truncated);
            if untouched && ((raced && repeatable) || fault == Fault::Refused) {
                return Err(Failure::Again(Reason::UpstreamClosed));
            }
            Err(upstream_failure(fault, begun || down.started()))
        }
        Err(reason) => {
            if reason != Reason::ClientStalled && reason != Reason::RequestBodyTimeout {
                in_flight.finish(now, Verdict::Failure);
            }
            Err(Failure::Final(reason, None))
        }
    }
}

/// Runs the pump under the exchange's deadlines.
async fn run<N: Net, D: Downstream, U: Upstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    up: &mut U,
    pump: &mut Pump,
    edits: &ResponseEdits<'_>,
    forward: &Forward,
) -> Result<End, Reason> {
    let deadlines = forward.deadlines;
    let drain = cx.listener.drain_deadline();
    let mut idle = after(cx.started, deadlines.stream_idle);
    let mut seen = pump.progress();
    let mut polls = 0u32;
    let mut half_closed = NEVER;
    cx.deadline.set(idle.min(deadlines.request).min(drain));
    poll_fn(|task| {
        if let Poll::Ready(end) = pump.poll(task, down, up, edits) {
            return Poll::Ready(Ok(end));
        }
        polls = polls.saturating_add(1);
        if pump.progress() != seen {
            seen = pump.progress();
            // The first poll sends the request at the time the exchange began: no need to look at the clock.
            if polls > 1 {
                let now = cx.thread.now();
                idle = after(now, deadlines.stream_idle);
                if pump.half_closed() && half_closed == NEVER {
                    half_closed = now + HALF_CLOSED_GRACE;
                }
            }
        }
        let drain = cx.listener.drain_deadline();
        let at = idle.min(deadlines.request).min(drain).min(half_closed);
        cx.deadline.set(at);
        if cx.deadline.poll(task).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(if at == half_closed {
            Reason::ClientClosed
        } else if at == drain {
            Reason::Draining
        } else if at == deadlines.request {
            Reason::RequestTimeout
        } else if !pump.waits_for_client() {
            Reason::StreamIdleTimeout
        } else if down.started() {
            Reason::ClientStalled
        } else {
            Reason::RequestBodyTimeout
        }))
    })
    .await
}

/// Opens a connection to an endpoint, waiting for room where the cluster has none.
pub async fn connect_endpoint<N: Net>(
    thread: &crate::thread::Thread<N>,
    deadline: &Deadline,
    plan: &ClusterPlan,
    endpoint: &Arc<EndpointState>,
    not_after: Nanos,
) -> Result<Pooled<N::Stream>, Reason> {
    let stats = thread.telemetry.cluster(&plan.label);
    stats.pool_miss();
    let Some(permit) = plan.shared.connection(plan.resource.limits.connections) else {
        stats.limit_hit(Limit::Connections);
        return Err(Reason::ConnectionLimit);
    };
    let started = thread.now();
    let connect_by = plan.connect_deadline(started);
    deadline.set(connect_by.min(not_after));
    let target = plan.target(endpoint);
    let connected = until(deadline, thread.net.connect(&target)).await;
    let now = thread.now();
    let failed = |reason| {
        stats.connect_failed(reason);
        endpoint.connect_failed(now, &mut thread.rng.borrow_mut());
        Err(reason)
    };
    match connected {
        Some(Ok(stream)) => {
            endpoint.connect_succeeded();
            Ok(Pooled {
                wire: Wire::new(stream, std::rc::Rc::clone(&thread.buffers)),
                opened: now,
                idle_since: now,
                exchanges: 0,
                open: OpenConnection::new(permit, std::rc::Rc::clone(&stats), now - started),
            })
        }
        Some(Err(error)) if error.blames_endpoint() => failed(error.reason()),
        Some(Err(error)) => Err(error.reason()),
        None if not_after <= connect_by => Err(Reason::RequestTimeout),
        None => failed(Reason::ConnectTimeout),
    }
}

async fn connect<N: Net>(
    cx: &Context<'_, N>,
    plan: &ClusterPlan,
    endpoint: &Arc<EndpointState>,
    not_after: Nanos,
) -> Result<Pooled<N::Stream>, Failure> {
    connect_endpoint(
        cx.thread,
        cx.deadline,
        plan,
        endpoint,
        not_after.min(cx.listener.drain_deadline()),
    )
    .await
    .map_err(|reason| match reason {
        Reason::RequestTimeout | Reason::Overloaded => Failure::Final(reason, None),
        reason => Failure::Again(reason),
    })
}

fn speaks_http2(plan: &ClusterPlan, request: RequestRef<'_>) -> bool {
    match plan.resource.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Auto => request.is_grpc(),
    }
}

fn method_of(request: RequestRef<'_>) -> Method {
    match request {
        RequestRef::Http1 { head, .. } => head.method,
        RequestRef::Http2(parts) => Method::from_bytes(parts.method.as_str().as_bytes()),
    }
}

fn downstream_failure(fault: Fault) -> Failure {
    match fault {
        Fault::Protocol(detail) => Failure::Final(Reason::BadRequest, Some(detail)),
        Fault::TooLarge(detail) => Failure::Final(Reason::BodyTooLarge, Some(detail)),
        Fault::Io(_) | Fault::Truncated | Fault::Reset(_) | Fault::Refused => {
            Failure::Final(Reason::ClientClosed, None)
        }
    }
}

fn upstream_failure(fault: Fault, begun: bool) -> Failure {
    match fault {
        Fault::Protocol(detail) => Failure::Final(Reason::UpstreamProtocol, Some(detail)),
        Fault::TooLarge(detail) => Failure::Final(Reason::UpstreamHeadTooLarge, Some(detail)),
        _ if begun => Failure::Final(Reason::UpstreamIncomplete, None),
        _ => Failure::Final(Reason::UpstreamClosed, None),
    }
}

/// What is made for one outgoing head and lent to it.
struct Parts {
    request_id: [u8; 36],
    host: Option<String>,
}

impl Parts {
    fn new<N: Net>(
        cx: &Context<'_, N>,
        plan: &ClusterPlan,
        endpoint: &EndpointState,
        forward: &Forward,
    ) -> Self {
        let host = match forward.route.route.filters.host {
            HostRewrite::Upstream => Some(upstream_name(plan, endpoint)),
            HostRewrite::Keep | HostRewrite::Set(_) => None,
        };
        Self {
            request_id: request_id(cx.thread.random(), cx.thread.random()),
            host,
        }
    }

    fn outgoing<'a, N: Net>(
        &'a self,
        cx: &'a Context<'_, N>,
        forward: &'a Forward,
        request: RequestRef<'a>,
        length: Length,
    ) -> Outgoing<'a> {
        let authority = match &forward.route.route.filters.host {
            HostRewrite::Keep => request.authority(),
            HostRewrite::Set(host) => host.as_bytes(),
            HostRewrite::Upstream => self.host.as_deref().unwrap_or_default().as_bytes(),
        };
        Outgoing {
            method: request.method(),
            target: forward
                .target
                .as_deref()
                .unwrap_or_else(|| request.path_and_query()),
            authority,
            scheme: cx.peer.scheme,
            client: &cx.peer.text,
            trust: if cx.plan.trusts(cx.peer.ip) {
                Trust::Trusted
            } else {
                Trust::Untrusted
            },
            request_id: std::str::from_utf8(&self.request_id).unwrap_or_default(),
            via: cx.plan.resource.via.as_deref(),
            edits: &forward.route.request_edits,
            length,
            upgrade: request.upgrade(),
        }
    }
}

/// The name a cluster's servers know themselves by.
fn upstream_name(plan: &ClusterPlan, endpoint: &EndpointState) -> String {
    match (&plan.resource.discovery, plan.resource.tls_name()) {
        (Discovery::Dns { host, port }, _) => match (port, plan.tls.is_some()) {
            (443, true) | (80, false) => host.clone(),
            _ => format!("{host}:{port}"),
        },
        (_, Some(name)) => name.into(),
        _ => match &endpoint.address {
            mesh_model::resources::Address::Ip(address) => address.to_string(),
            mesh_model::resources::Address::Unix(_) => "localhost".into(),
        },
    }
}

/// A random UUID (RFC 9562 version 4).
fn request_id(high: u64, low: u64) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let bits = (u128::from(high) << 64) | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, byte) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *byte = DIGITS[((bits >> shift) & 0xf) as usize];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids() {
        let id = String::from_utf8(request_id(u64::MAX, 0).to_vec()).unwrap();
        assert_eq!(id, "ffffffff-ffff-4fff-8000-000000000000");
    }
}
