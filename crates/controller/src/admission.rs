//! Whose request for a certificate is looked at now?
//!
//! ```text
//!   a good certificate or token ─> the share of its identity ─┐
//!   a claim that is to be judged ─> the strangers' bucket ────┴─> the decision ─> the rate of the authority
//! ```
//!
//! A decision about another control plane's token spends it. So it is made where share and rate have room, and what has
//! come of it is signed, whoever was faster meanwhile: as many as the strangers' bucket lets through.
//!
//! Nobody uses up what is there for others. Who has stolen a certificate renews no more often than its own identity may;
//! who can prove nothing yet has no decision, attestation or look-up made for more than strangers get together, which those
//! with a token of this control plane are not among.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use mesh_identity::authority::RateLimit;
use mesh_model::spiffe::SpiffeId;

/// Identities whose share is not whole at the same time: as many as there are sidecars. What would be one more shares
/// only the authority's rate with all.
const MAX_SHARES: usize = 10_000;

/// How often certificates may be asked for, beside the rate of the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests of one identity a second, in the long run. A tenth of what is signed: nine others are served whatever it
    /// does, and 5,000 copies that renew daily need 0.1.
    pub identity_per_second: u32,
    /// And at once: half of what is signed at once, for a service that starts whole.
    pub identity_burst: u32,
    /// Requests a second of all who have to be judged first. As many as are signed.
    pub stranger_per_second: u32,
    /// And at once.
    pub stranger_burst: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            identity_per_second: 10,
            identity_burst: 500,
            stranger_per_second: 100,
            stranger_burst: 1000,
        }
    }
}

/// What is left of each share.
pub(crate) struct Admission {
    rates: Rates,
    /// Those that are not whole, and some that have become so.
    shares: HashMap<SpiffeId, RateLimit>,
    strangers: RateLimit,
}

impl Admission {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            rates,
            shares: HashMap::new(),
            strangers: RateLimit::new(rates.stranger_per_second, rates.stranger_burst),
        }
    }

    /// Takes one of the requests of an identity that is proven.
    ///
    /// # Errors
    /// It has had its share: how long until there is more.
    pub(crate) fn proven(&mut self, id: &SpiffeId, now: SystemTime) -> Result<(), Duration> {
        if let Some(share) = self.shares.get_mut(id) {
            return share.take(now);
        }
        if self.shares.len() >= MAX_SHARES {
            self.shares.retain(|_, share| !share.is_full(now));
        }
        let mut share = RateLimit::new(self.rates.identity_per_second, self.rates.identity_burst);
        let taken = share.take(now);
        if self.shares.len() < MAX_SHARES {
            self.shares.insert(id.clone(), share);
        }
        taken
    }

    /// Whether an identity has some of its share, of which whoever only claims it takes nothing.
    ///
    /// # Errors
    /// It has had its share: how long until there is more.
    pub(crate) fn has_share(&self, id: &SpiffeId, now: SystemTime) -> Result<(), Duration> {
        self.shares.get(id).map_or(Ok(()), |share| share.check(now))
    }

    /// Takes one of the requests of those who have to be judged first.
    ///
    /// # Errors
    /// There is none left: how long until there is.
    pub(crate) fn stranger(&mut self, now: SystemTime) -> Result<(), Duration> {
        self.strangers.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SpiffeId {
        format!("spiffe://mesh.test/ns/shop/sa/s{number}")
            .parse()
            .unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn one_identity_uses_up_its_own_share_alone() {
        let mut admission = Admission::new(Rates {
            identity_per_second: 1,
            identity_burst: 2,
            stranger_per_second: 1,
            stranger_burst: 1,
        });
        for _ in 0..2 {
            admission.proven(&id(1), at(1)).unwrap();
        }
        assert_eq!(admission.proven(&id(1), at(1)), Err(Duration::from_secs(1)));
        admission.proven(&id(2), at(1)).unwrap();
        admission.stranger(at(1)).unwrap();
        assert!(admission.stranger(at(1)).is_err());
        admission.proven(&id(2), at(1)).unwrap();
        admission.proven(&id(1), at(2)).unwrap();
    }

    #[test]
    fn shares_are_bounded_and_those_that_are_whole_again_make_room() {
        let mut admission = Admission::new(Rates {
            identity_per_second: 1,
            identity_burst: 1,
            ..Rates::default()
        });
        for number in 0..=MAX_SHARES {
            admission.proven(&id(number), at(1)).unwrap();
        }
        assert_eq!(admission.shares.len(), MAX_SHARES);
        admission.proven(&id(MAX_SHARES), at(2)).unwrap();
        assert_eq!(admission.shares.len(), 1);
    }
}
