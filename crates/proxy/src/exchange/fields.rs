//! What does a head look like when it leaves as HTTP/2?
//!
//! The same order of work as for HTTP/1, see [`super::head`]. Fields that came over HTTP/2 are changed where they are;
//! those that came over HTTP/1 share one copy of their head. Uris are taken over part by part.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use mesh_http1::{Field, Known, Span, classify};
use mesh_model::filter::CompiledEdits;

use super::head::{Added, Outgoing, Trust, is_of_the_way};
use super::message::{Length, RequestRef, ResponseEdits, ResponseRef, Upstream};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The name of the id that requests are told apart by.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that are added to a request: room for them.
const ADDED: usize = 4;

impl Outgoing<'_> {
    /// The head as HTTP/2 fields. `None` when it can't be said in HTTP/2 (an authority or path it does not allow).
    pub fn to_http2(&self, request: RequestRef<'_>, scheme: Scheme) -> Option<http::Request<()>> {
        let mut outgoing = http::Request::new(());
        *outgoing.method_mut() = Method::from_bytes(self.method).ok()?;
        *outgoing.uri_mut() = self.uri(request, scheme)?;
        *outgoing.version_mut() = Version::HTTP_2;
        let headers = outgoing.headers_mut();
        *headers = match request {
            RequestRef::Http1 { bytes, head } => {
                let mut headers = from_http1(bytes, &head.fields, ADDED, |field, name| {
                    self.keeps(field.known, name)
                });
                if let Length::Known(n) = self.length {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(n));
                }
                if request.accepts_trailers() {
                    headers.insert(TE, const { HeaderValue::from_static("trailers") });
                }
                headers
            }
            RequestRef::Http2(parts) => {
                let mut headers = parts.headers.clone();
                // RFC 9113 section 8.3.1: `:authority` says it.
                headers.remove(HOST);
                self.strip(&mut headers);
                one_length(&mut headers);
                headers
            }
        };
        self.add(request, |added| add(headers, added, self));
        Some(outgoing)
    }

    fn uri(&self, request: RequestRef<'_>, scheme: Scheme) -> Option<Uri> {
        let (mut authority, mut path) = match request {
            RequestRef::Http2(parts) => (parts.uri.authority(), parts.uri.path_and_query()),
            RequestRef::Http1 { .. } => (None, None),
        };
        authority = authority.filter(|authority| authority.as_str().as_bytes() == self.authority);
        path = path.filter(|path| path.as_str().as_bytes() == self.target);
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(match authority {
            Some(authority) => authority.clone(),
            None => Authority::try_from(self.authority).ok()?,
        });
        parts.path_and_query = Some(match path {
            Some(path) => path.clone(),
            None => PathAndQuery::try_from(self.target).ok()?,
        });
        Uri::from_parts(parts).ok()
    }

    /// Takes out what does not pass. Most requests have nothing of it, so a look decides.
    fn strip(&self, headers: &mut HeaderMap) {
        let passes = |name: &HeaderName| match classify(name.as_str().as_bytes()) {
            // `h2` lets nothing but `trailers` through, and has no lengths that contradict each other.
            Known::Te | Known::ContentLength => true,
            known => !known.is_hop_by_hop() && self.keeps(known, name.as_str().as_bytes()),
        };
        if headers.keys().all(passes) {
            return;
        }
        for known in Known::ALL {
            let name = known.name();
            let stays = matches!(known, Known::Te | Known::ContentLength);
            if !stays && (known.is_hop_by_hop() || !self.keeps(*known, name.as_bytes())) {
                headers.remove(name);
            }
        }
        if self.trust == Trust::Untrusted {
            let forged = |name: &&HeaderName| is_of_the_way(name.as_str().as_bytes());
            let forged: Vec<_> = headers.keys().filter(forged).cloned().collect();
            forged.iter().for_each(|name| {
                headers.remove(name);
            });
        }
        drop_edited(headers, self.edits);
    }
}

/// A value that no other message will have. Marked so that it goes into no compression table (RFC 7541 section 6.2.3),
/// where it would drive out what comes again, at a cost to both sides.
fn once(text: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds a field to a request.
fn add(headers: &mut HeaderMap, added: Added<'_>, outgoing: &Outgoing<'_>) {
    let (name, value) = match added {
        Added::ForwardedFor => (X_FORWARDED_FOR, Ok(outgoing.peer.field().clone())),
        Added::ForwardedProto => (
            X_FORWARDED_PROTO,
            Ok(HeaderValue::from_static(outgoing.peer.scheme)),
        ),
        Added::RequestId => (X_REQUEST_ID, once(outgoing.request_id)),
        Added::Via(via) => (http::header::VIA, HeaderValue::from_str(via)),
        // Upgrades go out as HTTP/1.
        Added::WebSocketKey(_) => return,
        Added::Edit(name, value) => return append(headers, name, value),
    };
    if let Ok(value) = value {
        headers.append(name, value);
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.append(name, value);
    }
}

fn drop_edited(headers: &mut HeaderMap, edits: &CompiledEdits) {
    for name in edits.dropped() {
        headers.remove(name);
    }
}

/// RFC 9110 section 8.6: several equal lengths become one.
fn one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (lengths.next(), lengths.next()) {
        let first = first.clone();
        headers.insert(CONTENT_LENGTH, first);
    }
}

/// The fields of an HTTP/1 head that pass: their values share one copy of it.
fn from_http1(
    bytes: &[u8],
    fields: &[Field],
    more: usize,
    keeps: impl Fn(&Field, &[u8]) -> bool,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    let end = fields.last().map_or(0, |field| field.line.end as usize);
    let start = fields.first().map_or(0, |field| field.line.start as usize);
    let shared = Bytes::copy_from_slice(bytes.get(start..end).unwrap_or_default());
    let value = |span: Span| {
        let (from, to) = (span.start as usize - start, span.end as usize - start);
        HeaderValue::from_maybe_shared(shared.slice(from..to))
    };
    for field in fields {
        let name = field.name.of(bytes);
        if field.hop || !keeps(field, name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value(field.value)) {
            headers.append(name, value);
        }
    }
    headers
}

impl ResponseRef<'_> {
    /// The fields as they leave over HTTP/2.
    fn fields(&self, length: Length, edits: &ResponseEdits<'_>) -> HeaderMap {
        match self {
            Self::Http1 { bytes, head } => {
                let mut headers = from_http1(bytes, &head.fields, 1, |field, name| {
                    field.known != Known::ContentLength && !edits.headers.drops(name)
                });
                if let Length::Known(n) = length {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(n));
                }
                headers
            }
            Self::Http2(parts) => strip_response(parts.headers.clone(), edits),
        }
    }

    /// A head without what a route changes: an informational one.
    pub fn informational_http2(&self) -> http::Response<()> {
        let (headers, via) = (&CompiledEdits::default(), None);
        let fields = self.fields(Length::None, &ResponseEdits { headers, via });
        response(self.status(), fields)
    }
}

/// The final head of a server as it leaves over HTTP/2.
pub fn response_http2<U: Upstream>(up: &mut U, edits: &ResponseEdits<'_>) -> http::Response<()> {
    let (status, version) = (up.status(), up.response().version());
    let mut fields = match up.take_fields() {
        Some(fields) => strip_response(fields, edits),
        None => up.response().fields(up.length(), edits),
    };
    if let Some(via) = edits.via {
        append(&mut fields, "via", &format!("{version} {via}"));
    }
    for (name, value) in edits.headers.additions() {
        append(&mut fields, name, value);
    }
    response(status, fields)
}

fn strip_response(mut fields: HeaderMap, edits: &ResponseEdits<'_>) -> HeaderMap {
    let hop = |name: &HeaderName| classify(name.as_str().as_bytes()).is_hop_by_hop();
    if fields.keys().any(hop) {
        for known in Known::ALL.iter().filter(|known| known.is_hop_by_hop()) {
            fields.remove(known.name());
        }
    }
    drop_edited(&mut fields, edits.headers);
    one_length(&mut fields);
    fields
}

fn response(status: u16, fields: HeaderMap) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = fields;
    response
}
