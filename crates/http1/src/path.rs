//! What is a path's one normal form?
//!
//! Routes, rules and servers must see the same path, so it is brought into one form once, before any of them: what is
//! routed and authorised is what is forwarded (attacks such as `/public/..%2fadmin`). Most paths are in it already;
//! [`classify_path`] says so in one pass, and nothing is copied.
//!
//! The form (RFC 3986 section 6.2.2): unreserved characters are not escaped, other escapes have upper-case digits, there
//! is no empty segment but a last one, and no `.` or `..`. Bringing a normal path into normal form changes nothing.
//! Refused is what servers are known to read differently: escaped slashes and NUL, backslashes, `..;`, and paths that
//! climb above the root.

use crate::error::rules;
use crate::scan::is_plain_path;

/// Whether a path is in normal form as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathClass {
    /// It is: nothing needs to be done.
    Plain,
    /// Perhaps not: [`normalise_path`] decides.
    Unusual,
}

rules! {
/// Why a path is refused.
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute = "path_not_absolute",
    /// A byte that no path has: control bytes, space, `?`, `#`, non-ASCII (RFC 3986 section 3.3).
    InvalidByte = "path_invalid_byte",
    /// `%` without two hexadecimal digits (RFC 3986 section 2.1).
    InvalidEscape = "path_invalid_escape",
    /// `%2f` or `%5c`: a slash to some servers.
    EscapedSlash = "path_escaped_slash",
    /// `%00`: the end of the path to some servers.
    EscapedNul = "path_escaped_nul",
    /// `\`: a slash to some servers.
    Backslash = "path_backslash",
    /// More `..` than segments before them.
    AboveRoot = "path_above_root",
    /// `..;x` or `.;x`: a dot segment to servers that take parameters off.
    DotParameter = "path_dot_segment_parameter",
}
}

/// Whether a path can be taken as it is: it begins with `/` and has no `%`, `//`, `/.`, `;`, `\` and no byte that a path
/// may not have.
#[inline]
pub fn classify_path(path: &[u8]) -> PathClass {
    if path.first() == Some(&b'/') && is_plain_path(path) {
        PathClass::Plain
    } else {
        PathClass::Unusual
    }
}

/// Writes a path's normal form into `out`, which is cleared first. With `keep_slashes`, `%2f` and `%5c` stay as escapes,
/// for servers that need them; `%00` is refused all the same.
///
/// # Errors
/// The first rule that the path breaks; `out` is then of no use.
pub fn normalise_path(path: &[u8], keep_slashes: bool, out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let rest = path.strip_prefix(b"/").ok_or(PathError::NotAbsolute)?;
    out.push(b'/');
    let mut segments = rest.split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        // `out` always ends with the slash before this segment.
        let start = out.len();
        unescape(segment, keep_slashes, out)?;
        let written = out.get(start..).unwrap_or_default();
        match written {
            b"" => {}
            b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                out.pop();
                let parent = out.iter().rposition(|b| *b == b'/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent + 1);
            }
            _ if is_dot_parameter(written) => return Err(PathError::DotParameter),
            _ if !last => out.push(b'/'),
            _ => {}
        }
    }
    Ok(())
}

/// Appends a segment with its unreserved characters unescaped and its other escapes in upper case.
fn unescape(segment: &[u8], keep_slashes: bool, out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = segment.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex).ok_or(PathError::InvalidEscape)?;
                let low = bytes.next().and_then(hex).ok_or(PathError::InvalidEscape)?;
                match high << 4 | low {
                    0 => return Err(PathError::EscapedNul),
                    b'/' | b'\\' if !keep_slashes => return Err(PathError::EscapedSlash),
                    // RFC 3986 section 2.3.
                    plain if plain.is_ascii_alphanumeric() || matches!(plain, b'-' | b'.' | b'_' | b'~') => {
                        out.push(plain);
                    }
                    _ => out.extend_from_slice(&[b'%', digit(high), digit(low)]),
                }
            }
            b'\\' => return Err(PathError::Backslash),
            b'?' | b'#' => return Err(PathError::InvalidByte),
            _ if byte.is_ascii_graphic() => out.push(byte),
            _ => return Err(PathError::InvalidByte),
        }
    }
    Ok(())
}

/// Whether what is before the first `;`, escaped or not, is a dot segment.
fn is_dot_parameter(segment: &[u8]) -> bool {
    let rest = segment
        .strip_prefix(b"..")
        .or_else(|| segment.strip_prefix(b"."))
        .unwrap_or_default();
    rest.starts_with(b";") || rest.starts_with(b"%3B")
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn digit(value: u8) -> u8 {
    if value < 10 {
        b'0' + value
    } else {
        b'A' + value - 10
    }
}
