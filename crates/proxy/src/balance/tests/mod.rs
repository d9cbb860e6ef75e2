//! Pickers as their users see them: endpoints that fail, slow down and come back, under seeded traffic in
//! virtual time.

mod failover;
mod fairness;
mod simulation;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use mesh_model::resources::{Address, Balancer};

use super::{EndpointState, Member, Nanos, Picker, Rng, Tried};

pub(super) const MS: Nanos = 1_000_000;

pub(super) fn address(port: u16) -> Address {
    Address::Ip(([10, 0, 0, 1], port).into())
}

/// A member of weight 1 and priority 0, added at the beginning of time.
pub(super) fn member(port: u16) -> Member {
    Member {
        endpoint: Arc::new(EndpointState::new(address(port), None, 0)),
        weight: 1,
        priority: 0,
        locality_weight: 1,
        zone: "".into(),
    }
}

fn members(count: u16) -> Vec<Member> {
    (1..=count).map(member).collect()
}

fn weighted(weights: &[u32]) -> Vec<Member> {
    weights
        .iter()
        .zip(1..)
        .map(|(&weight, port)| Member {
            weight,
            ..member(port)
        })
        .collect()
}

fn tiers(priorities: &[u32]) -> Vec<Member> {
    priorities
        .iter()
        .zip(1..)
        .map(|(&priority, port)| Member {
            priority,
            ..member(port)
        })
        .collect()
}

fn picker(balancer: &Balancer, members: Vec<Member>) -> Picker {
    Picker::new(balancer, Duration::ZERO, members)
}

const EVERY_BALANCER: [Balancer; 6] = [
    Balancer::Ewma,
    Balancer::LeastRequest,
    Balancer::RoundRobin,
    Balancer::Random,
    Balancer::RingHash { ring_size: None },
    Balancer::Maglev {
        table_size: Some(1_021),
    },
];

/// How often each endpoint is picked when no request is ever in flight at a pick.
fn counts(picker: &Picker, picks: usize, now: Nanos, rng: &mut Rng) -> Vec<usize> {
    let mut seen = vec![0; picker.endpoints().len()];
    for _ in 0..picks {
        seen[picker.pick(now, rng, None, &Tried::none()).unwrap().index] += 1;
    }
    seen
}

/// Fails connects until the endpoint is out for `at_least` from `now`.
fn take_out(endpoint: &EndpointState, now: Nanos, rng: &mut Rng) {
    endpoint.connect_failed(now, rng);
    assert!(!endpoint.is_available(now));
}
