//! Requests that are fine, and what they mean.

use mesh_http1::{
    BodyKind, HeadError, Known, Limits, Method, Parsed, Persistence, RequestHead, Target, Version,
};

/// Parses a whole head; the buffer behind it is another message's.
pub(crate) fn parse(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::new();
    assert_eq!(
        head.parse(bytes, &Limits::default()),
        Ok(Parsed::Complete),
        "{}",
        bytes.escape_ascii()
    );
    head
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_is_taken_apart() {
    let bytes = b"POST /a/b?c=d?e HTTP/1.1\r\nHost: Shop.test:8080\r\nX-A:  b c \t\r\nEmpty:\r\ncontent-LENGTH: 010\r\n\r\n0123456789GET";
    let head = parse(bytes);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_span.of(bytes), b"POST");
    assert_eq!(head.target_span.of(bytes), b"/a/b?c=d?e");
    let Target::Origin {
        path,
        query: Some(query),
    } = head.target
    else {
        panic!("{:?}", head.target)
    };
    assert_eq!((text(path.of(bytes)), text(query.of(bytes))), ("/a/b", "c=d?e"));
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.host.map(|host| text(host.of(bytes))), Some("Shop.test:8080"));
    assert_eq!(head.body, BodyKind::Fixed(10));
    assert_eq!(head.persistence, Persistence::KeepAlive);
    assert_eq!(&bytes[head.head_len..], b"0123456789GET");
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|f| {
            (
                text(f.name.of(bytes)),
                text(f.value.of(bytes)),
                f.known,
                f.canonical,
                f.hop,
            )
        })
        .collect();
    assert_eq!(
        fields,
        [
            ("Host", "Shop.test:8080", Known::Host, true, false),
            ("X-A", "b c", Known::Other, false, false),
            ("Empty", "", Known::Other, false, false),
            ("content-LENGTH", "010", Known::ContentLength, true, false),
        ]
    );
    assert_eq!(head.fields[1].line.of(bytes), b"X-A:  b c \t\r\n");
    assert_eq!(head.values(bytes, b"x-a").collect::<Vec<_>>(), [b"b c"]);
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(bytes);
    assert_eq!(
        (head.method_span.of(bytes), head.head_len),
        (&b"GET"[..], bytes.len())
    );
}

#[test]
fn forms_of_targets() {
    let bytes = b"GET HTTP://A.test:80/x?y HTTP/1.1\r\nHost: a.TEST\r\n\r\n";
    let head = parse(bytes);
    let Target::Absolute {
        scheme,
        authority,
        path,
        query,
    } = head.target
    else {
        panic!("{:?}", head.target)
    };
    assert_eq!(text(scheme.of(bytes)), "HTTP");
    assert_eq!(text(authority.of(bytes)), "A.test:80");
    assert_eq!(text(path.of(bytes)), "/x");
    assert_eq!(query.map(|query| text(query.of(bytes))), Some("y"));
    assert_eq!(head.host, Some(authority));

    let bytes = b"GET https://a.test HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    let Target::Absolute {
        path, query: None, ..
    } = parse(bytes).target
    else {
        panic!()
    };
    assert!(path.is_empty());

    let bytes = b"GET http://a.test?b=/c?d HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let Target::Absolute {
        authority,
        path,
        query: Some(query),
        ..
    } = parse(bytes).target
    else {
        panic!()
    };
    assert_eq!(text(authority.of(bytes)), "a.test");
    assert!(path.is_empty());
    assert_eq!(text(query.of(bytes)), "b=/c?d");

    let bytes = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let head = parse(bytes);
    assert_eq!(head.target, Target::Authority(head.target_span));
    assert_eq!(head.host.map(|host| text(host.of(bytes))), Some("a.test:443"));
    parse(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
    parse(b"CONNECT a:443 HTTP/1.0\r\n\r\n");

    assert_eq!(
        parse(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target,
        Target::Asterisk
    );
    assert_eq!(parse(b"get / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
}

#[test]
fn hosts_may_be_missing_in_1_0_only() {
    assert_eq!(parse(b"GET / HTTP/1.0\r\n\r\n").host, None);
    let bytes = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    assert_eq!(parse(bytes).host.map(|host| host.of(bytes)), Some(&b"a"[..]));
}

#[test]
fn persistence_follows_version_and_connection() {
    use Persistence::{Close, KeepAlive};
    for (version, connection, want) in [
        ("1.1", "", KeepAlive),
        ("1.1", "Connection: close\r\n", Close),
        ("1.1", "Connection: x, CLOSE\r\n", Close),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", Close),
        ("1.1", "Connection: keep-alive, close\r\n", Close),
        ("1.0", "", Close),
        ("1.0", "Connection: Keep-Alive\r\n", KeepAlive),
        ("1.0", "Connection: close, keep-alive\r\n", Close),
        ("1.0", "Proxy-Connection: keep-alive\r\n", Close),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(parse(bytes.as_bytes()).persistence, want, "{bytes}");
    }
}

#[test]
fn bodies_of_requests() {
    for (line, body, expects) in [
        ("", BodyKind::None, false),
        (
            "Content-Length: 0\r\nExpect: 100-continue\r\n",
            BodyKind::None,
            false,
        ),
        (
            "Content-Length: 9223372036854775807\r\n",
            BodyKind::Fixed(i64::MAX as u64),
            false,
        ),
        (
            "Content-Length: 5\r\nExpect: 100-Continue\r\n",
            BodyKind::Fixed(5),
            true,
        ),
        (
            "Transfer-Encoding:  Chunked \r\nexpect: 100-continue\r\n",
            BodyKind::Chunked,
            true,
        ),
        ("Expect: 100-continue\r\n", BodyKind::None, false),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let head = parse(format!("{method} / HTTP/1.1\r\nHost: a\r\n{line}\r\n").as_bytes());
            assert_eq!(
                (head.body, head.expect_continue),
                (body, expects),
                "{method} {line}"
            );
        }
    }
    let old = b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert!(!parse(old).expect_continue);
    assert_eq!(
        parse(b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").body,
        BodyKind::None
    );
}

#[test]
fn upgrades_count_where_both_sides_mean_them() {
    let upgrade = |version: &str, lines: &str| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        parse(bytes.as_bytes())
            .upgrade
            .map(|span| text(span.of(bytes.as_bytes())).to_owned())
    };
    let websocket = Some("websocket".to_owned());
    assert_eq!(
        upgrade("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"),
        websocket
    );
    assert_eq!(
        upgrade("1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
        websocket
    );
    assert_eq!(
        upgrade("1.1", "Upgrade: a/1, b\r\nConnection: upgrade\r\n"),
        Some("a/1, b".to_owned())
    );
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
    ] {
        assert_eq!(upgrade("1.1", lines), None, "{lines}");
    }
    for token in [
        "TLS/1.0",
        "tls",
        "HTTP/2.0",
        "HTTP/1.1",
        "h2",
        "H2c-16",
        "h2-14",
        "echo, TLS/1.2",
    ] {
        let lines = format!("Connection: upgrade\r\nUpgrade: {token}\r\n");
        assert_eq!(upgrade("1.1", &lines), None, "{token}");
    }
    for token in ["tlsx/1", "https/1", "h2x", "echo/h2c", "SPDY/3.1"] {
        let lines = format!("Connection: upgrade\r\nUpgrade: {token}\r\n");
        assert_eq!(upgrade("1.1", &lines), Some(token.to_owned()));
    }
    assert_eq!(
        upgrade("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
        None
    );
}

/// attacks.md 26: what is marked is dropped before anything is added.
#[test]
fn hop_by_hop_fields_are_marked_by_name_and_by_connection() {
    let bytes: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: x-one, close, host,content-length,\r\nKeep-Alive: 5\r\n\
        Te: trailers\r\nUpgrade: x\r\nProxy-Connection: y\r\nProxy-Authorization: z\r\nX-Two: 2\r\nContent-Length: 3\r\n\
        Connection: ,X-TWO\r\nTrailer: q\r\nX-Three: 3\r\nHTTP2-Settings: s\r\n\r\n";
    let head = parse(bytes);
    let stay: Vec<_> = head
        .fields
        .iter()
        .filter(|f| !f.hop)
        .map(|f| text(f.name.of(bytes)))
        .collect();
    assert_eq!(stay, ["Host", "Content-Length", "Trailer", "X-Three"]);
}

#[test]
fn bounds_are_exact() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let mut head = RequestHead::new();
    let exact = Limits {
        head_bytes: bytes.len(),
        fields: 2,
        ..Limits::default()
    };
    assert_eq!(head.parse(bytes, &exact), Ok(Parsed::Complete));
    assert_eq!(
        head.parse(&[bytes, &b"more"[..]].concat(), &exact),
        Ok(Parsed::Complete)
    );
    let short = Limits {
        head_bytes: bytes.len() - 1,
        ..exact
    };
    assert_eq!(head.parse(bytes, &short), Err(HeadError::TooLarge));
    assert_eq!(
        head.parse(&bytes[..bytes.len() - 1], &short),
        Err(HeadError::TooLarge)
    );
    assert_eq!(head.parse(&bytes[..bytes.len() - 2], &short), Ok(Parsed::Partial));
    assert_eq!(
        head.parse(bytes, &Limits { fields: 1, ..exact }),
        Err(HeadError::TooManyFields)
    );
}

#[test]
fn a_head_that_was_left_half_parsed_is_as_good_as_new() {
    let mut used = RequestHead::new();
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 4000]].concat();
    assert_eq!(used.parse(&long, &Limits::default()), Ok(Parsed::Partial));
    let bytes = [
        b"POST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 5000\r\n\r\n".as_slice(),
        &[b'z'; 5000],
    ]
    .concat();
    assert_eq!(used.parse(&bytes, &Limits::default()), Ok(Parsed::Complete));
    assert_eq!(used.fields, parse(&bytes).fields);
}
