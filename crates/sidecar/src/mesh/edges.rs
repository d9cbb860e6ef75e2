//! What does a sidecar tell its control plane of its calls?
//!
//! What was counted since the last report, by service and direction: counts and buckets, never percentiles, so that the
//! control plane adds them up.

use std::collections::HashMap;

use mesh_model::errors::Reason;
use mesh_protocol::message::{Direction, Edge, Failures, Histogram, Protocol};
use mesh_proxy::telemetry::histogram::Snapshot;
use mesh_proxy::telemetry::stats::RouteTotals;
use mesh_proxy::telemetry::{Class, Report};

use super::own::{INBOUND, OUTSIDE, is_outbound};

/// Edges in one report; more are left out and come with a later one.
const MAX_EDGES: usize = mesh_protocol::MAX_EDGES;

/// What failed by its `grpc-status` alone, of those that a server is to blame for.
const GRPC_ERROR: &str = "grpc_error";

/// Which label set.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    listener: String,
    route: String,
    cluster: String,
    protocol: &'static str,
    /// The workload that called, where one proved who it is.
    peer: Option<String>,
    /// The port of this workload that was called.
    port: Option<String>,
}

/// What was reported of each label set.
#[derive(Default)]
pub(crate) struct Edges {
    before: HashMap<Key, RouteTotals>,
}

impl Edges {
    /// What has changed since the last time. `own` is the service that is called here, `basket.shop`, and `is_mutual` says
    /// of a cluster whether workloads are called.
    pub(crate) fn report(
        &mut self,
        report: &Report,
        own: &str,
        is_mutual: impl Fn(&str) -> bool,
    ) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut now = HashMap::with_capacity(self.before.len());
        for (labels, totals) in &report.routes {
            let key = Key {
                listener: labels.listener.as_str().to_owned(),
                route: labels.route.as_str().to_owned(),
                cluster: labels.cluster.as_str().to_owned(),
                protocol: labels.protocol.as_str(),
                peer: labels.peer().map(ToOwned::to_owned),
                port: labels.port().map(ToOwned::to_owned),
            };
            let listener = key.listener.as_str();
            let is_outbound = is_outbound(listener);
            if !is_outbound && listener != INBOUND {
                continue;
            }
            let before = self.before.get(&key);
            if edges.len() < MAX_EDGES
                && let Some(edge) = edge(&key, own, is_outbound, totals, before, &is_mutual)
            {
                edges.push(edge);
                now.insert(key, totals.clone());
            } else if let Some(before) = before {
                now.insert(key, before.clone());
            }
        }
        self.before = now;
        edges
    }
}

fn edge(
    key: &Key,
    own: &str,
    is_outbound: bool,
    totals: &RouteTotals,
    before: Option<&RouteTotals>,
    is_mutual: impl Fn(&str) -> bool,
) -> Option<Edge> {
    let nothing = RouteTotals::default();
    let before = before.unwrap_or(&nothing);
    let requests = totals.requests.saturating_sub(before.requests);
    let ended = totals.duration.count().saturating_sub(before.duration.count());
    if requests == 0 && ended == 0 {
        return None;
    }
    let (was, is) = (failures(before), failures(totals));
    let failures = is.into_iter().filter_map(|(reason, count)| {
        let count = count.saturating_sub(was.get(reason).copied().unwrap_or(0));
        (count > 0).then(|| Failures {
            reason: reason.to_owned(),
            count,
        })
    });
    let failures: Vec<_> = failures.collect();
    let (mut service, mut port) = split(key.cluster.strip_prefix(OUTSIDE).unwrap_or(&key.cluster));
    let mut mtls = is_mutual(&key.cluster);
    if !is_outbound {
        // Whoever has no identity came without TLS.
        mtls = key.peer.is_some();
        own.clone_into(&mut service);
        // 0 where none is called that was declared.
        port = key.port.as_ref().and_then(|port| port.parse().ok()).unwrap_or(0);
    }
    Some(Edge {
        direction: match is_outbound {
            true => Direction::Outbound,
            false => Direction::Inbound,
        }
        .into(),
        peer: key.peer.clone().unwrap_or_default(),
        service,
        port,
        protocol: match key.protocol {
            "http1" => Protocol::Http1,
            "http2" | "grpc" => Protocol::Http2,
            _ => Protocol::Tcp,
        }
        .into(),
        mtls,
        requests,
        denied: denied(totals).saturating_sub(denied(before)),
        failures,
        bytes_in: totals.received.saturating_sub(before.received),
        bytes_out: totals.sent.saturating_sub(before.sent),
        latency: Some(latency(&totals.duration, &before.duration)),
        audited: totals.audited.saturating_sub(before.audited),
    })
}

/// What counts against the success rate, all of it and nothing else ([`Finished::is_failure`]): by the proxy's reason, or as
/// what servers answered, by HTTP or else by gRPC.
///
/// [`Finished::is_failure`]: mesh_proxy::telemetry::stats::Finished::is_failure
fn failures(totals: &RouteTotals) -> HashMap<&'static str, u64> {
    let mut failures = HashMap::new();
    let mut known = 0_u64;
    for (class, reason, count) in totals.responses() {
        let name = match reason {
            Some(reason) if reason.status() >= 500 || class == Class::ServerError => reason.as_str(),
            None if class == Class::ServerError => "server_error",
            _ => continue,
        };
        *failures.entry(name).or_default() += count;
        known += count;
    }
    // The others ended well by HTTP.
    let by_grpc = totals.failures.saturating_sub(known);
    if by_grpc > 0 {
        failures.insert(GRPC_ERROR, by_grpc);
    }
    failures
}

fn denied(totals: &RouteTotals) -> u64 {
    let responses = totals.responses();
    let denied = responses.filter(|(_, reason, _)| *reason == Some(Reason::Denied));
    denied.map(|(_, _, count)| count).sum()
}

/// `basket.shop:3000` as service and port.
fn split(cluster: &str) -> (String, u32) {
    match cluster.rsplit_once(':') {
        Some((service, port)) => (service.to_owned(), port.parse().unwrap_or(0)),
        None => (cluster.to_owned(), 0),
    }
}

fn latency(now: &Snapshot, before: &Snapshot) -> Histogram {
    let mut histogram = Histogram {
        sum_ns: now.sum().saturating_sub(before.sum()),
        ..Histogram::default()
    };
    for (bucket, (now, before)) in now.buckets().iter().zip(before.buckets()).enumerate() {
        let count = now.saturating_sub(*before);
        if count > 0 {
            histogram.buckets.push(u32::try_from(bucket).unwrap_or(u32::MAX));
            histogram.counts.push(count);
        }
    }
    histogram
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_proxy::telemetry::stats::Finished;
    use mesh_proxy::telemetry::{Called, Protocol as Spoken, Telemetry, TelemetryOptions, ThreadTelemetry};

    use super::*;

    /// Peer, whether it is mutual, port, requests and what of them would be denied.
    type Told = (String, bool, u32, u64, u64);

    fn told(edges: &mut Edges, telemetry: &Telemetry) -> Vec<Told> {
        edges
            .report(&telemetry.look(Vec::new()), "basket.shop", |_| true)
            .into_iter()
            .map(|edge| (edge.peer, edge.mtls, edge.port, edge.requests, edge.audited))
            .collect()
    }

    #[test]
    fn callers_and_ports_are_named_and_nobody_without_tls_is_mutual() {
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let thread = ThreadTelemetry::new(Arc::clone(&telemetry), 0);
        let names = [
            INBOUND,
            "application/3000",
            "spiffe://td/ns/shop/sa/web",
            "3000",
            "3001",
        ];
        let [inbound, application, web, first, second] = names.map(|name| telemetry.label(name));
        let none = telemetry.none();
        let count = |cluster, by, port| {
            let stats = thread.route(
                &inbound,
                &application,
                cluster,
                Spoken::Http1,
                Called { by, port },
            );
            stats.started();
            stats
        };
        count(&application, Some(&web), Some(&first)).audited();
        count(&application, Some(&web), Some(&first));
        count(&application, None, Some(&first));
        // Denied, so that they came to no cluster; the last one meant no port that there is.
        count(none, Some(&web), Some(&second));
        count(none, Some(&web), None);
        let web = web.as_str();
        let mut edges = Edges::default();
        let expected = [
            (web.into(), true, 3000, 2, 1),
            (String::new(), false, 3000, 1, 0),
            (web.into(), true, 0, 1, 0),
            (web.into(), true, 3001, 1, 0),
        ];
        assert_eq!(told(&mut edges, &telemetry), expected);
        assert!(told(&mut edges, &telemetry).is_empty(), "each is told once");
    }

    #[test]
    fn what_counts_against_the_success_rate_is_told_whole() {
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let thread = ThreadTelemetry::new(Arc::clone(&telemetry), 0);
        let names = [INBOUND, "application/3000", "3000"];
        let [inbound, application, port] = names.map(|name| telemetry.label(name));
        let called = Called {
            by: None,
            port: Some(&port),
        };
        let stats = thread.route(&inbound, &application, &application, Spoken::Grpc, called);
        // Of trailers: OK, UNKNOWN, NOT_FOUND, INTERNAL, UNAVAILABLE with 503. Of the proxy: a timeout, a denial, no route.
        for (status, grpc_status, reason) in [
            (200, Some(0), None),
            (200, Some(2), None),
            (200, Some(5), None),
            (200, Some(13), None),
            (503, Some(14), None),
            (200, Some(4), Some(Reason::RequestTimeout)),
            (200, Some(7), Some(Reason::Denied)),
            (404, Some(12), Some(Reason::NoRoute)),
        ] {
            stats.started();
            stats.finished(&Finished {
                status: Some(status),
                grpc_status,
                reason,
                duration: 1,
                retries: 0,
            });
        }
        let mut edges = Edges::default().report(&telemetry.look(Vec::new()), "basket.shop", |_| true);
        let edge = edges.pop().unwrap();
        let mut told: Vec<_> = edge
            .failures
            .iter()
            .map(|one| (one.reason.as_str(), one.count))
            .collect();
        told.sort();
        // By gRPC: UNKNOWN, INTERNAL, and UNIMPLEMENTED of what has no route.
        assert_eq!(
            told,
            [("grpc_error", 3), ("request_timeout", 1), ("server_error", 1)]
        );
        assert_eq!((edge.requests, edge.denied), (8, 1));
    }
}
