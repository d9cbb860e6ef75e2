//! What does this request head say?

use crate::body::BodyKind;
use crate::error::HeadError;
use crate::facts::{Facts, Message, Persistence, partial, read_fields};
use crate::field::{Field, Parsed, line_end};
use crate::known::Known;
use crate::limits::Limits;
use crate::method::{Method, Version};
use crate::scan::{target_end, token_end};
use crate::span::Span;
use crate::target::Target;

/// A parsed request head. Made once and used for many requests: it keeps the room for its fields.
///
/// What it holds is of meaning after [`RequestHead::parse`] gave [`Parsed::Complete`], together with the buffer that
/// was parsed.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method's bytes.
    pub method_span: Span,
    /// The target, taken apart.
    pub target: Target,
    /// The target's bytes.
    pub target_span: Span,
    /// The version.
    pub version: Version,
    /// The authority that counts: that of the target if it has one, else `host` (RFC 9112 section 3.3). Always valid.
    /// `None` only in HTTP/1.0.
    pub host: Option<Span>,
    /// The fields in their order.
    pub fields: Vec<Field>,
    /// How the body is framed. A `content-length` of 0 is no body.
    pub body: BodyKind,
    /// Whether another request may follow.
    pub persistence: Persistence,
    /// The client waits for `100 (Continue)` before it sends its body. Never in HTTP/1.0 or when there is no body.
    pub expect_continue: bool,
    /// The value of `upgrade`, where it counts: one field, `connection` names it, HTTP/1.1, no body, and none that
    /// [`crate::carries_requests`]. A list of protocols, usually of one.
    pub upgrade: Option<Span>,
    /// The bytes of the head, with the blank line, and with the empty line before it if there is one.
    pub head_len: usize,
}

impl RequestHead {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the head at the start of `buf`. Offsets in the result are those of `buf`.
    ///
    /// Each call reads from the start, so that nothing has to be remembered, or forgotten, between two calls. A head that
    /// comes byte by byte costs one pass of what is there per read, at several bytes a nanosecond: with the default
    /// bounds under twenty microseconds (the example `speed` measures it).
    ///
    /// # Errors
    /// The first rule that is broken, as soon as its bytes are there. More bytes never make it right.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
        let buf = limits.window(buf);
        self.fields.clear();
        let Some(at) = self.request_line(buf)? else {
            return partial(buf, limits);
        };
        let mut facts = Facts::of(Message::Request);
        match read_fields(buf, at, limits, &mut self.fields, &mut facts)? {
            None => partial(buf, limits),
            Some(end) => {
                self.conclude(buf, &facts)?;
                self.head_len = end;
                Ok(Parsed::Complete)
            }
        }
    }

    /// `method SP target SP version CRLF` (RFC 9112 section 3). `Some`: where the fields begin.
    #[inline]
    fn request_line(&mut self, buf: &[u8]) -> Result<Option<usize>, HeadError> {
        let start = match buf.first() {
            Some(b'\r' | b'\n') => match empty_line(buf)? {
                Some(start) => start,
                None => return Ok(None),
            },
            _ => 0,
        };
        let Some(method_end) = token_end(buf, start) else {
            return Ok(None);
        };
        if method_end == start || buf.get(method_end) != Some(&b' ') {
            return Err(HeadError::InvalidMethod);
        }
        let target_start = method_end + 1;
        let Some(stop) = target_end(buf, target_start) else {
            return Ok(None);
        };
        match buf.get(stop) {
            Some(b' ') if stop > target_start => {}
            // `GET /\r\n`: HTTP/0.9, which nobody speaks.
            Some(b'\r' | b'\n') if stop > target_start => return Err(HeadError::UnsupportedVersion),
            _ => return Err(HeadError::InvalidTarget),
        }
        self.method_span = Span::new(start, method_end);
        self.target_span = Span::new(target_start, stop);
        self.method = Method::from_bytes(self.method_span.of(buf));
        self.target = Target::parse(buf, self.target_span, self.method)?;
        let Some(end) = self.version(buf, stop + 1)? else {
            return Ok(None);
        };
        line_end(buf, end, HeadError::InvalidStartLine)
    }

    /// The version at `at`; an offset behind it when it is there as a whole.
    #[inline]
    fn version(&mut self, buf: &[u8], at: usize) -> Result<Option<usize>, HeadError> {
        let end = at + 8;
        match buf.get(at..end) {
            Some(bytes) => {
                self.version = Version::from_bytes(bytes).ok_or(HeadError::UnsupportedVersion)?;
                Ok(Some(end))
            }
            None => early_version(buf.get(at..).unwrap_or_default()).map(|()| None),
        }
    }

    /// What the fields mean together.
    fn conclude(&mut self, buf: &[u8], facts: &Facts) -> Result<(), HeadError> {
        if facts.host.is_none() && self.version == Version::Http11 {
            return Err(HeadError::MissingHost);
        }
        self.host = self.target.effective_host(buf, facts.host)?;
        if facts.chunked && self.version == Version::Http10 {
            return Err(HeadError::UnexpectedTransferEncoding);
        }
        self.body = facts.body().unwrap_or(BodyKind::None);
        let has_body = self.body != BodyKind::None;
        if has_body && matches!(self.method, Method::Connect | Method::Trace) {
            return Err(HeadError::UnexpectedBody);
        }
        self.persistence = facts.persistence(self.version);
        self.expect_continue = facts.expect_continue && has_body && self.version == Version::Http11;
        self.upgrade = facts.upgrade(buf, self.version).filter(|_| !has_body);
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

/// The one empty line that may stand before a request (RFC 9112 section 2.2): where the request then begins.
#[cold]
fn empty_line(buf: &[u8]) -> Result<Option<usize>, HeadError> {
    match line_end(buf, 0, HeadError::BareCr)? {
        Some(start) if matches!(buf.get(start), Some(b'\r' | b'\n')) => Err(HeadError::LeadingLines),
        start => Ok(start),
    }
}

/// A version that is not there as a whole: whether it can still become one.
#[cold]
pub(crate) fn early_version(start: &[u8]) -> Result<(), HeadError> {
    if b"HTTP/1.".iter().zip(start).all(|(want, got)| want == got) {
        Ok(())
    } else {
        Err(HeadError::UnsupportedVersion)
    }
}
