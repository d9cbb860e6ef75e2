//! Who answers (`envoy.config.endpoint.v3`).

use bytes::Bytes;
use prost::Message;

use super::core::{Address, Locality, Metadata};

/// `ClusterLoadAssignment`.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
    #[prost(message, optional, tag = "4")]
    pub policy: Option<LoadPolicy>,
}

/// `ClusterLoadAssignment.Policy`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LoadPolicy {
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub drop_overloads: Vec<super::Opaque>,
}

/// `LocalityLbEndpoints`.
#[derive(Clone, PartialEq, Message)]
pub struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    /// Each a [`LbEndpoint`]: there may be many, and each is large once it is read.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub lb_endpoints: Vec<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<u32>,
    #[prost(uint32, tag = "5")]
    pub priority: u32,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub leds_cluster_locality_config: Option<super::Opaque>,
}

/// `LbEndpoint`.
#[derive(Clone, PartialEq, Message)]
pub struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    pub endpoint: Option<Endpoint>,
    #[prost(int32, tag = "2")]
    pub health_status: i32,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub load_balancing_weight: Option<u32>,
}

/// `Endpoint`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}
