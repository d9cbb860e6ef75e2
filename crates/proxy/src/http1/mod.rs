//! HTTP/1 on both sides: the codec of `mesh-http1` over wires.

pub mod body;
pub mod client;
pub mod connection;
pub mod server;
