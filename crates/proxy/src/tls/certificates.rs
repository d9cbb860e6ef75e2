//! Which certificate is a client shown?
//!
//! By the name it asks for: certificates that hold this very name, else those that hold it as a wildcard of one label
//! (RFC 6125 section 6.4.3), else the listed ones in order. Among those, the first whose key can sign what the client
//! accepts, so that an ECDSA and an RSA certificate may stand for the same names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use mesh_model::hosts::bare;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

type Keys = Vec<Arc<CertifiedKey>>;

/// The certificates of a listener, by name.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    exact: HashMap<Box<str>, Keys, RandomState>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Keys, RandomState>,
    all: Keys,
}

impl Certificates {
    /// Adds a certificate for these DNS names, which may be wildcards.
    pub(super) fn add<'n>(&mut self, key: Arc<CertifiedKey>, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            let name = name.to_ascii_lowercase();
            let (map, name) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcard, suffix),
                None => (&mut self.exact, name.as_str()),
            };
            map.entry(name.into()).or_default().push(Arc::clone(&key));
        }
        self.all.push(key);
    }

    /// Whether no certificate for who asked for `asked` holds the name of an authority, and another one does.
    pub(super) fn belongs_elsewhere(&self, asked: &str, authority: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(bare(authority)) else {
            return false;
        };
        if name.eq_ignore_ascii_case(asked) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let shown = self.candidates(Some(asked));
        let mut holders = [self.exact.get(&*name), self.by_wildcard(&name)]
            .into_iter()
            .flatten()
            .flatten()
            .peekable();
        holders.peek().is_some() && holders.all(|holder| !shown.iter().any(|key| Arc::ptr_eq(key, holder)))
    }

    /// The certificates for a name, in order of preference; never none where there is any.
    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let named = name.and_then(|name| {
            let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
                true => Cow::Owned(name.to_ascii_lowercase()),
                false => Cow::Borrowed(name),
            };
            self.exact.get(&*name).or_else(|| self.by_wildcard(&name))
        });
        named.unwrap_or(&self.all)
    }

    fn by_wildcard(&self, name: &str) -> Option<&Keys> {
        let (label, suffix) = name.split_once('.')?;
        (!label.is_empty()).then(|| self.wildcard.get(suffix)).flatten()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let accepted = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates
            .iter()
            .find(accepted)
            .or_else(|| candidates.first())
            .cloned()
    }
}
