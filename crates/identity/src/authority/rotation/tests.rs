//! Years of rotation in a moment: what must hold at every time.

use proptest::prelude::*;

use super::*;
use crate::testing::{at, domain};

fn settings() -> Settings {
    let mut settings = Settings::new(domain()).with_ttl(Duration::from_secs(60));
    settings.issuer_life = Duration::from_secs(240);
    settings.root_life = Duration::from_secs(3600);
    settings.check().unwrap();
    settings
}

#[test]
fn nothing_is_due_before_its_time() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(0));
    assert_eq!(rotation.due(&settings), at(168), "70 % of an issuer's life");
    assert_eq!(rotation.step(&settings, at(167)), None);
    let Some(Step::RenewIssuer(issuer)) = rotation.step(&settings, at(168)) else {
        panic!("no new issuer");
    };
    assert_eq!((issuer.made, issuer.ends), (at(168), at(408)));
    assert_eq!(rotation.step(&settings, at(168)), None);
}

#[test]
fn a_root_is_known_before_it_signs_and_as_long_as_it_has_signed() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(0));
    rotation.promise(at(70), &settings);
    assert_eq!(rotation.promised, at(130), "one lifetime more");
    assert!(!rotation.promise(at(130), &settings));
    let old = rotation.signs();
    let Some(Step::AnnounceRoot(new)) = rotation.announce(&settings, at(20)) else {
        panic!("no announcement");
    };
    assert_eq!(rotation.announce(&settings, at(20)), None, "one at a time");
    assert_eq!((rotation.signs(), rotation.believed()), (old, vec![old, new]));
    let switch = at(130) + CLOCK_SKEW;
    let almost = switch - Duration::from_secs(1);
    while let Some(step) = rotation.step(&settings, almost) {
        assert!(matches!(step, Step::RenewIssuer(_)));
    }
    rotation.promise(switch + Duration::from_secs(50), &settings);
    assert!(matches!(
        rotation.step(&settings, switch),
        Some(Step::SwitchRoot(_))
    ));
    assert_eq!((rotation.signs(), rotation.believed()), (new, vec![old, new]));
    let Roots::Leaving { drop_at, .. } = rotation.roots else {
        panic!("nothing leaves");
    };
    assert_eq!(drop_at, switch + Duration::from_secs(110) + CLOCK_SKEW);
    while let Some(step) = rotation.step(&settings, drop_at) {
        assert!(matches!(step, Step::RenewIssuer(_) | Step::DropRoot(_)));
    }
    assert_eq!(rotation.believed(), vec![new]);
}

#[test]
fn after_years_of_sleep_there_is_one_good_root() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(0));
    rotation.promise(at(60), &settings);
    let now = at(100_000);
    let mut steps = 0;
    while rotation.step(&settings, now).is_some() {
        steps += 1;
    }
    assert!(steps <= 4, "{steps}");
    assert!(rotation.signs().ends > now && rotation.issuer.ends > now);
    assert_eq!(rotation.believed().len(), 1);
    assert!(rotation.due(&settings) > now);
}

#[test]
fn an_issuer_of_a_clock_that_was_ahead_is_replaced_when_the_clock_is_right() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(0));
    assert!(matches!(
        rotation.step(&settings, at(1000)),
        Some(Step::RenewIssuer(_))
    ));
    // Within what clocks may be apart it is good already.
    assert_eq!(rotation.step(&settings, at(1000) - CLOCK_SKEW), None);
    let Some(Step::RenewIssuer(issuer)) = rotation.step(&settings, at(600)) else {
        panic!("no new issuer");
    };
    assert_eq!((issuer.number, issuer.made, issuer.ends), (4, at(600), at(840)));
    assert_eq!(rotation.step(&settings, at(600)), None);
    assert!(rotation.due(&settings) > at(600));
}

#[test]
fn under_a_root_that_is_ahead_no_issuer_helps() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(1000));
    assert_eq!(rotation.step(&settings, at(0)), None);
    assert_eq!(rotation.renew_issuer(&settings, at(0)), None);
}

#[test]
fn a_state_is_written_and_read() {
    let settings = settings();
    let mut rotation = Rotation::begin(&settings, at(0));
    rotation.announce(&settings, at(9));
    let text = serde_json::to_string(&rotation).unwrap();
    assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), rotation);
    let far = text.replace("1800000009", "253402300800");
    assert!(serde_json::from_str::<Rotation>(&far).is_err());
}

/// A workload's certificate and the roots that it was given with it.
struct Held {
    under: u32,
    ends: SystemTime,
    known: Vec<u32>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Workloads hold their bundle until they renew. At every time each certificate that has not ended is believed by
    /// every workload whose own has not.
    #[test]
    fn whoever_is_good_is_believed_by_whoever_is_good(
        waits in proptest::collection::vec(1_u64..59, 100..600),
        forced in any::<prop::sample::Index>(),
        outage in any::<prop::sample::Index>(),
    ) {
        let settings = settings();
        let (forced, outage) = (forced.index(waits.len()), outage.index(waits.len()));
        let mut rotation = Rotation::begin(&settings, at(0));
        let (mut now, mut held) = (at(0), Vec::<Held>::new());
        for (at_wait, wait) in waits.into_iter().enumerate() {
            now += Duration::from_secs(if at_wait == outage { wait * 20 } else { wait });
            if at_wait == forced {
                rotation.announce(&settings, now);
            }
            for steps in 0.. {
                if rotation.step(&settings, now).is_none() {
                    break;
                }
                prop_assert!(steps < 8);
            }
            prop_assert!(rotation.issuer.ends > now && rotation.issuer.has_begun(now));
            prop_assert!(rotation.issuer.ends <= rotation.signs().ends);
            prop_assert!(rotation.due(&settings) > now);
            let ends = (now + settings.ttl).min(rotation.issuer.ends);
            rotation.promise(ends, &settings);
            let believed: Vec<_> = rotation.believed().iter().map(|root| root.number).collect();
            held.retain(|one| one.ends >= now);
            held.push(Held { under: rotation.signs().number, ends, known: believed.clone() });
            for one in &held {
                prop_assert!(believed.contains(&one.under));
                for other in &held {
                    prop_assert!(one.known.contains(&other.under));
                }
            }
        }
    }
}
