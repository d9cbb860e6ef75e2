//! mTLS between workloads, and SDS: whom to trust.
//!
//! A cluster of workloads has one form, which Envoy reads as mutual TLS 1.3 with certificates that it gets by SDS. Any
//! other TLS context is refused: what it asks for beyond that form would not be done.

use mesh_model::resources::{UpstreamProtocol, WorkloadTls};

use super::{Refusal, Translate, decode_whole, envelope};
use crate::kind::Kind;
use crate::wire;

/// The secret that is the workload's own certificate and key. It never travels here: a sidecar makes its own, others
/// have it from elsewhere.
pub const IDENTITY_SECRET: &str = "mesh/identity";
/// The secret that is the roots of the mesh.
pub const ROOTS_SECRET: &str = "mesh/roots";

const TLS: &str = "envoy.transport_sockets.tls";
const RAW_BUFFER: &str = "envoy.transport_sockets.raw_buffer";
const UPSTREAM_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const TLS_1_3: i32 = 4;

/// Roots that vouch for workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoots {
    /// The secret's name; of the mesh's own, [`ROOTS_SECRET`].
    pub name: String,
    /// Certificates, PEM.
    pub pem: String,
}

impl Translate for TrustRoots {
    const KIND: Kind = Kind::Secret;
    const WHOLE: bool = true;
    type Message = wire::Secret;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        const ROOTS: &str = "validation_context.trusted_ca";
        let others = [
            ("tls_certificate", message.tls_certificate.is_some()),
            ("session_ticket_keys", message.session_ticket_keys.is_some()),
            ("generic_secret", message.generic_secret.is_some()),
        ];
        if let Some((field, _)) = others.iter().find(|(_, there)| *there) {
            return Err(Refusal::new(*field, "only roots are taken, never keys"));
        }
        let source = message.validation_context.and_then(|context| context.trusted_ca);
        let pem = match source {
            Some(wire::DataSource {
                inline_string: Some(pem),
                ..
            }) => pem,
            Some(wire::DataSource {
                inline_bytes: Some(pem),
                ..
            }) => String::from_utf8(pem.into()).map_err(|_| Refusal::new(ROOTS, "is not PEM"))?,
            _ => return Err(Refusal::new(ROOTS, "expected inline_string or inline_bytes")),
        };
        Ok(Self {
            name: message.name,
            pem,
        })
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        Ok(wire::Secret {
            name: self.name.clone(),
            validation_context: Some(wire::CertificateValidationContext {
                trusted_ca: Some(wire::DataSource::text(self.pem.clone())),
            }),
            ..wire::Secret::default()
        })
    }
}

/// The TLS of a cluster's connections; nothing is plaintext.
pub(super) fn workload(
    socket: Option<&wire::TransportSocket>,
    protocol: UpstreamProtocol,
) -> Result<Option<WorkloadTls>, Refusal> {
    let refusal = |reason: &str| Refusal::new("transport_socket", reason);
    let config = match socket {
        None => return Ok(None),
        Some(socket) if socket.name == RAW_BUFFER => return Ok(None),
        Some(wire::TransportSocket {
            typed_config: Some(config),
            ..
        }) if config.type_url == UPSTREAM_URL => config,
        Some(_) => {
            return Err(refusal(
                "is not known, and to pass it over is not safe: expected plaintext or the mTLS of workloads",
            ));
        }
    };
    let context: wire::UpstreamTlsContext =
        decode_whole(&config.value, "").map_err(|refusal| refusal.within("transport_socket"))?;
    let ours = upstream_context(context.sni.clone(), protocol);
    if context != ours || context.sni.is_empty() {
        return Err(refusal(
            "expected the mTLS of workloads: TLS 1.3, a server name, certificate and roots from `mesh/identity` and \
             `mesh/roots`, the mesh's protocols",
        ));
    }
    Ok(Some(WorkloadTls {
        server_name: context.sni,
    }))
}

pub(super) fn to_transport_socket(
    workload: &WorkloadTls,
    protocol: UpstreamProtocol,
) -> Result<wire::TransportSocket, Refusal> {
    if workload.server_name.is_empty() {
        return Err(Refusal::new("workload.serverName", "is empty"));
    }
    let context = upstream_context(workload.server_name.clone(), protocol);
    Ok(wire::TransportSocket {
        name: TLS.to_owned(),
        typed_config: Some(envelope(UPSTREAM_URL, &context)),
    })
}

fn upstream_context(sni: String, protocol: UpstreamProtocol) -> wire::UpstreamTlsContext {
    let secret = |name: &str| wire::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(wire::ConfigSource::aggregated()),
    };
    let alpn: &[&str] = match protocol {
        UpstreamProtocol::Http1 => &["mesh/h1"],
        UpstreamProtocol::Http2 => &["mesh/h2"],
        UpstreamProtocol::Auto => &["mesh/h2", "mesh/h1"],
        UpstreamProtocol::Tcp => &["mesh/tcp"],
    };
    wire::UpstreamTlsContext {
        common_tls_context: Some(wire::CommonTlsContext {
            tls_params: Some(wire::TlsParameters {
                tls_minimum_protocol_version: TLS_1_3,
                tls_maximum_protocol_version: TLS_1_3,
            }),
            alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
            tls_certificate_sds_secret_configs: vec![secret(IDENTITY_SECRET)],
            validation_context_sds_secret_config: Some(secret(ROOTS_SECRET)),
        }),
        sni,
    }
}
