//! Which server does a TLS client ask for? Read from its ClientHello without answering it.
//!
//! The bytes are looked at and nothing is taken from them, so that a stream that passes through arrives as it came.
//! Invariants: every function is total and works on the bytes alone; once an answer other than
//! [`Hello::Incomplete`] is given, more bytes do not change it; at most [`MAX_HELLO`] bytes in [`MAX_RECORDS`] records
//! are waited for.

use std::borrow::Cow;

use rustls::pki_types::ServerName;

/// The longest ClientHello that is read, in bytes: what BoringSSL accepts. With post-quantum key shares and encrypted
/// client hello they have about 2,000.
pub const MAX_HELLO: usize = 16_384;

/// The most records that a ClientHello may be cut into: clients that hide from middleboxes use a handful, and each
/// one is walked again when bytes arrive.
pub const MAX_RECORDS: usize = 64;

/// The longest TLSPlaintext fragment (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;

/// What the first bytes of a TLS stream say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// Not a ClientHello, or a malformed one.
    Invalid,
    /// A complete ClientHello, with the server's name if it has one (RFC 6066 section 3): in lower case, without a final
    /// dot.
    ServerName(Option<String>),
    /// A complete ClientHello with a name that is none in DNS: servers might read it differently.
    OddName,
}

/// Looks at all bytes that came so far.
pub fn client_hello(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Some(Message::Incomplete) => Hello::Incomplete,
        Some(Message::Complete(message)) => match server_name(&message) {
            Some(Asked::Name(name)) => Hello::ServerName(Some(name)),
            Some(Asked::Nobody) => Hello::ServerName(None),
            Some(Asked::Odd) => Hello::OddName,
            None => Hello::Invalid,
        },
        None => Hello::Invalid,
    }
}

enum Message<'a> {
    Incomplete,
    Complete(Cow<'a, [u8]>),
}

/// Puts the first handshake message together; without its header (RFC 8446 sections 4 and 5.1). `None` when the
/// records can't hold a ClientHello.
fn handshake(bytes: &[u8]) -> Option<Message<'_>> {
    let mut rest = bytes;
    // The message, header included, as far as it came. Borrowed while it lies in one record.
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    for _ in 0..MAX_RECORDS {
        let (fragment, after, whole) = match record(rest)? {
            Record::Incomplete => (&[][..], &[][..], false),
            Record::Partial(fragment) => (fragment, &[][..], false),
            Record::Complete(fragment, after) => (fragment, after, true),
        };
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else if !fragment.is_empty() {
            message.to_mut().extend_from_slice(fragment);
        }
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return None;
        }
        if let Some([_, a, b, c]) = message.first_chunk::<4>() {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if len > MAX_HELLO {
                return None;
            }
            let end = 4 + len;
            if message.len() >= end {
                return Some(Message::Complete(match message {
                    Cow::Borrowed(all) => Cow::Borrowed(all.get(4..end)?),
                    Cow::Owned(all) => Cow::Owned(all.get(4..end)?.to_vec()),
                }));
            }
        }
        if !whole {
            return Some(Message::Incomplete);
        }
        rest = after;
    }
    None
}

const CLIENT_HELLO: u8 = 1;
const HANDSHAKE: u8 = 22;

enum Record<'a> {
    /// Not even the header.
    Incomplete,
    /// A part of the fragment.
    Partial(&'a [u8]),
    /// The fragment and what follows.
    Complete(&'a [u8], &'a [u8]),
}

/// The record at the front of the bytes; `None` when it is not a plaintext handshake record. Wrong bytes are told as
/// soon as they are there.
fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let fits = |at: usize, ok: fn(u8) -> bool| bytes.get(at).is_none_or(|b| ok(*b));
    // The minor version "MUST be ignored for all purposes", and servers do.
    if !fits(0, |kind| kind == HANDSHAKE) || !fits(1, |major| major == 3) {
        return None;
    }
    let Some(([_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else {
        return Some(Record::Incomplete);
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    // Zero-length fragments of handshake messages are forbidden (RFC 8446 section 5.1).
    if len == 0 || len > MAX_FRAGMENT {
        return None;
    }
    Some(match rest.split_at_checked(len) {
        Some((fragment, after)) => Record::Complete(fragment, after),
        None => Record::Partial(rest),
    })
}

/// Whom a ClientHello asks for.
enum Asked {
    Nobody,
    Name(String),
    Odd,
}

/// The server name of a ClientHello (RFC 8446 section 4.1.2); `None` when it is malformed.
fn server_name(message: &[u8]) -> Option<Asked> {
    let mut hello = Reader(message);
    hello.take(2 + 32)?; // legacy_version, random
    let session_id = hello.vector8()?;
    let cipher_suites = hello.vector16()?;
    let compression_methods = hello.vector8()?;
    if session_id.len() > 32
        || cipher_suites.is_empty()
        || !cipher_suites.len().is_multiple_of(2)
        || compression_methods.is_empty()
    {
        return None;
    }
    if hello.0.is_empty() {
        // TLS 1.2 clients may leave the extensions out altogether.
        return Some(Asked::Nobody);
    }
    let mut extensions = Reader(hello.vector16()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if kind == SERVER_NAME && found.replace(host_name(data)?).is_some() {
            // "There MUST NOT be more than one extension of the same type" (RFC 8446 section 4.2).
            return None;
        }
    }
    Some(found.unwrap_or(Asked::Nobody))
}

const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The name in a `server_name` extension (RFC 6066 section 3). IP addresses are no server names, but old clients send
/// them; they count as none. So does a final dot, which has no place there. `None` when the extension is malformed.
fn host_name(data: &[u8]) -> Option<Asked> {
    let mut extension = Reader(data);
    let mut list = Reader(extension.vector16()?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    // One name, as only one of each type may stand there and there is one type.
    if kind != HOST_NAME || name.is_empty() || !list.0.is_empty() || !extension.0.is_empty() {
        return None;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    Some(match ServerName::try_from(name) {
        Ok(ServerName::DnsName(known)) if !name.ends_with(b".") => {
            Asked::Name(known.as_ref().to_ascii_lowercase())
        }
        Ok(ServerName::IpAddress(_)) => Asked::Nobody,
        _ => Asked::Odd,
    })
}

/// Reads TLS's presentation language (RFC 8446 section 3). `None` when the bytes end early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests;
