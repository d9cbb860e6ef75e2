//! How does payload move in and out of a stream without more being held than the windows allow?
//!
//! A [`Receiver`] gives the peer new window for exactly the bytes that were taken on, so a slow taker slows the peer.
//! A [`Sender`] takes payload only as far as the peer's windows and `h2`'s buffer have room, so a slow peer slows the
//! source.
//!
//! **Small frames.** `h2` bounds the small DATA frames that wait on a connection, and ends it when there are more: one
//! stream of many messages whose taker is slow would cost all others their connection. So a receiver whose payload is
//! not taken goes on reading small frames and gathers what is in them; the window bounds the bytes.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::fault::{fault, send_fault};
use crate::exchange::message::{Fault, Length, Payload, Source, Trailers};

/// Payload that is asked for at a time: as much as `h2` buffers of a stream.
pub const SEND_BUFFER: usize = 128 * 1024;

/// Payload of a frame that is copied behind what waits already. What is larger is held as it came.
const SMALL: usize = 1024;

/// What comes on a stream.
pub struct Receiver {
    stream: RecvStream,
    piece: Bytes,
    /// Small pieces behind `piece`.
    gathered: Vec<u8>,
    /// A large piece behind those.
    next: Bytes,
    trailers: Option<HeaderMap>,
    /// How the stream ended, behind all payload.
    ended: Option<Result<(), Fault>>,
    /// Payload that was taken on.
    taken: u64,
}

impl Receiver {
    /// What comes on `stream`.
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            piece: Bytes::new(),
            gathered: Vec::new(),
            next: Bytes::new(),
            trailers: None,
            ended: None,
            taken: 0,
        }
    }

    /// How long a body is, by the head before it. A length that is announced without a body (to HEAD, with 304) counts.
    pub fn length(&self, headers: &HeaderMap) -> Length {
        // `h2` lets one value through, or equal ones, and holds the payload against it (RFC 9113 section 8.1.1).
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match announced {
            Some(n) => Length::Known(n),
            None if self.ended.is_some() || self.stream.is_end_stream() => Length::None,
            None => Length::Unknown,
        }
    }

    /// Payload that was taken on so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Waits for payload or the end.
    pub fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        let waited = !self.piece.is_empty();
        while self.ended.is_none() && self.next.is_empty() {
            match self.poll_frame(cx) {
                // The taker is ready: it gets the payload as it came.
                Poll::Ready(piece) if !waited && !piece.is_empty() => {
                    self.piece = piece;
                    break;
                }
                Poll::Ready(piece) if piece.len() < SMALL => self.gathered.extend_from_slice(&piece),
                Poll::Ready(piece) => self.next = piece,
                Poll::Pending => break,
            }
        }
        match (self.piece.is_empty(), self.ended) {
            (false, _) => Poll::Ready(Ok(Payload::Data)),
            (true, Some(ended)) => Poll::Ready(ended.map(|()| Payload::End)),
            (true, None) => Poll::Pending,
        }
    }

    /// The payload of the next frame; empty when it has none, or the stream ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(piece)) => return Poll::Ready(piece),
            Some(Err(error)) => self.ended = Some(Err(fault(&error))),
            None => match ready!(self.stream.poll_trailers(cx)) {
                Ok(trailers) => (self.trailers, self.ended) = (trailers, Some(Ok(()))),
                Err(error) => self.ended = Some(Err(fault(&error))),
            },
        }
        Poll::Ready(Bytes::new())
    }

    /// The payload that is there.
    pub fn payload(&self) -> &[u8] {
        &self.piece
    }

    /// Marks payload as taken on; the peer may send as much more.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.piece.len());
        self.piece.advance(n);
        self.taken_on(n);
    }

    /// Takes up to `max` bytes, without a copy.
    pub fn take(&mut self, max: usize) -> Bytes {
        let bytes = self.piece.split_to(max.min(self.piece.len()));
        self.taken_on(bytes.len());
        bytes
    }

    fn taken_on(&mut self, n: usize) {
        if self.piece.is_empty() {
            self.piece = if self.gathered.is_empty() {
                std::mem::take(&mut self.next)
            } else {
                std::mem::take(&mut self.gathered).into()
            };
        }
        self.taken += n as u64;
        // Fails only when more is released than came.
        let _ = self.stream.flow_control().release_capacity(n);
    }

    /// The trailers, once.
    pub fn take_trailers(&mut self) -> Trailers {
        self.trailers.take().map_or(Trailers::None, Trailers::Map)
    }
}

/// What goes on a stream. The last piece is held until it is known whether the stream ends with it, so that most
/// bodies need no empty frame to end them.
pub struct Sender {
    stream: SendStream<Bytes>,
    held: Bytes,
    ended: bool,
    /// Payload that was taken.
    taken: u64,
}

impl Sender {
    /// What goes on `stream`; `ended` when its head was its end.
    pub fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self {
            stream,
            held: Bytes::new(),
            ended,
            taken: 0,
        }
    }

    /// Payload that was taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Waits until some of `wanted` bytes may go; gives how many.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Fault>> {
        self.send_held()?;
        let wanted = wanted.min(SEND_BUFFER);
        let mut room = self.stream.capacity();
        if room == 0 {
            self.stream.reserve_capacity(wanted);
            room = self.stream.capacity();
        }
        while room == 0 {
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(fault(&error))),
                None => return Poll::Ready(Err(send_fault(&mut self.stream))),
            };
        }
        Poll::Ready(Ok(room.min(wanted)))
    }

    /// Takes bytes for which there is room, and holds them.
    pub fn push(&mut self, bytes: Bytes) -> Result<(), Fault> {
        self.send_held()?;
        self.taken += bytes.len() as u64;
        self.held = bytes;
        Ok(())
    }

    /// Takes payload from a source.
    pub fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        let room = ready!(self.poll_room(cx, source.payload().len()))?;
        Poll::Ready(self.push(source.take_bytes(room)))
    }

    /// Queues the end, with trailers where there are some. Once only.
    pub fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let sent = match trailers.into_map() {
            Some(trailers) => {
                self.send_held()?;
                self.stream.send_trailers(trailers)
            }
            None => self.stream.send_data(std::mem::take(&mut self.held), true),
        };
        sent.map_err(|_| send_fault(&mut self.stream))
    }

    /// Queues what is held.
    pub fn send_held(&mut self) -> Result<(), Fault> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.stream
            .send_data(std::mem::take(&mut self.held), false)
            .map_err(|_| send_fault(&mut self.stream))
    }

    /// Ready with a code when the peer took the stream back, or the connection failed.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    /// Ends the stream at once; what was queued for it is dropped.
    pub fn reset(&mut self, reason: Reason) {
        self.ended = true;
        self.stream.send_reset(reason);
    }
}
