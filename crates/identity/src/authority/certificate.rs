//! What stands in a certificate that is signed here? (RFC 5280, and the SPIFFE X.509-SVID standard)

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use der::flagset::FlagSet;
use der::{Decode, Encode, Sequence};
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use rustls::pki_types::CertificateDer;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, Version};

use crate::WorkloadKey;
use crate::csr::alternative_name;
use crate::key::{public_key_info, signature_algorithm};

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Random bytes of a serial number: with 127 bits no two are ever the same.
const SERIAL_BYTES: usize = 16;

/// Bytes of a key's identifier (RFC 7093 section 2, method 1).
const KEY_ID_BYTES: usize = 20;

/// A certificate's first and last second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Who signs: a name and a key.
pub(crate) struct Signer {
    pub(crate) name: Name,
    pub(crate) key: WorkloadKey,
    /// Absent where the certificate of an operator's issuer says none.
    pub(crate) key_id: Option<OctetString>,
}

/// Why no certificate came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed")]
pub struct Unsigned;

impl From<der::Error> for Unsigned {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// RFC 5280 section 4.1.
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    public_key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct Signed {
    tbs: Tbs,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

impl Signer {
    /// Signs with a new name.
    pub(crate) fn named(name: &str, key: WorkloadKey) -> Result<Self, Unsigned> {
        Ok(Self {
            name: name.parse()?,
            key_id: Some(key_id(key.public_key())?),
            key,
        })
    }

    /// Goes on signing as this certificate's subject.
    pub(crate) fn of(certificate: &CertificateDer<'_>, key: WorkloadKey) -> Result<Self, Unsigned> {
        let certificate = Certificate::from_der(certificate)?;
        let tbs = certificate.tbs_certificate();
        let key_id = tbs.get_extension::<SubjectKeyIdentifier>()?;
        Ok(Self {
            name: tbs.subject().clone(),
            key,
            key_id: key_id.map(|(_, id)| id.0),
        })
    }

    /// A workload's certificate. Its subject is empty, so its one name is critical.
    pub(crate) fn workload(
        &self,
        id: &SpiffeId,
        public_key: &[u8],
        span: Span,
    ) -> Result<CertificateDer<'static>, Unsigned> {
        let subject = Name::default();
        let name = (&alternative_name(id)?).to_extension(&subject, &[])?;
        self.sign(subject, public_key, span, workload_extensions(name)?)
    }

    /// An authority's certificate; its own where the key and the name are this signer's.
    pub(crate) fn authority(
        &self,
        subject: &Signer,
        depth: Option<u8>,
        span: Span,
    ) -> Result<CertificateDer<'static>, Unsigned> {
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: depth,
        };
        let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
        let mut extensions = vec![
            (&constraints).to_extension(&subject.name, &[])?,
            (&usage).to_extension(&subject.name, &[])?,
        ];
        if let Some(key_id) = &subject.key_id {
            let key_id = SubjectKeyIdentifier(key_id.clone());
            extensions.push((&key_id).to_extension(&subject.name, &[])?);
        }
        self.sign(subject.name.clone(), subject.key.public_key(), span, extensions)
    }

    /// Whatever these extensions say.
    pub(crate) fn sign(
        &self,
        subject: Name,
        public_key: &[u8],
        span: Span,
        mut extensions: Vec<Extension>,
    ) -> Result<CertificateDer<'static>, Unsigned> {
        if let Some(key_id) = &self.key_id {
            let issuer = AuthorityKeyIdentifier {
                key_identifier: Some(key_id.clone()),
                ..Default::default()
            };
            extensions.push((&issuer).to_extension(&subject, &[])?);
        }
        let tbs = Tbs {
            version: Version::V3,
            serial: serial()?,
            signature: signature_algorithm(),
            issuer: self.name.clone(),
            validity: Validity::new(Time::try_from(span.not_before)?, Time::try_from(span.not_after)?),
            subject,
            public_key: public_key_info(public_key)?,
            extensions,
        };
        let signature = self.key.sign(&tbs.to_der()?).map_err(|_| Unsigned)?;
        let signed = Signed {
            tbs,
            algorithm: signature_algorithm(),
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(signed.to_der()?.into())
    }
}

/// What every workload's certificate says beside its name.
pub(crate) fn workload_extensions(name: Extension) -> Result<Vec<Extension>, Unsigned> {
    let subject = Name::default();
    let constraints = BasicConstraints {
        ca: false,
        path_len_constraint: None,
    };
    let usage = KeyUsage(FlagSet::from(KeyUsages::DigitalSignature));
    let purposes = ExtendedKeyUsage(vec![SERVER_AUTH, CLIENT_AUTH]);
    Ok(vec![
        (&constraints).to_extension(&subject, &[])?,
        (&usage).to_extension(&subject, &[])?,
        (&purposes).to_extension(&subject, &[])?,
        name,
    ])
}

/// The name of an authority, such as `CN=root 1,O=mesh.test`.
pub(crate) fn authority_name(role: &str, number: u32, trust_domain: &TrustDomain) -> String {
    format!("CN={role} {number},O={trust_domain}")
}

fn key_id(public_key: &[u8]) -> der::Result<OctetString> {
    let hash = digest(&SHA256, public_key);
    OctetString::new(hash.as_ref().get(..KEY_ID_BYTES).unwrap_or_default())
}

/// Random and positive, never zero.
fn serial() -> Result<SerialNumber, Unsigned> {
    let mut bytes = [0; SERIAL_BYTES];
    rand::fill(&mut bytes).map_err(|_| Unsigned)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::new(&bytes)?)
}
