//! What does HTTP/2 look like from both ends of a benchmark (RFC 9113)? A small engine of our own: a general one would
//! cost more CPU than the proxies under test.

mod client;
mod connection;
mod hpack;
mod huffman;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use client::{Call, Client, MESSAGE_LIMIT};
pub(crate) use connection::PREFACE;
pub(crate) use server::Server;
