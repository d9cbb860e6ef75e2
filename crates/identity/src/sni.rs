//! Which port of which service is a mesh connection for?
//!
//! The outbound side says it in the server name: `p<port>.<service>.<namespace>.<trust domain>`. It is a wish, no
//! identity: it picks the port to authorise and to forward to, and the certificate alone says who is there.

use std::fmt;

use mesh_model::spiffe::TrustDomain;
use rustls::pki_types::{DnsName, ServerName};

/// The longest label of a DNS name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    port: u16,
    service: Box<str>,
    namespace: Box<str>,
    trust_domain: TrustDomain,
}

/// Why a name is no target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SniError {
    /// Not `p<port>.<service>.<namespace>.<trust domain>`.
    #[error("the server name is not of the form p<port>.<service>.<namespace>.<trust domain>")]
    Form,
    /// The port is not 1 to 65535 in plain digits.
    #[error("the server name's port is not a number from 1 to 65535")]
    Port,
    /// The service or namespace is no label of lower-case letters, digits and hyphens.
    #[error("the server name's service or namespace is no DNS label in lower case")]
    Label,
    /// The trust domain is no valid one, or not this one.
    #[error("the server name is of another trust domain")]
    TrustDomain,
    /// The whole is longer than a DNS name may be, or DNS does not take it.
    #[error("the server name is no DNS name")]
    NotDns,
}

impl Target {
    /// A target.
    ///
    /// # Errors
    /// The parts make no valid name.
    pub fn new(
        port: u16,
        service: &str,
        namespace: &str,
        trust_domain: &TrustDomain,
    ) -> Result<Self, SniError> {
        if port == 0 {
            return Err(SniError::Port);
        }
        if !is_label(service) || !is_label(namespace) {
            return Err(SniError::Label);
        }
        let target = Self {
            port,
            service: service.into(),
            namespace: namespace.into(),
            trust_domain: trust_domain.clone(),
        };
        DnsName::try_from(target.to_string()).map_err(|_| SniError::NotDns)?;
        Ok(target)
    }

    /// The target that a client names. Names have one spelling: lower case, no final dot, no zero before a port.
    ///
    /// # Errors
    /// It is no target's name, or one of another trust domain.
    pub fn parse(name: &str, trust_domain: &TrustDomain) -> Result<Self, SniError> {
        let mut parts = name.splitn(4, '.');
        let (Some(port), Some(service), Some(namespace), Some(domain)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SniError::Form);
        };
        let digits = port.strip_prefix('p').ok_or(SniError::Form)?;
        let is_plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        let port = digits.parse().ok().filter(|_| is_plain).ok_or(SniError::Port)?;
        if domain != trust_domain.as_str() {
            return Err(SniError::TrustDomain);
        }
        Self::new(port, service, namespace, trust_domain)
    }

    /// The port of the service.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The service's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What a TLS client sends.
    ///
    /// # Errors
    /// Never: [`Target::new`] has tried.
    pub fn server_name(&self) -> Result<ServerName<'static>, SniError> {
        ServerName::try_from(self.to_string()).map_err(|_| SniError::NotDns)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            port,
            service,
            namespace,
            trust_domain,
        } = self;
        write!(f, "p{port}.{service}.{namespace}.{trust_domain}")
    }
}

/// RFC 1123 section 2.1, in lower case.
fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| plain(byte) || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::domain;

    #[test]
    fn a_name_says_port_service_and_namespace() {
        let target = Target::parse("p8080.basket.shop.mesh.test", &domain()).unwrap();
        assert_eq!(
            (target.port(), target.service(), target.namespace()),
            (8080, "basket", "shop")
        );
        assert_eq!(target.to_string(), "p8080.basket.shop.mesh.test");
        assert_eq!(
            target.server_name().unwrap().to_str(),
            "p8080.basket.shop.mesh.test"
        );
    }

    #[test]
    fn names_have_one_spelling() {
        let cases = [
            ("", SniError::Form),
            ("basket.shop.mesh.test", SniError::Form),
            ("p80.basket.shop", SniError::Form),
            ("80.basket.shop.mesh.test", SniError::Form),
            ("P80.basket.shop.mesh.test", SniError::Form),
            ("p0.basket.shop.mesh.test", SniError::Port),
            ("p080.basket.shop.mesh.test", SniError::Port),
            ("p+80.basket.shop.mesh.test", SniError::Port),
            ("p65536.basket.shop.mesh.test", SniError::Port),
            ("p.basket.shop.mesh.test", SniError::Port),
            ("p80.Basket.shop.mesh.test", SniError::Label),
            ("p80..shop.mesh.test", SniError::Label),
            ("p80.-a.shop.mesh.test", SniError::Label),
            ("p80.a_b.shop.mesh.test", SniError::Label),
            ("p80.basket.*.mesh.test", SniError::Label),
            ("p80.basket.shop.other.test", SniError::TrustDomain),
            ("p80.basket.shop.mesh.test.", SniError::TrustDomain),
            ("p80.basket.shop.x.mesh.test", SniError::TrustDomain),
        ];
        for (name, expected) in cases {
            assert_eq!(Target::parse(name, &domain()), Err(expected), "{name:?}");
        }
        let long = "a".repeat(64);
        assert_eq!(Target::new(80, &long, "shop", &domain()), Err(SniError::Label));
        let domain: TrustDomain = vec!["a".repeat(40); 5].join(".").parse().unwrap();
        assert_eq!(
            Target::new(80, &"a".repeat(63), "shop", &domain),
            Err(SniError::NotDns),
            "more than 253 bytes"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(port in 1_u16.., service in "[a-z][a-z0-9-]{0,20}[a-z0-9]", namespace in "[a-z0-9]{1,20}") {
            let target = Target::new(port, &service, &namespace, &domain()).unwrap();
            prop_assert_eq!(Target::parse(&target.to_string(), &domain()).unwrap(), target);
        }

        #[test]
        fn any_text_that_is_read_is_written_the_same(name in "p[0-9]{1,3}\\.[a-zA-Z0-9.-]{0,20}\\.mesh\\.test") {
            if let Ok(target) = Target::parse(&name, &domain()) {
                prop_assert_eq!(target.to_string(), name);
            }
        }
    }
}
