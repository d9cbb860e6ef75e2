//! Which bytes may stand where, and where do they end?
//!
//! Tables are built at compile time; long runs are looked at eight bytes at a time.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

/// What each byte may be part of.
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        // RFC 9110 section 5.6.2: tchar.
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            table[b] |= TOKEN;
        }
        // What is printed, but no fragment (RFC 9112 section 3.2).
        if byte.is_ascii_graphic() && byte != b'#' {
            table[b] |= TARGET;
        }
        b += 1;
    }
    table
};

#[inline]
fn has(byte: u8, class: u8) -> bool {
    CLASS.get(byte as usize).is_some_and(|c| c & class != 0)
}

/// The offset, at or after `from`, of the first byte that is no token's; `None` when the buffer ends first.
#[inline]
pub(crate) fn token_end(buf: &[u8], from: usize) -> Option<usize> {
    buf.get(from..)?
        .iter()
        .position(|b| !has(*b, TOKEN))
        .map(|n| from + n)
}

/// The offset, at or after `from`, of the first byte that is no target's; `None` when the buffer ends first.
#[inline]
pub(crate) fn target_end(buf: &[u8], from: usize) -> Option<usize> {
    buf.get(from..)?
        .iter()
        .position(|b| !has(*b, TARGET))
        .map(|n| from + n)
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;
const LOW: u64 = ONES * 0x7f;

/// The high bit of each byte that may not stand in a value: below 0x20 but HTAB, and 0x7f (RFC 9110 section 5.5).
/// Exact in every byte: no carry leaves its lane.
#[inline]
fn control_bits(word: u64) -> u64 {
    let low = word & LOW;
    let printable = low + ONES * 0x60;
    let other_than_tab = ((word ^ (ONES * 0x09)) & LOW) + LOW;
    let delete = low + ONES;
    // A byte from 0x80 up is obs-text: its high bit is set in `word`, and it is neither control nor delete.
    ((!printable & other_than_tab) | delete) & !word & HIGH
}

/// The offset, at or after `from`, of the first byte that may not stand in a field's value: in a well-formed line its
/// CR. `None` when the buffer ends first.
#[inline]
pub(crate) fn value_end(buf: &[u8], from: usize) -> Option<usize> {
    let rest = buf.get(from..)?;
    let (words, tail) = rest.as_chunks::<8>();
    let mut at = from;
    for word in words {
        let bits = control_bits(u64::from_le_bytes(*word));
        if bits != 0 {
            return Some(at + (bits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    tail.iter().position(|b| is_control(*b)).map(|n| at + n)
}

#[inline]
fn is_control(byte: u8) -> bool {
    byte < 0x20 && byte != b'\t' || byte == 0x7f
}

/// Whether these bytes are a token (RFC 9110 section 5.6.2): a method, a field's name.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| has(*b, TOKEN))
}

/// Whether these bytes can be a field's value (RFC 9110 section 5.5): no control bytes but HTAB, no whitespace around.
#[inline]
pub fn is_value(bytes: &[u8]) -> bool {
    value_end(bytes, 0).is_none() && trim(bytes).len() == bytes.len()
}

/// Whether these bytes can be a request's target: printable ASCII without `#`, not empty (RFC 9112 section 3.2).
#[inline]
pub fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| has(*b, TARGET))
}

/// Optional whitespace of HTTP: space and tab, nothing else (RFC 9110 section 5.6.3).
#[inline]
pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without the optional whitespace around.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, without the empty ones (RFC 9110 section 5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_agree_about_controls() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                for around in [b'a', 0x80, 0xff, b'\t', b' '] {
                    let mut word = [around; 8];
                    word[place] = byte;
                    let want = is_control(byte).then_some(place);
                    assert_eq!(value_end(&word, 0), want, "{byte:#x} at {place} amid {around:#x}");
                    assert_eq!(value_end(&word[..place + 1], 0), want);
                }
            }
        }
    }

    #[test]
    fn tokens_are_those_of_the_rfc() {
        let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for byte in 0..=u8::MAX {
            assert_eq!(is_token(&[byte]), allowed.contains(&byte), "{byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn lists_skip_what_is_empty() {
        let elements: Vec<&[u8]> = list(b" a ,, b\t,").collect();
        assert_eq!(elements, [b"a", b"b"]);
    }
}
