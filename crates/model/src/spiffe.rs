//! Who is a workload, written as a SPIFFE id?
//!
//! `spiffe://<trust domain>/<path>`, as the SPIFFE-ID standard (section 2) has it, and nothing that only looks like it:
//! ids are compared byte for byte, so there must be one spelling of each. No percent-encoding, no port, no query, no
//! empty or relative segments, lower case in the trust domain.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest trust domain, in bytes (SPIFFE-ID section 2.1).
pub const MAX_TRUST_DOMAIN: usize = 255;

/// The longest id, in bytes (SPIFFE-ID section 2.3).
pub const MAX_ID: usize = 2048;

const SCHEME: &str = "spiffe://";

/// Those who believe the same roots, such as `mesh.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

/// A workload, such as `spiffe://mesh.local/ns/shop/sa/basket`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

/// Why a text is no SPIFFE id or trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpiffeError {
    /// Longer than [`MAX_ID`] or [`MAX_TRUST_DOMAIN`].
    TooLong,
    /// It does not begin with `spiffe://`.
    Scheme,
    /// The trust domain is empty or has other bytes.
    TrustDomain,
    /// There is no path, or a segment is empty, `.`, `..` or has other bytes.
    Path,
}

impl fmt::Display for SpiffeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a SPIFFE id has at most 2048 bytes, 255 of them in its trust domain",
            Self::Scheme => "a SPIFFE id begins with spiffe://",
            Self::TrustDomain => "a trust domain consists of a-z, 0-9, `.`, `-` and `_`",
            Self::Path => {
                "a workload's path consists of /segments of letters, digits, `.`, `-` and `_`, none empty, `.` or `..`"
            }
        })
    }
}

impl std::error::Error for SpiffeError {}

impl TrustDomain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose roots vouch for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What follows the trust domain, with its first slash.
    pub fn path(&self) -> &str {
        let start = SCHEME.len() + self.trust_domain.0.len();
        self.text.get(start..).unwrap_or_default()
    }

    /// The namespace, where the path is `/ns/<namespace>/sa/<service account>` and nothing else.
    pub fn namespace(&self) -> Option<&str> {
        self.layout().map(|(namespace, _)| namespace)
    }

    /// The service account, where the path is `/ns/<namespace>/sa/<service account>` and nothing else.
    pub fn service_account(&self) -> Option<&str> {
        self.layout().map(|(_, account)| account)
    }

    fn layout(&self) -> Option<(&str, &str)> {
        let rest = self.path().strip_prefix("/ns/")?;
        let (namespace, rest) = rest.split_once('/')?;
        let account = rest.strip_prefix("sa/")?;
        (!account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_TRUST_DOMAIN {
            return Err(SpiffeError::TooLong);
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        match !text.is_empty() && text.bytes().all(plain) {
            true => Ok(Self(text.into())),
            false => Err(SpiffeError::TrustDomain),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_ID {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        let trust_domain = domain.parse()?;
        if !path.is_some_and(|path| path.split('/').all(is_segment)) {
            return Err(SpiffeError::Path);
        }
        Ok(Self {
            text: text.into(),
            trust_domain,
        })
    }
}

fn is_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeError;

    fn try_from(text: String) -> Result<Self, SpiffeError> {
        text.parse()
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeError;

    fn try_from(text: String) -> Result<Self, SpiffeError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.as_str().to_owned()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        let id: SpiffeId = "spiffe://mesh.local/ns/shop/sa/Basket_2".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "mesh.local");
        assert_eq!(id.path(), "/ns/shop/sa/Basket_2");
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn what_only_looks_like_an_id() {
        let cases = [
            ("", SpiffeError::Scheme),
            ("SPIFFE://a/b", SpiffeError::Scheme),
            ("https://a/b", SpiffeError::Scheme),
            ("spiffe:///b", SpiffeError::TrustDomain),
            ("spiffe://A/b", SpiffeError::TrustDomain),
            ("spiffe://a:80/b", SpiffeError::TrustDomain),
            ("spiffe://u@a/b", SpiffeError::TrustDomain),
            ("spiffe://*.a/b", SpiffeError::TrustDomain),
            ("spiffe://a?/b", SpiffeError::TrustDomain),
            ("spiffe://a", SpiffeError::Path),
            ("spiffe://a/", SpiffeError::Path),
            ("spiffe://a/b/", SpiffeError::Path),
            ("spiffe://a//b", SpiffeError::Path),
            ("spiffe://a/./b", SpiffeError::Path),
            ("spiffe://a/b/..", SpiffeError::Path),
            ("spiffe://a/b%2f", SpiffeError::Path),
            ("spiffe://a/b?c", SpiffeError::Path),
            ("spiffe://a/b#c", SpiffeError::Path),
            ("spiffe://a/b\0", SpiffeError::Path),
            ("spiffe://a/*", SpiffeError::Path),
            ("spiffe://a/\u{e4}", SpiffeError::Path),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<SpiffeId>(), Err(expected), "{text:?}");
        }
        let long = format!("spiffe://a/{}", "b".repeat(MAX_ID));
        assert_eq!(long.parse::<SpiffeId>(), Err(SpiffeError::TooLong));
        let long = format!("spiffe://{}/b", "a".repeat(MAX_TRUST_DOMAIN + 1));
        assert_eq!(long.parse::<SpiffeId>(), Err(SpiffeError::TooLong));
    }

    #[test]
    fn workloads_have_a_namespace_and_an_account() {
        let parts = |path: &str| {
            let id: SpiffeId = format!("spiffe://mesh.test{path}").parse().unwrap();
            let own = |text: Option<&str>| text.map(str::to_owned);
            (own(id.namespace()), own(id.service_account()))
        };
        assert_eq!(
            parts("/ns/shop/sa/web"),
            (Some("shop".into()), Some("web".into()))
        );
        for other in [
            "/ns/shop",
            "/ns/shop/sa/web/x",
            "/sa/web/ns/shop",
            "/x/ns/shop/sa/web",
        ] {
            assert_eq!(parts(other), (None, None), "{other}");
        }
    }
}
