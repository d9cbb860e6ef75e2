//! What speaks for a workload that has no certificate, or none that is good any more?
//!
//! A file does, which is read anew for each request: platforms replace what they say before it ends.

use std::fs::File;
use std::io::{self, Read};

use mesh_protocol::message::{Attestation, SignRequest};
use mesh_protocol::{MAX_EVIDENCE, MAX_TOKEN, is_kind};

/// Where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proof {
    /// The file of a token.
    Token(String),
    /// What a platform says.
    Attestation {
        /// Which attestor of the control plane is to look at it.
        kind: String,
        /// The file that has it.
        file: String,
    },
}

impl Proof {
    /// An attestation as `KIND=FILE`.
    pub(crate) fn attestation(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((kind, file)) if is_kind(kind) && !file.is_empty() => Ok(Self::Attestation {
                kind: kind.to_owned(),
                file: file.to_owned(),
            }),
            _ => Err("expected KIND=FILE, a kind of letters, digits, `.`, `_` and `-`".to_owned()),
        }
    }

    /// The request for a certificate that it speaks for.
    ///
    /// # Errors
    /// The file can't be read, has nothing, or has more than a control plane takes.
    pub(crate) fn speaks_for(&self, csr: Vec<u8>) -> Result<SignRequest, String> {
        let mut request = SignRequest {
            csr,
            ..SignRequest::default()
        };
        match self {
            Self::Token(file) => {
                let read = bounded(file, MAX_TOKEN).and_then(|bytes| {
                    let text = String::from_utf8(bytes);
                    text.map_err(|_| io::Error::other("it is no text"))
                });
                let token = read.map_err(|error| format!("--token-file: {file}: {error}"))?;
                token.trim().clone_into(&mut request.token);
            }
            Self::Attestation { kind, file } => {
                let read = bounded(file, MAX_EVIDENCE);
                request.attestation = Some(Attestation {
                    kind: kind.clone(),
                    evidence: read.map_err(|error| format!("--attestation: {file}: {error}"))?,
                });
            }
        }
        Ok(request)
    }
}

/// All of a file that has something, and no more than that.
fn bounded(file: &str, most: usize) -> io::Result<Vec<u8>> {
    // A pipe would hold up everything until somebody writes.
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    let beyond = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)?.take(beyond).read_to_end(&mut bytes)?;
    match bytes.len() {
        0 => Err(io::Error::other("it is empty")),
        length if length > most => Err(io::Error::other(format!("it has more than {most} bytes"))),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attested(file: &str) -> Result<Vec<u8>, String> {
        let proof = Proof::attestation(&format!("platform={file}")).unwrap();
        let attestation = proof.speaks_for(vec![1])?.attestation.unwrap();
        assert_eq!(attestation.kind, "platform");
        Ok(attestation.evidence)
    }

    #[test]
    fn an_attestation_has_a_kind_and_a_file() {
        let psat = Proof::attestation("k8s.psat=/run/a=b");
        let (kind, file) = ("k8s.psat".to_owned(), "/run/a=b".to_owned());
        assert_eq!(psat, Ok(Proof::Attestation { kind, file }));
        for wrong in ["", "platform", "platform=", "=file", "a kind=file", "ä=file"] {
            assert!(Proof::attestation(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_read_each_time_whole_and_within_its_bound() {
        let folder = std::env::temp_dir().join(format!("mesh-proof-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("evidence");
        let file = path.to_str().unwrap();
        let refused = |reason: &str| Err(format!("--attestation: {file}: {reason}"));
        let missing = attested(file).unwrap_err();
        assert!(missing.starts_with(&format!("--attestation: {file}: No such file")));
        for is in [&b" \x00\xff\n"[..], &[7; MAX_EVIDENCE]] {
            std::fs::write(&path, is).unwrap();
            assert_eq!(attested(file).as_deref(), Ok(is));
        }
        std::fs::write(&path, [7; MAX_EVIDENCE + 1]).unwrap();
        assert_eq!(attested(file), refused("it has more than 65536 bytes"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(attested(file), refused("it is empty"));

        std::fs::write(&path, "mesh-token-1\n").unwrap();
        let token = Proof::Token(file.to_owned()).speaks_for(vec![1]).unwrap();
        assert_eq!((&*token.token, token.attestation), ("mesh-token-1", None));
        std::fs::write(&path, [7; MAX_TOKEN + 1]).unwrap();
        let error = Proof::Token(file.to_owned()).speaks_for(vec![1]).unwrap_err();
        assert_eq!(
            error,
            format!("--token-file: {file}: it has more than 1024 bytes")
        );
        std::fs::remove_dir_all(&folder).unwrap();

        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(attested(file), refused("it is no file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
