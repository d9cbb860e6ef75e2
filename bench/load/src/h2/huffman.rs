//! Which bytes does a Huffman string of HPACK stand for? RFC 7541, appendix B.
//!
//! The code is canonical: the lengths alone give every code word, in the order of length and then of value.

/// The length in bits of the code word of each byte.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

/// The longest code word.
const LONGEST: usize = 30;

/// The code words, sorted into lengths.
pub(crate) struct Table {
    /// The first code word of each length.
    first: [u32; LONGEST + 1],
    /// How many code words have each length.
    count: [u32; LONGEST + 1],
    /// Where the bytes of each length begin in `symbols`.
    start: [u32; LONGEST + 1],
    symbols: [u8; 256],
}

impl Table {
    pub(crate) fn new() -> Self {
        let mut table = Self {
            first: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            symbols: [0; 256],
        };
        let (mut code, mut placed) = (0_u32, 0_u32);
        for length in 1..=LONGEST {
            code <<= 1;
            table.first[length] = code;
            table.start[length] = placed;
            for byte in 0..=u8::MAX {
                if usize::from(LENGTHS[usize::from(byte)]) == length {
                    table.symbols[placed as usize] = byte;
                    placed += 1;
                }
            }
            table.count[length] = placed - table.start[length];
            code += table.count[length];
        }
        table
    }

    /// Appends the decoded bytes. Padding is the start of the end-of-string code: ones, fewer than eight.
    pub(crate) fn decode(&self, text: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
        let (mut code, mut length) = (0_u32, 0_usize);
        for byte in text {
            for shift in (0..8).rev() {
                code = code << 1 | u32::from(byte >> shift & 1);
                length += 1;
                if length > LONGEST {
                    return Err("no such Huffman code".to_owned());
                }
                let offset = code.wrapping_sub(self.first[length]);
                if offset < self.count[length] {
                    into.push(self.symbols[(self.start[length] + offset) as usize]);
                    (code, length) = (0, 0);
                }
            }
        }
        if length < 8 && code == (1 << length) - 1 {
            Ok(())
        } else {
            Err("bad Huffman padding".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
        let mut into = Vec::new();
        Table::new().decode(text, &mut into).map(|()| into)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541, appendix C.4.1 and C.6.1.
        let name = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&name).unwrap(), b"www.example.com");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
    }

    #[test]
    fn bad_padding_is_refused() {
        assert!(decode(&[0x00]).is_err(), "zeros after the code of 0");
        assert!(
            decode(&[0xff, 0xff, 0xff, 0xff]).is_err(),
            "the end-of-string code"
        );
    }
}
