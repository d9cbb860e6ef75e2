//! Connections from a proxy in front that says for whom they are.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::{Talk, content};
use super::clock::{SECOND, Sim};
use super::each_seed;
use super::network::Weather;
use super::proxy::Proxy;
use crate::clock::{Clock, Nanos};

const SERVER: &str = "10.0.1.1:80";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb\xea\0\x04what";

fn proxy(sim: &Sim, weather: Weather, mut listener: Value) -> Rc<Proxy> {
    listener["name"] = json!("web");
    listener["address"] = json!("127.0.0.1:80");
    listener["proxyProtocol"] = json!(true);
    listener["trustedNetworks"] = json!(["10.0.0.0/8"]);
    let resources = json!({
        "listeners": [listener],
        "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
            { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
        "clusters": [{ "name": "site" }],
        "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": [{ "address": SERVER }] }] }],
    });
    Proxy::new(sim, weather, &resources)
}

/// A client behind a proxy sends bytes that the network cuts as it likes, and a server gives them back.
fn echoed(seed: u64) {
    let sim = Sim::new(seed);
    let weather = Weather::fair(&sim);
    let tcp = json!([{ "cluster": "site" }]);
    let proxy = match sim.below(3) {
        0 => proxy(&sim, weather, json!({ "protocol": "tcp", "tcp": tcp })),
        1 => proxy(&sim, weather, json!({ "tcp": tcp })),
        _ => proxy(&sim, weather, json!({ "routes": "main", "tcp": tcp })),
    };
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            let came = talk.take_all().await.unwrap();
            talk.write(&came).await.unwrap();
            talk.end().await;
        });
    });
    let (stream, got) = (proxy.connect(), Rc::new(RefCell::new(None)));
    let header = sim.one(&[LINE, BLOCK]);
    // Another header is bytes like any others.
    let second = sim.one(&[&b""[..], LINE, BLOCK, b"\n"]);
    let length = sim.below((weather.window * 100).min(100_000) as u64) as usize;
    let sent = [second, b"\x01", &content(seed, length)].concat();
    let (bytes, keep) = ([header, &sent].concat(), Rc::clone(&got));
    let together = sim.once_in(2);
    let clock = sim.clone();
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        let (first, rest) = bytes.split_at(if together { 0 } else { header.len() });
        talk.write(first).await.unwrap();
        if !together {
            clock.sleep(clock.below(SECOND)).await;
        }
        talk.write(rest).await.unwrap();
        talk.end().await;
        *keep.borrow_mut() = Some(talk.take_all().await.unwrap());
    });
    assert!(sim.run_until(sim.now() + 100 * SECOND, || got.borrow().is_some()));
    assert!(
        got.take().unwrap() == sent,
        "other bytes came back than were sent"
    );
    proxy.finish(SECOND);
}

#[test]
fn what_stands_behind_a_header_arrives_as_it_was_sent() {
    each_seed("proxied", 400, echoed);
}

/// When a client that says this at these seconds is cut off, and what came until then.
fn ended_at(listener: Value, words: &'static [(u64, &[u8])]) -> (Nanos, Vec<u8>) {
    let sim = Sim::new(7);
    let proxy = proxy(&sim, Weather::CALM, listener);
    let (stream, clock, start) = (proxy.connect(), sim.clone(), sim.now());
    let over = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&over);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        for (second, word) in words {
            clock.sleep(start + second * SECOND - clock.now()).await;
            talk.write(word).await.unwrap();
        }
        let came = talk.take_all().await.unwrap_or_default();
        *keep.borrow_mut() = Some((clock.now() - start, came));
    });
    assert!(sim.run_until(start + 100 * SECOND, || over.borrow().is_some()));
    proxy.finish(SECOND);
    over.take().unwrap()
}

#[test]
fn row_32_a_header_has_one_header_timeout_with_what_it_stands_before() {
    let begun: [&'static [(u64, &[u8])]; 3] = [
        &[],
        &[(0, b"PROXY "), (9, b"TCP4 ")],
        &[(5, b"\r\n\r\n\0\r\nQUIT\n\x21")],
    ];
    for protocol in ["auto", "http1"] {
        let listener = || json!({ "routes": "main", "protocol": protocol, "timeouts": { "header": "10s" } });
        let about_ten = |at| (10 * SECOND..11 * SECOND).contains(&at);
        for words in begun {
            let (at, came) = ended_at(listener(), words);
            assert!(about_ten(at) && came.is_empty(), "{protocol}: {at} {came:?}");
        }
        let (at, came) = ended_at(listener(), &[(6, LINE), (9, b"GET / HTTP/1.1\r\n")]);
        assert!(
            about_ten(at) && came.starts_with(b"HTTP/1.1 408 "),
            "{protocol}: {at}"
        );
    }
}
