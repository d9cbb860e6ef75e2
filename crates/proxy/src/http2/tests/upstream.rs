//! Requests that go to HTTP/2 servers: what passes, what is tried again, and what ends with whom.

use super::*;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::RecvStream;
use h2::server::{Builder, SendResponse};

pub(super) fn http2() -> Value {
    json!({ "protocol": "http2" })
}

pub(super) fn response(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// Answers with the request's head as text, its body and its trailers.
pub(super) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let mut stream = respond.send_response(response(200), false).unwrap();
    if stream.send_data(text.into(), false).is_err() {
        return;
    }
    while let Some(piece) = body.data().await {
        // Who asks may leave.
        let Ok(piece) = piece else { return };
        body.flow_control().release_capacity(piece.len()).unwrap();
        stream.send_data(piece, false).unwrap();
    }
    let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("x-end", "yes".parse().unwrap());
    // HTTP/1 clients must not see this one behind a body.
    trailers.insert("content-length", "7".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
}

/// Sends bytes of HTTP/1 and reads until the server closes.
pub(super) async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut seen))
        .await
        .expect("an end")
        .unwrap();
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn both_versions_reach_the_server_with_bodies_and_trailers() {
    let front = front_of(&[http2_server(Builder::new(), echo).await], http2(), json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    let request = Request::post("http://shop.test/a?b=c")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-forwarded-for", "10.0.0.1")
        .body(())
        .unwrap();
    let (answer, mut stream) = send.send_request(request, false).unwrap();
    stream.send_data("ping".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-after", "1".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let whole = Whole::read(answer.await.unwrap()).await.unwrap();
    let text = String::from_utf8(whole.body).unwrap();
    assert!(text.starts_with("POST http://shop.test/a?b=c\n"), "{text}");
    assert!(text.contains("cookie: a=1\ncookie: b=2\n"), "{text}");
    assert!(
        text.contains("x-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-request-id: "),
        "{text}"
    );
    assert!(text.ends_with("ping") && !text.contains("10.0.0.1"), "{text}");
    let trailers = whole.trailers.unwrap();
    assert_eq!(
        (&trailers["x-after"], &trailers["x-end"]),
        (&"1".parse().unwrap(), &"yes".parse().unwrap())
    );

    let text = raw(
        front.address,
        "POST /a HTTP/1.1\r\nHost: shop.test\r\nX-Mixed: Case\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
         TE: trailers, gzip\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n0\r\nX-After: 1\r\n\r\n",
    )
    .await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("POST http://shop.test/a\n"),
        "{text}"
    );
    assert!(
        text.contains("x-mixed: Case\n") && text.contains("te: trailers\n"),
        "{text}"
    );
    assert!(
        !text.contains("x-hop") && !text.contains("content-length"),
        "{text}"
    );
    assert!(
        text.contains("ping") && text.ends_with("0\r\nx-after: 1\r\nx-end: yes\r\n\r\n"),
        "{text}"
    );
    assert_eq!(front.connections().0, 1);
}

/// Answers with the names of the request's trailers, and has the same trailers.
async fn name_trailers(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        let n = piece.unwrap().len();
        body.flow_control().release_capacity(n).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
    let mut stream = respond.send_response(response(200), false).unwrap();
    stream.send_data(names.join(" ").into(), false).unwrap();
    stream.send_trailers(trailers).unwrap();
}

#[tokio::test]
async fn row_25_what_may_be_no_trailer_passes_in_no_direction() {
    let server = http2_server(Builder::new(), name_trailers).await;
    let front = front_of(&[server], http2(), json!({}));
    let forged = [
        "content-length",
        "host",
        "authorization",
        "x-forwarded-for",
        "x-forwarded-prefix",
        "x_forwarded_for",
        "x-mesh-peer",
    ];
    for kept in [&["x-after", "grpc-status"][..], &[]] {
        let mut send = connect(front.address).await.ready().await.unwrap();
        let (answer, mut stream) = send.send_request(call("/"), false).unwrap();
        stream.send_data("ping".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        for name in forged.iter().chain(kept) {
            trailers.insert(*name, "4".parse().unwrap());
        }
        stream.send_trailers(trailers).unwrap();
        let whole = Whole::read(answer.await.unwrap()).await.unwrap();
        assert_eq!(String::from_utf8(whole.body).unwrap(), kept.join(" "));
        let back = whole.trailers.unwrap_or_default();
        let back: Vec<_> = back.keys().map(|name| name.as_str()).collect();
        assert_eq!(back, kept);
    }
}

#[tokio::test]
async fn what_a_426_asks_for_is_said_where_it_can_be() {
    let server = scripted(|mut socket| async move {
        read_until(&mut socket, "\r\n\r\n").await;
        let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c, websocket, TLS/1.0, a/2\r\nConnection: x-hop, upgrade\r\nX-Hop: 1\r\n\
            Upgrade: TLS/1.2\r\nUpgrade: other\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let front = front(server, json!({}));
    let ask = async |version, fields| {
        raw(
            front.address,
            &format!("GET / HTTP/{version}\r\nHost: shop.test\r\n{fields}\r\n"),
        )
        .await
    };
    let upgrades = "Connection: upgrade\r\nUpgrade: websocket, a/2\r\nUpgrade: other\r\n";
    let closes = "Connection: close\r\n";
    assert_eq!(
        ask("1.1", closes).await,
        format!("HTTP/1.1 426 Upgrade Required\r\n{upgrades}Content-Length: 0\r\n{closes}\r\n")
    );
    assert_eq!(
        ask("1.0", "").await,
        format!("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n{closes}\r\n")
    );
    let mut send = connect(front.address).await;
    let whole = fetch(&mut send, get("/")).await.unwrap();
    assert_eq!((whole.status(), whole.head.headers.get("upgrade")), (426, None));
}

#[tokio::test]
async fn a_request_for_nobody_is_for_the_server() {
    let server = http2_server(Builder::new(), echo).await;
    let front = front_of(&[server], http2(), json!({}));
    let text = raw(front.address, "GET /a HTTP/1.0\r\n\r\n").await;
    assert!(text.contains(&format!("GET http://{server}/a\n")), "{text}");
}

#[tokio::test]
async fn responses_without_bodies_and_informational_ones_pass() {
    let upstream = http2_server(
        Builder::new(),
        |request, mut respond: SendResponse<Bytes>| async move {
            let path = request.uri().path();
            let status = path.trim_start_matches('/').parse().unwrap();
            let mut hint = response(103);
            hint.headers_mut().insert("link", "</a>".parse().unwrap());
            respond.send_informational(hint).unwrap();
            let mut head = response(status);
            if status != 204 {
                head.headers_mut().insert("content-length", "5".parse().unwrap());
            }
            let bodiless = request.method() == http::Method::HEAD || matches!(status, 204 | 304);
            let mut stream = respond.send_response(head, bodiless).unwrap();
            if !bodiless {
                stream.send_data("hello".into(), true).unwrap();
            }
        },
    )
    .await;
    let front = front_of(&[upstream], http2(), json!({}));
    let mut send = connect(front.address).await;
    for (method, status, length, body) in [
        ("HEAD", 200, Some("5"), ""),
        ("GET", 204, None, ""),
        ("GET", 304, Some("5"), ""),
        ("GET", 200, Some("5"), "hello"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://shop.test/{status}"))
            .body(())
            .unwrap();
        let whole = fetch(&mut send, request).await.unwrap();
        let announced = whole
            .head
            .headers
            .get("content-length")
            .map(|v| v.to_str().unwrap());
        assert_eq!(
            (whole.status(), announced, &whole.body[..]),
            (status, length, body.as_bytes())
        );

        let text = raw(
            front.address,
            &format!("{method} /{status} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"),
        )
        .await;
        let (hint, rest) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nlink: </a>");
        let (head, rest) = rest.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        let announced = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        assert_eq!((announced, rest), (length, body), "{text}");
    }
}

/// A client that bears any number of small DATA frames. By default `h2` ends a connection with a few hundred that wait,
/// or came late.
pub(super) async fn lenient(address: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut builder = h2::client::Builder::new();
    builder.data_frame_budget(usize::MAX);
    let (send, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A server that resets streams by what their path says: before the answer, or amid it.
async fn resetting(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let code: u32 = path.rsplit('/').next().unwrap().parse().unwrap();
    if path.starts_with("/amid") {
        let mut stream = respond.send_response(response(200), false).unwrap();
        stream.send_data("half".into(), false).unwrap();
        // What was queued would be lost with the reset.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(code.into());
    } else {
        respond.send_reset(code.into());
    }
}

pub(super) fn call(path: &str) -> Request<()> {
    Request::post(format!("http://shop.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

#[tokio::test]
async fn a_stream_that_the_server_takes_back_is_told_to_the_client() {
    let front = front_of(
        &[http2_server(Builder::new(), resetting).await],
        http2(),
        json!({}),
    );
    let mut send = connect(front.address).await;
    // Code of the server; code for the client; status for a gRPC caller.
    for (code, passed, grpc) in [
        (8, 2, "1"),
        (2, 2, "13"),
        (1, 2, "13"),
        (0, 2, "13"),
        (11, 11, "8"),
    ] {
        let early = fetch(&mut send, get(&format!("/early/{code}"))).await.unwrap();
        let status = early.head.headers["proxy-status"].to_str().unwrap();
        assert_eq!(early.status(), 502);
        assert!(status.contains("upstream_closed: stream_reset"), "{status}");
        let amid = fetch(&mut send, get(&format!("/amid/{code}")))
            .await
            .err()
            .unwrap();
        assert_eq!((amid.is_reset(), amid.reason()), (true, Some(passed.into())));
        let early = fetch(&mut send, call(&format!("/early/{code}"))).await.unwrap();
        assert_eq!(early.head.headers["grpc-status"], grpc);
        let amid = fetch(&mut send, call(&format!("/amid/{code}"))).await.unwrap();
        let trailers = amid.trailers.unwrap();
        assert_eq!(
            (&amid.body[..], &trailers["grpc-status"]),
            (&b"half"[..], &grpc.parse().unwrap())
        );
    }
    // HTTP/1 has no resets: a body that is cut off has no last chunk.
    let text = raw(front.address, "GET /amid/8 HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert!(text.ends_with("4\r\nhalf\r\n"), "{text}");
    assert_eq!(front.connections().0, 1);
}

#[tokio::test]
async fn what_was_not_looked_at_is_sent_again_whatever_its_method() {
    let refused = Arc::new(AtomicUsize::new(0));
    let handler = {
        let refused = Arc::clone(&refused);
        move |_, mut respond: SendResponse<Bytes>| {
            let first = refused.fetch_add(1, SeqCst).is_multiple_of(2);
            async move {
                if first {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(response(200), true).unwrap();
                }
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await;
    for n in 1..=10 {
        let answer = fetch(&mut send, call("/")).await.unwrap();
        assert_eq!((answer.status(), refused.load(SeqCst)), (200, 2 * n));
    }
    assert_eq!(front.connections().0, 1);
}

#[tokio::test]
async fn a_connection_without_streams_is_counted_as_idle() {
    let (step, steps) = tokio::sync::watch::channel(0);
    let server = scripted(move |socket| {
        let mut steps = steps.clone();
        async move {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            for n in 1.. {
                let Some(Ok((_, mut respond))) = connection.accept().await else {
                    return;
                };
                tokio::select! {
                    _ = connection.accept() => return,
                    _ = steps.wait_for(|step| *step >= n) => {}
                }
                respond.send_response(response(200), true).unwrap();
                if n == 2 {
                    connection.graceful_shutdown();
                }
            }
        }
    })
    .await;
    let front = front_of(&[server], http2(), json!({}));
    let counts = || {
        let report = front.proxy.look();
        let site = report.clusters.iter().find(|(name, _)| name.as_str() == "site");
        site.map_or((0, 0), |(_, totals)| (totals.active(), totals.idle))
    };
    let send = connect(front.address).await;
    for (n, then) in [(1, (1, 1)), (2, (0, 0))] {
        let mut send = send.clone();
        let call = tokio::spawn(async move { fetch(&mut send, get("/")).await.unwrap().status() });
        eventually("it is in use", || counts() == (1, 0)).await;
        step.send(n).unwrap();
        assert_eq!(call.await.unwrap(), 200);
        eventually("it is idle, or gone", || counts() == then).await;
    }
}

/// A server that says of every other request that it never looked at it, when the body's end has come, or some of it for
/// `/amid`, and echoes the others.
pub(super) async fn refuses_late(calls: &Arc<AtomicUsize>) -> SocketAddr {
    let calls = Arc::clone(calls);
    http2_server(
        Builder::new(),
        move |mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let refuses = calls.fetch_add(1, SeqCst).is_multiple_of(2);
            async move {
                if !refuses {
                    return echo(request, respond).await;
                }
                let amid = request.uri().path() == "/amid";
                let body = request.body_mut();
                while let Some(piece) = body.data().await {
                    let n = piece.unwrap().len();
                    body.flow_control().release_capacity(n).unwrap();
                    if amid {
                        break;
                    }
                }
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        },
    )
    .await
}

#[tokio::test]
async fn a_small_body_goes_again_with_what_was_not_looked_at() {
    let calls = Arc::new(AtomicUsize::new(0));
    let front = front_of(&[refuses_late(&calls).await], http2(), json!({}));
    let head = "POST /a HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n";
    let text = raw(front.address, &format!("{head}Content-Length: 4\r\n\r\nping")).await;
    assert!(text.contains("\ncontent-length: 4\n"), "{text}");
    assert!(text.contains("ping\r\n"), "{text}");
    let chunks = "2\r\npi\r\n2\r\nng\r\n0\r\n\r\n";
    let text = raw(
        front.address,
        &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"),
    )
    .await;
    assert!(!text.contains("content-length: 4"), "{text}");
    assert!(
        text.contains("ping\r\n") || text.contains("pi\r\n2\r\nng\r\n"),
        "{text}"
    );
    assert_eq!(calls.load(SeqCst), 4);
    let send = connect(front.address).await;
    let ask = async |path: &str, pieces: &[Bytes]| {
        let before = calls.load(SeqCst);
        let mut send = send.clone().ready().await.unwrap();
        let request = Request::post(format!("http://shop.test{path}")).body(()).unwrap();
        let (answer, mut stream) = send.send_request(request, false).unwrap();
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 && path == "/amid" {
                eventually("it is asked again", || calls.load(SeqCst) == before + 2).await;
            }
            stream.send_data(piece.clone(), n + 1 == pieces.len()).unwrap();
        }
        let whole = async { Whole::read(answer.await.unwrap()).await.unwrap() };
        let whole = tokio::time::timeout(PATIENCE, whole)
            .await
            .expect("an answer in time");
        (whole.status(), whole.body, calls.load(SeqCst) - before)
    };
    for (path, pieces) in [
        ("/", vec![Bytes::from_static(b"ping")]),
        ("/", vec!["pi".into(), "ng".into()]),
        ("/amid", vec!["pi".into(), "ng".into()]),
        ("/", vec![vec![b'x'; 4096].into()]),
        ("/amid", vec![vec![b'x'; 4096].into(), vec![b'y'; 100_000].into()]),
    ] {
        let (status, body, asked) = ask(path, &pieces).await;
        assert_eq!((status, asked), (200, 2));
        let text = String::from_utf8(body).unwrap();
        let (head, body) = text.rsplit_once('\n').unwrap();
        assert!(
            body.as_bytes() == pieces.concat() && !head.contains("content-length"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_always_full_costs_three_tries_and_is_reported() {
    let asked = Arc::new(AtomicUsize::new(0));
    let handler = {
        let asked = Arc::clone(&asked);
        move |_, mut respond: SendResponse<Bytes>| {
            asked.fetch_add(1, SeqCst);
            async move { respond.send_reset(h2::Reason::REFUSED_STREAM) }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await;
    let answer = fetch(&mut send, call("/")).await.unwrap();
    assert_eq!(
        (&answer.head.headers["grpc-status"], asked.load(SeqCst)),
        (&"14".parse().unwrap(), 3)
    );
}

#[tokio::test]
async fn clients_that_cancel_cancel_their_stream_alone() {
    let (asked, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (asked, cancelled) = (Arc::clone(&asked), Arc::clone(&cancelled));
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let (asked, cancelled) = (Arc::clone(&asked), Arc::clone(&cancelled));
            async move {
                let answers = request.uri().path() == "/answers";
                let mut stream = None;
                if answers {
                    stream = Some(respond.send_response(response(200), false).unwrap());
                }
                asked.fetch_add(1, SeqCst);
                let reset = match &mut stream {
                    Some(stream) => {
                        stream.send_data("some".into(), false).unwrap();
                        poll_fn(|cx| stream.poll_reset(cx)).await
                    }
                    None => poll_fn(|cx| respond.poll_reset(cx)).await,
                };
                if reset.is_ok_and(|code| code == h2::Reason::CANCEL) {
                    cancelled.fetch_add(1, SeqCst);
                }
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = lenient(front.address).await;
    let (watched, _) = send.send_request(get("/answers"), true).unwrap();
    let mut watched = watched.await.unwrap().into_body();
    assert_eq!(watched.data().await.unwrap().unwrap(), "some");
    for round in 0..25 {
        let mut calls = Vec::new();
        for n in 0..40 {
            let mut ready = send.clone().ready().await.unwrap();
            let path = if n % 2 == 0 { "/answers" } else { "/silent" };
            calls.push(ready.send_request(call(path), n % 4 < 2).unwrap());
        }
        eventually("all are asked", || asked.load(SeqCst) == 1 + (round + 1) * 40).await;
        drop(calls);
        eventually("all are cancelled", || cancelled.load(SeqCst) == (round + 1) * 40).await;
    }
    // One more, since servers take offence at too many resets on one.
    assert!((2..=3).contains(&front.connections().0));
    let noop = std::task::Waker::noop();
    let pending = watched.poll_data(&mut std::task::Context::from_waker(noop));
    assert!(pending.is_pending(), "{pending:?}");
}

#[tokio::test]
async fn a_client_that_cancels_while_its_server_does_not_read_is_noticed() {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let handler = {
        let cancelled = Arc::clone(&cancelled);
        move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let cancelled = Arc::clone(&cancelled);
            async move {
                let reset = poll_fn(|cx| respond.poll_reset(cx)).await;
                cancelled.fetch_add(usize::from(reset.is_ok()), SeqCst);
                drop(request);
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    let (_answer, mut stream) = send.send_request(call("/"), false).unwrap();
    let mut sent = 0;
    stream.reserve_capacity(1 << 20);
    // The windows of the server, of the proxy's buffer and of the proxy fill up one after the other.
    while let Ok(Some(room)) =
        tokio::time::timeout(Duration::from_millis(300), poll_fn(|cx| stream.poll_capacity(cx))).await
    {
        let room = room.unwrap();
        stream.send_data(vec![0; room].into(), false).unwrap();
        sent += room;
    }
    assert!((65_536..1 << 20).contains(&sent), "{sent}");
    stream.send_reset(h2::Reason::CANCEL);
    eventually("the server hears of it", || cancelled.load(SeqCst) == 1).await;
}
