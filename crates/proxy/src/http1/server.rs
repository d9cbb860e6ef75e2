//! The client's side of an HTTP/1 exchange.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mesh_http1::{
    BodyEncoder, BodyKind, HeadWriter, Known, Limits, Method, Persistence, RequestHead, Version, switchable,
};

use mesh_http2::Code;
use mesh_model::errors::Reason;
use mesh_model::filter::CompiledEdits;

use super::body::{BodyReader, BodyWriter};
use crate::access::Passed;
use crate::buffer::Buffers;
use crate::exchange::message::{
    Downstream, Fault, Gone, Length, LocalResponse, Payload, RequestRef, ResponseEdits, ResponseRef, Sink,
    Source, Trailers, Upstream,
};
use crate::exchange::pump::REST_BYTES;
use crate::http2::fault;
use crate::io::Stream;
use crate::io::wire::{Filled, ReadSize, Wire};

/// One request and its response on a client's connection.
pub struct ServerExchange<S> {
    /// The connection.
    pub wire: Wire<S>,
    head: Box<RequestHead>,
    /// The buffer that the head's spans point into, and where the head starts in it.
    bytes: Vec<u8>,
    at: usize,
    buffers: Rc<Buffers>,
    body: BodyReader,
    writer: BodyWriter,
    started: bool,
    finished: bool,
    /// What the answer to a gRPC call says of how that went; `None` in any other exchange.
    grpc: Option<Option<u32>>,
    /// Payload that passed: the request's, the response's.
    payload: Passed,
    /// The connection is closed after this exchange.
    close: bool,
    /// The client ended its side.
    gone: bool,
    /// The client waits for 100 before it sends its body.
    waits: bool,
}

/// What is left when an exchange is over.
pub struct Finished<S> {
    /// The connection.
    pub wire: Wire<S>,
    /// The head, to be used again.
    pub head: Box<RequestHead>,
    /// Whether another request may follow.
    pub reusable: bool,
}

impl<S: Stream> ServerExchange<S> {
    /// An exchange for the request whose parsed head lies at the front of the wire's unread bytes.
    pub fn new(mut wire: Wire<S>, head: Box<RequestHead>, buffers: Rc<Buffers>, limits: &Limits) -> Self {
        let body = BodyReader::new(head.body, limits);
        let (bytes, at) = wire.detach(head.head_len);
        let close = head.persistence == Persistence::Close;
        let waits = head.expect_continue;
        Self {
            wire,
            head,
            bytes,
            at,
            buffers,
            body,
            writer: BodyWriter::new(BodyEncoder::None),
            started: false,
            finished: false,
            grpc: None,
            payload: Passed::default(),
            close,
            gone: false,
            waits,
        }
    }

    /// The bytes that the head's spans point into.
    pub fn head_bytes(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Bytes of bodies that passed so far.
    pub fn payload_bytes(&self) -> Passed {
        self.payload
    }

    /// Whether a whole response was queued.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the request is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        self.grpc.is_some()
    }

    /// Ends a response that can't be completed. A gRPC caller that reads trailers gets its status in them, where no chunk is
    /// open; to others the connection's end says that it was cut. `reset` is the code with which the server ended it, where
    /// it did.
    #[cold]
    pub fn abort(&mut self, reason: Reason, reset: Option<Code>) {
        let tells = self.started && self.grpc.is_some() && reason != Reason::ClientClosed;
        if !tells || !self.writer.takes_trailers() || !self.request().accepts_trailers() {
            return;
        }
        let status = reset.map_or(reason.grpc_status(), fault::grpc_status);
        let lines = format!("grpc-status: {status}\r\ngrpc-message: {}\r\n", reason.text());
        self.close = true;
        // Only a body of a known length could refuse to end.
        let _ = self.finish(Trailers::Lines(lines.into_bytes()));
    }

    /// Whether the connection could carry another request but for the rest of this one.
    pub fn lacks_rest(&self) -> bool {
        self.finished && !self.close && !self.body.is_done() && !self.writer.ends_with_connection()
    }

    /// Ends the exchange.
    pub fn finish_exchange(mut self) -> Finished<S> {
        if self.started && !self.finished && self.writer.ends_with_connection() {
            // An orderly end would say that the body was whole.
            self.wire.io.reset_on_drop();
        }
        let reusable =
            self.finished && !self.close && self.body.is_done() && !self.writer.ends_with_connection();
        self.buffers.put(std::mem::take(&mut self.bytes));
        Finished {
            wire: self.wire,
            head: self.head,
            reusable,
        }
    }

    /// Ends the connection with the response to a request to leave HTTP that is not granted. A client that did not wait
    /// may have bytes of the other protocol on their way, written by whoever it speaks for; no look at what came so far
    /// says that there are none, and none may be taken for a request (attacks.md 17). For CONNECT this is the rule (RFC
    /// 9931); what upgrades to is as much in others' hands, and who asked in vain seldom stays. A hint (`h2c`), which many
    /// clients send with any request, is no upgrade here and costs nobody a connection.
    fn refuse_to_leave(&mut self) {
        self.close |= self.head.upgrade.is_some() || self.head.method == Method::Connect;
    }

    /// Whether the connection must end with a response that begins before its request has ended. Who waits for 100 may leave
    /// out the body or send it all the same, so that what comes next could be read as either (RFC 9110 section 10.1.1). Of a
    /// body that may be long the rest is not waited for, and the client is told (RFC 9112 section 9.6); not so where the
    /// response may be as long, which is of exchanges that go both ways.
    #[cold]
    fn must_end_early(&self, length: Length) -> bool {
        let left = match self.body.kind() {
            BodyKind::Fixed(n) => n.saturating_sub(self.payload.received),
            _ => u64::MAX,
        };
        let in_doubt = self.waits && self.payload.received == 0;
        in_doubt || left > REST_BYTES && length != Length::Unknown
    }

    fn framing(&mut self, status: u16, length: Length) -> BodyEncoder {
        let bodiless = status == 204 || status == 304 || status < 200;
        match length {
            _ if bodiless || self.head.method == Method::Head => BodyEncoder::None,
            Length::None => BodyEncoder::Fixed(0),
            Length::Known(n) => BodyEncoder::Fixed(n),
            Length::Unknown if self.head.version == Version::Http11 => BodyEncoder::Chunked,
            Length::Unknown => {
                self.close = true;
                BodyEncoder::UntilClose
            }
        }
    }

    /// Writes what the client must ask to switch to (RFC 9110 section 15.5.22): it speaks with the server then. What would be
    /// spoken with this side, TLS or another HTTP, is not asked for: it is no upgrade here, and asking would not help.
    #[cold]
    fn write_upgrades(head: &mut HeadWriter<'_>, response: ResponseRef<'_>, edits: &ResponseEdits<'_>) {
        let ResponseRef::Http1 { bytes, head: from } = response else {
            return;
        };
        if edits.headers.drops(b"upgrade") {
            return;
        }
        let fields = from.fields.iter().filter(|field| field.known == Known::Upgrade);
        let mut upgrades = fields
            .map(|field| switchable(field.value.of(bytes)))
            .filter(|upgrade| !upgrade.is_empty())
            .peekable();
        if upgrades.peek().is_some() {
            head.field(b"Connection", b"upgrade");
        }
        for upgrade in upgrades {
            head.field(b"Upgrade", &upgrade);
        }
    }

    /// Writes the fields that frame the body and the connection.
    fn write_framing(
        head: &mut HeadWriter<'_>,
        status: u16,
        length: Length,
        encoder: &BodyEncoder,
        close: bool,
        version: Version,
    ) {
        match (encoder, length) {
            (BodyEncoder::Chunked, _) => head.field(b"Transfer-Encoding", b"chunked"),
            // RFC 9110 section 8.6: no length with 1xx and 204; with HEAD and 304 it is what a GET would have had.
            (_, Length::Known(n)) if status >= 200 && status != 204 => head.content_length(n),
            (BodyEncoder::Fixed(n), _) => head.content_length(*n),
            _ => {}
        }
        match (close, version) {
            (true, _) => head.field(b"Connection", b"close"),
            (false, Version::Http10) => head.field(b"Connection", b"keep-alive"),
            (false, Version::Http11) => {}
        }
    }
}

impl<S: Stream> Source for ServerExchange<S> {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        self.body.poll_payload(&mut self.wire, cx)
    }

    fn payload(&self) -> &[u8] {
        self.body.payload(&self.wire)
    }

    fn advance(&mut self, n: usize) {
        self.payload.received += n as u64;
        self.body.advance(&mut self.wire, n);
    }

    fn take_trailers(&mut self) -> Trailers {
        match self.payload.received {
            0 => self.body.trailers(),
            _ => self.body.take_trailers(),
        }
    }

    fn length(&self) -> Length {
        length(self.body.kind())
    }
}

/// A body's length as the exchange sees it.
pub fn length(kind: BodyKind) -> Length {
    match kind {
        BodyKind::None => Length::None,
        BodyKind::Fixed(n) => Length::Known(n),
        BodyKind::Chunked | BodyKind::UntilClose => Length::Unknown,
    }
}

impl<S: Stream> Sink for ServerExchange<S> {
    fn poll_send<B: Source>(&mut self, cx: &mut Context<'_>, source: &mut B) -> Poll<Result<(), Fault>> {
        let n = ready!(self.writer.poll_send(&mut self.wire, cx, source.payload()))?;
        source.advance(n);
        self.payload.sent += n as u64;
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        if let Some(status) = &mut self.grpc {
            *status = trailers.grpc_status().or(*status);
        }
        self.writer.finish(&mut self.wire, trailers)?;
        self.finished = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.wire.poll_flush(cx).map_err(Fault::from)
    }

    fn written(&self) -> u64 {
        self.wire.bytes_written
    }
}

impl<S: Stream> Downstream for ServerExchange<S> {
    fn request(&self) -> RequestRef<'_> {
        RequestRef::Http1 {
            bytes: self.head_bytes(),
            head: &self.head,
        }
    }

    fn leave(&mut self) {
        self.close = true;
    }

    fn start_response<U: Upstream>(&mut self, up: &mut U, edits: &ResponseEdits<'_>) {
        let (response, length) = (up.response(), up.length());
        if let Some(status) = &mut self.grpc {
            *status = response.grpc_status();
        }
        let status = response.status();
        if status != 101 {
            self.refuse_to_leave();
        }
        if !self.body.is_done() {
            self.close |= self.must_end_early(length);
        }
        let encoder = self.framing(status, length);
        let mut head = HeadWriter::new(self.wire.out());
        head.status_line(status, reason(response));
        response.write_http1(edits, &mut head);
        if status == 101 {
            head.field(b"Connection", b"upgrade");
            head.field(b"Upgrade", upgrade_token(response));
        } else {
            if status == 426 && self.head.version == Version::Http11 {
                Self::write_upgrades(&mut head, response, edits);
            }
            Self::write_framing(&mut head, status, length, &encoder, self.close, self.head.version);
        }
        head.end();
        self.writer = BodyWriter::new(encoder);
        self.started = true;
    }

    fn informational(&mut self, response: ResponseRef<'_>) {
        self.waits &= response.status() != 100;
        // RFC 9110 section 15.2: not to HTTP/1.0 clients.
        if self.head.version == Version::Http10 {
            return;
        }
        let edits = ResponseEdits {
            headers: &CompiledEdits::default(),
            via: None,
        };
        let mut head = HeadWriter::new(self.wire.out());
        head.status_line(response.status(), reason(response));
        response.write_http1(&edits, &mut head);
        head.end();
    }

    fn respond(&mut self, response: &LocalResponse<'_>) {
        let status = if response.grpc.is_some() {
            200
        } else {
            response.status
        };
        let known = match status {
            // RFC 9110 section 8.6: what the length would be otherwise is not known.
            204 | 304 => Length::None,
            _ => Length::Known(response.body.len() as u64),
        };
        // The request's body may still be on its way; a client that is answered early must not be left in doubt.
        self.close |= !self.body.is_done();
        self.refuse_to_leave();
        let encoder = self.framing(status, known);
        let close = self.close;
        let version = self.head.version;
        let mut head = HeadWriter::new(self.wire.out());
        head.status_line(status, b"");
        for (name, value) in response.edited() {
            head.field(name.as_bytes(), value.as_bytes());
        }
        if let Some((code, message)) = response.grpc {
            self.grpc = Some(Some(code));
            head.field(b"grpc-status", code.to_string().as_bytes());
            head.field(b"grpc-message", message.as_bytes());
        }
        Self::write_framing(&mut head, status, known, &encoder, close, version);
        head.end();
        if !matches!(encoder, BodyEncoder::None) {
            self.wire.out().extend_from_slice(response.body);
            self.payload.sent += response.body.len() as u64;
        }
        self.writer = BodyWriter::new(BodyEncoder::None);
        self.started = true;
        self.finished = true;
    }

    fn accept_tunnel(&mut self) {
        let mut head = HeadWriter::new(self.wire.out());
        // RFC 9110 section 9.3.6: no length and no coding, since all that follows is the tunnel's.
        head.status_line(200, b"");
        head.end();
        self.started = true;
        self.finished = true;
    }

    fn started(&self) -> bool {
        self.started
    }

    fn note_grpc_status(&mut self) {
        self.grpc.get_or_insert_default();
    }

    fn grpc_status(&self) -> Option<u32> {
        self.grpc.flatten()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.gone {
            return Poll::Ready(Gone::HalfClosed);
        }
        // The next request may come early; it waits in the buffer, and so does the news of an end behind it.
        if !self.wire.unread().is_empty() {
            return Poll::Pending;
        }
        ready!(self.wire.poll_readable(cx)).ok();
        match ready!(self.wire.poll_fill(cx, ReadSize::Small)) {
            Ok(Filled::End) => {
                self.gone = true;
                self.close = true;
                Poll::Ready(Gone::HalfClosed)
            }
            Ok(_) => Poll::Pending,
            Err(_) => Poll::Ready(Gone::Cancelled),
        }
    }

    fn gone(&self) -> impl Future<Output = ()> {
        self.wire.io.failed()
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.body.is_done() {
            return self.poll_gone(cx);
        }
        loop {
            match ready!(self.wire.poll_fill(cx, ReadSize::Small)) {
                Ok(Filled::Bytes(_)) => {}
                Ok(Filled::Full) => return Poll::Pending,
                // Whether its body is whole shows when it is passed on.
                Ok(Filled::End) => return Poll::Ready(Gone::HalfClosed),
                Err(_) => return Poll::Ready(Gone::Cancelled),
            }
        }
    }
}

fn reason<'a>(response: ResponseRef<'a>) -> &'a [u8] {
    match response {
        ResponseRef::Http1 { bytes, head } => head.reason.of(bytes),
        ResponseRef::Http2(_) => b"",
    }
}

fn upgrade_token<'a>(response: ResponseRef<'a>) -> &'a [u8] {
    match response {
        ResponseRef::Http1 { bytes, head } => head
            .field(Known::Upgrade)
            .map_or(b"", |field| field.value.of(bytes)),
        ResponseRef::Http2(_) => b"",
    }
}

/// A whole response for bytes that are no request, so that there is no exchange.
pub fn write_refusal(out: &mut Vec<u8>, status: u16, proxy_status: &str, body: &str) {
    let mut head = HeadWriter::new(out);
    head.status_line(status, b"");
    head.field(b"proxy-status", proxy_status.as_bytes());
    head.field(b"content-type", b"text/plain; charset=utf-8");
    head.content_length(body.len() as u64);
    head.field(b"Connection", b"close");
    head.end();
    out.extend_from_slice(body.as_bytes());
}
