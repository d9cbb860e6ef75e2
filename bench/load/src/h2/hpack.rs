//! Which header fields does a block of HPACK hold (RFC 7541)? And how is a block written that costs least to repeat?

use std::collections::VecDeque;

use super::huffman::Table;

/// The size of the dynamic table that both ends keep: the protocol's default.
pub(crate) const TABLE_SIZE: usize = 4096;

/// RFC 7541, appendix A, from index 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A name and a value.
type Field = (Box<[u8]>, Box<[u8]>);

/// One direction's decoder.
pub(crate) struct Decoder {
    dynamic: VecDeque<Field>,
    size: usize,
    limit: usize,
    huffman: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            dynamic: VecDeque::new(),
            size: 0,
            limit: TABLE_SIZE,
            huffman: Table::new(),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Calls `field` with each name and value of a block.
    pub(crate) fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), String> {
        let mut reader = Reader { bytes: block };
        while let Some(first) = reader.peek() {
            if first & 0x80 != 0 {
                let index = reader.integer(7)?;
                let (name, value) = self.entry(index)?;
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                self.limit = reader.integer(5)?;
                if self.limit > TABLE_SIZE {
                    return Err("table size above the announced one".to_owned());
                }
                self.evict();
            } else {
                let insert = first & 0xc0 == 0x40;
                let index = reader.integer(if insert { 6 } else { 4 })?;
                self.name.clear();
                self.value.clear();
                if index == 0 {
                    reader.string(&self.huffman, &mut self.name)?;
                } else {
                    let mut name = std::mem::take(&mut self.name);
                    name.extend_from_slice(self.entry(index)?.0);
                    self.name = name;
                }
                reader.string(&self.huffman, &mut self.value)?;
                field(&self.name, &self.value);
                if insert {
                    self.size += self.name.len() + self.value.len() + 32;
                    self.dynamic
                        .push_front((self.name.as_slice().into(), self.value.as_slice().into()));
                    self.evict();
                }
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), String> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        index
            .checked_sub(STATIC.len() + 1)
            .and_then(|index| self.dynamic.get(index))
            .map(|(name, value)| (&**name, &**value))
            .ok_or_else(|| format!("no header table entry {index}"))
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some((name, value)) = self.dynamic.pop_back() else {
                break;
            };
            self.size -= name.len() + value.len() + 32;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.bytes.split_first().ok_or("header block ends early")?;
        self.bytes = rest;
        Ok(*first)
    }

    /// RFC 7541, section 5.1.
    fn integer(&mut self, prefix: u32) -> Result<usize, String> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("header integer too long".to_owned())
    }

    fn string(&mut self, huffman: &Table, into: &mut Vec<u8>) -> Result<(), String> {
        let coded = self.peek().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest): (&'a [u8], _) = self
            .bytes
            .split_at_checked(length)
            .ok_or("header string ends early")?;
        self.bytes = rest;
        if coded {
            return huffman.decode(text, into);
        }
        into.extend_from_slice(text);
        Ok(())
    }
}

/// How a field is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Into the peer's dynamic table, so that it can be named by its index later.
    Insert,
    Nothing,
}

/// Appends a field without Huffman coding.
pub(crate) fn write_field(block: &mut Vec<u8>, name: &str, value: &str, store: Store) {
    if let Some(index) = STATIC.iter().position(|known| *known == (name, value)) {
        write_index(block, index + 1);
        return;
    }
    let (prefix, bits) = match store {
        Store::Insert => (0x40, 6),
        Store::Nothing => (0x00, 4),
    };
    match STATIC.iter().position(|(known, _)| *known == name) {
        Some(index) => write_integer(block, index + 1, prefix, bits),
        None => {
            block.push(prefix);
            write_integer(block, name.len(), 0, 7);
            block.extend_from_slice(name.as_bytes());
        }
    }
    write_integer(block, value.len(), 0, 7);
    block.extend_from_slice(value.as_bytes());
}

/// Appends a field that is in a table.
pub(crate) fn write_index(block: &mut Vec<u8>, index: usize) {
    write_integer(block, index, 0x80, 7);
}

/// A request's block for the first time on a connection, and for every time after it, when its own fields sit in the
/// peer's table.
pub(crate) fn request_blocks(fields: &[(&str, &str)], store: Store) -> (Vec<u8>, Vec<u8>) {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    let is_static = |field: &(&str, &str)| STATIC.contains(field);
    let mut newer = fields.iter().filter(|field| !is_static(field)).count();
    for field in fields {
        write_field(&mut first, field.0, field.1, store);
        if is_static(field) || store == Store::Nothing {
            write_field(&mut later, field.0, field.1, store);
        } else {
            newer -= 1;
            write_index(&mut later, STATIC.len() + 1 + newer);
        }
    }
    (first, later)
}

fn write_integer(block: &mut Vec<u8>, value: usize, prefix: u8, bits: u32) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        block.push(prefix | value as u8);
        return;
    }
    block.push(prefix | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder
            .decode(block, |name, value| all.push((text(name), text(value))))
            .unwrap();
        all
    }

    #[test]
    fn the_request_examples_of_the_rfc_share_one_table() {
        // RFC 7541, appendix C.4: Huffman coded, three requests on one connection.
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(
            fields(&mut decoder, first)[3],
            (":authority".into(), "www.example.com".into())
        );
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let second = fields(&mut decoder, second);
        assert_eq!(second[3], (":authority".into(), "www.example.com".into()));
        assert_eq!(second[4], ("cache-control".into(), "no-cache".into()));
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        assert_eq!(
            fields(&mut decoder, third)[4],
            ("custom-key".into(), "custom-value".into())
        );
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn a_repeated_request_means_the_same_fields_as_the_first() {
        let list = [
            (":method", "GET"),
            (":path", "/b/100"),
            ("te", "trailers"),
            (":authority", "bench.test"),
        ];
        for store in [Store::Insert, Store::Nothing] {
            let (first, later) = request_blocks(&list, store);
            let mut decoder = Decoder::new();
            let seen = fields(&mut decoder, &first);
            assert_eq!(seen.len(), list.len());
            assert_eq!(fields(&mut decoder, &later), seen);
            assert_eq!(fields(&mut decoder, &later), seen);
        }
    }

    #[test]
    fn integers_of_several_bytes_and_bad_blocks() {
        let mut block = Vec::new();
        write_integer(&mut block, 1337, 0, 5);
        assert_eq!(block, [31, 154, 10]);
        assert_eq!(Reader { bytes: &block }.integer(5), Ok(1337));
        assert!(
            Decoder::new().decode(&[0xff, 0x00], |_, _| {}).is_err(),
            "an entry that is not there"
        );
        assert!(
            Decoder::new().decode(&[0x41, 0x05, b'a'], |_, _| {}).is_err(),
            "a string cut short"
        );
    }
}
