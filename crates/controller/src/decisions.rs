//! Who says whether a workload gets the certificate that it asks for?
//!
//! A [`Decisions`] does, which is somebody else's code. It is asked about every request that is not refused anyway: by a
//! bad token, for an identity that is revoked or the control plane's own, for another trust domain. It can only narrow:
//! what a token or a certificate speaks for is all that it can be allowed. What it alone can judge are attestations and
//! tokens of other control planes, each only where it says that it does: one that looks at the identity alone would let in
//! whoever claims it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use mesh_identity::Peer;
use mesh_identity::token::{SpendError, TokenHash};
use mesh_model::spiffe::SpiffeId;

/// A request for a certificate.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whom the certificate is to name.
    pub id: SpiffeId,
    /// What speaks for it.
    pub proof: Proof,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// What speaks for a request.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A certificate for this identity that is still good: a renewal.
    Certificate(Peer),
    /// A token for this identity that can be spent.
    Token,
    /// A token that this control plane has not made: another one may have. Nobody has looked at it yet.
    OtherToken(TokenHash),
    /// What a platform says, which nobody has looked at yet.
    Attestation {
        /// Which attestor is to look at it.
        kind: String,
        /// What it says.
        evidence: Vec<u8>,
    },
}

impl Proof {
    /// The token used in audits.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Token | Self::OtherToken(_) => "token",
            Self::Attestation { .. } => "attestation",
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets one.
    Allow {
        /// For this long; `None` for as long as the settings say, which is the longest.
        ttl: Option<Duration>,
    },
    /// It does not.
    Deny {
        /// Why, for the audit and for the workload.
        reason: String,
    },
}

/// A decision to come.
pub type Deciding<'a> = Pin<Box<dyn Future<Output = Decision> + Send + 'a>>;

/// Decides about certificates.
pub trait Decisions: Send + Sync + 'static {
    /// Decides. Who takes too long has denied.
    fn decide(&self, attempt: Attempt) -> Deciding<'_>;

    /// Whether it knows of tokens that this control plane has not made, and spends them: what it allows for one is signed,
    /// though rates were used up meanwhile. Otherwise they are refused without a question,
    /// which is the default.
    fn knows_other_tokens(&self) -> bool {
        false
    }

    /// Whether it looks at what platforms say. Otherwise every attestation is refused without a question, which is the
    /// default.
    fn attests(&self) -> bool {
        false
    }
}

/// The default: tokens and certificates are enough, and nobody looks at what platforms say.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokensAlone;

impl Decisions for TokensAlone {
    fn decide(&self, attempt: Attempt) -> Deciding<'_> {
        Box::pin(std::future::ready(match attempt.proof {
            Proof::Certificate(_) | Proof::Token => Decision::Allow { ttl: None },
            Proof::OtherToken(_) => Decision::Deny {
                reason: SpendError::Unknown.to_string(),
            },
            Proof::Attestation { kind, .. } => Decision::Deny {
                reason: format!("nobody attests {kind}"),
            },
        }))
    }
}
