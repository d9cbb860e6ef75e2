//! What does this response head say?

use crate::body::BodyKind;
use crate::error::HeadError;
use crate::facts::{Facts, Message, Persistence, partial, read_fields};
use crate::field::{Field, Parsed, line_end};
use crate::known::Known;
use crate::limits::Limits;
use crate::method::{Method, Version};
use crate::request::early_version;
use crate::scan::value_end;
use crate::span::Span;

/// A parsed response head. Made once and used for many responses: it keeps the room for its fields.
///
/// What it holds is of meaning after [`ResponseHead::parse`] gave [`Parsed::Complete`], together with the buffer that
/// was parsed.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status: three digits, from 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// The fields in their order.
    pub fields: Vec<Field>,
    /// How the body is framed. [`BodyKind::None`] when none follows: to HEAD, of 1xx, 204, 304 and of tunnels, and when
    /// its length is 0.
    pub body: BodyKind,
    /// `content-length` as it was given, also where no body follows: to HEAD and of 304 it is what GET would have had.
    /// `None` of 1xx and 204, where it may not be (RFC 9110 section 8.6).
    pub content_length: Option<u64>,
    /// Whether the connection can be used again.
    pub persistence: Persistence,
    /// `101 (Switching Protocols)`: what follows is the protocol that the field `upgrade` names.
    pub upgrade: bool,
    /// 2xx to CONNECT: what follows are the tunnel's bytes.
    pub tunnel: bool,
    /// The bytes of the head, with the blank line.
    pub head_len: usize,
}

impl ResponseHead {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the head at the start of `buf`, as an answer to a request of this method. Offsets in the result are those
    /// of `buf`. Each call reads from the start, as for requests.
    ///
    /// # Errors
    /// The first rule that is broken, as soon as its bytes are there. More bytes never make it right.
    pub fn parse(&mut self, buf: &[u8], request: Method, limits: &Limits) -> Result<Parsed, HeadError> {
        let buf = limits.window(buf);
        self.fields.clear();
        let Some(at) = self.status_line(buf)? else {
            return partial(buf, limits);
        };
        let mut facts = Facts::of(Message::Response);
        match read_fields(buf, at, limits, &mut self.fields, &mut facts)? {
            None => partial(buf, limits),
            Some(end) => {
                self.conclude(buf, request, &facts)?;
                self.head_len = end;
                Ok(Parsed::Complete)
            }
        }
    }

    /// `version SP status [SP reason] CRLF` (RFC 9112 section 4). `Some`: where the fields begin. Without a reason the
    /// second space is often left out.
    #[inline]
    fn status_line(&mut self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        let Some((version, rest)) = buf.split_at_checked(8) else {
            return early_version(buf).map(|()| None);
        };
        self.version = Version::from_bytes(version).ok_or(HeadError::UnsupportedVersion)?;
        let Some((line, _)) = rest.split_at_checked(4) else {
            return early_status(rest).map(|()| None);
        };
        self.status = match line {
            [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return early_status(line).and(Err(HeadError::InvalidStatus)),
        };
        let start = match buf.get(12) {
            Some(b' ') => 13,
            Some(b'0'..=b'9') => return Err(HeadError::InvalidStatus),
            Some(b'\r' | b'\n') | None => 12,
            Some(_) => return Err(HeadError::InvalidStartLine),
        };
        let Some(stop) = value_end(buf, start) else {
            return Ok(None);
        };
        self.reason = Span::new(start, stop);
        line_end(buf, stop, HeadError::InvalidReason)
    }

    /// What the fields mean together (RFC 9112 section 6.3).
    fn conclude(&mut self, buf: &[u8], request: Method, facts: &Facts) -> Result<(), HeadError> {
        let bodiless_status = self.status < 200 || self.status == 204;
        if facts.chunked && (bodiless_status || self.version == Version::Http10) {
            return Err(HeadError::UnexpectedTransferEncoding);
        }
        // RFC 9110 section 8.6. Some take such a body for the next response. A length of none does no harm.
        if bodiless_status && facts.content_length.is_some_and(|length| length > 0) {
            return Err(HeadError::UnexpectedBody);
        }
        self.upgrade = self.status == 101;
        if self.upgrade && facts.upgrade(buf, self.version).is_none() {
            return Err(HeadError::InvalidUpgrade);
        }
        self.tunnel = request == Method::Connect && (200..300).contains(&self.status);
        self.content_length = facts.content_length.filter(|_| !bodiless_status);
        self.body = if bodiless_status || self.status == 304 || request == Method::Head || self.tunnel {
            BodyKind::None
        } else {
            facts.body().unwrap_or(BodyKind::UntilClose)
        };
        self.persistence = match self.body {
            BodyKind::UntilClose => Persistence::Close,
            _ if self.upgrade || self.tunnel => Persistence::Close,
            _ => facts.persistence(self.version),
        };
        Ok(())
    }

    /// The first field of this kind.
    #[inline]
    pub fn field(&self, known: Known) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    /// The values of all fields of this name, in any case, in their order.
    pub fn values<'a>(&'a self, buf: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        crate::field::values(&self.fields, buf, name)
    }
}

/// ` 200` that is not there as a whole: whether it can still become a status.
#[cold]
fn early_status(start: &[u8]) -> Result<(), HeadError> {
    match start {
        [] | [b' '] => Ok(()),
        [b' ', b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => Ok(()),
        [b' ', ..] => Err(HeadError::InvalidStatus),
        _ => Err(HeadError::InvalidStartLine),
    }
}
