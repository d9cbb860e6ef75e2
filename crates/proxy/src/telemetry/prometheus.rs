//! What does a Prometheus server read?
//!
//! [`render`] writes a [`Report`] in the text format 0.0.4: one family after another, each with its help and type.
//! Series that can't have happened yet (a reason, a limit, a gRPC status) appear with their first count.
//!
//! Invariants: the labels of a series are escaped once, whatever the number of its samples; the same report gives the
//! same text; nothing here runs on a data thread.

use mesh_model::errors::Reason;

use super::labels::Protocol;
use super::report::{EndpointSample, EndpointState, Report};
use super::stats::{ClusterTotals, LimitTotals, ListenerTotals, RouteTotals};
use text::{COUNTER, GAUGE, Text};

mod control;
mod text;

#[cfg(test)]
mod tests;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the metrics of the process are part of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessMetrics {
    /// They are. The default.
    #[default]
    Shown,
    /// They are not: the host of the proxy shows its own, and a name may appear only once.
    Hidden,
}

/// How to write the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Whether the metrics of the process are part of it.
    pub process: ProcessMetrics,
    /// Labels of every sample, to tell several proxies of one process apart. Default none.
    pub labels: &'a [(&'a str, &'a str)],
}

/// The `reason` of what ended in the ordinary way.
const NO_REASON: &str = "none";

/// The report as text.
pub fn render(report: &Report, options: &Options<'_>) -> String {
    // What the samples of a series need, roughly: one growth more or less costs nothing.
    let blocks = report.routes.len() + report.listeners.len() + report.clusters.len();
    let capacity = 8192 + blocks * 4096 + report.endpoints.len() * 1024;
    let mut text = Text::new(capacity, options.labels);
    let routes: Vec<_> = report
        .routes
        .iter()
        .map(|(labels, totals)| {
            let names: Vec<_> = labels.named().collect();
            (text.series(&names), totals)
        })
        .collect();
    let listeners: Vec<_> = report
        .listeners
        .iter()
        .map(|(name, totals)| (text.series(&[("listener", name.as_str())]), totals))
        .collect();
    let clusters: Vec<_> = report
        .clusters
        .iter()
        .map(|(name, totals)| (text.series(&[("cluster", name.as_str())]), totals))
        .collect();
    write_routes(&mut text, &routes);
    write_listeners(&mut text, &listeners);
    write_clusters(&mut text, &clusters);
    let limits = listeners.iter().map(|(series, totals)| (series, &totals.limits));
    let limits = limits.chain(clusters.iter().map(|(series, totals)| (series, &totals.limits)));
    write_limits(&mut text, limits);
    write_endpoints(&mut text, &report.endpoints);
    control::write(&mut text, report);
    write_proxy(&mut text, report);
    if options.process == ProcessMetrics::Shown {
        write_process(&mut text, report);
    }
    text.into_string()
}

fn write_routes(text: &mut Text, routes: &[(String, &RouteTotals)]) {
    text.numbers(
        routes,
        "mesh_requests_total",
        COUNTER,
        "Requests, calls and streams that began.",
        |route| route.requests,
    );
    text.numbers(
        routes,
        "mesh_requests_active",
        GAUGE,
        "Requests, calls and streams in flight.",
        |route| route.active(),
    );
    let help = "Requests, calls and streams that failed by the server's or the proxy's doing.";
    text.numbers(routes, "mesh_request_failures_total", COUNTER, help, |route| {
        route.failures
    });
    let help = "Tries after the first.";
    text.numbers(routes, "mesh_request_retries_total", COUNTER, help, |route| {
        route.retries
    });
    let help = "Requests, calls and streams that passed and would be denied, were the policies in audit mode enforced.";
    text.numbers(routes, "mesh_policy_audited_total", COUNTER, help, |route| {
        route.audited
    });
    let help = "Bytes of bodies and streams from clients.";
    text.numbers(routes, "mesh_received_bytes_total", COUNTER, help, |route| {
        route.received
    });
    let help = "Bytes of bodies and streams to clients.";
    text.numbers(routes, "mesh_sent_bytes_total", COUNTER, help, |route| route.sent);

    let help = "Ended requests by class of status, and by the reason why the proxy answered itself.";
    text.family("mesh_responses_total", COUNTER, help);
    for (series, route) in routes {
        for (class, reason, count) in route.responses() {
            let reason = reason.map_or(NO_REASON, Reason::as_str);
            let labels = [("class", class.as_str()), ("reason", reason)];
            text.sample("mesh_responses_total", series, &labels, count);
        }
    }
    text.family(
        "mesh_grpc_responses_total",
        COUNTER,
        "Ended gRPC calls by grpc-status.",
    );
    for (series, route) in routes {
        for (status, count) in route.grpc_statuses() {
            let status = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
            text.sample(
                "mesh_grpc_responses_total",
                series,
                &[("grpc_status", &status)],
                count,
            );
        }
    }
    let help = "From a request's head to its response's end.";
    text.histograms(routes, "mesh_request_duration_seconds", help, |route| {
        &route.duration
    });
}

fn write_listeners(text: &mut Text, listeners: &[(String, &ListenerTotals)]) {
    text.numbers(
        listeners,
        "mesh_connections_total",
        COUNTER,
        "Connections accepted.",
        |listener| listener.accepted,
    );
    text.numbers(
        listeners,
        "mesh_connections_active",
        GAUGE,
        "Connections of clients that are open.",
        |listener| listener.active(),
    );
    text.numbers(
        listeners,
        "mesh_connections_idle",
        GAUGE,
        "Connections of clients that are open and wait for a request.",
        |listener| listener.idle,
    );
    let name = "mesh_connections_closed_total";
    text.family(name, COUNTER, "Connections of clients that ended, by reason.");
    for (series, listener) in listeners {
        text.sample(name, series, &[("reason", NO_REASON)], listener.closed);
        text.reasons(name, series, &listener.closed_by);
    }
    let name = "mesh_connections_detected_total";
    text.family(
        name,
        COUNTER,
        "Connections of clients by what they turned out to speak.",
    );
    for (series, listener) in listeners {
        for (protocol, count) in Protocol::ALL.iter().zip(listener.detected) {
            if count > 0 {
                text.sample(name, series, &[("protocol", protocol.as_str())], count);
            }
        }
    }
    let name = "mesh_tls_handshakes_total";
    text.family(name, COUNTER, "TLS handshakes with clients.");
    for (series, listener) in listeners {
        text.sample(name, series, &[("result", "success")], listener.tls.count());
        text.sample(name, series, &[("result", "failure")], listener.tls_failed);
    }
    let name = "mesh_identity_rejections_total";
    text.family(
        name,
        COUNTER,
        "Workloads that called and were not believed, by why.",
    );
    for (series, listener) in listeners {
        for (rejection, count) in listener.rejected.iter() {
            text.sample(name, series, &[("rejection", rejection.as_str())], count);
        }
    }
    let help = "How long completed TLS handshakes with clients took.";
    text.histograms(
        listeners,
        "mesh_tls_handshake_duration_seconds",
        help,
        |listener| &listener.tls,
    );
}

fn write_clusters(text: &mut Text, clusters: &[(String, &ClusterTotals)]) {
    let help = "Connections made to servers.";
    text.numbers(
        clusters,
        "mesh_upstream_connections_total",
        COUNTER,
        help,
        |cluster| cluster.connected.count(),
    );
    let help = "Connections to servers that are open.";
    text.numbers(
        clusters,
        "mesh_upstream_connections_active",
        GAUGE,
        help,
        |cluster| cluster.active(),
    );
    let help = "Connections to servers that are open and wait in the pool.";
    text.numbers(
        clusters,
        "mesh_upstream_connections_idle",
        GAUGE,
        help,
        |cluster| cluster.idle,
    );
    let name = "mesh_upstream_connections_closed_total";
    text.family(name, COUNTER, "Connections to servers that ended, by reason.");
    for (series, cluster) in clusters {
        text.sample(name, series, &[("reason", NO_REASON)], cluster.closed);
        text.reasons(name, series, &cluster.closed_by);
    }
    let name = "mesh_upstream_connect_failures_total";
    text.family(
        name,
        COUNTER,
        "Connections to servers that could not be made, by reason.",
    );
    for (series, cluster) in clusters {
        text.reasons(name, series, &cluster.failed);
    }
    let name = "mesh_upstream_identity_rejections_total";
    text.family(
        name,
        COUNTER,
        "Workloads that were called and not believed, by why.",
    );
    for (series, cluster) in clusters {
        for (rejection, count) in cluster.rejected.iter() {
            text.sample(name, series, &[("rejection", rejection.as_str())], count);
        }
    }
    let help = "How long making connections to servers took, TLS included.";
    text.histograms(
        clusters,
        "mesh_upstream_connect_duration_seconds",
        help,
        |cluster| &cluster.connected,
    );
    let help = "Requests that found a connection in the pool.";
    text.numbers(
        clusters,
        "mesh_upstream_pool_hits_total",
        COUNTER,
        help,
        |cluster| cluster.pool_hits,
    );
    let help = "Requests that found no connection in the pool.";
    text.numbers(
        clusters,
        "mesh_upstream_pool_misses_total",
        COUNTER,
        help,
        |cluster| cluster.pool_misses,
    );
    let help = "Requests that wait for a connection.";
    text.numbers(
        clusters,
        "mesh_upstream_requests_pending",
        GAUGE,
        help,
        |cluster| cluster.pending,
    );
}

fn write_limits<'a>(text: &mut Text, all: impl Iterator<Item = (&'a String, &'a LimitTotals)>) {
    let name = "mesh_limit_hits_total";
    text.family(
        name,
        COUNTER,
        "How often a limit of a listener or a cluster was reached.",
    );
    for (series, limits) in all {
        for (limit, count) in limits.iter() {
            text.sample(name, series, &[("limit", limit.as_str())], count);
        }
    }
}

fn write_endpoints(text: &mut Text, endpoints: &[EndpointSample]) {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|sample| {
            let labels = [
                ("cluster", sample.cluster.as_str()),
                ("endpoint", sample.address.as_str()),
            ];
            (text.series(&labels), sample)
        })
        .collect();
    text.family(
        "mesh_endpoint_state",
        GAUGE,
        "Whether a server takes traffic: 1 for the state it is in.",
    );
    for (series, sample) in &endpoints {
        for state in EndpointState::ALL {
            let is = u8::from(state == sample.state);
            text.sample("mesh_endpoint_state", series, &[("state", state.as_str())], is);
        }
    }
    let help = "Requests in flight to a server.";
    text.numbers(
        &endpoints,
        "mesh_endpoint_requests_active",
        GAUGE,
        help,
        |sample| sample.active,
    );
    let help = "Requests sent to a server.";
    text.numbers(
        &endpoints,
        "mesh_endpoint_requests_total",
        COUNTER,
        help,
        |sample| sample.requests,
    );
    let help = "Connections to a server that could not be made.";
    text.numbers(
        &endpoints,
        "mesh_endpoint_connect_failures_total",
        COUNTER,
        help,
        |sample| sample.connect_failures,
    );
    let help = "How often a server was taken out of the balancing.";
    text.numbers(
        &endpoints,
        "mesh_endpoint_ejections_total",
        COUNTER,
        help,
        |sample| sample.ejections,
    );
    text.family(
        "mesh_endpoint_latency_seconds",
        GAUGE,
        "The moving average of a server's latency.",
    );
    for (series, sample) in &endpoints {
        if let Some(latency) = sample.latency {
            text.sample("mesh_endpoint_latency_seconds", series, &[], latency as f64 / 1e9);
        }
    }
}

fn write_proxy(text: &mut Text, report: &Report) {
    text.family(
        "mesh_thread_connections_active",
        GAUGE,
        "Connections of clients on a data thread.",
    );
    for thread in &report.threads {
        let number = thread.number.to_string();
        text.sample(
            "mesh_thread_connections_active",
            "",
            &[("thread", &number)],
            thread.connections,
        );
    }
    text.family(
        "mesh_thread_cpu_seconds_total",
        COUNTER,
        "CPU time of a data thread.",
    );
    for thread in &report.threads {
        if let Some(cpu) = thread.cpu {
            let number = thread.number.to_string();
            let seconds = cpu.as_secs_f64();
            text.sample(
                "mesh_thread_cpu_seconds_total",
                "",
                &[("thread", &number)],
                seconds,
            );
        }
    }
    let help = "The busiest data thread against the mean, since the last scrape; 1 is even.";
    text.single("mesh_thread_imbalance_ratio", GAUGE, help, Some(report.imbalance));

    text.family("mesh_access_log_lines_total", COUNTER, "Lines of the access log.");
    for (result, count) in [("written", report.log.written), ("dropped", report.log.dropped)] {
        text.sample("mesh_access_log_lines_total", "", &[("result", result)], count);
    }
    let help = "Files of the access log that could not be written or reopened.";
    text.single(
        "mesh_access_log_errors_total",
        COUNTER,
        help,
        Some(report.log.errors),
    );
    let help = "Uses of label sets beyond the bound, counted under the label other.";
    text.single(
        "mesh_telemetry_overflows_total",
        COUNTER,
        help,
        Some(report.overflows),
    );
    let help = "Servers, names and certificates left out of this text for the bound on label sets.";
    text.single(
        "mesh_telemetry_endpoints_omitted",
        GAUGE,
        help,
        Some(report.endpoints_omitted),
    );
    text.family("mesh_build_info", GAUGE, "The version that runs; always 1.");
    text.sample(
        "mesh_build_info",
        "",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
}

fn write_process(text: &mut Text, report: &Report) {
    let process = &report.process;
    let cpu = process.cpu.map(|cpu| cpu.as_secs_f64());
    text.single(
        "process_cpu_seconds_total",
        COUNTER,
        "User and system CPU time.",
        cpu,
    );
    let help = "Memory in RAM.";
    text.single(
        "process_resident_memory_bytes",
        GAUGE,
        help,
        process.resident_bytes,
    );
    text.single(
        "process_virtual_memory_bytes",
        GAUGE,
        "Address space.",
        process.virtual_bytes,
    );
    text.single(
        "process_open_fds",
        GAUGE,
        "Open file descriptors.",
        process.open_fds,
    );
    text.single(
        "process_max_fds",
        GAUGE,
        "The bound of open file descriptors.",
        process.max_fds,
    );
    let help = "When the process started, in seconds since 1970.";
    text.single("process_start_time_seconds", GAUGE, help, process.start_seconds);
}
