//! Endpoints: for clusters that are there, at addresses that can be connected to, each once.

use std::collections::HashSet;

use crate::issue::{At, IssueCode, Issues, Problem};
use crate::resources::{Address, Discovery, Endpoints};

use super::{Known, duplicate, missing, range, unknown};

/// Envoy's bound, which other control planes keep to: more are a mistake.
const MAX_PRIORITY: u64 = 127;

pub(super) fn check(all_endpoints: &[Endpoints], known: &dyn Known, issues: &mut Issues) {
    let all = At::Root.key("endpoints");
    let mut clusters = HashSet::new();
    for (number, endpoints) in all_endpoints.iter().enumerate() {
        let at = all.index(number);
        let name = endpoints.cluster.as_str();
        let cluster_key = at.key("cluster");
        match known.cluster(name) {
            None => issues.add(&cluster_key, unknown("cluster", name, known.cluster_names())),
            Some(cluster) if cluster.discovery != Discovery::Endpoints => issues.add(
                &cluster_key,
                Problem::new(
                    IssueCode::Conflict,
                    format!("the cluster `{name}` finds its endpoints by DNS"),
                    "a cluster whose `discovery` is `endpoints`",
                ),
            ),
            Some(_) if !clusters.insert(name) => issues.add(&cluster_key, duplicate("cluster", name)),
            Some(_) => {}
        }
        let must_prove = known
            .cluster(name)
            .is_some_and(|cluster| cluster.workload.is_some());
        let mut addresses = HashSet::new();
        let localities = at.key("localities");
        for (number, locality) in endpoints.localities.iter().enumerate() {
            let at = localities.index(number);
            range(
                issues,
                &at.key("priority"),
                locality.priority.into(),
                0..=MAX_PRIORITY,
            );
            range(issues, &at.key("weight"), locality.weight.into(), 1..=1_000_000);
            let list = at.key("endpoints");
            for (number, endpoint) in locality.endpoints.iter().enumerate() {
                let at = list.index(number);
                range(issues, &at.key("weight"), endpoint.weight.into(), 1..=1000);
                if must_prove && endpoint.identity.is_none() {
                    issues.add(
                        &at.key("identity"),
                        missing(
                            "nothing says which identity this workload must prove",
                            "spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
                        ),
                    );
                }
                if let Some(problem) = address_problem(&endpoint.address) {
                    issues.add(&at.key("address"), problem);
                } else if !addresses.insert(&endpoint.address) {
                    issues.add(
                        &at.key("address"),
                        duplicate("address", &endpoint.address.to_string()),
                    );
                }
            }
        }
    }
}

/// Why nothing can be connected to there.
fn address_problem(address: &Address) -> Option<Problem> {
    const EXPECTED: &str = "the address and port of one server";
    match address {
        Address::Ip(socket) if socket.port() == 0 => Some(Problem::new(
            IssueCode::BadAddress,
            format!("{socket} has no port"),
            EXPECTED,
        )),
        Address::Ip(socket) if socket.ip().is_unspecified() || socket.ip().is_multicast() => {
            Some(Problem::new(
                IssueCode::BadAddress,
                format!("{socket} is not one server"),
                EXPECTED,
            ))
        }
        Address::Ip(_) | Address::Unix(_) => None,
    }
}
