//! Does our subscriber get on with go-control-plane, which we did not write?
//!
//! `npm test` runs it where there is Go; what is built is pinned by `go-control-plane/go.sum`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Instant;

use mesh_model::resources::{Balancer, Cluster, Endpoints};
use mesh_xds::client::{Client, Event};
use mesh_xds::kind::Kind;
use mesh_xds::wire::Node;
use support::{Believed, ControlPlane, Stream};

fn port(believed: &Believed, cluster: &str) -> Option<String> {
    let endpoints: &Endpoints = believed.endpoints.get(cluster)?;
    let locality = endpoints.localities.first()?;
    assert_eq!(
        (endpoints.cluster.as_str(), locality.zone.as_str()),
        (cluster, "eu-1/a")
    );
    Some(locality.endpoints.first()?.address.to_string())
}

// Two threads: the connection goes on while the test waits for a line of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Go"]
async fn it_is_driven_by_go_control_plane() {
    let mut server = ControlPlane::start(&support::go().expect("Go"));
    let mut client = Client::new(Node {
        id: "sidecar-1".into(),
        ..Node::default()
    });
    let mut believed = Believed::default();
    for kind in [Kind::Cluster, Kind::Endpoints] {
        for name in ["api", "web"] {
            client.subscribe(kind, name, Instant::now());
        }
    }

    server.set("1", 8001, "api web other");
    let mut stream = Stream::open(server.port, &mut client).await;
    let both = |b: &Believed| b.clusters.len() == 2 && b.endpoints.len() == 2;
    stream.until(&mut client, &mut believed, both).await;
    server.says("ack ");
    server.says("ack ");
    let mut expected = Cluster::new("api");
    expected.balancer = Balancer::LeastRequest;
    expected.timeouts.connect = "5s".parse().unwrap();
    assert_eq!(believed.clusters.get("api"), Some(&expected));
    assert_eq!(port(&believed, "api").as_deref(), Some("127.0.0.1:8001"));

    // Only what changed comes again.
    server.set("2", 8002, "api web other");
    let moved = |b: &Believed| {
        ["api", "web"]
            .iter()
            .all(|name| port(b, name).as_deref() == Some("127.0.0.1:8002"))
    };
    stream.until(&mut client, &mut believed, moved).await;
    server.says("ack ClusterLoadAssignment");
    assert_eq!(believed.accepted[&Kind::Cluster], 2);

    // A bad cluster is refused with its reason, the last good one is kept, a removal is honoured.
    server.set("3", 8002, "api bad:web other");
    let refused = |b: &Believed| b.refused == ["web"];
    stream.until(&mut client, &mut believed, refused).await;
    let nack = server.says("nack Cluster");
    assert!(nack.contains("web: type: expected EDS"), "{nack}");
    let kept = believed.clusters.get("web").cloned();
    server.set("4", 8002, "api other");
    let removed = [Kind::Cluster, Kind::Endpoints].map(|kind| Event::Removed(kind, "web".into()));
    let without = |b: &Believed| removed.iter().all(|event| b.events.contains(event));
    stream.until(&mut client, &mut believed, without).await;
    assert_eq!(kept.map(|cluster| cluster.balancer), Some(Balancer::LeastRequest));

    // A new stream says what it has, and nothing comes twice.
    drop(stream);
    client.disconnected(0);
    let before = believed.accepted.clone();
    let mut stream = Stream::open(server.port, &mut client).await;
    assert_eq!(server.says("ask Cluster "), "ask Cluster 1");
    assert_eq!(
        server.says("ask ClusterLoadAssignment "),
        "ask ClusterLoadAssignment 1"
    );
    server.set("5", 8003, "api other");
    let moved = |b: &Believed| port(b, "api").as_deref() == Some("127.0.0.1:8003");
    stream.until(&mut client, &mut believed, moved).await;
    assert_eq!(believed.accepted[&Kind::Cluster], before[&Kind::Cluster]);
    assert_eq!(believed.accepted[&Kind::Endpoints], before[&Kind::Endpoints] + 1);
}
