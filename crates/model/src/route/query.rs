//! What are the values of a query parameter?
//!
//! The query is a list of `name=value`, separated by `&`, percent-encoded, with `+` for a space (the form encoding of
//! the URL standard). An escape that is none stands for itself. Comparing decodes as it goes; only suffixes and
//! regular expressions over values that hold escapes need a decoded copy.

use std::borrow::Cow;

/// A value that may have to be decoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoded<'a> {
    /// As it is.
    Plain(&'a [u8]),
    /// With `%` and `+`.
    Form(&'a [u8]),
}

impl<'a> Encoded<'a> {
    /// Encoded text; plain when nothing in it is encoded.
    fn form(raw: &'a [u8]) -> Self {
        if raw.iter().any(|&b| matches!(b, b'%' | b'+')) {
            Self::Form(raw)
        } else {
            Self::Plain(raw)
        }
    }

    /// The decoded bytes, one by one.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let (mut rest, decode) = match self {
            Self::Plain(raw) => (raw, false),
            Self::Form(raw) => (raw, true),
        };
        std::iter::from_fn(move || {
            let (&first, after) = rest.split_first()?;
            rest = after;
            Some(match first {
                b'+' if decode => b' ',
                b'%' if decode => match escape(after) {
                    Some(byte) => {
                        rest = after.get(2..).unwrap_or_default();
                        byte
                    }
                    None => b'%',
                },
                other => other,
            })
        })
    }

    pub(super) fn starts_with(self, wanted: &[u8]) -> bool {
        let mut bytes = self.bytes();
        wanted.iter().all(|&byte| bytes.next() == Some(byte))
    }

    /// The decoded bytes, copied only when something has to be decoded.
    pub(super) fn decoded(self) -> Cow<'a, [u8]> {
        match self {
            Self::Plain(raw) => Cow::Borrowed(raw),
            Self::Form(_) => Cow::Owned(self.bytes().collect()),
        }
    }
}

/// The byte of two hexadecimal digits.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// The values of a parameter, in the order they stand; `name` alone has an empty value.
pub(super) fn values<'a>(query: &'a [u8], name: &'a str) -> impl Iterator<Item = Encoded<'a>> {
    query
        .split(|&b| b == b'&')
        .filter(|pair| !pair.is_empty())
        .filter_map(move |pair| {
            let (key, value) = match pair.iter().position(|&b| b == b'=') {
                Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
                None => (pair, [].as_slice()),
            };
            Encoded::form(key)
                .bytes()
                .eq(name.bytes())
                .then(|| Encoded::form(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(query: &str, name: &str) -> Vec<String> {
        values(query.as_bytes(), name)
            .map(|value| String::from_utf8_lossy(&value.decoded()).into_owned())
            .collect()
    }

    #[test]
    fn values_are_decoded() {
        assert_eq!(all("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(all("a&a=&=x&&a=1=2", "a"), ["", "", "1=2"]);
        assert_eq!(all("%61=%31+%2B&a%3db=2", "a"), ["1 +"]);
        assert_eq!(all("a%3db=2", "a=b"), ["2"]);
        assert_eq!(all("a=%&a=%4&a=%zz&a=%%31", "a"), ["%", "%4", "%zz", "%1"]);
        assert_eq!(all("", "a"), Vec::<String>::new());
        assert_eq!(all("=x", ""), ["x"]);
    }

    #[test]
    fn prefixes_are_compared_decoded() {
        assert!(Encoded::form(b"%61bc").starts_with(b"ab"));
        assert!(Encoded::form(b"a").starts_with(b""));
        assert!(!Encoded::form(b"a").starts_with(b"ab"));
        assert!(Encoded::Plain(b"%61").starts_with(b"%6"));
    }
}
