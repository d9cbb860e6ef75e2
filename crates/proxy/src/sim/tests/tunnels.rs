//! Streams of bytes: TCP, what detection makes of first bytes, and connections that leave HTTP.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bytes::{Talk, content};
use super::clock::{MS, SECOND, Sim};
use super::each_seed;
use super::http::{Body, Framing};
use super::network::{SimStream, Weather};
use super::proxy::Proxy;
use crate::clock::{Clock, Nanos};
use crate::io::Stream;

/// How one end of a stream behaves.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u64,
    length: usize,
    /// Breaks the stream off instead of ending it.
    resets: bool,
    /// Waits so long before each piece.
    pauses: Nanos,
}

impl Part {
    fn draw(sim: &Sim, number: u64, weather: Weather) -> Self {
        let most = (weather.window * 100).min(600_000) as u64;
        Self {
            number,
            length: sim.below(sim.one(&[1, 100, most])) as usize,
            resets: sim.once_in(5),
            pauses: sim.one(&[0, 0, MS, 30 * MS]),
        }
    }

    fn content(&self) -> Vec<u8> {
        content(self.number, self.length)
    }
}

/// What came to one end.
#[derive(Debug, Default)]
struct Got {
    bytes: Vec<u8>,
    /// The end was orderly.
    ended: bool,
    /// It is over for this end.
    over: bool,
}

/// Plays an end: sends its bytes in pieces, and keeps what comes.
fn play(sim: &Sim, mut talk: Talk, part: Part) -> Rc<RefCell<Got>> {
    let got = Rc::new(RefCell::new(Got::default()));
    let mut out = Talk::new(talk.stream.share());
    let clock = sim.clone();
    let writer = async move {
        let bytes = part.content();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            clock.sleep(clock.below(part.pauses + 1)).await;
            let most = clock.one(&[1 + rest.len() / 10, rest.len()]) as u64;
            let (piece, later) = rest.split_at(1 + clock.below(most) as usize);
            if out.write(piece).await.is_err() {
                return;
            }
            rest = later;
        }
        if !part.resets {
            out.end().await;
        }
    };
    let result = Rc::clone(&got);
    if part.resets {
        // One task, so that nothing holds on to the stream when it is broken off.
        let (clock, start) = (sim.clone(), sim.now());
        sim.spawn("end that resets", async move {
            writer.await;
            clock.sleep(clock.below(50 * MS)).await;
            talk.reset();
            assert!(clock.now() >= start);
            result.borrow_mut().over = true;
        });
    } else {
        sim.spawn("writing end", writer);
        sim.spawn("reading end", async move {
            let ended = loop {
                match talk.fill().await {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            *result.borrow_mut() = Got {
                bytes: std::mem::take(&mut talk.unread),
                ended,
                over: true,
            };
        });
    }
    got
}

/// What must hold of the two ends of one stream.
fn check(fair: bool, a: (Part, &Got), b: (Part, &Got)) {
    for ((from, _), (to, got)) in [(a, b), (b, a)] {
        if to.resets {
            continue;
        }
        assert!(
            from.content().starts_with(&got.bytes),
            "bytes differ: {from:?} to {to:?}"
        );
        if got.ended {
            assert_eq!(
                got.bytes.len(),
                from.length,
                "an end before the end: {from:?} to {to:?}"
            );
            assert!(!from.resets, "a reset became an end: {from:?} to {to:?}");
        }
        if fair && !from.resets {
            assert!(got.over && got.ended, "no end: {from:?} to {to:?}");
        }
    }
}

/// Resources with this listener, and a cluster `site` of one server.
fn resources(mut listener: Value) -> Value {
    listener["name"] = "web".into();
    listener["address"] = "127.0.0.1:80".into();
    json!({
        "listeners": [listener],
        "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
            { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
        "clusters": [{ "name": "site" }],
        "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": [{ "address": SERVER }] }] }],
    })
}

const SERVER: &str = "10.0.1.1:80";

/// Runs until all connections of clients are over, and looks at what is left.
fn finish(sim: &Sim, proxy: &Proxy) {
    let over = sim.run_until(sim.now() + 10_000 * SECOND, || proxy.open() == 0);
    assert!(over, "connections stay: {:?}", sim.running());
    sim.run_until(sim.now() + 100 * SECOND, || false);
}

fn tcp(seed: u64, weather: impl Fn(&Sim) -> Weather) {
    let sim = Sim::new(seed);
    let weather = weather(&sim);
    let fair = weather.stalls == 0 && weather.refusals == 0;
    let proxy = Proxy::new(
        &sim,
        weather,
        &resources(
            json!({ "protocol": "tcp", "tcp": [{ "cluster": "site" }], "timeouts": { "tcpIdle": "200s" } }),
        ),
    );
    let client = Part::draw(&sim, seed, weather);
    let server = Part::draw(&sim, !seed, weather);
    let served = Rc::new(RefCell::new(None));
    let (clock, keep) = (sim.clone(), Rc::clone(&served));
    proxy.net().listen(SERVER, move |stream, _| {
        *keep.borrow_mut() = Some(play(&clock, Talk::new(stream), server));
    });
    let came = play(&sim, Talk::new(proxy.connect()), client);
    if sim.once_in(10) {
        sim.run_until(sim.now() + sim.below(100 * MS), || false);
        proxy.drain(sim.below(100 * MS));
    } else {
        finish(&sim, &proxy);
    }
    let cut = proxy.is_leaving();
    proxy.end(SECOND);
    if let Some(served) = served.take() {
        check(
            fair && !cut && !client.resets && !server.resets,
            (client, &came.borrow()),
            (server, &served.borrow()),
        );
    }
    sim.forget();
}

#[test]
fn tcp_carries_every_byte_and_both_ends() {
    each_seed("tcp", 400, |seed| tcp(seed, Weather::fair));
}

#[test]
fn tcp_on_a_bad_network_carries_nothing_wrong() {
    each_seed("tcp on a bad network", 300, |seed| tcp(seed, Weather::foul));
}

/// Whoever speaks first, whatever they speak, however slowly: it comes to where it belongs.
fn detected(seed: u64) {
    let sim = Sim::new(seed);
    let weather = Weather::fair(&sim);
    let proxy = Proxy::new(
        &sim,
        weather,
        &resources(
            json!({ "routes": "main", "tcp": [{ "cluster": "site" }], "timeouts": { "header": "600s" } }),
        ),
    );
    let first = sim.one(&[
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST",
        "EHLO a\r\n",
        "\0\x01\x02",
        "PRI * HTTP/x",
        "",
    ]);
    let is_http = first.starts_with("GET");
    let speaks_first = first.is_empty() || sim.once_in(3);
    let (clock, book) = (sim.clone(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&book);
    proxy.net().listen(SERVER, move |stream, _| {
        let (clock, seen) = (clock.clone(), Rc::clone(&seen));
        clock.clone().spawn("server", async move {
            let mut talk = Talk::new(stream);
            if speaks_first {
                clock.sleep(clock.below(5 * MS)).await;
                let _ = talk.write(b"220 hello\r\n").await;
            }
            let at = seen.borrow().len();
            seen.borrow_mut().push(Vec::new());
            while talk.fill().await.is_ok_and(|n| n > 0) {
                seen.borrow_mut()[at] = talk.unread.clone();
                if talk.unread.ends_with(b"\r\n\r\n") && !speaks_first {
                    let _ = talk
                        .write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                        .await;
                }
            }
        });
    });
    let stream = proxy.connect();
    let clock = sim.clone();
    // A client that waits for a server's greeting says nothing before.
    let waits = speaks_first && (!is_http || sim.once_in(2));
    let answer = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&answer);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        if waits {
            let _ = talk
                .take_until(b"220 hello\r\n")
                .await
                .map(|greeting| keep.borrow_mut().extend(greeting));
        }
        for byte in first.as_bytes().chunks(1 + clock.below(8) as usize) {
            clock.sleep(clock.below(clock.one(&[1, 2 * MS, 40 * MS]))).await;
            if talk.write(byte).await.is_err() {
                return;
            }
        }
        if is_http
            && !waits
            && !speaks_first
            && let Ok(head) = talk.head().await
        {
            assert_eq!(head.status(), 200);
            assert_eq!(talk.body(Framing::Length, 2).await, Body::Whole(b"ok".to_vec()));
            keep.borrow_mut().extend(b"ok");
        }
        talk.end().await;
        let _ = talk.take_all().await;
    });
    finish(&sim, &proxy);
    if waits {
        assert_eq!(*answer.borrow(), b"220 hello\r\n", "{first:?}");
    }
    let seen = book.borrow();
    let came = |bytes: &[u8]| seen.iter().any(|each| each == bytes);
    match (is_http, speaks_first) {
        // A server that speaks first has made it a stream of bytes, unless the client was faster.
        (true, true) => {}
        (true, false) => {
            assert_eq!(*answer.borrow(), b"ok");
            assert!(
                seen.iter()
                    .any(|each| each.starts_with(b"GET / HTTP/1.1\r\nHost: a.test\r\nx-forwarded-for"))
            );
        }
        (false, _) => assert!(came(first.as_bytes()), "{first:?} {seen:?}"),
    }
    drop(seen);
    proxy.finish(SECOND);
}

#[test]
fn first_bytes_lead_where_they_belong() {
    each_seed("detection", 400, detected);
}

/// What a server makes of a request to leave HTTP.
async fn upgrade(
    sim: Sim,
    stream: SimStream,
    part: Part,
    granted: bool,
    got: Rc<RefCell<Option<Rc<RefCell<Got>>>>>,
) {
    let mut talk = Talk::new(stream);
    let Ok(head) = talk.head().await else { return };
    assert_eq!(
        (head.get("upgrade"), head.get("connection")),
        (Some("echo"), Some("upgrade"))
    );
    sim.sleep(sim.below(30 * MS)).await;
    assert!(talk.unread.is_empty(), "bytes came before 101");
    if granted {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        if talk.write(answer).await.is_ok() {
            *got.borrow_mut() = Some(play(&sim, talk, part));
        }
        return;
    }
    let _ = talk
        .write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .await;
    // Nothing more comes, and the connection is not kept: an idle one would be, for longer than this.
    let rest = sim.within(15 * SECOND, talk.take_all()).await;
    let rest = rest.expect("the end of a connection that is of no use any more");
    assert_eq!(rest.unwrap_or_default(), b"", "bytes behind a refused upgrade");
}

fn upgraded(seed: u64) {
    let sim = Sim::new(seed);
    let weather = Weather::fair(&sim);
    let proxy = Proxy::new(
        &sim,
        weather,
        &resources(json!({ "routes": "main", "timeouts": { "tcpIdle": "200s" } })),
    );
    let (client, server) = (Part::draw(&sim, seed, weather), Part::draw(&sim, !seed, weather));
    let granted = !sim.once_in(3);
    let served = Rc::new(RefCell::new(None));
    let (clock, keep) = (sim.clone(), Rc::clone(&served));
    proxy.net().listen(SERVER, move |stream, _| {
        clock.spawn(
            "server",
            upgrade(clock.clone(), stream, server, granted, Rc::clone(&keep)),
        );
    });
    let came = Rc::new(RefCell::new(None));
    let (stream, clock, keep) = (proxy.connect(), sim.clone(), Rc::clone(&came));
    let eager = sim.once_in(2);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        let mut bytes =
            b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n".to_vec();
        // Some do not wait for 101; these bytes belong to the new protocol, or to none.
        let early = if eager { 1 + clock.below(40) as usize } else { 0 };
        bytes.extend_from_slice(&content(7, early));
        // The proxy reads early bytes when their time has come, and the client reads meanwhile.
        let mut out = Talk::new(talk.stream.share());
        let (written, wrote) = tokio::sync::oneshot::channel();
        clock.spawn("first bytes", async move {
            let _ = written.send(out.write(&bytes).await);
        });
        let Ok(head) = talk.head().await else { return };
        assert_eq!(head.status(), if granted { 101 } else { 403 });
        if granted {
            if wrote.await.is_ok_and(|written| written.is_ok()) {
                *keep.borrow_mut() = Some((play(&clock, talk, client), early));
            }
        } else {
            assert_eq!(talk.body(Framing::Length, 2).await, Body::Whole(b"no".to_vec()));
            let more = if eager {
                talk.take_all().await.unwrap_or_default()
            } else {
                Vec::new()
            };
            assert_eq!(more, b"", "early bytes were taken for a request");
        }
    });
    finish(&sim, &proxy);
    assert_eq!(
        proxy.idle("site"),
        0,
        "a connection that was asked to leave HTTP is in the pool"
    );
    proxy.end(SECOND);
    if let (Some((came, early)), Some(served)) = (came.take(), served.take()) {
        {
            let got = &mut served.borrow_mut().bytes;
            let known = early.min(got.len());
            assert_eq!(got[..known], content(7, early)[..known]);
            got.drain(..known);
        }
        let fair = !client.resets && !server.resets;
        check(fair, (client, &came.borrow()), (server, &served.borrow()));
    }
    sim.forget();
}

#[test]
fn connections_that_leave_http_carry_every_byte() {
    each_seed("upgrades", 400, upgraded);
}

/// A client that says so much of a request at these seconds; gives when it got 408.
fn refused_at(listener: Value, words: &'static [(u64, &str)]) -> Nanos {
    let sim = Sim::new(7);
    let proxy = Proxy::new(&sim, Weather::fair(&sim), &resources(listener));
    let server = sim.clone();
    proxy.net().listen(SERVER, move |stream, _| {
        server.spawn("server", async move {
            let _ = Talk::new(stream).take_all().await;
        });
    });
    let stream = proxy.connect();
    let (clock, at) = (sim.clone(), Rc::new(RefCell::new(0)));
    let keep = Rc::clone(&at);
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        let start = clock.now();
        for (second, word) in words {
            clock.sleep(start + second * SECOND - clock.now()).await;
            talk.write(word.as_bytes()).await.unwrap();
        }
        assert_eq!(talk.head().await.unwrap().status(), 408);
        *keep.borrow_mut() = clock.now() - start;
        talk.end().await;
    });
    finish(&sim, &proxy);
    proxy.finish(SECOND);
    at.take()
}

#[test]
fn row_10_a_first_head_has_one_header_timeout_however_it_is_told_apart() {
    let words = &[(6, "G"), (9, "ET / HTTP/1.1\r\nHost: a.test\r\n")];
    for protocol in ["auto", "http1"] {
        let listener = json!({ "routes": "main", "protocol": protocol, "timeouts": { "header": "10s" } });
        let at = refused_at(listener, words);
        assert!((10 * SECOND..11 * SECOND).contains(&at), "{protocol}: {at}");
    }
    // Who waited for a server to speak first begins when it gives that up.
    let listener =
        json!({ "routes": "main", "tcp": [{ "cluster": "site" }], "timeouts": { "header": "10s" } });
    let at = refused_at(listener, &[(60, "G"), (69, "ET / HTTP/1.1\r\n")]);
    assert!((70 * SECOND..71 * SECOND).contains(&at), "{at}");
}

/// How long after a client connected to a listener its server was called, when the client says this after so long.
fn called_after(listener: Value, words: &'static [(Nanos, &str)]) -> Option<Nanos> {
    let sim = Sim::new(7);
    let proxy = Proxy::new(&sim, Weather::CALM, &resources(listener));
    let called = Rc::new(RefCell::new(None));
    let (clock, keep) = (sim.clone(), Rc::clone(&called));
    proxy.net().listen(SERVER, move |stream, _| {
        keep.borrow_mut().get_or_insert(clock.now());
        clock.spawn("server", async move {
            let _ = Talk::new(stream).take_all().await;
        });
    });
    let (stream, start, clock) = (proxy.connect(), sim.now(), sim.clone());
    sim.spawn("client", async move {
        let mut talk = Talk::new(stream);
        for (at, word) in words {
            clock.sleep(start + at - clock.now()).await;
            talk.write(word.as_bytes()).await.unwrap();
        }
        clock.sleep(start + SECOND - clock.now()).await;
        talk.end().await;
    });
    finish(&sim, &proxy);
    proxy.finish(SECOND);
    called.take().map(|at: Nanos| at - start)
}

#[test]
fn a_server_is_called_when_its_client_was_silent_for_ten_milliseconds() {
    let after = |words| called_after(json!({ "routes": "main", "tcp": [{ "cluster": "site" }] }), words);
    // It may be that the server speaks first.
    assert_eq!(after(&[]), Some(10 * MS));
    assert_eq!(after(&[(10 * MS + 1, "EHLO a\r\n")]), Some(10 * MS));
    // A client that spoke in time is listened to: what it speaks decides.
    assert_eq!(after(&[(10 * MS - 1, "\0\x01\x02")]), Some(10 * MS - 1));
    let request = &[
        (10 * MS - 1, "G"),
        (30 * MS, "ET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ];
    assert_eq!(after(request), Some(30 * MS));
    assert_eq!(after(&[(10 * MS - 1, "G")]), Some(SECOND));
}

#[test]
fn where_only_http_is_served_a_silent_client_calls_nobody() {
    let after = |words| called_after(json!({ "routes": "main" }), words);
    assert_eq!(after(&[]), None);
    assert_eq!(after(&[(900 * MS, "G")]), None);
    let request = &[(900 * MS, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")];
    assert_eq!(after(request), Some(900 * MS));
}

/// How long after one side of a stream has broken it off the other has heard of it, when nobody reads the one because it
/// had ended its side before or, without an end, because the other takes no more.
fn heard_after(seed: u64, client_breaks: bool, ends: bool) -> Nanos {
    let sim = Sim::new(seed);
    let proxy = Proxy::new(
        &sim,
        Weather::CALM,
        &resources(json!({ "protocol": "tcp", "tcp": [{ "cluster": "site" }] })),
    );
    let server = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&server);
    proxy
        .net()
        .listen(SERVER, move |stream, _| *keep.borrow_mut() = Some(stream));
    let client = proxy.connect();
    sim.run_until(sim.now() + SECOND, || server.borrow().is_some());
    let server = server.take().unwrap();
    let (breaks, hears) = if client_breaks {
        (client, server)
    } else {
        (server, client)
    };
    let mut talk = Talk::new(breaks.share());
    let writer = async move {
        if ends {
            talk.end().await;
        } else {
            // It comes to an end with the stream.
            while talk.write(&[0; 1024]).await.is_ok() {}
        }
    };
    sim.spawn("writer", writer);
    sim.run_until(sim.now() + 10 * SECOND, || false);
    let (start, heard) = (sim.now(), Rc::new(RefCell::new(None)));
    breaks.break_off();
    let (clock, keep) = (sim.clone(), Rc::clone(&heard));
    sim.spawn("watcher", async move {
        Stream::failed(&hears).await;
        *keep.borrow_mut() = Some(clock.now() - start);
    });
    sim.run_until(start + 100 * SECOND, || {
        heard.borrow().is_some() && proxy.open() == 0
    });
    proxy.finish(SECOND);
    heard.take().expect("the other side hears of it")
}

#[test]
fn a_reset_comes_through_though_nobody_reads() {
    each_seed("resets", 20, |seed| {
        for (client_breaks, ends) in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(
                heard_after(seed, client_breaks, ends),
                0,
                "{client_breaks} {ends}"
            );
        }
    });
}
