//! Is it told who was denied by which policy, and who would be?

use std::time::Instant;

use mesh_proxy::proxy::Proxy;
use mesh_proxy::telemetry::json;
use serde_json::{Value, json};

use super::support::{Mesh, application, apply, get, heard, id, inbound, outbound, proxy, said};

/// An allow policy for requests of `till`.
fn readers(mode: &str) -> Value {
    json!({
        "name": "readers", "targets": [{ "kind": "listener", "value": "inbound" }], "action": "allow", "mode": mode,
        "rules": [{ "from": [{ "kind": "identity", "value": id("till") }], "methods": ["GET"] }],
    })
}

#[test]
fn what_would_be_denied_passes_and_is_told() {
    let mesh = Mesh::new();
    let (basket, lines) = heard(mesh.workload("basket"));
    let never = json!({
        "name": "never", "targets": [{ "kind": "listener", "value": "inbound" }], "action": "deny",
        "rules": [{ "paths": [{ "kind": "prefix", "value": "/admin" }] }],
    });
    let at = apply(&basket, &inbound(application(), json!([readers("audit"), never])))[0];
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at, "basket", 3000));
    let answer = get(own[0], "/items%0a?secret=1", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = get(own[0], "/admin", "");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let of_web = format!("listener=inbound port=3000 caller={} method=GET", id("web"));
    // The path in its normal form, as policy sees it.
    assert_eq!(
        lines(),
        [
            format!("warning: a caller would be denied policy=readers why=no_rule {of_web} path=/items%0A"),
            format!("warning: a caller was denied policy=never why=rule {of_web} path=/admin"),
        ]
    );
    assert_eq!(audited(&basket), [(id("web"), "http1".into(), 1)]);
    // Whom the policy lets in is no news.
    let till = proxy(mesh.workload("till"));
    let own = apply(&till, &outbound(at, "basket", 3000));
    let answer = get(own[0], "/items", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(lines().len(), 2, "{:?}", lines());
    assert_eq!(audited(&basket), [(id("web"), "http1".into(), 1)]);
}

/// What would be denied: by whom it was, what was spoken, and how often.
fn audited(proxy: &Proxy) -> Vec<(String, String, u64)> {
    let stats = json::render(&proxy.look());
    let routes = stats["routes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = routes.map(|route| {
        (
            text(&route["peer"]),
            text(&route["protocol"]),
            route["audited"].as_u64().unwrap(),
        )
    });
    all.filter(|(.., count)| *count > 0).collect()
}

#[test]
fn a_stream_and_a_stranger_are_told_too() {
    let mesh = Mesh::new();
    let (basket, lines) = heard(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([readers("audit")])))[0];
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at, "basket", 3000));
    assert_eq!(said(own[1], "hello\n", "\n"), "echo:hello\n");
    assert_eq!(audited(&basket), [(id("web"), "tcp".into(), 1)]);
    let answer = get(at, "/items", "");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(
        lines(),
        [
            format!(
                "warning: a caller would be denied policy=readers why=no_rule listener=inbound port=3000 caller={}",
                id("web")
            ),
            // Without TLS the first port is meant.
            "warning: a caller was denied why=default listener=inbound port=3000 caller=127.0.0.1 method=GET path=/items"
                .to_owned(),
        ]
    );
}

#[test]
fn who_is_denied_often_is_told_seldom() {
    const TIMES: u64 = 1000;
    let mesh = Mesh::new();
    let (basket, lines) = heard(mesh.workload("basket"));
    let at = apply(&basket, &inbound(application(), json!([readers("enforce")])))[0];
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(at, "basket", 3000));
    let began = Instant::now();
    for _ in 0..TIMES {
        let answer = get(own[0], "/", "");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let most = began.elapsed().as_secs() + 1;
    let lines = lines();
    let told = u64::try_from(lines.len()).unwrap();
    assert!((1..=most).contains(&told), "{told} lines of {most}");
    let unsaid = lines.iter().filter_map(|line| line.split_once(" unsaid="));
    let unsaid: u64 = unsaid.map(|(_, unsaid)| unsaid.parse::<u64>().unwrap()).sum();
    assert!(told + unsaid <= TIMES, "{lines:?}");
}
