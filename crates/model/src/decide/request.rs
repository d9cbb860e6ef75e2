//! How is a request described, and how is the description read?

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Codec, DescribedHead};
use crate::errors::Reason;
use crate::hosts;
use crate::resources::{Listener, ListenerLimits, Name};
use crate::route::{RequestView, is_grpc_type};
use crate::way::{self, FORWARDED_PROTO};

/// A request in words. Everything is optional; what is absent is the plainest there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DescribedRequest {
    /// The listener it comes to. Default: the one with the URL's port, or the only one.
    pub listener: Option<Name>,
    /// What is spoken. Default: HTTP, unless the URL's scheme is `tcp` or `tls`.
    pub protocol: Option<DescribedProtocol>,
    /// The method. Default GET; POST for gRPC.
    pub method: Option<String>,
    /// `https://shop.test/api?x=1`, `shop.test/api`, or `/api`. Its scheme says whether TLS is spoken; without one, that is
    /// what the listener expects.
    pub url: Option<String>,
    /// The host, where it is another than the URL's.
    pub host: Option<String>,
    /// The path with its query, where it is another than the URL's.
    pub path: Option<String>,
    /// Headers; names in any case.
    pub headers: BTreeMap<String, HeaderValues>,
    /// The server name of the ClientHello; says that TLS is spoken. Default: the host, when TLS is spoken.
    pub sni: Option<String>,
}

/// What is spoken inside the connection, and inside TLS where that is terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DescribedProtocol {
    /// HTTP of any version.
    Http,
    /// gRPC, which is HTTP/2.
    Grpc,
    /// Anything else.
    Tcp,
}

/// One value of a header, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderValues {
    /// One.
    One(String),
    /// Several, in the order they come.
    Many(Vec<String>),
}

impl HeaderValues {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A described request, taken apart.
pub(super) struct Request {
    protocol: DescribedProtocol,
    method: Vec<u8>,
    pub(super) host: Vec<u8>,
    /// Everything that is said of it.
    hosts: Vec<Vec<u8>>,
    pub(super) path: Vec<u8>,
    /// Absent without a `?`.
    pub(super) query: Option<Vec<u8>>,
    /// Names in lower case; without `host` until it has come.
    headers: Vec<(String, Vec<u8>)>,
    pub(super) grpc: bool,
    /// Whether TLS is spoken; `None`: as the listener expects.
    pub(super) tls: Option<bool>,
    /// The port of the URL or host, or that of its scheme.
    pub(super) port: Option<u16>,
    sni: Option<String>,
}

impl Request {
    pub(super) fn new(described: &DescribedRequest) -> Result<Self, String> {
        let url = described.url.as_deref().unwrap_or_default();
        let url = url.split('#').next().unwrap_or_default();
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, url),
        };
        let (tls_by_scheme, default_port) = match scheme.as_deref() {
            Some("https" | "wss") => (Some(true), Some(443)),
            Some("http" | "ws") => (Some(false), Some(80)),
            Some("tls") => (Some(true), None),
            Some("tcp") => (Some(false), None),
            Some(other) => return Err(format!("`{other}` is not a scheme: use http, https, tcp or tls")),
            None => (None, None),
        };
        let by_scheme = match scheme.as_deref() {
            Some("tcp" | "tls") => DescribedProtocol::Tcp,
            _ => DescribedProtocol::Http,
        };
        let protocol = described.protocol.unwrap_or(by_scheme);
        let (url_host, url_path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let hosts: Vec<&str> = match described.host.as_deref() {
            Some(host) => vec![host],
            None => described
                .headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
                .flat_map(|(_, values)| values.as_slice().iter().map(String::as_str))
                .collect(),
        };
        let hosts = match hosts.is_empty() && !url_host.is_empty() {
            true => vec![url_host],
            false => hosts,
        };
        let host = hosts.first().copied().unwrap_or_default();
        let method = match (&described.method, protocol) {
            (Some(method), _) => method.as_str(),
            (None, DescribedProtocol::Grpc) => "POST",
            (None, _) => "GET",
        };
        let target = described.path.as_deref().unwrap_or(url_path);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = match path {
            _ if method == "CONNECT" => "",
            "" => "/",
            path if path == "*" || path.starts_with('/') => path,
            path => return Err(format!("the path `{path}` does not start with `/`")),
        };
        let mut headers = Vec::new();
        for (name, values) in &described.headers {
            let name = name.to_ascii_lowercase();
            if name == "host" {
                continue;
            }
            let values = values.as_slice().iter();
            headers.extend(values.map(|value| (name.clone(), value.clone().into_bytes())));
        }
        let typed = headers
            .iter()
            .any(|(name, value)| name == "content-type" && is_grpc_type(value));
        // The connection goes where the URL says, whatever the host field names.
        let port_of = |host: &str| host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port_of(url_host).or(default_port).or_else(|| port_of(host));
        Ok(Self {
            protocol,
            method: method.into(),
            host: host.into(),
            hosts: hosts.iter().map(|host| host.as_bytes().to_vec()).collect(),
            path: path.into(),
            query: query.map(Into::into),
            headers,
            grpc: protocol == DescribedProtocol::Grpc || typed,
            tls: tls_by_scheme.or(described.sni.is_some().then_some(true)),
            port,
            sni: described.sni.clone().or_else(|| server_name(host)),
        })
    }

    /// Whether its head would be read.
    pub(super) fn read_by(
        &self,
        codec: &dyn Codec,
        limits: &ListenerLimits,
    ) -> Result<(), (Reason, &'static str)> {
        let mut target = match self.is_connect() {
            true => self.host.clone(),
            false => self.path.clone(),
        };
        if let Some(query) = &self.query {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        let head = DescribedHead {
            method: &self.method,
            target: &target,
            hosts: &self.hosts,
            fields: &self.headers,
        };
        codec.check_head(&head, limits)
    }

    /// Takes what its client may not say of its way here, and adds what the proxy will say of that. Where some networks
    /// are trusted, the client is taken to be in one, unless those are of proxies that say who it is.
    pub(super) fn comes_by(&mut self, listener: &Listener) {
        if !self.host.is_empty() {
            self.headers
                .push(("host".into(), hosts::normal(&self.host).into()));
        }
        let trusted = !listener.trusted_networks.is_empty() && !listener.proxy_protocol;
        self.headers.retain(|(name, _)| {
            let name = name.as_bytes();
            !way::is_peer(name) && (trusted || !way::is_of_the_way(name))
        });
        if self.header(FORWARDED_PROTO).next().is_none() {
            let scheme = match listener.tls {
                Some(_) => "https",
                None => "http",
            };
            self.headers.push((FORWARDED_PROTO.into(), scheme.into()));
        }
    }

    /// Whether HTTP is spoken.
    pub(super) fn is_http(&self) -> bool {
        self.protocol != DescribedProtocol::Tcp
    }

    /// Whether a tunnel is asked for.
    pub(super) fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    /// The server name of its ClientHello, if it speaks TLS.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.sni.as_deref()
    }
}

/// The name a client that calls this host puts into its ClientHello: none for addresses (RFC 6066 section 3).
fn server_name(host: &str) -> Option<String> {
    let name = std::str::from_utf8(hosts::bare(host.as_bytes())).ok()?;
    (!name.is_empty() && !name.starts_with('[') && name.parse::<IpAddr>().is_err()).then(|| name.to_owned())
}

impl RequestView for Request {
    fn host(&self) -> &[u8] {
        &self.host
    }
    fn method(&self) -> &[u8] {
        &self.method
    }
    fn path(&self) -> &[u8] {
        &self.path
    }
    fn query(&self) -> &[u8] {
        self.query.as_deref().unwrap_or_default()
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_slice())
    }
    fn is_grpc(&self) -> bool {
        self.grpc
    }
}
