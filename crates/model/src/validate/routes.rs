//! Route tables: hosts, matches, filters and actions that can work.

use std::collections::HashSet;

use crate::hosts::HostMap;
use crate::issue::{At, IssueCode, Issues, Problem, shown};
use crate::pattern;
use crate::resources::{
    Action, Filters, GrpcMatch, HashKey, HeaderEdits, HostRewrite, PathMatch, PathRewrite, Redirect, Respond,
    Route, RouteMatch, RouteTable,
};
use crate::route::{Condition, Template, duplicate_host};
use crate::syntax;

use super::{Known, check_targets, conflict, duplicate, missing, name_problem, names};

pub(super) fn check(tables: &[RouteTable], known: &dyn Known, issues: &mut Issues) {
    let all = At::Root.key("routeTables");
    names(
        "route table",
        tables.iter().map(|table| table.name.as_str()),
        &all,
        issues,
    );
    for (number, table) in tables.iter().enumerate() {
        let at = all.index(number);
        let hosts_key = at.key("virtualHosts");
        let mut hosts = HostMap::new();
        let mut route_names = HashSet::new();
        for (number, host) in table.virtual_hosts.iter().enumerate() {
            let at = hosts_key.index(number);
            let patterns = at.key("hosts");
            if host.hosts.is_empty() {
                issues.add(
                    &patterns,
                    missing("there is no host", "at least one host, or `*`"),
                );
            }
            for (position, pattern) in host.hosts.iter().enumerate() {
                if hosts.insert(pattern, number as u32).is_err() {
                    issues.add(&patterns.index(position), duplicate_host(pattern));
                }
            }
            let routes = at.key("routes");
            for (position, route) in host.routes.iter().enumerate() {
                let at = routes.index(position);
                if !route.name.is_empty() {
                    let at = at.key("name");
                    if let Err(problem) = name_problem(&route.name) {
                        issues.add(&at, problem);
                    } else if !route_names.insert(route.name.as_str()) {
                        issues.add(&at, duplicate("route", &route.name));
                    }
                }
                self::route(route, known, &at, issues);
            }
        }
    }
}

fn route(route: &Route, known: &dyn Known, at: &At<'_>, issues: &mut Issues) {
    matches(&route.matches, &at.key("match"), issues);
    let by_prefix = match (&route.matches.path, &route.matches.grpc) {
        (Some(path), _) => matches!(path, PathMatch::Prefix(_)),
        (None, grpc) => grpc.is_some(),
    };
    filters(&route.filters, by_prefix, &at.key("filters"), issues);
    let action = at.key("action");
    match &route.action {
        Action::Forward { to } => check_targets(known, to, &action.key("to"), issues),
        Action::Redirect(redirect) => self::redirect(redirect, by_prefix, &action, issues),
        Action::Respond(respond) => self::respond(respond, &action, issues),
    }
    let keys = at.key("hashKey");
    for (number, key) in route.hash_key.iter().enumerate() {
        let at = keys.index(number);
        match key {
            HashKey::Header(name) => header_name(name, &at, issues),
            HashKey::Cookie(name) if !syntax::is_token(name) => {
                let message = format!("{} is not the name of a cookie", shown(name));
                issues.add(
                    &at,
                    Problem::new(IssueCode::BadValue, message, "a token such as session"),
                );
            }
            HashKey::Cookie(_) | HashKey::Query(_) | HashKey::SourceAddress => {}
        }
    }
}

fn matches(matches: &RouteMatch, at: &At<'_>, issues: &mut Issues) {
    let path_key = at.key("path");
    match &matches.path {
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => normal_path(path, &path_key, issues),
        Some(PathMatch::Template(text)) => match Template::parse(text) {
            Ok(template) => normal_path(&template.sample(), &path_key, issues),
            Err(problem) => issues.add(&path_key, problem),
        },
        Some(PathMatch::Regex(text)) => {
            issues.keep(&path_key, pattern::compile(text));
        }
        None => {}
    }
    if let Some(GrpcMatch { service, method }) = &matches.grpc {
        let at = at.key("grpc");
        if matches.path.is_some() {
            issues.add(
                &at,
                conflict("`grpc` and `path` are both conditions on the path", "one of both"),
            );
        }
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if service.is_empty()
            || !service
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(name))
        {
            let message = format!("{} is not a gRPC service", shown(service));
            issues.add(
                &at.key("service"),
                Problem::new(IssueCode::BadValue, message, "a name such as shop.v1.Basket"),
            );
        }
        if let Some(method) = method
            && (method.is_empty() || !method.bytes().all(name))
        {
            let message = format!("{} is not a gRPC method", shown(method));
            issues.add(
                &at.key("method"),
                Problem::new(IssueCode::BadValue, message, "a name such as Get"),
            );
        }
    }
    let methods = at.key("methods");
    let mut seen = HashSet::new();
    for (number, method) in matches.methods.iter().enumerate() {
        let at = methods.index(number);
        if !syntax::is_token(method) {
            let message = format!("{} is not a method", shown(method));
            issues.add(
                &at,
                Problem::new(IssueCode::BadMethod, message, "a token such as GET"),
            );
        } else if STANDARD_METHODS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(method) && known != method)
        {
            let message = format!(
                "{} would never match: methods are compared with case",
                shown(method)
            );
            issues.add(
                &at,
                Problem::new(
                    IssueCode::BadMethod,
                    message,
                    format!("`{}`", method.to_ascii_uppercase()),
                ),
            );
        } else if !seen.insert(method) {
            issues.add(&at, duplicate("method", method));
        }
    }
    let headers = at.key("headers");
    for (number, condition) in matches.headers.iter().enumerate() {
        issues.keep(&headers.index(number), Condition::header(condition));
    }
    let query = at.key("query");
    for (number, condition) in matches.query.iter().enumerate() {
        issues.keep(&query.index(number), Condition::query(condition));
    }
}

const STANDARD_METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

fn normal_path(path: &str, at: &At<'_>, issues: &mut Issues) {
    if let Some(why) = syntax::path_problem(path) {
        let message = format!("{} {why}", shown(path));
        issues.add(
            at,
            Problem::new(IssueCode::BadPath, message, "a path in normal form such as /api"),
        );
    }
}

fn filters(filters: &Filters, by_prefix: bool, at: &At<'_>, issues: &mut Issues) {
    edits(&filters.request_headers, &at.key("requestHeaders"), issues);
    edits(&filters.response_headers, &at.key("responseHeaders"), issues);
    if let Some(rewrite) = &filters.rewrite_path {
        path_rewrite(rewrite, by_prefix, &at.key("rewritePath"), issues);
    }
    if let HostRewrite::Set(host) = &filters.host {
        authority(host, &at.key("host"), issues);
    }
}

fn edits(edits: &HeaderEdits, at: &At<'_>, issues: &mut Issues) {
    let remove = at.key("remove");
    for (number, name) in edits.remove.iter().enumerate() {
        edited_name(name, &remove.index(number), issues);
    }
    let mut set = HashSet::new();
    for (field, headers) in [("set", &edits.set), ("add", &edits.add)] {
        let key = at.key(field);
        for (number, header) in headers.iter().enumerate() {
            let at = key.index(number);
            edited_name(&header.name, &at.key("name"), issues);
            if !syntax::is_field_value(&header.value) {
                let message = format!("{} can't be the value of a header", shown(&header.value));
                issues.add(
                    &at.key("value"),
                    Problem::new(IssueCode::BadHeader, message, VALUE),
                );
            }
            if field == "set" && !set.insert(header.name.to_ascii_lowercase()) {
                issues.add(&at.key("name"), duplicate("header", &header.name));
            }
        }
    }
}

const VALUE: &str = "visible ASCII characters, with spaces and tabs only between them";

fn edited_name(name: &str, at: &At<'_>, issues: &mut Issues) {
    if syntax::is_owned_header(name) {
        let (why, expected) = if name.eq_ignore_ascii_case("host") {
            ("the host is no header edit", "the filter `host`")
        } else {
            (
                "it frames messages or names a hop, so only the proxy writes it",
                "another header",
            )
        };
        let message = format!("{} can't be edited: {why}", shown(name));
        issues.add(at, Problem::new(IssueCode::ForbiddenHeader, message, expected));
    } else {
        header_name(name, at, issues);
    }
}

fn header_name(name: &str, at: &At<'_>, issues: &mut Issues) {
    if !syntax::is_token(name) {
        let message = format!("{} is not a header name", shown(name));
        issues.add(
            at,
            Problem::new(IssueCode::BadHeader, message, "a token such as x-version"),
        );
    }
}

fn path_rewrite(rewrite: &PathRewrite, by_prefix: bool, at: &At<'_>, issues: &mut Issues) {
    match rewrite {
        PathRewrite::Full(path) => normal_path(path, at, issues),
        PathRewrite::Prefix(path) => {
            normal_path(path, at, issues);
            if !by_prefix {
                issues.add(
                    at,
                    conflict(
                        "the route matches no prefix that could be replaced",
                        "a full path",
                    ),
                );
            }
        }
    }
}

fn authority(host: &str, at: &At<'_>, issues: &mut Issues) {
    if !syntax::is_authority(host) {
        let message = format!("{} is not a host", shown(host));
        issues.add(
            at,
            Problem::new(
                IssueCode::BadHost,
                message,
                "a host with or without port, such as shop.test:8080",
            ),
        );
    }
}

fn redirect(redirect: &Redirect, by_prefix: bool, at: &At<'_>, issues: &mut Issues) {
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{} is not the status of a redirect", redirect.status);
        issues.add(
            &at.key("status"),
            Problem::new(IssueCode::BadStatus, message, "301, 302, 303, 307 or 308"),
        );
    }
    if let Some(scheme) = &redirect.scheme
        && !matches!(scheme.as_str(), "http" | "https")
    {
        let message = format!("{} is not a scheme", shown(scheme));
        issues.add(
            &at.key("scheme"),
            Problem::new(IssueCode::BadValue, message, "`http` or `https`"),
        );
    }
    if let Some(host) = &redirect.host {
        authority(host, &at.key("host"), issues);
    }
    if let Some(path) = &redirect.path {
        path_rewrite(path, by_prefix, &at.key("path"), issues);
    }
    if redirect.scheme.is_none() && redirect.host.is_none() && redirect.path.is_none() {
        issues.add(
            at,
            missing(
                "the redirect points to where it came from",
                "`scheme`, `host` or `path`",
            ),
        );
    }
}

fn respond(respond: &Respond, at: &At<'_>, issues: &mut Issues) {
    /// A body is kept in memory and written in one go; larger ones belong to a server.
    const MAX_BODY: usize = 64 * 1024;
    if !(200..=599).contains(&respond.status) {
        let message = format!("{} can't be answered with", respond.status);
        issues.add(
            &at.key("status"),
            Problem::new(IssueCode::BadStatus, message, "200 to 599"),
        );
    }
    if respond.body.len() > MAX_BODY {
        let message = format!("the body is {} bytes long", respond.body.len());
        issues.add(
            &at.key("body"),
            Problem::new(IssueCode::OutOfRange, message, "at most 65536 bytes"),
        );
    }
    if matches!(respond.status, 204 | 205 | 304) && !respond.body.is_empty() {
        issues.add(
            &at.key("body"),
            conflict(
                "a response of this status has no body",
                "no body, or another status",
            ),
        );
    }
    if respond.content_type.is_empty() || !syntax::is_field_value(&respond.content_type) {
        let message = format!("{} is not a content type", shown(&respond.content_type));
        issues.add(
            &at.key("contentType"),
            Problem::new(IssueCode::BadHeader, message, "a type such as text/html"),
        );
    }
}
