//! What does this workload show of itself, and for how long?

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::authority::CLOCK_SKEW;
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
    word: Arc<AtomicU8>,
}

/// What the control plane says of a certificate.
mod word {
    /// Nothing against it.
    pub(super) const GOOD: u8 = 0;
    /// It has ended, so that it is not shown.
    pub(super) const ENDED: u8 = 1;
    /// It has ended, and is shown once more, as nothing else proves who this is.
    pub(super) const DOUBTED: u8 = 2;
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
            word: Arc::new(AtomicU8::new(word::GOOD)),
        })
    }

    /// The control plane says that it has ended: one of both clocks is wrong. What else proves who this is is shown instead;
    /// towards workloads it serves on, since a clock of the control plane's must not take a whole mesh down.
    pub fn said_ended(&self) {
        self.word.store(word::ENDED, Ordering::Relaxed);
    }

    /// What was shown instead of one that is said to have ended is believed no more than that. It is shown next time: it may
    /// be the control plane's clock that was wrong.
    pub fn shown_again(&self) {
        let (from, to) = (word::ENDED, word::DOUBTED);
        let _ = self
            .word
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the control plane is shown it, to which whoever shows nothing may show something else.
    pub fn is_shown(&self, now: SystemTime) -> bool {
        self.word.load(Ordering::Relaxed) != word::ENDED && now <= self.ends()
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

    /// When it ends by this machine's clock. Where that is behind, it is what was left of its life when it was obtained, and
    /// not its last second: for all others it has ended by then.
    pub fn ends(&self) -> SystemTime {
        self.obtained + self.life()
    }

    /// From when it was obtained to its end. It was signed for so long at most, whatever this machine's clock says: its
    /// first second is [`CLOCK_SKEW`] before it was signed.
    pub fn life(&self) -> Duration {
        let Peer {
            not_before,
            not_after,
            ..
        } = self.own;
        let since = |begin| not_after.duration_since(begin).unwrap_or_default();
        let whole = since(not_before);
        let signed_for = whole.checked_sub(CLOCK_SKEW).filter(|life| !life.is_zero());
        since(self.obtained).min(signed_for.unwrap_or(whole))
    }

    /// How long it still serves, by this machine's clock; nothing when it has ended.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.ends().duration_since(now).unwrap_or_default()
    }

    /// The share of its life that is left, from when it was obtained: 1 to 0.
    pub fn share_left(&self, now: SystemTime) -> f64 {
        let life = self.life().as_secs_f64();
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

        // Signed for 60 s at 1000, by a clock that is a day ahead of this one.
        let leaf_ahead = authority.leaf_for(&key, ID, at(87_400) - CLOCK_SKEW, at(87_460));
        let behind = Svid::new(&key, vec![leaf_ahead], at(1000)).unwrap();
        assert_eq!(
            (behind.life(), behind.ends()),
            (Duration::from_secs(60), at(1060))
        );
        assert_eq!(behind.share_left(at(1045)), 0.25);
        assert_eq!(behind.remaining(at(1060)), Duration::ZERO);

        let shown = |svid: &Svid| (svid.is_shown(at(1001)), svid.remaining(at(1001)).as_secs());
        behind.shown_again();
        assert_eq!(shown(&behind), (true, 59));
        behind.said_ended();
        assert_eq!(shown(&behind), (false, 59));
        behind.shown_again();
        assert_eq!(shown(&behind), (true, 59));
        behind.said_ended();
        assert_eq!(shown(&behind), (false, 59));

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
