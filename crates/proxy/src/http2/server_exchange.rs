//! What happens to one stream of a client's connection, from its head to its end?

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use mesh_model::errors::Reason;

use super::request::{Problem, check};
use super::server::{Alive, Shared};
use super::server_stream::ServerStream;
use super::tunnel::Tunnel;
use crate::clock::{Nanos, after};
use crate::exchange::message::{Downstream, Sink};
use crate::exchange::{Context, Outcome, exchange, local};
use crate::io::Net;
use crate::io::wire::Wire;
use crate::plan::ListenerPlan;
use crate::telemetry::{Finished, Label, Limit, Protocol};
use crate::timer::{Deadline, until};
use crate::tunnel::{Bounds, tunnel};
use crate::upstream::pool::Pooled;

/// Serves a stream to its end.
pub(super) async fn stream<N: Net>(
    alive: Alive<N>,
    plan: Arc<ListenerPlan>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let shared = alive.shared();
    let started = shared.thread.now();
    let deadline = shared.listener.deadline(&shared.thread.timers);
    let (parts, body) = request.into_parts();
    let mut down = ServerStream::new(parts, body, respond);
    let context = Context {
        thread: &shared.thread,
        listener: &shared.listener,
        plan: &plan,
        peer: &shared.peer,
        deadline: &deadline,
        started,
        protocol: Protocol::Http2,
    };
    if let Err(problem) = check(down.parts(), plan.http1.fields) {
        refuse(&context, &mut down, problem).await;
        return;
    }
    let mut outcome = exchange(&context, &mut down).await;
    if outcome.tunnel.is_none() && !flush(&mut down, &context).await && outcome.reason.is_none() {
        outcome.reason = Some(Reason::ClientClosed);
    }
    report(&down, &outcome, shared.thread.now() - started);
    match outcome.tunnel {
        Some(server) => {
            if let Some(client) = down.into_tunnel() {
                let none = shared.thread.telemetry.shared().none();
                let cluster = outcome.cluster.unwrap_or_else(|| none.clone());
                Box::pin(pass(shared, &plan, &deadline, client, server, &cluster)).await;
            }
        }
        None if !down.is_finished() => down.abort(outcome.reason.unwrap_or(Reason::Internal), outcome.reset),
        None => {}
    }
}

/// Answers, or resets, what never becomes an exchange.
async fn refuse<N: Net>(context: &Context<'_, N>, down: &mut ServerStream, problem: Problem) {
    let telemetry = &context.thread.telemetry;
    let reason = match problem {
        Problem::Malformed(_) => Reason::BadRequest,
        Problem::TooManyFields => Reason::TooManyHeaders,
        Problem::Expectation => Reason::ExpectationFailed,
    };
    match problem {
        // RFC 9113 section 8.1.1: malformed requests are stream errors.
        Problem::Malformed(_) => down.reset(h2::Reason::PROTOCOL_ERROR),
        Problem::TooManyFields | Problem::Expectation => {
            local::refuse(down, reason, None);
            let _ = flush(down, context).await;
        }
    }
    if problem == Problem::TooManyFields {
        telemetry
            .listener(&context.plan.label)
            .limit_hit(Limit::HeaderCount);
    }
    let none = telemetry.shared().none();
    let stats = telemetry.route(&context.plan.label, none, none, context.protocol);
    stats.started();
    stats.finished(&Finished {
        status: Some(reason.status()),
        grpc_status: down.grpc_status(),
        reason: Some(reason),
        duration: context.thread.now() - context.started,
        retries: 0,
    });
}

/// Queues what is left of a response; false when the client is gone or does not read.
async fn flush<N: Net>(down: &mut ServerStream, context: &Context<'_, N>) -> bool {
    if down.is_finished() || !down.started() {
        return true;
    }
    let at = after(context.thread.now(), context.plan.timeouts.stream_idle);
    context.deadline.set(at.min(context.listener.drain_deadline()));
    matches!(
        until(context.deadline, poll_fn(|cx| down.poll_flush(cx))).await,
        Some(Ok(()))
    )
}

/// Counts a request.
fn report<S>(down: &ServerStream, outcome: &Outcome<S>, duration: Nanos) {
    let (received, sent) = down.payload_bytes();
    outcome.stats.received(received);
    outcome.stats.sent(sent);
    outcome.stats.finished(&Finished {
        status: Some(match (outcome.status, outcome.reason) {
            (0, Some(reason)) => reason.status(),
            (status, _) => status,
        }),
        grpc_status: down.grpc_status().or_else(|| {
            // The caller gets it when the stream is aborted.
            let reason = outcome.reason?;
            down.request().is_grpc().then(|| reason.grpc_status())
        }),
        reason: outcome.reason,
        duration,
        retries: outcome.retries,
    });
}

/// Passes bytes between an accepted CONNECT and its server.
async fn pass<N: Net>(
    shared: &Shared<N>,
    plan: &ListenerPlan,
    deadline: &Deadline,
    client: Tunnel,
    mut server: Pooled<N::Stream>,
    cluster: &Label,
) {
    let thread = &shared.thread;
    let telemetry = &thread.telemetry;
    let stats = telemetry.route(&plan.label, telemetry.shared().none(), cluster, Protocol::Tcp);
    let started = thread.now();
    stats.started();
    let bounds = Bounds {
        deadline,
        idle: plan.timeouts.tcp_idle,
        drain: &|| shared.listener.drain_deadline(),
        now: &|| thread.now(),
    };
    let mut client = Wire::new(client, thread.buffers.clone());
    let ended = tunnel(&mut client, &mut server.wire, &bounds).await;
    stats.received(ended.sent);
    stats.sent(ended.received);
    stats.finished(&Finished {
        status: None,
        grpc_status: None,
        reason: ended.reason,
        duration: thread.now() - started,
        retries: 0,
    });
}
