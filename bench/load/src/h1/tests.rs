//! Client and origin against each other, without a socket; and what the client must not let pass.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Client, Reuse, Server, Target};
use crate::run::{Pace, Run};
use crate::wire::{Machine, Output};

fn run_of(requests: u64) -> Run {
    Run::new(Pace::Closed {
        until: Instant::now() + Duration::from_secs(60),
        left: requests,
    })
}

fn client(path: &str, reuse: Reuse) -> Client {
    Client::new(Rc::new([Target::get(path, "bench.test")]), 0, reuse)
}

#[test]
fn requests_are_answered_and_counted_for_any_split_of_the_bytes() {
    for step in [1, 7, 4096] {
        let (mut run, mut out) = (run_of(3), Output::default());
        let mut client = client("/b/100", Reuse::KeepAlive);
        let mut server = Server::default();
        client.fill(&mut out, &mut run);
        while !out.bytes.is_empty() {
            let mut answer = Output::default();
            let mut kept = Vec::new();
            for part in std::mem::take(&mut out.bytes).chunks(step) {
                kept.extend_from_slice(part);
                let used = server.feed(&kept, &mut answer).unwrap();
                kept.drain(..used);
            }
            for part in answer.bytes.chunks(step) {
                kept.extend_from_slice(part);
                let used = client.feed(&kept, &mut out, &mut run).unwrap();
                kept.drain(..used);
            }
            assert!(kept.is_empty());
        }
        assert_eq!((run.started, run.finished, client.in_flight()), (3, 3, 0));
    }
}

#[test]
fn a_wrong_answer_is_an_error() {
    for answer in [
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0\r\n",
    ] {
        let (mut run, mut out) = (run_of(1), Output::default());
        let mut client = client("/b/100", Reuse::KeepAlive);
        client.fill(&mut out, &mut run);
        assert!(
            client.feed(answer.as_bytes(), &mut out, &mut run).is_err(),
            "{answer}"
        );
        assert_eq!(run.finished, 0);
    }
}

#[test]
fn bytes_behind_an_answer_and_an_early_end_are_errors() {
    let (mut run, mut out) = (run_of(1), Output::default());
    let mut client = client("/b/0", Reuse::OneRequest);
    client.fill(&mut out, &mut run);
    assert!(client.closed().is_err(), "closed while an answer is due");
    client
        .feed(
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            &mut out,
            &mut run,
        )
        .unwrap();
    assert!(client.is_spent());
    assert!(client.closed().is_ok());
    assert!(client.feed(b"more", &mut out, &mut run).is_err());
}

#[test]
fn an_open_loop_counts_from_the_time_a_request_was_due() {
    let now = Instant::now();
    let mut run = Run::new(Pace::Open { due: [now].into() });
    let mut out = Output::default();
    let mut client = client("/b/0", Reuse::KeepAlive);
    client.fill(&mut out, &mut run);
    run.now = now + Duration::from_millis(80);
    client
        .feed(
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            &mut out,
            &mut run,
        )
        .unwrap();
    let report = run.report(1.0);
    assert_eq!(report["latencyMicros"]["max"], 80_000.0);
    assert_eq!(client.in_flight(), 0, "nothing is due, nothing starts");
}
