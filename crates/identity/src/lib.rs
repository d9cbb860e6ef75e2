//! Who is a workload, how does it prove it, and who says so?
//!
//! ```text
//!   WorkloadKey ──> csr::request ── control plane ──> Csr::check ──> Authority::sign ──> chain + TrustBundle
//!        │                                                                                    │
//!        └───────────────> Svid (key + chain) <───────────────────────────────────────────────┘
//!                            │
//!   MeshTls (Svid, TrustBundle and DenyList, each swapped live) ──> rustls::ServerConfig, rustls::ClientConfig
//!                            │
//!   a peer's chain ──> verify ──> Peer (its one SPIFFE id), or a Rejection that says why not
//!
//!   Manager: when a workload asks for a certificate, and whether the answer is used
//!   token::Tokens: what a workload proves itself with before its first certificate
//! ```
//!
//! Invariants:
//! - Everything fails closed. No trust bundle, no certificate, a name too many: the handshake ends, with a [`Rejection`].
//! - A key is made where it is used. It is in memory alone, is never sent, and a workload's is never written down here.
//! - Nothing here knows a clock: time comes in. Nothing waits, and only [`authority::Directory`] and [`files`] touch a disk.
//! - No state of a session outlives its connection: TLS 1.3 alone, no tickets, no resumption.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod authority;
pub mod bundle;
pub mod csr;
pub mod deny;
pub mod files;
mod key;
mod leaf;
pub mod manager;
mod rejection;
pub mod renewal;
mod serial;
pub mod sni;
mod svid;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod token;
pub mod verify;

pub use bundle::{BundleError, ContentHash, TrustBundle};
pub use csr::{Csr, CsrError};
pub use deny::{Denied, DenyList, NobodyDenied, TooManyDenied};
pub use key::{KeyError, WorkloadKey};
pub use leaf::Peer;
pub use manager::Manager;
pub use rejection::Rejection;
pub use serial::Serial;
pub use svid::{Svid, SvidError};
pub use tls::MeshTls;
pub use verify::{Side, verify};
