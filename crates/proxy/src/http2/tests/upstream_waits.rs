//! What requests to HTTP/2 servers wait for, and how long.

use super::client::{Caller, receive};
use super::upstream::{http2, response};
use super::*;

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::exchange::message::{Length, Upstream};
use crate::http2::client_stream::ClientStream;

#[tokio::test]
async fn a_request_without_a_body_may_be_answered_as_late_as_one_with_a_body() {
    const LATE: Duration = Duration::from_secs(2);
    let server = http2_server(Builder::new(), |_, mut respond: SendResponse<Bytes>| async move {
        tokio::time::sleep(LATE).await;
        let _ = respond.send_response(response(200), true);
    })
    .await;
    let listener = json!({ "timeouts": { "request": "10m", "streamIdle": "1s" } });
    let front = front_of(&[server], http2(), listener);
    let mut send = connect(front.address).await;
    let mut other = send.clone().ready().await.unwrap();
    let (with_body, mut body) = other.send_request(get("/"), false).unwrap();
    body.send_data("body".into(), true).unwrap();
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
    assert_eq!(with_body.await.unwrap().status(), 200);
}

/// Streams that a server has not answered, by their paths, and which server that is.
type Held = Arc<Mutex<Vec<(String, usize, oneshot::Sender<()>)>>>;

/// A server that answers a stream when it is let go.
async fn holding(number: usize, held: &Held) -> SocketAddr {
    let held = Arc::clone(held);
    http2_server(
        Builder::new(),
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let (go, gone) = oneshot::channel();
            let path = request.uri().path().to_owned();
            held.lock().unwrap().push((path, number, go));
            async move {
                let _ = gone.await;
                let _ = respond.send_response(response(200), true);
            }
        },
    )
    .await
}

#[tokio::test]
async fn a_place_that_comes_free_is_for_those_who_wait_for_its_server() {
    let held = Held::default();
    let servers = [holding(0, &held).await, holding(1, &held).await];
    let cluster = json!({
        "protocol": "http2",
        "balancer": { "kind": "roundRobin" },
        "limits": { "streamsPerConnection": 2, "connections": 2 },
        "timeouts": { "connect": "10m" },
    });
    let front = front_of(&servers, cluster, json!({}));
    let send = connect(front.address).await;
    let ask = |path: &'static str| {
        let mut send = send.clone();
        tokio::spawn(async move { fetch(&mut send, get(path)).await.unwrap().status() })
    };
    let mut calls = Vec::new();
    for (n, path) in ["/1", "/2", "/3", "/4"].into_iter().enumerate() {
        calls.push(ask(path));
        eventually("it is there", || held.lock().unwrap().len() == n + 1).await;
    }
    // The servers take turns: the first that waits does so for that of `/1`, the next for that of `/2`.
    let first = ask("/5");
    eventually("one waits", || front.cluster_limit(Limit::Connections) == 1).await;
    let next = ask("/6");
    eventually("two wait", || front.cluster_limit(Limit::Connections) == 2).await;
    let let_go = |path: &str| {
        let mut held = held.lock().unwrap();
        let at = held.iter().position(|(is, ..)| is == path).unwrap();
        let (_, server, go) = held.swap_remove(at);
        go.send(()).unwrap();
        server
    };
    let free = let_go("/2");
    let here = |path: &str| {
        let held = held.lock().unwrap();
        let mut held = held.iter();
        held.find(|(is, ..)| is == path).map(|(_, server, _)| *server)
    };
    eventually("the next has the place", || here("/6") == Some(free)).await;
    assert_eq!(here("/5"), None);
    let_go("/1");
    eventually("the first has one as well", || here("/5") == Some(1 - free)).await;
    for path in ["/3", "/4", "/5", "/6"] {
        let_go(path);
    }
    for call in calls.into_iter().chain([first, next]) {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn more_streams_than_a_connection_was_made_for_hold_each_other_up_as_little() {
    let server = http2_server(
        Builder::new(),
        |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
            let mut stream = respond.send_response(response(200), false).unwrap();
            // More than the window of a stream.
            let length = if request.uri().path() == "/large" {
                1 << 20
            } else {
                1
            };
            let _ = stream.send_data(vec![b'x'; length].into(), true);
        },
    )
    .await;
    let test = async {
        let caller = Caller::new(server, 1);
        caller.call().await.unwrap();
        let start = |path: &'static [u8]| {
            let seat = caller.connections.take(&caller.endpoint, 100).unwrap();
            ClientStream::start(seat, false, Length::None, 128, |head| {
                head.request(b"GET", b"http", b"a.test", path, false);
            })
            .unwrap()
        };
        let mut unread: Vec<_> = (0..6).map(|_| start(b"/large")).collect();
        for stream in &mut unread {
            poll_fn(|cx| stream.poll_head(cx)).await.unwrap();
        }
        let (status, body, _) = receive(&mut start(b"/small")).await.unwrap();
        assert_eq!((status, body.len()), (200, 1));
    };
    LocalSet::new().run_until(test).await;
}
