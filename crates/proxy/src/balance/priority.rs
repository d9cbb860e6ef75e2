//! Which priority takes a request, while its endpoints fail?
//!
//! The lowest number takes all traffic as long as enough of its weight is available. Below 1 / 1.4 = 71 % it
//! can carry only `available * 1.4` of the whole and the next priority takes what is left (Envoy's
//! overprovisioning factor: endpoints are assumed to have 40 % in reserve). Where all together cannot carry
//! the whole, each takes its part of what there is.
//!
//! Counting who is available costs time linear in the endpoints, so the shares are counted every 10 ms and
//! kept. Between two counts they may be stale, never wrong: a priority none of whose endpoints can be used is
//! passed over anyway.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::Nanos;

/// How much more than its share an endpoint is assumed to carry.
const OVERPROVISIONING: f64 = 1.4;

/// How long counted shares are used: 1 % of one core at ten thousand endpoints.
const KEPT: Nanos = 10_000_000;

/// The share of each priority.
#[derive(Debug)]
pub(super) struct Shares {
    /// When to count again.
    due: AtomicU64,
    /// The share of this priority and those before it, in parts of 2^32 - 1. Threads that count at once may
    /// interleave their sums; each is one of both counts', which is all a draw needs.
    up_to: Box<[AtomicU32]>,
}

impl Shares {
    /// Shares of `count` priorities, the first taking all until they are counted.
    pub(super) fn new(count: usize) -> Self {
        Self {
            due: AtomicU64::new(0),
            up_to: (0..count).map(|_| AtomicU32::new(u32::MAX)).collect(),
        }
    }

    /// The priority that `point`, drawn from all of `u32`, falls to. `available` tells which part of a
    /// priority's weight is available, 0 to 1.
    #[inline]
    pub(super) fn at(&self, now: Nanos, point: u32, available: impl Fn(usize) -> f64) -> usize {
        if self.up_to.len() <= 1 {
            return 0;
        }
        let due = self.due.load(Relaxed);
        let next = now.saturating_add(KEPT);
        if due <= now && self.due.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            self.count(available);
        }
        self.up_to
            .iter()
            .position(|up_to| point <= up_to.load(Relaxed))
            .unwrap_or(0)
    }

    /// Counts twice rather than keep a list: this runs on a data thread, which does not allocate.
    fn count(&self, available: impl Fn(usize) -> f64) {
        let carried = |index| (available(index) * OVERPROVISIONING).min(1.0);
        let whole = (0..self.up_to.len()).map(carried).sum::<f64>().min(1.0);
        let mut sum = 0.0;
        for (index, up_to) in self.up_to.iter().enumerate() {
            sum += carried(index);
            // Nobody is available: the first one is asked, and finds out.
            let share = if whole > 0.0 { (sum / whole).min(1.0) } else { 1.0 };
            // A priority with a share of nothing still owns the point 0, one in 2^32; it is passed over then.
            up_to.store((share * f64::from(u32::MAX)) as u32, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares, in per cent, of priorities of which these parts are available.
    fn shares(available: &[f64]) -> Vec<u32> {
        let shares = Shares::new(available.len());
        let mut seen = vec![0; available.len()];
        for percent in 0..100u32 {
            let point = u32::MAX / 100 * percent + u32::MAX / 200;
            seen[shares.at(0, point, |index| available[index])] += 1;
        }
        seen
    }

    /// Envoy documents these numbers for its factor of 1.4.
    #[test]
    fn what_one_cannot_carry_the_next_takes() {
        assert_eq!(shares(&[1.0]), [100]);
        assert_eq!(shares(&[1.0, 1.0]), [100, 0]);
        assert_eq!(shares(&[0.72, 1.0]), [100, 0]);
        assert_eq!(shares(&[0.5, 1.0]), [70, 30]);
        assert_eq!(shares(&[0.25, 1.0]), [35, 65]);
        assert_eq!(shares(&[0.0, 1.0]), [0, 100]);
        assert_eq!(shares(&[0.25, 0.25, 1.0]), [35, 35, 30]);
        assert_eq!(shares(&[0.25, 0.25]), [50, 50]);
        assert_eq!(shares(&[0.0, 0.0]), [100, 0]);
    }

    #[test]
    fn counts_are_kept_for_a_while() {
        let shares = Shares::new(2);
        let draw = |now, first| shares.at(now, 1000, |index| if index == 0 { first } else { 1.0 });
        assert_eq!(draw(0, 1.0), 0);
        assert_eq!(draw(KEPT - 1, 0.0), 0);
        assert_eq!(draw(KEPT, 0.0), 1);
        assert_eq!(draw(2 * KEPT - 1, 1.0), 1);
        assert_eq!(draw(2 * KEPT, 1.0), 0);
    }
}
