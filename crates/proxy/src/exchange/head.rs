//! What does a head look like when it leaves?
//!
//! Order of work, the same for both versions of HTTP (attacks.md 25, 26): hop-by-hop fields go first, also those named
//! in `connection`; then what the client may not say of itself; then the route's edits; then what this proxy adds.
//! Field names keep their case and order between HTTP/1 peers; adjacent fields that stay are copied in one piece.

use http::{HeaderName, HeaderValue};
use mesh_http1::{BodyEncoder, Field, HeadWriter, Known, classify, copy_fields};
use mesh_model::filter::CompiledEdits;
use mesh_model::route::is_grpc_type;

use super::Peer;
use super::message::{Length, RequestRef, ResponseEdits, ResponseRef};

/// Whether the headers by which a client describes its own way here are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The peer is in a trusted network.
    Trusted,
    /// Anyone.
    Untrusted,
}

/// A request as it leaves.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query, or `*`.
    pub target: &'a [u8],
    /// The host that is sent.
    pub authority: &'a [u8],
    /// The client.
    pub peer: &'a Peer,
    /// Whether the client's forwarding headers stay.
    pub trust: Trust,
    /// The id to send when the client's own is absent or not believed.
    pub request_id: &'a str,
    /// The pseudonym for `via`.
    pub via: Option<&'a str>,
    /// The route's changes.
    pub edits: &'a CompiledEdits,
    /// How long the body is.
    pub length: Length,
    /// Whether the client waits for 100 before it sends its body. To say so where there is none would leave the server
    /// waiting for what never comes (attacks.md 19).
    pub expects: bool,
    /// The protocol to switch to.
    pub upgrade: Option<&'a [u8]>,
    /// The key of a WebSocket that a client opens over HTTP/2, which knows none (RFC 8441 section 5).
    pub websocket_key: Option<&'a str>,
}

/// A field that this proxy adds to a request.
pub(super) enum Added<'a> {
    /// The client's address.
    ForwardedFor,
    /// The scheme that it spoke.
    ForwardedProto,
    /// An id.
    RequestId,
    /// `version pseudonym`.
    Via(&'a str),
    /// The key of a WebSocket.
    WebSocketKey(&'a str),
    /// Another name and value.
    Edit(&'a str, &'a str),
}

impl Outgoing<'_> {
    /// Whether a field that came is sent on; those that are hop-by-hop are not.
    pub(super) fn keeps(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => (self.trust == Trust::Trusted || !is_of_the_way(name)) && !self.edits.drops(name),
            Known::Host | Known::ContentLength => false,
            Known::Expect => self.expects && !self.edits.drops(name),
            Known::SecWebSocketKey => self.websocket_key.is_none() && !self.edits.drops(name),
            Known::Forwarded
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedProto
            | Known::XForwardedPort
            | Known::XRealIp
            | Known::XRequestId => self.trust == Trust::Trusted && !self.edits.drops(name),
            _ => !self.edits.drops(name),
        }
    }

    /// What this proxy adds, field by field.
    pub(super) fn add(&self, request: RequestRef<'_>, mut add: impl FnMut(Added<'_>)) {
        let trusted = self.trust == Trust::Trusted;
        // Who sets or removes one of these by an edit means it.
        let ours = |known: Known| !self.edits.drops(known.name().as_bytes());
        if ours(Known::XForwardedFor) {
            add(Added::ForwardedFor);
        }
        if ours(Known::XForwardedProto) && !(trusted && request.has(Known::XForwardedProto)) {
            add(Added::ForwardedProto);
        }
        if ours(Known::XRequestId) && !(trusted && request.has(Known::XRequestId)) {
            add(Added::RequestId);
        }
        if let Some(via) = self.via {
            add(Added::Via(&format!("{} {via}", request.version())));
        }
        for (name, value) in self.edits.additions() {
            add(Added::Edit(name, value));
        }
        if let Some(key) = self.websocket_key {
            add(Added::WebSocketKey(key));
            if request
                .value(Known::Other, &http::header::SEC_WEBSOCKET_VERSION)
                .is_none()
            {
                add(Added::Edit("sec-websocket-version", "13"));
            }
        }
    }

    /// Writes the head as HTTP/1.1 and says how the body is to be framed.
    pub fn write_http1(&self, request: RequestRef<'_>, out: &mut Vec<u8>) -> BodyEncoder {
        let mut head = HeadWriter::new(out);
        head.request_line(self.method, self.target);
        head.field(b"Host", self.authority);
        match request {
            RequestRef::Http1 { bytes, head: parsed } => {
                copy_fields(bytes, &parsed.fields, head.out(), |field: &Field| {
                    !field.hop && self.keeps(field.known, field.name.of(bytes))
                });
            }
            RequestRef::Http2(parts) => {
                // RFC 9113 section 8.2.3: crumbs become one field again.
                let mut cookies = Vec::new();
                for (name, value) in &parts.headers {
                    let known = classify(name.as_str().as_bytes());
                    if known.is_hop_by_hop() || !self.keeps(known, name.as_str().as_bytes()) {
                        continue;
                    }
                    if name == http::header::COOKIE {
                        if !cookies.is_empty() {
                            cookies.extend_from_slice(b"; ");
                        }
                        cookies.extend_from_slice(value.as_bytes());
                    } else {
                        head.field(name.as_str().as_bytes(), value.as_bytes());
                    }
                }
                if !cookies.is_empty() {
                    head.field(b"cookie", &cookies);
                }
            }
        }
        self.add(request, |added| match added {
            Added::ForwardedFor => head.field(b"x-forwarded-for", self.peer.text.as_bytes()),
            Added::ForwardedProto => head.field(b"x-forwarded-proto", self.peer.scheme.as_bytes()),
            Added::RequestId => head.field(b"x-request-id", self.request_id.as_bytes()),
            Added::Via(via) => head.field(b"via", via.as_bytes()),
            Added::WebSocketKey(key) => head.field(b"sec-websocket-key", key.as_bytes()),
            Added::Edit(name, value) => head.field(name.as_bytes(), value.as_bytes()),
        });
        if request.accepts_trailers() {
            head.field(b"te", b"trailers");
        }
        if let Some(protocol) = self.upgrade {
            head.field(b"Connection", b"upgrade");
            head.field(b"Upgrade", protocol);
        }
        let encoder = match self.length {
            Length::None if matches!(self.method, b"POST" | b"PUT" | b"PATCH") && self.upgrade.is_none() => {
                head.content_length(0);
                BodyEncoder::None
            }
            Length::None => BodyEncoder::None,
            Length::Known(n) => {
                head.content_length(n);
                BodyEncoder::Fixed(n)
            }
            Length::Unknown => {
                head.field(b"Transfer-Encoding", b"chunked");
                BodyEncoder::Chunked
            }
        };
        head.end();
        encoder
    }
}

/// Whether a name that is not [`Known`] says, or to some servers says, how a request came here: any `x-forwarded-*`, what
/// the mesh's own proxies say, and names that CGI and its children take for these (`X_Forwarded_For`).
pub(super) fn is_of_the_way(name: &[u8]) -> bool {
    if !matches!(name, [b'x' | b'X', b'-' | b'_', ..]) {
        return false;
    }
    let begins = |with: &[u8]| {
        name.get(..with.len()).is_some_and(|start| {
            let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
            start.iter().zip(with).all(same)
        })
    };
    let is = |other: &[u8]| name.len() == other.len() && begins(other);
    begins(b"x-forwarded-") || begins(b"x-mesh-") || is(b"x-real-ip") || is(b"x-request-id")
}

impl RequestRef<'_> {
    /// The first value of a known field.
    pub fn value(&self, known: Known, name: &HeaderName) -> Option<&[u8]> {
        match self {
            Self::Http1 { bytes, head } => head.field(known).map(|f| f.value.of(bytes)),
            Self::Http2(parts) => parts.headers.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// Whether there is a field that is sent on: one that `connection` names is not (attacks.md 26).
    pub(super) fn has(&self, known: Known) -> bool {
        match self {
            Self::Http1 { head, .. } => head.fields.iter().any(|field| field.known == known && !field.hop),
            Self::Http2(parts) => parts
                .headers
                .keys()
                .any(|name| classify(name.as_str().as_bytes()) == known),
        }
    }

    pub(super) fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => match head.version {
                mesh_http1::Version::Http10 => "1.0",
                mesh_http1::Version::Http11 => "1.1",
            },
            Self::Http2(_) => "2",
        }
    }

    /// Whether the client says `te: trailers`. It is hop-by-hop, and ours to say anew, since we pass trailers on.
    pub(super) fn accepts_trailers(&self) -> bool {
        self.value(Known::Te, &http::header::TE).is_some_and(|te| {
            te.split(|b| *b == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        })
    }

    /// Whether this is a gRPC call: its errors are spoken in `grpc-status`.
    pub fn is_grpc(&self) -> bool {
        self.value(Known::ContentType, &http::header::CONTENT_TYPE)
            .is_some_and(is_grpc_type)
    }
}

impl ResponseRef<'_> {
    /// Writes the fields that stay, and what is added, as HTTP/1 lines; framing is the caller's.
    pub fn write_http1(&self, edits: &ResponseEdits<'_>, head: &mut HeadWriter<'_>) {
        match self {
            Self::Http1 { bytes, head: parsed } => {
                copy_fields(bytes, &parsed.fields, head.out(), |field: &Field| {
                    !field.hop
                        && field.known != Known::ContentLength
                        && !edits.headers.drops(field.name.of(bytes))
                });
            }
            Self::Http2(parts) => {
                for (name, value) in &parts.headers {
                    let known = classify(name.as_str().as_bytes());
                    if !known.is_hop_by_hop()
                        && known != Known::ContentLength
                        && !edits.headers.drops(name.as_str().as_bytes())
                    {
                        head.field(name.as_str().as_bytes(), value.as_bytes());
                    }
                }
            }
        }
        if let Some(via) = edits.via {
            head.field(b"via", format!("{} {via}", self.version()).as_bytes());
        }
        for (name, value) in edits.headers.additions() {
            head.field(name.as_bytes(), value.as_bytes());
        }
    }

    pub(super) fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => match head.version {
                mesh_http1::Version::Http10 => "1.0",
                mesh_http1::Version::Http11 => "1.1",
            },
            Self::Http2(_) => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_how_a_request_came() {
        for name in [
            "x-forwarded-prefix",
            "X-Forwarded-Ssl",
            "X_Forwarded_For",
            "x_forwarded-host",
            "X-Mesh-Peer",
            "x_real_ip",
            "x_request_id",
        ] {
            assert!(is_of_the_way(name.as_bytes()), "{name}");
        }
        for name in [
            "x-forwarded",
            "x-real-ip-2",
            "x-request-idx",
            "xforwarded-for",
            "x-meshed",
            "accept",
            "x",
        ] {
            assert!(!is_of_the_way(name.as_bytes()), "{name}");
        }
    }
}
