//! What do a head's fields say about the message as a whole?
//!
//! Fields are noted one by one while the head is read, so that the first rule that is broken is the one reported,
//! wherever the head was cut into reads.

use crate::authority;
use crate::body::BodyKind;
use crate::error::HeadError;
use crate::field::{Field, Line, Parsed, line};
use crate::known::{Known, classify};
use crate::limits::Limits;
use crate::method::Version;
use crate::scan::{is_token, list};
use crate::span::Span;

/// Options in `connection` beyond the standard ones: each costs a look at every field's name.
const MAX_CONNECTION_OPTIONS: u8 = 32;

/// Whether the connection can carry another message after this one (RFC 9112 section 9.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Persistence {
    /// It can.
    KeepAlive,
    /// It ends with this message.
    #[default]
    Close,
}

/// Which message the fields are of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    /// `host` and `expect` say nothing here, and are as any other field; `upgrade` says something with 101 alone.
    Response,
}

/// What the fields say.
pub(crate) struct Facts {
    message: Message,
    /// `host`.
    pub host: Option<Span>,
    /// `content-length`.
    pub content_length: Option<u64>,
    /// `transfer-encoding: chunked`.
    pub chunked: bool,
    /// `expect: 100-continue`.
    pub expect_continue: bool,
    /// `upgrade`, when there is one field of that name.
    pub upgrade: Option<Span>,
    upgrade_repeated: bool,
    upgrade_invalid: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    named: u8,
}

impl Facts {
    /// Nothing was said yet.
    pub(crate) fn of(message: Message) -> Self {
        Self {
            message,
            host: None,
            content_length: None,
            chunked: false,
            expect_continue: false,
            upgrade: None,
            upgrade_repeated: false,
            upgrade_invalid: false,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            named: 0,
        }
    }

    /// Notes one field.
    #[inline]
    fn note(&mut self, buf: &[u8], known: Known, span: Span) -> Result<(), HeadError> {
        let value = span.of(buf);
        match known {
            Known::Host | Known::Expect if self.message == Message::Response => {}
            Known::Host => {
                if self.host.replace(span).is_some() {
                    return Err(HeadError::DuplicateHost);
                }
                if authority::parse(value).is_none() {
                    return Err(HeadError::InvalidHost);
                }
            }
            Known::Connection => self.connection(value)?,
            Known::ContentLength => {
                if self.chunked {
                    return Err(HeadError::LengthAndEncoding);
                }
                if self.content_length.is_some() {
                    return Err(HeadError::DuplicateContentLength);
                }
                self.content_length = Some(content_length(value)?);
            }
            Known::TransferEncoding => {
                if self.content_length.is_some() {
                    return Err(HeadError::LengthAndEncoding);
                }
                if self.chunked {
                    return Err(HeadError::DuplicateTransferEncoding);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::InvalidTransferEncoding);
                }
                self.chunked = true;
            }
            Known::Upgrade => {
                if !names_protocols(value) {
                    // Where nothing is switched, a server's is not passed on and does no harm.
                    return match self.message {
                        Message::Request => Err(HeadError::InvalidUpgrade),
                        Message::Response => {
                            self.upgrade_invalid = true;
                            Ok(())
                        }
                    };
                }
                self.upgrade_repeated |= self.upgrade.replace(span).is_some();
            }
            Known::Expect => self.expect(value)?,
            _ => {}
        }
        Ok(())
    }

    /// RFC 9110 section 7.6.1.
    #[inline]
    fn connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        // What nearly everybody sends.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        self.connection_options(value)
    }

    fn connection_options(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !is_token(option) {
                return Err(HeadError::InvalidConnection);
            } else if !classify(option).is_hop_by_hop() {
                self.named += 1;
                if self.named > MAX_CONNECTION_OPTIONS {
                    return Err(HeadError::TooManyConnectionOptions);
                }
            }
        }
        Ok(())
    }

    /// RFC 9110 section 10.1.1. Said twice, or amid other text, some would see it and some not.
    fn expect(&mut self, value: &[u8]) -> Result<(), HeadError> {
        const CONTINUE: &[u8] = b"100-continue";
        if self.expect_continue {
            return Err(HeadError::InvalidExpect);
        }
        self.expect_continue = value.eq_ignore_ascii_case(CONTINUE);
        let hidden = value.is_empty()
            || value
                .windows(CONTINUE.len())
                .any(|part| part.eq_ignore_ascii_case(CONTINUE));
        match (self.expect_continue, hidden) {
            (true, _) => Ok(()),
            (false, true) => Err(HeadError::InvalidExpect),
            (false, false) => Err(HeadError::ExpectationFailed),
        }
    }

    /// What the framing fields say of the body; `None` when there are none.
    pub(crate) fn body(&self) -> Option<BodyKind> {
        match (self.chunked, self.content_length) {
            (true, _) => Some(BodyKind::Chunked),
            (false, Some(0)) => Some(BodyKind::None),
            (false, Some(length)) => Some(BodyKind::Fixed(length)),
            (false, None) => None,
        }
    }

    /// Whether another message may follow (RFC 9112 section 9.3).
    pub(crate) fn persistence(&self, version: Version) -> Persistence {
        match (self.close, version, self.keep_alive) {
            (true, _, _) | (_, Version::Http10, false) => Persistence::Close,
            (false, Version::Http11, _) | (false, Version::Http10, true) => Persistence::KeepAlive,
        }
    }

    /// The protocols offered or chosen (RFC 9110 section 7.8): of HTTP/1.1 alone, only when `connection` says so and one
    /// field names them. One that [`carries_requests`] among them makes it none.
    pub(crate) fn upgrade(&self, buf: &[u8], version: Version) -> Option<Span> {
        let clear = !self.upgrade_repeated && !self.upgrade_invalid;
        let wanted = self.upgrade_option && clear && version == Version::Http11;
        self.upgrade
            .filter(|span| wanted && !list(span.of(buf)).any(carries_requests))
    }
}

/// Reads fields up to the blank line, from `at`. `Some`: the offset behind it.
pub(crate) fn read_fields(
    buf: &[u8],
    mut at: usize,
    limits: &Limits,
    fields: &mut Vec<Field>,
    facts: &mut Facts,
) -> Result<Option<usize>, HeadError> {
    if let Some(b' ' | b'\t') = buf.get(at) {
        return Err(HeadError::LeadingWhitespace);
    }
    loop {
        match line(buf, at)? {
            Line::Field(parts) => {
                if fields.len() >= limits.fields {
                    return Err(HeadError::TooManyFields);
                }
                let known = classify(parts.name(buf));
                let field = parts.field(buf, known);
                if known != Known::Other {
                    facts.note(buf, known, field.value)?;
                }
                at = parts.after;
                fields.push(field);
            }
            Line::End(after) => {
                if facts.named > 0 {
                    mark_named(buf, fields);
                }
                return Ok(Some(after));
            }
            Line::Partial => return Ok(None),
        }
    }
}

/// Marks the fields that `connection` names. Those that say where the message goes and where it ends are never the next
/// hop's alone, whatever a peer writes.
#[cold]
fn mark_named(buf: &[u8], fields: &mut [Field]) {
    for index in 0..fields.len() {
        let Some(connection) = fields
            .get(index)
            .copied()
            .filter(|f| f.known == Known::Connection)
        else {
            continue;
        };
        // The standard ones are marked by their names, and are not bounded in number.
        let named = |option: &&[u8]| !is_standard_option(option) && !classify(option).is_hop_by_hop();
        for option in list(connection.value.of(buf)).filter(named) {
            for field in fields.iter_mut() {
                if !matches!(field.known, Known::Host | Known::ContentLength) {
                    field.hop |= field.name.of(buf).eq_ignore_ascii_case(option);
                }
            }
        }
    }
}

/// Options that say something of the connection and name no field.
fn is_standard_option(option: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive"]
        .iter()
        .any(|standard| option.eq_ignore_ascii_case(standard))
}

/// What to answer when the buffer ended before the head did.
pub(crate) fn partial(buf: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
    if buf.len() >= limits.head_bytes {
        Err(HeadError::TooLarge)
    } else {
        Ok(Parsed::Partial)
    }
}

/// One decimal number up to 2^63 - 1 (RFC 9110 section 8.6): digits alone, and leading zeros mean nothing.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    const MOST: u64 = i64::MAX as u64;
    let number = value.iter().try_fold(0u64, |n, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        n.checked_mul(10)?.checked_add(digit).filter(|n| *n <= MOST)
    });
    number
        .filter(|_| !value.is_empty())
        .ok_or(HeadError::InvalidContentLength)
}

/// Whether the value of an `upgrade` names protocols, as it must (RFC 9110 section 7.8).
pub fn names_protocols(value: &[u8]) -> bool {
    list(value).next().is_some() && list(value).all(is_protocol)
}

/// Whether all protocols that a server names were offered: it may switch to no other (RFC 9110 section 7.8).
pub fn were_offered(named: &[u8], offered: &[u8]) -> bool {
    list(named).all(|one| list(offered).any(|other| one.eq_ignore_ascii_case(other)))
}

/// Whether behind a switch to this protocol come requests again: HTTP/2, by any of its names (`h2c-16` was one), HTTP/1, and
/// TLS, which hides either (RFC 2817). A tunnel into it would pass every rule by.
pub fn carries_requests(protocol: &[u8]) -> bool {
    let name = protocol.split(|b| matches!(b, b'/' | b'-')).next();
    let name = name.unwrap_or_default();
    let begins = name.get(..3).unwrap_or_default();
    [&b"tls"[..], b"http", b"h2"]
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one))
        || begins.eq_ignore_ascii_case(b"h2c")
}

/// The protocols of an `upgrade` that a connection through here can switch to, a list again; empty when there are none.
pub fn switchable(value: &[u8]) -> Vec<u8> {
    let mut left = list(value).filter(|one| is_protocol(one) && !carries_requests(one));
    let mut protocols = left.next().unwrap_or_default().to_vec();
    for one in left {
        protocols.extend_from_slice(b", ");
        protocols.extend_from_slice(one);
    }
    protocols
}

/// `name` or `name/version`.
fn is_protocol(element: &[u8]) -> bool {
    let mut parts = element.splitn(2, |b| *b == b'/');
    parts.next().is_some_and(is_token) && parts.next().is_none_or(is_token)
}
