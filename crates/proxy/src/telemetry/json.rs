//! What do tools read?
//!
//! [`render`] turns a [`Report`] into one JSON value: what `stats()` gives in Node, `/stats` on the admin port and
//! `mesh stats` on a terminal. Names are camelCase, as everywhere in JSON; durations are milliseconds; counts are since
//! the start. Percentiles stand beside the histogram they came from, for people; a program that adds up proxies or
//! subtracts moments does that with the histogram.

use serde_json::{Map, Value, json};

use super::counter::ReasonTotals;
use super::histogram::{Snapshot, UPPER};
use super::labels::Protocol;
use super::report::{CertificateSample, EndpointSample, Report, ThreadReport};
use super::stats::{ClusterTotals, LimitTotals, ListenerTotals, RejectionTotals, RouteTotals};

/// The report as JSON.
pub fn render(report: &Report) -> Value {
    let routes = report.routes.iter().map(|(labels, totals)| {
        let names = labels.named().map(|(name, text)| (name.to_owned(), text.into()));
        joined(Value::Object(names.collect()), route_json(totals))
    });
    let listeners = report
        .listeners
        .iter()
        .map(|(name, totals)| joined(json!({ "name": name.as_str() }), listener_json(totals)));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "routes": routes.collect::<Vec<_>>(),
        "listeners": listeners.collect::<Vec<_>>(),
        "clusters": clusters(report),
        "threads": report.threads.iter().map(thread_json).collect::<Vec<_>>(),
        "threadImbalance": report.imbalance,
        "updates": { "applied": report.control.updates_applied, "refused": report.control.updates_refused },
        "panics": report.control.panics,
        "dns": dns_json(report),
        "reloads": { "done": report.control.reloads_done, "refused": report.control.reloads_refused },
        "certificates": report.certificates.iter().map(certificate_json).collect::<Vec<_>>(),
        "accessLog": {
            "written": report.log.written,
            "dropped": report.log.dropped,
            "errors": report.log.errors,
        },
        "overflows": report.overflows,
        "endpointsOmitted": report.endpoints_omitted,
        "process": process_json(report),
    })
}

fn route_json(route: &RouteTotals) -> Value {
    let (mut responses, mut reasons) = (Map::new(), Map::new());
    for (class, reason, count) in route.responses() {
        add(&mut responses, class.as_str(), count);
        if let Some(reason) = reason {
            add(&mut reasons, reason.as_str(), count);
        }
    }
    let mut grpc = Map::new();
    for (status, count) in route.grpc_statuses() {
        let status = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
        grpc.insert(status, count.into());
    }
    let ended = route.duration.count();
    let succeeded = ended.saturating_sub(route.failures);
    json!({
        "requests": route.requests,
        "active": route.active(),
        "failures": route.failures,
        "successRate": (ended > 0).then(|| succeeded as f64 / ended as f64),
        "retries": route.retries,
        "audited": route.audited,
        "bytesReceived": route.received,
        "bytesSent": route.sent,
        "responses": responses,
        "reasons": reasons,
        "grpcStatuses": grpc,
        "duration": histogram_json(&route.duration),
    })
}

fn listener_json(listener: &ListenerTotals) -> Value {
    let mut detected = Map::new();
    for (protocol, count) in Protocol::ALL.iter().zip(listener.detected) {
        if count > 0 {
            add(&mut detected, protocol.as_str(), count);
        }
    }
    json!({
        "connections": listener.accepted,
        "active": listener.active(),
        "idle": listener.idle,
        "closed": listener.closed,
        "closedBy": reasons_json(&listener.closed_by),
        "detected": detected,
        "tlsHandshakes": listener.tls.count(),
        "tlsFailures": listener.tls_failed,
        "tlsDuration": histogram_json(&listener.tls),
        "limitHits": limits_json(&listener.limits),
        "identityRejections": rejections_json(&listener.rejected),
    })
}

/// Clusters with their endpoints; also those of which so far only endpoints are known.
fn clusters(report: &Report) -> Vec<Value> {
    let mut endpoints: Map<String, Value> = Map::new();
    for sample in &report.endpoints {
        let of_cluster = endpoints.entry(&sample.cluster).or_insert_with(|| json!([]));
        if let Some(list) = of_cluster.as_array_mut() {
            list.push(endpoint_json(sample));
        }
    }
    let mut clusters = Vec::new();
    for (name, totals) in &report.clusters {
        let own = endpoints.remove(name.as_str()).unwrap_or_else(|| json!([]));
        clusters.push((name.as_str().to_owned(), cluster_json(totals), own));
    }
    for (name, own) in endpoints {
        clusters.push((name, cluster_json(&ClusterTotals::default()), own));
    }
    clusters.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    clusters
        .into_iter()
        .map(|(name, totals, own)| joined(json!({ "name": name, "endpoints": own }), totals))
        .collect()
}

fn cluster_json(cluster: &ClusterTotals) -> Value {
    json!({
        "connections": cluster.connected.count(),
        "active": cluster.active(),
        "idle": cluster.idle,
        "closed": cluster.closed,
        "closedBy": reasons_json(&cluster.closed_by),
        "connectFailures": reasons_json(&cluster.failed),
        "connectDuration": histogram_json(&cluster.connected),
        "poolHits": cluster.pool_hits,
        "poolMisses": cluster.pool_misses,
        "pending": cluster.pending,
        "limitHits": limits_json(&cluster.limits),
        "identityRejections": rejections_json(&cluster.rejected),
    })
}

fn endpoint_json(sample: &EndpointSample) -> Value {
    json!({
        "address": sample.address,
        "state": sample.state.as_str(),
        "active": sample.active,
        "requests": sample.requests,
        "connectFailures": sample.connect_failures,
        "ejections": sample.ejections,
        "latencyMs": sample.latency.map(millis),
    })
}

fn dns_json(report: &Report) -> Value {
    let lookups = report.control.lookups.iter();
    let lookups: Map<_, _> = lookups
        .map(|(result, count)| (result.as_str().to_owned(), (*count).into()))
        .collect();
    let names = report.names.iter().map(|sample| {
        json!({
            "name": sample.name,
            "kind": sample.kind.as_str(),
            "answers": sample.answers,
            "ageMs": sample.age.map(millis),
            "failures": sample.failures,
            "error": sample.error,
        })
    });
    json!({ "lookups": lookups, "names": names.collect::<Vec<_>>() })
}

fn certificate_json(sample: &CertificateSample) -> Value {
    json!({ "kind": sample.owner.as_str(), "name": sample.name, "notAfterSeconds": sample.not_after })
}

fn thread_json(thread: &ThreadReport) -> Value {
    json!({
        "number": thread.number,
        "cpuSeconds": thread.cpu.map(|cpu| cpu.as_secs_f64()),
        "connections": thread.connections,
    })
}

fn process_json(report: &Report) -> Value {
    let process = &report.process;
    json!({
        "cpuSeconds": process.cpu.map(|cpu| cpu.as_secs_f64()),
        "residentBytes": process.resident_bytes,
        "virtualBytes": process.virtual_bytes,
        "openFds": process.open_fds,
        "maxFds": process.max_fds,
        "startSeconds": process.start_seconds,
    })
}

/// Percentiles, and the buckets that are not empty as pairs of upper border and count; the border of the last, which
/// has none, is `null`.
fn histogram_json(histogram: &Snapshot) -> Value {
    let borders = UPPER.iter().map(|upper| Some(millis(*upper))).chain([None]);
    let buckets = borders.zip(histogram.buckets()).filter(|(_, count)| **count > 0);
    let quantile = |p| histogram.quantile(p).map(millis);
    json!({
        "count": histogram.count(),
        "sumMs": millis(histogram.sum()),
        "p50Ms": quantile(0.5),
        "p95Ms": quantile(0.95),
        "p99Ms": quantile(0.99),
        "buckets": buckets.map(|(upper, count)| json!([upper, count])).collect::<Vec<_>>(),
    })
}

fn reasons_json(reasons: &ReasonTotals) -> Map<String, Value> {
    let named = reasons
        .iter()
        .map(|(reason, count)| (reason.as_str().to_owned(), count.into()));
    named.collect()
}

fn rejections_json(rejections: &RejectionTotals) -> Map<String, Value> {
    let named = rejections
        .iter()
        .map(|(rejection, count)| (rejection.as_str().to_owned(), count.into()));
    named.collect()
}

fn limits_json(limits: &LimitTotals) -> Map<String, Value> {
    let named = limits
        .iter()
        .map(|(limit, count)| (limit.as_str().to_owned(), count.into()));
    named.collect()
}

fn add(map: &mut Map<String, Value>, name: &str, count: u64) {
    let before = map.get(name).and_then(Value::as_u64).unwrap_or(0);
    map.insert(name.to_owned(), before.wrapping_add(count).into());
}

fn joined(mut names: Value, mut rest: Value) -> Value {
    if let (Some(names), Some(rest)) = (names.as_object_mut(), rest.as_object_mut()) {
        names.append(rest);
    }
    names
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_model::errors::Reason;

    use super::super::{
        Called, EndpointState, Finished, Limit, Telemetry, TelemetryOptions, ThreadTelemetry,
    };
    use super::*;

    fn sample(cluster: &str, address: &str) -> EndpointSample {
        EndpointSample {
            cluster: cluster.into(),
            address: address.into(),
            state: EndpointState::Available,
            active: 0,
            requests: 1,
            connect_failures: 0,
            ejections: 0,
            latency: None,
        }
    }

    #[test]
    fn a_route_shows_its_parts() {
        let shared = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let thread = ThreadTelemetry::new(Arc::clone(&shared), 0);
        let web = shared.label("web");
        let route = thread.route(&web, &web, &web, Protocol::Http1, Called::default());
        let end = Finished {
            status: Some(200),
            grpc_status: None,
            reason: None,
            duration: 100_000,
            retries: 0,
        };
        (0..5).for_each(|_| route.started());
        (0..2).for_each(|_| route.finished(&end));
        let (status, reason) = (Some(503), Some(Reason::Overloaded));
        route.finished(&Finished {
            status,
            reason,
            ..end
        });
        route.finished(&Finished {
            status: Some(503),
            duration: 61_000_000_000,
            ..end
        });
        thread.listener(&web).limit_hit(Limit::Streams);

        let json = render(&shared.look(Vec::new()));
        let expected = json!({
            "listener": "web", "route": "web", "cluster": "web", "protocol": "http1",
            "requests": 5, "active": 1, "failures": 2, "successRate": 0.5, "retries": 0, "audited": 0,
            "bytesReceived": 0, "bytesSent": 0,
            "responses": { "2xx": 2, "5xx": 2 }, "reasons": { "overloaded": 1 }, "grpcStatuses": {},
            "duration": {
                "count": 4, "sumMs": 61_000.3, "p50Ms": 0.094736, "p95Ms": 60_000.0, "p99Ms": 60_000.0,
                "buckets": [[0.1, 3], [null, 1]],
            },
        });
        assert_eq!(json["routes"], json!([expected]));
        assert_eq!(json["listeners"][0]["limitHits"], json!({ "streams": 1 }));
    }

    #[test]
    fn nothing_has_no_success_rate_and_no_percentiles() {
        let json = route_json(&RouteTotals::default());
        assert_eq!(json["successRate"], Value::Null);
        assert_eq!(json["duration"]["p99Ms"], Value::Null);
        assert_eq!(json["duration"]["buckets"], json!([]));
    }

    #[test]
    fn endpoints_stand_with_their_clusters() {
        let shared = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let thread = ThreadTelemetry::new(Arc::clone(&shared), 0);
        thread.cluster(&shared.label("b")).pool_hit();
        thread.cluster(&shared.label("c")).pool_hit();
        let report = shared.look(vec![sample("b", "2"), sample("a", "3"), sample("b", "1")]);
        let json = render(&report);
        let seen: Vec<_> = json["clusters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cluster| {
                let endpoints = cluster["endpoints"].as_array().unwrap().iter();
                let addresses: Vec<_> = endpoints
                    .map(|endpoint| endpoint["address"].as_str().unwrap())
                    .collect();
                (
                    cluster["name"].as_str().unwrap(),
                    addresses,
                    cluster["poolHits"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("a", vec!["3"], 0), ("b", vec!["1", "2"], 1), ("c", vec![], 1)]
        );
    }
}
