//! What is the state of a connection, and how do its users, its streams' users and its socket meet?
//!
//! ```text
//!   socket ── bytes ──> receive ──> streams ──> poll_head, poll_data        (their users are woken)
//!   socket <─ unsent ── out <────── streams <── head, poll_room, data, end  (the driver is woken)
//! ```
//!
//! The driver is whoever owns the socket. It hands in what was read and writes what is unsent; between two of its turns
//! the frames of many streams gather in one buffer and leave in one write. It knows no socket and no clock.
//!
//! **Bounds.** Payload that waits to be taken: the windows given to the peer. Bytes that wait to be sent: payload is
//! taken only while fewer than [`GATHERED`] wait; beyond that come heads, of which each stream has few, and answers to
//! frames of the peer, which is not read while so much waits for it ([`Connection::reads`]). Frames that cost more than
//! they bring: the [`Meter`]'s budgets. Streams: [`Settings::streams`].

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::RandomState;
use slab::Slab;

use crate::code::Code;
use crate::frame::{self, Frame, Kind, PREFACE};
use crate::head::Head;
use crate::hpack::decoder::Decoder;
use crate::hpack::encoder::Encoder;
use crate::meter::{Budgets, Direction, Flood, Frames, Meter, Nanos, Role};
use crate::pool::Pool;
use crate::stream::{Failure, Side, Stream};

/// Bytes that may wait to be sent before no more payload is taken: the largest write buffer that is pooled.
pub const GATHERED: usize = 64 * 1024;
/// Who waited for room goes on when fewer than this wait.
const ROOM_AGAIN: usize = GATHERED / 2;
/// The windows before anybody says otherwise (RFC 9113 section 6.9.2).
pub(crate) const FIRST_WINDOW: u32 = 65_535;
/// The largest window (RFC 9113 section 6.9.1).
pub(crate) const MOST_WINDOW: i64 = (1 << 31) - 1;
/// The highest number of a stream.
pub(crate) const MOST_STREAM: u32 = (1 << 31) - 1;
/// Streams that this side reset and that are remembered, so that what was on its way for them is passed over.
const REMEMBERED: usize = 256;
/// What the PING says that is sent with the first GOAWAY: its answer shows that the peer has read both.
pub(crate) const LEAVING: [u8; 8] = *b"leaving!";

/// A stream, for as long as its user holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub(crate) usize);

/// How a connection is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Streams that the peer may have open at a time, where it opens them.
    pub streams: u32,
    /// The window of each stream: payload that is held of it.
    pub stream_window: u32,
    /// The window of all streams together.
    pub connection_window: u32,
    /// Bytes of a head, as RFC 9113 section 6.5.2 counts them.
    pub header_bytes: u32,
    /// What a peer may send of frames that cost more than they bring.
    pub budgets: Budgets,
}

/// Why a connection goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer broke the protocol; one of our tokens.
    Protocol(&'static str),
    /// The peer sent too many of some frames.
    Flood(Flood),
    /// This side ended it.
    Ended,
    /// The socket failed or ended.
    Gone,
}

/// An error that ends the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fatal {
    pub(crate) code: Code,
    pub(crate) cause: Cause,
}

impl Fatal {
    pub(crate) fn new(code: Code, token: &'static str) -> Self {
        Self {
            code,
            cause: Cause::Protocol(token),
        }
    }

    pub(crate) fn protocol(token: &'static str) -> Self {
        Self::new(Code::PROTOCOL_ERROR, token)
    }
}

impl From<Flood> for Fatal {
    fn from(flood: Flood) -> Self {
        Self {
            code: Code::ENHANCE_YOUR_CALM,
            cause: Cause::Flood(flood),
        }
    }
}

/// What the peer allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) streams: u32,
    pub(crate) window: u32,
    pub(crate) frame: usize,
}

/// How far this side is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// GOAWAY was said without a last stream; those that are on their way still count.
    Said,
    /// The peer has read that. What it had in hand by then may come behind its word.
    Read,
    /// GOAWAY was said with the last stream.
    Last,
}

/// What comes next from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Preface,
    /// SETTINGS, with which each side begins.
    First,
    Frame,
    /// The rest of a DATA frame: payload, then padding.
    Data {
        stream: u32,
        payload: u32,
        padding: u32,
        ends: bool,
    },
}

/// A block of fields that has not ended.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) stream: u32,
    pub(crate) ends_stream: bool,
    /// It is an error of its stream.
    pub(crate) depends_on_itself: bool,
    /// When its first byte came.
    pub(crate) since: Nanos,
    pub(crate) bytes: Vec<u8>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) settings: Settings,
    /// The peer has read our settings.
    pub(crate) settled: bool,
    pub(crate) peer: Peer,
    pub(crate) meter: Meter,
    pub(crate) pool: Rc<Pool>,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    pub(crate) expected: Expected,
    pub(crate) block: Option<Box<Block>>,
    /// Since when the peer owes the rest of a frame.
    pub(crate) cut: Option<Nanos>,

    pub(crate) streams: Slab<Stream>,
    pub(crate) numbers: HashMap<u32, usize, RandomState>,
    /// Streams that are open.
    pub(crate) open: u32,
    /// The highest stream of the peer that came; the highest that was looked at; the next that this side opens.
    pub(crate) seen: u32,
    pub(crate) last: u32,
    pub(crate) next: u32,
    /// Numbers of streams that the peer passed over last: from, and below which.
    pub(crate) skipped: (u32, u32),
    /// Streams of the peer that nobody took on.
    pub(crate) arrived: VecDeque<usize>,
    /// Streams that were refused because the peer had too many open, and not asked for yet.
    pub(crate) refused: u32,
    /// Streams that wait for room.
    pub(crate) blocked: VecDeque<usize>,
    /// Streams that this side reset, by number; made when there is one.
    pub(crate) resets: Option<Box<[u32; REMEMBERED]>>,

    pub(crate) send_window: i64,
    pub(crate) receive_window: i64,
    pub(crate) credit: u32,

    pub(crate) out: Vec<u8>,
    pub(crate) sent: usize,
    /// How much was ever sent before what is in `out`.
    pub(crate) before: u64,
    pub(crate) driver: Option<Waker>,
    /// Who waits for the peer's first settings.
    pub(crate) greeted: Option<Waker>,
    pub(crate) leaving: Leaving,
    /// The peer's GOAWAY.
    pub(crate) peer_leaves: bool,
    pub(crate) over: Option<Cause>,
}

impl Connection {
    /// A new connection. What it begins with is there to be sent.
    pub fn new(role: Role, settings: Settings, pool: Rc<Pool>) -> Self {
        let mut connection = Self {
            role,
            settings,
            settled: false,
            peer: Peer {
                streams: 100,
                window: FIRST_WINDOW,
                frame: frame::MOST,
            },
            meter: Meter::new(role, settings.budgets),
            pool,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            expected: match role {
                Role::Server => Expected::Preface,
                Role::Client => Expected::First,
            },
            block: None,
            cut: None,
            streams: Slab::new(),
            numbers: HashMap::default(),
            open: 0,
            seen: 0,
            last: 0,
            next: 1,
            skipped: (0, 0),
            arrived: VecDeque::new(),
            refused: 0,
            blocked: VecDeque::new(),
            resets: None,
            send_window: i64::from(FIRST_WINDOW),
            // Less can't be announced.
            receive_window: i64::from(settings.connection_window.max(FIRST_WINDOW)),
            credit: 0,
            out: Vec::new(),
            sent: 0,
            before: 0,
            driver: None,
            greeted: None,
            leaving: Leaving::No,
            peer_leaves: false,
            over: None,
        };
        connection.begin();
        connection
    }

    /// Why it goes no further, when it does not.
    pub fn over(&self) -> Option<Cause> {
        self.over
    }

    /// What it shares with others of its thread.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether the client's preface has come.
    pub fn is_begun(&self) -> bool {
        self.expected != Expected::Preface
    }

    /// Ready when the peer has said what it allows, or will not: false. Until then one stream may be opened, since a server
    /// that takes requests takes one.
    pub fn poll_greeted(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if self.over.is_some() {
            Poll::Ready(false)
        } else if self.is_greeted() {
            Poll::Ready(true)
        } else {
            crate::stream::note(&mut self.greeted, cx.waker());
            Poll::Pending
        }
    }

    pub(crate) fn is_greeted(&self) -> bool {
        !matches!(self.expected, Expected::Preface | Expected::First)
    }

    pub(crate) fn wake_greeted(&mut self) {
        if let Some(greeted) = self.greeted.take() {
            greeted.wake();
        }
    }

    /// Since when the peer owes the rest of a head, or of any frame but the payload of a DATA frame, whose stream waits
    /// for it. Nothing else can come before.
    pub fn unfinished_since(&self) -> Option<Nanos> {
        self.block.as_ref().map(|block| block.since).or(self.cut)
    }

    /// Streams that are open.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Frames that came, and frames that went.
    pub fn frames(&self) -> (&Frames, &Frames) {
        (self.meter.received(), self.meter.sent())
    }

    /// Whether the connection should be replaced.
    pub fn is_worn(&self) -> bool {
        self.meter.is_worn() || self.next > MOST_STREAM
    }

    /// Whether the peer is to be read: not while it does not take what it is answered (attacks.md 8).
    pub fn reads(&self) -> bool {
        self.unsent().len() < GATHERED
    }

    /// Bytes that are to be sent.
    pub fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Says that so many bytes were sent.
    pub fn sent(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.out.len());
        if self.sent == self.out.len() {
            self.before += self.sent as u64;
            self.sent = 0;
            self.out.clear();
            self.pool.give_out(std::mem::take(&mut self.out));
        } else if self.sent >= GATHERED {
            self.before += self.sent as u64;
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.unsent().len() < ROOM_AGAIN && self.send_window > 0 {
            self.unblock();
        }
    }

    /// Notes whom to wake when there is something to send, or the connection is over.
    pub fn set_driver(&mut self, waker: &Waker) {
        crate::stream::note(&mut self.driver, waker);
    }

    /// The next stream that the peer opened, with its head. Its user must [release](Self::release) it.
    pub fn arrived(&mut self) -> Option<(Key, Box<Head>)> {
        loop {
            let at = self.arrived.pop_front()?;
            let stream = self.streams.get_mut(at)?;
            let head = stream.pop_head();
            // Taken back before anybody looked at it: nothing is asked of a server.
            if let Side::Failed(_) = stream.send {
                if let Some(head) = head {
                    self.pool.give_head(head);
                }
                self.release(Key(at));
                continue;
            }
            return head.map(|head| (Key(at), head));
        }
    }

    /// Streams that were refused since this was asked last, because the peer had too many open.
    pub fn take_refused(&mut self) -> u32 {
        std::mem::take(&mut self.refused)
    }

    /// The socket is gone: everything ends.
    pub fn gone(&mut self) {
        self.finish(Cause::Gone, Failure::Gone);
    }

    pub(crate) fn finish(&mut self, cause: Cause, failure: Failure) {
        self.over.get_or_insert(cause);
        self.wake_greeted();
        for (_, stream) in &mut self.streams {
            stream.fail(failure);
        }
        self.wake_driver();
    }

    /// Wakes the driver.
    pub fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(crate) fn unblock(&mut self) {
        while let Some(at) = self.blocked.pop_front() {
            if let Some(stream) = self.streams.get_mut(at) {
                stream.blocked = false;
                stream.wake_sender();
            }
        }
    }

    /// Counts a frame that leaves.
    pub(crate) fn on_sent(&mut self, frame: &Frame) {
        // Of what is sent only resets are bounded, and not by time.
        if let Err(flood) = self.meter.on_frame(Direction::Sent, frame, 0) {
            self.fail(flood.into());
        }
    }

    /// Counts a frame that came.
    pub(crate) fn on_received(&mut self, frame: &Frame, now: Nanos) -> Result<(), Fatal> {
        self.meter
            .on_frame(Direction::Received, frame, now)
            .map_err(Fatal::from)
    }

    /// Takes leave of the peer because of an error.
    pub(crate) fn fail(&mut self, fatal: Fatal) {
        if self.over.is_some() {
            return;
        }
        self.go_away(self.last, fatal.code);
        let failure = match fatal.cause {
            Cause::Protocol(token) => Failure::Protocol(token),
            _ => Failure::Gone,
        };
        self.finish(fatal.cause, failure);
    }

    /// The stream with this number.
    pub(crate) fn find(&mut self, number: u32) -> Option<(usize, &mut Stream)> {
        let at = *self.numbers.get(&number)?;
        self.streams.get_mut(at).map(|stream| (at, stream))
    }

    /// Whether a stream was never opened.
    pub(crate) fn is_idle(&self, number: u32) -> bool {
        match (self.role, number % 2) {
            (Role::Server, 1) => number > self.seen,
            (Role::Client, 1) => number >= self.next,
            _ => true,
        }
    }

    pub(crate) fn remember_reset(&mut self, number: u32) {
        let resets = self.resets.get_or_insert_with(|| Box::new([0; REMEMBERED]));
        if let Some(place) = resets.get_mut(place(number)) {
            *place = number;
        }
    }

    pub(crate) fn was_reset(&self, number: u32) -> bool {
        let of = |resets: &[u32; REMEMBERED]| resets.get(place(number)).copied();
        self.resets.as_deref().and_then(of) == Some(number)
    }

    /// Counts a stream no longer, and forgets one that nobody needs.
    pub(crate) fn settle(&mut self, at: usize) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        if !stream.is_closed() {
            return;
        }
        if std::mem::take(&mut stream.counted) {
            self.open = self.open.saturating_sub(1);
            if self.open == 0 && self.leaving == Leaving::Last {
                self.wake_driver();
            }
        }
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        if stream.released {
            self.numbers.remove(&stream.id);
            let mut stream = self.streams.remove(at);
            while let Some(head) = stream.pop_head() {
                self.pool.give_head(head);
            }
            if let Some(trailers) = stream.trailers.take() {
                self.pool.give_head(trailers);
            }
            self.pool.give_payload(std::mem::take(&mut stream.payload));
        }
    }

    /// The preface, settings and windows of this side.
    fn begin(&mut self) {
        self.reserve();
        if self.role == Role::Client {
            self.out.extend_from_slice(PREFACE);
        }
        let Settings {
            streams,
            stream_window,
            connection_window,
            header_bytes,
            ..
        } = self.settings;
        let settings: &[(u16, u32)] = match self.role {
            // RFC 8441 section 3.
            Role::Server => &[(3, streams), (4, stream_window), (6, header_bytes), (8, 1)],
            Role::Client => &[(2, 0), (4, stream_window), (6, header_bytes)],
        };
        let frame = Frame {
            kind: Kind::Settings,
            flags: 0,
            stream: 0,
            length: settings.len() as u32 * 6,
            word: 0,
        };
        frame.write(&mut self.out);
        for (name, value) in settings {
            self.out.extend_from_slice(&name.to_be_bytes());
            self.out.extend_from_slice(&value.to_be_bytes());
        }
        self.on_sent(&frame);
        if connection_window > FIRST_WINDOW {
            self.window_update(0, connection_window - FIRST_WINDOW);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.out.capacity() > 0 {
            self.pool.give_out(std::mem::take(&mut self.out));
        }
    }
}

fn place(number: u32) -> usize {
    (number / 2) as usize % REMEMBERED
}
