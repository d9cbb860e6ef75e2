//! What may the proxy be told, is it valid, and what does it decide for a request?
//!
//! Everything here is pure: no I/O, no clock, no async, no global state. The same code runs in the data plane,
//! in Node and as WebAssembly in a browser, so a decision shown by a tool is the decision the proxy takes.
//!
//! - [`resources`]: the typed resources ([`Listener`](resources::Listener), [`RouteTable`](resources::RouteTable),
//!   [`Cluster`](resources::Cluster), [`Endpoints`](resources::Endpoints)) and their JSON form.
//! - [`errors`]: why the proxy answered by itself: status, `grpc-status`, `proxy-status`, metric label in one list.
//! - [`route`]: which route takes a request; [`filter`]: what changes on the way.
//! - [`spiffe`]: who a workload is.
//! - [`sni`]: where a TLS stream goes that is not opened here.
//! - [`policy`]: whether a peer may do what it asks for.
//! - [`decide`]: the whole way of a described request, for tools.
//! - [`way`]: headers that say how a request came here.
//! - [`validate`]: what all is wrong with a configuration ([`issue`]: one such thing); [`limits`]: the bounds of every number.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod decide;
pub mod errors;
pub mod filter;
pub mod hosts;
pub mod issue;
pub mod limits;
mod pattern;
pub mod policy;
pub mod resources;
pub mod route;
pub mod sni;
pub mod spiffe;
mod syntax;
pub mod validate;
pub mod way;
