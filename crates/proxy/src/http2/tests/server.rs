use super::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use mesh_model::errors::Reason;

use crate::proxy::{DrainOptions, Phase};

#[tokio::test]
async fn requests_and_responses_pass_on_one_connection() {
    let front = front(hello().await, json!({}));
    let mut send = connect(front.address).await;
    for _ in 0..20 {
        let whole = fetch(&mut send, get("/")).await.unwrap();
        assert_eq!((whole.status(), &whole.body[..]), (200, &b"hello"[..]));
    }
    let here = fetch(&mut send, get("/here")).await.unwrap();
    assert_eq!((here.status(), here.body.len()), (200, 64 * 1024));
    let head = Request::head("http://shop.test/here").body(()).unwrap();
    let head = fetch(&mut send, head).await.unwrap();
    assert_eq!(
        (
            head.head.headers["content-length"].to_str().unwrap(),
            head.body.len()
        ),
        ("65536", 0)
    );
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let upstream = scripted(|mut socket| async move {
        let request = read_until(&mut socket, "\r\n0\r\n").await;
        let request = if request.ends_with("\r\n\r\n") {
            request
        } else {
            request + &read_until(&mut socket, "\r\n\r\n").await
        };
        assert!(request.contains("ping"), "{request}");
        assert!(request.to_lowercase().contains("x-after: 1"), "{request}");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n\
                      4\r\npong\r\n0\r\nx-end: yes\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let front = front(upstream, json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    let request = Request::post("http://shop.test/").body(()).unwrap();
    let (response, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"ping"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-after", "1".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let whole = Whole::read(response.await.unwrap()).await.unwrap();
    assert_eq!(whole.body, b"pong");
    assert_eq!(whole.trailers.unwrap()["x-end"], "yes");
}

#[tokio::test]
async fn clients_are_told_the_window_that_is_configured() {
    // The proxy speaks first: its SETTINGS, and what makes the connection's window of RFC 9113's 65,535 that of a hundred
    // streams and one more, but 64 MiB at most.
    const SETTINGS: u8 = 4;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    for (configured, window, all) in [
        (json!({}), 262_144, 101 * 262_144),
        (json!({ "http2StreamWindowBytes": 16_384 }), 16_384, 101 * 16_384),
        (
            json!({ "http2StreamWindowBytes": 100_000 }),
            100_000,
            101 * 100_000,
        ),
        (
            json!({ "http2StreamWindowBytes": 1_048_576 }),
            1_048_576,
            64 << 20,
        ),
    ] {
        let front = front(
            hello().await,
            json!({ "protocol": "http2", "limits": configured }),
        );
        let mut socket = TcpStream::connect(front.address).await.unwrap();
        socket.write_all(mesh_http2::frame::PREFACE).await.unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], SETTINGS);
        let mut settings = vec![0; usize::from(head[2])];
        socket.read_exact(&mut settings).await.unwrap();
        let told: Vec<_> = settings
            .chunks(6)
            .filter(|setting| setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes())
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
            .collect();
        assert_eq!(told, [window]);
        let mut update = [0; 13];
        socket.read_exact(&mut update).await.unwrap();
        let connection = frame(8, 0, 0, &(all - 65_535u32).to_be_bytes());
        assert_eq!(update, connection[..]);
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer() {
    const TOTAL: usize = 96 * 1024 * 1024;
    let done = Arc::new(AtomicBool::new(false));
    let upstream = {
        let done = Arc::clone(&done);
        scripted(move |mut socket| {
            let done = Arc::clone(&done);
            async move {
                read_until(&mut socket, "\r\n\r\n").await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n");
                socket.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![b'x'; 64 * 1024];
                for _ in 0..TOTAL / piece.len() {
                    socket.write_all(&piece).await.unwrap();
                }
                done.store(true, SeqCst);
            }
        })
        .await
    };
    let front = front(upstream, json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    let (response, _) = send.send_request(get("/"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut seen = 0;
    while seen < 65_535 {
        seen += body.data().await.unwrap().unwrap().len();
    }
    // The client's window is used up. Another stream has the connection's window against it, and headers pass.
    assert_eq!(seen, 65_535);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!done.load(SeqCst), "96 MiB were swallowed while nobody read");
    body.flow_control().release_capacity(seen).unwrap();
    while let Some(piece) = body.data().await {
        let n = piece.unwrap().len();
        seen += n;
        body.flow_control().release_capacity(n).unwrap();
    }
    assert_eq!(seen, TOTAL);
}

#[tokio::test]
async fn requests_that_no_server_reads_hold_up_no_other() {
    let upstream = scripted(|mut socket| async move {
        let head = read_until(&mut socket, "\r\n\r\n").await;
        if head.starts_with("POST /slow ") {
            return std::future::pending().await;
        }
        if !head.ends_with('x') {
            read_until(&mut socket, "x").await;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(answer).await.unwrap();
    })
    .await;
    let front = front(upstream, json!({}));
    let send = connect(front.address).await;
    let post = |path: &str, body: Vec<u8>| {
        let (send, path) = (send.clone(), path.to_owned());
        async move {
            let request = Request::post(format!("http://shop.test{path}"))
                .header("content-length", body.len())
                .body(())
                .unwrap();
            let mut send = send.ready().await.unwrap();
            let (response, mut stream) = send.send_request(request, false).unwrap();
            stream.send_data(body.into(), true).unwrap();
            (response, stream)
        }
    };
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(post("/slow", vec![b'y'; 8 << 20]).await);
        let (response, _) = post("/", b"x".to_vec()).await;
        let response = tokio::time::timeout(PATIENCE, response).await;
        assert_eq!(response.expect("an answer").unwrap().status(), 200);
    }
}

#[tokio::test]
async fn row_20_a_malformed_request_costs_its_stream_only() {
    let front = front(hello().await, json!({}));
    let mut send = connect(front.address).await;
    let mut bad = get("/");
    bad.headers_mut().insert("host", "other.test".parse().unwrap());
    let error = fetch(&mut send, bad).await.err().unwrap();
    assert_eq!(
        (error.is_reset(), error.reason()),
        (true, Some(h2::Reason::PROTOCOL_ERROR))
    );
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn row_4_too_many_fields_are_431() {
    let front = front(hello().await, json!({ "limits": { "headerCount": 10 } }));
    let mut send = connect(front.address).await;
    let mut many = get("/");
    for _ in 0..11 {
        many.headers_mut().append("cookie", "a=b".parse().unwrap());
    }
    let refused = fetch(&mut send, many).await.unwrap();
    assert_eq!(refused.status(), 431);
    assert!(
        refused.head.headers["proxy-status"]
            .to_str()
            .unwrap()
            .contains("too_many_headers")
    );
    assert_eq!(front.limit(Limit::HeaderCount), 1);
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn grpc_callers_get_a_status() {
    let front = front(hello().await, json!({}));
    let mut send = connect(front.address).await;
    let mut call = Request::post("http://shop.test/nowhere/Get").body(()).unwrap();
    call.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let whole = fetch(&mut send, call).await.unwrap();
    assert_eq!(
        (
            whole.status(),
            whole.head.headers["grpc-status"].to_str().unwrap()
        ),
        (200, "14")
    );
}

#[tokio::test]
async fn half_a_response_is_a_reset_or_a_grpc_status() {
    let upstream = scripted(|mut socket| async move {
        read_until(&mut socket, "\r\n\r\n").await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 9\r\n\r\nhalf";
        socket.write_all(half).await.unwrap();
    })
    .await;
    let front = front(upstream, json!({}));
    let mut send = connect(front.address).await;
    let error = fetch(&mut send, get("/")).await.err().unwrap();
    assert_eq!(
        (error.is_reset(), error.reason()),
        (true, Some(h2::Reason::INTERNAL_ERROR))
    );
    // With a length announced `h2` holds the caller to it, so the call is made without.
    let upstream = scripted(|mut socket| async move {
        read_until(&mut socket, "\r\n\r\n").await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        socket.write_all(half).await.unwrap();
    })
    .await;
    let front = super::front(upstream, json!({}));
    let mut send = connect(front.address).await;
    let mut call = get("/");
    call.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let whole = fetch(&mut send, call).await.unwrap();
    assert_eq!(
        (
            &whole.body[..],
            whole.trailers.unwrap()["grpc-status"].to_str().unwrap()
        ),
        (&b"half"[..], "14")
    );
}

#[tokio::test]
async fn an_early_response_leaves_the_rest_of_the_request() {
    let front = front(hello().await, json!({}));
    let mut send = connect(front.address).await;
    let mut ready = send.clone().ready().await.unwrap();
    let request = Request::post("http://shop.test/here").body(()).unwrap();
    let (response, mut stream) = ready.send_request(request, false).unwrap();
    let whole = Whole::read(response.await.unwrap()).await.unwrap();
    assert_eq!(whole.status(), 200);
    // RFC 9113 section 8.1: the response is whole, the request not wanted.
    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_thousand_cancelled_streams_cost_the_others_nothing() {
    let (asked, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = {
        let (asked, left) = (Arc::clone(&asked), Arc::clone(&left));
        scripted(move |mut socket| {
            let (asked, left) = (Arc::clone(&asked), Arc::clone(&left));
            async move {
                let request = read_until(&mut socket, "\r\n\r\n").await;
                if request.starts_with("GET /slow") {
                    asked.fetch_add(1, SeqCst);
                    // No answer: the end comes from the proxy.
                    let _ = socket.read(&mut [0]).await;
                    left.fetch_add(1, SeqCst);
                } else {
                    socket
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
                        .await
                        .unwrap();
                    let _ = socket.read(&mut [0]).await;
                }
            }
        })
        .await
    };
    let front = front(upstream, json!({}));
    let mut send = connect(front.address).await;
    let (response, _) = send.send_request(get("/watch"), true).unwrap();
    let mut watched = response.await.unwrap().into_body();
    assert_eq!(watched.data().await.unwrap().unwrap(), "a");
    for round in 0..20 {
        let mut calls = Vec::new();
        for _ in 0..50 {
            let mut ready = send.clone().ready().await.unwrap();
            calls.push(ready.send_request(get("/slow"), true).unwrap());
        }
        while asked.load(SeqCst) < (round + 1) * 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(calls);
        // Work in flight is cancelled, not just forgotten.
        while left.load(SeqCst) < (round + 1) * 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(fetch(&mut send, get("/here")).await.unwrap().status(), 200);
    let waker = std::task::Waker::noop();
    assert!(
        watched
            .poll_data(&mut std::task::Context::from_waker(waker))
            .is_pending()
    );
}

#[tokio::test]
async fn a_drain_says_goaway_and_lets_streams_end() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let upstream = scripted(move |mut socket| {
        let mut gone = gone.clone();
        async move {
            read_until(&mut socket, "\r\n\r\n").await;
            gone.wait_for(|go| *go).await.unwrap();
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
                .await
                .unwrap();
        }
    })
    .await;
    let front = front(upstream, json!({}));
    let socket = TcpStream::connect(front.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake::<_>(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let (response, _) = send.send_request(get("/"), true).unwrap();
    assert_eq!(fetch(&mut send, get("/here")).await.unwrap().status(), 200);
    let mut phase = front.proxy.phase();
    front.proxy.drain(DrainOptions::default());
    phase.wait_for(|phase| *phase == Phase::Draining).await.unwrap();
    // GOAWAY comes: no new streams.
    while std::future::poll_fn(|cx| send.poll_ready(cx)).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    go.send(true).unwrap();
    let whole = Whole::read(response.await.unwrap()).await.unwrap();
    assert_eq!(whole.body, b"late");
    drop(send);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_for_room_when_a_drain_begins_is_served() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let (asked, mut is_asked) = tokio::sync::watch::channel(false);
    let upstream = scripted(move |mut socket| {
        let (mut gone, asked) = (gone.clone(), asked.clone());
        async move {
            read_until(&mut socket, "\r\n\r\n").await;
            asked.send(true).unwrap();
            gone.wait_for(|go| *go).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
            socket.write_all(answer).await.unwrap();
        }
    })
    .await;
    let front = front(upstream, json!({ "limits": { "connections": 1 } }));
    let ask = async |path: &str| {
        let mut socket = TcpStream::connect(front.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };
    let under_way = ask("/").await;
    is_asked.wait_for(|asked| *asked).await.unwrap();
    let accepted = ask("/here").await;
    eventually("it waits for room", || front.limit(Limit::Connections) == 1).await;
    let queued = ask("/here").await;
    front.proxy.drain(DrainOptions::default());
    eventually("the listener is closed", || {
        std::net::TcpStream::connect(front.address).is_err()
    })
    .await;
    go.send(true).unwrap();
    for mut socket in [under_way, accepted, queued] {
        let mut seen = Vec::new();
        let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut seen));
        end.await.expect("an end").unwrap();
        let text = String::from_utf8(seen).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
    }
}

#[tokio::test]
async fn idle_old_and_worn_connections_are_asked_to_leave() {
    let cases = [
        json!({ "timeouts": { "idle": "50ms" } }),
        json!({ "timeouts": { "maxConnectionAge": "50ms" } }),
        json!({ "limits": { "requestsPerConnection": 1 } }),
    ];
    for listener in cases {
        let front = front(hello().await, listener);
        let socket = TcpStream::connect(front.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake::<_>(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
        let ended = tokio::time::timeout(PATIENCE, connection)
            .await
            .expect("an end")
            .unwrap();
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[tokio::test]
async fn a_preface_that_is_none_ends_the_connection_in_order() {
    let front = front(hello().await, json!({ "protocol": "http2" }));
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    // More than one read takes: what is left unread would make the end a reset.
    socket
        .write_all(&b"INVALID CONNECTION PREFACE\r\n\r\n".repeat(500))
        .await
        .unwrap();
    let mut seen = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut seen)).await;
    assert!(ended.expect("an end").is_ok(), "a reset");
}

#[tokio::test]
async fn a_preface_that_does_not_come_has_a_deadline() {
    let front = front(
        hello().await,
        json!({ "protocol": "http2", "timeouts": { "header": "50ms" } }),
    );
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut seen = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut seen))
        .await
        .expect("an end")
        .unwrap();
}

#[tokio::test]
async fn row_10_a_head_that_does_not_end_has_a_deadline_whatever_else_is_open() {
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    const GOAWAY: u8 = 7;
    // `GET /` of http://a, from HPACK's tables.
    let head = b"\x82\x86\x84\x41\x01a";
    let block = frame(HEADERS, END_STREAM, 3, head);
    let cut = &frame(HEADERS, END_STREAM | END_HEADERS, 3, head)[..12];
    for unfinished in [&block[..], cut, &cut[..3]] {
        // It takes the request and says nothing.
        let upstream = scripted(|mut socket| async move {
            read_until(&mut socket, "\r\n\r\n").await;
            let _ = socket.read(&mut [0]).await;
        })
        .await;
        let front = front(
            upstream,
            json!({ "protocol": "http2", "timeouts": { "header": "200ms" } }),
        );
        let mut socket = TcpStream::connect(front.address).await.unwrap();
        let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, head);
        let start = [
            &mesh_http2::frame::PREFACE[..],
            &frame(4, 0, 0, &[]),
            &whole,
            unfinished,
        ]
        .concat();
        socket.write_all(&start).await.unwrap();
        let mut seen = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut seen))
            .await
            .expect("an end")
            .unwrap();
        let last = [0, 0, 0, 1, 0, 0, 0, 0];
        let goodbye = frame(GOAWAY, 0, 0, &last);
        assert!(
            seen.windows(goodbye.len()).any(|bytes| bytes == goodbye),
            "{seen:?}"
        );
        drop(socket);
        let closed = || -> Vec<_> {
            let report = front.proxy.look();
            let all = report.listeners.iter();
            all.flat_map(|(_, totals)| totals.closed_by.iter().collect::<Vec<_>>())
                .collect()
        };
        eventually("it is counted", || closed() == [(Reason::HeaderTimeout, 1)]).await;
    }
}
