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
    /// What it is offered to speak, where TLS is originated.
    pub offer: Offer,
}

/// What a server is offered to speak over TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The versions of HTTP that the cluster speaks.
    Http,
    /// HTTP/1 alone: for upgrades, which HTTP/2 has not.
    Http1,
    /// Nothing: the bytes are the client's.
    Nothing,
}

/// TLS towards a server.
#[derive(Clone)]
pub struct TargetTls {
    /// Roots, client certificate and the versions of HTTP that the cluster speaks.
    pub config: Arc<rustls::ClientConfig>,
    /// The same for [`Offer::Http1`].
    pub http1: Arc<rustls::ClientConfig>,
    /// The same for [`Offer::Nothing`].
    pub bytes: Arc<rustls::ClientConfig>,
    /// What is sent as SNI and verified.
    pub server_name: ServerName<'static>,
    /// Whether a workload is called, so that what is wrong with it has a name.
    pub workload: bool,
}

impl TargetTls {
    /// Derives the other offers from that of HTTP. They share its roots and its sessions.
    pub fn new(config: Arc<rustls::ClientConfig>, server_name: ServerName<'static>) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut other = rustls::ClientConfig::clone(&config);
            other.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(other)
        };
        Self {
            http1: offering(&[b"http/1.1"]),
            bytes: offering(&[]),
            config,
            server_name,
            workload: false,
        }
    }

    /// Whether this offers less than the cluster speaks: who takes nothing of it may well take other requests.
    pub fn narrows(&self, offer: Offer) -> bool {
        offer == Offer::Http1 && self.http1.alpn_protocols != self.config.alpn_protocols
    }

    /// The configuration that offers this.
    pub fn offering(&self, offer: Offer) -> &Arc<rustls::ClientConfig> {
        match offer {
            Offer::Http => &self.config,
            Offer::Http1 => &self.http1,
            Offer::Nothing => &self.bytes,
        }
    }
}
