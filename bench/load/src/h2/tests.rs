//! Client and origin against each other, without a socket; and what the client must not let pass.

use std::time::{Duration, Instant};

use super::{Call, Client, PREFACE, Server};
use crate::run::{Pace, Run};
use crate::wire::{Machine, Output};

fn run_of(requests: u64) -> Run {
    Run::new(Pace::Closed {
        until: Instant::now() + Duration::from_secs(60),
        left: requests,
    })
}

/// Carries bytes between the two in parts of `step` bytes until both are silent.
fn converse(call: Call, streams: u32, requests: u64, step: usize) -> Run {
    let (mut run, mut to_server, mut to_client) = (run_of(requests), Output::default(), Output::default());
    let mut client = Client::new(call, streams);
    let mut server = Server::new(&mut to_client);
    client.fill(&mut to_server, &mut run);
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    while !to_server.bytes.is_empty() || !to_client.bytes.is_empty() {
        for part in std::mem::take(&mut to_server.bytes).chunks(step) {
            at_server.extend_from_slice(part);
            let used = server.feed(&at_server, &mut to_client).unwrap();
            at_server.drain(..used);
        }
        for part in std::mem::take(&mut to_client.bytes).chunks(step) {
            at_client.extend_from_slice(part);
            let used = client.feed(&at_client, &mut to_server, &mut run).unwrap();
            at_client.drain(..used);
        }
    }
    assert!(at_server.is_empty() && at_client.is_empty());
    assert_eq!(client.in_flight(), 0);
    run
}

#[test]
fn gets_and_calls_are_answered_for_any_split_of_the_bytes() {
    for step in [1, 10, 16_384] {
        let get = Call::get("http", "/b/100", "bench.test");
        assert_eq!(converse(get, 10, 50, step).finished, 50);
        let call = Call::grpc("http", "bench.test", 100);
        assert_eq!(converse(call, 10, 50, step).finished, 50);
    }
}

#[test]
fn bodies_larger_than_the_default_windows_arrive_whole() {
    let get = Call::get("http", "/b/3000000", "bench.test");
    assert_eq!(
        converse(get, 4, 400, 65_536).finished,
        400,
        "more than the connection's first window in all"
    );
}

/// What a client says to an answer that a server might send after an empty SETTINGS frame.
fn reaction(call: Call, frames: &[u8]) -> Result<(), String> {
    let (mut run, mut out) = (run_of(1), Output::default());
    let mut client = Client::new(call, 1);
    client.fill(&mut out, &mut run);
    assert!(out.bytes.starts_with(PREFACE));
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    client.feed(&settings, &mut out, &mut run)?;
    assert_eq!(client.in_flight(), 1);
    client.feed(frames, &mut out, &mut run)?;
    assert_eq!(run.finished, 1);
    Ok(())
}

#[test]
fn a_wrong_answer_is_an_error() {
    let get = || Call::get("http", "/b/0", "bench.test");
    assert_eq!(
        reaction(get(), &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]),
        Ok(()),
        "200 without a body"
    );
    assert!(
        reaction(get(), &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8d]).is_err(),
        "404"
    );
    assert!(
        reaction(get(), &[0, 0, 0, 1, 5, 0, 0, 0, 1]).is_err(),
        "no status"
    );
    assert!(
        reaction(get(), &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]).is_err(),
        "a reset"
    );
    assert!(
        reaction(get(), &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(),
        "GOAWAY"
    );
    let short = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88, 0, 0, 1, 0, 1, 0, 0, 0, 1, b'm'];
    assert!(reaction(get(), &short).is_err(), "one byte too many");
    let call = Call::grpc("http", "bench.test", 0);
    assert!(reaction(call, &short).is_err(), "no trailers");
}
