//! Do two proxies with identities carry what one workload says to another, and nothing else?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod denied;
mod drained;
mod revoked;
mod support;
mod told_apart;

use std::net::SocketAddr;

use mesh_proxy::proxy::{Change, Proxy};
use mesh_proxy::telemetry::{json, prometheus};
use mesh_store::{Batch, Names};
use serde_json::{Value, json};
use support::{
    HALF, Mesh, Open, REST, application, apply, get, greeter, held, id, inbound, outbound, proxy, reported,
    said, wait_for,
};

#[test]
fn a_request_goes_from_workload_to_workload_and_tells_who_calls() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at[0], "basket", 3000));
    let answer = get(
        own[0],
        "/items",
        "x-mesh-peer: spiffe://mesh.test/ns/shop/sa/forged\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let peer = format!("x-mesh-peer: {}\r\n", id("web"));
    assert!(answer.contains(&peer), "{answer}");
    assert_eq!(answer.matches("x-mesh-peer").count(), 1, "{answer}");
    assert_eq!(said(own[1], "hello\n", "\n"), "echo:hello\n");
    let stats = json::render(&basket.report());
    assert_eq!(stats["listeners"][0]["tlsHandshakes"], 2, "{stats}");
}

#[test]
fn somebody_else_at_the_address_is_not_spoken_to() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at[0], "billing", 3000));
    let answer = get(own[0], "/", "");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_name"),
        "{answer}"
    );
    assert_eq!(said(own[1], "hello\n", "\n"), "");
}

#[test]
fn another_mesh_is_not_believed() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let web = proxy(other.workload("web"));
    let own = apply(&web, &outbound(at[0], "basket", 3000));
    let answer = get(own[0], "/", "");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_certificate"),
        "{answer}"
    );
}

#[test]
fn a_port_that_was_not_declared_is_refused() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at[0], "basket", 22));
    let answer = get(own[0], "/", "");
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("port_undeclared"),
        "{answer}"
    );
    assert_eq!(said(own[1], "hello\n", "\n"), "");
}

#[test]
fn plaintext_is_nobody_and_the_default_denies_it() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let answer = get(at[0], "/", "");
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("denied"),
        "{answer}"
    );
    let mut open = inbound(application(), json!([]));
    open["listeners"][0]["defaultPolicy"] = json!("allow");
    let at = apply(&basket, &open);
    let answer = get(at[0], "/", "x-mesh-peer: spiffe://mesh.test/ns/shop/sa/web\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-mesh-peer"),
        "{answer}"
    );
}

#[test]
fn policies_say_who_may_do_what() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let rule = json!({
        "from": [{ "kind": "identity", "value": id("web") }],
        "methods": ["GET"], "paths": [{ "kind": "prefix", "value": "/items" }],
    });
    let readers = json!([{
        "name": "readers", "targets": [{ "kind": "listener", "value": "inbound" }], "action": "allow", "rules": [rule],
    }]);
    let at = apply(&basket, &inbound(application(), readers));
    let answers = |name: &str| {
        let caller = proxy(mesh.workload(name));
        let own = apply(&caller, &outbound(at[0], "basket", 3000));
        let status = |path| {
            get(own[0], path, "")
                .get(9..12)
                .map(str::to_owned)
                .unwrap_or_default()
        };
        (
            status("/items/1"),
            status("/itemsX"),
            said(own[1], "hello\n", "\n"),
        )
    };
    assert_eq!(answers("web"), ("200".into(), "403".into(), String::new()));
    assert_eq!(answers("till"), ("403".into(), "403".into(), String::new()));
}

/// Answers what the proxy asks for: `basket:80` is a workload, nobody else is known.
fn answers(web: &Proxy, basket: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    loop {
        let name = runtime.block_on(web.wanted().next());
        if &*name == "done:80" {
            return;
        }
        if &*name != "basket:80" {
            web.wanted().unknown(&name);
            continue;
        }
        let mut found = outbound(basket, "basket", 3000);
        found["listeners"] = json!([]);
        found["routeTables"][0]["name"] = json!("basket:80");
        found["routeTables"][0]["virtualHosts"][0]["hosts"] = json!(["basket"]);
        let upsert = serde_json::from_value(found).unwrap();
        web.apply(Change::Batch(Batch {
            upsert,
            delete: Names::default(),
        }))
        .unwrap();
        web.wanted().known(&name);
    }
}

#[test]
fn names_are_asked_for_when_they_are_called() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])))[0];
    let web = proxy(mesh.workload("web"));
    let own = apply(
        &web,
        &json!({ "listeners": [{
            "name": "outbound", "address": "127.0.0.1:0", "direction": "outbound", "onDemand": true, "forwardProxy": true,
        }] }),
    )[0];
    std::thread::scope(|scope| {
        scope.spawn(|| answers(&web, at));
        let ask = |target: &str, host: &str| {
            said(
                own,
                &format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
                "\0",
            )
        };
        for _ in 0..2 {
            let answer = ask("http://basket/items", "basket");
            assert!(
                answer.starts_with("HTTP/1.1 200 ") && answer.contains("GET /items "),
                "{answer}"
            );
        }
        assert!(ask("/items", "BASKET:80").starts_with("HTTP/1.1 200 "));
        assert!(ask("http://nobody/", "nobody").starts_with("HTTP/1.1 403 "));
        assert!(ask("/", "nobody").starts_with("HTTP/1.1 404 "));
        let tunnel = said(
            own,
            "CONNECT basket:80 HTTP/1.1\r\nhost: basket:80\r\n\r\nhello\n",
            "echo:hello\n",
        );
        assert!(
            tunnel.starts_with("HTTP/1.1 200 ") && tunnel.ends_with("echo:hello\n"),
            "{tunnel}"
        );
        // Requests in a tunnel are requests: they are routed, and the workload is told who calls.
        let inside = "GET /inside HTTP/1.1\r\nhost: anything\r\n";
        let requests = format!("{inside}\r\n{inside}connection: close\r\n\r\n");
        let connect = format!("CONNECT basket:80 HTTP/1.1\r\nhost: basket:80\r\n\r\n{requests}");
        let answers = said(own, &connect, "\0");
        assert_eq!(answers.matches("GET /inside ").count(), 2, "{answers}");
        assert_eq!(
            answers.matches(&format!("x-mesh-peer: {}", id("web"))).count(),
            2,
            "{answers}"
        );
        let refused = said(
            own,
            "CONNECT nobody:80 HTTP/1.1\r\nhost: nobody:80\r\n\r\n",
            "\r\n\r\n",
        );
        assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
        // Ends the thread that answers, and waits in vain.
        let answer = ask("/", "done");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("name_timeout"),
            "{answer}"
        );
    });
}

#[test]
fn a_listener_that_leads_to_a_name_asks_for_it_when_it_is_called() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])))[0];
    let web = proxy(mesh.workload("web"));
    let plain = |name: &str, leads_to: &str, protocol: &str| {
        json!({
            "name": name, "address": "127.0.0.1:0", "direction": "outbound", "protocol": protocol,
            "onDemand": true, "leadsTo": leads_to,
        })
    };
    // They come in the order of their names.
    let own = apply(
        &web,
        &json!({ "listeners": [
            plain("bytes", "basket:80", "tcp"), plain("never", "done:80", "tcp"),
            plain("nobody", "nobody:80", "auto"), plain("plain", "basket:80", "auto"),
        ] }),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| answers(&web, at));
        assert_eq!(said(own[0], "hello\n", "\n"), "echo:hello\n");
        assert_eq!(said(own[3], "hello\n", "\n"), "echo:hello\n");
        let other = "GET /items HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
        let answer = said(own[3], other, "\0");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains(&format!("x-mesh-peer: {}", id("web"))),
            "{answer}"
        );
        // Who speaks HTTP is told.
        let answer = get(own[2], "/", "");
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.contains("no_route"),
            "{answer}"
        );
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
        assert!(!said(own[2], preface, "\0").is_empty());
        assert_eq!(said(own[2], "hello\n", "\n"), "");
        // Ends the thread that answers, and waits in vain.
        assert_eq!(said(own[1], "hello\n", "\n"), "");
    });
    // The HTTP/1 client asked to close, so its connection ended for the same reason.
    for (listener, reason, count) in [("nobody", "no_route", 2), ("never", "name_timeout", 1)] {
        let series =
            format!("mesh_connections_closed_total{{listener=\"{listener}\",reason=\"{reason}\"}} {count}\n");
        // A client may see its connection's end before it is counted.
        let metrics = || prometheus::render(&web.report(), &prometheus::Options::default());
        wait_for(|| metrics().contains(&series), &true);
    }
}

/// What begins like a request, or ends where one can't, passes as it came, and the server may speak first.
#[test]
fn nobody_looks_at_what_goes_to_an_opaque_port() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let mut resources = inbound(greeter(), json!([]));
    let listener = &mut resources["listeners"][0];
    listener["workload"]["ports"][0]["routes"] = json!(null);
    listener["routes"] = json!(null);
    listener["tcp"] = json!([{ "cluster": "application" }]);
    listener["defaultPolicy"] = json!("allow");
    let at = apply(&basket, &resources)[0];
    let web = proxy(mesh.workload("web"));
    let mut resources = outbound(at, "basket", 3000);
    resources["clusters"][0]["protocol"] = json!("tcp");
    resources["routeTables"][0]["name"] = json!("basket:80");
    resources["listeners"] = json!([{
        "name": "outbound", "address": "127.0.0.1:0", "direction": "outbound", "onDemand": true, "forwardProxy": true,
    }]);
    let own = apply(&web, &resources)[0];
    let connect = "CONNECT basket:80 HTTP/1.1\r\nhost: basket:80\r\n\r\n";
    for bytes in [
        "",
        "G",
        "GET /",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let answer = format!("hello{bytes}");
        let answered = said(own, &format!("{connect}{bytes}"), &answer);
        assert!(answered.ends_with(&answer), "{bytes:?}: {answered}");
        // Without TLS it is waited for what may become TLS.
        if !bytes.starts_with('\u{16}') {
            assert_eq!(said(at, bytes, &answer), answer);
        }
    }
    let stats = json::render(&basket.report());
    assert_eq!(stats["listeners"][0]["tlsHandshakes"], 6, "{stats}");
}

/// Where everybody may call, the application is called for a client that is silent, before its handshake comes.
#[test]
fn a_workload_that_is_late_is_a_workload() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let (application, called) = reported(application());
    let mut resources = inbound(application, json!([]));
    resources["listeners"][0]["defaultPolicy"] = json!("allow");
    resources["listeners"][0]["tcp"] = json!([{ "cluster": "application" }]);
    let at = apply(&basket, &resources)[0];
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(held(at, called), "basket", 3000));
    let answer = get(own[0], "/items", "");
    let peer = format!("x-mesh-peer: {}\r\n", id("web"));
    assert!(answer.contains(&peer), "{answer}");
}

/// An allow policy for some callers.
fn allow(name: &str, callers: &[&str]) -> Value {
    let from: Vec<_> = callers
        .iter()
        .map(|caller| json!({ "kind": "identity", "value": id(caller) }))
        .collect();
    json!({
        "name": name, "targets": [{ "kind": "listener", "value": "inbound" }], "action": "allow",
        "rules": [{ "from": from }],
    })
}

#[test]
fn what_is_open_is_judged_again_when_policies_change() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let application = application();
    let mut resources = inbound(
        application,
        json!([allow("a", &["web"]), allow("b", &["web", "till"])]),
    );
    // It keeps its socket through the changes.
    let at = apply(&basket, &resources)[0];
    let (web, till) = (proxy(mesh.workload("web")), proxy(mesh.workload("till")));
    let of_web = apply(&web, &outbound(at, "basket", 3000));
    let of_till = apply(&till, &outbound(at, "basket", 3000));
    let mut web_http = Open::new(of_web[0], HALF, "half");
    let mut web_tcp = Open::new(of_web[1], "hello\n", "echo:hello\n");
    let mut till_http = Open::new(of_till[0], HALF, "half");
    let mut till_tcp = Open::new(of_till[1], "hello\n", "echo:hello\n");
    // Another rule still lets it in, but not the one that did: its response ends. Streams are judged by who they are.
    resources["policies"] = json!([allow("b", &["web", "till"])]);
    apply(&basket, &resources);
    web_http.ends();
    web_tcp.says("again\n", "echo:again\n");
    till_tcp.says("again\n", "echo:again\n");
    // The rule that let it in takes somebody else as well.
    resources["policies"] = json!([allow("b", &["web", "basket", "till"])]);
    apply(&basket, &resources);
    till_http.says(REST, "half");
    let mut till_http = Open::new(of_till[0], HALF, "half");
    resources["policies"] = json!([allow("b", &["web"])]);
    apply(&basket, &resources);
    till_http.ends();
    till_tcp.ends();
    web_tcp.says("more\n", "echo:more\n");
    let deny = json!({
        "name": "c", "targets": [{ "kind": "listener", "value": "inbound" }], "action": "deny",
        "rules": [{ "from": [{ "kind": "identity", "value": id("web") }] }],
    });
    resources["policies"] = json!([allow("b", &["web"]), deny]);
    apply(&basket, &resources);
    web_tcp.ends();
}

/// What became of it: its head is gone, so what asks for one is taken to match.
#[test]
fn an_upgraded_request_is_judged_by_who_calls_and_by_what_is_new() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let deny = |path: &str, who: &str| {
        json!({
            "name": path, "targets": [{ "kind": "listener", "value": "inbound" }], "action": "deny",
            "rules": [{
                "from": [{ "kind": "identity", "value": id(who) }],
                "paths": [{ "kind": "exact", "value": path }],
            }],
        })
    };
    let upgrade = "GET /upgrade HTTP/1.1\r\nhost: basket\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let old = deny("/old", "web");
    let mut resources = inbound(application(), json!([old]));
    let at = apply(&basket, &resources)[0];
    let (web, till) = (proxy(mesh.workload("web")), proxy(mesh.workload("till")));
    let of_web = apply(&web, &outbound(at, "basket", 3000));
    let of_till = apply(&till, &outbound(at, "basket", 3000));
    let mut of_web = Open::new(of_web[0], upgrade, "101 ");
    let mut of_till = Open::new(of_till[0], upgrade, "101 ");
    // The old rule was judged with its head, and so is what takes less; the new one is not for the other.
    let mut less = old.clone();
    less["rules"][0]["methods"] = json!(["GET"]);
    resources["policies"] = json!([less]);
    apply(&basket, &resources);
    of_web.says("again\n", "echo:again\n");
    resources["policies"] = json!([old, deny("/new", "web")]);
    apply(&basket, &resources);
    of_web.ends();
    of_till.says("again\n", "echo:again\n");
    // It was let in by the default, which says nothing where an allow policy stands.
    resources["policies"] = json!([old, allow("a", &["till"])]);
    apply(&basket, &resources);
    of_till.ends();
}

#[test]
fn a_proxy_without_an_identity_takes_no_workloads() {
    let nobody = mesh_proxy::proxy::Proxy::start(Default::default()).unwrap();
    let resources = serde_json::from_value(inbound(application(), json!([]))).unwrap();
    let refused = nobody.apply(Change::Replace(resources)).unwrap_err().to_string();
    assert!(
        refused.contains("listeners[0].workload: this proxy has no identity"),
        "{refused}"
    );
}

#[test]
fn http2_stays_http2() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([])));
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at[0], "basket", 3000));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(own[0]).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://basket/items").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        let mut body = response.into_body();
        let mut text = String::new();
        while let Some(chunk) = body.data().await {
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        }
        text
    });
    assert!(
        answer.contains(&format!("x-mesh-peer: {}", id("web"))),
        "{answer}"
    );
}
