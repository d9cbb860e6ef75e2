//! How do the mesh's resources travel between a control plane and a proxy?
//!
//! By xDS, in the subset that proxyless gRPC defines; `docs/xds.md` lists every field. The model never mentions xDS:
//! this crate translates at the edge.
//!
//! - [`wire`]: the messages, as far as we use them.
//! - [`kind`]: which kinds of resources there are.
//! - [`translate`]: messages to resources and back; what can't be translated safely is refused, field and reason named.
//! - [`client`]: what a subscriber asks, believes and keeps, without I/O and without a clock.
//! - [`server`]: what a subscriber is told and when, without I/O.
//! - [`grpc`]: how messages are told apart on a stream.
//! - [`bounded`]: how much a message may hold.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bounded;
pub mod client;
pub mod grpc;
pub mod kind;
pub mod server;
pub mod translate;
pub mod wire;
