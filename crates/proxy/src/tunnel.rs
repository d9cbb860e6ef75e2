//! How do bytes pass when nobody looks at them?
//!
//! TCP streams, upgraded connections and CONNECT. Each direction reads into a pooled buffer that grows with the stream
//! (held only while it has bytes in it) and writes from it; while bulk passes between two plain sockets, it passes from
//! kernel to kernel ([`Splice`]). One side's end is passed on while the other direction goes
//! on (half-close); one side's reset resets the other.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
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

/// When a tunnel must end although both sides could go on.
pub struct Bounds<'a, S> {
    /// Wakes this task.
    pub deadline: &'a Deadline,
    /// How long nothing may move.
    pub idle: Option<Duration>,
    /// The end of a drain, asked again at each look.
    pub drain: &'a dyn Fn() -> Nanos,
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
    let (mut up, mut down) = (Flow::Open, Flow::Open);
    let [mut upwards, mut downwards] = [(); 2].map(|()| Splice::new(Rc::clone(bounds.pipes)));
    let (mut sent, mut received) = (0, 0);
    let mut seen = (0, 0, up == Flow::Done, down == Flow::Done);
    let mut idle_at = after((bounds.now)(), bounds.idle);
    let result = poll_fn(|cx| {
        let a = poll_copy(cx, client, server, &mut upwards, &mut up, &mut sent);
        let b = poll_copy(cx, server, client, &mut downwards, &mut down, &mut received);
        match (a, b) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                return Poll::Ready(Err(Reason::ClientClosed));
            }
            (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                return Poll::Ready(Err(Reason::UpstreamIncomplete));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        if let Some(reason) = (bounds.barred)(&server.io) {
            return Poll::Ready(Err(reason));
        }
        let moved = (sent, received, up == Flow::Done, down == Flow::Done);
        if moved != seen {
            seen = moved;
            idle_at = after((bounds.now)(), bounds.idle);
        }
        let drain = (bounds.drain)();
        bounds.deadline.set(idle_at.min(drain));
        ready!(bounds.deadline.poll(cx));
        Poll::Ready(Err(if drain <= idle_at {
            Reason::Draining
        } else {
            Reason::IdleTimeout
        }))
    })
    .await;
    bounds.deadline.set(NEVER);
    if result.is_err() {
        client.io.reset_on_drop();
        server.io.reset_on_drop();
    }
    Ended {
        reason: result.err(),
        sent,
        received,
    }
}

fn poll_copy<A: Stream, B: Stream>(
    cx: &mut Context<'_>,
    from: &mut Wire<A>,
    to: &mut Wire<B>,
    splice: &mut Splice,
    flow: &mut Flow,
    copied: &mut u64,
) -> Poll<Result<(), Broken>> {
    let sink = |_: io::Error| Broken::Sink;
    ready!(to.poll_flush(cx)).map_err(sink)?;
    while *flow == Flow::Open {
        while !from.unread().is_empty() {
            let n = ready!(Pin::new(&mut to.io).poll_write(cx, from.unread())).map_err(sink)?;
            if n == 0 {
                return Poll::Ready(Err(Broken::Sink));
            }
            from.consume(n);
            *copied += n as u64;
            to.bytes_written += n as u64;
        }
        // TLS holds ciphertext back until it is flushed; sockets hold nothing.
        ready!(Pin::new(&mut to.io).poll_flush(cx)).map_err(sink)?;
        if (splice.holds() || from.is_bulk())
            && let (Some(source), Some(sink)) = (from.io.tcp(), to.io.tcp())
        {
            match ready!(splice.poll_move(cx, source, sink))? {
                Moved::Bytes(n, bulk) => {
                    from.passed_by(n, bulk);
                    to.bytes_written += n as u64;
                    *copied += n as u64;
                    continue;
                }
                Moved::End => {
                    *flow = Flow::Ending;
                    break;
                }
                Moved::None => {}
            }
        }
        match ready!(from.poll_fill(cx, ReadSize::Adaptive)).map_err(|_| Broken::Source)? {
            Filled::Bytes(_) | Filled::Full => {}
            Filled::End => *flow = Flow::Ending,
        }
    }
    if *flow == Flow::Ending {
        match ready!(Pin::new(&mut to.io).poll_shutdown(cx)) {
            // The peer may have closed first; then there is nobody left to tell.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                return Poll::Ready(Err(Broken::Sink));
            }
            _ => *flow = Flow::Done,
        }
    }
    Poll::Ready(Ok(()))
}
