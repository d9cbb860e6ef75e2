//! How does a control plane run?

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_identity::authority;
use mesh_model::spiffe::TrustDomain;
use mesh_protocol::Limits;

use crate::admission::Rates;
use crate::batch::Batch;

/// Whose issuer signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// One under a root of its own, both made on the first start.
    Own,
    /// Given by the operator, in PEM. The root's key stays elsewhere.
    Given {
        /// The issuer's chain without the root.
        chain: String,
        /// Its key.
        key: String,
        /// Whom everybody believes.
        roots: String,
    },
}

/// How a control plane runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens. Always with TLS.
    pub listen: Vec<SocketAddr>,
    /// Where it tells resources without TLS, to whoever asks and nothing else: addresses of the loopback, for clients of
    /// gRPC and other proxies on this machine. Nowhere unless told: who may call whom is nobody's business.
    pub plaintext_xds: Vec<SocketAddr>,
    /// How it signs, and for which trust domain.
    pub authority: authority::Settings,
    /// How often it is asked for certificates, by whom.
    pub rates: Rates,
    /// With what.
    pub issuer: Issuer,
    /// What a restart must not forget is kept here, for its owner alone: root and issuer that were made, who is revoked,
    /// and hashes of tokens. Without, it is gone with the process, and every sidecar begins anew with the next one.
    pub directory: Option<PathBuf>,
    /// What the control plane before knew of tokens, see [`Controller::tokens`](crate::Controller::tokens): where there is no
    /// directory.
    pub tokens: Option<String>,
    /// Who is revoked already, beside whom the directory has: identities and serial numbers. It holds before anybody is
    /// heard.
    pub revoked: Vec<String>,
    /// Whose revocation others have taken back: it holds no more, though the directory has it.
    pub allowed: Vec<String>,
    /// Whether others know of revocations, and have not said them yet. Until
    /// [`Controller::knows_revoked`](crate::Controller::knows_revoked) sidecars keep what they know, and whom this one knows
    /// of is added to that.
    pub awaits_revoked: bool,
    /// How many it hears.
    pub limits: Limits,
    /// The mesh at the start. Sidecars that come again at the first moment must find it, and not a mesh without services.
    pub initial: Batch,
    /// How often sidecars tell what they counted. Often enough to see something happen, rarely enough to be no load.
    pub telemetry_interval: Duration,
}

impl Settings {
    /// The defaults, listening nowhere yet.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            listen: Vec::new(),
            plaintext_xds: Vec::new(),
            authority: authority::Settings::new(trust_domain),
            rates: Rates::default(),
            issuer: Issuer::Own,
            directory: None,
            tokens: None,
            revoked: Vec::new(),
            allowed: Vec::new(),
            awaits_revoked: false,
            limits: Limits::default(),
            initial: Batch::default(),
            telemetry_interval: Duration::from_secs(2),
        }
    }
}
