//! How does a cluster fare under traffic, in virtual time?
//!
//! Requests arrive at random (Poisson), servers take their time, and every answer comes back to the balancer
//! as it would from a wire. A run is replayed by its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::{InFlight, Outcome, SECOND};
use super::*;

/// One server's behaviour at a moment.
#[derive(Clone, Copy)]
struct Server {
    /// Mean service time; each is drawn from half to one and a half of it.
    takes: Nanos,
    answers: Outcome,
}

const FAST: Server = Server {
    takes: MS,
    answers: Outcome::Success,
};

/// What came of a run.
struct Report {
    /// Requests sent to each endpoint.
    sent: Vec<usize>,
    /// Most requests in flight on each endpoint at once.
    most: Vec<u32>,
    /// Latencies, ascending.
    latencies: Vec<Nanos>,
}

impl Report {
    fn share(&self, index: usize) -> f64 {
        self.sent[index] as f64 / self.sent.iter().sum::<usize>() as f64
    }

    fn quantile(&self, quantile: f64) -> Nanos {
        self.latencies[((self.latencies.len() - 1) as f64 * quantile) as usize]
    }
}

/// Sends `per_second` requests from `from` to `to`; `server` says how an endpoint behaves at a time.
fn run(
    picker: &Picker,
    rng: &mut Rng,
    per_second: u64,
    (from, to): (Nanos, Nanos),
    server: impl Fn(usize, Nanos) -> Server,
) -> Report {
    let count = picker.endpoints().len();
    let mut report = Report {
        sent: vec![0; count],
        most: vec![0; count],
        latencies: Vec::new(),
    };
    let mut flying: Vec<Option<(InFlight, Outcome)>> = Vec::new();
    let mut ends: BinaryHeap<Reverse<(Nanos, usize)>> = BinaryHeap::new();
    let mut arrival = from;
    while arrival < to || !ends.is_empty() {
        if let Some(&Reverse((end, request))) = ends.peek()
            && (end <= arrival || arrival >= to)
        {
            ends.pop();
            let (guard, outcome) = flying[request].take().unwrap();
            guard.finish(end, outcome);
            continue;
        }
        let picked = picker.pick(arrival, rng, None, &Tried::none()).unwrap();
        let Server { takes, answers } = server(picked.index, arrival);
        let latency = (takes as f64 * (0.5 + rng.unit())) as Nanos;
        let guard = picked.endpoint.start(arrival);
        report.sent[picked.index] += 1;
        report.most[picked.index] = report.most[picked.index].max(picked.endpoint.load());
        report.latencies.push(latency);
        ends.push(Reverse((arrival + latency, flying.len())));
        flying.push(Some((guard, answers)));
        arrival += (-(1.0 - rng.unit()).ln() * (SECOND / per_second) as f64) as Nanos + 1;
    }
    report.latencies.sort_unstable();
    assert!(
        picker
            .endpoints()
            .iter()
            .all(|member| member.endpoint.load() == 0)
    );
    report
}

#[test]
fn equals_share_evenly_under_load() {
    for balancer in [
        Balancer::Ewma,
        Balancer::LeastRequest,
        Balancer::RoundRobin,
        Balancer::Random,
    ] {
        let picker = picker(&balancer, members(10));
        let report = run(
            &picker,
            &mut Rng::from_seed(1),
            20_000,
            (0, 10 * SECOND),
            |_, _| FAST,
        );
        for index in 0..10 {
            let share = report.share(index);
            assert!(
                (0.085..0.115).contains(&share),
                "{balancer:?}: {index} got {share}"
            );
        }
    }
}

#[test]
fn nobody_starves_at_a_trickle() {
    for seed in 0..5 {
        let picker = picker(&Balancer::Ewma, members(10));
        let report = run(
            &picker,
            &mut Rng::from_seed(seed),
            10,
            (0, 300 * SECOND),
            |_, _| FAST,
        );
        assert!(
            report.sent.iter().all(|&sent| sent > 60),
            "seed {seed}: {:?}",
            report.sent
        );
    }
}

#[test]
fn a_slow_endpoint_is_avoided_and_comes_back() {
    let picker = picker(&Balancer::Ewma, members(10));
    let mut rng = Rng::from_seed(2);
    let slow = Server {
        takes: 300 * MS,
        answers: Outcome::Success,
    };
    let ill = |index, _| if index == 4 { slow } else { FAST };
    run(&picker, &mut rng, 1_000, (0, 20 * SECOND), |_, _| FAST);
    let report = run(&picker, &mut rng, 1_000, (20 * SECOND, 80 * SECOND), ill);
    assert!(report.share(4) < 0.002, "{:?}", report.sent);
    assert!(report.quantile(0.99) < 2 * MS);
    let report = run(&picker, &mut rng, 1_000, (140 * SECOND, 170 * SECOND), |_, _| {
        FAST
    });
    assert!(report.share(4) > 0.05, "{:?}", report.sent);
}

#[test]
fn latency_beats_turns_when_one_is_slow() {
    let slow = Server {
        takes: 100 * MS,
        answers: Outcome::Success,
    };
    let server = |index, _| if index == 0 { slow } else { FAST };
    let p99 = |balancer: &Balancer| {
        run(
            &picker(balancer, members(5)),
            &mut Rng::from_seed(3),
            500,
            (0, 60 * SECOND),
            server,
        )
        .quantile(0.99)
    };
    let (ewma, turns) = (p99(&Balancer::Ewma), p99(&Balancer::RoundRobin));
    assert!(ewma * 10 < turns, "{ewma} {turns}");
}

#[test]
fn an_endpoint_that_hangs_holds_few_requests() {
    let hung = Server {
        takes: 3_600 * SECOND,
        answers: Outcome::Failure,
    };
    for (balancer, most) in [(Balancer::Ewma, 20), (Balancer::LeastRequest, 20)] {
        let picker = picker(&balancer, members(5));
        let server = |index, _| if index == 1 { hung } else { FAST };
        let report = run(&picker, &mut Rng::from_seed(4), 1_000, (0, 30 * SECOND), server);
        assert!(
            report.most[1] <= most,
            "{balancer:?}: {} requests hang",
            report.most[1]
        );
    }
}

#[test]
fn failing_fast_attracts_nothing() {
    let failing = Server {
        takes: MS / 20,
        answers: Outcome::Failure,
    };
    let picker = picker(&Balancer::Ewma, members(5));
    let server = |index, _| if index == 2 { failing } else { FAST };
    let report = run(&picker, &mut Rng::from_seed(5), 1_000, (0, 60 * SECOND), server);
    assert!(report.share(2) < 0.002, "{:?}", report.sent);
}

#[test]
fn a_newcomer_is_not_flooded() {
    // All take 50 ms and are known, save the newcomer, which takes a second to answer at all.
    let mut members = members(9);
    let newcomer = member(99);
    let old = picker(&Balancer::Ewma, members.clone());
    let mut rng = Rng::from_seed(6);
    let usual = Server {
        takes: 50 * MS,
        answers: Outcome::Success,
    };
    let known = run(&old, &mut rng, 2_000, (0, 10 * SECOND), |_, _| usual);
    members.push(newcomer);
    let all = picker(&Balancer::Ewma, members);
    let cold = Server {
        takes: SECOND,
        answers: Outcome::Success,
    };
    let server = |index, _| if index == 9 { cold } else { usual };
    let report = run(&all, &mut rng, 2_000, (10 * SECOND, 11 * SECOND), server);
    let usual_most = known.most.iter().max().unwrap();
    assert!(
        report.most[9] <= usual_most + 2,
        "{} in flight, others had {usual_most}",
        report.most[9]
    );
    assert!(report.sent[9] > 0);
}

#[test]
fn larger_machines_carry_more_under_load() {
    // Service time grows with the load for its size: what weights are for.
    let weights = [1, 1, 4];
    for balancer in [Balancer::Ewma, Balancer::LeastRequest] {
        let picker = picker(&balancer, weighted(&weights));
        let server = |index: usize, _| {
            let load = u64::from(picker.endpoints()[index].endpoint.load());
            Server {
                takes: 10 * MS * (1 + load / u64::from(weights[index])),
                answers: Outcome::Success,
            }
        };
        let report = run(&picker, &mut Rng::from_seed(7), 1_000, (0, 20 * SECOND), server);
        assert!(
            (0.55..0.75).contains(&report.share(2)),
            "{balancer:?}: {:?}",
            report.sent
        );
    }
}

#[test]
fn a_restarting_server_costs_one_connect_each_backoff() {
    // Endpoint 0 refuses for 30 s; each request that meets it reports a failed connect and goes elsewhere.
    for balancer in EVERY_BALANCER {
        let picker = picker(&balancer, members(4));
        let mut rng = Rng::from_seed(8);
        let mut refused = Vec::new();
        let mut after = 0;
        for request in 0..120_000u64 {
            let now = request * MS;
            let mut tried = Tried::none();
            loop {
                let picked = picker.pick(now, &mut rng, None, &tried).unwrap();
                let guard = picked.endpoint.start(now);
                if picked.index == 0 && now < 30 * SECOND {
                    picked.endpoint.connect_failed(now, &mut rng);
                    guard.finish(now, Outcome::Cancelled);
                    refused.push(now);
                    tried.insert(picked.index);
                    continue;
                }
                picked.endpoint.connect_succeeded();
                guard.finish(now, Outcome::Success);
                after += u32::from(picked.index == 0);
                break;
            }
        }
        // 1 + 2 + 4 + 8 + 16 s: five or six times, not thirty thousand.
        assert!((4..=7).contains(&refused.len()), "{balancer:?}: {refused:?}");
        assert!(after > 5_000, "{balancer:?}: back for {after} requests only");
        let stats = picker.endpoints()[0].endpoint.stats(120 * SECOND);
        assert_eq!(stats.connect_failures, refused.len() as u64);
        assert_eq!(
            (stats.ejections, stats.failures_in_a_row, stats.available),
            (stats.connect_failures, 0, true)
        );
    }
}
