//! Where requests may go and how.

use serde::{Deserialize, Serialize};

use super::values::{Duration, Name, Pem};

/// A group of servers that answer alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// Unique name.
    pub name: Name,
    /// Where its endpoints come from. Default: the [`Endpoints`](super::Endpoints) resource of the same name.
    #[serde(default)]
    pub discovery: Discovery,
    /// What is spoken to its servers.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS to originate. Absent: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Mutual TLS between workloads: each endpoint proves the identity that it is listed with. Excludes `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadTls>,
    /// Who is chosen.
    #[serde(default)]
    pub balancer: Balancer,
    /// Over how long a new endpoint's share grows to full. Default 0s: at once.
    #[serde(default)]
    pub slow_start: Duration,
    /// Bounds of what this cluster may hold.
    #[serde(default)]
    pub limits: ClusterLimits,
    /// Deadlines towards its servers.
    #[serde(default)]
    pub timeouts: ClusterTimeouts,
}

impl Cluster {
    /// A plaintext HTTP/1 cluster with every default.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            discovery: Discovery::default(),
            protocol: UpstreamProtocol::default(),
            tls: None,
            workload: None,
            balancer: Balancer::default(),
            slow_start: Duration::default(),
            limits: ClusterLimits::default(),
            timeouts: ClusterTimeouts::default(),
        }
    }

    /// The name its servers must prove when TLS is spoken to them: `tls.serverName`, else its own DNS name. For SRV
    /// records that is the domain asked (`site.internal` of `_http._tcp.site.internal`, RFC 6125 section 6.2.1): their
    /// targets come from an answer that nobody signed. `None` for endpoints that are listed.
    pub fn tls_name(&self) -> Option<&str> {
        if let Some(name) = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()) {
            return Some(name);
        }
        match &self.discovery {
            Discovery::Endpoints => None,
            Discovery::Dns { host, .. } => Some(host.trim_end_matches('.')),
            Discovery::DnsSrv { name } => {
                let labels = name
                    .split_inclusive('.')
                    .take_while(|label| label.starts_with('_'));
                name.get(labels.map(str::len).sum()..)
                    .map(|name| name.trim_end_matches('.'))
                    .filter(|name| !name.is_empty())
            }
        }
    }
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Discovery {
    /// From the `Endpoints` resource with the cluster's name, whoever writes it.
    #[default]
    Endpoints,
    /// From A and AAAA records, looked up again when their TTL ends.
    Dns {
        /// The name to look up.
        host: String,
        /// The port of every address.
        port: u16,
    },
    /// From SRV records: their targets, ports, priorities and weights.
    DnsSrv {
        /// The name to look up, e.g. `_http._tcp.site.internal`.
        name: String,
    },
}

/// What is spoken to a cluster's servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamProtocol {
    /// Over TLS what the server chooses by ALPN, whatever the client speaks. In plaintext HTTP/1.1, save for gRPC, which
    /// is HTTP/2. Upgrades and CONNECT are HTTP/1.1 always. The default, since it is safe with every server but one that
    /// takes HTTP/2 alone in plaintext.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge in plaintext.
    Http2,
    /// Bytes that nobody looks at, so that a server may speak first and a client be silent for long: whoever asks for
    /// this cluster on demand is connected at once. To requests that come all the same it is as `auto`.
    Tcp,
}

/// TLS towards a cluster's servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientTls {
    /// The name sent as SNI and verified in the certificate. Default: the cluster's DNS name; required where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Roots to trust. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<Pem>,
    /// The certificate chain to show when the server asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Pem>,
    /// The key of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Pem>,
}

/// TLS 1.3 towards workloads, both sides with the certificates of their identities.
///
/// Nothing is fallen back to: an endpoint without an identity is not called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadTls {
    /// Sent as SNI: `p<port>.<service>.<namespace>.<trust domain>`. It says which port is meant, and is no identity.
    pub server_name: String,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Balancer {
    /// The better of two at random by peak-sensitive moving average latency times load. The default: it routes around slowness by itself.
    #[default]
    Ewma,
    /// The less loaded of two at random.
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// Consistent hashing on a ring; needs a route `hashKey`, and draws at random without one.
    RingHash {
        /// Points on the ring, 1,024 to 8,388,608. Default 1,024 times the endpoints, within bounds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ring_size: Option<u32>,
    },
    /// Consistent hashing by Maglev's table; needs a route `hashKey`, and draws at random without one.
    Maglev {
        /// Slots of the table, a prime up to 1,310,719. Default 65,537.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table_size: Option<u32>,
    },
}

/// Bounds of a cluster, over all data threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterLimits {
    /// Open connections. Default 1024: far above a healthy pool, low enough to spare a stalled server.
    pub connections: u32,
    /// Requests waiting for a connection. Default 1024. More get 503 `upstream_overflow`.
    pub pending_requests: u32,
    /// Requests in flight. Default 16,384.
    pub requests: u32,
    /// Idle connections kept for each endpoint and thread. Default 100.
    pub idle_connections: u32,
    /// HTTP/2 streams on one connection before another is opened, at most what the server allows. Default 100.
    pub streams_per_connection: u32,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            pending_requests: 1024,
            requests: 16_384,
            idle_connections: 100,
            streams_per_connection: 100,
        }
    }
}

/// Deadlines towards a cluster's servers. `0s` switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterTimeouts {
    /// To connect, TLS included, for one try. Default 2s: two lost SYNs in a data centre.
    pub connect: Duration,
    /// An unused pooled connection is closed after this. Default 30s, below the 60s at which common servers hang up.
    pub idle: Duration,
    /// A pooled connection takes no new request after this age. Default 0s: never.
    pub max_connection_age: Duration,
}

impl Default for ClusterTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(30),
            max_connection_age: Duration::default(),
        }
    }
}
