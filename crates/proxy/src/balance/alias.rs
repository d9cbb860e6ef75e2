//! How is one of many drawn by weight, in constant time?
//!
//! Walker's alias method, built as Vose describes: as many columns as members, each shared by at most two, so
//! that a draw is one random number, one read and one comparison, whatever the weights.

use super::Rng;

/// Draws `0..len` in proportion to weights. 8 bytes a member.
#[derive(Debug)]
pub(super) struct AliasTable {
    columns: Box<[Column]>,
}

/// Members of a tier are counted in 32 bits.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// Random numbers below this stay with the column's own member, in parts of 2^32.
    own: u32,
    /// Who takes the others.
    other: u32,
}

impl AliasTable {
    /// A table over `weights`, each at least 1, their sum below 2^48.
    pub(super) fn new(weights: &[u64]) -> Self {
        let total = weights
            .iter()
            .map(|&weight| u128::from(weight))
            .sum::<u128>()
            .max(1);
        let count = weights.len() as u128;
        // In units where an average member has `total`.
        let mut rest: Vec<u128> = weights.iter().map(|&weight| u128::from(weight) * count).collect();
        let mut columns: Vec<Column> = (0..weights.len() as u32).map(Column::full).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&index| rest[index] < total);
        while let (Some(&giver), Some(taker)) = (large.last(), small.pop()) {
            columns[taker] = Column {
                own: ((rest[taker] << 32) / total) as u32,
                other: giver as u32,
            };
            rest[giver] -= total - rest[taker];
            if rest[giver] < total {
                large.pop();
                small.push(giver);
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    /// Draws one; 0 from an empty table.
    #[inline]
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let random = rng.next_u64();
        let index = (((random >> 32) * self.columns.len() as u64) >> 32) as usize;
        match self.columns.get(index) {
            Some(column) if random as u32 >= column.own => column.other as usize,
            _ => index,
        }
    }
}

impl Column {
    /// A column nobody shares; who is drawn does not depend on `own`.
    fn full(index: u32) -> Self {
        Self {
            own: u32::MAX,
            other: index,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Rng;
    use super::*;

    /// The exact probability of each member: a table can be read, not only sampled.
    fn probabilities(table: &AliasTable) -> Vec<f64> {
        let count = table.columns.len() as f64;
        let mut found = vec![0.0; table.columns.len()];
        for (index, column) in table.columns.iter().enumerate() {
            let own = f64::from(column.own) / f64::from(u32::MAX);
            found[index] += own / count;
            found[column.other as usize] += (1.0 - own) / count;
        }
        found
    }

    proptest! {
        #[test]
        fn probability_is_weight(weights in prop::collection::vec(1u64..1_000_000, 1..60)) {
            let total: u64 = weights.iter().sum();
            for (found, weight) in probabilities(&AliasTable::new(&weights)).iter().zip(&weights) {
                let expected = *weight as f64 / total as f64;
                prop_assert!((found - expected).abs() < 1e-8, "{found} != {expected}");
            }
        }
    }

    #[test]
    fn draws_follow_the_table() {
        let table = AliasTable::new(&[1, 2, 3, 4]);
        let mut rng = Rng::from_seed(3);
        let mut seen = [0u32; 4];
        for _ in 0..100_000 {
            seen[table.draw(&mut rng)] += 1;
        }
        for (count, expected) in seen.iter().zip([10_000, 20_000, 30_000, 40_000]) {
            assert!(count.abs_diff(expected) < 800, "{seen:?}");
        }
    }

    #[test]
    fn extreme_weights_do_not_overflow() {
        let weights = [1, (1 << 48) - 10, 1];
        let found = probabilities(&AliasTable::new(&weights));
        assert!(found[1] > 0.999_999_99);
        let mut rng = Rng::from_seed(1);
        assert_eq!(AliasTable::new(&[]).draw(&mut rng), 0);
    }
}
