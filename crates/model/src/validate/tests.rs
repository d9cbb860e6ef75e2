//! One configuration that uses everything, and what each wrong value in it is answered with.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::route::RouteIndex;
use crate::sni::SniIndex;

/// Every resource and every field, none at its default.
pub(crate) fn maximal() -> Value {
    json!({
        "listeners": [
            {
                "name": "web", "address": "127.0.0.1:8080", "direction": "inbound", "protocol": "auto",
                "tls": {
                    "certificates": [{ "certificate": "web.crt", "key": "-----BEGIN PRIVATE KEY-----" }],
                    "clientCertificates": { "roots": "ca.pem", "optional": true },
                    "minimumVersion": "1.3", "alpn": ["h2", "http/1.1"],
                },
                "routes": "main", "tcp": [{ "cluster": "db", "weight": 3 }, { "cluster": "site", "weight": 0 }],
                "sni": [{ "hosts": ["pass.test", "*.pass.test"], "to": [{ "cluster": "db" }] }],
                "limits": {
                    "connections": 10, "headerBytes": 1024, "headerCount": 8, "streams": 1, "requestsPerConnection": 5,
                    "requestBodyBytes": 10, "bufferBytes": 4096,
                },
                "timeouts": {
                    "header": "1s", "handshake": "1s", "request": "1s", "idle": "1s", "streamIdle": "1s", "tcpIdle": "1s",
                    "maxConnectionAge": "24h", "drain": "1ms",
                },
                "trustedNetworks": ["10.0.0.0/8", "fd00::/8"], "via": "edge-1", "forwardProxy": true,
                "escapedSlashes": "keep", "accessLog": { "sample": 0.5, "path": "access.log" },
            },
            { "name": "raw", "address": "[::]:9000", "protocol": "tcp", "tcp": [{ "cluster": "db" }] },
            {
                "name": "pass", "address": "unix:/run/pass.sock", "protocol": "tlsPassthrough",
                "sni": [{ "hosts": ["*"], "to": [{ "cluster": "db" }] }],
            },
        ],
        "routeTables": [{
            "name": "main",
            "virtualHosts": [
                {
                    "hosts": ["shop.test", "*.shop.test", "[::1]"],
                    "routes": [
                        {
                            "name": "api",
                            "match": {
                                "path": { "kind": "prefix", "value": "/api" }, "methods": ["GET", "POST"],
                                "headers": [
                                    { "name": "x-a", "value": { "kind": "present" }, "invert": true },
                                    { "name": "x-b", "value": { "kind": "exact", "value": "1" } },
                                    { "name": "x-c", "value": { "kind": "regex", "value": "a+" } },
                                ],
                                "query": [
                                    { "name": "q", "value": { "kind": "prefix", "value": "1" } },
                                    { "name": "r", "value": { "kind": "suffix", "value": "1" } },
                                ],
                            },
                            "filters": {
                                "requestHeaders": {
                                    "remove": ["x-old"], "set": [{ "name": "x-new", "value": "1" }],
                                    "add": [{ "name": "x-more", "value": "2" }],
                                },
                                "responseHeaders": { "remove": ["server"], "set": [], "add": [] },
                                "rewritePath": { "kind": "prefix", "value": "/v2" },
                                "host": { "kind": "set", "value": "internal.test:81" },
                            },
                            "action": {
                                "kind": "forward",
                                "to": [{ "cluster": "site", "weight": 95 }, { "cluster": "db", "weight": 5 }],
                            },
                            "timeouts": { "request": "5s", "streamIdle": "10s" },
                            "hashKey": [
                                { "kind": "header", "value": "x-user" }, { "kind": "cookie", "value": "sid" },
                                { "kind": "query", "value": "u" }, { "kind": "sourceAddress" },
                            ],
                        },
                        {
                            "name": "old", "match": { "path": { "kind": "template", "value": "/old/{id}/{rest*}" } },
                            "action": {
                                "kind": "redirect", "status": 308, "scheme": "https", "host": "new.test",
                                "path": { "kind": "full", "value": "/new" },
                            },
                        },
                        {
                            "name": "call", "match": { "grpc": { "service": "shop.v1.Basket", "method": "Get" } },
                            "filters": { "host": { "kind": "upstream" } },
                            "action": { "kind": "forward", "to": [{ "cluster": "srv" }] },
                        },
                    ],
                },
                {
                    "hosts": ["*"],
                    "routes": [
                        {
                            "name": "exact", "match": { "path": { "kind": "exact", "value": "/health" } },
                            "action": { "kind": "respond", "status": 200, "body": "ok", "contentType": "text/html" },
                        },
                        {
                            "name": "regex", "match": { "path": { "kind": "regex", "value": "/[0-9]+" } },
                            "action": { "kind": "forward", "to": [{ "cluster": "dns" }] },
                        },
                    ],
                },
            ],
        }],
        "clusters": [
            {
                "name": "site", "discovery": { "kind": "endpoints" }, "protocol": "http2",
                "tls": { "serverName": "10.0.0.1", "roots": "ca.pem", "certificate": "me.crt", "key": "me.key" },
                "balancer": { "kind": "maglev", "tableSize": 65537 }, "slowStart": "30s",
                "limits": {
                    "connections": 1, "pendingRequests": 1, "requests": 1, "idleConnections": 0,
                    "streamsPerConnection": 1,
                },
                "timeouts": { "connect": "1s", "idle": "1s", "maxConnectionAge": "1h" },
            },
            { "name": "dns", "discovery": { "kind": "dns", "host": "site.internal", "port": 443 }, "tls": {} },
            {
                "name": "srv", "discovery": { "kind": "dnsSrv", "name": "_grpc._tcp.site.internal" }, "tls": {},
                "balancer": { "kind": "ringHash", "ringSize": 2048 },
            },
            { "name": "db", "balancer": { "kind": "leastRequest" } },
        ],
        "endpoints": [{
            "cluster": "site",
            "localities": [{
                "zone": "eu-1/a", "priority": 1, "weight": 2,
                "endpoints": [
                    { "address": "10.0.0.1:80", "weight": 10, "health": "draining", "metadata": { "v": "1" } },
                    { "address": "unix:/run/site.sock" },
                ],
            }],
        }],
    })
}

fn read(value: &Value) -> Resources {
    parse(&value.to_string()).unwrap()
}

#[test]
fn a_maximal_configuration_is_right_and_round_trips() {
    let resources = read(&maximal());
    assert_eq!(validate(&resources), []);
    let text = serde_json::to_string(&resources).unwrap();
    assert_eq!(parse(&text).unwrap(), resources);
    assert_eq!(validate_json(&text), "[]");
    assert_eq!(validate(&Resources::default()), []);
    assert_eq!(resources.clusters[2].tls_name(), Some("site.internal"));
}

/// Replaces the value at a pointer, which is made when its parent is there.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = maximal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{parent} is not there"))
    {
        Value::Object(object) => drop(object.insert(key.into(), value)),
        Value::Array(array) if key == "-" => array.push(value),
        Value::Array(array) => array[key.parse::<usize>().unwrap()] = value,
        other => panic!("{parent} is {other}"),
    }
    config
}

const ROUTE: &str = "/routeTables/0/virtualHosts/0/routes/0";

#[test]
fn every_wrong_value_is_found_where_it_stands() {
    use IssueCode::*;
    let cases = [
        // Names and references.
        ("/listeners/0/name", json!(""), "listeners[0].name", BadName),
        ("/listeners/0/name", json!("a b"), "listeners[0].name", BadName),
        ("/listeners/1/name", json!("web"), "listeners[1].name", Duplicate),
        ("/clusters/0/name", json!("db"), "clusters[3].name", Duplicate),
        (
            "/routeTables/-",
            json!({ "name": "main" }),
            "routeTables[1].name",
            Duplicate,
        ),
        (
            "/listeners/0/routes",
            json!("mian"),
            "listeners[0].routes",
            UnknownReference,
        ),
        (
            "/listeners/0/tcp/0/cluster",
            json!("x"),
            "listeners[0].tcp[0].cluster",
            UnknownReference,
        ),
        (
            "/listeners/0/sni/0/to/0/cluster",
            json!("x"),
            "listeners[0].sni[0].to[0].cluster",
            UnknownReference,
        ),
        (
            "/endpoints/0/cluster",
            json!("x"),
            "endpoints[0].cluster",
            UnknownReference,
        ),
        (
            "/endpoints/0/cluster",
            json!("dns"),
            "endpoints[0].cluster",
            Conflict,
        ),
        (
            "/endpoints/-",
            json!({ "cluster": "site" }),
            "endpoints[1].cluster",
            Duplicate,
        ),
        (
            "R/action/to/0/cluster",
            json!("x"),
            "R.action.to[0].cluster",
            UnknownReference,
        ),
        (
            "R/action/to/1/cluster",
            json!("site"),
            "R.action.to[1].cluster",
            Duplicate,
        ),
        (
            "R/name",
            json!("old"),
            "routeTables[0].virtualHosts[0].routes[1].name",
            Duplicate,
        ),
        ("R/name", json!("a\"b"), "R.name", BadName),
        // Weights.
        ("R/action/to", json!([]), "R.action.to", Missing),
        (
            "R/action/to",
            json!([{ "cluster": "db", "weight": 0 }]),
            "R.action.to",
            OutOfRange,
        ),
        (
            "R/action/to/0/weight",
            json!(1_000_001),
            "R.action.to[0].weight",
            OutOfRange,
        ),
        (
            "/listeners/0/tcp/0/weight",
            json!(0),
            "listeners[0].tcp",
            OutOfRange,
        ),
        (
            "/listeners/0/sni/0/to",
            json!([]),
            "listeners[0].sni[0].to",
            Missing,
        ),
        // Listeners.
        ("/listeners/1/tcp", json!([]), "listeners[1]", Missing),
        (
            "/listeners/1/routes",
            json!("main"),
            "listeners[1].routes",
            Conflict,
        ),
        (
            "/listeners/1/forwardProxy",
            json!(true),
            "listeners[1].forwardProxy",
            Missing,
        ),
        (
            "/listeners/1/address",
            json!("0.0.0.0:8080"),
            "listeners[1].address",
            Conflict,
        ),
        (
            "/listeners/1/address",
            json!("[::ffff:127.0.0.1]:8080"),
            "listeners[1].address",
            Conflict,
        ),
        (
            "/listeners/1/address",
            json!(":8080"),
            "listeners[1].address",
            Conflict,
        ),
        (
            "/listeners/1/address",
            json!("unix:/run/pass.sock"),
            "listeners[2].address",
            Conflict,
        ),
        (
            "/listeners/2/tls",
            json!({ "certificates": [{ "certificate": "a", "key": "b" }] }),
            "listeners[2].tls",
            Conflict,
        ),
        (
            "/listeners/2/routes",
            json!("main"),
            "listeners[2].routes",
            Conflict,
        ),
        (
            "/listeners/2/tcp",
            json!([{ "cluster": "db" }]),
            "listeners[2].tcp",
            Conflict,
        ),
        (
            "/listeners/2/sni/0/hosts",
            json!([]),
            "listeners[2].sni[0].hosts",
            Missing,
        ),
        (
            "/listeners/0/sni/0/hosts/1",
            json!("PASS.test"),
            "listeners[0].sni[0].hosts[1]",
            Duplicate,
        ),
        (
            "/listeners/1/sni",
            json!([{ "hosts": ["a"], "to": [{ "cluster": "db" }] }]),
            "listeners[1].sni",
            Conflict,
        ),
        (
            "/listeners/0/tls/certificates",
            json!([]),
            "listeners[0].tls.certificates",
            Missing,
        ),
        (
            "/listeners/0/tls/certificates/0/key",
            json!(" "),
            "listeners[0].tls.certificates[0].key",
            Missing,
        ),
        (
            "/listeners/0/tls/clientCertificates/roots",
            json!(""),
            "listeners[0].tls.clientCertificates.roots",
            Missing,
        ),
        (
            "/listeners/0/tls/alpn/0",
            json!("h 2"),
            "listeners[0].tls.alpn[0]",
            BadValue,
        ),
        (
            "/listeners/0/tls/alpn/1",
            json!("h2"),
            "listeners[0].tls.alpn[1]",
            Duplicate,
        ),
        (
            "/listeners/0/limits/headerBytes",
            json!(1023),
            "listeners[0].limits.headerBytes",
            OutOfRange,
        ),
        (
            "/listeners/0/limits/headerBytes",
            json!(1_048_577),
            "listeners[0].limits.headerBytes",
            OutOfRange,
        ),
        (
            "/listeners/0/limits/connections",
            json!(0),
            "listeners[0].limits.connections",
            OutOfRange,
        ),
        ("/listeners/0/via", json!("a b"), "listeners[0].via", BadValue),
        (
            "/listeners/0/accessLog/sample",
            json!(0),
            "listeners[0].accessLog.sample",
            OutOfRange,
        ),
        (
            "/listeners/0/accessLog/sample",
            json!(1.5),
            "listeners[0].accessLog.sample",
            OutOfRange,
        ),
        (
            "/listeners/0/accessLog/path",
            json!(""),
            "listeners[0].accessLog.path",
            BadValue,
        ),
        // Matches.
        (
            "/routeTables/0/virtualHosts/1/hosts/0",
            json!("SHOP.test"),
            "routeTables[0].virtualHosts[1].hosts[0]",
            Duplicate,
        ),
        (
            "/routeTables/0/virtualHosts/1/hosts/0",
            json!("[0:0::1]"),
            "routeTables[0].virtualHosts[1].hosts[0]",
            Duplicate,
        ),
        (
            "/routeTables/0/virtualHosts/1/hosts",
            json!([]),
            "routeTables[0].virtualHosts[1].hosts",
            Missing,
        ),
        ("R/match/path/value", json!("api"), "R.match.path", BadPath),
        ("R/match/path/value", json!("/a/../b"), "R.match.path", BadPath),
        ("R/match/path/value", json!("/a%2fb"), "R.match.path", BadPath),
        ("R/match/path/value", json!("/a?b=c"), "R.match.path", BadPath),
        (
            "R/match/path",
            json!({ "kind": "regex", "value": "(" }),
            "R.match.path",
            BadRegex,
        ),
        (
            "R/match/path",
            json!({ "kind": "regex", "value": "(((a{99}){99}){99})" }),
            "R.match.path",
            BadRegex,
        ),
        (
            "R/match/path",
            json!({ "kind": "template", "value": "/{a}/{a}" }),
            "R.match.path",
            BadTemplate,
        ),
        (
            "R/match/path",
            json!({ "kind": "template", "value": "/%41/{a}" }),
            "R.match.path",
            BadPath,
        ),
        ("R/match/methods/0", json!("G T"), "R.match.methods[0]", BadMethod),
        ("R/match/methods/0", json!("get"), "R.match.methods[0]", BadMethod),
        ("R/match/methods/1", json!("GET"), "R.match.methods[1]", Duplicate),
        (
            "R/match/headers/0/name",
            json!("a:"),
            "R.match.headers[0]",
            BadHeader,
        ),
        (
            "R/match/headers/2/value/value",
            json!("[z-a]"),
            "R.match.headers[2]",
            BadRegex,
        ),
        (
            "R/match/query/0/value",
            json!({ "kind": "regex", "value": "*" }),
            "R.match.query[0]",
            BadRegex,
        ),
        (
            "R/match/grpc",
            json!({ "service": "a" }),
            "R.match.grpc",
            Conflict,
        ),
        (
            "/routeTables/0/virtualHosts/0/routes/2/match/grpc/service",
            json!("a..b"),
            "G.match.grpc.service",
            BadValue,
        ),
        (
            "/routeTables/0/virtualHosts/0/routes/2/match/grpc/method",
            json!("a/b"),
            "G.match.grpc.method",
            BadValue,
        ),
        // Filters and actions.
        (
            "R/filters/requestHeaders/remove/0",
            json!("Host"),
            "R.filters.requestHeaders.remove[0]",
            ForbiddenHeader,
        ),
        (
            "R/filters/requestHeaders/set/0/name",
            json!("Content-Length"),
            "R.filters.requestHeaders.set[0].name",
            ForbiddenHeader,
        ),
        (
            "R/filters/requestHeaders/add/0/name",
            json!("é"),
            "R.filters.requestHeaders.add[0].name",
            BadHeader,
        ),
        (
            "R/filters/requestHeaders/add/0/value",
            json!("a\r\nb: c"),
            "R.filters.requestHeaders.add[0].value",
            BadHeader,
        ),
        (
            "R/filters/responseHeaders/set",
            json!([{ "name": "a", "value": "1" }, { "name": "A", "value": "2" }]),
            "R.filters.responseHeaders.set[1].name",
            Duplicate,
        ),
        (
            "R/filters/rewritePath/value",
            json!("v2"),
            "R.filters.rewritePath",
            BadPath,
        ),
        ("R/filters/host/value", json!("a/b"), "R.filters.host", BadHost),
        (
            "R/match/path/kind",
            json!("exact"),
            "R.filters.rewritePath",
            Conflict,
        ),
        ("R/hashKey/0/value", json!(""), "R.hashKey[0]", BadHeader),
        ("R/hashKey/1/value", json!("a=b"), "R.hashKey[1]", BadValue),
        (
            "/routeTables/0/virtualHosts/0/routes/1/action/status",
            json!(200),
            "D.action.status",
            BadStatus,
        ),
        (
            "/routeTables/0/virtualHosts/0/routes/1/action/scheme",
            json!("ftp"),
            "D.action.scheme",
            BadValue,
        ),
        (
            "/routeTables/0/virtualHosts/0/routes/1/action/host",
            json!("u@h"),
            "D.action.host",
            BadHost,
        ),
        (
            "/routeTables/0/virtualHosts/0/routes/1/action",
            json!({ "kind": "redirect" }),
            "D.action",
            Missing,
        ),
        (
            "/routeTables/0/virtualHosts/1/routes/0/action/status",
            json!(101),
            "E.action.status",
            BadStatus,
        ),
        (
            "/routeTables/0/virtualHosts/1/routes/0/action/status",
            json!(304),
            "E.action.body",
            Conflict,
        ),
        (
            "/routeTables/0/virtualHosts/1/routes/0/action/body",
            json!("x".repeat(65_537)),
            "E.action.body",
            OutOfRange,
        ),
        (
            "/routeTables/0/virtualHosts/1/routes/0/action/contentType",
            json!("a\n"),
            "E.action.contentType",
            BadHeader,
        ),
        // Clusters and endpoints.
        (
            "/clusters/1/discovery/host",
            json!("a b"),
            "clusters[1].discovery.host",
            BadHost,
        ),
        (
            "/clusters/1/discovery/host",
            json!("10.0.0.1"),
            "clusters[1].discovery.host",
            BadHost,
        ),
        (
            "/clusters/1/discovery/port",
            json!(0),
            "clusters[1].discovery.port",
            OutOfRange,
        ),
        (
            "/clusters/2/discovery/name",
            json!(""),
            "clusters[2].discovery.name",
            BadHost,
        ),
        (
            "/clusters/2/discovery/name",
            json!("_grpc._tcp"),
            "clusters[2].tls.serverName",
            Missing,
        ),
        (
            "/clusters/3/tls",
            json!({}),
            "clusters[3].tls.serverName",
            Missing,
        ),
        (
            "/clusters/0/tls/serverName",
            json!("*.a"),
            "clusters[0].tls.serverName",
            BadHost,
        ),
        ("/clusters/0/tls/key", Value::Null, "clusters[0].tls.key", Missing),
        (
            "/clusters/0/tls/certificate",
            Value::Null,
            "clusters[0].tls.certificate",
            Missing,
        ),
        (
            "/clusters/0/tls/roots",
            json!(""),
            "clusters[0].tls.roots",
            Missing,
        ),
        (
            "/clusters/0/balancer/tableSize",
            json!(65_536),
            "clusters[0].balancer.tableSize",
            OutOfRange,
        ),
        (
            "/clusters/2/balancer/ringSize",
            json!(1),
            "clusters[2].balancer.ringSize",
            OutOfRange,
        ),
        (
            "/clusters/0/limits/pendingRequests",
            json!(0),
            "clusters[0].limits.pendingRequests",
            OutOfRange,
        ),
        (
            "/endpoints/0/localities/0/priority",
            json!(128),
            "endpoints[0].localities[0].priority",
            OutOfRange,
        ),
        (
            "/endpoints/0/localities/0/weight",
            json!(0),
            "endpoints[0].localities[0].weight",
            OutOfRange,
        ),
        (
            "/endpoints/0/localities/0/endpoints/0/weight",
            json!(1001),
            "endpoints[0].localities[0].endpoints[0].weight",
            OutOfRange,
        ),
        (
            "/endpoints/0/localities/0/endpoints/0/address",
            json!("10.0.0.1:0"),
            "endpoints[0].localities[0].endpoints[0].address",
            BadAddress,
        ),
        (
            "/endpoints/0/localities/0/endpoints/0/address",
            json!(":80"),
            "endpoints[0].localities[0].endpoints[0].address",
            BadAddress,
        ),
        (
            "/endpoints/0/localities/0/endpoints/-",
            json!({ "address": "10.0.0.1:80" }),
            "endpoints[0].localities[0].endpoints[2].address",
            Duplicate,
        ),
    ];
    for (pointer, value, path, code) in cases {
        let pointer = pointer.replacen('R', ROUTE, usize::from(pointer.starts_with('R')));
        let short = [
            ("R", "routeTables[0].virtualHosts[0].routes[0]"),
            ("D", "routeTables[0].virtualHosts[0].routes[1]"),
            ("G", "routeTables[0].virtualHosts[0].routes[2]"),
            ("E", "routeTables[0].virtualHosts[1].routes[0]"),
        ];
        let path = match short
            .iter()
            .find(|(name, _)| path.starts_with(&format!("{name}.")))
        {
            Some((name, long)) => path.replacen(name, long, 1),
            None => path.to_owned(),
        };
        let config = with(&pointer, value.clone());
        let issues = validate(&read(&config));
        let seen: Vec<_> = issues
            .iter()
            .map(|issue| (render_path(&issue.path), issue.code))
            .collect();
        assert!(
            seen.contains(&(path.clone(), code)),
            "{pointer} = {value}: {path} {code:?} is not in {seen:?}"
        );
        for issue in &issues {
            assert!(
                issue.message.len() < 400 && !issue.message.contains('\n'),
                "{}",
                issue.message
            );
        }
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let mut config = with("/listeners/0/routes", json!("mian"));
    config["clusters"][3]["tls"] = json!({});
    config["routeTables"][0]["virtualHosts"][0]["routes"][0]["match"]["methods"] = json!(["get", "a b"]);
    let issues = validate(&read(&config));
    let seen: Vec<_> = issues.iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        [
            "listeners[0].routes: there is no route table `mian`; did you mean `main`?",
            "routeTables[0].virtualHosts[0].routes[0].match.methods[0]: `get` would never match: methods are compared with \
             case (expected `GET`)",
            "routeTables[0].virtualHosts[0].routes[0].match.methods[1]: `a b` is not a method (expected a token such as GET)",
            "clusters[3].tls.serverName: nothing says which name the servers must prove (expected the DNS name or IP address \
             in their certificate)",
        ]
    );
}

#[test]
fn the_list_of_problems_is_bounded() {
    let listeners: Vec<_> = (0..5000)
        .map(|n| json!({ "name": "", "address": format!("127.0.0.1:{}", n + 1) }))
        .collect();
    let issues = validate(&read(&json!({ "listeners": listeners })));
    assert_eq!(issues.len(), Issues::MAX + 1);
    assert_eq!(issues.last().unwrap().code, IssueCode::TooMany);
    assert!(issues.last().unwrap().message.starts_with("9000 more"));
}

#[test]
fn what_cannot_be_read_has_a_place() {
    let issue = |text: &str| parse(text).unwrap_err().remove(0);
    let unknown = issue("{\n  \"clusters\": [{ \"name\": \"a\", \"nmae\": 1 }]\n}");
    assert_eq!(render_path(&unknown.path), "clusters[0].nmae");
    assert_eq!(
        (unknown.code, unknown.position),
        (IssueCode::Shape, Some(Position { line: 2, column: 36 }))
    );
    assert_eq!(unknown.message, "unknown field `nmae`");
    assert!(unknown.expected.unwrap().contains("`discovery`"));
    let wrong = issue(r#"{"listeners":[{"name":"a","address":"x"}]}"#);
    assert_eq!(render_path(&wrong.path), "listeners[0].address");
    assert_eq!(
        wrong.expected.unwrap(),
        "IP:PORT, [IPv6]:PORT, localhost:PORT, :PORT or unix:PATH"
    );
    assert_eq!(issue("{").code, IssueCode::Syntax);
    assert_eq!(issue("{} {}").code, IssueCode::Syntax);
    assert_eq!(issue(&"[".repeat(100_000)).code, IssueCode::Shape);
    let deep = format!("{{\"clusters\":{}", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
    let kind = issue(
        r#"{"routeTables":[{"name":"a","virtualHosts":[{"hosts":["*"],"routes":[{"action":{"kind":"x"}}]}]}]}"#,
    );
    assert_eq!(
        render_path(&kind.path),
        "routeTables[0].virtualHosts[0].routes[0].action.kind"
    );
    let text = validate_json("{");
    assert!(
        text.starts_with(r#"[{"path":"","code":"syntax","message":"#),
        "{text}"
    );
}

#[test]
fn names_near_by_are_suggested() {
    let known = || ["api", "site", "site-next"].into_iter();
    assert_eq!(nearest("sit", known()), Some("site"));
    assert_eq!(nearest("site-nxet", known()), Some("site-next"));
    assert_eq!(nearest("database", known()), None);
    assert_eq!(
        (
            distance("kitten", "sitting"),
            distance("", "ab"),
            distance("ab", "")
        ),
        (3, 2, 2)
    );
}

proptest! {
    /// Puts any JSON at any place: reading and checking never panic, and what is accepted compiles.
    #[test]
    fn what_is_accepted_compiles(place in any::<prop::sample::Index>(), text in "[a-z/{}*%.:\\[\\]()0-9-]{0,12}", number in any::<i64>(), kind in 0..4) {
        let mut config = maximal();
        let mut pointers = Vec::new();
        collect(&config, String::new(), &mut pointers);
        let pointer = place.get(&pointers);
        *config.pointer_mut(pointer).unwrap() = match kind {
            0 => json!(number),
            1 => Value::Null,
            2 => json!([text]),
            _ => json!(text),
        };
        if let Ok(resources) = parse(&config.to_string()) && validate(&resources).is_empty() {
            prop_assert_eq!(&parse(&serde_json::to_string(&resources).unwrap()).unwrap(), &resources);
            for table in &resources.route_tables {
                prop_assert!(RouteIndex::compile(table).is_ok());
            }
            for listener in &resources.listeners {
                prop_assert!(SniIndex::compile(&listener.sni).is_ok());
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,64}") {
        let _ = validate_json(&text);
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object
                .iter()
                .for_each(|(key, value)| collect(value, format!("{at}/{key}"), pointers));
        }
        Value::Array(array) => {
            array
                .iter()
                .enumerate()
                .for_each(|(index, value)| collect(value, format!("{at}/{index}"), pointers));
        }
        _ => {}
    }
    pointers.push(at);
}
