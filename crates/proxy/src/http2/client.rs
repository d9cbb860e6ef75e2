//! Which connection carries the next request to a server, and when is another one opened?
//!
//! A data thread keeps, for each endpoint of a cluster, its HTTP/2 connections. A request takes a [`Seat`] on the first
//! that has one free; so a shrinking load leaves whole connections idle, and those are closed. When all are full (by
//! the cluster's `streamsPerConnection` or the server's own limit) another is opened. Requests that need one wait for
//! an attempt that is under way, as far as it will have seats for them: a burst opens as many connections as it needs.
//!
//! A connection has a task of its own, which nobody owns: it lives while the connection stands and has streams or is
//! listed here. It meters what the server sends, and asks by PING whether a silent server is still there.
//!
//! Invariants: an entry holds its endpoint, so that no other endpoint has its key; an attempt is listed until it has
//! succeeded or failed, and then all that waited for it go on; a connection that failed, or whose server is leaving
//! (GOAWAY), gets no new streams, and those it has may end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use mesh_model::errors::Reason;
use mesh_model::resources::ClusterTimeouts;
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::body::SEND_BUFFER;
use super::frame::Kind;
use super::liveness::{Liveness, Moved, Verdict};
use super::meter::{Budgets, Role};
use super::metered::Metered;
use crate::balance::EndpointState;
use crate::clock::{Nanos, after, nanos};
use crate::io::{Net, Stream};
use crate::thread::Thread;
use crate::upstream::cluster::key;
use crate::upstream::pool::{OpenConnection, Pooled};
use crate::upstream::room::Bell;

/// The window of a stream: what a slow client makes this proxy hold of one response. Enough for 1 Gbit/s at 1 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The largest window of a connection, where that of all its streams would be more.
const MOST_WINDOW: u32 = 64 * 1024 * 1024;
/// The bound of a response's head. Servers that send more are broken or hostile.
const HEAD_BYTES: u32 = 64 * 1024;
/// Streams that this side reset and that are remembered, so that what was on its way for them is passed over. When
/// more are reset, late frames are answered with one more reset each; nothing ends the connection.
const REMEMBERED_RESETS: usize = 1024;
/// How long they are remembered: longer than anything is on its way.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// How often a connection with streams is looked at: one that moved nothing since is asked by PING, and is over when
/// it still has said nothing the next time.
const LOOK: Duration = Duration::from_secs(10);
/// Connections that one request waits for before it waits for room like any other: those that came meanwhile may take
/// every place on each of them, and a server may allow no streams at all.
const MOST_ATTEMPTS: u32 = 3;

type Map = HashMap<usize, Entry, RandomState>;

/// A thread's HTTP/2 connections to the endpoints of a cluster. Clones share them.
#[derive(Clone)]
pub struct Connections {
    entries: Rc<RefCell<Map>>,
    /// Rung when a place comes free.
    room: Rc<Bell>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// A connection could not be made.
    Failed(Reason),
    /// The server chose HTTP/1.
    Http1,
}

/// One endpoint's.
struct Entry {
    /// Held, so that its address is nobody else's key.
    _endpoint: Arc<EndpointState>,
    links: Vec<Rc<Link>>,
    attempts: Vec<Attempt>,
}

/// What became of an attempt; `None` while it is under way.
type Made = Option<Result<Rc<Link>, NoSeat>>;

/// A connection that is being made.
#[derive(Clone)]
struct Attempt {
    made: watch::Receiver<Made>,
    /// Requests that wait for it.
    waiting: Rc<Cell<u32>>,
}

/// A request that waits for an attempt, counted until it is dropped.
struct Waiter(Rc<Cell<u32>>);

impl Waiter {
    fn new(waiting: &Rc<Cell<u32>>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(Rc::clone(waiting))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A connection.
struct Link {
    send: RefCell<SendRequest<Bytes>>,
    streams: Cell<u32>,
    requests: Cell<u64>,
    opened: Nanos,
    idle_since: Cell<Nanos>,
    over: Rc<Cell<bool>>,
    clock: Box<dyn Fn() -> Nanos>,
    room: Rc<Bell>,
}

/// A place for one stream on a connection, free again when it is dropped.
pub struct Seat {
    link: Rc<Link>,
    reused: bool,
}

impl Seat {
    /// Whether the connection had carried requests before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn send_request(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.link.poll_send()?;
        self.link.send.borrow_mut().send_request(request, end)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.streams.set(self.link.streams.get().saturating_sub(1));
        if self.link.streams.get() == 0 {
            self.link.idle_since.set((self.link.clock)());
        }
        self.link.room.ring();
    }
}

impl Link {
    /// Whether new streams may be opened at all: it stands, and its server is not leaving.
    fn is_good(&self) -> bool {
        !self.over.get() && self.poll_send().is_ok()
    }

    /// Makes the handle ready for a request.
    fn poll_send(&self) -> Result<(), h2::Error> {
        let mut send = self.send.borrow_mut();
        let ready = send.poll_ready(&mut Context::from_waker(Waker::noop()));
        if ready.is_pending() {
            // It waits for the stream that it sent last to be opened. A fresh one does not: how many streams there
            // are is counted here.
            let fresh = send.clone();
            *send = fresh;
            return Ok(());
        }
        match ready {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// A place, if one is free among `most`.
    fn seat(self: &Rc<Self>, most: u32) -> Option<Seat> {
        let streams = self.streams.get();
        if streams >= most || streams as usize >= self.send.borrow().current_max_send_streams() {
            return None;
        }
        if !self.is_good() {
            return None;
        }
        self.streams.set(streams + 1);
        let requests = self.requests.replace(self.requests.get() + 1);
        Some(Seat {
            link: Rc::clone(self),
            reused: requests > 0,
        })
    }
}

impl Connections {
    /// No connections. `room` is rung when a place comes free.
    pub fn new(room: Rc<Bell>) -> Self {
        Self {
            entries: Rc::default(),
            room,
        }
    }

    /// Lists no longer a connection without streams, so that it is closed. False when there is none.
    pub fn close_idle(&self) -> bool {
        let mut entries = self.entries.borrow_mut();
        entries.values_mut().any(|entry| {
            let idle = entry.links.iter().position(|link| link.streams.get() == 0);
            idle.map(|at| entry.links.swap_remove(at)).is_some()
        })
    }

    /// Lists no longer the connections to endpoints that did not stay; they end with their streams.
    pub fn retain(&self, stays: impl Fn(usize) -> bool) {
        self.entries.borrow_mut().retain(|endpoint, _| stays(*endpoint));
    }

    /// Lists no longer what failed, what was idle for too long, and what is too old for new requests.
    pub fn sweep(&self, now: Nanos, timeouts: ClusterTimeouts) {
        let oldest = timeouts
            .idle
            .enabled()
            .map_or(0, |span| now.saturating_sub(nanos(span)));
        let born = timeouts
            .max_connection_age
            .enabled()
            .map_or(0, |span| now.saturating_sub(nanos(span)));
        self.entries.borrow_mut().retain(|_, entry| {
            entry.links.retain(|link| {
                let idle = link.streams.get() == 0 && link.idle_since.get() < oldest;
                !idle && link.opened >= born && link.is_good()
            });
            !entry.links.is_empty() || !entry.attempts.is_empty()
        });
    }

    /// Connections that are listed.
    pub fn len(&self) -> usize {
        self.entries
            .borrow()
            .values()
            .map(|entry| entry.links.len())
            .sum()
    }

    /// Whether none is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A place on a connection to an endpoint, at once where one is free.
    pub fn take(&self, endpoint: &Arc<EndpointState>, streams_per_connection: u32) -> Option<Seat> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(&key(endpoint))?;
        let seat = entry
            .links
            .iter()
            .find_map(|link| link.seat(streams_per_connection));
        if seat.is_none() {
            entry.links.retain(|link| link.is_good());
        }
        seat
    }

    /// A place on a connection to an endpoint, when need be on one that `connect` makes. The caller keeps the
    /// deadline and counts who waits; a caller that is dropped leaves the attempt to others.
    ///
    /// `connect` runs in a task of its own: it must keep its own deadline and hold what it uses.
    ///
    /// # Errors
    /// What `connect` failed with; every caller that waited for it gets the same. [`Reason::UpstreamProtocol`] when
    /// the server agreed to another protocol by ALPN, [`Reason::ConnectionLimit`] when others were faster each time.
    pub async fn checkout<N, F>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        connect: impl Fn() -> F,
    ) -> Result<Seat, NoSeat>
    where
        N: Net,
        F: Future<Output = Result<Pooled<N::Stream>, NoSeat>> + 'static,
    {
        for _ in 0..MOST_ATTEMPTS {
            if let Some(seat) = self.take(endpoint, most) {
                return Ok(seat);
            }
            let mut attempt = match self.join(endpoint, most) {
                Some(attempt) => attempt,
                None => self.open(thread, endpoint, most, connect()),
            };
            let made = {
                let _waiter = Waiter::new(&attempt.waiting);
                let made = attempt.made.wait_for(Option::is_some).await;
                made.ok()
                    .and_then(|made| made.clone())
                    .unwrap_or(Err(NoSeat::Failed(Reason::ConnectFailed)))
            };
            // The list may have been pruned meanwhile; the request still goes where it was meant to.
            if let Some(seat) = made?.seat(most) {
                return Ok(seat);
            }
        }
        Err(NoSeat::Failed(Reason::ConnectionLimit))
    }

    /// Takes on a connection that turned out to speak HTTP/2, and gives a place on it.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn adopt<N: Net>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        pooled: Pooled<N::Stream>,
    ) -> Result<Seat, Reason> {
        let link = establish(thread, pooled, most, Rc::clone(&self.room)).await?;
        let seat = link.seat(most).ok_or(Reason::UpstreamClosed)?;
        self.entry(endpoint, |entry| entry.links.push(link));
        Ok(seat)
    }

    fn entry<T>(&self, endpoint: &Arc<EndpointState>, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries.borrow_mut();
        change(entries.entry(key(endpoint)).or_insert_with(|| Entry {
            _endpoint: Arc::clone(endpoint),
            links: Vec::new(),
            attempts: Vec::new(),
        }))
    }

    /// An attempt that will have a place left.
    fn join(&self, endpoint: &Arc<EndpointState>, most: u32) -> Option<Attempt> {
        let entries = self.entries.borrow();
        let attempts = &entries.get(&key(endpoint))?.attempts;
        attempts
            .iter()
            .find(|attempt| attempt.waiting.get() < most)
            .cloned()
    }

    /// Begins an attempt.
    fn open<N: Net>(
        &self,
        thread: &Rc<Thread<N>>,
        endpoint: &Arc<EndpointState>,
        most: u32,
        connect: impl Future<Output = Result<Pooled<N::Stream>, NoSeat>> + 'static,
    ) -> Attempt {
        let (report, made) = watch::channel(None);
        let attempt = Attempt {
            made,
            waiting: Rc::default(),
        };
        self.entry(endpoint, |entry| entry.attempts.push(attempt.clone()));
        let (entries, thread) = (Rc::downgrade(&self.entries), Rc::clone(thread));
        let (id, waiting) = (key(endpoint), Rc::clone(&attempt.waiting));
        let room = Rc::clone(&self.room);
        spawn_local(async move {
            let result = match connect.await {
                Ok(pooled) => establish(&thread, pooled, most, room)
                    .await
                    .map_err(NoSeat::Failed),
                Err(reason) => Err(reason),
            };
            if let Some(entries) = entries.upgrade()
                && let Some(entry) = entries.borrow_mut().get_mut(&id)
                && let Some(at) = entry
                    .attempts
                    .iter()
                    .position(|a| Rc::ptr_eq(&a.waiting, &waiting))
            {
                entry.attempts.swap_remove(at);
                entry.links.extend(result.clone());
            }
            // Nobody may be waiting any more.
            let _ = report.send(Some(result));
        });
        attempt
    }
}

/// Speaks HTTP/2 on a new connection and gives it a task.
async fn establish<N: Net>(
    thread: &Rc<Thread<N>>,
    pooled: Pooled<N::Stream>,
    most: u32,
    room: Rc<Bell>,
) -> Result<Rc<Link>, Reason> {
    let Pooled {
        mut wire,
        opened,
        open,
        ..
    } = pooled;
    if wire.io.alpn().is_some_and(|agreed| agreed != b"h2") {
        return Err(Reason::UpstreamProtocol);
    }
    let prefix = wire.take_unread();
    let clock = {
        let thread = Rc::clone(thread);
        move || thread.now()
    };
    let budgets = Budgets::new(HEAD_BYTES);
    let buffers = Rc::clone(&thread.buffers);
    let metered = Metered::new(
        wire.into_io(),
        prefix,
        Role::Client,
        budgets,
        buffers,
        clock.clone(),
    );
    // Written into the meter's buffer: nothing waits here.
    let (send, connection) = builder(most)
        .handshake(metered.clone())
        .await
        .map_err(|_| Reason::UpstreamClosed)?;
    let over = Rc::new(Cell::new(false));
    let link = Rc::new(Link {
        send: RefCell::new(send),
        streams: Cell::new(0),
        requests: Cell::new(0),
        opened,
        idle_since: Cell::new(opened),
        over: Rc::clone(&over),
        clock: Box::new(clock),
        room,
    });
    spawn_local(drive(
        Rc::clone(thread),
        connection,
        metered,
        Rc::downgrade(&link),
        over,
        open,
    ));
    Ok(link)
}

/// How connections to servers are set up.
fn builder(streams: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(streams as usize)
        .initial_window_size(STREAM_WINDOW)
        // All streams' windows together: a client that does not read its response never holds up another's.
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(streams).min(MOST_WINDOW))
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEAD_BYTES)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        // The meter bounds those that are the server's fault, in proportion to its answers. `h2` counts all it makes
        // over the connection's life, so that busy connections end however few of their streams are reset.
        .max_local_error_reset_streams(None);
    builder
}

/// Runs a connection to its end.
async fn drive<N: Net>(
    thread: Rc<Thread<N>>,
    mut connection: h2::client::Connection<Metered<N::Stream>, Bytes>,
    metered: Metered<N::Stream>,
    link: Weak<Link>,
    over: Rc<Cell<bool>>,
    open: OpenConnection,
) {
    let deadline = thread.timers.deadline();
    let mut ping = connection.ping_pong();
    let mut liveness = Liveness::default();
    deadline.set(after(thread.now(), Some(LOOK)));
    poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let drained = metered.poll_drain(cx);
        if polled.is_ready() || matches!(drained, Poll::Ready(Err(_))) || metered.flood().is_some() {
            return Poll::Ready(());
        }
        if deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = thread.now();
        let waiting = link.upgrade().is_some_and(|link| link.streams.get() > 0);
        let stuck = metered
            .stalled_since()
            .is_some_and(|since| now.saturating_sub(since) >= nanos(LOOK));
        match liveness.look(moved(&metered), waiting, stuck) {
            Verdict::Gone => return Poll::Ready(()),
            Verdict::Ask => ask(&mut ping, cx),
            Verdict::Fine => {}
        }
        deadline.set(after(now, Some(LOOK)));
        deadline.register(cx);
        Poll::Pending
    })
    .await;
    over.set(true);
    drop(open);
}

/// Sends a PING.
fn ask(ping: &mut Option<PingPong>, cx: &mut Context<'_>) {
    if let Some(ping) = ping {
        // One that was answered meanwhile is taken first.
        let _ = ping.poll_pong(cx);
        let _ = ping.send_ping(Ping::opaque());
        cx.waker().wake_by_ref();
    }
}

fn moved<S: Stream>(metered: &Metered<S>) -> Moved {
    let (received, _) = metered.frames();
    let (read, written) = metered.bytes();
    Moved {
        messages: received.of(Kind::Headers) + received.of(Kind::Data),
        read,
        written,
    }
}
