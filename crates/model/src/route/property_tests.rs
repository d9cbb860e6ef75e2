//! The index against a naive matcher that reads the documentation aloud: scan all hosts and routes, sort, take the
//! first. Random tables and requests over a small alphabet, so that everything collides with everything.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{Request, to};
use super::*;
use crate::resources::*;

fn host_takes(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => **name == *host,
        HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
    }
}

fn template_takes(template: &str, path: &str) -> bool {
    let mut segments = path[1..].split('/');
    let mut rest = &path[1..];
    for part in template[1..].split('/') {
        if part.ends_with("*}") {
            return !rest.is_empty() && segments.next().is_some();
        }
        let Some(segment) = segments.next() else {
            return false;
        };
        rest = rest.get(segment.len() + 1..).unwrap_or_default();
        if part.starts_with('{') {
            if segment.is_empty() {
                return false;
            }
        } else if part != segment {
            return false;
        }
    }
    segments.next().is_none()
}

fn path_takes(matches: &RouteMatch, path: &str) -> bool {
    let below = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
    };
    match (&matches.path, &matches.grpc) {
        (None, None) => true,
        _ if !path.starts_with('/') => false,
        (Some(PathMatch::Exact(exact)), _) => exact == path,
        (Some(PathMatch::Prefix(prefix)), _) => below(prefix),
        (Some(PathMatch::Template(template)), _) => template_takes(template, path),
        (Some(PathMatch::Regex(text)), _) => regex::Regex::new(&format!("^(?:{text})$"))
            .unwrap()
            .is_match(path),
        (None, Some(grpc)) => match &grpc.method {
            Some(method) => format!("/{}/{method}", grpc.service) == path,
            None => below(&format!("/{}/", grpc.service)),
        },
    }
}

fn values_take(condition: &ValueMatch, values: &[String]) -> bool {
    let takes = |value: &String| match &condition.value {
        ValueCondition::Present => true,
        ValueCondition::Exact(wanted) => wanted == value,
        ValueCondition::Prefix(wanted) => value.starts_with(wanted),
        ValueCondition::Suffix(wanted) => value.ends_with(wanted),
        ValueCondition::Regex(wanted) => regex::Regex::new(&format!("^(?:{wanted})$"))
            .unwrap()
            .is_match(value),
    };
    if condition.invert {
        !values.iter().any(takes)
    } else {
        !values.is_empty() && values.iter().all(takes)
    }
}

/// The few escapes that `encoded` makes.
fn decoded(text: &str) -> String {
    (0..=9)
        .fold(text.replace('+', " "), |text, digit| {
            text.replace(&format!("%3{digit}"), &digit.to_string())
        })
        .replace("%78", "x")
        .replace("%58", "X")
        .replace("%20", " ")
}

fn encoded(text: &str, how: bool) -> String {
    if !how {
        return text.replace(' ', "+");
    }
    let escape = |c: char| format!("%{:02x}", u32::from(c));
    text.chars()
        .map(|c| if c == 'y' { c.into() } else { escape(c) })
        .collect()
}

fn route_takes(route: &Route, request: &Request) -> bool {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let matches = &route.matches;
    let pairs: Vec<_> = text(&request.query)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
    path_takes(matches, &text(&request.path))
        && (matches.methods.is_empty() || matches.methods.contains(&text(&request.method)))
        && (matches.grpc.is_none() || request.grpc)
        && matches.headers.iter().all(|condition| {
            let values: Vec<_> = request
                .headers
                .iter()
                .filter(|(name, _)| *name == condition.name.to_ascii_lowercase())
                .map(|(_, value)| text(value))
                .collect();
            values_take(condition, &values)
        })
        && matches.query.iter().all(|condition| {
            let values: Vec<_> = pairs
                .iter()
                .filter(|(name, _)| *name == condition.name)
                .map(|(_, value)| value.clone())
                .collect();
            values_take(condition, &values)
        })
}

fn more_specific(left: &RouteMatch, right: &RouteMatch) -> Ordering {
    fn kind(matches: &RouteMatch) -> (u8, String) {
        match (&matches.path, &matches.grpc) {
            (Some(PathMatch::Exact(path)), _) => (0, path.clone()),
            (Some(PathMatch::Template(path)), _) => (1, path.clone()),
            (Some(PathMatch::Regex(path)), _) => (2, path.clone()),
            (Some(PathMatch::Prefix(path)), _) => (3, path.clone()),
            (None, Some(grpc)) if grpc.method.is_some() => (0, String::new()),
            (None, Some(grpc)) => (3, format!("/{}/", grpc.service)),
            (None, None) => (4, String::new()),
        }
    }
    let (left_kind, left_path) = kind(left);
    let (right_kind, right_path) = kind(right);
    let literals = |path: &str| {
        path[1..]
            .split('/')
            .filter(|segment| !segment.starts_with('{'))
            .count()
    };
    let within = match (left_kind, right_kind) {
        (1, 1) => (literals(&right_path).cmp(&literals(&left_path)))
            .then(left_path.ends_with("*}").cmp(&right_path.ends_with("*}")))
            .then(right_path.split('/').count().cmp(&left_path.split('/').count())),
        (3, 3) => right_path.len().cmp(&left_path.len()),
        _ => Ordering::Equal,
    };
    left_kind
        .cmp(&right_kind)
        .then(within)
        .then(right.grpc.is_some().cmp(&left.grpc.is_some()))
        .then(left.methods.is_empty().cmp(&right.methods.is_empty()))
        .then(right.headers.len().cmp(&left.headers.len()))
        .then(right.query.len().cmp(&left.query.len()))
}

fn naive(table: &RouteTable, request: &Request) -> Option<String> {
    let text = String::from_utf8(request.host.clone())
        .unwrap()
        .to_ascii_lowercase();
    let host = text.split(':').next().unwrap().trim_end_matches('.');
    let mut hosts: Vec<_> = table
        .virtual_hosts
        .iter()
        .flat_map(|virtual_host| {
            virtual_host
                .hosts
                .iter()
                .map(move |pattern| (pattern, virtual_host))
        })
        .filter(|(pattern, _)| host_takes(pattern, host))
        .collect();
    hosts.sort_by_key(|(pattern, _)| match pattern {
        HostPattern::Exact(_) => 0,
        HostPattern::Suffix(suffix) => 1000 - suffix.len(),
        HostPattern::Any => 2000,
    });
    hosts.into_iter().find_map(|(_, virtual_host)| {
        let mut routes: Vec<_> = virtual_host
            .routes
            .iter()
            .filter(|route| route_takes(route, request))
            .collect();
        routes.sort_by(|left, right| more_specific(&left.matches, &right.matches));
        routes.first().map(|route| route.name.clone())
    })
}

fn select(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(choices)
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&["a", "b", "ab"]), 0..4).prop_flat_map(|segments| {
        let path = format!("/{}", segments.join("/"));
        prop_oneof![
            Just(path.clone()),
            Just(if path == "/" { path } else { path + "/" })
        ]
    })
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let template = (vec(select(&["a", "b", "{x}"]), 0..4), any::<bool>()).prop_map(|(segments, open)| {
        let mut segments: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| segment.replace('x', &format!("x{at}")))
            .collect();
        if open {
            segments.push("{rest*}".into());
        }
        format!("/{}", segments.join("/"))
    });
    prop_oneof![
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::Prefix),
        template.prop_map(PathMatch::Template),
        select(&["/a.*", "/[ab]+", "/(a|b)/.*", ".*b"]).prop_map(|text| PathMatch::Regex(text.into())),
    ]
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    let value = prop_oneof![
        Just(ValueCondition::Present),
        "[12]".prop_map(ValueCondition::Exact),
        "[12]".prop_map(ValueCondition::Prefix),
        "[12]".prop_map(ValueCondition::Suffix),
        Just(ValueCondition::Regex("[1].*".into())),
        Just(ValueCondition::Regex("(2|.) ?".into())),
    ];
    ("[xyX]", value, any::<bool>()).prop_map(|(name, value, invert)| ValueMatch { name, value, invert })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let grpc =
        ("[ab]", proptest::option::of("[ab]")).prop_map(|(service, method)| GrpcMatch { service, method });
    let place = prop_oneof![
        6 => path_match().prop_map(|path| (Some(path), None)),
        1 => grpc.prop_map(|grpc| (None, Some(grpc))),
        1 => Just((None, None)),
    ];
    let sometimes = || prop_oneof![3 => vec(value_match(), 0..1), 1 => vec(value_match(), 1..3)];
    let methods =
        prop_oneof![3 => Just(vec![]), 1 => vec(select(&["GET", "PUT"]).prop_map(str::to_owned), 1..3)];
    (place, methods, sometimes(), sometimes()).prop_map(|((path, grpc), methods, headers, query)| {
        RouteMatch {
            path,
            methods,
            headers,
            query,
            grpc,
        }
    })
}

fn table() -> impl Strategy<Value = RouteTable> {
    const HOSTS: [&str; 6] = ["*", "*.test", "*.a.test", "a.test", "b.a.test", "c"];
    vec(
        (
            proptest::sample::subsequence(HOSTS.to_vec(), 1..4),
            vec(route_match(), 0..12),
        ),
        1..4,
    )
    .prop_map(|hosts| {
        let mut taken = std::collections::HashSet::new();
        let mut count = 0;
        let virtual_hosts = hosts
            .into_iter()
            .map(|(hosts, routes)| VirtualHost {
                hosts: hosts
                    .into_iter()
                    .filter(|host| taken.insert(*host))
                    .map(|host| host.parse().unwrap())
                    .collect(),
                routes: routes
                    .into_iter()
                    .map(|matches| {
                        count += 1;
                        to(&format!("r{count}"), matches)
                    })
                    .collect(),
            })
            .collect();
        RouteTable {
            name: "t".into(),
            virtual_hosts,
        }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let host = select(&[
        "a.test",
        "b.a.test",
        "B.A.TEST:8080",
        "x.b.a.test",
        "test",
        ".test",
        "c.",
        "",
        "d:1",
    ]);
    let path = prop_oneof![8 => path(), 1 => Just(String::new()), 1 => Just("*".to_owned())];
    (
        host,
        select(&["GET", "PUT", "POST"]),
        path,
        vec(("[xyX]", "[12 ]{0,2}", any::<bool>()), 0..4),
        vec(("[xy]", "[12 ]{0,2}"), 0..3),
        any::<bool>(),
    )
        .prop_map(|(host, method, path, query, headers, grpc)| Request {
            host: host.into(),
            method: method.into(),
            path: path.into(),
            query: query
                .iter()
                .map(|(name, value, how)| match value.as_str() {
                    "" if *how => name.clone(),
                    _ => format!("{}={}", encoded(name, *how), encoded(value, *how)),
                })
                .collect::<Vec<_>>()
                .join("&")
                .into(),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            grpc,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_a_scan(table in table(), requests in vec(request(), 1..40)) {
        let index = RouteIndex::compile(&table).unwrap();
        for request in requests {
            let matched = index.find(&request);
            prop_assert_eq!(matched.map(|matched| matched.route.name().to_string()), naive(&table, &request), "{:?}", request);
            let mut before = Vec::new();
            let scanned = index.scan(&request, |route, why| before.push((route.id(), why)));
            prop_assert_eq!(scanned.map(|route| route.id()), matched.map(|matched| matched.route.id()));
            prop_assert!(before.iter().all(|(id, why)| scanned.is_none_or(|route| route.id() != *id) && !why.is_empty()));
        }
    }

    #[test]
    fn any_bytes_are_routed_without_panic(
        table in table(),
        host in vec(any::<u8>(), 0..300),
        path in vec(prop_oneof![Just(b'/'), Just(b'a'), any::<u8>()], 0..64),
        query in vec(prop_oneof![Just(b'%'), Just(b'&'), Just(b'x'), Just(b'='), any::<u8>()], 0..32),
        value in vec(any::<u8>(), 0..8),
    ) {
        let index = RouteIndex::compile(&table).unwrap();
        let request = Request { host, method: value.clone(), path, query, headers: vec![("x".into(), value)], grpc: true };
        if let Some(matched) = index.find(&request) {
            prop_assert!(matched.prefix_len <= request.path.len());
            let mut out = Vec::new();
            crate::filter::rewrite_path(matched.route.path_rewrite(), &request.path, matched.prefix_len, &mut out);
        }
        let redirect = Redirect { status: 302, scheme: Some("https".into()), host: None, path: None };
        let location = crate::filter::redirect_location(&redirect, "http", &request.host, &request.path, &request.query, 0);
        prop_assert!(location.bytes().all(|b| b.is_ascii_graphic()));
    }
}
