//! How does one connection to a server live, and who has a place on it?
//!
//! A connection has a task of its own, which nobody owns: it lives while the connection stands and has streams or is
//! listed in [`super::client`]. It meters what the server sends, and asks by PING whether a silent server is still
//! there. A connection that failed, or is worn, or whose server is leaving (GOAWAY) gets no new streams, and those it
//! has may end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use mesh_model::errors::Reason;
use tokio::task::spawn_local;

use super::body::SEND_BUFFER;
use super::frame::Kind;
use super::liveness::{Liveness, Moved, Verdict};
use super::meter::{Budgets, Role};
use super::metered::Metered;
use super::wear::DATA_BUDGET;
use crate::clock::{Nanos, after, nanos};
use crate::io::{Net, Stream};
use crate::thread::Thread;
use crate::upstream::pool::{OpenConnection, Pooled};
use crate::upstream::room::Bell;

/// The window of a stream: what a slow client makes this proxy hold of one response. Enough for 1 Gbit/s at 1 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// What `h2` bears of small DATA frames that wait: a whole window of messages of ten bytes, which may come in one read
/// before their stream's task has had a turn.
const WINDOW_OF_MESSAGES: usize = 4 * DATA_BUDGET;
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

/// A connection.
pub(super) struct Link {
    send: RefCell<SendRequest<Bytes>>,
    streams: Cell<u32>,
    requests: Cell<u64>,
    opened: Nanos,
    idle_since: Cell<Nanos>,
    /// It takes no new streams.
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
    pub(super) fn seat(self: &Rc<Self>, most: u32) -> Option<Seat> {
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

/// Speaks HTTP/2 on a new connection and gives it a task.
pub(super) async fn establish<N: Net>(
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
        .data_frame_budget(WINDOW_OF_MESSAGES)
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
        if metered.is_worn() {
            over.set(true);
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
