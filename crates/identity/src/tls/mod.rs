//! What is said and asked in a handshake between workloads?
//!
//! ```text
//!   MeshTls ── set_svid, set_bundle, set_denied ──> Live <── read by each handshake, never locked
//!      ├── server_config()               any workload of the trust domain may call; Peer::of says who did
//!      ├── client_config(id, protocol)   that one workload is called, and nobody else is believed
//!      └── control.rs                    the same towards the control plane, which also hears who has no certificate yet
//! ```
//!
//! Invariants:
//! - Configurations are made once and never rebuilt: their resolvers and verifiers read [`MeshTls`] anew in each
//!   handshake. What is established keeps the keys it has.
//! - TLS 1.3 alone, X25519MLKEM768 first, a certificate from both sides, no tickets and no resumption: a ticket would
//!   outlive a revocation.
//! - Without an SVID or without a trust bundle no handshake succeeds.

mod control;
mod protocol;
mod remembered;
mod verifier;

pub use control::H2;
pub use protocol::Protocol;

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig, SignatureScheme};

use crate::{DenyList, Svid, TrustBundle};
use remembered::Remembered;
use verifier::{Callers, Expected, Strangers};

/// The identity of a workload and whom it believes, as handshakes see them.
pub struct MeshTls {
    live: Arc<Live>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
}

/// What may change under a configuration.
#[derive(Debug)]
pub(crate) struct Live {
    svid: ArcSwapOption<Svid>,
    bundle: ArcSwap<TrustBundle>,
    denied: ArcSwap<DenyList>,
    remembered: Remembered,
}

impl MeshTls {
    /// With no certificate and no roots yet, so that every handshake fails.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self::with_clock(trust_domain, Arc::new(DefaultTimeProvider))
    }

    /// As [`MeshTls::new`], judging certificates by another clock than the system's.
    pub fn with_clock(trust_domain: TrustDomain, clock: Arc<dyn TimeProvider>) -> Self {
        let live = Live {
            svid: ArcSwapOption::empty(),
            bundle: ArcSwap::from_pointee(TrustBundle::empty(trust_domain)),
            denied: ArcSwap::default(),
            remembered: Remembered::default(),
        };
        Self {
            live: Arc::new(live),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            clock,
        }
    }

    /// Handshakes that begin from now on show this one.
    pub fn set_svid(&self, svid: Arc<Svid>) {
        self.live.svid.store(Some(svid));
    }

    /// The SVID that is shown.
    pub fn svid(&self) -> Option<Arc<Svid>> {
        self.live.svid.load_full()
    }

    /// Peers are judged by these roots from now on.
    pub fn set_bundle(&self, bundle: Arc<TrustBundle>) {
        self.live.bundle.store(bundle);
    }

    /// The roots that peers are judged by.
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.live.bundle.load_full()
    }

    /// These are not believed from now on. What is open to them is for who holds the connections to close: ask
    /// [`DenyList::denies`] for each.
    pub fn set_denied(&self, denied: Arc<DenyList>) {
        self.live.denied.store(denied);
    }

    /// Who is not believed.
    pub fn denied(&self) -> Arc<DenyList> {
        self.live.denied.load_full()
    }

    /// The configuration to be called with, in any of these protocols. Ask [`Peer::of`](crate::Peer::of) the first
    /// certificate of a connection who called, and [`Protocol::agreed`] in which protocol: a caller that offers none is
    /// let through by TLS.
    ///
    /// # Errors
    /// rustls does not take the provider; never with the one that is built in.
    pub fn server_config(&self, protocols: &[Protocol]) -> Result<Arc<ServerConfig>, Error> {
        let protocols = protocols.iter().map(|one| one.as_bytes());
        let verifier = Callers::new(Arc::clone(&self.live), &self.provider, Strangers::Refused);
        self.serving(verifier, protocols)
    }

    fn serving(
        &self,
        verifier: Callers,
        protocols: impl Iterator<Item = &'static [u8]>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let mut config =
            ServerConfig::builder_with_details(Arc::clone(&self.provider), Arc::clone(&self.clock))
                .with_protocol_versions(&[&TLS13])?
                .with_client_cert_verifier(Arc::new(verifier))
                .with_cert_resolver(Arc::clone(&self.live) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration to call this workload with. The server name that it is given is
    /// [`sni::Target::server_name`](crate::sni::Target::server_name).
    ///
    /// # Errors
    /// As [`MeshTls::server_config`].
    pub fn client_config(&self, expected: &SpiffeId, protocol: Protocol) -> Result<Arc<ClientConfig>, Error> {
        let own = Arc::clone(&self.live) as Arc<dyn ResolvesClientCert>;
        self.calling(expected, protocol.as_bytes(), own)
    }

    fn calling(
        &self,
        expected: &SpiffeId,
        protocol: &[u8],
        own: Arc<dyn ResolvesClientCert>,
    ) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Expected::new(expected.clone(), Arc::clone(&self.live), &self.provider);
        let mut config =
            ClientConfig::builder_with_details(Arc::clone(&self.provider), Arc::clone(&self.clock))
                .with_protocol_versions(&[&TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_cert_resolver(own);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

impl Live {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.svid
            .load()
            .as_deref()
            .map(|svid| Arc::clone(svid.certified()))
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.svid.load().is_some()
    }
}

impl fmt::Debug for MeshTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshTls")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
