//! Is each way in which policy tells callers apart followed on a wire, and again when it changes?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_proxy::proxy::Proxy;
use mesh_proxy::telemetry::json;
use serde_json::{Value, json};

use super::support::{
    HALF, Mesh, Open, REST, application, apply, get, heard, inbound, outbound, proxy, said, seen_at, wait_for,
};

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";

/// Who calls `basket`, and as whom.
struct Caller {
    /// Of a workload, what calls for it.
    _proxy: Option<Proxy>,
    /// Where it makes requests.
    http: SocketAddr,
    /// Where it sends bytes.
    tcp: SocketAddr,
    /// The port that it calls.
    port: String,
    /// What the log says of it.
    is: String,
}

impl Caller {
    /// A workload that calls this port.
    fn workload(mesh: &Mesh, id: &str, basket: SocketAddr, port: u16) -> Self {
        let proxy = proxy(mesh.identity(id));
        let own = apply(&proxy, &outbound(basket, "basket", port));
        Self {
            _proxy: Some(proxy),
            http: own[0],
            tcp: own[1],
            port: port.to_string(),
            is: format!("port={port} caller={id}"),
        }
    }

    /// One without TLS, which means the first port.
    fn plain(address: &str, basket: SocketAddr) -> Self {
        Self {
            _proxy: None,
            http: basket,
            tcp: basket,
            port: "3000".to_owned(),
            is: format!("port=3000 caller={address}"),
        }
    }
}

fn policy(action: &str, rule: &Value) -> Value {
    let target = json!({ "kind": "listener", "value": "inbound" });
    json!({ "name": action, "targets": [target], "action": action, "rules": [rule] })
}

/// How many requests and how many streams were denied, by the ports that they were for.
fn denied(proxy: &Proxy) -> BTreeMap<(String, String), u64> {
    let stats = json::render(&proxy.look());
    let routes = stats["routes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let denied = routes.filter_map(|route| {
        let count = route["reasons"]["denied"].as_u64()?;
        Some(((text(&route["protocol"]), text(&route["port"])), count))
    });
    denied.collect()
}

/// Follows two callers through rules that take both of them, and the first one alone.
fn is_followed(both: &Value, first: &Value, callers: impl Fn(&Mesh, SocketAddr) -> [Caller; 2]) {
    let mesh = Mesh::new();
    let (basket, lines) = heard(mesh.workload("basket"));
    let mut resources = inbound(application(), json!([policy("allow", first)]));
    let ports = resources["listeners"][0]["workload"]["ports"]
        .as_array_mut()
        .unwrap();
    let mut second = ports[0].clone();
    second["port"] = json!(3001);
    ports.push(second);
    resources["listeners"][0]["tcp"] = json!([{ "cluster": "application" }]);
    let at = apply(&basket, &resources)[0];
    let mut protect = |policies: &[Value]| {
        resources["policies"] = json!(policies);
        apply(&basket, &resources);
    };
    let [one, other] = callers(&mesh, at);

    let is_let_in = |caller: &Caller| {
        let answer = get(caller.http, "/items", "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{}: {answer}", caller.is);
        assert_eq!(said(caller.tcp, "hello\n", "\n"), "echo:hello\n", "{}", caller.is);
    };
    let is_kept_out = |caller: &Caller| {
        let answer = get(caller.http, "/items", "");
        let told = answer.starts_with("HTTP/1.1 403 ") && answer.contains("denied");
        assert!(told, "{}: {answer}", caller.is);
        assert_eq!(said(caller.tcp, "hello\n", "\n"), "", "{}", caller.is);
    };
    is_let_in(&one);
    is_kept_out(&other);
    let of = |protocol: &str| ((protocol.to_owned(), other.port.to_owned()), 1);
    wait_for(|| denied(&basket), &["http1", "tcp"].map(of).into());
    let line = format!(
        "warning: a caller was denied policy=allow why=no_rule listener=inbound {} method=GET path=/items",
        other.is
    );
    assert_eq!(lines()[0], line);

    // The rule that let both in takes less: requests end with it, streams are judged by who they are.
    protect(&[policy("allow", both)]);
    is_let_in(&other);
    let open = |caller: &Caller| {
        (
            Open::new(caller.http, HALF, "half"),
            Open::new(caller.tcp, "hello\n", "echo:hello\n"),
        )
    };
    let (mut one_http, mut one_tcp) = open(&one);
    let (mut other_http, mut other_tcp) = open(&other);
    protect(&[policy("allow", first)]);
    other_http.ends();
    other_tcp.ends();
    one_http.ends();
    one_tcp.says("again\n", "echo:again\n");
    is_kept_out(&other);

    // Whoever is denied is so whatever else lets it in, and nobody else is.
    protect(&[policy("allow", both)]);
    let (mut one_http, _) = open(&one);
    let (mut other_http, mut other_tcp) = open(&other);
    protect(&[policy("allow", both), policy("deny", first)]);
    one_http.ends();
    one_tcp.ends();
    is_kept_out(&one);
    other_http.says(REST, "half");
    other_tcp.says("again\n", "echo:again\n");
    is_let_in(&other);
}

#[test]
fn by_namespace() {
    let of = |names: &[&str]| {
        let from = names.iter().map(
            |name| json!({ "kind": "namespace", "value": { "trustDomain": "mesh.test", "name": name } }),
        );
        json!({ "from": from.collect::<Vec<_>>() })
    };
    is_followed(&of(&["shop", "office"]), &of(&["shop"]), |mesh, at| {
        let office = "spiffe://mesh.test/ns/office/sa/web";
        [WEB, office].map(|id| Caller::workload(mesh, id, at, 3000))
    });
}

#[test]
fn by_prefix_of_an_identity() {
    let of = |prefixes: &[&str]| {
        let from = prefixes
            .iter()
            .map(|prefix| json!({ "kind": "identityPrefix", "value": prefix }));
        json!({ "from": from.collect::<Vec<_>>() })
    };
    let (shop, shops) = ("spiffe://mesh.test/ns/shop", "spiffe://mesh.test/ns/shops");
    is_followed(&of(&[shop, shops]), &of(&[shop]), |mesh, at| {
        let of_shops = "spiffe://mesh.test/ns/shops/sa/web";
        [WEB, of_shops].map(|id| Caller::workload(mesh, id, at, 3000))
    });
}

#[test]
fn by_network() {
    let (both, first) = networks();
    is_followed(&both, &first, |mesh, at| {
        let from_elsewhere = seen_at([127, 0, 0, 2].into(), at);
        [at, from_elsewhere].map(|at| Caller::workload(mesh, WEB, at, 3000))
    });
}

#[test]
fn by_network_without_tls() {
    let (both, first) = networks();
    is_followed(&both, &first, |_, at| {
        let from_elsewhere = seen_at([127, 0, 0, 2].into(), at);
        [
            Caller::plain("127.0.0.1", at),
            Caller::plain("127.0.0.2", from_elsewhere),
        ]
    });
}

/// Rules for two networks, and for the first of them.
fn networks() -> (Value, Value) {
    let of = |networks: &[&str]| json!({ "networks": networks });
    (of(&["127.0.0.1/32", "127.0.0.2/32"]), of(&["127.0.0.1/32"]))
}

#[test]
fn by_port() {
    let of = |ports: &[u16]| json!({ "ports": ports });
    is_followed(&of(&[3000, 3001]), &of(&[3000]), |mesh, at| {
        [3000, 3001].map(|port| Caller::workload(mesh, WEB, at, port))
    });
}

/// Whoever comes without TLS means the first port.
#[test]
fn by_port_without_tls() {
    let of = |ports: &[u16]| json!({ "ports": ports });
    is_followed(&of(&[3000, 3001]), &of(&[3000]), |mesh, at| {
        [
            Caller::plain("127.0.0.1", at),
            Caller::workload(mesh, WEB, at, 3001),
        ]
    });
}
