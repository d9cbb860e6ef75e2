//! Who calls a workload, who is called, and where does a call lead?
//!
//! Between workloads there is mutual TLS 1.3 and nothing else, see [`mesh_identity`]. The caller says the port by SNI
//! and the protocol by ALPN, so that the inbound side reaches only ports that were declared and detects nothing twice;
//! who the caller is, its certificate alone says.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use mesh_identity::sni::Target;
use mesh_identity::tls::Protocol;
use mesh_identity::{MeshTls, Rejection};
use mesh_model::resources::WeightedCluster;
use mesh_model::spiffe::{SpiffeId, TrustDomain};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::io::Stream;
use crate::plan::Routes;
use crate::telemetry::Label;
use crate::upstream::target::TargetTls;

/// What a listener offers to workloads.
pub struct Inbound {
    tls: Arc<MeshTls>,
    config: Arc<rustls::ServerConfig>,
    trust_domain: TrustDomain,
    /// The ports that may be called.
    pub ports: Vec<Port>,
}

/// A declared port.
pub struct Port {
    /// The number in the server name.
    pub port: u16,
    /// The same, as it stands in metrics.
    pub label: Label,
    /// Whose it is, where that matters.
    pub service: Option<Box<str>>,
    /// The routes of HTTP requests.
    pub routes: Option<Arc<Routes>>,
    /// Where other streams go.
    pub tcp: Vec<WeightedCluster>,
}

impl Inbound {
    /// What `tls` proves and believes, for these ports.
    ///
    /// # Errors
    /// rustls does not take the provider; never with the one that is built in.
    pub fn new(tls: &Arc<MeshTls>, ports: Vec<Port>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: Arc::clone(tls),
            config: tls.server_config(Protocol::ALL)?,
            trust_domain: tls.bundle().trust_domain().clone(),
            ports,
        })
    }

    /// The same with other ports.
    pub fn with_ports(&self, ports: Vec<Port>) -> Self {
        Self {
            tls: Arc::clone(&self.tls),
            config: Arc::clone(&self.config),
            trust_domain: self.trust_domain.clone(),
            ports,
        }
    }

    /// What a server name asks for; `None` when it is none of the mesh's.
    pub fn target(&self, server_name: &str) -> Option<Target> {
        Target::parse(server_name, &self.trust_domain).ok()
    }

    /// Whether this workload, or its certificate, was revoked.
    pub fn denies(&self, peer: &mesh_identity::Peer) -> bool {
        self.tls.denied().denies(peer)
    }

    /// What handshakes are made with.
    pub fn config(&self) -> &Arc<rustls::ServerConfig> {
        &self.config
    }

    /// The port that a connection without TLS means, if it was declared.
    pub fn plain_port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// The port that is called, if it was declared.
    pub fn port(&self, target: &Target) -> Option<&Port> {
        let of_number = || self.ports.iter().filter(|port| port.port == target.port());
        let of_service = |port: &&Port| port.service.as_deref() == Some(target.service());
        of_number()
            .find(of_service)
            .or_else(|| of_number().find(|port| port.service.is_none()))
    }
}

/// Who called, and in which protocol, as a handshake that succeeded says.
///
/// # Errors
/// It says less than it must.
pub fn caller(
    certificate: Option<&CertificateDer<'_>>,
    alpn: Option<&[u8]>,
) -> Result<(mesh_identity::Peer, Protocol), Rejection> {
    let certificate = certificate.ok_or(Rejection::NoCertificate)?;
    let identity = mesh_identity::Peer::of(certificate)?;
    let protocol = Protocol::agreed(alpn)?;
    Ok((identity, protocol))
}

/// Which workload a connection of ours leads to; nothing where it leads to none of a mesh. Reads the certificate anew:
/// not for what happens for each request.
pub fn server(stream: &impl Stream) -> Option<mesh_identity::Peer> {
    Protocol::agreed(stream.alpn()).ok()?;
    mesh_identity::Peer::of(stream.peer_certificate()?).ok()
}

/// How the workloads of a cluster are called.
#[derive(Clone)]
pub struct Outbound {
    /// Sent as SNI.
    server_name: ServerName<'static>,
    /// What a workload must prove, by its identity.
    by_identity: HashMap<Box<str>, TargetTls, RandomState>,
}

impl Outbound {
    /// For workloads behind this server name. What was made before for the same ones is taken over.
    ///
    /// # Errors
    /// The name is none, or rustls does not take the provider.
    pub fn new<'a>(
        tls: &MeshTls,
        server_name: &str,
        identities: impl Iterator<Item = &'a SpiffeId>,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| format!("`{}` can't be a server's name", server_name.escape_debug()))?;
        let before = before.filter(|before| before.server_name == server_name);
        let mut by_identity = HashMap::default();
        for id in identities {
            if by_identity.contains_key(id.as_str()) {
                continue;
            }
            let known = before.and_then(|before| before.by_identity.get(id.as_str()));
            let target = match known {
                Some(target) => target.clone(),
                None => {
                    let config = |protocol| {
                        tls.client_config(id, protocol)
                            .map_err(|error| format!("no workload can be called: {error}"))
                    };
                    TargetTls {
                        config: config(Protocol::Http2)?,
                        http1: config(Protocol::Http1)?,
                        bytes: config(Protocol::Tcp)?,
                        server_name: server_name.clone(),
                        workload: true,
                    }
                }
            };
            by_identity.insert(id.as_str().into(), target);
        }
        Ok(Self {
            server_name,
            by_identity,
        })
    }

    /// What the workload of this identity is called with; nothing for one that is not listed.
    pub fn target(&self, identity: Option<&str>) -> Option<&TargetTls> {
        self.by_identity.get(identity?)
    }

    /// Whether connections of the other still serve: the same port of the same service is meant.
    pub fn means_the_same(&self, other: &Self) -> bool {
        self.server_name == other.server_name
    }
}
