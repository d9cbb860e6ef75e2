//! Who gets a certificate, and for what reason?
//!
//! ```text
//!   request ─> is it one, and for whom? ─> what speaks for it: a good certificate, a token, an attestation
//!           ─> the decision ─> the token is spent, the certificate is signed ─> audit
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_identity::authority::{Authority, DirectoryError, MAX_TTL, SignError, Signed};
use mesh_identity::token::{MakeError, SpendError, TokenHash, Tokens};
use mesh_identity::{Csr, Denied, DenyList, MeshTls};
use mesh_model::spiffe::SpiffeId;
use mesh_protocol::message::{Attestation, SignRequest, SignResponse};
use mesh_protocol::{Caller, Code, Status};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::admission::Admission;
use crate::controller::{RevokeError, StartError};
use crate::decisions::{Attempt, Decision, Decisions, Proof};
use crate::event::{Audit, Event, Out, millis};
use crate::settings::Settings;

/// How long a decision may take. The workload waits a little longer.
const DECISION_DEADLINE: Duration = Duration::from_secs(5);

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It would be good for too much, or there are too many.
    #[error("{0}")]
    Unmade(#[from] MakeError),
    /// It can't be stored.
    #[error("the token can't be stored: {0}")]
    NotKept(#[from] DirectoryError),
}

impl TokenError {
    /// Whether what was asked for is refused: then nothing failed.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Unmade(MakeError::TooMany | MakeError::Ttl | MakeError::Uses) => true,
            Self::Unmade(MakeError::Random) | Self::NotKept(_) => false,
        }
    }
}

/// What certificates are given by.
pub(crate) struct Signing {
    state: Mutex<State>,
    decisions: Arc<dyn Decisions>,
    revoked: watch::Sender<Revoked>,
    /// The control plane's own identity, which nobody else gets.
    own: SpiffeId,
    /// Has the certificate that it shows.
    tls: Arc<MeshTls>,
}

struct State {
    authority: Authority,
    admission: Admission,
    tokens: Tokens,
    unkept: Unkept,
}

/// What holds and could not be stored.
#[derive(Clone, Copy, Default)]
struct Unkept {
    revoked: bool,
    tokens: bool,
}

impl State {
    fn keep_revoked(&mut self, list: &DenyList) -> Result<(), DirectoryError> {
        let kept = self.authority.keep_denied(list);
        self.unkept.revoked = kept.is_err();
        kept
    }

    fn keep_tokens(&mut self) -> Result<(), DirectoryError> {
        let kept = self.authority.keep_tokens(&self.tokens);
        self.unkept.tokens &= kept.is_err();
        kept
    }

    /// Uses a token that is good once, and stores that: a use that a restart forgets would be none. What can't be stored is
    /// no use.
    fn spend(&mut self, token: &str, id: &SpiffeId, now: SystemTime) -> Result<(), DirectoryError> {
        let hash = TokenHash::of(token);
        let before = hash.and_then(|hash| Some((hash, self.tokens.grant(&hash)?.clone())));
        let _ = self.tokens.spend(token, Some(id), now);
        let kept = self.keep_tokens();
        if let (Err(_), Some((hash, grant))) = (&kept, before) {
            self.tokens.give_back(hash, grant);
        }
        kept
    }
}

/// Who is revoked.
#[derive(Clone)]
pub(crate) struct Revoked {
    pub(crate) list: Arc<DenyList>,
    /// Whether those are all, as far as anybody knows. Then the list takes the place of the one that a sidecar has; otherwise
    /// it is added to that, however much was stored here: others may have revoked since.
    pub(crate) is_whole: bool,
}

impl Signing {
    /// Knows from the first moment who is revoked: whom the authority has stored, and whom the settings name.
    pub(crate) fn new(
        authority: Authority,
        tls: Arc<MeshTls>,
        own: SpiffeId,
        settings: &Settings,
        decisions: Arc<dyn Decisions>,
        now: SystemTime,
    ) -> Result<Self, StartError> {
        let mut list = authority.denied(now)?;
        // Others may have said so, and earlier versions have stored it: sidecars would hear nobody any more.
        list.allow(&Denied::Id(own.clone()));
        let is_whole = !settings.awaits_revoked;
        for whom in &settings.revoked {
            let denied = whom.parse().map_err(RevokeError::from)?;
            if denied != Denied::Id(own.clone()) {
                deny(&mut list, denied, now)?;
            }
        }
        for whom in settings.allowed.iter().filter_map(|whom| whom.parse().ok()) {
            list.allow(&whom);
        }
        if !settings.revoked.is_empty() || !settings.allowed.is_empty() {
            authority.keep_denied(&list).map_err(RevokeError::from)?;
        }
        let list = Arc::new(list);
        let tokens = match &settings.tokens {
            Some(told) if settings.directory.is_none() => Authority::told_tokens(told, now)?,
            _ => authority.tokens(now)?,
        };
        Ok(Self {
            state: Mutex::new(State {
                authority,
                admission: Admission::new(settings.rates),
                tokens,
                unkept: Unkept::default(),
            }),
            decisions,
            revoked: watch::Sender::new(Revoked { list, is_whole }),
            own,
            tls,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the authority.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Authority) -> T) -> T {
        work(&mut self.state().authority)
    }

    /// Makes a token, and stores it before anybody has it.
    pub(crate) fn issue_token(&self, id: SpiffeId, uses: u32, ttl: Duration) -> Result<String, TokenError> {
        let mut state = self.state();
        let token = state.tokens.make(id, uses, ttl, SystemTime::now())?;
        if let Err(error) = state.keep_tokens() {
            TokenHash::of(token.reveal()).map(|hash| state.tokens.revoke(&hash));
            return Err(error.into());
        }
        Ok(token.reveal().to_owned())
    }

    /// The tokens that are good, for the next control plane of this process.
    pub(crate) fn tell_tokens(&self) -> String {
        Authority::tell_tokens(&self.state().tokens)
    }

    /// Sees who is revoked.
    pub(crate) fn revoked(&self) -> watch::Receiver<Revoked> {
        self.revoked.subscribe()
    }

    /// Whether all that others know of revocations has been said.
    pub(crate) fn knows_revoked(&self, knows: bool) {
        self.revoked
            .send_if_modified(|revoked| std::mem::replace(&mut revoked.is_whole, knows) != knows);
    }

    /// Believes somebody no more, from now on and, where anything is stored, after a restart.
    pub(crate) fn revoke(&self, denied: Denied) -> Result<(), RevokeError> {
        if self.is_own(&denied) {
            return Err(RevokeError::Reserved);
        }
        let mut state = self.state();
        let mut list = self.list();
        deny(&mut list, denied.clone(), SystemTime::now())?;
        let has_lost_tokens = matches!(&denied, Denied::Id(id) if state.tokens.revoke_all(id) > 0);
        state.unkept.tokens |= has_lost_tokens;
        let kept = self.denies(&mut state, list);
        // What can't be stored of the one is no reason to leave the other.
        if has_lost_tokens {
            let tokens = state.keep_tokens();
            kept?;
            tokens?;
            return Ok(());
        }
        kept
    }

    /// Whether something holds that a restart would forget.
    pub(crate) fn has_unkept(&self) -> bool {
        let Unkept { revoked, tokens } = self.state().unkept;
        revoked || tokens
    }

    /// Stores what could not be stored before.
    pub(crate) fn keep_again(&self) -> Result<(), DirectoryError> {
        let mut state = self.state();
        let list = Arc::clone(&self.revoked.borrow().list);
        let revoked = match state.unkept.revoked {
            true => state.keep_revoked(&list),
            false => Ok(()),
        };
        if state.unkept.tokens {
            state.keep_tokens()?;
        }
        revoked
    }

    /// Whether that is the control plane, or the certificate that it shows.
    fn is_own(&self, denied: &Denied) -> bool {
        match denied {
            Denied::Id(id) => *id == self.own,
            Denied::Serial(serial) => self.tls.svid().is_some_and(|svid| svid.own().serial == *serial),
        }
    }

    /// Takes a revocation back; whether there was one.
    pub(crate) fn allow(&self, denied: &Denied) -> Result<bool, RevokeError> {
        let mut state = self.state();
        let mut list = self.list();
        let was = list.allow(denied);
        if was {
            self.denies(&mut state, list)?;
        }
        Ok(was)
    }

    /// Puts a list in force, and then stores it. Under the lock of the state, so that none gets lost.
    fn denies(&self, state: &mut State, list: DenyList) -> Result<(), RevokeError> {
        let list = Arc::new(list);
        self.revoked
            .send_modify(|revoked| revoked.list = Arc::clone(&list));
        Ok(state.keep_revoked(&list)?)
    }

    fn list(&self) -> DenyList {
        DenyList::clone(&self.revoked.borrow().list)
    }

    fn denies_id(&self, id: &SpiffeId) -> bool {
        self.revoked.borrow().list.denies_id(id)
    }

    /// Answers a request, and audits it.
    pub(crate) async fn sign(
        &self,
        caller: &Caller,
        request: SignRequest,
        out: &Out,
    ) -> Result<SignResponse, Status> {
        let mut audit = Audit {
            time_ms: millis(SystemTime::now()),
            identity: None,
            address: caller.address.to_string(),
            proof: "nothing",
            serial: None,
            not_after_ms: None,
            refused: None,
        };
        let answer = self.answer(caller, request, &mut audit, out).await;
        audit.refused = answer.as_ref().err().map(|status| status.message.clone());
        out.send(&Event::Audit(audit));
        answer
    }

    /// What a token is worth.
    fn spoken_by_token(&self, token: &str, id: &SpiffeId, now: SystemTime) -> Result<Proof, Status> {
        let error = match self.state().tokens.check(token, Some(id), now) {
            Ok(_) => return Ok(Proof::Token),
            Err(error) => error,
        };
        match TokenHash::of(token) {
            Some(hash) if error == SpendError::Unknown && self.decisions.knows_other_tokens() => {
                Ok(Proof::OtherToken(hash))
            }
            _ => Err(token_error(error)),
        }
    }

    /// Whether this is looked at now, before anybody is asked for a decision.
    fn admit(&self, id: &SpiffeId, standing: &Standing, now: SystemTime) -> Result<(), Status> {
        let mut state = self.state();
        let admitted = match standing {
            Standing::Certified | Standing::Holds(_) => state.admission.proven(id, now),
            Standing::Spends => state
                .admission
                .has_share(id, now)
                .and_then(|()| state.authority.has_room(now))
                .and_then(|()| state.admission.stranger(now)),
            Standing::Stranger => state.admission.stranger(now),
        };
        admitted.map_err(rate_limited)
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: SignRequest,
        audit: &mut Audit,
        out: &Out,
    ) -> Result<SignResponse, Status> {
        let SignRequest {
            csr,
            token,
            attestation,
        } = request;
        let (csr, id) = self.asked_for(&csr, audit)?;
        let now = SystemTime::now();
        let proof = self.proof(caller, &token, attestation, &id, now, audit)?;
        audit.proof = proof.as_str();
        let standing = match proof {
            Proof::Certificate(_) => Standing::Certified,
            Proof::Token => Standing::Holds(token),
            Proof::OtherToken(_) => Standing::Spends,
            Proof::Attestation { .. } => Standing::Stranger,
        };
        self.admit(&id, &standing, now)?;
        let attempt = Attempt {
            id: id.clone(),
            proof,
            address: caller.address,
        };
        let ttl = self.decided(attempt).await?;
        let signed = self.issue(&csr, &id, ttl, &standing, now, out)?;
        audit.serial = Some(signed.serial.to_string());
        audit.not_after_ms = Some(millis(signed.not_after));
        Ok(response(&signed))
    }

    /// Reads a request: whom it is for, who may have a certificate.
    fn asked_for(&self, csr: &[u8], audit: &mut Audit) -> Result<(Csr, SpiffeId), Status> {
        let csr = Csr::check(csr)
            .map_err(|error| Status::new(Code::InvalidArgument, format!("bad_request: {error}")))?;
        let Some(id) = csr.id().cloned() else {
            return refused(Code::InvalidArgument, "no_identity: the request names none");
        };
        audit.identity = Some(id.to_string());
        if id == self.own {
            return refused(Code::PermissionDenied, "reserved: that is the control plane");
        }
        self.not_revoked(&id)?;
        Ok((csr, id))
    }

    fn not_revoked(&self, id: &SpiffeId) -> Result<(), Status> {
        match self.denies_id(id) {
            true => refused(Code::PermissionDenied, "revoked: the identity was revoked"),
            false => Ok(()),
        }
    }

    /// What speaks for a request: the best of what there is.
    fn proof(
        &self,
        caller: &Caller,
        token: &str,
        attestation: Option<Attestation>,
        id: &SpiffeId,
        now: SystemTime,
        audit: &mut Audit,
    ) -> Result<Proof, Status> {
        if let Some(peer) = caller.peer.as_ref().filter(|peer| peer.id == *id) {
            return Ok(Proof::Certificate(peer.clone()));
        }
        if !token.is_empty() {
            audit.proof = "token";
            return self.spoken_by_token(token, id, now);
        }
        let Some(Attestation { kind, evidence }) = attestation else {
            return refused(Code::Unauthenticated, "no_proof: nothing speaks for the identity");
        };
        if !self.decisions.attests() {
            audit.proof = "attestation";
            return refused(
                Code::PermissionDenied,
                format!("no_attestor: nobody attests {kind}"),
            );
        }
        Ok(Proof::Attestation { kind, evidence })
    }

    /// How long a certificate is good for, where that was decided otherwise than it is for all.
    async fn decided(&self, attempt: Attempt) -> Result<Option<Duration>, Status> {
        match timeout(DECISION_DEADLINE, self.decisions.decide(attempt)).await {
            Ok(Decision::Allow { ttl }) => Ok(ttl),
            Ok(Decision::Deny { reason }) => refused(Code::PermissionDenied, format!("denied: {reason}")),
            Err(_) => refused(Code::DeadlineExceeded, "undecided: nobody decided in time"),
        }
    }

    /// Signs what was decided, and spends the token.
    fn issue(
        &self,
        csr: &Csr,
        id: &SpiffeId,
        ttl: Option<Duration>,
        standing: &Standing,
        now: SystemTime,
        out: &Out,
    ) -> Result<Signed, Status> {
        let mut state = self.state();
        let State {
            authority,
            admission,
            tokens,
            ..
        } = &mut *state;
        // The decision took its time.
        self.not_revoked(id)?;
        match standing {
            Standing::Certified => {}
            // It may have been spent meanwhile.
            Standing::Holds(token) => {
                tokens.check(token, Some(id), now).map_err(token_error)?;
            }
            // Its token is spent: what others have used up of its share meanwhile is no reason to refuse it now.
            Standing::Spends => {
                let _ = admission.proven(id, now);
            }
            // Now it is proven, and has its share.
            Standing::Stranger => admission.proven(id, now).map_err(rate_limited)?,
        }
        let signed = match (standing, ttl) {
            (Standing::Spends, _) => authority.sign_promised(csr, id, ttl, now),
            (_, Some(ttl)) => authority.sign_for(csr, id, ttl, now),
            (_, None) => authority.sign(csr, id, now),
        };
        let signed = signed.map_err(|error| sign_error(&error))?;
        if let Standing::Holds(token) = standing {
            state.spend(token, id, now).map_err(|error| {
                let reason = format!("the use of a token can't be stored: {error}");
                let status = Status::new(Code::Internal, format!("authority_failed: {reason}"));
                out.send(&Event::AuthorityFailed { reason });
                status
            })?;
        }
        Ok(signed)
    }
}

/// What is known, before the decision, of who asks.
enum Standing {
    /// It is who it says.
    Certified,
    /// It is whoever has this token, which is spent with the certificate.
    Holds(String),
    /// Nothing; it shows a token that the decision spends.
    Spends,
    /// Nothing: the decision finds out.
    Stranger,
}

fn response(signed: &Signed) -> SignResponse {
    let seconds = millis(signed.not_after) / 1000;
    SignResponse {
        chain: signed
            .chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
        roots: signed.bundle.to_pem(),
        not_after: i64::try_from(seconds).unwrap_or(i64::MAX),
    }
}

fn refused<T>(code: Code, text: impl Into<String>) -> Result<T, Status> {
    Err(Status::new(code, text))
}

/// Denies as long as it means something.
fn deny(list: &mut DenyList, denied: Denied, now: SystemTime) -> Result<(), RevokeError> {
    // No certificate lives longer: then its number means nothing.
    let until = match &denied {
        Denied::Id(_) => None,
        Denied::Serial(_) => Some(now + MAX_TTL),
    };
    Ok(list.deny(denied, until, now)?)
}

fn token_error(error: SpendError) -> Status {
    Status::new(Code::PermissionDenied, format!("{}: {error}", error.as_str()))
}

fn rate_limited(retry_after: Duration) -> Status {
    sign_error(&SignError::RateLimited { retry_after })
}

fn sign_error(error: &SignError) -> Status {
    let (code, token) = match error {
        SignError::OtherTrustDomain | SignError::OtherIdentity => (Code::InvalidArgument, "other_identity"),
        SignError::RateLimited { .. } => (Code::ResourceExhausted, "rate_limited"),
        SignError::IssuerExpired => (Code::Unavailable, "issuer_expired"),
        SignError::Directory(_) | SignError::Unsigned(_) => (Code::Internal, "authority_failed"),
    };
    Status::new(code, format!("{token}: {error}"))
}
