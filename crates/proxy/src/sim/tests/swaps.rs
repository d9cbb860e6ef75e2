//! Clusters that others take the place of while requests and streams are on their way in: a route that leads to an
//! address has a new cluster whenever that is another one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::{Clock, Nanos};

const SERVERS: [(&str, &str); 2] = [("10.0.1.1:80", "one"), ("10.0.1.2:80", "two")];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// As many as there may be until a client has its answer, and some more.
const STEPS: u64 = 60;

/// What came to a client: all of it, or what was there when its connection broke.
type Came = Rc<RefCell<Option<Vec<u8>>>>;

/// A listener before one of the servers, in a cluster of its own name.
fn before((server, cluster): (&str, &str), listener: &Value) -> Value {
    let all = resources(listener, &json!({}), &[server]).to_string();
    serde_json::from_str(&all.replace("\"site\"", &format!("\"{cluster}\""))).unwrap()
}

/// A proxy before the first server. Both answer as many bytes as `asks` has, however often.
fn proxy(sim: &Sim, listener: &Value, asks: usize) -> Rc<Proxy> {
    let proxy = Proxy::new(sim, Weather::CALM, &before(SERVERS[0], listener));
    for (server, _) in SERVERS {
        let clock = sim.clone();
        proxy.net().listen(server, move |stream, _| {
            clock.spawn("server", async move {
                let mut talk = Talk::new(stream);
                while asks > 0 && talk.take(asks).await.is_ok() || asks == 0 && talk.head().await.is_ok() {
                    if talk.write(OK).await.is_err() {
                        return;
                    }
                }
            });
        });
    }
    proxy
}

/// Sends this in two halves, some time apart, and takes an answer.
fn ask(sim: &Sim, mut talk: Talk, bytes: &[u8], apart: Nanos, keep: impl FnOnce(Talk) + 'static) -> Came {
    let (came, clock, bytes) = (Came::default(), sim.clone(), bytes.to_vec());
    let to = Rc::clone(&came);
    sim.spawn("client", async move {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        clock.sleep(apart).await;
        let _ = talk.write(one).await;
        clock.sleep(apart).await;
        let _ = talk.write(other).await;
        let answer = talk.take_until(b"\r\n\r\n").await;
        *to.borrow_mut() = Some(answer.unwrap_or_default());
        keep(talk);
    });
    came
}

/// Sees that whoever asks is answered, whichever step of its way in the other cluster comes at, and with it other settings
/// of the listener.
fn is_answered_always(old: &Value, new: &Value, asked: &[u8], is_http: bool) {
    for step in 0..STEPS {
        let sim = Sim::new(step);
        let asks = if is_http { 0 } else { asked.len() };
        let proxy = proxy(&sim, old, asks);
        let came = ask(&sim, Talk::new(proxy.connect()), asked, 5 * MS, drop);
        for _ in 0..step {
            sim.step();
        }
        proxy.update(&before(SERVERS[1], new));
        assert!(sim.run_until(sim.now() + 20 * SECOND, || came.borrow().is_some()));
        let came = came.take().unwrap();
        let text = String::from_utf8_lossy(&came);
        assert!(text.starts_with("HTTP/1.1 200 "), "at step {step}: {text}");
        proxy.finish(SECOND);
    }
}

/// Settings with which a listener takes the place of itself without them.
fn other(mut listener: Value) -> Value {
    listener["proxyProtocol"] = true.into();
    listener["trustedNetworks"] = json!(["192.0.2.0/24"]);
    listener
}

#[test]
fn requests_are_served_whenever_their_cluster_is_replaced() {
    is_answered_always(&json!({}), &json!({}), GET, true);
    is_answered_always(&json!({}), &other(json!({})), GET, true);
}

#[test]
fn streams_are_served_whenever_their_cluster_is_replaced() {
    // The listener waits for a first byte before it calls anybody.
    let listener = |cluster: &str| json!({ "protocol": "auto", "tcp": [{ "cluster": cluster }] });
    let (old, new) = (listener("site"), listener("site"));
    is_answered_always(&old, &new, b"\0\x01\x02\x03", false);
    is_answered_always(&old, &other(new), b"\0\x01\x02\x03", false);
}

#[test]
fn streams_by_name_are_served_whenever_their_cluster_is_replaced() {
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "a.test".try_into().unwrap();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    let to = json!([{ "cluster": "site" }]);
    let by_name = json!({ "protocol": "tlsPassthrough", "sni": [{ "hosts": ["*"], "to": to }] });
    is_answered_always(&by_name, &by_name, &hello, false);
    is_answered_always(&by_name, &other(by_name.clone()), &hello, false);
    let others = json!({ "protocol": "auto", "sni": [{ "hosts": ["b.test"], "to": to }], "tcp": to });
    is_answered_always(&others, &others, &hello, false);
}

#[test]
fn who_is_kept_by_a_former_listener_is_served_by_its_clusters() {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, &json!({}), 0);
    let mut talk = Talk::new(proxy.connect());
    for other in [None, Some(other(json!({})))] {
        if let Some(other) = other {
            proxy.update(&before(SERVERS[1], &other));
        }
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        let came = ask(&sim, talk, GET, MS, move |talk| *keep.borrow_mut() = Some(talk));
        assert!(sim.run_until(sim.now() + 20 * SECOND, || kept.borrow().is_some()));
        let came = String::from_utf8(came.take().unwrap()).unwrap();
        assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
        talk = kept.take().unwrap();
    }
    assert_eq!(SERVERS.map(|(server, _)| proxy.net().begun(server)), [2, 0]);
    drop(talk);
    proxy.finish(SECOND);
}
