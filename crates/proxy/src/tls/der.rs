//! When does a certificate begin and end to be valid?
//!
//! Just enough DER to find `validity` in a certificate (RFC 5280 section 4.1): rustls checks a peer's dates, but tells
//! nobody one's own.

use rustls::pki_types::CertificateDer;

/// A certificate's first and last second, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`, the version.
const VERSION: u8 = 0xa0;

/// The dates of a certificate, or `None` when it is not one.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let mut outer = Der(certificate);
    let mut certificate = Der(outer.expect(SEQUENCE)?);
    let mut tbs = Der(certificate.expect(SEQUENCE)?);
    if tbs.0.first() == Some(&VERSION) {
        tbs.expect(VERSION)?;
    }
    tbs.expect(INTEGER)?; // serialNumber
    tbs.expect(SEQUENCE)?; // signature
    tbs.expect(SEQUENCE)?; // issuer
    let mut validity = Der(tbs.expect(SEQUENCE)?);
    Some(Validity {
        not_before: validity.time()?,
        not_after: validity.time()?,
    })
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and content (X.690 section 8.1).
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Certificates are far shorter than the 64 KiB that two bytes of length can say.
            0x81 => rest.split_first().map(|(len, rest)| (usize::from(*len), rest))?,
            0x82 => rest
                .split_first_chunk()
                .map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }

    /// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = digits(text, 2)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => digits(text, 4)?,
            _ => return None,
        };
        let (month, rest) = digits(rest, 2)?;
        let (day, rest) = digits(rest, 2)?;
        let (hour, rest) = digits(rest, 2)?;
        let (minute, rest) = digits(rest, 2)?;
        let (second, rest) = digits(rest, 2)?;
        if rest != b"Z" || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }
}

fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(count)?;
    let number = std::str::from_utf8(number)
        .ok()
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
    Some((number.parse().ok()?, rest))
}

/// Days of the Gregorian calendar, counted from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let days = (153 * months + 2) / 5 + day - 1;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    years * 365 + years / 4 - years / 100 + years / 400 + days - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let cases = [
            ((1970, 1, 1), 0),
            ((1970, 3, 1), 59),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2049, 12, 31), 29_219),
        ];
        for ((year, month, day), days) in cases {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn both_forms_of_time() {
        let utc = [&[UTC_TIME, 13][..], b"491231235959Z"].concat();
        assert_eq!(Der(&utc).time(), Some(29_219 * 86_400 + 86_399));
        let old = [&[UTC_TIME, 13][..], b"700101000001Z"].concat();
        assert_eq!(Der(&old).time(), Some(1));
        let general = [&[GENERALIZED_TIME, 15][..], b"20500101000000Z"].concat();
        assert_eq!(Der(&general).time(), Some(29_220 * 86_400));
        assert_eq!(Der(&general[..16]).time(), None, "cut short");
        let no_month = [&[UTC_TIME, 13][..], b"491331235959Z"].concat();
        assert_eq!(Der(&no_month).time(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_dates_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&CertificateDer::from(bytes));
        }
    }
}
