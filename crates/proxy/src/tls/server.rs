//! What does a listener terminate TLS with, and when does that change?
//!
//! [`ServerTls`] is the compiled form of a listener's `tls`. It is made with the listener and lives as long; its files
//! may change under it. The control thread calls [`ServerTls::look`] now and then, which costs a `stat` for each file and
//! reads what changed. Handshakes take [`ServerTls::config`], a pointer that is read without a lock, and keep what they
//! began with.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::resources::{self, CertificateAndKey, ListenerProtocol, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use super::certificates::{Certificates, Names, Once};
use super::files::{Files, shown};
use super::leaf::Leaf;
use super::look::{Looked, Patience, Refusal};
use super::pem;
use super::problem::{At, Problem};
use crate::locked::locked;

/// Tickets sent after a TLS 1.3 handshake. Clients use a ticket once (RFC 8446 appendix C.4), and are sent a new one each
/// time they come back; a second one would only serve those that open two connections at once, and each costs the
/// handshake a tenth of what it takes to make the keys it saves.
const TICKETS: usize = 1;

/// TLS that a listener terminates.
pub struct ServerTls {
    resource: resources::ServerTls,
    alpn: Vec<Vec<u8>>,
    at: At,
    /// What seals session tickets. It outlives reloads, so that returning clients do not notice them.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    config: ArcSwap<ServerConfig>,
    /// The certificates of `config`.
    certificates: ArcSwap<Certificates>,
    /// See [`ServerTls::tightened`].
    tightened: AtomicU64,
    state: Mutex<State>,
}

struct State {
    files: Files,
    /// The fingerprint of the files that are served, which are not those last read when these were bad.
    served: u64,
    leaves: Vec<Leaf>,
    /// Whom clients' certificates must come from, where they are asked for.
    roots: Option<Arc<RootCertStore>>,
    refusal: Refusal,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files hold what is served already.
    Unchanged,
    /// New handshakes use what the files hold now.
    Changed,
}

impl ServerTls {
    /// Reads a listener's certificates, keys and roots. `protocol` says which ALPN protocols are offered where the
    /// resource does not; `path` is where the resource stands, such as `listeners[0].tls`.
    ///
    /// Sessions are resumed by tickets that this process alone can open, so no memory is kept for a client; save where
    /// clients show certificates, as a ticket would outlive theirs. An expired certificate is no error, see
    /// [`ServerTls::warnings`].
    ///
    /// # Errors
    /// Every file that is missing, unreadable or not what it should be, and every key that is not its certificate's.
    pub fn load(
        resource: &resources::ServerTls,
        protocol: ListenerProtocol,
        path: &[PathStep],
    ) -> Result<Self, Vec<Issue>> {
        let at = At::new(path);
        let alpn = alpn(resource, protocol);
        let ticketer = match resource.client_certificates {
            Some(_) => None,
            None => Some(Ticketer::new().map_err(|error| {
                vec![at.issue(Problem::plain(
                    IssueCode::BadValue,
                    format!("no randomness for tickets: {error}"),
                ))]
            })?),
        };
        let mut files = Files::default();
        let built = build(resource, &alpn, ticketer.as_ref(), &at, &mut files)?;
        let state = State {
            served: files.fingerprint(),
            files,
            leaves: built.leaves,
            roots: built.roots,
            refusal: Refusal::No,
        };
        Ok(Self {
            resource: resource.clone(),
            alpn,
            at,
            ticketer,
            config: ArcSwap::from_pointee(built.config),
            certificates: ArcSwap::new(built.certificates),
            tightened: AtomicU64::new(0),
            state: Mutex::new(state),
        })
    }

    /// Takes the place of another one, see [`ServerTls::tightened`].
    pub fn follow(&self, before: &Self) {
        let lost = lost(&before.state().roots, &self.state().roots);
        self.tightened
            .store(before.tightened() + u64::from(lost), Release);
    }

    /// Another number than before when a root that clients' certificates came from is no more: whoever was let in before may
    /// have been by that one.
    pub fn tightened(&self) -> u64 {
        self.tightened.load(Acquire)
    }

    /// The configuration for a new handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The same for one handshake alone, and where the names of the certificate that it shows will stand.
    pub fn config_once(&self) -> (Arc<ServerConfig>, Arc<OnceLock<Arc<Names>>>) {
        let chosen = Arc::<OnceLock<_>>::default();
        let mut config = ServerConfig::clone(&self.config.load());
        config.cert_resolver = Arc::new(Once {
            certificates: self.certificates.load_full(),
            chosen: Arc::clone(&chosen),
        });
        (Arc::new(config), chosen)
    }

    /// Whether clients are shown one certificate or another.
    pub fn has_several(&self) -> bool {
        self.resource.certificates.len() > 1
    }

    /// Whether a request for `authority` is on the wrong connection: its client, who asked for `asked`, was shown a
    /// certificate of these names, which don't hold the authority's, and those of another one do (RFC 9110 section
    /// 15.5.20).
    pub fn is_misdirected(&self, asked: &str, shown: &Names, authority: &[u8]) -> bool {
        self.certificates
            .load()
            .belongs_elsewhere(asked, shown, authority)
    }

    /// Whether a file may have changed since it was read: one `stat` for each. For the control thread.
    pub fn changed(&self) -> bool {
        self.state().files.changed()
    }

    /// Reads the files again; if they hold something new, handshakes that begin from now on use it.
    ///
    /// # Errors
    /// As [`ServerTls::load`]. What was served before goes on being served, and [`ServerTls::changed`] stays quiet
    /// until a file changes again.
    pub fn reload(&self) -> Result<Reloaded, Vec<Issue>> {
        let mut files = Files::default();
        let built = build(
            &self.resource,
            &self.alpn,
            self.ticketer.as_ref(),
            &self.at,
            &mut files,
        );
        let mut state = self.state();
        let read = files.fingerprint();
        state.files = files;
        let built = built?;
        if read == state.served {
            return Ok(Reloaded::Unchanged);
        }
        state.served = read;
        state.leaves = built.leaves;
        let tightens = lost(&state.roots, &built.roots);
        state.roots = built.roots;
        self.config.store(Arc::new(built.config));
        self.certificates.store(built.certificates);
        if tightens {
            // After the configuration: whoever sees this number is let in by that.
            self.tightened.fetch_add(1, Release);
        }
        Ok(Reloaded::Changed)
    }

    /// Reads the files again if they may have changed, or `patience` says that they have; see [`ServerTls::reload`].
    pub fn look(&self, patience: Patience) -> Looked {
        let (changed, open) = {
            let state = self.state();
            (state.files.changed(), state.refusal.is_open())
        };
        if !changed && !open && patience == Patience::Some {
            return Looked::Unchanged;
        }
        let reloaded = self.reload();
        let refusal = &mut self.state().refusal;
        match reloaded {
            Err(issues) => refusal.judge(issues, patience),
            Ok(reloaded) => {
                *refusal = Refusal::No;
                match reloaded {
                    Reloaded::Changed => Looked::Changed,
                    Reloaded::Unchanged => Looked::Unchanged,
                }
            }
        }
    }

    /// What an operator should look at although it is served: certificates that end soon or are outside their dates, and
    /// certificates without DNS names that no client can be shown.
    pub fn warnings(&self, now: SystemTime) -> Vec<Issue> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut issues = Vec::new();
        for (index, leaf) in self.state().leaves.iter().enumerate() {
            let mut warn = |message: String| {
                let at = self.at.key("certificates").index(index).key("certificate");
                issues.push(at.issue(Problem::plain(IssueCode::BadValue, message)));
            };
            if let Some(warning) = leaf.warning(now as i64) {
                warn(warning);
            }
            if index > 0 && !leaf.has_names {
                warn(format!(
                    "the certificate in {} has no DNS name: no client will be shown it",
                    leaf.shown
                ));
            }
        }
        issues
    }

    /// The last second, since 1970, of the first of the certificates that are served to end.
    pub fn not_after(&self) -> Option<i64> {
        self.state()
            .leaves
            .iter()
            .map(|leaf| leaf.validity.not_after)
            .min()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing between two writes of the state can panic, so it is whole even then.
        locked(&self.state)
    }
}

/// The protocols offered, in the server's order of preference.
fn alpn(resource: &resources::ServerTls, protocol: ListenerProtocol) -> Vec<Vec<u8>> {
    if !resource.alpn.is_empty() {
        return resource
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
    }
    // A client that offers only names that are not listed is turned away (RFC 7301 section 3.2): some say `http/1.0`.
    let names: &[&str] = match protocol {
        ListenerProtocol::Auto => &["h2", "http/1.1", "http/1.0"],
        ListenerProtocol::Http1 => &["http/1.1", "http/1.0"],
        ListenerProtocol::Http2 => &["h2"],
        ListenerProtocol::Tcp | ListenerProtocol::TlsPassthrough => &[],
    };
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

struct Built {
    config: ServerConfig,
    certificates: Arc<Certificates>,
    leaves: Vec<Leaf>,
    roots: Option<Arc<RootCertStore>>,
}

/// Whether a root is no more. One that comes again with the same name and key is the same.
fn lost(before: &Option<Arc<RootCertStore>>, now: &Option<Arc<RootCertStore>>) -> bool {
    let (Some(before), Some(now)) = (before, now) else {
        return false;
    };
    before.roots.iter().any(|root| !now.roots.contains(root))
}

fn build(
    resource: &resources::ServerTls,
    alpn: &[Vec<u8>],
    ticketer: Option<&Arc<dyn ProducesTickets>>,
    at: &At,
    files: &mut Files,
) -> Result<Built, Vec<Issue>> {
    let provider = super::provider();
    let mut issues = Vec::new();
    let mut certificates = Certificates::default();
    let mut leaves = Vec::new();
    if resource.certificates.is_empty() {
        let problem = Problem::new(
            IssueCode::Missing,
            "there is no certificate to show",
            "at least one",
        );
        issues.push(at.key("certificates").issue(problem));
    }
    for (index, pair) in resource.certificates.iter().enumerate() {
        match certified(pair, &provider, &at.key("certificates").index(index), files) {
            Ok(certified) => {
                certificates.add(
                    Arc::new(certified.key),
                    certified.names.iter().map(String::as_str),
                );
                leaves.push(certified.leaf);
            }
            Err(found) => issues.extend(found),
        }
    }
    let versions: &[_] = match resource.minimum_version {
        TlsVersion::Tls12 => const { &[&TLS13, &TLS12] },
        TlsVersion::Tls13 => const { &[&TLS13] },
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let mut trusted = None;
    let verifier = match &resource.client_certificates {
        None => Ok(WebPkiClientVerifier::no_client_auth()),
        Some(client) => pem::roots(files, &client.roots).and_then(|roots| {
            let roots = trusted.insert(Arc::new(roots));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
            let verifier = if client.optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            verifier.build().map_err(|error| {
                let message = format!("{} can't verify clients: {error}", shown(&client.roots));
                Problem::plain(IssueCode::BadValue, message)
            })
        }),
    };
    let verifier = match verifier {
        Ok(verifier) => Some(verifier),
        Err(problem) => {
            issues.push(at.key("clientCertificates").key("roots").issue(problem));
            None
        }
    };
    let (builder, verifier) = match (builder, verifier) {
        (Ok(builder), Some(verifier)) if issues.is_empty() => (builder, verifier),
        (Err(error), _) => {
            issues.push(at.issue(Problem::plain(IssueCode::BadValue, error.to_string())));
            return Err(issues);
        }
        _ => return Err(issues),
    };
    let certificates = Arc::new(certificates);
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = alpn.to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match ticketer {
        Some(ticketer) => {
            config.ticketer = Arc::clone(ticketer);
            config.send_tls13_tickets = TICKETS;
        }
        None => config.send_tls13_tickets = 0,
    }
    Ok(Built {
        config,
        certificates,
        leaves,
        roots: trusted,
    })
}

struct Certified {
    key: CertifiedKey,
    names: Vec<String>,
    leaf: Leaf,
}

/// Reads a chain and its key and holds them against each other.
fn certified(
    pair: &CertificateAndKey,
    provider: &CryptoProvider,
    at: &At,
    files: &mut Files,
) -> Result<Certified, Vec<Issue>> {
    let (at_certificate, at_key) = (at.key("certificate"), at.key("key"));
    let chain = pem::chain(files, &pair.certificate).map_err(|problem| at_certificate.issue(problem));
    let key = pem::key(files, &pair.key).and_then(|key| {
        provider.key_provider.load_private_key(key).map_err(|_| {
            // What rustls says of it helps nobody: "failed to parse private key as RSA, ECDSA, or EdDSA".
            let message = format!("{} holds a private key that can't be used", shown(&pair.key));
            Problem::new(IssueCode::BadValue, message, pem::USABLE_KEY)
        })
    });
    let (chain, key) = match (chain, key.map_err(|problem| at_key.issue(problem))) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let not_x509 = || {
        let message = format!(
            "{} does not begin with an X.509 certificate",
            shown(&pair.certificate)
        );
        vec![at_certificate.issue(Problem::plain(IssueCode::BadValue, message))]
    };
    let leaf = chain.first().ok_or_else(not_x509)?;
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|_| not_x509())?;
    let names: Vec<String> = parsed.valid_dns_names().map(str::to_owned).collect();
    let leaf = Leaf::new(shown(&pair.certificate), leaf, &names).ok_or_else(not_x509)?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        // A key that can't tell its public half can't be held against the certificate; clients will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(Certified { key, names, leaf })
        }
        Err(_) => {
            let message = format!(
                "{} is not the key of {}",
                shown(&pair.key),
                shown(&pair.certificate)
            );
            let problem = Problem::new(IssueCode::Conflict, message, pem::KEY_OF_LEAF);
            Err(vec![at_key.issue(problem)])
        }
    }
}

#[cfg(test)]
mod tests;
