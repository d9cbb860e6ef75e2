//! How does a workload ask for a certificate, and what is such a request worth?
//!
//! A request (PKCS#10, RFC 2986) proves one thing: who sends it has the private key. Whom it names is a wish, compared
//! with the identity that the control plane found by other means; all else that requests may ask for (extensions, an
//! authority's certificate, a subject, passwords) is refused rather than ignored, since no workload of a mesh asks.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use der::asn1::{BitString, Ia5String, SetOfVec};
use der::oid::AssociatedOid;
use der::{Decode, Encode};
use mesh_model::spiffe::SpiffeId;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};

use crate::key::{EC_PUBLIC_KEY, ECDSA_SHA256, P256, WorkloadKey, public_key_info, signature_algorithm};
use crate::leaf::only_id;

/// The longest request that is read, in bytes. One with the longest SPIFFE id has 2,300.
pub const MAX_BYTES: usize = 4096;

/// An uncompressed point of P-256: a mark and two coordinates (SEC 1 section 2.3.3).
const POINT_BYTES: usize = 65;

/// A request that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    public_key: Vec<u8>,
    id: Option<SpiffeId>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`MAX_BYTES`].
    #[error("the request is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not DER of PKCS#10, or bytes follow it.
    #[error("the request is not DER of PKCS#10")]
    Malformed,
    /// The key is not ECDSA P-256.
    #[error("the request's key is not ECDSA P-256")]
    KeyType,
    /// It is not signed with its own key by ECDSA and SHA-256.
    #[error("the request is not signed with its own key")]
    Signature,
    /// It has a subject: identities are SPIFFE ids.
    #[error("the request names a subject")]
    Subject,
    /// It has an attribute other than a request for extensions.
    #[error("the request has an attribute other than a SPIFFE id")]
    Attribute,
    /// It asks for an extension other than the alternative names.
    #[error("the request asks for more than a SPIFFE id")]
    Extension,
    /// Its alternative names are not one SPIFFE id.
    #[error("the request does not name exactly one SPIFFE id")]
    Identity,
}

impl Csr {
    /// Checks a request.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_BYTES {
            return Err(CsrError::TooLong);
        }
        let request = CertReq::from_der(der).map_err(|_| CsrError::Malformed)?;
        let info = &request.info;
        let key = &info.public_key;
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|any| any.decode_as().ok());
        let point = key.subject_public_key.as_bytes().unwrap_or_default();
        if key.algorithm.oid != EC_PUBLIC_KEY || curve != Some(P256) || point.len() != POINT_BYTES {
            return Err(CsrError::KeyType);
        }
        if request.algorithm.oid != ECDSA_SHA256 || request.algorithm.parameters.is_some() {
            return Err(CsrError::Signature);
        }
        // DER has one form for one value: what is signed is what is written again.
        let signed = info.to_der().map_err(|_| CsrError::Malformed)?;
        let signature = request.signature.as_bytes().unwrap_or_default();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(&signed, signature)
            .map_err(|_| CsrError::Signature)?;
        if !info.subject.is_empty() {
            return Err(CsrError::Subject);
        }
        Ok(Self {
            public_key: point.to_vec(),
            id: wished_id(info.attributes.as_ref())?,
        })
    }

    /// The public point, uncompressed.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Whom the request names, if anybody.
    pub fn id(&self) -> Option<&SpiffeId> {
        self.id.as_ref()
    }
}

fn wished_id(attributes: &[Attribute]) -> Result<Option<SpiffeId>, CsrError> {
    let attribute = match attributes {
        [] => return Ok(None),
        [attribute] if attribute.oid == ExtensionReq::OID => attribute,
        _ => return Err(CsrError::Attribute),
    };
    let [value] = attribute.values.as_ref() else {
        return Err(CsrError::Attribute);
    };
    let wishes: Vec<Extension> = value.decode_as().map_err(|_| CsrError::Malformed)?;
    let [wish] = wishes.as_slice() else {
        return Err(CsrError::Extension);
    };
    if wish.extn_id != SubjectAltName::OID {
        return Err(CsrError::Extension);
    }
    let names = SubjectAltName::from_der(wish.extn_value.as_bytes()).map_err(|_| CsrError::Identity)?;
    match names.0.as_slice() {
        [_] => only_id(&names.0).map(Some).map_err(|_| CsrError::Identity),
        _ => Err(CsrError::Identity),
    }
}

/// A request that names this identity, in DER. `None` only where the cryptographic library fails.
pub fn request(key: &WorkloadKey, id: &SpiffeId) -> Option<Vec<u8>> {
    build(key, id).ok().flatten()
}

fn build(key: &WorkloadKey, id: &SpiffeId) -> der::Result<Option<Vec<u8>>> {
    let subject = Name::default();
    let names = (&alternative_name(id)?).to_extension(&subject, &[])?;
    let info = CertReqInfo {
        version: Version::V1,
        subject,
        public_key: public_key_info(key.public_key())?,
        attributes: SetOfVec::try_from(vec![Attribute::try_from(ExtensionReq(vec![names]))?])?,
    };
    let Ok(signature) = key.sign(&info.to_der()?) else {
        return Ok(None);
    };
    let request = CertReq {
        info,
        algorithm: signature_algorithm(),
        signature: BitString::from_bytes(&signature)?,
    };
    request.to_der().map(Some)
}

/// The alternative names of a workload: one.
pub(crate) fn alternative_name(id: &SpiffeId) -> der::Result<SubjectAltName> {
    let uri = Ia5String::new(id.as_str())?;
    Ok(SubjectAltName(vec![GeneralName::UniformResourceIdentifier(uri)]))
}

#[cfg(test)]
mod tests;
