//! Who calls whom, how often and how well?
//!
//! Sidecars count, and tell from time to time what they counted since; here it is added up, by who told it. Histograms
//! have one layout everywhere and are added too. How many edges are kept is bounded: what comes beyond is added up under a
//! peer and a service without names, so that sums stay right.

use std::collections::BTreeMap;

use mesh_protocol::message::{Direction, Edge, Protocol};
use mesh_proxy::telemetry::histogram::Snapshot;
use serde::Serialize;

/// Edges that are kept by name. 5,000 services with four callers each; some 25 MiB.
pub const MAX_EDGES: usize = 20_000;

/// Edges of one identity that are kept by name: nobody takes the room of all others. Who calls more than 4,000 services
/// that have one caller each is a gateway, whose sums are enough.
pub const MAX_EDGES_OF_ONE: usize = 4_000;

/// What stands for names beyond [`MAX_EDGES`] and [`MAX_EDGES_OF_ONE`].
const OTHERS: &str = "(others)";

/// Which edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    identity: String,
    direction: Direction,
    peer: String,
    service: String,
    port: u32,
    protocol: Protocol,
    mtls: bool,
}

/// What was counted.
#[derive(Debug, Default)]
struct Sum {
    requests: u64,
    failures: BTreeMap<String, u64>,
    denied: u64,
    audited: u64,
    bytes_in: u64,
    bytes_out: u64,
    latency: Snapshot,
}

/// All edges.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    sums: BTreeMap<Key, Sum>,
    /// How many are kept by name, of each identity.
    named: BTreeMap<String, usize>,
}

/// An edge as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeView {
    /// Who told it.
    pub identity: String,
    /// `inbound` or `outbound`, as seen from there.
    pub direction: &'static str,
    /// The other side; empty where it is not known.
    pub peer: String,
    /// What was called.
    pub service: String,
    /// On which port.
    pub port: u32,
    /// `auto`, `http1`, `http2` or `tcp`.
    pub protocol: &'static str,
    /// Whether both sides proved who they are.
    pub mtls: bool,
    /// Requests, or connections of TCP.
    pub requests: u64,
    /// Those of them that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Those that policy denied.
    pub denied: u64,
    /// Those that passed and would be denied, were the policies in audit mode enforced.
    pub audited: u64,
    /// Bytes from the caller.
    pub bytes_in: u64,
    /// Bytes to it.
    pub bytes_out: u64,
    /// How long they took, in nanoseconds, and how many so long: whoever reads adds those of several edges, which
    /// percentiles can't be.
    pub times_ns: Vec<(u64, u64)>,
}

impl Edges {
    /// Adds what a sidecar of this identity counted.
    pub(crate) fn add(&mut self, identity: &str, edge: &Edge) {
        let mut key = Key {
            identity: identity.to_owned(),
            direction: edge.direction(),
            peer: edge.peer.clone(),
            service: edge.service.clone(),
            port: edge.port,
            protocol: edge.protocol(),
            mtls: edge.mtls,
        };
        if !self.sums.contains_key(&key) {
            let own = self.named.get(identity).copied().unwrap_or_default();
            if own < MAX_EDGES_OF_ONE && self.sums.len() < MAX_EDGES {
                self.named.insert(identity.to_owned(), own + 1);
            } else {
                (key.peer, key.service, key.port) = (OTHERS.into(), OTHERS.into(), 0);
                // One that is made up of identities without end would still grow.
                if self.sums.len() >= 2 * MAX_EDGES {
                    key.identity = OTHERS.into();
                }
            }
        }
        self.sums.entry(key).or_default().add(edge);
    }

    /// All of them.
    pub(crate) fn view(&self) -> Vec<EdgeView> {
        self.sums.iter().map(|(key, sum)| sum.view(key)).collect()
    }
}

impl Sum {
    fn add(&mut self, edge: &Edge) {
        for (sum, count) in [
            (&mut self.requests, edge.requests),
            (&mut self.denied, edge.denied),
            (&mut self.audited, edge.audited),
            (&mut self.bytes_in, edge.bytes_in),
            (&mut self.bytes_out, edge.bytes_out),
        ] {
            *sum = sum.saturating_add(count);
        }
        for failures in &edge.failures {
            let known = self.failures.contains_key(&failures.reason);
            let room = self.failures.len() < mesh_protocol::MAX_FAILURES;
            let reason = if known || room { &failures.reason } else { OTHERS };
            let sum = self.failures.entry(reason.to_owned()).or_default();
            *sum = sum.saturating_add(failures.count);
        }
        if let Some(latency) = &edge.latency {
            for (bucket, count) in latency.buckets.iter().zip(&latency.counts) {
                self.latency.add_bucket(*bucket as usize, *count);
            }
            self.latency.add_sum(latency.sum_ns);
        }
    }

    fn view(&self, key: &Key) -> EdgeView {
        EdgeView {
            identity: key.identity.clone(),
            direction: match key.direction {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            },
            peer: key.peer.clone(),
            service: key.service.clone(),
            port: key.port,
            protocol: name_of(key.protocol),
            mtls: key.mtls,
            requests: self.requests,
            failures: self.failures.clone(),
            denied: self.denied,
            audited: self.audited,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            times_ns: self.latency.times().collect(),
        }
    }
}

/// The name of a protocol.
pub(crate) const fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "auto",
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
        Protocol::Tcp => "tcp",
    }
}

#[cfg(test)]
mod tests {
    use mesh_protocol::message::{Failures, Histogram};

    use super::*;

    fn edge(service: &str) -> Edge {
        Edge {
            service: service.into(),
            requests: 2,
            audited: 1,
            failures: vec![Failures {
                reason: "connect_refused".into(),
                count: 1,
            }],
            latency: Some(Histogram {
                buckets: vec![0, 1, 500],
                counts: vec![1, 1, 9],
                sum_ns: 20_000,
            }),
            ..Edge::default()
        }
    }

    #[test]
    fn what_is_told_is_added_up() {
        let mut edges = Edges::default();
        edges.add("a", &edge("basket"));
        edges.add("a", &edge("basket"));
        edges.add("b", &edge("basket"));
        let view = edges.view();
        assert_eq!(view.len(), 2);
        assert_eq!((view[0].requests, view[0].failures["connect_refused"]), (4, 2));
        assert_eq!((view[0].audited, view[1].audited), (2, 1));
        assert_eq!(view[0].times_ns, [(5_000, 2), (15_000, 2)]);
    }

    #[test]
    fn edges_without_end_are_bounded_and_sums_stay_right() {
        let mut edges = Edges::default();
        let of_one = MAX_EDGES_OF_ONE + 100;
        let identities = MAX_EDGES / MAX_EDGES_OF_ONE + 1;
        for identity in 0..identities {
            for number in 0..of_one {
                edges.add(&identity.to_string(), &edge(&number.to_string()));
            }
        }
        let named = edges.sums.keys().filter(|key| key.service != OTHERS).count();
        assert!(named <= MAX_EDGES, "{named}");
        assert_eq!(edges.sums.len(), named + identities);
        let of_first = edges.sums.keys().filter(|key| key.identity == "0").count();
        assert_eq!(of_first, MAX_EDGES_OF_ONE + 1);
        let sum: u64 = edges.view().iter().map(|edge| edge.requests).sum();
        assert_eq!(sum, 2 * (of_one * identities) as u64);
    }
}
