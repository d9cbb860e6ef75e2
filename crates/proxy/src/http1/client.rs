//! The server's side of an HTTP/1 exchange.

use std::task::{Context, Poll, ready};

use mesh_http1::{BodyEncoder, BodyKind, Known, Limits, Method, Parsed, Persistence, ResponseHead};

use super::body::{BodyReader, BodyWriter};
use super::server::length;
use crate::exchange::head::Outgoing;
use crate::exchange::message::{
    Fault, HeadKind, INFORMATIONAL_FLOOD, Length, MAX_INFORMATIONAL, Payload, RequestRef, ResponseRef, Sink,
    Source, Trailers, UNASKED_SWITCH, Upstream,
};
use crate::io::Stream;
use crate::io::wire::{Filled, ReadSize, Wire};
use crate::workload::server;

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
    switch: Switch,
    state: State,
}

/// Whether a server may switch protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Nobody asked for it.
    No,
    /// The client asked for it, and looks at the answer itself.
    Asked,
    /// It must, for a client that takes any success for it (RFC 8441 section 5), and prove it where a proof is given.
    Required(Option<[u8; 28]>),
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
    /// An exchange whose request has not begun.
    pub fn new(
        wire: Wire<S>,
        head: Box<ResponseHead>,
        method: Method,
        switch: Switch,
        limits: Limits,
    ) -> Self {
        Self {
            wire,
            head,
            method,
            limits,
            writer: BodyWriter::new(BodyEncoder::None),
            request_finished: false,
            body: BodyReader::new(BodyKind::None, &limits),
            informational: 0,
            switch,
            state: State::AwaitingHead,
        }
    }

    /// Puts the request's head into the wire's write buffer; it leaves with the body's first bytes.
    pub fn start(&mut self, request: RequestRef<'_>, outgoing: &Outgoing<'_>) {
        let encoder = outgoing.write_http1(request, self.wire.out());
        self.request_finished = matches!(encoder, BodyEncoder::None);
        self.writer = BodyWriter::new(encoder);
    }

    /// Whether a response fits what was said of switching.
    fn check_switch(&self) -> Result<(), Fault> {
        let proves = |accept: [u8; 28]| {
            let proof = self.head.field(Known::SecWebSocketAccept);
            proof.is_some_and(|field| field.value.of(self.wire.unread()) == accept)
        };
        match (self.switch, self.head.status) {
            (Switch::No, 101) => Err(UNASKED_SWITCH),
            (Switch::Required(Some(accept)), 101) if !proves(accept) => {
                Err(Fault::Protocol("websocket_accept"))
            }
            (Switch::Required(_), 200..300) => Err(Fault::Protocol("no_switch")),
            _ => Ok(()),
        }
    }

    /// Ends the exchange: the connection, and whether it may carry another request.
    pub fn finish_exchange(mut self) -> (Wire<S>, Box<ResponseHead>, bool) {
        let reusable = self.state == State::Body
            && self.request_finished
            // Who was asked to leave HTTP and did not may still be of two minds (attacks.md 17).
            && matches!(self.switch, Switch::No)
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

    fn written(&self) -> u64 {
        self.wire.bytes_written
    }
}

impl<S: Stream> Upstream for ClientExchange<S> {
    const MAY_REFUSE: bool = false;

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
        self.check_switch()?;
        if status == 101 || (self.method == Method::Connect && (200..300).contains(&status)) {
            self.state = State::Tunnel;
            return Poll::Ready(Ok(HeadKind::Tunnel));
        }
        if status < 200 {
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Poll::Ready(Err(INFORMATIONAL_FLOOD));
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

    fn status(&self) -> u16 {
        self.head.status
    }

    fn response_begun(&self) -> bool {
        self.state != State::AwaitingHead || !self.wire.unread().is_empty() || self.informational > 0
    }

    fn leads_to(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) -> bool {
        server(&self.wire.io).is_some_and(|server| is_such(&server))
    }
}
