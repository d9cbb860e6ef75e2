//! A response's head (RFC 9112 section 4).

use crate::field::{Field, Known, Span};
use crate::fields::{collect, offset, scratch};
use crate::{BodyKind, HeadError, Limits, Method, Parsed, Persistence, Version};

/// A parsed response head. Parse into it again and again: it keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// How the body is framed.
    pub body: BodyKind,
    /// What `Content-Length` says, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the connection may be used again.
    pub persistence: Persistence,
    /// Bytes of the head with its blank line.
    pub head_len: usize,
    /// How far a partial head was looked at.
    scanned: usize,
}

impl ResponseHead {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first field of this kind.
    pub fn field(&self, known: Known) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    /// Parses the head at the front of `buf`, the answer to a request with `method`. After [`Parsed::Partial`], call
    /// again with the same bytes and more.
    ///
    /// # Errors
    /// The rule that the head breaks; see [`HeadError`].
    pub fn parse(&mut self, buf: &[u8], method: Method, limits: &Limits) -> Result<Parsed, HeadError> {
        let fresh = buf.get(self.scanned..).unwrap_or_default();
        if self.scanned > 0 && self.scanned <= buf.len() && !fresh.contains(&b'\n') {
            self.scanned = buf.len();
            return if buf.len() > limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(Parsed::Partial) };
        }
        let result = self.parse_all(buf, method, limits);
        self.scanned = match result {
            Ok(Parsed::Partial) => buf.len(),
            _ => 0,
        };
        result
    }

    fn parse_all(&mut self, buf: &[u8], method: Method, limits: &Limits) -> Result<Parsed, HeadError> {
        self.fields.clear();
        if matches!(buf.first(), Some(b'\r' | b'\n')) {
            return Err(HeadError::LeadingEmptyLine);
        }
        let mut headers = scratch();
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config
            .parse_response_with_uninit_headers(&mut response, buf, &mut headers)
            .map_err(|error| match error {
                httparse::Error::HeaderName => HeadError::FieldName,
                httparse::Error::HeaderValue => HeadError::FieldValue,
                httparse::Error::NewLine => HeadError::LineEnd,
                httparse::Error::TooManyHeaders => HeadError::TooManyFields,
                httparse::Error::Version => HeadError::Version,
                httparse::Error::Status => HeadError::Status,
                httparse::Error::Token => HeadError::StartLine,
            })?;
        let httparse::Status::Complete(len) = status else {
            return if buf.len() >= limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(Parsed::Partial) };
        };
        self.head_len = len;
        if len > limits.head_bytes {
            return Err(HeadError::TooLarge);
        }
        let (Some(version), Some(code)) = (response.version, response.code) else { return Err(HeadError::StartLine) };
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        if !(100..=999).contains(&code) {
            return Err(HeadError::Status);
        }
        self.status = code;
        // `HTTP/1.1 200` and, behind a space, the phrase; then CRLF.
        let code_end = b"HTTP/1.1 200".len();
        let line_end = match buf.iter().position(|b| *b == b'\n') {
            Some(lf) if lf > code_end && buf.get(lf - 1) == Some(&b'\r') => lf + 1,
            _ => return Err(HeadError::LineEnd),
        };
        let phrase = buf.get(code_end..line_end - 2).unwrap_or_default();
        self.reason = match phrase.split_first() {
            None => Span::new(code_end, code_end),
            Some((b' ', _)) => Span::new(code_end + 1, line_end - 2),
            Some(_) => return Err(HeadError::StartLine),
        };
        if self.reason.of(buf).iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(HeadError::StartLine);
        }
        debug_assert!(response.headers.first().is_none_or(|h| offset(buf, h.name.as_bytes()) >= line_end));
        let facts = collect(buf, line_end, len, response.headers, limits.fields, &mut self.fields)?;
        let http11 = self.version == Version::Http11;
        let bodiless = code < 200 || code == 204;
        if facts.chunked && (!http11 || bodiless) {
            return Err(HeadError::UnexpectedTransferEncoding);
        }
        self.content_length = facts.content_length.filter(|_| !bodiless);
        let tunnel = method == Method::Connect && (200..300).contains(&code);
        self.body = match (facts.chunked, facts.content_length) {
            _ if bodiless || tunnel || code == 304 || method == Method::Head => BodyKind::None,
            (true, _) => BodyKind::Chunked,
            (false, Some(0)) => BodyKind::None,
            (false, Some(n)) => BodyKind::Fixed(n),
            (false, None) => BodyKind::UntilClose,
        };
        self.persistence = match (http11, facts.close, facts.keep_alive) {
            _ if self.body == BodyKind::UntilClose => Persistence::Close,
            (true, false, _) | (false, false, true) => Persistence::KeepAlive,
            _ => Persistence::Close,
        };
        Ok(Parsed::Complete)
    }
}
