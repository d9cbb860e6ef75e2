//! Our two halves against each other, and the server's against requests that our client does not send.

use std::time::Instant;

use mesh_model::resources::{Cluster, Endpoints, UpstreamProtocol};

use super::*;
use crate::client::{Client, Event, Form};
use crate::wire::{Node, Status};

/// Clusters of these names, each with its endpoints: none.
pub(super) fn catalogue(clusters: &[&str]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for name in clusters {
        catalogue.put(name, &Cluster::new(*name)).unwrap();
        let endpoints = Endpoints {
            cluster: (*name).to_owned(),
            ..Endpoints::default()
        };
        catalogue.put(name, &endpoints).unwrap();
    }
    catalogue
}

fn asks(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn answer(kind: Kind, nonce: &str, error: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: nonce.into(),
        error_detail: error.map(|message| Status {
            code: 3,
            message: message.into(),
        }),
        ..asks(kind, &[])
    }
}

/// Sends all there is and accepts it: what came, in order.
fn all(stream: &mut DeltaStream, catalogue: &Catalogue) -> Vec<(Kind, Vec<String>, Vec<String>)> {
    let mut seen = Vec::new();
    while let Some(response) = stream.poll_response(catalogue) {
        let kind = Kind::of(&response.type_url).unwrap();
        assert_eq!(stream.poll_response(catalogue), None, "one at a time");
        stream.received(answer(kind, &response.nonce, None)).unwrap();
        let names = response.resources.into_iter().map(|resource| resource.name);
        seen.push((kind, names.collect(), response.removed_resources));
    }
    seen
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_was_asked_for_comes_in_order_and_what_is_gone_goes_in_the_other() {
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Endpoints, &["a", "b"])).unwrap();
    stream.received(asks(Kind::Cluster, &["a", "b"])).unwrap();
    let both = catalogue(&["a", "b", "c"]);
    assert_eq!(
        all(&mut stream, &both),
        [
            (Kind::Cluster, names(&["a", "b"]), vec![]),
            (Kind::Endpoints, names(&["a", "b"]), vec![]),
        ]
    );
    assert_eq!(all(&mut stream, &both), [], "nothing changed, nothing is sent");
    assert_eq!(
        all(&mut stream, &catalogue(&["a"])),
        [
            (Kind::Endpoints, vec![], names(&["b"])),
            (Kind::Cluster, vec![], names(&["b"])),
        ]
    );
}

#[test]
fn only_what_changed_is_sent_and_equal_content_is_no_change() {
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Cluster, &["*"])).unwrap();
    let mut now = catalogue(&["a", "b"]);
    all(&mut stream, &now);
    now.put("a", &Cluster::new("a")).unwrap();
    assert_eq!(all(&mut stream, &now), []);
    let mut changed = Cluster::new("a");
    changed.limits.requests = 7;
    now.put("a", &changed).unwrap();
    assert_eq!(all(&mut stream, &now), [(Kind::Cluster, names(&["a"]), vec![])]);
}

#[test]
fn a_first_request_without_names_asks_for_all_clusters_and_for_no_endpoints() {
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Endpoints, &[])).unwrap();
    stream.received(asks(Kind::Cluster, &[])).unwrap();
    let now = catalogue(&["a", "b"]);
    assert_eq!(
        all(&mut stream, &now),
        [(Kind::Cluster, names(&["a", "b"]), vec![])]
    );
}

#[test]
fn a_name_that_is_not_there_is_said_so_once_and_comes_when_it_is() {
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Cluster, &["late"])).unwrap();
    assert_eq!(
        all(&mut stream, &catalogue(&[])),
        [(Kind::Cluster, vec![], names(&["late"]))]
    );
    assert_eq!(all(&mut stream, &catalogue(&["other"])), []);
    assert_eq!(
        all(&mut stream, &catalogue(&["late"])),
        [(Kind::Cluster, names(&["late"]), vec![])]
    );
    let mut request = asks(Kind::Cluster, &[]);
    request.resource_names_unsubscribe = names(&["late"]);
    stream.received(request).unwrap();
    assert_eq!(all(&mut stream, &catalogue(&[])), [], "nobody wants to know");
}

#[test]
fn a_new_stream_that_says_what_it_has_gets_the_rest() {
    let now = catalogue(&["a", "b"]);
    let version = now.of(Kind::Cluster)["a"].version.clone();
    let mut stream = DeltaStream::default();
    let mut request = asks(Kind::Cluster, &["a", "b", "gone"]);
    request.initial_resource_versions =
        [("a".to_owned(), version), ("gone".to_owned(), "1".to_owned())].into();
    stream.received(request).unwrap();
    assert_eq!(
        all(&mut stream, &now),
        [
            (Kind::Cluster, names(&["b"]), vec![]),
            (Kind::Cluster, vec![], names(&["gone"])),
        ]
    );
}

#[test]
fn a_refusal_is_kept_with_its_reason_until_something_better_is_accepted() {
    let mut now = catalogue(&["a"]);
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Cluster, &["a"])).unwrap();
    let response = stream.poll_response(&now).unwrap();
    stream.received(answer(Kind::Cluster, "stale", None)).unwrap();
    assert_eq!(stream.poll_response(&now), None, "another nonce is no answer");
    stream
        .received(answer(Kind::Cluster, &response.nonce, Some("a: no")))
        .unwrap();
    assert_eq!(stream.poll_response(&now), None, "not sent again as it is");
    let refused: Vec<_> = stream
        .refused()
        .map(|(kind, name, why)| (kind, name, &*why.reason))
        .collect();
    assert_eq!(refused, [(Kind::Cluster, "a", "a: no")]);
    let mut better = Cluster::new("a");
    better.limits.requests = 7;
    now.put("a", &better).unwrap();
    all(&mut stream, &now);
    assert_eq!(stream.refused().count(), 0);
}

#[test]
fn a_refusal_is_of_what_it_names_and_of_all_where_it_names_none() {
    let now = catalogue(&["b", "shop-b"]);
    for (reason, expected) in [
        ("b: no", &["b"][..]),
        ("shop-b: no", &["shop-b"]),
        ("?!", &["b", "shop-b"]),
    ] {
        let mut stream = DeltaStream::default();
        stream.received(asks(Kind::Cluster, &["b", "shop-b"])).unwrap();
        let response = stream.poll_response(&now).unwrap();
        stream
            .received(answer(Kind::Cluster, &response.nonce, Some(reason)))
            .unwrap();
        let refused: Vec<_> = stream.refused().map(|(_, name, _)| name).collect();
        assert_eq!(refused, expected, "{reason}");
    }
}

#[test]
fn large_updates_are_sent_in_parts() {
    let many: Vec<String> = (0..20_000).map(|number| format!("cluster-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let now = catalogue(&many);
    let mut stream = DeltaStream::default();
    stream.received(asks(Kind::Cluster, &["*"])).unwrap();
    let (mut sent, mut parts) = (0, 0);
    while let Some(response) = stream.poll_response(&now) {
        assert!(response.encoded_len() < 2 * RESPONSE_BYTES);
        sent += response.resources.len();
        parts += 1;
        stream
            .received(answer(Kind::Cluster, &response.nonce, None))
            .unwrap();
    }
    assert_eq!(sent, many.len());
    assert!(parts > 1);
}

#[test]
fn more_names_than_anyone_needs_end_the_stream() {
    let many: Vec<String> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
    let mut request = asks(Kind::Cluster, &[]);
    request.resource_names_subscribe = many;
    assert_eq!(DeltaStream::default().received(request), Err(TooManyNames));
}

#[test]
fn what_is_for_one_alone_is_there_while_there_is_nothing_else_by_its_name() {
    let mine = Cluster::new("mine");
    let all_see = catalogue(&["a"]);
    let one_sees = |catalogue: &Catalogue| catalogue.with("mine", &mine).unwrap();
    let (mut stream, mut everything) = (DeltaStream::default(), DeltaStream::default());
    stream.received(asks(Kind::Cluster, &["a", "mine"])).unwrap();
    everything.received(asks(Kind::Cluster, &["*"])).unwrap();
    let told = |came: &[&str], gone: &[&str]| [(Kind::Cluster, names(came), names(gone))];
    assert_eq!(all(&mut stream, &one_sees(&all_see)), told(&["a", "mine"], &[]));
    assert_eq!(all(&mut everything, &one_sees(&all_see)), told(&["a"], &[]));
    assert_eq!(all(&mut stream, &one_sees(&all_see)), [], "nothing has changed");

    let mut by_name = all_see.clone();
    let mut other = Cluster::new("mine");
    other.protocol = UpstreamProtocol::Http2;
    by_name.put("mine", &other).unwrap();
    assert!(by_name.has(Kind::Cluster, "mine") && !one_sees(&all_see).has(Kind::Cluster, "mine"));
    assert_eq!(all(&mut stream, &one_sees(&by_name)), told(&["mine"], &[]));
    assert_eq!(all(&mut stream, &by_name), [], "it was that one");
    assert_eq!(all(&mut stream, &one_sees(&all_see)), told(&["mine"], &[]));
    assert_eq!(all(&mut stream, &all_see), told(&[], &["mine"]));
}

#[test]
fn our_client_gets_on_with_it() {
    let now = Instant::now();
    let (mut client, mut stream) = (Client::new(Node::default()), DeltaStream::default());
    for name in ["a", "ghost"] {
        client.subscribe(Kind::Cluster, name, now);
    }
    client.connected(Form::Delta, now);
    let mut catalogue = catalogue(&["a"]);
    let mut seen = Vec::new();
    let mut talk = |client: &mut Client, catalogue: &Catalogue| {
        loop {
            while let Some(request) = client.poll_request() {
                stream.received(request).unwrap();
            }
            let Some(response) = stream.poll_response(catalogue) else {
                return;
            };
            client.received(response, now, |_, name, _| {
                seen.push(name.to_owned());
                Ok(())
            });
        }
    };
    talk(&mut client, &catalogue);
    assert_eq!(
        client.poll_event(),
        Some(Event::DoesNotExist(Kind::Cluster, "ghost".into()))
    );
    catalogue.remove(Kind::Cluster, "a");
    talk(&mut client, &catalogue);
    assert_eq!(
        client.poll_event(),
        Some(Event::Removed(Kind::Cluster, "a".into()))
    );
    assert_eq!(client.poll_event(), None);
    assert_eq!(seen, ["a"]);
}
