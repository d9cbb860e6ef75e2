//! What other messages are made of (`google.protobuf`, `envoy.config.core.v3`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Shared by its clones: one encoded resource goes to many.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, as far as it is text.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Value {
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}

/// `envoy.config.core.v3.Metadata`.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    #[prost(string, optional, tag = "7")]
    pub user_agent_version: Option<String>,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct Locality {
    #[prost(string, tag = "1")]
    pub region: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Address {
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
    #[prost(message, optional, tag = "2")]
    pub pipe: Option<Pipe>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SocketAddress {
    /// 0 is TCP.
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(uint32, optional, tag = "3")]
    pub port_value: Option<u32>,
}

/// `envoy.config.core.v3.Pipe`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pipe {
    #[prost(string, tag = "1")]
    pub path: String,
}

/// `envoy.config.core.v3.ConfigSource`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfigSource {
    #[prost(message, optional, tag = "3")]
    pub ads: Option<Empty>,
    #[prost(message, optional, tag = "5")]
    pub same: Option<Empty>,
    /// 2 is v3.
    #[prost(int32, tag = "6")]
    pub resource_api_version: i32,
}

impl ConfigSource {
    /// The stream that this comes on.
    pub fn aggregated() -> Self {
        Self {
            ads: Some(Empty {}),
            same: None,
            resource_api_version: 2,
        }
    }

    /// Whether this is the stream it came on.
    pub fn is_aggregated(&self) -> bool {
        self.ads.is_some() || self.same.is_some()
    }
}

/// A message whose presence says all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}
