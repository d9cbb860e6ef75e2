//! The chunked coding, taken off byte by byte or in bulk (RFC 9112 section 7.1).

use crate::fields::collect;
use crate::field::Known;
use crate::{BodyError, Limits};

/// Fields after a chunked body, as raw lines: checked, and without those that may not come so late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    lines: Vec<u8>,
}

impl Trailers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, each with its CRLF.
    pub fn into_lines(self) -> Vec<u8> {
        self.lines
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Hexadecimal digits; so many were seen.
    Size { digits: u8 },
    /// A chunk extension; dropped.
    Extension,
    /// The LF behind the size line's CR.
    SizeEnd,
    /// Payload.
    Data,
    /// The CR, then the LF behind a chunk.
    DataCr,
    DataLf,
    /// A line of trailers: at its start, in it, behind its CR.
    TrailerStart,
    Trailer,
    TrailerLf,
    /// The LF of the blank line at the very end.
    EndLf,
    Done,
}

/// Takes the chunked coding off.
#[derive(Clone, Debug)]
pub(crate) struct Chunked {
    state: State,
    /// The size read so far, then what is left of the chunk.
    left: u64,
    extension_budget: usize,
    trailer_budget: usize,
    /// Raw lines of trailers; empty, and without memory, as long as there are none.
    trailers: Vec<u8>,
    most_fields: usize,
}

/// 16 digits hold 2^64; more than 15 significant ones is a body that never ends.
const MAX_DIGITS: u8 = 16;

impl Chunked {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            extension_budget: limits.chunk_extension_bytes,
            trailer_budget: limits.trailer_bytes,
            trailers: Vec::new(),
            most_fields: limits.fields,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Consumes framing and at most one run of payload; gives how much was consumed, and where the payload is.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<(usize, std::ops::Range<usize>), BodyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let there = input.len() - at;
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((at + n, at..at + n));
                }
                State::Done => break,
                _ => self.frame(byte)?,
            }
            at += 1;
        }
        Ok((at, at..at))
    }

    fn frame(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match self.state {
            State::Size { digits } => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if digits < MAX_DIGITS => {
                    let digit = match byte {
                        b'0'..=b'9' => byte - b'0',
                        _ => (byte | 0x20) - b'a' + 10,
                    };
                    // 2^60 bytes: no overflow, and no chunk is that large.
                    if self.left >> 56 != 0 {
                        return Err(BodyError::ChunkSize);
                    }
                    self.left = (self.left << 4) | u64::from(digit);
                    State::Size { digits: digits + 1 }
                }
                b'\r' if digits > 0 => State::SizeEnd,
                // White space before an extension is "bad" in RFC 9112 section 7.1.1: refused.
                b';' if digits > 0 => State::Extension,
                _ => return Err(BodyError::ChunkSize),
            },
            State::Extension => match byte {
                b'\r' => State::SizeEnd,
                b'\t' | b' '..=b'~' | 0x80.. => {
                    self.extension_budget =
                        self.extension_budget.checked_sub(1).ok_or(BodyError::ChunkExtensionTooLarge)?;
                    State::Extension
                }
                _ => return Err(BodyError::ChunkExtension),
            },
            State::SizeEnd => match (byte, self.left) {
                (b'\n', 0) => State::TrailerStart,
                (b'\n', _) => State::Data,
                _ => return Err(BodyError::ChunkSize),
            },
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { digits: 0 },
            State::DataCr | State::DataLf => return Err(BodyError::ChunkEnd),
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart | State::Trailer => {
                self.trailer_byte(byte)?;
                match byte {
                    b'\r' => State::TrailerLf,
                    b'\n' => return Err(BodyError::Trailer),
                    _ => State::Trailer,
                }
            }
            State::TrailerLf if byte == b'\n' => {
                self.trailer_byte(byte)?;
                State::TrailerStart
            }
            State::EndLf if byte == b'\n' => {
                self.check_trailers()?;
                State::Done
            }
            State::TrailerLf | State::EndLf => return Err(BodyError::Trailer),
            // Handled by the caller.
            State::Data | State::Done => self.state,
        };
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.trailer_budget = self.trailer_budget.checked_sub(1).ok_or(BodyError::TrailerTooLarge)?;
        self.trailers.push(byte);
        Ok(())
    }

    /// Keeps the trailers that may be trailers.
    fn check_trailers(&mut self) -> Result<(), BodyError> {
        if self.trailers.is_empty() {
            return Ok(());
        }
        let mut raw = std::mem::take(&mut self.trailers);
        raw.extend_from_slice(b"\r\n");
        let mut headers = [httparse::EMPTY_HEADER; crate::MAX_FIELDS];
        let Ok(httparse::Status::Complete((len, headers))) = httparse::parse_headers(&raw, &mut headers) else {
            return Err(BodyError::Trailer);
        };
        // The same strictness as in heads: line ends, names, values.
        let mut fields = Vec::new();
        collect(&raw, 0, len, headers, self.most_fields, &mut fields).map_err(|_| BodyError::Trailer)?;
        if len != raw.len() {
            return Err(BodyError::Trailer);
        }
        let mut kept = Vec::with_capacity(raw.len());
        for header in headers {
            if may_be_trailer(header.name.as_bytes()) {
                kept.extend_from_slice(header.name.as_bytes());
                kept.extend_from_slice(b": ");
                kept.extend_from_slice(header.value);
                kept.extend_from_slice(b"\r\n");
            }
        }
        self.trailers = kept;
        Ok(())
    }

    pub(crate) fn take_trailers(&mut self) -> Trailers {
        Trailers { lines: std::mem::take(&mut self.trailers) }
    }
}

/// RFC 9110 section 6.5.1: nothing that frames, routes, authenticates or describes the content may come as a trailer.
fn may_be_trailer(name: &[u8]) -> bool {
    const FORBIDDEN: [&[u8]; 14] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"cookie",
        b"if-match",
        b"if-none-match",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"vary",
        b"www-authenticate",
        b"age",
    ];
    crate::classify(name) == Known::Other && !FORBIDDEN.iter().any(|other| other.eq_ignore_ascii_case(name))
}
