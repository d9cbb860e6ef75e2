//! Why did the proxy answer by itself, or close a connection?
//!
//! [`Reason`] is the one closed list. The same value becomes the response's status, `grpc-status` and `proxy-status`
//! (RFC 9209), the `reason` label of metrics and the field of the access log, so that what a client saw, what a graph
//! shows and what a log line says is one word. Details (which header, which address) travel beside it.
//!
//! Invariants: tokens are unique, lower snake case and never change meaning; [`Reason::ALL`] is in [`Reason::index`]
//! order; every status is 4xx or 5xx.

use serde::{Deserialize, Serialize};

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The client's: what it sent, or failed to send.
    Downstream,
    /// The proxy's: its configuration, its limits, its policy, its state.
    Proxy,
    /// The server's behind it, or the way there.
    Upstream,
}

impl Layer {
    /// The token used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Proxy => "proxy",
            Self::Upstream => "upstream",
        }
    }
}

/// Builds the enum and its lookups from one table, so that no variant can miss a column.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $token:literal, $layer:ident, $status:literal, grpc $grpc:literal, $proxy:literal, $text:literal;)+) => {
        /// Why the proxy answered by itself, or closed. One row each: token, layer, status, gRPC status,
        /// RFC 9209 error type, sentence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $token)] $name,)+
        }

        impl Reason {
            /// Every reason, in the order of [`Reason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// How many reasons there are: the length of arrays indexed by [`Reason::index`].
            pub const COUNT: usize = Self::ALL.len();

            /// The token used in metrics, logs and the `details` of `proxy-status`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $token),+ }
            }

            /// Whose doing it was.
            pub const fn layer(self) -> Layer {
                match self { $(Self::$name => Layer::$layer),+ }
            }

            /// The HTTP status the client gets; 499 stands in logs only, since nobody is left to read it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// The `grpc-status` a gRPC caller gets instead.
            pub const fn grpc_status(self) -> u32 {
                match self { $(Self::$name => $grpc),+ }
            }

            /// The error type of `proxy-status` (RFC 9209 section 2.3).
            pub const fn proxy_status_error(self) -> &'static str {
                match self { $(Self::$name => $proxy),+ }
            }

            /// A short sentence for the response's body and `grpc-message`.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

// gRPC: 1 cancelled, 3 invalid argument, 4 deadline exceeded, 7 permission denied, 8 resource exhausted,
// 12 unimplemented, 13 internal, 14 unavailable (the call may be tried again).
reasons! {
    // What clients do.
    /// The request breaks HTTP's grammar, or two parsers could read it differently (RFC 9112, attacks of smuggling).
    BadRequest = "bad_request", Downstream, 400, grpc 13, "http_request_error", "The request is not valid HTTP.";
    /// The request head is larger than `limits.headerBytes` (RFC 6585 section 5).
    HeadTooLarge = "head_too_large", Downstream, 431, grpc 8, "http_request_error", "The request's headers are too large.";
    /// The request has more fields than `limits.headerCount` (RFC 6585 section 5).
    TooManyHeaders = "too_many_headers", Downstream, 431, grpc 8, "http_request_error", "The request has too many headers.";
    /// The request head was not complete within `timeouts.header` (RFC 9110 section 15.5.9).
    HeaderTimeout = "header_timeout", Downstream, 408, grpc 4, "http_request_error", "The request's headers took too long.";
    /// The request body is larger than `limits.requestBodyBytes` (RFC 9110 section 15.5.14).
    BodyTooLarge = "body_too_large", Downstream, 413, grpc 8, "http_request_error", "The request's body is too large.";
    /// The client stopped sending its body for `timeouts.streamIdle`.
    RequestBodyTimeout = "request_body_timeout", Downstream, 408, grpc 4, "http_request_error", "The request's body took too long.";
    /// The client stopped reading the response for `timeouts.streamIdle`.
    ClientStalled = "client_stalled", Downstream, 408, grpc 4, "http_request_error", "The client stopped reading.";
    /// `expect` asks for something else than `100-continue` (RFC 9110 section 15.5.18).
    ExpectationFailed = "expectation_failed", Downstream, 417, grpc 12, "http_request_error", "The expectation can't be met.";
    /// The client went away before its response was complete. Seen in logs and metrics only.
    ClientClosed = "client_closed", Downstream, 499, grpc 1, "http_request_error", "The client went away.";
    /// The client's HTTP/2 breaks the protocol (RFC 9113 section 5.4).
    Http2Protocol = "http2_protocol", Downstream, 400, grpc 13, "http_protocol_error", "The connection broke the HTTP/2 protocol.";
    /// The client's frames exceed what any honest client sends; GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 10.5).
    Http2Flood = "http2_flood", Downstream, 429, grpc 8, "http_request_error", "The connection sent too many frames.";
    /// A connection from `trustedNetworks` does not begin with a header of the PROXY protocol, which `proxyProtocol` asks for.
    ProxyHeaderInvalid = "proxy_header_invalid", Downstream, 400, grpc 13, "connection_terminated", "The connection has no valid PROXY header.";
    /// The header of the PROXY protocol was not complete within `timeouts.header`.
    ProxyHeaderTimeout = "proxy_header_timeout", Downstream, 408, grpc 4, "connection_read_timeout", "The connection's PROXY header took too long.";
    /// The TLS handshake failed.
    TlsHandshakeFailed = "tls_handshake_failed", Downstream, 400, grpc 14, "tls_protocol_error", "The TLS handshake failed.";
    /// The TLS handshake was not complete within `timeouts.handshake`.
    TlsHandshakeTimeout = "tls_handshake_timeout", Downstream, 408, grpc 4, "tls_protocol_error", "The TLS handshake took too long.";
    /// The client shows no certificate that the listener's roots signed.
    ClientCertificate = "client_certificate", Downstream, 403, grpc 7, "tls_certificate_error", "A valid client certificate is required.";
    /// A ClientHello came in where no TLS is terminated or passed through.
    TlsNotConfigured = "tls_not_configured", Downstream, 400, grpc 14, "tls_protocol_error", "This port does not speak TLS.";
    /// No `sni` route takes the server name of a TLS stream.
    SniUnknown = "sni_unknown", Downstream, 421, grpc 12, "destination_not_found", "No route takes this server name.";
    /// The request is for a name of another certificate than the client was shown, or for `https` that a forward proxy
    /// would pass on without TLS (RFC 9110 sections 7.4 and 15.5.20).
    Misdirected = "misdirected", Downstream, 421, grpc 14, "http_request_error", "This connection is not for that name.";
    /// The bytes are not HTTP, and the listener has no TCP target.
    NotHttp = "not_http", Downstream, 400, grpc 13, "http_protocol_error", "This port speaks HTTP only.";
    /// No request, or no bytes of a stream, for the listener's idle timeout.
    IdleTimeout = "idle_timeout", Downstream, 408, grpc 4, "http_request_error", "The connection was idle for too long.";

    // What the proxy decides.
    /// No route takes the request.
    NoRoute = "no_route", Proxy, 404, grpc 12, "destination_not_found", "No route takes this request.";
    /// Policy forbids it.
    Denied = "denied", Proxy, 403, grpc 7, "http_request_denied", "Denied by policy.";
    /// A workload called a port that this one does not declare.
    PortUndeclared = "port_undeclared", Proxy, 403, grpc 7, "destination_not_found", "This workload does not declare that port.";
    /// An absolute-form request or CONNECT for a name that this proxy does not forward to.
    ForwardDenied = "forward_denied", Proxy, 403, grpc 7, "http_request_denied", "This proxy does not forward to that name.";
    /// A client of another machine, where only programs of this one may connect.
    NotLocal = "not_local", Proxy, 403, grpc 7, "http_request_denied", "Only programs of this machine may connect here.";
    /// The request came back to where it was.
    LoopDetected = "loop_detected", Proxy, 508, grpc 13, "proxy_loop_detected", "The request runs in a loop.";
    /// Nobody said in time who the name is that a request is for.
    NameTimeout = "name_timeout", Proxy, 503, grpc 14, "dns_timeout", "Nobody said in time who that is.";
    /// Too many names wait for somebody to say who they are.
    NameLimit = "name_limit", Proxy, 503, grpc 14, "connection_limit_reached", "Too many names are asked for.";
    /// What the control plane says of the name was refused, and nothing good was said of it before.
    ConfigRefused = "config_refused", Proxy, 503, grpc 14, "proxy_configuration_error", "What is said of that name can't be used.";
    /// The route names a cluster that is not there.
    ClusterUnknown = "cluster_unknown", Proxy, 503, grpc 14, "proxy_configuration_error", "The route's cluster is not known.";
    /// The cluster has no endpoints.
    NoEndpoints = "no_endpoints", Proxy, 503, grpc 14, "destination_unavailable", "The cluster has no endpoints.";
    /// `limits.pendingRequests` of the cluster: too many wait for a connection.
    UpstreamOverflow = "upstream_overflow", Proxy, 503, grpc 14, "connection_limit_reached", "Too many requests wait for this cluster.";
    /// `limits.requests` of the cluster: too many are in flight.
    RequestLimit = "request_limit", Proxy, 503, grpc 14, "connection_limit_reached", "Too many requests are in flight to this cluster.";
    /// `limits.connections` of the cluster, for a stream that needs a connection of its own.
    ConnectionLimit = "connection_limit", Proxy, 503, grpc 14, "connection_limit_reached", "Too many connections to this cluster.";
    /// The server's HTTP/2 lets no stream be open (RFC 9113 section 6.5.2), nor did any other one's in time.
    UpstreamFull = "upstream_full", Proxy, 503, grpc 14, "destination_unavailable", "The server takes no requests at present.";
    /// The proxy sheds load.
    Overloaded = "overloaded", Proxy, 503, grpc 14, "connection_limit_reached", "The proxy is overloaded.";
    /// The proxy, or this listener, is going away.
    Draining = "draining", Proxy, 503, grpc 14, "destination_unavailable", "The proxy is shutting down.";
    /// The connection reached `timeouts.maxConnectionAge`.
    MaxConnectionAge = "max_connection_age", Proxy, 503, grpc 14, "connection_terminated", "The connection reached its age limit.";
    /// The connection served `limits.requestsPerConnection`.
    MaxRequests = "max_requests", Proxy, 503, grpc 14, "connection_terminated", "The connection served its share of requests.";
    /// The proxy failed at something that can't fail. Please report it.
    Internal = "internal", Proxy, 500, grpc 13, "proxy_internal_error", "The proxy failed.";

    // What servers do.
    /// The route's `timeouts.request`, the listener's, or the caller's `grpc-timeout` ran out (RFC 9110 section 15.6.5).
    RequestTimeout = "request_timeout", Upstream, 504, grpc 4, "http_response_timeout", "The response took too long.";
    /// Nothing came from the server for `timeouts.streamIdle`.
    StreamIdleTimeout = "stream_idle_timeout", Upstream, 504, grpc 4, "connection_read_timeout", "The stream was idle for too long.";
    /// The endpoint refused the connection.
    ConnectRefused = "connect_refused", Upstream, 502, grpc 14, "connection_refused", "The server refused the connection.";
    /// The connection was not made within the cluster's `timeouts.connect`.
    ConnectTimeout = "connect_timeout", Upstream, 504, grpc 14, "connection_timeout", "Connecting to the server took too long.";
    /// There is no way to the endpoint.
    ConnectUnreachable = "connect_unreachable", Upstream, 502, grpc 14, "destination_ip_unroutable", "The server can't be reached.";
    /// The connection failed in another way.
    ConnectFailed = "connect_failed", Upstream, 502, grpc 14, "destination_unavailable", "The connection to the server failed.";
    /// The TLS handshake with the server failed.
    UpstreamTls = "upstream_tls", Upstream, 502, grpc 14, "tls_protocol_error", "The TLS handshake with the server failed.";
    /// The server speaks HTTP/2 alone, and the request is one that only HTTP/1 has: an upgrade.
    UpstreamNoHttp1 = "upstream_no_http1", Upstream, 502, grpc 12, "tls_alert_received", "The server does not speak HTTP/1, which upgrades need.";
    /// The server's certificate is expired, or signed by nobody we trust.
    UpstreamCertificate = "upstream_certificate", Upstream, 502, grpc 14, "tls_certificate_error", "The server's certificate is not valid.";
    /// The server's certificate is for another name.
    UpstreamName = "upstream_name", Upstream, 502, grpc 14, "tls_certificate_error", "The server's certificate is for another name.";
    /// The cluster's name could not be resolved, ever.
    DnsFailed = "dns_failed", Upstream, 502, grpc 14, "dns_error", "The server's name could not be resolved.";
    /// The server closed or reset the connection or stream before its response began.
    UpstreamClosed = "upstream_closed", Upstream, 502, grpc 14, "connection_terminated", "The server closed the connection before it answered.";
    /// The server closed or reset the connection or stream amid its response.
    UpstreamIncomplete = "upstream_incomplete", Upstream, 502, grpc 14, "http_response_incomplete", "The server's response ended early.";
    /// The server's response breaks HTTP's grammar.
    UpstreamProtocol = "upstream_protocol", Upstream, 502, grpc 14, "http_protocol_error", "The server's response is not valid HTTP.";
    /// The server's response head is too large.
    UpstreamHeadTooLarge = "upstream_head_too_large", Upstream, 502, grpc 14, "http_response_header_section_size", "The server's response headers are too large.";
}

impl Reason {
    /// A dense number below [`Reason::COUNT`], for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The registry of RFC 9209 section 2.3.
    const PROXY_STATUS: &[&str] = &[
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ];

    #[test]
    fn every_reason_is_well_formed() {
        let mut tokens = HashSet::new();
        for (at, reason) in Reason::ALL.iter().enumerate() {
            let token = reason.as_str();
            assert_eq!(reason.index(), at);
            assert!(tokens.insert(token), "{token} stands twice");
            assert!(
                token
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{token}"
            );
            assert!((400..600).contains(&reason.status()), "{token}");
            assert!((1..=16).contains(&reason.grpc_status()), "{token}");
            assert!(
                PROXY_STATUS.contains(&reason.proxy_status_error()),
                "{token}: {}",
                reason.proxy_status_error()
            );
            assert!(reason.text().ends_with('.') && reason.text().is_ascii() && !reason.text().contains('"'));
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{token}\""));
            assert_eq!(
                serde_json::from_str::<Reason>(&format!("\"{token}\"")).unwrap(),
                *reason
            );
        }
        assert_eq!(Reason::COUNT, Reason::ALL.len());
    }

    #[test]
    fn layer_and_status_agree() {
        for reason in Reason::ALL {
            match reason.layer() {
                Layer::Downstream => assert!(reason.status() < 500, "{reason}: a client's fault is 4xx"),
                Layer::Upstream => assert!(matches!(reason.status(), 502 | 504), "{reason}"),
                Layer::Proxy => assert!(!matches!(reason.status(), 502 | 504), "{reason}"),
            }
        }
    }
}
