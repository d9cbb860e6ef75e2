//! How do frames get into what is to be sent?

use std::task::{Context, Poll};

use mesh_http1::Known;

use crate::code::Code;
use crate::connection::{
    Cause, Connection, FIRST_WINDOW, Fatal, GATHERED, Key, LEAVING, Leaving, MOST_STREAM, MOST_WINDOW,
    Settings,
};
use crate::frame::{self, END_HEADERS, END_STREAM, Frame, Kind};
use crate::hpack::encoder::{Encoder, Indexing};
use crate::meter::{READ, Role};
use crate::stream::{Failure, Side, Stream, note};

/// Payload below this that fills a window is a drip: no reader asks for so little.
const SQUEEZED: usize = READ as usize;

/// A head that is being written.
pub struct HeadWriter<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut Vec<u8>,
}

impl HeadWriter<'_> {
    /// `:status`.
    pub fn status(&mut self, status: u16) {
        self.encoder.status(self.out, status);
    }

    /// The pseudo-fields of a request, as far as it has them: where nobody is asked for there is no `:authority` (RFC 9113
    /// section 8.3.1). A path that may come again is put into the table.
    pub fn request(&mut self, method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8], path_again: bool) {
        let Self { encoder, out } = self;
        encoder.method(out, method);
        encoder.scheme(out, scheme);
        if !authority.is_empty() {
            encoder.authority(out, authority);
        }
        let indexing = if path_again {
            Indexing::Again
        } else {
            Indexing::Once
        };
        encoder.path(out, path, indexing);
    }

    /// A field. The name may be of any case; `never` keeps it out of compression tables.
    pub fn field(&mut self, known: Known, name: &[u8], value: &[u8], never: bool) {
        let Self { encoder, out } = self;
        if known != Known::Other {
            return encoder.field(out, known, known.name().as_bytes(), value, never);
        }
        if !name.iter().any(u8::is_ascii_uppercase) {
            return encoder.field(out, known, name, value, never);
        }
        let mut lower = [0; 64];
        match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                encoder.field(out, known, lower, value, never);
            }
            None => encoder.field(out, known, &name.to_ascii_lowercase(), value, never),
        }
    }
}

impl Connection {
    /// Whether a new stream may be opened.
    pub fn can_open(&self) -> bool {
        self.role == Role::Client
            && self.over.is_none()
            && !self.peer_leaves
            && self.leaving == Leaving::No
            && self.open < self.peer_streams()
            && self.next <= MOST_STREAM
    }

    /// Streams that the peer lets be open at a time; one while it has not said so.
    pub fn peer_streams(&self) -> u32 {
        if self.is_greeted() { self.peer.streams } else { 1 }
    }

    /// Whether the peer said that it leaves.
    pub fn peer_leaves(&self) -> bool {
        self.peer_leaves
    }

    /// Opens a stream, whose head must follow at once. `bodiless` when the response has no body whatever it announces
    /// (HEAD). `None` when there is no room for it. Its user must [release](Self::release) it.
    pub fn open_stream(&mut self, bodiless: bool) -> Option<Key> {
        if !self.can_open() {
            return None;
        }
        let window = i64::from(self.settings.stream_window);
        let mut stream = Stream::new(self.next, window, i64::from(self.peer.window));
        stream.bodiless = bodiless;
        self.next += 2;
        self.open += 1;
        let number = stream.id;
        let at = self.streams.insert(stream);
        self.numbers.insert(number, at);
        Some(Key(at))
    }

    /// Sends a head: a request, a response, or trailers; `ends` when nothing follows it.
    ///
    /// # Errors
    /// The stream takes nothing more.
    pub fn head(
        &mut self,
        key: Key,
        ends: bool,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> Result<(), Failure> {
        self.sends(key)?;
        self.reserve();
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Err(Failure::Gone);
        };
        let start = self.out.len();
        self.out.extend_from_slice(&[0; frame::HEAD]);
        let (encoder, out) = (&mut self.encoder, &mut self.out);
        encoder.begin(out);
        write(&mut HeadWriter { encoder, out });
        let length = self.out.len() - start - frame::HEAD;
        let mut frame = Frame {
            kind: Kind::Headers,
            flags: if ends { END_STREAM } else { 0 },
            stream: stream.id,
            length: length as u32,
            word: 0,
        };
        stream.last_frame = Some(self.before + start as u64);
        if length <= self.peer.frame {
            frame.flags |= END_HEADERS;
            write_at(&mut self.out, start, &frame);
            self.on_sent(&frame);
        } else {
            self.split_head(start, frame);
        }
        if ends {
            self.ended(key.0);
        }
        self.wake_driver();
        Ok(())
    }

    /// A head that does not fit into one frame (RFC 9113 section 6.10).
    #[cold]
    fn split_head(&mut self, start: usize, mut frame: Frame) {
        let block = self.out.split_off(start + frame::HEAD);
        self.out.truncate(start);
        let mut pieces = block.chunks(self.peer.frame).peekable();
        while let Some(piece) = pieces.next() {
            frame.length = piece.len() as u32;
            if pieces.peek().is_none() {
                frame.flags |= END_HEADERS;
            }
            frame.write(&mut self.out);
            self.out.extend_from_slice(piece);
            self.on_sent(&frame);
            (frame.kind, frame.flags) = (Kind::Continuation, 0);
        }
    }

    /// Waits until payload can be sent, and gives how much of `wanted`.
    ///
    /// # Errors
    /// The stream takes nothing more.
    pub fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        key: Key,
        wanted: usize,
    ) -> Poll<Result<usize, Failure>> {
        self.sends(key)?;
        let room = GATHERED.saturating_sub(self.unsent().len());
        let shared = usize::try_from(self.send_window).unwrap_or(0).min(room);
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Poll::Ready(Err(Failure::Gone));
        };
        let own = usize::try_from(stream.send_window).unwrap_or(0);
        let granted = wanted.min(shared).min(own);
        if granted > 0 || wanted == 0 {
            return Poll::Ready(Ok(granted));
        }
        note(&mut stream.send_waker, cx.waker());
        if own > 0 && !std::mem::replace(&mut stream.blocked, true) {
            self.blocked.push_back(key.0);
        }
        Poll::Pending
    }

    /// Sends payload for which there was [room](Self::poll_room).
    pub fn data(&mut self, key: Key, mut payload: &[u8]) {
        self.reserve();
        let end = self.before + self.out.len() as u64;
        let from = self.before + self.sent as u64;
        let most = self.peer.frame;
        let Some(stream) = self.streams.get_mut(key.0) else {
            return;
        };
        stream.send_window -= payload.len() as i64;
        self.send_window -= payload.len() as i64;
        let number = stream.id;
        // A peer that opens its windows by a few bytes at a time earns nothing by what it gets.
        let squeezed = payload.len() < SQUEEZED && (stream.send_window <= 0 || self.send_window <= 0);
        // Behind a DATA frame of the same stream that waits still: one frame for both.
        if let Some(last) = stream.last_frame.filter(|last| *last >= from) {
            let start = (last - self.before) as usize;
            if let Some(mut frame) = self.out.get(start..).and_then(Frame::parse)
                && frame.kind == Kind::Data
                && last + (frame::HEAD as u64) + u64::from(frame.length) == end
            {
                let n = payload.len().min(most.saturating_sub(frame.length as usize));
                let (now, rest) = payload.split_at(n);
                self.out.extend_from_slice(now);
                frame.length += n as u32;
                write_at(&mut self.out, start, &frame);
                payload = rest;
                if !squeezed {
                    self.meter.payload_sent(n as u32);
                }
            }
        }
        for piece in payload.chunks(most) {
            let frame = Frame {
                kind: Kind::Data,
                flags: 0,
                stream: number,
                length: piece.len() as u32,
                word: u32::from(squeezed),
            };
            let start = self.before + self.out.len() as u64;
            frame.write(&mut self.out);
            self.out.extend_from_slice(piece);
            if let Some(stream) = self.streams.get_mut(key.0) {
                stream.last_frame = Some(start);
            }
            self.on_sent(&frame);
        }
        self.wake_driver();
    }

    /// Ends this side of a stream: in its last frame when that waits still, else in one of its own.
    ///
    /// # Errors
    /// The stream takes nothing more.
    pub fn end(&mut self, key: Key) -> Result<(), Failure> {
        self.sends(key)?;
        let from = self.before + self.sent as u64;
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Err(Failure::Gone);
        };
        let number = stream.id;
        let waits = stream.last_frame.filter(|last| *last >= from);
        let flags = waits.and_then(|last| self.out.get_mut((last - self.before) as usize + 4));
        match flags {
            Some(flags) => *flags |= END_STREAM,
            None => {
                self.reserve();
                let frame = Frame {
                    kind: Kind::Data,
                    flags: END_STREAM,
                    stream: number,
                    length: 0,
                    word: 0,
                };
                frame.write(&mut self.out);
                self.on_sent(&frame);
            }
        }
        self.ended(key.0);
        self.wake_driver();
        Ok(())
    }

    /// Takes a stream back.
    pub fn reset(&mut self, key: Key, code: Code) {
        let Some(stream) = self.streams.get_mut(key.0) else {
            return;
        };
        if !stream.is_closed() {
            let number = stream.id;
            stream.fail(Failure::Gone);
            self.reset_number(number, code);
        }
        self.settle(key.0);
    }

    /// Takes a stream back that could not be looked at (RFC 9113 section 8.7). Unlike a stream too many, that is no doing of
    /// its peer's, which is not blamed for it.
    pub fn refuse(&mut self, key: Key) {
        if self.streams.get(key.0).is_some_and(|stream| !stream.is_closed()) {
            self.meter.excuse_reset();
        }
        self.reset(key, Code::REFUSED_STREAM);
    }

    /// Its user is gone. A stream that is not complete is reset: a server's with NO_ERROR when only the request was left
    /// unread (RFC 9113 section 8.1), and with INTERNAL_ERROR when the response is not whole, a client's with CANCEL.
    pub fn release(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key.0) else {
            return;
        };
        stream.released = true;
        let blocked = std::mem::take(&mut stream.blocked);
        // Nothing was said of it yet: the peer knows no such stream.
        let unsaid = self.role == Role::Client && stream.last_frame.is_none();
        stream.send_waker = None;
        stream.receive_waker = None;
        // What was not taken is given back.
        let left = stream.payload.len() as u32;
        self.pool.give_payload(std::mem::take(&mut stream.payload));
        let (id, send, receive) = (stream.id, stream.send, stream.receive);
        self.credit_connection(left);
        if blocked {
            self.blocked.retain(|at| *at != key.0);
        }
        match (send, receive) {
            _ if unsaid => {}
            (Side::Ended, Side::Open) if self.role == Role::Server => {
                self.reset_unless_over(id, Code::NO_ERROR)
            }
            (Side::Open, _) if self.role == Role::Server => self.reset_unless_over(id, Code::INTERNAL_ERROR),
            (Side::Open, _) | (_, Side::Open) => self.reset_unless_over(id, Code::CANCEL),
            _ => {}
        }
        if let Some(stream) = self.streams.get_mut(key.0) {
            stream.fail(Failure::Gone);
        }
        self.settle(key.0);
    }

    fn reset_unless_over(&mut self, number: u32, code: Code) {
        if self.over.is_none() {
            self.reset_number(number, code);
        }
    }

    /// Lets the peer send more on the connection than was said before: this much in all that was not taken.
    pub fn grow(&mut self, window: u32) {
        let before = self.settings.connection_window.max(FIRST_WINDOW);
        let window = window.min(MOST_WINDOW as u32);
        if window > before && self.over.is_none() {
            self.settings.connection_window = window;
            self.receive_window += i64::from(window - before);
            self.window_update(0, window - before);
        }
    }

    /// Asks whether the peer is still there.
    pub fn ping(&mut self) {
        self.control(Kind::Ping, 0, 0, &[0; 8]);
    }

    /// Asks the peer to go elsewhere: its streams go on, and those that are on their way count.
    pub fn leave(&mut self) {
        if self.leaving != Leaving::No || self.over.is_some() {
            return;
        }
        if self.role == Role::Client {
            self.go_away(0, Code::NO_ERROR);
            self.leaving = Leaving::Last;
            return;
        }
        self.go_away(MOST_STREAM, Code::NO_ERROR);
        self.control(Kind::Ping, 0, 0, &LEAVING);
        self.leaving = Leaving::Said;
    }

    /// Whether the peer has read that this side leaves, and was not told of the last stream yet. Its last ones may come
    /// behind its word: of a client with several threads, one answers the PING while another sends a request (Go).
    pub fn knows_of_leave(&self) -> bool {
        self.leaving == Leaving::Read
    }

    /// Tells the peer of the last stream, where it [knows](Self::knows_of_leave): what comes now is no longer looked at.
    pub fn leave_for_good(&mut self) {
        if self.knows_of_leave() {
            self.leaving = Leaving::Last;
            self.go_away(self.last, Code::NO_ERROR);
        }
    }

    /// Whether both sides know that it is over, and nothing goes on.
    pub fn is_done(&self) -> bool {
        self.open == 0 && self.arrived.is_empty() && (self.leaving == Leaving::Last || self.peer_leaves)
    }

    /// Ends the connection with a code.
    pub fn abort(&mut self, code: Code) {
        self.fail(Fatal {
            code,
            cause: Cause::Ended,
        });
    }

    /// Whether a stream can be sent on.
    fn sends(&self, key: Key) -> Result<(), Failure> {
        match self.streams.get(key.0).map(|stream| stream.send) {
            Some(Side::Open) => Ok(()),
            Some(Side::Failed(failure)) => Err(failure),
            Some(Side::Ended) | None => Err(Failure::Gone),
        }
    }

    fn ended(&mut self, at: usize) {
        if let Some(stream) = self.streams.get_mut(at)
            && stream.send == Side::Open
        {
            stream.send = Side::Ended;
            self.settle(at);
        }
    }

    /// The peer broke the rules on a stream.
    pub(crate) fn stream_error(&mut self, at: usize, code: Code, token: &'static str) {
        if let Some(stream) = self.streams.get_mut(at) {
            let number = stream.id;
            stream.fail(Failure::Protocol(token));
            self.reset_number(number, code);
            self.settle(at);
        }
    }

    pub(crate) fn reset_number(&mut self, number: u32, code: Code) {
        self.remember_reset(number);
        self.control(Kind::Reset, 0, number, &code.0.to_be_bytes());
    }

    pub(crate) fn credit_connection(&mut self, n: u32) {
        self.credit += n;
        // What is kept back is never more than one stream may hold: the others have theirs.
        let Settings {
            stream_window,
            connection_window,
            ..
        } = self.settings;
        if self.credit >= stream_window.min(connection_window / 2) {
            let credit = std::mem::take(&mut self.credit);
            self.receive_window += i64::from(credit);
            self.window_update(0, credit);
        }
    }

    pub(crate) fn window_update(&mut self, number: u32, grows: u32) {
        self.control(Kind::WindowUpdate, 0, number, &grows.to_be_bytes());
    }

    pub(crate) fn go_away(&mut self, last: u32, code: Code) {
        let [l0, l1, l2, l3] = last.to_be_bytes();
        let [c0, c1, c2, c3] = code.0.to_be_bytes();
        self.control(Kind::GoAway, 0, 0, &[l0, l1, l2, l3, c0, c1, c2, c3]);
    }

    pub(crate) fn control(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        self.reserve();
        let word = match kind {
            Kind::Reset => payload.first_chunk().map_or(0, |code| u32::from_be_bytes(*code)),
            _ => 0,
        };
        let frame = Frame {
            kind,
            flags,
            stream,
            length: payload.len() as u32,
            word,
        };
        frame.write(&mut self.out);
        self.out.extend_from_slice(payload);
        self.on_sent(&frame);
        self.wake_driver();
    }

    /// Makes sure that there is a buffer to write into.
    pub(crate) fn reserve(&mut self) {
        if self.out.capacity() == 0 {
            self.out = self.pool.out();
        }
    }
}

fn write_at(out: &mut [u8], start: usize, frame: &Frame) {
    let [_, l0, l1, l2] = frame.length.to_be_bytes();
    let [s0, s1, s2, s3] = frame.stream.to_be_bytes();
    if let Some(head) = out.get_mut(start..start + frame::HEAD) {
        head.copy_from_slice(&[l0, l1, l2, frame.kind as u8, frame.flags, s0, s1, s2, s3]);
    }
}
