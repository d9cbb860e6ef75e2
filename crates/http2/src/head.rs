//! What does a block of fields say: a request, a response, or trailers?
//!
//! Fields are kept as the lines that HTTP/1 would have of them, `name: value` and CRLF, so that they are looked at, and
//! copied, in the same way whichever version they came with. What breaks RFC 9113 section 8 is noted while the rest of
//! the block is read, since the compression needs all of it: such a message is malformed, and ends its stream alone.

use mesh_http1::{Field, Known, Span, is_token, is_tunnel_target, is_value};

use crate::hpack::decoder::Decoded;

/// Bytes that a field counts beside its own, against the bound of a block (RFC 9113 section 6.5.2).
const OVERHEAD: usize = 32;

/// A message's fields.
#[derive(Clone, Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    /// The fields, in order.
    pub fields: Vec<Field>,
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    protocol: Option<Span>,
    /// The status; 0 in requests and trailers.
    pub status: u16,
    /// The announced length of the body.
    pub content_length: Option<u64>,
    /// The size of the whole block as RFC 9113 section 6.5.2 counts it.
    pub size: usize,
    /// It was larger than allowed, and what came above that is not here.
    pub over: bool,
    problem: Option<&'static str>,
}

/// What a block is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Request,
    Response,
    Trailers,
}

/// Whether a field may stand in a message: a name in lower case, a value without controls and without whitespace around
/// it (RFC 9113 section 8.2.1).
pub(crate) fn is_good(name: &[u8], value: &[u8]) -> bool {
    let name = name.strip_prefix(b":").unwrap_or(name);
    is_token(name) && !name.iter().any(u8::is_ascii_uppercase) && is_value(value)
}

impl Head {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            method: None,
            scheme: None,
            authority: None,
            path: None,
            protocol: None,
            status: 0,
            content_length: None,
            size: 0,
            over: false,
            problem: None,
        }
    }

    /// Empties it, to be used again.
    pub(crate) fn clear(&mut self) {
        let Self { bytes, fields, .. } = std::mem::take(self);
        (self.bytes, self.fields) = (bytes, fields);
        self.bytes.clear();
        self.fields.clear();
    }

    /// Bytes that it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// What the fields' spans point into.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The method; empty where there is none.
    pub fn method(&self) -> &[u8] {
        self.pseudo(self.method)
    }

    /// The scheme; empty where there is none.
    pub fn scheme(&self) -> &[u8] {
        self.pseudo(self.scheme)
    }

    /// The authority.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| span.of(&self.bytes))
    }

    /// Path and query; empty where there is none.
    pub fn path(&self) -> &[u8] {
        self.pseudo(self.path)
    }

    /// The protocol of an extended CONNECT (RFC 8441).
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.map(|span| span.of(&self.bytes))
    }

    /// The values of a field that is known.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let of = move |field: &&Field| field.known == known;
        self.fields
            .iter()
            .filter(of)
            .map(|field| field.value.of(&self.bytes))
    }

    /// The first value of a field that is known.
    pub fn value(&self, known: Known) -> Option<&[u8]> {
        self.values(known).next()
    }

    fn pseudo(&self, span: Option<Span>) -> &[u8] {
        span.unwrap_or_default().of(&self.bytes)
    }

    /// Notes that it is malformed.
    pub(crate) fn malform(&mut self, token: &'static str) {
        self.problem.get_or_insert(token);
    }

    /// Takes on a field. At most `most` bytes are kept.
    pub(crate) fn push(&mut self, decoded: Decoded<'_>, most: usize) {
        let Decoded { name, value, .. } = decoded;
        self.size = self.size.saturating_add(name.len() + value.len() + OVERHEAD);
        if self.size > most {
            self.over = true;
            return;
        }
        if !decoded.good {
            self.malform("field");
        } else if name.first() == Some(&b':') {
            self.push_pseudo(name, value);
        } else {
            self.push_field(&decoded);
        }
    }

    fn push_pseudo(&mut self, name: &[u8], value: &[u8]) {
        // RFC 9113 section 8.3: before all others.
        if !self.fields.is_empty() {
            return self.malform("pseudo_field_late");
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        let span = Span {
            start,
            end: self.bytes.len() as u32,
        };
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => {
                let twice = self.status != 0;
                match value {
                    [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] if !twice => {
                        self.status = [a, b, c].iter().fold(0, |n, d| n * 10 + u16::from(**d - b'0'));
                    }
                    _ => self.malform("status"),
                }
                return;
            }
            _ => return self.malform("pseudo_field_unknown"),
        };
        if place.replace(span).is_some() {
            self.malform("pseudo_field_twice");
        }
    }

    fn push_field(&mut self, decoded: &Decoded<'_>) {
        let (name, value, known) = (decoded.name, decoded.value, decoded.known);
        match known {
            // RFC 9113 section 8.2.2.
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => self.malform("connection_field"),
            Known::Te if value != b"trailers" => self.malform("te"),
            // One alone, as in HTTP/1: of two that are equal one may be what is taken away on the way (attacks.md 13, 21).
            Known::ContentLength => match (length(value), self.content_length) {
                (Some(n), None) => self.content_length = Some(n),
                _ => self.malform("content_length"),
            },
            _ => {}
        }
        let start = self.bytes.len() as u32;
        let name_end = start + name.len() as u32;
        let value_end = name_end + 2 + value.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        let span = |start, end| Span { start, end };
        self.fields.push(Field {
            name: span(start, name_end),
            value: span(name_end + 2, value_end),
            line: span(start, value_end + 2),
            known,
            canonical: true,
            hop: known.is_hop_by_hop(),
            never: decoded.never,
        });
    }

    /// What is wrong with it (RFC 9113 section 8), as one of our tokens. What was cut off is not asked for.
    pub(crate) fn problem(&self, part: Part) -> Option<&'static str> {
        if self.problem.is_some() {
            return self.problem;
        }
        let of_request = self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.path.is_some()
            || self.protocol.is_some();
        let fits = match part {
            Part::Trailers => !of_request && self.status == 0,
            Part::Response => !of_request && (self.status != 0 || self.over),
            Part::Request => self.status == 0 && (self.over || self.is_request()),
        };
        (!fits).then_some("pseudo_fields")
    }

    /// RFC 9113 sections 8.3.1 and 8.5, RFC 8441 section 4.
    fn is_request(&self) -> bool {
        let whole = self.scheme.is_some() && self.path.is_some_and(|path| !path.is_empty());
        match (self.method(), self.protocol) {
            (b"CONNECT", None) => {
                self.authority().is_some_and(is_tunnel_target) && self.scheme.is_none() && self.path.is_none()
            }
            (b"CONNECT", Some(_)) => whole && self.authority.is_some(),
            (method, None) => whole && is_token(method),
            (_, Some(_)) => false,
        }
    }
}

/// Digits, and nothing else (RFC 9110 section 8.6). What has no place in 63 bits is read differently here and there.
fn length(value: &[u8]) -> Option<u64> {
    const MOST: u64 = i64::MAX as u64;
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |n, byte| {
        let digit = u64::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        n.checked_mul(10)?.checked_add(digit).filter(|n| *n <= MOST)
    })
}
