//! Which requests must not be passed on although HTTP/2 allows them?
//!
//! What breaks HTTP/2 itself never comes here: upper-case names, connection fields, control bytes in values,
//! pseudo-fields out of place, bodies that differ from their `content-length`. What is left is what a server behind,
//! over HTTP/1, could read differently than this proxy (attacks.md 20), and heads that are too large (attacks.md 4).

use mesh_http1::{Known, carries_requests, is_authority, is_target, is_token};
use mesh_http2::Head;

use crate::exchange::message::Length;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is malformed (RFC 9113 section 8.1.1): the stream is reset with PROTOCOL_ERROR. One of our tokens.
    Malformed(&'static str),
    /// It has more bytes than the listener allows.
    TooLarge,
    /// It has more fields than the listener allows, crumbs of cookies counted one by one.
    TooManyFields,
    /// It expects something else than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
}

/// Looks at a request's head, and whether a body follows. `most_fields` is the listener's limit.
pub fn check(head: &Head, body: Length, most_fields: usize) -> Result<(), Problem> {
    if head.over {
        return Err(Problem::TooLarge);
    }
    if head.fields.len() > most_fields {
        return Err(Problem::TooManyFields);
    }
    check_authority(head)?;
    check_path(head)?;
    check_protocol(head)?;
    // RFC 9110 section 9.3.8.
    if head.method() == b"TRACE" && !matches!(body, Length::None | Length::Known(0)) {
        return Err(Problem::Malformed("unexpected_body"));
    }
    let mut expectations = head.values(Known::Expect);
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(Problem::Expectation),
    }
}

/// One authority, valid, and a `host` that says the same (RFC 9113 section 8.3.1).
fn check_authority(head: &Head) -> Result<(), Problem> {
    let mut hosts = head.values(Known::Host);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Problem::Malformed("multiple_host"));
    }
    match (head.authority(), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Problem::Malformed("host_mismatch"))
        }
        (Some(name), _) | (None, Some(name)) if is_authority(name) => Ok(()),
        (None, None) => Err(Problem::Malformed("missing_host")),
        _ => Err(Problem::Malformed("authority")),
    }
}

/// A path that begins with a slash and could stand in a request line, or `*` for OPTIONS.
fn check_path(head: &Head) -> Result<(), Problem> {
    let (method, path) = (head.method(), head.path());
    if method == b"CONNECT" && head.protocol().is_none() {
        return Ok(());
    }
    let asterisk = path == b"*" && method == b"OPTIONS";
    if asterisk || (path.starts_with(b"/") && is_target(path)) {
        Ok(())
    } else {
        Err(Problem::Malformed("path"))
    }
}

/// One protocol (RFC 8441 section 4). As in HTTP/1 none is one that carries requests.
fn check_protocol(head: &Head) -> Result<(), Problem> {
    match head.protocol() {
        Some(name) if !is_token(name) || carries_requests(name) => Err(Problem::Malformed("invalid_upgrade")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::tests::head;

    fn request(
        method: &str,
        authority: Option<&str>,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Box<mesh_http2::Head> {
        let mut all = vec![(":method", method), (":scheme", "http"), (":path", path)];
        all.extend(authority.map(|authority| (":authority", authority)));
        all.extend(fields);
        head(&all)
    }

    #[test]
    fn ordinary_requests_pass() {
        let ordinary = [
            request("GET", Some("shop.test"), "/a?b=c", &[]),
            request("GET", Some("shop.test:80"), "/", &[("host", "SHOP.test:80")]),
            request("GET", None, "/", &[("host", "shop.test")]),
            request("OPTIONS", Some("shop.test"), "*", &[]),
            request("POST", Some("[::1]:80"), "/", &[("expect", "100-Continue")]),
            head(&[(":method", "CONNECT"), (":authority", "shop.test:443")]),
        ];
        for head in &ordinary {
            assert_eq!(check(head, Length::None, 128), Ok(()), "{head:?}");
        }
    }

    #[test]
    fn row_20_what_could_be_read_differently_is_malformed() {
        let host = ("host", "a.test");
        let cases = [
            (
                request("GET", Some("a.test"), "/", &[("host", "b.test")]),
                "host_mismatch",
            ),
            (
                request("GET", Some("a.test"), "/", &[host, host]),
                "multiple_host",
            ),
            (request("GET", None, "/", &[]), "missing_host"),
            (request("GET", Some("user@a.test"), "/", &[]), "authority"),
            (request("GET", None, "/", &[("host", "a.test/x")]), "authority"),
            (request("GET", Some("a.test"), "*", &[]), "path"),
            (request("GET", Some("a.test"), "a", &[]), "path"),
        ];
        for (head, token) in &cases {
            assert_eq!(
                check(head, Length::None, 128),
                Err(Problem::Malformed(token)),
                "{head:?}"
            );
        }
    }

    #[test]
    fn row_4_fields_are_counted_with_every_crumb() {
        let crumbs: Vec<_> = (0..129).map(|_| ("cookie", "a=b")).collect();
        let request = |n: usize| request("GET", Some("a.test"), "/", &crumbs[..n]);
        assert_eq!(check(&request(128), Length::None, 128), Ok(()));
        assert_eq!(
            check(&request(129), Length::None, 128),
            Err(Problem::TooManyFields)
        );
    }

    #[test]
    fn only_one_expectation_is_known() {
        let twice = ("expect", "100-continue");
        for fields in [&[("expect", "200-ok")][..], &[twice, twice]] {
            let head = request("POST", Some("a.test"), "/", fields);
            assert_eq!(check(&head, Length::None, 128), Err(Problem::Expectation));
        }
    }
    #[test]
    fn row_20_what_http1_refuses_is_refused() {
        let trace = request("TRACE", Some("a.test"), "/", &[]);
        let unexpected = Err(Problem::Malformed("unexpected_body"));
        assert_eq!(check(&trace, Length::None, 128), Ok(()));
        assert_eq!(check(&trace, Length::Unknown, 128), unexpected);
        assert_eq!(check(&trace, Length::Known(3), 128), unexpected);
        let switch = |protocol| {
            let connect = head(&[
                (":method", "CONNECT"),
                (":protocol", protocol),
                (":scheme", "http"),
                (":authority", "a.test"),
                (":path", "/"),
            ]);
            check(&connect, Length::Unknown, 128)
        };
        for good in ["websocket", "WebSocket", "connect-udp", "tlsx", "h2x"] {
            assert_eq!(switch(good), Ok(()), "{good}");
        }
        for bad in [
            "h2c",
            "H2C",
            "h2",
            "h2c-16",
            "tls",
            "http",
            "websocket, h2c",
            "websocket,foo",
            "foo bar",
            "",
        ] {
            assert_eq!(switch(bad), Err(Problem::Malformed("invalid_upgrade")), "{bad}");
        }
    }
}
