//! How does a request get to a server that takes it?
//!
//! Up to [`TRIES`] times: an endpoint that can't be connected to is put aside and another is asked, since nothing was
//! sent. A shared or pooled connection that its server closed just when we used it costs a try on a new one, for methods
//! that may be repeated (RFC 9110 section 9.2.2); a request that its server says it never looked at (HTTP/2
//! `REFUSED_STREAM`, `GOAWAY`) is repeated whatever its method. Both while what has gone of its body is
//! [`kept`](super::kept); of a longer one that nobody looked at its client is told that, where its protocol has a word for
//! it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use mesh_http1::Method;
use mesh_identity::Rejection;
use mesh_model::errors::Reason;
use mesh_model::policy::RuleId;
use mesh_model::resources::UpstreamProtocol;

use super::kept::Kept;
use super::message::{
    Downstream, Fault, Gone, INFORMATIONAL_FLOOD, Length, RequestRef, ResponseEdits, Upstream,
};
use super::pump::{BODY, End, Pump};
use super::request::{RequestKind, View};
use super::{Context, Forward, Outcome, over_http1, over_http2, refuse};
use crate::balance::{EndpointState, InFlight, Outcome as Verdict, Tried};
use crate::clock::{NEVER, Nanos, after};
use crate::io::Net;
use crate::plan::ListenerPlan;
use crate::policy_log;
use crate::telemetry::Limit;
use crate::thread::Drain;
use crate::upstream::carrier::{Caller, Carrier, Wanted};
use crate::upstream::cluster::{Cluster, ClusterPlan};
use crate::upstream::dial::rejected;

/// Tries for one request: the first and two more. More would multiply load just when servers fail.
const TRIES: u32 = 3;
/// How long a client that ended its side after its request is served without anything moving. It may be reading still, as
/// `nc -N` does, or be gone: both look the same until we write, and what is gone should not keep its server at work. Most
/// answers come sooner than this.
const HALF_CLOSED_GRACE: Nanos = 5_000_000_000;

/// Why a request ends whose server was revoked while it was under way, and what else is said: the reason is that of
/// handshakes.
const REVOKED: (Reason, &str) = (Reason::UpstreamCertificate, "revoked");

/// How a try ended when it did not end the exchange.
pub(super) enum Failure {
    /// Another try may do better.
    Again(Reason),
    /// It would not.
    Final(Reason, Detail),
}

/// What is known besides the reason.
#[derive(Clone, Copy, Default)]
pub(super) struct Detail {
    /// One of our tokens.
    pub(super) token: Option<&'static str>,
    /// The code with which the server took its stream back.
    pub(super) reset: Option<mesh_http2::Code>,
    /// No server has looked at the request, so that the client may send it again, whatever it is.
    pub(super) unseen: bool,
}

impl Detail {
    const UNSEEN: Self = Self {
        token: None,
        reset: None,
        unseen: true,
    };

    fn token(token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }
}

/// One try.
pub(super) struct Try<'a, N: Net> {
    pub(super) cx: &'a Context<'a, N>,
    pub(super) forward: &'a Forward<'a>,
    pub(super) cluster: &'a Rc<Cluster<N::Stream>>,
    pub(super) plan: &'a Arc<ClusterPlan>,
    pub(super) endpoint: &'a Arc<EndpointState>,
    /// The endpoints that are asked no more, unless there is no other to try: none where this is the last try.
    pub(super) tried: Option<&'a Tried>,
    /// On a connection that nobody used before.
    pub(super) fresh: bool,
}

/// Sends a request to its cluster.
pub async fn forward<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    forward: &Forward<'_>,
    cluster: &Rc<Cluster<N::Stream>>,
    outcome: &mut Outcome<N::Stream>,
) {
    let plan = &cluster.plan();
    let Some(permit) = plan.shared.request(plan.resource.limits.requests) else {
        cx.thread
            .telemetry
            .cluster(&plan.label)
            .limit_hit(Limit::Requests);
        return refuse(cx, down, outcome, Reason::RequestLimit, None);
    };
    let mut kept = Kept::new(&cx.thread.http2);
    let mut tried = Tried::default();
    let mut last = None;
    let mut fresh = false;
    for attempt in 0..TRIES {
        let now = cx.thread.now();
        let picked = plan
            .pick(now, &mut cx.thread.rng.borrow_mut(), forward.hash, &tried)
            .map(|picked| (picked.index, Arc::clone(picked.endpoint)));
        let (index, endpoint) = match picked {
            Ok(picked) => picked,
            // Nobody else is left: what the tried ones said is the better story.
            Err(reason) => return refuse(cx, down, outcome, last.unwrap_or(reason), None),
        };
        outcome.retries = attempt;
        let one = Try {
            cx,
            forward,
            cluster,
            plan,
            endpoint: &endpoint,
            tried: Some(&tried).filter(|_| attempt + 1 < TRIES),
            fresh,
        };
        let done = one.run(down, &mut kept, outcome, now).await;
        outcome.endpoint = Some(endpoint);
        match done {
            Ok(()) => {
                if let Some(tunnel) = &mut outcome.tunnel {
                    tunnel.permit = Some(permit);
                }
                return;
            }
            Err(Failure::Again(reason)) if attempt + 1 < TRIES => {
                last = Some(reason);
                // What else waits in the pool may be as stale.
                fresh = reason == Reason::UpstreamClosed;
                if !fresh {
                    tried.insert(index);
                }
            }
            Err(Failure::Again(reason)) => return fail(cx, down, outcome, reason, Detail::default()),
            Err(Failure::Final(reason, detail)) => return fail(cx, down, outcome, reason, detail),
        }
    }
}

/// Answers if that is still possible.
fn fail<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    outcome: &mut Outcome<N::Stream>,
    reason: Reason,
    detail: Detail,
) {
    outcome.reset = detail.reset;
    if down.started() || reason == Reason::ClientClosed || detail.unseen && down.refuse() {
        outcome.reason = Some(reason);
    } else {
        refuse(cx, down, outcome, reason, detail.token);
    }
}

impl<N: Net> Try<'_, N> {
    async fn run<D: Downstream>(
        &self,
        down: &mut D,
        kept: &mut Kept<'_>,
        outcome: &mut Outcome<N::Stream>,
        now: Nanos,
    ) -> Result<(), Failure> {
        let in_flight = self.endpoint.start(now);
        let wanted = wanted(self.plan, down.request(), self.forward.kind);
        let carrier = self.carrier(down, wanted, &in_flight).await?;
        // It may have been waited for: who is not let in any more is not sent on first and cut then.
        if self.cx.listener.judgement() != self.cx.judgement
            && !is_still_allowed(self.cx, down, self.forward.rule)
        {
            return Err(Failure::Final(Reason::Denied, Detail::default()));
        }
        match carrier {
            Carrier::Http1(pooled) => over_http1::send(self, (down, kept), pooled, in_flight, outcome).await,
            Carrier::Http2(seat) => over_http2::send(self, (down, kept), seat, in_flight, outcome).await,
        }
    }

    /// A connection, unless the client gives up first.
    async fn carrier<D: Downstream>(
        &self,
        down: &mut D,
        wanted: Wanted,
        in_flight: &InFlight,
    ) -> Result<Carrier<N::Stream>, Failure> {
        let mut caller = Caller {
            thread: self.cx.thread,
            cluster: self.cluster,
            plan: self.plan,
            endpoint: self.endpoint,
            in_flight,
            fresh: self.fresh,
            others: false,
            deadline: self.cx.deadline,
            not_after: self.forward.deadlines.request.min(self.cx.deadline.end()),
        };
        if let Some(carrier) = caller.at_once(wanted) {
            return Ok(carrier);
        }
        let has_other = |tried| self.plan.has_other(self.endpoint, tried, self.cx.thread.now());
        let others = self.tried.is_some_and(has_other);
        caller.others = others;
        // Boxed: it is seldom asked, and would make every exchange's memory half as large again.
        let found = Box::pin(self.wait(down, caller.carrier(wanted)));
        found.await.map_err(|reason| match reason {
            Reason::ClientClosed
            | Reason::RequestTimeout
            | Reason::Draining
            | Reason::MaxConnectionAge
            | Reason::Overloaded
            | Reason::UpstreamNoHttp1
            | Reason::UpstreamOverflow
            | Reason::ConnectionLimit => Failure::Final(reason, Detail::default()),
            // It was waited for.
            Reason::UpstreamFull if !others => Failure::Final(reason, Detail::default()),
            reason => Failure::Again(reason),
        })
    }

    /// Waits for a connection as long as the client does.
    async fn wait<D: Downstream, T>(
        &self,
        down: &mut D,
        found: impl Future<Output = Result<T, Reason>>,
    ) -> Result<T, Reason> {
        let thread = self.cx.thread;
        let mut found = pin!(found);
        let mut half_closed = None;
        poll_fn(|task| {
            if half_closed.is_none() {
                match down.poll_left(task) {
                    Poll::Ready(Gone::Cancelled) => return Poll::Ready(Err(Reason::ClientClosed)),
                    Poll::Ready(Gone::HalfClosed) => {
                        let deadline = thread.timers.deadline();
                        deadline.set(thread.now() + HALF_CLOSED_GRACE);
                        half_closed = Some(deadline);
                    }
                    Poll::Pending => {}
                }
            }
            if half_closed
                .as_ref()
                .is_some_and(|grace| grace.poll(task).is_ready())
            {
                return Poll::Ready(Err(Reason::ClientClosed));
            }
            found.as_mut().poll(task)
        })
        .await
    }

    /// The same failure, or that the workload at the other end of a new connection has not believed this one.
    pub(super) fn explained(
        &self,
        failure: Failure,
        connection: Connection,
        refused: impl FnOnce() -> Option<Rejection>,
    ) -> Failure {
        match failure {
            Failure::Final(Reason::UpstreamClosed, detail)
                if connection == Connection::New && self.plan.workload.is_some() =>
            {
                let why = refused().map(|why| rejected(self.cx.thread, &self.plan.label, self.endpoint, why));
                Failure::Final(why.unwrap_or(Reason::UpstreamClosed), detail)
            }
            other => other,
        }
    }

    /// Passes a request and its response, under the exchange's deadlines, and says what became of it: what counts the
    /// request on, where the connections left HTTP.
    pub(super) async fn pump<D: Downstream, U: Upstream>(
        &self,
        (down, kept): (&mut D, &mut Kept<'_>),
        up: &mut U,
        connection: Connection,
        mut in_flight: InFlight,
        outcome: &mut Outcome<N::Stream>,
    ) -> Result<Option<InFlight>, Failure> {
        let cx = self.cx;
        let edits = ResponseEdits {
            headers: self.forward.route.response_edits(),
            via: cx.plan.resource.via.as_deref(),
        };
        let expects = down.length() != Length::None && down.request().expects_continue();
        // Its server may just be closing the connection.
        let repeats = connection == Connection::Used && is_repeatable(down.request());
        let mut pump = Pump::new(self.forward.most_body, expects, repeats);
        let end = run(
            cx,
            (&mut *down, &mut *kept),
            up,
            &mut pump,
            &edits,
            self.forward,
            &mut in_flight,
        )
        .await;
        let now = cx.thread.now();
        if down.started() {
            outcome.status = up.status();
        }
        let begun = up.response_begun();
        match end {
            Ok(End::Complete) => {
                in_flight.finish(now, verdict(outcome.status, down.grpc_status()));
                Ok(None)
            }
            Ok(End::Tunnel) => {
                in_flight.answered(now, verdict(outcome.status, None));
                Ok(Some(in_flight))
            }
            Ok(End::Cancelled) => Err(Failure::Final(Reason::ClientClosed, Detail::default())),
            Ok(End::Downstream(fault)) => {
                if fault == Fault::TooLarge(BODY) {
                    let listener = cx.thread.telemetry.listener(&cx.plan.label);
                    listener.limit_hit(Limit::RequestBodyBytes);
                }
                Err(downstream_failure(fault))
            }
            Ok(End::Upstream(fault)) => {
                in_flight.finish(now, Verdict::Failure);
                if fault == INFORMATIONAL_FLOOD {
                    let stats = cx.thread.telemetry.cluster(&self.plan.label);
                    stats.limit_hit(Limit::InterimResponses);
                }
                let raced = repeats && matches!(fault, Fault::Io(_) | Fault::Truncated);
                let unanswered = !begun && !down.started();
                let refused = unanswered && fault == Fault::Refused;
                if !refused {
                    kept.note_seen();
                }
                if unanswered && kept.is_whole() && (refused || raced) {
                    return Err(Failure::Again(Reason::UpstreamClosed));
                }
                if refused && !kept.is_seen() {
                    return Err(Failure::Final(Reason::UpstreamClosed, Detail::UNSEEN));
                }
                Err(upstream_failure(fault, begun || down.started()))
            }
            Err(reason) => {
                // Its client's doing, or this side's.
                let is_excused = matches!(
                    reason,
                    Reason::ClientStalled
                        | Reason::RequestBodyTimeout
                        | Reason::Denied
                        | Reason::Draining
                        | Reason::MaxConnectionAge
                );
                // Nobody knows of a body without a length whether more of it had to come: its server may have been meant to
                // answer what it has, as those of streams both ways are.
                let is_short = pump.awaits_payload() && matches!(down.length(), Length::Known(_));
                if !is_excused && !is_short {
                    in_flight.finish(now, Verdict::Failure);
                }
                let token = Some(REVOKED.1).filter(|_| reason == REVOKED.0);
                let detail = Detail {
                    token,
                    ..Detail::default()
                };
                Err(Failure::Final(reason, detail))
            }
        }
    }
}

/// Whether a connection had carried requests before. If not, a failure is the server's; else it may have raced with the
/// server's idle timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    New,
    Used,
}

/// What an answer says about its endpoint.
fn verdict(status: u16, grpc_status: Option<u32>) -> Verdict {
    /// The server says that it can't serve now.
    const UNAVAILABLE: u32 = 14;
    if status >= 500 || grpc_status == Some(UNAVAILABLE) {
        Verdict::Failure
    } else {
        Verdict::Success
    }
}

/// Runs the pump under the exchange's deadlines.
async fn run<N: Net, D: Downstream, U: Upstream>(
    cx: &Context<'_, N>,
    (down, kept): (&mut D, &mut Kept<'_>),
    up: &mut U,
    pump: &mut Pump,
    edits: &ResponseEdits<'_>,
    forward: &Forward<'_>,
    in_flight: &mut InFlight,
) -> Result<End, Reason> {
    let deadlines = forward.deadlines;
    let mut idle = after(cx.started, deadlines.stream_idle);
    let mut seen = (pump.progress(), down.written(), up.written());
    let mut polls = 0u32;
    let mut half_closed = NEVER;
    // Since when payload of the client is waited for.
    let mut waits = NEVER;
    let mut answered = false;
    let mut judgement = cx.judgement;
    cx.deadline.set(idle.min(deadlines.request));
    poll_fn(|task| {
        let is_old = cx.thread.timers.has_come(cx.old_at);
        if (is_old || cx.listener.drain() != Drain::No) && !down.started() {
            down.leave();
        }
        if let Poll::Ready(end) = pump.poll(task, (&mut *down, &mut *kept), up, edits) {
            return Poll::Ready(Ok(end));
        }
        polls = polls.saturating_add(1);
        let moved = (pump.progress(), down.written(), up.written());
        let moves = moved != seen;
        seen = moved;
        let awaits = pump.awaits_payload();
        // The first poll sends the request at the time the exchange began: no need to look at the clock, unless the
        // client's end came with its request, or not all of it is there.
        if moves && (polls > 1 || pump.half_closed()) || awaits != (waits != NEVER) {
            let now = cx.thread.now();
            if moves {
                idle = after(now, deadlines.stream_idle);
                if pump.half_closed() {
                    half_closed = now + HALF_CLOSED_GRACE;
                }
            }
            // An answer that came before the whole request was late by the time since the last of it.
            if waits != NEVER && !pump.answered() {
                in_flight.excuse(now.saturating_sub(waits));
            }
            waits = if awaits { now } else { NEVER };
        }
        if pump.answered() && !answered {
            answered = true;
            kept.forget();
            // What is answered whole at once is recorded when it ends.
            in_flight.answered(cx.thread.now(), verdict(up.status(), down.grpc_status()));
        }
        let judged = cx.listener.judgement();
        if judged != judgement {
            judgement = judged;
            if !is_still_allowed(cx, down, forward.rule) {
                return Poll::Ready(Err(Reason::Denied));
            }
            if up.leads_to(|server| cx.thread.has_revoked(server)) {
                return Poll::Ready(Err(REVOKED.0));
            }
        }
        // How long an answer may take is up to the request's deadline, where it has one. Nothing is awaited for ever.
        let is_bounded = deadlines.request != NEVER && pump.awaits_answer();
        let idle = if is_bounded { NEVER } else { idle };
        let at = idle.min(deadlines.request).min(half_closed);
        // That its connection gets too old is to be known when the answer begins.
        let is_told = is_old || down.started();
        cx.deadline.set(if is_told { at } else { at.min(cx.old_at) });
        if cx.deadline.poll(task).is_pending() {
            return Poll::Pending;
        }
        let end = cx.deadline.end();
        Poll::Ready(Err(if half_closed <= at.min(end) {
            Reason::ClientClosed
        } else if end <= at {
            cx.deadline.cut().unwrap_or(Reason::Draining)
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

/// Whether a request that was let in, by a rule or by none, may go on.
#[cold]
fn is_still_allowed<N: Net, D: Downstream>(cx: &Context<'_, N>, down: &D, rule: Option<RuleId>) -> bool {
    is_let_in_by(&cx.listener.judge(), cx, down, rule)
}

/// Whether a request that its own plan lets in is let in by another one, too: what it is to is declared there, policy
/// would let it in, and the rule that did takes no less.
#[cold]
pub(super) fn is_let_in_by<N: Net, D: Downstream>(
    plan: &ListenerPlan,
    cx: &Context<'_, N>,
    down: &D,
    rule: Option<RuleId>,
) -> bool {
    let (before, policy) = (cx.plan.policy.as_ref(), plan.policy.as_ref());
    if plan.has_revoked(cx.peer) || !plan.declares(cx.peer) {
        return false;
    }
    let Some(policy) = policy else {
        return true;
    };
    let mut normal = Vec::new();
    let Ok(view) = View::new(down.request(), plan, cx.peer, &mut normal) else {
        return false;
    };
    let judged = policy.request(cx.peer, &view);
    if let Err(denied) = judged {
        policy_log::request(cx.thread, plan, cx.peer, denied, &view);
    }
    judged.is_ok() && policy.keeps(before, rule)
}

/// What is spoken to a cluster's servers for a request. Upgrades and CONNECT are HTTP/1: there they take over a
/// connection.
fn wanted(plan: &ClusterPlan, request: RequestRef<'_>, kind: RequestKind) -> Wanted {
    if kind != RequestKind::Plain {
        return Wanted::Http1;
    }
    match plan.resource.protocol {
        UpstreamProtocol::Http1 => Wanted::Http1,
        UpstreamProtocol::Http2 => Wanted::Http2,
        // Between workloads HTTP/1 stays HTTP/1, and HTTP/2 stays HTTP/2.
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp if plan.workload.is_some() => match request {
            RequestRef::Http2(_) => Wanted::Http2,
            RequestRef::Http1 { .. } if request.is_grpc() => Wanted::Http2,
            RequestRef::Http1 { .. } => Wanted::Http1,
        },
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp if plan.tls.is_some() => Wanted::Either,
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp if request.is_grpc() => Wanted::Http2,
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp => Wanted::Http1,
    }
}

/// The method.
pub(super) fn method_of(request: RequestRef<'_>) -> Method {
    match request {
        RequestRef::Http1 { head, .. } => head.method,
        RequestRef::Http2(head) => Method::from_bytes(head.method()),
    }
}

/// Whether a request may be sent twice (RFC 9110 section 9.2.2).
fn is_repeatable(request: RequestRef<'_>) -> bool {
    !matches!(
        method_of(request),
        Method::Post | Method::Patch | Method::Connect | Method::Other
    )
}

fn downstream_failure(fault: Fault) -> Failure {
    match fault {
        Fault::Protocol(detail) => Failure::Final(Reason::BadRequest, Detail::token(detail)),
        Fault::TooLarge(detail) => Failure::Final(Reason::BodyTooLarge, Detail::token(detail)),
        Fault::Io(_) | Fault::Truncated | Fault::Reset(_) | Fault::Refused => {
            Failure::Final(Reason::ClientClosed, Detail::default())
        }
    }
}

/// What a server's failure is to the client. `begun` when it saw some of a response.
pub(super) fn upstream_failure(fault: Fault, begun: bool) -> Failure {
    let closed = if begun {
        Reason::UpstreamIncomplete
    } else {
        Reason::UpstreamClosed
    };
    match fault {
        Fault::Protocol(detail) => Failure::Final(Reason::UpstreamProtocol, Detail::token(detail)),
        Fault::TooLarge(detail) => Failure::Final(Reason::UpstreamHeadTooLarge, Detail::token(detail)),
        Fault::Reset(code) => {
            let reset = Some(code);
            let detail = Detail::token("stream_reset");
            Failure::Final(closed, Detail { reset, ..detail })
        }
        Fault::Io(_) | Fault::Truncated | Fault::Refused => Failure::Final(closed, Detail::default()),
    }
}
