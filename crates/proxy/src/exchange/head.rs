//! What does a head look like when it leaves?
//!
//! Order of work, the same for both versions of HTTP (attacks.md 25, 26): hop-by-hop fields go first, also those named
//! in `connection`; then what the client may not say of itself; then the route's edits; then what this proxy adds.
//! Field names keep their case and order between HTTP/1 peers; adjacent fields that stay are copied in one piece.

use mesh_http1::{BodyEncoder, Field, HeadWriter, Known, copy_fields, were_offered};
use mesh_model::filter::CompiledEdits;
use mesh_model::route::is_grpc_type;
use mesh_model::way::{PEER, is_of_the_way, is_peer};

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
            Known::Other => {
                // Who called is proved by a certificate, and never by a header, whoever is trusted.
                let passes = match self.trust {
                    Trust::Trusted => !is_peer(name),
                    Trust::Untrusted => !is_of_the_way(name),
                };
                passes && !self.edits.drops(name)
            }
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
        if let Some(workload) = self.peer.workload() {
            add(Added::Edit(PEER, workload.as_str()));
        }
        if let Some(via) = self.via {
            add(Added::Via(&format!("{} {via}", request.version())));
        }
        for (name, value) in self.edits.additions() {
            add(Added::Edit(name, value));
        }
        if let Some(key) = self.websocket_key {
            add(Added::WebSocketKey(key));
            if request.named("sec-websocket-version").next().is_none() {
                add(Added::Edit("sec-websocket-version", "13"));
            }
        }
    }

    /// Writes the head as HTTP/1.1 and says how the body is to be framed.
    pub fn write_http1(&self, request: RequestRef<'_>, out: &mut Vec<u8>) -> BodyEncoder {
        let mut head = HeadWriter::new(out);
        head.request_line(self.method, self.target);
        head.field(b"Host", self.authority);
        let (bytes, fields) = request.fields();
        // RFC 9113 section 8.2.3: crumbs become one field again.
        let crumbs = request.cookie_crumbs();
        copy_fields(bytes, fields, head.out(), |field: &Field| {
            let crumb = crumbs && field.known == Known::Cookie;
            !field.hop && !crumb && self.keeps(field.known, field.name.of(bytes))
        });
        if crumbs && self.keeps(Known::Cookie, b"cookie") {
            head.field(b"cookie", &request.whole_cookie());
        }
        self.add(request, |added| match added {
            Added::ForwardedFor => head.field(b"x-forwarded-for", self.peer.text.as_bytes()),
            Added::ForwardedProto => head.field(b"x-forwarded-proto", self.peer.scheme.as_bytes()),
            Added::RequestId => head.field(b"x-request-id", self.request_id.as_bytes()),
            Added::Via(via) => head.field(b"via", via.as_bytes()),
            Added::WebSocketKey(key) => head.field(b"sec-websocket-key", key.as_bytes()),
            Added::Edit(name, value) => head.field(name.as_bytes(), value.as_bytes()),
        });
        let te = request.accepts_trailers();
        if te {
            head.field(b"te", b"trailers");
        }
        if let Some(protocol) = self.upgrade {
            head.field(b"Connection", if te { b"upgrade, te" } else { b"upgrade" });
            head.field(b"Upgrade", protocol);
        } else if te {
            // RFC 9110 section 10.1.4: it is for the next hop alone, and says so.
            head.field(b"Connection", b"te");
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

impl<'a> RequestRef<'a> {
    /// The values of a known field.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, fields) = self.fields();
        let of = move |field: &&Field| field.known == known;
        fields.iter().filter(of).map(move |field| field.value.of(bytes))
    }

    /// The first value of a known field.
    pub fn value(&self, known: Known) -> Option<&'a [u8]> {
        self.values(known).next()
    }

    /// The values of a field by its name, in any case.
    pub fn named<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let (bytes, fields) = self.fields();
        let of = move |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
        fields.iter().filter(of).map(move |field| field.value.of(bytes))
    }

    /// Whether there is a field that is sent on: one that `connection` names is not (attacks.md 26).
    pub(super) fn has(&self, known: Known) -> bool {
        let (_, fields) = self.fields();
        fields.iter().any(|field| field.known == known && !field.hop)
    }

    /// Whether its cookies came in crumbs.
    pub(super) fn cookie_crumbs(&self) -> bool {
        matches!(self, Self::Http2(_)) && self.values(Known::Cookie).nth(1).is_some()
    }

    /// All cookies, as one field says them.
    pub(super) fn whole_cookie(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        for cookie in self.values(Known::Cookie) {
            if !whole.is_empty() {
                whole.extend_from_slice(b"; ");
            }
            whole.extend_from_slice(cookie);
        }
        whole
    }

    pub(super) fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => head.version.number(),
            Self::Http2(_) => "2",
        }
    }

    /// Whether the client says `te: trailers`. It is hop-by-hop, and ours to say anew, since we pass trailers on.
    pub fn accepts_trailers(&self) -> bool {
        self.values(Known::Te)
            .flat_map(|te| te.split(|b| *b == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    }

    /// Whether a server that switches protocols switches to what this request offered.
    pub(super) fn offers(&self, response: ResponseRef<'_>) -> bool {
        let ResponseRef::Http1 { bytes, head } = response else {
            return true;
        };
        let offered = match self {
            Self::Http1 { bytes, head } => head.upgrade.map(|span| span.of(bytes)),
            Self::Http2(head) => head.protocol(),
        };
        let named = head.field(Known::Upgrade).map(|field| field.value.of(bytes));
        were_offered(named.unwrap_or_default(), offered.unwrap_or_default())
    }

    /// Whether this is a gRPC call: its errors are spoken in `grpc-status`.
    pub fn is_grpc(&self) -> bool {
        self.value(Known::ContentType).is_some_and(is_grpc_type)
    }
}

impl ResponseRef<'_> {
    /// Writes the fields that stay, and what is added, as HTTP/1 lines; framing is the caller's.
    pub fn write_http1(&self, edits: &ResponseEdits<'_>, head: &mut HeadWriter<'_>) {
        let (bytes, fields) = self.fields();
        copy_fields(bytes, fields, head.out(), |field: &Field| {
            !field.hop && field.known != Known::ContentLength && !edits.headers.drops(field.name.of(bytes))
        });
        if let Some(via) = edits.via {
            head.field(b"via", format!("{} {via}", self.version()).as_bytes());
        }
        for (name, value) in edits.headers.additions() {
            head.field(name.as_bytes(), value.as_bytes());
        }
    }

    pub(super) fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => head.version.number(),
            Self::Http2(_) => "2",
        }
    }
}
