//! How is HTTP/2 spoken, on both sides?
//!
//! [`mesh_http2`] keeps the protocol: frames, compression, flow control, and what a hostile peer may send. Here are those
//! who use it.
//!
//! ```text
//!   socket ── connection ─┬─ channel ── exchange        (server: one task a connection, one a stream)
//!                         └─ channel ── exchange
//!
//!   exchange ── channel ─┬─ connection ── socket        (client: connections shared by all streams of a thread)
//!   exchange ── channel ─┘
//! ```
//!
//! - [`channel`] is a stream as its exchange holds it; [`socket`] moves a connection's bytes.
//! - [`request`] says what is wrong with a request although HTTP/2 allows it.
//! - [`server`] and [`server_stream`] serve clients.
//! - [`client`], [`link`] and [`client_stream`] call servers; [`liveness`] says when a silent one is gone.
//! - [`tunnel`] makes a byte stream of an HTTP/2 stream (extended CONNECT).

pub mod channel;
pub mod client;
pub mod client_stream;
pub mod fault;
pub mod link;
pub mod liveness;
pub mod request;
pub mod server;
mod server_exchange;
pub mod server_stream;
pub mod socket;
pub mod tunnel;

#[cfg(test)]
mod tests;
