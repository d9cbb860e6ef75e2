//! What is a request or a response, whichever version of HTTP carries it?
//!
//! An exchange moves one request up and one response down. It sees both connections through the traits here, so one
//! pump serves HTTP/1 and HTTP/2 on either side. Payload stays where it was read: a source shows it as a slice, a sink
//! takes what it can.
//!
//! ```text
//!   client ── Downstream (Source) ──> pump ──> Upstream (Sink) ── server
//!   client <─ Downstream (Sink) ───── pump <── Upstream (Source) ─ server
//! ```

use std::io;
use std::task::{Context, Poll};

use mesh_http1::{Field, Known, RequestHead, ResponseHead, classify, copy_fields, is_forbidden_trailer};
use mesh_http2::{Code, Head, HeadWriter};
use mesh_model::filter::CompiledEdits;

/// Why a side of an exchange can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection failed.
    Io(io::ErrorKind),
    /// The connection ended in the middle of a message.
    Truncated,
    /// The peer broke the rules of its protocol.
    Protocol(&'static str),
    /// A head or its trailers were larger than allowed.
    TooLarge(&'static str),
    /// The peer took this stream back (HTTP/2 `RST_STREAM`), with its code.
    Reset(Code),
    /// The peer never looked at this request and says so (HTTP/2 `REFUSED_STREAM` or `GOAWAY`): it may be sent again.
    Refused,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Informational heads before a response; more is an attack (attacks.md 21).
pub const MAX_INFORMATIONAL: u8 = 16;
/// The fault of a server that sends more of them.
pub const INFORMATIONAL_FLOOD: Fault = Fault::Protocol("informational_flood");
/// The fault of a server that switches to a protocol that was not offered.
pub const UNASKED_SWITCH: Fault = Fault::Protocol("unasked_switch");

/// What a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Bytes, to be seen with [`Source::payload`].
    Data,
    /// No more; trailers can be taken.
    End,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// This many bytes.
    Known(u64),
    /// It ends when it ends.
    Unknown,
}

/// Fields after a body.
#[derive(Debug, Default)]
pub enum Trailers {
    /// None.
    #[default]
    None,
    /// HTTP/1 field lines, checked, without those that may not be trailers.
    Lines(Vec<u8>),
    /// HTTP/2 fields.
    Fields(Box<Head>),
}

impl Trailers {
    /// Whether none is left to be sent. Those that may not be trailers are dropped (RFC 9110 section 6.5.1), since whoever
    /// merged them into the head would read another message than this proxy did; and an HTTP/2 server that refuses them
    /// refuses the stream, and ends the connection that others share when there are many.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Lines(lines) => lines.is_empty(),
            Self::Fields(head) => passing(head).next().is_none(),
        }
    }

    /// The `grpc-status` in them.
    pub fn grpc_status(&self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Lines(lines) => lines.split(|b| *b == b'\n').find_map(|line| {
                let (name, value) = line.split_at_checked(GRPC_STATUS.len())?;
                let value = value.strip_prefix(b":")?;
                name.eq_ignore_ascii_case(GRPC_STATUS)
                    .then(|| grpc_status(value.trim_ascii()))
            }),
            Self::Fields(head) => head.value(Known::GrpcStatus).map(grpc_status),
        }
    }

    /// As HTTP/1 field lines.
    pub fn into_lines(self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Lines(lines) => lines,
            Self::Fields(head) => {
                let mut lines = Vec::new();
                copy_fields(head.bytes(), &head.fields, &mut lines, |field| {
                    passes(&head, field)
                });
                lines
            }
        }
    }

    /// Writes them as HTTP/2 fields.
    pub fn write(&self, out: &mut HeadWriter<'_>) {
        match self {
            Self::None => {}
            Self::Lines(lines) => {
                for line in lines.split(|b| *b == b'\n') {
                    let Some(colon) = line.iter().position(|b| *b == b':') else {
                        continue;
                    };
                    let (name, value) = line.split_at(colon);
                    let value = value.get(1..).unwrap_or_default().trim_ascii();
                    out.field(classify(name), name, value, false);
                }
            }
            Self::Fields(head) => {
                for field in passing(head) {
                    let (name, value) = (field.name.of(head.bytes()), field.value.of(head.bytes()));
                    out.field(field.known, name, value, field.never);
                }
            }
        }
    }
}

const GRPC_STATUS: &[u8] = b"grpc-status";

/// What the value of `grpc-status` says. What is no number is none that is known: 2.
pub fn grpc_status(value: &[u8]) -> u32 {
    /// UNKNOWN.
    const UNKNOWN: u32 = 2;
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN)
}

/// Those that may be trailers.
fn passing(head: &Head) -> impl Iterator<Item = &Field> {
    head.fields.iter().filter(|field| passes(head, field))
}

fn passes(head: &Head, field: &Field) -> bool {
    field.known == Known::GrpcStatus || !is_forbidden_trailer(field.name.of(head.bytes()))
}

/// The side that payload comes from.
pub trait Source {
    /// Waits for payload or its end.
    fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Payload, Fault>>;

    /// The payload that is there.
    fn payload(&self) -> &[u8];

    /// Marks payload as taken.
    fn advance(&mut self, n: usize);

    /// The trailers, once, after the end. Those of a request without payload again each time: it may have to be sent again,
    /// whole.
    fn take_trailers(&mut self) -> Trailers;

    /// How long the body is.
    fn length(&self) -> Length;
}

/// The side that payload goes to.
pub trait Sink {
    /// Takes some payload from `source`, at least a byte of it.
    fn poll_send<S: Source>(&mut self, cx: &mut Context<'_>, source: &mut S) -> Poll<Result<(), Fault>>;

    /// Marks the end of the body. Called once.
    fn finish(&mut self, trailers: Trailers) -> Result<(), Fault>;

    /// Sends all that is held back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Bytes that left on a connection of its own: what is held back may be long on its way to a slow peer. 0 on a
    /// shared connection, which keeps watch over itself.
    fn written(&self) -> u64 {
        0
    }
}

/// A request head as it came.
#[derive(Clone, Copy)]
pub enum RequestRef<'a> {
    /// In the bytes of an HTTP/1 head.
    Http1 {
        /// The bytes that the head's spans point into.
        bytes: &'a [u8],
        /// The parsed head.
        head: &'a RequestHead,
    },
    /// As HTTP/2 fields.
    Http2(&'a Head),
}

/// A response head as it came.
#[derive(Clone, Copy)]
pub enum ResponseRef<'a> {
    /// In the bytes of an HTTP/1 head.
    Http1 {
        /// The bytes that the head's spans point into.
        bytes: &'a [u8],
        /// The parsed head.
        head: &'a ResponseHead,
    },
    /// As HTTP/2 fields.
    Http2(&'a Head),
}

impl<'a> RequestRef<'a> {
    /// The fields, and the bytes that their spans point into.
    pub fn fields(&self) -> (&'a [u8], &'a [Field]) {
        match self {
            Self::Http1 { bytes, head } => (bytes, &head.fields),
            Self::Http2(head) => (head.bytes(), &head.fields),
        }
    }
}

impl<'a> ResponseRef<'a> {
    /// The fields, and the bytes that their spans point into.
    pub fn fields(&self) -> (&'a [u8], &'a [Field]) {
        match self {
            Self::Http1 { bytes, head } => (bytes, &head.fields),
            Self::Http2(head) => (head.bytes(), &head.fields),
        }
    }

    /// The `grpc-status` of an answer that is all head.
    pub fn grpc_status(&self) -> Option<u32> {
        let (bytes, fields) = self.fields();
        let field = fields.iter().find(|field| field.known == Known::GrpcStatus)?;
        Some(grpc_status(field.value.of(bytes)))
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::Http1 { head, .. } => head.status,
            Self::Http2(head) => head.status,
        }
    }
}

/// What a server's answer to a request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A 1xx other than 101; another head follows.
    Informational,
    /// The response.
    Final,
    /// The connection leaves HTTP: 101, or 2xx to CONNECT.
    Tunnel,
}

/// The client's side of an exchange: its request comes from here, its response goes here.
pub trait Downstream: Source + Sink {
    /// The request.
    fn request(&self) -> RequestRef<'_>;

    /// Begins the response with the head that a server sent.
    fn start_response<U: Upstream>(&mut self, up: &mut U, edits: &ResponseEdits<'_>);

    /// Passes on a 1xx head.
    fn informational(&mut self, response: ResponseRef<'_>);

    /// Queues a whole response made by the proxy. Only before [`Downstream::start_response`].
    fn respond(&mut self, response: &LocalResponse<'_>);

    /// Queues the answer to a CONNECT whose tunnel stands. Only before [`Downstream::start_response`].
    fn accept_tunnel(&mut self);

    /// Tells the client, instead of any response, that nobody has looked at its request: it may send it again. False where
    /// its protocol has no word for that. Only before [`Downstream::start_response`].
    fn refuse(&mut self) -> bool {
        false
    }

    /// Whether a response was begun.
    fn started(&self) -> bool;

    /// Asks the client, with the response, to go elsewhere. Only before [`Downstream::start_response`]; where it is
    /// asked by the connection, not by each response, nothing.
    fn leave(&mut self) {}

    /// Ready when the client is seen to have gone or to have said that it sends nothing more. Asked only after the
    /// request's end.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Ready when the client is seen to have gone, or to have said that it sends nothing more, while its request waits for
    /// a server. What it sends meanwhile is read as far as there is room for it; asked no more once it was ready.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Gone>;

    /// Ready when the client has taken its request back. Asked while its request waits; where that can't be known
    /// without reading on, never.
    fn poll_cancelled(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Waits until the client is known to have gone: it broke its connection off, or took its request back. Nothing is read
    /// of it, and one that has only ended its side is there.
    fn gone(&self) -> impl Future<Output = ()>;

    /// Says that the request is a gRPC call, so that the status of its answer is noted. Nothing, where it is anyway.
    fn note_grpc_status(&mut self) {}

    /// The `grpc-status` that the client got, where it got one.
    fn grpc_status(&self) -> Option<u32> {
        None
    }
}

/// How a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It no longer wants the response.
    Cancelled,
    /// It sends nothing more, and may still be reading.
    HalfClosed,
}

/// The server's side of an exchange.
pub trait Upstream: Source + Sink {
    /// Whether it may say of a request that it never looked at it: [`Fault::Refused`].
    const MAY_REFUSE: bool;

    /// Waits for the next head; [`Upstream::response`] then shows it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadKind, Fault>>;

    /// The head that came last.
    fn response(&self) -> ResponseRef<'_>;

    /// The status of the head that came last.
    fn status(&self) -> u16 {
        self.response().status()
    }

    /// Says that the head was used; it can't be seen any more.
    fn head_passed(&mut self);

    /// Whether anything of a response has come.
    fn response_begun(&self) -> bool;

    /// Whether the workload that answers is such a one; false where it is none of a mesh.
    fn leads_to(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) -> bool;
}

/// What is changed in a response that passes.
pub struct ResponseEdits<'a> {
    /// The route's changes.
    pub headers: &'a CompiledEdits,
    /// The pseudonym for `via`.
    pub via: Option<&'a str>,
}

/// A response made by the proxy.
pub struct LocalResponse<'a> {
    /// The status code. gRPC callers get 200 and a `grpc-status` instead.
    pub status: u16,
    /// Fields besides `content-length` and `content-type`.
    pub fields: &'a [(&'a str, &'a str)],
    /// What the route that answers changes; nothing where no route does.
    pub edits: &'a CompiledEdits,
    /// The body's type.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// `grpc-status` and `grpc-message` for gRPC callers.
    pub grpc: Option<(u32, &'a str)>,
}
