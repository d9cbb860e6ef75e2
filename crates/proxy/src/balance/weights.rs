//! What share of a tier's traffic is each member's?
//!
//! Localities share by their weight, the endpoints of a locality share what it gets by theirs. Both levels
//! are multiplied out here, once, into one whole number per member, so that the balancers know one level
//! only. Localities are told apart by zone and weight.
//!
//! A locality some of whose endpoints are out gets less by their share, and the others take it over in
//! proportion: the endpoints that are left are not flooded for being the last of their zone.

use std::collections::HashMap;

use super::Member;

/// The sum of a tier's weights stays below this: exact in an `f64`, and products with a count fit in a `u128`.
const LARGEST_TOTAL: u128 = 1 << 48;

/// One number per member, at least 1, their sum below 2^48. Exact as long as that sum allows. The members'
/// own weights must not be 0.
pub(super) fn flatten(members: &[Member]) -> Vec<u64> {
    let mut localities: HashMap<(&str, u32), u64> = HashMap::new();
    for member in members {
        *localities.entry(locality(member)).or_default() += u64::from(member.weight);
    }
    let weight_of = |member: &Member| localities.get(&locality(member)).copied().unwrap_or(1).max(1);
    let common = localities.values().try_fold(1u64, |common, &sum| {
        let lcm = (common / gcd(common, sum)).checked_mul(sum)?;
        (lcm < 1 << 32).then_some(lcm)
    });
    // Each member's share is `locality weight * own weight / sum of the locality's weights`.
    let shares: Vec<u128> = members
        .iter()
        .map(|member| {
            let own = u128::from(member.weight) * u128::from(member.locality_weight);
            let sum = u128::from(weight_of(member));
            match common {
                Some(common) => own * (u128::from(common) / sum),
                None => (own << 32) / sum,
            }
        })
        .collect();
    let divisor = shares
        .iter()
        .fold(0, |divisor, &share| gcd(divisor, share))
        .max(1);
    let total = (shares.iter().sum::<u128>() / divisor).max(1);
    let fit = |share: u128| {
        let share = share / divisor;
        // Shares are below 2^96 each; dividing the total first keeps the product in range.
        if total < LARGEST_TOTAL {
            share
        } else {
            share / total.div_ceil(LARGEST_TOTAL / 2)
        }
    };
    shares.into_iter().map(|share| fit(share).max(1) as u64).collect()
}

fn locality(member: &Member) -> (&str, u32) {
    (&member.zone, member.locality_weight)
}

fn gcd<T: Copy + PartialEq + Default + std::ops::Rem<Output = T>>(a: T, b: T) -> T {
    if b == T::default() { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::member;
    use super::*;

    fn flat(members: &[(u32, u32, &str)]) -> Vec<u64> {
        let members: Vec<_> = members
            .iter()
            .zip(1..)
            .map(|(&(weight, locality_weight, zone), port)| Member {
                weight,
                locality_weight,
                zone: zone.into(),
                ..member(port)
            })
            .collect();
        flatten(&members)
    }

    #[test]
    fn one_locality_keeps_its_weights() {
        assert_eq!(flat(&[(1, 1, ""), (2, 1, ""), (3, 1, "")]), [1, 2, 3]);
        assert_eq!(flat(&[(10, 7, ""), (20, 7, ""), (30, 7, "")]), [1, 2, 3]);
        assert_eq!(flat(&[(500, 1, "")]), [1]);
        assert!(flat(&[]).is_empty());
    }

    #[test]
    fn localities_share_by_their_weight_whatever_their_size() {
        // Zone a: 3/4 for one endpoint. Zone b: 1/4 for two.
        assert_eq!(flat(&[(9, 3, "a"), (1, 1, "b"), (1, 1, "b")]), [6, 1, 1]);
        assert_eq!(flat(&[(1, 1, "a"), (1, 1, "b"), (2, 1, "b")]), [3, 1, 2]);
        // Unnamed zones are told apart by their weight.
        assert_eq!(flat(&[(1, 1, ""), (1, 3, ""), (1, 3, "")]), [2, 3, 3]);
    }

    proptest! {
        #[test]
        fn shares_are_right_within_rounding(
            input in prop::collection::vec((1u32.., 1u32.., 0u8..4), 1..40)
        ) {
            let zones = ["a", "b", "c", "d"];
            let members: Vec<_> = input.iter().map(|&(w, l, z)| (w, l, zones[z as usize])).collect();
            let weights = flat(&members);
            let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
            prop_assert!(total < LARGEST_TOTAL);
            let mut sums: HashMap<(&str, u32), f64> = HashMap::new();
            for &(weight, locality_weight, zone) in &members {
                *sums.entry((zone, locality_weight)).or_default() += f64::from(weight);
            }
            let everything: f64 = sums.keys().map(|(_, weight)| f64::from(*weight)).sum();
            for (&(weight, locality_weight, zone), flat) in members.iter().zip(&weights) {
                let sum = sums[&(zone, locality_weight)];
                let expected = f64::from(locality_weight) / everything * f64::from(weight) / sum;
                let share = *flat as f64 / total as f64;
                prop_assert!((share - expected).abs() < 1e-6, "{share} != {expected}");
            }
        }
    }
}
