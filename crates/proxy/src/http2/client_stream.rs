//! The server's side of an exchange, over one stream of a shared connection.
//!
//! Dropping a stream that is not complete resets it with CANCEL and gives its place to the next; the connection and
//! its other streams go on. That is so whether the client went away, the server answered before it read the request,
//! or a deadline passed.

use std::task::{Context, Poll, ready};

use mesh_http2::{Head, HeadWriter};
use mesh_identity::Rejection;

use super::channel::Channel;
use super::client::Seat;
use crate::exchange::message::{
    Fault, HeadKind, INFORMATIONAL_FLOOD, Length, MAX_INFORMATIONAL, Payload, ResponseRef, Sink, Source,
    Trailers, Upstream,
};

/// One request and its response.
pub struct ClientStream {
    channel: Channel,
    head: Option<Box<Head>>,
    /// The request ended with its head.
    ended: bool,
    /// The final head came.
    begun: bool,
    informational: u8,
    most_fields: usize,
    /// Dropped last: the place on the connection is free when the stream is.
    seat: Seat,
}

impl ClientStream {
    /// Why the workload at the other end of the connection did not believe this one, where it has ended by that.
    pub fn refused(&self) -> Option<Rejection> {
        self.seat.refused()
    }

    /// Sends a request's head. `bodiless` when the response has no body whatever it announces (HEAD). `most_fields`
    /// bounds the response's fields.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the connection takes no more requests: nothing was sent.
    pub fn start(
        seat: Seat,
        bodiless: bool,
        length: Length,
        most_fields: usize,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> Result<Self, Fault> {
        let channel = seat.open(bodiless).ok_or(Fault::Refused)?;
        // Nothing was sent on a connection that is gone.
        let ended = length == Length::None;
        channel.head(ended, write).map_err(|_| Fault::Refused)?;
        Ok(Self {
            channel,
            head: None,
            ended,
            begun: false,
            informational: 0,
            most_fields,
            seat,
        })
    }

    /// Whether the connection had carried other requests before. If not, a failure is the server's; else it may have
    /// raced with the server's idle timeout.
    #[cfg(test)]
    pub fn is_reused(&self) -> bool {
        self.seat.is_reused()
    }
}

impl Source for ClientStream {
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>> {
        if !self.begun {
            return Poll::Ready(Err(Fault::Protocol("no_response")));
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
        self.channel.take_trailers()
    }

    fn length(&self) -> Length {
        match &self.head {
            Some(head) if self.begun => length(head, &self.channel),
            _ => Length::None,
        }
    }
}

/// How long a body is, by the head before it. A length that is announced without a body (to HEAD, with 304) counts.
pub(super) fn length(head: &Head, channel: &Channel) -> Length {
    match head.content_length {
        Some(n) => Length::Known(n),
        None if channel.is_at_end() => Length::None,
        None => Length::Unknown,
    }
}

impl Sink for ClientStream {
    fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>> {
        self.channel.poll_send(cx, source)
    }

    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        self.channel.finish(trailers)
    }

    /// The connection's task writes what is queued.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }
}

impl Upstream for ClientStream {
    const MAY_REFUSE: bool = true;

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadKind, Fault>> {
        let head = ready!(self.channel.poll_head(cx))?;
        let (status, fields, over) = (head.status, head.fields.len(), head.over);
        if let Some(last) = self.head.replace(head) {
            self.channel.give_back(last);
        }
        let informational = (100..200).contains(&status);
        if informational {
            self.informational += 1;
        } else {
            self.begun = true;
        }
        Poll::Ready(if self.informational > MAX_INFORMATIONAL {
            Err(INFORMATIONAL_FLOOD)
        } else if over {
            Err(Fault::TooLarge("head_too_large"))
        } else if fields > self.most_fields {
            Err(Fault::TooLarge("too_many_fields"))
        } else if status == 101 {
            // RFC 9113 section 8.6: HTTP/2 has no 101.
            Err(Fault::Protocol("switching_protocols"))
        } else if informational {
            Ok(HeadKind::Informational)
        } else {
            Ok(HeadKind::Final)
        })
    }

    fn response(&self) -> ResponseRef<'_> {
        const EMPTY: &Head = &Head::new();
        ResponseRef::Http2(self.head.as_deref().unwrap_or(EMPTY))
    }

    fn head_passed(&mut self) {}

    fn response_begun(&self) -> bool {
        self.begun || self.informational > 0
    }

    fn leads_to(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) -> bool {
        self.seat.leads_to(is_such)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            self.channel.give_back(head);
        }
    }
}
