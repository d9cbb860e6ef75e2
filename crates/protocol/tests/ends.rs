//! Do the two sides get on over real sockets, and is everybody else kept out?
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use mesh_identity::{Rejection, TrustBundle};
use mesh_model::resources::Cluster;
use mesh_protocol::message::{FromControl, FromSidecar, Hello, Ready, SignRequest};
use mesh_protocol::{Code, Control, Error, client};
use mesh_xds::kind::Kind;
use mesh_xds::wire::DeltaDiscoveryRequest;
use support::{BASKET, CONTROL, FRONT, OF_ONE, Plane, STRANGERS, id, within};

fn asks(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: Kind::Cluster.type_url().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn a_certificate_then_resources_and_their_changes() {
    let plane = Plane::start().await;
    plane.put(&Cluster::new("a"));
    let mut sidecar = plane.sidecar(BASKET);

    let stranger = sidecar.connect().await.unwrap();
    let mut early = stranger.ads().await.unwrap();
    early.outgoing.send(&asks(&["a"])).await.unwrap();
    let error = within(early.incoming.receive()).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, Code::Unauthenticated, "{error}");
    assert!(
        early.incoming.receive().await.is_err(),
        "asked again, it says the same"
    );

    let csr = sidecar.manager.request().unwrap();
    let wrong = SignRequest {
        csr,
        token: "wrong".into(),
        ..SignRequest::default()
    };
    let error = stranger.sign(wrong).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, Code::PermissionDenied, "{error}");
    sidecar.sign(&stranger).await;

    let control = sidecar.connect().await.unwrap();
    assert_eq!(control.address(), Some(plane.address));
    let mut ads = control.ads().await.unwrap();
    ads.outgoing.send(&asks(&["a"])).await.unwrap();
    let first = within(ads.incoming.receive()).await.unwrap().unwrap();
    assert_eq!(first.resources[0].name, "a");
    let answer = DeltaDiscoveryRequest {
        response_nonce: first.nonce,
        ..asks(&[])
    };
    ads.outgoing.send(&answer).await.unwrap();
    let mut changed = Cluster::new("a");
    changed.limits.requests = 7;
    plane.put(&changed);
    let second = within(ads.incoming.receive()).await.unwrap().unwrap();
    assert_ne!(first.resources[0].version, second.resources[0].version);
}

#[tokio::test]
async fn reports_go_up_and_commands_come_down() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    let control = sidecar.certified().await;
    let mut reports = control.report().await.unwrap();
    let hello = Hello {
        name: "basket-1".into(),
        pid: 250,
        ..Hello::default()
    };
    reports
        .outgoing
        .send(&FromSidecar::Hello(hello).into())
        .await
        .unwrap();
    let down = within(reports.incoming.receive()).await.unwrap().unwrap();
    assert!(matches!(down.message, Some(FromControl::TelemetryInterval(every)) if every.interval_ms == 250));
    reports
        .outgoing
        .send(&FromSidecar::Ready(Ready {}).into())
        .await
        .unwrap();
    reports.outgoing.end().await.unwrap();
    assert!(within(reports.incoming.receive()).await.unwrap().is_none());

    let mut reports = control.report().await.unwrap();
    let hello = Hello {
        name: "x".repeat(300),
        ..Hello::default()
    };
    reports
        .outgoing
        .send(&FromSidecar::Hello(hello).into())
        .await
        .unwrap();
    let error = within(reports.incoming.receive()).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!(
        (status.code, &*status.message),
        (Code::InvalidArgument, "name: too long")
    );
}

#[tokio::test]
async fn messages_of_many_windows_go_both_ways() {
    let plane = Plane::start().await;
    for number in 0..20_000 {
        plane.put(&Cluster::new(format!("cluster-{number}-{}", "x".repeat(100))));
    }
    let mut sidecar = plane.sidecar(BASKET);
    let control = sidecar.certified().await;
    let mut ads = control.ads().await.unwrap();
    let names: Vec<String> = (0..20_000)
        .map(|number| format!("cluster-{number}-{}", "x".repeat(100)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    within(ads.outgoing.send(&asks(&names))).await.unwrap();
    let mut seen = 0;
    while seen < names.len() {
        let response = within(ads.incoming.receive()).await.unwrap().unwrap();
        seen += response.resources.len();
        let answer = DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            ..asks(&[])
        };
        ads.outgoing.send(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    // Somebody of the same mesh who is not the control plane.
    sidecar.control = id(BASKET);
    let error = sidecar.connect().await.unwrap_err();
    assert_eq!(error.rejection(), Some(Rejection::WrongIdentity), "{error}");
    // Another authority of the same name.
    let other = Plane::start().await;
    sidecar.control = id(CONTROL);
    sidecar.tls.set_bundle(other.bundle());
    let error = sidecar.connect().await.unwrap_err();
    assert_eq!(error.rejection(), Some(Rejection::BadSignature), "{error}");
    sidecar
        .tls
        .set_bundle(Arc::new(TrustBundle::empty("mesh.test".parse().unwrap())));
    let error = sidecar.connect().await.unwrap_err();
    assert_eq!(error.rejection(), Some(Rejection::NoTrustBundle), "{error}");

    // A caller with another authority's certificate is told so by TLS, once something is read.
    let mut stranger = other.sidecar(BASKET);
    stranger.certified().await;
    stranger.tls.set_bundle(plane.bundle());
    stranger.addresses = vec![plane.address.to_string()];
    let refused = match stranger.connect().await {
        Err(error) => error,
        Ok(control) => within(control.closed()).await,
    };
    assert_eq!(refused.rejection(), Some(Rejection::RefusedByPeer), "{refused}");
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    sidecar.addresses = vec![dead.clone(), plane.address.to_string()];
    let control = sidecar.connect().await.unwrap();
    assert_eq!(control.address(), Some(plane.address));
    sidecar.addresses = vec![dead.clone()];
    let error = sidecar.connect().await.unwrap_err();
    assert!(
        matches!(&error, Error::Connect { address, .. } if **address == dead),
        "{error}"
    );
    sidecar.addresses.clear();
    assert!(sidecar.connect().await.is_err());
}

#[tokio::test]
async fn a_server_that_closes_says_so_and_one_that_is_back_is_found() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    let control = sidecar.certified().await;
    let mut ads = control.ads().await.unwrap();
    ads.outgoing.send(&asks(&["a"])).await.unwrap();
    within(ads.incoming.receive()).await.unwrap();
    let plane = plane.close().await;
    let error = loop {
        match within(ads.incoming.receive()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.status().unwrap().code, Code::Unavailable, "{error}");
    assert!(matches!(within(control.closed()).await, Error::Closed));
    assert!(control.ads().await.is_err());
    assert!(sidecar.connect().await.is_err());

    let plane = plane.again().await;
    sidecar.addresses = vec![plane.address.to_string()];
    let control = sidecar.connect().await.unwrap();
    let mut ads = control.ads().await.unwrap();
    ads.outgoing.send(&asks(&["a"])).await.unwrap();
    assert!(within(ads.incoming.receive()).await.is_ok());
}

#[tokio::test]
async fn who_has_shown_a_certificate_takes_no_strangers_room() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    let mut known = vec![sidecar.certified().await];
    for _ in 0..2 * STRANGERS {
        known.push(sidecar.connect().await.unwrap());
    }
}

#[tokio::test]
async fn one_identity_keeps_no_other_out() {
    let plane = Plane::start().await;
    let mut thief = plane.sidecar(BASKET);
    let mut held = vec![thief.certified().await];
    while held.len() < OF_ONE {
        held.push(thief.connect().await.unwrap());
    }
    // One is let go before it says anything: the last that was heard, which need not be the last that called.
    if let Ok(control) = thief.connect().await {
        held.push(control);
        let mut closed = tokio::task::JoinSet::new();
        for control in held.clone() {
            closed.spawn(async move { control.closed().await });
        }
        within(closed.join_next()).await;
    }
    let control = plane.sidecar(FRONT).certified().await;
    assert!(control.report().await.is_ok());
}

#[tokio::test]
async fn who_is_dismissed_loses_its_streams() {
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    let control = sidecar.certified().await;
    let mut ads = control.ads().await.unwrap();
    ads.outgoing.send(&asks(&["a"])).await.unwrap();
    within(ads.incoming.receive()).await.unwrap();
    plane.dismiss();
    let error = within(ads.incoming.receive()).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, Code::PermissionDenied, "{error}");
    let mut again = control.report().await.unwrap();
    let error = within(again.incoming.receive()).await.unwrap_err();
    assert_eq!(error.status().unwrap().code, Code::PermissionDenied, "{error}");
}

#[tokio::test]
async fn something_that_is_no_control_plane_is_an_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        drop(socket);
    });
    let plane = Plane::start().await;
    let mut sidecar = plane.sidecar(BASKET);
    sidecar.addresses = vec![address.to_string()];
    let error = sidecar.connect().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. } | Error::Tls(_)), "{error}");
    silent.await.unwrap();

    // Over plain bytes: HTTP/2 that nobody answers.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let control = Control::over(near, client::SERVER_NAME).await.unwrap();
    drop(far);
    assert!(matches!(within(control.closed()).await, Error::Closed));
    let error = tokio::time::timeout(Duration::from_secs(5), control.ads())
        .await
        .unwrap();
    assert!(error.is_err());
}
