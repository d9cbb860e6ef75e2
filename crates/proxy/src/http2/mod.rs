//! How is HTTP/2 spoken, on both sides?
//!
//! The `h2` crate keeps the protocol: frames, HPACK, flow control. Around it lies what a proxy needs besides.
//!
//! ```text
//!   socket ── metered ── h2 ─┬─ stream ── exchange        (server: one task a connection, one a stream)
//!     bounds, fewer writes   └─ stream ── exchange
//!
//!   exchange ── client stream ─┬─ h2 ── metered ── socket  (client: connections shared by all streams of a thread)
//!   exchange ── client stream ─┘
//! ```
//!
//! - [`frame`] and [`meter`] follow the frames and bound what honest peers never send so many of; sans I/O.
//! - [`wear`] says when a connection is better replaced, before `h2` ends it.
//! - [`metered`] puts them under `h2`, and lets the frames of many streams leave in one write.
//! - [`body`] moves payload in and out of streams under flow control.
//! - [`request`] says what is wrong with a request that `h2` let through.
//! - [`server`] and [`server_stream`] serve clients.
//! - [`client`], [`link`] and [`client_stream`] call servers; [`liveness`] says when a silent one is gone.
//! - [`tunnel`] makes a byte stream of an HTTP/2 stream (extended CONNECT).

pub mod body;
pub mod client;
pub mod client_stream;
pub mod fault;
pub mod frame;
pub mod link;
pub mod liveness;
pub mod meter;
pub mod metered;
pub mod request;
pub mod server;
mod server_exchange;
pub mod server_stream;
pub mod tunnel;
pub mod wear;

#[cfg(test)]
mod tests;
