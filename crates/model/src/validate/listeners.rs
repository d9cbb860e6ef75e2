//! Listeners: what they need, what excludes what, and that no two want the same socket.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::issue::{At, IssueCode, Issues, Problem, shown};
use crate::resources::{Address, Listener, ListenerProtocol, ServerTls, Trusted, WorkloadPorts};
use crate::sni::SniIndex;
use crate::syntax;

use super::{Known, check_targets, conflict, limit, milliseconds, missing, names, range, unknown};

pub(super) fn check(listeners: &[Listener], known: &dyn Known, issues: &mut Issues) {
    let all = At::Root.key("listeners");
    names(
        "listener",
        listeners.iter().map(|listener| listener.name.as_str()),
        &all,
        issues,
    );
    sockets(listeners, &all, issues);
    for (number, listener) in listeners.iter().enumerate() {
        let at = all.index(number);
        targets(listener, known, &at, issues);
        protocol(listener, &at, issues);
        if let Some(tls) = &listener.tls {
            server_tls(tls, listener.protocol, &at.key("tls"), issues);
        }
        if let Some(workload) = &listener.workload {
            workload_ports(workload, listener, known, &at.key("workload"), issues);
        }
        numbers(listener, &at, issues);
        extras(listener, &at, issues);
    }
}

/// Two listeners that would bind the same port. `[::]` is dual stack, so it takes every address.
fn sockets(listeners: &[Listener], all: &At<'_>, issues: &mut Issues) {
    let mut by_port: HashMap<Option<u16>, Vec<&Listener>> = HashMap::new();
    for (number, listener) in listeners.iter().enumerate() {
        let port = match &listener.address {
            Address::Ip(address) => Some(address.port()),
            Address::Unix(_) => None,
        };
        let others = by_port.entry(port).or_default();
        let taken = others
            .iter()
            .find(|other| overlap(&other.address, &listener.address));
        if let Some(other) = taken {
            let at = all.index(number);
            issues.add(
                &at.key("address"),
                Problem::plain(
                    IssueCode::Conflict,
                    format!(
                        "{} is taken by the listener {}, which listens on {}",
                        listener.address,
                        shown(&other.name),
                        other.address
                    ),
                ),
            );
        }
        others.push(listener);
    }
}

fn overlap(left: &Address, right: &Address) -> bool {
    match (left, right) {
        (Address::Unix(left), Address::Unix(right)) => left == right,
        (Address::Ip(left), Address::Ip(right)) => {
            let covers = |wide: IpAddr, narrow: IpAddr| match wide {
                IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
                IpAddr::V6(wide) => wide.is_unspecified(),
            };
            let (left_ip, right_ip) = (left.ip().to_canonical(), right.ip().to_canonical());
            left.port() != 0
                && left.port() == right.port()
                && (left_ip == right_ip || covers(left_ip, right_ip) || covers(right_ip, left_ip))
        }
        _ => false,
    }
}

/// Where its traffic goes.
fn targets(listener: &Listener, known: &dyn Known, at: &At<'_>, issues: &mut Issues) {
    if listener.on_demand && listener.routes.is_some() {
        issues.add(
            &at.key("routes"),
            conflict("a listener on demand has a table for each name", "one of both"),
        );
    }
    if listener.routes.is_none()
        && !listener.on_demand
        && listener.tcp.is_empty()
        && listener.sni.is_empty()
        && listener.workload.is_none()
    {
        issues.add(
            at,
            missing("the listener sends nothing anywhere", "`routes`, `tcp` or `sni`"),
        );
    }
    if listener.leads_to.is_some() && !listener.on_demand {
        issues.add(
            &at.key("leadsTo"),
            missing("only a listener that asks for names leads to one", "`onDemand`"),
        );
    }
    let asks_who = listener.on_demand && listener.transparent;
    if !asks_who && !listener.opaque_ports.is_empty() {
        issues.add(
            &at.key("opaquePorts"),
            missing(
                "only a listener that asks where connections were made to, and who that is, has them",
                "`onDemand` and `transparent`",
            ),
        );
    }
    if let Some(routes) = &listener.routes
        && !known.has_route_table(routes)
    {
        issues.add(
            &at.key("routes"),
            unknown("route table", routes, known.route_table_names()),
        );
    }
    if !listener.tcp.is_empty() {
        check_targets(known, &listener.tcp, &at.key("tcp"), issues);
    }
    let sni = at.key("sni");
    for (number, route) in listener.sni.iter().enumerate() {
        let at = sni.index(number);
        if route.hosts.is_empty() {
            issues.add(
                &at.key("hosts"),
                missing("there is no server name", "at least one host, or `*`"),
            );
        }
        check_targets(known, &route.to, &at.key("to"), issues);
    }
    SniIndex::build(&listener.sni, &sni, issues);
}

/// What the protocol needs, and what it makes meaningless.
fn protocol(listener: &Listener, at: &At<'_>, issues: &mut Issues) {
    let protocol = at.key("protocol");
    match listener.protocol {
        ListenerProtocol::Auto => {}
        ListenerProtocol::Http1 | ListenerProtocol::Http2 => {
            if listener.routes.is_none() && !listener.on_demand {
                issues.add(
                    &protocol,
                    missing("an HTTP listener has no `routes`", "the name of a route table"),
                );
            }
            if !listener.tcp.is_empty() {
                issues.add(
                    &at.key("tcp"),
                    conflict("an HTTP listener has no TCP streams", "`protocol: auto`"),
                );
            }
        }
        ListenerProtocol::Tcp => {
            if listener.tcp.is_empty() && listener.leads_to.is_none() {
                issues.add(
                    &protocol,
                    missing("a TCP listener has no `tcp` target", "`tcp` with a cluster"),
                );
            }
            // Nothing is detected there, so rules that HTTP routes seem to impose would not hold.
            if listener.routes.is_some() {
                issues.add(
                    &at.key("routes"),
                    conflict(
                        "a TCP listener reads no requests, so its routes would not hold",
                        "`protocol: auto`",
                    ),
                );
            }
        }
        ListenerProtocol::TlsPassthrough => {
            if listener.sni.is_empty() {
                issues.add(
                    &protocol,
                    missing(
                        "a TLS passthrough listener has no `sni` routes",
                        "`sni` with a host",
                    ),
                );
            }
            if listener.tls.is_some() {
                issues.add(
                    &at.key("tls"),
                    conflict("TLS is passed through and can't be terminated too", "one of both"),
                );
            }
            if listener.routes.is_some() {
                issues.add(
                    &at.key("routes"),
                    conflict(
                        "a passthrough listener reads no requests, so its routes would not hold",
                        "`sni` only",
                    ),
                );
            }
            if !listener.tcp.is_empty() {
                issues.add(
                    &at.key("tcp"),
                    conflict("a passthrough listener takes TLS only", "`sni` with the host `*`"),
                );
            }
        }
    }
    // Server names are read from a ClientHello: where TLS is detected, and where it is expected.
    let reads_hello = matches!(
        listener.protocol,
        ListenerProtocol::Auto | ListenerProtocol::TlsPassthrough
    ) || listener.tls.is_some();
    if !listener.sni.is_empty() && !reads_hello {
        issues.add(
            &at.key("sni"),
            conflict(
                "a listener of this protocol without `tls` reads no server names",
                "`protocol: auto` or `tls`",
            ),
        );
    }
    if listener.forward_proxy && listener.routes.is_none() && !listener.on_demand {
        issues.add(
            &at.key("forwardProxy"),
            missing("a forward proxy needs `routes`", "the name of a route table"),
        );
    }
}

fn server_tls(tls: &ServerTls, spoken: ListenerProtocol, at: &At<'_>, issues: &mut Issues) {
    let certificates = at.key("certificates");
    if tls.certificates.is_empty() {
        issues.add(
            &certificates,
            missing("there is no certificate", "at least one certificate with its key"),
        );
    }
    for (number, pair) in tls.certificates.iter().enumerate() {
        let at = certificates.index(number);
        for (field, pem) in [("certificate", &pair.certificate), ("key", &pair.key)] {
            if pem.0.trim().is_empty() {
                issues.add(
                    &at.key(field),
                    missing("the value is empty", "a path or PEM text"),
                );
            }
        }
    }
    if let Some(clients) = &tls.client_certificates
        && clients.roots.0.trim().is_empty()
    {
        let at = at.key("clientCertificates");
        issues.add(
            &at.key("roots"),
            missing("the value is empty", "a path or PEM text"),
        );
    }
    let alpn = at.key("alpn");
    let mut seen = HashSet::new();
    for (number, protocol) in tls.alpn.iter().enumerate() {
        if !(1..=255).contains(&protocol.len()) || !protocol.bytes().all(|b| b.is_ascii_graphic()) {
            let message = format!("{} is not a protocol name", shown(protocol));
            issues.add(
                &alpn.index(number),
                Problem::new(IssueCode::BadValue, message, "`h2`, `http/1.1` or another"),
            );
        } else if !seen.insert(protocol) {
            issues.add(&alpn.index(number), super::duplicate("protocol", protocol));
        } else if let (ListenerProtocol::Http1, "h2") | (ListenerProtocol::Http2, "http/1.1" | "http/1.0") =
            (spoken, protocol.as_str())
        {
            issues.add(
                &alpn.index(number),
                Problem::new(
                    IssueCode::Conflict,
                    format!(
                        "clients would choose {}, which the listener's `protocol` does not speak",
                        shown(protocol)
                    ),
                    "`protocol: auto`, or only what it speaks",
                ),
            );
        }
    }
}

/// Which ports workloads may call, and where each leads.
fn workload_ports(
    workload: &WorkloadPorts,
    listener: &Listener,
    known: &dyn Known,
    at: &At<'_>,
    issues: &mut Issues,
) {
    if listener.tls.is_some() || listener.protocol != ListenerProtocol::Auto {
        issues.add(
            at,
            conflict(
                "workloads are told apart by their server name, and what they speak by ALPN",
                "no `tls`, and `protocol: auto`",
            ),
        );
    }
    let ports = at.key("ports");
    let mut seen = HashSet::new();
    for (number, port) in workload.ports.iter().enumerate() {
        let at = ports.index(number);
        range(issues, &at.key("port"), port.port.into(), 1..=65_535);
        if !seen.insert((port.port, port.service.as_deref())) {
            issues.add(&at.key("port"), super::duplicate("port", &port.port.to_string()));
        }
        if port.routes.is_none() && port.tcp.is_empty() {
            issues.add(&at, missing("the port leads nowhere", "`routes` or `tcp`"));
        }
        if let Some(routes) = &port.routes
            && !known.has_route_table(routes)
        {
            issues.add(
                &at.key("routes"),
                unknown("route table", routes, known.route_table_names()),
            );
        }
        if !port.tcp.is_empty() {
            check_targets(known, &port.tcp, &at.key("tcp"), issues);
        }
    }
}

fn numbers(listener: &Listener, at: &At<'_>, issues: &mut Issues) {
    let limits = &listener.limits;
    let key = at.key("limits");
    for (field, path, value) in [
        (
            "connections",
            "listeners[].limits.connections",
            limits.connections.into(),
        ),
        (
            "headerBytes",
            "listeners[].limits.headerBytes",
            limits.header_bytes.into(),
        ),
        (
            "headerCount",
            "listeners[].limits.headerCount",
            limits.header_count.into(),
        ),
        ("streams", "listeners[].limits.streams", limits.streams.into()),
        (
            "requestsPerConnection",
            "listeners[].limits.requestsPerConnection",
            limits.requests_per_connection.into(),
        ),
        (
            "requestBodyBytes",
            "listeners[].limits.requestBodyBytes",
            limits.request_body_bytes,
        ),
        (
            "http2StreamWindowBytes",
            "listeners[].limits.http2StreamWindowBytes",
            limits.http2_stream_window_bytes.into(),
        ),
        (
            "proxyHeaderBytes",
            "listeners[].limits.proxyHeaderBytes",
            limits.proxy_header_bytes.into(),
        ),
    ] {
        limit(issues, &key.key(field), path, value);
    }
    let timeouts = &listener.timeouts;
    let key = at.key("timeouts");
    for (field, path, value) in [
        ("header", "listeners[].timeouts.header", timeouts.header),
        ("handshake", "listeners[].timeouts.handshake", timeouts.handshake),
        ("request", "listeners[].timeouts.request", timeouts.request),
        ("idle", "listeners[].timeouts.idle", timeouts.idle),
        (
            "streamIdle",
            "listeners[].timeouts.streamIdle",
            timeouts.stream_idle,
        ),
        ("tcpIdle", "listeners[].timeouts.tcpIdle", timeouts.tcp_idle),
        (
            "maxConnectionAge",
            "listeners[].timeouts.maxConnectionAge",
            timeouts.max_connection_age,
        ),
        ("drain", "listeners[].timeouts.drain", timeouts.drain),
    ] {
        limit(issues, &key.key(field), path, milliseconds(value));
    }
}

fn extras(listener: &Listener, at: &At<'_>, issues: &mut Issues) {
    if listener.proxy_protocol {
        let is_unix = matches!(listener.address, Address::Unix(_));
        let mut trusted = listener.trusted_networks.iter();
        if !trusted.any(|trusted| matches!(trusted, Trusted::Unix) == is_unix) {
            let expected = match is_unix {
                false => "`trustedNetworks` with the networks of the proxies in front",
                true => "`trustedNetworks` with `unix`",
            };
            issues.add(
                &at.key("proxyProtocol"),
                missing("nobody who comes here may send a PROXY header", expected),
            );
        }
    }
    if let Some(via) = &listener.via
        && !(syntax::is_token(via) || syntax::is_authority(via))
    {
        let message = format!("{} can't stand in `via`", shown(via));
        issues.add(
            &at.key("via"),
            Problem::new(IssueCode::BadValue, message, "a token such as edge-1, or a host"),
        );
    }
    if let Some(log) = &listener.access_log {
        let at = at.key("accessLog");
        if !(log.sample > 0.0 && log.sample <= 1.0) {
            let message = format!("{} is no share", log.sample);
            issues.add(
                &at.key("sample"),
                Problem::new(IssueCode::OutOfRange, message, "above 0, at most 1"),
            );
        }
        if log
            .path
            .as_deref()
            .is_some_and(|path| path.is_empty() || path.contains('\0'))
        {
            issues.add(
                &at.key("path"),
                Problem::new(IssueCode::BadValue, "the path is empty", "the path of a file"),
            );
        }
    }
}
