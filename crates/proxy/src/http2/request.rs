//! Which requests did `h2` let through that must not be passed on?
//!
//! `h2` refuses what breaks HTTP/2 itself: upper-case names, connection fields, control bytes in values, pseudo-fields
//! out of place, bodies that differ from their `content-length`. What is left is what a server behind, over HTTP/1,
//! could read differently than this proxy (attacks.md 20), and heads with too many fields (attacks.md 4).

use http::Method;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use mesh_http1::{is_authority, is_target};

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is malformed (RFC 9113 section 8.1.1): the stream is reset with PROTOCOL_ERROR. One of our tokens.
    Malformed(&'static str),
    /// It has more fields than the listener allows, crumbs of cookies counted one by one.
    TooManyFields,
    /// It expects something else than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
}

/// Looks at a request's head. `most_fields` is the listener's limit.
pub fn check(parts: &Parts, most_fields: usize) -> Result<(), Problem> {
    if parts.headers.len() > most_fields {
        return Err(Problem::TooManyFields);
    }
    check_authority(parts)?;
    check_path(parts)?;
    // RFC 9113 section 8.2.1: no whitespace around a value.
    let padded = |value: &[u8]| value.trim_ascii().len() != value.len();
    if parts.headers.values().any(|value| padded(value.as_bytes())) {
        return Err(Problem::Malformed("field_value"));
    }
    let mut expectations = parts.headers.get_all(EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(Problem::Expectation),
    }
}

/// One authority, valid, and a `host` that says the same (RFC 9113 section 8.3.1).
fn check_authority(parts: &Parts) -> Result<(), Problem> {
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Problem::Malformed("multiple_host"));
    }
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Problem::Malformed("host_mismatch"))
        }
        (Some(name), _) | (None, Some(name)) if is_authority(name) => Ok(()),
        (None, None) => Err(Problem::Malformed("missing_host")),
        _ => Err(Problem::Malformed("authority")),
    }
}

/// A path that begins with a slash and could stand in a request line, or `*` for OPTIONS.
fn check_path(parts: &Parts) -> Result<(), Problem> {
    if parts.method == Method::CONNECT && parts.extensions.get::<h2::ext::Protocol>().is_none() {
        return Ok(());
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    if asterisk || (path.starts_with('/') && is_target(path.as_bytes())) {
        Ok(())
    } else {
        Err(Problem::Malformed("path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Uri};

    fn parts(method: &str, uri: Uri, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn uri(authority: Option<&str>, path: &str) -> Uri {
        let mut parts = http::uri::Parts::default();
        if let Some(authority) = authority {
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = Some(authority.parse().unwrap());
        }
        parts.path_and_query = Some(path.parse().unwrap());
        Uri::from_parts(parts).unwrap()
    }

    #[test]
    fn ordinary_requests_pass() {
        let ordinary = [
            parts("GET", uri(Some("shop.test"), "/a?b=c"), &[]),
            parts("GET", uri(Some("shop.test:80"), "/"), &[("host", "SHOP.test:80")]),
            parts("GET", uri(None, "/"), &[("host", "shop.test")]),
            parts("OPTIONS", uri(Some("shop.test"), "*"), &[]),
            parts("POST", uri(Some("[::1]:80"), "/"), &[("expect", "100-Continue")]),
            parts("CONNECT", "shop.test:443".parse().unwrap(), &[]),
        ];
        for parts in &ordinary {
            assert_eq!(check(parts, 128), Ok(()), "{parts:?}");
        }
    }

    #[test]
    fn row_20_what_could_be_read_differently_is_malformed() {
        let cases = [
            (
                parts("GET", uri(Some("a.test"), "/"), &[("host", "b.test")]),
                "host_mismatch",
            ),
            (
                parts(
                    "GET",
                    uri(Some("a.test"), "/"),
                    &[("host", "a.test"), ("host", "a.test")],
                ),
                "multiple_host",
            ),
            (parts("GET", uri(None, "/"), &[]), "missing_host"),
            (parts("GET", uri(Some("user@a.test"), "/"), &[]), "authority"),
            (parts("GET", uri(None, "/"), &[("host", "a.test/x")]), "authority"),
            (parts("GET", uri(Some("a.test"), "*"), &[]), "path"),
            (
                parts("GET", uri(Some("a.test"), "/"), &[("x", "padded ")]),
                "field_value",
            ),
        ];
        for (parts, token) in &cases {
            assert_eq!(check(parts, 128), Err(Problem::Malformed(token)), "{parts:?}");
        }
    }

    #[test]
    fn row_4_fields_are_counted_with_every_crumb() {
        let crumbs: Vec<_> = (0..129).map(|_| ("cookie", "a=b")).collect();
        let parts = |n: usize| parts("GET", uri(Some("a.test"), "/"), &crumbs[..n]);
        assert_eq!(check(&parts(128), 128), Ok(()));
        assert_eq!(check(&parts(129), 128), Err(Problem::TooManyFields));
    }

    #[test]
    fn only_one_expectation_is_known() {
        for fields in [
            &[("expect", "200-ok")][..],
            &[("expect", "100-continue"), ("expect", "100-continue")],
        ] {
            assert_eq!(
                check(&parts("POST", uri(Some("a.test"), "/"), fields), 128),
                Err(Problem::Expectation)
            );
        }
    }
}
