//! Whose turn is it, when turns go by weight and several threads take them?
//!
//! The order is laid out once: each member's turns spread evenly over one round. A shared counter says where
//! the round is, so a turn costs one atomic addition and a read, and threads together take every turn exactly
//! once. With equal weights it is plain 1, 2, 3, 1, 2, 3; with 2:1:1 it is a, b, c, a.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Rng;

/// A round is at most this long, or four turns a member where that is more: 32 KiB. Weights whose sum is
/// within it are kept exactly; others are rounded to whole turns, an error below one part in 8,192 of the
/// traffic for each member.
const LONGEST_ROUND: u64 = 8_192;

/// A round of turns and where it stands.
#[derive(Debug)]
pub(super) struct Schedule {
    turns: Box<[u32]>,
    /// `UNSET` until the first turn, which draws where to begin: else every proxy that starts, and every
    /// update, would send its first request to the same member.
    next: AtomicU32,
}

const UNSET: u32 = u32::MAX;

impl Schedule {
    /// A round over `weights`, each at least 1.
    pub(super) fn new(weights: &[u64]) -> Self {
        let total = weights
            .iter()
            .map(|&weight| u128::from(weight))
            .sum::<u128>()
            .max(1);
        let longest = u128::from(LONGEST_ROUND.max(4 * weights.len() as u64));
        let turns_of = |weight: u64| match u128::from(weight) {
            weight if total <= longest => weight,
            weight => ((weight * longest + total / 2) / total).max(1),
        };
        let mut turns: Vec<(f64, u32)> = Vec::new();
        for (index, &weight) in weights.iter().enumerate() {
            let count = turns_of(weight) as u32;
            let gap = 1.0 / f64::from(count);
            turns.extend((0..count).map(|turn| ((f64::from(turn) + 0.5) * gap, index as u32)));
        }
        turns.sort_by(|(a, i), (b, j)| a.total_cmp(b).then(i.cmp(j)));
        Self {
            turns: turns.into_iter().map(|(_, index)| index).collect(),
            next: AtomicU32::new(UNSET),
        }
    }

    /// Takes the next turn; 0 from an empty round.
    #[inline]
    pub(super) fn take(&self, rng: &mut Rng) -> usize {
        let length = self.turns.len() as u32;
        if length == 0 {
            return 0;
        }
        if self.next.load(Relaxed) == UNSET {
            // Losing means that another thread drew the beginning.
            let _ = self
                .next
                .compare_exchange(UNSET, rng.below(length), Relaxed, Relaxed);
        }
        // Wraps after four billion turns; the round then starts anew somewhere else, which nobody can tell.
        let turn = self.next.fetch_add(1, Relaxed) % length;
        self.turns[turn as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Rng;
    use super::*;

    fn round(weights: &[u64]) -> Vec<u32> {
        Schedule::new(weights).turns.into_vec()
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(round(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(round(&[2, 1, 1]), [0, 1, 2, 0]);
        assert_eq!(round(&[4, 1]), [0, 0, 1, 0, 0]);
        assert_eq!(round(&[9]), [0; 9]);
    }

    #[test]
    fn the_beginning_is_drawn_and_the_order_kept() {
        let mut beginnings = [0; 5];
        for seed in 0..200 {
            let (schedule, mut rng) = (Schedule::new(&[1; 5]), Rng::from_seed(seed));
            let first = schedule.take(&mut rng);
            beginnings[first] += 1;
            for step in 1..20 {
                assert_eq!(schedule.take(&mut rng), (first + step) % 5);
            }
        }
        assert!(beginnings.iter().all(|&count| count > 15), "{beginnings:?}");
        assert_eq!(Schedule::new(&[]).take(&mut Rng::from_seed(1)), 0);
    }

    proptest! {
        #[test]
        fn short_rounds_are_exact_and_smooth(weights in prop::collection::vec(1u64..50, 1..20)) {
            let round = round(&weights);
            let total: u64 = weights.iter().sum();
            prop_assert_eq!(round.len() as u64, total);
            for (index, &weight) in weights.iter().enumerate() {
                let mut seen = 0;
                for (turn, &taken) in round.iter().enumerate() {
                    seen += u64::from(taken as usize == index);
                    let due = (turn + 1) as f64 * weight as f64 / total as f64;
                    // Never further from its share than each of the others can push it by half a turn.
                    prop_assert!((seen as f64 - due).abs() <= 1.0 + weights.len() as f64 / 2.0);
                }
                prop_assert_eq!(seen, weight);
            }
        }

        #[test]
        fn long_rounds_are_rounded(weights in prop::collection::vec(1u64..(1 << 40), 2..60)) {
            let round = round(&weights);
            prop_assert!(round.len() as u64 <= LONGEST_ROUND + weights.len() as u64);
            let total: u64 = weights.iter().sum();
            for (index, &weight) in weights.iter().enumerate() {
                let turns = round.iter().filter(|&&taken| taken as usize == index).count() as f64;
                let due = weight as f64 / total as f64 * round.len() as f64;
                prop_assert!(turns >= 1.0 && (turns - due).abs() <= 2.0, "{turns} != {due}");
            }
        }
    }
}
