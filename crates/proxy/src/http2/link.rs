//! How does one connection to a server live, and who has a place on it?
//!
//! A connection has a task of its own, which nobody owns: it lives while the connection stands and has streams or is
//! listed in [`super::client`]. It meters what the server sends, and asks by PING whether a silent server is still
//! there. A connection that failed, or is worn, or whose server is leaving (GOAWAY) gets no new streams, and those it
//! has may end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mesh_http2::frame::Kind;
use mesh_http2::meter::{Budgets, Role};
use mesh_http2::{Cause, Connection, Settings};
use mesh_identity::{Rejection, Side};
use mesh_model::errors::Reason;
use tokio::task::spawn_local;

use super::channel::{Channel, Shared};
use super::connection_window;
use super::fault;
use super::liveness::{Liveness, Moved, Verdict};
use super::socket::Socket;
use crate::clock::{Nanos, after, nanos};
use crate::io::{Net, Stream};
use crate::telemetry::{ClusterStats, Own};
use crate::thread::Thread;
use crate::timer::{Deadline, until};
use crate::upstream::cluster::ClusterShared;
use crate::upstream::pool::{OpenConnection, Pooled};
use crate::upstream::room::Bells;
use crate::workload::server;

/// The window of a stream: what a slow client makes this proxy hold of one response. Enough for 1 Gbit/s at 1 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The bound of a response's head. Servers that send more are broken or hostile.
const HEAD_BYTES: u32 = 64 * 1024;
/// How often a connection with streams is looked at: one that moved nothing since is asked by PING, and is over when
/// it still has said nothing the next time.
const LOOK: Duration = Duration::from_secs(10);
/// Those that are told at once that a server allows more streams; others are when these are done.
const MOST_RINGS: u32 = 100;

/// A connection.
pub(super) struct Link {
    connection: Shared,
    streams: Cell<u32>,
    /// Streams that its window has room for.
    sized_for: Cell<u32>,
    requests: Cell<u64>,
    opened: Nanos,
    idle_since: Cell<Nanos>,
    /// It is counted as one that waits for streams.
    waits: Cell<bool>,
    stats: Own<ClusterStats>,
    /// It takes no new streams.
    over: Rc<Cell<bool>>,
    /// Why it ends with its streams, where it is for its age.
    ended_by: Rc<Cell<Option<Reason>>>,
    /// Why the other end did not believe this one, where it has ended by that.
    refused: Rc<Cell<Option<Rejection>>>,
    clock: Box<dyn Fn() -> Nanos>,
    room: Rc<Bells>,
    /// The key of its endpoint, for whose bell it rings.
    endpoint: usize,
    /// What it is counted in, over all threads.
    shared: Arc<ClusterShared>,
    /// The workload at the other end, where it is one of a mesh.
    server: Option<Box<mesh_identity::Peer>>,
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

    /// Whether the workload at the other end is such a one.
    pub(super) fn leads_to(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) -> bool {
        self.link.leads_to(is_such)
    }

    /// Why the other end did not believe this one, where the connection has ended by that.
    pub(super) fn refused(&self) -> Option<Rejection> {
        self.link.refused.get()
    }

    /// Opens the stream, see [`Connection::open_stream`].
    pub(super) fn open(&self, bodiless: bool) -> Option<Channel> {
        let key = self.link.connection.borrow_mut().open_stream(bodiless)?;
        Some(Channel::new(Rc::clone(&self.link.connection), key))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.streams.set(self.link.streams.get().saturating_sub(1));
        let is_idle = self.link.streams.get() == 0;
        if is_idle {
            self.link.idle_since.set((self.link.clock)());
            self.link.make_room();
            self.link.count(!self.link.over.get());
        }
        self.link.room.ring_at(self.link.endpoint);
        if is_idle {
            // Where nobody takes the place, the connection may go for one to another endpoint.
            self.link.room.ring();
        }
    }
}

impl Link {
    /// Whether the workload at the other end is such a one; false where it is none of a mesh.
    pub(super) fn leads_to(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) -> bool {
        self.server.as_deref().is_some_and(is_such)
    }

    /// Ends where it has no streams and another thread waits for a connection: it can't reach this one.
    fn make_room(&self) {
        if self.shared.room.is_awaited() && !self.room.is_awaited() {
            self.close();
            self.connection.borrow_mut().wake_driver();
        }
    }

    /// Counts it as one that waits for streams, or no longer.
    fn count(&self, waits: bool) {
        if self.waits.replace(waits) != waits {
            self.stats.idle(if waits { 1 } else { -1 });
        }
    }

    /// Takes no new streams from now on.
    pub(super) fn close(&self) {
        self.over.set(true);
        self.count(false);
    }

    /// Says why it is listed no longer: it ends with its streams.
    pub(super) fn end(&self, reason: Reason) {
        self.ended_by.set(Some(reason));
    }

    /// Streams on it.
    pub(super) fn streams(&self) -> u32 {
        self.streams.get()
    }

    /// When it was made.
    pub(super) fn opened(&self) -> Nanos {
        self.opened
    }

    /// Since when it has had no streams; `None` when it has some.
    pub(super) fn idle_since(&self) -> Option<Nanos> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Whether new streams may be opened at all: it stands, and its server is not leaving.
    pub(super) fn is_good(&self) -> bool {
        let connection = self.connection.borrow();
        !self.over.get() && connection.over().is_none() && !connection.peer_leaves() && !connection.is_worn()
    }

    /// Streams that its server lets be open; one while it has not said so.
    pub(super) fn allows(&self) -> u32 {
        self.connection.borrow().peer_streams()
    }

    /// Waits until its server has said how many streams it allows, before this time.
    pub(super) async fn greeted<N: Net>(&self, thread: &Thread<N>, before: Nanos) -> Result<(), Reason> {
        let deadline = thread.timers.deadline();
        deadline.set(before);
        let greeted = poll_fn(|cx| self.connection.borrow_mut().poll_greeted(cx));
        match until(&deadline, greeted).await {
            Some(true) => Ok(()),
            Some(false) => {
                let refused = self.refused.get().map(|refused| refused.reason(Side::Server));
                Err(refused.unwrap_or(Reason::UpstreamClosed))
            }
            None => {
                self.close();
                Err(Reason::ConnectTimeout)
            }
        }
    }

    /// There may be more streams than it was made for, by a newer plan: its window gets as large as theirs together.
    #[cold]
    fn grow(&self, most: u32) {
        self.sized_for.set(most);
        let window = connection_window(STREAM_WINDOW, most);
        self.connection.borrow_mut().grow(window);
    }

    /// A place, if one is free among `most`.
    pub(super) fn seat(self: &Rc<Self>, most: u32) -> Option<Seat> {
        let streams = self.streams.get();
        if streams >= most.min(self.allows()) {
            return None;
        }
        if !self.is_good() {
            return None;
        }
        if most > self.sized_for.get() {
            self.grow(most);
        }
        self.streams.set(streams + 1);
        self.count(false);
        let requests = self.requests.replace(self.requests.get() + 1);
        Some(Seat {
            link: Rc::clone(self),
            reused: requests > 0,
        })
    }
}

/// Speaks HTTP/2 on a new connection and gives it a task. Those who wait for a place on it are told by the bells, as the
/// endpoint with this key.
pub(super) async fn establish<N: Net>(
    thread: &Rc<Thread<N>>,
    pooled: Pooled<N::Stream>,
    most: u32,
    (room, endpoint): (Rc<Bells>, usize),
) -> Result<Rc<Link>, Reason> {
    let Pooled {
        wire, opened, open, ..
    } = pooled;
    // Between workloads it is called otherwise.
    let is_http2 =
        |agreed: &[u8]| agreed == b"h2" || agreed == mesh_identity::tls::Protocol::Http2.as_bytes();
    if wire.io.alpn().is_some_and(|agreed| !is_http2(agreed)) {
        return Err(Reason::UpstreamProtocol);
    }
    let server = server(&wire.io).map(Box::new);
    // It may have been while its handshake was under way.
    if server.as_deref().is_some_and(|server| thread.has_revoked(server)) {
        return Err(Reason::UpstreamCertificate);
    }
    let clock = {
        let thread = Rc::clone(thread);
        move || thread.now()
    };
    let connection = Connection::new(Role::Client, settings(most), Rc::clone(&thread.http2));
    let connection = Rc::new(RefCell::new(connection));
    let over = Rc::new(Cell::new(false));
    let ended_by = Rc::default();
    let refused = Rc::default();
    let link = Rc::new(Link {
        connection: Rc::clone(&connection),
        streams: Cell::new(0),
        sized_for: Cell::new(most),
        requests: Cell::new(0),
        opened,
        idle_since: Cell::new(opened),
        waits: Cell::new(false),
        stats: open.stats().clone(),
        over: Rc::clone(&over),
        ended_by: Rc::clone(&ended_by),
        refused: Rc::clone(&refused),
        clock: Box::new(clock),
        room,
        endpoint,
        shared: Arc::clone(open.shared()),
        server,
    });
    let driver = Driver {
        thread: Rc::clone(thread),
        socket: Socket::new(wire, Rc::clone(&connection)),
        connection,
        link: Rc::downgrade(&link),
        over,
        ended_by,
        refused,
        allowed: 1,
        liveness: Liveness::default(),
        deadline: thread.timers.deadline(),
    };
    spawn_local(driver.run(open));
    Ok(link)
}

/// How connections to servers are set up.
fn settings(streams: u32) -> Settings {
    Settings {
        // Servers open none.
        streams: 0,
        stream_window: STREAM_WINDOW,
        // A client that does not read its response never holds up another's.
        connection_window: connection_window(STREAM_WINDOW, streams),
        header_bytes: HEAD_BYTES,
        budgets: Budgets::new(HEAD_BYTES),
    }
}

/// A connection's task.
struct Driver<N: Net> {
    thread: Rc<Thread<N>>,
    socket: Socket<N::Stream>,
    connection: Shared,
    link: Weak<Link>,
    over: Rc<Cell<bool>>,
    ended_by: Rc<Cell<Option<Reason>>>,
    refused: Rc<Cell<Option<Rejection>>>,
    /// Streams that the server allowed when it was asked last.
    allowed: u32,
    liveness: Liveness,
    deadline: Deadline,
}

impl<N: Net> Driver<N> {
    /// Runs a connection to its end.
    async fn run(mut self, open: OpenConnection) {
        self.deadline.set(after(self.thread.now(), Some(LOOK)));
        poll_fn(|cx| self.poll(cx)).await;
        self.over.set(true);
        if let Some(link) = self.link.upgrade() {
            link.count(false);
        }
        self.refused.set(self.socket.refused());
        let cause = self.connection.borrow().over();
        if let Some(Cause::Flood(flood)) = cause {
            open.limit_hit(fault::limit(flood));
        }
        self.connection.borrow_mut().gone();
        if let Some(reason) = self.ended_by.get() {
            open.end(reason);
        }
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        while self.socket.poll_read(cx, self.thread.now()).is_ready() {
            if self.connection.borrow().over().is_some() {
                break;
            }
        }
        self.look_for_room();
        {
            let mut connection = self.connection.borrow_mut();
            if (self.link.strong_count() == 0 || self.over.get()) && connection.open() == 0 {
                connection.leave();
            }
            connection.set_driver(cx.waker());
        }
        let written = self.socket.poll_write(cx, || self.thread.now());
        if matches!(written, Poll::Ready(Err(_))) {
            self.hear_out(cx);
        }
        let connection = self.connection.borrow();
        if written.is_ready() && (connection.over().is_some() || connection.is_done()) {
            return Poll::Ready(());
        }
        drop(connection);
        self.poll_clock(cx)
    }

    /// Reads what the server said before a write failed, to its end: answers, or that it never looked at a request.
    #[cold]
    fn hear_out(&mut self, cx: &mut std::task::Context<'_>) {
        self.over.set(true);
        if let Some(link) = self.link.upgrade() {
            link.count(false);
        }
        while self.connection.borrow().over().is_none()
            && self.socket.poll_read(cx, self.thread.now()).is_ready()
        {}
    }

    /// Tells those that wait for room when the server allows more streams than before.
    fn look_for_room(&mut self) {
        let allows = self.connection.borrow().peer_streams();
        let before = std::mem::replace(&mut self.allowed, allows);
        if allows > before
            && let Some(link) = self.link.upgrade()
        {
            for _ in before..allows.min(before.saturating_add(MOST_RINGS)) {
                link.room.ring_at(link.endpoint);
            }
        }
    }

    /// Looks at a silent server. Ready when it is gone.
    fn poll_clock(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = self.thread.now();
        let waiting = self.link.upgrade().is_some_and(|link| link.streams.get() > 0);
        let stuck = self
            .socket
            .stalled_since()
            .is_some_and(|since| now.saturating_sub(since) >= nanos(LOOK));
        match self.liveness.look(self.moved(), waiting, stuck) {
            Verdict::Gone => return Poll::Ready(()),
            // This task is woken by it.
            Verdict::Ask => self.connection.borrow_mut().ping(),
            Verdict::Fine => {}
        }
        self.deadline.set(after(now, Some(LOOK)));
        self.deadline.register(cx);
        Poll::Pending
    }

    fn moved(&self) -> Moved {
        let connection = self.connection.borrow();
        let (received, _) = connection.frames();
        let (read, written) = self.socket.bytes();
        Moved {
            messages: received.of(Kind::Headers) + received.of(Kind::Data),
            read,
            written,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody lists it, and it has no streams.
        self.count(false);
        self.connection.borrow_mut().wake_driver();
    }
}
