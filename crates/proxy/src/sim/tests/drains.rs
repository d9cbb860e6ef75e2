//! What a drain cuts at its end, wherever that is: the reason is the drain, not whoever was waited for.

use std::cell::RefCell;
use std::rc::Rc;

use mesh_model::errors::Reason;
use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::http::Head;
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::{Clock, NEVER};

const SERVER: &str = "10.0.1.1:80";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a server does.
#[derive(Clone, Copy)]
enum Deed {
    /// It swallows what begins a connect.
    Swallows,
    /// It takes connections, and says nothing.
    Silent,
}

/// What clients get that say this, one each, when their listener is drained two seconds later, and why they were cut.
/// Nothing has a time of its own but the drain, and what is on by default.
fn cut(listener: &Value, cluster: &Value, deed: Deed, says: &[&'static str]) -> (Vec<String>, Vec<Reason>) {
    let sim = Sim::new(0);
    let mut listener = listener.clone();
    for (name, span) in [("request", "0s"), ("header", "1h"), ("handshake", "1h")] {
        listener["timeouts"][name] = span.into();
    }
    let mut cluster = cluster.clone();
    cluster["timeouts"] = json!({ "connect": "1h" });
    let proxy = Proxy::new(&sim, Weather::CALM, &resources(&listener, &cluster, &[SERVER]));
    match deed {
        Deed::Swallows => proxy.net().delay(SERVER, NEVER),
        Deed::Silent => {
            let clock = sim.clone();
            proxy.net().listen(SERVER, move |stream, _| {
                clock.spawn("server", async move {
                    let _ = Talk::new(stream).take_all().await;
                });
            });
        }
    }
    let came: Rc<RefCell<Vec<String>>> = Rc::default();
    for &said in says {
        let (mut talk, keep) = (Talk::new(proxy.connect()), Rc::clone(&came));
        sim.spawn("client", async move {
            talk.write(said.as_bytes()).await.unwrap();
            let _ = talk.fill().await;
            let answer = match talk.unread.is_empty() {
                true => String::new(),
                false => {
                    let head = Head::parse(&talk.take_until(b"\r\n\r\n").await.unwrap());
                    let why = head.get("proxy-status").unwrap_or_default();
                    let why = why.split('"').nth(1).unwrap_or_default();
                    format!("{} {why}", head.status())
                }
            };
            keep.borrow_mut().push(answer);
        });
    }
    sim.run_until(sim.now() + 2 * SECOND, || false);
    assert!(came.borrow().is_empty());
    proxy.drain(SECOND);
    let all = || came.borrow().len() == says.len() && proxy.open() == 0;
    assert!(sim.run_until(sim.now() + SECOND + MS, all), "{:?}", sim.running());
    let ends = proxy.ends();
    proxy.finish(SECOND);
    (came.take(), ends)
}

#[test]
fn a_request_that_waits_for_a_connection_is_cut_by_the_drain() {
    let cut = |cluster: Value, deed, says: &[&'static str]| cut(&json!({}), &cluster, deed, says);
    let drained = |n| vec!["503 draining".to_owned(); n];
    assert_eq!(cut(json!({}), Deed::Swallows, &[GET]).0, drained(1));
    // The first has the connection, the second waits for it.
    let one = json!({ "limits": { "connections": 1 } });
    assert_eq!(cut(one, Deed::Silent, &[GET, GET]).0, drained(2));
}

#[test]
fn a_tunnel_and_a_stream_that_wait_for_their_server_are_cut_by_the_drain() {
    let proxied = json!({ "forwardProxy": true });
    let connect = &["CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"];
    let (came, _) = cut(&proxied, &json!({}), Deed::Swallows, connect);
    assert_eq!(came, ["503 draining"]);
    let tcp = json!({ "protocol": "tcp", "tcp": [{ "cluster": "site" }] });
    let (came, ends) = cut(&tcp, &json!({}), Deed::Swallows, &["hello"]);
    assert_eq!((came, ends), (vec![String::new()], vec![Reason::Draining]));
}

#[test]
fn who_has_said_half_of_something_is_cut_by_the_drain() {
    let cut = |listener: Value, says| cut(&listener, &json!({}), Deed::Silent, &[says]);
    for protocol in ["auto", "http1"] {
        let listener = json!({ "protocol": protocol });
        let (came, ends) = cut(listener, "GET / HT");
        assert_eq!((&*came[0], &*ends), ("503 draining", &[Reason::Draining][..]));
    }
    let (_, ends) = cut(json!({ "protocol": "auto" }), "PRI * HTTP/2.0\r\n");
    assert_eq!(ends, [Reason::Draining]);
    let header = json!({ "proxyProtocol": true, "trustedNetworks": ["10.0.0.0/8"] });
    let (came, ends) = cut(header, "PROXY TCP4 ");
    assert_eq!((came, ends), (vec![String::new()], vec![Reason::Draining]));
    // The first bytes of a ClientHello, whose server name would lead somewhere.
    let sni = json!([{ "hosts": ["a"], "to": [{ "cluster": "site" }] }]);
    let names = json!({ "protocol": "tlsPassthrough", "sni": sni });
    let (came, ends) = cut(names, "\x16\x03\x01\x02\x00\x01");
    assert_eq!((came, ends), (vec![String::new()], vec![Reason::Draining]));
}
