//! How do the frames of many streams leave in one write, and who looks at them on the way?
//!
//! [`Metered`] lies between a stream of bytes and `h2`. It shows every frame to a [`Meter`]; after a [`Flood`] it gives
//! `h2` nothing more to read, and whoever drives the connection sees [`Metered::flood`] and takes leave of the peer.
//! `h2` writes and flushes each frame by itself; here they gather until the driver calls [`Metered::poll_drain`], once
//! after each of its polls, so that all that the streams had to say leaves in one system call.
//!
//! Invariants: at most [`GATHERED`] bytes wait, and no buffer is held while none wait; `h2` waits when that is full,
//! and it reads nothing that demands an answer while it waits (attacks.md 8); the driver drains after every poll, or
//! bytes would lie here for ever.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Follower, Head, Kind};
use super::meter::{Budgets, Direction, Flood, Frames, Meter, Role};
use crate::buffer::Buffers;
use crate::clock::Nanos;
use crate::io::Stream;
use crate::io::socket::poll_discard;

/// Bytes that may wait for the end of a poll, or for the peer to read: the largest write buffer that is pooled.
pub const GATHERED: usize = 64 * 1024;

/// A stream of bytes whose frames are counted. Clones are handles to the same stream.
pub struct Metered<S>(Rc<RefCell<Inner<S>>>);

impl<S> Clone for Metered<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// A bound that `h2` keeps itself. Its error does not tell which was reached; its GOAWAY does, in the debug data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// CONTINUATION frames of one block.
    Continuations,
    /// A header list far beyond the limit.
    HeaderList,
    /// Streams that were reset before they were looked at.
    Resets,
    /// DATA frames with little in them.
    SmallData,
}

impl Farewell {
    fn find(bytes: &[u8]) -> Option<Self> {
        const WORDS: [(&[u8], Farewell); 5] = [
            (b"too_many_continuations", Farewell::Continuations),
            (b"header_list_way_too_large", Farewell::HeaderList),
            (b"too_many_resets", Farewell::Resets),
            (b"too_many_internal_resets", Farewell::Resets),
            (b"too_many_data_frames", Farewell::SmallData),
        ];
        let says = |word: &[u8]| bytes.windows(word.len()).any(|at| at == word);
        WORDS
            .iter()
            .find(|(word, _)| says(word))
            .map(|(_, farewell)| *farewell)
    }
}

struct Inner<S> {
    io: S,
    /// Bytes that were read before, and how many of them were given out.
    prefix: Vec<u8>,
    given: usize,
    meter: Meter,
    reads: Follower,
    writes: Follower,
    flood: Option<Flood>,
    /// What `h2` said with GOAWAY.
    farewell: Option<Farewell>,
    buffers: Rc<Buffers>,
    /// What waits to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Since when the peer has taken nothing of it.
    stalled: Option<Nanos>,
    clock: Box<dyn Fn() -> Nanos>,
    bytes_read: u64,
    bytes_written: u64,
}

impl<S: Stream> Metered<S> {
    /// Meters a new connection. `prefix` was read from it already.
    pub fn new(
        io: S,
        prefix: Vec<u8>,
        role: Role,
        budgets: Budgets,
        buffers: Rc<Buffers>,
        clock: impl Fn() -> Nanos + 'static,
    ) -> Self {
        let (reads, writes) = match role {
            Role::Server => (Follower::of_client(), Follower::of_server()),
            Role::Client => (Follower::of_server(), Follower::of_client()),
        };
        Self(Rc::new(RefCell::new(Inner {
            io,
            prefix,
            given: 0,
            meter: Meter::new(role, budgets),
            reads,
            writes,
            flood: None,
            farewell: None,
            buffers,
            out: Vec::new(),
            written: 0,
            stalled: None,
            clock: Box::new(clock),
            bytes_read: 0,
            bytes_written: 0,
        })))
    }

    /// What the peer sent too many of. Nothing was given to read since.
    pub fn flood(&self) -> Option<Flood> {
        self.0.borrow().flood
    }

    /// Whether the connection should be replaced.
    pub fn is_worn(&self) -> bool {
        self.0.borrow().meter.is_worn()
    }

    /// Why `h2` itself took leave of the peer.
    pub fn farewell(&self) -> Option<Farewell> {
        self.0.borrow().farewell
    }

    /// Since when the peer has read nothing although bytes wait for it.
    pub fn stalled_since(&self) -> Option<Nanos> {
        self.0.borrow().stalled
    }

    /// Frames that came, and frames that went.
    pub fn frames(&self) -> (Frames, Frames) {
        let inner = self.0.borrow();
        (*inner.meter.received(), *inner.meter.sent())
    }

    /// Bytes read and bytes written, framing included.
    pub fn bytes(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.bytes_read, inner.bytes_written)
    }

    /// Makes the coming drop of the connection a reset.
    pub fn reset_on_drop(&self) {
        self.0.borrow_mut().io.reset_on_drop();
    }

    /// Writes what has gathered. Ready when nothing waits any more.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }

    /// Throws away what still comes, see [`poll_discard`]. Only when `h2` reads no more.
    pub fn poll_discard(&self, cx: &mut Context<'_>, scratch: &mut [u8], budget: &mut usize) -> Poll<()> {
        poll_discard(&mut self.0.borrow_mut().io, cx, scratch, budget)
    }
}

impl<S: Stream> Inner<S> {
    fn waiting(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let waiting = self.out.get(self.written..).unwrap_or_default();
            match Pin::new(&mut self.io).poll_write(cx, waiting) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    self.bytes_written += n as u64;
                    self.stalled = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(|| (self.clock)());
                    return Poll::Pending;
                }
            }
        }
        if self.out.capacity() > 0 {
            self.buffers.put_write(std::mem::take(&mut self.out));
            self.written = 0;
        }
        // TLS holds ciphertext back until it is flushed; sockets hold nothing.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Takes what there is room for, and makes room when there is none.
    fn poll_gather(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting().len() >= GATHERED && self.poll_drain(cx)?.is_pending() {
            self.out.drain(..self.written);
            self.written = 0;
            if self.out.len() >= GATHERED {
                return Poll::Pending;
            }
        }
        if self.out.capacity() == 0 {
            self.out = self.buffers.write();
        }
        let room = GATHERED - self.waiting().len().min(GATHERED);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.out.extend_from_slice(taken);
        let now = OnDemand::new(&self.clock);
        let mut leaves = false;
        let metered = self.writes.feed(taken, |head: &Head| {
            leaves |= head.kind == Kind::GoAway;
            self.meter.on_frame(Direction::Sent, head, now.get())
        });
        self.flood = self.flood.or(metered.err());
        if leaves {
            // Another GOAWAY may follow, which says nothing.
            self.farewell = self.farewell.or_else(|| Farewell::find(taken));
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.flood.is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let prefix = self.prefix.get(self.given..).unwrap_or_default();
        if prefix.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let n = prefix.len().min(buf.remaining());
            buf.put_slice(prefix.get(..n).unwrap_or_default());
            self.given += n;
            if self.given == self.prefix.len() {
                (self.prefix, self.given) = (Vec::new(), 0);
            }
        }
        let bytes = buf.filled().get(before..).unwrap_or_default();
        self.bytes_read += bytes.len() as u64;
        let now = OnDemand::new(&self.clock);
        let metered = self.reads.feed(bytes, |head: &Head| {
            self.meter.on_frame(Direction::Received, head, now.get())
        });
        match metered {
            Ok(()) => Poll::Ready(Ok(())),
            Err(flood) => {
                buf.set_filled(before);
                self.flood = Some(flood);
                Poll::Pending
            }
        }
    }
}

/// Looks at the clock once, when it is needed.
struct OnDemand<'a> {
    clock: &'a dyn Fn() -> Nanos,
    time: std::cell::Cell<Option<Nanos>>,
}

impl<'a> OnDemand<'a> {
    fn new(clock: &'a dyn Fn() -> Nanos) -> Self {
        Self {
            clock,
            time: std::cell::Cell::new(None),
        }
    }

    fn get(&self) -> Nanos {
        let time = self.time.get().unwrap_or_else(|| (self.clock)());
        self.time.set(Some(time));
        time
    }
}

impl<S: Stream> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl<S: Stream> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_gather(cx, buf)
    }

    /// The driver drains after its poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

impl<S> Drop for Inner<S> {
    fn drop(&mut self) {
        if self.out.capacity() > 0 {
            self.buffers.put_write(std::mem::take(&mut self.out));
        }
    }
}
