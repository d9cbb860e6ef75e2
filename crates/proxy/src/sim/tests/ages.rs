//! What is under way on a connection that is too old, and when it is cut.

use std::cell::RefCell;
use std::rc::Rc;

use mesh_model::errors::Reason;
use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::{Clock, Nanos};

const SERVER: &str = "10.0.1.1:80";
const ENDLESS: &str = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
const SILENT: &str = "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
/// Its answer takes four seconds.
const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n";

/// What a client gets that says these, each at its time, by when its connection has ended or a minute is over; when that
/// was, and why. Connections are too old after ten seconds, and what is under way has five more, unless `listener` says
/// otherwise.
fn said(listener: Value, says: &[(Nanos, &'static str)]) -> (Option<Nanos>, String, Vec<Reason>) {
    let sim = Sim::new(0);
    let mut listener = listener;
    for (name, span) in [
        ("request", "0s"),
        ("streamIdle", "0s"),
        ("maxConnectionAge", "10s"),
        ("drain", "5s"),
    ] {
        if listener["timeouts"][name].is_null() {
            listener["timeouts"][name] = span.into();
        }
    }
    let proxy = Proxy::new(&sim, Weather::CALM, &resources(&listener, &json!({}), &[SERVER]));
    let clock = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        let sim = clock.clone();
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            while talk.take_until(b" ").await.is_ok() {
                let Ok(path) = talk.take_until(b" ").await else {
                    return;
                };
                let _ = talk.take_until(b"\r\n\r\n").await;
                let answer: &[u8] = match &*path {
                    b"/slow " => {
                        sim.sleep(4 * SECOND).await;
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    }
                    b"/endless " => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
                    b"/upgrade " => {
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi"
                    }
                    _ => b"",
                };
                let _ = talk.write(answer).await;
            }
        });
    });
    let came: Rc<RefCell<Vec<u8>>> = Rc::default();
    let ended: Rc<RefCell<Option<Nanos>>> = Rc::default();
    let began = sim.now();
    let (clock, keep, over) = (sim.clone(), Rc::clone(&came), Rc::clone(&ended));
    let (mut talk, says) = (Talk::new(proxy.connect()), says.to_vec());
    sim.spawn("client", async move {
        for (at, said) in says {
            clock.sleep((began + at).saturating_sub(clock.now())).await;
            talk.write(said.as_bytes()).await.unwrap();
            let answer = talk.fill().await;
            keep.borrow_mut().append(&mut talk.unread);
            if answer.unwrap_or_default() == 0 {
                break;
            }
        }
        let rest = talk.take_all().await;
        keep.borrow_mut().append(&mut rest.unwrap_or_default());
        *over.borrow_mut() = Some(clock.now() - began);
    });
    sim.run_until(began + 60 * SECOND, || ended.borrow().is_some());
    sim.run_until(sim.now() + MS, || false);
    let ends = proxy.ends();
    let text = String::from_utf8(came.take()).unwrap();
    let at = ended.take();
    proxy.finish(SECOND);
    (at, text, ends)
}

/// As [`said`] does, with the time in milliseconds.
fn cut(listener: Value, says: &[(Nanos, &'static str)]) -> (Nanos, String) {
    let (at, text, ends) = said(listener, says);
    assert_eq!(ends, [Reason::MaxConnectionAge], "{text}");
    (at.unwrap() / MS, text)
}

#[test]
fn what_is_under_way_has_the_time_of_a_drain() {
    let (at, text) = cut(json!({}), &[(0, ENDLESS)]);
    assert_eq!(at, 15_000);
    assert!(text.ends_with("\r\n\r\n1\r\nx\r\n"), "{text}");
    let (at, text) = cut(json!({}), &[(2 * SECOND, SILENT)]);
    assert_eq!(at, 15_000);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("details=\"max_connection_age\""), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    // What leaves HTTP came as a request.
    let (at, text) = cut(json!({}), &[(0, UPGRADE)]);
    assert_eq!((at, text.ends_with("\r\n\r\nhi")), (15_000, true));
    let proxied = json!({ "forwardProxy": true });
    assert_eq!(
        cut(proxied, &[(0, CONNECT)]),
        (15_000, "HTTP/1.1 200 OK\r\n\r\n".into())
    );
}

#[test]
fn a_request_that_came_later_has_its_time_from_then_on() {
    // The answer before has just begun in time.
    let (at, text) = cut(json!({}), &[(5_900 * MS, SLOW), (10_500 * MS, ENDLESS)]);
    let (before, last) = text.split_once("\r\n\r\nok").unwrap();
    assert!(!before.contains("Connection: close"), "{text}");
    assert!(last.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(at, 15_500);
}

#[test]
fn an_answer_that_begins_when_the_connection_is_too_old_says_that_it_is_the_last() {
    const CLOSE: &str = "\r\nConnection: close\r\n";
    let (at, text) = cut(json!({}), &[(9 * SECOND, SLOW)]);
    assert!(text.contains(CLOSE) && text.ends_with("\r\n\r\nok"), "{text}");
    assert_eq!(at, 13_000);
    // The proxy's own is no other.
    let listener = json!({ "timeouts": { "request": "3s" } });
    let (at, text, ends) = said(listener, &[(9 * SECOND, SILENT)]);
    assert!(
        text.starts_with("HTTP/1.1 504 ") && text.contains(CLOSE),
        "{text}"
    );
    assert_eq!((at, ends), (Some(12 * SECOND), vec![Reason::RequestTimeout]));
}

#[test]
fn what_has_no_age_or_no_end_goes_on() {
    let off = |name: &str| json!({ "timeouts": { name: "0s" } });
    let once = json!({ "timeouts": { "maxConnectionAge": "0s" }, "limits": { "requestsPerConnection": 1 } });
    for listener in [off("drain"), off("maxConnectionAge"), once] {
        for says in [ENDLESS, SILENT, UPGRADE] {
            let (at, _, ends) = said(listener.clone(), &[(0, says)]);
            assert_eq!((at, ends), (None, vec![]), "{listener} {says}");
        }
    }
    // It never was HTTP.
    let tcp = json!({ "protocol": "tcp", "tcp": [{ "cluster": "site" }] });
    let (at, _, ends) = said(tcp, &[(0, "hello")]);
    assert_eq!((at, ends), (None, vec![]));
}
