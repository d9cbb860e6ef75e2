//! Where connections are accepted and what is allowed on them.

use serde::{Deserialize, Serialize};

use super::route::{HostPattern, WeightedCluster};
use crate::policy::PolicyDefault;

use super::values::{Address, Duration, Name, Pem, PortRange, Trusted};

/// One socket that accepts connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Unique name, a metric label.
    pub name: Name,
    /// Where to listen.
    pub address: Address,
    /// Which way traffic flows through it.
    #[serde(default)]
    pub direction: Direction,
    /// What may be spoken on it.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// TLS to terminate. Absent: a ClientHello is passed through (see `sni`) or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Connections from workloads, told apart by their server name. `routes` and `tcp` then are for connections without
    /// TLS, which are refused where both are absent, and which policy takes for the first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadPorts>,
    /// What holds where no policy speaks for this listener. Default: everybody is allowed.
    #[serde(default, skip_serializing_if = "PolicyDefault::is_allow")]
    pub default_policy: PolicyDefault,
    /// The route table for HTTP requests. Absent: HTTP goes to `tcp` as plain bytes, or is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Name>,
    /// Whether a request's route table is the one of its authority, `host:port`, which is asked for where there is none
    /// yet. Instead of `routes`. Default false.
    #[serde(default)]
    pub on_demand: bool,
    /// The name that every connection is for, `host:port`, whatever its client says, where the listener is `onDemand`.
    /// Absent: requests say it, or where connections were made to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<Name>,
    /// Whether the kernel may have redirected connections here: it is asked where they were made to
    /// (`SO_ORIGINAL_DST`), and that is the port that is meant, or the name to ask for. Default false.
    #[serde(default)]
    pub transparent: bool,
    /// Ports that connections were made to of which it is asked who that is before a byte is looked at, where the
    /// listener is `transparent` and `onDemand`: should the answer be a cluster whose protocol is `tcp`, none ever is.
    /// Others are asked about when their bytes are no request. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opaque_ports: Vec<PortRange>,
    /// Whether only programs of this machine may connect: others are closed with a reason. Default false.
    #[serde(default)]
    pub local_only: bool,
    /// Where streams go that are not HTTP. Several targets are drawn by weight. Empty: such streams are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<WeightedCluster>,
    /// TLS streams passed through unopened, chosen by server name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<SniRoute>,
    /// Bounds of what it may hold.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Deadlines towards its clients.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Networks whose `forwarded`, `x-forwarded-*` and `x-request-id` headers are believed; `unix`: those of whoever comes
    /// by a Unix socket. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_networks: Vec<Trusted>,
    /// Whether connections from `trustedNetworks` begin with a header of the PROXY protocol, version 1 or 2, and are those
    /// of the client that it names. Others are taken as they are. Default false.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The pseudonym sent in `via`. Absent, the default: no `via` is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Whether absolute-form requests and CONNECT are served as a forward proxy, for names the route table knows; those for
    /// `https` by clusters with TLS alone. Default false.
    #[serde(default)]
    pub forward_proxy: bool,
    /// What to do with `%2f`, `%5c` and `%00` in a path.
    #[serde(default)]
    pub escaped_slashes: EscapedSlashes,
    /// Lines for finished requests and streams. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

impl Listener {
    /// What is spoken on it, inside TLS where that ends here: bytes that nobody reads where it sends no requests anywhere.
    pub fn spoken_protocol(&self) -> ListenerProtocol {
        match self.protocol {
            ListenerProtocol::Auto if self.routes.is_none() && !self.on_demand => ListenerProtocol::Tcp,
            protocol => protocol,
        }
    }

    /// A listener with every default.
    pub fn new(name: impl Into<Name>, address: Address) -> Self {
        Self {
            name: name.into(),
            address,
            direction: Direction::default(),
            protocol: ListenerProtocol::default(),
            tls: None,
            workload: None,
            default_policy: PolicyDefault::default(),
            routes: None,
            on_demand: false,
            leads_to: None,
            transparent: false,
            opaque_ports: Vec::new(),
            local_only: false,
            tcp: Vec::new(),
            sni: Vec::new(),
            limits: ListenerLimits::default(),
            timeouts: ListenerTimeouts::default(),
            trusted_networks: Vec::new(),
            proxy_protocol: false,
            via: None,
            forward_proxy: false,
            escaped_slashes: EscapedSlashes::default(),
            access_log: None,
        }
    }
}

/// Which way traffic flows through a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Towards the workload beside this proxy.
    Inbound,
    /// From the workload beside this proxy.
    Outbound,
    /// From outside the mesh into it, or standing alone. The default.
    #[default]
    Gateway,
}

/// What may be spoken on a listener, after TLS where TLS is terminated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// Detected from the first bytes. The default.
    #[default]
    Auto,
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Any bytes; nothing is detected, so server-speaks-first protocols start at once.
    Tcp,
    /// TLS that is not terminated here.
    TlsPassthrough,
}

/// TLS terminated by a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerTls {
    /// Certificates to choose from by SNI, by the DNS names in them; the first serves clients that send none or another name.
    pub certificates: Vec<CertificateAndKey>,
    /// Whether clients must show a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
    /// The oldest version spoken. Default 1.2: 1.3 alone locks out clients that are still in use.
    #[serde(default)]
    pub minimum_version: TlsVersion,
    /// Protocols offered by ALPN, in order. Default `h2`, `http/1.1`, as far as the listener's protocol allows; none where
    /// it reads no requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// A certificate chain and its key. Files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateAndKey {
    /// Chain, leaf first.
    pub certificate: Pem,
    /// Private key: PKCS#8, SEC1 or PKCS#1.
    pub key: Pem,
}

/// Client certificates asked for by a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificates {
    /// Roots that sign the clients.
    pub roots: Pem,
    /// Whether a client without a certificate is let in. Default false: one that asks means it.
    #[serde(default)]
    pub optional: bool,
}

/// What a workload offers to others: TLS 1.3 with certificates from both sides, for these ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPorts {
    /// The ports that may be called; every other one is refused.
    pub ports: Vec<WorkloadPort>,
}

/// A port that a workload declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// The port in `p<port>.<service>.<namespace>.<trust domain>`.
    pub port: u16,
    /// Whose port, where several services share the workload. Absent: any service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The route table for HTTP requests. Absent: there is no HTTP on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Name>,
    /// Where streams go that are not HTTP. Empty: such streams are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<WeightedCluster>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Where TLS streams of some server names go, unopened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SniRoute {
    /// Server names; the most specific wins over all routes. `*` takes every name, and clients that send none; what is no
    /// name in DNS only where it stands alone.
    pub hosts: Vec<HostPattern>,
    /// Targets, drawn by weight.
    pub to: Vec<WeightedCluster>,
}

/// What to do with escaped characters that servers disagree about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EscapedSlashes {
    /// Answer 400. The default: a server behind may read `%2f` as `/` and pass a rule that this proxy did not.
    #[default]
    Reject,
    /// Forward them as they are; `%00` is refused all the same.
    Keep,
}

/// Lines for finished requests and streams, JSON, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLog {
    /// The share that is written, above 0 to 1. Default 1. Errors that the proxy answers are always
    /// written.
    pub sample: f64,
    /// The file to append to. Default: standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            sample: 1.0,
            path: None,
        }
    }
}

/// Bounds of a listener. Reaching one is counted and answered, and never grows memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Open connections, over all threads. Default 65,536. Above it the accept queue waits.
    pub connections: u32,
    /// Bytes of a request head, names and values and framing. Default 65,536, what browsers' worst cookies need. 431 above.
    /// The same for the head of an HTTP/1 server's response, 502 above.
    pub header_bytes: u32,
    /// Header fields of a request, 431 above, and of a response, 502 above. Default 128.
    pub header_count: u32,
    /// HTTP/2 streams open at once on a connection. Default 100, RFC 9113's least for good parallelism.
    pub streams: u32,
    /// Requests on a connection before it is closed. Default 0: no bound.
    pub requests_per_connection: u32,
    /// Bytes of a request body. Default 0: no bound, bodies are streamed. 413 above.
    pub request_body_bytes: u64,
    /// Bytes of a request that an HTTP/2 client may send ahead of the server behind, on each stream: the
    /// SETTINGS_INITIAL_WINDOW_SIZE that it is told. Default 262,144, enough for bulk in a data centre.
    pub http2_stream_window_bytes: u32,
    /// Bytes of a header of the PROXY protocol. Default 4,096: addresses and names take under 1,000, a client's certificate
    /// some 2,000. The connection closes above.
    pub proxy_header_bytes: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            header_bytes: 65_536,
            header_count: 128,
            streams: 100,
            requests_per_connection: 0,
            request_body_bytes: 0,
            http2_stream_window_bytes: 262_144,
            proxy_header_bytes: 4096,
        }
    }
}

/// Deadlines towards a listener's clients. `0s` switches one off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerTimeouts {
    /// From a connection's or a request's first byte to the end of the request head; also the wait for a first byte, and for a
    /// header of the PROXY protocol. Default 10s. 408 after.
    pub header: Duration,
    /// For a TLS handshake. Default 10s.
    pub handshake: Duration,
    /// From the request's head to the response's end. Default 0s: none; a route's `timeout` says otherwise.
    pub request: Duration,
    /// A kept-alive connection without a request. Default 60s.
    pub idle: Duration,
    /// A body or an HTTP/2 stream on which nothing moves. Default 60s.
    pub stream_idle: Duration,
    /// A TCP stream or upgraded connection on which nothing moves. Default 1h: databases and consoles are quiet for long.
    pub tcp_idle: Duration,
    /// An HTTP connection takes no new request after this age, and what goes on after `drain` more is cut; one that was
    /// never HTTP stays. Default 0s: never.
    pub max_connection_age: Duration,
    /// How long streams may go on when a listener or the proxy is drained, or their connection is too old. Default 30s.
    pub drain: Duration,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            request: Duration::default(),
            idle: Duration::from_secs(60),
            stream_idle: Duration::from_secs(60),
            tcp_idle: Duration::from_secs(3600),
            max_connection_age: Duration::default(),
            drain: Duration::from_secs(30),
        }
    }
}
