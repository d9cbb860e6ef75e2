//! Which bounds does the proxy keep, why these, and what happens at them?
//!
//! One table. Validation takes the bounds of every number from it, the documentation page is made from it, and a test
//! holds its defaults to those of the resources.

use serde::Serialize;

use crate::errors::Reason;

/// One named bound of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitDoc {
    /// The resource kind and field: `listeners[].limits.headerBytes`.
    pub path: &'static str,
    /// What the numbers count.
    pub unit: Unit,
    /// When nothing is said. Durations in milliseconds.
    pub default: u64,
    /// The least that is accepted, besides 0 where 0 means off.
    pub min: u64,
    /// The most that is accepted.
    pub max: u64,
    /// Whether 0 switches the bound off.
    pub zero_is_off: bool,
    /// Why this default.
    pub why: &'static str,
    /// What happens when it is reached.
    pub reached: &'static str,
    /// The reasons that responses, metrics and logs then carry, where something ends.
    pub reasons: &'static [Reason],
    /// What counts it.
    pub counted: Counted,
}

/// What counts that a bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Counted {
    /// The metric `mesh_limit_hits_total`, under this value of its label `limit`.
    Limit(&'static str),
    /// The reason of the requests and streams that ended: `mesh_responses_total`.
    Responses,
    /// The reason of the connections that ended: `mesh_connections_closed_total`.
    Connections,
    /// Both reasons.
    Both,
    /// The reason of connects that failed, `mesh_upstream_connect_failures_total`, and of the responses after the last.
    Connects,
    /// The reason of the connections to servers that ended: `mesh_upstream_connections_closed_total`.
    UpstreamConnections,
    /// Nothing, as nothing fails; what can be seen of it all the same.
    Nothing(&'static str),
}

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// A span of time, in milliseconds.
    Milliseconds,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
/// The longest duration that is accepted anywhere.
const DAY: u64 = 24 * HOUR;

/// A count of things or bytes, from `min` to `max`.
const fn bound(path: &'static str, unit: Unit, default: u64, min: u64, max: u64) -> LimitDoc {
    LimitDoc {
        path,
        unit,
        default,
        min,
        max,
        zero_is_off: false,
        why: "",
        reached: "",
        reasons: &[],
        counted: Counted::Nothing(""),
    }
}

/// A deadline; `0s` switches it off.
const fn deadline(path: &'static str, default: u64) -> LimitDoc {
    LimitDoc {
        zero_is_off: true,
        ..bound(path, Unit::Milliseconds, default, 1, DAY)
    }
}

/// Every bound that a resource names.
pub const LIMITS: &[LimitDoc] = &[
    LimitDoc {
        why: "a gateway's worth; each idle connection costs under 2 KiB",
        reached: "nothing more is accepted until one closes; clients wait in the kernel's queue",
        counted: Counted::Limit("connections"),
        ..bound(
            "listeners[].limits.connections",
            Unit::Count,
            65_536,
            1,
            10_000_000,
        )
    },
    LimitDoc {
        why: "browsers' worst cookies need it",
        reached: "431 and close",
        reasons: &[Reason::HeadTooLarge],
        counted: Counted::Limit("header_bytes"),
        ..bound("listeners[].limits.headerBytes", Unit::Bytes, 64 * KIB, KIB, MIB)
    },
    LimitDoc {
        why: "three times what browsers and gateways send; bounds the HPACK bomb",
        reached: "431 and close",
        reasons: &[Reason::TooManyHeaders],
        counted: Counted::Limit("header_count"),
        ..bound("listeners[].limits.headerCount", Unit::Count, 128, 8, 4096)
    },
    LimitDoc {
        why: "RFC 9113 section 6.5.2 asks for no less",
        reached: "the client waits; streams opened all the same are refused",
        counted: Counted::Limit("streams"),
        ..bound("listeners[].limits.streams", Unit::Count, 100, 1, 10_000)
    },
    LimitDoc {
        why: "reconnecting costs more than a long connection",
        reached: "the connection closes after its response, or gets GOAWAY",
        reasons: &[Reason::MaxRequests],
        counted: Counted::Limit("requests_per_connection"),
        zero_is_off: true,
        ..bound(
            "listeners[].limits.requestsPerConnection",
            Unit::Count,
            0,
            1,
            u32::MAX as u64,
        )
    },
    LimitDoc {
        why: "bodies are streamed, so their size costs no memory",
        reached: "413; what was sent upstream is cut off",
        reasons: &[Reason::BodyTooLarge],
        counted: Counted::Limit("request_body_bytes"),
        zero_is_off: true,
        ..bound("listeners[].limits.requestBodyBytes", Unit::Bytes, 0, 1, u64::MAX)
    },
    LimitDoc {
        why: "enough for bulk at ten gigabits in a data centre; a client may hold as much for each of its `streams`",
        reached: "the client's HTTP/2 request waits for the server",
        counted: Counted::Nothing(""),
        ..bound(
            "listeners[].limits.http2StreamWindowBytes",
            Unit::Bytes,
            256 * KIB,
            16 * KIB,
            MIB,
        )
    },
    LimitDoc {
        why: "addresses and names take under 1,000 bytes, a client's certificate some 2,000",
        reached: "the connection closes",
        reasons: &[Reason::ProxyHeaderInvalid],
        counted: Counted::Limit("proxy_header_bytes"),
        ..bound(
            "listeners[].limits.proxyHeaderBytes",
            Unit::Bytes,
            4 * KIB,
            256,
            64 * KIB,
        )
    },
    LimitDoc {
        why: "slow networks need a second or two; attackers hold on for hours",
        reached: "408 and close; before the first byte, or amid a PROXY header, just close; HTTP/2 gets GOAWAY",
        reasons: &[Reason::HeaderTimeout, Reason::ProxyHeaderTimeout],
        counted: Counted::Both,
        ..deadline("listeners[].timeouts.header", 10 * SECOND)
    },
    LimitDoc {
        why: "as for the header",
        reached: "the connection closes",
        reasons: &[Reason::TlsHandshakeTimeout],
        counted: Counted::Connections,
        ..deadline("listeners[].timeouts.handshake", 10 * SECOND)
    },
    LimitDoc {
        why: "streams, downloads and long polls are as long as they are; routes say otherwise",
        reached: "504, or `grpc-status: 4`",
        reasons: &[Reason::RequestTimeout],
        counted: Counted::Responses,
        ..deadline("listeners[].timeouts.request", 0)
    },
    LimitDoc {
        why: "longer than browsers pause, shorter than middleboxes forget",
        reached: "the connection closes, or gets GOAWAY",
        reasons: &[Reason::IdleTimeout],
        counted: Counted::Connections,
        ..deadline("listeners[].timeouts.idle", 60 * SECOND)
    },
    LimitDoc {
        why: "a peer that neither reads nor writes for a minute is gone",
        reached: "408 when the client stalls, 504 when the server does; amid a response the stream is reset",
        reasons: &[
            Reason::RequestBodyTimeout,
            Reason::ClientStalled,
            Reason::StreamIdleTimeout,
        ],
        counted: Counted::Responses,
        ..deadline("listeners[].timeouts.streamIdle", 60 * SECOND)
    },
    LimitDoc {
        why: "databases and consoles are quiet for long",
        reached: "both sides are closed",
        reasons: &[Reason::IdleTimeout],
        counted: Counted::Both,
        ..deadline("listeners[].timeouts.tcpIdle", HOUR)
    },
    LimitDoc {
        why: "only balancers in front need clients to reconnect",
        reached: "an HTTP connection takes no new request; what goes on after `drain` more is cut, also what left HTTP; TCP and TLS that pass through stay",
        reasons: &[Reason::MaxConnectionAge],
        counted: Counted::Both,
        ..deadline("listeners[].timeouts.maxConnectionAge", 0)
    },
    LimitDoc {
        why: "what orchestrators grant before they kill",
        reached: "what is still open is cut",
        reasons: &[Reason::Draining],
        counted: Counted::Both,
        ..deadline("listeners[].timeouts.drain", 30 * SECOND)
    },
    LimitDoc {
        why: "far above a healthy pool, low enough to spare a stalled server",
        reached: "requests wait as pending; streams are refused",
        reasons: &[Reason::ConnectionLimit],
        counted: Counted::Limit("connections"),
        ..bound("clusters[].limits.connections", Unit::Count, 1024, 1, 1_000_000)
    },
    LimitDoc {
        why: "a queue longer than this is a server that is down",
        reached: "503",
        reasons: &[Reason::UpstreamOverflow],
        counted: Counted::Limit("pending_requests"),
        ..bound(
            "clusters[].limits.pendingRequests",
            Unit::Count,
            1024,
            1,
            1_000_000,
        )
    },
    LimitDoc {
        why: "bounds memory when every server is slow at once",
        reached: "503",
        reasons: &[Reason::RequestLimit],
        counted: Counted::Limit("requests"),
        ..bound("clusters[].limits.requests", Unit::Count, 16_384, 1, 10_000_000)
    },
    LimitDoc {
        why: "covers bursts without holding servers' memory; 0 keeps none",
        reached: "the HTTP/1 connection that was idle longest closes",
        counted: Counted::Limit("idle_connections"),
        ..bound("clusters[].limits.idleConnections", Unit::Count, 100, 0, 100_000)
    },
    LimitDoc {
        why: "what most servers allow",
        reached: "another connection is opened",
        counted: Counted::Nothing("`mesh_upstream_connections_total` grows"),
        ..bound(
            "clusters[].limits.streamsPerConnection",
            Unit::Count,
            100,
            1,
            10_000,
        )
    },
    LimitDoc {
        why: "two lost SYNs in a data centre",
        reached: "another endpoint is tried; 504 when none is left",
        reasons: &[Reason::ConnectTimeout],
        counted: Counted::Connects,
        ..deadline("clusters[].timeouts.connect", 2 * SECOND)
    },
    LimitDoc {
        why: "below the 60s at which common servers hang up",
        reached: "the pooled connection closes",
        reasons: &[Reason::IdleTimeout],
        counted: Counted::UpstreamConnections,
        ..deadline("clusters[].timeouts.idle", 30 * SECOND)
    },
    LimitDoc {
        why: "only changing DNS or balancers behind need it",
        reached: "the pooled connection takes no new request and closes when it is free",
        reasons: &[Reason::MaxConnectionAge],
        counted: Counted::UpstreamConnections,
        ..deadline("clusters[].timeouts.maxConnectionAge", 0)
    },
    LimitDoc {
        why: "most servers are warm at once",
        reached: "the endpoint has its full share",
        counted: Counted::Nothing(""),
        ..deadline("clusters[].slowStart", 0)
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::resources::{Cluster, Duration, Listener};

    /// The value at a path such as `listeners[].limits.connections` of a resource with every default.
    fn default_of(path: &str) -> u64 {
        let (kind, field) = path.split_once("[].").unwrap();
        let resource = match kind {
            "listeners" => serde_json::to_value(Listener::new("l", ":0".parse().unwrap())),
            "clusters" => serde_json::to_value(Cluster::new("c")),
            other => panic!("{other}"),
        };
        let pointer = format!("/{}", field.replace('.', "/"));
        let value = resource
            .unwrap()
            .pointer(&pointer)
            .unwrap_or_else(|| panic!("{path} is no field"))
            .clone();
        match value.as_str() {
            Some(text) => text.parse::<Duration>().unwrap().0.as_millis() as u64,
            None => value.as_u64().unwrap(),
        }
    }

    #[test]
    fn the_table_says_what_the_resources_do() {
        let mut paths = HashSet::new();
        let mut labels = HashSet::new();
        for limit in LIMITS {
            assert_eq!(default_of(limit.path), limit.default, "{}", limit.path);
            let allowed =
                (limit.min..=limit.max).contains(&limit.default) || limit.zero_is_off && limit.default == 0;
            assert!(allowed, "{}", limit.path);
            assert!(
                !limit.why.is_empty() && !limit.reached.is_empty(),
                "{}",
                limit.path
            );
            assert!(paths.insert(limit.path), "{}", limit.path);
            if let Counted::Limit(label) = limit.counted {
                // Listeners and clusters have series of their own.
                let (kind, _) = limit.path.split_once("[]").unwrap();
                assert!(labels.insert((kind, label)), "{}", limit.path);
            }
        }
    }

    #[test]
    fn every_limit_and_timeout_stands_in_the_table() {
        let listener = serde_json::to_value(Listener::new("l", ":0".parse().unwrap())).unwrap();
        let cluster = serde_json::to_value(Cluster::new("c")).unwrap();
        for (kind, resource) in [("listeners", listener), ("clusters", cluster)] {
            for group in ["limits", "timeouts"] {
                for field in resource[group].as_object().unwrap().keys() {
                    let path = format!("{kind}[].{group}.{field}");
                    assert!(LIMITS.iter().any(|limit| limit.path == path), "{path} is missing");
                }
            }
        }
    }
}
