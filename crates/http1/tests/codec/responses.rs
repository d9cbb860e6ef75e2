//! Responses that are fine, and what they mean.

use mesh_http1::{BodyKind, Limits, Method, Parsed, Persistence, ResponseHead, Version};

fn parse(bytes: &[u8], method: Method) -> ResponseHead {
    let mut head = ResponseHead::new();
    assert_eq!(
        head.parse(bytes, method, &Limits::default()),
        Ok(Parsed::Complete),
        "{}",
        bytes.escape_ascii()
    );
    head
}

#[test]
fn a_response_is_taken_apart() {
    let bytes = b"HTTP/1.0 404 Not \xe9 Found\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc";
    let head = parse(bytes, Method::Get);
    assert_eq!((head.version, head.status), (Version::Http10, 404));
    assert_eq!(head.reason.of(bytes), b"Not \xe9 Found");
    assert_eq!((head.body, head.content_length), (BodyKind::Fixed(3), Some(3)));
    assert_eq!(head.persistence, Persistence::KeepAlive);
    assert_eq!(&bytes[head.head_len..], b"abc");
    for (line, reason) in [
        ("HTTP/1.1 200", ""),
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 200 a\tb", "a\tb"),
        ("HTTP/1.1 999 x", "x"),
    ] {
        let bytes = format!("{line}\r\n\r\n");
        assert_eq!(
            parse(bytes.as_bytes(), Method::Get).reason.of(bytes.as_bytes()),
            reason.as_bytes()
        );
    }
}

/// RFC 9112 section 6.3, in its order; attacks.md 21.
#[test]
fn bodies_of_responses() {
    use BodyKind::{Chunked, Fixed, None, UntilClose};
    const LENGTH: &str = "Content-Length: 5\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    for (method, status, lines, body, length) in [
        (Method::Get, 200, LENGTH, Fixed(5), Some(5)),
        (Method::Get, 200, "Content-Length: 0\r\n", None, Some(0)),
        (Method::Get, 200, CHUNKED, Chunked, Option::None),
        (Method::Get, 200, "", UntilClose, Option::None),
        (Method::Head, 200, LENGTH, None, Some(5)),
        (Method::Head, 200, CHUNKED, None, Option::None),
        (Method::Head, 200, "", None, Option::None),
        (Method::Get, 304, LENGTH, None, Some(5)),
        (Method::Get, 304, CHUNKED, None, Option::None),
        (Method::Get, 204, "Content-Length: 0\r\n", None, Option::None),
        (Method::Get, 100, "Content-Length: 0\r\n", None, Option::None),
        (Method::Get, 103, "Link: </a>\r\n", None, Option::None),
        (Method::Connect, 200, LENGTH, None, Some(5)),
        (Method::Connect, 299, CHUNKED, None, Option::None),
        (Method::Connect, 407, LENGTH, Fixed(5), Some(5)),
    ] {
        let head = parse(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_bytes(), method);
        assert_eq!(
            (head.body, head.content_length),
            (body, length),
            "{method:?} {status} {lines}"
        );
        assert_eq!(head.tunnel, method == Method::Connect && status < 300);
        let ends = body == UntilClose || head.tunnel;
        assert_eq!(
            head.persistence == Persistence::Close,
            ends,
            "{method:?} {status} {lines}"
        );
    }
}

/// RFC 9110 section 7.8; attacks.md 17.
#[test]
fn an_upgrade_says_something_with_101_alone() {
    for upgrade in ["", ",", "web socket", "a/b/c", "echo/1", "h2c"] {
        for status in [103, 200, 204, 426] {
            let bytes = format!("HTTP/1.1 {status} X\r\nConnection: upgrade\r\nUpgrade: {upgrade}\r\n\r\n");
            assert!(
                !parse(bytes.as_bytes(), Method::Get).upgrade,
                "{status} {upgrade}"
            );
        }
    }
}

#[test]
fn connections_of_responses() {
    let persistence = |bytes: &[u8]| parse(bytes, Method::Get).persistence;
    assert_eq!(
        persistence(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n"),
        Persistence::Close
    );
    assert_eq!(persistence(b"HTTP/1.0 204 X\r\n\r\n"), Persistence::Close);
    assert_eq!(
        persistence(b"HTTP/1.0 200 X\r\nConnection: keep-alive\r\n\r\n"),
        Persistence::Close
    );
    let bytes = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00";
    let head = parse(bytes, Method::Get);
    assert!(head.upgrade && head.body == BodyKind::None && head.persistence == Persistence::Close);
    assert_eq!(&bytes[head.head_len..], b"\x81\x00");
}

/// They say something in requests alone; servers that echo them are no attackers.
#[test]
fn what_rules_requests_does_not_rule_responses() {
    for lines in [
        "Expect: 200-ok\r\n",
        "Expect: \r\nExpect: 100-continue\r\nExpect: 100-continue\r\n",
        "Host: a,b\r\n",
        "Host: a\r\nHost: \r\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\n");
        let head = parse(bytes.as_bytes(), Method::Get);
        assert_eq!(
            (head.fields.len(), head.body),
            (lines.matches('\n').count() + 1, BodyKind::Fixed(2))
        );
    }
}
