//! Bodies: how they are framed, the framing taken off, the framing put on (RFC 9112 section 6).

use std::ops::Range;

use crate::chunked::{Chunked, Trailers};
use crate::{BodyError, Limits};

/// How a body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    #[default]
    None,
    /// This many bytes, more than zero.
    Fixed(u64),
    /// The chunked coding.
    Chunked,
    /// It ends with the connection (responses only).
    UntilClose,
}

/// Takes a body's framing off. Give it what is there, as often as something is there.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Fixed(u64),
    Chunked(Chunked),
    UntilClose,
}

/// What a call found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are used up: framing and payload.
    pub consumed: usize,
    /// Where in the input the payload is; nothing follows it in what was consumed.
    pub data: Range<usize>,
    /// Whether the body is complete.
    pub done: bool,
}

impl BodyDecoder {
    /// A decoder at the start of a body.
    pub fn new(kind: BodyKind, limits: &Limits) -> Self {
        let inner = match kind {
            BodyKind::None => Inner::Fixed(0),
            BodyKind::Fixed(n) => Inner::Fixed(n),
            BodyKind::Chunked => Inner::Chunked(Chunked::new(limits)),
            BodyKind::UntilClose => Inner::UntilClose,
        };
        Self { inner }
    }

    /// Consumes framing and at most one run of payload. Bytes behind the body are not consumed.
    ///
    /// # Errors
    /// The framing's fault. The decoder is of no use after that.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let (consumed, data) = match &mut self.inner {
            Inner::Fixed(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= n as u64;
                (n, 0..n)
            }
            Inner::Chunked(chunked) => chunked.decode(input)?,
            Inner::UntilClose => (input.len(), 0..input.len()),
        };
        Ok(Decoded { consumed, data, done: self.is_done() })
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        match &self.inner {
            Inner::Fixed(left) => *left == 0,
            Inner::Chunked(chunked) => chunked.is_done(),
            Inner::UntilClose => false,
        }
    }

    /// Says that the connection ended.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body was not complete.
    pub fn on_eof(&mut self) -> Result<(), BodyError> {
        if matches!(self.inner, Inner::UntilClose) {
            self.inner = Inner::Fixed(0);
        }
        if self.is_done() { Ok(()) } else { Err(BodyError::Truncated) }
    }

    /// The trailers, once the body is complete.
    pub fn take_trailers(&mut self) -> Trailers {
        match &mut self.inner {
            Inner::Chunked(chunked) => chunked.take_trailers(),
            Inner::Fixed(_) | Inner::UntilClose => Trailers::default(),
        }
    }
}

/// Puts framing on a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// There is no body.
    None,
    /// This many bytes are still to come.
    Fixed(u64),
    /// The chunked coding.
    Chunked,
    /// The connection's end ends it.
    UntilClose,
}

impl BodyEncoder {
    /// Writes the line before a chunk of `len` bytes; `len` is not zero.
    pub fn chunk_head(len: usize, out: &mut Vec<u8>) {
        let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            let digit = ((len >> (place * 4)) & 0xf) as u8;
            out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes what follows a chunk.
    pub fn end_chunk(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the end of a chunked body. `trailers` are whole lines.
    pub fn last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers);
        out.extend_from_slice(b"\r\n");
    }
}
