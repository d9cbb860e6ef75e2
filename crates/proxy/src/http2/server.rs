//! One client's HTTP/2 connection: a task that drives it, and a task for each of its streams.
//!
//! ```text
//!   open ──> (drain, age, idle, requests) ──> leaving: GOAWAY, streams go on ──> over
//!     └────> (flood, deadline, stall) ───────> ending: GOAWAY with a code ─────> over
//! ```
//!
//! Everything that waits has a deadline: the preface (`timeouts.header`), a connection without streams
//! (`timeouts.idle`), its age, a client that does not read (`timeouts.streamIdle`), a drain, and the leave-taking
//! itself. Streams keep their own, as every exchange does.
//!
//! Bounds: `limits.streams` streams, each with a window of `limits.bufferBytes` for its request and 128 KiB of its
//! response in flight; [`CONNECTION_WINDOW`] for all requests together; what the [`super::meter`] says.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;
use mesh_model::errors::Reason;
use tokio::io::AsyncWrite;

use super::body::SEND_BUFFER;
use super::meter::{Budgets, Flood, Role};
use super::metered::{Farewell, Metered};
use super::server_exchange::stream;
use super::wear::DATA_BUDGET;
use crate::access;
use crate::clock::{NEVER, Nanos, after};
use crate::connection::Connection;
use crate::exchange::Peer;
use crate::io::Net;
use crate::plan::ListenerPlan;
use crate::telemetry::{Limit, ListenerStats, Own, Protocol};
use crate::thread::{Drain, Listener, Thread};
use crate::timer::{Deadline, until};

/// The window for the requests of all streams of a connection: a few clients that send more than servers take do not
/// hold up the rest, and a connection holds no more than this.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The bounds of a stream's window. Above, throughput grows no more; below, a frame does not fit.
const STREAM_WINDOW: (u32, u32) = (16 * 1024, 1024 * 1024);
/// Streams that this side reset and that are remembered, so that what was on its way for them is passed over.
const REMEMBERED_RESETS: usize = 256;
/// How long they are remembered: longer than anything is on its way.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Streams that were reset before they were looked at. Far above what the meter allows: it judges, not `h2`.
const RESET_UNSEEN: usize = 16_384;
/// How long a client has to take note of a GOAWAY, and bytes of it that are read meanwhile, so that it is not lost to
/// a reset.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// What a connection's streams share.
pub(super) struct Shared<N: Net> {
    pub(super) thread: Rc<Thread<N>>,
    pub(super) listener: Rc<Listener>,
    pub(super) peer: Peer,
    stats: Rc<Own<ListenerStats>>,
    streams: Cell<u32>,
    idle_since: Cell<Nanos>,
    /// The connection's task, woken when its last stream ends.
    driver: RefCell<Option<Waker>>,
}

/// A stream that is served, counted until it is dropped.
pub(super) struct Alive<N: Net>(Rc<Shared<N>>);

impl<N: Net> Alive<N> {
    fn new(shared: &Rc<Shared<N>>) -> Self {
        if shared.streams.get() == 0 {
            shared.stats.idle(-1);
        }
        shared.streams.set(shared.streams.get() + 1);
        Self(Rc::clone(shared))
    }

    /// What it shares with the others.
    pub(super) fn shared(&self) -> &Shared<N> {
        &self.0
    }
}

impl<N: Net> Drop for Alive<N> {
    fn drop(&mut self) {
        let left = self.0.streams.get().saturating_sub(1);
        self.0.streams.set(left);
        if left == 0 {
            self.0.stats.idle(1);
            self.0.idle_since.set(self.0.thread.now());
            if let Some(driver) = self.0.driver.take() {
                driver.wake();
            }
        }
    }
}

impl<N: Net> Drop for Shared<N> {
    fn drop(&mut self) {
        // The last stream is gone, and with this the connection.
        self.stats.idle(-1);
    }
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// GOAWAY was said, at this time; streams go on.
    Leaving(Reason, Nanos),
    /// GOAWAY with a code was said; nothing goes on. Over by this time.
    Ending(Reason, Nanos),
}

/// A connection's task.
struct Driver<'a, N: Net> {
    h2: h2::server::Connection<Metered<N::Stream>, Bytes>,
    metered: Metered<N::Stream>,
    shared: Rc<Shared<N>>,
    plan: Arc<ListenerPlan>,
    stats: Rc<Own<ListenerStats>>,
    deadline: &'a Deadline,
    opened: Nanos,
    served: u32,
    phase: Phase,
}

/// Serves a client's connection to its end.
pub async fn serve<N: Net>(connection: Connection<N>) -> Option<Reason> {
    let Connection {
        thread,
        listener,
        peer,
        deadline,
        mut wire,
        opened,
        permit,
        ..
    } = connection;
    let plan = listener.plan();
    let stats = thread.telemetry.listener(&plan.label);
    let clock = {
        let thread = Rc::clone(&thread);
        move || thread.now()
    };
    let budgets = Budgets::new(plan.resource.limits.header_bytes);
    let prefix = wire.take_unread();
    let buffers = Rc::clone(&thread.buffers);
    let metered = Metered::new(wire.into_io(), prefix, Role::Server, budgets, buffers, clock);
    let header = after(thread.now(), plan.timeouts.header);
    deadline.set(header.min(listener.drain_deadline()));
    let mut handshake = pin!(builder(&plan).handshake(metered.clone()));
    let shaken = until(
        &deadline,
        poll_fn(|cx| {
            let shaken = handshake.as_mut().poll(cx);
            match metered.poll_drain(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                _ => shaken.map(Some),
            }
        }),
    )
    .await;
    let refused = |reason| {
        let from = access::From {
            thread: &thread,
            listener: &listener,
            plan: &plan,
            peer: &peer,
            protocol: Protocol::Http2,
        };
        access::refused(&from, reason, None, thread.now() - opened);
        Some(reason)
    };
    let h2 = match shaken {
        Some(Some(Ok(h2))) => h2,
        Some(Some(Err(error))) if !error.is_io() => {
            let reason = refused(Reason::Http2Protocol);
            linger(&thread, &deadline, metered).await;
            return reason;
        }
        Some(_) => return refused(Reason::ClientClosed),
        None => return refused(Reason::HeaderTimeout),
    };
    let idle_since = Cell::new(thread.now());
    // Until its first stream.
    stats.idle(1);
    let shared = Rc::new(Shared {
        thread,
        listener,
        peer,
        stats: Rc::clone(&stats),
        streams: Cell::new(0),
        idle_since,
        driver: RefCell::default(),
    });
    let phase = Phase::Open;
    let mut driver = Driver {
        h2,
        metered: metered.clone(),
        shared,
        plan,
        stats,
        deadline: &deadline,
        opened,
        served: 0,
        phase,
    };
    let reason = poll_fn(|cx| driver.poll(cx)).await;
    if let Some(blame @ (Reason::Http2Flood | Reason::Http2Protocol | Reason::ClientStalled)) = reason {
        let from = access::From {
            thread: &driver.shared.thread,
            listener: &driver.shared.listener,
            plan: &driver.plan,
            peer: &driver.shared.peer,
            protocol: Protocol::Http2,
        };
        access::refused(&from, blame, None, driver.shared.thread.now() - opened);
    }
    let lingers = driver.lingers(reason);
    let thread = Rc::clone(&driver.shared.thread);
    // Streams that are left see the connection's end in theirs.
    drop(driver);
    if lingers {
        linger(&thread, &deadline, metered).await;
    }
    drop(permit);
    reason
}

/// Ends a connection so that the client sees the end and what was said before it.
async fn linger<N: Net>(thread: &Thread<N>, deadline: &Deadline, metered: Metered<N::Stream>) {
    deadline.set(after(thread.now(), Some(LINGER_TIME)));
    let mut scratch = thread.buffers.small();
    let mut budget = LINGER_BYTES;
    let mut shut = metered.clone();
    let ended = poll_fn(|cx| {
        // Whether the client is still there or not, what it sends is taken.
        let _ = ready!(Pin::new(&mut shut).poll_shutdown(cx));
        metered.poll_discard(cx, &mut scratch, &mut budget)
    });
    let _ = until(deadline, ended).await;
    thread.buffers.put(scratch);
}

/// How connections of clients are set up.
fn builder(plan: &ListenerPlan) -> Builder {
    let limits = &plan.resource.limits;
    let (least, most) = STREAM_WINDOW;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .initial_window_size(limits.buffer_bytes.clamp(least, most))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .data_frame_budget(DATA_BUDGET)
        // The meter bounds those that are the client's fault, in proportion to what it is answered; `h2` counts all
        // that it makes over the connection's life.
        .max_local_error_reset_streams(None)
        .enable_connect_protocol();
    builder
}

/// The name in metrics of a bound that `h2` keeps itself.
fn limit_of(farewell: Option<Farewell>) -> Limit {
    match farewell {
        Some(Farewell::Continuations) => Limit::Http2Continuations,
        Some(Farewell::HeaderList) => Limit::HeaderBytes,
        Some(Farewell::Resets) => Limit::Http2Resets,
        Some(Farewell::SmallData) | None => Limit::Http2SmallData,
    }
}

impl<N: Net> Driver<'_, N> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        loop {
            let moved = self.poll_frames(cx);
            if let Some(flood) = self.metered.flood()
                && !matches!(self.phase, Phase::Ending(..))
            {
                self.flooded(flood);
                continue;
            }
            if self.phase == Phase::Open && self.metered.is_worn() {
                self.leave(Reason::MaxRequests);
                continue;
            }
            let drained = self.metered.poll_drain(cx);
            if let Poll::Ready(reason) = moved {
                return Poll::Ready(reason);
            }
            if matches!(drained, Poll::Ready(Err(_))) {
                return Poll::Ready(Some(self.over(Reason::ClientClosed)));
            }
            match self.poll_clock(cx) {
                Poll::Ready(Some(reason)) => return Poll::Ready(Some(reason)),
                // What is to be said now is up to `h2`.
                Poll::Ready(None) => continue,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Drives `h2`: frames in both directions, new streams. Ready when the connection is over.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        loop {
            let accepted = {
                let accept = pin!(self.h2.accept());
                accept.poll(cx)
            };
            match accepted {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    return Poll::Ready(match self.phase {
                        Phase::Open => None,
                        Phase::Leaving(reason, _) | Phase::Ending(reason, _) => Some(reason),
                    });
                }
                Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    let reason = match error.reason() {
                        Some(h2::Reason::ENHANCE_YOUR_CALM) if error.is_library() => {
                            self.stats.limit_hit(limit_of(self.metered.farewell()));
                            Reason::Http2Flood
                        }
                        Some(_) if error.is_library() => Reason::Http2Protocol,
                        _ => Reason::ClientClosed,
                    };
                    return Poll::Ready(Some(self.over(reason)));
                }
            }
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        // Taken back before anybody looked at it: nothing is asked of a server.
        if respond
            .poll_reset(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
        self.served = self.served.saturating_add(1);
        let most = self.plan.resource.limits.requests_per_connection;
        if most > 0 && self.served == most {
            self.stats.limit_hit(Limit::RequestsPerConnection);
            self.leave(Reason::MaxRequests);
        }
        let plan = self.shared.listener.plan();
        let with = (Alive::new(&self.shared), plan, request, respond);
        let places = &self.shared.thread.places;
        tokio::task::spawn_local(places.lend(
            |(alive, plan, request, respond)| stream(alive, plan, request, respond),
            with,
        ));
    }

    /// Asks the client to go elsewhere; what it has begun goes on.
    fn leave(&mut self, reason: Reason) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving(reason, self.shared.thread.now());
            self.h2.graceful_shutdown();
        }
    }

    /// Ends the connection with a code.
    fn end(&mut self, reason: Reason, code: h2::Reason) {
        let until = after(self.shared.thread.now(), Some(LINGER_TIME));
        self.phase = Phase::Ending(reason, until);
        self.h2.abrupt_shutdown(code);
    }

    fn flooded(&mut self, flood: Flood) {
        self.stats.limit_hit(flood.limit());
        self.end(Reason::Http2Flood, h2::Reason::ENHANCE_YOUR_CALM);
    }

    /// Why the connection is over, when it ends with `reason` now.
    fn over(&self, reason: Reason) -> Reason {
        match self.phase {
            Phase::Open => reason,
            Phase::Leaving(earlier, _) | Phase::Ending(earlier, _) => earlier,
        }
    }

    /// Whether the client may still be sending and has a GOAWAY to read.
    fn lingers(&self, reason: Option<Reason>) -> bool {
        matches!(reason, Some(Reason::Http2Flood | Reason::Http2Protocol))
            || matches!(self.phase, Phase::Ending(..))
    }

    /// What the clock, the drain and the client's silence demand. Ready with a reason when the connection is over,
    /// ready without when something was said that `h2` has to pass on.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        let drain = self.shared.listener.drain();
        if drain != Drain::No && self.phase == Phase::Open {
            self.leave(Reason::Draining);
            return Poll::Ready(None);
        }
        let timeouts = &self.plan.timeouts;
        let (idle, age) = match self.phase {
            Phase::Open if self.shared.streams.get() == 0 => (
                after(self.shared.idle_since.get(), timeouts.idle),
                after(self.opened, timeouts.max_connection_age),
            ),
            Phase::Open => (NEVER, after(self.opened, timeouts.max_connection_age)),
            Phase::Leaving(..) | Phase::Ending(..) => (NEVER, NEVER),
        };
        // Clients that left while nothing was under way owe no more than to read the news.
        let parting = match self.phase {
            Phase::Open => NEVER,
            Phase::Leaving(_, at) if self.shared.streams.get() == 0 => {
                after(at.max(self.shared.idle_since.get()), Some(LINGER_TIME))
            }
            Phase::Leaving(..) => NEVER,
            Phase::Ending(_, at) => at,
        };
        let stall = self
            .metered
            .stalled_since()
            .map_or(NEVER, |since| after(since, timeouts.stream_idle));
        let drained = self.shared.listener.drain_deadline();
        let at = idle.min(age).min(parting).min(stall).min(drained);
        self.deadline.set(at);
        *self.shared.driver.borrow_mut() = Some(cx.waker().clone());
        if self.deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if at == stall {
            self.stats.limit_hit(Limit::Http2Backlog);
            self.metered.reset_on_drop();
            return Poll::Ready(Some(self.over(Reason::ClientStalled)));
        }
        match self.phase {
            Phase::Ending(reason, _) => return Poll::Ready(Some(reason)),
            _ if at == drained => self.end(Reason::Draining, h2::Reason::NO_ERROR),
            Phase::Leaving(reason, _) => self.end(reason, h2::Reason::NO_ERROR),
            Phase::Open if at == age => self.leave(Reason::MaxConnectionAge),
            Phase::Open => self.leave(Reason::IdleTimeout),
        }
        Poll::Ready(None)
    }
}
