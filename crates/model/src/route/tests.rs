//! The edges of each part of the index, as tables.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::resources::*;

#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) host: Vec<u8>,
    pub(super) method: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) query: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) grpc: bool,
}

impl RequestView for Request {
    fn host(&self) -> &[u8] {
        &self.host
    }
    fn method(&self) -> &[u8] {
        &self.method
    }
    fn path(&self) -> &[u8] {
        &self.path
    }
    fn query(&self) -> &[u8] {
        &self.query
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_slice())
    }
    fn is_grpc(&self) -> bool {
        self.grpc
    }
}

fn get(host: &str, path: &str) -> Request {
    Request {
        host: host.into(),
        method: b"GET".to_vec(),
        path: path.into(),
        ..Request::default()
    }
}

pub(super) fn to(name: &str, matches: RouteMatch) -> Route {
    Route {
        name: name.into(),
        matches,
        filters: Filters::default(),
        action: Action::Forward {
            to: WeightedCluster::all("c"),
        },
        timeouts: RouteTimeouts::default(),
        hash_key: Vec::new(),
    }
}

fn on_path(name: &str, path: PathMatch) -> Route {
    to(
        name,
        RouteMatch {
            path: Some(path),
            ..RouteMatch::default()
        },
    )
}

fn prefix(path: &str) -> Route {
    on_path(path, PathMatch::Prefix(path.into()))
}

fn index(hosts: Vec<(&[&str], Vec<Route>)>) -> RouteIndex {
    let virtual_hosts = hosts
        .into_iter()
        .map(|(hosts, routes)| VirtualHost {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            routes,
        })
        .collect();
    RouteIndex::compile(&RouteTable {
        name: "t".into(),
        virtual_hosts,
    })
    .unwrap()
}

fn found(index: &RouteIndex, request: &Request) -> String {
    index
        .find(request)
        .map_or_else(|| "-".into(), |matched| matched.route.name().to_string())
}

#[test]
fn prefixes_end_on_segment_borders() {
    let index = index(vec![(
        &["*"],
        vec![prefix("/api"), prefix("/api/v1"), prefix("/docs/"), prefix("/")],
    )]);
    for (path, name, prefix_len) in [
        ("/api", "/api", 4),
        ("/api/", "/api", 4),
        ("/api/x", "/api", 4),
        ("/apis", "/", 0),
        ("/api/v1", "/api/v1", 7),
        ("/api/v1/", "/api/v1", 7),
        ("/api/v10", "/api", 4),
        ("/docs", "/", 0),
        ("/docs/", "/docs/", 5),
        ("/docs/x/y", "/docs/", 5),
        ("/", "/", 0),
    ] {
        let matched = index.find(&get("h", path)).unwrap();
        assert_eq!(&**matched.route.name(), name, "{path}");
        assert_eq!(matched.prefix_len, prefix_len, "{path}");
    }
    for path in ["", "*", "api"] {
        assert!(index.find(&get("h", path)).is_none(), "{path}");
    }
}

#[test]
fn kinds_of_path_have_an_order() {
    let all = index(vec![(
        &["*"],
        vec![
            to("none", RouteMatch::default()),
            on_path("prefix", PathMatch::Prefix("/a".into())),
            on_path("regex", PathMatch::Regex("/a/.*".into())),
            on_path("rest", PathMatch::Template("/a/{x*}".into())),
            on_path("one", PathMatch::Template("/a/{x}".into())),
            on_path("two", PathMatch::Template("/a/b/{x}".into())),
            on_path("exact", PathMatch::Exact("/a/b".into())),
        ],
    )]);
    for (path, name) in [
        ("/a/b", "exact"),
        ("/a/c", "one"),
        ("/a/b/c", "two"),
        ("/a/b/", "rest"),
        ("/a/c/d", "rest"),
        ("/a/", "regex"),
        ("/a", "prefix"),
        ("/b", "none"),
        ("*", "none"),
        ("", "none"),
    ] {
        assert_eq!(found(&all, &get("", path)), name, "{path}");
    }
}

#[test]
fn hosts_are_compared_without_case_port_and_final_dot() {
    let table = index(vec![
        (&["shop.test", "[::1]"], vec![prefix("/only")]),
        (&["*.shop.test"], vec![to("wild", RouteMatch::default())]),
        (&["*.eu.shop.test"], vec![to("eu", RouteMatch::default())]),
        (&["*"], vec![to("any", RouteMatch::default())]),
    ]);
    for (host, name) in [
        ("shop.test", "/only"),
        ("SHOP.Test:8080", "/only"),
        ("shop.test.", "/only"),
        ("shop.test.:80", "/only"),
        ("[::1]:80", "/only"),
        ("[0:0::1]", "/only"),
        ("[::2]", "any"),
        ("a.shop.test", "wild"),
        ("A.B.SHOP.TEST", "wild"),
        ("eu.shop.test", "wild"),
        ("x.eu.shop.test:1", "eu"),
        (".shop.test", "any"),
        ("xshop.test", "any"),
        ("shop.test.evil", "any"),
        ("shop.test:80:90", "any"),
        ("", "any"),
        (".", "any"),
        (":80", "any"),
        ("[", "any"),
        ("[]", "any"),
    ] {
        assert_eq!(found(&table, &get(host, "/only")), name, "{host}");
    }
    assert_eq!(
        found(&table, &get("shop.test", "/other")),
        "any",
        "a less specific host is asked next"
    );
    let long = format!("{}.shop.test", "a".repeat(300));
    assert_eq!(found(&table, &get(&long, "/")), "any");
    assert!(
        table.knows_host(b"SHOP.test:443")
            && table.knows_host(b"x.shop.test")
            && !table.knows_host(b"other.test")
    );
}

#[test]
fn conditions_hold_for_all_values() {
    let condition = |value, invert| {
        let header = ValueMatch {
            name: "X-Role".into(),
            value,
            invert,
        };
        index(vec![(
            &["*"],
            vec![to(
                "yes",
                RouteMatch {
                    headers: vec![header],
                    ..RouteMatch::default()
                },
            )],
        )])
    };
    let ask = |index: &RouteIndex, values: &[&[u8]]| {
        let headers = values
            .iter()
            .map(|value| ("x-role".to_owned(), value.to_vec()))
            .collect();
        index
            .find(&Request {
                headers,
                ..get("", "/")
            })
            .is_some()
    };
    let is = condition(ValueCondition::Exact("admin".into()), false);
    assert!(ask(&is, &[b"admin"]) && ask(&is, &[b"admin", b"admin"]));
    assert!(
        !ask(&is, &[])
            && !ask(&is, &[b"admin", b"user"])
            && !ask(&is, &[b"Admin"])
            && !ask(&is, &[b"admin\xff"])
    );
    let is_not = condition(ValueCondition::Exact("admin".into()), true);
    assert!(ask(&is_not, &[]) && ask(&is_not, &[b"user"]) && ask(&is_not, &[b"\xff"]));
    assert!(!ask(&is_not, &[b"user", b"admin"]) && !ask(&is_not, &[b"admin"]));
    let regex = condition(ValueCondition::Regex(".*dm.*".into()), true);
    assert!(
        !ask(&regex, &[b"\xffadmin"]),
        "malformed UTF-8 is no way around a condition"
    );
    let present = condition(ValueCondition::Present, false);
    assert!(ask(&present, &[b""]) && !ask(&present, &[]));
    let absent = condition(ValueCondition::Present, true);
    assert!(!ask(&absent, &[b""]) && ask(&absent, &[]));
}

#[test]
fn query_conditions_see_decoded_values() {
    let query = |value| {
        let condition = ValueMatch {
            name: "q".into(),
            value,
            invert: false,
        };
        index(vec![(
            &["*"],
            vec![to(
                "yes",
                RouteMatch {
                    query: vec![condition],
                    ..RouteMatch::default()
                },
            )],
        )])
    };
    let ask = |index: &RouteIndex, query: &str| {
        index
            .find(&Request {
                query: query.into(),
                ..get("", "/")
            })
            .is_some()
    };
    let exact = query(ValueCondition::Exact("a b".into()));
    assert!(
        ask(&exact, "q=a+b") && ask(&exact, "x=1&%71=a%20b") && !ask(&exact, "q=a+b&q=c") && !ask(&exact, "")
    );
    let suffix = query(ValueCondition::Suffix("é".into()));
    assert!(ask(&suffix, "q=caf%C3%A9") && !ask(&suffix, "q=cafe"));
    let regex = query(ValueCondition::Regex(r"\d+".into()));
    assert!(ask(&regex, "q=%31%32") && ask(&regex, "q=12") && !ask(&regex, "q=1x"));
}

#[test]
fn grpc_routes_take_grpc_calls_only() {
    let grpc = |method: Option<&str>| {
        let grpc = GrpcMatch {
            service: "shop.v1.Basket".into(),
            method: method.map(str::to_owned),
        };
        to(
            method.unwrap_or("service"),
            RouteMatch {
                grpc: Some(grpc),
                ..RouteMatch::default()
            },
        )
    };
    let table = index(vec![(
        &["*"],
        vec![to("rest", RouteMatch::default()), grpc(None), grpc(Some("Get"))],
    )]);
    let call = |path: &str, grpc| {
        found(
            &table,
            &Request {
                grpc,
                ..get("", path)
            },
        )
    };
    assert_eq!(call("/shop.v1.Basket/Get", true), "Get");
    assert_eq!(call("/shop.v1.Basket/Put", true), "service");
    assert_eq!(call("/shop.v1.Basket", true), "rest");
    assert_eq!(call("/shop.v1.Basket/Get", false), "rest");
}

#[test]
fn names_are_made_from_the_match_and_unique() {
    let unnamed = |path| on_path("", path);
    let table = index(vec![
        (
            &["shop.test"],
            vec![
                unnamed(PathMatch::Prefix("/api/".into())),
                unnamed(PathMatch::Prefix("/api".into())),
                unnamed(PathMatch::Regex("/a \"b".into())),
                to(
                    "",
                    RouteMatch {
                        methods: vec!["GET".into(), "PUT".into()],
                        ..RouteMatch::default()
                    },
                ),
            ],
        ),
        (
            &["*"],
            vec![
                to("", RouteMatch::default()),
                to("*#2", RouteMatch::default()),
                to("", RouteMatch::default()),
            ],
        ),
    ]);
    let names: Vec<_> = table.routes().map(|route| route.name().to_string()).collect();
    let expected = [
        "shop.test/api/*",
        "shop.test/api/*#2",
        "shop.test~/a__b",
        "shop.test:GET,PUT",
        "*",
        "*#2",
        "*#3",
    ];
    assert_eq!(names, expected);
    assert!(
        table
            .routes()
            .enumerate()
            .all(|(at, route)| route.id() as usize == at)
    );
}

#[test]
fn clusters_are_drawn_by_weight() {
    let weights = [0, 95, 5, 0];
    let clusters: Vec<_> = weights
        .iter()
        .map(|&weight| WeightedCluster {
            cluster: "c".into(),
            weight,
        })
        .collect();
    let mut route = prefix("/");
    route.action = Action::Forward { to: clusters.clone() };
    let index = index(vec![(&["*"], vec![route])]);
    let mut drawn = [0u32; 4];
    for step in 0..10_000_u64 {
        let random = step.wrapping_mul(u64::MAX / 10_000);
        let picked = index.route(0).unwrap().pick(|| random).unwrap();
        drawn[picked] += 1;
        assert!(std::ptr::eq(
            pick_cluster(&clusters, random).unwrap(),
            &clusters[picked]
        ));
    }
    assert_eq!((drawn[0], drawn[3]), (0, 0));
    assert!(
        drawn[1].abs_diff(9500) <= 1 && drawn[2].abs_diff(500) <= 1,
        "{drawn:?}"
    );
    for random in [0, u64::MAX] {
        assert!((1..=2).contains(&index.route(0).unwrap().pick(|| random).unwrap()));
    }
    assert!(pick_cluster(&[], 0).is_none());
}

#[test]
fn tables_that_cannot_work_are_refused_with_every_problem() {
    let mut bad = on_path("w", PathMatch::Exact("nope".into()));
    bad.action = Action::Forward {
        to: vec![WeightedCluster {
            cluster: "c".into(),
            weight: 0,
        }],
    };
    let host = |routes| VirtualHost {
        hosts: vec![HostPattern::Any],
        routes,
    };
    let table = RouteTable {
        name: "t".into(),
        virtual_hosts: vec![
            host(vec![on_path("r", PathMatch::Regex("(".into())), bad]),
            host(vec![]),
        ],
    };
    let issues = RouteIndex::compile(&table).unwrap_err();
    let seen: Vec<_> = issues
        .iter()
        .map(|issue| (crate::issue::render_path(&issue.path), issue.code))
        .collect();
    let path = |path: &str| path.to_owned();
    assert_eq!(
        seen,
        [
            (path("virtualHosts[0].routes[0].match.path"), IssueCode::BadRegex),
            (path("virtualHosts[0].routes[1].match.path"), IssueCode::BadPath),
            (path("virtualHosts[0].routes[1].action.to"), IssueCode::OutOfRange),
            (path("virtualHosts[1].hosts[0]"), IssueCode::Duplicate),
        ]
    );
}

#[test]
fn hash_keys_take_the_first_that_is_present() {
    let mut route = prefix("/");
    route.hash_key = vec![
        HashKey::Header("X-User".into()),
        HashKey::Cookie("sid".into()),
        HashKey::Query("u".into()),
        HashKey::SourceAddress,
    ];
    let index = index(vec![(&["*"], vec![route])]);
    let key = |request: &Request, source| index.route(0).unwrap().hash_key(request, source);
    let value = |text: &str| Some(stable_hash(text.bytes()));
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let mut request = get("", "/");
    assert_eq!(key(&request, None), None);
    assert_eq!(
        key(&request, Some(source)),
        Some(stable_hash([10, 0, 0, 1].into_iter()))
    );
    request.query = b"u=%41".to_vec();
    assert_eq!(key(&request, Some(source)), value("A"));
    request.headers.push(("cookie".into(), b"a=b; sid=q".to_vec()));
    assert_eq!(key(&request, Some(source)), value("q"));
    request.headers.push(("x-user".into(), b"ann".to_vec()));
    assert_eq!(key(&request, Some(source)), value("ann"));
}

#[test]
fn many_regular_expressions_are_told_apart() {
    let routes = (0..100)
        .map(|n| on_path(&n.to_string(), PathMatch::Regex(format!("/r{n}/.*|/all"))))
        .collect();
    let index = index(vec![(&["*"], routes)]);
    for n in [0, 3, 31, 32, 63, 99] {
        assert_eq!(found(&index, &get("", &format!("/r{n}/x"))), n.to_string());
    }
    assert_eq!(found(&index, &get("", "/all")), "0");
    assert_eq!(found(&index, &get("", "/r100/x")), "-");
}
