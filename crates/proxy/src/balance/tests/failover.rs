//! What happens while endpoints fail, and when they come back?

use proptest::prelude::*;

use super::super::{Outcome, PickError, Rng, SECOND};
use super::*;

#[test]
fn nobody_to_ask() {
    for balancer in EVERY_BALANCER {
        let mut rng = Rng::from_seed(1);
        for members in [vec![], weighted(&[0, 0])] {
            let picker = picker(&balancer, members);
            assert_eq!(
                picker.pick(0, &mut rng, Some(1), &Tried::none()).unwrap_err(),
                PickError::NoEndpoints
            );
        }
    }
}

#[test]
fn a_failed_connect_is_avoided_until_its_backoff_ends() {
    for balancer in EVERY_BALANCER {
        let mut rng = Rng::from_seed(2);
        let picker = picker(&balancer, members(4));
        let dead = &picker.endpoints()[2].endpoint;
        take_out(dead, 0, &mut rng);
        assert_eq!(counts(&picker, 1_000, 700 * MS, &mut rng)[2], 0, "{balancer:?}");
        let back = 1_300 * MS;
        assert!(counts(&picker, 1_000, back, &mut rng)[2] > 100, "{balancer:?}");
        // The first request that starts is the probe: the others wait for its end.
        let probe = dead.start(back);
        assert_eq!(counts(&picker, 1_000, back, &mut rng)[2], 0, "{balancer:?}");
        dead.connect_succeeded();
        probe.finish(back + MS, Outcome::Success);
        assert!(
            counts(&picker, 1_000, back + MS, &mut rng)[2] > 100,
            "{balancer:?}"
        );
    }
}

#[test]
fn a_probe_over_a_kept_connection_counts() {
    let mut rng = Rng::from_seed(3);
    let endpoint = member(1).endpoint;
    let before = endpoint.start(0);
    take_out(&endpoint, 0, &mut rng);
    before.finish(MS, Outcome::Success);
    assert!(
        !endpoint.is_available(MS),
        "an answer to what was sent before says nothing of new connects"
    );
    let due = 2 * SECOND;
    endpoint.start(due).finish(due, Outcome::Failure);
    assert!(
        endpoint.is_available(due),
        "a failed answer leaves the place to the next probe"
    );
    drop(endpoint.start(due));
    assert!(endpoint.is_available(due), "so does one that was cancelled");
    assert_eq!(endpoint.stats(due).failures_in_a_row, 1);
    endpoint.start(due).finish(due + MS, Outcome::Success);
    assert_eq!(endpoint.stats(due).failures_in_a_row, 0);
}

#[test]
fn when_all_are_out_all_are_used() {
    for balancer in EVERY_BALANCER {
        let mut rng = Rng::from_seed(4);
        let picker = picker(&balancer, tiers(&[0, 0, 1, 1]));
        for member in picker.endpoints() {
            take_out(&member.endpoint, 0, &mut rng);
        }
        let mut tried = Tried::none();
        let seen = counts(&picker, 1_000, MS, &mut rng);
        let reached = seen.iter().filter(|&&count| count > 0).count();
        assert!(reached >= 2, "{balancer:?}: {seen:?}");
        for _ in 0..4 {
            let picked = picker.pick(MS, &mut rng, None, &tried).unwrap();
            assert!(!tried.contains(picked.index), "{balancer:?}");
            tried.insert(picked.index);
        }
        assert_eq!(
            picker.pick(MS, &mut rng, None, &tried).unwrap_err(),
            PickError::AllEjected
        );
        // One of them answers after all: from then on it takes everything.
        picker.endpoints()[3].endpoint.connect_succeeded();
        let seen = counts(&picker, 100, 20 * MS, &mut rng);
        assert_eq!(seen, [0, 0, 0, 100], "{balancer:?}");
    }
}

#[test]
fn priorities_spill_over_by_what_is_available() {
    for balancer in EVERY_BALANCER {
        let mut rng = Rng::from_seed(5);
        let picker = picker(&balancer, tiers(&[7, 7, 7, 7, 9, 9]));
        let spilled = |now, rng: &mut Rng| {
            let seen = counts(&picker, 20_000, now, rng);
            (seen[4] + seen[5]) as f64 / 20_000.0
        };
        assert_eq!(spilled(0, &mut rng), 0.0);
        // (out of four, share that spills): 3/4 * 1.4 > 1; 2/4 * 1.4 = 70 %; 1/4 * 1.4 = 35 %.
        for (out, share) in [(1, 0.0), (2, 0.3), (3, 0.65), (4, 1.0)] {
            let now = out as Nanos * 10 * MS;
            take_out(&picker.endpoints()[out - 1].endpoint, now, &mut rng);
            let spilled = spilled(now, &mut rng);
            assert!(
                (spilled - share).abs() < 0.02,
                "{balancer:?}, {out} out: {spilled}"
            );
        }
        for member in picker.endpoints() {
            member.endpoint.connect_succeeded();
        }
        assert_eq!(spilled(100 * MS, &mut rng), 0.0, "{balancer:?}");
    }
}

#[test]
fn a_priority_that_just_died_is_passed_over_at_once() {
    for balancer in EVERY_BALANCER {
        let mut rng = Rng::from_seed(6);
        let picker = picker(&balancer, tiers(&[0, 1]));
        assert_eq!(counts(&picker, 10, 0, &mut rng), [10, 0]);
        take_out(&picker.endpoints()[0].endpoint, 1, &mut rng);
        assert_eq!(counts(&picker, 10, 1, &mut rng), [0, 10], "{balancer:?}");
    }
}

#[test]
fn keys_keep_their_priority_and_endpoint_while_traffic_spills() {
    for balancer in [
        Balancer::RingHash { ring_size: None },
        Balancer::Maglev { table_size: None },
    ] {
        let mut rng = Rng::from_seed(7);
        let picker = picker(&balancer, tiers(&[0, 0, 1, 1]));
        take_out(&picker.endpoints()[0].endpoint, 0, &mut rng);
        let mut pick = |hash| {
            picker
                .pick(MS, &mut rng, Some(hash), &Tried::none())
                .unwrap()
                .index
        };
        let first: Vec<_> = (0..2_000).map(&mut pick).collect();
        let again: Vec<_> = (0..2_000).map(&mut pick).collect();
        assert_eq!(first, again);
        let spilled = first.iter().filter(|&&index| index >= 2).count();
        assert!((500..700).contains(&spilled), "{balancer:?}: {spilled}");
    }
}

#[test]
fn a_retry_of_a_key_goes_to_one_and_the_same_heir() {
    for balancer in [
        Balancer::RingHash { ring_size: None },
        Balancer::Maglev { table_size: None },
    ] {
        let mut rng = Rng::from_seed(8);
        let picker = picker(&balancer, members(5));
        for hash in 0..500 {
            let mut tried = Tried::none();
            let owner = picker.pick(0, &mut rng, Some(hash), &tried).unwrap().index;
            tried.insert(owner);
            let heir = picker.pick(0, &mut rng, Some(hash), &tried).unwrap().index;
            assert_ne!(owner, heir);
            assert_eq!(heir, picker.pick(0, &mut rng, Some(hash), &tried).unwrap().index);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The three questions of a pick, asked of any cluster in any state.
    #[test]
    fn a_pick_keeps_its_promises(
        shape in prop::collection::vec((0u32..4, 0u32..3, any::<bool>(), any::<bool>()), 0..8),
        hash: Option<u64>,
        seed: u64,
    ) {
        for balancer in EVERY_BALANCER {
            let mut rng = Rng::from_seed(seed);
            let listed = shape.iter().zip(1..).map(|(&(weight, priority, ..), port)| {
                Member { weight, priority, ..member(port) }
            });
            let picker = picker(&balancer, listed.collect());
            let mut tried = Tried::none();
            for (index, member) in picker.endpoints().iter().enumerate() {
                let Address::Ip(address) = &member.endpoint.address else { unreachable!() };
                let (_, _, out, was_tried) = shape[usize::from(address.port()) - 1];
                if out {
                    take_out(&member.endpoint, 0, &mut rng);
                }
                if was_tried {
                    tried.insert(index);
                }
            }
            let endpoints = picker.endpoints();
            let exists = |wanted: &dyn Fn(usize) -> bool| {
                (0..endpoints.len()).any(|index| endpoints[index].weight > 0 && wanted(index))
            };
            let available = |index: usize| endpoints[index].endpoint.is_available(0);
            let untried = |index: usize| !tried.contains(index);
            match picker.pick(0, &mut rng, hash, &tried) {
                Ok(picked) => {
                    prop_assert!(endpoints[picked.index].weight > 0);
                    prop_assert!(Arc::ptr_eq(picked.endpoint, &endpoints[picked.index].endpoint));
                    let is = (available(picked.index), untried(picked.index));
                    if exists(&|index| available(index) && untried(index)) {
                        prop_assert_eq!(is, (true, true));
                    } else if exists(&available) {
                        prop_assert_eq!(is, (true, false));
                    } else {
                        prop_assert_eq!(is, (false, true));
                    }
                }
                Err(PickError::NoEndpoints) => prop_assert!(!exists(&|_| true)),
                Err(PickError::AllEjected) => {
                    prop_assert!(exists(&|_| true) && !exists(&|index| available(index) || untried(index)));
                }
            }
        }
    }
}
