//! The server's side of an HTTP/1 exchange.

use std::task::{Context, Poll, ready};

use mesh_http1::{BodyEncoder, BodyKind, Limits, Method, Parsed, Persistence, ResponseHead};

use super::body::{BodyReader, BodyWriter};
use super::server::length;
use crate::exchange::head::Outgoing;
use crate::exchange::message::{
    Fault, HeadKind, Length, Payload, RequestRef, ResponseRef, Sink, Source, Trailers, Upstream,
};
use crate::io::Stream;
use crate::io::wire::{Filled, ReadSize, Wire};

/// Informational heads before a response; more is an attack (attacks.md 21).
const MAX_INFORMATIONAL: u8 = 16;

/// One request and its response on a connection to a server.
pub struct ClientExchange<S> {
    /// The connection.
    pub wire: Wire<S>,
    head: Box<ResponseHead>,
    method: Method,
    limits: Limits,
    writer: BodyWriter,
    request_finished: bool,
    body: BodyReader,
    informational: u8,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No head, or an informational one that was seen.
    AwaitingHead,
    /// The final head lies at the front of the unread bytes, until the first look at the body.
    HeadSeen,
    Body,
    Tunnel,
}

impl<S: Stream> ClientExchange<S> {
    /// Puts the request's head into the wire's write buffer; it leaves with the body's first bytes.
    pub fn start(
        mut wire: Wire<S>,
        head: Box<ResponseHead>,
        request: RequestRef<'_>,
        outgoing: &Outgoing<'_>,
        method: Method,
        limits: Limits,
    ) -> Self {
        let encoder = outgoing.write_http1(request, wire.out());
        let request_finished = matches!(encoder, BodyEncoder::None);
        Self {
            wire,
            head,
            method,
            limits,
            writer: BodyWriter::new(encoder),
            request_finished,
            body: BodyReader::new(BodyKind::None, &limits),
            informational: 0,
            state: State::AwaitingHead,
        }
    }

    /// Whether any byte of a response has come.
    pub fn response_begun(&self) -> bool {
        self.state != State::AwaitingHead || !self.wire.unread().is_empty() || self.informational > 0
    }

    /// Ends the exchange: the connection, and whether it may carry another request.
    pub fn finish_exchange(mut self) -> (Wire<S>, Box<ResponseHead>, bool) {
        let reusable = self.state == State::Body
            && self.request_finished
            && self.body.is_done()
            && self.head.persistence == Persistence::KeepAlive
            && self.body.kind() != BodyKind::UntilClose
            && self.wire.pending() == 0
            // Bytes behind the end of a response belong to nobody (attacks.md 21).
            && self.wire.unread().is_empty();
        self.wire.release();
        (self.wire, self.head, reusable)
    }

    fn drop_head(&mut self) {
        if self.state == State::HeadSeen {
            self.wire.consume(self.head.head_len);
            self.state = State::Body;
        }
    }
}

impl<S: Stream> Source for ClientExchange<S> {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        self.drop_head();
        self.body.poll_payload(&mut self.wire, cx)
    }

    fn payload(&self) -> &[u8] {
        self.body.payload(&self.wire)
    }

    fn advance(&mut self, n: usize) {
        self.body.advance(&mut self.wire, n);
    }

    fn take_trailers(&mut self) -> Trailers {
        self.body.take_trailers()
    }

    fn length(&self) -> Length {
        // What HEAD and 304 announce is passed on though no body comes.
        match (self.body.kind(), self.head.content_length) {
            (BodyKind::None, Some(n)) => Length::Known(n),
            (kind, _) => length(kind),
        }
    }
}

impl<S: Stream> Sink for ClientExchange<S> {
    fn poll_send<B: Source>(&mut self, cx: &mut Context<'_>, source: &mut B) -> Poll<Result<(), Fault>> {
        let n = ready!(self.writer.poll_send(&mut self.wire, cx, source.payload()))?;
        source.advance(n);
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        self.writer.finish(&mut self.wire, trailers)?;
        self.request_finished = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.wire.poll_flush(cx).map_err(Fault::from)
    }
}

impl<S: Stream> Upstream for ClientExchange<S> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadKind, Fault>> {
        loop {
            if !self.wire.unread().is_empty() {
                match self.head.parse(self.wire.unread(), self.method, &self.limits) {
                    Ok(Parsed::Complete) => break,
                    Ok(Parsed::Partial) => {}
                    Err(error) if error.is_too_large() => {
                        return Poll::Ready(Err(Fault::TooLarge(error.as_str())));
                    }
                    Err(error) => return Poll::Ready(Err(Fault::Protocol(error.as_str()))),
                }
            }
            match ready!(self.wire.poll_fill(cx, ReadSize::Small))? {
                Filled::Bytes(_) => {}
                Filled::End => return Poll::Ready(Err(Fault::Truncated)),
                Filled::Full => {
                    if !self.wire.grow(self.limits.head_bytes) {
                        return Poll::Ready(Err(Fault::TooLarge("head")));
                    }
                }
            }
        }
        let status = self.head.status;
        if status == 101 || (self.method == Method::Connect && (200..300).contains(&status)) {
            self.state = State::Tunnel;
            return Poll::Ready(Ok(HeadKind::Tunnel));
        }
        if status < 200 {
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Poll::Ready(Err(Fault::Protocol("informational_flood")));
            }
            return Poll::Ready(Ok(HeadKind::Informational));
        }
        self.body = BodyReader::new(self.head.body, &self.limits);
        self.state = State::HeadSeen;
        Poll::Ready(Ok(HeadKind::Final))
    }

    fn response(&self) -> ResponseRef<'_> {
        ResponseRef::Http1 {
            bytes: self.wire.unread(),
            head: &self.head,
        }
    }

    fn head_passed(&mut self) {
        match self.state {
            State::AwaitingHead | State::Tunnel => self.wire.consume(self.head.head_len),
            State::HeadSeen | State::Body => self.drop_head(),
        }
    }
}
