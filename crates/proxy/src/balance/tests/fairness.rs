//! Does everybody get their share?

use proptest::prelude::*;

use super::super::{Outcome, Rng, SECOND};
use super::*;

/// Pearson's chi-square of counts against weights.
fn chi_square(counts: &[usize], weights: &[u32]) -> f64 {
    let picks: usize = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    let expected = |weight: u32| picks as f64 * f64::from(weight) / f64::from(total);
    counts
        .iter()
        .zip(weights)
        .map(|(&count, &weight)| (count as f64 - expected(weight)).powi(2) / expected(weight))
        .sum()
}

#[test]
fn idle_endpoints_share_by_weight() {
    let weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    for balancer in [Balancer::Ewma, Balancer::LeastRequest, Balancer::Random] {
        for seed in 0..5 {
            let picker = picker(&balancer, weighted(&weights));
            let seen = counts(&picker, 50_000, 0, &mut Rng::from_seed(seed));
            // Nine degrees of freedom: above 33.7 once in ten thousand.
            assert!(
                chi_square(&seen, &weights) < 33.7,
                "{balancer:?} {seed}: {seen:?}"
            );
        }
    }
}

#[test]
fn round_robin_is_exact() {
    let weights = [1, 2, 3, 4];
    let picker = picker(&Balancer::RoundRobin, weighted(&weights));
    assert_eq!(
        counts(&picker, 1000, 0, &mut Rng::from_seed(1)),
        [100, 200, 300, 400]
    );
}

#[test]
fn keys_missing_are_spread_by_weight() {
    for balancer in [
        Balancer::RingHash { ring_size: None },
        Balancer::Maglev { table_size: None },
    ] {
        let seen = counts(
            &picker(&balancer, weighted(&[1, 3])),
            40_000,
            0,
            &mut Rng::from_seed(1),
        );
        assert!((8_500..11_500).contains(&seen[0]), "{balancer:?}: {seen:?}");
    }
}

#[test]
fn localities_share_by_their_weight() {
    for balancer in EVERY_BALANCER {
        // One endpoint in the first zone, three in the second, and the zones are equals.
        let members = ["a", "b", "b", "b"].iter().zip(1..).map(|(zone, port)| Member {
            zone: (*zone).into(),
            ..member(port)
        });
        let seen = counts(
            &picker(&balancer, members.collect()),
            60_000,
            0,
            &mut Rng::from_seed(2),
        );
        assert!((26_000..34_000).contains(&seen[0]), "{balancer:?}: {seen:?}");
        assert!(
            seen[1..].iter().all(|count| (8_000..12_000).contains(count)),
            "{balancer:?}: {seen:?}"
        );
    }
}

#[test]
fn busy_endpoints_hold_requests_by_weight() {
    // Nothing ever finishes: the requests held are the balance itself.
    for balancer in [Balancer::Ewma, Balancer::LeastRequest] {
        let weights = [1, 1, 2, 4, 8];
        let picker = picker(&balancer, weighted(&weights));
        let mut rng = Rng::from_seed(3);
        let held: Vec<_> = (0..16_000)
            .map(|_| {
                picker
                    .pick(0, &mut rng, None, &Tried::none())
                    .unwrap()
                    .endpoint
                    .start(0)
            })
            .collect();
        for (member, weight) in picker.endpoints().iter().zip(weights) {
            let share = f64::from(member.endpoint.load()) / f64::from(weight * 1_000);
            assert!(
                (0.97..1.03).contains(&share),
                "{balancer:?}: {share} of its share"
            );
        }
        drop(held);
        assert!(
            picker
                .endpoints()
                .iter()
                .all(|member| member.endpoint.load() == 0)
        );
    }
}

#[test]
fn two_choices_know_one_and_two_endpoints() {
    for balancer in [Balancer::Ewma, Balancer::LeastRequest] {
        let mut rng = Rng::from_seed(4);
        assert_eq!(counts(&picker(&balancer, members(1)), 10, 0, &mut rng), [10]);
        let two = picker(&balancer, members(2));
        let held = two.endpoints()[0].endpoint.start(0);
        assert_eq!(
            counts(&two, 100, 0, &mut rng),
            [0, 100],
            "{balancer:?}: the idle one of two"
        );
        drop(held);
        let seen = counts(&two, 10_000, 0, &mut rng);
        assert!((4_700..5_300).contains(&seen[0]), "{balancer:?}: {seen:?}");
    }
}

#[test]
fn weight_zero_takes_nothing() {
    for balancer in EVERY_BALANCER {
        let mut members = weighted(&[0, 1, 0, 1]);
        members.push(Member {
            locality_weight: 0,
            zone: "far".into(),
            ..member(9)
        });
        let picker = picker(&balancer, members);
        let seen = counts(&picker, 200, 0, &mut Rng::from_seed(5));
        for (count, member) in seen.iter().zip(picker.endpoints()) {
            assert_eq!(
                *count > 0,
                member.weight * member.locality_weight > 0,
                "{balancer:?}: {seen:?}"
            );
        }
    }
}

#[test]
fn survivors_share_by_weight_however_few() {
    // 97 of 100 are out, three in a row behind them are not: no neighbour may inherit what the dead leave.
    for balancer in [
        Balancer::Ewma,
        Balancer::LeastRequest,
        Balancer::RoundRobin,
        Balancer::Random,
    ] {
        let mut rng = Rng::from_seed(6);
        let picker = picker(&balancer, members(100));
        for member in &picker.endpoints()[..97] {
            take_out(&member.endpoint, 0, &mut rng);
        }
        let seen = counts(&picker, 30_000, 0, &mut rng);
        assert!(seen[..97].iter().all(|&count| count == 0));
        // Two degrees of freedom: above 18.4 once in ten thousand.
        assert!(
            chi_square(&seen[97..], &[1; 3]) < 18.4,
            "{balancer:?}: {:?}",
            &seen[97..]
        );
    }
}

#[test]
fn slow_start_ramps() {
    let window = Duration::from_secs(100);
    for balancer in [
        Balancer::Ewma,
        Balancer::LeastRequest,
        Balancer::RoundRobin,
        Balancer::Random,
    ] {
        let newcomer = EndpointState::new(address(9), None, 1_000 * SECOND);
        let mut members = members(9);
        members.push(Member {
            endpoint: Arc::new(newcomer),
            ..member(9)
        });
        let picker = Picker::new(&balancer, window, members);
        let mut rng = Rng::from_seed(7);
        let share = |age: Nanos, rng: &mut Rng| {
            let seen = counts(&picker, 50_000, (1_000 + age) * SECOND, rng);
            seen[9] as f64 * 10.0 / 50_000.0
        };
        for (age, low, high) in [
            (0, 0.08, 0.14),
            (50, 0.5, 0.65),
            (100, 0.93, 1.07),
            (500, 0.93, 1.07),
        ] {
            let share = share(age, &mut rng);
            assert!(
                (low..high).contains(&share),
                "{balancer:?} after {age} s: {share} of its share"
            );
        }
    }
}

#[test]
fn a_faster_newcomer_is_still_warmed_slowly() {
    let now = 1_000 * SECOND;
    let newcomer = Arc::new(EndpointState::new(address(2), None, now));
    let veteran = member(1);
    for (endpoint, latency) in [(&newcomer, MS / 2), (&veteran.endpoint, MS)] {
        endpoint.start(now - latency).finish(now, Outcome::Success);
    }
    let members = vec![
        veteran,
        Member {
            endpoint: newcomer,
            ..member(2)
        },
    ];
    let picker = Picker::new(&Balancer::Ewma, Duration::from_secs(60), members);
    let seen = counts(&picker, 10_000, now, &mut Rng::from_seed(8));
    assert!((500..3_000).contains(&seen[1]), "{seen:?}");
}

#[test]
fn a_cluster_that_is_new_altogether_spreads_evenly() {
    for balancer in EVERY_BALANCER {
        let picker = Picker::new(&balancer, Duration::from_secs(60), members(4));
        let seen = counts(&picker, 40_000, SECOND, &mut Rng::from_seed(8));
        assert!(
            seen.iter().all(|count| (8_000..12_000).contains(count)),
            "{balancer:?}: {seen:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_starves(weights in prop::collection::vec(1u32..=10, 1..12), seed: u64) {
        for balancer in EVERY_BALANCER {
            let picker = picker(&balancer, weighted(&weights));
            let picks = 200 * weights.iter().sum::<u32>() as usize;
            let seen = counts(&picker, picks, 0, &mut Rng::from_seed(seed));
            prop_assert!(seen.iter().all(|&count| count > 0), "{:?}: {:?}", balancer, seen);
        }
    }
}

#[test]
fn how_long_a_stream_lasts_is_no_latency() {
    let endpoint = member(1).endpoint;
    let mut stream = endpoint.start(0);
    stream.answered(MS, Outcome::Success);
    assert_eq!((endpoint.latency(MS), endpoint.load()), (Some(1e6), 1));
    stream.finish(8 * SECOND, Outcome::Success);
    assert!(endpoint.latency(8 * SECOND).unwrap() < 1e6);
    assert_eq!(endpoint.load(), 0);
    // One that fails in the end is as good as one that failed: a second, and not at once.
    let mut stream = endpoint.start(8 * SECOND);
    stream.answered(8 * SECOND + MS, Outcome::Success);
    stream.finish(16 * SECOND, Outcome::Failure);
    let latency = endpoint.latency(16 * SECOND).unwrap();
    assert!((0.3e9..0.8e9).contains(&latency), "{latency}");
}
