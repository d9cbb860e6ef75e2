//! How do a request and its response pass each other?
//!
//! Both directions run at once: a server may answer before it has read the request, and a client may go on sending
//! while it is answered. The pump is a state machine over the two sides; it holds no bytes itself.
//!
//! Invariants: payload is taken from a source only when the sink took it; a head and the payload that is there with it
//! leave in one write; once a side has failed nothing more is asked of it; of a request that is too large no more is passed
//! than may pass, and never its end.

use std::task::{Context, Poll, ready};

use super::kept::Kept;
use super::message::{
    Downstream, Fault, Gone, HeadKind, Payload, ResponseEdits, Sink, Source, UNASKED_SWITCH, Upstream,
};

/// The token of a request's body that is larger than it may be.
pub const BODY: &str = "request_body";

/// How a pump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response is complete, and so is the request unless the server answered without waiting for it.
    Complete,
    /// The connections leave HTTP.
    Tunnel,
    /// The client failed or left.
    Downstream(Fault),
    /// The client took its request back.
    Cancelled,
    /// The server failed.
    Upstream(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Payload may come.
    Open,
    /// The end was given to the sink, which still holds some back.
    Flushing,
    Done,
    /// The sink failed. What its peer said before may still be worth reading.
    Broken(Fault),
}

/// One request and one response on their way.
pub struct Pump {
    request: Flow,
    response: Flow,
    head: bool,
    tunnel: bool,
    /// Counts everything that moved.
    progress: u32,
    request_payload: u64,
    response_payload: u64,
    half_closed: bool,
    /// The client's payload waits for the server, here or on its way there.
    blocked: bool,
    /// The server's payload waits for the client, here or on its way there.
    held_up: bool,
    /// The client waits for 100 before it sends its payload, and has not got it.
    expects: bool,
    /// Most bytes of a request's payload.
    most: u64,
    /// The request may be sent again, so that the beginning of its payload is kept.
    keeps: bool,
}

/// Which side of a copy failed.
enum Side {
    Source(Fault),
    Sink(Fault),
}

impl Pump {
    /// Nothing has moved yet. `most` bounds the request's payload; `expects` says that the client waits for 100 before it
    /// sends it; `keeps`, that it may have to be sent again, whatever its server can say.
    pub fn new(most: Option<u64>, expects: bool, keeps: bool) -> Self {
        Self {
            request: Flow::Open,
            response: Flow::Open,
            head: false,
            tunnel: false,
            progress: 0,
            request_payload: 0,
            response_payload: 0,
            half_closed: false,
            blocked: false,
            held_up: false,
            expects,
            most: most.unwrap_or(u64::MAX),
            keeps,
        }
    }

    /// Whether the head of the final response came.
    pub fn answered(&self) -> bool {
        self.head
    }

    /// Whether nothing is under way: the answer has not begun, and the whole request went out, or all of it that the
    /// client sends without one.
    pub fn awaits_answer(&self) -> bool {
        (self.request == Flow::Done || self.awaits_leave()) && !self.head
    }

    /// Whether the answer has not begun, and more of the client's payload must come first for all that is known.
    pub fn awaits_payload(&self) -> bool {
        self.awaits_client() && !self.head
    }

    /// Whether the client waits for a word of the server, as it may (RFC 9110 section 10.1.1).
    fn awaits_leave(&self) -> bool {
        self.expects && self.request == Flow::Open && self.request_payload == 0 && !self.blocked
    }

    fn awaits_client(&self) -> bool {
        self.request == Flow::Open && !self.blocked && !self.awaits_leave()
    }

    /// A number that changes whenever something moved.
    pub fn progress(&self) -> u32 {
        self.progress
    }

    /// Whether the client ended its side after its request.
    pub fn half_closed(&self) -> bool {
        self.half_closed
    }

    /// Whether what is missing is the client's doing: it does not send its request, or does not read.
    pub fn waits_for_client(&self) -> bool {
        self.awaits_client() || self.held_up || self.response == Flow::Flushing
    }

    /// Moves what can be moved.
    pub(super) fn poll<D: Downstream, U: Upstream>(
        &mut self,
        cx: &mut Context<'_>,
        (down, kept): (&mut D, &mut Kept<'_>),
        up: &mut U,
        edits: &ResponseEdits<'_>,
    ) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_request(cx, (&mut *down, kept), up) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.poll_response(cx, down, up, edits) {
            return Poll::Ready(end);
        }
        if matches!(self.request, Flow::Done | Flow::Broken(_)) && !self.half_closed {
            match down.poll_gone(cx) {
                Poll::Ready(Gone::Cancelled) => return Poll::Ready(End::Cancelled),
                Poll::Ready(Gone::HalfClosed) => {
                    self.half_closed = true;
                    self.progress = self.progress.wrapping_add(1);
                }
                Poll::Pending => {}
            }
        }
        // Nothing is read of a client whose server does not read.
        if self.blocked && down.poll_cancelled(cx).is_ready() {
            return Poll::Ready(End::Cancelled);
        }
        Poll::Pending
    }

    fn poll_request<D: Downstream, U: Upstream>(
        &mut self,
        cx: &mut Context<'_>,
        (down, kept): (&mut D, &mut Kept<'_>),
        up: &mut U,
    ) -> Poll<End> {
        if !matches!(self.request, Flow::Open | Flow::Flushing) {
            return Poll::Pending;
        }
        let before = self.request_payload;
        let mut body = kept.with(down, U::MAY_REFUSE || self.keeps);
        let copied = copy(
            cx,
            &mut body,
            up,
            &mut self.request,
            (&mut self.request_payload, self.most),
            &mut self.blocked,
        );
        self.blocked &= copied.is_pending();
        match copied {
            Poll::Ready(Ok(())) => self.progress = self.progress.wrapping_add(1),
            Poll::Ready(Err(Side::Source(fault))) => return Poll::Ready(End::Downstream(fault)),
            Poll::Ready(Err(Side::Sink(fault))) => self.request = Flow::Broken(fault),
            Poll::Pending if self.request_payload != before => self.progress = self.progress.wrapping_add(1),
            Poll::Pending => {}
        }
        Poll::Pending
    }

    fn poll_response<D: Downstream, U: Upstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        up: &mut U,
        edits: &ResponseEdits<'_>,
    ) -> Poll<End> {
        while !self.head {
            match ready!(up.poll_head(cx)) {
                Ok(HeadKind::Informational) => {
                    self.expects &= up.status() != 100;
                    down.informational(up.response());
                    up.head_passed();
                    if let Poll::Ready(Err(fault)) = down.poll_flush(cx) {
                        return Poll::Ready(End::Downstream(fault));
                    }
                }
                Ok(HeadKind::Tunnel) if up.status() == 101 && !down.request().offers(up.response()) => {
                    return Poll::Ready(End::Upstream(UNASKED_SWITCH));
                }
                Ok(kind) => {
                    down.start_response(up, edits);
                    up.head_passed();
                    self.head = true;
                    self.tunnel = kind == HeadKind::Tunnel;
                    if self.tunnel {
                        self.response = Flow::Flushing;
                    }
                }
                Err(fault) => return Poll::Ready(End::Upstream(self.upstream_fault(fault))),
            }
            self.progress = self.progress.wrapping_add(1);
        }
        let before = self.response_payload;
        let copied = copy(
            cx,
            up,
            down,
            &mut self.response,
            (&mut self.response_payload, u64::MAX),
            &mut self.held_up,
        );
        self.held_up &= copied.is_pending();
        if self.response_payload != before {
            self.progress = self.progress.wrapping_add(1);
        }
        Poll::Ready(match ready!(copied) {
            Ok(()) if self.tunnel => End::Tunnel,
            Ok(()) => End::Complete,
            Err(Side::Source(fault)) => End::Upstream(self.upstream_fault(fault)),
            Err(Side::Sink(fault)) => End::Downstream(fault),
        })
    }

    /// When the request could not be written and no response came, the write's failure is the story.
    fn upstream_fault(&self, fault: Fault) -> Fault {
        match (self.request, fault) {
            (Flow::Broken(first), Fault::Truncated) => first,
            _ => fault,
        }
    }
}

/// How much is taken of a request that goes on behind its answer: more than most forms and calls have.
pub const REST_BYTES: u64 = 64 * 1024;

/// Throws away the rest of a request up to its end, or [`REST_BYTES`] of it, counted in `dropped`.
pub fn poll_rest<D: Downstream>(cx: &mut Context<'_>, down: &mut D, dropped: &mut u64) -> Poll<()> {
    while *dropped < REST_BYTES
        && let Ok(Payload::Data) = ready!(down.poll_payload(cx))
    {
        let n = down.payload().len();
        down.advance(n);
        *dropped += n as u64;
    }
    Poll::Ready(())
}

/// Copies one direction until its end, or until the source has more than `most` bytes in all. `stuck` when what the source
/// gave waits for the sink.
fn copy<A: Source, B: Sink>(
    cx: &mut Context<'_>,
    source: &mut A,
    sink: &mut B,
    flow: &mut Flow,
    (copied, most): (&mut u64, u64),
    stuck: &mut bool,
) -> Poll<Result<(), Side>> {
    while *flow == Flow::Open {
        let came = source.poll_payload(cx);
        *stuck = true;
        match came {
            Poll::Ready(Ok(Payload::Data)) => {
                let before = source.payload().len();
                if before as u64 > most.saturating_sub(*copied) {
                    return Poll::Ready(Err(Side::Source(Fault::TooLarge(BODY))));
                }
                let sent = sink.poll_send(cx, source);
                *copied += before.saturating_sub(source.payload().len()) as u64;
                ready!(sent).map_err(Side::Sink)?;
            }
            Poll::Ready(Ok(Payload::End)) => {
                sink.finish(source.take_trailers()).map_err(Side::Sink)?;
                *flow = Flow::Flushing;
            }
            Poll::Ready(Err(fault)) => return Poll::Ready(Err(Side::Source(fault))),
            Poll::Pending => {
                // Nothing more for now: what is held back must not wait for it.
                ready!(sink.poll_flush(cx)).map_err(Side::Sink)?;
                *stuck = false;
                return Poll::Pending;
            }
        }
    }
    if *flow == Flow::Flushing {
        ready!(sink.poll_flush(cx)).map_err(Side::Sink)?;
        *flow = Flow::Done;
    }
    *stuck = false;
    Poll::Ready(Ok(()))
}
