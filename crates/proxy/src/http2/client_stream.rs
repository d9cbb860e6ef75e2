//! The server's side of an exchange, over one stream of a shared connection.
//!
//! Dropping a stream that is not complete resets it with CANCEL and gives its place to the next; the connection and
//! its other streams go on. That is so whether the client went away, the server answered before it read the request,
//! or a deadline passed.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::response::Parts;
use http::{HeaderMap, Request, Response};

use super::body::{Receiver, Sender};
use super::client::Seat;
use super::fault::fault;
use crate::exchange::message::{
    Fault, HeadKind, Length, Payload, ResponseRef, Sink, Source, Trailers, Upstream,
};

/// Informational heads before a response; more is an attack (attacks.md 21).
const MAX_INFORMATIONAL: u8 = 16;

/// One request and its response.
pub struct ClientStream {
    sender: Sender,
    response: ResponseFuture,
    receiver: Option<Receiver>,
    head: Parts,
    informational: u8,
    most_fields: usize,
    /// Dropped last: the place on the connection is free when the stream is.
    seat: Seat,
}

impl ClientStream {
    /// Sends a request's head. `most_fields` bounds the response's fields.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the connection takes no more requests: nothing was sent. [`Fault::Protocol`] when the
    /// request can't be said in HTTP/2.
    pub fn start(
        seat: Seat,
        request: Request<()>,
        length: Length,
        most_fields: usize,
    ) -> Result<Self, Fault> {
        let ended = length == Length::None;
        let (response, stream) = seat
            .send_request(request, ended)
            .map_err(|error| match fault(&error) {
                // Nothing was sent on a connection that is gone.
                Fault::Io(_) => Fault::Refused,
                other => other,
            })?;
        Ok(Self {
            sender: Sender::new(stream, ended),
            response,
            receiver: None,
            head: Response::new(()).into_parts().0,
            informational: 0,
            most_fields,
            seat,
        })
    }

    /// Whether the connection had carried other requests before. If not, a failure is the server's; else it may have
    /// raced with the server's idle timeout.
    pub fn is_reused(&self) -> bool {
        self.seat.is_reused()
    }

    /// Bytes of payload: what went, what came.
    pub fn payload_bytes(&self) -> (u64, u64) {
        (
            self.sender.taken(),
            self.receiver.as_ref().map_or(0, Receiver::taken),
        )
    }

    fn receive(&mut self, parts: Parts) -> Result<(), Fault> {
        self.head = parts;
        if self.head.headers.len() > self.most_fields {
            return Err(Fault::TooLarge("too_many_fields"));
        }
        // RFC 9113 section 8.6: HTTP/2 has no 101.
        if self.head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::Protocol("switching_protocols"));
        }
        Ok(())
    }
}

impl Source for ClientStream {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        match &mut self.receiver {
            Some(receiver) => receiver.poll_payload(cx),
            None => Poll::Ready(Err(Fault::Protocol("no_response"))),
        }
    }

    fn payload(&self) -> &[u8] {
        self.receiver.as_ref().map_or(b"", Receiver::payload)
    }

    fn advance(&mut self, n: usize) {
        if let Some(receiver) = &mut self.receiver {
            receiver.advance(n);
        }
    }

    fn take_bytes(&mut self, max: usize) -> Bytes {
        self.receiver
            .as_mut()
            .map_or_else(Bytes::new, |receiver| receiver.take(max))
    }

    fn take_trailers(&mut self) -> Trailers {
        self.receiver
            .as_mut()
            .map_or(Trailers::None, Receiver::take_trailers)
    }

    fn length(&self) -> Length {
        self.receiver
            .as_ref()
            .map_or(Length::None, |receiver| receiver.length(&self.head.headers))
    }
}

impl Sink for ClientStream {
    fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        self.sender.poll_send(cx, source)
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        self.sender.finish(trailers)
    }

    /// The connection's task writes what is queued.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(self.sender.send_held())
    }
}

impl Upstream for ClientStream {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadKind, Fault>> {
        match ready!(self.response.poll_informational(cx)) {
            Some(Ok(informational)) => {
                self.informational += 1;
                if self.informational > MAX_INFORMATIONAL {
                    return Poll::Ready(Err(Fault::Protocol("informational_flood")));
                }
                self.receive(informational.into_parts().0)?;
                return Poll::Ready(Ok(HeadKind::Informational));
            }
            Some(Err(error)) => return Poll::Ready(Err(fault(&error))),
            None => {}
        }
        let response =
            ready!(std::pin::Pin::new(&mut self.response).poll(cx)).map_err(|error| fault(&error))?;
        let (parts, body) = response.into_parts();
        self.receiver = Some(Receiver::new(body));
        self.receive(parts)?;
        Poll::Ready(Ok(HeadKind::Final))
    }

    fn response(&self) -> ResponseRef<'_> {
        ResponseRef::Http2(&self.head)
    }

    fn take_fields(&mut self) -> Option<HeaderMap> {
        Some(std::mem::take(&mut self.head.headers))
    }

    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    fn head_passed(&mut self) {}

    fn response_begun(&self) -> bool {
        self.receiver.is_some() || self.informational > 0
    }
}
