//! When is a certificate renewed, and when is it tried again?
//!
//! At 70 % of its life, more or less a twentieth, so that the workloads of a mesh that started together do not renew
//! together. That leaves 30 % for tries that fail: each waits twice as long as the one before, but never longer than a
//! quarter of what is left.

use std::time::{Duration, SystemTime};

/// The share of a certificate's life after which it is renewed.
pub const SHARE: f64 = 0.7;

/// How far from [`SHARE`] it may be, as a share of the life too.
pub const JITTER: f64 = 0.05;

/// The wait after the first try that failed: a control plane that restarts is back in about a second.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait between tries, so that an outage of hours ends within a minute for everybody.
pub const LAST_RETRY: Duration = Duration::from_secs(60);

/// When to renew one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    due: SystemTime,
    ends: SystemTime,
    failures: u32,
    random: u64,
}

impl Renewal {
    /// For a certificate obtained and ending at these times. `seed` is drawn anew for each certificate of each workload.
    pub fn new(obtained: SystemTime, ends: SystemTime, seed: u64) -> Self {
        let life = ends.duration_since(obtained).unwrap_or_default();
        let mut renewal = Self {
            due: obtained,
            ends,
            failures: 0,
            random: seed,
        };
        let share = SHARE - JITTER + 2.0 * JITTER * renewal.draw();
        renewal.due = obtained + life.mul_f64(share);
        renewal
    }

    /// When to try next.
    pub fn due(&self) -> SystemTime {
        self.due
    }

    /// How many tries have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Renews now, if it was not due before.
    pub fn expedite(&mut self, now: SystemTime) {
        self.due = self.due.min(now);
    }

    /// A try failed now: when to try next.
    pub fn failed(&mut self, now: SystemTime) -> SystemTime {
        let doubled = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
        let left = self.ends.duration_since(now).unwrap_or_default();
        let longest = match left.is_zero() {
            true => LAST_RETRY,
            false => (left / 4).clamp(FIRST_RETRY, LAST_RETRY),
        };
        self.failures = self.failures.saturating_add(1);
        // Between half and all of it.
        self.due = now + doubled.min(longest).mul_f64(0.5 + 0.5 * self.draw());
        self.due
    }

    /// From 0 up to 1 (splitmix64; nothing secret hangs on it).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::at;

    proptest! {
        #[test]
        fn renewal_is_due_around_seventy_per_cent(life in 60_u64..1_000_000, seed in any::<u64>()) {
            let renewal = Renewal::new(at(1000), at(1000 + life), seed);
            let due = renewal.due().duration_since(at(1000)).unwrap().as_secs_f64() / life as f64;
            prop_assert!((0.65..=0.75).contains(&due), "{due}");
            prop_assert_eq!(&renewal, &Renewal::new(at(1000), at(1000 + life), seed));
        }

        #[test]
        fn tries_before_the_end_are_many_and_never_at_once(life in 60_u64..1_000_000, seed in any::<u64>()) {
            let ends = at(1000 + life);
            let mut renewal = Renewal::new(at(1000), ends, seed);
            let mut now = renewal.due();
            for tries in 0_u32.. {
                prop_assert_eq!(renewal.failures(), tries);
                let next = renewal.failed(now);
                let wait = next.duration_since(now).unwrap();
                prop_assert!(wait >= FIRST_RETRY / 2 && wait <= LAST_RETRY);
                if next > ends || tries > 100 {
                    prop_assert!(tries >= 4, "{tries} tries");
                    break;
                }
                now = next;
            }
        }
    }

    #[test]
    fn workloads_that_start_together_do_not_renew_together() {
        let due = |seed| Renewal::new(at(0), at(86_400), seed).due();
        let mut all: Vec<_> = (0..100).map(due).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn after_the_end_it_is_tried_on() {
        let mut renewal = Renewal::new(at(0), at(60), 1);
        for _ in 0..200 {
            renewal.failed(at(100));
        }
        let wait = renewal.due().duration_since(at(100)).unwrap();
        assert!(wait >= LAST_RETRY / 2 && wait <= LAST_RETRY);
    }
}
