//! HTTP/2 for proxies, without I/O (RFC 9113, RFC 7541, RFC 8441).
//!
//! A [`Connection`] is handed what was read and says what is to be sent; in between, users of its streams take heads and
//! payload and give others. It is written for a proxy: fields are kept so that they can be passed on, to HTTP/1 as well,
//! without being taken apart; the frames of many streams gather in one buffer; heads and buffers are used
//! again.
//!
//! - [`connection`]: the state; `receive` and `control`: the frames that come; `send`: those that go; `take`: what came, for
//!   its users; [`stream`]: one stream.
//! - [`head`]: requests, responses, trailers. [`hpack`]: how they are compressed.
//! - [`meter`]: which frames an honest peer never sends so many of.
//! - [`frame`] and [`code`]: the wire. [`pool`]: what connections of a thread share.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod code;
pub mod connection;
mod control;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod meter;
pub mod pool;
mod receive;
mod send;
pub mod stream;
mod take;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use connection::{Cause, Connection, Key, Settings};
pub use head::Head;
pub use pool::{Buffers, Pool};
pub use send::HeadWriter;
pub use stream::Failure;
pub use take::Received;
