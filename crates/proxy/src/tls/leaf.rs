//! What is known of a certificate that is shown, and when does somebody have to see to it?

use rustls::pki_types::CertificateDer;

use super::der::{self, Validity};
use crate::telemetry::access_log::line::write_time;

/// A certificate is reported to end when less than this share of its life is left: time enough for whoever renews it,
/// whether it lives for a day or for a year.
const LAST_SHARE: f64 = 0.2;

/// A certificate, the first of its chain.
pub(super) struct Leaf {
    /// Its file, as it stands in messages.
    pub(super) shown: String,
    pub(super) validity: Validity,
    pub(super) has_names: bool,
}

impl Leaf {
    /// `None` when it is no X.509 certificate.
    pub(super) fn new(shown: String, certificate: &CertificateDer<'_>, names: &[String]) -> Option<Self> {
        Some(Self {
            shown,
            validity: der::validity(certificate)?,
            has_names: !names.is_empty(),
        })
    }

    /// What is wrong with its dates at this second. The wording stays as long as the matter does.
    pub(super) fn warning(&self, now: i64) -> Option<String> {
        let Validity {
            not_before,
            not_after,
        } = self.validity;
        let life = not_after.saturating_sub(not_before) as f64;
        let left = not_after.saturating_sub(now) as f64;
        let shown = &self.shown;
        if not_after < now {
            Some(format!("the certificate in {shown} has expired"))
        } else if not_before > now {
            Some(format!("the certificate in {shown} is not valid yet"))
        } else if left < life * LAST_SHARE {
            Some(format!("the certificate in {shown} ends at {}", date(not_after)))
        } else {
            None
        }
    }
}

fn date(seconds: i64) -> String {
    let mut text = Vec::new();
    write_time(
        u64::try_from(seconds).unwrap_or(0).saturating_mul(1000),
        &mut text,
    );
    String::from_utf8_lossy(&text).into_owned()
}
