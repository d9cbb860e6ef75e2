//! How do a stream's users take what came?

use std::task::{Context, Poll};

use crate::connection::{Connection, Key};
use crate::head::Head;
use crate::stream::{Failure, Side, note};

/// What a stream has for whoever takes its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Payload.
    Data,
    /// The end; trailers may be there.
    End,
}

impl Connection {
    /// The next head that came; `None` when there is none yet.
    ///
    /// # Errors
    /// There will be none.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, key: Key) -> Poll<Result<Box<Head>, Failure>> {
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Poll::Ready(Err(Failure::Gone));
        };
        if let Some(head) = stream.pop_head() {
            return Poll::Ready(Ok(head));
        }
        match stream.receive {
            Side::Open => {
                note(&mut stream.receive_waker, cx.waker());
                Poll::Pending
            }
            Side::Ended => Poll::Ready(Err(Failure::Protocol("http2_no_head"))),
            Side::Failed(failure) => Poll::Ready(Err(failure)),
        }
    }

    /// Waits for payload and swaps it for `taken`, which must be empty.
    ///
    /// # Errors
    /// The stream failed; what came before was taken.
    pub fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        key: Key,
        taken: &mut Vec<u8>,
    ) -> Poll<Result<Received, Failure>> {
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Poll::Ready(Err(Failure::Gone));
        };
        if !stream.payload.is_empty() {
            std::mem::swap(&mut stream.payload, taken);
            return Poll::Ready(Ok(Received::Data));
        }
        match stream.receive {
            Side::Open => {
                note(&mut stream.receive_waker, cx.waker());
                Poll::Pending
            }
            Side::Ended => Poll::Ready(Ok(Received::End)),
            Side::Failed(failure) => Poll::Ready(Err(failure)),
        }
    }

    /// Whether the peer sends nothing more, and nothing waits to be taken: neither payload nor trailers.
    pub fn is_at_end(&self, key: Key) -> bool {
        self.streams.get(key.0).is_none_or(|stream| {
            stream.receive == Side::Ended && stream.payload.is_empty() && stream.trailers.is_none()
        })
    }

    /// The trailers, left where they are, after the end.
    pub fn trailers(&self, key: Key) -> Option<&Head> {
        self.streams.get(key.0)?.trailers.as_deref()
    }

    /// The trailers, once, after the end.
    pub fn take_trailers(&mut self, key: Key) -> Option<Box<Head>> {
        self.streams.get_mut(key.0)?.trailers.take()
    }

    /// Ready when the stream was taken back, or its connection is gone.
    pub fn poll_failed(&mut self, cx: &mut Context<'_>, key: Key) -> Poll<Failure> {
        let Some(stream) = self.streams.get_mut(key.0) else {
            return Poll::Ready(Failure::Gone);
        };
        match (stream.send, stream.receive) {
            (Side::Failed(failure), _) | (_, Side::Failed(failure)) => Poll::Ready(failure),
            _ => {
                note(&mut stream.send_waker, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Payload was used up: the peer may send as much more.
    pub fn taken(&mut self, key: Key, n: usize) {
        let n = n as u32;
        self.credit_connection(n);
        let half = self.settings.stream_window / 2;
        let Some(stream) = self.streams.get_mut(key.0) else {
            return;
        };
        stream.credit += n;
        if stream.receive == Side::Open && stream.credit >= half {
            let credit = std::mem::take(&mut stream.credit);
            stream.receive_window += i64::from(credit);
            let number = stream.id;
            self.window_update(number, credit);
        }
    }
}
