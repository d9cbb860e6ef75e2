//! How do bytes pass when nobody looks at them?
//!
//! TCP streams, upgraded connections and CONNECT. Each direction reads into a pooled buffer that grows with the stream
//! (held only while it has bytes in it) and writes from it; while bulk passes between two plain sockets, it passes from
//! kernel to kernel ([`Splice`]). One side's end is passed on while the other direction goes
//! on (half-close); one side's reset resets the other, also while nothing is read of it because its end came before or the
//! other side takes no more.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mesh_model::errors::Reason;

use crate::clock::{NEVER, Nanos, after};
use crate::io::Stream;
use crate::io::splice::{Broken, Moved, Pipes, Splice};
use crate::io::wire::{Filled, ReadSize, Wire};
use crate::timer::Deadline;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why, when it was not both sides' orderly end.
    pub reason: Option<Reason>,
    /// Bytes from the client to the server.
    pub sent: u64,
    /// Bytes from the server to the client.
    pub received: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The source ended; the end is on its way to the sink.
    Ending,
    Done,
}

/// One direction.
struct Direction {
    flow: Flow,
    splice: Splice,
    copied: u64,
    /// The sink takes no more for now, so that the source is not read.
    blocked: bool,
}

impl Direction {
    fn new(pipes: &Rc<Pipes>) -> Self {
        Self {
            flow: Flow::Open,
            splice: Splice::new(Rc::clone(pipes)),
            copied: 0,
            blocked: false,
        }
    }

    fn is_done(&self) -> bool {
        self.flow == Flow::Done
    }
}

/// When a tunnel must end although both sides could go on.
pub struct Bounds<'a, S> {
    /// Wakes this task; what caps it ends the tunnel.
    pub deadline: &'a Deadline,
    /// How long nothing may move.
    pub idle: Option<Duration>,
    /// Why it may not go on to this server, asked at each look.
    pub barred: &'a dyn Fn(&S) -> Option<Reason>,
    /// The time.
    pub now: &'a dyn Fn() -> Nanos,
    /// Pipes for bulk.
    pub pipes: &'a Rc<Pipes>,
}

/// Passes bytes both ways until both sides ended. What was read too early on either side goes first.
pub async fn tunnel<C: Stream, S: Stream>(
    client: &mut Wire<C>,
    server: &mut Wire<S>,
    bounds: &Bounds<'_, S>,
) -> Ended {
    let [mut up, mut down] = [(); 2].map(|()| Direction::new(bounds.pipes));
    let mut seen = (0, 0, false, false);
    let mut idle_at = after((bounds.now)(), bounds.idle);
    let result = loop {
        let look = poll_fn(|cx| {
            let a = poll_copy(cx, client, server, &mut up);
            let b = poll_copy(cx, server, client, &mut down);
            match (a, b) {
                (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                    return Poll::Ready(Some(Err(Reason::ClientClosed)));
                }
                (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                    return Poll::Ready(Some(Err(Reason::UpstreamIncomplete)));
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Some(Ok(()))),
                _ => {}
            }
            if let Some(reason) = (bounds.barred)(&server.io) {
                return Poll::Ready(Some(Err(reason)));
            }
            let moved = (up.copied, down.copied, up.is_done(), down.is_done());
            if moved != seen {
                seen = moved;
                idle_at = after((bounds.now)(), bounds.idle);
            }
            bounds.deadline.set(idle_at);
            let is_over = bounds.deadline.poll(cx).is_ready();
            Poll::Ready(is_over.then(|| Err(bounds.deadline.cut().unwrap_or(Reason::IdleTimeout))))
        });
        if let Some(result) = look.await {
            break result;
        }
        if let Err(reason) = woken(&client.io, &server.io, &up, &down).await {
            break Err(reason);
        }
    };
    bounds.deadline.set(NEVER);
    if result.is_err() {
        client.io.reset_on_drop();
        server.io.reset_on_drop();
    }
    Ended {
        reason: result.err(),
        sent: up.copied,
        received: down.copied,
    }
}

/// Waits until this task is woken, by what the look before has asked for, or until a side has failed that it asked nothing
/// of: one that is neither read nor waited for to take more. There is one such side at most.
async fn woken<C: Stream, S: Stream>(
    client: &C,
    server: &S,
    up: &Direction,
    down: &Direction,
) -> Result<(), Reason> {
    let unheard = |from: &Direction, to: &Direction| (from.is_done() || from.blocked) && !to.blocked;
    let mut failed = pin!(async {
        if unheard(up, down) {
            client.failed().await;
            Reason::ClientClosed
        } else if unheard(down, up) {
            server.failed().await;
            Reason::UpstreamIncomplete
        } else {
            pending().await
        }
    });
    let mut asleep = false;
    poll_fn(|cx| {
        if let Poll::Ready(reason) = failed.as_mut().poll(cx) {
            return Poll::Ready(Err(reason));
        }
        if std::mem::replace(&mut asleep, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}

fn poll_copy<A: Stream, B: Stream>(
    cx: &mut Context<'_>,
    from: &mut Wire<A>,
    to: &mut Wire<B>,
    way: &mut Direction,
) -> Poll<Result<(), Broken>> {
    let sink = |_: io::Error| Broken::Sink;
    way.blocked = true;
    ready!(to.poll_flush(cx)).map_err(sink)?;
    while way.flow == Flow::Open {
        way.blocked = true;
        while !from.unread().is_empty() {
            let n = ready!(Pin::new(&mut to.io).poll_write(cx, from.unread())).map_err(sink)?;
            if n == 0 {
                return Poll::Ready(Err(Broken::Sink));
            }
            from.consume(n);
            way.copied += n as u64;
            to.bytes_written += n as u64;
        }
        // TLS holds ciphertext back until it is flushed; sockets hold nothing.
        ready!(Pin::new(&mut to.io).poll_flush(cx)).map_err(sink)?;
        if (way.splice.holds() || from.is_bulk())
            && let (Some(source), Some(sink)) = (from.io.tcp(), to.io.tcp())
        {
            let moved = way.splice.poll_move(cx, source, sink);
            way.blocked = way.splice.holds();
            match ready!(moved)? {
                Moved::Bytes(n, bulk) => {
                    from.passed_by(n, bulk);
                    to.bytes_written += n as u64;
                    way.copied += n as u64;
                    continue;
                }
                Moved::End => {
                    way.flow = Flow::Ending;
                    break;
                }
                Moved::None => {}
            }
        }
        way.blocked = false;
        match ready!(from.poll_fill(cx, ReadSize::Adaptive)).map_err(|_| Broken::Source)? {
            Filled::Bytes(_) | Filled::Full => {}
            Filled::End => way.flow = Flow::Ending,
        }
    }
    if way.flow == Flow::Ending {
        way.blocked = true;
        match ready!(Pin::new(&mut to.io).poll_shutdown(cx)) {
            // The peer may have closed first; then there is nobody left to tell.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                return Poll::Ready(Err(Broken::Sink));
            }
            _ => way.flow = Flow::Done,
        }
    }
    way.blocked = false;
    Poll::Ready(Ok(()))
}
