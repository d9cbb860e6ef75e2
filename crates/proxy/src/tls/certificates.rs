//! Which certificate is a client shown?
//!
//! By the name it asks for: certificates that hold this very name, else those that hold it as a wildcard of one label
//! (RFC 6125 section 6.4.3), else the listed ones in order. Among those, the first whose key can sign what the client
//! accepts, so that an ECDSA and an RSA certificate may stand for the same names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use mesh_model::hosts::bare;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The DNS names that a certificate holds, in lower case; some are wildcards.
#[derive(Debug, Default)]
pub struct Names(Box<[Box<str>]>);

impl Names {
    /// Whether it holds a name, which is in lower case, by itself or by a wildcard of one label.
    fn hold(&self, name: &str) -> bool {
        let suffix = name
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map(|(_, suffix)| suffix);
        self.0.iter().any(|held| match held.strip_prefix("*.") {
            Some(wildcard) => suffix == Some(wildcard),
            None => **held == *name,
        })
    }
}

/// A certificate with its key, and its names.
#[derive(Clone, Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    names: Arc<Names>,
}

/// The certificates of a listener, by name.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    exact: HashMap<Box<str>, Vec<Shown>, RandomState>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Vec<Shown>, RandomState>,
    all: Vec<Shown>,
}

impl Certificates {
    /// Adds a certificate for these DNS names, which may be wildcards.
    pub(super) fn add<'n>(&mut self, key: Arc<CertifiedKey>, names: impl IntoIterator<Item = &'n str>) {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase().into());
        let names = Arc::new(Names(names.collect()));
        let shown = Shown { key, names };
        for name in &shown.names.0 {
            let (map, name) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcard, suffix),
                None => (&mut self.exact, &**name),
            };
            map.entry(name.into()).or_default().push(shown.clone());
        }
        self.all.push(shown);
    }

    /// Whether the names of the certificate that a client was shown, who asked for `asked`, do not hold that of an
    /// authority, and those of another certificate do.
    pub(super) fn belongs_elsewhere(&self, asked: &str, shown: &Names, authority: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(bare(authority)) else {
            return false;
        };
        if name.eq_ignore_ascii_case(asked) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        !shown.hold(&name) && (self.exact.contains_key(&*name) || self.by_wildcard(&name).is_some())
    }

    /// The certificates for a name, in order of preference; never none where there is any.
    fn candidates(&self, name: Option<&str>) -> &[Shown] {
        let named = name.and_then(|name| {
            let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
                true => Cow::Owned(name.to_ascii_lowercase()),
                false => Cow::Borrowed(name),
            };
            self.exact.get(&*name).or_else(|| self.by_wildcard(&name))
        });
        named.unwrap_or(&self.all)
    }

    fn by_wildcard(&self, name: &str) -> Option<&Vec<Shown>> {
        let (label, suffix) = name.split_once('.')?;
        (!label.is_empty()).then(|| self.wildcard.get(suffix)).flatten()
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Shown> {
        let candidates = self.candidates(hello.server_name());
        let accepted = |shown: &&Shown| shown.key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(accepted).or_else(|| candidates.first())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello).map(|shown| Arc::clone(&shown.key))
    }
}

/// The certificates for one handshake, which remembers what it chose.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) certificates: Arc<Certificates>,
    pub(super) chosen: Arc<OnceLock<Arc<Names>>>,
}

impl ResolvesServerCert for Once {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.certificates.choose(&hello)?;
        // A client that is asked to say hello again says the same of what is looked at here.
        let _ = self.chosen.set(Arc::clone(&shown.names));
        Some(Arc::clone(&shown.key))
    }
}
