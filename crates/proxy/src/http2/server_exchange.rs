//! What happens to one stream of a client's connection, from its head to its end?

use std::future::poll_fn;
use std::time::Duration;

use mesh_http2::{Code, Head};
use mesh_model::errors::Reason;

use super::channel::Channel;
use super::request::{Problem, check};
use super::server::{Alive, Shared};
use super::server_stream::ServerStream;
use super::tunnel::Tunnel;
use crate::access;
use crate::clock::{NEVER, Nanos, after};
use crate::exchange::message::{Downstream, Sink, Source};
use crate::exchange::pump::poll_rest;
use crate::exchange::{Context, Left, Outcome, exchange, local};
use crate::http1::connection::unread_for;
use crate::io::Net;
use crate::io::wire::Wire;
use crate::plan::ListenerPlan;
use crate::policy::Admitted;
use crate::relay::Relay;
use crate::streams::Server;
use crate::telemetry::{Finished, Limit, Protocol};
use crate::timer::{Deadline, until};

/// How long the rest of a request is awaited behind its answer: what left its client with the head comes sooner.
const REST_TIME: Duration = Duration::from_millis(50);

/// Serves a stream to its end.
pub(super) async fn stream<N: Net>(alive: Alive<N>, head: Box<Head>, channel: Channel) {
    let shared = alive.shared();
    // Taken here: there may be another one since the head came.
    let plan = shared.listener.plan();
    let started = shared.thread.now();
    let deadline = shared.deadline();
    let mut down = ServerStream::new(head, channel);
    let context = Context {
        thread: &shared.thread,
        listener: &shared.listener,
        plan: &plan,
        judgement: shared.listener.judgement(),
        peer: &shared.peer,
        deadline: &deadline,
        started,
        old_at: NEVER,
        protocol: Protocol::Http2,
    };
    if let Err(problem) = check(down.head(), down.length(), plan.http1.fields) {
        refuse(&context, &mut down, problem).await;
        return take_rest(&context, &mut down).await;
    }
    let mut outcome = exchange(&context, &mut down).await;
    if outcome.tunnel.is_none() && !flush(&mut down, &context).await && outcome.reason.is_none() {
        outcome.reason = Some(unread_for(&deadline));
    }
    report(&context, &down, &outcome, shared.thread.now() - started);
    match outcome.tunnel {
        Some(server) => {
            if let Some(client) = down.into_tunnel() {
                let none = shared.thread.telemetry.shared().none();
                let cluster = outcome.cluster.unwrap_or_else(|| none.clone());
                let to = Server {
                    cluster: &cluster,
                    endpoint: outcome.endpoint.as_deref(),
                    admitted: Admitted::Tunnel(outcome.rule),
                };
                Box::pin(pass(shared, &plan, &deadline, client, server, to)).await;
            }
        }
        None => {
            if !down.is_finished() {
                down.abort(outcome.reason.unwrap_or(Reason::Internal), outcome.reset);
            }
            take_rest(&context, &mut down).await;
            down.finish_exchange();
        }
    }
}

/// Waits a little for the end of a request whose answer is complete, and throws away what comes of it: mostly it is on its
/// way, and there are clients that take a reset for a failure though its code is NO_ERROR, as curl did up to 8.1.
async fn take_rest<N: Net>(context: &Context<'_, N>, down: &mut ServerStream) {
    if !down.is_finished() || down.has_all() {
        return;
    }
    context.deadline.set(after(context.thread.now(), Some(REST_TIME)));
    let mut dropped = 0;
    let _ = until(context.deadline, poll_fn(|cx| poll_rest(cx, down, &mut dropped))).await;
}

/// Answers, or resets, what never becomes an exchange.
async fn refuse<N: Net>(context: &Context<'_, N>, down: &mut ServerStream, problem: Problem) {
    let telemetry = &context.thread.telemetry;
    let reason = match problem {
        Problem::Malformed(_) => Reason::BadRequest,
        Problem::TooLarge => Reason::HeadTooLarge,
        Problem::TooManyFields => Reason::TooManyHeaders,
        Problem::Expectation => Reason::ExpectationFailed,
    };
    match problem {
        // RFC 9113 section 8.1.1: malformed requests are stream errors.
        Problem::Malformed(_) => down.reset(Code::PROTOCOL_ERROR),
        Problem::TooLarge | Problem::TooManyFields | Problem::Expectation => {
            local::refuse(down, reason, None);
            let _ = flush(down, context).await;
        }
    }
    let limit = match problem {
        Problem::TooLarge => Some(Limit::HeaderBytes),
        Problem::TooManyFields => Some(Limit::HeaderCount),
        Problem::Malformed(_) | Problem::Expectation => None,
    };
    if let Some(limit) = limit {
        telemetry.listener(&context.plan.label).limit_hit(limit);
    }
    let none = telemetry.shared().none();
    let stats = telemetry.route(
        &context.plan.label,
        none,
        none,
        context.protocol,
        context.plan.called(context.peer),
    );
    stats.started();
    let end = Finished {
        status: Some(reason.status()),
        grpc_status: down.grpc_status(),
        reason: Some(reason),
        duration: context.thread.now() - context.started,
        retries: 0,
    };
    stats.finished(&end);
    let outcome = Outcome::<N::Stream>::new(stats);
    access::request(context, down.request(), &outcome, &end, access::Passed::default());
}

/// Queues what is left of a response; false when the client is gone or does not read.
async fn flush<N: Net>(down: &mut ServerStream, context: &Context<'_, N>) -> bool {
    if down.is_finished() || !down.started() {
        return true;
    }
    let at = after(context.thread.now(), context.plan.timeouts.stream_idle);
    context.deadline.set(at);
    matches!(
        until(context.deadline, poll_fn(|cx| down.poll_flush(cx))).await,
        Some(Ok(()))
    )
}

/// Counts a request, and writes it down.
fn report<N: Net>(
    context: &Context<'_, N>,
    down: &ServerStream,
    outcome: &Outcome<N::Stream>,
    duration: Nanos,
) {
    let (received, sent) = down.payload_bytes();
    outcome.stats.received(received);
    outcome.stats.sent(sent);
    let end = Finished {
        status: Some(match (outcome.status, outcome.reason) {
            (0, Some(reason)) => reason.status(),
            (status, _) => status,
        }),
        grpc_status: down
            .grpc_status()
            .or_else(|| down.request().is_grpc().then(|| outcome.missing_grpc_status())),
        reason: outcome.reason,
        duration,
        retries: outcome.retries,
    };
    outcome.stats.finished(&end);
    access::request(
        context,
        down.request(),
        outcome,
        &end,
        access::Passed { received, sent },
    );
}

/// Passes bytes between an accepted CONNECT and its server.
async fn pass<N: Net>(
    shared: &Shared<N>,
    plan: &ListenerPlan,
    deadline: &Deadline,
    client: Tunnel,
    mut server: Box<Left<N::Stream>>,
    to: Server<'_>,
) {
    let relay = Relay {
        from: access::From {
            thread: &shared.thread,
            listener: &shared.listener,
            plan,
            peer: &shared.peer,
            protocol: Protocol::Tcp,
        },
        deadline,
        admitted: to.admitted,
        cluster: to.cluster,
        endpoint: to.endpoint,
    };
    let mut client = Wire::new(client, shared.thread.buffers.clone());
    relay.pass(&mut client, &mut server.pooled.wire).await;
}
