//! For whom does a proxy in front speak? Read from the header of the PROXY protocol at the front of its connection.
//!
//! Both versions of HAProxy's `proxy-protocol.txt`: a line of text, and a block of bytes. The bytes are looked at and
//! nothing is taken from them; what stands behind the header is the client's. Invariants: the function is total and works
//! on the bytes alone; once an answer other than [`Header::Incomplete`] is given, more bytes do not change it; more bytes
//! than the bound are never waited for.
//!
//! Who may send one is not asked here. A header that is right in all that matters here may say anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What the first bytes of a connection from a proxy say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// More bytes are needed.
    Incomplete,
    /// It is none, or a wrong one.
    Invalid,
    /// It says that it is longer than it may be.
    TooLarge,
    /// A complete one.
    Complete {
        /// Its bytes.
        length: usize,
        /// For whom the sender speaks.
        client: Client,
    },
}

/// For whom a sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// For itself, as health checks do, or for somebody whom it does not name: the connection's own addresses hold.
    Sender,
    /// For a client with this address.
    Ip(SocketAddr),
    /// For one that came by a Unix socket.
    Unix,
}

/// Looks at all bytes that came so far. A header of version 2 may have `most` bytes.
pub fn header(bytes: &[u8], most: usize) -> Header {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    let found = if begins(SIGNATURE) {
        version_2(bytes, most)
    } else if begins(TEXT) {
        version_1(bytes)
    } else {
        None
    };
    found.unwrap_or(Header::Invalid)
}

// Version 1 -------------------------------------------------------------------------------------------------------

/// How a header of version 1 begins (section 2.1).
const TEXT: &[u8] = b"PROXY ";

/// The longest header of version 1, with its end of line (section 2.1).
const MAX_TEXT: usize = 107;

/// `None` when it is wrong.
fn version_1(bytes: &[u8]) -> Option<Header> {
    let line = bytes.get(..MAX_TEXT).unwrap_or(bytes);
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return (line.len() < MAX_TEXT).then_some(Header::Incomplete);
    };
    let mut words = line.get(TEXT.len()..end)?.split(|byte| *byte == b' ');
    let client = match words.next()? {
        b"TCP4" => Client::Ip(text_address::<Ipv4Addr>(&mut words)?),
        b"TCP6" => Client::Ip(text_address::<Ipv6Addr>(&mut words)?),
        // "The receiver must ignore anything presented before the CRLF is found."
        b"UNKNOWN" => Client::Sender,
        _ => return None,
    };
    Some(Header::Complete {
        length: end + 2,
        client,
    })
}

/// The addresses of source and destination and their ports, each behind one space, and nothing else.
fn text_address<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a [u8]>,
) -> Option<SocketAddr> {
    let mut address = || -> Option<A> { std::str::from_utf8(words.next()?).ok()?.parse().ok() };
    let (source, _destination) = (address()?, address()?);
    let (port, _destination) = (port(words.next()?)?, port(words.next()?)?);
    words
        .next()
        .is_none()
        .then(|| SocketAddr::new(source.into(), port))
}

/// A decimal number without a sign and without zeros in front.
fn port(text: &[u8]) -> Option<u16> {
    if !text.iter().all(u8::is_ascii_digit) || (text.len() > 1 && text.starts_with(b"0")) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

// Version 2 -------------------------------------------------------------------------------------------------------

/// How a header of version 2 begins (section 2.2): bytes that no other protocol takes for its own.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length of the rest.
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The type of the checksum over the whole header (section 2.2.3).
const CRC32C: u8 = 0x03;

/// `None` when it is wrong, which is told as soon as the byte is there that makes it so.
fn version_2(bytes: &[u8], most: usize) -> Option<Header> {
    let mut fixed = bytes.iter().skip(SIGNATURE.len()).copied();
    let Some(command) = fixed.next() else {
        return Some(Header::Incomplete);
    };
    if command != LOCAL && command != PROXY {
        return None;
    }
    let Some(family) = fixed.next() else {
        return Some(Header::Incomplete);
    };
    // "Discard the protocol block including the family which is ignored."
    let family = match command {
        LOCAL => Family::Unspecified,
        _ => Family::of(family)?,
    };
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else {
        return Some(Header::Incomplete);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > most {
        return Some(Header::TooLarge);
    }
    if length < FIXED + family.addresses() {
        return None;
    }
    let Some(whole) = bytes.get(..length) else {
        return Some(Header::Incomplete);
    };
    let block = whole.get(FIXED..)?;
    let client = match family {
        // What may stand in the block of such a header is not said: nothing of it is read.
        Family::Unspecified => return Some(Header::complete(length, Client::Sender)),
        Family::V4 => Client::Ip(address::<4>(block)?),
        Family::V6 => Client::Ip(address::<16>(block)?),
        Family::Unix => Client::Unix,
    };
    extras(whole, FIXED + family.addresses())?;
    Some(Header::complete(length, client))
}

impl Header {
    const fn complete(length: usize, client: Client) -> Self {
        Self::Complete { length, client }
    }
}

/// What a client's address is one of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    /// "Receivers must drop connections presenting unexpected values here." Streams and datagrams have the same addresses.
    fn of(byte: u8) -> Option<Self> {
        match byte {
            0x00 => Some(Self::Unspecified),
            0x11 | 0x12 => Some(Self::V4),
            0x21 | 0x22 => Some(Self::V6),
            0x31 | 0x32 => Some(Self::Unix),
            _ => None,
        }
    }

    /// The bytes of source and destination.
    const fn addresses(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::V4 => 2 * (4 + 2),
            Self::V6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }
}

/// The source of addresses with `N` bytes each: both addresses come first, then both ports.
fn address<const N: usize>(block: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (_destination, ports) = rest.split_first_chunk::<N>()?;
    let (port, _destination) = ports.split_first_chunk::<2>()?;
    Some(SocketAddr::new((*source).into(), u16::from_be_bytes(*port)))
}

/// Goes over what stands behind the addresses: pieces of a type, a length and as many bytes, the last of which ends where
/// the header ends. `None` when one leads outside, or when there is a checksum and it is wrong.
fn extras(whole: &[u8], behind_addresses: usize) -> Option<()> {
    let mut at = behind_addresses;
    let mut checksum = None;
    while at < whole.len() {
        let [kind, high, low] = *whole.get(at..)?.first_chunk::<3>()?;
        let start = at + 3;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let value = whole.get(start..end)?;
        if kind == CRC32C {
            let sum = u32::from_be_bytes(value.try_into().ok()?);
            if checksum.replace((sum, start)).is_some() {
                return None;
            }
        }
        at = end;
    }
    let Some((said, start)) = checksum else {
        return Some(());
    };
    // It is of the header with zeros in its own place.
    let (before, after) = (whole.get(..start)?, whole.get(start + 4..)?);
    let sum = [before, &[0; 4], after].into_iter().fold(!0, crc32c);
    (!sum == said).then_some(())
}

/// The remainders of all bytes (RFC 3720 section 12.1, reflected).
const REMAINDERS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = 0x82f6_3b78 * (remainder & 1);
            remainder = (remainder >> 1) ^ carry;
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

/// Goes on with a checksum that began with all ones, and is inverted at its end.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        let [low, ..] = sum.to_le_bytes();
        (sum >> 8) ^ REMAINDERS[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests;
