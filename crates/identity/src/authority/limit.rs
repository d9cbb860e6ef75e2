//! May one more certificate be signed now?
//!
//! A token bucket, kept as one time: when it will be full again. Signing is the dearest thing that a stranger with a valid
//! token can ask for, and each signature is one more certificate that is believed.

use std::time::{Duration, SystemTime};

use mesh_model::spiffe::SpiffeId;

use super::{Authority, SignError, Signed};
use crate::Csr;

/// A token bucket.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// The time in which one token comes.
    each: Duration,
    /// The time in which an empty bucket fills.
    whole: Duration,
    full_at: SystemTime,
}

impl RateLimit {
    /// So many a second, and so many at once; each at least one. It begins full.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self {
            each,
            whole: each.saturating_mul(burst.max(1)),
            full_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none: how long until there is.
    pub fn take(&mut self, now: SystemTime) -> Result<(), Duration> {
        self.full_at = self.after(now)?;
        Ok(())
    }

    /// Whether there is a token, and takes none.
    ///
    /// # Errors
    /// As [`RateLimit::take`].
    pub fn check(&self, now: SystemTime) -> Result<(), Duration> {
        self.after(now).map(drop)
    }

    /// When the bucket is full again once a token is taken.
    fn after(&self, now: SystemTime) -> Result<SystemTime, Duration> {
        // Not later than an empty bucket's, though the clock was set back meanwhile.
        let full_at = self.full_at.clamp(now, now + self.whole);
        let after = full_at + self.each;
        match after.duration_since(now + self.whole) {
            Ok(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(after),
        }
    }

    /// Whether nothing is missing, so that another that was never used is the same.
    pub fn is_full(&self, now: SystemTime) -> bool {
        self.full_at <= now
    }
}

/// For whoever gives what can't be given back.
impl Authority {
    /// Whether its rate has room for a certificate now. It is not used by that.
    ///
    /// # Errors
    /// How long until there is some.
    pub fn has_room(&self, now: SystemTime) -> Result<(), Duration> {
        self.limit.check(now)
    }

    /// As [`Authority::sign_for`], for whoever was told that there is room: it uses the rate, and is signed all the same
    /// when others have used that up meanwhile. `ttl` is as the settings say without one.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn sign_promised(
        &mut self,
        csr: &Csr,
        id: &SpiffeId,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Signed, SignError> {
        let _ = self.limit.take(now);
        self.make(csr, id, ttl.unwrap_or(self.settings.ttl), now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limit = RateLimit::new(2, 3);
        for _ in 0..3 {
            limit.check(at(10)).unwrap();
            limit.take(at(10)).unwrap();
        }
        assert_eq!(limit.check(at(10)), Err(Duration::from_millis(500)));
        assert_eq!(limit.take(at(10)), Err(Duration::from_millis(500)));
        limit.take(at(10) + Duration::from_millis(500)).unwrap();
        assert!(limit.take(at(10) + Duration::from_millis(500)).is_err());
        for _ in 0..3 {
            limit.take(at(100)).unwrap();
        }
        assert!(limit.take(at(100)).is_err(), "no more than a burst is saved up");
        assert!(!limit.is_full(at(101)) && limit.is_full(at(102)));
    }

    #[test]
    fn a_clock_that_is_set_back_blocks_nobody_for_long() {
        let mut limit = RateLimit::new(1, 1);
        limit.take(at(1_000_000)).unwrap();
        assert_eq!(limit.take(at(10)), Err(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1_u32..50,
            burst in 1_u32..20,
            waits in proptest::collection::vec(0_u64..500, 1..200),
        ) {
            let mut limit = RateLimit::new(per_second, burst);
            let (mut now, mut taken) = (at(1), 0_u32);
            for wait in waits {
                now += Duration::from_millis(wait);
                taken += u32::from(limit.take(now).is_ok());
            }
            let seconds = now.duration_since(at(1)).unwrap().as_secs_f64();
            prop_assert!(f64::from(taken) <= f64::from(burst) + seconds * f64::from(per_second) + 1.0);
        }
    }
}
