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

/// The largest window of a connection: what one peer can make this proxy hold, where the windows of all its streams would
/// be more.
const MOST_WINDOW: u32 = 64 * 1024 * 1024;

/// The window of a connection, for this many streams with windows of this size: all of theirs together, so that those that
/// nobody takes from never hold up another, and one for what was taken and is not given back yet. Nothing is held but
/// what came and was not taken.
fn connection_window(stream_window: u32, streams: u32) -> u32 {
    stream_window
        .saturating_mul(streams.saturating_add(1))
        .min(MOST_WINDOW)
}

#[cfg(test)]
mod tests;
