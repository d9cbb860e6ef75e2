//! gRPC calls over HTTP/1, as proxies of gRPC-Web make them.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;

use super::bytes::Talk;
use super::clock::{SECOND, Sim};
use super::network::Weather;
use super::proxy::{Proxy, resources};
use crate::clock::Clock;

const SERVER: &str = "10.0.1.1:80";
const CALL: &str = "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\r\n";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What is counted of a request that its server answers like this, or that nobody answers.
fn counted(request: &'static str, answer: Option<&'static str>) -> (Vec<Option<u32>>, u64) {
    let sim = Sim::new(0);
    let cluster = json!({ "protocol": "http1" });
    let proxy = Proxy::new(&sim, Weather::CALM, &resources(&json!({}), &cluster, &[SERVER]));
    if let Some(answer) = answer {
        let clock = sim.clone();
        proxy.net().listen(SERVER, move |stream, _| {
            clock.spawn("server", async move {
                let mut talk = Talk::new(stream);
                talk.head().await.unwrap();
                talk.write(answer.as_bytes()).await.unwrap();
            });
        });
    }
    let over = Rc::new(RefCell::new(false));
    let (keep, mut talk) = (Rc::clone(&over), Talk::new(proxy.connect()));
    sim.spawn("client", async move {
        talk.write(request.as_bytes()).await.unwrap();
        let head = talk.head().await.unwrap();
        let length = head.number("content-length").unwrap_or(0);
        talk.body(head.framing(), length).await;
        *keep.borrow_mut() = true;
    });
    assert!(sim.run_until(sim.now() + SECOND, || *over.borrow()));
    let calls = proxy.calls();
    proxy.finish(SECOND);
    calls
}

#[test]
fn what_its_trailers_say_is_how_a_call_went() {
    let unavailable = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\ngrpc-message: no\r\nGrpc-Status: 14\r\n\r\n";
    let fine = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ngrpc-status:0\r\n\r\n";
    assert_eq!(counted(CALL, Some(unavailable)), (vec![Some(14)], 1));
    assert_eq!(counted(CALL, Some(fine)), (vec![Some(0)], 0));
    assert_eq!(counted(PLAIN, Some(unavailable)), (vec![], 0));
}

#[test]
fn a_call_has_a_status_whoever_answers_it() {
    let head = "HTTP/1.1 200 OK\r\ngrpc-status: 5\r\nContent-Length: 0\r\n\r\n";
    let none = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(counted(CALL, Some(head)), (vec![Some(5)], 0));
    assert_eq!(counted(CALL, Some(none)), (vec![Some(2)], 1));
    assert_eq!(counted(CALL, Some(not_found)), (vec![Some(12)], 1));
    assert_eq!(counted(CALL, None), (vec![Some(14)], 1));
}
