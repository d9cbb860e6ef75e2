//! Requests that meet a server which closes a connection just when it is used again.

use super::*;

/// A server that answers the first request of each connection, and closes it when it has read the second.
async fn once(length: usize) -> SocketAddr {
    scripted(move |mut socket| async move {
        let body = "x".repeat(length);
        let whole = |seen: &str| seen.ends_with(&format!("\r\n\r\n{body}"));
        for answer in [&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], b""] {
            let mut seen = String::new();
            while !whole(&seen) {
                let mut piece = [0; 16 * 1024];
                let n = socket.read(&mut piece).await.unwrap_or(0);
                if n == 0 {
                    return;
                }
                seen += std::str::from_utf8(&piece[..n]).unwrap();
            }
            socket.write_all(answer).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn what_may_be_repeated_is_sent_again_with_a_small_body_when_a_used_connection_closes() {
    const MOST: usize = 4096;
    for (method, length, status) in [
        ("DELETE", 0, 200),
        ("PUT", 1, 200),
        ("PUT", MOST, 200),
        ("PUT", MOST + 1, 502),
        ("POST", 1, 502),
    ] {
        let front = front(once(length).await, json!({}));
        for expected in [200, status] {
            let mut socket = TcpStream::connect(front.address).await.unwrap();
            let head = format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            );
            let request = head + &"x".repeat(length);
            socket.write_all(request.as_bytes()).await.unwrap();
            let seen = read_until(&mut socket, "\r\n\r\n").await;
            let start = format!("HTTP/1.1 {expected} ");
            assert!(seen.starts_with(&start), "{method} of {length}: {seen}");
        }
    }
}
