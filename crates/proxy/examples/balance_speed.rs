//! What does balancing cost a request?
//!
//! Prints nanoseconds for pick + start + finish, for each balancer, cluster size and number of threads that share the
//! cluster. Run it with `cargo run --release -p mesh-proxy --example balance_speed`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mesh_model::resources::{Address, Balancer};
use mesh_proxy::balance::{EndpointState, Member, Nanos, Outcome, PickError, Picker, Rng, Tried};

const ROUNDS: u64 = 500_000;
/// The best of these is shown: what else runs on the machine only ever adds.
const REPEATS: u64 = 7;

fn main() -> Result<(), PickError> {
    let balancers = [
        ("ewma", Balancer::Ewma),
        ("least request", Balancer::LeastRequest),
        ("round robin", Balancer::RoundRobin),
        ("random", Balancer::Random),
        ("ring hash", Balancer::RingHash { ring_size: None }),
        ("maglev", Balancer::Maglev { table_size: None }),
    ];
    println!(
        "{:<14}{:>10}{:>10}{:>12}{:>16}",
        "balancer", "endpoints", "threads", "pick (ns)", "+ request (ns)"
    );
    for (name, balancer) in &balancers {
        for (endpoints, threads) in [(1, 1), (10, 1), (1_000, 1), (10, 2)] {
            let picker = Picker::new(balancer, Duration::ZERO, members(endpoints));
            let pick = measure(&picker, threads, |picker, rng, now| {
                black_box(picker.pick(now, rng, Some(now), &Tried::none())?.index);
                Ok(())
            })?;
            let request = measure(&picker, threads, |picker, rng, now| {
                let picked = picker.pick(now, rng, Some(now), &Tried::none())?;
                picked
                    .endpoint
                    .start(now)
                    .finish(now + 1_000_000 + (now & 0xffff), Outcome::Success);
                Ok(())
            })?;
            println!("{name:<14}{endpoints:>10}{threads:>10}{pick:>12.1}{request:>16.1}");
        }
    }
    Ok(())
}

fn members(count: u16) -> Vec<Member> {
    let state = |port| EndpointState::new(Address::Ip(([10, 0, 0, 1], port).into()), None, 0);
    (1..=count)
        .map(|port| Member {
            endpoint: Arc::new(state(port)),
            weight: 1,
            priority: 0,
            locality_weight: 1,
            zone: "".into(),
        })
        .collect()
}

/// Nanoseconds for one call of `work`, on each of `threads` at once. Virtual time runs at 50,000 requests a second.
fn measure(
    picker: &Picker,
    threads: u64,
    work: impl Fn(&Picker, &mut Rng, Nanos) -> Result<(), PickError> + Sync,
) -> Result<f64, PickError> {
    let mut best = f64::INFINITY;
    for repeat in 0..REPEATS {
        let rounds = repeat * ROUNDS..(repeat + 1) * ROUNDS;
        let nanos = thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let (work, mut rounds) = (&work, rounds.clone());
                    scope.spawn(move || {
                        let mut rng = Rng::from_seed(thread);
                        let begun = Instant::now();
                        rounds.try_for_each(|round| work(picker, &mut rng, round * 20_000))?;
                        Ok(begun.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64)
                    })
                })
                .collect();
            running
                .into_iter()
                .try_fold(0.0, |slowest: f64, thread| match thread.join() {
                    Ok(nanos) => Ok(slowest.max(nanos?)),
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })?;
        best = best.min(nanos);
    }
    Ok(best)
}
