//! How do a sidecar and its control plane talk?
//!
//! By gRPC over HTTP/2 over TLS 1.3: xDS for resources, and a small protocol of our own (`proto/mesh/v1`) for
//! certificates and for how the sidecar is. This crate carries messages; what they mean is for its users.
//!
//! ```text
//!   sidecar                                                         control plane
//!   Control::connect ── TLS, HTTP/2, keep-alive ──────────────────> Server::serve
//!     sign()    one request, one answer; without a certificate too     Service::sign
//!     ads()     xDS, delta                                             Service::delta
//!     state_of_the_world()  xDS, where there is no delta               Service::state_of_the_world
//!     report()  SidecarMessage up, ControlMessage down                 Service::report
//! ```
//!
//! - [`client`]: the sidecar's side.
//! - [`server`]: the control plane's.
//! - [`stream`]: messages on a stream, the same at both sides.
//! - [`message`]: our own messages, and what of them is too much.
//! - [`status`]: how a call ended.
//!
//! Invariants:
//! - Every wait has a deadline. A stream may be silent for as long as it likes, since its connection is not: whoever does
//!   not answer a ping is gone.
//! - Everything is bounded: messages, what waits to be sent, streams, connections, and strangers among them.
//! - Nothing is answered to a caller without a certificate but the request for one.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bounds;
pub mod client;
mod error;
mod keep_alive;
mod link;
pub mod message;
pub mod server;
pub mod status;
pub mod stream;

pub use bounds::{
    MAX_ASKED, MAX_BUCKETS, MAX_DECISIONS, MAX_EDGES, MAX_EVIDENCE, MAX_FAILURES, MAX_NACK, MAX_NAME,
    MAX_POLICIES, MAX_SERVICES, MAX_TOKEN, is_kind, is_name,
};
pub use client::Control;
pub use error::Error;
pub use server::{Caller, Hears, Limits, Server, Service};
pub use status::{Code, Status};
pub use stream::{Duplex, Incoming, Outgoing};

/// The longest message that a control plane takes: telemetry of 10,000 edges, or a subscription to 65,536 names. What it
/// sends has the bound of xDS, [`mesh_xds::grpc::MAX_MESSAGE_BYTES`].
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// How many numbers a message holds that a control plane takes, see [`mesh_xds::bounded`]. The worst that can be made of it
/// takes 150 MB for a moment.
pub const MAX_REQUEST_NUMBERS: usize = 1024 * 1024;

/// What messages of gRPC are called.
const CONTENT_TYPE: &str = "application/grpc";

/// Where calls go.
mod path {
    pub(crate) const SIGN: &str = "/mesh.v1.Identity/Sign";
    pub(crate) const REPORT: &str = "/mesh.v1.Sidecar/Report";
    pub(crate) const DELTA: &str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    pub(crate) const STATE_OF_THE_WORLD: &str =
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
}

/// HTTP/2 as both sides want it.
mod window {
    /// What a stream takes before it is read. Enough for one round trip at any sensible speed.
    pub(crate) const STREAM: u32 = 256 * 1024;
    /// What all streams of a connection take.
    pub(crate) const CONNECTION: u32 = 1024 * 1024;
    /// The longest list of headers: ours are a dozen short ones.
    pub(crate) const HEADERS: u32 = 16 * 1024;
    /// What waits to be sent of all streams of a connection.
    pub(crate) const SENDING: usize = 256 * 1024;
}
