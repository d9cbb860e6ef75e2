use mesh_model::resources::*;
use prost::Message;

use crate::translate::{Refusal, Translate};
use crate::wire;

fn to(cluster: &str) -> wire::RouteAction {
    wire::RouteAction {
        cluster: Some(cluster.into()),
        ..Default::default()
    }
}

fn by_prefix(prefix: &str) -> wire::RouteMatch {
    wire::RouteMatch {
        prefix: Some(prefix.into()),
        ..Default::default()
    }
}

fn table(matches: Vec<wire::RouteMatch>) -> wire::RouteConfiguration {
    let routes = matches.into_iter().map(|matches| wire::Route {
        r#match: Some(matches),
        route: Some(to("a")),
        ..Default::default()
    });
    wire::RouteConfiguration {
        name: "r".into(),
        virtual_hosts: vec![wire::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: routes.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn read(matches: Vec<wire::RouteMatch>) -> Result<Vec<Route>, Refusal> {
    let table = RouteTable::from_message(table(matches))?;
    Ok(table
        .virtual_hosts
        .into_iter()
        .flat_map(|host| host.routes)
        .collect())
}

fn exact(path: &str) -> wire::RouteMatch {
    wire::RouteMatch {
        path: Some(path.into()),
        ..Default::default()
    }
}

#[test]
fn an_order_that_would_mean_something_else_is_refused_by_name() {
    let refusal = read(vec![by_prefix("/a/"), exact("/b"), exact("/a/x")]).unwrap_err();
    assert_eq!(refusal.field, "virtual_hosts[0].routes[0]");
    assert!(
        refusal.reason.contains("routes[2]") && refusal.reason.contains("`/a/x`"),
        "{}",
        refusal.reason
    );
    assert!(read(vec![by_prefix("/"), by_prefix("/a/")]).is_err());
    assert!(read(vec![by_prefix(""), by_prefix("/")]).is_err());
    // No request is taken by both.
    assert_eq!(
        read(vec![by_prefix("/a/"), exact("/b"), by_prefix("/b/c/")])
            .unwrap()
            .len(),
        3
    );
    let mut get = by_prefix("/");
    get.headers = vec![wire::HeaderMatcher {
        name: ":method".into(),
        exact_match: Some("GET".into()),
        ..Default::default()
    }];
    let mut post = exact("/x");
    post.headers = vec![wire::HeaderMatcher {
        exact_match: Some("POST".into()),
        ..get.headers[0].clone()
    }];
    assert!(read(vec![get.clone(), post]).is_ok());
    assert!(read(vec![get, exact("/x")]).is_err());
}

#[test]
fn a_prefix_within_a_segment_keeps_its_meaning() {
    let routes = read(vec![by_prefix("/api.v1"), by_prefix("/api"), by_prefix("/")]).unwrap();
    let paths: Vec<_> = routes
        .into_iter()
        .map(|route| route.matches.path.unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            PathMatch::Regex(r"/api\.v1.*".into()),
            PathMatch::Regex("/api.*".into()),
            PathMatch::Prefix("/".into())
        ]
    );
}

#[test]
fn a_host_of_others_asks_no_other_host() {
    let mut message = table(vec![by_prefix("")]);
    message.virtual_hosts.push(wire::VirtualHost {
        name: "shop".into(),
        domains: vec!["shop.test".into(), "shop.test:80".into()],
        routes: vec![wire::Route {
            r#match: Some(exact("/a")),
            route: Some(to("b")),
            ..Default::default()
        }],
        ..Default::default()
    });
    let table = RouteTable::from_message(message).unwrap();
    let [_, shop] = &table.virtual_hosts[..] else {
        panic!("{table:?}")
    };
    assert_eq!(shop.hosts, [HostPattern::Exact("shop.test".into())]);
    assert!(matches!(&shop.routes[1].action, Action::Respond(respond) if respond.status == 404));
    // Written and read again, nothing is added.
    assert_eq!(RouteTable::from_message(table.to_message().unwrap()), Ok(table));
}

#[test]
fn names_that_fall_back_differently_are_refused() {
    let host = |names: &[&str]| VirtualHost {
        hosts: names.iter().map(|name| name.parse().unwrap()).collect(),
        routes: vec![],
    };
    let table = RouteTable {
        name: "r".into(),
        virtual_hosts: vec![host(&["a.x.test", "b.test"]), host(&["*.x.test"]), host(&["*"])],
    };
    assert_eq!(table.to_message().unwrap_err().field, "virtualHosts[0].hosts");
}

fn refused(change: impl FnOnce(&mut wire::Route)) -> String {
    let mut message = table(vec![by_prefix("/")]);
    change(&mut message.virtual_hosts[0].routes[0]);
    let refusal = RouteTable::from_message(message).unwrap_err();
    let field = refusal.field.strip_prefix("virtual_hosts[0].routes[0].");
    field.expect("the place").to_owned()
}

#[test]
fn what_would_change_who_is_reached_is_refused_by_field() {
    fn action(route: &mut wire::Route) -> &mut wire::RouteAction {
        route.route.as_mut().unwrap()
    }
    fn matches(route: &mut wire::Route) -> &mut wire::RouteMatch {
        route.r#match.as_mut().unwrap()
    }
    assert_eq!(
        refused(|r| r.typed_per_filter_config = vec![vec![]]),
        "typed_per_filter_config"
    );
    assert_eq!(
        refused(|r| action(r).rate_limits = vec![vec![]]),
        "route.rate_limits"
    );
    assert_eq!(refused(|r| action(r).cors = Some(vec![])), "route.cors");
    assert_eq!(refused(|r| action(r).cluster = None), "route.cluster_specifier");
    assert_eq!(
        refused(|r| action(r).prefix_rewrite = "/v2".into()),
        "route.prefix_rewrite",
        "`/v2x` would be sent on for `/x`"
    );
    assert_eq!(
        refused(|r| matches(r).case_sensitive = Some(false)),
        "match.case_sensitive"
    );
    assert_eq!(
        refused(|r| matches(r).runtime_fraction = Some(vec![])),
        "match.runtime_fraction"
    );
    assert_eq!(refused(|r| matches(r).grpc = Some(wire::Empty {})), "match.grpc");
    assert_eq!(refused(|r| matches(r).prefix = None), "match.path_specifier");
    let header = |name: &str| wire::HeaderMatcher {
        name: name.into(),
        exact_match: Some("a".into()),
        ..Default::default()
    };
    assert_eq!(
        refused(|r| matches(r).headers = vec![header(":authority")]),
        "match.headers[0].name"
    );
    assert_eq!(
        refused(|r| matches(r).headers = vec![header(":method"), header(":method")]),
        "match.headers[1]"
    );
    assert_eq!(refused(|r| r.route = None), "action");
    let filled = wire::HeaderValueOption {
        header: Some(wire::HeaderValue {
            key: "x-a".into(),
            value: "%DOWNSTREAM_REMOTE_ADDRESS%".into(),
        }),
        ..Default::default()
    };
    assert_eq!(
        refused(|r| r.request_headers_to_add = vec![filled]),
        "request_headers_to_add[0].header.value"
    );
}

#[test]
fn a_field_that_nobody_knows_is_refused_and_a_harmless_one_is_not() {
    let encode = |action: &[u8]| {
        let bytes = [to("a").encode_to_vec().as_slice(), action].concat();
        let matches = by_prefix("/").encode_to_vec();
        let nested = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
        let route = [nested(0x0a, &matches), nested(0x12, &bytes)].concat();
        let host = [nested(0x12, b"*"), nested(0x1a, &route)].concat();
        RouteTable::from_any(&wire::Any {
            type_url: RouteTable::KIND.type_url().into(),
            value: [nested(0x0a, b"r"), nested(0x12, &host)].concat().into(),
        })
    };
    // `retry_policy` (9), then `cluster_header` (2).
    assert!(encode(&[0x4a, 0x02, 0x0a, 0x00]).is_ok());
    assert_eq!(encode(&[0x12, 0x01, b'h']).unwrap_err().field, "value");
}

#[test]
fn a_condition_turned_round_keeps_its_meaning() {
    let inverted = |missing_is_empty| {
        let mut matches = by_prefix("/");
        matches.headers = vec![wire::HeaderMatcher {
            name: "x-a".into(),
            string_match: Some(wire::StringMatcher {
                exact: Some("1".into()),
                ..Default::default()
            }),
            invert_match: true,
            treat_missing_header_as_empty: missing_is_empty,
            ..Default::default()
        }];
        read(vec![matches]).unwrap().remove(0).matches.headers
    };
    let not_one = ValueMatch {
        name: "x-a".into(),
        value: ValueCondition::Exact("1".into()),
        invert: true,
    };
    let there = ValueMatch {
        name: "x-a".into(),
        value: ValueCondition::Present,
        invert: false,
    };
    assert_eq!(inverted(true), std::slice::from_ref(&not_one));
    assert_eq!(inverted(false), [there, not_one]);
}

#[test]
fn a_deadline_is_the_shorter_of_both() {
    let mut message = table(vec![by_prefix("")]);
    let seconds = |seconds| wire::Duration { seconds, nanos: 0 };
    let action = message.virtual_hosts[0].routes[0].route.as_mut().unwrap();
    action.timeout = Some(seconds(0));
    action.max_stream_duration = Some(wire::MaxStreamDuration {
        max_stream_duration: Some(seconds(3)),
        ..Default::default()
    });
    let table = RouteTable::from_message(message).unwrap();
    assert_eq!(
        table.virtual_hosts[0].routes[0].timeouts.request,
        Some(Duration::from_secs(3))
    );
}
