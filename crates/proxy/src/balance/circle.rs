//! Which endpoint owns a key, and stays its owner while others come and go?
//!
//! Two layouts of one idea: slots, each owned by an endpoint, a way from a key to a slot, and the next slot
//! when an owner may not be used.
//!
//! - The **ring** (ketama): every endpoint has many points on a circle of 2^64, a key belongs to the next
//!   point. When an endpoint leaves, exactly its keys move.
//! - **Maglev** (Eisenbud et al., NSDI 2016, section 3.4): a table of prime size, filled in turns by each
//!   endpoint's own permutation. More even than the ring and found by one read; a few keys more move.
//!
//! An endpoint's places come from its address alone and members are laid out in the order of their places, so
//! every proxy with the same endpoints gives a key the same owner.

use super::hash::mix;

/// Points of a ring: bounds of what can be asked for.
const RING: std::ops::RangeInclusive<u64> = 1_024..=8_388_608;
/// Points for each endpoint unless said otherwise: shares within about 3 % of even.
const POINTS_EACH: u64 = 1_024;
/// Where that would make a ring larger than this (3 MB), endpoints get fewer points ...
const LARGE_RING: u64 = 262_144;
/// ... but not below this: within about 12 %.
const FEWEST_POINTS_EACH: u64 = 64;

/// Points to walk past from the beginning of an arc, on average half of it: within one cache line or two.
const POINTS_AN_ARC: u64 = 4;

/// Slots of a Maglev table unless said otherwise: the paper's choice, even to 1 % for 650 endpoints.
const MAGLEV_SLOTS: u64 = 65_537;
/// The largest table, a prime as well: Envoy's bound, 20 MB.
const MOST_MAGLEV_SLOTS: u64 = 5_000_011;

/// Slots tried in turn before endpoints are compared one by one. Half of them out: once in four billion picks.
const STEPS: usize = 32;

/// Owners of keys. Members are those of one tier, counted from 0.
#[derive(Debug)]
pub(super) struct Circle {
    places: Box<[u64]>,
    weights: Box<[u64]>,
    /// Who owns each slot.
    owners: Box<[u32]>,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    /// Where each slot ends, ascending, and the first slot that ends at or after each of `2^(64 - shift)`
    /// equal arcs begins: about 14 bytes a point with its owner. A search would read the ring at a dozen
    /// places, this reads it at one.
    Ring {
        ends: Box<[u64]>,
        arcs: Box<[u32]>,
        shift: u32,
    },
    /// Slots of equal size: 4 bytes each.
    Maglev,
}

impl Circle {
    /// A ring of `size` points over members with these places and weights (each at least 1).
    pub(super) fn ring(places: &[u64], weights: &[u64], size: Option<u32>) -> Self {
        let members = places.len() as u64;
        let size = match size {
            Some(size) => u64::from(size),
            None => (POINTS_EACH * members)
                .min(LARGE_RING)
                .max(FEWEST_POINTS_EACH * members),
        }
        .clamp(*RING.start(), *RING.end());
        let total = total(weights);
        let mut points = Vec::with_capacity(size as usize + places.len());
        for (index, (&place, &weight)) in places.iter().zip(weights).enumerate() {
            let count = ((u128::from(weight) * u128::from(size) + total / 2) / total).max(1) as u64;
            points.extend((0..count).map(|point| (mix(place ^ mix(point)), index as u32)));
        }
        // Where two points meet the endpoint with the lower place owns it, in whatever order endpoints are
        // listed.
        points.sort_unstable_by_key(|&(end, index)| (end, places[index as usize]));
        points.dedup_by_key(|&mut (end, _)| end);
        let (ends, owners): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
        let arcs = (ends.len() as u64 / POINTS_AN_ARC).next_power_of_two().max(2);
        let shift = 64 - arcs.trailing_zeros();
        let arcs = (0..arcs).map(|arc| ends.partition_point(|&end| end < arc << shift) as u32);
        Self {
            places: places.into(),
            weights: weights.into(),
            owners: owners.into(),
            layout: Layout::Ring {
                arcs: arcs.collect(),
                ends: ends.into(),
                shift,
            },
        }
    }

    /// A Maglev table of `size` slots, taken up to the next prime that holds all members.
    pub(super) fn maglev(places: &[u64], weights: &[u64], size: Option<u32>) -> Self {
        let members = places.len() as u64;
        let wanted = size
            .map_or(MAGLEV_SLOTS, u64::from)
            .min(MOST_MAGLEV_SLOTS)
            .max(members)
            .max(2);
        let slots = (wanted..)
            .find(|&number| is_prime(number))
            .unwrap_or(MOST_MAGLEV_SLOTS);
        Self {
            places: places.into(),
            weights: weights.into(),
            owners: fill(places, weights, slots),
            layout: Layout::Maglev,
        }
    }

    /// The first eligible owner of a key.
    #[inline]
    pub(super) fn owner(&self, key: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let key = mix(key);
        let mut slot = match &self.layout {
            Layout::Ring { ends, arcs, shift } => {
                let first = arcs.get((key >> shift) as usize).copied().unwrap_or(0) as usize;
                first + ends.iter().skip(first).take_while(|&&end| end < key).count()
            }
            Layout::Maglev => ((u128::from(key) * self.owners.len() as u128) >> 64) as usize,
        };
        for _ in 0..STEPS {
            if slot >= self.owners.len() {
                slot = 0;
            }
            let owner = *self.owners.get(slot)? as usize;
            if eligible(owner) {
                return Some(owner);
            }
            slot += 1;
        }
        self.highest(key, eligible)
    }

    /// The eligible member with the highest score for a key (weighted rendezvous hashing): as steady as the
    /// slots, at a cost linear in the members. Only where nearly all of them are out.
    #[cold]
    fn highest(&self, key: u64, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let score = |&index: &usize| {
            let random = ((mix(key ^ self.places[index]) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            // The logarithm is negative: the nearer to zero, the higher.
            random.ln() / self.weights[index] as f64
        };
        (0..self.places.len())
            .filter(|&index| eligible(index))
            .max_by(|a, b| score(a).total_cmp(&score(b)))
    }
}

/// Fills a Maglev table. A member of the largest weight takes a slot every round, others in proportion.
fn fill(places: &[u64], weights: &[u64], slots: u64) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    struct Turn {
        index: u32,
        weight: u128,
        /// What it has to save up for its next slot, in weight.
        due: u128,
        next: u64,
        skip: u64,
    }
    let mut owners = vec![FREE; slots as usize];
    let mut turns: Vec<Turn> = (0u32..)
        .zip(places.iter().zip(weights))
        .map(|(index, (&place, &weight))| Turn {
            index,
            weight: u128::from(weight),
            due: 0,
            next: mix(place) % slots,
            skip: mix(place ^ u64::MAX) % (slots - 1) + 1,
        })
        .collect();
    turns.sort_by_key(|turn| places[turn.index as usize]);
    let largest = weights
        .iter()
        .map(|&weight| u128::from(weight))
        .max()
        .unwrap_or(1);
    let mut free = if turns.is_empty() { 0 } else { slots };
    let mut round: u128 = 1;
    while free > 0 {
        for turn in &mut turns {
            if free == 0 {
                break;
            }
            if round * turn.weight < turn.due {
                continue;
            }
            turn.due += largest;
            // The table's size is prime, so the steps come by every slot.
            while owners[turn.next as usize] != FREE {
                turn.next = (turn.next + turn.skip) % slots;
            }
            owners[turn.next as usize] = turn.index;
            free -= 1;
        }
        round += 1;
    }
    if turns.is_empty() {
        Box::default()
    } else {
        owners.into()
    }
}

fn total(weights: &[u64]) -> u128 {
    weights
        .iter()
        .map(|&weight| u128::from(weight))
        .sum::<u128>()
        .max(1)
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::super::hash::hash_key;
    use super::*;

    type Build = fn(&[u64], &[u64], Option<u32>) -> Circle;
    const BOTH: [(&str, Build); 2] = [("ring", Circle::ring), ("maglev", Circle::maglev)];
    const KEYS: u64 = 20_000;

    fn places(ids: impl IntoIterator<Item = u64>) -> Vec<u64> {
        ids.into_iter()
            .map(|id| hash_key(format!("10.0.0.{id}:80").as_bytes()))
            .collect()
    }

    fn owner(circle: &Circle, key: u64) -> usize {
        circle.owner(key, |_| true).unwrap()
    }

    #[test]
    fn keys_spread_by_weight() {
        for (name, build) in BOTH {
            let weights = [1, 2, 3, 4, 10];
            let circle = build(&places(0..5), &weights, None);
            let mut seen = [0u64; 5];
            (0..KEYS).for_each(|key| seen[owner(&circle, key)] += 1);
            for (count, weight) in seen.iter().zip(weights) {
                let share = *count as f64 / (KEYS * weight / 20) as f64;
                assert!((0.85..1.15).contains(&share), "{name}: {seen:?}");
            }
        }
    }

    #[test]
    fn who_is_listed_first_does_not_matter() {
        for (name, build) in BOTH {
            let forward = build(&places(0..9), &[1; 9], None);
            let backward = build(&places((0..9).rev()), &[1; 9], None);
            for key in 0..KEYS {
                assert_eq!(owner(&forward, key), 8 - owner(&backward, key), "{name}");
            }
        }
    }

    #[test]
    fn one_that_leaves_moves_its_keys_and_few_others() {
        for (name, build) in BOTH {
            for size in [None, Some(16_381)] {
                let (before, after) = (
                    build(&places(0..20), &[1; 20], size),
                    build(&places(0..19), &[1; 19], size),
                );
                let moved = (0..KEYS)
                    .filter(|&key| owner(&before, key) != owner(&after, key))
                    .count();
                let ideal = KEYS as usize / 20;
                assert!(
                    moved <= 2 * ideal,
                    "{name} {size:?}: {moved} moved, {ideal} had to"
                );
            }
        }
    }

    #[test]
    fn one_that_is_out_moves_its_keys_only_and_spreads_them() {
        for (name, build) in BOTH {
            let circle = build(&places(0..10), &[1; 10], None);
            let mut heirs = [0u32; 10];
            for key in 0..KEYS {
                let heir = circle.owner(key, |index| index != 3).unwrap();
                if owner(&circle, key) == 3 {
                    heirs[heir] += 1
                } else {
                    assert_eq!(heir, owner(&circle, key))
                }
            }
            let expected = KEYS as u32 / 10 / 9;
            let others = heirs.iter().enumerate().filter(|&(index, _)| index != 3);
            for (_, &count) in others {
                assert!((expected / 2..expected * 2).contains(&count), "{name}: {heirs:?}");
            }
            assert_eq!(heirs[3], 0);
        }
    }

    #[test]
    fn the_last_ones_standing_share_by_weight() {
        for (name, build) in BOTH {
            let circle = build(&places(0..200), &[&[3, 1][..], &[1; 198]].concat(), None);
            let mut seen = [0u32; 2];
            for key in 0..KEYS {
                seen[circle.owner(key, |index| index < 2).unwrap()] += 1;
            }
            let share = f64::from(seen[0]) / KEYS as f64;
            assert!((0.65..0.85).contains(&share), "{name}: {seen:?}");
            assert_eq!(circle.owner(1, |_| false), None);
        }
    }

    #[test]
    fn any_size_is_made_to_work() {
        for (name, build) in BOTH {
            for size in [Some(0), Some(1), Some(2), Some(100), Some(1_000)] {
                for members in [1, 2, 3, 150] {
                    let circle = build(&places(0..members), &vec![1; members as usize], size);
                    let mut seen = vec![false; members as usize];
                    (0..KEYS / 4).for_each(|key| seen[owner(&circle, key)] = true);
                    assert!(seen.iter().all(|&seen| seen), "{name} {size:?} {members}");
                }
            }
            assert_eq!(build(&[], &[], None).owner(1, |_| true), None, "{name}");
        }
        // Two members at one place, as a resource may list them: both layouts still answer.
        for (name, build) in BOTH {
            assert!(owner(&build(&[5, 5], &[1, 1], None), 9) < 2, "{name}");
        }
        assert_eq!(Circle::maglev(&[1], &[1], None).owners.len() as u64, MAGLEV_SLOTS);
        assert_eq!(
            Circle::maglev(&[1], &[1], Some(u32::MAX)).owners.len() as u64,
            MOST_MAGLEV_SLOTS
        );
        assert_eq!(
            Circle::ring(&[1], &[1], Some(1)).owners.len() as u64,
            *RING.start()
        );
    }

    #[test]
    fn default_rings_stay_small() {
        for (members, points) in [(1u64, 1_024), (10, 10_240), (1_000, 262_000), (5_000, 320_000)] {
            let circle = Circle::ring(&places(0..members), &vec![1; members as usize], None);
            assert_eq!(circle.owners.len() as u64, points, "{members} members");
        }
    }

    #[test]
    fn a_key_belongs_to_the_next_point() {
        let circle = Circle::ring(&places(0..7), &[1, 2, 3, 4, 5, 6, 7], None);
        let Layout::Ring { ends, arcs, .. } = &circle.layout else {
            unreachable!()
        };
        assert!(ends.is_sorted() && arcs.is_sorted());
        for key in 0..KEYS {
            let slot = ends.partition_point(|&end| end < mix(key)) % ends.len();
            assert_eq!(owner(&circle, key), circle.owners[slot] as usize);
            // Where its owner is out, to the next point of another.
            let heir = circle
                .owners
                .iter()
                .cycle()
                .skip(slot)
                .find(|&&owner| owner != 6)
                .unwrap();
            assert_eq!(circle.owner(key, |index| index != 6).unwrap(), *heir as usize);
        }
    }

    #[test]
    fn primes_are_told_from_products() {
        let primes: Vec<u64> = (0..30).filter(|&number| is_prime(number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(5_000_011) && !is_prime(65_535));
    }
}
