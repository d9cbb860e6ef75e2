use super::*;

fn end(status: Option<u16>, grpc_status: Option<u32>, reason: Option<Reason>) -> Finished {
    Finished {
        status,
        grpc_status,
        reason,
        duration: 1_000_000,
        retries: 0,
    }
}

#[test]
fn failures_are_those_of_servers_and_the_proxy() {
    for (finished, failure) in [
        (end(Some(200), None, None), false),
        (end(Some(404), None, Some(Reason::NoRoute)), false),
        (end(Some(499), None, Some(Reason::ClientClosed)), false),
        (end(Some(500), None, None), true),
        (end(Some(503), None, Some(Reason::Overloaded)), true),
        (end(Some(200), None, Some(Reason::UpstreamIncomplete)), true),
        (end(Some(200), Some(0), None), false),
        (end(Some(200), Some(5), None), false),
        (end(Some(200), Some(14), None), true),
        (end(None, None, None), false),
        (end(None, None, Some(Reason::ConnectRefused)), true),
    ] {
        assert_eq!(finished.is_failure(), failure, "{finished:?}");
    }
}

#[test]
fn a_route_counts_what_began_and_how_it_ended() {
    let stats = RouteStats::default();
    (0..5).for_each(|_| stats.started());
    stats.received(10);
    stats.sent(20);
    stats.finished(&end(Some(200), None, None));
    stats.finished(&end(Some(200), Some(99), Some(Reason::UpstreamIncomplete)));
    stats.finished(&end(Some(404), None, Some(Reason::NoRoute)));
    stats.finished(&Finished {
        retries: 2,
        ..end(Some(200), Some(14), None)
    });

    let mut totals = RouteTotals::default();
    stats.add_to(&mut totals);
    stats.add_to(&mut totals);
    assert_eq!((totals.requests, totals.failures, totals.retries), (10, 4, 4));
    assert_eq!((totals.received, totals.sent), (20, 40));
    assert_eq!(totals.active(), 2);
    assert_eq!(
        totals.responses().collect::<Vec<_>>(),
        [
            (Class::Success, None, 4),
            (Class::Success, Some(Reason::UpstreamIncomplete), 2),
            (Class::ClientError, Some(Reason::NoRoute), 2),
        ]
    );
    assert_eq!(
        totals.grpc_statuses().collect::<Vec<_>>(),
        [(Some(14), 2), (None, 2)]
    );
    assert!(stats.is_busy());
    stats.finished(&end(Some(200), None, None));
    assert!(!stats.is_busy());
}

#[test]
fn a_listener_knows_what_is_open() {
    let stats = ListenerStats::default();
    (0..3).for_each(|_| stats.accepted());
    stats.closed(None);
    stats.closed(Some(Reason::IdleTimeout));
    stats.detected(Protocol::Http2);
    stats.handshake(Handshake::Done(400_000));
    stats.handshake(Handshake::Failed);
    stats.limit_hit(Limit::HeaderBytes);
    let mut totals = ListenerTotals::default();
    stats.add_to(&mut totals);
    assert_eq!(totals.active(), 1);
    assert!(stats.is_busy());
    assert_eq!(totals.detected[Protocol::Http2.index()], 1);
    assert_eq!((totals.tls.count(), totals.tls_failed), (1, 1));
    assert_eq!(
        totals.limits.iter().collect::<Vec<_>>(),
        [(Limit::HeaderBytes, 1)]
    );
    stats.closed(None);
    assert!(!stats.is_busy());
}

#[test]
fn a_cluster_is_busy_while_connections_are_open_or_requests_wait() {
    let stats = ClusterStats::default();
    stats.connected(200_000);
    assert!(stats.is_busy());
    stats.closed(None);
    assert!(!stats.is_busy());
    stats.pending(1);
    assert!(stats.is_busy());
    stats.pending(-1);
    assert!(!stats.is_busy());
    stats.connect_failed(Reason::ConnectRefused);
    assert!(!stats.is_busy());
}
