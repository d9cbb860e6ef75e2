//! Whatever a table says: does it come back, and does the first match mean the same?

use mesh_model::resources::*;
use mesh_model::route::{RequestView, RouteIndex, Specificity};
use proptest::prelude::*;

use crate::translate::Translate;
use crate::wire;

fn value() -> impl Strategy<Value = ValueCondition> {
    prop_oneof![
        Just(ValueCondition::Present),
        "[ -~]{0,3}".prop_map(ValueCondition::Exact),
        "[ -~]{1,3}".prop_map(ValueCondition::Prefix),
        "[ -~]{1,3}".prop_map(ValueCondition::Suffix),
        "[a-c]{1,3}[.*+]?".prop_map(ValueCondition::Regex),
    ]
}

fn header() -> impl Strategy<Value = ValueMatch> {
    ("x-[a-b]", value(), any::<bool>()).prop_map(|(name, value, invert)| ValueMatch {
        invert: invert && (value == ValueCondition::Present || !value.takes_empty()),
        name,
        value,
    })
}

fn query() -> impl Strategy<Value = ValueMatch> {
    ("[a-c]", value()).prop_map(|(name, value)| ValueMatch {
        name,
        value,
        invert: false,
    })
}

fn path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        "(/[a-c.+]{1,2}){1,3}/?".prop_map(PathMatch::Exact),
        "(/[a-c.+]{1,2}){0,2}/".prop_map(PathMatch::Prefix),
        "(/[a-c.+]{1,2}){1,2}".prop_map(PathMatch::Prefix),
        "(/[a-c.]|/\\{x\\}){1,2}(/\\{rest\\*\\})?"
            .prop_filter("a variable stands once", |text| text.matches("{x}").count() < 2)
            .prop_map(PathMatch::Template),
        "/[a-c]{0,2}(\\.\\*|\\[ab\\]|x\\|y)?".prop_map(PathMatch::Regex),
    ]
}

fn grpc() -> impl Strategy<Value = GrpcMatch> {
    ("[a-c]\\.[A-C]", prop::option::of("[A-C]{1,2}"))
        .prop_map(|(service, method)| GrpcMatch { service, method })
}

prop_compose! {
    fn matches()(
        path in prop::option::of(path()),
        call in prop::option::weighted(0.2, grpc()),
        methods in prop::collection::btree_set("GET|POST|A\\|B|X\\.Y", 0..3),
        headers in prop::collection::vec(header(), 0..3),
        query in prop::collection::vec(query(), 0..2),
    ) -> RouteMatch {
        RouteMatch {
            path: if call.is_some() { None } else { path },
            grpc: call,
            methods: methods.into_iter().collect(),
            headers,
            query,
        }
    }
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let headers = || {
        let header = ("x-[a-d]", "[ -~]{0,4}").prop_map(|(name, value)| HeaderValue { name, value });
        prop::collection::vec(header, 0..3)
    };
    (prop::collection::vec("x-[a-d]", 0..2), headers(), headers())
        .prop_map(|(remove, set, add)| HeaderEdits { remove, set, add })
}

fn span() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((0..=86_400_000_u64).prop_map(Duration::from_millis))
}

fn rewrite(by_prefix: bool) -> impl Strategy<Value = Option<PathRewrite>> {
    let path = "(/[c-e.%2A]{1,2}){0,2}/?".prop_map(|path| if path.is_empty() { "/".into() } else { path });
    prop::option::of((path, any::<bool>()).prop_map(move |(path, prefix)| {
        if prefix && by_prefix {
            PathRewrite::Prefix(path)
        } else {
            PathRewrite::Full(path)
        }
    }))
}

fn hash_key() -> impl Strategy<Value = HashKey> {
    prop_oneof![
        "x-[a-c]".prop_map(HashKey::Header),
        "[a-c]".prop_map(HashKey::Cookie),
        "[a-c]".prop_map(HashKey::Query),
        Just(HashKey::SourceAddress),
    ]
}

fn forward() -> impl Strategy<Value = Action> {
    let target =
        ("[a-c]{1,3}", 0..=1_000_000_u32).prop_map(|(cluster, weight)| WeightedCluster { cluster, weight });
    prop_oneof![
        "[a-c]{1,3}".prop_map(|cluster| Action::Forward {
            to: WeightedCluster::all(cluster)
        }),
        prop::collection::vec(target, 1..4).prop_map(|to| Action::Forward { to }),
    ]
}

fn answer(by_prefix: bool) -> impl Strategy<Value = Action> {
    let redirect = (
        prop::sample::select(vec![301, 302, 303, 307, 308]),
        prop::option::of(prop::sample::select(vec!["http".to_owned(), "https".to_owned()])),
        prop::option::of("[a-c]\\.test(:8[0-9])?"),
        rewrite(by_prefix),
    );
    let respond = (200..=599_u16, ".{0,9}", "text/(plain; charset=utf-8|html)");
    prop_oneof![
        redirect.prop_map(|(status, scheme, host, path)| {
            Action::Redirect(Redirect {
                status,
                scheme,
                host,
                path,
            })
        }),
        respond.prop_map(|(status, body, content_type)| {
            Action::Respond(Respond {
                status,
                body,
                content_type,
            })
        }),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    (matches(), "[a-z]{0,4}", edits(), edits()).prop_flat_map(
        |(matches, name, request_headers, response_headers)| {
            let by_prefix = match (&matches.path, &matches.grpc) {
                (Some(path), _) => matches!(path, PathMatch::Prefix(_)),
                (None, grpc) => grpc.as_ref().is_some_and(|grpc| grpc.method.is_none()),
            };
            let host = prop_oneof![
                Just(HostRewrite::Keep),
                Just(HostRewrite::Upstream),
                "[a-c]\\.test".prop_map(HostRewrite::Set),
            ];
            let base = Route {
                name,
                matches,
                filters: Filters {
                    request_headers,
                    response_headers,
                    ..Filters::default()
                },
                action: Action::Forward { to: vec![] },
                timeouts: RouteTimeouts::default(),
                hash_key: vec![],
            };
            let forward = (
                Just(base.clone()),
                forward(),
                rewrite(by_prefix),
                host,
                (span(), span()),
                prop::collection::vec(hash_key(), 0..3),
            );
            let forward = forward.prop_map(|(mut route, action, rewrite_path, host, spans, hash_key)| {
                route.action = action;
                route.filters.rewrite_path = rewrite_path;
                route.filters.host = host;
                route.timeouts = RouteTimeouts {
                    request: spans.0,
                    stream_idle: spans.1,
                };
                route.hash_key = hash_key;
                route
            });
            let answer = (Just(base), answer(by_prefix)).prop_map(|(mut route, action)| {
                route.action = action;
                route
            });
            prop_oneof![3 => forward, 1 => answer]
        },
    )
}

/// Hosts of their own each, so that they agree on what they fall back on.
fn table_of(route: impl Strategy<Value = Route>) -> impl Strategy<Value = RouteTable> {
    let host = "\\*|a\\.test|b\\.a\\.test|\\*\\.a\\.test|\\*\\.test|\\[::1\\]"
        .prop_map(|text| text.parse::<HostPattern>().unwrap());
    let hosts = prop::collection::btree_map(host, prop::collection::vec(route, 0..5), 0..4);
    ("[a-z]{1,5}", hosts).prop_map(|(name, hosts)| RouteTable {
        name,
        virtual_hosts: hosts
            .into_iter()
            .map(|(host, routes)| VirtualHost {
                hosts: vec![host],
                routes,
            })
            .collect(),
    })
}

/// The same table with its routes in order, which means nothing.
fn in_order(mut table: RouteTable) -> RouteTable {
    for host in &mut table.virtual_hosts {
        host.routes.sort_by_key(|route| Specificity::of(&route.matches));
    }
    table
}

struct Request {
    host: &'static str,
    path: &'static str,
    method: &'static str,
}

impl RequestView for Request {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> &[u8] {
        b""
    }

    fn header<'a>(&'a self, _: &'a str) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }

    fn is_grpc(&self) -> bool {
        false
    }
}

/// What a client of xDS finds, the way its documents tell: one virtual host, then the first route.
fn first_match<'a>(message: &'a wire::RouteConfiguration, request: &Request) -> Option<&'a wire::Route> {
    let host = message
        .virtual_hosts
        .iter()
        .flat_map(|host| host.domains.iter().map(move |domain| (domain, host)))
        .filter_map(|(domain, host)| {
            let rank = match domain.strip_prefix('*') {
                Some("") => (2, 0),
                Some(suffix) if request.host.ends_with(suffix) => (1, usize::MAX - suffix.len()),
                None if domain == request.host => (0, 0),
                _ => return None,
            };
            Some((rank, host))
        })
        .min_by_key(|(rank, _)| *rank)?
        .1;
    host.routes.iter().find(|route| {
        let matches = route.r#match.as_ref().unwrap();
        let path = match matches {
            wire::RouteMatch {
                prefix: Some(prefix), ..
            } => request.path.starts_with(prefix.as_str()),
            wire::RouteMatch { path: Some(path), .. } => request.path == path,
            wire::RouteMatch {
                path_separated_prefix: Some(prefix),
                ..
            } => request
                .path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            _ => false,
        };
        let method = |header: &wire::HeaderMatcher| {
            let text = header.string_match.as_ref().unwrap();
            let several = text.safe_regex.as_ref().map(|regex| regex.regex.as_str());
            let one = text.exact.as_deref().or(several).unwrap();
            header.name == ":method" && one.split('|').any(|method| method == request.method)
        };
        path && matches.headers.iter().all(method)
    })
}

/// Routes that [`first_match`] can read.
fn plain_route() -> impl Strategy<Value = Route> {
    let path = prop_oneof![
        "(/[ab]){1,2}".prop_map(PathMatch::Exact),
        "(/[ab]){0,2}/".prop_map(PathMatch::Prefix),
        "(/[ab]){1,2}".prop_map(PathMatch::Prefix),
    ];
    let methods = prop::collection::btree_set("GET|POST", 0..2);
    (prop::option::weighted(0.9, path), methods, "[a-z]{6}").prop_map(|(path, methods, name)| Route {
        name,
        matches: RouteMatch {
            path,
            methods: methods.into_iter().collect(),
            ..RouteMatch::default()
        },
        filters: Filters::default(),
        action: Action::Forward {
            to: WeightedCluster::all("a"),
        },
        timeouts: RouteTimeouts::default(),
        hash_key: vec![],
    })
}

proptest! {
    #[test]
    fn tables_come_back_as_they_went(table in table_of(route())) {
        let any = table.to_any().unwrap();
        prop_assert_eq!(RouteTable::from_any(&any), Ok(in_order(table)));
    }

    #[test]
    fn the_first_match_is_the_most_specific(table in table_of(plain_route())) {
        let message = table.to_message().unwrap();
        let index = RouteIndex::compile(&table).unwrap();
        let back = RouteIndex::compile(&RouteTable::from_message(message.clone()).unwrap()).unwrap();
        for host in ["a.test", "b.a.test", "c.a.test", "c.test", "other"] {
            for path in ["/", "/a", "/a/", "/a/b", "/ab", "/b/x/y"] {
                for method in ["GET", "POST", "PUT"] {
                    let request = Request { host, path, method };
                    let name = index.find(&request).map(|found| found.route.name().to_string());
                    let there = first_match(&message, &request).map(|route| route.name.clone());
                    prop_assert_eq!(&there, &name, "{} {}{}", method, host, path);
                    let again = back.find(&request).map(|found| found.route.name().to_string());
                    prop_assert_eq!(&again, &name, "back: {} {}{}", method, host, path);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let type_url = RouteTable::KIND.type_url().into();
        let _ = RouteTable::from_any(&wire::Any { type_url, value: value.into() });
    }
}
