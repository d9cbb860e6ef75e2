//! One client's HTTP/1 connection: requests one after the other, with no buffer held between them. Who calls whom when
//! is up to [`crate::task`].

use std::future::poll_fn;
use std::task::{Poll, ready};

use mesh_http1::Parsed;
use mesh_model::errors::Reason;

use super::server::{Finished, ServerExchange, write_refusal};
use crate::access;
use crate::clock::{NEVER, Nanos, after};
use crate::connection::{ClientState, Connection, WARM};
use crate::exchange::message::{Downstream, Sink};
use crate::exchange::pump::poll_rest;
use crate::exchange::{Context, Left, Outcome, exchange, local};
use crate::io::Net;
use crate::io::socket::poll_discard;
use crate::io::wire::{Filled, ReadSize};
use crate::plan::ListenerPlan;
use crate::policy::Admitted;
use crate::streams::{Server, pass};
use crate::telemetry::{Finished as Counted, Limit, Protocol};
use crate::thread::{Drain, Listener};
use crate::timer::{Deadline, until};

/// Bytes that are read and thrown away after the last response, so that it is not lost to a reset.
const LINGER_BYTES: usize = 256 * 1024;
/// How long that may take, and the rest of a request whose answer is complete.
const LINGER_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// What an exchange left.
pub enum Rest<N: Net> {
    /// Another request may come.
    Idle(Connection<N>, Waiting),
    /// The connection is over.
    Over(Option<Reason>),
    /// The client has a tunnel to this name.
    Inside(Connection<N>, Box<str>),
}

/// A wait for a request's first byte.
pub struct Waiting {
    until: Nanos,
    reason: Reason,
    /// Until then a request may be on its way, and a drain waits for it: the client should learn from its response, not
    /// from a reset, that it is to go elsewhere.
    warm: Nanos,
}

impl Waiting {
    /// For the first request of a connection.
    pub fn first<N: Net>(client: &ClientState<N>) -> Self {
        let span = client.listener.plan().timeouts.header;
        let since = client.opened;
        Self::new(
            client,
            since,
            after(client.head_since, span),
            Reason::HeaderTimeout,
        )
    }

    /// For another one, after a response that was complete at `now`.
    fn next<N: Net>(client: &ClientState<N>, plan: &ListenerPlan, now: Nanos) -> Self {
        Self::new(client, now, after(now, plan.timeouts.idle), Reason::IdleTimeout)
    }

    /// The same as before.
    fn on<N: Net>(client: &ClientState<N>) -> Self {
        Self {
            until: client.deadline.at(),
            reason: match client.served {
                0 => Reason::HeaderTimeout,
                _ => Reason::IdleTimeout,
            },
            warm: after(client.thread.now(), Some(WARM)),
        }
    }

    fn new<N: Net>(client: &ClientState<N>, since: Nanos, until: Nanos, reason: Reason) -> Self {
        let warm = after(since, Some(WARM));
        let plan = client.listener.plan();
        let age = plan.timeouts.old_at(client.opened);
        let waiting = if age < until && reason == Reason::IdleTimeout {
            Self {
                // A busy client hears of it with a response.
                until: age.max(warm),
                reason: Reason::MaxConnectionAge,
                warm,
            }
        } else {
            Self { until, reason, warm }
        };
        client.deadline.set(waiting.until);
        waiting
    }
}

/// Waits for a request's first byte. `Err` ends the connection.
pub fn poll_idle<N: Net>(
    connection: &mut Connection<N>,
    waiting: &Waiting,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<(), Option<Reason>>> {
    if connection.client.is_revoked() {
        return Poll::Ready(Err(Some(Reason::Denied)));
    }
    if connection.wire.poll_readable(cx).is_ready() {
        return Poll::Ready(Ok(()));
    }
    // Nobody waits for an answer here, unless a request is on its way just now.
    let leaves = connection.client.listener.closes_idle(waiting.warm);
    if let Some(leaves) = leaves {
        connection.client.deadline.set(waiting.until.min(leaves));
    }
    ready!(connection.client.deadline.poll(cx));
    if leaves.is_some() {
        return Poll::Ready(Err(Some(Reason::Draining)));
    }
    let reason = connection.client.deadline.cut().unwrap_or(waiting.reason);
    if reason == Reason::HeaderTimeout {
        connection.client.refused(reason, Protocol::Http1, None);
    }
    Poll::Ready(Err(Some(reason)))
}

/// Serves one request. What few requests come to is boxed, so that it takes no place in the others' memory.
pub async fn exchange_once<N: Net>(mut connection: Connection<N>) -> Rest<N> {
    let mut plan = connection.client.listener.plan();
    let head = match read_head(&mut connection, &plan).await {
        Ok(Came::Head(head)) => head,
        Ok(Came::Nothing) => {
            let waiting = Waiting::on(&connection.client);
            return Rest::Idle(connection, waiting);
        }
        Ok(Came::End) => return Rest::Over(None),
        Err(refusal) => return Rest::Over(Some(Box::pin(refuse(connection, &plan, refusal)).await)),
    };
    // Its head may have taken a while. What is in force now decides.
    if connection.client.is_revoked() {
        return Rest::Over(Some(Reason::Denied));
    }
    connection.client.listener.renew(&mut plan);
    let started = connection.client.thread.now();
    connection.client.served = connection.client.served.saturating_add(1);
    let (client, wire) = connection.split();
    let ClientState { thread, listener, .. } = &client;
    let mut down = ServerExchange::new(wire, head, thread.buffers.clone(), &plan.http1);
    let leaving = leaves(&plan, listener, client.opened, started, client.served);
    if leaving.is_some() {
        down.leave();
    }
    if leaving == Some(Reason::MaxRequests) {
        let stats = thread.telemetry.listener(&plan.label);
        stats.limit_hit(Limit::RequestsPerConnection);
    }
    let old_end = plan.timeouts.old_end(client.opened, started);
    client.deadline.end_by(old_end, Reason::MaxConnectionAge);
    let context = Context {
        thread,
        listener,
        plan: &plan,
        judgement: listener.judgement(),
        peer: &client.peer,
        deadline: &client.deadline,
        started,
        old_at: match leaving {
            Some(_) => NEVER,
            None => plan.timeouts.old_at(client.opened),
        },
        protocol: Protocol::Http1,
    };
    let mut outcome = exchange(&context, &mut down).await;
    if let Some(reason) = outcome.reason
        && !down.is_finished()
    {
        down.abort(reason, outcome.reset);
    }
    let flushed = flush(&mut down, &context).await;
    let mut now = thread.now();
    if !flushed && outcome.reason.is_none() {
        outcome.reason = Some(unread_for(&client.deadline));
    }
    report(&context, &down, &outcome, now - started);
    let failed = !flushed || !down.is_finished() && outcome.tunnel.is_none();
    if !failed && down.lacks_rest() {
        Box::pin(take_rest(&mut down, &context)).await;
        now = thread.now();
    }
    let Finished { wire, head, reusable } = down.finish_exchange();
    thread.put_request_head(head);
    let connection = Connection { client, wire };
    if let Some(server) = outcome.tunnel {
        let cluster = outcome
            .cluster
            .unwrap_or_else(|| connection.client.thread.telemetry.shared().none().clone());
        let to = Server {
            cluster: &cluster,
            endpoint: outcome.endpoint.as_deref(),
            admitted: Admitted::Tunnel(outcome.rule),
        };
        return Rest::Over(Box::pin(upgraded(connection, &plan, server, to)).await);
    }
    if failed {
        return Rest::Over(outcome.reason);
    }
    if let Some(name) = outcome.inside {
        return Rest::Inside(connection, name);
    }
    if !reusable {
        // A drain may have begun meanwhile, or it got too old.
        let ClientState {
            listener,
            opened,
            served,
            ..
        } = &connection.client;
        let leaving = leaving.or_else(|| leaves(&plan, listener, *opened, now, *served));
        Box::pin(linger(connection)).await;
        return Rest::Over(outcome.reason.or(leaving));
    }
    let waiting = Waiting::next(&connection.client, &plan, now);
    Rest::Idle(connection, waiting)
}

/// Why the connection is to end with the response that comes next.
fn leaves(
    plan: &ListenerPlan,
    listener: &Listener,
    opened: Nanos,
    now: Nanos,
    served: u32,
) -> Option<Reason> {
    let most = plan.resource.limits.requests_per_connection;
    if listener.drain() != Drain::No {
        Some(Reason::Draining)
    } else if plan.timeouts.old_at(opened) <= now {
        Some(Reason::MaxConnectionAge)
    } else if most > 0 && served >= most {
        Some(Reason::MaxRequests)
    } else {
        None
    }
}

/// Why a head was not taken.
struct Refusal {
    reason: Reason,
    detail: Option<&'static str>,
    /// Whether the client gets an answer: one that sent nothing, or is gone, gets none.
    answer: bool,
}

/// What came when the connection was said to be readable.
enum Came {
    /// A request.
    Head(Box<mesh_http1::RequestHead>),
    /// Nothing: readiness may be old news, or a part of a TLS record.
    Nothing,
    /// The end, between two requests.
    End,
}

/// Reads and parses a head.
async fn read_head<N: Net>(connection: &mut Connection<N>, plan: &ListenerPlan) -> Result<Came, Refusal> {
    let Connection {
        client:
            ClientState {
                thread,
                deadline,
                head_since,
                served,
                ..
            },
        wire,
    } = connection;
    let mut head = thread.request_head();
    let mut armed = false;
    loop {
        if !wire.unread().is_empty() {
            match head.parse(wire.unread(), &plan.http1) {
                Ok(Parsed::Complete) => return Ok(Came::Head(head)),
                Ok(Parsed::Partial) => {}
                Err(error) => {
                    return Err(Refusal {
                        reason: error.reason(),
                        detail: Some(error.as_str()),
                        answer: true,
                    });
                }
            }
        }
        let begun = !wire.unread().is_empty();
        let filled = until(
            deadline,
            poll_fn(|cx| {
                let filled = wire.poll_fill(cx, ReadSize::Small);
                if filled.is_pending() && !begun {
                    return Poll::Ready(None);
                }
                // A head that is there costs no look at the clock.
                if filled.is_pending() && !armed {
                    armed = true;
                    // The first request's time runs since the connection could speak (attacks.md 10).
                    let since = if *served == 0 { *head_since } else { thread.now() };
                    deadline.set(after(since, plan.timeouts.header));
                }
                filled.map(Some)
            }),
        )
        .await;
        let filled = match filled {
            Some(None) => {
                thread.put_request_head(head);
                return Ok(Came::Nothing);
            }
            Some(filled) => filled,
            None => None,
        };
        match filled {
            Some(Ok(Filled::Bytes(_))) => {}
            Some(Ok(Filled::End)) if !begun => return Ok(Came::End),
            Some(Ok(Filled::End)) => {
                return Err(Refusal {
                    reason: Reason::ClientClosed,
                    detail: None,
                    answer: false,
                });
            }
            Some(Ok(Filled::Full)) => {
                if !wire.grow(plan.http1.head_bytes) {
                    return Err(Refusal {
                        reason: Reason::HeadTooLarge,
                        detail: None,
                        answer: true,
                    });
                }
            }
            Some(Err(_)) if !begun => return Ok(Came::End),
            Some(Err(_)) => {
                return Err(Refusal {
                    reason: Reason::ClientClosed,
                    detail: None,
                    answer: false,
                });
            }
            None => {
                return Err(Refusal {
                    reason: deadline.cut().unwrap_or(Reason::HeaderTimeout),
                    detail: None,
                    answer: begun,
                });
            }
        }
    }
}

/// Answers a head that did not end in time, for a reason, and closes.
pub async fn too_slow<N: Net>(connection: Connection<N>, plan: &ListenerPlan, reason: Reason) -> Reason {
    let refusal = Refusal {
        reason,
        detail: None,
        answer: true,
    };
    refuse(connection, plan, refusal).await
}

/// Answers bytes that are no request, and closes.
async fn refuse<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan, refusal: Refusal) -> Reason {
    let Refusal {
        reason,
        detail,
        answer,
    } = refusal;
    let none = connection.client.thread.telemetry.shared().none();
    let stats = connection.client.thread.telemetry.route(
        &plan.label,
        none,
        none,
        Protocol::Http1,
        plan.called(&connection.client.peer),
    );
    stats.started();
    stats.finished(&Counted {
        status: Some(reason.status()),
        grpc_status: None,
        reason: Some(reason),
        duration: 0,
        retries: 0,
    });
    let limit = match reason {
        Reason::HeadTooLarge => Some(Limit::HeaderBytes),
        Reason::TooManyHeaders => Some(Limit::HeaderCount),
        _ => None,
    };
    if let Some(limit) = limit {
        connection
            .client
            .thread
            .telemetry
            .listener(&plan.label)
            .limit_hit(limit);
    }
    connection
        .client
        .refused(reason, Protocol::Http1, answer.then(|| reason.status()));
    if answer {
        let status = local::proxy_status(reason, detail);
        let body = local::text(reason, detail);
        write_refusal(connection.wire.out(), reason.status(), &status, &body);
        linger(connection).await;
    }
    reason
}

/// Why a client has not got all of its answer.
pub fn unread_for(deadline: &Deadline) -> Reason {
    deadline.cut().unwrap_or(Reason::ClientClosed)
}

/// Sends what is queued; false when the client is gone or does not read.
async fn flush<N: Net>(down: &mut ServerExchange<N::Stream>, context: &Context<'_, N>) -> bool {
    if down.wire.pending() == 0 {
        return true;
    }
    let at = after(context.thread.now(), context.plan.timeouts.stream_idle);
    context.deadline.set(at);
    matches!(
        until(context.deadline, poll_fn(|cx| down.poll_flush(cx))).await,
        Some(Ok(()))
    )
}

/// Waits a little for the end of a request whose answer is complete, and throws away what comes of it, so that another one
/// can follow.
async fn take_rest<N: Net>(down: &mut ServerExchange<N::Stream>, context: &Context<'_, N>) {
    let at = after(context.thread.now(), Some(LINGER_TIME));
    context.deadline.set(at);
    let mut dropped = 0;
    let _ = until(context.deadline, poll_fn(|cx| poll_rest(cx, down, &mut dropped))).await;
}

/// Ends the connection so that the client sees its response.
async fn linger<N: Net>(connection: Connection<N>) {
    let Connection { client, mut wire } = connection;
    let ClientState { thread, deadline, .. } = &client;
    deadline.set(after(thread.now(), Some(LINGER_TIME)));
    let _ = until(
        deadline,
        poll_fn(|cx| match wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => wire.poll_shutdown(cx),
            other => other,
        }),
    )
    .await;
    let mut scratch = thread.buffers.small();
    let mut budget = LINGER_BYTES;
    let _ = until(
        deadline,
        poll_fn(|cx| poll_discard(&mut wire.io, cx, &mut scratch, &mut budget)),
    )
    .await;
    thread.buffers.put(scratch);
    deadline.set(NEVER);
}

/// The connection left HTTP.
async fn upgraded<N: Net>(
    mut connection: Connection<N>,
    plan: &ListenerPlan,
    mut server: Box<Left<N::Stream>>,
    to: Server<'_>,
) -> Option<Reason> {
    pass(&mut connection, plan, &mut server.pooled, to, Protocol::Tcp).await
}

/// Counts a request, and writes it down.
fn report<N: Net>(
    context: &Context<'_, N>,
    down: &ServerExchange<N::Stream>,
    outcome: &Outcome<N::Stream>,
    duration: Nanos,
) {
    let passed = down.payload_bytes();
    let stats = &outcome.stats;
    stats.received(passed.received);
    stats.sent(passed.sent);
    let end = Counted {
        status: Some(match (outcome.status, outcome.reason) {
            (0, Some(reason)) => reason.status(),
            (status, _) => status,
        }),
        grpc_status: down
            .grpc_status()
            .or_else(|| down.is_grpc().then(|| outcome.missing_grpc_status())),
        reason: outcome.reason,
        duration,
        retries: outcome.retries,
    };
    stats.finished(&end);
    access::request(context, down.request(), outcome, &end, passed);
}
