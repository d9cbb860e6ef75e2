//! mTLS between workloads, TLS towards servers outside of the mesh, and SDS: whom to trust.
//!
//! Each has one form. That of workloads Envoy reads as mutual TLS 1.3 with certificates that it gets by SDS, the other one
//! as TLS with a server whose name and roots are said. Any other TLS context is refused: what it asks for beyond these forms
//! would not be done.

use std::net::IpAddr;

use mesh_model::resources::{ClientTls, Cluster, Pem, UpstreamProtocol, WorkloadTls};

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

/// What protects a cluster's connections.
pub(super) enum Security {
    /// Nothing.
    Plaintext,
    Workload(WorkloadTls),
    Server(ClientTls),
}

/// The TLS of a cluster's connections.
pub(super) fn security(
    socket: Option<&wire::TransportSocket>,
    protocol: UpstreamProtocol,
) -> Result<Security, Refusal> {
    let refusal = |reason: &str| Refusal::new("transport_socket", reason);
    let config = match socket {
        None => return Ok(Security::Plaintext),
        Some(socket) if socket.name == RAW_BUFFER => return Ok(Security::Plaintext),
        Some(wire::TransportSocket {
            typed_config: Some(config),
            ..
        }) if config.type_url == UPSTREAM_URL => config,
        Some(_) => {
            return Err(refusal(
                "is not known, and to pass it over is not safe: expected plaintext, TLS, or the mTLS of workloads",
            ));
        }
    };
    let context: wire::UpstreamTlsContext =
        decode_whole(&config.value, "").map_err(|refusal| refusal.within("transport_socket"))?;
    let name = context.sni.clone();
    if !name.is_empty() && context == workload_context(name.clone(), protocol) {
        return Ok(Security::Workload(WorkloadTls { server_name: name }));
    }
    let roots = roots_of(&context);
    if roots
        .as_ref()
        .is_some_and(|roots| Pem(roots.clone()).path().is_some())
    {
        return Err(refusal(
            "its roots are no PEM: no file of this machine is read for a server",
        ));
    }
    if !name.is_empty() && context == server_context(name.clone(), roots.clone(), protocol) {
        return Ok(Security::Server(ClientTls {
            server_name: Some(name),
            roots: roots.map(Pem),
            ..ClientTls::default()
        }));
    }
    Err(refusal(
        "expected the mTLS of workloads (TLS 1.3, a server name, certificate and roots from `mesh/identity` and `mesh/roots`, \
         the mesh's protocols), or TLS with a server name that its certificate has to hold, roots as text or the system's, \
         and the cluster's protocols",
    ))
}

/// The transport socket of a cluster; none where its connections are plaintext.
pub(super) fn to_transport_socket(cluster: &Cluster) -> Result<Option<wire::TransportSocket>, Refusal> {
    let context = match (&cluster.workload, &cluster.tls) {
        (None, None) => return Ok(None),
        (Some(workload), _) if workload.server_name.is_empty() => {
            return Err(Refusal::new("workload.serverName", "is empty"));
        }
        (Some(workload), _) => workload_context(workload.server_name.clone(), cluster.protocol),
        (None, Some(tls)) => {
            if tls.certificate.is_some() || tls.key.is_some() {
                return Err(Refusal::new(
                    "tls.certificate",
                    "keys are not carried over xDS: the server can't ask for a certificate",
                ));
            }
            let roots = match &tls.roots {
                Some(roots) if roots.path().is_some() => {
                    return Err(Refusal::new(
                        "tls.roots",
                        "a file of this machine is not carried over xDS: expected the text of it",
                    ));
                }
                roots => roots.as_ref().map(|roots| roots.0.clone()),
            };
            let name = cluster.tls_name().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Refusal::new("tls.serverName", "is missing"))?;
            server_context(name.to_owned(), roots, cluster.protocol)
        }
    };
    Ok(Some(wire::TransportSocket {
        name: TLS.to_owned(),
        typed_config: Some(envelope(UPSTREAM_URL, &context)),
    }))
}

/// The roots that stand in a context.
fn roots_of(context: &wire::UpstreamTlsContext) -> Option<String> {
    let common = context.common_tls_context.as_ref()?;
    let validation = common.validation_context.as_ref()?;
    validation.trusted_ca.as_ref()?.inline_string.clone()
}

fn server_context(
    sni: String,
    roots: Option<String>,
    protocol: UpstreamProtocol,
) -> wire::UpstreamTlsContext {
    const DNS: i32 = 2;
    const IP_ADDRESS: i32 = 4;
    let alpn: &[&str] = match protocol {
        UpstreamProtocol::Http1 => &["http/1.1"],
        UpstreamProtocol::Http2 => &["h2"],
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp => &["h2", "http/1.1"],
    };
    let name = wire::SubjectAltNameMatcher {
        san_type: match sni.parse::<IpAddr>() {
            Ok(_) => IP_ADDRESS,
            Err(_) => DNS,
        },
        matcher: Some(wire::StringMatcher {
            exact: Some(sni.clone()),
            ..wire::StringMatcher::default()
        }),
    };
    wire::UpstreamTlsContext {
        common_tls_context: Some(wire::CommonTlsContext {
            alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
            validation_context: Some(wire::ServerValidationContext {
                match_typed_subject_alt_names: vec![name],
                system_root_certs: roots.is_none().then(wire::SystemRootCerts::default),
                trusted_ca: roots.map(wire::DataSource::text),
            }),
            ..wire::CommonTlsContext::default()
        }),
        sni,
    }
}

fn workload_context(sni: String, protocol: UpstreamProtocol) -> wire::UpstreamTlsContext {
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
            validation_context: None,
        }),
        sni,
    }
}
