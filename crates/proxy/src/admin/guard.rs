//! Who may see what on the admin port?
//!
//! Health and metrics are for everybody who reaches it. The rest is for callers on this host: over the Unix socket, or
//! from a loopback address. A loopback address alone proves little, since a browser, or a proxy, on this host has it as
//! well and acts for others. So a request is refused
//!
//! - that names this server by a name that anybody's DNS may lead here (DNS rebinding): `host` must be an IP address or
//!   `localhost`;
//! - that a page of another origin made a browser send: `origin`, where it is there, must be this server;
//! - that says it came through a proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_http1::{Known, RequestHead};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The Unix socket: its file's permissions say who that may be.
    Unix,
    /// A loopback address.
    Loopback,
    /// Anywhere else.
    Remote,
}

impl Caller {
    /// Whoever has this address; none: a Unix socket.
    pub(super) fn new(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical().is_loopback()) {
            None => Self::Unix,
            Some(true) => Self::Loopback,
            Some(false) => Self::Remote,
        }
    }
}

/// Whether the request is one of somebody on this host; else why not.
pub(super) fn local(caller: Caller, head: &RequestHead, bytes: &[u8]) -> Result<(), &'static str> {
    match caller {
        Caller::Unix => return Ok(()),
        Caller::Remote => return Err("only from the host that the proxy runs on"),
        Caller::Loopback => {}
    }
    let proxied = [Known::Forwarded, Known::XForwardedFor, Known::Via];
    if proxied.into_iter().any(|known| head.field(known).is_some()) {
        return Err("not through a proxy");
    }
    let host = head.host.map_or(&b""[..], |span| span.of(bytes));
    // HTTP/1.0 has no need of a host; browsers always send one.
    if !host.is_empty() && !is_literal(host) {
        return Err("the host must be an IP address or localhost");
    }
    let same = |origin: &[u8]| {
        let (scheme, rest) = origin.split_at_checked(7).unwrap_or_default();
        scheme == b"http://" && rest.eq_ignore_ascii_case(host)
    };
    if head.values(bytes, b"origin").any(|origin| !same(origin)) {
        return Err("not from a page of another origin");
    }
    Ok(())
}

/// Whether an authority, known to be valid, can't be led here by a name server.
fn is_literal(authority: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(authority) else {
        return false;
    };
    if let Some(rest) = text.strip_prefix('[') {
        return rest
            .split_once(']')
            .is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok());
    }
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use mesh_http1::Limits;

    use super::*;

    fn check(caller: Caller, fields: &str) -> Result<(), &'static str> {
        let text = format!("GET /config HTTP/1.1\r\n{fields}\r\n\r\n");
        let mut head = RequestHead::new();
        head.parse(text.as_bytes(), &Limits::default()).unwrap();
        local(caller, &head, text.as_bytes())
    }

    #[test]
    fn callers_on_this_host_are_let_in() {
        for host in [
            "127.0.0.1:4191",
            "localhost",
            "LOCALHOST:1",
            "[::1]:4191",
            "10.0.0.7",
        ] {
            assert_eq!(
                check(Caller::Loopback, &format!("Host: {host}")),
                Ok(()),
                "{host}"
            );
        }
        let own_page = "Host: 127.0.0.1:4191\r\nOrigin: http://127.0.0.1:4191";
        assert_eq!(check(Caller::Loopback, own_page), Ok(()));
        assert_eq!(check(Caller::Unix, "Host: mesh\r\nVia: 1.1 x"), Ok(()));
        assert_eq!(
            Caller::new(Some("::ffff:127.0.0.1".parse().unwrap())),
            Caller::Loopback
        );
        assert_eq!(Caller::new(Some("10.0.0.1".parse().unwrap())), Caller::Remote);
    }

    #[test]
    fn those_who_act_for_others_are_not() {
        assert!(check(Caller::Remote, "Host: 127.0.0.1").is_err());
        for fields in [
            "Host: attacker.test",
            "Host: localhost.attacker.test",
            "Host: 127.0.0.1.attacker.test:4191",
            "Host: 127.0.0.1\r\nOrigin: http://attacker.test",
            "Host: 127.0.0.1\r\nOrigin: https://127.0.0.1",
            "Host: 127.0.0.1\r\nOrigin: null",
            "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: null",
            "Host: 127.0.0.1\r\nX-Forwarded-For: 10.0.0.1",
            "Host: 127.0.0.1\r\nForwarded: for=10.0.0.1",
            "Host: 127.0.0.1\r\nVia: 1.1 edge",
        ] {
            assert!(check(Caller::Loopback, fields).is_err(), "{fields}");
        }
    }
}
