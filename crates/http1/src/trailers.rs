//! Which fields may follow a body?
//!
//! They are read as strictly as those of a head. What says where a message goes, where it ends, who asks or how it is to
//! be read must be known before the body, so it is dropped when it comes behind (RFC 9110 section 6.5.1): whoever merged
//! it into the head would read another message than this proxy did.

use mesh_model::way::is_of_the_way;

use crate::error::BodyError;
use crate::field::{Field, Line, line};
use crate::known::{Known, classify};
use crate::limits::Limits;
use crate::write::write_line;

/// The trailers of a body: field lines that were checked.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Trailers {
    lines: Vec<u8>,
}

impl Trailers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines as they are sent: `name: value` and CRLF each, without the blank line.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The lines, owned.
    pub fn into_lines(self) -> Vec<u8> {
        self.lines
    }

    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || match line(&self.lines, at) {
            Ok(Line::Field(parts)) => {
                at = parts.after;
                let field = parts.field(&self.lines, Known::Other);
                Some((field.name.of(&self.lines), field.value.of(&self.lines)))
            }
            Ok(Line::End(_) | Line::Partial) | Err(_) => None,
        })
    }
}

/// Gathers trailers while a body is decoded.
#[derive(Default, Debug)]
pub(crate) struct Collector {
    kept: Trailers,
    /// The line that is being read begins here in `kept`.
    line: usize,
    /// Bytes and lines seen, those that were dropped included.
    bytes: usize,
    count: usize,
}

impl Collector {
    /// Takes a part of a line.
    pub(crate) fn push(&mut self, part: &[u8], limits: &Limits) -> Result<(), BodyError> {
        self.bytes = self.bytes.saturating_add(part.len());
        if self.bytes > limits.trailer_bytes.min(u32::MAX as usize) {
            return Err(BodyError::TrailersTooLarge);
        }
        self.kept.lines.extend_from_slice(part);
        Ok(())
    }

    /// Checks the line that was pushed, and keeps it if it may be a trailer.
    pub(crate) fn end_line(&mut self, limits: &Limits) -> Result<(), BodyError> {
        self.count += 1;
        if self.count > limits.fields {
            return Err(BodyError::TrailersTooLarge);
        }
        let lines = &mut self.kept.lines;
        let field = match line(lines, self.line) {
            Ok(Line::Field(parts)) if parts.after == lines.len() => parts.field(lines, Known::Other),
            _ => return Err(BodyError::InvalidTrailer),
        };
        if is_forbidden_trailer(field.name.of(lines)) {
            lines.truncate(self.line);
        } else if !field.canonical {
            self.rewrite(&field);
        }
        self.line = self.kept.lines.len();
        Ok(())
    }

    fn rewrite(&mut self, field: &Field) {
        let lines = &mut self.kept.lines;
        let (name, value) = (field.name.of(lines).to_vec(), field.value.of(lines).to_vec());
        lines.truncate(self.line);
        write_line(lines, &name, &value);
    }

    pub(crate) fn kept(&self) -> &Trailers {
        &self.kept
    }

    pub(crate) fn take(&mut self) -> Trailers {
        self.line = 0;
        std::mem::take(&mut self.kept)
    }
}

/// Names that are no trailers, by RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, content
/// format and control data of responses; and where proxies say a request came from.
const FORBIDDEN: &[&str] = &[
    "accept-encoding",
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authentication-info",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

/// Whether a field of this name is dropped when it comes as a trailer. Also for trailers that come over HTTP/2. What is
/// [said of a request's way](is_of_the_way) is dropped whoever says it: the head has said all of it.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    classify(name).is_hop_by_hop()
        || is_of_the_way(name)
        || FORBIDDEN
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}
