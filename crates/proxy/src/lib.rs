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
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod access;
pub mod admin;
pub mod balance;
pub mod bind;
pub mod buffer;
pub mod clock;
pub mod compile;
pub mod connection;
pub mod control;
pub mod descriptors;
pub mod detect;
pub mod dialled;
pub mod discovery;
pub mod exchange;
mod first_bytes;
pub mod handle;
pub mod http1;
pub mod http2;
pub mod io;
mod locked;
pub mod log;
pub mod on_demand;
pub mod own;
pub mod panics;
pub mod plan;
pub mod policy;
mod policy_log;
pub mod proxy;
pub mod proxy_header;
pub mod relay;
pub mod reload;
#[cfg(test)]
mod sim;
mod stamp;
pub mod streams;
pub mod task;
pub mod telemetry;
pub mod thread;
pub mod timer;
pub mod tls;
pub mod tunnel;
pub mod upstream;
pub mod worker;
pub mod workload;
