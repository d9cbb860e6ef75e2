//! Where do cheap random numbers come from?
//!
//! Wyrand: 64 bits of state, one multiplication a number, passes BigCrush and PractRand. Each data thread
//! owns one, seeded from the system's entropy by whoever starts the thread. Not for secrets: its output tells
//! its state.

/// A small seeded generator. The same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator that replays the sequence of `seed`. Neighbouring seeds give unrelated sequences.
    pub const fn from_seed(seed: u64) -> Self {
        Self {
            state: super::hash::mix(seed),
        }
    }

    /// The next 64 random bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        let product = (self.state as u128) * ((self.state ^ 0xe703_7ed1_a0b4_28db) as u128);
        (product >> 64) as u64 ^ product as u64
    }

    /// A number in `0..bound`; 0 where `bound` is 0. The bias of one part in 2^32 is below what anything here
    /// can show.
    #[inline]
    pub const fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * bound as u64) >> 32) as u32
    }

    /// A number in `0.0..1.0` with 53 random bits.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_neighbours_differ() {
        let draw = |seed| {
            let mut rng = Rng::from_seed(seed);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert!(draw(7).iter().all(|number| !draw(8).contains(number)));
    }

    #[test]
    fn numbers_stay_in_range_and_spread_evenly() {
        let mut rng = Rng::from_seed(1);
        let mut seen = [0u32; 10];
        for _ in 0..100_000 {
            seen[rng.below(10) as usize] += 1;
            assert!((0.0..1.0).contains(&rng.unit()));
        }
        // Expected 10,000 each with a standard deviation of 95.
        assert!(
            seen.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{seen:?}"
        );
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
