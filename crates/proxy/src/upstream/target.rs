//! What a connection is made to.

use std::sync::Arc;

use mesh_model::resources::Address;
use rustls::pki_types::ServerName;

/// A server and what is spoken to it below HTTP.
#[derive(Clone)]
pub struct Target {
    /// Where it answers.
    pub address: Address,
    /// TLS to originate.
    pub tls: Option<TargetTls>,
}

/// TLS towards a server.
#[derive(Clone)]
pub struct TargetTls {
    /// Roots, client certificate and ALPN.
    pub config: Arc<rustls::ClientConfig>,
    /// What is sent as SNI and verified.
    pub server_name: ServerName<'static>,
}
