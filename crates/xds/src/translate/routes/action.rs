//! Where requests go, and how long that may take.

use std::collections::BTreeMap;

use mesh_model::resources::{
    Action, Duration, HashKey, HostRewrite, PathRewrite, Redirect, Respond, Route, RouteMatch, RouteTimeouts,
    WeightedCluster,
};

use super::super::values::{duration, to_duration};
use super::super::{Refusal, refuse_present};
use super::ours;
use super::rewrite::{Form, path_rewrite, to_full_form, to_prefix_form};
use crate::wire;

/// Fills in what a route action says: where to, rewrites, deadlines, what is hashed.
pub(super) fn forward(
    message: wire::RouteAction,
    route: &mut Route,
    ours: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    refuse_present(&[
        ("metadata_match", message.metadata_match.is_some()),
        ("rate_limits", !message.rate_limits.is_empty()),
        ("cors", message.cors.is_some()),
        ("upgrade_configs", !message.upgrade_configs.is_empty()),
    ])?;
    route.action = Action::Forward {
        to: match (message.cluster, message.weighted_clusters) {
            (Some(cluster), None) => WeightedCluster::all(cluster),
            (None, Some(clusters)) => {
                weighted(clusters).map_err(|refusal| refusal.within("weighted_clusters"))?
            }
            _ => {
                return Err(Refusal::new(
                    "cluster_specifier",
                    "expected cluster or weighted_clusters",
                ));
            }
        },
    };
    let prefix = Some(message.prefix_rewrite).filter(|prefix| !prefix.is_empty());
    if let Some(form) = Form::of(prefix, message.regex_rewrite)? {
        route.filters.rewrite_path = Some(path_rewrite(form, &route.matches, ours)?);
    }
    route.filters.host = match (message.host_rewrite_literal, message.auto_host_rewrite) {
        (None, None | Some(false)) => HostRewrite::Keep,
        (None, Some(true)) => HostRewrite::Upstream,
        (Some(host), None) => HostRewrite::Set(host),
        _ => return Err(Refusal::new("host_rewrite_specifier", "expected one")),
    };
    let stream = message
        .max_stream_duration
        .and_then(|stream| stream.max_stream_duration);
    route.timeouts = RouteTimeouts {
        request: shorter(
            span(message.timeout, "timeout")?,
            span(stream, "max_stream_duration.max_stream_duration")?,
        ),
        stream_idle: span(message.idle_timeout, "idle_timeout")?,
    };
    route.hash_key = message.hash_policy.into_iter().filter_map(hash_key).collect();
    Ok(())
}

pub(super) fn to_forward(
    to: &[WeightedCluster],
    route: &Route,
    ours: &mut BTreeMap<String, String>,
) -> Result<wire::RouteAction, Refusal> {
    let mut message = wire::RouteAction::default();
    match to {
        [only] if only.weight == 1 => message.cluster = Some(only.cluster.clone()),
        several => {
            let clusters = several.iter().map(|target| wire::ClusterWeight {
                name: target.cluster.clone(),
                weight: Some(target.weight),
            });
            message.weighted_clusters = Some(wire::WeightedClusters {
                clusters: clusters.collect(),
                ..wire::WeightedClusters::default()
            });
        }
    }
    if let Some(rewrite) = &route.filters.rewrite_path {
        let form = match rewrite {
            PathRewrite::Full(path) => to_full_form(path),
            PathRewrite::Prefix(by) => {
                to_prefix_form(by, &route.matches, ours).map_err(|refusal| refusal.within("filters"))?
            }
        };
        let (prefix, regex) = form.into_fields();
        message.prefix_rewrite = prefix.unwrap_or_default();
        message.regex_rewrite = regex;
    }
    match &route.filters.host {
        HostRewrite::Keep => {}
        HostRewrite::Upstream => message.auto_host_rewrite = Some(true),
        HostRewrite::Set(host) => message.host_rewrite_literal = Some(host.clone()),
    }
    // Clients of gRPC know the second alone.
    message.timeout = route.timeouts.request.map(to_duration);
    message.max_stream_duration = message.timeout.map(|span| wire::MaxStreamDuration {
        max_stream_duration: Some(span),
        ..wire::MaxStreamDuration::default()
    });
    message.idle_timeout = route.timeouts.stream_idle.map(to_duration);
    message.hash_policy = route.hash_key.iter().map(to_hash_policy).collect();
    Ok(message)
}

fn weighted(message: wire::WeightedClusters) -> Result<Vec<WeightedCluster>, Refusal> {
    let clusters: Vec<_> = message
        .clusters
        .into_iter()
        .map(|cluster| WeightedCluster {
            cluster: cluster.name,
            weight: cluster.weight.unwrap_or(0),
        })
        .collect();
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    match message.total_weight {
        Some(total) if u64::from(total) != sum => {
            Err(Refusal::new("total_weight", "is not the sum of the weights"))
        }
        _ => Ok(clusters),
    }
}

fn span(span: Option<wire::Duration>, field: &str) -> Result<Option<Duration>, Refusal> {
    span.map(|span| duration(span, field)).transpose()
}

/// Of two deadlines the one that comes first; 0 is none.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => {
            let spans = [one, other].into_iter().filter(|span| span.enabled().is_some());
            Some(spans.min().unwrap_or_default())
        }
        (one, other) => one.or(other),
    }
}

/// What can't be hashed is left out: requests are then spread otherwise, and reach the same servers.
fn hash_key(policy: wire::HashPolicy) -> Option<HashKey> {
    match policy {
        wire::HashPolicy {
            header: Some(header), ..
        } => header
            .regex_rewrite
            .is_none()
            .then_some(HashKey::Header(header.header_name)),
        wire::HashPolicy {
            cookie: Some(cookie), ..
        } => Some(HashKey::Cookie(cookie.name)),
        wire::HashPolicy {
            connection_properties: Some(connection),
            ..
        } => connection.source_ip.then_some(HashKey::SourceAddress),
        wire::HashPolicy {
            query_parameter: Some(query),
            ..
        } => Some(HashKey::Query(query.name)),
        _ => None,
    }
}

fn to_hash_policy(key: &HashKey) -> wire::HashPolicy {
    // The first that is there counts.
    let mut policy = wire::HashPolicy {
        terminal: true,
        ..wire::HashPolicy::default()
    };
    match key {
        HashKey::Header(name) => {
            policy.header = Some(wire::HashHeader {
                header_name: name.clone(),
                regex_rewrite: None,
            });
        }
        HashKey::Cookie(name) => {
            policy.cookie = Some(wire::HashCookie {
                name: name.clone(),
                ..wire::HashCookie::default()
            });
        }
        HashKey::Query(name) => policy.query_parameter = Some(wire::HashQuery { name: name.clone() }),
        HashKey::SourceAddress => {
            policy.connection_properties = Some(wire::HashConnection { source_ip: true });
        }
    }
    policy
}

/// By the number of `RedirectAction.RedirectResponseCode`.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

pub(super) fn redirect(
    message: wire::RedirectAction,
    matches: &RouteMatch,
    ours: &BTreeMap<String, String>,
) -> Result<Redirect, Refusal> {
    if message.strip_query {
        return Err(Refusal::new("strip_query", "the query is always kept"));
    }
    let status = usize::try_from(message.response_code)
        .ok()
        .and_then(|number| STATUSES.get(number))
        .ok_or_else(|| Refusal::new("response_code", "is not known"))?;
    let scheme = match (message.scheme_redirect, message.https_redirect) {
        (Some(_), Some(_)) => return Err(Refusal::new("scheme_rewrite_specifier", "expected one")),
        (Some(scheme), None) => Some(scheme).filter(|scheme| !scheme.is_empty()),
        (None, https) => https.filter(|&https| https).map(|_| "https".to_owned()),
    };
    let host = Some(message.host_redirect).filter(|host| !host.is_empty());
    let host = match (host, message.port_redirect) {
        (host, 0) => host,
        (Some(host), port) => Some(format!("{host}:{port}")),
        (None, _) => {
            return Err(Refusal::new(
                "port_redirect",
                "a port without host_redirect is not known",
            ));
        }
    };
    let form = Form::of(message.prefix_rewrite, message.regex_rewrite)?;
    let path = match (message.path_redirect, form) {
        (Some(_), Some(_)) => return Err(Refusal::new("path_rewrite_specifier", "expected one")),
        (Some(path), None) => Some(PathRewrite::Full(path)),
        (None, Some(form)) => Some(path_rewrite(form, matches, ours)?),
        (None, None) => None,
    };
    Ok(Redirect {
        status: *status,
        scheme,
        host,
        path,
    })
}

pub(super) fn to_redirect(
    redirect: &Redirect,
    matches: &RouteMatch,
    ours: &mut BTreeMap<String, String>,
) -> Result<wire::RedirectAction, Refusal> {
    let code = STATUSES.iter().position(|status| *status == redirect.status);
    let mut message = wire::RedirectAction {
        response_code: code
            .and_then(|code| i32::try_from(code).ok())
            .ok_or_else(|| Refusal::new("status", "is not known"))?,
        host_redirect: redirect.host.clone().unwrap_or_default(),
        scheme_redirect: redirect.scheme.clone(),
        ..wire::RedirectAction::default()
    };
    match &redirect.path {
        None => {}
        Some(PathRewrite::Full(path)) => message.path_redirect = Some(path.clone()),
        Some(PathRewrite::Prefix(by)) => {
            let form = to_prefix_form(by, matches, ours)?;
            (message.prefix_rewrite, message.regex_rewrite) = form.into_fields();
        }
    }
    Ok(message)
}

pub(super) fn respond(
    message: wire::DirectResponseAction,
    ours: &BTreeMap<String, String>,
) -> Result<Respond, Refusal> {
    let body = match message.body {
        None => String::new(),
        Some(wire::DataSource {
            inline_string: Some(text),
            ..
        }) => text,
        Some(wire::DataSource {
            inline_bytes: Some(bytes),
            ..
        }) => String::from_utf8(bytes.into()).map_err(|_| Refusal::new("body.inline_bytes", "is no text"))?,
        Some(_) => return Err(Refusal::new("body", "expected inline_string or inline_bytes")),
    };
    let content_type = ours.get(ours::CONTENT_TYPE).map(String::as_str);
    Ok(Respond {
        status: u16::try_from(message.status).map_err(|_| Refusal::new("status", "is too large"))?,
        body,
        content_type: content_type.unwrap_or(Respond::TEXT_PLAIN).to_owned(),
    })
}

pub(super) fn to_respond(
    respond: &Respond,
    ours: &mut BTreeMap<String, String>,
) -> wire::DirectResponseAction {
    if respond.content_type != Respond::TEXT_PLAIN {
        ours.insert(ours::CONTENT_TYPE.to_owned(), respond.content_type.clone());
    }
    wire::DirectResponseAction {
        status: respond.status.into(),
        body: (!respond.body.is_empty()).then(|| wire::DataSource::text(respond.body.clone())),
    }
}
