//! Is the peer whom it says it is?
//!
//! Four questions in this order, and the first "no" ends it: does a path lead from its certificate to a root (webpki's
//! question), is it a workload's with exactly one SPIFFE id, does the root speak for that id's trust domain, and was it
//! revoked? Whether it is the one that was called is asked by who called.

use std::time::{Duration, SystemTime};

use der::Decode;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};
use x509_cert::Certificate;

use crate::{DenyList, Peer, Rejection, TrustBundle};

/// The most certificates of a chain: a workload's, its issuer's, and what an operator's offline hierarchy adds.
pub const MAX_CHAIN: usize = 6;

/// On which side of a connection a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It called.
    Client,
    /// It was called.
    Server,
}

/// Who shows this certificate, and these others of its chain.
///
/// # Errors
/// Why it is not believed.
pub fn verify(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    side: Side,
    bundle: &TrustBundle,
    denied: &DenyList,
    algorithms: &WebPkiSupportedAlgorithms,
    now: SystemTime,
) -> Result<Peer, Rejection> {
    let believed = believe(leaf, others, side, bundle, algorithms, now)?;
    not_denied(believed.peer, denied)
}

/// A peer whose chain is good, revocation left aside.
#[derive(Clone, Debug)]
pub(crate) struct Believed {
    pub(crate) peer: Peer,
    /// The chain is good from the time it was judged until here: no certificate of it, nor its root, ends before.
    pub(crate) until: SystemTime,
}

pub(crate) fn not_denied(peer: Peer, denied: &DenyList) -> Result<Peer, Rejection> {
    match denied.denies(&peer) {
        true => Err(Rejection::Revoked),
        false => Ok(peer),
    }
}

pub(crate) fn believe(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    side: Side,
    bundle: &TrustBundle,
    algorithms: &WebPkiSupportedAlgorithms,
    now: SystemTime,
) -> Result<Believed, Rejection> {
    if others.len() >= MAX_CHAIN {
        return Err(Rejection::ChainTooLong);
    }
    if bundle.is_empty() {
        return Err(Rejection::NoTrustBundle);
    }
    let usage = match side {
        Side::Client => KeyUsage::client_auth(),
        Side::Server => KeyUsage::server_auth(),
    };
    let certificate = EndEntityCert::try_from(leaf).map_err(of_path)?;
    let path = certificate
        .verify_for_usage(
            algorithms.all,
            bundle.anchors(),
            others,
            unix_time(now),
            usage,
            None,
            None,
        )
        .map_err(of_path)?;
    let root_ends = bundle.anchor_ends(path.anchor()).filter(|ends| now <= *ends);
    let mut until = root_ends.ok_or(Rejection::Expired)?;
    for issuer in path.intermediate_certificates() {
        let issuer = Certificate::from_der(&issuer.der()).map_err(|_| Rejection::Malformed)?;
        until = until.min(issuer.tbs_certificate().validity().not_after.to_system_time());
    }
    let peer = Peer::of(leaf)?;
    if peer.id.trust_domain() != bundle.trust_domain() {
        return Err(Rejection::WrongTrustDomain);
    }
    until = until.min(peer.not_after);
    Ok(Believed { peer, until })
}

pub(crate) fn unix_time(time: SystemTime) -> UnixTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or_default())
}

pub(crate) fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn of_path(error: Error) -> Rejection {
    match error {
        Error::CertExpired { .. } => Rejection::Expired,
        Error::CertNotValidYet { .. } => Rejection::NotYetValid,
        Error::UnknownIssuer => Rejection::UnknownAuthority,
        Error::CaUsedAsEndEntity => Rejection::AuthorityAsWorkload,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Rejection::WrongUsage,
        Error::CertRevoked => Rejection::Revoked,
        Error::InvalidSignatureForPublicKey
        | Error::SignatureAlgorithmMismatch
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Rejection::BadSignature,
        Error::EndEntityUsedAsCa
        | Error::NameConstraintViolation
        | Error::PathLenConstraintViolated
        | Error::UnsupportedCriticalExtension => Rejection::Constrained,
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => Rejection::ChainTooLong,
        _ => Rejection::Malformed,
    }
}

#[cfg(test)]
mod tests;
