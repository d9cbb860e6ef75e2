//! What does this workload show of itself, and for how long?

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::bundle::to_pem;
use crate::verify::MAX_CHAIN;
use crate::{Peer, Rejection, WorkloadKey};

/// A SPIFFE verifiable identity document: a certificate chain and its key. It serves until its end, also when a newer one
/// could not be had.
#[derive(Clone)]
pub struct Svid {
    own: Peer,
    obtained: SystemTime,
    certified: Arc<CertifiedKey>,
}

/// Why a chain and a key are no SVID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// There is no certificate.
    #[error("the chain holds no certificate")]
    Empty,
    /// More certificates than anybody looks at.
    #[error("the chain holds more than {MAX_CHAIN} certificates")]
    TooLong,
    /// The first certificate is no workload's.
    #[error("the certificate is no workload's: {}", .0.as_str())]
    NotAWorkload(Rejection),
    /// The key is another certificate's.
    #[error("the key is not the certificate's")]
    OtherKey,
}

impl Svid {
    /// The chain in PEM.
    pub fn chain_pem(&self) -> String {
        self.chain().iter().map(to_pem).collect()
    }

    /// A chain, the workload's certificate first, and its key, obtained at this time.
    ///
    /// # Errors
    /// They are no SVID. Whether anybody believes it is for others to say.
    pub fn new(
        key: &WorkloadKey,
        chain: Vec<CertificateDer<'static>>,
        obtained: SystemTime,
    ) -> Result<Self, SvidError> {
        if chain.len() > MAX_CHAIN {
            return Err(SvidError::TooLong);
        }
        let own = Peer::of(chain.first().ok_or(SvidError::Empty)?).map_err(SvidError::NotAWorkload)?;
        let certified = CertifiedKey::new(chain, Arc::new(key.clone()));
        certified.keys_match().map_err(|_| SvidError::OtherKey)?;
        Ok(Self {
            own,
            obtained,
            certified: Arc::new(certified),
        })
    }

    /// Identity, serial number and dates.
    pub fn own(&self) -> &Peer {
        &self.own
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// When it was obtained.
    pub fn obtained(&self) -> SystemTime {
        self.obtained
    }

    /// How long it still serves; nothing when it has ended.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.own.not_after.duration_since(now).unwrap_or_default()
    }

    /// The share of its life that is left, from when it was obtained: 1 to 0.
    pub fn share_left(&self, now: SystemTime) -> f64 {
        let life = self.remaining(self.obtained).as_secs_f64();
        if life <= 0.0 {
            return 0.0;
        }
        (self.remaining(now).as_secs_f64() / life).clamp(0.0, 1.0)
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Svid({}, {})", self.own.id, self.own.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ID, TestAuthority, at};

    #[test]
    fn a_chain_with_its_key() {
        let (authority, key) = (TestAuthority::new("a"), WorkloadKey::generate().unwrap());
        let leaf = authority.leaf_for(&key, ID, at(0), at(100));
        let svid = Svid::new(&key, vec![leaf.clone()], at(20)).unwrap();
        assert_eq!(svid.own().id.as_str(), ID);
        assert_eq!(svid.remaining(at(40)), Duration::from_secs(60));
        assert_eq!(svid.share_left(at(40)), 0.75);
        assert_eq!(svid.share_left(at(0)), 1.0);
        assert_eq!(svid.remaining(at(101)), Duration::ZERO);
        assert_eq!(svid.share_left(at(101)), 0.0);

        let other = WorkloadKey::generate().unwrap();
        let made = |key, chain| Svid::new(key, chain, at(20)).unwrap_err();
        assert_eq!(made(&other, vec![leaf.clone()]), SvidError::OtherKey);
        assert_eq!(made(&key, vec![]), SvidError::Empty);
        assert_eq!(made(&key, vec![leaf; MAX_CHAIN + 1]), SvidError::TooLong);
        assert_eq!(
            made(&key, vec![authority.der()]),
            SvidError::NotAWorkload(Rejection::AuthorityAsWorkload)
        );
    }
}
