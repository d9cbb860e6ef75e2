//! The client's side of an exchange, over one stream of HTTP/2.
//!
//! The response's head is held until it is known whether anything follows, so that a response without a body is one
//! frame. A stream that is dropped before its response ended is reset by `h2`: with NO_ERROR when only the request was
//! left unread (RFC 9113 section 8.1), with CANCEL otherwise; [`ServerStream::abort`] says it better.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use mesh_model::errors::Reason;

use super::body::{Receiver, Sender};
use super::fault;
use super::tunnel::Tunnel;
use crate::exchange::fields::response_http2;
use crate::exchange::message::{
    Downstream, Fault, Gone, Length, LocalResponse, Payload, RequestRef, ResponseEdits, ResponseRef, Sink,
    Source, Trailers, Upstream,
};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A response.
    Plain,
    /// A tunnel (RFC 9113 section 8.5).
    Connect,
    /// A tunnel that speaks another protocol (RFC 8441).
    Extended,
}

/// The response on its way.
enum Answer {
    /// Not begun.
    None,
    /// Begun, and held.
    Head(Box<Response<()>>),
    /// The head is queued.
    Body(Sender),
    /// The stream failed.
    Broken,
}

/// One request and its response.
pub struct ServerStream {
    parts: Parts,
    kind: Kind,
    receiver: Receiver,
    respond: SendResponse<Bytes>,
    answer: Answer,
    /// The rest of a response made by the proxy.
    rest: Option<Bytes>,
    finished: bool,
    tunnel: bool,
    grpc_status: Option<u32>,
}

impl ServerStream {
    /// The exchange of an accepted stream.
    pub fn new(parts: Parts, body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let kind = match (
            parts.method == Method::CONNECT,
            parts.extensions.get::<h2::ext::Protocol>(),
        ) {
            (true, Some(_)) => Kind::Extended,
            (true, None) => Kind::Connect,
            (false, _) => Kind::Plain,
        };
        Self {
            parts,
            kind,
            receiver: Receiver::new(body),
            respond,
            answer: Answer::None,
            rest: None,
            finished: false,
            tunnel: false,
            grpc_status: None,
        }
    }

    /// The request's head.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The protocol that an extended CONNECT asks for (`:protocol`): towards HTTP/1 servers an `Upgrade`, whose 101
    /// becomes a 200 here.
    pub fn upgrade_protocol(&self) -> Option<&str> {
        self.parts
            .extensions
            .get::<h2::ext::Protocol>()
            .map(h2::ext::Protocol::as_str)
    }

    /// Whether the response's end was queued.
    pub fn is_finished(&self) -> bool {
        self.finished && self.rest.is_none()
    }

    /// Bytes of payload: what came, what went.
    pub fn payload_bytes(&self) -> (u64, u64) {
        let sent = match &self.answer {
            Answer::Body(sender) => sender.taken(),
            _ => 0,
        };
        (self.receiver.taken(), sent)
    }

    /// The byte stream behind an accepted CONNECT. `None` when no such response was begun.
    pub fn into_tunnel(mut self) -> Option<Tunnel> {
        self.send_head(false).ok()?;
        match self.answer {
            Answer::Body(sender) if self.tunnel => Some(Tunnel::new(self.receiver, sender)),
            _ => None,
        }
    }

    /// Ends a response that can't be completed. A gRPC caller gets its status in trailers, which may come at any time;
    /// others get a reset, so that nobody takes half a response for a whole one. `reset` is the code with which the
    /// server ended it, where it did.
    pub fn abort(&mut self, reason: Reason, reset: Option<Code>) {
        if self.finished && self.rest.is_none() || matches!(self.answer, Answer::Broken) {
            return;
        }
        self.finished = true;
        if self.started() && self.request().is_grpc() && reason != Reason::ClientClosed {
            let mut trailers = HeaderMap::with_capacity(2);
            let status = reset.map_or(reason.grpc_status(), fault::grpc_status);
            trailers.insert("grpc-status", HeaderValue::from(status));
            trailers.insert("grpc-message", HeaderValue::from_static(reason.text()));
            self.grpc_status = Some(status);
            let sent = self.send_head(false).and_then(|()| match &mut self.answer {
                Answer::Body(sender) => sender.finish(Trailers::Map(trailers)),
                _ => Err(Fault::Truncated),
            });
            if sent.is_ok() {
                return;
            }
        }
        self.reset(reset.map_or_else(|| code(reason), fault::passed_on));
    }

    /// Resets the stream.
    pub fn reset(&mut self, code: Code) {
        match &mut self.answer {
            Answer::Body(sender) => sender.reset(code),
            _ => self.respond.send_reset(code),
        }
        self.answer = Answer::Broken;
    }

    /// Queues the head that is held; `end` when nothing follows.
    fn send_head(&mut self, end: bool) -> Result<(), Fault> {
        match std::mem::replace(&mut self.answer, Answer::Broken) {
            Answer::Head(head) => {
                let stream = self
                    .respond
                    .send_response(*head, end)
                    .map_err(|_| Fault::Truncated)?;
                self.answer = Answer::Body(Sender::new(stream, end));
                Ok(())
            }
            Answer::Broken => Err(Fault::Truncated),
            other => {
                self.answer = other;
                Ok(())
            }
        }
    }

    fn note_grpc_status(&mut self, fields: &HeaderMap) {
        if let Some(status) = fields.get("grpc-status") {
            self.grpc_status = status
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
                .or(Some(2));
        }
    }
}

/// What a reset says about a failure (RFC 9113 section 7).
fn code(reason: Reason) -> Code {
    match reason {
        Reason::BadRequest | Reason::Http2Protocol => Code::PROTOCOL_ERROR,
        Reason::Http2Flood => Code::ENHANCE_YOUR_CALM,
        Reason::UpstreamClosed
        | Reason::UpstreamIncomplete
        | Reason::UpstreamProtocol
        | Reason::UpstreamHeadTooLarge
        | Reason::Internal => Code::INTERNAL_ERROR,
        _ => Code::CANCEL,
    }
}

impl Source for ServerStream {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        // What follows a CONNECT belongs to the tunnel and waits for it (attacks.md 17).
        if self.kind != Kind::Plain {
            return Poll::Ready(Ok(Payload::End));
        }
        self.receiver.poll_payload(cx)
    }

    fn payload(&self) -> &[u8] {
        self.receiver.payload()
    }

    fn advance(&mut self, n: usize) {
        self.receiver.advance(n);
    }

    fn take_bytes(&mut self, max: usize) -> Bytes {
        self.receiver.take(max)
    }

    fn take_trailers(&mut self) -> Trailers {
        self.receiver.take_trailers()
    }

    fn length(&self) -> Length {
        match self.kind {
            Kind::Plain => self.receiver.length(&self.parts.headers),
            Kind::Connect | Kind::Extended => Length::None,
        }
    }
}

impl Sink for ServerStream {
    fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        self.send_head(false)?;
        match &mut self.answer {
            Answer::Body(sender) => sender.poll_send(cx, source),
            _ => Poll::Ready(Err(Fault::Protocol("no_response"))),
        }
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        if let Trailers::Map(fields) = &trailers {
            self.note_grpc_status(fields);
        }
        self.send_head(matches!(trailers, Trailers::None))?;
        match &mut self.answer {
            Answer::Body(sender) => sender.finish(trailers),
            _ => Err(Fault::Protocol("no_response")),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if matches!(self.answer, Answer::None) {
            return Poll::Ready(Ok(()));
        }
        self.send_head(false)?;
        let Answer::Body(sender) = &mut self.answer else {
            return Poll::Ready(Err(Fault::Truncated));
        };
        sender.send_held()?;
        while let Some(rest) = &mut self.rest {
            let room = ready!(sender.poll_room(cx, rest.len()))?;
            sender.push(rest.copy_to_bytes(room.min(rest.len())))?;
            if rest.is_empty() {
                self.rest = None;
                sender.finish(Trailers::None)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Downstream for ServerStream {
    fn request(&self) -> RequestRef<'_> {
        RequestRef::Http2(&self.parts)
    }

    fn start_response<U: Upstream>(&mut self, up: &mut U, edits: &ResponseEdits<'_>) {
        let mut head = response_http2(up, edits);
        let status = head.status();
        self.tunnel = match self.kind {
            Kind::Plain => false,
            Kind::Connect => status.is_success(),
            Kind::Extended => status == StatusCode::SWITCHING_PROTOCOLS || status.is_success(),
        };
        if self.tunnel {
            // RFC 8441 section 5: what proves the switch in HTTP/1 has no place here.
            *head.status_mut() = if status.is_success() {
                status
            } else {
                StatusCode::OK
            };
            head.headers_mut().remove("sec-websocket-accept");
        } else if status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9113 section 8.6: there is no such response, and nobody asked for it.
            *head.status_mut() = StatusCode::BAD_GATEWAY;
        }
        // RFC 9110 section 8.6.
        if self.tunnel || status == StatusCode::NO_CONTENT {
            head.headers_mut().remove(CONTENT_LENGTH);
        }
        self.note_grpc_status(head.headers());
        self.answer = Answer::Head(Box::new(head));
    }

    fn informational(&mut self, response: ResponseRef<'_>) {
        // A client that has gone is noticed elsewhere.
        let _ = self.respond.send_informational(response.informational_http2());
    }

    fn respond(&mut self, response: &LocalResponse<'_>) {
        let mut head = Response::new(());
        *head.version_mut() = Version::HTTP_2;
        *head.status_mut() = match response.grpc {
            Some(_) => StatusCode::OK,
            None => StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let fields = head.headers_mut();
        for (name, value) in response.fields {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
                fields.append(name, value);
            }
        }
        if (!response.body.is_empty() || response.grpc.is_some())
            && let Ok(value) = HeaderValue::from_str(response.content_type)
        {
            fields.insert(CONTENT_TYPE, value);
        }
        match response.grpc {
            Some((status, message)) => {
                fields.insert("grpc-status", HeaderValue::from(status));
                if let Ok(message) = HeaderValue::from_str(message) {
                    fields.insert("grpc-message", message);
                }
                self.grpc_status = Some(status);
            }
            None if matches!(response.status, 204 | 304) => {}
            None => {
                fields.insert(CONTENT_LENGTH, HeaderValue::from(response.body.len()));
            }
        }
        let bodiless = response.grpc.is_some()
            || response.body.is_empty()
            || self.parts.method == Method::HEAD
            || matches!(response.status, 204 | 304);
        self.answer = Answer::Head(Box::new(head));
        self.finished = true;
        self.rest = (!bodiless).then(|| Bytes::copy_from_slice(response.body));
        // A client that has gone is noticed when this is flushed.
        let _ = self.send_head(bodiless);
    }

    fn accept_tunnel(&mut self) {
        self.tunnel = self.kind != Kind::Plain;
        self.answer = Answer::Head(Box::new(Response::new(())));
        // A client that has gone is noticed by the tunnel.
        let _ = self.send_head(false);
    }

    fn started(&self) -> bool {
        !matches!(self.answer, Answer::None)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.poll_cancelled(cx).map(|()| Gone::Cancelled)
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer {
            Answer::Body(sender) => sender.poll_reset(cx),
            Answer::None | Answer::Head(_) => self.respond.poll_reset(cx).map(|_| ()),
            Answer::Broken => Poll::Ready(()),
        }
    }

    fn grpc_status(&self) -> Option<u32> {
        self.grpc_status
    }
}
