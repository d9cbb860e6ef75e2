//! Who says that a key is a workload's?
//!
//! ```text
//!   Directory ──> Authority::open     root and issuer made here on the first start, and replaced in time
//!   operator  ──> Authority::given    an issuer under a root that is kept off-line; the operator replaces it
//!                     │
//!   Csr + SpiffeId ──> sign ──> Signed { chain, bundle }
//! ```
//!
//! Whether a workload may have an identity was decided before: an authority signs what it is told, within bounds. A
//! certificate holds exactly one name, lives no longer than its issuer, and no more are made than the rate allows.
//!
//! Time comes in: call [`Authority::tick`] when [`Authority::due`] says so.

mod certificate;
mod dates;
mod denied;
mod directory;
mod kept;
mod limit;
mod rotation;
mod settings;
mod tokens;

pub use certificate::Unsigned;
pub use dates::Dates;
pub use directory::{Directory, DirectoryError};
pub use limit::RateLimit;
pub use rotation::CLOCK_SKEW;
pub use settings::{MAX_TTL, MIN_TTL, Settings, SettingsError};

#[cfg(test)]
pub(crate) use certificate::workload_extensions;
pub(crate) use certificate::{Signer, Span};

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use der::Decode;
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;

use crate::bundle::to_pem;
use crate::csr::Csr;
use crate::token::Tokens;
use crate::verify::{MAX_CHAIN, Side, verify};
use crate::{BundleError, DenyList, KeyError, Peer, Rejection, Serial, TrustBundle, WorkloadKey};
use dates::validity;
use kept::Kept;
use rotation::{Rotation, Step};

/// Signs workloads' certificates.
pub struct Authority {
    settings: Settings,
    limit: RateLimit,
    active: Active,
    bundle: Arc<TrustBundle>,
    /// `None` where the operator gave the issuer.
    own: Option<Own>,
    /// `None` where nothing is stored.
    directory: Option<Directory>,
}

/// The issuer that signs.
struct Active {
    signer: Signer,
    /// What a workload sends after its own certificate, the issuer's first.
    chain: Vec<CertificateDer<'static>>,
    begins: SystemTime,
    ends: SystemTime,
}

/// Roots and issuers made here.
struct Own {
    rotation: Rotation,
    kept: Kept,
}

/// A step that is taken before its time.
type Forced = fn(&mut Rotation, &Settings, SystemTime) -> Option<Step>;

/// A certificate, and whom its holder is to believe.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The workload's certificate, then its issuer's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots at this time.
    pub bundle: Arc<TrustBundle>,
    /// The certificate's serial number, for the audit and for revocation.
    pub serial: Serial,
    /// The certificate's last second.
    pub not_after: SystemTime,
}

/// What has changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A new root is in the bundle and signs nothing yet. Send the bundle to everybody.
    RootAnnounced,
    /// The new root signs.
    RootSwitched,
    /// The old root left the bundle.
    RootDropped,
    /// A new issuer signs.
    IssuerRenewed,
}

/// Why there is no authority, or why it can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The settings don't fit each other.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// The directory can't be used.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// The state in the directory can't be read.
    #[error("the authority's state can't be read: {0}")]
    State(Box<str>),
    /// A key is bad.
    #[error("the issuer's key: {0}")]
    Key(#[from] KeyError),
    /// The roots are bad.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// The chain is not PEM, empty, too long, or not of authorities.
    #[error("the issuer's chain is no PEM of one to {} authorities' certificates, the issuer's first", MAX_CHAIN - 1)]
    Chain,
    /// The issuer's key is another's.
    #[error("the key is not the issuer's")]
    OtherKey,
    /// What is signed with it would be believed by nobody.
    #[error("nobody would believe what this issuer signs: {}", .0.as_str())]
    Unbelieved(Rejection),
    /// The same, for its time: it has ended, or its first second or its root's is yet to come.
    #[error("nobody would believe what this issuer signs: {}: {dates}", rejection.as_str())]
    OutOfTime {
        /// Which of both.
        rejection: Rejection,
        /// From when to when it is good.
        dates: Dates,
    },
    /// The cryptographic library failed.
    #[error("{0}")]
    Unsigned(#[from] Unsigned),
}

/// Why a certificate is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The identity is of a trust domain that this authority does not speak for.
    #[error("the identity is of another trust domain")]
    OtherTrustDomain,
    /// The request names somebody else.
    #[error("the request names another identity")]
    OtherIdentity,
    /// Too many for now.
    #[error("too many certificates are asked for; try again in {} ms", retry_after.as_millis())]
    RateLimited {
        /// How long until there is room.
        retry_after: Duration,
    },
    /// The issuer has ended, and no new one could be made or was given.
    #[error("the issuer has expired")]
    IssuerExpired,
    /// What was promised could not be stored.
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    /// The cryptographic library failed.
    #[error("{0}")]
    Unsigned(#[from] Unsigned),
}

impl Authority {
    /// What a directory holds; a new root and issuer on the first start.
    ///
    /// # Errors
    /// What was stored is damaged, or what is to be stored can't be.
    pub fn open(settings: Settings, directory: Directory, now: SystemTime) -> Result<Self, AuthorityError> {
        settings.check()?;
        match kept::load(&directory, &settings.trust_domain)? {
            Some((rotation, kept)) => Self::own(settings, rotation, kept, Some(directory), now),
            None => Self::first(settings, Some(directory), now),
        }
    }

    /// A new root and issuer that are stored nowhere.
    ///
    /// # Errors
    /// The settings don't fit, or the cryptographic library failed.
    pub fn in_memory(settings: Settings, now: SystemTime) -> Result<Self, AuthorityError> {
        settings.check()?;
        Self::first(settings, None, now)
    }

    fn first(
        settings: Settings,
        directory: Option<Directory>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let rotation = Rotation::begin(&settings, whole(now));
        let kept = Kept::first(&rotation, &settings.trust_domain)?;
        if let Some(directory) = &directory {
            kept::store(directory, &rotation, &kept, &settings.trust_domain)?;
        }
        Self::own(settings, rotation, kept, directory, now)
    }

    fn own(
        settings: Settings,
        rotation: Rotation,
        kept: Kept,
        directory: Option<Directory>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let mut authority = Self {
            limit: RateLimit::new(settings.per_second, settings.burst),
            active: kept.active(&rotation)?,
            bundle: Arc::new(kept.bundle(&rotation, &settings.trust_domain)?),
            own: Some(Own { rotation, kept }),
            directory,
            settings,
        };
        authority.tick(now)?;
        authority.prove(now)?;
        Ok(authority)
    }

    /// An issuer that the operator gives: its chain without the root, its key, and the roots that everybody believes,
    /// each in PEM. To replace it, make another. A directory keeps who is revoked, and
    /// tokens.
    ///
    /// # Errors
    /// They don't belong together, or nobody would believe what is signed.
    pub fn given(
        settings: Settings,
        chain: &[u8],
        key: &[u8],
        roots: &[u8],
        directory: Option<Directory>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        settings.check()?;
        let bundle = TrustBundle::from_pem(settings.trust_domain.clone(), roots)?;
        let mut chain = CertificateDer::pem_slice_iter(chain)
            .take(MAX_CHAIN + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| AuthorityError::Chain)?;
        // Roots are known to whoever believes them.
        chain.retain(|certificate| bundle.roots().all(|root| root != certificate));
        if chain.is_empty() || chain.len() >= MAX_CHAIN {
            return Err(AuthorityError::Chain);
        }
        let key = WorkloadKey::from_pem(key)?;
        let authority = Self {
            limit: RateLimit::new(settings.per_second, settings.burst),
            active: Active::new(chain, key)?,
            bundle: Arc::new(bundle),
            own: None,
            directory,
            settings,
        };
        authority.prove(now)?;
        Ok(authority)
    }

    /// Who was revoked before this start: nobody where nothing is stored.
    ///
    /// # Errors
    /// What was stored is damaged.
    pub fn denied(&self, now: SystemTime) -> Result<DenyList, AuthorityError> {
        match &self.directory {
            Some(directory) => denied::load(directory, now),
            None => Ok(DenyList::new()),
        }
    }

    /// Stores who is revoked, where anything is stored.
    ///
    /// # Errors
    /// It can't be written. What was stored before is still there.
    pub fn keep_denied(&self, list: &DenyList) -> Result<(), DirectoryError> {
        let directory = self.directory.as_ref();
        directory.map_or(Ok(()), |directory| denied::store(directory, list))
    }

    /// Tokens as a text, from which they open nothing: for the next authority of this process, where nothing is stored.
    pub fn tell_tokens(tokens: &Tokens) -> String {
        String::from_utf8(tokens::written(tokens)).unwrap_or_default()
    }

    /// The tokens of such a text that are good.
    ///
    /// # Errors
    /// The text is no such one.
    pub fn told_tokens(text: &str, now: SystemTime) -> Result<Tokens, AuthorityError> {
        tokens::read(text.as_bytes(), now)
    }

    /// The tokens that were made before this start and are good: none where nothing is stored.
    ///
    /// # Errors
    /// What was stored is damaged.
    pub fn tokens(&self, now: SystemTime) -> Result<Tokens, AuthorityError> {
        match &self.directory {
            Some(directory) => tokens::load(directory, now),
            None => Ok(Tokens::new()),
        }
    }

    /// Stores the hashes of tokens, where anything is stored.
    ///
    /// # Errors
    /// They can't be written. What was stored before is still there.
    pub fn keep_tokens(&self, tokens: &Tokens) -> Result<(), DirectoryError> {
        let directory = self.directory.as_ref();
        directory.map_or(Ok(()), |directory| tokens::store(directory, tokens))
    }

    /// The trust domain that it speaks for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }

    /// The roots that everybody is to believe.
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// When [`Authority::tick`] has something to do; never where the operator gave the issuer.
    pub fn due(&self) -> Option<SystemTime> {
        self.own.as_ref().map(|own| own.rotation.due(&self.settings))
    }

    /// Replaces issuers and roots whose time has come, and says what it did.
    ///
    /// # Errors
    /// It could not be stored; nothing has changed then.
    pub fn tick(&mut self, now: SystemTime) -> Result<Vec<Changed>, AuthorityError> {
        self.advance(None, now)
    }

    /// Begins to replace the root now, before its time. It takes as long as certificates live; nothing happens where a
    /// rotation is under way, or where the operator gave the issuer.
    ///
    /// # Errors
    /// As [`Authority::tick`].
    pub fn rotate_root(&mut self, now: SystemTime) -> Result<Vec<Changed>, AuthorityError> {
        self.advance(Some(Rotation::announce), now)
    }

    /// Makes a new issuer now, before its time.
    ///
    /// # Errors
    /// As [`Authority::tick`].
    pub fn rotate_issuer(&mut self, now: SystemTime) -> Result<Vec<Changed>, AuthorityError> {
        self.advance(Some(Rotation::renew_issuer), now)
    }

    fn advance(&mut self, forced: Option<Forced>, now: SystemTime) -> Result<Vec<Changed>, AuthorityError> {
        let Some(own) = &mut self.own else {
            return Ok(Vec::new());
        };
        let now = whole(now);
        let (mut rotation, mut kept) = (own.rotation.clone(), own.kept.clone());
        let mut changed = Vec::new();
        let mut step = forced
            .and_then(|forced| forced(&mut rotation, &self.settings, now))
            .or_else(|| rotation.step(&self.settings, now));
        while let Some(taken) = step {
            kept.take(taken, &rotation, &self.settings.trust_domain)?;
            changed.push(taken.into());
            step = rotation.step(&self.settings, now);
        }
        if changed.is_empty() {
            return Ok(changed);
        }
        let active = kept.active(&rotation)?;
        let bundle = kept.bundle(&rotation, &self.settings.trust_domain)?;
        if let Some(directory) = &self.directory {
            kept::store(directory, &rotation, &kept, &self.settings.trust_domain)?;
        }
        (own.rotation, own.kept) = (rotation, kept);
        self.active = active;
        self.bundle = Arc::new(bundle);
        Ok(changed)
    }

    /// Signs a certificate for this identity and the key of this request.
    ///
    /// # Errors
    /// Why not.
    pub fn sign(&mut self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Signed, SignError> {
        self.sign_for(csr, id, self.settings.ttl, now)
    }

    /// As [`Authority::sign`], for the control plane itself: what others ask for does not keep it from a certificate of its
    /// own, so no rate holds.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn sign_own(&mut self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Signed, SignError> {
        self.make(csr, id, self.settings.ttl, now)
    }

    /// As [`Authority::sign`], for so long: at least [`MIN_TTL`], and at most as long as the settings say.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn sign_for(
        &mut self,
        csr: &Csr,
        id: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Signed, SignError> {
        self.limit
            .take(now)
            .map_err(|retry_after| SignError::RateLimited { retry_after })?;
        self.make(csr, id, ttl, now)
    }

    fn make(
        &mut self,
        csr: &Csr,
        id: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Signed, SignError> {
        let ttl = ttl.max(MIN_TTL).min(self.settings.ttl);
        if id.trust_domain() != &self.settings.trust_domain {
            return Err(SignError::OtherTrustDomain);
        }
        if csr.id().is_some_and(|named| named != id) {
            return Err(SignError::OtherIdentity);
        }
        let not_after = whole(now + ttl).min(self.active.ends);
        if not_after <= now {
            return Err(SignError::IssuerExpired);
        }
        self.promise(not_after)?;
        let leaf = self.certificate(id, csr.public_key(), now, not_after)?;
        let serial = Peer::of(&leaf).map_err(|_| Unsigned)?.serial;
        let chain = std::iter::once(leaf).chain(self.active.chain.iter().cloned());
        Ok(Signed {
            chain: chain.collect(),
            bundle: Arc::clone(&self.bundle),
            serial,
            not_after,
        })
    }

    /// Stores that certificates may end this late, before one does.
    fn promise(&mut self, not_after: SystemTime) -> Result<(), DirectoryError> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        let mut rotation = own.rotation.clone();
        if rotation.promise(not_after, &self.settings) {
            if let Some(directory) = &self.directory {
                kept::store_state(directory, &rotation, &self.settings.trust_domain)?;
            }
            own.rotation = rotation;
        }
        Ok(())
    }

    fn certificate(
        &self,
        id: &SpiffeId,
        public_key: &[u8],
        now: SystemTime,
        not_after: SystemTime,
    ) -> Result<CertificateDer<'static>, Unsigned> {
        let span = Span {
            not_before: backdated(now),
            not_after,
        };
        self.active.signer.workload(id, public_key, span)
    }

    /// Signs a certificate for nobody and asks whether it would be believed, which finds what does not belong together:
    /// keys, names, constraints, roots.
    fn prove(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let id = format!("spiffe://{}/probe", self.settings.trust_domain);
        let id = id.parse().map_err(|_| Unsigned)?;
        let key = WorkloadKey::generate()?;
        let leaf = self.certificate(&id, key.public_key(), now, now + MIN_TTL)?;
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        for side in [Side::Client, Side::Server] {
            verify(
                &leaf,
                &self.active.chain,
                side,
                &self.bundle,
                &DenyList::new(),
                &algorithms,
                now,
            )
            .map_err(|rejection| self.unbelieved(rejection, now))?;
        }
        Ok(())
    }

    /// Of an issuer that is good at another time, it is said when.
    fn unbelieved(&self, rejection: Rejection, now: SystemTime) -> AuthorityError {
        if !matches!(rejection, Rejection::Expired | Rejection::NotYetValid) {
            return AuthorityError::Unbelieved(rejection);
        }
        let (begins, ends) = (self.active.begins, self.active.ends);
        let dates = Dates::of(begins, ends, self.bundle.roots(), now);
        AuthorityError::OutOfTime { rejection, dates }
    }
}

impl Active {
    fn new(chain: Vec<CertificateDer<'static>>, key: WorkloadKey) -> Result<Self, AuthorityError> {
        let issuer = chain.first().ok_or(AuthorityError::Chain)?;
        let (mut begins, mut ends) = validity(issuer)?;
        for certificate in chain.iter().skip(1) {
            let (not_before, not_after) = validity(certificate)?;
            (begins, ends) = (begins.max(not_before), ends.min(not_after));
        }
        let read = Certificate::from_der(issuer).map_err(|_| AuthorityError::Chain)?;
        let public_key = &read
            .tbs_certificate()
            .subject_public_key_info()
            .subject_public_key;
        if public_key.as_bytes() != Some(key.public_key()) {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self {
            signer: Signer::of(issuer, key)?,
            chain,
            begins,
            ends,
        })
    }
}

impl Signed {
    /// The chain in PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(to_pem).collect()
    }
}

impl From<Step> for Changed {
    fn from(step: Step) -> Self {
        match step {
            Step::AnnounceRoot(_) => Self::RootAnnounced,
            Step::SwitchRoot(_) => Self::RootSwitched,
            Step::DropRoot(_) => Self::RootDropped,
            Step::RenewIssuer(_) => Self::IssuerRenewed,
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.settings.trust_domain)
    }
}

/// A certificate's first second, for whose clock is behind.
fn backdated(now: SystemTime) -> SystemTime {
    whole(now)
        .checked_sub(CLOCK_SKEW)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Certificates count whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds(time))
}

/// Since 1970, as files say it.
fn unix_seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
