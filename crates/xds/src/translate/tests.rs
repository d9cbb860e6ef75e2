use std::net::IpAddr;

use bytes::Bytes;
use mesh_model::resources::*;
use mesh_model::spiffe::SpiffeId;
use proptest::prelude::*;
use prost::Message;

use super::{Refusal, Translate, TrustRoots};
use crate::wire;

fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        (any::<IpAddr>(), 1..=u16::MAX).prop_map(|(ip, port)| Address::Ip((ip, port).into())),
        "/[a-z/.]{1,100}".prop_map(|path| Address::Unix(path.into())),
    ]
}

fn span(least: u64) -> impl Strategy<Value = Duration> {
    (least..=86_400_000).prop_map(Duration::from_millis)
}

fn identity() -> impl Strategy<Value = SpiffeId> {
    "[a-z]{1,6}\\.local/ns/[a-z]{1,6}/sa/[a-z]{1,4}"
        .prop_map(|text| format!("spiffe://{text}").parse().unwrap())
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let health = prop::sample::select(vec![Health::Healthy, Health::Draining, Health::Unhealthy]);
    let metadata = prop::collection::btree_map("[a-z]{1,8}", ".{0,8}", 0..3);
    let identity = prop::option::of(identity());
    (address(), 1..=1000_u32, health, identity, metadata).prop_map(
        |(address, weight, health, identity, metadata)| Endpoint {
            identity,
            address,
            weight,
            health,
            metadata,
        },
    )
}

prop_compose! {
    fn endpoints()(
        cluster in "[a-z.-]{1,20}",
        places in prop::collection::hash_map(
            ("([a-z0-9-]{1,6}(/[a-z0-9-]{1,6}){0,3})?", 0..=127_u32),
            (1..=1_000_000_u32, prop::collection::vec(endpoint(), 0..4)),
            0..4,
        ),
    ) -> Endpoints {
        let localities = places.into_iter().map(|((zone, priority), (weight, endpoints))| Locality {
            zone, priority, weight, endpoints,
        });
        Endpoints { cluster, localities: localities.collect() }
    }
}

fn balancer() -> impl Strategy<Value = Balancer> {
    prop_oneof![
        Just(Balancer::Ewma),
        Just(Balancer::LeastRequest),
        Just(Balancer::RoundRobin),
        Just(Balancer::Random),
        prop::option::of(1024..=8_388_608_u32).prop_map(|ring_size| Balancer::RingHash { ring_size }),
        prop::option::of(2..=1_310_719_u32).prop_map(|table_size| Balancer::Maglev { table_size }),
    ]
}

prop_compose! {
    fn cluster()(
        name in "[a-z.-]{1,20}",
        discovery in prop_oneof![
            Just(Discovery::Endpoints),
            ("[a-z]{1,9}\\.internal", 1..=u16::MAX).prop_map(|(host, port)| Discovery::Dns { host, port }),
        ],
        protocol in prop::sample::select(vec![
            UpstreamProtocol::Auto, UpstreamProtocol::Http1, UpstreamProtocol::Http2, UpstreamProtocol::Tcp,
        ]),
        balancer in balancer(),
        slow_start in span(0),
        limits in any::<[u32; 5]>(),
        timeouts in (span(1), span(0), span(0)),
        workload in prop::option::of("p[0-9]{1,5}\\.[a-z]{1,9}\\.shop\\.mesh\\.local"),
    ) -> Cluster {
        let [connections, pending_requests, requests, idle_connections, streams_per_connection] = limits;
        let (connect, idle, max_connection_age) = timeouts;
        Cluster {
            discovery, protocol, balancer, slow_start,
            workload: workload.map(|server_name| WorkloadTls { server_name }),
            limits: ClusterLimits {
                connections, pending_requests, requests, idle_connections, streams_per_connection,
            },
            timeouts: ClusterTimeouts { connect, idle, max_connection_age },
            ..Cluster::new(name)
        }
    }
}

proptest! {
    #[test]
    fn endpoints_come_back_as_they_went(endpoints in endpoints()) {
        prop_assert_eq!(Endpoints::from_any(&endpoints.to_any().unwrap()), Ok(endpoints));
    }

    #[test]
    fn clusters_come_back_as_they_went(cluster in cluster()) {
        prop_assert_eq!(Cluster::from_any(&cluster.to_any().unwrap()), Ok(cluster));
    }

    #[test]
    fn roots_come_back_as_they_went(name in ".{0,9}", pem in ".{0,99}") {
        let roots = TrustRoots { name, pem };
        prop_assert_eq!(TrustRoots::from_any(&roots.to_any().unwrap()), Ok(roots));
    }

    #[test]
    fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let any = |type_url: &str| wire::Any { type_url: type_url.into(), value: value.clone().into() };
        let _ = Cluster::from_any(&any(Cluster::KIND.type_url()));
        let _ = Endpoints::from_any(&any(Endpoints::KIND.type_url()));
        let _ = TrustRoots::from_any(&any(TrustRoots::KIND.type_url()));
    }
}

fn plain() -> wire::Cluster {
    Cluster::new("api").to_message().unwrap()
}

fn refused(change: impl FnOnce(&mut wire::Cluster)) -> String {
    let mut message = plain();
    change(&mut message);
    Cluster::from_message(message).unwrap_err().field
}

#[test]
fn what_would_change_safety_is_refused_by_field() {
    assert_eq!(
        refused(|c| c.transport_socket = Some(wire::TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            typed_config: None,
        })),
        "transport_socket"
    );
    assert_eq!(
        refused(|c| c.transport_socket_matches = vec![vec![]]),
        "transport_socket_matches"
    );
    assert_eq!(refused(|c| c.filters = vec![vec![]]), "filters");
    assert_eq!(refused(|c| c.lb_subset_config = Some(vec![])), "lb_subset_config");
    assert_eq!(
        refused(|c| c.upstream_bind_config = Some(vec![])),
        "upstream_bind_config"
    );
    assert_eq!(refused(|c| c.cluster_type = Some(vec![])), "cluster_type");
    assert_eq!(
        refused(|c| c.load_balancing_policy = Some(vec![])),
        "load_balancing_policy"
    );
    assert_eq!(refused(|c| c.upstream_config = Some(vec![])), "upstream_config");
    assert_eq!(refused(|c| c.discovery_type = 0), "type");
    assert_eq!(refused(|c| c.lb_policy = 6), "lb_policy");
    assert_eq!(
        refused(|c| c.eds_cluster_config = None),
        "eds_cluster_config.eds_config"
    );
    let negative = wire::Duration {
        seconds: -1,
        nanos: 0,
    };
    assert_eq!(refused(|c| c.connect_timeout = Some(negative)), "connect_timeout");
}

fn workload_cluster() -> wire::Cluster {
    let mut cluster = Cluster::new("basket");
    cluster.workload = Some(WorkloadTls {
        server_name: "p80.basket.shop.mesh.local".into(),
    });
    cluster.to_message().unwrap()
}

/// The cluster with another TLS context.
fn with_context(change: impl FnOnce(&mut wire::UpstreamTlsContext)) -> Result<Cluster, Refusal> {
    let mut message = workload_cluster();
    let config = message.transport_socket.as_mut().unwrap().typed_config.as_mut();
    let config = config.unwrap();
    let mut context = wire::UpstreamTlsContext::decode(&*config.value).unwrap();
    change(&mut context);
    config.value = context.encode_to_vec().into();
    Cluster::from_message(message)
}

#[test]
fn only_the_mtls_of_workloads_is_taken() {
    let common = |context: &mut wire::UpstreamTlsContext| context.common_tls_context.clone().unwrap();
    assert!(with_context(|_| {}).unwrap().workload.is_some());
    type Change = fn(&mut wire::CommonTlsContext);
    let changes: &[Change] = &[
        |c| c.tls_params = None,
        |c| c.tls_params.as_mut().unwrap().tls_minimum_protocol_version = 3,
        |c| c.alpn_protocols.push("h2".into()),
        |c| c.alpn_protocols.clear(),
        |c| c.tls_certificate_sds_secret_configs.clear(),
        |c| c.validation_context_sds_secret_config = None,
        |c| c.validation_context_sds_secret_config.as_mut().unwrap().name = "other".into(),
    ];
    for change in changes {
        let refused = with_context(|context| {
            let mut changed = common(context);
            change(&mut changed);
            context.common_tls_context = Some(changed);
        });
        assert_eq!(refused.unwrap_err().field, "transport_socket");
    }
    assert_eq!(
        with_context(|context| context.sni.clear()).unwrap_err().field,
        "transport_socket"
    );
    // `allow_renegotiation`, which is not in our message.
    let mut message = workload_cluster();
    let config = message.transport_socket.as_mut().unwrap().typed_config.as_mut();
    let config = config.unwrap();
    config.value = [&config.value[..], &[0x18, 1]].concat().into();
    assert_eq!(
        Cluster::from_message(message).unwrap_err().field,
        "transport_socket"
    );
}

/// The cluster of a server outside of the mesh.
fn outside_cluster(tls: ClientTls) -> Cluster {
    let mut cluster = Cluster::new("billing");
    cluster.discovery = Discovery::Dns {
        host: "billing.test.".into(),
        port: 8443,
    };
    cluster.tls = Some(tls);
    cluster
}

#[test]
fn tls_towards_servers_outside_is_carried_with_its_name_and_roots() {
    const ROOTS: &str = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let tls = |name: Option<&str>, roots: Option<&str>| ClientTls {
        server_name: name.map(str::to_owned),
        roots: roots.map(|roots| Pem(roots.to_owned())),
        ..ClientTls::default()
    };
    for protocol in [
        UpstreamProtocol::Http1,
        UpstreamProtocol::Http2,
        UpstreamProtocol::Auto,
    ] {
        for (name, roots) in [
            (None, None),
            (Some("pay.test"), Some(ROOTS)),
            (Some("10.0.0.1"), None),
        ] {
            let mut cluster = outside_cluster(tls(name, roots));
            cluster.protocol = protocol;
            let there = Cluster::from_message(cluster.to_message().unwrap()).unwrap();
            assert_eq!(there.tls, Some(tls(name.or(Some("billing.test")), roots)));
            assert_eq!((there.workload, there.protocol), (None, protocol));
        }
    }
    let refused = |tls| outside_cluster(tls).to_message().unwrap_err().field;
    assert_eq!(refused(tls(None, Some("/etc/roots.pem"))), "tls.roots");
    assert_eq!(
        refused(ClientTls {
            certificate: Some(Pem(ROOTS.into())),
            ..ClientTls::default()
        }),
        "tls.certificate"
    );
    let mut listed = outside_cluster(tls(None, None));
    listed.discovery = Discovery::Endpoints;
    assert_eq!(listed.to_message().unwrap_err().field, "tls.serverName");
}

#[test]
fn who_is_believed_outside_is_said_in_full_or_refused() {
    type Change = fn(&mut wire::ServerValidationContext);
    let changes: &[Change] = &[
        |c| c.match_typed_subject_alt_names.clear(),
        |c| c.match_typed_subject_alt_names[0].san_type = 3,
        |c| c.match_typed_subject_alt_names[0].matcher.as_mut().unwrap().exact = Some("other.test".into()),
        |c| {
            c.match_typed_subject_alt_names[0]
                .matcher
                .as_mut()
                .unwrap()
                .ignore_case = true
        },
        |c| c.system_root_certs = None,
        |c| c.trusted_ca = Some(wire::DataSource::text("-----BEGIN")),
        |c| {
            c.system_root_certs = None;
            c.trusted_ca = Some(wire::DataSource::text("/etc/hosts"));
        },
    ];
    for change in changes {
        let mut message = outside_cluster(ClientTls::default()).to_message().unwrap();
        let config = message.transport_socket.as_mut().unwrap().typed_config.as_mut();
        let config = config.unwrap();
        let mut context = wire::UpstreamTlsContext::decode(&*config.value).unwrap();
        let common = context.common_tls_context.as_mut().unwrap();
        change(common.validation_context.as_mut().unwrap());
        config.value = context.encode_to_vec().into();
        assert_eq!(
            Cluster::from_message(message).unwrap_err().field,
            "transport_socket"
        );
    }
}

#[test]
fn an_unreadable_identity_is_refused() {
    let mut endpoint = Endpoint::new("127.0.0.1:80".parse().unwrap());
    endpoint.identity = Some("spiffe://mesh.local/ns/shop/sa/web".parse().unwrap());
    let endpoints = Endpoints {
        cluster: "web".into(),
        localities: vec![Locality {
            endpoints: vec![endpoint],
            ..Locality::default()
        }],
    };
    let mut message = endpoints.to_message().unwrap();
    let carried = &mut message.endpoints[0].lb_endpoints[0];
    let mut endpoint = wire::LbEndpoint::decode(carried.clone()).unwrap();
    let metadata = endpoint.metadata.as_mut().unwrap();
    let ours = metadata.filter_metadata.get_mut("mesh").unwrap();
    ours.fields.get_mut("identity").unwrap().string_value = Some("spiffe://mesh.local".into());
    *carried = endpoint.encode_to_vec().into();
    assert_eq!(
        Endpoints::from_message(message).unwrap_err().field,
        "endpoints[0].lb_endpoints[0].metadata.mesh.identity"
    );
    let mut forged = endpoints;
    forged.localities[0].endpoints[0].metadata = [("identity".into(), "spiffe://a/b".into())].into();
    assert_eq!(
        forged.to_message().unwrap_err().field,
        "localities[0].endpoints.metadata.identity"
    );
}

#[test]
fn keys_are_no_roots() {
    let roots = TrustRoots {
        name: "mesh/roots".into(),
        pem: "-----BEGIN CERTIFICATE-----".into(),
    };
    let mut message = roots.to_message().unwrap();
    message.tls_certificate = Some(vec![]);
    assert_eq!(
        TrustRoots::from_message(message).unwrap_err().field,
        "tls_certificate"
    );
    // `allow_expired_certificate` of the validation context, which is not in our message.
    let context = [0x0a, 0x03, 0x1a, 0x01, b'x', 0x40, 0x01];
    let bytes = [&[0x22, context.len() as u8][..], &context].concat();
    let any = wire::Any {
        type_url: TrustRoots::KIND.type_url().into(),
        value: bytes.into(),
    };
    assert_eq!(TrustRoots::from_any(&any).unwrap_err().field, "value");
}

#[test]
fn filters_towards_servers_are_refused() {
    let options = wire::HttpProtocolOptions {
        http_filters: vec![vec![]],
        ..Default::default()
    };
    let any = wire::Any {
        type_url: String::new(),
        value: options.encode_to_vec().into(),
    };
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    assert_eq!(
        refused(|c| c.typed_extension_protocol_options = [(name.into(), any)].into()),
        format!("{name}.http_filters")
    );
}

#[test]
fn what_is_harmless_is_passed_over() {
    // Field 28 (`alt_stat_name`) and field 19 (`outlier_detection`), which are not in our messages.
    let mut bytes = plain().encode_to_vec();
    bytes.extend([0xe2, 0x01, 0x01, b'x', 0x9a, 0x01, 0x00]);
    let any = wire::Any {
        type_url: Cluster::KIND.type_url().into(),
        value: bytes.into(),
    };
    assert_eq!(Cluster::from_any(&any), Ok(Cluster::new("api")));
}

#[test]
fn what_the_messages_cannot_say_is_refused() {
    let mut cluster = Cluster::new("api");
    cluster.tls = Some(ClientTls::default());
    assert_eq!(cluster.to_message().unwrap_err().field, "tls.serverName");
    let mut cluster = Cluster::new("api");
    cluster.discovery = Discovery::DnsSrv {
        name: "_http._tcp.site.internal".into(),
    };
    assert_eq!(cluster.to_message().unwrap_err().field, "discovery");
    let mut cluster = Cluster::new("api");
    cluster.timeouts.connect = Duration::default();
    assert_eq!(cluster.to_message().unwrap_err().field, "timeouts.connect");
}

/// An endpoint as it is carried.
fn lb_endpoint(at: wire::SocketAddress) -> Bytes {
    let endpoint = wire::LbEndpoint {
        endpoint: Some(wire::Endpoint {
            address: Some(wire::Address {
                socket_address: Some(at),
                pipe: None,
            }),
        }),
        ..Default::default()
    };
    endpoint.encode_to_vec().into()
}

#[test]
fn a_cluster_may_have_ten_thousand_endpoints_that_have_identities_and_is_bounded() {
    let endpoints = |count: u16| {
        let endpoint = |port: u16| {
            let mut endpoint = Endpoint::new(format!("10.123.231.132:{port}").parse().unwrap());
            endpoint.identity = Some("spiffe://mesh.test/ns/default/sa/checkout".parse().unwrap());
            endpoint
        };
        Endpoints {
            cluster: "checkout.default:8080".into(),
            localities: vec![Locality {
                endpoints: (1..=count).map(endpoint).collect(),
                ..Locality::default()
            }],
        }
    };
    let many = endpoints(10_000);
    let any = many.to_any().unwrap();
    assert!(any.value.len() < crate::grpc::MAX_MESSAGE_BYTES / 2);
    assert_eq!(Endpoints::from_any(&any), Ok(many));
    let refused = Endpoints::from_any(&endpoints(20_000).to_any().unwrap()).unwrap_err();
    assert!(
        refused.field.starts_with("endpoints[0].lb_endpoints[1"),
        "{refused}"
    );
    assert!(
        refused.reason.starts_with("all endpoints hold too many fields"),
        "{refused}"
    );
}

#[test]
fn an_endpoint_that_is_small_on_the_wire_and_large_in_memory_is_refused() {
    let at = wire::SocketAddress {
        protocol: 0,
        address: "10.0.0.1".into(),
        port_value: Some(80),
    };
    // Metadata without end, of which the last alone would count.
    let bomb = [&*lb_endpoint(at), &[0x1a, 0].repeat(100_000)].concat();
    let message = wire::ClusterLoadAssignment {
        cluster_name: "api".into(),
        endpoints: vec![wire::LocalityLbEndpoints {
            lb_endpoints: vec![bomb.into()],
            ..Default::default()
        }],
        policy: None,
    };
    assert_eq!(
        Endpoints::from_message(message),
        Err(Refusal::new(
            "endpoints[0].lb_endpoints[0]",
            "holds too many fields: more than 4096 numbers"
        ))
    );
}

#[test]
fn a_refusal_names_the_place() {
    let mut message = wire::ClusterLoadAssignment {
        cluster_name: "api".into(),
        ..Default::default()
    };
    assert_eq!(
        Endpoints::from_message(message.clone()).unwrap().localities,
        [],
        "an empty list is honoured"
    );
    let name = wire::SocketAddress {
        protocol: 0,
        address: "site.internal".into(),
        port_value: Some(80),
    };
    message.endpoints = vec![wire::LocalityLbEndpoints {
        lb_endpoints: vec![lb_endpoint(name)],
        ..Default::default()
    }];
    assert_eq!(
        Endpoints::from_message(message.clone()),
        Err(Refusal::new(
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
            "expected an IPv4 or IPv6 address"
        ))
    );
    message.endpoints = vec![wire::LocalityLbEndpoints::default(); 2];
    assert_eq!(
        Endpoints::from_message(message.clone()).unwrap_err().field,
        "endpoints[1].locality"
    );
    message.endpoints.clear();
    message.policy = Some(wire::LoadPolicy {
        drop_overloads: vec![vec![]],
    });
    assert_eq!(
        Endpoints::from_message(message).unwrap_err().field,
        "policy.drop_overloads"
    );
}
