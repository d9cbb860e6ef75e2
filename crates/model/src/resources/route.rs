//! How requests are told apart and what is done with them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::values::{Duration, Name, serde_as_text};

/// A set of routes. The most specific route wins, wherever it stands; see [`VirtualHost`] and [`RouteMatch`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTable {
    /// Unique name.
    pub name: Name,
    /// Routes by host.
    #[serde(default)]
    pub virtual_hosts: Vec<VirtualHost>,
}

/// Routes for some hosts. Hosts are tried from the most specific: exact, then the longest wildcard, then `*`;
/// when no route of a host takes the request, the next less specific host is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualHost {
    /// The hosts; a host stands in one virtual host of a table only.
    pub hosts: Vec<HostPattern>,
    /// The routes.
    pub routes: Vec<Route>,
}

/// A host or a family of hosts, compared without case and without port: `shop.test`, `*.shop.test` (one label or more in front), `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Every host, and requests without one.
    Any,
    /// This host (lower case).
    Exact(Box<str>),
    /// Hosts that end in this suffix, which starts with a dot (lower case).
    Suffix(Box<str>),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a host such as shop.test, *.shop.test or *, without a port";
        let host = text.to_ascii_lowercase();
        if host == "*" {
            return Ok(Self::Any);
        }
        let (name, wildcard) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host.as_str(), false),
        };
        if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // One text for each address, so that `[::1]` and `[0::1]` are seen to be the same host.
            return match address.parse::<std::net::Ipv6Addr>() {
                Ok(address) if !wildcard => Ok(Self::Exact(format!("[{address}]").into())),
                _ => Err(EXPECTED.into()),
            };
        }
        let name_like = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if name.is_empty()
            || name.len() > 253
            || !name.bytes().all(name_like)
            || name.split('.').any(str::is_empty)
        {
            return Err(EXPECTED.into());
        }
        Ok(if wildcard {
            Self::Suffix(format!(".{name}").into())
        } else {
            Self::Exact(name.into())
        })
    }
}

/// One route: which requests, what is changed, where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// A metric label; unique within the table. Default: made from the match.
    #[serde(default)]
    pub name: Name,
    /// Which requests it takes. Default: all.
    #[serde(default, rename = "match")]
    pub matches: RouteMatch,
    /// What is changed on the way.
    #[serde(default)]
    pub filters: Filters,
    /// Where they go.
    pub action: Action,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// What consistent hashing hashes, the first that is present. Default: nothing, such balancers then draw at random.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash_key: Vec<HashKey>,
}

/// Which requests a route takes: all conditions must hold.
///
/// Among routes of one host that take a request, the most specific wins: exact path, then template (more literal
/// segments first, then one without `{name*}`, then more segments), then regular expression, then prefix (longest
/// first), then none; then one with `grpc`, then one with a method, then more header conditions, then more query
/// conditions, then the one that stands first. `grpc` is a condition on the path too: of a method, an exact path; of a
/// service, a prefix. Path conditions hold only for paths that start with `/`, so `OPTIONS *` and CONNECT take routes
/// without one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteMatch {
    /// The path, without query, in its normal form. Not together with `grpc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Methods, any of these. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameter conditions, on the decoded value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<ValueMatch>,
    /// gRPC calls only, of this service and method. Not together with `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum PathMatch {
    /// This very path.
    Exact(String),
    /// This path and everything below it, on segment borders: `/api` takes `/api` and `/api/x`, not `/apis`; `/api/`
    /// takes `/api/` and `/api/x`, not `/api`.
    Prefix(String),
    /// Segments, some of them `{name}` which takes any one non-empty segment; `{name*}` at the end takes the rest, one segment or more.
    Template(String),
    /// A regular expression that the whole path must match, in linear time. ASCII, over bytes: `.` takes any byte.
    Regex(String),
}

/// A condition on a header or a query parameter. With several values, all of them must match. Bytes are compared, so
/// no value is undecodable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueMatch {
    /// The name (headers: without case).
    pub name: String,
    /// What its value must be. Default: present.
    #[serde(default)]
    pub value: ValueCondition,
    /// Whether the condition is turned round: there is no value, or none of them matches. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
}

/// What a value must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum ValueCondition {
    /// There.
    #[default]
    Present,
    /// These very bytes.
    Exact(String),
    /// Starts with this.
    Prefix(String),
    /// Ends with this.
    Suffix(String),
    /// The whole value matches this regular expression (ASCII, over bytes).
    Regex(String),
}

/// Which gRPC calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMatch {
    /// The full service name, `shop.v1.Basket`.
    pub service: String,
    /// The method. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// What is changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Filters {
    /// Request headers.
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    /// Response headers, a server's or those that the route answers with itself; not those of the proxy's errors.
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    /// The path that is sent on. Absent: the one that came, in its normal form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_path: Option<PathRewrite>,
    /// The host that is sent on.
    pub host: HostRewrite,
}

/// Changes to headers, in this order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<String>,
    /// Values that replace all earlier ones.
    pub set: Vec<HeaderValue>,
    /// Values put beside earlier ones.
    pub add: Vec<HeaderValue>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderValue {
    /// A token (RFC 9110 section 5.1). Headers that frame messages or name hops can't be edited.
    pub name: String,
    /// Visible characters, spaces and tabs.
    pub value: String,
}

/// Which path is sent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum PathRewrite {
    /// This path, whatever came.
    Full(String),
    /// This in place of the prefix that the route matched (prefix routes only).
    Prefix(String),
}

/// Which host is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum HostRewrite {
    /// As it came. The default: servers build links and cookies from it.
    #[default]
    Keep,
    /// The cluster's own name: its DNS name or TLS server name, else the endpoint's address.
    Upstream,
    /// This one.
    Set(String),
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Action {
    /// To one of these clusters, drawn by weight.
    Forward {
        /// The clusters.
        to: Vec<WeightedCluster>,
    },
    /// Elsewhere.
    Redirect(Redirect),
    /// Nowhere: the proxy answers.
    Respond(Respond),
}

/// A cluster and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub cluster: Name,
    /// Share relative to the others, 0 to 1,000,000. Default 1.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

impl WeightedCluster {
    /// All traffic to one cluster.
    pub fn all(cluster: impl Into<Name>) -> Vec<Self> {
        vec![Self {
            cluster: cluster.into(),
            weight: default_weight(),
        }]
    }
}

fn default_weight() -> u32 {
    1
}

/// A redirect made by the proxy. What is absent stays as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default 302.
    #[serde(default = "found")]
    pub status: u16,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host, with a port where wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

fn found() -> u16 {
    302
}

/// A response made by the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// The body, at most 64 KiB. Default empty.
    #[serde(default)]
    pub body: String,
    /// The body's `content-type`. Default `text/plain; charset=utf-8`.
    #[serde(default = "text_plain")]
    pub content_type: String,
}

impl Respond {
    /// The content type where none is given.
    pub const TEXT_PLAIN: &str = "text/plain; charset=utf-8";
}

fn text_plain() -> String {
    Respond::TEXT_PLAIN.into()
}

/// Deadlines of a route. Absent: the listener's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// From the request's head to the response's end. 504 after, or `grpc-status: 4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// A body on which nothing moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum HashKey {
    /// A request header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// A query parameter's value.
    Query(String),
    /// The client's address.
    SourceAddress,
}

serde_as_text!(HostPattern);
