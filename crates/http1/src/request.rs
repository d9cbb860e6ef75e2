//! A request's head (RFC 9112 section 3).

use crate::field::{Field, Known, Span, is_token};
use crate::fields::{Facts, collect, offset, scratch};
use crate::host::is_authority;
use crate::{BodyKind, HeadError, Limits, Parsed, Persistence, Version};

/// The methods that a proxy tells apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Any other.
    #[default]
    Other,
}

impl Method {
    /// The method of this name. Names are compared with case (RFC 9110 section 9.1).
    pub fn from_bytes(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// What a request is for (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`
    Origin {
        /// The path.
        path: Span,
        /// The query without `?`.
        query: Option<Span>,
    },
    /// `http://host/path?query`
    Absolute {
        /// The scheme.
        scheme: Span,
        /// The authority.
        authority: Span,
        /// The path; empty when the target has none.
        path: Span,
        /// The query without `?`.
        query: Option<Span>,
    },
    /// `host:port`, with CONNECT.
    Authority(Span),
    /// `*`, with OPTIONS.
    Asterisk,
}

impl Default for Target {
    fn default() -> Self {
        Self::Origin { path: Span::default(), query: None }
    }
}

/// A parsed request head. Parse into it again and again: it keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Its name.
    pub method_span: Span,
    /// What the request is for.
    pub target: Target,
    /// The target's bytes.
    pub target_span: Span,
    /// The version.
    pub version: Version,
    /// The effective authority: the target's, or `Host`.
    pub host: Option<Span>,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// How the body is framed.
    pub body: BodyKind,
    /// Whether another request may follow.
    pub persistence: Persistence,
    /// The client waits for 100 before it sends the body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The protocol to switch to (RFC 9110 section 7.8). `h2c`, HTTP/1.0 and requests with a body don't switch.
    pub upgrade: Option<Span>,
    /// Bytes of the head, with an empty line before it and the blank line after it.
    pub head_len: usize,
    /// How far a partial head was looked at.
    scanned: usize,
}

impl RequestHead {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first field of this kind.
    pub fn field(&self, known: Known) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    /// Parses the head at the front of `buf`. After [`Parsed::Partial`], call again with the same bytes and more.
    ///
    /// # Errors
    /// The rule that the head breaks; see [`HeadError`].
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
        // Bytes that end no line can't complete a head: do not parse it all again for each of them.
        let fresh = buf.get(self.scanned..).unwrap_or_default();
        if self.scanned > 0 && self.scanned <= buf.len() && !fresh.contains(&b'\n') {
            self.scanned = buf.len();
            return if buf.len() > limits.head_bytes { Err(HeadError::TooLarge) } else { Ok(Parsed::Partial) };
        }
        let result = self.parse_all(buf, limits);
        self.scanned = match result {
            Ok(Parsed::Partial) => buf.len(),
            _ => 0,
        };
        result
    }

    fn parse_all(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
        self.fields.clear();
        // RFC 9112 section 2.2: one empty line before a request is forgiven.
        let skip = match buf {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] | [] => return Ok(Parsed::Partial),
            [b'\r' | b'\n', ..] => return Err(HeadError::LeadingEmptyLine),
            _ => 0,
        };
        let head = buf.get(skip..).unwrap_or_default();
        match head.first() {
            None => return Ok(Parsed::Partial),
            Some(b'\r' | b'\n') => return Err(HeadError::LeadingEmptyLine),
            Some(_) => {}
        }
        let mut headers = scratch();
        let mut request = httparse::Request::new(&mut []);
        let status = request.parse_with_uninit_headers(head, &mut headers).map_err(|e| start_error(e, head))?;
        let httparse::Status::Complete(len) = status else {
            return if buf.len() >= limits.head_bytes { Err(HeadError::TooLarge) } else { check_partial(head) };
        };
        self.head_len = skip + len;
        if self.head_len > limits.head_bytes {
            return Err(HeadError::TooLarge);
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(HeadError::StartLine);
        };
        self.version = match version {
            0 => Version::Http10,
            1 => Version::Http11,
            _ => return Err(HeadError::Version),
        };
        let method_at = skip;
        let target_at = offset(buf, target.as_bytes());
        let target_end = target_at + target.len();
        // One space on each side, then `HTTP/1.x` CRLF: nothing else.
        let line_end = target_end + b" HTTP/1.1\r\n".len();
        if offset(buf, method.as_bytes()) != method_at
            || target_at != method_at + method.len() + 1
            || buf.get(line_end - 2..line_end) != Some(b"\r\n")
        {
            return Err(HeadError::StartLine);
        }
        self.method = Method::from_bytes(method.as_bytes());
        self.method_span = Span::new(method_at, method_at + method.len());
        self.target_span = Span::new(target_at, target_end);
        let facts = collect(buf, line_end, self.head_len, request.headers, limits.fields, &mut self.fields)?;
        self.target = self.target(buf)?;
        self.conclude(buf, &facts)?;
        Ok(Parsed::Complete)
    }

    fn target(&self, buf: &[u8]) -> Result<Target, HeadError> {
        let bytes = self.target_span.of(buf);
        // RFC 3986 has no fragment in a target, and servers differ about everything that is not visible ASCII.
        if bytes.is_empty() || bytes.iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(HeadError::Target);
        }
        let start = self.target_span.start as usize;
        if self.method == Method::Connect {
            return if is_authority(bytes, true) { Ok(Target::Authority(self.target_span)) } else { Err(HeadError::Target) };
        }
        if bytes == b"*" {
            return if self.method == Method::Options { Ok(Target::Asterisk) } else { Err(HeadError::Target) };
        }
        if bytes.first() == Some(&b'/') {
            let (path, query) = path_and_query(bytes, start);
            return Ok(Target::Origin { path, query });
        }
        let scheme_len = match bytes {
            _ if starts_with_ignore_case(bytes, b"http://") => 4,
            _ if starts_with_ignore_case(bytes, b"https://") => 5,
            _ => return Err(HeadError::Target),
        };
        let authority_at = scheme_len + 3;
        let rest = bytes.get(authority_at..).unwrap_or_default();
        let authority_len = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_len);
        if !is_authority(authority, false) {
            return Err(HeadError::InvalidHost);
        }
        // `http://host?query` has an empty path where origin servers want `/`: refused rather than rewritten.
        if rest.first() == Some(&b'?') {
            return Err(HeadError::Target);
        }
        let authority_start = start + authority_at;
        let (path, query) = path_and_query(rest, authority_start + authority_len);
        Ok(Target::Absolute {
            scheme: Span::new(start, start + scheme_len),
            authority: Span::new(authority_start, authority_start + authority_len),
            path,
            query,
        })
    }

    /// What follows from the fields.
    fn conclude(&mut self, buf: &[u8], facts: &Facts) -> Result<(), HeadError> {
        let http11 = self.version == Version::Http11;
        match facts.host {
            Some(host) if !is_authority(host.of(buf), false) => return Err(HeadError::InvalidHost),
            None if http11 => return Err(HeadError::MissingHost),
            _ => {}
        }
        self.host = match self.target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => {
                let matches = |host: Span| host.of(buf).eq_ignore_ascii_case(authority.of(buf));
                // CONNECT names the port that others leave out of `Host`.
                let same_name = |host: Span| {
                    matches!(self.target, Target::Authority(_))
                        && authority.of(buf).get(..host.len()).is_some_and(|a| a.eq_ignore_ascii_case(host.of(buf)))
                        && authority.of(buf).get(host.len()) == Some(&b':')
                };
                if facts.host.is_some_and(|host| !matches(host) && !same_name(host)) {
                    return Err(HeadError::HostMismatch);
                }
                Some(authority)
            }
            _ => facts.host,
        };
        if facts.chunked && !http11 {
            return Err(HeadError::UnexpectedTransferEncoding);
        }
        self.body = match (facts.chunked, facts.content_length) {
            (true, _) => BodyKind::Chunked,
            (false, None | Some(0)) => BodyKind::None,
            (false, Some(n)) => BodyKind::Fixed(n),
        };
        let announced = facts.chunked || facts.content_length.is_some();
        if announced && matches!(self.method, Method::Connect | Method::Trace) {
            return Err(HeadError::UnexpectedBody);
        }
        self.persistence = match (http11, facts.close, facts.keep_alive) {
            (true, false, _) | (false, false, true) => Persistence::KeepAlive,
            _ => Persistence::Close,
        };
        self.expect_continue = match facts.expect {
            Some(expect) if !expect.of(buf).eq_ignore_ascii_case(b"100-continue") => {
                return Err(HeadError::ExpectationFailed);
            }
            Some(_) => http11,
            None => false,
        };
        self.upgrade = facts.upgrade.filter(|upgrade| {
            let tokens = || upgrade.of(buf).split(|b| *b == b',').map(<[u8]>::trim_ascii);
            http11
                && facts.connection_upgrade
                && self.body == BodyKind::None
                && tokens().all(|token| token.split(|b| *b == b'/').all(is_token))
                && !tokens().any(|token| token.eq_ignore_ascii_case(b"h2c"))
        });
        Ok(())
    }
}

/// Errors that can be told before a head is complete.
fn check_partial(head: &[u8]) -> Result<Parsed, HeadError> {
    // A line that ends in a bare LF is wrong however the head goes on.
    let mut before = None;
    for b in head {
        if *b == b'\n' && before != Some(b'\r') {
            return Err(HeadError::LineEnd);
        }
        before = Some(*b);
    }
    Ok(Parsed::Partial)
}

fn start_error(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::Token if head.first().is_some_and(|b| b.is_ascii_uppercase()) => HeadError::Target,
        _ => HeadError::StartLine,
    }
}

fn starts_with_ignore_case(bytes: &[u8], start: &[u8]) -> bool {
    bytes.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn path_and_query(bytes: &[u8], start: usize) -> (Span, Option<Span>) {
    let end = start + bytes.len();
    match bytes.iter().position(|b| *b == b'?') {
        None => (Span::new(start, end), None),
        Some(mark) => (Span::new(start, start + mark), Some(Span::new(start + mark + 1, end))),
    }
}
