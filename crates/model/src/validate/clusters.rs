//! Clusters: names that can be looked up and verified, balancers that can be built, bounds that make sense.

use crate::issue::{At, IssueCode, Issues, Problem, shown};
use crate::resources::{Balancer, ClientTls, Cluster, Discovery, WorkloadTls};
use crate::syntax;

use super::{conflict, limit, milliseconds, missing, names, range};

pub(super) fn check(clusters: &[Cluster], issues: &mut Issues) {
    let all = At::Root.key("clusters");
    names(
        "cluster",
        clusters.iter().map(|cluster| cluster.name.as_str()),
        &all,
        issues,
    );
    for (number, cluster) in clusters.iter().enumerate() {
        let at = all.index(number);
        discovery(&cluster.discovery, &at.key("discovery"), issues);
        if let Some(tls) = &cluster.tls {
            client_tls(tls, cluster, &at.key("tls"), issues);
        }
        if let Some(tls) = &cluster.workload {
            workload_tls(tls, cluster, &at.key("workload"), issues);
        }
        balancer(&cluster.balancer, &at.key("balancer"), issues);
        numbers(cluster, &at, issues);
    }
}

fn discovery(discovery: &Discovery, at: &At<'_>, issues: &mut Issues) {
    let dns_name = |name: &str, field: &str, issues: &mut Issues| {
        if !syntax::is_dns_name(name) {
            let message = format!("{} is not a DNS name", shown(name));
            issues.add(
                &at.key(field),
                Problem::new(IssueCode::BadHost, message, "a name such as site.internal"),
            );
        }
    };
    match discovery {
        Discovery::Endpoints => {}
        Discovery::Dns { host, port } => {
            dns_name(host, "host", issues);
            range(issues, &at.key("port"), u64::from(*port), 1..=65_535);
        }
        Discovery::DnsSrv { name } => dns_name(name, "name", issues),
    }
}

fn client_tls(tls: &ClientTls, cluster: &Cluster, at: &At<'_>, issues: &mut Issues) {
    match &tls.server_name {
        Some(name) if !syntax::is_server_name(name) => {
            let message = format!("{} can't be proved by a certificate", shown(name));
            issues.add(
                &at.key("serverName"),
                Problem::new(IssueCode::BadHost, message, "a DNS name or an IP address"),
            );
        }
        None if cluster.tls_name().is_none() => issues.add(
            &at.key("serverName"),
            missing(
                "nothing says which name the servers must prove",
                "the DNS name or IP address in their certificate",
            ),
        ),
        Some(_) | None => {}
    }
    match (&tls.certificate, &tls.key) {
        (Some(_), None) => issues.add(
            &at.key("key"),
            missing("the certificate has no key", "a path or PEM text"),
        ),
        (None, Some(_)) => {
            issues.add(
                &at.key("certificate"),
                missing("the key has no certificate", "a path or PEM text"),
            );
        }
        _ => {}
    }
    for (field, pem) in [
        ("roots", &tls.roots),
        ("certificate", &tls.certificate),
        ("key", &tls.key),
    ] {
        if pem.as_ref().is_some_and(|pem| pem.0.trim().is_empty()) {
            issues.add(
                &at.key(field),
                missing("the value is empty", "a path or PEM text"),
            );
        }
    }
}

fn workload_tls(tls: &WorkloadTls, cluster: &Cluster, at: &At<'_>, issues: &mut Issues) {
    if cluster.tls.is_some() {
        issues.add(
            at,
            conflict(
                "`tls` and `workload` are two ways to protect the same bytes",
                "one of both",
            ),
        );
    }
    if cluster.discovery != Discovery::Endpoints {
        issues.add(
            at,
            conflict(
                "addresses found by DNS have no identity to prove",
                "`discovery: endpoints`, each with its `identity`",
            ),
        );
    }
    if !syntax::is_dns_name(&tls.server_name) {
        let message = format!("{} can't be a server's name", shown(&tls.server_name));
        issues.add(
            &at.key("serverName"),
            Problem::new(
                IssueCode::BadHost,
                message,
                "p<port>.<service>.<namespace>.<trust domain>",
            ),
        );
    }
}

fn balancer(balancer: &Balancer, at: &At<'_>, issues: &mut Issues) {
    /// The largest table that Maglev's paper measures, doubled: 10 MiB of indexes.
    const MAX_TABLE: u32 = 1_310_719;
    match balancer {
        Balancer::RingHash {
            ring_size: Some(size),
        } => {
            range(issues, &at.key("ringSize"), u64::from(*size), 1024..=8_388_608);
        }
        Balancer::Maglev {
            table_size: Some(size),
        } if !(2..=MAX_TABLE).contains(size) || !is_prime(*size) => {
            let message = format!("{size} slots would not be filled evenly");
            let expected = format!("a prime such as 65537, at most {MAX_TABLE}");
            issues.add(
                &at.key("tableSize"),
                Problem::new(IssueCode::OutOfRange, message, expected),
            );
        }
        _ => {}
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn numbers(cluster: &Cluster, at: &At<'_>, issues: &mut Issues) {
    let limits = &cluster.limits;
    let key = at.key("limits");
    for (field, path, value) in [
        ("connections", "clusters[].limits.connections", limits.connections),
        (
            "pendingRequests",
            "clusters[].limits.pendingRequests",
            limits.pending_requests,
        ),
        ("requests", "clusters[].limits.requests", limits.requests),
        (
            "idleConnections",
            "clusters[].limits.idleConnections",
            limits.idle_connections,
        ),
        (
            "streamsPerConnection",
            "clusters[].limits.streamsPerConnection",
            limits.streams_per_connection,
        ),
    ] {
        limit(issues, &key.key(field), path, value.into());
    }
    let timeouts = &cluster.timeouts;
    let key = at.key("timeouts");
    for (field, path, value) in [
        ("connect", "clusters[].timeouts.connect", timeouts.connect),
        ("idle", "clusters[].timeouts.idle", timeouts.idle),
        (
            "maxConnectionAge",
            "clusters[].timeouts.maxConnectionAge",
            timeouts.max_connection_age,
        ),
    ] {
        limit(issues, &key.key(field), path, milliseconds(value));
    }
    limit(
        issues,
        &at.key("slowStart"),
        "clusters[].slowStart",
        milliseconds(cluster.slow_start),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|&number| is_prime(number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(1_310_719) && !is_prime(65_536));
    }
}
