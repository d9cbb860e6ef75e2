//! What do the messages of xDS look like on the wire?
//!
//! The structs are the schema: names and numbers of fields are those of the protocol, and only what we read or write is
//! here. They are derived, not generated, so there is no protobuf compiler and no build script; and the fields of other
//! control planes that we don't know cost nothing, since decoding skips them.
//!
//! What we know of and must refuse is here too, as bytes that are never opened: its presence is what counts. A `oneof`
//! is written as optional fields, which is the same on the wire.
#![allow(missing_docs)] // The fields are the protocol's own, described there.

mod cluster;
mod core;
mod discovery;
mod endpoint;
mod listener;
mod matcher;
mod route;
mod tls;

pub use self::cluster::*;
pub use self::core::*;
pub use self::discovery::*;
pub use self::endpoint::*;
pub use self::listener::*;
pub use self::matcher::*;
pub use self::route::*;
pub use self::tls::*;

/// A message that nobody here opens.
pub type Opaque = Vec<u8>;
