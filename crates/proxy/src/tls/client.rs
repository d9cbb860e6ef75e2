//! With which roots, certificate and protocols is a server called?
//!
//! A configuration costs memory (the roots of a system are some 150 certificates) and holds the sessions to resume, so
//! equal inputs share one: a cluster that an update did not touch keeps its configuration, and with it its pools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use foldhash::fast::RandomState;
use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::resources::{ClientTls, Pem};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::files::{Files, shown};
use super::leaf::Leaf;
use super::look::{Looked, Patience, Refusal};
use super::pem;
use super::problem::{At, Problem};
use crate::locked::locked;

/// The client configurations in use, and the system's roots once somebody needs them.
#[derive(Default)]
pub struct ClientConfigs {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    system: Option<Arc<WebPkiServerVerifier>>,
    used: HashMap<Key, Used, RandomState>,
}

/// What makes two configurations equal. The server's name is not part of them.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    tls: ClientTls,
    alpn: Vec<Vec<u8>>,
}

struct Used {
    config: Weak<ClientConfig>,
    files: Files,
    /// The fingerprint of the files that are in use, which are not those last read when these were bad.
    served: u64,
    leaf: Option<Leaf>,
    refusal: Refusal,
}

/// Configurations that others took the place of.
#[derive(Default)]
pub struct Replaced {
    /// By the old one's address; it is held, so that it is nobody else's.
    by_address: HashMap<usize, (Arc<ClientConfig>, Arc<ClientConfig>), RandomState>,
}

impl Replaced {
    /// What to use instead of this one.
    pub fn get(&self, config: &Arc<ClientConfig>) -> Option<&Arc<ClientConfig>> {
        let (_, new) = self.by_address.get(&Arc::as_ptr(config).addr())?;
        Some(new)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }
}

impl ClientConfigs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration for a cluster's `tls`, offering these protocols by ALPN. `path` is where the resource stands,
    /// such as `clusters[0].tls`. The same one is given out for equal inputs as long as somebody holds it; that its files
    /// have changed is [`ClientConfigs::look`]'s business.
    ///
    /// # Errors
    /// Every file that is missing, unreadable or not what it should be, a certificate without its key, and a system
    /// without roots where the system's are wanted.
    pub fn config(
        &self,
        tls: &ClientTls,
        alpn: &[&[u8]],
        path: &[PathStep],
    ) -> Result<Arc<ClientConfig>, Vec<Issue>> {
        let mut inner = locked(&self.inner);
        inner.used.retain(|_, used| used.config.strong_count() > 0);
        let key = Key {
            tls: ClientTls {
                server_name: None,
                ..tls.clone()
            },
            alpn: alpn.iter().map(|name| name.to_vec()).collect(),
        };
        if let Some(config) = inner.used.get(&key).and_then(|used| used.config.upgrade()) {
            return Ok(config);
        }
        let mut files = Files::default();
        let built = build(tls, &key.alpn, &mut files, &At::new(path), &mut inner.system)?;
        let config = Arc::new(built.config);
        inner.used.insert(
            key,
            Used {
                config: Arc::downgrade(&config),
                served: files.fingerprint(),
                files,
                leaf: built.leaf,
                refusal: Refusal::No,
            },
        );
        Ok(config)
    }

    /// Reads the files again that may have changed, or all where `patience` says that they have. Gives what takes the
    /// place of what, and a line for each problem; where there is one, what was read before stays in use.
    pub fn look(&self, patience: Patience) -> (Replaced, Vec<String>) {
        let mut inner = locked(&self.inner);
        let Inner { used, system } = &mut *inner;
        let (mut replaced, mut refused) = (Replaced::default(), Vec::new());
        for (key, used) in used {
            let Some(old) = used.config.upgrade() else {
                continue;
            };
            if !used.files.changed() && !used.refusal.is_open() && patience == Patience::Some {
                continue;
            }
            let mut files = Files::default();
            let built = build(&key.tls, &key.alpn, &mut files, &At::new(&[]), system);
            let read = files.fingerprint();
            used.files = files;
            match built {
                Err(issues) => {
                    if let Looked::Refused(lines) = used.refusal.judge(issues, patience) {
                        refused.extend(lines);
                    }
                }
                Ok(built) => {
                    used.refusal = Refusal::No;
                    if read == used.served {
                        continue;
                    }
                    let new = Arc::new(built.config);
                    used.served = read;
                    used.leaf = built.leaf;
                    used.config = Arc::downgrade(&new);
                    replaced.by_address.insert(Arc::as_ptr(&old).addr(), (old, new));
                }
            }
        }
        (replaced, refused)
    }

    /// Whether any is in use.
    pub fn are_used(&self) -> bool {
        let inner = locked(&self.inner);
        inner.used.values().any(|used| used.config.strong_count() > 0)
    }

    /// The certificates that are shown to servers: by the address of their configuration the last second, since 1970,
    /// and what is wrong with the dates now.
    pub fn certificates(&self, now: SystemTime) -> HashMap<usize, (i64, Option<String>), RandomState> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let inner = locked(&self.inner);
        let shown = inner.used.values().filter_map(|used| {
            let leaf = used.leaf.as_ref()?;
            let warning = leaf.warning(now.as_secs() as i64);
            Some((used.config.as_ptr().addr(), (leaf.validity.not_after, warning)))
        });
        shown.collect()
    }
}

/// The name that a cluster's servers must prove, sent as SNI unless it is an IP address: what
/// [`Cluster::tls_name`](mesh_model::resources::Cluster::tls_name) says. `path` is where the resource stands, such as
/// `clusters[0].tls`.
///
/// # Errors
/// There is no name, or it is neither a DNS name nor an IP address.
pub fn server_name(name: Option<&str>, path: &[PathStep]) -> Result<ServerName<'static>, Issue> {
    const EXPECTED: &str = "a DNS name or an IP address";
    let at = At::new(path).key("serverName");
    let Some(name) = name else {
        let message = "there is no name to verify: the endpoints have none of their own";
        return Err(at.issue(Problem::new(IssueCode::Missing, message, EXPECTED)));
    };
    // SNI and certificates know no final dot (RFC 6066 section 3).
    ServerName::try_from(name.strip_suffix('.').unwrap_or(name))
        .map(|name| name.to_owned())
        .map_err(|_| {
            let message = format!("`{}` can't be a server's name", name.escape_debug());
            at.issue(Problem::new(IssueCode::BadHost, message, EXPECTED))
        })
}

/// Whether these roots can be trusted, or the system's where none are given. Nothing is kept of them. `path` is where the
/// resource stands, such as `clusters[0].tls`.
///
/// # Errors
/// Why they can't.
pub fn check_roots(roots: Option<&Pem>, path: &[PathStep]) -> Result<(), Issue> {
    let store = roots.map_or_else(system_roots, |pem| pem::roots(&mut Files::default(), pem));
    let checked = store.and_then(verifier).map(drop);
    checked.map_err(|problem| At::new(path).key("roots").issue(problem))
}

struct Built {
    config: ClientConfig,
    leaf: Option<Leaf>,
}

fn build(
    tls: &ClientTls,
    alpn: &[Vec<u8>],
    files: &mut Files,
    at: &At,
    system: &mut Option<Arc<WebPkiServerVerifier>>,
) -> Result<Built, Vec<Issue>> {
    let mut issues = Vec::new();
    let verifier = match (&tls.roots, &*system) {
        (None, Some(shared)) => Ok(Arc::clone(shared)),
        (None, None) => system_roots()
            .and_then(verifier)
            .inspect(|made| *system = Some(Arc::clone(made))),
        (Some(roots), _) => pem::roots(files, roots).and_then(verifier),
    };
    let identity = match (&tls.certificate, &tls.key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let chain =
                pem::chain(files, certificate).map_err(|problem| at.key("certificate").issue(problem));
            let key = pem::key(files, key).map_err(|problem| at.key("key").issue(problem));
            match (chain, key) {
                (Ok(chain), Ok(key)) => Ok(Some((chain, key))),
                (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect::<Vec<_>>()),
            }
        }
        (Some(_), None) => Err(vec![
            at.key("key")
                .issue(half("there is a certificate without its key")),
        ]),
        (None, Some(_)) => Err(vec![
            at.key("certificate")
                .issue(half("there is a key without its certificate")),
        ]),
    };
    let verifier = verifier.map_err(|problem| issues.push(at.key("roots").issue(problem)));
    let identity = identity.map_err(|found| issues.extend(found));
    let (Ok(verifier), Ok(identity)) = (verifier, identity) else {
        return Err(issues);
    };
    let whole = |problem: Problem| vec![at.issue(problem)];
    let builder = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| whole(Problem::plain(IssueCode::BadValue, error.to_string())))?
        .with_webpki_verifier(verifier);
    let Some((chain, key)) = identity else {
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = alpn.to_vec();
        return Ok(Built { config, leaf: None });
    };
    let shown_as = tls.certificate.as_ref().map(shown).unwrap_or_default();
    let leaf = chain.first().and_then(|leaf| Leaf::new(shown_as, leaf, &[]));
    let mut config = builder.with_client_auth_cert(chain, key).map_err(|error| {
        let (certificate, key) = (tls.certificate.as_ref().map(shown), tls.key.as_ref().map(shown));
        let (certificate, key) = (certificate.unwrap_or_default(), key.unwrap_or_default());
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => Problem::new(
                IssueCode::Conflict,
                format!("{key} is not the key of {certificate}"),
                pem::KEY_OF_LEAF,
            ),
            _ => Problem::new(
                IssueCode::BadValue,
                format!("{key} holds a private key that can't be used"),
                pem::USABLE_KEY,
            ),
        };
        vec![at.key("key").issue(problem)]
    })?;
    config.alpn_protocols = alpn.to_vec();
    Ok(Built { config, leaf })
}

fn half(message: &str) -> Problem {
    Problem::new(IssueCode::Missing, message, "both or none")
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Problem> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), super::provider())
        .build()
        .map_err(|error| Problem::plain(IssueCode::BadValue, format!("no server can be verified: {error}")))
}

/// The roots that the system trusts, `SSL_CERT_FILE` and `SSL_CERT_DIR` respected. Those that can't be read are left
/// out, as every other program on the system does.
fn system_roots() -> Result<RootCertStore, Problem> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found
            .errors
            .first()
            .map(|error| format!(": {error}"))
            .unwrap_or_default();
        let message = format!("the system has no root certificates{why}");
        return Err(Problem::new(
            IssueCode::Missing,
            message,
            "roots in PEM, or the package `ca-certificates`",
        ));
    }
    Ok(store)
}

#[cfg(test)]
mod tests;
