//! Where requests may go (`envoy.config.cluster.v3`, `envoy.extensions.upstreams.http.v3`).

use std::collections::BTreeMap;

use prost::Message;

use super::Opaque;
use super::core::{Any, ConfigSource, Duration, Empty, Metadata};
use super::endpoint::ClusterLoadAssignment;

/// `Cluster`.
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "DiscoveryType", tag = "2")]
    pub discovery_type: i32,
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    #[prost(enumeration = "LbPolicy", tag = "6")]
    pub lb_policy: i32,
    #[prost(message, optional, tag = "10")]
    pub circuit_breakers: Option<CircuitBreakers>,
    #[prost(bytes = "vec", optional, tag = "21")]
    pub upstream_bind_config: Option<Opaque>,
    #[prost(bytes = "vec", optional, tag = "22")]
    pub lb_subset_config: Option<Opaque>,
    #[prost(message, optional, tag = "23")]
    pub ring_hash_lb_config: Option<RingHashLbConfig>,
    #[prost(message, optional, tag = "24")]
    pub transport_socket: Option<TransportSocket>,
    #[prost(message, optional, tag = "25")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "33")]
    pub load_assignment: Option<ClusterLoadAssignment>,
    #[prost(btree_map = "string, message", tag = "36")]
    pub typed_extension_protocol_options: BTreeMap<String, Any>,
    #[prost(bytes = "vec", optional, tag = "38")]
    pub cluster_type: Option<Opaque>,
    #[prost(bytes = "vec", repeated, tag = "40")]
    pub filters: Vec<Opaque>,
    #[prost(bytes = "vec", optional, tag = "41")]
    pub load_balancing_policy: Option<Opaque>,
    #[prost(bytes = "vec", repeated, tag = "43")]
    pub transport_socket_matches: Vec<Opaque>,
    #[prost(bytes = "vec", optional, tag = "48")]
    pub upstream_config: Option<Opaque>,
    #[prost(message, optional, tag = "52")]
    pub maglev_lb_config: Option<MaglevLbConfig>,
}

/// `Cluster.DiscoveryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DiscoveryType {
    Static = 0,
    StrictDns = 1,
    LogicalDns = 2,
    Eds = 3,
    OriginalDst = 4,
}

/// `Cluster.LbPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LbPolicy {
    RoundRobin = 0,
    LeastRequest = 1,
    RingHash = 2,
    Random = 3,
    Maglev = 5,
    ClusterProvided = 6,
    LoadBalancingPolicyConfig = 7,
}

/// `Cluster.EdsClusterConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// `CircuitBreakers`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CircuitBreakers {
    #[prost(message, repeated, tag = "1")]
    pub thresholds: Vec<Thresholds>,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Thresholds {
    /// 0 is the default priority.
    #[prost(int32, tag = "1")]
    pub priority: i32,
    #[prost(message, optional, tag = "2")]
    pub max_connections: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub max_pending_requests: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub max_requests: Option<u32>,
}

/// `Cluster.RingHashLbConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RingHashLbConfig {
    #[prost(message, optional, tag = "1")]
    pub minimum_ring_size: Option<u64>,
}

/// `Cluster.MaglevLbConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MaglevLbConfig {
    #[prost(message, optional, tag = "1")]
    pub table_size: Option<u64>,
}

/// `envoy.config.core.v3.TransportSocket`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TransportSocket {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HttpProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub common_http_protocol_options: Option<CommonHttpProtocolOptions>,
    #[prost(message, optional, tag = "3")]
    pub explicit_http_config: Option<ExplicitHttpConfig>,
    #[prost(message, optional, tag = "4")]
    pub use_downstream_protocol_config: Option<DownstreamProtocol>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub http_filters: Vec<Opaque>,
}

/// `envoy.config.core.v3.HttpProtocolOptions`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CommonHttpProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub idle_timeout: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub max_connection_duration: Option<Duration>,
}

/// `HttpProtocolOptions.ExplicitHttpConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExplicitHttpConfig {
    #[prost(message, optional, tag = "1")]
    pub http_protocol_options: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Empty>,
    #[prost(message, optional, tag = "3")]
    pub http3_protocol_options: Option<Empty>,
}

/// `HttpProtocolOptions.UseDownstreamHttpConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DownstreamProtocol {
    #[prost(message, optional, tag = "1")]
    pub http_protocol_options: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Empty>,
}
