//! Endpoints that take their time before a connection stands, or for ever.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::network::Weather;
use super::proxy::Proxy;
use crate::clock::{Clock, NEVER, Nanos};

const GOOD: &str = "10.0.1.1:80";
const SLOW: &str = "10.0.1.2:80";
const LATE: &str = "504 mesh; error=http_response_timeout";

/// A proxy before these servers, in turns. Each answers what it is asked.
fn proxy(sim: &Sim, request: &str, cluster: Value, servers: &[&str]) -> Rc<Proxy> {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|address| json!({ "address": address }))
        .collect();
    let mut cluster = cluster;
    cluster["name"] = "site".into();
    cluster["balancer"] = json!({ "kind": "roundRobin" });
    let proxy = Proxy::new(
        sim,
        Weather::CALM,
        &json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "routes": "main",
                "timeouts": { "request": request } }],
            "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
                { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
            "clusters": [cluster],
            "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": endpoints }] }],
        }),
    );
    for address in servers {
        let clock = sim.clone();
        proxy.net().listen(address, move |stream, _| {
            clock.spawn("server", async move {
                let mut talk = Talk::new(stream);
                while talk.head().await.is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if talk.write(answer).await.is_err() {
                        return;
                    }
                }
            });
        });
    }
    proxy
}

/// What came of a request: its status, with the reason where the proxy has one, and how long that took.
fn ask(sim: &Sim, proxy: &Proxy) -> (String, Nanos) {
    let mut talk = Talk::new(proxy.connect());
    let came = Rc::new(RefCell::new(None));
    let (keep, clock) = (Rc::clone(&came), sim.clone());
    sim.spawn("client", async move {
        let start = clock.now();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        talk.write(request).await.unwrap();
        let head = talk.head().await.unwrap();
        let why = head.get("proxy-status").unwrap_or_default();
        let came = format!("{} {why}", head.status());
        *keep.borrow_mut() = Some((came, clock.now() - start));
    });
    assert!(sim.run_until(sim.now() + 100 * SECOND, || came.borrow().is_some()));
    came.take().unwrap()
}

#[test]
fn an_endpoint_that_swallows_connects_is_left_and_costs_nobody_an_answer() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, "1s", json!({}), &[GOOD, SLOW]);
    proxy.net().delay(SLOW, NEVER);
    let end = sim.now() + 100 * SECOND;
    let (mut answers, mut slow) = (0, 0);
    while sim.now() < end {
        let (came, took) = ask(&sim, &proxy);
        assert_eq!(came, "200 ");
        answers += 1;
        slow += u32::from(took > 0);
        sim.run_until(sim.now() + 50 * MS, || false);
    }
    let tries = proxy.net().begun(SLOW);
    assert!(answers > 1_000 && !proxy.endpoint(SLOW).available);
    // Those of the first 2 s, and a probe each time that it was out for as long as was said.
    assert!(
        (4..=12).contains(&tries) && slow as usize == tries,
        "{tries} tries, {slow} slow"
    );
    proxy.finish(SECOND);
}

#[test]
fn an_endpoint_that_swallows_connects_is_out_though_nobody_waits_for_that() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, "1s", json!({}), &[SLOW]);
    proxy.net().delay(SLOW, NEVER);
    for _ in 0..10 {
        let (came, _) = ask(&sim, &proxy);
        assert!(came.starts_with(LATE), "{came}");
    }
    let stats = proxy.endpoint(SLOW);
    assert!(
        stats.connect_failures > 0 && stats.failures_in_a_row > 0,
        "{stats:?}"
    );
    proxy.finish(SECOND);
}

#[test]
fn a_probe_that_nobody_waits_for_is_one_until_it_is_known_how_it_went() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, "100ms", json!({}), &[GOOD, SLOW]);
    proxy.net().delay(SLOW, NEVER);
    while proxy.endpoint(SLOW).failures_in_a_row == 0 {
        ask(&sim, &proxy);
    }
    // Until all that was begun has failed, and it is its turn again.
    sim.run_until(sim.now() + 2 * SECOND, || false);
    while !proxy.endpoint(SLOW).available {
        sim.run_until(sim.now() + 100 * MS, || false);
    }
    let (begun, failures) = (proxy.net().begun(SLOW), proxy.endpoint(SLOW).failures_in_a_row);
    for _ in 0..10 {
        ask(&sim, &proxy);
    }
    let stats = proxy.endpoint(SLOW);
    assert_eq!(
        (proxy.net().begun(SLOW), stats.failures_in_a_row),
        (begun + 1, failures)
    );
    assert!(!stats.available);
    sim.run_until(sim.now() + 2 * SECOND, || false);
    assert_eq!(proxy.endpoint(SLOW).failures_in_a_row, failures + 1);
    proxy.finish(SECOND);
}

#[test]
fn a_connection_that_comes_too_late_is_the_next_ones() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, "1s", json!({}), &[SLOW]);
    proxy.net().delay(SLOW, 1_500 * MS);
    let (came, _) = ask(&sim, &proxy);
    assert!(came.starts_with(LATE), "{came}");
    assert_eq!(proxy.idle("site"), 0);
    sim.run_until(sim.now() + 600 * MS, || false);
    assert_eq!(proxy.idle("site"), 1);
    assert_eq!(ask(&sim, &proxy), ("200 ".into(), 0));
    assert_eq!(proxy.net().begun(SLOW), 1);
    proxy.finish(SECOND);
}

#[test]
fn a_connection_that_came_too_late_and_is_closed_by_then_costs_nobody_an_answer() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, "1s", json!({}), &[SLOW]);
    let clock = sim.clone();
    // It leaves who was silent for a second, just when he speaks.
    proxy.net().listen(SLOW, move |stream, _| {
        let here = clock.clone();
        clock.spawn("server", async move {
            let (mut talk, since) = (Talk::new(stream), here.now());
            while talk.head().await.is_ok() && here.now() - since < SECOND {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                talk.write(answer).await.unwrap();
            }
        });
    });
    proxy.net().delay(SLOW, 1_500 * MS);
    let (came, _) = ask(&sim, &proxy);
    assert!(came.starts_with(LATE), "{came}");
    sim.run_until(sim.now() + 2 * SECOND, || false);
    assert_eq!(proxy.idle("site"), 1);
    proxy.net().delay(SLOW, 0);
    assert_eq!(ask(&sim, &proxy).0, "200 ");
    assert_eq!(proxy.net().begun(SLOW), 2);
    proxy.finish(SECOND);
}

#[test]
fn a_drain_ends_what_nobody_waits_for() {
    let sim = Sim::new(0);
    let cluster = json!({ "timeouts": { "connect": "0s" } });
    let proxy = proxy(&sim, "100ms", cluster, &[SLOW]);
    proxy.net().delay(SLOW, NEVER);
    ask(&sim, &proxy);
    proxy.finish(SECOND);
}
