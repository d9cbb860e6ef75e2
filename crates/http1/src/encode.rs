//! How is a body framed for sending?

use crate::error::BodyError;
use crate::scan::{is_token, is_value, trim};
use crate::write::write_hex;

/// Frames a body. It writes framing only; the payload goes between, from wherever it lies.
///
/// ```text
/// Chunked:  begin(n) ──> payload of n bytes ──> end_chunk ──> ... ──> finish
/// others:   begin(n) ──> payload of n bytes ──> ... ──> finish
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyEncoder {
    /// There is no body.
    #[default]
    None,
    /// So many bytes are left to be sent.
    Fixed(u64),
    /// Any number of chunks.
    Chunked,
    /// Everything up to the end of the connection.
    UntilClose,
}

impl BodyEncoder {
    /// Writes the line before a chunk of `len` bytes. A chunk of none would end the body, so nothing is written for it.
    #[inline]
    pub fn chunk_head(len: usize, out: &mut Vec<u8>) {
        if len > 0 {
            write_hex(len as u64, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of a chunk's data.
    #[inline]
    pub fn end_chunk(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the last chunk, trailers and the end of the body. Trailers are whole field lines; if they are not, the body
    /// ends without them, since they could end it early.
    #[inline]
    pub fn last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"0\r\n");
        if are_lines(trailers) {
            out.extend_from_slice(trailers);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes what goes before `len` bytes of payload. For a chunk, [`BodyEncoder::end_chunk`] follows it, unless
    /// `len` is 0.
    ///
    /// # Errors
    /// [`BodyError::LongerThanAnnounced`]: there is no room for so many.
    #[inline]
    pub fn begin(&mut self, len: usize, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self {
            Self::None if len > 0 => Err(BodyError::LongerThanAnnounced),
            Self::Fixed(left) => {
                *left = left
                    .checked_sub(len as u64)
                    .ok_or(BodyError::LongerThanAnnounced)?;
                Ok(())
            }
            Self::Chunked => {
                Self::chunk_head(len, out);
                Ok(())
            }
            Self::None | Self::UntilClose => Ok(()),
        }
    }

    /// Writes what ends the body. Afterwards it is [`BodyEncoder::None`]. Trailers are whole field lines; where the
    /// framing has no place for them they are left out (RFC 9110 section 6.5.1).
    ///
    /// # Errors
    /// [`BodyError::ShorterThanAnnounced`]: payload is missing. [`BodyError::InvalidTrailer`]: the lines are none.
    pub fn finish(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self {
            Self::Fixed(left) if *left > 0 => return Err(BodyError::ShorterThanAnnounced),
            Self::Chunked => {
                if !are_lines(trailers) {
                    return Err(BodyError::InvalidTrailer);
                }
                Self::last_chunk(trailers, out);
            }
            Self::None | Self::Fixed(_) | Self::UntilClose => {}
        }
        *self = Self::None;
        Ok(())
    }
}

/// Whether these are field lines and nothing else, each with its CRLF.
fn are_lines(mut lines: &[u8]) -> bool {
    while !lines.is_empty() {
        let Some(end) = lines.iter().position(|b| *b == b'\n') else {
            return false;
        };
        let (line, rest) = lines.split_at(end + 1);
        let mut parts = line
            .strip_suffix(b"\r\n")
            .unwrap_or_default()
            .splitn(2, |b| *b == b':');
        let name = parts.next().is_some_and(is_token);
        let value = parts.next().is_some_and(|value| is_value(trim(value)));
        if !(name && value) {
            return false;
        }
        lines = rest;
    }
    true
}
