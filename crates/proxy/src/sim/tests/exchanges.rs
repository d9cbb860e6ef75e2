//! Requests of every kind, servers that behave and servers that do not.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::bytes::{Talk, content};
use super::clock::{SECOND, Sim};
use super::each_seed;
use super::http::{Body, Framing, Head};
use super::network::{SimStream, Weather};
use super::plan::{Deed, Plan};
use super::proxy::Proxy;
use crate::clock::Clock;

/// All that clients and servers know of each other.
struct Book {
    sim: Sim,
    plans: RefCell<HashMap<u64, Plan>>,
    /// How often each request's head came to a server.
    seen: RefCell<HashMap<u64, u32>>,
    /// Some server closes when it likes: what can't be repeated may fail.
    races: bool,
    fair: bool,
    answered: Cell<u32>,
    clients: Cell<usize>,
}

/// A server's side of a connection.
async fn serve(book: Rc<Book>, stream: SimStream) {
    let mut talk = Talk::new(stream);
    let mut spoilt = false;
    let sim = book.sim.clone();
    loop {
        let Ok(head) = talk.head().await else { return };
        let path = head.start.split(' ').nth(1).unwrap_or_default();
        let id: u64 = path.trim_start_matches('/').parse().expect("an id");
        let plan = book.plans.borrow()[&id];
        assert!(!spoilt, "request {id} on a connection that was spoilt: {plan:?}");
        assert_eq!(head.method(), plan.method);
        assert_eq!(head.get("x-forwarded-for"), Some("10.0.0.1"));
        let seen = {
            let mut seen = book.seen.borrow_mut();
            let seen = seen.entry(id).or_default();
            *seen += 1;
            *seen
        };
        assert!(
            seen <= if plan.is_safe() { 3 } else { 1 },
            "sent {seen} times: {plan:?}"
        );
        sim.sleep(plan.thinks).await;
        let framing = head.framing();
        let length = head.number("content-length").unwrap_or(0);
        let body = match plan.deed {
            Deed::Early | Deed::EarlyCloses => None,
            _ => Some(talk.body(framing, length).await),
        };
        match body {
            Some(Body::Whole(body)) => {
                assert!(body == content(id, plan.request_length), "the body of {plan:?}")
            }
            // The client or the proxy gave up.
            Some(Body::Cut(part)) => {
                assert!(
                    content(id, plan.request_length).starts_with(&part),
                    "the body of {plan:?}"
                );
                return;
            }
            None => {}
        }
        let bytes = plan.response_bytes(&sim);
        let part = bytes
            .len()
            .saturating_sub(1 + sim.below(plan.response_length as u64 / 2 + 1) as usize);
        spoilt |= plan.deed.spoils() || plan.response == Framing::Close && !plan.bodiless();
        match plan.deed {
            Deed::Hangs => return,
            Deed::Silent => {
                let _ = talk.take_all().await;
                return;
            }
            Deed::Garbles => {
                let _ = talk.write(b"SSH-2.0-OpenSSH\r\n\r\n").await;
                let _ = talk.take_all().await;
                return;
            }
            Deed::Cuts | Deed::Breaks => {
                let _ = talk.write(&bytes[..part]).await;
                if plan.deed == Deed::Breaks {
                    talk.reset();
                }
                return;
            }
            Deed::Extra => {
                talk.stream
                    .send_together(&[&bytes[..], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"].concat());
                if plan.response == Framing::Close && !plan.bodiless() {
                    return;
                }
                continue;
            }
            _ => {}
        }
        if talk.write(&bytes).await.is_err() {
            return;
        }
        match plan.deed {
            Deed::Closes | Deed::EarlyCloses => return,
            Deed::ClosesLater(span) => {
                sim.sleep(span).await;
                return;
            }
            Deed::Early => {
                if let Body::Cut(_) = talk.body(framing, length).await {
                    return;
                }
            }
            _ => {}
        }
        if plan.response == Framing::Close && !plan.bodiless() {
            return;
        }
    }
}

/// Writes requests; a sequential client waits for a word before each but the first.
async fn write_all(
    book: Rc<Book>,
    stream: SimStream,
    plans: Vec<Plan>,
    mut turn: Option<UnboundedReceiver<()>>,
    ends: bool,
) {
    let mut talk = Talk::new(stream);
    for (at, plan) in plans.iter().enumerate() {
        if let (Some(turn), 1..) = (&mut turn, at)
            && turn.recv().await.is_none()
        {
            return;
        }
        let bytes = plan.request_bytes(&book.sim);
        if talk.write(&bytes).await.is_err() {
            return;
        }
    }
    if ends {
        talk.end().await;
    }
}

/// A client: sends its requests and looks at what comes back.
async fn client(book: Rc<Book>, proxy: Rc<Proxy>, stream: SimStream, plans: Vec<Plan>, pipelined: bool) {
    let sim = book.sim.clone();
    let (say, turn) = unbounded_channel();
    let ends = pipelined && sim.once_in(2);
    let writer = write_all(
        Rc::clone(&book),
        stream.share(),
        plans.clone(),
        (!pipelined).then_some(turn),
        ends,
    );
    sim.spawn("writer", writer);
    let mut talk = Talk::new(stream);
    let mut cut_short = false;
    for plan in &plans {
        // A response that came before the whole request ends the connection.
        let excused = !book.fair
            || std::mem::replace(&mut cut_short, plan.is_early())
            // Who ended its side and is told nothing is taken to have gone.
            || ends && plan.deed == Deed::Silent;
        let mut head = Head::default();
        let came = loop {
            match talk.head().await {
                Ok(next) if next.status() < 200 => {
                    assert_eq!(plan.version, "HTTP/1.1", "1xx for {plan:?}");
                }
                Ok(next) => {
                    head = next;
                    break true;
                }
                Err(_) => break false,
            }
        };
        if !came {
            assert!(excused || proxy.is_leaving(), "no response to {plan:?}");
            return;
        }
        let made_here = head.get("proxy-status").is_some();
        let status = head.status();
        let framing = match head.framing() {
            _ if plan.method == "HEAD" || matches!(status, 204 | 304) => Framing::None,
            Framing::None => Framing::Close,
            framing => framing,
        };
        let body = talk
            .body(framing, head.number("content-length").unwrap_or(0))
            .await;
        if made_here {
            assert!(matches!(status, 400..=599), "{head:?}");
            let failed_race = book.races && !(plan.is_safe() && plan.request_length == 0);
            let allowed = !book.fair || !plan.is_good() || failed_race || proxy.is_cut();
            assert!(allowed, "{head:?} for {plan:?}");
        } else {
            assert_eq!(head.number("x-id"), Some(plan.id), "{head:?} for {plan:?}");
            assert_eq!(status, plan.status);
            let want = if plan.bodiless() {
                Vec::new()
            } else {
                content(!plan.id, plan.response_length)
            };
            match body {
                Body::Whole(body) => assert!(
                    body == want || plan.response == Framing::Close && plan.deed.blurs_the_end(),
                    "{} bytes instead of {} for {plan:?}",
                    body.len(),
                    want.len()
                ),
                Body::Cut(part) => {
                    assert!(want.starts_with(&part), "{plan:?}");
                    assert!(!book.fair || !plan.is_good() || proxy.is_cut(), "cut: {plan:?}");
                    return;
                }
            }
        }
        book.answered.set(book.answered.get() + 1);
        if head.says_close() || framing == Framing::Close {
            return;
        }
        let _ = say.send(());
    }
}

fn run(seed: u64, weather: impl Fn(&Sim) -> Weather, good: bool) -> u32 {
    let sim = Sim::new(seed);
    let weather = weather(&sim);
    let fair = weather.stalls == 0 && weather.refusals == 0;
    let servers = 1 + sim.below(3);
    let addresses: Vec<_> = (0..servers).map(|n| format!("10.0.1.{n}:80")).collect();
    let proxy = Proxy::new(
        &sim,
        weather,
        &json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "routes": "main",
                "timeouts": { "streamIdle": "5s", "request": "30s", "idle": "20s" } }],
            "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
                { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
            "clusters": [{ "name": "site", "limits": { "idleConnections": sim.one(&[0, 1, 100]) } }],
            "endpoints": [{ "cluster": "site", "localities": [{ "endpoints":
                addresses.iter().map(|address| json!({ "address": address })).collect::<Vec<_>>() }] }],
        }),
    );
    let plans: Vec<_> = (1..=1 + sim.below(12))
        .map(|id| Plan::draw(&sim, seed * 100 + id, weather.window, good))
        .collect();
    let book = Rc::new(Book {
        sim: sim.clone(),
        plans: RefCell::new(plans.iter().map(|plan| (plan.id, *plan)).collect()),
        seen: RefCell::default(),
        races: plans.iter().any(|plan| {
            matches!(
                plan.deed,
                Deed::Closes | Deed::ClosesLater(_) | Deed::EarlyCloses | Deed::Hangs
            )
        }),
        fair,
        answered: Cell::new(0),
        clients: Cell::new(0),
    });
    for address in &addresses {
        let (book, sim) = (Rc::clone(&book), sim.clone());
        proxy.net().listen(address, move |stream, number| {
            sim.spawn(format!("server {number}"), serve(Rc::clone(&book), stream));
        });
    }
    let clients = 1 + sim.below(3) as usize;
    for mine in plans.chunks(plans.len().div_ceil(clients)) {
        let stream = proxy.connect();
        let client = client(
            Rc::clone(&book),
            Rc::clone(&proxy),
            stream.share(),
            mine.to_vec(),
            sim.once_in(2),
        );
        // Some lose interest.
        let patience = if !good && sim.once_in(4) {
            sim.below(SECOND)
        } else {
            crate::clock::NEVER / 2
        };
        let clock = sim.clone();
        let book = Rc::clone(&book);
        book.clients.set(book.clients.get() + 1);
        sim.spawn("client", async move {
            if clock.within(patience, client).await.is_none() {
                stream.break_off();
            }
            book.clients.set(book.clients.get() - 1);
        });
    }
    let drains = !good && sim.once_in(3);
    if drains {
        sim.run_until(sim.now() + sim.below(2 * SECOND), || false);
        proxy.lame_duck();
        sim.run_until(sim.now() + sim.below(SECOND), || false);
        proxy.drain(sim.below(3 * SECOND));
        proxy.finish(0);
        return book.answered.get();
    }
    // What a bad network holds back, clients may wait for until the end of days.
    let gone = || proxy.open() == 0 && (book.clients.get() == 0 || !fair);
    let over = sim.run_until(sim.now() + 1_000 * SECOND, gone);
    assert!(over, "connections stay: {:?}", sim.running());
    proxy.finish(SECOND);
    book.answered.get()
}

#[test]
fn on_a_good_network_every_request_is_answered_whole() {
    let answered = Cell::new(0);
    each_seed("good", 300, |seed| {
        answered.set(answered.get() + run(seed, Weather::fair, true));
    });
    assert!(answered.get() > 0);
}

#[test]
fn bad_servers_cost_their_own_requests_only() {
    each_seed("bad servers", 300, |seed| {
        run(seed, Weather::fair, false);
    });
}

#[test]
fn on_a_bad_network_what_comes_is_right() {
    each_seed("bad network", 300, |seed| {
        run(seed, Weather::foul, false);
    });
}
