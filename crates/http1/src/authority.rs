//! Is this a host with an optional port, and do two name the same server?
//!
//! Narrower than RFC 3986 section 3.2 where readers differ: no userinfo, no percent-escapes (`%61.test` is `a.test` to
//! those who decode), no comma (a list to some), no zone and no future address forms.

use crate::scan::host_len;

/// A host and its port, as they are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: &'a [u8],
    /// The port; `None` when there is none, or only the colon.
    pub port: Option<u16>,
}

/// Whether these bytes are a valid `host[:port]` (RFC 9110 section 7.2), as strictly as heads are read.
pub fn is_authority(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

/// Whether a tunnel can be asked for to these bytes: a valid `host:port`. RFC 9110 section 9.3.6: the port is required.
/// Port 0 can't be connected to.
pub fn is_tunnel_target(bytes: &[u8]) -> bool {
    parse(bytes)
        .and_then(|authority| authority.port)
        .is_some_and(|port| port != 0)
}

/// Splits `host[:port]`; `None` when it is not valid.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Option<Authority<'_>> {
    if bytes.first() == Some(&b'[') {
        return literal(bytes);
    }
    let (host, rest) = bytes.split_at_checked(host_len(bytes))?;
    if host.is_empty() {
        return None;
    }
    Some(Authority {
        host,
        port: port(rest)?,
    })
}

/// `[` IPv6 address `]` and an optional port.
fn literal(bytes: &[u8]) -> Option<Authority<'_>> {
    let close = bytes.iter().position(|b| *b == b']')?;
    let address = std::str::from_utf8(bytes.get(1..close)?).ok()?;
    address.parse::<std::net::Ipv6Addr>().ok()?;
    let (host, rest) = bytes.split_at_checked(close + 1)?;
    Some(Authority {
        host,
        port: port(rest)?,
    })
}

/// Nothing, or a colon and up to five digits. The outer `None` is an error.
#[inline]
fn port(rest: &[u8]) -> Option<Option<u16>> {
    match rest {
        [] | [b':'] => Some(None),
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let n = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
            u16::try_from(n).ok().map(Some)
        }
        _ => None,
    }
}

impl Authority<'_> {
    /// Whether both name the same server, when an absent port is `default`; without a default it is any.
    pub(crate) fn agrees(&self, other: &Self, default: Option<u16>) -> bool {
        let ports = match (self.port.or(default), other.port.or(default)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        ports && self.host.eq_ignore_ascii_case(other.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_lead_to_a_port() {
        for good in ["a.test:443", "127.0.0.1:1", "[::1]:65535"] {
            assert!(is_tunnel_target(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "a.test", "a.test:", "a.test:0", "[::1]", ":443", "a b:1", "a:65536",
        ] {
            assert!(!is_tunnel_target(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for good in [
            "a",
            "a.test",
            "A_b-c.test:8080",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
            "a:0",
            "x:65535",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a@b",
            "user:pw@b",
            "a:65536",
            "a:99999999999",
            "a:8o",
            "a:-1",
            "a:+1",
            "a:80:80",
            "[::1",
            "::1",
            "[::1]x",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "[]",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%41",
            "a,b",
            "a\tb",
            "é",
            "[127.0.0.1]",
            "a: 80",
            "<a>",
            "a\"",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn same_server() {
        let same = |a: &str, b: &str, default| {
            parse(a.as_bytes())
                .unwrap()
                .agrees(&parse(b.as_bytes()).unwrap(), default)
        };
        assert!(same("A.test", "a.TEST", Some(80)));
        assert!(same("a.test:80", "a.test", Some(80)));
        assert!(same("a.test:443", "a.test", None));
        assert!(!same("a.test:81", "a.test", Some(80)));
        assert!(!same("a.test", "b.test", None));
        assert!(!same("a.test:1", "a.test:2", None));
    }
}
