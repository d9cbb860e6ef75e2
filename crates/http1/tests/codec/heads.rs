//! Requests and responses that are refused: which rule each breaks.

use std::collections::HashSet;

use mesh_http1::{HeadError, Limits, Method, Parsed, RequestHead, ResponseHead};

use HeadError::*;

/// Small bounds, so that reaching them takes few bytes.
pub(crate) fn small() -> Limits {
    Limits {
        head_bytes: 2048,
        fields: 16,
        ..Limits::default()
    }
}

/// A head's lines behind a plain request line and host.
fn with(lines: &[u8]) -> Vec<u8> {
    [b"POST /a HTTP/1.1\r\nHost: a.test\r\n", lines, b"\r\n"].concat()
}

/// Rows of attacks.md stand behind the cases.
fn bad_requests() -> Vec<(Vec<u8>, HeadError)> {
    let whole: &[(&[u8], HeadError)] = &[
        // 16: request lines.
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LeadingLines),
        (b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LeadingLines),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareCr),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidMethod),
        (b"GET\r\n", InvalidMethod),
        (b"\x16\x03\x01", InvalidMethod),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTarget),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (
            b"GET a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
            InvalidTargetForm,
        ),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (b"GET http:?b HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTargetForm),
        (b"GET http://?b HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (
            b"GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n",
            InvalidAuthority,
        ),
        (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", HostMismatch),
        (b"GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n", HostMismatch),
        (b"GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", HostMismatch),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", MissingHost),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (b"CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", InvalidAuthority),
        (
            b"CONNECT http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            InvalidAuthority,
        ),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", HostMismatch),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:80\r\n\r\n", HostMismatch),
        (
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 1\r\n\r\n",
            UnexpectedBody,
        ),
        (
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnexpectedBody,
        ),
        (
            b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            UnexpectedBody,
        ),
        (b"GET /\r\n", UnsupportedVersion),
        (b"GET /\n", UnsupportedVersion),
        (b"GET / \r\n", UnsupportedVersion),
        (b"GET / HTTP/1.32\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", InvalidStartLine),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", InvalidStartLine),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", InvalidTargetForm),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", UnsupportedVersion),
        (b"GET / HTTP/1.1\nHost: a\n\n", BareLf),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", BareCr),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BareCr),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", LeadingWhitespace),
        (b"GET / HTTP/1.1\r\n\tx\r\nHost: a\r\n\r\n", LeadingWhitespace),
        // 16: hosts.
        (b"GET / HTTP/1.1\r\n\r\n", MissingHost),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: u:p@a\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a\xc3\xa9\r\n\r\n", InvalidHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", DuplicateHost),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", DuplicateHost),
        (
            b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnexpectedTransferEncoding,
        ),
    ];
    let lines: &[(&[u8], HeadError)] = &[
        // 12: transfer-encoding.
        (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            LengthAndEncoding,
        ),
        (
            b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            LengthAndEncoding,
        ),
        (
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            DuplicateTransferEncoding,
        ),
        (
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            DuplicateTransferEncoding,
        ),
        (b"Transfer-Encoding: identity\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked, gzip\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: gzip, chunked\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: ,chunked\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked,\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: chunked;q=1\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: \"chunked\"\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: xchunked\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding:\r\n", InvalidTransferEncoding),
        (b"Transfer-Encoding: \x0bchunked\r\n", InvalidValue),
        (b"Transfer-Encoding: chunked\x0c\r\n", InvalidValue),
        (b"Transfer-Encoding: \xa0chunked\r\n", InvalidTransferEncoding),
        // 13: content-length.
        (
            b"Content-Length: 5\r\nContent-Length: 5\r\n",
            DuplicateContentLength,
        ),
        (
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            DuplicateContentLength,
        ),
        (b"Content-Length: 5, 5\r\n", InvalidContentLength),
        (b"Content-Length: +5\r\n", InvalidContentLength),
        (b"Content-Length: -1\r\n", InvalidContentLength),
        (b"Content-Length: 0x5\r\n", InvalidContentLength),
        (b"Content-Length: 1_0\r\n", InvalidContentLength),
        (b"Content-Length: 5Z\r\n", InvalidContentLength),
        (b"Content-Length: 5 5\r\n", InvalidContentLength),
        (b"Content-Length:\r\n", InvalidContentLength),
        (b"Content-Length: 9223372036854775808\r\n", InvalidContentLength),
        (b"Content-Length: 18446744073709551621\r\n", InvalidContentLength),
        (
            b"Content-Length: 99999999999999999999999999\r\n",
            InvalidContentLength,
        ),
        // 15: syntax of fields.
        (b"X-A : b\r\n", SpaceBeforeColon),
        (b"X-A\t: b\r\n", SpaceBeforeColon),
        (b"Content-Length : 5\r\n", SpaceBeforeColon),
        (b": b\r\n", EmptyName),
        (b"X-A: b\r\n c\r\n", ObsoleteFold),
        (b"X-A: b\r\n\tc\r\n", ObsoleteFold),
        (b"X-A: b\r\n \r\n", ObsoleteFold),
        (b"Transfer-\r\nEncoding: chunked\r\n", MissingColon),
        (b"X-A\r\n", MissingColon),
        (b"X-A\nb: c\r\n", MissingColon),
        (b"X A: b\r\n", SpaceBeforeColon),
        (b"X-\xc3\xa9: b\r\n", InvalidName),
        (b"X\x00A: b\r\n", InvalidName),
        (b"X(A): b\r\n", InvalidName),
        (b"\"X\": b\r\n", InvalidName),
        (b"X-A: b\x00c\r\n", InvalidValue),
        (b"X-A: b\x01c\r\n", InvalidValue),
        (b"X-A: b\x7fc\r\n", InvalidValue),
        (b"X-A: b\rc\r\n", BareCr),
        (b"X-A: b\r\rc\r\n", BareCr),
        (b"X-A: b\nX-B: c\r\n", BareLf),
        (b"X-A: b\r\n\nX-B: c\r\n", BareLf),
        (b"X-A: b\r\n\rX-B: c\r\n", BareCr),
        // 19: expectations.
        (b"Expect: 100-continue\r\nExpect: 100-continue\r\n", InvalidExpect),
        (b"Expect: x 100-continue\r\n", InvalidExpect),
        (b"Expect: 100-continue, x\r\n", InvalidExpect),
        (b"Expect: 100-CONTINUE;a\r\n", InvalidExpect),
        (b"Expect:\r\n", InvalidExpect),
        (b"Expect: 200-ok\r\n", ExpectationFailed),
        // 17: connection and upgrade.
        (b"Connection: a b\r\n", InvalidConnection),
        (b"Connection: close, \"x\"\r\n", InvalidConnection),
        (b"Upgrade: web socket\r\n", InvalidUpgrade),
        (b"Upgrade: a/b/c\r\n", InvalidUpgrade),
        (b"Upgrade: ,\r\n", InvalidUpgrade),
    ];
    let mut all: Vec<_> = whole
        .iter()
        .map(|(bytes, error)| (bytes.to_vec(), *error))
        .collect();
    all.extend(lines.iter().map(|(bytes, error)| (with(bytes), *error)));
    let options = format!(
        "Connection: {}\r\n",
        (0..33).map(|n| format!("o{n}")).collect::<Vec<_>>().join(",")
    );
    all.push((with(options.as_bytes()), TooManyConnectionOptions));
    all.push((with("X-A: b\r\n".repeat(16).as_bytes()), TooManyFields));
    all.push((
        with(format!("X-A: {}\r\n", "b".repeat(2048)).as_bytes()),
        TooLarge,
    ));
    all.push((
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(2048)).into_bytes(),
        TooLarge,
    ));
    all
}

fn bad_responses() -> Vec<(Vec<u8>, HeadError)> {
    let all: &[(&[u8], HeadError)] = &[
        // 21: what a server may not send.
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", UnsupportedVersion),
        (b"ICY 200 OK\r\n\r\n", UnsupportedVersion),
        (b"HTTP/2 200\r\n\r\n", UnsupportedVersion),
        (b"HTTP/1.2 200 OK\r\n\r\n", UnsupportedVersion),
        (b"http/1.1 200 OK\r\n\r\n", UnsupportedVersion),
        (b"HTTP/1.1 20 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 2000 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 099 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 -20 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 \r\n\r\n", InvalidStatus),
        (b"HTTP/1.1\r\n\r\n", InvalidStartLine),
        (b"HTTP/1.1\t200 OK\r\n\r\n", InvalidStartLine),
        (b"HTTP/1.1 200OK\r\n\r\n", InvalidStartLine),
        (b"HTTP/1.1 200 O\x00K\r\n\r\n", InvalidReason),
        (b"HTTP/1.1 200 OK\n\n", BareLf),
        (b"HTTP/1.1 200 OK\rX: y\r\n\r\n", BareCr),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            DuplicateContentLength,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            DuplicateContentLength,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            LengthAndEncoding,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            InvalidTransferEncoding,
        ),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnexpectedTransferEncoding,
        ),
        (
            b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnexpectedTransferEncoding,
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
            UnexpectedTransferEncoding,
        ),
        (
            b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            UnexpectedBody,
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\n",
            UnexpectedBody,
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", InvalidUpgrade),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            InvalidUpgrade,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
            InvalidUpgrade,
        ),
        (
            b"HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            InvalidUpgrade,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade:\r\nConnection: upgrade\r\n\r\n",
            InvalidUpgrade,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nUpgrade: b c\r\nConnection: upgrade\r\n\r\n",
            InvalidUpgrade,
        ),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\n b\r\n\r\n", ObsoleteFold),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", SpaceBeforeColon),
        (b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n", InvalidValue),
        (b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n", LeadingWhitespace),
    ];
    all.iter()
        .map(|(bytes, error)| (bytes.to_vec(), *error))
        .collect()
}

/// Every case fails with its rule; each prefix is incomplete or fails with the same rule, and never passes.
fn check(cases: &[(Vec<u8>, HeadError)], mut parse: impl FnMut(&[u8]) -> Result<Parsed, HeadError>) {
    for (bytes, want) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(parse(bytes), Err(*want), "{shown}");
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut]) {
                Ok(Parsed::Partial) => {}
                Err(error) => assert_eq!(error, *want, "{shown} cut at {cut}"),
                Ok(Parsed::Complete) => panic!("{shown} passes cut at {cut}"),
            }
        }
    }
}

#[test]
fn bad_requests_are_refused_by_their_rule_however_they_are_cut() {
    let mut head = RequestHead::new();
    check(&bad_requests(), |bytes| head.parse(bytes, &small()));
}

#[test]
fn bad_responses_are_refused_by_their_rule_however_they_are_cut() {
    let mut head = ResponseHead::new();
    check(&bad_responses(), |bytes| head.parse(bytes, Method::Get, &small()));
}

#[test]
fn every_rule_has_a_case_and_a_name_of_its_own() {
    let seen: HashSet<_> = bad_requests()
        .into_iter()
        .chain(bad_responses())
        .map(|(_, error)| error)
        .collect();
    let names: HashSet<_> = HeadError::ALL.iter().map(|error| error.as_str()).collect();
    for error in HeadError::ALL {
        assert!(seen.contains(error), "{error} has no case");
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(error.as_str().bytes().all(allowed), "{error}");
    }
    assert_eq!(names.len(), HeadError::ALL.len());
}

#[test]
fn statuses_of_refusals() {
    assert_eq!(HeadError::TooLarge.status(), 431);
    assert_eq!(HeadError::TooManyFields.status(), 431);
    assert_eq!(HeadError::ExpectationFailed.status(), 417);
    assert_eq!(HeadError::InvalidHost.status(), 400);
    assert!(HeadError::TooLarge.is_too_large() && !HeadError::BareLf.is_too_large());
}
