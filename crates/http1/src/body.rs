//! Which of the bytes behind a head are payload?
//!
//! The decoder takes whatever bytes are there. One call gives at most one piece of payload and goes on over the framing
//! behind it, so that a small chunked body that came in one read is done in one call. What is consumed never depends on
//! anything but the bytes: a line may be cut anywhere.

use std::ops::Range;

use crate::error::BodyError;
use crate::limits::Limits;
use crate::trailers::{Collector, Trailers};

/// How a body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyKind {
    /// There is none.
    #[default]
    None,
    /// After so many bytes.
    Fixed(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

/// A size line's hexadecimal digits: enough for 64 bits, and leading zeros are bounded with them.
const MAX_SIZE_DIGITS: u8 = 16;

/// The largest chunk, as for `content-length`.
const MAX_CHUNK: u64 = i64::MAX as u64;

/// What one call found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Bytes of the input that are done with, payload included. With input, at least one, unless the body is done.
    pub consumed: usize,
    /// The payload inside the input; may be empty.
    pub data: Range<usize>,
    /// The body is complete; what is behind `consumed` belongs to the next message.
    pub done: bool,
}

/// Takes a body's framing off.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    limits: Limits,
    /// Extension bytes of the whole body.
    extensions: usize,
    trailers: Collector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a fixed body are left.
    Fixed(u64),
    /// Everything is payload.
    UntilClose,
    /// In a size line's digits.
    Size { size: u64, digits: u8 },
    /// In a size line's extensions, of which so many bytes were seen.
    Extension { size: u64, seen: usize },
    /// Behind a size line's CR.
    SizeLf { size: u64 },
    /// So many bytes of a chunk are left.
    Data(u64),
    /// Behind a chunk's data.
    DataCr,
    /// Behind the CR behind a chunk's data.
    DataLf,
    /// At the start of a line of trailers, or of the last line.
    TrailerStart,
    /// In a line of trailers.
    Trailer,
    /// Behind the last line's CR.
    EndLf,
    /// The end.
    Done,
    /// Refused; stays so.
    Failed(BodyError),
}

const SIZE: State = State::Size { size: 0, digits: 0 };

impl BodyDecoder {
    /// A decoder for a body of this kind.
    pub fn new(kind: BodyKind, limits: &Limits) -> Self {
        let state = match kind {
            BodyKind::None | BodyKind::Fixed(0) => State::Done,
            BodyKind::Fixed(length) => State::Fixed(length),
            BodyKind::Chunked => SIZE,
            BodyKind::UntilClose => State::UntilClose,
        };
        Self {
            state,
            limits: *limits,
            extensions: 0,
            trailers: Collector::default(),
        }
    }

    /// Whether the whole body was seen.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The bytes that are still to come, where that is known: of fixed bodies and of those that are done.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Fixed(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Looks at the next bytes of the body. After an error nothing more is decoded.
    ///
    /// # Errors
    /// The rule that the framing breaks. Payload before it is given first.
    #[inline]
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        match self.state {
            State::Fixed(left) => {
                let n = within(left, input.len());
                let left = left - n as u64;
                self.state = if left == 0 {
                    State::Done
                } else {
                    State::Fixed(left)
                };
                Ok(Decoded {
                    consumed: n,
                    data: 0..n,
                    done: left == 0,
                })
            }
            State::UntilClose => Ok(Decoded {
                consumed: input.len(),
                data: 0..input.len(),
                done: false,
            }),
            State::Done => Ok(Decoded {
                consumed: 0,
                data: 0..0,
                done: true,
            }),
            State::Failed(error) => Err(error),
            _ => self.chunked(input),
        }
    }

    /// Framing up to payload, the payload, and framing up to the next payload.
    fn chunked(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let mut at = 0;
        let mut data = 0..0;
        while at < input.len() {
            if let State::Data(left) = self.state {
                if !data.is_empty() {
                    break;
                }
                let n = within(left, input.len() - at);
                data = at..at + n;
                at += n;
                self.state = if left == n as u64 {
                    State::DataCr
                } else {
                    State::Data(left - n as u64)
                };
                continue;
            }
            match self.framing(input, at) {
                Ok(next) => at = next,
                Err(error) => {
                    self.state = State::Failed(error);
                    if data.is_empty() {
                        return Err(error);
                    }
                    // What came before is whole; the next call says what is wrong with the rest.
                    at = data.end;
                    break;
                }
            }
            if self.state == State::Done {
                break;
            }
        }
        Ok(Decoded {
            consumed: at,
            data,
            done: self.is_done(),
        })
    }

    /// One step over framing (RFC 9112 section 7.1); gives the offset behind it.
    #[inline]
    fn framing(&mut self, input: &[u8], at: usize) -> Result<usize, BodyError> {
        let Some(byte) = input.get(at).copied() else {
            return Ok(at);
        };
        let expect = |want: u8| {
            if byte == want {
                Ok(())
            } else {
                Err(BodyError::InvalidLineEnd)
            }
        };
        self.state = match self.state {
            State::Size { size, digits } => return self.size(input, at, size, digits),
            State::Extension { size, seen } => return self.extension(input, at, size, seen),
            State::SizeLf { size } => {
                expect(b'\n')?;
                if size == 0 {
                    State::TrailerStart
                } else {
                    State::Data(size)
                }
            }
            State::DataCr => {
                expect(b'\r')?;
                State::DataLf
            }
            State::DataLf => {
                expect(b'\n')?;
                SIZE
            }
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart | State::Trailer => return self.trailer(input, at),
            State::EndLf => {
                expect(b'\n')?;
                State::Done
            }
            // These have no framing.
            state @ (State::Fixed(_)
            | State::UntilClose
            | State::Data(_)
            | State::Done
            | State::Failed(_)) => state,
        };
        Ok(at + 1)
    }

    /// Digits of a size, up to what ends them.
    #[inline]
    fn size(
        &mut self,
        input: &[u8],
        mut at: usize,
        mut size: u64,
        mut digits: u8,
    ) -> Result<usize, BodyError> {
        while let Some(byte) = input.get(at) {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                b'\r' if digits > 0 => {
                    self.state = State::SizeLf { size };
                    return Ok(at + 1);
                }
                b';' if digits > 0 => {
                    self.state = State::Extension { size, seen: 0 };
                    return Ok(at);
                }
                b'\n' => return Err(BodyError::InvalidLineEnd),
                _ => return Err(BodyError::InvalidChunkSize),
            };
            digits += 1;
            size = size << 4 | u64::from(digit);
            if digits > MAX_SIZE_DIGITS || size > MAX_CHUNK {
                return Err(BodyError::ChunkTooLarge);
            }
            at += 1;
        }
        self.state = State::Size { size, digits };
        Ok(at)
    }

    /// Extensions are looked at and dropped (RFC 9112 section 7.1.1).
    #[cold]
    fn extension(&mut self, input: &[u8], at: usize, size: u64, seen: usize) -> Result<usize, BodyError> {
        let rest = input.get(at..).unwrap_or_default();
        let stop = crate::scan::value_end(rest, 0);
        let length = stop.unwrap_or(rest.len());
        let seen = seen.saturating_add(length);
        self.extensions = self.extensions.saturating_add(length);
        if seen > self.limits.chunk_extension_bytes || self.extensions > self.limits.body_extension_bytes {
            return Err(BodyError::ChunkExtensionTooLarge);
        }
        match stop.and_then(|stop| rest.get(stop)) {
            None => {
                self.state = State::Extension { size, seen };
                Ok(input.len())
            }
            Some(b'\r') => {
                self.state = State::SizeLf { size };
                Ok(at + length + 1)
            }
            Some(b'\n') => Err(BodyError::InvalidLineEnd),
            Some(_) => Err(BodyError::InvalidChunkExtension),
        }
    }

    /// A line of trailers, or a part of one.
    #[cold]
    fn trailer(&mut self, input: &[u8], at: usize) -> Result<usize, BodyError> {
        let rest = input.get(at..).unwrap_or_default();
        let (part, ended) = match rest.iter().position(|b| *b == b'\n') {
            Some(lf) => (rest.get(..=lf).unwrap_or(rest), true),
            None => (rest, false),
        };
        self.trailers.push(part, &self.limits)?;
        self.state = if ended {
            self.trailers.end_line(&self.limits)?;
            State::TrailerStart
        } else {
            State::Trailer
        };
        Ok(at + part.len())
    }

    /// The connection ended.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body should have gone on, or the error that was given before.
    pub fn on_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => {
                self.state = State::Failed(BodyError::Truncated);
                Err(BodyError::Truncated)
            }
        }
    }

    /// The trailers, once, when the body is done; none before.
    pub fn take_trailers(&mut self) -> Trailers {
        if self.is_done() {
            self.trailers.take()
        } else {
            Trailers::default()
        }
    }

    /// The trailers, left where they are, when the body is done.
    pub fn trailers(&self) -> Option<&Trailers> {
        self.is_done().then(|| self.trailers.kept())
    }
}

#[inline]
fn within(left: u64, have: usize) -> usize {
    usize::try_from(left).map_or(have, |left| left.min(have))
}
