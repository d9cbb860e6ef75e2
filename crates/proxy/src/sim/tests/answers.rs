//! Servers that take their time before an answer, or amid it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::Talk;
use super::clock::{MS, SECOND, Sim};
use super::network::Weather;
use super::proxy::Proxy;
use crate::clock::{Clock, Nanos};

const MINUTE: Nanos = 60 * SECOND;
const SERVER: &str = "10.0.1.1:80";

/// A proxy before servers at these addresses.
fn proxy(sim: &Sim, timeouts: &Value, servers: &[&str]) -> Rc<Proxy> {
    proxy_in(sim, Weather::CALM, timeouts, servers)
}

/// The same, in this weather.
fn proxy_in(sim: &Sim, weather: Weather, timeouts: &Value, servers: &[&str]) -> Rc<Proxy> {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|address| json!({ "address": address }))
        .collect();
    Proxy::new(
        sim,
        weather,
        &json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "routes": "main", "timeouts": timeouts }],
            "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
                { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
            "clusters": [{ "name": "site" }],
            "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": endpoints }] }],
        }),
    )
}

/// What a client gets that sends these bytes, each so long after the last, and when, from a server that reads a head and
/// then does likewise.
fn asked(
    timeouts: &Value,
    sends: &[(Nanos, &'static str)],
    answers: &[(Nanos, &'static str)],
) -> (Nanos, String) {
    asked_and(timeouts, sends, answers, |_| {})
}

/// The same; the proxy is looked at when that is over.
fn asked_and(
    timeouts: &Value,
    sends: &[(Nanos, &'static str)],
    answers: &[(Nanos, &'static str)],
    look: impl FnOnce(&Proxy),
) -> (Nanos, String) {
    let sim = Sim::new(0);
    let proxy = proxy(&sim, timeouts, &[SERVER]);
    let (clock, answers) = (sim.clone(), answers.to_vec());
    proxy.net().listen(SERVER, move |stream, _| {
        let (sim, answers) = (clock.clone(), answers.clone());
        clock.spawn("server", async move {
            let mut talk = Talk::new(stream);
            talk.head().await.unwrap();
            for (span, bytes) in answers {
                sim.sleep(span).await;
                if talk.write(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            let _ = talk.take_all().await;
        });
    });
    let stream = proxy.connect();
    let (mut reader, mut writer) = (Talk::new(stream.share()), Talk::new(stream));
    let (clock, sends) = (sim.clone(), sends.to_vec());
    sim.spawn("writer", async move {
        for (span, bytes) in sends {
            clock.sleep(span).await;
            if writer.write(bytes.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let over = Rc::new(RefCell::new(None));
    let (keep, clock) = (Rc::clone(&over), sim.clone());
    sim.spawn("reader", async move {
        let start = clock.now();
        let mut came = String::new();
        while let Ok(head) = reader.head().await {
            if head.status() < 200 {
                continue;
            }
            came = format!(
                "{} {}",
                head.status(),
                head.get("proxy-status").unwrap_or_default()
            );
            let length = head.number("content-length").unwrap_or(0);
            came += &format!(" {:?}", reader.body(head.framing(), length).await);
            break;
        }
        *keep.borrow_mut() = Some((clock.now() - start, came));
    });
    assert!(sim.run_until(sim.now() + 100 * MINUTE, || over.borrow().is_some()));
    look(&proxy);
    proxy.finish(SECOND);
    over.take().unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";

#[track_caller]
fn assert_came((at, came): (Nanos, String), after: Nanos, what: &str) {
    assert_eq!(at / MS, after / MS, "{came}");
    assert!(came.contains(what), "{came}");
}

#[test]
fn an_answer_is_awaited_as_long_as_the_request_may_take() {
    // "yes"
    let whole = "Whole([121, 101, 115])";
    let late = [(5 * MINUTE, OK), (0, "yes")];
    for timeouts in [
        json!({ "request": "1h" }),
        json!({ "streamIdle": "1s", "request": "1h" }),
    ] {
        assert_came(asked(&timeouts, &[(0, GET)], &late), 5 * MINUTE, whole);
        assert_came(
            asked(&timeouts, &[(0, POST), (0, "abc")], &late),
            5 * MINUTE,
            whole,
        );
        let slow = [(0, POST), (900 * MS, "a"), (900 * MS, "bc")];
        assert_came(asked(&timeouts, &slow, &late), 5 * MINUTE, whole);
    }
    // Where nothing was said of it, it may be silent as long as a body may.
    let silent = "504 mesh; error=connection_read_timeout; details=\"stream_idle_timeout\"";
    assert_came(asked(&json!({}), &[(0, GET)], &late), MINUTE, silent);
    let bounded = json!({ "streamIdle": "1s", "request": "10s" });
    assert_came(
        asked(&bounded, &[(0, GET)], &late),
        10 * SECOND,
        "request_timeout",
    );
}

#[test]
fn a_body_that_stands_still_is_cut() {
    let idle = json!({ "streamIdle": "1s", "request": "1h" });
    let never = &[(100 * MINUTE, OK)];
    // A request's, whether it began or not.
    let stalled = "408 mesh; error=http_request_error; details=\"request_body_timeout\"";
    assert_came(asked(&idle, &[(0, POST)], never), SECOND, stalled);
    assert_came(
        asked(&idle, &[(0, POST), (500 * MS, "ab")], never),
        1_500 * MS,
        stalled,
    );
    // Its server answered before it was there.
    let early = &[(200 * MS, OK), (300 * MS, "yes")];
    assert_came(asked(&idle, &[(0, POST)], early), 500 * MS, "Whole");
    let early = &[(200 * MS, OK), (300 * MS, "y")];
    assert_came(
        asked(&idle, &[(0, POST), (400 * MS, "ab")], early),
        1_500 * MS,
        "Cut",
    );
    // A response's.
    let part = &[(5 * SECOND, OK), (500 * MS, "y"), (2 * SECOND, "es")];
    assert_came(asked(&idle, &[(0, GET)], part), 6_500 * MS, "Cut([121])");
    assert_came(
        asked(&idle, &[(0, GET)], &[(5 * SECOND, OK)]),
        6 * SECOND,
        "Cut([])",
    );
}

#[test]
fn a_client_that_waits_to_be_let_on_is_not_to_blame_for_a_silent_server() {
    const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    const ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let idle = json!({ "streamIdle": "1s" });
    let bounded = json!({ "streamIdle": "1s", "request": "10s" });
    let waits = [(0, EXPECTING)];
    let silent = "504 mesh; error=connection_read_timeout; details=\"stream_idle_timeout\"";
    let late = "504 mesh; error=http_response_timeout; details=\"request_timeout\"";
    let stalled = "408 mesh; error=http_request_error; details=\"request_body_timeout\"";
    let never = (100 * MINUTE, OK);
    assert_came(asked(&idle, &waits, &[never]), SECOND, silent);
    assert_came(asked(&bounded, &waits, &[never]), 10 * SECOND, late);
    assert_came(
        asked(&bounded, &waits, &[(5 * SECOND, HINTS), never]),
        10 * SECOND,
        late,
    );
    // An answer that may take as long as any.
    let answer = [(5 * SECOND, OK), (0, "yes")];
    assert_came(asked(&bounded, &waits, &answer), 5 * SECOND, "200  Whole");
    let on = [(5 * SECOND, ON), (3 * SECOND, OK), (0, "yes")];
    let sends = [(0, EXPECTING), (5_500 * MS, "abc")];
    assert_came(asked(&bounded, &sends, &on), 8 * SECOND, "200  Whole");
    // Once the server has let it on, or it does not wait, it is the client that is awaited.
    assert_came(asked(&bounded, &waits, &on), 6 * SECOND, stalled);
    let sends = [(0, EXPECTING), (500 * MS, "a")];
    assert_came(asked(&bounded, &sends, &[never]), 1_500 * MS, stalled);
    // The server stops amid an answer that needs no body.
    let part = [(5 * SECOND, OK), (0, "y"), never];
    assert_came(asked(&bounded, &waits, &part), 6 * SECOND, "200  Cut([121])");
}

/// How slow a server looks, in milliseconds, that was asked with these bytes and answered with these, as [`asked`]; none
/// when nothing is known of it.
fn looks(
    timeouts: &Value,
    sends: &[(Nanos, &'static str)],
    answers: &[(Nanos, &'static str)],
) -> Option<u64> {
    let mut latency = None;
    asked_and(timeouts, sends, answers, |proxy| {
        latency = proxy.endpoint(SERVER).latency
    });
    latency.map(|latency| (latency / 1e6).round() as u64)
}

#[test]
fn a_slow_request_does_not_make_its_server_look_slow() {
    let timeouts = json!({ "request": "10s" });
    let answer = |after| [(after, OK), (0, "yes")];
    let whole = [(0, POST), (0, "abc")];
    assert_eq!(looks(&timeouts, &whole, &answer(20 * MS)), Some(20));
    let slow = [(0, POST), (2 * SECOND, "a"), (3 * SECOND, "bc")];
    assert_eq!(looks(&timeouts, &slow, &answer(5_020 * MS)), Some(20));
    // It answered before all was there: as late as the last that it could answer to.
    assert_eq!(looks(&timeouts, &slow, &answer(3_500 * MS)), Some(1_500));
    let part = [(0, POST), (500 * MS, "a")];
    assert_eq!(looks(&timeouts, &part, &answer(520 * MS)), Some(20));
    // What never came whole says nothing of it; what came whole and was never answered does.
    let never = [(100 * MINUTE, OK)];
    let trickles = [(0, POST), (9 * SECOND, "a")];
    assert_eq!(looks(&timeouts, &trickles, &never), None);
    assert_eq!(looks(&timeouts, &whole, &never), Some(10_000));
    // Whether that is the whole, nobody knows but the server, which says nothing.
    let open = [(0, CHUNKED), (9 * SECOND, "1\r\na\r\n")];
    assert_eq!(looks(&timeouts, &open, &never), Some(1_000));
}

/// The reason that a client is told who sends some of a body and no more, and what is known then of how slow its server
/// is, in milliseconds. That server answers nothing, and reads all or nothing.
fn silent(timeouts: &Value, reads: bool, window: usize) -> (String, Option<u64>) {
    let sim = Sim::new(0);
    let weather = Weather {
        window,
        ..Weather::CALM
    };
    let proxy = proxy_in(&sim, weather, timeouts, &[SERVER]);
    let (clock, keeps) = (sim.clone(), Rc::new(RefCell::new(Vec::new())));
    proxy.net().listen(SERVER, move |stream, _| match reads {
        true => clock.spawn("server", async move {
            let _ = Talk::new(stream).take_all().await;
        }),
        false => keeps.borrow_mut().push(stream),
    });
    let (mut talk, came) = (Talk::new(proxy.connect()), Rc::new(RefCell::new(None)));
    let keep = Rc::clone(&came);
    sim.spawn("client", async move {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
        talk.write(head.as_bytes()).await.unwrap();
        talk.write(&[b'x'; 500]).await.unwrap();
        let head = talk.head().await.unwrap();
        let why = head.get("proxy-status").unwrap_or_default();
        *keep.borrow_mut() = why.split('"').nth(1).map(str::to_owned);
    });
    assert!(sim.run_until(sim.now() + 10 * MINUTE, || came.borrow().is_some()));
    let latency = proxy.endpoint(SERVER).latency;
    proxy.finish(SECOND);
    (
        came.take().unwrap(),
        latency.map(|latency| (latency / 1e6).round() as u64),
    )
}

#[test]
fn a_server_that_reads_nothing_is_to_blame_for_what_waits_for_it() {
    let request = json!({ "request": "10s" });
    let idle = json!({ "request": "1h", "streamIdle": "10s" });
    // All that came has left: it is the client that sends no more.
    for (reads, window) in [(true, 64), (true, 65_536), (false, 65_536)] {
        assert_eq!(silent(&request, reads, window), ("request_timeout".into(), None));
        assert_eq!(
            silent(&idle, reads, window),
            ("request_body_timeout".into(), None)
        );
    }
    // The server has not room for what is there already.
    let ten_seconds = Some(10_000);
    assert_eq!(
        silent(&request, false, 300),
        ("request_timeout".into(), ten_seconds)
    );
    assert_eq!(
        silent(&idle, false, 300),
        ("stream_idle_timeout".into(), ten_seconds)
    );
}

#[test]
fn a_long_response_does_not_make_its_server_look_slow() {
    let sim = Sim::new(1);
    let addresses = ["10.0.1.1:80", "10.0.1.2:80"];
    let proxy = proxy(&sim, &json!({}), &addresses);
    let seen: Rc<[Cell<u32>; 2]> = Rc::default();
    for (index, address) in addresses.iter().enumerate() {
        let (clock, seen) = (sim.clone(), Rc::clone(&seen));
        proxy.net().listen(address, move |stream, _| {
            let (sim, seen) = (clock.clone(), Rc::clone(&seen));
            clock.spawn("server", async move {
                let mut talk = Talk::new(stream);
                while let Ok(head) = talk.head().await {
                    seen[index].set(seen[index].get() + 1);
                    sim.sleep(MS).await;
                    talk.write(OK.as_bytes()).await.unwrap();
                    for byte in [b"y", b"e", b"s"] {
                        if head.start.contains("/stream") {
                            sim.sleep(3 * SECOND).await;
                        }
                        talk.write(byte).await.unwrap();
                    }
                }
            });
        });
    }
    let over = Rc::new(Cell::new(false));
    let (keep, stream, look) = (Rc::clone(&over), proxy.connect(), Rc::clone(&seen));
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        let mut ask = async |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            talk.write(request.as_bytes()).await.unwrap();
            assert_eq!(talk.head().await.unwrap().status(), 200);
            assert_eq!(talk.take(3).await.unwrap(), b"yes");
        };
        for path in [&["/"; 100][..], &["/stream"], &["/"; 100]].concat() {
            if path == "/stream" {
                look.iter().for_each(|count| count.set(0));
            }
            ask(path).await;
        }
        keep.set(true);
    });
    assert!(sim.run_until(sim.now() + MINUTE, || over.get()));
    let shares = [seen[0].get(), seen[1].get()];
    assert!(shares.iter().all(|share| *share > 25), "{shares:?}");
    proxy.finish(SECOND);
}
