//! Certificates and whom to trust (`envoy.extensions.transport_sockets.tls.v3`).

use bytes::Bytes;
use prost::Message;

use super::Opaque;
use super::core::ConfigSource;
use super::matcher::StringMatcher;

/// `UpstreamTlsContext`, as far as workloads and servers outside of the mesh need it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UpstreamTlsContext {
    #[prost(message, optional, tag = "1")]
    pub common_tls_context: Option<CommonTlsContext>,
    #[prost(string, tag = "2")]
    pub sni: String,
}

/// `CommonTlsContext`, as far as workloads and servers outside of the mesh need it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CommonTlsContext {
    #[prost(message, optional, tag = "1")]
    pub tls_params: Option<TlsParameters>,
    #[prost(message, optional, tag = "3")]
    pub validation_context: Option<ServerValidationContext>,
    #[prost(string, repeated, tag = "4")]
    pub alpn_protocols: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub tls_certificate_sds_secret_configs: Vec<SdsSecretConfig>,
    #[prost(message, optional, tag = "7")]
    pub validation_context_sds_secret_config: Option<SdsSecretConfig>,
}

/// `TlsParameters`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TlsParameters {
    /// 4 is TLS 1.3.
    #[prost(int32, tag = "1")]
    pub tls_minimum_protocol_version: i32,
    #[prost(int32, tag = "2")]
    pub tls_maximum_protocol_version: i32,
}

/// `SdsSecretConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SdsSecretConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub sds_config: Option<ConfigSource>,
}

/// `Secret`. Only roots travel; keys never do.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Secret {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub tls_certificate: Option<Opaque>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub session_ticket_keys: Option<Opaque>,
    #[prost(message, optional, tag = "4")]
    pub validation_context: Option<CertificateValidationContext>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub generic_secret: Option<Opaque>,
}

/// `CertificateValidationContext`. All that narrows or widens whom to trust is left to be found unknown.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CertificateValidationContext {
    #[prost(message, optional, tag = "1")]
    pub trusted_ca: Option<DataSource>,
}

/// `CertificateValidationContext`, as far as it says which servers outside of the mesh are believed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServerValidationContext {
    #[prost(message, optional, tag = "1")]
    pub trusted_ca: Option<DataSource>,
    #[prost(message, repeated, tag = "15")]
    pub match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
    #[prost(message, optional, tag = "17")]
    pub system_root_certs: Option<SystemRootCerts>,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SubjectAltNameMatcher {
    /// 2 is a DNS name, 4 an IP address.
    #[prost(int32, tag = "1")]
    pub san_type: i32,
    #[prost(message, optional, tag = "2")]
    pub matcher: Option<StringMatcher>,
}

/// `CertificateValidationContext.SystemRootCerts`, which says nothing but that it is there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SystemRootCerts {}

/// `envoy.config.core.v3.DataSource`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DataSource {
    #[prost(string, optional, tag = "1")]
    pub filename: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub inline_bytes: Option<Bytes>,
    #[prost(string, optional, tag = "3")]
    pub inline_string: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub environment_variable: Option<String>,
}

impl DataSource {
    /// A text that is all there.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            inline_string: Some(text.into()),
            ..Self::default()
        }
    }
}
