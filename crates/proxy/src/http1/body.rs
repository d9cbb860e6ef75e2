//! Bodies on an HTTP/1 wire: the codec's framing over a stream's buffers, for both sides alike.

use std::task::{Context, Poll, ready};

use mesh_http1::{BodyDecoder, BodyEncoder, BodyError, BodyKind, Limits};

use crate::exchange::message::{Fault, Payload, Trailers};
use crate::io::Stream;
use crate::io::wire::{Filled, ReadSize, Wire};

/// Reads a body's payload from a wire.
pub struct BodyReader {
    decoder: BodyDecoder,
    /// Payload at the front of the wire's unread bytes.
    payload: usize,
    /// Framing bytes behind it, dropped with its last byte.
    tail: usize,
    kind: BodyKind,
}

impl BodyReader {
    /// A reader for a body of this kind.
    pub fn new(kind: BodyKind, limits: &Limits) -> Self {
        Self {
            decoder: BodyDecoder::new(kind, limits),
            payload: 0,
            tail: 0,
            kind,
        }
    }

    /// What was announced.
    pub fn kind(&self) -> BodyKind {
        self.kind
    }

    /// Whether the whole body was read and taken.
    pub fn is_done(&self) -> bool {
        self.payload == 0 && self.decoder.is_done()
    }

    /// Waits for payload or the end of the body.
    pub fn poll_payload<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Payload, Fault>> {
        loop {
            if self.payload > 0 {
                return Poll::Ready(Ok(Payload::Data));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(Payload::End));
            }
            if wire.unread().is_empty() {
                match ready!(wire.poll_fill(cx, ReadSize::Adaptive))? {
                    Filled::Bytes(_) => {}
                    Filled::End => self.decoder.on_eof().map_err(|_| Fault::Truncated)?,
                    Filled::Full => return Poll::Ready(Err(Fault::TooLarge("body_framing"))),
                }
                continue;
            }
            let unread = wire.unread();
            let decoded = self.decoder.decode(unread).map_err(fault)?;
            if decoded.consumed == 0 && !decoded.done {
                // The decoder keeps its state between calls, so it always takes something: guard against a loop.
                return Poll::Ready(Err(Fault::Protocol("body_framing")));
            }
            self.payload = decoded.data.len();
            self.tail = decoded.consumed - decoded.data.end.min(decoded.consumed);
            if self.payload == 0 {
                wire.consume(decoded.consumed);
                self.tail = 0;
            } else {
                wire.consume(decoded.data.start);
            }
        }
    }

    /// The payload that is there.
    pub fn payload<'w, S: Stream>(&self, wire: &'w Wire<S>) -> &'w [u8] {
        wire.unread().get(..self.payload).unwrap_or_default()
    }

    /// Marks payload as taken.
    pub fn advance<S: Stream>(&mut self, wire: &mut Wire<S>, n: usize) {
        let n = n.min(self.payload);
        self.payload -= n;
        wire.consume(n);
        if self.payload == 0 {
            wire.consume(std::mem::take(&mut self.tail));
        }
    }

    /// The trailers, once.
    pub fn take_trailers(&mut self) -> Trailers {
        self.decoder.take_trailers().into()
    }

    /// The trailers, which stay there to be taken.
    pub fn trailers(&self) -> Trailers {
        self.decoder.trailers().cloned().unwrap_or_default().into()
    }
}

/// Writes a body to a wire.
pub struct BodyWriter {
    encoder: BodyEncoder,
    /// Bytes of the open chunk still to be sent.
    chunk: usize,
}

impl BodyWriter {
    /// A writer that frames as `encoder` does.
    pub fn new(encoder: BodyEncoder) -> Self {
        Self { encoder, chunk: 0 }
    }

    /// Whether the end of the body is the end of the connection.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.encoder, BodyEncoder::UntilClose)
    }

    /// Whether the body can end here with trailers: no chunk is open.
    pub fn takes_trailers(&self) -> bool {
        matches!(self.encoder, BodyEncoder::Chunked) && self.chunk == 0
    }

    /// Takes payload; gives how many bytes.
    pub fn poll_send<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        cx: &mut Context<'_>,
        payload: &[u8],
    ) -> Poll<Result<usize, Fault>> {
        match &mut self.encoder {
            BodyEncoder::None => Poll::Ready(Ok(payload.len())),
            BodyEncoder::UntilClose => Poll::Ready(Ok(ready!(wire.poll_send(cx, payload))?)),
            BodyEncoder::Fixed(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(payload.len());
                if most == 0 {
                    return Poll::Ready(Err(Fault::Protocol("body_longer_than_announced")));
                }
                let n = ready!(wire.poll_send(cx, payload.get(..most).unwrap_or(payload)))?;
                *left -= n as u64;
                Poll::Ready(Ok(n))
            }
            BodyEncoder::Chunked => {
                if self.chunk == 0 {
                    BodyEncoder::chunk_head(payload.len(), wire.out());
                    self.chunk = payload.len();
                }
                let most = self.chunk.min(payload.len());
                let n = ready!(wire.poll_send(cx, payload.get(..most).unwrap_or(payload)))?;
                self.chunk -= n;
                if self.chunk == 0 {
                    BodyEncoder::end_chunk(wire.out());
                }
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Writes the end of the body.
    pub fn finish<S: Stream>(&mut self, wire: &mut Wire<S>, trailers: Trailers) -> Result<(), Fault> {
        if matches!(self.encoder, BodyEncoder::Chunked) {
            BodyEncoder::last_chunk(&trailers.into_lines(), wire.out());
            Ok(())
        } else if matches!(self.encoder, BodyEncoder::Fixed(left) if left > 0) {
            Err(Fault::Truncated)
        } else {
            Ok(())
        }
    }
}

impl From<mesh_http1::Trailers> for Trailers {
    fn from(trailers: mesh_http1::Trailers) -> Self {
        if trailers.is_empty() {
            Self::None
        } else {
            Self::Lines(trailers.into_lines())
        }
    }
}

fn fault(error: BodyError) -> Fault {
    Fault::Protocol(error.as_str())
}
