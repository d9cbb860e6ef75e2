//! How do clients speak TLS? Version 1.3 only, one key exchange group, no resumption: every connection is a full handshake.
//!
//! The server's certificate is not verified: that is work of the client, it would only slow the generator down. A
//! certificate of its own is shown where one is given: verifying that is work of the proxy.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};

use crate::args::Args;

/// Makes the client side of each connection.
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// `None` without `--tls`. `alpn` is what the load speaks inside.
    pub(crate) fn from(args: &Args, alpn: &str) -> Result<Option<Self>, String> {
        if !args.flag("tls") {
            return Ok(None);
        }
        let group = match args.or("group", "x25519".to_owned())?.as_str() {
            "x25519" => kx_group::X25519,
            "x25519mlkem768" => kx_group::X25519MLKEM768,
            other => return Err(format!("--group {other:?}: expected x25519 or x25519mlkem768")),
        };
        let provider = rustls::crypto::CryptoProvider {
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate));
        let mut config = match args.get::<String>("certificate")? {
            Some(file) => {
                let chain = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
                let key = PrivateKeyDer::from_pem_file(args.need::<String>("key")?);
                let wrong = |error: pem::Error| format!("--certificate {file}, --key: {error}");
                config
                    .with_client_auth_cert(chain.map_err(wrong)?, key.map_err(wrong)?)
                    .map_err(|error| error.to_string())?
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![args.or("alpn", alpn.to_owned())?.into_bytes()];
        let name = ServerName::try_from(args.or("server-name", "bench.test".to_owned())?)
            .map_err(|error| error.to_string())?;
        Ok(Some(Self {
            config: Arc::new(config),
            name,
        }))
    }

    pub(crate) fn connection(&self) -> Result<ClientConnection, String> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|error| error.to_string())
    }
}

/// What was agreed on, for the report.
pub(crate) fn describe(connection: &ClientConnection) -> Value {
    json!({
        "version": connection.protocol_version().map(|version| format!("{version:?}")),
        "group": connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
        "suite": connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
        "alpn": connection.alpn_protocol().map(String::from_utf8_lossy),
    })
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
