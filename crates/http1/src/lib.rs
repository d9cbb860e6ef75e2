//! How is HTTP/1 read and written by a proxy that must never be misunderstood?
//!
//! Bytes in, heads and body frames out: nothing here knows a socket or a clock. What two parsers could read differently
//! is an error (RFC 9112 section 11.2), so that whatever this crate lets through has one meaning. Heads are parsed in
//! place into spans; once warm, nothing allocates.
//!
//! - [`RequestHead`], [`ResponseHead`]: a head and what follows from it (body, persistence, upgrade).
//! - [`BodyDecoder`], [`BodyEncoder`]: framing taken off and put on.
//! - [`HeadWriter`], [`copy_fields`]: heads written.
//! - [`path`]: the one normal form of a path.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod body;
mod chunked;
mod error;
mod field;
mod fields;
mod host;
pub mod path;
mod request;
mod response;
mod write;

pub use body::{BodyDecoder, BodyEncoder, BodyKind, Decoded};
pub use chunked::Trailers;
pub use error::{BodyError, HeadError};
pub use field::{Field, Known, Span, classify};
pub use request::{Method, RequestHead, Target};
pub use response::ResponseHead;
pub use write::{HeadWriter, copy_fields};

/// The version in a start line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    #[default]
    Http11,
}

/// Whether the connection may carry another message after this one (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// It may.
    KeepAlive,
    /// It may not.
    #[default]
    Close,
}

/// Whether a head was there as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It was.
    Complete,
    /// More bytes are needed.
    Partial,
}

/// Most fields that a head may ever have, whatever the limits say.
pub const MAX_FIELDS: usize = 256;

/// Bounds of what is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, start line and blank line included. Default 65,536.
    pub head_bytes: usize,
    /// Fields of a head, at most [`MAX_FIELDS`]. Default 128.
    pub fields: usize,
    /// Bytes of chunk extensions in one body; they are dropped. Default 4,096: nobody uses them.
    pub chunk_extension_bytes: usize,
    /// Bytes of trailers. Default 8,192.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 65_536, fields: 128, chunk_extension_bytes: 4096, trailer_bytes: 8192 }
    }
}
