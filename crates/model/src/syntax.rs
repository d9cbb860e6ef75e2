//! Is this text a token, a header value, a host, an authority, a path in normal form?
//!
//! The small grammars of RFC 9110, RFC 3986 and RFC 1035 that resources are checked against. They accept what the
//! proxy sends on unchanged; what is only accepted from clients is the codec's business.

use std::net::{IpAddr, Ipv6Addr};

use crate::resources::MAX_NAME;

/// A token (RFC 9110 section 5.6.2): a method or a header name.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A header value: visible ASCII, spaces and tabs inside (RFC 9110 section 5.5, without obs-text).
pub(crate) fn is_field_value(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'))
        && text.trim_matches([' ', '\t']).len() == text.len()
}

/// The name of a resource or route: printable ASCII without spaces and quotes, so that it can stand in a label, a log
/// line and a command.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'`'))
}

/// A DNS name: labels of letters, digits, `-` and `_`, each 1 to 63 bytes, 253 bytes in all; a final dot is allowed.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=253).contains(&name.len()) && name.split('.').all(label) && !looks_like_ip(name)
}

/// Names whose last label is a number are addresses to every resolver (URL standard, "ends in a number").
fn looks_like_ip(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

/// A DNS name or an IP address: what a certificate can prove.
pub(crate) fn is_server_name(text: &str) -> bool {
    is_dns_name(text) || text.parse::<IpAddr>().is_ok()
}

/// A host with or without port, as it stands in `host` (RFC 9110 section 7.2): no user, no empty port.
pub(crate) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (None, port),
            _ => return false,
        },
        None => match text.find(':') {
            Some(at) => text
                .split_at_checked(at)
                .map_or((Some(text), ""), |(host, port)| (Some(host), port)),
            None => (Some(text), ""),
        },
    };
    host.is_none_or(|host| is_dns_name(host) || host.parse::<IpAddr>().is_ok())
        && (port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| {
                port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
            }))
}

/// Why a path is not in the normal form that requests are brought into before they are routed, so that it could never
/// match, or could be read in two ways.
pub(crate) fn path_problem(path: &str) -> Option<&'static str> {
    let Some(inner) = path.strip_prefix('/') else {
        return Some("does not start with `/`");
    };
    if path.len() > 8192 {
        return Some("is longer than 8192 bytes");
    }
    if path.contains(['?', '#']) {
        return Some("holds a query or fragment");
    }
    if path.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'\\') {
        return Some("holds a character that has to be percent-encoded");
    }
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Some("holds `//`, which requests never do: it is merged before routing");
        }
        // `..;x` too: some servers cut a segment at `;`.
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return Some(
                "holds a `.` or `..` segment, which requests never do: they are resolved before routing",
            );
        }
    }
    escape_problem(path.as_bytes())
}

fn escape_problem(path: &[u8]) -> Option<&'static str> {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        let value = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(_) if !digits.iter().all(u8::is_ascii_hexdigit) => {
                return Some("holds a `%` that is no escape");
            }
            None => return Some("holds a `%` that is no escape"),
            Some(0) => return Some("holds `%00`"),
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                return Some("escapes a character that requests are brought to plain: write it plain");
            }
            Some(_) if digits.iter().any(u8::is_ascii_lowercase) => {
                return Some(
                    "holds an escape in lower case; requests are brought to upper case, such as `%2F`",
                );
            }
            Some(_) => rest = rest.get(at + 3..).unwrap_or_default(),
        }
    }
    None
}

/// Headers that frame a message, name a hop or say where it goes: the codec owns them, and editing one would let two
/// parsers read a message differently (RFC 9110 section 7.6.1, RFC 9112 section 6).
pub(crate) fn is_owned_header(name: &str) -> bool {
    const OWNED: &[&str] = &[
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    OWNED.iter().any(|owned| owned.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in [
            "/",
            "/a",
            "/a/",
            "/a/b;v=1/c",
            "/%2F",
            "/a%20b",
            "/~u/-._",
            "/a:b@c!$&'()*+,=",
            "/...",
            "/{x}",
        ] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/.", "/a/../b", "/a/..", "/..;x/a", "/a?b", "/a#b", "/a b", "/é",
            "/a\\b", "/%", "/%4", "/%zz", "/%+1", "/%00", "/%41", "/%7e", "/%2f", "/a\tb", "/a\u{7f}",
        ] {
            assert!(path_problem(bad).is_some(), "{bad}");
        }
        assert!(path_problem(&format!("/{}", "a".repeat(9000))).is_some());
    }

    #[test]
    fn authorities() {
        for good in [
            "shop.test",
            "shop.test:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
            "a_b.c-d",
            "x.",
        ] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:8x",
            "a:+8",
            "u@h",
            "a/b",
            "[::1",
            "::1",
            "[::1]80",
            "a..b",
            "-a",
            "a b",
            "1.2.3",
            "[1.2.3.4]",
            "a:1:2",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
    }

    #[test]
    fn values_and_names() {
        assert!(
            is_token("x-a")
                && is_token("M-SEARCH")
                && !is_token("")
                && !is_token("a b")
                && !is_token("a:")
                && !is_token("é")
        );
        assert!(
            is_field_value("")
                && is_field_value("a\tb c")
                && !is_field_value(" a")
                && !is_field_value("a\r\nb")
        );
        assert!(!is_field_value("a\0") && !is_field_value("a\u{e9}") && !is_field_value("a\t"));
        assert!(is_name("web") && is_name("a/b:c*") && !is_name("") && !is_name("a b") && !is_name("a\"b"));
        assert!(!is_name(&"a".repeat(254)));
        assert!(
            is_server_name("::1")
                && is_server_name("10.0.0.1")
                && is_server_name("a.b")
                && !is_server_name("*.a")
        );
        assert!(is_owned_header("Content-Length") && !is_owned_header("content-type"));
    }
}
