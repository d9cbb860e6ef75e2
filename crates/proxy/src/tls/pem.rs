//! What certificates, keys and roots does a PEM text hold?

use mesh_model::issue::IssueCode;
use mesh_model::resources::Pem;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{Files, shown};
use super::problem::Problem;

/// More certificates than this are no chain but a bundle of roots in the wrong place; each handshake would send them all.
const MAX_CHAIN: usize = 16;

/// What was expected of a key that is another certificate's.
pub(super) const KEY_OF_LEAF: &str = "the key of the chain's first certificate";

/// What was expected of a key that is none of these.
pub(super) const USABLE_KEY: &str = "an RSA, ECDSA (P-256, P-384, P-521) or Ed25519 key";

/// A certificate chain, leaf first.
pub(super) fn chain(files: &mut Files, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain = certificates(files, pem)?;
    if chain.len() > MAX_CHAIN {
        let message = format!("{} holds {} certificates", shown(pem), chain.len());
        return Err(Problem::new(
            IssueCode::OutOfRange,
            message,
            "a chain of at most 16, the leaf first",
        ));
    }
    Ok(chain)
}

/// A private key.
pub(super) fn key(files: &mut Files, pem: &Pem) -> Result<PrivateKeyDer<'static>, Problem> {
    const EXPECTED: &str = "an unencrypted private key in PEM: PKCS#8, SEC1 or PKCS#1";
    let text = files.read(pem)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
        let is_encrypted = encrypted
            .iter()
            .any(|mark| text.windows(mark.len()).any(|at| at == *mark));
        let what = match error {
            _ if is_encrypted => "is encrypted".to_owned(),
            pem::Error::NoItemsFound => "holds no private key".to_owned(),
            error => format!("is not PEM: {}", said(&error)),
        };
        Problem::new(IssueCode::BadValue, format!("{} {what}", shown(pem)), EXPECTED)
    })
}

/// Certificates to trust.
pub(super) fn roots(files: &mut Files, pem: &Pem) -> Result<RootCertStore, Problem> {
    let mut store = RootCertStore::empty();
    for (at, certificate) in certificates(files, pem)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| {
            let message = format!(
                "certificate {} of {} can't be a root: {error}",
                at + 1,
                shown(pem)
            );
            Problem::new(IssueCode::BadValue, message, "X.509 certificates of authorities")
        })?;
    }
    Ok(store)
}

fn certificates(files: &mut Files, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Problem> {
    const EXPECTED: &str = "PEM with `BEGIN CERTIFICATE`";
    let text = files.read(pem)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            Problem::new(
                IssueCode::BadValue,
                format!("{} is not PEM: {}", shown(pem), said(&error)),
                EXPECTED,
            )
        })?;
    if certificates.is_empty() {
        return Err(Problem::new(
            IssueCode::BadValue,
            format!("{} holds no certificate", shown(pem)),
            EXPECTED,
        ));
    }
    Ok(certificates)
}

/// The error without the text around it: that might be a key.
fn said(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section begins badly",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it can't be read",
    }
}
