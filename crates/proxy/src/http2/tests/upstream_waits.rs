//! What requests to HTTP/2 servers wait for, and how long.

use super::upstream::{http2, response};
use super::*;

use h2::server::{Builder, SendResponse};

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
