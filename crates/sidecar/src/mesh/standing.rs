//! How does a workload come by its certificate, keep it, and know whom to believe?

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_identity::manager::Standing;
use mesh_identity::{Denied, DenyList, Rejection, Serial, Svid, TrustBundle, WorkloadKey};
use mesh_protocol::message::{CertificateState, SignRequest, SignResponse};
use mesh_protocol::{Control, Error};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::life::{Left, Life, control_id, protocol};
use super::state::{Identity, State};

/// A request for a certificate that is under way. Somebody may decide about it for seconds.
pub(super) type Signing = Pin<Box<dyn Future<Output = Signed>>>;

/// What came of it.
pub(super) struct Signed {
    answer: Result<SignResponse, Error>,
    /// The roots that were believed when it was asked for.
    believed: Arc<TrustBundle>,
}

impl Life<'_> {
    /// Takes up what was kept.
    pub(super) fn restore(&mut self, now: SystemTime) {
        let Some(state) = &self.state else { return };
        let (denied, identity, configuration) = (state.denied(now), state.identity(), state.configuration());
        let anchors = self.tls.bundle();
        // Also where nothing else is taken up: it proves to the control plane who this is.
        let has_identity =
            match identity.and_then(|kept| kept.map(|kept| self.take_up(kept, now)).transpose()) {
                Ok(svid) => svid.is_some(),
                Err(error) => {
                    self.log()
                        .warn("the certificate that was kept is of no use", &[("error", &error)]);
                    false
                }
            };
        let configuration = match configuration {
            Ok(Some(kept)) => match kept
                .of
                .check(&self.workload.identity, &[&anchors, &self.tls.bundle()])
            {
                Ok(()) => {
                    self.state.iter_mut().for_each(State::own);
                    Ok(Some(kept))
                }
                Err(whose) => {
                    let what = "the configuration that was kept is somebody else's: nothing of it is served";
                    self.log().error(what, &[("error", &whose)]);
                    Ok(None)
                }
            },
            other => other,
        };
        let denied = match denied {
            Ok(list) => self.but_control(list),
            Err(error) => {
                let what = "who is revoked can't be read: nothing that was kept is served";
                self.log().error(what, &[("error", &error)]);
                return;
            }
        };
        self.tls.set_denied(Arc::new(denied));
        match configuration {
            Ok(Some(kept)) if has_identity => {
                if let Some(at) = kept.heard_at {
                    self.proxy.control_plane().heard_before(at);
                }
                self.feed.restore(kept);
                self.awaits_denied = false;
                self.dirty = Some(Instant::now());
                self.log()
                    .info("serving what was kept until the control plane answers", &[]);
            }
            Ok(Some(_)) => self
                .log()
                .info("what was kept is of no use without its certificate", &[]),
            Ok(None) => {}
            Err(error) => self.log().error(
                "the configuration that was kept can't be read: nothing is served until the control plane answers",
                &[("error", &error)],
            ),
        }
    }

    /// Takes up a certificate that was kept.
    ///
    /// # Errors
    /// Why it is of no use.
    fn take_up(&mut self, kept: Identity, now: SystemTime) -> Result<Arc<Svid>, String> {
        let key = WorkloadKey::from_pem(kept.key.as_bytes()).map_err(|error| error.to_string())?;
        let chain = CertificateDer::pem_slice_iter(kept.chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let domain = self.workload.identity.trust_domain().clone();
        let bundle =
            TrustBundle::from_pem(domain, kept.roots.as_bytes()).map_err(|error| error.to_string())?;
        // What the operator says goes before what was kept: it is of another control plane, or of one that began anew.
        if !self.tls.bundle().shares_root(&bundle) {
            return Err(format!(
                "it is believed by other roots than those of --trust-anchors {}",
                self.workload.trust_anchors
            ));
        }
        self.manager
            .restored(key, chain, Arc::new(bundle), kept.obtained, now)
            .map_err(|error| error.to_string())
    }

    /// Gets a certificate.
    pub(super) async fn sign(&mut self, control: &Control) -> Result<(), Left> {
        let signing = self.begin_to_sign(control)?;
        let signed = self.meanwhile(signing).await;
        self.signed(signed)
    }

    /// Asks for a certificate. What comes of it is for [`Self::signed`].
    pub(super) fn begin_to_sign(&mut self, control: &Control) -> Result<Signing, Left> {
        let csr = match self.manager.request() {
            Ok(csr) => csr,
            Err(error) => return Err(Left::Tls(format!("no certificate can be asked for: {error}"))),
        };
        let shown = self.tls.svid().filter(|svid| svid.is_shown(SystemTime::now()));
        let request = match (&self.workload.proof, shown) {
            // A certificate that is good proves more than a token that may be spent.
            (Some(proof), None) => proof.speaks_for(csr).map_err(Left::Tls)?,
            _ => SignRequest {
                csr,
                ..SignRequest::default()
            },
        };
        let (control, believed) = (control.clone(), self.tls.bundle());
        Ok(Box::pin(async move {
            let answer = control.sign(request).await;
            Signed { answer, believed }
        }))
    }

    /// Takes up what came of a request for a certificate.
    pub(super) fn signed(&mut self, signed: Signed) -> Result<(), Left> {
        let Signed { answer, believed } = signed;
        let signed = answer.map_err(|error| self.not_signed(error))?;
        let chain: Vec<_> = signed.chain.into_iter().map(CertificateDer::from).collect();
        let domain = self.workload.identity.trust_domain().clone();
        let bundle = TrustBundle::from_pem(domain, signed.roots.as_bytes())
            .map_err(|error| self.not_signed(protocol(&format!("the roots can't be used: {error}"))))?;
        let told = self.tls.bundle();
        let svid = self
            .manager
            .answered(chain, Arc::new(bundle), SystemTime::now())
            .map_err(|error| self.not_signed(protocol(&error.to_string())))?;
        if told.hash() != believed.hash() {
            // They came while it was decided, and are not said again: those that came with it may be older.
            let _ = self.manager.roots(told, SystemTime::now());
        }
        let ends = svid.own().not_after;
        let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
        self.log().info(
            "a certificate came",
            &[
                ("identity", &self.workload.identity),
                ("seconds", &left.as_secs()),
            ],
        );
        self.keep_identity(&svid);
        Ok(())
    }

    /// No certificate came: it is asked for again a little later.
    pub(super) fn not_signed(&mut self, error: Error) -> Left {
        self.manager.failed(SystemTime::now());
        if let Some(svid) = self.tls.svid() {
            svid.shown_again();
        }
        self.log().warn("no certificate", &with_mend(&error));
        Left::Ended(error)
    }

    /// Takes the control plane's word for it that the certificate has ended: another proof may get another one.
    pub(super) fn heed_expired(&mut self, error: &Error) {
        if let Some(svid) = self.tls.svid()
            && error.is_expired()
        {
            svid.said_ended();
        }
    }

    /// Says that the control plane is not there, unless what it refused has been told already.
    pub(super) fn tell_why_left(&self, error: &Error, pause: Duration) {
        let is_member = !matches!(self.manager.standing(SystemTime::now()), Standing::None);
        if error.is_replaced() {
            let pause_ms = pause.as_millis();
            let mut fields: Vec<(_, &dyn Display)> = vec![("name", &self.workload.name)];
            if !self.is_leaving() {
                fields.push(("again_in_ms", &pause_ms));
            }
            fields.extend(with_mend(error));
            self.log().warn(
                "another sidecar is called the same and has taken this one's place: what is known goes on",
                &fields,
            );
        } else if is_member {
            self.log().warn(
                "the control plane is gone: what is known goes on",
                &with_mend(error),
            );
        } else if error.status().is_none() {
            self.log()
                .warn("not in the mesh yet, and tried again", &with_mend(error));
        }
    }

    /// Says once when the certificate should have been renewed, and when it has ended.
    pub(super) fn look_at_standing(&mut self) {
        let svid = self.tls.svid();
        let now = SystemTime::now();
        let is = Standing::of(svid.as_deref(), now);
        if std::mem::replace(&mut self.stood, is) == is {
            return;
        }
        let left = svid.map(|svid| svid.remaining(now)).unwrap_or_default();
        match is {
            Standing::None | Standing::Good => {}
            Standing::Ending => self.log().warn(
                "the certificate should have been renewed by now",
                &[("seconds", &left.as_secs())],
            ),
            Standing::Expired => self
                .log()
                .error("the certificate has ended: no workload believes this one", &[]),
        }
    }

    /// When it stands otherwise with the certificate than was said last.
    pub(super) fn stands_until(&self) -> Option<SystemTime> {
        self.stood.changes(self.tls.svid()?.as_ref())
    }

    /// Keeps a certificate, and the roots that are believed now.
    fn keep_identity(&mut self, svid: &Svid) {
        let Some(state) = &mut self.state else { return };
        let Some(Ok(key)) = self.manager.key().map(WorkloadKey::to_pem) else {
            return;
        };
        let identity = Identity {
            key: key.to_string(),
            chain: svid.chain_pem(),
            roots: self.tls.bundle().to_pem(),
            obtained: svid.obtained(),
        };
        if let Err(error) = state.keep_identity(identity) {
            self.tell_unkept("the certificate can't be kept", &error);
        }
    }

    pub(super) fn certificate(&self) -> CertificateState {
        let svid = self.tls.svid();
        let own = svid.as_deref().map(Svid::own);
        let ends = own.and_then(|own| own.not_after.duration_since(SystemTime::UNIX_EPOCH).ok());
        CertificateState {
            not_after: ends.map_or(0, |ends| i64::try_from(ends.as_secs()).unwrap_or(i64::MAX)),
            serial: own.map(|own| own.serial.to_string()).unwrap_or_default(),
        }
    }

    /// Judges by other roots, and keeps them: a start without a control plane judges by them too.
    pub(super) fn trust(&mut self, pem: &str) {
        let before = self.tls.bundle();
        let domain = self.workload.identity.trust_domain().clone();
        let bundle = TrustBundle::from_pem(domain, pem.as_bytes());
        let result = match bundle {
            Ok(bundle) => self
                .manager
                .roots(Arc::new(bundle), SystemTime::now())
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            self.log().error(
                "the roots can't be used: the ones before go on",
                &[("error", &error)],
            );
        }
        if self.tls.bundle() != before
            && let Some(svid) = self.tls.svid()
        {
            self.keep_identity(&svid);
        }
    }

    /// Without the control plane: who believes that one no more can't be told that it is taken back.
    fn but_control(&self, mut list: DenyList) -> DenyList {
        if let Ok(control) = control_id(&self.workload.identity) {
            list.allow(&Denied::Id(control));
        }
        list
    }

    pub(super) fn revoked(&mut self, denied: mesh_protocol::message::Denied) {
        let now = SystemTime::now();
        let identities = denied
            .identities
            .iter()
            .filter_map(|id| id.parse().ok().map(Denied::Id));
        let serials = denied
            .serials
            .iter()
            .filter_map(|serial| serial.parse::<Serial>().ok().map(Denied::Serial));
        let mut entries = identities.chain(serials);
        if entries.any(|entry| self.denied.deny(entry, None, now).is_err()) {
            self.log().error("more is revoked than can be remembered", &[]);
        }
        if denied.more {
            return;
        }
        let mut list = std::mem::take(&mut self.denied);
        if denied.partial {
            for (known, until) in self.tls.denied().entries() {
                if list.deny(known.clone(), until, now).is_err() {
                    self.log().error("more is revoked than can be remembered", &[]);
                    break;
                }
            }
        }
        let list = Arc::new(self.but_control(list));
        self.tls.set_denied(Arc::clone(&list));
        self.proxy.judge_again();
        self.awaits_denied &= denied.partial;
        let kept = self.state.as_mut().map(|state| state.keep_denied(&list));
        if let Some(Err(error)) = kept {
            self.tell_unkept("who is revoked can't be kept", &error);
        }
    }

    /// Says what can't be kept. It is an error where a start without a control plane would serve what holds no more.
    pub(super) fn tell_unkept(&self, what: &str, error: &std::io::Error) {
        match self.state.as_ref().is_some_and(State::is_void) {
            true => self.log().error(what, &[("error", error)]),
            false => self.log().warn(what, &[("error", error)]),
        }
    }
}

/// An error, and what those who set up a sidecar may do about it.
fn with_mend(error: &Error) -> Vec<(&'static str, &dyn Display)> {
    let mend: Option<&'static &'static str> = match error {
        error if error.is_replaced() => Some(&"each copy of a service needs a --name of its own, or none"),
        error if error.is_expired() => {
            Some(&"the clock of this machine, or of the control plane's, may be wrong")
        }
        Error::Tls(_)
            if matches!(
                error.rejection(),
                Some(Rejection::Expired | Rejection::NotYetValid)
            ) =>
        {
            Some(&"the clock of this machine, or of the control plane's, may be wrong")
        }
        Error::Connect { .. } => Some(&"--control is where mesh control listens"),
        Error::Tls(_) if error.rejection() == Some(Rejection::UnknownAuthority) => Some(
            &"--trust-anchors holds other roots than those of this control plane, which it keeps in roots.pem",
        ),
        Error::Status(status) if status.message.starts_with("token_") => {
            Some(&"mesh token SERVICE gives another token for --token-file")
        }
        Error::Status(status) if status.message.starts_with("no_attestor:") => {
            Some(&"that control plane needs an attestor for it, in TypeScript: docs/identity.md")
        }
        _ => None,
    };
    let mut fields: Vec<(&'static str, &dyn Display)> = vec![("error", error)];
    fields.extend(mend.map(|mend| ("mend", mend as &dyn Display)));
    fields
}
