use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Called, Finished, Handshake, Limit, Telemetry, TelemetryOptions, ThreadTelemetry};
use super::*;

type Labels = Vec<(String, String)>;

/// A sample as the text has it.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parse_labels(mut rest: &str) -> (Labels, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").expect("a label has a quoted value");
        assert!(is_name(name), "{name}");
        let (mut value, mut characters) = (String::new(), quoted.char_indices());
        let end = loop {
            match characters.next().expect("a value ends").to_owned() {
                (at, '"') => break at,
                (_, '\\') => match characters.next().expect("an escape is complete").1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("no such escape: {other}"),
                },
                (_, character) => value.push(character),
            }
        };
        labels.push((name.to_owned(), value));
        match quoted[end + 1..].strip_prefix(',') {
            Some(next) => rest = next,
            None => return (labels, quoted[end + 1..].strip_prefix('}').expect("labels end")),
        }
    }
}

/// Parses and checks what every text must keep: help and type before samples, families in one piece, no sample twice,
/// histograms whole and cumulative, counters named so.
fn parse(text: &str) -> Vec<Sample> {
    let (mut types, mut closed) = (HashMap::new(), HashSet::new());
    let (mut family, mut helped) = (String::new(), String::new());
    let (mut samples, mut seen) = (Vec::new(), HashSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && help.ends_with('.'), "{line}");
            assert!(closed.insert(name.to_owned()), "{name} stands twice");
            helped = name.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped, "help comes first");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            types.insert(name.to_owned(), kind.to_owned());
            family = name.to_owned();
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (name, rest) = line.split_at(end);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(labels) => parse_labels(labels),
            None => (Vec::new(), rest),
        };
        let base = match types[&family].as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap(),
            _ => name,
        };
        assert_eq!(base, family, "a sample stands in its family");
        let names: HashSet<_> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "no label twice: {line}");
        assert!(
            seen.insert(format!("{name}{labels:?}")),
            "no sample twice: {line}"
        );
        let value = value.strip_prefix(' ').unwrap().parse().unwrap();
        samples.push(Sample {
            name: name.to_owned(),
            labels,
            value,
        });
    }
    for (name, kind) in &types {
        if kind == "histogram" {
            check_histogram(name, &samples);
        }
    }
    samples
}

fn check_histogram(name: &str, samples: &[Sample]) {
    let mut series: HashMap<Labels, Vec<(f64, f64)>> = HashMap::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.name == format!("{name}_bucket"))
    {
        let le = sample
            .label("le")
            .expect("a bucket has a border")
            .parse()
            .unwrap();
        let mut labels = sample.labels.clone();
        labels.retain(|(name, _)| name != "le");
        series.entry(labels).or_default().push((le, sample.value));
    }
    for (labels, buckets) in series {
        assert!(
            buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name}{labels:?}: {buckets:?}"
        );
        let last = buckets.last().unwrap();
        let of = |end: &str| {
            let wanted = format!("{name}_{end}");
            samples
                .iter()
                .find(|sample| sample.name == wanted && sample.labels == labels)
                .unwrap()
                .value
        };
        assert_eq!((f64::INFINITY, of("count")), *last);
        assert!(of("sum") >= 0.0);
    }
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = samples.iter().filter(|sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.label(label) == Some(value))
    });
    let value = found.next()?.value;
    assert!(found.next().is_none(), "{name}{labels:?} is ambiguous");
    Some(value)
}

fn telemetry() -> (Arc<Telemetry>, ThreadTelemetry) {
    let shared = Arc::new(Telemetry::new(TelemetryOptions::default()));
    let thread = ThreadTelemetry::new(Arc::clone(&shared), 0);
    (shared, thread)
}

fn endpoint(state: EndpointState) -> EndpointSample {
    EndpointSample {
        cluster: "shop".into(),
        address: "127.0.0.1:1".into(),
        state,
        active: 1,
        requests: 20,
        connect_failures: 3,
        ejections: 4,
        latency: Some(1_500_000),
    }
}

#[test]
fn everything_that_is_counted_is_shown() {
    let (shared, thread) = telemetry();
    let (web, api, shop) = (shared.label("web"), shared.label("api"), shared.label("shop"));
    let route = thread.route(&web, &api, &shop, Protocol::Grpc, Called::default());
    let end = Finished {
        status: Some(200),
        grpc_status: Some(0),
        reason: None,
        duration: 300_000,
        retries: 1,
    };
    (0..3).for_each(|_| route.started());
    route.audited();
    route.received(100);
    route.sent(200);
    route.finished(&end);
    let reason = Some(Reason::Overloaded);
    route.finished(&Finished {
        grpc_status: Some(77),
        reason,
        duration: 3_000_000,
        ..end
    });
    let listener = thread.listener(&web);
    (0..3).for_each(|_| listener.accepted());
    listener.closed(None);
    listener.closed(Some(Reason::IdleTimeout));
    listener.detected(Protocol::Http2);
    listener.handshake(Handshake::Done(500_000));
    listener.handshake(Handshake::Failed);
    listener.limit_hit(Limit::HeaderBytes);
    let cluster = thread.cluster(&shop);
    cluster.connected(100_000);
    cluster.connect_failed(Reason::ConnectRefused);
    cluster.pool_hit();
    cluster.pool_miss();
    cluster.pending(2);
    cluster.limit_hit(Limit::PendingRequests);
    shared.control().updates_refused.increment();

    let report = shared.look(vec![endpoint(EndpointState::Ejected)]);
    let samples = parse(&render(&report, &Options::default()));
    let labels = [
        ("listener", "web"),
        ("route", "api"),
        ("cluster", "shop"),
        ("protocol", "grpc"),
    ];
    for (name, expected) in [
        ("mesh_requests_total", 3.0),
        ("mesh_requests_active", 1.0),
        ("mesh_request_failures_total", 1.0),
        ("mesh_request_retries_total", 2.0),
        ("mesh_received_bytes_total", 100.0),
        ("mesh_sent_bytes_total", 200.0),
        ("mesh_request_duration_seconds_count", 2.0),
        ("mesh_request_duration_seconds_sum", 0.0033),
    ] {
        assert_eq!(value(&samples, name, &labels), Some(expected), "{name}");
    }
    for (name, labels, expected) in [
        (
            "mesh_responses_total",
            &[("class", "2xx"), ("reason", "none")][..],
            1.0,
        ),
        (
            "mesh_responses_total",
            &[("class", "2xx"), ("reason", "overloaded")],
            1.0,
        ),
        ("mesh_grpc_responses_total", &[("grpc_status", "0")], 1.0),
        ("mesh_grpc_responses_total", &[("grpc_status", "other")], 1.0),
        ("mesh_request_duration_seconds_bucket", &[("le", "0.00025")], 0.0),
        ("mesh_request_duration_seconds_bucket", &[("le", "0.0005")], 1.0),
        ("mesh_request_duration_seconds_bucket", &[("le", "+Inf")], 2.0),
        ("mesh_connections_total", &[("listener", "web")], 3.0),
        ("mesh_connections_active", &[("listener", "web")], 1.0),
        ("mesh_connections_closed_total", &[("reason", "none")], 1.0),
        (
            "mesh_connections_closed_total",
            &[("reason", "idle_timeout")],
            1.0,
        ),
        ("mesh_connections_detected_total", &[("protocol", "http2")], 1.0),
        ("mesh_tls_handshakes_total", &[("result", "success")], 1.0),
        ("mesh_tls_handshakes_total", &[("result", "failure")], 1.0),
        (
            "mesh_tls_handshake_duration_seconds_bucket",
            &[("le", "0.0005")],
            1.0,
        ),
        (
            "mesh_limit_hits_total",
            &[("listener", "web"), ("limit", "header_bytes")],
            1.0,
        ),
        (
            "mesh_limit_hits_total",
            &[("cluster", "shop"), ("limit", "pending_requests")],
            1.0,
        ),
        ("mesh_upstream_connections_total", &[("cluster", "shop")], 1.0),
        ("mesh_upstream_connections_active", &[], 1.0),
        (
            "mesh_upstream_connect_failures_total",
            &[("reason", "connect_refused")],
            1.0,
        ),
        ("mesh_upstream_connect_duration_seconds_count", &[], 1.0),
        ("mesh_upstream_pool_hits_total", &[], 1.0),
        ("mesh_upstream_pool_misses_total", &[], 1.0),
        ("mesh_upstream_requests_pending", &[], 2.0),
        (
            "mesh_endpoint_state",
            &[("endpoint", "127.0.0.1:1"), ("state", "ejected")],
            1.0,
        ),
        ("mesh_endpoint_state", &[("state", "available")], 0.0),
        ("mesh_endpoint_requests_active", &[], 1.0),
        ("mesh_endpoint_requests_total", &[], 20.0),
        ("mesh_endpoint_connect_failures_total", &[], 3.0),
        ("mesh_endpoint_ejections_total", &[], 4.0),
        ("mesh_endpoint_latency_seconds", &[], 0.0015),
        ("mesh_thread_connections_active", &[("thread", "0")], 1.0),
        ("mesh_thread_imbalance_ratio", &[], 1.0),
        ("mesh_config_updates_total", &[("result", "refused")], 1.0),
        ("mesh_panics_total", &[], 0.0),
        ("mesh_access_log_lines_total", &[("result", "dropped")], 0.0),
        ("mesh_access_log_errors_total", &[], 0.0),
        ("mesh_telemetry_overflows_total", &[], 0.0),
        ("mesh_telemetry_endpoints_omitted", &[], 0.0),
        ("mesh_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ] {
        assert_eq!(value(&samples, name, labels), Some(expected), "{name}{labels:?}");
    }
    assert_eq!(
        value(&samples, "mesh_limit_hits_total", &[("limit", "streams")]),
        None
    );
}

#[test]
fn a_proxy_that_did_nothing_has_a_valid_text() {
    let (shared, _thread) = telemetry();
    let samples = parse(&render(&shared.look(Vec::new()), &Options::default()));
    assert!(value(&samples, "mesh_build_info", &[]).is_some());
    assert!(samples.iter().all(|sample| sample.name != "mesh_requests_total"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_shown_unless_its_host_does_that() {
    let (shared, _thread) = telemetry();
    let report = shared.look(Vec::new());
    let shown = parse(&render(&report, &Options::default()));
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(value(&shown, name, &[]).is_some(), "{name}");
    }
    let process = ProcessMetrics::Hidden;
    let hidden = parse(&render(
        &report,
        &Options {
            process,
            ..Options::default()
        },
    ));
    assert!(hidden.iter().all(|sample| !sample.name.starts_with("process_")));
}

#[test]
fn what_the_system_does_not_tell_is_not_shown() {
    let (shared, _thread) = telemetry();
    let mut report = shared.look(Vec::new());
    report.process = Default::default();
    let samples = parse(&render(&report, &Options::default()));
    assert!(samples.iter().all(|sample| !sample.name.starts_with("process_")));
}

#[test]
fn constant_labels_stand_on_every_sample() {
    let (shared, thread) = telemetry();
    let web = shared.label("web");
    thread
        .route(&web, &web, &web, Protocol::Tcp, Called::default())
        .started();
    thread.listener(&web).accepted();
    let labels = [("proxy", "a\"b")];
    let report = shared.look(vec![endpoint(EndpointState::Available)]);
    let text = render(
        &report,
        &Options {
            labels: &labels,
            ..Options::default()
        },
    );
    let samples = parse(&text);
    assert!(samples.len() > 50);
    assert!(samples.iter().all(|sample| sample.label("proxy") == Some("a\"b")));
}

#[test]
fn the_same_state_gives_the_same_text() {
    let (shared, thread) = telemetry();
    for name in ["c", "a", "b"] {
        let label = shared.label(name);
        thread
            .route(&label, &label, &label, Protocol::Http1, Called::default())
            .started();
    }
    let mut reports = [shared.look(Vec::new()), shared.look(Vec::new())];
    reports.iter_mut().for_each(|report| {
        report.process = Default::default();
        report.threads.clear();
    });
    let [first, second] = reports.map(|report| render(&report, &Options::default()));
    assert_eq!(first, second);
    let [a, b, c] = ["a", "b", "c"].map(|name| first.find(&format!("route=\"{name}\"")).unwrap());
    assert!(a < b && b < c);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_name_and_any_count_parse_back(
        names in prop::collection::hash_set(any::<String>(), 1..5),
        ends in prop::collection::vec((100u16..600, 0u64..100_000_000_000, any::<bool>()), 0..50),
    ) {
        let (shared, thread) = telemetry();
        for name in &names {
            let label = shared.label(name);
            let route = thread.route(&label, &label, &label, Protocol::Http1, Called::default());
            for (status, duration, made) in &ends {
                route.started();
                route.finished(&Finished {
                    status: Some(*status),
                    grpc_status: None,
                    reason: made.then_some(Reason::NoRoute),
                    duration: *duration,
                    retries: 0,
                });
            }
        }
        let samples = parse(&render(&shared.look(Vec::new()), &Options::default()));
        for name in &names {
            let labels = [("route", name.as_str())];
            prop_assert_eq!(value(&samples, "mesh_requests_total", &labels), Some(ends.len() as f64));
            let responses = samples.iter().filter(|sample| {
                sample.name == "mesh_responses_total" && sample.label("route") == Some(name)
            });
            prop_assert_eq!(responses.map(|sample| sample.value).sum::<f64>(), ends.len() as f64);
        }
    }
}
