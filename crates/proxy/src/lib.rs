//! The data plane: everything between the bytes of a client and the bytes of a server.
//!
//! ```text
//!   Proxy ── control thread ── plans, sockets ──> workers (data threads)
//!                                                   accept ─> connection ─> http1 | http2 | tunnel
//!                                                                              │
//!                                                  exchange ─> cluster ─> pool ─> server
//! ```
//!
//! What decides is pure (`mesh-model`, [`balance`], [`detect`]); what waits is written over the seam in [`io`]; sockets
//! and threads appear in [`io::socket`], [`worker`] and [`proxy`] only.
//!
//! What is for other crates is in the few public modules; of everything else the compiler sees whether it is used.
#![forbid(unsafe_code)]
#![allow(unreachable_pub)] // `pub` in a module is for the modules beside it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod access;
pub mod admin;
pub mod balance;
mod bind;
mod buffer;
mod clock;
pub mod compile;
mod connection;
mod control;
mod descriptors;
pub mod detect;
mod dialled;
pub mod discovery;
mod exchange;
mod first_bytes;
mod handle;
mod http1;
mod http2;
mod io;
mod locked;
pub mod log;
pub mod on_demand;
mod own;
mod panics;
mod plan;
mod policy;
mod policy_log;
pub mod proxy;
pub mod proxy_header;
mod relay;
mod reload;
#[cfg(test)]
mod sim;
mod stamp;
mod streams;
mod task;
pub mod telemetry;
mod thread;
mod timer;
pub mod tls;
mod tunnel;
mod upstream;
mod worker;
mod workload;
