//! What requests to HTTP/2 servers may hold and wait for, and who pays for a slow one.

use super::upstream::{call, echo, http2, lenient, response};
use super::*;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use mesh_model::errors::Reason;

#[tokio::test]
async fn a_slow_reader_slows_an_http2_server() {
    const TOTAL: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let handler = {
        let written = Arc::clone(&written);
        move |_, mut respond: SendResponse<Bytes>| {
            let written = Arc::clone(&written);
            async move {
                let mut stream = respond.send_response(response(200), false).unwrap();
                while written.load(SeqCst) < TOTAL {
                    stream.reserve_capacity(64 * 1024);
                    let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                        return;
                    };
                    stream.send_data(vec![b'x'; room].into(), false).unwrap();
                    written.fetch_add(room, SeqCst);
                }
                stream.send_data(Bytes::new(), true).unwrap();
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    let (answer, _) = send.send_request(get("/"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut seen = 0;
    while seen < 65_535 {
        seen += body.data().await.unwrap().unwrap().len();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        written.load(SeqCst) < 1 << 20,
        "{} bytes were taken while nobody read",
        written.load(SeqCst)
    );
    body.flow_control().release_capacity(seen).unwrap();
    while let Some(piece) = body.data().await {
        let n = piece.unwrap().len();
        seen += n;
        body.flow_control().release_capacity(n).unwrap();
    }
    assert!(seen >= TOTAL);
}

/// A server whose streams wait until they are let go.
async fn waiting() -> (SocketAddr, tokio::sync::watch::Sender<bool>, Arc<AtomicUsize>) {
    let (go, gone) = tokio::sync::watch::channel(false);
    let here = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&here);
    let address = http2_server(Builder::new(), move |_, mut respond: SendResponse<Bytes>| {
        let mut gone = gone.clone();
        counted.fetch_add(1, SeqCst);
        async move {
            gone.wait_for(|go| *go).await.unwrap();
            // The client may have gone.
            let _ = respond.send_response(response(200), true);
        }
    })
    .await;
    (address, go, here)
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_open_others() {
    let (address, go, here) = waiting().await;
    let cluster = json!({ "protocol": "http2", "limits": { "streamsPerConnection": 10 } });
    let front = front_of(&[address], cluster, json!({}));
    let send = connect(front.address).await;
    let calls: Vec<_> = (0..35)
        .map(|_| {
            let mut send = send.clone();
            tokio::spawn(async move { fetch(&mut send, get("/")).await.unwrap().status() })
        })
        .collect();
    eventually("all are there", || here.load(SeqCst) == 35).await;
    assert_eq!(front.connections().0, 4);
    go.send(true).unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_server_of_few_streams_loses_no_request_of_a_burst() {
    let server = Builder::new().max_concurrent_streams(10).clone();
    let handler = |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
        // Others are to come meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(request);
        respond.send_response(response(200), true).unwrap();
    };
    let front = front_of(&[http2_server(server, handler).await], http2(), json!({}));
    let send = connect(front.address).await;
    for _ in 0..2 {
        let calls: Vec<_> = (0..90)
            .map(|_| {
                let send = send.clone();
                tokio::spawn(async move {
                    let mut send = send.ready().await.unwrap();
                    let (answer, mut stream) = send.send_request(call("/"), false).unwrap();
                    stream.send_data("body".into(), true).unwrap();
                    answer.await.unwrap().status()
                })
            })
            .collect();
        for call in calls {
            let status = tokio::time::timeout(PATIENCE, call).await;
            assert_eq!(status.expect("an answer in time").unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn the_first_request_does_not_wait_until_a_server_has_spoken() {
    let address = scripted(|mut socket| async move {
        let mut seen = Vec::new();
        let has_head = |seen: &[u8]| {
            let mut rest = seen.get(24..).unwrap_or_default();
            while let Some(frame) = mesh_http2::frame::Frame::parse(rest) {
                if frame.kind == mesh_http2::frame::Kind::Headers {
                    return true;
                }
                rest = rest.get(9 + frame.length as usize..).unwrap_or_default();
            }
            false
        };
        while !has_head(&seen) {
            if socket.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        // `:status: 200`, and the end.
        let answer = [frame(4, 0, 0, &[]), frame(1, 5, 1, &[0x88])].concat();
        socket.write_all(&answer).await.unwrap();
        let _ = socket.read_to_end(&mut seen).await;
    })
    .await;
    let front = front_of(&[address], http2(), json!({}));
    let mut send = connect(front.address).await;
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_server_that_lets_no_stream_be_open_is_waited_for_and_not_called_again() {
    let server = Builder::new().max_concurrent_streams(0).clone();
    let address = http2_server(server, |_, _| async {}).await;
    let cluster = json!({ "protocol": "http2", "timeouts": { "connect": "200ms" } });
    let front = front_of(&[address], cluster, json!({}));
    let mut send = connect(front.address).await;
    let refused = fetch(&mut send, get("/")).await.unwrap();
    let status = refused.head.headers["proxy-status"].to_str().unwrap();
    assert!(
        refused.status() == 503 && status.contains("upstream_full"),
        "{status}"
    );
    assert_eq!(front.connections().0, 1);
    assert_eq!(front.cluster_limit(Limit::Connections), 0);
}

#[tokio::test]
async fn a_server_that_lets_no_stream_be_open_is_not_waited_for_where_there_is_another() {
    let full = Builder::new().max_concurrent_streams(0).clone();
    let full = http2_server(full, |_, _| async {}).await;
    let well = http2_server(Builder::new(), echo).await;
    let cluster = json!({
        "protocol": "http2",
        "balancer": { "kind": "roundRobin" },
        "timeouts": { "connect": "10m" },
    });
    let front = front_of(&[full, well], cluster, json!({}));
    let mut send = connect(front.address).await;
    for _ in 0..20 {
        assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
    }
    assert_eq!(front.connections().0, 2);
}

#[tokio::test]
async fn a_server_that_never_speaks_is_not_waited_for_long() {
    let address = scripted(|mut socket| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let cluster = json!({ "protocol": "http2", "timeouts": { "connect": "50ms" } });
    let front = front_of(&[address], cluster, json!({}));
    let send = connect(front.address).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut send = send.clone();
        calls.spawn(async move { fetch(&mut send, get("/")).await.unwrap() });
    }
    // One of them has the only place; the other is told, since the only server is out by then.
    let told = calls.join_next().await.unwrap().unwrap();
    let status = told.head.headers["proxy-status"].to_str().unwrap();
    assert!(
        told.status() == 504 && status.contains("connect_timeout"),
        "{status}"
    );
    assert_eq!(front.connections().0, 1);
}

#[tokio::test]
async fn a_server_that_never_speaks_is_left() {
    let hangs = scripted(|mut socket| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let well = http2_server(Builder::new(), echo).await;
    let cluster = json!({
        "protocol": "http2",
        "balancer": { "kind": "roundRobin" },
        "timeouts": { "connect": "50ms" },
    });
    let listener = json!({ "timeouts": { "request": "300ms" } });
    let front = front_of(&[hangs, well], cluster, listener);
    let mut send = connect(front.address).await;
    let mut late = 0;
    for _ in 0..40 {
        late += u32::from(fetch(&mut send, get("/")).await.unwrap().status() != 200);
    }
    // One that was sent at once, and a probe now and then; in turn it would be half of them.
    assert!((1..10).contains(&late), "{late}");
    let report = front.proxy.look();
    let site = report.clusters.iter().find(|(name, _)| name.as_str() == "site");
    let failed: Vec<_> = site.unwrap().1.failed.iter().map(|(reason, _)| reason).collect();
    assert_eq!(failed, [Reason::ConnectTimeout]);
}

#[tokio::test]
async fn an_http1_server_that_is_asked_for_grpc_stays_in() {
    let closes = scripted(|mut socket| async move {
        read_until(&mut socket, "SM").await;
    })
    .await;
    let hangs = scripted(|mut socket| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for server in [closes, hangs] {
        let cluster = json!({ "protocol": "auto", "timeouts": { "connect": "50ms" } });
        let front = front_of(&[server], cluster, json!({ "timeouts": { "request": "200ms" } }));
        let mut send = connect(front.address).await;
        let answer = fetch(&mut send, call("/")).await.unwrap();
        assert_ne!(answer.head.headers["grpc-status"], "0");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let endpoints = front.proxy.look().endpoints;
        assert!(endpoints.iter().all(|endpoint| endpoint.connect_failures == 0));
    }
}

#[tokio::test]
async fn requests_wait_for_room_and_not_more_than_may() {
    let (address, go, here) = waiting().await;
    let cluster = json!({
        "protocol": "http2",
        "limits": { "streamsPerConnection": 2, "connections": 2, "pendingRequests": 4 },
        "timeouts": { "connect": "30s" },
    });
    let front = front_of(&[address], cluster, json!({}));
    let send = connect(front.address).await;
    let ask = || {
        let mut send = send.clone();
        tokio::spawn(async move { fetch(&mut send, get("/")).await.unwrap() })
    };
    let mut calls: Vec<_> = (0..4).map(|_| ask()).collect();
    eventually("the connections are full", || here.load(SeqCst) == 4).await;
    let misses = front.connections().3;
    calls.extend((0..4).map(|_| ask()));
    eventually("four wait", || front.connections().3 == misses + 4).await;
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 503);
    let status = refused.head.headers["proxy-status"].to_str().unwrap();
    assert!(status.contains("upstream_overflow"), "{status}");
    go.send(true).unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    assert_eq!((front.connections().0, here.load(SeqCst)), (2, 8));
}

#[tokio::test]
async fn threads_take_turns_where_one_connection_is_allowed() {
    let address = http2_server(Builder::new(), echo).await;
    let cluster = json!({ "protocol": "http2", "limits": { "connections": 1 } });
    let front = front_on(4, &[address], cluster, json!({}));
    let calls: Vec<_> = (0..60)
        .map(|_| {
            let address = front.address;
            tokio::spawn(async move {
                let mut send = connect(address).await;
                fetch(&mut send, get("/")).await.unwrap().status()
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn what_is_idle_on_another_thread_is_given_up_at_once() {
    for (server, protocol) in [
        (http2_server(Builder::new(), echo).await, "http2"),
        (hello().await, "http1"),
    ] {
        let cluster = json!({
            "protocol": protocol,
            "limits": { "connections": 1 },
            "timeouts": { "connect": "500ms" },
        });
        let front = front_on(4, &[server], cluster, json!({}));
        for _ in 0..40 {
            let mut send = connect(front.address).await;
            let answer = fetch(&mut send, get("/")).await.unwrap();
            assert_eq!(answer.status(), 200, "{protocol}");
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_room_does_so_for_a_while() {
    let (address, _go, here) = waiting().await;
    let cluster = json!({
        "protocol": "http2",
        "limits": { "streamsPerConnection": 1, "connections": 1 },
        "timeouts": { "connect": "50ms" },
    });
    let front = front_of(&[address], cluster, json!({}));
    let mut send = connect(front.address).await;
    let (_held, _) = send.send_request(get("/"), true).unwrap();
    eventually("the connection is full", || here.load(SeqCst) == 1).await;
    let refused = fetch(&mut send, get("/")).await.unwrap();
    let status = refused.head.headers["proxy-status"].to_str().unwrap();
    assert!(
        refused.status() == 503 && status.contains("connection_limit"),
        "{status}"
    );
    // Who leaves meanwhile is not asked for.
    let mut ready = send.clone().ready().await.unwrap();
    drop(ready.send_request(get("/"), true).unwrap());
    assert_eq!(fetch(&mut send, get("/here")).await.unwrap().status(), 200);
    assert_eq!(here.load(SeqCst), 1);
}

#[tokio::test]
async fn another_endpoint_is_asked_when_one_can_not_be_reached() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let upstream = http2_server(Builder::new(), echo).await;
    let front = front_of(&[gone, upstream], http2(), json!({}));
    let mut send = connect(front.address).await;
    for _ in 0..20 {
        assert_eq!(fetch(&mut send, call("/")).await.unwrap().status(), 200);
    }
    let all_gone = front_of(&[gone], http2(), json!({}));
    let mut send = connect(all_gone.address).await;
    let answer = fetch(&mut send, call("/")).await.unwrap();
    assert_eq!(answer.head.headers["grpc-status"], "14");
}

#[tokio::test]
async fn deadlines_of_callers_are_kept() {
    let (address, _go, here) = waiting().await;
    let front = front_of(&[address], http2(), json!({}));
    let mut send = connect(front.address).await;
    let mut late = call("/late");
    late.headers_mut().insert("grpc-timeout", "60m".parse().unwrap());
    let answer = fetch(&mut send, late).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.head.headers["grpc-status"]),
        (200, &"4".parse().unwrap())
    );
    assert_eq!(answer.head.headers["grpc-message"], "The response took too long.");
    assert_eq!(here.load(SeqCst), 1);
    eventually("it is counted", || front.grpc_statuses() == [(Some(4), 1)]).await;
}

#[tokio::test]
async fn bodies_have_their_limit() {
    let front = front_of(
        &[http2_server(Builder::new(), echo).await],
        http2(),
        json!({ "limits": { "requestBodyBytes": 1000 } }),
    );
    let mut send = connect(front.address).await;
    for (announced, size, status) in [(true, 1000, 200), (true, 1001, 413), (false, 1000, 200)] {
        let mut ready = send.clone().ready().await.unwrap();
        let mut request = call("/");
        request.headers_mut().remove("content-type");
        if announced {
            request.headers_mut().insert("content-length", size.into());
        }
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(vec![b'x'; size].into(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{size}");
    }
    // Without a length it is only known when it comes.
    let mut ready = send.clone().ready().await.unwrap();
    let (answer, mut stream) = ready.send_request(call("/"), false).unwrap();
    stream.send_data(vec![b'x'; 1001].into(), false).unwrap();
    let whole = Whole::read(answer.await.unwrap()).await.unwrap();
    let status = whole.head.headers.get("grpc-status").cloned();
    let status = status.unwrap_or_else(|| whole.trailers.unwrap()["grpc-status"].clone());
    assert_eq!(status, "8");
    assert_eq!(front.limit(Limit::RequestBodyBytes), 2);
    assert_eq!(fetch(&mut send, get("/here")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn plaintext_of_either_version_is_http1_but_for_grpc() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let upstream = {
        let seen = Arc::clone(&seen);
        scripted(move |mut socket| {
            let seen = Arc::clone(&seen);
            async move {
                let text = read_until(&mut socket, "\r\n\r\n").await;
                seen.lock()
                    .unwrap()
                    .push(text.get(..14).unwrap_or_default().to_owned());
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        })
        .await
    };
    let front = front_of(&[upstream], json!({ "protocol": "auto" }), json!({}));
    let mut send = connect(front.address).await;
    assert_eq!(fetch(&mut send, get("/a")).await.unwrap().status(), 200);
    let call = fetch(&mut send, call("/b")).await.unwrap();
    assert_eq!(call.head.headers["grpc-status"], "14");
    assert_eq!(*seen.lock().unwrap(), ["GET /a HTTP/1.", "PRI * HTTP/2.0"]);
}

#[tokio::test]
async fn many_small_messages_that_a_slow_caller_leaves_cost_others_nothing() {
    /// More than `h2` lets wait on a connection; less than a stream's window.
    const MESSAGES: usize = 12_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let handler = {
        let sent = Arc::clone(&sent);
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let sent = Arc::clone(&sent);
            async move {
                let mut stream = respond.send_response(response(200), false).unwrap();
                if request.uri().path() != "/messages" {
                    return stream.send_data("hello".into(), true).unwrap();
                }
                // Beside the client's window there are those of the proxy and what it has queued.
                for n in 0..MESSAGES * 4 {
                    stream.reserve_capacity(10);
                    if stream.capacity() < 10 {
                        let Some(Ok(_)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                            return;
                        };
                    }
                    let message = format!("{n:010}");
                    stream.send_data(message.into(), false).unwrap();
                    sent.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
                stream.send_data(Bytes::new(), true).unwrap();
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut slow = lenient(front.address).await;
    let (answer, _) = slow.send_request(get("/messages"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    eventually("the windows are full", || sent.load(SeqCst) > MESSAGES).await;
    let mut other = connect(front.address).await;
    assert_eq!(fetch(&mut other, get("/")).await.unwrap().body, b"hello");
    let mut seen = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        seen.extend_from_slice(&piece);
    }
    assert_eq!(seen.len(), MESSAGES * 4 * 10);
    let in_order = seen
        .chunks(10)
        .enumerate()
        .all(|(n, message)| message == format!("{n:010}").as_bytes());
    assert!(in_order);
    assert_eq!(front.connections().0, 1);
}

#[tokio::test]
async fn empty_frames_wear_no_connection_out() {
    let handler = |_, mut respond: SendResponse<Bytes>| async move {
        let mut stream = respond.send_response(response(200), false).unwrap();
        // An empty frame that ends nothing, as servers send that flush.
        stream.send_data(Bytes::new(), false).unwrap();
        stream.send_data("hello".into(), true).unwrap();
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await;
    for _ in 0..300 {
        assert_eq!(fetch(&mut send, get("/")).await.unwrap().body, b"hello");
    }
    assert_eq!(front.connections().0, 1);
}

#[tokio::test]
async fn a_connection_that_has_no_room_among_the_idle_ones_is_counted() {
    // Each of two requests has a connection of its own: the server answers when it has both.
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let server = {
        let both = Arc::clone(&both);
        scripted(move |mut socket| {
            let both = Arc::clone(&both);
            async move {
                read_until(&mut socket, "\r\n\r\n").await;
                both.wait().await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                socket.write_all(answer).await.unwrap();
                read_until(&mut socket, "never").await;
            }
        })
        .await
    };
    let cluster = json!({ "protocol": "http1", "limits": { "idleConnections": 1 } });
    let front = front_of(&[server], cluster, json!({}));
    let send = connect(front.address).await;
    let (mut one, mut other) = (send.clone(), send);
    let (one, other) = tokio::join!(fetch(&mut one, get("/")), fetch(&mut other, get("/")));
    assert_eq!((one.unwrap().status(), other.unwrap().status()), (200, 200));
    eventually("one of two is closed", || {
        front.cluster_limit(Limit::IdleConnections) == 1 && front.connections().1 == 1
    })
    .await;
}

#[tokio::test]
async fn row_21_informational_responses_without_end_are_502_and_counted() {
    for (many, status, counted) in [(16, 200, 0), (17, 502, 1)] {
        let server = scripted(move |mut socket| async move {
            read_until(&mut socket, "\r\n\r\n").await;
            let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(many);
            let answer = hints + "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            // The proxy may close meanwhile.
            let _ = socket.write_all(answer.as_bytes()).await;
            read_until(&mut socket, "never").await;
        })
        .await;
        let front = front(server, json!({}));
        let mut send = connect(front.address).await;
        assert_eq!(
            fetch(&mut send, get("/")).await.unwrap().status(),
            status,
            "{many}"
        );
        assert_eq!(front.cluster_limit(Limit::InterimResponses), counted, "{many}");
    }
}

#[tokio::test]
async fn row_7_a_server_that_floods_is_left_and_counted() {
    let address = scripted(|mut socket| async move {
        let pings = frame(6, 0, 0, &[0; 8]).repeat(200);
        let _ = socket.write_all(&[frame(4, 0, 0, &[]), pings].concat()).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let front = front_of(&[address], http2(), json!({}));
    let mut send = connect(front.address).await;
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 502);
    eventually("it is counted", || front.cluster_limit(Limit::Http2Pings) > 0).await;
}
