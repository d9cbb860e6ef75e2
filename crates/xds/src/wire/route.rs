//! How requests are told apart (`envoy.config.route.v3`).
//!
//! A field that is not here makes a table refused. Those whose neglect is harmless are here to be passed over, and are
//! marked so; those that are often used and not harmless are here so that the refusal can name them.

use prost::Message;

use super::Opaque;
use super::core::{Duration, Empty, Metadata};
use super::matcher::{HeaderMatcher, QueryParameterMatcher, RegexMatchAndSubstitute, RegexMatcher};
use super::tls::DataSource;

/// `RouteConfiguration`.
#[derive(Clone, PartialEq, Message)]
pub struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
    #[prost(string, repeated, tag = "3")]
    pub internal_only_headers: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub response_headers_to_add: Vec<Opaque>,
    #[prost(string, repeated, tag = "5")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub request_headers_to_add: Vec<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "7")]
    pub validate_clusters: Option<Opaque>,
    #[prost(string, repeated, tag = "8")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub vhds: Option<Opaque>,
    /// Passed over.
    #[prost(bool, tag = "10")]
    pub most_specific_header_mutations_wins: bool,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "11")]
    pub max_direct_response_body_size_bytes: Option<Opaque>,
    /// Passed over: what matters is whether a route uses one.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub cluster_specifier_plugins: Vec<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub request_mirror_policies: Vec<Opaque>,
    /// Passed over: ports never count.
    #[prost(bool, tag = "14")]
    pub ignore_port_in_host_matching: bool,
    #[prost(bool, tag = "15")]
    pub ignore_path_parameters_in_path_matching: bool,
    #[prost(bytes = "vec", repeated, tag = "16")]
    pub typed_per_filter_config: Vec<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "17")]
    pub metadata: Option<Opaque>,
}

/// `VirtualHost`.
#[derive(Clone, PartialEq, Message)]
pub struct VirtualHost {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
    #[prost(int32, tag = "4")]
    pub require_tls: i32,
    /// Passed over.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub virtual_clusters: Vec<Opaque>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub rate_limits: Vec<Opaque>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub request_headers_to_add: Vec<Opaque>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub cors: Option<Opaque>,
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub response_headers_to_add: Vec<Opaque>,
    #[prost(string, repeated, tag = "11")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(string, repeated, tag = "13")]
    pub request_headers_to_remove: Vec<String>,
    /// Passed over.
    #[prost(bool, tag = "14")]
    pub include_request_attempt_count: bool,
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub typed_per_filter_config: Vec<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "16")]
    pub retry_policy: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "17")]
    pub hedge_policy: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "18")]
    pub per_request_buffer_limit_bytes: Option<Opaque>,
    /// Passed over.
    #[prost(bool, tag = "19")]
    pub include_attempt_count_in_response: bool,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "20")]
    pub retry_policy_typed_config: Option<Opaque>,
    #[prost(bytes = "vec", optional, tag = "21")]
    pub matcher: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", repeated, tag = "22")]
    pub request_mirror_policies: Vec<Opaque>,
    /// Passed over.
    #[prost(bool, tag = "23")]
    pub include_is_timeout_retry_header: bool,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "24")]
    pub metadata: Option<Opaque>,
}

/// `Route`.
#[derive(Clone, PartialEq, Message)]
pub struct Route {
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    pub route: Option<RouteAction>,
    #[prost(message, optional, tag = "3")]
    pub redirect: Option<RedirectAction>,
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Metadata>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub decorator: Option<Opaque>,
    #[prost(message, optional, tag = "7")]
    pub direct_response: Option<DirectResponseAction>,
    #[prost(message, repeated, tag = "9")]
    pub request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(message, repeated, tag = "10")]
    pub response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "11")]
    pub response_headers_to_remove: Vec<String>,
    #[prost(string, repeated, tag = "12")]
    pub request_headers_to_remove: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub typed_per_filter_config: Vec<Opaque>,
    #[prost(string, tag = "14")]
    pub name: String,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "15")]
    pub tracing: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "16")]
    pub per_request_buffer_limit_bytes: Option<Opaque>,
    /// Passed over.
    #[prost(string, tag = "19")]
    pub stat_prefix: String,
}

/// `RouteMatch`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RouteMatch {
    #[prost(string, optional, tag = "1")]
    pub prefix: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub path: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub case_sensitive: Option<bool>,
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<HeaderMatcher>,
    #[prost(message, repeated, tag = "7")]
    pub query_parameters: Vec<QueryParameterMatcher>,
    #[prost(message, optional, tag = "8")]
    pub grpc: Option<Empty>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub runtime_fraction: Option<Opaque>,
    #[prost(message, optional, tag = "10")]
    pub safe_regex: Option<RegexMatcher>,
    #[prost(string, optional, tag = "14")]
    pub path_separated_prefix: Option<String>,
}

/// `RouteAction`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RouteAction {
    #[prost(string, optional, tag = "1")]
    pub cluster: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub weighted_clusters: Option<WeightedClusters>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub metadata_match: Option<Opaque>,
    #[prost(string, tag = "5")]
    pub prefix_rewrite: String,
    #[prost(string, optional, tag = "6")]
    pub host_rewrite_literal: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub auto_host_rewrite: Option<bool>,
    #[prost(message, optional, tag = "8")]
    pub timeout: Option<Duration>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub retry_policy: Option<Opaque>,
    /// Passed over.
    #[prost(int32, tag = "11")]
    pub priority: i32,
    #[prost(bytes = "vec", repeated, tag = "13")]
    pub rate_limits: Vec<Opaque>,
    #[prost(message, repeated, tag = "15")]
    pub hash_policy: Vec<HashPolicy>,
    #[prost(bytes = "vec", optional, tag = "17")]
    pub cors: Option<Opaque>,
    /// Passed over.
    #[prost(int32, tag = "20")]
    pub cluster_not_found_response_code: i32,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "23")]
    pub max_grpc_timeout: Option<Opaque>,
    #[prost(message, optional, tag = "24")]
    pub idle_timeout: Option<Duration>,
    #[prost(bytes = "vec", repeated, tag = "25")]
    pub upgrade_configs: Vec<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "27")]
    pub hedge_policy: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "28")]
    pub grpc_timeout_offset: Option<Opaque>,
    /// Passed over.
    #[prost(bytes = "vec", repeated, tag = "30")]
    pub request_mirror_policies: Vec<Opaque>,
    #[prost(message, optional, tag = "32")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "33")]
    pub retry_policy_typed_config: Option<Opaque>,
    /// Passed over: the client follows.
    #[prost(bytes = "vec", optional, tag = "34")]
    pub internal_redirect_policy: Option<Opaque>,
    #[prost(message, optional, tag = "36")]
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Passed over.
    #[prost(bool, tag = "38")]
    pub append_x_forwarded_host: bool,
}

/// `RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MaxStreamDuration {
    #[prost(message, optional, tag = "1")]
    pub max_stream_duration: Option<Duration>,
    /// Passed over: the caller's deadline always counts.
    #[prost(message, optional, tag = "2")]
    pub grpc_timeout_header_max: Option<Duration>,
    /// Passed over.
    #[prost(message, optional, tag = "3")]
    pub grpc_timeout_header_offset: Option<Duration>,
}

/// `WeightedCluster`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WeightedClusters {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<ClusterWeight>,
    /// Passed over.
    #[prost(string, tag = "2")]
    pub runtime_key_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub total_weight: Option<u32>,
}

/// `WeightedCluster.ClusterWeight`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub weight: Option<u32>,
}

/// `RouteAction.HashPolicy`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HashPolicy {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HashHeader>,
    #[prost(message, optional, tag = "2")]
    pub cookie: Option<HashCookie>,
    #[prost(message, optional, tag = "3")]
    pub connection_properties: Option<HashConnection>,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(message, optional, tag = "5")]
    pub query_parameter: Option<HashQuery>,
    /// Passed over.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub filter_state: Option<Opaque>,
}

/// `HashPolicy.Header`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HashHeader {
    #[prost(string, tag = "1")]
    pub header_name: String,
    /// The policy is passed over where it is there.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub regex_rewrite: Option<Opaque>,
}

/// `HashPolicy.Cookie`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HashCookie {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Passed over: cookies are not made here.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub ttl: Option<Opaque>,
    /// Passed over.
    #[prost(string, tag = "3")]
    pub path: String,
    /// Passed over.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub attributes: Vec<Opaque>,
}

/// `HashPolicy.ConnectionProperties`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HashConnection {
    #[prost(bool, tag = "1")]
    pub source_ip: bool,
}

/// `HashPolicy.QueryParameter`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HashQuery {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `RedirectAction`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RedirectAction {
    #[prost(string, tag = "1")]
    pub host_redirect: String,
    #[prost(string, optional, tag = "2")]
    pub path_redirect: Option<String>,
    #[prost(int32, tag = "3")]
    pub response_code: i32,
    #[prost(bool, optional, tag = "4")]
    pub https_redirect: Option<bool>,
    #[prost(string, optional, tag = "5")]
    pub prefix_rewrite: Option<String>,
    #[prost(bool, tag = "6")]
    pub strip_query: bool,
    #[prost(string, optional, tag = "7")]
    pub scheme_redirect: Option<String>,
    #[prost(uint32, tag = "8")]
    pub port_redirect: u32,
    #[prost(message, optional, tag = "9")]
    pub regex_rewrite: Option<RegexMatchAndSubstitute>,
}

/// `DirectResponseAction`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DirectResponseAction {
    #[prost(uint32, tag = "1")]
    pub status: u32,
    #[prost(message, optional, tag = "2")]
    pub body: Option<DataSource>,
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    #[prost(message, optional, tag = "2")]
    pub append: Option<bool>,
    /// 0 appends, 2 overwrites.
    #[prost(int32, tag = "3")]
    pub append_action: i32,
    #[prost(bool, tag = "4")]
    pub keep_empty_value: bool,
}

/// `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeaderValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}
