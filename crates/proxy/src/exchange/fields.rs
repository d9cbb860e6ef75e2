//! What does a head look like when it leaves as HTTP/2?
//!
//! The same order of work as for HTTP/1, see [`super::head`]. Fields are written one by one where they will be sent
//! from, out of the bytes that they came in.

use mesh_http1::{Field, Known, classify, decimal};
use mesh_http2::HeadWriter;

use super::head::{Added, Outgoing};
use super::message::{Length, LocalResponse, RequestRef, ResponseEdits, ResponseRef};

impl Outgoing<'_> {
    /// Writes the head as HTTP/2 fields.
    pub fn write_http2(&self, request: RequestRef<'_>, scheme: &[u8], out: &mut HeadWriter<'_>) {
        // Only paths of gRPC are names of methods, which come again.
        out.request(
            self.method,
            scheme,
            self.authority,
            self.target,
            request.is_grpc(),
        );
        let (bytes, fields) = request.fields();
        for field in fields {
            let name = field.name.of(bytes);
            if !field.hop && self.keeps(field.known, name) {
                out.field(field.known, name, field.value.of(bytes), field.never);
            }
        }
        if let Length::Known(n) = self.length {
            content_length(n, out);
        }
        if request.accepts_trailers() {
            out.field(Known::Te, b"te", b"trailers", false);
        }
        self.add(request, |added| {
            let (known, value) = match added {
                Added::ForwardedFor => (Known::XForwardedFor, &*self.peer.text),
                Added::ForwardedProto => (Known::XForwardedProto, self.peer.scheme),
                Added::RequestId => (Known::XRequestId, self.request_id),
                Added::Via(via) => (Known::Via, via),
                Added::Edit(name, value) => {
                    return named(name, value, out);
                }
                // Upgrades go out as HTTP/1.
                Added::WebSocketKey(_) => return,
            };
            out.field(known, known.name().as_bytes(), value.as_bytes(), false);
        });
    }
}

/// What becomes of a response's head besides a route's edits.
#[derive(Clone, Copy)]
pub struct ResponseShape {
    /// The status that is sent.
    pub status: u16,
    /// The length that is said.
    pub length: Length,
    /// It opens a tunnel.
    pub tunnel: bool,
}

impl ResponseRef<'_> {
    /// Writes the final head of a server as HTTP/2 fields.
    pub fn write_http2(&self, shape: ResponseShape, edits: &ResponseEdits<'_>, out: &mut HeadWriter<'_>) {
        out.status(shape.status);
        let (bytes, fields) = self.fields();
        for field in fields {
            let name = field.name.of(bytes);
            let drops = match field.known {
                Known::ContentLength => true,
                // RFC 8441 section 5: what proves the switch in HTTP/1 has no place here.
                Known::SecWebSocketAccept => shape.tunnel,
                _ => edits.headers.drops(name),
            };
            if !field.hop && !drops {
                out.field(field.known, name, field.value.of(bytes), field.never);
            }
        }
        if let Length::Known(n) = shape.length
            && !edits.headers.drops(b"content-length")
        {
            content_length(n, out);
        }
        if let Some(via) = edits.via {
            let via = format!("{} {via}", self.version());
            out.field(Known::Via, b"via", via.as_bytes(), false);
        }
        for (name, value) in edits.headers.additions() {
            named(name, value, out);
        }
    }

    /// Writes a head without what a route changes: an informational one.
    pub fn write_informational_http2(&self, out: &mut HeadWriter<'_>) {
        out.status(self.status());
        let (bytes, fields) = self.fields();
        let passes = |field: &&Field| !field.hop && field.known != Known::ContentLength;
        for field in fields.iter().filter(passes) {
            out.field(
                field.known,
                field.name.of(bytes),
                field.value.of(bytes),
                field.never,
            );
        }
    }
}

impl LocalResponse<'_> {
    /// Writes the head as HTTP/2 fields.
    pub fn write_http2(&self, out: &mut HeadWriter<'_>) {
        out.status(self.grpc.map_or(self.status, |_| 200));
        for (name, value) in self.edited() {
            named(name, value, out);
        }
        match self.grpc {
            Some((status, message)) => write_grpc_status(status, message, out),
            None if matches!(self.status, 204 | 304) => {}
            None => content_length(self.body.len() as u64, out),
        }
    }
}

/// Writes `grpc-status` and `grpc-message`.
pub fn write_grpc_status(status: u32, message: &str, out: &mut HeadWriter<'_>) {
    let mut digits = [0; 20];
    out.field(
        Known::GrpcStatus,
        b"grpc-status",
        decimal(status.into(), &mut digits),
        false,
    );
    out.field(Known::Other, b"grpc-message", message.as_bytes(), false);
}

/// Writes a field whose name was not looked at yet.
fn named(name: &str, value: &str, out: &mut HeadWriter<'_>) {
    let known = classify(name.as_bytes());
    out.field(known, name.as_bytes(), value.as_bytes(), false);
}

fn content_length(n: u64, out: &mut HeadWriter<'_>) {
    let mut digits = [0; 20];
    out.field(
        Known::ContentLength,
        b"content-length",
        decimal(n, &mut digits),
        false,
    );
}
