//! The fields of a head: parsed, classified, and what they say of body and connection.

use std::mem::MaybeUninit;

use crate::field::{Field, Known, Span, classify, is_token};
use crate::{HeadError, MAX_FIELDS};

/// Room for `httparse` on the stack.
pub(crate) type Scratch<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

pub(crate) const fn scratch<'b>() -> Scratch<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// Where a slice of `buf` starts in it.
#[inline]
pub(crate) fn offset(buf: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(buf.as_ptr().addr())
}

/// What the fields of a head say together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub close: bool,
    pub keep_alive: bool,
    pub connection_upgrade: bool,
    pub upgrade: Option<Span>,
    pub host: Option<Span>,
    pub expect: Option<Span>,
}

/// Turns parsed headers into fields. `first` is where the first line starts in `buf`, `end` where the head ends.
/// Checks what `httparse` lets pass: line ends, and the meaning of the fields that frame.
pub(crate) fn collect(
    buf: &[u8],
    first: usize,
    end: usize,
    headers: &[httparse::Header<'_>],
    most: usize,
    fields: &mut Vec<Field>,
) -> Result<Facts, HeadError> {
    if headers.len() > most {
        return Err(HeadError::TooManyFields);
    }
    let mut facts = Facts::default();
    let mut named = false;
    let mut at = first;
    for (i, header) in headers.iter().enumerate() {
        let name_start = offset(buf, header.name.as_bytes());
        if name_start != at {
            return Err(HeadError::FieldName);
        }
        let name_end = name_start + header.name.len();
        // The next line begins where this one ends; between the value and there only white space and CRLF may be.
        let line_end = match headers.get(i + 1) {
            Some(next) => offset(buf, next.name.as_bytes()),
            None => end.checked_sub(2).ok_or(HeadError::LineEnd)?,
        };
        let (value_start, value_end) = match header.value {
            [] => (line_end.saturating_sub(2), line_end.saturating_sub(2)),
            value => (offset(buf, value), offset(buf, value) + value.len()),
        };
        let tail = buf.get(value_end..line_end).unwrap_or_default();
        let Some(white) = tail.strip_suffix(b"\r\n") else { return Err(HeadError::LineEnd) };
        if !white.is_empty() && white.iter().any(|b| !matches!(b, b' ' | b'\t')) {
            return Err(HeadError::LineEnd);
        }
        let lead = buf.get(name_end..value_start).unwrap_or_default();
        if header.value.is_empty() && lead.iter().skip(1).any(|b| !matches!(b, b' ' | b'\t')) {
            return Err(HeadError::LineEnd);
        }
        let known = classify(header.name.as_bytes());
        let field = Field {
            name: Span::new(name_start, name_end),
            value: Span::new(value_start, value_end),
            line: Span::new(name_start, line_end),
            known,
            canonical: lead == b": " && white.is_empty() && !header.value.is_empty(),
            hop: known.is_hop_by_hop(),
        };
        at = line_end;
        if known != Known::Other {
            named |= note(&mut facts, &field, header.value, buf)?;
        }
        fields.push(field);
    }
    if buf.get(at..end) != Some(b"\r\n") {
        return Err(HeadError::LineEnd);
    }
    if facts.chunked && facts.content_length.is_some() {
        return Err(HeadError::AmbiguousLength);
    }
    if named {
        mark_named(buf, fields);
    }
    Ok(facts)
}

/// Takes a known field into account; says whether `Connection` names other fields.
fn note(facts: &mut Facts, field: &Field, value: &[u8], _buf: &[u8]) -> Result<bool, HeadError> {
    match field.known {
        Known::ContentLength => {
            if facts.content_length.is_some() {
                return Err(HeadError::DuplicateContentLength);
            }
            facts.content_length = Some(content_length(value)?);
        }
        Known::TransferEncoding => {
            if facts.chunked {
                return Err(HeadError::DuplicateTransferEncoding);
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferEncoding);
            }
            facts.chunked = true;
        }
        Known::Host => {
            if facts.host.is_some() {
                return Err(HeadError::DuplicateHost);
            }
            facts.host = Some(field.value);
        }
        Known::Connection => {
            let mut named = false;
            for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if token.eq_ignore_ascii_case(b"close") {
                    facts.close = true;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    facts.keep_alive = true;
                } else if token.eq_ignore_ascii_case(b"upgrade") {
                    facts.connection_upgrade = true;
                } else if is_token(token) {
                    named = true;
                } else if !token.is_empty() {
                    return Err(HeadError::Connection);
                }
            }
            return Ok(named);
        }
        Known::Upgrade => {
            facts.upgrade = if facts.upgrade.is_some() { Some(Span::default()) } else { Some(field.value) };
        }
        Known::Expect => {
            if facts.expect.is_some() {
                return Err(HeadError::ExpectationFailed);
            }
            facts.expect = Some(field.value);
        }
        _ => {}
    }
    Ok(false)
}

/// Digits only, at most 2^63-1 (RFC 9110 section 8.6). Leading zeros are decimal.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 32 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::ContentLength);
    }
    value
        .iter()
        .try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or(HeadError::ContentLength)
}

/// Marks the fields that `Connection` names.
fn mark_named(buf: &[u8], fields: &mut [Field]) {
    for i in 0..fields.len() {
        let Some(connection) = fields.get(i).copied().filter(|field| field.known == Known::Connection) else { continue };
        for token in connection.value.of(buf).split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            for field in fields.iter_mut() {
                field.hop |= field.name.of(buf).eq_ignore_ascii_case(token);
            }
        }
    }
}
