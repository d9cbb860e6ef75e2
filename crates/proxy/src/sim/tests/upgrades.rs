//! Connections that left HTTP are load, to their end.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::Clock;

const SERVER: &str = "10.0.1.1:80";
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const CONNECT: &[u8] = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n";

fn world(sim: &Sim, listener: &Value, cluster: &Value) -> Rc<Proxy> {
    let proxy = Proxy::new(sim, Weather::CALM, &resources(listener, cluster, &[SERVER]));
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            if talk.head().await.is_ok() && talk.write(SWITCHED).await.is_ok() {
                let _ = talk.take_all().await;
            }
        });
    });
    proxy
}

/// A client that asks to leave HTTP, with the status that it got.
fn leave(sim: &Sim, proxy: &Proxy, asks: &'static [u8]) -> (u16, Talk) {
    let came = Rc::new(RefCell::new(None));
    let (keep, mut talk) = (Rc::clone(&came), Talk::new(proxy.connect()));
    sim.spawn("client", async move {
        talk.write(asks).await.unwrap();
        let status = talk.head().await.unwrap().status();
        *keep.borrow_mut() = Some((status, talk));
    });
    assert!(sim.run_until(sim.now() + SECOND, || came.borrow().is_some()));
    came.take().unwrap()
}

#[test]
fn a_tunnel_is_in_flight_at_its_server_until_it_ends() {
    for (listener, asks, status) in [
        (json!({}), UPGRADE, 101),
        (json!({ "forwardProxy": true }), CONNECT, 200),
    ] {
        let sim = Sim::new(0);
        let proxy = world(&sim, &listener, &json!({}));
        let (came, first) = leave(&sim, &proxy, asks);
        let (_, second) = leave(&sim, &proxy, asks);
        assert_eq!((came, proxy.endpoint(SERVER).in_flight), (status, 2));
        first.reset();
        sim.run_until(sim.now() + SECOND, || false);
        assert_eq!(proxy.endpoint(SERVER).in_flight, 1);
        drop(second);
        proxy.finish(SECOND);
        assert_eq!(proxy.endpoint(SERVER).in_flight, 0);
    }
}

#[test]
fn requests_that_left_http_are_bounded_like_others() {
    let sim = Sim::new(0);
    let proxy = world(&sim, &json!({}), &json!({ "limits": { "requests": 1 } }));
    let (came, first) = leave(&sim, &proxy, UPGRADE);
    let (refused, _) = leave(&sim, &proxy, UPGRADE);
    assert_eq!((came, refused), (101, 503));
    first.reset();
    sim.run_until(sim.now() + SECOND, || false);
    let (came, _second) = leave(&sim, &proxy, UPGRADE);
    assert_eq!(came, 101);
    proxy.finish(SECOND);
}
