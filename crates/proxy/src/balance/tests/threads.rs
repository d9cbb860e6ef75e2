//! Do the numbers hold when several threads share them?

use std::sync::Barrier;
use std::thread;

use super::super::{EndpointRegistry, Outcome};
use super::*;

const THREADS: u64 = 4;
/// Long enough that the threads overlap even where they share one core.
const REQUESTS: u64 = 40_000;

/// Runs `work` on several threads at once, each with its number.
fn together(work: impl Fn(u64) + Sync) {
    let gate = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (work, gate) = (&work, &gate);
            scope.spawn(move || {
                gate.wait();
                work(number);
            });
        }
    });
}

#[test]
fn nothing_is_lost_or_counted_twice() {
    for balancer in EVERY_BALANCER {
        let picker = picker(&balancer, tiers(&[0, 0, 0, 1, 1]));
        together(|number| {
            let mut rng = Rng::from_seed(number);
            let mut held = Vec::new();
            for request in 0..REQUESTS {
                let now = request * 10_000;
                let picked = picker.pick(now, &mut rng, Some(request), &Tried::none()).unwrap();
                held.push(picked.endpoint.start(now));
                match rng.below(50) {
                    0 => picked.endpoint.connect_failed(now, &mut rng),
                    1 => picked.endpoint.connect_succeeded(),
                    _ => {}
                }
                if held.len() > 16 {
                    let guard = held.swap_remove(rng.below(16) as usize);
                    let outcome =
                        [Outcome::Success, Outcome::Failure, Outcome::Cancelled][rng.below(3) as usize];
                    guard.finish(now, outcome);
                }
                assert!(
                    u64::from(picked.endpoint.load()) <= THREADS * 17,
                    "in flight underflowed"
                );
            }
        });
        let endpoints = picker.endpoints().iter().map(|member| member.endpoint.stats(0));
        let (mut requests, mut in_flight) = (0, 0);
        for stats in endpoints {
            requests += stats.requests;
            in_flight += stats.in_flight;
            assert!(stats.ejections <= stats.connect_failures);
        }
        assert_eq!((requests, in_flight), (THREADS * REQUESTS, 0), "{balancer:?}");
    }
}

#[test]
fn threads_take_every_turn_once() {
    // Turns are short, so it takes many of them until two threads meet.
    let turns = 10 * REQUESTS;
    let picker = picker(&Balancer::RoundRobin, weighted(&[1, 2, 5]));
    together(|number| {
        let mut rng = Rng::from_seed(number);
        for _ in 0..turns {
            drop(
                picker
                    .pick(0, &mut rng, None, &Tried::none())
                    .unwrap()
                    .endpoint
                    .start(0),
            );
        }
    });
    let taken = picker
        .endpoints()
        .iter()
        .map(|member| member.endpoint.stats(0).requests);
    assert_eq!(
        taken.collect::<Vec<_>>(),
        [1, 2, 5].map(|weight| weight * THREADS * turns / 8)
    );
}

#[test]
fn threads_find_the_same_state() {
    let registry = EndpointRegistry::default();
    let keep: Vec<_> = (0..50)
        .map(|port| registry.get_or_create("c", &address(port), None, 0))
        .collect();
    together(|_| {
        for round in 0..2_000u16 {
            let port = round % 100;
            let state = registry.get_or_create("c", &address(port), None, 1);
            assert_eq!(state.added_at() == 0, port < 50);
            let _held = state.start(0);
        }
    });
    registry.sweep();
    assert_eq!(registry.endpoints().len(), keep.len());
    assert_eq!(
        keep.iter().map(|state| state.stats(0).requests).sum::<u64>(),
        THREADS * 1_000
    );
}
