//! Configurations that change while clients are connected.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::{Clock, Nanos};

const SERVER: &str = "10.0.1.1:80";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What came of a request: the status, or nothing where the connection had ended.
type Came = Rc<RefCell<Option<Option<u16>>>>;

/// What came of a request, and the connection.
fn ask(sim: &Sim, mut talk: Talk) -> (Option<u16>, Talk) {
    let came = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&came);
    sim.spawn("client", async move {
        let status = match talk.write(GET).await {
            Ok(()) => talk.head().await.ok().map(|head| head.status()),
            Err(_) => None,
        };
        *keep.borrow_mut() = Some((status, talk));
    });
    assert!(sim.run_until(sim.now() + 100 * SECOND, || came.borrow().is_some()));
    came.take().unwrap()
}

/// What a client of another machine gets on the connection that it had, and on a new one, when a listener with these
/// settings is given those.
fn kept_and_new(before: &Value, after: &Value) -> (Option<u16>, Option<u16>) {
    let sim = Sim::new(0);
    let proxy = Proxy::new(&sim, Weather::CALM, &resources(before, &json!({}), &[SERVER]));
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            while talk.head().await.is_ok() && talk.write(OK).await.is_ok() {}
        });
    });
    let (first, kept) = ask(&sim, Talk::new(proxy.connect()));
    assert_eq!(first, Some(200));
    sim.run_until(sim.now() + 2 * SECOND, || false);
    proxy.update(&resources(after, &json!({}), &[SERVER]));
    let (kept, _) = ask(&sim, kept);
    let (new, _) = ask(&sim, Talk::new(proxy.connect()));
    proxy.finish(SECOND);
    (kept, new)
}

#[test]
fn who_would_not_be_let_in_any_more_goes() {
    let local = json!({ "localOnly": true });
    assert_eq!(kept_and_new(&json!({}), &local), (None, None));
    // Who was let in where only programs of this machine are could be let in where all are.
    let same = json!({ "localOnly": false, "via": "mesh" });
    assert_eq!(kept_and_new(&json!({}), &same), (Some(200), Some(200)));
}

#[test]
fn whom_nobody_asked_for_whom_it_speaks_goes_when_that_is_asked() {
    let proxied = |trusted: &str| json!({ "proxyProtocol": true, "trustedNetworks": [trusted] });
    let (near, far) = (proxied("10.0.0.0/8"), proxied("192.0.2.0/24"));
    let plain = json!({ "trustedNetworks": ["10.0.0.0/8"] });
    assert_eq!(kept_and_new(&plain, &near).0, None);
    assert_eq!(kept_and_new(&far, &near).0, None);
    // Without the header nothing was said that would now not be believed.
    let trusts_less = json!({ "trustedNetworks": [] });
    assert_eq!(kept_and_new(&plain, &trusts_less), (Some(200), Some(200)));
}

/// A proxy whose servers answer each request after so long, and clients that have sent one each.
fn asked(sim: &Sim, cluster: &Value, clients: usize, after: Nanos) -> (Rc<Proxy>, Vec<Came>) {
    let proxy = Proxy::new(sim, Weather::CALM, &resources(&json!({}), cluster, &[SERVER]));
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        let sim = clock.clone();
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            while talk.head().await.is_ok() {
                sim.sleep(after).await;
                if talk.write(OK).await.is_err() {
                    return;
                }
            }
        });
    });
    let came = ask_all(sim, &proxy, clients);
    (proxy, came)
}

fn ask_all(sim: &Sim, proxy: &Proxy, clients: usize) -> Vec<Came> {
    let ask = |_| {
        let (came, mut talk) = (Came::default(), Talk::new(proxy.connect()));
        let keep = Rc::clone(&came);
        sim.spawn("client", async move {
            talk.write(GET).await.unwrap();
            let head = talk.head().await;
            *keep.borrow_mut() = Some(head.ok().map(|head| head.status()));
        });
        came
    };
    (0..clients).map(ask).collect()
}

fn is_answered(came: &[Came]) -> bool {
    came.iter().all(|came| *came.borrow() == Some(Some(200)))
}

#[test]
fn who_waits_for_room_has_it_when_the_limit_is_raised() {
    let sim = Sim::new(0);
    let limited = |most: u32| json!({ "limits": { "connections": most } });
    let (proxy, came) = asked(&sim, &limited(1), 5, 3 * SECOND);
    sim.run_until(sim.now() + SECOND, || false);
    assert_eq!(proxy.net().begun(SERVER), 1);
    proxy.update(&resources(&json!({}), &limited(10), &[SERVER]));
    sim.run_until(sim.now() + MS, || false);
    assert_eq!(proxy.net().begun(SERVER), 5);
    assert!(sim.run_until(sim.now() + 3 * SECOND, || is_answered(&came)));
    proxy.finish(SECOND);
}

#[test]
fn idle_connections_above_a_lowered_limit_close() {
    let sim = Sim::new(0);
    let limited = |limits: Value| resources(&json!({}), &json!({ "limits": limits }), &[SERVER]);
    let (proxy, came) = asked(&sim, &json!({}), 8, SECOND);
    assert!(sim.run_until(sim.now() + 2 * SECOND, || is_answered(&came)));
    assert_eq!(proxy.idle("site"), 8);
    proxy.update(&limited(json!({ "idleConnections": 5 })));
    assert_eq!(proxy.idle("site"), 5);
    proxy.update(&limited(json!({ "connections": 2 })));
    assert_eq!(proxy.idle("site"), 2);
    proxy.update(&limited(json!({ "idleConnections": 0 })));
    assert_eq!(proxy.idle("site"), 0);
    proxy.finish(SECOND);
}

#[test]
fn connections_in_use_above_a_lowered_limit_are_not_kept() {
    let sim = Sim::new(0);
    let (proxy, came) = asked(&sim, &json!({}), 8, SECOND);
    sim.run_until(sim.now() + MS, || false);
    let two = json!({ "limits": { "connections": 2 } });
    proxy.update(&resources(&json!({}), &two, &[SERVER]));
    assert!(sim.run_until(sim.now() + 2 * SECOND, || is_answered(&came)));
    assert_eq!(proxy.idle("site"), 2);
    proxy.finish(SECOND);
}

#[test]
fn connections_to_a_server_that_was_taken_out_are_nobody_elses() {
    let sim = Sim::new(0);
    let with = |servers: &[&str]| resources(&json!({}), &json!({}), servers);
    let proxy = Proxy::new(&sim, Weather::CALM, &with(&[SERVER, "10.0.1.2:80"]));
    let cluster = proxy.cluster("site");
    let before = cluster.plan();
    let is_shared = || {
        let members = before.picker.endpoints().iter();
        members
            .map(|member| cluster.http2_of(&before, &member.endpoint).is(&cluster.http2))
            .collect::<Vec<_>>()
    };
    assert_eq!(is_shared(), [true, true]);
    proxy.update(&with(&[SERVER]));
    let mut shared = is_shared();
    shared.sort_unstable();
    assert_eq!(shared, [false, true]);
    proxy.finish(SECOND);
}

/// Addresses of so many servers.
fn servers(many: u32) -> Vec<String> {
    (0..many)
        .map(|n| format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255))
        .collect()
}

#[test]
fn a_limit_that_is_lowered_has_each_endpoint_looked_at_once() {
    const ENDPOINTS: u32 = 5_000;
    let sim = Sim::new(0);
    let servers = servers(ENDPOINTS);
    let servers: Vec<_> = servers.iter().map(String::as_str).collect();
    let limited = |most: u32| {
        resources(
            &json!({}),
            &json!({ "limits": { "connections": most } }),
            &servers,
        )
    };
    let proxy = Proxy::new(&sim, Weather::CALM, &limited(2 * ENDPOINTS));
    let cluster = proxy.cluster("site");
    for member in cluster.plan().picker.endpoints() {
        for _ in 0..2 {
            cluster.put(&member.endpoint, proxy.pooled("site"));
        }
    }
    assert_eq!(proxy.idle("site"), 2 * servers.len());
    proxy.update(&limited(10));
    assert_eq!(proxy.idle("site"), 10);
    assert!(cluster.looks.get() <= servers.len(), "{}", cluster.looks.get());
    // Nor is what was closed looked at again by those who want one more.
    while cluster.make_room(1) {}
    assert_eq!(proxy.idle("site"), 0);
    assert!(
        cluster.looks.get() <= servers.len() + 10,
        "{}",
        cluster.looks.get()
    );
    proxy.finish(SECOND);
}

#[test]
fn an_update_looks_at_each_connection_and_not_at_all_endpoints_for_each() {
    const ENDPOINTS: u32 = 50_000;
    let sim = Sim::new(0);
    let servers = servers(ENDPOINTS);
    let with = |servers: &[String]| {
        let servers: Vec<_> = servers.iter().map(String::as_str).collect();
        let cluster = json!({ "limits": { "connections": ENDPOINTS } });
        resources(&json!({}), &cluster, &servers)
    };
    let proxy = Proxy::new(&sim, Weather::CALM, &with(&servers));
    let cluster = proxy.cluster("site");
    for member in cluster.plan().picker.endpoints() {
        cluster.put(&member.endpoint, proxy.pooled("site"));
    }
    assert_eq!(proxy.idle("site"), servers.len());
    proxy.update(&with(&servers[1..]));
    assert_eq!(proxy.idle("site"), servers.len() - 1);
    // A thousand million looks take seconds, fifty thousand some milliseconds.
    let update = || {
        let begin = Instant::now();
        cluster.update(cluster.plan());
        begin.elapsed()
    };
    let fastest = (0..3).map(|_| update()).min().unwrap();
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    assert_eq!(proxy.idle("site"), servers.len() - 1);
    proxy.finish(SECOND);
}
