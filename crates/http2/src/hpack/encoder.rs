//! How is a block of fields written?
//!
//! What was sent before goes as its number in the table, which for most fields of most messages is one byte. What is
//! new goes as it is, unpacked, and enters the table unless it would never come again. Two small maps of hashes say
//! where in the table a field, or a name, may be; a collision costs bytes, never time.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use mesh_http1::Known;

use super::TABLE_BYTES;
use super::table::{OVERHEAD, STATIC, Table};

/// Places in each map. A table of 4 KiB has at most 128 entries, and seldom more than half.
const PLACES: usize = 128;
/// Larger fields do not enter the table: they would drive out too much.
const MOST: usize = TABLE_BYTES / 4;

/// The sending side of one direction.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// The table's size that the peer must be told, the smallest since the last block first.
    resized: Option<(usize, usize)>,
    /// Numbers of entries by the hash of name and value; by that of the name.
    maps: Option<Box<Maps>>,
    /// The same everywhere: whoever finds names that collide gains nothing.
    hashing: FixedState,
}

#[derive(Debug)]
struct Maps {
    fields: [u32; PLACES],
    names: [u32; PLACES],
}

/// Whether a field is worth an entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// It may come again.
    Again,
    /// It will not.
    Once,
    /// It must not, here or further on (RFC 7541 section 6.2.3).
    Never,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self {
            table: Table::new(TABLE_BYTES),
            resized: None,
            maps: None,
            hashing: FixedState::default(),
        }
    }

    /// The peer keeps a table of at most `most` bytes.
    pub fn resize(&mut self, most: usize) {
        let most = most.min(TABLE_BYTES);
        if most == self.table.most() && self.resized.is_none() {
            return;
        }
        let least = self.resized.map_or(most, |(least, _)| least.min(most));
        self.resized = Some((least, most));
        self.table.resize(most);
    }

    /// Begins a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, most)) = self.resized.take() {
            // RFC 7541 section 4.2.
            if least < most {
                integer(out, 0x20, 5, least);
            }
            integer(out, 0x20, 5, most);
        }
    }

    /// Writes `:status`.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|d| b'0' + d as u8);
                return self.named(out, 8, b":status", &digits, Indexing::Again);
            }
        };
        out.push(0x80 | index);
    }

    /// Writes `:method`.
    pub fn method(&mut self, out: &mut Vec<u8>, method: &[u8]) {
        match method {
            b"GET" => out.push(0x82),
            b"POST" => out.push(0x83),
            _ => self.named(out, 2, b":method", method, Indexing::Again),
        }
    }

    /// Writes `:scheme`.
    pub fn scheme(&mut self, out: &mut Vec<u8>, scheme: &[u8]) {
        match scheme {
            b"http" => out.push(0x86),
            b"https" => out.push(0x87),
            _ => self.named(out, 6, b":scheme", scheme, Indexing::Again),
        }
    }

    /// Writes `:path`, which seldom comes again unless it has no parts that vary.
    pub fn path(&mut self, out: &mut Vec<u8>, path: &[u8], indexing: Indexing) {
        match path {
            b"/" => out.push(0x84),
            _ => self.named(out, 4, b":path", path, indexing),
        }
    }

    /// Writes `:authority`.
    pub fn authority(&mut self, out: &mut Vec<u8>, authority: &[u8]) {
        self.named(out, 1, b":authority", authority, Indexing::Again);
    }

    /// Writes a field. The name is lower case.
    pub fn field(&mut self, out: &mut Vec<u8>, known: Known, name: &[u8], value: &[u8], never: bool) {
        let indexing = if never {
            Indexing::Never
        } else {
            indexing(known, name)
        };
        self.named(out, static_name(name), name, value, indexing);
    }

    fn named(&mut self, out: &mut Vec<u8>, index: usize, name: &[u8], value: &[u8], indexing: Indexing) {
        if indexing == Indexing::Never {
            return literal(out, 0x10, 4, self.name(index, name), name, value);
        }
        if indexing == Indexing::Once || name.len() + value.len() + OVERHEAD > MOST.min(self.table.most()) {
            return literal(out, 0, 4, self.name(index, name), name, value);
        }
        let (of_name, of_field) = self.hashes(name, value);
        if let Some(maps) = &self.maps
            && let Some((at, entry)) = number(&maps.fields, of_field).and_then(|n| self.table.numbered(n))
            && entry.note == of_field
            && entry.name() == name
            && entry.value() == value
        {
            return integer(out, 0x80, 7, at + 1 + STATIC.len());
        }
        literal(out, 0x40, 6, self.name(index, name), name, value);
        let n = self.table.add(name, value, of_field);
        let maps = self.maps.get_or_insert_with(|| {
            Box::new(Maps {
                fields: [0; PLACES],
                names: [0; PLACES],
            })
        });
        // Numbers above 2^32 are no longer told apart from old ones: their place is then found wrong, and left alone.
        let n = u32::try_from(n).unwrap_or(0);
        for (map, hash) in [(&mut maps.fields, of_field), (&mut maps.names, of_name)] {
            if let Some(place) = map.get_mut(hash as usize % PLACES) {
                *place = n;
            }
        }
    }

    /// The index of a name; 0 when it has none.
    fn name(&self, index: usize, name: &[u8]) -> usize {
        if index > 0 {
            return index;
        }
        let Some(maps) = &self.maps else { return 0 };
        number(&maps.names, self.hash(name).finish())
            .and_then(|n| self.table.numbered(n))
            .filter(|(_, entry)| entry.name() == name)
            .map_or(0, |(at, _)| at + 1 + STATIC.len())
    }

    fn hash(&self, name: &[u8]) -> impl Hasher + use<> {
        let mut hasher = self.hashing.build_hasher();
        hasher.write(name);
        hasher
    }

    fn hashes(&self, name: &[u8], value: &[u8]) -> (u64, u64) {
        let mut hasher = self.hash(name);
        let of_name = hasher.finish();
        hasher.write(value);
        // 0 is no hash of an entry.
        (of_name, hasher.finish() | 1 << 63)
    }
}

fn number(map: &[u32; PLACES], hash: u64) -> Option<u64> {
    let n = map.get(hash as usize % PLACES).copied()?;
    (n > 0).then_some(u64::from(n))
}

/// Whether a field's values come again. Those that differ with every message would only drive out others.
fn indexing(known: Known, name: &[u8]) -> Indexing {
    match known {
        Known::XRequestId | Known::ContentLength | Known::GrpcTimeout | Known::SecWebSocketKey => {
            Indexing::Once
        }
        Known::Other => match name {
            b"traceparent" | b"tracestate" | b"age" | b"etag" | b"if-modified-since" | b"if-none-match"
            | b"location" | b"set-cookie" | b"range" | b"content-range" | b"last-modified" | b"expires" => {
                Indexing::Once
            }
            name if name.starts_with(b"x-b3-") => Indexing::Once,
            _ => Indexing::Again,
        },
        _ => Indexing::Again,
    }
}

/// The static table's number for a name; 0 when it is not in there.
fn static_name(name: &[u8]) -> usize {
    // By length first: few names share one.
    let names: &[(usize, &[u8])] = match name.len() {
        3 => &[(21, b"age"), (60, b"via")],
        4 => &[
            (33, b"date"),
            (34, b"etag"),
            (38, b"host"),
            (45, b"link"),
            (59, b"vary"),
            (37, b"from"),
        ],
        5 => &[(22, b"allow"), (50, b"range")],
        6 => &[(19, b"accept"), (32, b"cookie"), (35, b"expect"), (54, b"server")],
        7 => &[(36, b"expires"), (51, b"referer"), (52, b"refresh")],
        8 => &[(46, b"location"), (39, b"if-match"), (42, b"if-range")],
        10 => &[(58, b"user-agent"), (55, b"set-cookie")],
        11 => &[(53, b"retry-after")],
        12 => &[(31, b"content-type"), (47, b"max-forwards")],
        13 => &[
            (24, b"cache-control"),
            (23, b"authorization"),
            (18, b"accept-ranges"),
            (30, b"content-range"),
            (41, b"if-none-match"),
            (44, b"last-modified"),
        ],
        14 => &[(28, b"content-length"), (15, b"accept-charset")],
        15 => &[(16, b"accept-encoding"), (17, b"accept-language")],
        16 => &[
            (26, b"content-encoding"),
            (27, b"content-language"),
            (29, b"content-location"),
            (61, b"www-authenticate"),
        ],
        17 => &[(40, b"if-modified-since"), (57, b"transfer-encoding")],
        18 => &[(48, b"proxy-authenticate")],
        19 => &[
            (25, b"content-disposition"),
            (43, b"if-unmodified-since"),
            (49, b"proxy-authorization"),
        ],
        25 => &[(56, b"strict-transport-security")],
        27 => &[(20, b"access-control-allow-origin")],
        _ => &[],
    };
    names
        .iter()
        .find(|(_, other)| *other == name)
        .map_or(0, |(index, _)| *index)
}

fn literal(out: &mut Vec<u8>, kind: u8, bits: u32, index: usize, name: &[u8], value: &[u8]) {
    integer(out, kind, bits, index);
    if index == 0 {
        integer(out, 0, 7, name.len());
        out.extend_from_slice(name);
    }
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// An integer behind a prefix (RFC 7541 section 5.1).
fn integer(out: &mut Vec<u8>, kind: u8, bits: u32, n: usize) {
    let mask = (1usize << bits) - 1;
    if n < mask {
        return out.push(kind | n as u8);
    }
    out.push(kind | mask as u8);
    let mut rest = n - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
