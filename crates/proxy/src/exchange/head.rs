//! What does a head look like when it leaves?
//!
//! Order of work, the same for both versions of HTTP (attacks.md 25, 26): hop-by-hop fields go first, also those named
//! in `connection`; then what the client may not say of itself; then the route's edits; then what this proxy adds.
//! Field names keep their case and order between HTTP/1 peers; adjacent fields that stay are copied in one piece.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use mesh_http1::{BodyEncoder, Field, HeadWriter, Known, classify, copy_fields};
use mesh_model::filter::CompiledEdits;
use mesh_model::route::is_grpc_type;

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
    /// `http` or `https`, as the client spoke.
    pub scheme: &'static str,
    /// The client's address, textually.
    pub client: &'a str,
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
    /// The protocol to switch to.
    pub upgrade: Option<&'a [u8]>,
}

impl Outgoing<'_> {
    fn keeps(&self, known: Known, name: &[u8]) -> bool {
        match known {
            Known::Other => !self.edits.drops(name),
            Known::Host | Known::ContentLength => false,
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
    fn add(&self, request: RequestRef<'_>, mut field: impl FnMut(&str, &[u8])) {
        field("x-forwarded-for", self.client.as_bytes());
        let trusted = self.trust == Trust::Trusted;
        if !(trusted && request.has(Known::XForwardedProto)) {
            field("x-forwarded-proto", self.scheme.as_bytes());
        }
        if !(trusted && request.has(Known::XRequestId)) {
            field("x-request-id", self.request_id.as_bytes());
        }
        if let Some(via) = self.via {
            field("via", format!("{} {via}", request.version()).as_bytes());
        }
        for (name, value) in self.edits.additions() {
            field(name, value.as_bytes());
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
                    if !self.keeps(known, name.as_str().as_bytes()) || hop(known) {
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
        self.add(request, |name, value| head.field(name.as_bytes(), value));
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

    /// The head as HTTP/2 fields. `None` when it can't be said in HTTP/2 (an authority or path it does not allow).
    pub fn to_http2(&self, request: RequestRef<'_>, scheme: &str) -> Option<http::Request<()>> {
        let mut headers = HeaderMap::with_capacity(16);
        let mut append = |name: &[u8], value: &[u8]| {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        };
        request.each(|name, value, known, hop| {
            if !hop && self.keeps(known, name) && known != Known::Expect {
                append(name, value);
            }
        });
        self.add(request, |name, value| append(name.as_bytes(), value));
        if request.accepts_trailers() {
            append(b"te", b"trailers");
        }
        if let Length::Known(n) = self.length {
            append(b"content-length", n.to_string().as_bytes());
        }
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.authority)
            .path_and_query(self.target)
            .build()
            .ok()?;
        let mut outgoing = http::Request::new(());
        *outgoing.method_mut() = Method::from_bytes(self.method).ok()?;
        *outgoing.uri_mut() = uri;
        *outgoing.version_mut() = Version::HTTP_2;
        *outgoing.headers_mut() = headers;
        Some(outgoing)
    }
}

/// Hop-by-hop fields by name (RFC 9110 section 7.6.1); HTTP/2 has none, and what a peer sends all the same goes.
pub fn hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Te
            | Known::Upgrade
            | Known::Http2Settings
    )
}

impl RequestRef<'_> {
    /// Calls back for each field: name, value, class, whether it is hop-by-hop.
    pub fn each(&self, mut field: impl FnMut(&[u8], &[u8], Known, bool)) {
        match self {
            Self::Http1 { bytes, head } => {
                for f in &head.fields {
                    field(f.name.of(bytes), f.value.of(bytes), f.known, f.hop);
                }
            }
            Self::Http2(parts) => {
                for (name, value) in &parts.headers {
                    let known = classify(name.as_str().as_bytes());
                    field(name.as_str().as_bytes(), value.as_bytes(), known, hop(known));
                }
            }
        }
    }

    /// The first value of a known field.
    pub fn value(&self, known: Known, name: &str) -> Option<&[u8]> {
        match self {
            Self::Http1 { bytes, head } => head.field(known).map(|f| f.value.of(bytes)),
            Self::Http2(parts) => parts.headers.get(name).map(HeaderValue::as_bytes),
        }
    }

    fn has(&self, known: Known) -> bool {
        match self {
            Self::Http1 { head, .. } => head.field(known).is_some(),
            Self::Http2(parts) => parts
                .headers
                .keys()
                .any(|name| classify(name.as_str().as_bytes()) == known),
        }
    }

    fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => match head.version {
                mesh_http1::Version::Http10 => "1.0",
                mesh_http1::Version::Http11 => "1.1",
            },
            Self::Http2(_) => "2",
        }
    }

    /// Whether the client says `te: trailers`. It is hop-by-hop, and ours to say anew, since we pass trailers on.
    fn accepts_trailers(&self) -> bool {
        self.value(Known::Te, "te").is_some_and(|te| {
            te.split(|b| *b == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        })
    }

    /// Whether this is a gRPC call: its errors are spoken in `grpc-status`.
    pub fn is_grpc(&self) -> bool {
        self.value(Known::ContentType, "content-type")
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
                    if !hop(known)
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

    /// The head as HTTP/2 fields.
    pub fn to_http2(self, length: Length, edits: &ResponseEdits<'_>) -> http::Response<()> {
        let mut headers = HeaderMap::with_capacity(16);
        let mut append = |name: &[u8], value: &[u8]| {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        };
        match self {
            Self::Http1 { bytes, head } => {
                for f in &head.fields {
                    let name = f.name.of(bytes);
                    if !f.hop && f.known != Known::ContentLength && !edits.headers.drops(name) {
                        append(name, f.value.of(bytes));
                    }
                }
            }
            Self::Http2(parts) => {
                for (name, value) in &parts.headers {
                    let known = classify(name.as_str().as_bytes());
                    let name = name.as_str().as_bytes();
                    if !hop(known) && known != Known::ContentLength && !edits.headers.drops(name) {
                        append(name, value.as_bytes());
                    }
                }
            }
        }
        if let Some(via) = edits.via {
            append(b"via", format!("{} {via}", self.version()).as_bytes());
        }
        for (name, value) in edits.headers.additions() {
            append(name.as_bytes(), value.as_bytes());
        }
        if let Length::Known(n) = length {
            append(b"content-length", n.to_string().as_bytes());
        }
        let mut response = http::Response::new(());
        *response.status_mut() =
            http::StatusCode::from_u16(self.status()).unwrap_or(http::StatusCode::BAD_GATEWAY);
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = headers;
        response
    }

    fn version(&self) -> &'static str {
        match self {
            Self::Http1 { head, .. } => match head.version {
                mesh_http1::Version::Http10 => "1.0",
                mesh_http1::Version::Http11 => "1.1",
            },
            Self::Http2(_) => "2",
        }
    }
}
