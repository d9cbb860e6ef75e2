//! What does HTTP/1.1 look like from both ends of a benchmark?

mod client;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use client::{Client, Reuse, Target};
pub(crate) use server::Server;

/// Header fields that a head may have here.
const FIELDS: usize = 64;

/// The one body framing used here. Anything else is an error to a client that checks lengths.
pub(crate) fn content_length(headers: &[httparse::Header<'_>]) -> Option<u64> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
}
