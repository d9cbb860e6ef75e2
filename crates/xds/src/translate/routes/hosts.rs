//! Virtual hosts: which routes for which names.
//!
//! When no route of a host takes a request, the model asks the next less specific host; xDS asks none. So routes that a
//! host falls back on are written behind its own, and marked: our reader drops them again. A host of others that has
//! less specific ones gets a last route that answers 404.
//!
//! Ports do not count. For clients that compare them, `basket` is written as `basket` and `basket:*`.

use std::collections::HashMap;

use mesh_model::resources::{
    Action, Filters, HostPattern, Respond, Route, RouteMatch, RouteTable, RouteTimeouts, VirtualHost,
};

use super::super::{Refusal, refuse_present};
use super::{order, ours, route, to_route};
use crate::wire;

/// Routes that are written again for the hosts that fall back on them, in one table.
const MAX_REPEATED: usize = 65_536;

pub(super) fn virtual_hosts(messages: Vec<wire::VirtualHost>) -> Result<Vec<VirtualHost>, Refusal> {
    let mut hosts = Vec::with_capacity(messages.len());
    let mut falls_back = Vec::with_capacity(messages.len());
    for (number, message) in messages.into_iter().enumerate() {
        let (host, ours) =
            virtual_host(message).map_err(|refusal| refusal.within(&format!("virtual_hosts[{number}]")))?;
        hosts.push(host);
        falls_back.push(ours);
    }
    let fallbacks = Fallbacks::of(&hosts);
    let closed: Vec<_> = hosts
        .iter()
        .zip(falls_back)
        .map(|(host, falls_back)| {
            !falls_back
                && host.hosts.iter().any(|pattern| {
                    let hosts_asked = fallbacks.after(pattern, &hosts).into_iter();
                    hosts_asked
                        .filter_map(|at| hosts.get(at))
                        .any(|host| !host.routes.is_empty())
                })
                && !catches_all(host)
        })
        .collect();
    for (host, _) in hosts.iter_mut().zip(closed).filter(|(_, closed)| *closed) {
        host.routes.push(not_found());
    }
    Ok(hosts)
}

pub(super) fn to_virtual_hosts(table: &RouteTable) -> Result<Vec<wire::VirtualHost>, Refusal> {
    let hosts = &table.virtual_hosts;
    let fallbacks = Fallbacks::of(hosts);
    let mut repeated = 0;
    let mut messages = Vec::with_capacity(hosts.len());
    for (number, host) in hosts.iter().enumerate() {
        let within = |refusal: Refusal| refusal.within(&format!("virtualHosts[{number}]"));
        let mut message = to_virtual_host(host).map_err(within)?;
        let after = if catches_all(host) {
            Vec::new()
        } else {
            one_way_back(host, number, &fallbacks, hosts).map_err(within)?
        };
        for at in after {
            let host = hosts
                .get(at)
                .map(|host| host.routes.as_slice())
                .unwrap_or_default();
            repeated += host.len();
            if repeated > MAX_REPEATED {
                return Err(Refusal::new(
                    "virtualHosts",
                    "too many routes that several hosts fall back on: xDS repeats them for each",
                ));
            }
            for route in order::sorted(host)? {
                message.routes.push(to_route(route, Some(ours::FALLBACK))?);
            }
        }
        messages.push(message);
    }
    Ok(messages)
}

fn virtual_host(message: wire::VirtualHost) -> Result<(VirtualHost, bool), Refusal> {
    refuse_present(&[
        ("matcher", message.matcher.is_some()),
        ("require_tls", message.require_tls != 0),
        ("rate_limits", !message.rate_limits.is_empty()),
        ("cors", message.cors.is_some()),
        (
            "typed_per_filter_config",
            !message.typed_per_filter_config.is_empty(),
        ),
        (
            "request_headers_to_add",
            !message.request_headers_to_add.is_empty(),
        ),
        (
            "request_headers_to_remove",
            !message.request_headers_to_remove.is_empty(),
        ),
        (
            "response_headers_to_add",
            !message.response_headers_to_add.is_empty(),
        ),
        (
            "response_headers_to_remove",
            !message.response_headers_to_remove.is_empty(),
        ),
    ])?;
    let mut host = VirtualHost::default();
    for (number, domain) in message.domains.iter().enumerate() {
        let pattern: HostPattern = without_port(domain)
            .parse()
            .map_err(|reason: String| Refusal::new(format!("domains[{number}]"), reason))?;
        if !host.hosts.contains(&pattern) {
            host.hosts.push(pattern);
        }
    }
    let mut falls_back = false;
    for (number, message) in message.routes.into_iter().enumerate() {
        let (route, fallback) =
            route(message).map_err(|refusal| refusal.within(&format!("routes[{number}]")))?;
        if fallback {
            falls_back = true;
        } else if falls_back {
            return Err(Refusal::new(
                format!("routes[{number}]"),
                "stands behind those that the host falls back on",
            ));
        } else {
            host.routes.push(route);
        }
    }
    order::check(&host.routes)?;
    Ok((host, falls_back))
}

fn to_virtual_host(host: &VirtualHost) -> Result<wire::VirtualHost, Refusal> {
    let Some(first) = host.hosts.first() else {
        return Err(Refusal::new("hosts", "is empty"));
    };
    let mut domains = Vec::with_capacity(host.hosts.len());
    for pattern in &host.hosts {
        domains.push(pattern.to_string());
        if let HostPattern::Exact(name) = pattern {
            domains.push(format!("{name}:*"));
        }
    }
    let routes = order::sorted(&host.routes)?;
    Ok(wire::VirtualHost {
        name: first.to_string(),
        domains,
        routes: routes
            .into_iter()
            .map(|route| to_route(route, None))
            .collect::<Result<_, _>>()?,
        ..wire::VirtualHost::default()
    })
}

/// `basket:80` and `basket:*` without the port.
fn without_port(domain: &str) -> &str {
    match domain.rsplit_once(':') {
        Some((name, port))
            if port == "*" || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())) =>
        {
            name
        }
        _ => domain,
    }
}

/// Whether a host has a route without any condition, so that none is asked after it.
fn catches_all(host: &VirtualHost) -> bool {
    host.routes
        .iter()
        .any(|route| route.matches == RouteMatch::default())
}

fn not_found() -> Route {
    Route {
        name: String::new(),
        matches: RouteMatch::default(),
        filters: Filters::default(),
        action: Action::Respond(Respond {
            status: 404,
            body: String::new(),
            content_type: Respond::TEXT_PLAIN.to_owned(),
        }),
        timeouts: RouteTimeouts::default(),
        hash_key: Vec::new(),
    }
}

/// The hosts to ask after this one. All its names must agree: xDS has one list of routes for them.
fn one_way_back(
    host: &VirtualHost,
    number: usize,
    fallbacks: &Fallbacks,
    hosts: &[VirtualHost],
) -> Result<Vec<usize>, Refusal> {
    let after = |pattern| {
        let mut after = fallbacks.after(pattern, hosts);
        after.retain(|&at| at != number);
        after
    };
    let mut ways = host.hosts.iter().map(after);
    let first = ways.next().unwrap_or_default();
    if ways.all(|way| way == first) {
        return Ok(first);
    }
    Err(Refusal::new(
        "hosts",
        "fall back on different less specific hosts, which xDS can't say of one virtual host: split it, or give it a \
         route without conditions",
    ))
}

/// Which hosts are asked when one has no route for a request.
struct Fallbacks(HashMap<HostPattern, usize>);

impl Fallbacks {
    fn of(hosts: &[VirtualHost]) -> Self {
        let patterns = hosts.iter().enumerate();
        Self(
            patterns
                .flat_map(|(number, host)| host.hosts.iter().map(move |pattern| (pattern.clone(), number)))
                .collect(),
        )
    }

    /// The hosts after this pattern, up to one that takes everything.
    fn after(&self, pattern: &HostPattern, hosts: &[VirtualHost]) -> Vec<usize> {
        let name: &str = match pattern {
            HostPattern::Any => return Vec::new(),
            HostPattern::Exact(name) | HostPattern::Suffix(name) => name,
        };
        // At least one character stands in front of a suffix.
        let suffixes = name
            .match_indices('.')
            .filter(|(at, _)| *at > 0)
            .filter_map(|(at, _)| name.get(at..))
            .map(|suffix| HostPattern::Suffix(suffix.into()));
        let mut after = Vec::new();
        for pattern in suffixes.chain([HostPattern::Any]) {
            if let Some(&at) = self.0.get(&pattern)
                && !after.contains(&at)
            {
                after.push(at);
                if hosts.get(at).is_some_and(catches_all) {
                    break;
                }
            }
        }
        after
    }
}
