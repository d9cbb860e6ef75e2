//! Requests that a server has not looked at and that are too long to be sent again: their clients may do so.

use super::upstream::{http2, raw, refuses_late, response};
use super::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::RecvStream;
use h2::server::SendResponse;
use mesh_model::errors::Reason;

/// One byte more than is kept of a body.
const LONG: usize = 4097;

/// What becomes of a request: the status, or the code with which its stream is reset.
async fn ask(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: usize,
    trailers: Option<HeaderMap>,
) -> Result<u16, h2::Reason> {
    let exchange = async {
        let mut ready = send.clone().ready().await.unwrap();
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        stream
            .send_data(vec![b'x'; body].into(), trailers.is_none())
            .unwrap();
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
        match answer.await {
            Ok(answer) => Ok(Whole::read(answer).await.unwrap().status()),
            Err(error) => Err(error.reason().expect("a reset")),
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("in time")
}

fn post(kind: &str) -> Request<()> {
    let request = Request::post("http://shop.test/").header("content-type", kind);
    request.body(()).unwrap()
}

/// How many requests ended for a reason, and how many were tried again.
fn ended(front: &Front, reason: Reason) -> (u64, u64) {
    let report = front.proxy.look();
    let all = report.routes.iter().flat_map(|(_, totals)| totals.responses());
    let counts = all.filter(|(_, why, _)| *why == Some(reason));
    let retries = report.routes.iter().map(|(_, totals)| totals.retries);
    (counts.map(|(_, _, count)| count).sum(), retries.sum())
}

#[tokio::test]
async fn a_client_may_send_again_what_nobody_has_looked_at() {
    let calls = Arc::new(AtomicUsize::new(0));
    let front = front_of(&[refuses_late(&calls).await], http2(), json!({}));
    let mut send = connect(front.address).await;
    let trailers = || HeaderMap::from_iter([("x-after".parse().unwrap(), "1".parse().unwrap())]);
    let mut asked = 0;
    for (kind, body, trailers) in [
        ("text/plain", LONG, None),
        ("application/grpc", LONG, None),
        ("text/plain", 1, Some(trailers())),
    ] {
        let refused = ask(&mut send, post(kind), body, trailers.clone()).await;
        assert_eq!(refused, Err(h2::Reason::REFUSED_STREAM), "{kind}");
        // Whose connection goes on.
        assert_eq!(
            ask(&mut send, post(kind), body, trailers).await,
            Ok(200),
            "{kind}"
        );
        asked += 2;
        assert_eq!(calls.load(SeqCst), asked);
    }
    assert_eq!(ended(&front, Reason::UpstreamClosed), (3, 0));
    assert_eq!(front.grpc_statuses(), [(Some(2), 1), (Some(14), 1)]);
    // HTTP/1 has no word for it.
    let head = format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {LONG}\r\n");
    let request = format!("{head}Connection: close\r\n\r\n{}", "x".repeat(LONG));
    let text = raw(front.address, &request).await;
    assert!(
        text.starts_with("HTTP/1.1 502 ") && text.contains("upstream_closed"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_is_told_what_a_server_that_leaves_has_not_looked_at() {
    const GOAWAY: u8 = 7;
    let server = scripted(|mut socket| async move {
        socket.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let (mut came, mut buffer) = (0, [0; 4096]);
        while came < 2 * LONG {
            came += socket.read(&mut buffer).await.unwrap();
        }
        // The last stream that it looked at is none.
        let leaves = frame(GOAWAY, 0, 0, &[0; 8]);
        socket.write_all(&leaves).await.unwrap();
        let _ = socket.read(&mut buffer).await;
    })
    .await;
    let front = front_of(&[server], http2(), json!({}));
    let mut send = connect(front.address).await;
    let refused = ask(&mut send, post("text/plain"), 2 * LONG, None).await;
    assert_eq!(refused, Err(h2::Reason::REFUSED_STREAM));
}

#[tokio::test]
async fn nothing_is_said_of_a_request_that_a_server_may_have_looked_at() {
    let (connections, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let calls = Arc::clone(&calls);
        scripted(move |socket| {
            let (first, calls) = (connections.fetch_add(1, SeqCst) == 0, Arc::clone(&calls));
            async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    match (first, request.method().as_str()) {
                        (true, "PUT") => {
                            // It breaks the connection off.
                            calls.fetch_add(1, SeqCst);
                            return;
                        }
                        (true, _) => answers(respond),
                        (false, _) => {
                            calls.fetch_add(1, SeqCst);
                            tokio::spawn(refuses(request, respond));
                        }
                    }
                }
            }
        })
        .await
    };
    let front = front_of(&[server], http2(), json!({}));
    let mut send = connect(front.address).await;
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
    let exchange = async {
        let mut ready = send.clone().ready().await.unwrap();
        let request = Request::put("http://shop.test/").body(()).unwrap();
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        eventually("it is sent again", || calls.load(SeqCst) == 2).await;
        stream.send_data(vec![b'x'; LONG].into(), true).unwrap();
        answer.await.unwrap().status()
    };
    let status = tokio::time::timeout(PATIENCE, exchange).await.expect("in time");
    assert_eq!((status.as_u16(), calls.load(SeqCst)), (502, 2));
    assert_eq!(ended(&front, Reason::UpstreamClosed), (1, 1));
}

fn answers(mut respond: SendResponse<Bytes>) {
    respond.send_response(response(200), true).unwrap();
}

/// Says of a request whose body it has read that it never looked at it.
async fn refuses(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    respond.send_reset(h2::Reason::REFUSED_STREAM);
}
