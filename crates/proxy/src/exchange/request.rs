//! What can be asked of a request, whichever version of HTTP carried it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use mesh_http1::path::{PathClass, classify_path, normalise_path};
use mesh_http1::{Field, Known, Method, Target};
use mesh_model::hosts;
use mesh_model::resources::EscapedSlashes;
use mesh_model::route::RequestView;
use mesh_model::way::{self, PEER, is_of_the_way, is_peer};

use super::Peer;
use super::message::RequestRef;
use crate::plan::ListenerPlan;

/// What a request asks for beyond a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Nothing.
    Plain,
    /// To switch protocols (HTTP/1 `Upgrade`, HTTP/2 extended CONNECT).
    Upgrade,
    /// A tunnel.
    Connect,
}

/// Why a path is refused: one of our own tokens.
pub struct PathError(pub &'static str);

impl<'a> RequestRef<'a> {
    /// The method.
    pub fn method(&self) -> &'a [u8] {
        match self {
            Self::Http1 { bytes, head } => head.method_span.of(bytes),
            Self::Http2(head) => head.method(),
        }
    }

    /// The authority; empty when there is none.
    pub fn authority(&self) -> &'a [u8] {
        match self {
            Self::Http1 { bytes, head } => head.host.map_or(b"", |span| span.of(bytes)),
            Self::Http2(head) => head
                .authority()
                .or_else(|| head.value(Known::Host))
                .unwrap_or_default(),
        }
    }

    /// Path and query as they came; `*` for the server itself; empty for CONNECT. Absolute-form may have a query without a
    /// path: [`View::path`] is `/` then.
    pub fn path_and_query(&self) -> &'a [u8] {
        match self {
            Self::Http1 { bytes, head } => match head.target {
                Target::Origin { path, query } | Target::Absolute { path, query, .. } => {
                    let end = query.map_or(path.end, |query| query.end);
                    // `http://host` asks for the root, or with OPTIONS for the server (RFC 9112 sections 3.2.1, 3.2.4).
                    if path.start == end {
                        return match head.method {
                            Method::Options => b"*",
                            _ => b"/",
                        };
                    }
                    mesh_http1::Span {
                        start: path.start,
                        end,
                    }
                    .of(bytes)
                }
                Target::Authority(_) => b"",
                Target::Asterisk => b"*",
            },
            Self::Http2(head) => head.path(),
        }
    }

    /// Whether the target names a server (absolute-form), as clients send to forward proxies.
    pub fn is_absolute(&self) -> bool {
        matches!(self, Self::Http1 { head, .. } if matches!(head.target, Target::Absolute { .. }))
    }

    /// Whether it is such a target, and of the scheme `https`: who sends it wants TLS all the way to that server.
    pub fn is_absolute_https(&self) -> bool {
        let Self::Http1 { bytes, head } = self else {
            return false;
        };
        matches!(head.target, Target::Absolute { scheme, .. } if scheme.of(bytes).eq_ignore_ascii_case(b"https"))
    }

    /// What is asked for beyond a response.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Http1 { head, .. } if matches!(head.target, Target::Authority(_)) => RequestKind::Connect,
            Self::Http1 { head, .. } if head.upgrade.is_some() => RequestKind::Upgrade,
            Self::Http2(head) if head.protocol().is_some() => RequestKind::Upgrade,
            Self::Http2(head) if head.method() == b"CONNECT" => RequestKind::Connect,
            _ => RequestKind::Plain,
        }
    }

    /// Whether the client waits for 100 before it sends its body.
    pub fn expects_continue(&self) -> bool {
        match self {
            Self::Http1 { head, .. } => head.expect_continue,
            // What else it could say was refused.
            Self::Http2(head) => head.value(Known::Expect).is_some(),
        }
    }

    /// The protocol to switch to.
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        match self {
            Self::Http1 { bytes, head } => head.upgrade.map(|span| span.of(bytes)),
            Self::Http2(head) => head.protocol(),
        }
    }

    /// Whether a WebSocket is asked for over HTTP/2 (RFC 8441).
    pub fn opens_websocket(&self) -> bool {
        matches!(self, Self::Http2(_))
            && self
                .upgrade()
                .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    }

    /// How long a gRPC caller waits (`grpc-timeout`).
    pub fn grpc_timeout(&self) -> Option<Duration> {
        self.value(Known::GrpcTimeout).and_then(parse_grpc_timeout)
    }
}

/// `TimeoutValue TimeoutUnit` of gRPC's HTTP/2 protocol: 1 to 8 digits and one of `H M S m u n`.
fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits
        .iter()
        .fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A request as routes, policy and hashes see it: what is judged is what is forwarded, whichever version of HTTP carries
/// it. The path is in its normal form. Of the headers that say how the request came here, those that will be passed on
/// or written by this proxy are there, and no others. `host` is the authority, in the form in which hosts are compared.
pub struct View<'a> {
    request: RequestRef<'a>,
    plan: &'a ListenerPlan,
    peer: &'a Peer,
    /// The authority.
    pub host: &'a [u8],
    /// The path, normal.
    pub path: &'a [u8],
    /// The query, as it came.
    pub query: &'a [u8],
    /// Whether there is a `?`.
    pub has_query: bool,
    /// Whether the path differs from what came.
    pub changed: bool,
    /// Made when somebody asks for them.
    normal_host: OnceCell<Vec<u8>>,
    cookie: OnceCell<Vec<u8>>,
}

/// Where the values of a header are.
enum Values<'a> {
    /// Every field of the name.
    Fields,
    /// Every field of the name that is not hop-by-hop.
    SentOn,
    /// This one, or there is none.
    One(Option<&'a [u8]>),
}

impl<'a> View<'a> {
    /// Looks at a request. `normal` takes the normal form when the path is not in it already.
    pub fn new(
        request: RequestRef<'a>,
        plan: &'a ListenerPlan,
        peer: &'a Peer,
        normal: &'a mut Vec<u8>,
    ) -> Result<Self, PathError> {
        let whole = request.path_and_query();
        let mark = whole.iter().position(|b| *b == b'?');
        let (path, query) = match mark {
            Some(mark) => (
                whole.get(..mark).unwrap_or_default(),
                whole.get(mark + 1..).unwrap_or_default(),
            ),
            None => (whole, &b""[..]),
        };
        let mut view = Self {
            request,
            plan,
            peer,
            host: request.authority(),
            path,
            query,
            has_query: mark.is_some(),
            changed: false,
            normal_host: OnceCell::new(),
            cookie: OnceCell::new(),
        };
        if path.starts_with(b"/") && classify_path(path) == PathClass::Unusual {
            let keep = plan.resource.escaped_slashes == EscapedSlashes::Keep;
            normalise_path(path, keep, normal).map_err(|e| PathError(e.as_str()))?;
            view.changed = normal != path;
            view.path = normal;
        }
        // `http://host?query`: servers are asked for `/?query` (RFC 9112 section 3.2.1).
        if path.is_empty() && view.has_query && request.is_absolute() {
            view.changed = true;
            view.path = b"/";
        }
        Ok(view)
    }

    /// The same request, for this host.
    pub fn for_host(&self, host: &'a [u8]) -> Self {
        Self {
            host,
            normal_host: OnceCell::new(),
            cookie: OnceCell::new(),
            ..*self
        }
    }

    /// What the client speaks, `http` or `https`, as far as this proxy or one that is trusted in front knows.
    pub fn scheme(&self) -> &'static str {
        way::scheme(self.header(way::FORWARDED_PROTO)).unwrap_or(self.peer.scheme)
    }

    fn values(&self, name: &str) -> Values<'_> {
        match name {
            "host" => {
                let host = match hosts::normal(self.host) {
                    Cow::Borrowed(host) => host,
                    Cow::Owned(host) => self.normal_host.get_or_init(|| host),
                };
                Values::One(Some(host).filter(|host| !host.is_empty()))
            }
            // RFC 9113 section 8.2.3: crumbs are one field, to everybody but HPACK.
            "cookie" if self.request.cookie_crumbs() => {
                Values::One(Some(self.cookie.get_or_init(|| self.request.whole_cookie())))
            }
            _ if is_of_the_way(name.as_bytes()) => self.of_the_way(name),
            _ => Values::Fields,
        }
    }

    fn of_the_way(&self, name: &str) -> Values<'_> {
        if is_peer(name.as_bytes()) {
            let caller = self.peer.workload().filter(|_| name == PEER);
            return Values::One(caller.map(|id| id.as_str().as_bytes()));
        }
        let trusted = self.plan.trusts(self.peer.ip);
        let said = |known| trusted && self.request.has(known);
        match name {
            "x-forwarded-for" if !said(Known::XForwardedFor) => Values::One(Some(self.peer.text.as_bytes())),
            "x-forwarded-proto" if !said(Known::XForwardedProto) => {
                Values::One(Some(self.peer.scheme.as_bytes()))
            }
            _ if trusted => Values::SentOn,
            _ => Values::One(None),
        }
    }
}

impl RequestView for View<'_> {
    fn host(&self) -> &[u8] {
        self.host
    }

    fn method(&self) -> &[u8] {
        self.request.method()
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> &[u8] {
        self.query
    }

    fn header<'v>(&'v self, name: &'v str) -> impl Iterator<Item = &'v [u8]> {
        let (bytes, all) = self.request.fields();
        let (one, fields, hop) = match self.values(name) {
            Values::Fields => (None, all, true),
            Values::SentOn => (None, all, false),
            Values::One(one) => (one, &all[..0], false),
        };
        let of = move |field: &&Field| {
            (hop || !field.hop) && field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes())
        };
        let values = fields.iter().filter(of).map(move |field| field.value.of(bytes));
        one.into_iter().chain(values)
    }

    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.request.values(Known::Cookie)
    }

    fn is_grpc(&self) -> bool {
        self.request.is_grpc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_follow_the_specification() {
        assert_eq!(parse_grpc_timeout(b"1H"), Some(Duration::from_secs(3600)));
        assert_eq!(
            parse_grpc_timeout(b"99999999m"),
            Some(Duration::from_millis(99_999_999))
        );
        assert_eq!(parse_grpc_timeout(b"100u"), Some(Duration::from_micros(100)));
        for bad in [&b""[..], b"S", b"1", b"123456789S", b"-1S", b"1x", b"1 S"] {
            assert_eq!(parse_grpc_timeout(bad), None);
        }
    }
}
