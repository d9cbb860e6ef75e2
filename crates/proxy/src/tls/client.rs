//! With which roots, certificate and protocols is a server called?
//!
//! A configuration costs memory (the roots of a system are some 150 certificates) and holds the sessions to resume, so
//! equal inputs share one: a cluster that an update did not touch keeps its configuration, and with it its pools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::RandomState;
use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::resources::ClientTls;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::files::{Files, shown};
use super::pem;
use super::problem::{At, Problem};

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
}

impl ClientConfigs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration for a cluster's `tls`, offering these protocols by ALPN. `path` is where the resource stands,
    /// such as `clusters[0].tls`. The same one is given out for equal inputs as long as somebody holds it and its files
    /// hold the same.
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
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.used.retain(|_, used| used.config.strong_count() > 0);
        let key = Key {
            tls: ClientTls {
                server_name: None,
                ..tls.clone()
            },
            alpn: alpn.iter().map(|name| name.to_vec()).collect(),
        };
        let before = inner
            .used
            .get(&key)
            .and_then(|used| Some((used.config.upgrade()?, used)));
        if let Some((config, used)) = &before
            && !used.files.changed()
        {
            return Ok(Arc::clone(config));
        }
        let before = before.map(|(config, used)| (config, used.files.fingerprint()));
        let mut files = Files::default();
        let mut config = build(tls, &mut files, &At::new(path), &mut inner.system)?;
        config.alpn_protocols = key.alpn.clone();
        let config = match before {
            Some((config, fingerprint)) if fingerprint == files.fingerprint() => config,
            _ => Arc::new(config),
        };
        inner.used.insert(
            key,
            Used {
                config: Arc::downgrade(&config),
                files,
            },
        );
        Ok(config)
    }

    /// Whether a file behind a configuration in use may have changed, so that its cluster should be compiled again. A
    /// `stat` for each file.
    pub fn changed(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .used
            .values()
            .any(|used| used.config.strong_count() > 0 && used.files.changed())
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

fn build(
    tls: &ClientTls,
    files: &mut Files,
    at: &At,
    system: &mut Option<Arc<WebPkiServerVerifier>>,
) -> Result<ClientConfig, Vec<Issue>> {
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
        return Ok(builder.with_no_client_auth());
    };
    builder.with_client_auth_cert(chain, key).map_err(|error| {
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
    })
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
