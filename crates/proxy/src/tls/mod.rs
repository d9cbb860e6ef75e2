//! Whom does the proxy trust, what does it prove of itself, and when is it told to think again?
//!
//! ```text
//!   resources + PEM files ──> ServerTls ─────> rustls::ServerConfig   (what a listener terminates with)
//!                         └─> ClientConfigs ─> rustls::ClientConfig   (what a cluster is called with)
//!   first bytes ────────────> sniff ─────────> server name            (streams that pass through unopened)
//! ```
//!
//! Invariants:
//! - A configuration is used whole or not at all: what is wrong with its files is told with the resource's path and the
//!   file's name, all at once, and the last good one keeps serving.
//! - Nothing global: the cryptography is given to every configuration, none is installed for the process.
//! - Reading files and building configurations is the control thread's work; data threads only load a pointer.
//! - TLS 1.3 and 1.2 with rustls' defaults on aws-lc-rs, X25519MLKEM768 first.

mod certificates;
mod client;
mod der;
mod files;
#[cfg(test)]
pub(crate) mod fixtures;
mod leaf;
mod look;
mod pem;
mod problem;
#[cfg(test)]
mod proved;
mod server;
pub mod sniff;

pub use certificates::Names;
pub use client::{ClientConfigs, Replaced, check_roots, server_name};
pub use look::{Looked, Patience};
pub use server::{Reloaded, ServerTls};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

/// The name that a peer's certificate gives it, for people to read: its first URI, else its first DNS name. Whether it is
/// to be trusted was decided before.
pub fn certificate_name(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    let mut names = certificate.valid_dns_names();
    uris.next().or_else(|| names.next()).map(Into::into)
}

/// The cryptography of every configuration made here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
