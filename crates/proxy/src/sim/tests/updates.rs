//! Configurations that change while clients are connected.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::Clock;

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
