//! From when to when is an issuer good, and what does the clock say that judged it?

use std::fmt;
use std::time::SystemTime;

use der::{DateTime, Decode};
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;

use super::AuthorityError;

/// When an issuer is good, with its root, and what the clock says that judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    begins: SystemTime,
    ends: SystemTime,
    now: SystemTime,
}

impl Dates {
    /// Those of an issuer and of its root. Which of several roots is meant is not known.
    pub(super) fn of<'a>(
        begins: SystemTime,
        ends: SystemTime,
        mut roots: impl Iterator<Item = &'a CertificateDer<'static>>,
        now: SystemTime,
    ) -> Self {
        let (root, other) = (roots.next(), roots.next());
        let root = root.filter(|_| other.is_none()).map(validity);
        let (begins, ends) = match root {
            Some(Ok((from, to))) => (begins.max(from), ends.min(to)),
            _ => (begins, ends),
        };
        Self { begins, ends, now }
    }
}

impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [begins, ends, now] = [self.begins, self.ends, self.now].map(Date);
        write!(
            f,
            "it and its root are good from {begins} to {ends}, and this machine's clock says {now}: \
             set the clock, or give another issuer"
        )
    }
}

/// As certificates have it, `2027-03-06T22:38:00Z`.
struct Date(SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_system_time(self.0) {
            Ok(date) => date.fmt(f),
            Err(_) => f.write_str("a time that no certificate can hold"),
        }
    }
}

/// From when to when a certificate is good.
///
/// # Errors
/// It is none.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let read = Certificate::from_der(certificate).map_err(|_| AuthorityError::Chain)?;
    let validity = read.tbs_certificate().validity();
    Ok((
        validity.not_before.to_system_time(),
        validity.not_after.to_system_time(),
    ))
}
