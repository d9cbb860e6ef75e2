//! How is one field line read?

use crate::error::HeadError;
use crate::known::Known;
use crate::scan::{is_ows, token_end, value_end};
use crate::span::Span;

/// Whether a head is there as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// It is; `head_len` says where it ends.
    Complete,
    /// More bytes are needed; so far nothing is wrong.
    Partial,
}

/// A field of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name, in the case it came with.
    pub name: Span,
    /// The value, without the whitespace around it. May be empty.
    pub value: Span,
    /// The whole line, CRLF included.
    pub line: Span,
    /// What the name is.
    pub known: Known,
    /// The line is exactly `name: value` and CRLF, so that it can be copied as it is.
    pub canonical: bool,
    /// Meant for the next hop alone: by its name, or because `connection` lists it (RFC 9110 section 7.6.1).
    pub hop: bool,
    /// The sender wants it in no compression table, here or further on (RFC 7541 section 6.2.3). HTTP/1 can't say so.
    pub never: bool,
}

/// Where a field's parts are: offsets only, which stay in registers while the line is looked at.
pub(crate) struct Parts {
    at: usize,
    name_end: usize,
    value: usize,
    value_end: usize,
    /// Where the next line begins.
    pub(crate) after: usize,
}

impl Parts {
    /// The name.
    #[inline(always)]
    pub(crate) fn name<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        buf.get(self.at..self.name_end).unwrap_or_default()
    }

    /// The field, whose name was classified.
    #[inline(always)]
    pub(crate) fn field(&self, buf: &[u8], known: Known) -> Field {
        let layout = self.value == self.name_end + 2 && self.after == self.value_end + 2;
        Field {
            name: Span::new(self.at, self.name_end),
            value: Span::new(self.value, self.value_end),
            line: Span::new(self.at, self.after),
            known,
            canonical: layout && buf.get(self.name_end + 1) == Some(&b' '),
            hop: known.is_hop_by_hop(),
            never: false,
        }
    }
}

/// What a line was.
pub(crate) enum Line {
    /// A field.
    Field(Parts),
    /// The blank line that ends the section, and where what follows begins.
    End(usize),
    /// Not there as a whole.
    Partial,
}

/// Reads the line at `at` (RFC 9112 section 5): a field, or the end of the section.
#[inline(always)]
pub(crate) fn line(buf: &[u8], at: usize) -> Result<Line, HeadError> {
    let Some(name_end) = token_end(buf, at) else {
        return Ok(Line::Partial);
    };
    if buf.get(name_end) != Some(&b':') || name_end == at {
        return odd_line(buf, at, name_end);
    }
    let mut start = name_end + 1;
    while buf.get(start).is_some_and(|b| is_ows(*b)) {
        start += 1;
    }
    let Some(stop) = value_end(buf, start) else {
        return Ok(Line::Partial);
    };
    let Some(after) = line_end(buf, stop, HeadError::InvalidValue)? else {
        return Ok(Line::Partial);
    };
    let mut end = stop;
    while end > start && buf.get(end - 1).is_some_and(|b| is_ows(*b)) {
        end -= 1;
    }
    Ok(Line::Field(Parts {
        at,
        name_end,
        value: start,
        value_end: end,
        after,
    }))
}

/// A line that does not begin with a name and a colon: the end of the section, or which rule it breaks.
#[cold]
fn odd_line(buf: &[u8], at: usize, name_end: usize) -> Result<Line, HeadError> {
    let first = name_end == at;
    match buf.get(name_end) {
        Some(b'\r') if first => Ok(line_end(buf, at, HeadError::BareCr)?.map_or(Line::Partial, Line::End)),
        Some(b'\n') if first => Err(HeadError::BareLf),
        Some(b':') => Err(HeadError::EmptyName),
        Some(b' ' | b'\t') if first => Err(HeadError::ObsoleteFold),
        Some(b' ' | b'\t') => Err(HeadError::SpaceBeforeColon),
        Some(b'\r' | b'\n') => Err(HeadError::MissingColon),
        Some(_) => Err(HeadError::InvalidName),
        None => Ok(Line::Partial),
    }
}

/// Where the next line begins, when the one that stops at `stop` does so with CRLF. `None`: the buffer ends first.
/// Any other byte than CR or LF breaks the given rule.
#[inline(always)]
pub(crate) fn line_end(buf: &[u8], stop: usize, other: HeadError) -> Result<Option<usize>, HeadError> {
    match (buf.get(stop), buf.get(stop + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(stop + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), Some(_)) => Err(HeadError::BareCr),
        (Some(b'\n'), _) => Err(HeadError::BareLf),
        _ => Err(other),
    }
}

/// The values of all fields of this name, in any case, in their order.
pub(crate) fn values<'a>(
    fields: &'a [Field],
    buf: &'a [u8],
    name: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.of(buf).eq_ignore_ascii_case(name))
        .map(move |field| field.value.of(buf))
}
