//! How do heads and payload move in and out of a stream?
//!
//! A [`Channel`] is one stream of a shared connection, held by the exchange that uses it. The peer gets new window for
//! exactly the bytes that were used up, so a slow taker slows the peer; payload is taken only as far as the peer's
//! windows and the connection have room, so a slow peer slows the source. A channel that is dropped before its stream
//! is complete resets it; the connection and its other streams go on.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mesh_http2::{Code, Connection, Failure, Head, HeadWriter, Key, Received};

use super::fault::fault;
use crate::exchange::message::{Fault, Payload, Source, Trailers};

/// A connection that its streams and its driver share.
pub type Shared = Rc<RefCell<Connection>>;

/// One stream.
pub struct Channel {
    connection: Shared,
    key: Key,
    /// Payload that was taken from the stream, and how much of it is used up.
    piece: Vec<u8>,
    used: usize,
    /// How the stream ended, behind all payload.
    ended: Option<Result<(), Fault>>,
    /// Payload that was used up, and payload that was sent.
    received: u64,
    sent: u64,
}

impl Channel {
    /// The stream with this key, which is released with this.
    pub fn new(connection: Shared, key: Key) -> Self {
        Self {
            connection,
            key,
            piece: Vec::new(),
            used: 0,
            ended: None,
            received: 0,
            sent: 0,
        }
    }

    /// Bytes of payload: what came and was used up, what went.
    pub fn payload_bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// Sends a head; `ends` when nothing follows.
    ///
    /// # Errors
    /// The stream takes nothing more.
    pub fn head(&self, ends: bool, write: impl FnOnce(&mut HeadWriter<'_>)) -> Result<(), Fault> {
        let mut connection = self.connection.borrow_mut();
        connection.head(self.key, ends, write).map_err(fault)
    }

    /// Waits for the next head.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Box<Head>, Fault>> {
        let mut connection = self.connection.borrow_mut();
        connection.poll_head(cx, self.key).map_err(fault)
    }

    /// Gives a head back that is used no more.
    pub fn give_back(&self, head: Box<Head>) {
        self.connection.borrow().pool().give_head(head);
    }

    /// Whether the peer sends nothing more, and nothing is left.
    pub fn is_at_end(&self) -> bool {
        match self.ended {
            Some(Err(_)) => true,
            _ => self.payload().is_empty() && self.connection.borrow().is_at_end(self.key),
        }
    }

    /// Waits for payload or the end.
    pub fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        if !self.payload().is_empty() {
            return Poll::Ready(Ok(Payload::Data));
        }
        if let Some(ended) = self.ended {
            return Poll::Ready(ended.map(|()| Payload::End));
        }
        self.piece.clear();
        self.used = 0;
        let mut connection = self.connection.borrow_mut();
        let received = ready!(connection.poll_data(cx, self.key, &mut self.piece));
        match received {
            Ok(Received::Data) => return Poll::Ready(Ok(Payload::Data)),
            Ok(Received::End) => self.ended = Some(Ok(())),
            Err(failure) => self.ended = Some(Err(fault(failure))),
        }
        Poll::Ready(received.map(|_| Payload::End).map_err(fault))
    }

    /// The payload that is there.
    pub fn payload(&self) -> &[u8] {
        self.piece.get(self.used..).unwrap_or_default()
    }

    /// Marks payload as used up; the peer may send as much more.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.payload().len());
        self.used += n;
        self.received += n as u64;
        self.connection.borrow_mut().taken(self.key, n);
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self) -> Trailers {
        let trailers = self.connection.borrow_mut().take_trailers(self.key);
        trailers.map_or(Trailers::None, Trailers::Fields)
    }

    /// The trailers, which stay there to be taken.
    pub fn trailers(&self) -> Trailers {
        let connection = self.connection.borrow();
        let trailers = connection.trailers(self.key).cloned();
        trailers.map_or(Trailers::None, |head| Trailers::Fields(Box::new(head)))
    }

    /// Takes some payload from a source.
    pub fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        let n = ready!(self.poll_write(cx, source.payload()))?;
        source.advance(n);
        Poll::Ready(Ok(()))
    }

    /// Takes some payload and says how much of it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<usize, Fault>> {
        let mut connection = self.connection.borrow_mut();
        let room = ready!(connection.poll_room(cx, self.key, payload.len())).map_err(fault)?;
        connection.data(self.key, payload.get(..room).unwrap_or(payload));
        self.sent += room as u64;
        Poll::Ready(Ok(room))
    }

    /// Ends this side.
    ///
    /// # Errors
    /// The stream takes nothing more.
    pub fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        let mut connection = self.connection.borrow_mut();
        let sent = if trailers.is_empty() {
            connection.end(self.key)
        } else {
            connection.head(self.key, true, |out| trailers.write(out))
        };
        if let Trailers::Fields(head) = trailers {
            connection.pool().give_head(head);
        }
        sent.map_err(fault)
    }

    /// Takes the stream back.
    pub fn reset(&mut self, code: Code) {
        self.connection.borrow_mut().reset(self.key, code);
    }

    /// Takes the stream back as one that nobody has looked at, through no fault of the peer's.
    pub fn refuse(&mut self) {
        self.connection.borrow_mut().refuse(self.key);
    }

    /// Ready when the peer took the stream back, or the connection is gone.
    pub fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<Failure> {
        self.connection.borrow_mut().poll_failed(cx, self.key)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut connection = self.connection.borrow_mut();
        // What was taken and not used up goes with the stream.
        let left = self.payload().len();
        connection.taken(self.key, left);
        connection.pool().give_payload(std::mem::take(&mut self.piece));
        connection.release(self.key);
    }
}
