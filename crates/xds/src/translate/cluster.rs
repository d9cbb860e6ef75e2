//! CDS: `Cluster` and [`Cluster`].
//!
//! What only this mesh says stands in the metadata under `mesh`: the balancer by latency, which others see as round
//! robin, that nobody looks at the bytes, and bounds for which xDS has no field.

use std::collections::BTreeMap;
use std::str::FromStr;

use mesh_model::resources::{
    Balancer, Cluster, ClusterLimits, ClusterTimeouts, Discovery, Duration, UpstreamProtocol,
};

use prost::Message;

use super::tls::{Security, security, to_transport_socket};
use super::values::{duration, port, to_duration, to_socket_address};
use super::{Refusal, Translate, decode, envelope, our_metadata, refuse_present, to_metadata};
use crate::kind::Kind;
use crate::wire::{self, DiscoveryType, LbPolicy};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const HTTP_OPTIONS_URL: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The keys of our metadata.
mod ours {
    pub(super) const BALANCER: &str = "balancer";
    pub(super) const EWMA: &str = "ewma";
    pub(super) const PROTOCOL: &str = "protocol";
    pub(super) const TCP: &str = "tcp";
    pub(super) const SLOW_START: &str = "slow_start";
    pub(super) const IDLE_CONNECTIONS: &str = "idle_connections";
    pub(super) const STREAMS_PER_CONNECTION: &str = "streams_per_connection";
    pub(super) const RING_SIZE: &str = "ring_size";
}

impl Translate for Cluster {
    const KIND: Kind = Kind::Cluster;
    type Message = wire::Cluster;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        refuse_unsafe(&message)?;
        let ours = our_metadata(message.metadata.as_ref());
        let mut cluster = Self {
            discovery: discovery(&message)?,
            balancer: balancer(&message, &ours)?,
            limits: limits(&message, &ours)?,
            slow_start: said(&ours, ours::SLOW_START)?.unwrap_or_default(),
            ..Self::new(message.name)
        };
        if let Some(connect) = message.connect_timeout {
            cluster.timeouts.connect = duration(connect, "connect_timeout")?;
        }
        if let Some(options) = message.typed_extension_protocol_options.get(HTTP_OPTIONS) {
            let within = |refusal: Refusal| refusal.within(HTTP_OPTIONS);
            let options = decode(&options.value, "").map_err(within)?;
            http_options(&options, &mut cluster).map_err(within)?;
        }
        if ours.get(ours::PROTOCOL).is_some_and(|name| name == ours::TCP) {
            cluster.protocol = UpstreamProtocol::Tcp;
        }
        match security(message.transport_socket.as_ref(), cluster.protocol)? {
            Security::Plaintext => {}
            Security::Workload(workload) => cluster.workload = Some(workload),
            Security::Server(tls) => cluster.tls = Some(tls),
        }
        Ok(cluster)
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        let Some(connect) = self.timeouts.connect.enabled() else {
            return Err(Refusal::new(
                "timeouts.connect",
                "xDS can't say that there is none",
            ));
        };
        let mut message = wire::Cluster {
            name: self.name.clone(),
            connect_timeout: Some(to_duration(Duration(connect))),
            circuit_breakers: Some(wire::CircuitBreakers {
                thresholds: vec![wire::Thresholds {
                    priority: 0,
                    max_connections: Some(self.limits.connections),
                    max_pending_requests: Some(self.limits.pending_requests),
                    max_requests: Some(self.limits.requests),
                }],
            }),
            typed_extension_protocol_options: BTreeMap::from([(
                HTTP_OPTIONS.to_owned(),
                envelope(HTTP_OPTIONS_URL, &to_http_options(self)),
            )]),
            ..wire::Cluster::default()
        };
        to_discovery(self, &mut message)?;
        message.transport_socket = to_transport_socket(self)?;
        let mut ours = our_own(self);
        to_balancer(&self.balancer, &mut message, &mut ours);
        message.metadata = to_metadata(ours);
        Ok(message)
    }
}

/// Whatever decides where connections come from, where they go and how they are protected is done as told or not at all.
fn refuse_unsafe(message: &wire::Cluster) -> Result<(), Refusal> {
    refuse_present(&[
        (
            "transport_socket_matches",
            !message.transport_socket_matches.is_empty(),
        ),
        ("filters", !message.filters.is_empty()),
        ("upstream_bind_config", message.upstream_bind_config.is_some()),
        ("lb_subset_config", message.lb_subset_config.is_some()),
        ("load_balancing_policy", message.load_balancing_policy.is_some()),
        ("cluster_type", message.cluster_type.is_some()),
        ("upstream_config", message.upstream_config.is_some()),
    ])
}

fn discovery(message: &wire::Cluster) -> Result<Discovery, Refusal> {
    match DiscoveryType::try_from(message.discovery_type) {
        Ok(DiscoveryType::Eds) => eds(message),
        Ok(DiscoveryType::LogicalDns | DiscoveryType::StrictDns) => dns(message),
        _ => Err(Refusal::new("type", "expected EDS, LOGICAL_DNS or STRICT_DNS")),
    }
}

fn eds(message: &wire::Cluster) -> Result<Discovery, Refusal> {
    let refusal = |field: &str, reason: &str| Refusal::new(format!("eds_cluster_config.{field}"), reason);
    let config = message.eds_cluster_config.as_ref();
    let aggregated = config
        .and_then(|config| config.eds_config.as_ref())
        .is_some_and(wire::ConfigSource::is_aggregated);
    if !aggregated {
        return Err(refusal(
            "eds_config",
            "expected the stream this came on: `ads` or `self`",
        ));
    }
    match config.map(|config| config.service_name.as_str()) {
        Some(other) if !other.is_empty() && other != message.name => Err(refusal(
            "service_name",
            "expected none, or the cluster's own name",
        )),
        _ => Ok(Discovery::Endpoints),
    }
}

fn dns(message: &wire::Cluster) -> Result<Discovery, Refusal> {
    let only_one = || Refusal::new("load_assignment", "expected one name and port to look up");
    let mut groups = message
        .load_assignment
        .iter()
        .flat_map(|assignment| &assignment.endpoints)
        .flat_map(|group| &group.lb_endpoints);
    let (Some(endpoint), None) = (groups.next(), groups.next()) else {
        return Err(only_one());
    };
    let endpoint: wire::LbEndpoint = decode(endpoint, "load_assignment")?;
    let socket = endpoint
        .endpoint
        .and_then(|endpoint| endpoint.address)
        .and_then(|address| address.socket_address)
        .ok_or_else(only_one)?;
    Ok(Discovery::Dns {
        port: port(&socket).map_err(|refusal| refusal.within("load_assignment"))?,
        host: socket.address,
    })
}

fn to_discovery(cluster: &Cluster, message: &mut wire::Cluster) -> Result<(), Refusal> {
    match &cluster.discovery {
        Discovery::Endpoints => {
            message.discovery_type = DiscoveryType::Eds.into();
            message.eds_cluster_config = Some(wire::EdsClusterConfig {
                eds_config: Some(wire::ConfigSource::aggregated()),
                service_name: String::new(),
            });
        }
        Discovery::Dns { host, port } => {
            message.discovery_type = DiscoveryType::LogicalDns.into();
            let endpoint = wire::LbEndpoint {
                endpoint: Some(wire::Endpoint {
                    address: Some(wire::Address {
                        socket_address: Some(to_socket_address(host.clone(), *port)),
                        pipe: None,
                    }),
                }),
                ..wire::LbEndpoint::default()
            };
            message.load_assignment = Some(wire::ClusterLoadAssignment {
                cluster_name: cluster.name.clone(),
                endpoints: vec![wire::LocalityLbEndpoints {
                    lb_endpoints: vec![endpoint.encode_to_vec().into()],
                    ..wire::LocalityLbEndpoints::default()
                }],
                policy: None,
            });
        }
        Discovery::DnsSrv { .. } => {
            return Err(Refusal::new("discovery", "SRV records are not carried over xDS"));
        }
    }
    Ok(())
}

fn balancer(message: &wire::Cluster, ours: &BTreeMap<String, String>) -> Result<Balancer, Refusal> {
    let by_latency = ours.get(ours::BALANCER).is_some_and(|name| name == ours::EWMA);
    let small = |size: Option<u64>, field: &str| {
        size.map(|size| u32::try_from(size).map_err(|_| Refusal::new(field, "is too large")))
            .transpose()
    };
    Ok(match LbPolicy::try_from(message.lb_policy) {
        Ok(LbPolicy::RoundRobin) if by_latency => Balancer::Ewma,
        Ok(LbPolicy::RoundRobin) => Balancer::RoundRobin,
        Ok(LbPolicy::LeastRequest) => Balancer::LeastRequest,
        Ok(LbPolicy::Random) => Balancer::Random,
        Ok(LbPolicy::RingHash) => Balancer::RingHash {
            // Our ring has one size: the least that others may choose is no more than a hint, so it is taken from
            // ourselves alone.
            ring_size: said(ours, ours::RING_SIZE)?,
        },
        Ok(LbPolicy::Maglev) => Balancer::Maglev {
            table_size: small(
                message
                    .maglev_lb_config
                    .as_ref()
                    .and_then(|config| config.table_size),
                "maglev_lb_config.table_size",
            )?,
        },
        _ => return Err(Refusal::new("lb_policy", "is not known")),
    })
}

fn to_balancer(balancer: &Balancer, message: &mut wire::Cluster, ours: &mut BTreeMap<String, String>) {
    let policy = match balancer {
        Balancer::Ewma => {
            ours.insert(ours::BALANCER.to_owned(), ours::EWMA.to_owned());
            LbPolicy::RoundRobin
        }
        Balancer::RoundRobin => LbPolicy::RoundRobin,
        Balancer::LeastRequest => LbPolicy::LeastRequest,
        Balancer::Random => LbPolicy::Random,
        Balancer::RingHash { ring_size } => {
            if let Some(size) = ring_size {
                ours.insert(ours::RING_SIZE.to_owned(), size.to_string());
                message.ring_hash_lb_config = Some(wire::RingHashLbConfig {
                    minimum_ring_size: Some((*size).into()),
                });
            }
            LbPolicy::RingHash
        }
        Balancer::Maglev { table_size } => {
            message.maglev_lb_config = table_size.map(|size| wire::MaglevLbConfig {
                table_size: Some(size.into()),
            });
            LbPolicy::Maglev
        }
    };
    message.lb_policy = policy.into();
}

fn limits(message: &wire::Cluster, ours: &BTreeMap<String, String>) -> Result<ClusterLimits, Refusal> {
    let mut limits = ClusterLimits::default();
    let breakers = message.circuit_breakers.iter();
    for threshold in breakers.flat_map(|breakers| &breakers.thresholds) {
        // The high priority belongs to routes that we don't have.
        if threshold.priority == 0 {
            limits.connections = threshold.max_connections.unwrap_or(limits.connections);
            limits.pending_requests = threshold.max_pending_requests.unwrap_or(limits.pending_requests);
            limits.requests = threshold.max_requests.unwrap_or(limits.requests);
        }
    }
    if let Some(idle) = said(ours, ours::IDLE_CONNECTIONS)? {
        limits.idle_connections = idle;
    }
    if let Some(streams) = said(ours, ours::STREAMS_PER_CONNECTION)? {
        limits.streams_per_connection = streams;
    }
    Ok(limits)
}

/// What only we have, where it is not the default.
fn our_own(cluster: &Cluster) -> BTreeMap<String, String> {
    let (limits, usual) = (&cluster.limits, ClusterLimits::default());
    let mut ours = BTreeMap::new();
    let mut say = |key: &str, differs: bool, text: String| {
        if differs {
            ours.insert(key.to_owned(), text);
        }
    };
    say(
        ours::PROTOCOL,
        cluster.protocol == UpstreamProtocol::Tcp,
        ours::TCP.to_owned(),
    );
    say(
        ours::SLOW_START,
        cluster.slow_start != Duration::default(),
        cluster.slow_start.to_string(),
    );
    say(
        ours::IDLE_CONNECTIONS,
        limits.idle_connections != usual.idle_connections,
        limits.idle_connections.to_string(),
    );
    say(
        ours::STREAMS_PER_CONNECTION,
        limits.streams_per_connection != usual.streams_per_connection,
        limits.streams_per_connection.to_string(),
    );
    ours
}

fn said<T: FromStr>(ours: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, Refusal> {
    let unreadable = |_| Refusal::new(format!("metadata.mesh.{key}"), "is not readable");
    ours.get(key)
        .map(|text| text.parse().map_err(unreadable))
        .transpose()
}

fn http_options(options: &wire::HttpProtocolOptions, cluster: &mut Cluster) -> Result<(), Refusal> {
    refuse_present(&[("http_filters", !options.http_filters.is_empty())])?;
    if let Some(explicit) = &options.explicit_http_config {
        cluster.protocol = match explicit {
            wire::ExplicitHttpConfig {
                http3_protocol_options: Some(_),
                ..
            } => return Err(Refusal::new("http3_protocol_options", "HTTP/3 is not spoken")),
            wire::ExplicitHttpConfig {
                http2_protocol_options: Some(_),
                ..
            } => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        };
    }
    if let Some(common) = &options.common_http_protocol_options {
        if let Some(idle) = common.idle_timeout {
            cluster.timeouts.idle = duration(idle, "common_http_protocol_options.idle_timeout")?;
        }
        if let Some(age) = common.max_connection_duration {
            cluster.timeouts.max_connection_age =
                duration(age, "common_http_protocol_options.max_connection_duration")?;
        }
    }
    Ok(())
}

fn to_http_options(cluster: &Cluster) -> wire::HttpProtocolOptions {
    let ClusterTimeouts {
        idle,
        max_connection_age,
        ..
    } = cluster.timeouts;
    let explicit = |http1: bool| wire::ExplicitHttpConfig {
        http_protocol_options: http1.then_some(wire::Empty {}),
        http2_protocol_options: (!http1).then_some(wire::Empty {}),
        http3_protocol_options: None,
    };
    let (explicit_http_config, use_downstream_protocol_config) = match cluster.protocol {
        UpstreamProtocol::Http1 => (Some(explicit(true)), None),
        UpstreamProtocol::Http2 => (Some(explicit(false)), None),
        UpstreamProtocol::Auto | UpstreamProtocol::Tcp => (
            None,
            Some(wire::DownstreamProtocol {
                http_protocol_options: Some(wire::Empty {}),
                http2_protocol_options: Some(wire::Empty {}),
            }),
        ),
    };
    wire::HttpProtocolOptions {
        common_http_protocol_options: Some(wire::CommonHttpProtocolOptions {
            idle_timeout: Some(to_duration(idle)),
            max_connection_duration: max_connection_age.enabled().map(|age| to_duration(Duration(age))),
        }),
        explicit_http_config,
        use_downstream_protocol_config,
        http_filters: Vec::new(),
    }
}
