//! Requests described, and the way each takes.

use serde_json::{Value, json};

use super::*;

const RESOURCES: &str = r#"{
  "listeners": [
    { "name": "plain", "address": "127.0.0.1:8080", "routes": "main", "forwardProxy": true,
      "timeouts": { "request": "7s" } },
    {
      "name": "secure", "address": "127.0.0.1:8443", "routes": "main",
      "tls": { "certificates": [{ "certificate": "a", "key": "b" }] },
      "sni": [{ "hosts": ["*.pass.test"], "to": [{ "cluster": "db" }] }]
    },
    { "name": "mixed", "address": "127.0.0.1:9000", "routes": "main", "tcp": [{ "cluster": "db" }] },
    { "name": "raw", "address": "127.0.0.1:9001", "protocol": "tcp", "tcp": [{ "cluster": "db" }] },
    {
      "name": "pass", "address": "127.0.0.1:9002", "protocol": "tlsPassthrough",
      "sni": [{ "hosts": ["a.test"], "to": [{ "cluster": "site", "weight": 1 }, { "cluster": "db", "weight": 3 }] }]
    }
  ],
  "routeTables": [{
    "name": "main",
    "virtualHosts": [
      { "hosts": ["other.test"], "routes": [] },
      {
        "hosts": ["shop.test"],
        "routes": [
          { "name": "old", "match": { "path": { "kind": "exact", "value": "/old" } },
            "action": { "kind": "redirect", "path": { "kind": "full", "value": "/new" } } },
          { "name": "api", "match": { "path": { "kind": "prefix", "value": "/api" }, "methods": ["GET", "POST"] },
            "filters": { "rewritePath": { "kind": "prefix", "value": "/v2" }, "host": { "kind": "upstream" } },
            "timeouts": { "request": "2s" },
            "action": { "kind": "forward", "to": [{ "cluster": "site", "weight": 95 }, { "cluster": "db", "weight": 5 }] } },
          { "name": "beta", "match": { "headers": [{ "name": "X-Beta", "value": { "kind": "exact", "value": "1" } }] },
            "action": { "kind": "respond", "status": 418, "body": "no" } },
          { "name": "call", "match": { "grpc": { "service": "s.Basket" } },
            "action": { "kind": "forward", "to": [{ "cluster": "site" }] } },
          { "name": "tunnel", "match": { "methods": ["CONNECT"] },
            "action": { "kind": "forward", "to": [{ "cluster": "db" }] } }
        ]
      }
    ]
  }],
  "clusters": [{ "name": "site" }, { "name": "db" }]
}"#;

/// Stands in for the codec: refuses `%2f` unless told to keep it, and heads that hold a comma anywhere.
struct Stub;

impl Codec for Stub {
    fn check_head(
        &self,
        head: &DescribedHead<'_>,
        limits: &ListenerLimits,
    ) -> Result<(), (Reason, &'static str)> {
        let fields = head
            .fields
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_slice()]);
        let parts = [head.method, head.target]
            .into_iter()
            .chain(head.hosts.iter().map(Vec::as_slice));
        if head.fields.len() > limits.header_count as usize {
            return Err((Reason::TooManyHeaders, "many"));
        }
        match parts.chain(fields).any(|part| part.contains(&b',')) {
            true => Err((Reason::BadRequest, "comma")),
            false => Ok(()),
        }
    }

    fn normal_path(&self, path: &[u8], slashes: EscapedSlashes) -> Result<Vec<u8>, String> {
        if slashes == EscapedSlashes::Reject && path.windows(3).any(|part| part == b"%2f") {
            return Err("the path holds an escaped slash".into());
        }
        Ok(path.to_vec())
    }
}

fn ask(request: Value) -> Value {
    serde_json::from_str(&decide_json(RESOURCES, &request.to_string(), &Stub)).unwrap()
}

#[test]
fn requests_take_their_way() {
    let all_to = |cluster: &str| json!([{ "cluster": cluster, "percent": 100.0 }]);
    let cases = [
        (
            json!({ "listener": "plain", "url": "http://shop.test:8080/api/x?y=1" }),
            json!({
                "listener": "plain",
                "route": {
                    "name": "api", "table": "main", "hosts": ["shop.test"],
                    "path": "routeTables[0].virtualHosts[1].routes[1]",
                },
                "outcome": {
                    "kind": "forward", "path": "/v2/x?y=1", "timeout": "2s",
                    "clusters": [{ "cluster": "site", "percent": 95.0 }, { "cluster": "db", "percent": 5.0 }],
                },
            }),
        ),
        (
            json!({ "url": "https://shop.test:8443/old?a=b" }),
            json!({
                "listener": "secure",
                "route": {
                    "name": "old", "table": "main", "hosts": ["shop.test"],
                    "path": "routeTables[0].virtualHosts[1].routes[0]",
                },
                "outcome": { "kind": "redirect", "status": 302, "location": "https://shop.test:8443/new?a=b" },
            }),
        ),
        (
            json!({ "url": "https://x.pass.test:8443" }),
            json!({ "listener": "secure", "outcome": { "kind": "stream", "clusters": all_to("db") } }),
        ),
        (
            json!({ "listener": "pass", "sni": "a.test", "protocol": "tcp" }),
            json!({
                "listener": "pass",
                "outcome": {
                    "kind": "stream",
                    "clusters": [{ "cluster": "site", "percent": 25.0 }, { "cluster": "db", "percent": 75.0 }],
                },
            }),
        ),
        (
            json!({ "listener": "mixed", "protocol": "tcp" }),
            json!({ "listener": "mixed", "outcome": { "kind": "stream", "clusters": all_to("db") } }),
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(ask(request.clone()), expected, "{request}");
    }
}

#[test]
fn the_route_and_the_refusal_are_named() {
    for (request, found) in [
        (
            json!({ "listener": "plain", "url": "shop.test/x", "headers": { "X-BETA": "1" } }),
            "respond beta",
        ),
        (
            json!({ "listener": "plain", "url": "shop.test/x", "headers": { "x-beta": ["1", "2"] } }),
            "refused no_route",
        ),
        (
            json!({ "listener": "plain", "url": "shop.test/api", "method": "PUT" }),
            "refused no_route",
        ),
        (
            json!({ "listener": "plain", "host": "shop.test", "path": "/s.Basket/Get", "protocol": "grpc" }),
            "forward call",
        ),
        (
            json!({
                "listener": "plain", "url": "shop.test/s.Basket/Get",
                "headers": { "content-type": "Application/gRPC; charset=utf-8" },
            }),
            "forward call",
        ),
        (
            json!({
                "listener": "plain", "url": "shop.test/s.Basket/Get",
                "headers": { "content-type": "application/grpc-web" },
            }),
            "refused no_route",
        ),
        (
            json!({ "listener": "plain", "host": "shop.test:443", "method": "CONNECT" }),
            "forward tunnel",
        ),
        (
            json!({ "listener": "plain", "host": "elsewhere.test:443", "method": "CONNECT" }),
            "refused forward_denied",
        ),
        (
            json!({ "listener": "mixed", "host": "shop.test:443", "method": "CONNECT" }),
            "refused forward_denied",
        ),
        (
            json!({ "listener": "plain", "url": "shop.test/a%2fb" }),
            "refused bad_request",
        ),
        (
            json!({ "listener": "plain", "url": "other.test/" }),
            "refused no_route",
        ),
        (
            json!({ "listener": "plain", "protocol": "tcp" }),
            "refused bad_request",
        ),
        (
            json!({ "url": "http://10.0.0.1:8080/api", "host": "shop.test:9000" }),
            "forward api",
        ),
        (json!({ "url": "tcp://any.test:8080" }), "refused bad_request"),
        (json!({ "url": "tcp://any.test:9000" }), "stream"),
        (json!({ "url": "tls://shop.test:9000" }), "stream"),
        (
            json!({ "listener": "plain", "url": "https://shop.test/" }),
            "refused tls_not_configured",
        ),
        (
            json!({ "listener": "secure", "url": "http://shop.test/" }),
            "refused tls_handshake_failed",
        ),
        (
            json!({ "listener": "pass", "url": "https://b.test/" }),
            "refused sni_unknown",
        ),
        (
            json!({ "listener": "pass", "url": "http://a.test/" }),
            "refused tls_handshake_failed",
        ),
        (
            json!({ "listener": "mixed", "url": "https://shop.test/" }),
            "stream",
        ),
        (
            json!({ "listener": "raw", "url": "http://shop.test/api" }),
            "stream",
        ),
        (json!({ "listener": "nope" }), "unclear"),
        (json!({ "url": "http://shop.test/" }), "unclear"),
        (
            json!({ "listener": "plain", "url": "ftp://shop.test/" }),
            "unclear",
        ),
        (json!({ "listener": "plain", "path": "api" }), "unclear"),
    ] {
        let decision = ask(request.clone());
        let outcome = &decision["outcome"];
        let more = outcome["reason"]
            .as_str()
            .or(decision["route"]["name"].as_str())
            .unwrap_or_default();
        assert_eq!(
            format!("{} {more}", outcome["kind"].as_str().unwrap()).trim(),
            found,
            "{request}: {decision}"
        );
    }
}

#[test]
fn what_would_not_be_read_is_refused_before_it_is_routed() {
    for request in [
        json!({ "url": "http://shop.test,b:8080/api" }),
        json!({ "url": "http://shop.test:8080/api", "host": "shop.test,b" }),
        json!({ "url": "http://shop.test:8080/api", "headers": { "Host": ["shop.test", "b,c"] } }),
        json!({ "url": "http://shop.test:8080/api", "method": "GET," }),
        json!({ "url": "http://shop.test:8080/api,b" }),
        json!({ "url": "http://shop.test:8080/api?a,b" }),
        json!({ "url": "http://shop.test:8080/api", "headers": { "x,y": "1" } }),
        json!({ "url": "http://shop.test:8080/api", "headers": { "x-y": ["1", "2,"] } }),
        json!({ "url": "http://10.0.0.1:8080", "host": "shop.test,b", "method": "CONNECT" }),
    ] {
        let decision = ask(request.clone());
        let outcome =
            json!({ "kind": "refused", "reason": "bad_request", "status": 400, "message": "comma" });
        assert_eq!(
            decision,
            json!({ "listener": "plain", "outcome": outcome }),
            "{request}"
        );
    }
    // What is no HTTP is not read.
    let streamed = ask(json!({ "listener": "raw", "url": "http://a,b/" }));
    assert_eq!(streamed["outcome"]["kind"], "stream");
}

#[test]
fn grpc_callers_are_told_a_grpc_status() {
    let decision = ask(json!({ "listener": "plain", "url": "other.test/s.Basket/Get", "protocol": "grpc" }));
    assert_eq!(decision["outcome"]["grpcStatus"], 12);
    assert_eq!(decision["outcome"]["status"], 404);
}

#[test]
fn wrong_resources_and_requests_give_issues() {
    let issues = |resources: &str, request: &str| -> Value {
        serde_json::from_str(&decide_json(resources, request, &Stub)).unwrap()
    };
    assert_eq!(issues("{", "{}")["issues"][0]["code"], "syntax");
    assert_eq!(
        issues(r#"{"listeners":[{"name":"a","address":":1"}]}"#, "{}")["issues"][0]["code"],
        "missing"
    );
    assert_eq!(
        issues(RESOURCES, r#"{"metod":"GET"}"#)["issues"][0]["code"],
        "shape"
    );
    assert_eq!(issues("{}", "{}")["outcome"]["kind"], "unclear");
}

#[test]
fn what_is_passed_over_says_why() {
    let passed = |request: Value| -> Vec<String> {
        let decision = ask(request);
        let one = |passed: &Value| format!("{}: {}", passed["name"], passed["why"]).replace('"', "");
        decision["passedOver"]
            .as_array()
            .map_or_else(Vec::new, |all| all.iter().map(one).collect())
    };
    assert_eq!(
        passed(
            json!({ "listener": "plain", "url": "shop.test/api/x", "method": "PUT", "headers": { "x-beta": "2" } })
        ),
        [
            "api: the method is not GET or POST",
            "tunnel: the method is not CONNECT",
            "beta: the header `X-Beta` is not `1`",
        ]
    );
    assert_eq!(
        passed(json!({ "listener": "plain", "url": "shop.test/s.Basket/Get", "headers": { "x-beta": "1" } })),
        ["call: it is no gRPC call", "tunnel: the method is not CONNECT"]
    );
    assert_eq!(
        passed(json!({ "listener": "plain", "url": "shop.test/old" })),
        Vec::<String>::new()
    );
    let decision = ask(json!({ "listener": "plain", "url": "shop.test/x" }));
    assert_eq!(
        decision["passedOver"][0]["path"],
        "routeTables[0].virtualHosts[1].routes[4]"
    );
}

#[test]
fn redirects_keep_the_scheme_that_a_trusted_proxy_says() {
    let redirect = |to: Value| json!({ "kind": "redirect", "status": 301, "path": to });
    let listener = |name: &str, trusted: Value| json!({ "name": name, "address": "127.0.0.1:0", "routes": "all", "trustedNetworks": trusted });
    let resources = json!({
        "listeners": [listener("open", json!([])), listener("trusts", json!(["10.0.0.0/8"]))],
        "routeTables": [{ "name": "all", "virtualHosts": [{ "hosts": ["*"], "routes": [
            { "name": "moved", "action": redirect(json!({ "kind": "full", "value": "/new" })) },
        ] }] }],
    });
    for (listener, said, location) in [
        ("open", "https", "http://a.test/new"),
        ("trusts", "https", "https://a.test/new"),
        ("trusts", "http", "http://a.test/new"),
    ] {
        let headers = json!({ "X-Forwarded-Proto": said });
        let request = json!({ "listener": listener, "url": "a.test/old", "headers": headers });
        let decided = decide_json(&resources.to_string(), &request.to_string(), &Stub);
        let decided: Value = serde_json::from_str(&decided).unwrap();
        assert_eq!(decided["outcome"]["location"], location, "{request}: {decided}");
    }
}

#[test]
fn headers_are_those_that_the_proxy_goes_by() {
    let route = |headers: Value| json!({ "match": { "headers": headers }, "action": { "kind": "respond", "status": 200 } });
    let header =
        |name: &str, value: &str| json!({ "name": name, "value": { "kind": "exact", "value": value } });
    let mut routes = vec![
        route(json!([header("host", "Admin.test:81")])),
        route(json!([header("x-mesh-peer", "x")])),
        route(json!([header("x-real-ip", "1.2.3.4")])),
        route(json!([header("x-forwarded-proto", "http")])),
        route(json!([header("x-forwarded-proto", "https")])),
    ];
    for (route, name) in routes.iter_mut().zip(["host", "peer", "ip", "http", "https"]) {
        route["name"] = json!(name);
    }
    let listener = |name: &str, trusted: Value, tls: Value| json!({ "name": name, "address": "127.0.0.1:0", "routes": "all", "trustedNetworks": trusted, "tls": tls });
    let tls = json!({ "certificates": [{ "certificate": "a", "key": "b" }] });
    let mut proxied = listener("proxied", json!(["10.0.0.0/8"]), Value::Null);
    proxied["proxyProtocol"] = json!(true);
    let resources = json!({
        "listeners": [
            listener("open", json!([]), Value::Null),
            listener("tls", json!([]), tls),
            listener("trusts", json!(["10.0.0.0/8"]), Value::Null),
            proxied,
        ],
        "routeTables": [{ "name": "all", "virtualHosts": [{ "hosts": ["*"], "routes": routes }] }],
    });
    for (listener, url, headers, name) in [
        ("open", "ADMIN.test:99/", json!({}), "host"),
        ("open", "/", json!({ "Host": "admin.test." }), "host"),
        ("open", "b.test/", json!({ "x-mesh-peer": "x" }), "http"),
        ("trusts", "b.test/", json!({ "X-Mesh-Peer": "x" }), "http"),
        ("open", "b.test/", json!({ "x-real-ip": "1.2.3.4" }), "http"),
        ("trusts", "b.test/", json!({ "x-real-ip": "1.2.3.4" }), "ip"),
        ("proxied", "b.test/", json!({ "x-real-ip": "1.2.3.4" }), "http"),
        ("open", "b.test/", json!({ "x-forwarded-proto": "https" }), "http"),
        (
            "trusts",
            "b.test/",
            json!({ "x-forwarded-proto": "https" }),
            "https",
        ),
        ("tls", "b.test/", json!({ "x-forwarded-proto": "http" }), "https"),
    ] {
        let request = json!({ "listener": listener, "url": url, "headers": headers });
        let decided = decide_json(&resources.to_string(), &request.to_string(), &Stub);
        let decided: Value = serde_json::from_str(&decided).unwrap();
        assert_eq!(decided["route"]["name"], name, "{request}: {decided}");
    }
}
