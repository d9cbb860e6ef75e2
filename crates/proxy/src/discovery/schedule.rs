//! When is a name looked up again?
//!
//! ```text
//!   new ──> looked up ──┬─ answered: when its TTL ends, 1 s to 5 min
//!                       └─ failed:   after 1, 2, 4 ... 30 s, or the negative TTL up to 30 s where that is longer
//! ```
//!
//! A cluster whose servers all fail to be connected to asks for an answer earlier; that is granted once in
//! [`HASTE_SPACING`], and never while lookups fail: a name server in trouble gets no more questions for it.
//! Every wait is drawn a little longer or shorter, so that names that came together do not stay together.

use std::time::Duration;

use crate::balance::Rng;
use crate::clock::{NEVER, Nanos, nanos};

/// The shortest time an answer is kept: a TTL of 0 must not make a loop.
const LEAST_TTL: Duration = Duration::from_secs(1);
/// The longest time an answer is kept. Operators who move a server expect to see it within minutes, whatever TTL they
/// had set before.
const MOST_TTL: Duration = Duration::from_secs(300);
/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after failures, and the longest negative TTL that is believed: names appear when servers start.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// How far apart lookups are that clusters in distress ask for.
const HASTE_SPACING: Duration = Duration::from_secs(5);
/// Answers are kept up to this share longer than their TTL.
const TTL_SPREAD: f64 = 0.1;
/// Waits after failures are up to this share shorter or longer.
const WAIT_SPREAD: f64 = 0.2;

/// When one name is looked up next.
#[derive(Debug)]
pub(super) struct Schedule {
    /// [`NEVER`] while a lookup is under way.
    at: Nanos,
    began: Option<Nanos>,
    failures: u32,
}

impl Schedule {
    /// A name that was never looked up: at once.
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            at: now,
            began: None,
            failures: 0,
        }
    }

    /// When the next lookup is due.
    pub(super) fn at(&self) -> Nanos {
        self.at
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A lookup begins.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.at = NEVER;
        self.began = Some(now);
    }

    /// It was answered, for as long as `ttl`.
    pub(super) fn answered(&mut self, now: Nanos, ttl: Duration, rng: &mut Rng) {
        self.failures = 0;
        let ttl = ttl.clamp(LEAST_TTL, MOST_TTL);
        self.at = now.saturating_add(nanos(ttl.mul_f64(1.0 + TTL_SPREAD * rng.unit())));
    }

    /// It failed. `negative` is the TTL of an answer that says that there is nothing.
    pub(super) fn failed(&mut self, now: Nanos, negative: Option<Duration>, rng: &mut Rng) {
        self.failures = self.failures.saturating_add(1);
        // Five doublings reach the longest wait.
        let wait = FIRST_WAIT * (1 << (self.failures - 1).min(5));
        let wait = wait.max(negative.unwrap_or_default()).min(MOST_WAIT);
        let spread = 1.0 - WAIT_SPREAD + 2.0 * WAIT_SPREAD * rng.unit();
        self.at = now.saturating_add(nanos(wait.mul_f64(spread)));
    }

    /// Somebody needs an answer sooner. False when it will not come sooner than planned.
    pub(super) fn hasten(&mut self, now: Nanos) -> bool {
        if self.failures > 0 || self.at == NEVER {
            return false;
        }
        let earliest = self
            .began
            .map_or(now, |began| now.max(began.saturating_add(nanos(HASTE_SPACING))));
        let sooner = earliest < self.at;
        if sooner {
            self.at = earliest;
        }
        sooner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn answers_are_kept_for_their_ttl_within_bounds() {
        let mut rng = Rng::from_seed(1);
        for (ttl, low, high) in [(0, 1.0, 1.1), (7, 7.0, 7.7), (86_400, 300.0, 330.0)] {
            for _ in 0..100 {
                let mut schedule = Schedule::new(0);
                schedule.begin(5 * SECOND);
                schedule.answered(6 * SECOND, seconds(ttl), &mut rng);
                let kept = (schedule.at() - 6 * SECOND) as f64 / SECOND as f64;
                assert!((low..=high).contains(&kept), "{ttl}: {kept}");
            }
        }
    }

    #[test]
    fn failures_wait_twice_as_long_each_up_to_a_bound() {
        for seed in 0..50 {
            let mut rng = Rng::from_seed(seed);
            let mut schedule = Schedule::new(0);
            let mut now = 0;
            for base in [1, 2, 4, 8, 16, 30, 30, 30] {
                assert_eq!(schedule.at(), now);
                schedule.begin(now);
                schedule.failed(now, None, &mut rng);
                let wait = (schedule.at() - now) as f64 / SECOND as f64;
                let base = f64::from(base);
                assert!((base * 0.8..=base * 1.2).contains(&wait), "{base}: {wait}");
                now = schedule.at();
            }
            schedule.answered(now, seconds(10), &mut rng);
            schedule.failed(now, None, &mut rng);
            assert!(
                schedule.at() - now <= 2 * SECOND,
                "an answer forgets the failures"
            );
        }
    }

    #[test]
    fn a_negative_ttl_is_believed_up_to_a_bound() {
        let mut rng = Rng::from_seed(1);
        for (negative, low, high) in [(0, 0.8, 1.2), (10, 8.0, 12.0), (3600, 24.0, 36.0)] {
            let mut schedule = Schedule::new(0);
            schedule.begin(0);
            schedule.failed(0, Some(seconds(negative)), &mut rng);
            let wait = schedule.at() as f64 / SECOND as f64;
            assert!((low..=high).contains(&wait), "{negative}: {wait}");
        }
    }

    #[test]
    fn haste_is_granted_now_and_then_and_never_to_failures() {
        let mut rng = Rng::from_seed(1);
        let mut schedule = Schedule::new(0);
        schedule.begin(0);
        assert!(!schedule.hasten(SECOND), "a lookup is under way");
        schedule.answered(SECOND, seconds(60), &mut rng);
        assert!(schedule.hasten(2 * SECOND));
        assert_eq!(schedule.at(), 5 * SECOND, "spaced from the last one");
        assert!(!schedule.hasten(3 * SECOND), "it is planned already");
        schedule.begin(5 * SECOND);
        schedule.answered(5 * SECOND, seconds(60), &mut rng);
        assert!(schedule.hasten(30 * SECOND));
        assert_eq!(schedule.at(), 30 * SECOND);
        schedule.begin(30 * SECOND);
        schedule.failed(30 * SECOND, None, &mut rng);
        let planned = schedule.at();
        assert!(!schedule.hasten(30 * SECOND));
        assert_eq!(schedule.at(), planned);
        assert_eq!(schedule.failures(), 1);
    }
}
