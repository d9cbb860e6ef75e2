//! Which certificate is it? Its serial number, as an operator reads and writes it.

use std::fmt;
use std::str::FromStr;

/// The most bytes that a serial number has: 20 (RFC 5280 section 4.1.2.2), and one that some authorities add for its sign.
const MAX_BYTES: usize = 21;

/// A certificate's serial number. It is written in hexadecimal, in pairs of digits, as `openssl x509 -serial` does but in
/// lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// From the big-endian bytes of the number.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let (_, bytes) = bytes.split_at_checked(first)?;
        (bytes.len() <= MAX_BYTES).then(|| Self(bytes.into()))
    }

    /// The big-endian bytes without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A text that is no serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 2 to 42 hexadecimal digits in pairs, which may be parted by colons")]
pub struct NotASerial;

impl FromStr for Serial {
    type Err = NotASerial;

    fn from_str(text: &str) -> Result<Self, NotASerial> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| *byte != b':')
            .take(2 * MAX_BYTES + 1)
            .collect();
        let pairs = digits.chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes = pairs.collect::<Option<Vec<u8>>>().ok_or(NotASerial)?;
        if bytes.is_empty() {
            return Err(NotASerial);
        }
        Self::new(&bytes).ok_or(NotASerial)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn openssl_writes_it_in_two_ways() {
        let serial: Serial = "0AF3".parse().unwrap();
        assert_eq!(serial, "00:0a:f3".parse().unwrap());
        assert_eq!(serial.to_string(), "0af3");
        for bad in ["", "a", "0g", "0a0", " 0a", "+1"] {
            assert_eq!(bad.parse::<Serial>(), Err(NotASerial), "{bad:?}");
        }
        assert!("ab".repeat(21).parse::<Serial>().is_ok());
        assert!("ab".repeat(22).parse::<Serial>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..=21)) {
            let serial = Serial::new(&bytes).unwrap();
            prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        }

        #[test]
        fn any_text_is_one_or_none(text in ".{0,60}") {
            let _ = text.parse::<Serial>();
        }
    }
}
