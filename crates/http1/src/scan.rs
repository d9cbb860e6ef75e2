//! Which bytes may stand where, and where do they end?
//!
//! Tables are built at compile time; long runs are looked at eight bytes at a time.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

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
        // RFC 3986 section 3.2.2: unreserved and sub-delims, without the comma, which is a list to some.
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b'+' | b';' | b'='
            )
        {
            table[b] |= HOST;
        }
        b += 1;
    }
    table
};

#[inline]
fn has(byte: u8, class: u8) -> bool {
    CLASS.get(byte as usize).is_some_and(|c| c & class != 0)
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;
const LOW: u64 = ONES * 0x7f;

/// The high bit of each byte that is equal to `byte`. Exact, as all of these: no carry leaves its lane.
#[inline(always)]
fn equal_bits(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * byte as u64);
    !(((other & LOW) + LOW) | other) & HIGH
}

/// The high bit of each byte whose low seven bits are at least `byte`, which is at most 0x80.
#[inline(always)]
fn from_bits(word: u64, byte: u8) -> u64 {
    (word & LOW) + ONES * (0x80 - byte as u64)
}

/// The high bit of each byte that may not stand in a value: below 0x20 but HTAB, and 0x7f (RFC 9110 section 5.5).
#[inline(always)]
fn control_bits(word: u64) -> u64 {
    // A byte from 0x80 up is obs-text: its high bit is set in `word`.
    ((!from_bits(word, 0x20) & !equal_bits(word, b'\t')) | from_bits(word, 0x7f)) & !word & HIGH
}

/// The high bit of each byte that is neither letter nor digit nor `-`, of which most names are made.
#[inline(always)]
fn unusual_in_name_bits(word: u64) -> u64 {
    let folded = word | (ONES * 0x20);
    let letter = from_bits(folded, b'a') & !from_bits(folded, b'z' + 1);
    let digit = from_bits(word, b'0') & !from_bits(word, b'9' + 1);
    (!(letter | digit | equal_bits(word, b'-')) | word) & HIGH
}

/// The high bit of each byte that may not stand in a target.
#[inline(always)]
fn no_target_bits(word: u64) -> u64 {
    (!from_bits(word, 0x21) | from_bits(word, 0x7f) | equal_bits(word, b'#') | word) & HIGH
}

/// The high bit of each byte of a path that needs a second look: one that no path has, `%`, `\`, `;`, and a `/` or `.`
/// behind a slash. `carry` is 0x80 when the byte before the word was a slash.
#[inline(always)]
fn unusual_in_path_bits(word: u64, carry: u64) -> (u64, u64) {
    let slash = equal_bits(word, b'/');
    let odd = no_target_bits(word)
        | equal_bits(word, b'%')
        | equal_bits(word, b'\\')
        | equal_bits(word, b';')
        | equal_bits(word, b'?');
    let pair = (slash << 8 | carry) & (slash | equal_bits(word, b'.'));
    (odd | pair, slash >> 56)
}

/// Whether a path has none of the bytes that [`unusual_in_path_bits`] marks.
#[inline]
pub(crate) fn is_plain_path(path: &[u8]) -> bool {
    let (words, tail) = path.as_chunks::<8>();
    let mut carry = 0;
    for word in words {
        let (unusual, slash) = unusual_in_path_bits(u64::from_le_bytes(*word), carry);
        if unusual != 0 {
            return false;
        }
        carry = slash;
    }
    let mut last = [b'a'; 8];
    last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
    unusual_in_path_bits(u64::from_le_bytes(last), carry).0 == 0
}

/// The offset, at or after `from`, of the first byte that `bits` marks in its word, or `single` when less than a word is
/// left; `None` when the buffer ends first.
#[inline(always)]
fn find(buf: &[u8], from: usize, bits: impl Fn(u64) -> u64, single: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, tail) = buf.get(from..)?.as_chunks::<8>();
    let mut at = from;
    for word in words {
        let marked = bits(u64::from_le_bytes(*word));
        if marked != 0 {
            return Some(at + (marked.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    tail.iter().position(|b| single(*b)).map(|n| at + n)
}

/// The offset, at or after `from`, of the first byte that is no token's; `None` when the buffer ends first.
#[inline]
pub(crate) fn token_end(buf: &[u8], from: usize) -> Option<usize> {
    let end = find(buf, from, unusual_in_name_bits, |b| !has(b, TOKEN))?;
    match buf.get(end) {
        Some(b':' | b' ') => Some(end),
        // Rare characters of tokens, and those that end the line.
        _ => buf
            .get(end..)?
            .iter()
            .position(|b| !has(*b, TOKEN))
            .map(|n| end + n),
    }
}

/// The offset, at or after `from`, of the first byte that is no target's; `None` when the buffer ends first.
#[inline]
pub(crate) fn target_end(buf: &[u8], from: usize) -> Option<usize> {
    find(buf, from, no_target_bits, |b| !has(b, TARGET))
}

/// The offset, at or after `from`, of the first byte that may not stand in a field's value: in a well-formed line its
/// CR. `None` when the buffer ends first.
#[inline]
pub(crate) fn value_end(buf: &[u8], from: usize) -> Option<usize> {
    find(buf, from, control_bits, is_control)
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

/// The bytes at the start that can be a host's name.
#[inline]
pub(crate) fn host_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| !has(*b, HOST)).unwrap_or(bytes.len())
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
    fn words_and_bytes_agree() {
        let no_token = |b| !has(b, TOKEN);
        let no_target = |b| !has(b, TARGET);
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                for around in [b'a', b'Z', b'-', b'0', b'~', b'_', 0x80, 0xff, b'\t', b' '] {
                    let mut word = [around; 8];
                    word[place] = byte;
                    let first =
                        |out: &dyn Fn(u8) -> bool, len: usize| word[..len].iter().position(|b| out(*b));
                    // As a word, and as what is left at the end of a buffer.
                    for len in [8, place + 1] {
                        let bytes = &word[..len];
                        assert_eq!(value_end(bytes, 0), first(&is_control, len), "value {bytes:?}");
                        assert_eq!(token_end(bytes, 0), first(&no_token, len), "token {bytes:?}");
                        assert_eq!(target_end(bytes, 0), first(&no_target, len), "target {bytes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn plain_paths_are_found_at_every_place() {
        for byte in 0..=u8::MAX {
            for place in 0..17 {
                for len in place + 1..20 {
                    let mut path = vec![b'a'; len];
                    path[place] = byte;
                    let plain = byte.is_ascii_graphic() && !b"%\\;?#".contains(&byte);
                    assert_eq!(is_plain_path(&path), plain, "{path:?}");
                    if place > 0 {
                        path[place - 1] = b'/';
                        assert_eq!(
                            is_plain_path(&path),
                            plain && byte != b'/' && byte != b'.',
                            "{path:?}"
                        );
                    }
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
