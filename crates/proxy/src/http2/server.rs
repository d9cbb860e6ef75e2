//! One client's HTTP/2 connection: a task that drives it, and a task for each of its streams.
//!
//! ```text
//!   open ──> (drain, age, idle, requests) ──> leaving: GOAWAY, streams go on ──> over
//!     │                                          └─> (drain, age: no time left) ─┐
//!     └────> (flood, deadline, stall) ───────────────> ending: GOAWAY with a code ─> over
//! ```
//!
//! Everything that waits has a deadline: the preface, and a head that has begun (`timeouts.header`), a connection without streams
//! (`timeouts.idle`), its age, a client that does not read (`timeouts.streamIdle`), a drain, and the leave-taking
//! itself. Streams keep their own, as every exchange does.
//!
//! Bounds: `limits.streams` streams, each with a window of `limits.http2StreamWindowBytes` for its request and
//! 128 KiB of its response in flight; 64 MiB for all requests together, where their windows are more; what the meter of
//! [`mesh_http2`] says.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use mesh_http2::meter::{Budgets, Role};
use mesh_http2::{Cause, Code, Settings};
use mesh_model::errors::Reason;

use super::channel::{self, Channel};
use super::connection_window;
use super::fault;
use super::server_exchange::stream;
use super::socket::Socket;
use crate::access;
use crate::clock::{NEVER, Nanos, after};
use crate::connection::{ClientState, Connection, WARM};
use crate::exchange::Peer;
use crate::io::Net;
use crate::plan::{ListenerPlan, Timeouts};
use crate::telemetry::{Limit, ListenerStats, Own, Protocol};
use crate::thread::{Drain, Listener, Thread};
use crate::timer::{Cap, Deadline, until};

/// How long a client has to take note of a GOAWAY, and bytes of it that are read meanwhile, so that it is not lost to
/// a reset, nor what the kernel still holds of the last responses: whoever reads them says so (WINDOW_UPDATE). One that
/// says something has as long again.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
/// How long all of that may take: 4 MiB, which are the most that kernels hold, at 1 Mbit/s.
const LINGER_MOST: Duration = Duration::from_secs(32);
/// How long requests may come behind a client's word that it has read GOAWAY, which it had in hand when it gave it.
const BEHIND: Duration = Duration::from_millis(100);
/// How long the streams that meet a drain's deadline, or that of a connection that is too old, have to say so, each by
/// itself, before all of them are cut. Shorter than what the control thread waits for beyond the deadline.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// What a connection's streams share.
pub(super) struct Shared<N: Net> {
    pub(super) thread: Rc<Thread<N>>,
    pub(super) listener: Rc<Listener>,
    pub(super) peer: Peer,
    stats: Own<ListenerStats>,
    /// When its streams must be over: some time after it was too old, and with a drain.
    end: Rc<Cap>,
    streams: Cell<u32>,
    idle_since: Cell<Nanos>,
    /// The connection's task, woken when its last stream ends.
    driver: RefCell<Option<Waker>>,
}

impl<N: Net> Shared<N> {
    /// A deadline for a stream.
    pub(super) fn deadline(&self) -> Deadline {
        self.thread.timers.capped(&self.end)
    }
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
    connection: channel::Shared,
    socket: Socket<N::Stream>,
    shared: Rc<Shared<N>>,
    stats: Own<ListenerStats>,
    deadline: &'a Deadline,
    opened: Nanos,
    /// Until then its first request may be on its way, and neither a drain nor its age asks it to leave: who hears of a
    /// GOAWAY first does not send it, and may meet the next one where it connects again.
    warm: Nanos,
    served: u32,
    phase: Phase,
    /// Since when the client knows that it is to leave.
    knows: Option<Nanos>,
    /// When the client was judged last.
    judgement: u64,
}

/// Serves a client's connection to its end.
pub async fn serve<N: Net>(connection: Connection<N>) -> Option<Reason> {
    let (client, wire) = connection.split();
    let ClientState {
        thread,
        listener,
        peer,
        deadline,
        opened,
        permit,
        head_since,
        judged: judgement,
        ..
    } = client;
    let plan = listener.plan();
    let stats = thread.telemetry.listener(&plan.label);
    let connection = mesh_http2::Connection::new(Role::Server, settings(&plan), Rc::clone(&thread.http2));
    let connection = Rc::new(RefCell::new(connection));
    let mut socket = Socket::new(wire, Rc::clone(&connection));
    let header = after(thread.now(), plan.timeouts.header);
    deadline.set(header.min(listener.drain_deadline()));
    let begun = until(&deadline, begin(&thread, &connection, &mut socket)).await;
    if let Err(reason) = begun.unwrap_or(Err(Reason::HeaderTimeout)) {
        refuse(&thread, &listener, &peer, opened, reason);
        if reason == Reason::Http2Protocol {
            linger(&thread, &deadline, socket).await;
        }
        return Some(reason);
    }
    // Settings are those of its beginning; all else goes by the plan in force.
    drop(plan);
    let idle_since = Cell::new(thread.now());
    // Unlike those of its streams not due at the end of a drain: what they say then is sent first.
    let late = thread.timers.deadline();
    // Until its first stream.
    stats.idle(1);
    let end = listener.cap(Reason::MaxConnectionAge);
    let shared = Rc::new(Shared {
        thread,
        listener,
        peer,
        stats: stats.clone(),
        end,
        streams: Cell::new(0),
        idle_since,
        driver: RefCell::default(),
    });
    let phase = Phase::Open;
    let mut driver = Driver {
        connection,
        socket,
        shared,
        stats,
        deadline: &late,
        opened,
        warm: after(head_since, Some(WARM)),
        served: 0,
        phase,
        knows: None,
        judgement,
    };
    let reason = poll_fn(|cx| driver.poll(cx)).await;
    if let Some(
        blame @ (Reason::Http2Flood | Reason::Http2Protocol | Reason::HeaderTimeout | Reason::ClientStalled),
    ) = reason
    {
        let Shared {
            thread,
            listener,
            peer,
            ..
        } = &*driver.shared;
        refuse(thread, listener, peer, opened, blame);
    }
    let lingers = driver.lingers();
    let thread = Rc::clone(&driver.shared.thread);
    // Streams that are left see the connection's end in theirs.
    driver.connection.borrow_mut().gone();
    let socket = driver.socket;
    drop(driver.shared);
    if lingers {
        linger(&thread, &deadline, socket).await;
    }
    drop(permit);
    reason
}

/// Waits for the client's preface and settings; `Err` when something else came of it.
async fn begin<N: Net>(
    thread: &Thread<N>,
    connection: &channel::Shared,
    socket: &mut Socket<N::Stream>,
) -> Result<(), Reason> {
    poll_fn(|cx| {
        loop {
            let read = socket.poll_read(cx, thread.now());
            let _ = socket.poll_write(cx, || thread.now());
            let connection = connection.borrow();
            if connection.is_begun() {
                return Poll::Ready(Ok(()));
            }
            match connection.over() {
                Some(Cause::Protocol(_)) => return Poll::Ready(Err(Reason::Http2Protocol)),
                Some(_) => return Poll::Ready(Err(Reason::ClientClosed)),
                None => {}
            }
            ready!(read);
        }
    })
    .await
}

/// Writes down why a client's connection ended.
fn refuse<N: Net>(thread: &Thread<N>, listener: &Listener, peer: &Peer, opened: Nanos, reason: Reason) {
    let from = access::From {
        thread,
        listener,
        plan: &listener.plan(),
        peer,
        protocol: Protocol::Http2,
    };
    access::refused(&from, reason, None, thread.now() - opened);
}

/// Ends a connection so that the client sees the end and what was said before it.
async fn linger<N: Net>(thread: &Thread<N>, deadline: &Deadline, mut socket: Socket<N::Stream>) {
    let most = after(thread.now(), Some(LINGER_MOST));
    let mut scratch = thread.buffers.small();
    let mut budget = LINGER_BYTES;
    loop {
        let before = budget;
        deadline.set(after(thread.now(), Some(LINGER_TIME)).min(most));
        let ended = poll_fn(|cx| {
            // Whether the client is still there or not, what it sends is taken.
            let _ = ready!(socket.poll_write(cx, || thread.now()));
            let _ = ready!(socket.poll_shutdown(cx));
            socket.poll_discard(cx, &mut scratch, &mut budget)
        });
        if until(deadline, ended).await.is_some() || budget == before {
            break;
        }
    }
    thread.buffers.put(scratch);
}

/// How connections of clients are set up.
fn settings(plan: &ListenerPlan) -> Settings {
    let limits = &plan.resource.limits;
    Settings {
        streams: limits.streams,
        stream_window: limits.http2_stream_window_bytes,
        // A server that does not read one request never holds up another.
        connection_window: connection_window(limits.http2_stream_window_bytes, limits.streams),
        header_bytes: limits.header_bytes,
        budgets: Budgets::new(limits.header_bytes),
    }
}

impl<N: Net> Driver<'_, N> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        loop {
            self.poll_streams(cx);
            if self.phase == Phase::Open && self.connection.borrow().is_worn() {
                self.leave(Reason::MaxRequests);
            }
            let thread = &self.shared.thread;
            let written = self.socket.poll_write(cx, || thread.now());
            if matches!(written, Poll::Ready(Err(_))) {
                self.connection.borrow_mut().gone();
            }
            let over = self.connection.borrow().over();
            if let Some(cause) = over {
                let reason = self.reason(cause);
                if written.is_ready() || cause == Cause::Gone {
                    return Poll::Ready(Some(reason));
                }
            } else if written.is_ready() && self.connection.borrow().is_done() {
                return Poll::Ready(match self.phase {
                    Phase::Open => None,
                    Phase::Leaving(reason, _) | Phase::Ending(reason, _) => Some(reason),
                });
            }
            match self.poll_clock(cx) {
                Poll::Ready(Some(reason)) => return Poll::Ready(Some(reason)),
                // What was said is to be sent.
                Poll::Ready(None) => continue,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads what there is, and gives each new stream a task.
    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        loop {
            let read = self.socket.poll_read(cx, self.shared.thread.now());
            loop {
                let arrived = self.connection.borrow_mut().arrived();
                let Some((key, head)) = arrived else { break };
                self.accept(Channel::new(Rc::clone(&self.connection), key), head);
            }
            for _ in 0..self.connection.borrow_mut().take_refused() {
                self.stats.limit_hit(Limit::Streams);
            }
            if read.is_pending() || self.connection.borrow().over().is_some() {
                return self.connection.borrow_mut().set_driver(cx.waker());
            }
        }
    }

    /// Why the connection is over, and what is counted and said because of it.
    fn reason(&mut self, cause: Cause) -> Reason {
        let reason = match cause {
            Cause::Flood(_) => Reason::Http2Flood,
            Cause::Protocol(_) => Reason::Http2Protocol,
            Cause::Gone | Cause::Ended => return self.over(Reason::ClientClosed),
        };
        if !matches!(self.phase, Phase::Ending(..)) {
            if let Cause::Flood(flood) = cause {
                self.stats.limit_hit(fault::limit(flood));
            }
            let until = after(self.shared.thread.now(), Some(LINGER_TIME));
            self.phase = Phase::Ending(reason, until);
        }
        reason
    }

    fn accept(&mut self, channel: Channel, head: Box<mesh_http2::Head>) {
        self.served = self.served.saturating_add(1);
        let most = self.shared.listener.requests_per_connection();
        if most > 0 && self.served >= most && self.phase == Phase::Open {
            self.stats.limit_hit(Limit::RequestsPerConnection);
            self.leave(Reason::MaxRequests);
        }
        let with = (Alive::new(&self.shared), head, channel);
        let places = &self.shared.thread.places;
        tokio::task::spawn_local(places.lend(|(alive, head, channel)| stream(alive, head, channel), with));
    }

    /// Asks the client to go elsewhere; what it has begun goes on.
    fn leave(&mut self, reason: Reason) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving(reason, self.shared.thread.now());
            self.connection.borrow_mut().leave();
        }
    }

    /// Says when streams must be over. All are told when that is sooner than they know, which is when deadlines have changed.
    fn set_end(&self, timeouts: &Timeouts) {
        let leaves = match self.phase {
            Phase::Leaving(_, at) => at,
            Phase::Open | Phase::Ending(..) => 0,
        };
        let (cap, end) = (&self.shared.end, timeouts.old_end(self.opened, leaves));
        let before = cap.own();
        if end == before {
            return;
        }
        cap.set(end);
        if end < before && self.shared.streams.get() > 0 {
            self.shared.thread.timers.wake_capped(cap);
        }
    }

    /// Ends the connection with a code.
    fn end(&mut self, reason: Reason, code: Code) {
        let until = after(self.shared.thread.now(), Some(LINGER_TIME));
        self.phase = Phase::Ending(reason, until);
        self.connection.borrow_mut().abort(code);
    }

    /// Why the connection is over, when it ends with `reason` now.
    fn over(&self, reason: Reason) -> Reason {
        match self.phase {
            Phase::Open => reason,
            Phase::Leaving(earlier, _) | Phase::Ending(earlier, _) => earlier,
        }
    }

    /// Whether the client may still be sending, and reading what was said: not where it has left.
    fn lingers(&self) -> bool {
        let has_left = self.connection.borrow().over() == Some(Cause::Gone);
        !has_left || matches!(self.phase, Phase::Ending(..))
    }

    /// What the clock, the drain and the client's silence demand. Ready with a reason when the connection is over,
    /// ready without when something was said that is to be sent.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        let drains = self.shared.listener.drain() != Drain::No && self.phase == Phase::Open;
        if drains && self.served > 0 {
            self.leave(Reason::Draining);
            return Poll::Ready(None);
        }
        let leaves = if drains { self.warm } else { NEVER };
        let listener = &self.shared.listener;
        if self.judgement != listener.judgement() && !matches!(self.phase, Phase::Ending(..)) {
            self.judgement = listener.judgement();
            if listener.plan().has_revoked(&self.shared.peer) {
                self.end(Reason::Denied, Code::NO_ERROR);
                return Poll::Ready(None);
            }
        }
        let timeouts = listener.timeouts();
        self.set_end(&timeouts);
        let age = match self.served {
            0 => timeouts.old_at(self.opened).max(self.warm),
            _ => timeouts.old_at(self.opened),
        };
        let (idle, age) = match self.phase {
            Phase::Open if self.shared.streams.get() == 0 => {
                (after(self.shared.idle_since.get(), timeouts.idle), age)
            }
            Phase::Open => (NEVER, age),
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
        let last = match self.phase {
            Phase::Leaving(..) if self.connection.borrow().knows_of_leave() => {
                let since = *self.knows.get_or_insert_with(|| self.shared.thread.now());
                after(since, Some(BEHIND))
            }
            _ => NEVER,
        };
        let stall = self
            .socket
            .stalled_since()
            .map_or(NEVER, |since| after(since, timeouts.stream_idle));
        let unfinished = match self.phase {
            Phase::Ending(..) => NEVER,
            Phase::Open | Phase::Leaving(..) => self
                .socket
                .unfinished_since()
                .map_or(NEVER, |since| after(since, timeouts.header)),
        };
        let end = match self.shared.streams.get() {
            0 => self.shared.end.end(),
            _ => after(self.shared.end.end(), Some(ANSWER_TIME)),
        };
        let parts = parting.min(last).min(leaves);
        let at = idle.min(age).min(parts).min(stall).min(unfinished).min(end);
        self.deadline.set(at);
        *self.shared.driver.borrow_mut() = Some(cx.waker().clone());
        if self.deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if at == stall {
            self.stats.limit_hit(Limit::Http2Backlog);
            self.socket.reset_on_drop();
            self.connection.borrow_mut().gone();
            return Poll::Ready(Some(self.over(Reason::ClientStalled)));
        }
        match self.phase {
            Phase::Ending(reason, _) => return Poll::Ready(Some(reason)),
            _ if at == end => self.end(self.shared.end.why(), Code::NO_ERROR),
            // No stream can go on: its frames would come behind what does not come.
            _ if at == unfinished => self.end(Reason::HeaderTimeout, Code::NO_ERROR),
            Phase::Leaving(..) if at == last => self.connection.borrow_mut().leave_for_good(),
            Phase::Leaving(reason, _) => self.end(reason, Code::NO_ERROR),
            Phase::Open if at == leaves => self.leave(Reason::Draining),
            Phase::Open if at == age => self.leave(Reason::MaxConnectionAge),
            Phase::Open => self.leave(Reason::IdleTimeout),
        }
        Poll::Ready(None)
    }
}
