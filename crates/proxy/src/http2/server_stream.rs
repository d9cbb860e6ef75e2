//! The client's side of an exchange, over one stream of HTTP/2.
//!
//! A stream that is dropped before its response ended is reset: with NO_ERROR when only the request was left unread
//! (RFC 9113 section 8.1), with INTERNAL_ERROR otherwise; [`ServerStream::abort`] says it better. An answer that was cut
//! is never reset with NO_ERROR or CANCEL: there are clients to whom either is an end in order.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use mesh_http2::{Code, Head};
use mesh_model::errors::Reason;

use super::channel::Channel;
use super::client_stream::length;
use super::fault;
use super::tunnel::Tunnel;
use crate::exchange::fields::{ResponseShape, write_grpc_status};
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

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Not begun.
    None,
    /// The head was sent.
    Begun,
    /// All was sent.
    Finished,
    /// The stream failed.
    Broken,
}

/// One request and its response.
pub struct ServerStream {
    head: Box<Head>,
    kind: Kind,
    channel: Channel,
    answer: Answer,
    /// The body of a response made by the proxy, and how much of it was sent.
    rest: Option<(Box<[u8]>, usize)>,
    tunnel: bool,
    grpc_status: Option<u32>,
}

impl ServerStream {
    /// The exchange of a stream that arrived.
    pub fn new(head: Box<Head>, channel: Channel) -> Self {
        let kind = match (head.method(), head.protocol()) {
            (b"CONNECT", Some(_)) => Kind::Extended,
            (b"CONNECT", None) => Kind::Connect,
            _ => Kind::Plain,
        };
        Self {
            head,
            kind,
            channel,
            answer: Answer::None,
            rest: None,
            tunnel: false,
            grpc_status: None,
        }
    }

    /// The request's head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Gives the request's head back.
    pub fn finish_exchange(self) {
        let Self { head, channel, .. } = self;
        channel.give_back(head);
    }

    /// Whether the response's end was queued.
    pub fn is_finished(&self) -> bool {
        self.answer == Answer::Finished
    }

    /// Whether the whole request came and was taken.
    pub fn has_all(&self) -> bool {
        self.channel.is_at_end()
    }

    /// Bytes of payload: what came, what went.
    pub fn payload_bytes(&self) -> (u64, u64) {
        self.channel.payload_bytes()
    }

    /// The byte stream behind an accepted CONNECT. `None` when no such response was begun.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let accepted = self.answer == Answer::Begun && self.tunnel;
        accepted.then(|| Tunnel::new(self.channel))
    }

    /// Ends a response that can't be completed. A gRPC caller gets its status in trailers, which may come at any time;
    /// others get a reset, so that nobody takes half a response for a whole one. `reset` is the code with which the
    /// server ended it, where it did.
    pub fn abort(&mut self, reason: Reason, reset: Option<Code>) {
        if matches!(self.answer, Answer::Finished | Answer::Broken) {
            return;
        }
        if self.answer == Answer::Begun && self.request().is_grpc() && reason != Reason::ClientClosed {
            let status = reset.map_or(reason.grpc_status(), fault::grpc_status);
            self.grpc_status = Some(status);
            let sent = self
                .channel
                .head(true, |out| write_grpc_status(status, reason.text(), out));
            if sent.is_ok() {
                self.answer = Answer::Finished;
                return;
            }
        }
        self.reset(reset.map_or_else(|| code(reason), fault::passed_on));
    }

    /// Takes the stream back.
    pub fn reset(&mut self, code: Code) {
        self.channel.reset(code);
        self.answer = Answer::Broken;
    }

    /// Sends a head.
    fn begin(&mut self, sent: Result<(), Fault>, ends: bool) {
        self.answer = match sent {
            // A client that has gone is noticed elsewhere.
            Err(_) => Answer::Broken,
            Ok(()) if ends => Answer::Finished,
            Ok(()) => Answer::Begun,
        };
    }
}

/// What a reset says about a failure (RFC 9113 section 7). CANCEL only to a client that is gone: Node's HTTP/2 takes it for
/// the end of an answer, whatever length was announced.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::BadRequest | Reason::Http2Protocol => Code::PROTOCOL_ERROR,
        Reason::Http2Flood => Code::ENHANCE_YOUR_CALM,
        Reason::ClientClosed => Code::CANCEL,
        _ => Code::INTERNAL_ERROR,
    }
}

impl Source for ServerStream {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        // What follows a CONNECT belongs to the tunnel and waits for it (attacks.md 17).
        if self.kind != Kind::Plain {
            return Poll::Ready(Ok(Payload::End));
        }
        self.channel.poll_payload(cx)
    }

    fn payload(&self) -> &[u8] {
        self.channel.payload()
    }

    fn advance(&mut self, n: usize) {
        self.channel.advance(n);
    }

    fn take_trailers(&mut self) -> Trailers {
        match self.channel.payload_bytes() {
            (0, _) => self.channel.trailers(),
            _ => self.channel.take_trailers(),
        }
    }

    fn length(&self) -> Length {
        match self.kind {
            Kind::Plain => length(&self.head, &self.channel),
            Kind::Connect | Kind::Extended => Length::None,
        }
    }
}

impl Sink for ServerStream {
    fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        if self.answer != Answer::Begun {
            return Poll::Ready(Err(Fault::Protocol("no_response")));
        }
        self.channel.poll_send(cx, source)
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        match self.answer {
            Answer::Finished => return Ok(()),
            // A response made by the proxy ends with its body.
            Answer::Begun if self.rest.is_some() => return Ok(()),
            Answer::Begun => {}
            Answer::None | Answer::Broken => return Err(Fault::Protocol("no_response")),
        }
        self.grpc_status = trailers.grpc_status().or(self.grpc_status);
        self.channel.finish(trailers)?;
        self.answer = Answer::Finished;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.answer == Answer::Broken {
            return Poll::Ready(Err(Fault::Truncated));
        }
        while let Some((body, sent)) = &mut self.rest {
            let left = body.get(*sent..).unwrap_or_default();
            if left.is_empty() {
                self.rest = None;
                self.channel.finish(Trailers::None)?;
                self.answer = Answer::Finished;
                break;
            }
            *sent += ready!(self.channel.poll_write(cx, left))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Downstream for ServerStream {
    fn request(&self) -> RequestRef<'_> {
        RequestRef::Http2(&self.head)
    }

    fn start_response<U: Upstream>(&mut self, up: &mut U, edits: &ResponseEdits<'_>) {
        let status = up.status();
        let is_success = (200..300).contains(&status);
        self.tunnel = match self.kind {
            Kind::Plain => false,
            Kind::Connect => is_success,
            Kind::Extended => status == 101 || is_success,
        };
        let shape = ResponseShape {
            status: match status {
                // RFC 8441 section 5.
                101 if self.tunnel => 200,
                // RFC 9113 section 8.6: there is no such response, and nobody asked for it.
                101 => 502,
                status => status,
            },
            // RFC 9110 section 8.6.
            length: if self.tunnel || status == 204 {
                Length::None
            } else {
                up.length()
            },
            tunnel: self.tunnel,
        };
        let response = up.response();
        if matches!(response, ResponseRef::Http2(_)) {
            self.grpc_status = response.grpc_status();
        }
        let sent = self
            .channel
            .head(false, |out| response.write_http2(shape, edits, out));
        self.begin(sent, false);
    }

    fn informational(&mut self, response: ResponseRef<'_>) {
        // A client that has gone is noticed elsewhere.
        let _ = self
            .channel
            .head(false, |out| response.write_informational_http2(out));
    }

    fn respond(&mut self, response: &LocalResponse<'_>) {
        self.grpc_status = response.grpc.map(|(status, _)| status);
        let bodiless = response.grpc.is_some()
            || response.body.is_empty()
            || self.head.method() == b"HEAD"
            || matches!(response.status, 204 | 304);
        self.rest = (!bodiless).then(|| (response.body.into(), 0));
        let sent = self.channel.head(bodiless, |out| response.write_http2(out));
        self.begin(sent, bodiless);
    }

    fn accept_tunnel(&mut self) {
        self.tunnel = self.kind != Kind::Plain;
        let sent = self.channel.head(false, |out| out.status(200));
        self.begin(sent, false);
    }

    /// RFC 9113 section 8.7.
    fn refuse(&mut self) -> bool {
        self.channel.refuse();
        self.answer = Answer::Broken;
        true
    }

    fn started(&self) -> bool {
        self.answer != Answer::None
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.poll_cancelled(cx).map(|()| Gone::Cancelled)
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.poll_gone(cx)
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.answer {
            Answer::Broken => Poll::Ready(()),
            _ => self.channel.poll_failed(cx).map(|_| ()),
        }
    }

    fn gone(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| self.channel.poll_failed(cx).map(|_| ()))
    }

    fn grpc_status(&self) -> Option<u32> {
        self.grpc_status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_looks_cut() {
        for reason in Reason::ALL {
            let looks_whole = [Code::NO_ERROR, Code::CANCEL].contains(&code(*reason));
            assert_eq!(looks_whole, *reason == Reason::ClientClosed, "{reason:?}");
        }
        for reset in 0..14 {
            let passed = fault::passed_on(Code(reset));
            assert!(![Code::NO_ERROR, Code::CANCEL].contains(&passed), "{reset}");
        }
    }
}
