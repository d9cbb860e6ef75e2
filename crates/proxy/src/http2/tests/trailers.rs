//! Trailers with no payload before them: there with the head, or later.

use super::upstream::{echo, http2, response};
use super::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::server::{Builder, SendResponse};
use tokio::sync::Notify;

/// When trailers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Come {
    WithTheHead,
    Later,
}

const BOTH: [Come; 2] = [Come::WithTheHead, Come::Later];

fn trailers() -> HeaderMap {
    [("x-after".parse().unwrap(), "1".parse().unwrap())]
        .into_iter()
        .collect()
}

/// An HTTP/1 server that answers as soon as it has a head; the body is the request as it came.
async fn echo_http1() -> SocketAddr {
    scripted(|mut socket| async move {
        let mut request = read_until(&mut socket, "\r\n\r\n").await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        if request.contains("chunked") && request.ends_with("chunked\r\n\r\n") {
            request += &read_until(&mut socket, "\r\n\r\n").await;
        }
        let body = format!("{:x}\r\n{request}\r\n0\r\n\r\n", request.len());
        socket.write_all(body.as_bytes()).await.unwrap();
    })
    .await
}

/// Sends a request of a head and trailers.
async fn send(front: &Front, method: &str, come: Come) -> Whole {
    let exchange = async {
        let mut send = connect(front.address).await.ready().await.unwrap();
        let request = Request::builder().method(method).uri("http://shop.test/");
        let (answer, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        if come == Come::WithTheHead {
            // The connection's task has not run: both leave in one write.
            stream.send_trailers(trailers()).unwrap();
            return Whole::read(answer.await.unwrap()).await.unwrap();
        }
        let answer = answer.await.unwrap();
        stream.send_trailers(trailers()).unwrap();
        Whole::read(answer).await.unwrap()
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

#[tokio::test]
async fn a_request_of_a_head_and_trailers_keeps_them() {
    for (method, come) in ["GET", "POST"].into_iter().flat_map(|m| BOTH.map(|c| (m, c))) {
        let front = front(echo_http1().await, json!({}));
        let seen = String::from_utf8(send(&front, method, come).await.body).unwrap();
        assert!(
            seen.contains("Transfer-Encoding: chunked\r\n")
                && seen.ends_with("\r\n\r\n0\r\nx-after: 1\r\n\r\n"),
            "{method} {come:?}: {seen}"
        );
        let front = front_of(&[http2_server(Builder::new(), echo).await], http2(), json!({}));
        let echoed = send(&front, method, come).await.trailers.unwrap();
        assert_eq!(echoed.get("x-after").unwrap(), "1", "{method} {come:?}");
    }
}

/// The same as [`echo_http1`], behind a connection that ends with its second request.
async fn echo_http1_again() -> SocketAddr {
    let echo = echo_http1().await;
    let connections = Arc::new(AtomicUsize::new(0));
    scripted(move |mut socket| {
        let connections = Arc::clone(&connections);
        async move {
            if connections.fetch_add(1, SeqCst) == 0 {
                read_until(&mut socket, "\r\n\r\n").await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(answer).await.unwrap();
                read_until(&mut socket, "x-after: 1\r\n\r\n").await;
                return;
            }
            let mut there = TcpStream::connect(echo).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut socket, &mut there).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_request_of_a_head_and_trailers_that_is_sent_again_keeps_them() {
    const END: &str = "\r\n\r\n0\r\nx-after: 1\r\n\r\n";
    // From HTTP/2, to a server of HTTP/1 that closed an idle connection.
    let front = front(echo_http1_again().await, json!({}));
    let mut first = connect(front.address).await;
    assert_eq!(fetch(&mut first, get("/")).await.unwrap().status(), 200);
    let seen = String::from_utf8(send(&front, "GET", Come::WithTheHead).await.body).unwrap();
    assert!(seen.ends_with(END), "{seen}");
    // From HTTP/1, to the same.
    let front = super::front(echo_http1_again().await, json!({}));
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut socket, "\r\n\r\n").await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-after: 1\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let seen = read_until(&mut socket, END).await;
    assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
    // To a server of HTTP/2 that says that it never looked at it.
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        move |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
            let calls = Arc::clone(&calls);
            async move {
                if calls.fetch_add(1, SeqCst) > 0 {
                    return echo(request, respond).await;
                }
                let mut body = request.into_body();
                assert!(body.data().await.is_none());
                assert!(body.trailers().await.unwrap().is_some());
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
    };
    for come in BOTH {
        calls.store(0, SeqCst);
        let server = http2_server(Builder::new(), handler.clone()).await;
        let front = front_of(&[server], http2(), json!({}));
        let exchange = async {
            let mut send = connect(front.address).await.ready().await.unwrap();
            let (answer, mut stream) = send.send_request(get("/"), false).unwrap();
            if come == Come::Later {
                eventually("it is asked", || calls.load(SeqCst) == 1).await;
            }
            stream.send_trailers(trailers()).unwrap();
            Whole::read(answer.await.unwrap()).await.unwrap()
        };
        let whole = tokio::time::timeout(PATIENCE, exchange).await.expect("in time");
        assert_eq!(whole.trailers.unwrap().get("x-after").unwrap(), "1", "{come:?}");
        assert_eq!(calls.load(SeqCst), 2);
    }
}

#[tokio::test]
async fn a_response_of_a_head_and_trailers_keeps_them() {
    let told = Arc::new(Notify::new());
    let handler = {
        let told = Arc::clone(&told);
        move |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
            let told = Arc::clone(&told);
            async move {
                let mut stream = respond.send_response(response(200), false).unwrap();
                if request.uri().path() == "/later" {
                    told.notified().await;
                }
                stream.send_trailers(trailers()).unwrap();
            }
        }
    };
    let front = front_of(&[http2_server(Builder::new(), handler).await], http2(), json!({}));
    let mut send = connect(front.address).await.ready().await.unwrap();
    for come in BOTH {
        let path = match come {
            Come::WithTheHead => "/now",
            Come::Later => "/later",
        };
        let exchange = async {
            let mut socket = TcpStream::connect(front.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut seen = read_until(&mut socket, "\r\n\r\n").await;
            if come == Come::Later {
                told.notify_one();
            }
            if seen.contains("chunked") && seen.ends_with("chunked\r\n\r\n") {
                seen += &read_until(&mut socket, "\r\n\r\n").await;
            }
            assert!(
                seen.ends_with("\r\n\r\n0\r\nx-after: 1\r\n\r\n"),
                "{come:?}: {seen}"
            );

            let (answer, _) = send.send_request(get(path), true).unwrap();
            let answer = answer.await.unwrap();
            if come == Come::Later {
                told.notify_one();
            }
            let whole = Whole::read(answer).await.unwrap();
            assert_eq!(whole.trailers.unwrap().get("x-after").unwrap(), "1", "{come:?}");
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("in time");
    }
}
