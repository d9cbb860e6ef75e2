//! How does rustls ask [`crate::verify()`]?

use std::fmt;
use std::sync::Arc;

use mesh_model::spiffe::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::Live;
use super::remembered::Key;
use crate::verify::{Side, believe, not_denied, system_time};
use crate::{Peer, Rejection};

/// The judge of one side.
struct Judge {
    live: Arc<Live>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Judge {
    fn new(live: Arc<Live>, provider: &CryptoProvider) -> Self {
        Self {
            live,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<Peer, Rejection> {
        let (bundle, now) = (self.live.bundle.load(), system_time(now));
        let key = Key::new(leaf, others, side, &bundle);
        let peer = match self.live.remembered.get(&key, now) {
            Some(peer) => peer,
            None => {
                let believed = believe(leaf, others, side, &bundle, &self.algorithms, now)?;
                let peer = believed.peer.clone();
                self.live.remembered.put(key, believed, now);
                peer
            }
        };
        not_denied(peer, &self.live.denied.load())
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// Believes one workload, which is called.
pub(super) struct Expected {
    id: SpiffeId,
    judge: Judge,
}

impl Expected {
    pub(super) fn new(id: SpiffeId, live: Arc<Live>, provider: &CryptoProvider) -> Self {
        Self {
            id,
            judge: Judge::new(live, provider),
        }
    }
}

impl ServerCertVerifier for Expected {
    /// The server's name says which port is wanted and is no identity; the expected id is.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.judge.judge(leaf, others, Side::Server, now)?;
        if peer.id.as_str().as_bytes() != self.id.as_str().as_bytes() {
            return Err(Rejection::WrongIdentity.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Rejection::TlsVersion.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}

/// Believes every workload of the trust domain that calls.
pub(super) struct Callers {
    judge: Judge,
    strangers: Strangers,
}

/// May somebody call who shows no certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strangers {
    /// Not between workloads.
    Refused,
    /// At the control plane, which certificates come from. One that is shown must be good all the same.
    Heard,
}

impl Callers {
    pub(super) fn new(live: Arc<Live>, provider: &CryptoProvider, strangers: Strangers) -> Self {
        Self {
            judge: Judge::new(live, provider),
            strangers,
        }
    }
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        self.strangers == Strangers::Refused
    }

    /// None: a workload has one certificate to show, and roots come and go.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge.judge(leaf, others, Side::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Rejection::TlsVersion.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expected({})", self.id)
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callers")
    }
}
