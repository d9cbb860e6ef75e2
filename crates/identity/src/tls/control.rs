//! What is different in a handshake with the control plane?
//!
//! It is where certificates come from, so whoever has none is heard too; what such a caller may ask is for the control
//! plane to say. A certificate that is shown must be good: a bad one is no reason to be a stranger instead.
//!
//! And it is where a workload goes whose certificate has ended while nobody could renew it. Such a certificate is not
//! shown, since it would only end the handshake: the workload begins anew, with whatever proves it. Nor is one of which the
//! control plane says so.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_model::spiffe::SpiffeId;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, Error, ServerConfig, SignatureScheme};

use super::verifier::{Callers, Strangers};
use super::{Live, MeshTls};
use crate::verify::system_time;

/// What is spoken with the control plane, as ALPN has it: HTTP/2, as gRPC needs it.
pub const H2: &[u8] = b"h2";

impl MeshTls {
    /// The control plane's own configuration: as [`MeshTls::server_config`], but whoever shows no certificate is let in.
    ///
    /// # Errors
    /// As [`MeshTls::server_config`].
    pub fn control_server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let verifier = Callers::new(Arc::clone(&self.live), &self.provider, Strangers::Heard);
        self.serving(verifier, std::iter::once(H2))
    }

    /// The configuration to call the control plane with, which is believed if it is this id. Before the first
    /// certificate, and after the last one has ended, none is shown.
    ///
    /// # Errors
    /// As [`MeshTls::server_config`].
    pub fn control_client_config(&self, control: &SpiffeId) -> Result<Arc<ClientConfig>, Error> {
        let own = WhileGood {
            live: Arc::clone(&self.live),
            clock: Arc::clone(&self.clock),
        };
        self.calling(control, H2, Arc::new(own))
    }
}

/// The workload's certificate until its end.
struct WhileGood {
    live: Arc<Live>,
    clock: Arc<dyn TimeProvider>,
}

impl WhileGood {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let now: SystemTime = system_time(self.clock.current_time()?);
        let svid = self.live.svid.load();
        let svid = svid.as_deref()?;
        svid.is_shown(now).then(|| Arc::clone(svid.certified()))
    }
}

impl ResolvesClientCert for WhileGood {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.certified().is_some()
    }
}

impl fmt::Debug for WhileGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhileGood")
    }
}
