//! Which certificates and keys does an authority hold, in memory and in its directory?

use std::collections::BTreeMap;

use mesh_model::spiffe::TrustDomain;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::certificate::{Signer, Span, authority_name};
use super::rotation::{Rotation, Step, Term};
use super::{Active, AuthorityError, Directory, DirectoryError, Unsigned, backdated};
use crate::bundle::to_pem;
use crate::{BundleError, TrustBundle, WorkloadKey};

/// The form of `state.json`. Another one is refused rather than guessed at.
const VERSION: u32 = 1;

const STATE: &str = "state.json";

/// Own certificates below a root: the issuer's, which has none below.
const ROOT_DEPTH: u8 = 1;
const ISSUER_DEPTH: u8 = 0;

/// Certificates and keys by number.
#[derive(Clone, Default)]
pub(super) struct Kept {
    roots: BTreeMap<u32, Pair>,
    issuer: Option<(u32, Pair)>,
}

#[derive(Clone)]
struct Pair {
    certificate: CertificateDer<'static>,
    /// `None` for a root that signs no more.
    key: Option<WorkloadKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    version: u32,
    trust_domain: String,
    rotation: Rotation,
}

impl Kept {
    /// The first root and issuer.
    pub(super) fn first(rotation: &Rotation, domain: &TrustDomain) -> Result<Self, AuthorityError> {
        let mut kept = Self::default();
        kept.make_root(rotation.signs(), domain)?;
        kept.make_issuer(rotation.issuer, rotation.signs(), domain)?;
        Ok(kept)
    }

    /// Does what a step says, which the rotation has taken.
    pub(super) fn take(
        &mut self,
        step: Step,
        rotation: &Rotation,
        domain: &TrustDomain,
    ) -> Result<(), AuthorityError> {
        match step {
            Step::AnnounceRoot(root) => self.make_root(root, domain),
            Step::RenewIssuer(issuer) => self.make_issuer(issuer, rotation.signs(), domain),
            Step::SwitchRoot(issuer) => {
                self.make_issuer(issuer, rotation.signs(), domain)?;
                for (number, root) in &mut self.roots {
                    if *number != rotation.signs().number {
                        root.key = None;
                    }
                }
                Ok(())
            }
            Step::DropRoot(root) => {
                self.roots.remove(&root.number);
                Ok(())
            }
        }
    }

    fn make_root(&mut self, root: Term, domain: &TrustDomain) -> Result<(), AuthorityError> {
        let key = WorkloadKey::generate()?;
        let signer = Signer::named(&authority_name("root", root.number, domain), key.clone())?;
        let certificate = signer.authority(&signer, Some(ROOT_DEPTH), span(root))?;
        self.roots.insert(
            root.number,
            Pair {
                certificate,
                key: Some(key),
            },
        );
        Ok(())
    }

    fn make_issuer(&mut self, issuer: Term, under: Term, domain: &TrustDomain) -> Result<(), AuthorityError> {
        let root = self.roots.get(&under.number).ok_or(Unsigned)?;
        let root = Signer::of(&root.certificate, root.key.clone().ok_or(Unsigned)?)?;
        let key = WorkloadKey::generate()?;
        let subject = Signer::named(&authority_name("issuer", issuer.number, domain), key.clone())?;
        let certificate = root.authority(&subject, Some(ISSUER_DEPTH), span(issuer))?;
        let pair = Pair {
            certificate,
            key: Some(key),
        };
        self.issuer = Some((issuer.number, pair));
        Ok(())
    }

    /// The issuer that signs.
    pub(super) fn active(&self, rotation: &Rotation) -> Result<Active, AuthorityError> {
        let (_, issuer) = self.issuer.as_ref().ok_or(Unsigned)?;
        let key = issuer.key.clone().ok_or(Unsigned)?;
        let mut active = Active::new(vec![issuer.certificate.clone()], key)?;
        active.ends = active.ends.min(rotation.issuer.ends);
        Ok(active)
    }

    /// The roots that are believed.
    pub(super) fn bundle(
        &self,
        rotation: &Rotation,
        domain: &TrustDomain,
    ) -> Result<TrustBundle, BundleError> {
        let believed = rotation.believed();
        let roots = believed.iter().filter_map(|term| self.roots.get(&term.number));
        TrustBundle::from_der(domain.clone(), roots.map(|root| root.certificate.clone()))
    }

    fn files(&self) -> impl Iterator<Item = (String, &Pair)> {
        let roots = self
            .roots
            .iter()
            .map(|(number, pair)| (format!("root-{number}"), pair));
        let issuer = self
            .issuer
            .iter()
            .map(|(number, pair)| (format!("issuer-{number}"), pair));
        roots.chain(issuer)
    }
}

/// What a directory holds; `None` when nothing was ever stored there.
pub(super) fn load(
    directory: &Directory,
    domain: &TrustDomain,
) -> Result<Option<(Rotation, Kept)>, AuthorityError> {
    let Some(text) = directory.read(STATE)? else {
        return Ok(None);
    };
    let damaged = |why: String| AuthorityError::State(why.into());
    let state: State = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if state.version != VERSION {
        return Err(damaged(format!(
            "its version is {}, not {VERSION}",
            state.version
        )));
    }
    if state.trust_domain != domain.as_str() {
        return Err(damaged(format!(
            "it is of the trust domain {}",
            state.trust_domain
        )));
    }
    let rotation = state.rotation;
    let mut kept = Kept::default();
    for root in rotation.believed() {
        let pair = load_pair(directory, &format!("root-{}", root.number))?;
        kept.roots.insert(root.number, pair);
    }
    let number = rotation.issuer.number;
    kept.issuer = Some((number, load_pair(directory, &format!("issuer-{number}"))?));
    Ok(Some((rotation, kept)))
}

fn load_pair(directory: &Directory, name: &str) -> Result<Pair, AuthorityError> {
    let certificate = directory.require(&format!("{name}.crt"))?;
    let certificate = CertificateDer::from_pem_slice(&certificate)
        .map_err(|_| AuthorityError::State(format!("{name}.crt is no certificate in PEM").into()))?;
    let key = directory.read(&format!("{name}.key"))?;
    let key = key.map(|text| WorkloadKey::from_pem(&text)).transpose()?;
    Ok(Pair { certificate, key })
}

/// Stores everything: files first, then the state that names them, and then what it no longer names goes.
pub(super) fn store(
    directory: &Directory,
    rotation: &Rotation,
    kept: &Kept,
    domain: &TrustDomain,
) -> Result<(), AuthorityError> {
    let mut names = Vec::new();
    for (name, pair) in kept.files() {
        let certificate = format!("{name}.crt");
        write_new(directory, &certificate, to_pem(&pair.certificate).as_bytes())?;
        names.push(certificate);
        if let Some(key) = &pair.key {
            let file = format!("{name}.key");
            write_new(directory, &file, key.to_pem()?.as_bytes())?;
            names.push(file);
        }
    }
    store_state(directory, rotation, domain)?;
    directory.keep_only(&names);
    Ok(())
}

/// Writes what is not there yet, or is left from a start that never came to its end.
fn write_new(directory: &Directory, name: &str, content: &[u8]) -> Result<(), DirectoryError> {
    let there = directory.read(name)?;
    match there.is_some_and(|there| there.as_slice() == content) {
        true => Ok(()),
        false => directory.write(name, content),
    }
}

/// Stores the state alone, for certificates and keys that are there.
pub(super) fn store_state(
    directory: &Directory,
    rotation: &Rotation,
    domain: &TrustDomain,
) -> Result<(), DirectoryError> {
    let state = State {
        version: VERSION,
        trust_domain: domain.as_str().to_owned(),
        rotation: rotation.clone(),
    };
    // Numbers and texts: there is nothing in it that JSON can't say.
    let text = serde_json::to_vec_pretty(&state).unwrap_or_default();
    directory.write(STATE, &text)
}

fn span(term: Term) -> Span {
    Span {
        not_before: backdated(term.made),
        not_after: term.ends,
    }
}
