//! Which certificate does this workload have, and what is it to do next?
//!
//! ```text
//!   due() ──> request() ── to the control plane ──> answered(chain, bundle) ──> MeshTls, and due() is at 70 %
//!                                             └──> failed() ────────────────> due() is a little later
//! ```
//!
//! Pure: whoever holds it waits and talks. A new key is made for each certificate. An answer is used only when the
//! certificate is for this workload and key and the roots that came with it believe it; else what was there goes on
//! serving, until its end. So a control plane that errs takes nothing away.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_model::spiffe::SpiffeId;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;

use crate::renewal::Renewal;
use crate::{
    DenyList, KeyError, MeshTls, Rejection, Side, Svid, SvidError, TrustBundle, WorkloadKey, csr, verify,
};

/// A certificate of which less than this share of its life is left should have been renewed: somebody has to look.
pub const LAST_SHARE: f64 = 0.2;

/// The certificates of one workload, one after another.
#[derive(Debug)]
pub struct Manager {
    id: SpiffeId,
    tls: Arc<MeshTls>,
    renewal: Renewal,
    /// The key that a certificate was asked for.
    asked: Option<WorkloadKey>,
    /// The key of the certificate that is there.
    key: Option<WorkloadKey>,
}

/// How the workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no certificate yet.
    None,
    /// It has one.
    Good,
    /// It has one that should have been renewed by now.
    Ending,
    /// It has one that nobody believes any more: new handshakes fail.
    Expired,
}

impl Standing {
    /// How a workload with this certificate stands.
    pub fn of(svid: Option<&Svid>, now: SystemTime) -> Self {
        match svid {
            None => Self::None,
            Some(svid) if svid.remaining(now).is_zero() => Self::Expired,
            Some(svid) if svid.share_left(now) < LAST_SHARE => Self::Ending,
            Some(_) => Self::Good,
        }
    }

    /// When a workload with this certificate, which stands so, will stand otherwise.
    pub fn changes(self, svid: &Svid) -> Option<SystemTime> {
        match self {
            Self::None | Self::Expired => None,
            Self::Good => {
                let life = svid.life().mul_f64(1.0 - LAST_SHARE);
                // Less than the share is left just after it is the share.
                Some(svid.obtained() + life + Duration::from_millis(1))
            }
            Self::Ending => Some(svid.ends()),
        }
    }
}

/// Why an answer is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nothing was asked, or the answer came already.
    #[error("no certificate was asked for")]
    NotAsked,
    /// The chain is no SVID for the key.
    #[error("{0}")]
    Svid(#[from] SvidError),
    /// The certificate is for somebody else.
    #[error("the certificate is for another identity")]
    OtherIdentity,
    /// The roots that came with it don't believe it, or not now.
    #[error("the certificate would not be believed: {}", .0.as_str())]
    Unbelieved(Rejection),
    /// Roots of another trust domain, or none.
    #[error("the roots are none, or of another trust domain")]
    Roots,
}

impl Manager {
    /// For a workload that has nothing yet: a request is due now. `seed` spreads its tries.
    pub fn new(id: SpiffeId, tls: Arc<MeshTls>, now: SystemTime, seed: u64) -> Self {
        Self {
            id,
            tls,
            renewal: Renewal::new(now, now, seed),
            asked: None,
            key: None,
        }
    }

    /// The key of the certificate that is there, for who keeps both.
    pub fn key(&self) -> Option<&WorkloadKey> {
        self.key.as_ref()
    }

    /// Takes up a certificate that was kept, with its key and the roots that came with it. Its life is counted from when it
    /// was `obtained`; from now on, where a clock has been set back since.
    ///
    /// # Errors
    /// As [`Manager::answered`]: it is another's, or nobody would believe it any more. It was no try: a new one is due as
    /// it was.
    pub fn restored(
        &mut self,
        key: WorkloadKey,
        chain: Vec<CertificateDer<'static>>,
        bundle: Arc<TrustBundle>,
        obtained: SystemTime,
        now: SystemTime,
    ) -> Result<Arc<Svid>, AnswerError> {
        self.take_up(key, chain, bundle, obtained.min(now), now)
    }

    /// Who this is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When to ask for a certificate.
    pub fn due(&self) -> SystemTime {
        self.renewal.due()
    }

    /// How many tries have failed since the last certificate.
    pub fn failures(&self) -> u32 {
        self.renewal.failures()
    }

    /// A request for a certificate, with a new key. The one before it is answered no more.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn request(&mut self) -> Result<Vec<u8>, KeyError> {
        let key = WorkloadKey::generate()?;
        let request = csr::request(&key, &self.id).ok_or(KeyError::Library)?;
        self.asked = Some(key);
        Ok(request)
    }

    /// No answer came, or a refusal: when to ask again.
    pub fn failed(&mut self, now: SystemTime) -> SystemTime {
        self.asked = None;
        self.renewal.failed(now)
    }

    /// The answer to the last request: handshakes use it from now on.
    ///
    /// # Errors
    /// It is not used, and counts as a try that failed.
    pub fn answered(
        &mut self,
        chain: Vec<CertificateDer<'static>>,
        bundle: Arc<TrustBundle>,
        now: SystemTime,
    ) -> Result<Arc<Svid>, AnswerError> {
        let key = self.asked.take().ok_or(AnswerError::NotAsked);
        let answer = key.and_then(|key| self.take_up(key, chain, bundle, now, now));
        if answer.is_err() {
            self.failed(now);
        }
        answer
    }

    /// Handshakes use a certificate from now on, if it is to be believed.
    fn take_up(
        &mut self,
        key: WorkloadKey,
        chain: Vec<CertificateDer<'static>>,
        bundle: Arc<TrustBundle>,
        obtained: SystemTime,
        now: SystemTime,
    ) -> Result<Arc<Svid>, AnswerError> {
        self.check_roots(&bundle)?;
        let svid = Svid::new(&key, chain, obtained)?;
        if svid.own().id != self.id {
            return Err(AnswerError::OtherIdentity);
        }
        believed(&svid, &bundle, now).map_err(AnswerError::Unbelieved)?;
        let svid = Arc::new(svid);
        let seed = seed(svid.own().serial.as_bytes());
        self.renewal = Renewal::new(svid.obtained(), svid.ends(), seed);
        self.key = Some(key);
        self.tls.set_bundle(bundle);
        self.tls.set_svid(Arc::clone(&svid));
        Ok(svid)
    }

    /// Other roots to judge peers by, which came without a certificate. Where they don't believe this workload's own
    /// any more, a new one is due now.
    ///
    /// # Errors
    /// They are none, or of another trust domain: the ones before go on.
    pub fn roots(&mut self, bundle: Arc<TrustBundle>, now: SystemTime) -> Result<(), AnswerError> {
        self.check_roots(&bundle)?;
        if let Some(svid) = self.tls.svid()
            && matches!(
                believed(&svid, &bundle, now),
                Err(Rejection::UnknownAuthority | Rejection::BadSignature)
            )
        {
            self.renewal.expedite(now);
        }
        self.tls.set_bundle(bundle);
        Ok(())
    }

    /// Where the clock was set back to before the certificate's first second, as after it had been ahead, nobody believes that
    /// one: a new one is due now.
    pub fn look(&mut self, now: SystemTime) {
        if self.tls.svid().is_some_and(|svid| now < svid.own().not_before) {
            self.renewal.expedite(now);
        }
    }

    fn check_roots(&self, bundle: &TrustBundle) -> Result<(), AnswerError> {
        match bundle.is_empty() || bundle.trust_domain() != self.id.trust_domain() {
            true => Err(AnswerError::Roots),
            false => Ok(()),
        }
    }

    /// How the workload stands.
    pub fn standing(&self, now: SystemTime) -> Standing {
        Standing::of(self.tls.svid().as_deref(), now)
    }
}

/// Whether peers that hold these roots believe a certificate, called or calling.
fn believed(svid: &Svid, bundle: &TrustBundle, now: SystemTime) -> Result<(), Rejection> {
    let algorithms = default_provider().signature_verification_algorithms;
    let (leaf, others) = svid.chain().split_first().ok_or(Rejection::NoCertificate)?;
    for side in [Side::Client, Side::Server] {
        verify(leaf, others, side, bundle, &DenyList::new(), &algorithms, now)?;
    }
    Ok(())
}

/// Serial numbers are random enough to spread workloads.
fn seed(serial: &[u8]) -> u64 {
    serial
        .iter()
        .fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte))
}

#[cfg(test)]
mod tests;
