//! Clients that end their side: they may be reading still, or be gone. And those that are gone for certain.

use std::cell::RefCell;
use std::rc::Rc;

use mesh_model::errors::Reason;
use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::each_seed;
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::{Clock, NEVER, Nanos};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";

const SERVER: &str = "10.0.1.1:80";

/// In front of one server.
fn proxy(sim: &Sim, cluster: &Value) -> Rc<Proxy> {
    Proxy::new(
        sim,
        Weather::CALM,
        &json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "routes": "main" }],
            "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
                { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
            "clusters": [cluster],
            "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": [{ "address": SERVER }] }] }],
        }),
    )
}

/// How long after its end a client has its response, or none because it was given up; the client ends its side so long
/// after its request, and the server says a word at these times after that.
fn served(seed: u64, ends: Nanos, words: &'static [(Nanos, &[u8])]) -> (Nanos, Vec<u8>) {
    let sim = Sim::new(seed);
    let proxy = proxy(&sim, &json!({ "name": "site" }));
    let start = sim.now();
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        let sim = clock.clone();
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            talk.head().await.unwrap();
            for (at, word) in words {
                sim.sleep(start + ends + at - sim.now()).await;
                if talk.write(word).await.is_err() {
                    return;
                }
            }
            let _ = talk.take_all().await;
        });
    });
    let (stream, clock) = (proxy.connect(), sim.clone());
    let over = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&over);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        talk.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        if ends > 0 {
            clock.sleep(ends).await;
        }
        talk.end().await;
        let came = talk.take_all().await.unwrap_or_default();
        *keep.borrow_mut() = Some((clock.now() - start - ends, came));
    });
    let is_over = || proxy.open() == 0 && over.borrow().is_some();
    assert!(sim.run_until(start + 100 * SECOND, is_over));
    proxy.finish(SECOND);
    over.take().unwrap()
}

#[test]
fn a_client_that_ended_its_side_is_waited_for_as_long_whenever_it_did() {
    let late = &[(5 * SECOND + MS, HEAD), (5 * SECOND + MS, b"yes")];
    each_seed("half-closed", 20, |seed| {
        for ends in [0, MS, 3 * SECOND] {
            assert_eq!(served(seed, ends, &[]), (5 * SECOND, Vec::new()), "after {ends}");
            assert_eq!(served(seed, ends, late), (5 * SECOND, Vec::new()), "after {ends}");
        }
    });
}

#[test]
fn a_client_that_ended_its_side_gets_all_that_keeps_coming() {
    let words = &[
        (5 * SECOND - MS, HEAD),
        (9 * SECOND, b"y"),
        (13 * SECOND, b"e"),
        (17 * SECOND, b"s"),
    ];
    each_seed("half-closed", 20, |seed| {
        for ends in [0, MS, 3 * SECOND] {
            let (at, came) = served(seed, ends, words);
            assert_eq!(at, 17 * SECOND, "after {ends}");
            assert!(came.starts_with(b"HTTP/1.1 200 ") && came.ends_with(b"\r\n\r\nyes"));
        }
    });
}

/// What a client's request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// A connection that is being made.
    Connect,
    /// The one connection that there may be.
    Room,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    End,
    Reset,
}

/// How long a request with these bytes waits still once its client has left.
fn waits(seed: u64, for_: For, by: By, pieces: &'static [&[u8]]) -> Nanos {
    let sim = Sim::new(seed);
    let cluster = json!({ "name": "site", "limits": { "connections": 1 }, "timeouts": { "connect": "1h" } });
    let proxy = proxy(&sim, &cluster);
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn("server", async move {
            // It never answers.
            let _ = Talk::new(stream).take_all().await;
        });
    });
    if for_ == For::Connect {
        proxy.net().delay(SERVER, NEVER);
    }
    let first = proxy.connect();
    sim.spawn("first", async move {
        let mut talk = Talk::new(first);
        talk.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        let _ = talk.take_all().await;
    });
    sim.run_until(sim.now() + SECOND, || false);
    let (stream, clock) = (proxy.connect(), sim.clone());
    let left = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&left);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        for piece in pieces {
            talk.write(piece).await.unwrap();
            clock.sleep(SECOND).await;
        }
        *keep.borrow_mut() = Some(clock.now());
        match by {
            By::Reset => talk.reset(),
            By::End => {
                talk.end().await;
                let came = talk.take_all().await;
                assert!(came.as_ref().is_ok_and(Vec::is_empty), "{came:?}");
            }
        }
    });
    assert_eq!(proxy.open(), 2);
    let is_over = || left.borrow().is_some() && proxy.open() == 1;
    assert!(
        sim.run_until(sim.now() + 100 * SECOND, is_over),
        "{for_:?} {by:?}"
    );
    let waited = sim.now() - left.take().unwrap();
    proxy.finish(SECOND);
    waited
}

#[test]
fn a_client_that_leaves_while_its_request_waits_for_a_connection_is_noticed() {
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n";
    each_seed("leaves", 10, |seed| {
        for for_ in [For::Connect, For::Room] {
            for pieces in [&[GET][..], &[POST], &[POST, b"a"], &[POST, b"abc"]] {
                assert_eq!(waits(seed, for_, By::Reset, pieces), 0, "{for_:?}");
                assert_eq!(waits(seed, for_, By::End, pieces), 5 * SECOND, "{for_:?}");
            }
        }
    });
}

/// Listeners that pass bytes on, and what makes their server called.
fn byte_listeners() -> [(Value, &'static str); 4] {
    let to = json!([{ "cluster": "site" }]);
    [
        (json!({ "protocol": "tcp", "tcp": to }), "hello"),
        (json!({ "tcp": to }), ""),
        (json!({ "tcp": to }), "\0hello"),
        (
            json!({ "forwardProxy": true }),
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nhello",
        ),
    ]
}

/// A proxy of whose server nothing comes for so long when it is called, and a client that has said this. What it hears is
/// said again, to the end.
fn called(sim: &Sim, listener: &Value, says: &'static str, after: Nanos) -> (Rc<Proxy>, Talk) {
    let cluster = json!({ "timeouts": { "connect": "1h" } });
    let proxy = Proxy::new(sim, Weather::CALM, &resources(listener, &cluster, &[SERVER]));
    proxy.net().delay(SERVER, after);
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            let all = talk.take_all().await.unwrap();
            talk.write(&all).await.unwrap();
            talk.end().await;
        });
    });
    let talk = Talk::new(proxy.connect());
    let mut writer = Talk::new(talk.stream.share());
    sim.spawn(
        "writer",
        async move { writer.write(says.as_bytes()).await.unwrap() },
    );
    sim.run_until(sim.now() + SECOND, || false);
    assert_eq!((proxy.net().begun(SERVER), proxy.open()), (1, 1), "{listener}");
    (proxy, talk)
}

#[test]
fn a_client_that_breaks_off_while_its_server_is_called_is_not_waited_for() {
    for (listener, says) in byte_listeners() {
        let sim = Sim::new(0);
        let (proxy, talk) = called(&sim, &listener, says, NEVER);
        talk.reset();
        assert!(sim.run_until(sim.now() + MS, || proxy.open() == 0), "{listener}");
        assert_eq!(proxy.ends(), [Reason::ClientClosed], "{listener}");
        assert_eq!(proxy.endpoint(SERVER).in_flight, 0);
        proxy.finish(SECOND);
    }
}

#[test]
fn a_client_that_ends_its_side_while_its_server_is_called_is_served() {
    for (listener, says) in byte_listeners() {
        let sim = Sim::new(0);
        let (proxy, mut talk) = called(&sim, &listener, says, 20 * SECOND);
        let came = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&came);
        sim.spawn("client", async move {
            talk.end().await;
            *keep.borrow_mut() = Some(talk.take_all().await.unwrap());
        });
        assert!(sim.run_until(sim.now() + 30 * SECOND, || came.borrow().is_some()));
        let came = String::from_utf8(came.take().unwrap()).unwrap();
        let said = says.split("\r\n\r\n").last().unwrap();
        assert!(
            came.ends_with(said) && !came.contains("HTTP/1.1 5"),
            "{listener}: {came}"
        );
        proxy.finish(SECOND);
    }
}
