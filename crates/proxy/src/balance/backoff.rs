//! May an endpoint be used, after connects to it have failed?
//!
//! ```text
//!            connect fails                until passes, one request starts
//!   in ───────────────────────> out ───────────────────────────────────────> probing
//!   ^                            ^                                              │ │
//!   │                            └──────── connect fails: twice as long ────────┘ │
//!   └───────────────── a connect succeeds, or the probe is answered ──────────────┘
//! ```
//!
//! One probe at a time: a server that comes back, or has not, meets one request and not its whole share. A
//! probe that says nothing (its client left) frees its place; one that takes longer than [`PROBE`] is not
//! waited for.
//!
//! One word holds it all, so every transition is one compare-and-swap and a burst of failing connects counts
//! once: bits 0-7 failures in a row (zero: in), bit 8 probing, bits 9-63 until when, in units of 1,024 ns.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Nanos, Rng, SECOND};

/// Out for this long after the first failure: a restart of a small server takes about as long.
const FIRST: Nanos = SECOND;

/// Never out for longer: a minute is what a person waits before asking why a server that is back gets nothing.
const LONGEST: Nanos = 60 * SECOND;

/// Up to this share is added or taken, so that many proxies do not come back at the same moment.
const JITTER: f64 = 0.2;

/// How long others wait for a probe: above the 2 s that a connect may take by default.
const PROBE: Nanos = 5 * SECOND;

const FAILURES: u64 = 0xff;
const PROBING: u64 = 0x100;
const UNTIL_SHIFT: u32 = 9;
const UNIT_BITS: u32 = 10;

/// The backoff of one endpoint, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Backoff(AtomicU64);

/// What a connect failure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The endpoint was in, or on probe: it is out now.
    TakenOut,
    /// It was out already: a late failure of the same outage, which does not make it worse.
    AlreadyOut,
}

impl Backoff {
    /// Whether a request may start now.
    #[inline]
    pub(super) fn is_open(&self, now: Nanos) -> bool {
        let word = self.0.load(Relaxed);
        word == 0 || until(word) <= units(now)
    }

    /// A request starts. True when the endpoint is not (fully) in, so that an answer is news.
    #[inline]
    pub(super) fn begin(&self, now: Nanos) -> bool {
        let word = self.0.load(Relaxed);
        if word == 0 {
            return false;
        }
        if until(word) <= units(now) {
            let probing = pack(now.saturating_add(PROBE), word & FAILURES) | PROBING;
            // Whoever loses this race probes as well: one request more, and no loop.
            let _ = self.0.compare_exchange(word, probing, Relaxed, Relaxed);
        }
        true
    }

    /// A connect failed.
    pub(super) fn failed(&self, now: Nanos, rng: &mut Rng) -> Failed {
        let jitter = 1.0 - JITTER + 2.0 * JITTER * rng.unit();
        let step = |word: u64| {
            if word & PROBING == 0 && until(word) > units(now) {
                return None;
            }
            let failures = ((word & FAILURES) + 1).min(FAILURES);
            let doublings = (failures - 1).min(6) as u32;
            let wait = (FIRST << doublings).min(LONGEST) as f64 * jitter;
            Some(pack(now.saturating_add(wait as Nanos), failures))
        };
        match self.0.try_update(Relaxed, Relaxed, step) {
            Ok(_) => Failed::TakenOut,
            Err(_) => Failed::AlreadyOut,
        }
    }

    /// A connect succeeded, or a request that began while out was answered: in again, all forgotten.
    #[inline]
    pub(super) fn succeeded(&self) {
        // A load first: nearly always there is nothing to forget, and a store would take the line from other
        // threads.
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    /// A probe ended and said nothing: the next request may probe.
    pub(super) fn inconclusive(&self) {
        let free = |word: u64| (word & PROBING != 0).then_some(word & FAILURES);
        // Err: the place was given up already, by a verdict.
        let _ = self.0.try_update(Relaxed, Relaxed, free);
    }

    /// Failures in a row since the last success, up to 255.
    pub(super) fn failures(&self) -> u32 {
        (self.0.load(Relaxed) & FAILURES) as u32
    }
}

#[inline]
fn units(now: Nanos) -> u64 {
    now >> UNIT_BITS
}

#[inline]
fn until(word: u64) -> u64 {
    word >> UNTIL_SHIFT
}

/// Rounded up, so that an endpoint is never in early.
fn pack(until: Nanos, failures: u64) -> u64 {
    until.div_ceil(1 << UNIT_BITS) << UNTIL_SHIFT | failures
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// How long a failing endpoint stays out, round after round.
    fn outage(rounds: usize, seed: u64) -> Vec<Nanos> {
        let (backoff, mut rng) = (Backoff::default(), Rng::from_seed(seed));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..rounds {
            backoff.begin(now);
            assert_eq!(backoff.failed(now, &mut rng), Failed::TakenOut);
            let from = now;
            while !backoff.is_open(now) {
                now += MS;
            }
            waits.push(now - from);
        }
        waits
    }

    #[test]
    fn doubles_from_a_second_to_a_minute_with_jitter() {
        for seed in 0..50 {
            for (wait, base) in outage(9, seed).iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
                let (low, high) = (base * SECOND * 8 / 10, base * SECOND * 12 / 10 + 2 * MS);
                assert!(
                    (low..=high).contains(wait),
                    "seed {seed}: {wait} is not {base} s +-20 %"
                );
            }
        }
        assert_ne!(outage(1, 1), outage(1, 2));
    }

    #[test]
    fn a_burst_of_failures_counts_once() {
        let (backoff, mut rng) = (Backoff::default(), Rng::from_seed(1));
        assert_eq!(backoff.failed(0, &mut rng), Failed::TakenOut);
        for i in 0..100 {
            assert_eq!(backoff.failed(i * MS, &mut rng), Failed::AlreadyOut);
        }
        assert_eq!(backoff.failures(), 1);
        assert!(backoff.is_open(1200 * MS + 1024));
    }

    #[test]
    fn one_probe_at_a_time() {
        let (backoff, mut rng) = (Backoff::default(), Rng::from_seed(1));
        backoff.failed(0, &mut rng);
        let due = 2 * SECOND;
        assert!(backoff.is_open(due));
        assert!(backoff.begin(due));
        assert!(!backoff.is_open(due), "a second request must wait for the probe");
        backoff.inconclusive();
        assert!(backoff.is_open(due), "a probe that said nothing frees its place");
        assert!(backoff.begin(due));
        assert!(!backoff.is_open(due + PROBE - MS));
        assert!(
            backoff.is_open(due + PROBE + 1024),
            "a probe that never ends is not waited for"
        );
        assert!(backoff.begin(due));
        assert_eq!(backoff.failed(due + MS, &mut rng), Failed::TakenOut);
        assert_eq!(backoff.failures(), 2);
        backoff.inconclusive();
        assert!(
            !backoff.is_open(due + SECOND),
            "a verdict is not undone by the probe's end"
        );
        backoff.succeeded();
        assert!(backoff.is_open(0));
        assert_eq!(backoff.failures(), 0);
        assert!(!backoff.begin(0), "no probe once in");
    }

    #[test]
    fn survives_the_end_of_time() {
        let (backoff, mut rng) = (Backoff::default(), Rng::from_seed(1));
        for _ in 0..300 {
            backoff.begin(Nanos::MAX);
            backoff.failed(Nanos::MAX, &mut rng);
        }
        assert!(backoff.failures() > 0);
    }
}
