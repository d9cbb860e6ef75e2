//! Requests that are on their way in while what is let in changes.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::http::Head;
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::Clock;

const SERVER: &str = "10.0.1.1:80";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What came of a request: the status, or nothing where the connection had ended.
type Came = Rc<RefCell<Option<Option<u16>>>>;
/// The heads that a server has seen.
type Seen = Rc<RefCell<Vec<Head>>>;

/// The same, where nobody may do anything.
fn denying(mut resources: Value) -> Value {
    resources["policies"] = json!([{
        "name": "nobody",
        "targets": [{ "kind": "listener", "value": "web" }],
        "action": "allow",
        "rules": [],
    }]);
    resources
}

/// A proxy before a server that answers each request after a second.
fn proxy(sim: &Sim, resources: &Value) -> (Rc<Proxy>, Seen) {
    let proxy = Proxy::new(sim, Weather::CALM, resources);
    let (clock, seen) = (sim.clone(), Seen::default());
    let keep = Rc::clone(&seen);
    proxy.net().listen(SERVER, move |stream, _| {
        let (sim, seen) = (clock.clone(), Rc::clone(&keep));
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            while let Ok(head) = talk.head().await {
                seen.borrow_mut().push(head);
                sim.sleep(SECOND).await;
                if talk.write(OK).await.is_err() {
                    return;
                }
            }
        });
    });
    (proxy, seen)
}

/// A client that sends a head in these pieces, half a second apart.
fn ask(sim: &Sim, proxy: &Proxy, pieces: &[&'static str]) -> Came {
    let (came, mut talk) = (Came::default(), Talk::new(proxy.connect()));
    let (keep, pieces, clock) = (Rc::clone(&came), pieces.to_vec(), sim.clone());
    sim.spawn("client", async move {
        for piece in pieces {
            talk.write(piece.as_bytes()).await.unwrap();
            clock.sleep(SECOND / 2).await;
        }
        let head = talk.head().await;
        *keep.borrow_mut() = Some(head.ok().map(|head| head.status()));
    });
    came
}

/// What comes of a head whose second half is sent after a change, and what its server sees of it.
fn held(before: &Value, after: &Value, pieces: &[&'static str]) -> (Option<u16>, Vec<Head>) {
    let sim = Sim::new(0);
    let (proxy, seen) = proxy(&sim, before);
    let came = ask(&sim, &proxy, pieces);
    sim.run_until(sim.now() + 100 * MS, || false);
    proxy.update(after);
    assert!(sim.run_until(sim.now() + 10 * SECOND, || came.borrow().is_some()));
    sim.run_until(sim.now() + SECOND, || false);
    proxy.finish(SECOND);
    (came.take().unwrap(), seen.take())
}

#[test]
fn a_head_that_was_held_back_is_judged_by_the_policies_in_force() {
    let open = || resources(&json!({}), &json!({}), &[SERVER]);
    let halves = ["GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"];
    let (status, seen) = held(&open(), &open(), &halves);
    assert_eq!((status, seen.len()), (Some(200), 1));
    let (status, seen) = held(&open(), &denying(open()), &halves);
    assert_eq!((status, seen.len()), (Some(403), 0));
    // What policy let in before it is not denied any more.
    let (status, seen) = held(&denying(open()), &open(), &halves);
    assert_eq!((status, seen.len()), (Some(200), 1));
}

#[test]
fn a_former_listener_neither_sends_nor_answers_what_its_successor_denies() {
    let with = |listener: &Value| {
        let mut all = resources(listener, &json!({}), &[SERVER]);
        let here = json!({ "match": { "path": { "kind": "exact", "value": "/here" } },
            "action": { "kind": "respond", "status": 200 } });
        let routes = &mut all["routeTables"][0]["virtualHosts"][0]["routes"];
        routes.as_array_mut().unwrap().insert(0, here);
        all
    };
    let (open, other) = (
        with(&json!({})),
        with(&json!({ "proxyProtocol": true, "trustedNetworks": ["192.0.2.0/24"] })),
    );
    for head in ["GET /here HTTP/1.1\r\n", "GET / HTTP/1.1\r\n"] {
        let pieces = [head, "Host: a\r\n\r\n"];
        assert_eq!(held(&open, &other, &pieces).0, Some(200), "{head}");
        let (status, seen) = held(&open, &denying(other.clone()), &pieces);
        assert_eq!((status, seen.len()), (Some(403), 0), "{head}");
    }
}

#[test]
fn a_head_that_was_held_back_says_nothing_more_than_is_believed() {
    let trusting = |networks: Value| {
        let listener = json!({ "trustedNetworks": networks });
        resources(&listener, &json!({}), &[SERVER])
    };
    let (all, none) = (trusting(json!(["10.0.0.0/8"])), trusting(json!([])));
    let pieces = [
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n",
        "\r\n",
    ];
    let said = |after: &Value| {
        let (status, seen) = held(&all, after, &pieces);
        assert_eq!(status, Some(200));
        let fields = seen[0].fields.iter();
        let said = fields.filter(|(name, _)| name == "x-forwarded-for");
        said.map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(said(&all), "192.0.2.7, 10.0.0.1");
    assert_eq!(said(&none), "10.0.0.1");
}

#[test]
fn what_waits_for_a_connection_is_judged_before_it_is_sent() {
    let sim = Sim::new(0);
    let open = || resources(&json!({}), &json!({ "limits": { "connections": 1 } }), &[SERVER]);
    let (proxy, seen) = proxy(&sim, &open());
    let whole = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n"];
    let came = [ask(&sim, &proxy, &whole), ask(&sim, &proxy, &whole)];
    sim.run_until(sim.now() + 100 * MS, || false);
    assert_eq!(seen.borrow().len(), 1);
    proxy.update(&denying(open()));
    let all = || came.iter().all(|came| came.borrow().is_some());
    assert!(sim.run_until(sim.now() + 10 * SECOND, all));
    sim.run_until(sim.now() + SECOND, || false);
    assert_eq!(came.map(|came| came.take().unwrap()), [Some(403); 2]);
    assert_eq!(seen.borrow().len(), 1);
    proxy.finish(SECOND);
}
