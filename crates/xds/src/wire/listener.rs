//! Where requests are taken and by whom they may be made (`envoy.config.listener.v3`, `envoy.extensions.filters.*`,
//! `envoy.config.rbac.v3`).

use std::collections::BTreeMap;

use prost::Message;

use super::core::{Any, ConfigSource, Metadata};
use super::matcher::{HeaderMatcher, StringMatcher};
use super::route::RouteConfiguration;

/// `Listener`.
#[derive(Clone, PartialEq, Message)]
pub struct Listener {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "3")]
    pub filter_chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "6")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
}

/// `ApiListener`.
#[derive(Clone, PartialEq, Message)]
pub struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}

/// `FilterChain`.
#[derive(Clone, PartialEq, Message)]
pub struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    pub filters: Vec<Filter>,
}

/// `Filter`.
#[derive(Clone, PartialEq, Message)]
pub struct Filter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
}

/// `HttpConnectionManager`.
#[derive(Clone, PartialEq, Message)]
pub struct HttpConnectionManager {
    #[prost(string, tag = "2")]
    pub stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub rds: Option<Rds>,
    #[prost(message, optional, tag = "4")]
    pub route_config: Option<RouteConfiguration>,
    #[prost(message, repeated, tag = "5")]
    pub http_filters: Vec<HttpFilter>,
}

/// `Rds`.
#[derive(Clone, PartialEq, Message)]
pub struct Rds {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}

/// `HttpFilter`.
#[derive(Clone, PartialEq, Message)]
pub struct HttpFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
    #[prost(bool, tag = "6")]
    pub is_optional: bool,
}

/// The filter `RBAC`, for HTTP.
#[derive(Clone, PartialEq, Message)]
pub struct RbacFilter {
    #[prost(message, optional, tag = "1")]
    pub rules: Option<Rbac>,
    #[prost(message, optional, tag = "2")]
    pub shadow_rules: Option<Rbac>,
}

/// `RBAC`.
#[derive(Clone, PartialEq, Message)]
pub struct Rbac {
    /// 0 allows, 1 denies.
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(btree_map = "string, message", tag = "2")]
    pub policies: BTreeMap<String, Policy>,
}

/// `Policy`.
#[derive(Clone, PartialEq, Message)]
pub struct Policy {
    #[prost(message, repeated, tag = "1")]
    pub permissions: Vec<Permission>,
    #[prost(message, repeated, tag = "2")]
    pub principals: Vec<Principal>,
}

/// `Permission`.
#[derive(Clone, PartialEq, Message)]
pub struct Permission {
    #[prost(message, optional, tag = "1")]
    pub and_rules: Option<Permissions>,
    #[prost(message, optional, tag = "2")]
    pub or_rules: Option<Permissions>,
    #[prost(bool, optional, tag = "3")]
    pub any: Option<bool>,
    #[prost(message, optional, tag = "4")]
    pub header: Option<HeaderMatcher>,
    #[prost(uint32, optional, tag = "6")]
    pub destination_port: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub url_path: Option<PathMatcher>,
}

/// `Permission.Set`.
#[derive(Clone, PartialEq, Message)]
pub struct Permissions {
    #[prost(message, repeated, tag = "1")]
    pub rules: Vec<Permission>,
}

/// `Principal`.
#[derive(Clone, PartialEq, Message)]
pub struct Principal {
    #[prost(message, optional, tag = "1")]
    pub and_ids: Option<Principals>,
    #[prost(message, optional, tag = "2")]
    pub or_ids: Option<Principals>,
    #[prost(bool, optional, tag = "3")]
    pub any: Option<bool>,
    #[prost(message, optional, tag = "4")]
    pub authenticated: Option<Authenticated>,
    #[prost(message, optional, tag = "10")]
    pub direct_remote_ip: Option<CidrRange>,
}

/// `Principal.Set`.
#[derive(Clone, PartialEq, Message)]
pub struct Principals {
    #[prost(message, repeated, tag = "1")]
    pub ids: Vec<Principal>,
}

/// `Principal.Authenticated`. Without a name: anybody who proved to be somebody.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Authenticated {
    #[prost(message, optional, tag = "2")]
    pub principal_name: Option<StringMatcher>,
}

/// `PathMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PathMatcher {
    #[prost(message, optional, tag = "1")]
    pub path: Option<StringMatcher>,
}

/// `CidrRange`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CidrRange {
    #[prost(string, tag = "1")]
    pub address_prefix: String,
    /// `google.protobuf.UInt32Value`.
    #[prost(message, optional, tag = "2")]
    pub prefix_len: Option<u32>,
}
