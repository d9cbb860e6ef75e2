//! What do these bytes mean in HTTP/1, and which bytes say it?
//!
//! The codec of the proxy, without I/O: it is given bytes and answers with heads and pieces of bodies; it knows no
//! socket and no clock. Heads are parsed in place: what is found are [`Span`]s into the caller's buffer.
//!
//! ```text
//!  bytes in ──> RequestHead / ResponseHead ──> fields ──> copy_fields ──> HeadWriter ──> bytes out
//!           └─> BodyDecoder ──> payload ──> BodyEncoder ──────────────────────────────┘
//! ```
//!
//! Invariants:
//! - Whatever two parsers could read differently is an error, never a guess (RFC 9112 section 11.2). One enum names
//!   every rule: [`HeadError`] for heads, [`BodyError`] for framing, [`path::PathError`] for paths.
//! - Every function is total: no input panics, and every loop and buffer is bounded by [`Limits`].
//! - Parsing depends on the bytes alone: a head means the same however it was cut into reads. No state is kept between
//!   two calls for one head, so a head object can go from one connection to another at any time.
//! - Nothing allocates once the vector of fields has grown to what is usual, but for trailers, which are rare.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod authority;
mod body;
mod described;
mod encode;
mod error;
mod facts;
mod field;
mod known;
mod limits;
mod method;
pub mod path;
mod request;
mod response;
mod scan;
mod span;
mod target;
mod trailers;
mod write;

pub use authority::{is_authority, is_tunnel_target};
pub use body::{BodyDecoder, BodyKind, Decoded};
pub use described::Http1;
pub use encode::BodyEncoder;
pub use error::{BodyError, HeadError};
pub use facts::{Persistence, carries_requests, names_protocols, switchable, were_offered};
pub use field::{Field, Parsed};
pub use known::{Known, classify};
pub use limits::Limits;
pub use method::{Method, Version};
pub use request::RequestHead;
pub use response::ResponseHead;
pub use scan::{is_target, is_token, is_value};
pub use span::Span;
pub use target::Target;
pub use trailers::{Trailers, is_forbidden_trailer};
pub use write::{HeadWriter, copy_fields, decimal, reason_phrase};
