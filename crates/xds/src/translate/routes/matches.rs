//! Which requests a route takes.

use std::collections::BTreeMap;

use mesh_model::resources::{GrpcMatch, PathMatch, RouteMatch};

use super::super::matchers::{escaped, headers, one_of, query, to_header, to_one_of, to_query, to_regex};
use super::super::{Refusal, within};
use super::ours;
use crate::wire;

const METHOD: &str = ":method";

pub(super) fn route_match(
    message: wire::RouteMatch,
    ours: &BTreeMap<String, String>,
) -> Result<RouteMatch, Refusal> {
    if message.case_sensitive == Some(false) {
        return Err(Refusal::new("case_sensitive", "paths are compared with case"));
    }
    if message.runtime_fraction.is_some() {
        return Err(Refusal::new(
            "runtime_fraction",
            "is not known, and others would be reached",
        ));
    }
    let path = path(
        message.prefix,
        message.path,
        message.path_separated_prefix,
        message.safe_regex,
        ours,
    )?;
    let (path, grpc) = match message.grpc {
        Some(_) => (None, Some(grpc(path.as_ref())?)),
        None => (path, None),
    };
    let mut matches = RouteMatch {
        path,
        grpc,
        ..RouteMatch::default()
    };
    for (number, matcher) in message.headers.into_iter().enumerate() {
        let at = || format!("headers[{number}]");
        if matcher.name == METHOD {
            let methods = methods(matcher).map_err(|refusal| refusal.within(&at()))?;
            if !std::mem::replace(&mut matches.methods, methods).is_empty() {
                return Err(Refusal::new(at(), "`:method` stands twice"));
            }
        } else {
            let conditions = headers(matcher).map_err(|refusal| refusal.within(&at()))?;
            matches.headers.extend(conditions);
        }
    }
    matches.query = within("query_parameters", message.query_parameters, query)?;
    Ok(matches)
}

pub(super) fn to_route_match(
    matches: &RouteMatch,
    ours: &mut BTreeMap<String, String>,
) -> Result<wire::RouteMatch, Refusal> {
    let mut message = wire::RouteMatch::default();
    match (&matches.path, &matches.grpc) {
        (Some(_), Some(_)) => return Err(Refusal::new("grpc", "not together with `path`")),
        (None, None) => message.prefix = Some(String::new()),
        (None, Some(grpc)) => {
            message.grpc = Some(wire::Empty {});
            match &grpc.method {
                Some(method) => message.path = Some(format!("/{}/{method}", grpc.service)),
                None => message.prefix = Some(format!("/{}/", grpc.service)),
            }
        }
        (Some(PathMatch::Exact(path)), None) => message.path = Some(path.clone()),
        (Some(PathMatch::Prefix(path)), None) if path.ends_with('/') => message.prefix = Some(path.clone()),
        (Some(PathMatch::Prefix(path)), None) => message.path_separated_prefix = Some(path.clone()),
        (Some(PathMatch::Regex(pattern)), None) => message.safe_regex = Some(to_regex(pattern.clone())),
        (Some(PathMatch::Template(template)), None) => {
            ours.insert(ours::TEMPLATE.to_owned(), template.clone());
            message.safe_regex = Some(to_regex(template_pattern(template)));
        }
    }
    if !matches.methods.is_empty() {
        message.headers.push(wire::HeaderMatcher {
            name: METHOD.to_owned(),
            string_match: Some(to_one_of(&matches.methods)),
            ..wire::HeaderMatcher::default()
        });
    }
    message
        .headers
        .extend(within("headers", &matches.headers, to_header)?);
    message.query_parameters = within("query", &matches.query, to_query)?;
    Ok(message)
}

fn path(
    prefix: Option<String>,
    exact: Option<String>,
    separated: Option<String>,
    regex: Option<wire::RegexMatcher>,
    ours: &BTreeMap<String, String>,
) -> Result<Option<PathMatch>, Refusal> {
    Ok(Some(match (prefix, exact, separated, regex) {
        (Some(prefix), None, None, None) => return Ok(byte_prefix(prefix)),
        (None, Some(path), None, None) => PathMatch::Exact(path),
        (None, None, Some(prefix), None) if !prefix.ends_with('/') => PathMatch::Prefix(prefix),
        (None, None, None, Some(regex)) => match ours.get(ours::TEMPLATE) {
            Some(template) if template_pattern(template) == regex.regex => {
                PathMatch::Template(template.clone())
            }
            _ => PathMatch::Regex(regex.regex),
        },
        _ => {
            return Err(Refusal::new(
                "path_specifier",
                "expected one of prefix, path, safe_regex and path_separated_prefix without a final `/`",
            ));
        }
    }))
}

/// A prefix that does not end on a segment border takes what no prefix of ours does: `/api` takes `/apis`.
fn byte_prefix(prefix: String) -> Option<PathMatch> {
    match prefix.as_str() {
        "" => None,
        path if path.ends_with('/') => Some(PathMatch::Prefix(prefix)),
        path => Some(PathMatch::Regex(format!("{}.*", escaped(path)))),
    }
}

/// Only whole names are known: of a service, of a method.
fn grpc(path: Option<&PathMatch>) -> Result<GrpcMatch, Refusal> {
    let names = match path {
        Some(PathMatch::Exact(path)) => path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .map(|(service, method)| (service, Some(method))),
        Some(PathMatch::Prefix(path)) => path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix('/'))
            .map(|service| (service, None)),
        _ => None,
    };
    let is_name = |name: &str| !name.is_empty() && !name.contains('/');
    names
        .filter(|(service, method)| is_name(service) && method.is_none_or(is_name))
        .map(|(service, method)| GrpcMatch {
            service: service.to_owned(),
            method: method.map(str::to_owned),
        })
        .ok_or_else(|| Refusal::new("grpc", "expected path /service/method, or prefix /service/"))
}

fn methods(matcher: wire::HeaderMatcher) -> Result<Vec<String>, Refusal> {
    let refusal = || Refusal::new("", "expected string_match, not turned round");
    let wire::HeaderMatcher {
        name: _,
        exact_match,
        string_match,
        ..
    } = &matcher;
    let texts = match (exact_match, string_match) {
        (Some(method), None) => wire::StringMatcher {
            exact: Some(method.clone()),
            ..wire::StringMatcher::default()
        },
        (None, Some(texts)) => texts.clone(),
        _ => return Err(refusal()),
    };
    let alone = wire::HeaderMatcher {
        name: matcher.name.clone(),
        exact_match: exact_match.clone(),
        string_match: string_match.clone(),
        ..wire::HeaderMatcher::default()
    };
    if matcher != alone {
        return Err(refusal());
    }
    one_of(texts)
}

/// The regular expression that takes what a template takes.
pub(in crate::translate) fn template_pattern(template: &str) -> String {
    let segment = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) if name.ends_with('*') => ".+".to_owned(),
        Some(_) => "[^/]+".to_owned(),
        None => escaped(part),
    };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}
