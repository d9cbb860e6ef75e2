//! The codec's rules, one by one, and what holds for all input.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bodies;
mod heads;
mod paths;
mod properties;
mod requests;
mod responses;
mod writing;
