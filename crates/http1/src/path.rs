//! What is the one form of a path that is routed, authorised and forwarded?
//!
//! Escapes of unreserved characters are decoded, other escapes get upper-case digits, `//` becomes `/`, dot segments
//! are removed (RFC 3986 section 6.2.2). What servers disagree about is refused: `%00`, `\`, invalid escapes, paths
//! that climb above the root, dot segments with parameters (`..;x`), and, unless the listener keeps them, `%2f` and `%5c`.

use std::fmt;

/// What a quick look at a path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathClass {
    /// It is in its normal form: nothing to do, nothing to copy.
    Plain,
    /// It has something that [`normalise_path`] must look at.
    Special,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    InvalidEscape,
    /// `%2f` or `%5c`.
    EscapedSlash,
    /// `%00`.
    EscapedNul,
    /// `\`, which some servers read as `/`.
    Backslash,
    /// `..` above the root.
    AboveRoot,
    /// A dot segment with a parameter, such as `..;x`.
    DotSegmentParameter,
}

impl PathError {
    /// The name in answers, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEscape => "invalid_escape_in_path",
            Self::EscapedSlash => "escaped_slash_in_path",
            Self::EscapedNul => "escaped_nul_in_path",
            Self::Backslash => "backslash_in_path",
            Self::AboveRoot => "path_above_root",
            Self::DotSegmentParameter => "dot_segment_parameter_in_path",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PathError {}

/// Looks at a path that starts with `/`.
#[inline]
pub fn classify_path(path: &[u8]) -> PathClass {
    let mut after_slash = false;
    for b in path {
        match b {
            b'%' | b'\\' => return PathClass::Special,
            b'/' | b'.' | b';' if after_slash => return PathClass::Special,
            _ => {}
        }
        after_slash = *b == b'/';
    }
    PathClass::Plain
}

/// Writes the normal form of a path that starts with `/` to `out`, which is cleared first.
///
/// # Errors
/// What servers would disagree about; see [`PathError`].
pub fn normalise_path(path: &[u8], keep_escaped_slashes: bool, out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let mut segments = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = out.len();
        out.push(b'/');
        decode(segment, keep_escaped_slashes, out)?;
        let decoded = out.get(start + 1..).unwrap_or_default();
        match decoded {
            b"" if !last => out.truncate(start),
            b"." if last => out.truncate(start + 1),
            b"." => out.truncate(start),
            b".." => {
                if start == 0 {
                    return Err(PathError::AboveRoot);
                }
                let parent = out.get(..start).and_then(|kept| kept.iter().rposition(|b| *b == b'/')).unwrap_or(0);
                out.truncate(if last { parent + 1 } else { parent });
            }
            _ if matches!(decoded.split(|b| *b == b';').next(), Some(b"." | b"..")) => {
                return Err(PathError::DotSegmentParameter);
            }
            _ => {}
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(())
}

fn decode(segment: &[u8], keep_escaped_slashes: bool, out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut bytes = segment.iter();
    while let Some(&b) = bytes.next() {
        match b {
            b'\\' => return Err(PathError::Backslash),
            b'%' => {
                let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next())) else {
                    return Err(PathError::InvalidEscape);
                };
                match high << 4 | low {
                    0 => return Err(PathError::EscapedNul),
                    b'/' | b'\\' if !keep_escaped_slashes => return Err(PathError::EscapedSlash),
                    byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => out.push(byte),
                    byte => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
                }
            }
            b => out.push(b),
        }
    }
    Ok(())
}

fn hex(b: Option<&u8>) -> Option<u8> {
    match b? {
        b @ b'0'..=b'9' => Some(b - b'0'),
        b @ b'a'..=b'f' => Some(b - b'a' + 10),
        b @ b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + value - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Result<String, PathError> {
        let mut out = Vec::new();
        normalise_path(path.as_bytes(), false, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// attacks.md 22.
    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/", "/a/"),
            ("/a//", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61%7e", "/a~"),
            ("/%3a%c3", "/%3A%C3"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/...", "/..."),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        }
        for (path, error) in [
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/a%2fb", PathError::EscapedSlash),
            ("/a%5Cb", PathError::EscapedSlash),
            ("/a%00", PathError::EscapedNul),
            ("/a\\b", PathError::Backslash),
            ("/a%2", PathError::InvalidEscape),
            ("/a%zz", PathError::InvalidEscape),
            ("/a/..;x/b", PathError::DotSegmentParameter),
            ("/a/%2e%2e;/b", PathError::DotSegmentParameter),
        ] {
            assert_eq!(normal(path), Err(error), "{path}");
        }
        let mut out = Vec::new();
        assert_eq!(normalise_path(b"/a%2fb", true, &mut out), Ok(()));
        assert_eq!(out, b"/a%2Fb");
        assert_eq!(normalise_path(b"/a%00", true, &mut out), Err(PathError::EscapedNul));
    }

    proptest! {
        /// What is normal stays as it is, and plain paths are normal.
        #[test]
        fn the_normal_form_is_stable(path in "/[a-zA-Z0-9/.%;~\\\\-]{0,24}", keep in any::<bool>()) {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            if normalise_path(path.as_bytes(), keep, &mut once).is_ok() {
                prop_assert_eq!(normalise_path(&once, keep, &mut twice), Ok(()));
                prop_assert_eq!(&once, &twice);
                if classify_path(path.as_bytes()) == PathClass::Plain {
                    prop_assert_eq!(once, path.into_bytes());
                }
            } else {
                prop_assert_eq!(classify_path(path.as_bytes()), PathClass::Special);
            }
        }

        #[test]
        fn no_input_panics(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = normalise_path(&path, true, &mut Vec::new());
            let _ = classify_path(&path);
        }
    }
}
