//! How are strings unpacked that were packed with the code of RFC 7541 appendix B?
//!
//! The code is canonical: within a length, codes go up with their symbols, and longer ones go on behind shorter ones. So
//! the lengths say all; every table here is made of them at compile time. This proxy unpacks and never packs: what comes
//! again is sent by its number in the table, and for the rest packing costs more than its bytes.

/// Bits of each symbol's code; the last is the end of a string, which must not appear.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
/// Codes up to this length are found at once: all that text is made of.
const FAST: usize = 10;

/// For each length: its first code, moved to the left of 32 bits; and the place in `symbols` of its first symbol.
struct Lengths {
    first: [u32; LONGEST + 2],
    place: [u16; LONGEST + 2],
    symbols: [u16; 257],
}

const CODE: Lengths = {
    let mut code = Lengths {
        first: [0; LONGEST + 2],
        place: [0; LONGEST + 2],
        symbols: [0; 257],
    };
    let (mut next, mut place, mut length) = (0u64, 0u16, 1);
    while length <= LONGEST {
        code.first[length] = (next << (32 - length)) as u32;
        code.place[length] = place;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                code.symbols[place as usize] = symbol as u16;
                place += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    // Above the longest there is nothing: its bound ends every search.
    code.first[LONGEST + 1] = u32::MAX;
    code.place[LONGEST + 1] = place;
    code
};

/// By the next [`FAST`] bits: symbol and length, 0 when the code is longer.
static SHORT: [u16; 1 << FAST] = {
    let mut table = [0; 1 << FAST];
    let (mut length, mut at) = (1, 0);
    while length <= FAST {
        let end = CODE.place[length + 1] as usize;
        let mut code = CODE.first[length] >> (32 - FAST);
        while at < end {
            let entry = CODE.symbols[at] << 4 | length as u16;
            let mut n = 0;
            while n < 1 << (FAST - length) {
                table[code as usize] = entry;
                code += 1;
                n += 1;
            }
            at += 1;
        }
        length += 1;
    }
    table
};

/// The string is no valid one (RFC 7541 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Unpacks a string behind what is in `out`.
pub fn decode(packed: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let (mut bits, mut have) = (0u64, 0u32);
    let mut packed = packed.iter();
    loop {
        while have <= 56 {
            let Some(byte) = packed.next() else { break };
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let entry = SHORT[(bits >> (64 - FAST)) as usize];
        let (symbol, length) = if entry != 0 {
            (entry >> 4, u32::from(entry & 15))
        } else {
            long((bits >> 32) as u32)
        };
        if length > have {
            // What is left is padding: fewer than eight bits, all of them ones.
            let ones = bits >> (64 - have.max(1)) == (1 << have.max(1)) - 1;
            return if have == 0 || (have < 8 && ones) {
                Ok(())
            } else {
                Err(Invalid)
            };
        }
        // The end of the string must not be in it.
        out.push(u8::try_from(symbol).map_err(|_| Invalid)?);
        bits <<= length;
        have -= length;
    }
}

/// A code longer than [`FAST`] bits.
#[cold]
fn long(bits: u32) -> (u16, u32) {
    let mut length = FAST + 1;
    // The codes of this length end where those of the next begin.
    while length < LONGEST && bits >= CODE.first[length + 1] {
        length += 1;
    }
    let place = usize::from(CODE.place[length]) + ((bits - CODE.first[length]) >> (32 - length)) as usize;
    (CODE.symbols.get(place).copied().unwrap_or(256), length as u32)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packs a string, as peers do.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut have) = (Vec::new(), 0u64, 0u32);
        for byte in text {
            let length = u32::from(LENGTHS[usize::from(*byte)]);
            let rank = (0..*byte)
                .filter(|s| LENGTHS[usize::from(*s)] == LENGTHS[usize::from(*byte)])
                .count();
            let code = (CODE.first[length as usize] >> (32 - length)) + rank as u32;
            bits = bits << length | u64::from(code);
            have += length;
            while have >= 8 {
                have -= 8;
                out.push((bits >> have) as u8);
            }
            bits &= (1 << have) - 1;
        }
        if have > 0 {
            out.push(((bits << (8 - have)) | (0xff >> have)) as u8);
        }
        out
    }

    fn decoded(packed: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut out = Vec::new();
        decode(packed, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 sections C.4 and C.6.
        let cases: [(&[u8], &[u8]); 5] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                b"www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], b"custom-key"),
            (&[0x64, 0x02], b"302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], b"private"),
        ];
        for (packed, text) in cases {
            assert_eq!(decoded(packed).as_deref(), Ok(text));
            assert_eq!(encode(text), packed);
        }
    }

    #[test]
    fn padding_and_the_end_of_a_string_are_checked() {
        assert_eq!(decoded(b""), Ok(Vec::new()));
        // Eight bits of padding; padding with a zero; the end of a string.
        for bad in [
            &[0xff][..],
            &[0x00],
            &[0x18],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
        ] {
            assert_eq!(decoded(bad), Err(Invalid), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_packed_unpacks(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn any_bytes_unpack_or_are_refused(packed in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(text) = decoded(&packed) {
                prop_assert_eq!(encode(&text), packed);
            }
        }
    }
}
