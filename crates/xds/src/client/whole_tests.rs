//! Is a state of the world believed, held and forgotten as changes are?

use std::collections::BTreeMap;

use super::*;
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};

const SECOND: Duration = Duration::from_secs(1);

fn connected(kind: Kind, names: &[&str], form: Form, now: Instant) -> Client {
    let mut client = Client::new(Node {
        id: "sidecar-1".into(),
        ..Node::default()
    });
    for name in names {
        client.subscribe(kind, name, now);
    }
    client.connected(form, now);
    client
}

/// What begins as all kinds do, with its name.
fn any(kind: Kind, name: &str, rest: &str) -> wire::Any {
    let message = wire::Status {
        code: 0,
        message: rest.to_owned(),
    };
    let mut value = vec![0x0a, name.len() as u8];
    value.extend(name.as_bytes());
    value.extend(prost::Message::encode_to_vec(&message));
    wire::Any {
        type_url: kind.type_url().into(),
        value: value.into(),
    }
}

fn state(kind: Kind, version: &str, names: &[&str]) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.into(),
        resources: names.iter().map(|name| any(kind, name, version)).collect(),
        type_url: kind.type_url().into(),
        nonce: format!("nonce {version}"),
    }
}

fn all_good(_: Kind, _: &str, _: &wire::Any) -> Result<(), String> {
    Ok(())
}

fn requests(client: &mut Client) -> Vec<DiscoveryRequest> {
    std::iter::from_fn(|| client.poll_whole_request()).collect()
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

#[test]
fn each_request_says_all_names_and_answers_what_came_last() {
    let now = Instant::now();
    let mut client = connected(Kind::Cluster, &["a", "b"], Form::StateOfTheWorld, now);
    assert_eq!(client.poll_request(), None, "no request of the other form");
    let sent = requests(&mut client);
    assert_eq!(
        (sent.len(), &sent[0].resource_names[..]),
        (1, &["a".to_owned(), "b".to_owned()][..])
    );
    assert_eq!((&*sent[0].version_info, &*sent[0].response_nonce), ("", ""));
    assert_eq!(sent[0].node.as_ref().unwrap().id, "sidecar-1");

    client.received(state(Kind::Cluster, "1", &["a", "b"]), now, all_good);
    let sent = requests(&mut client);
    assert_eq!(
        (&*sent[0].version_info, &*sent[0].response_nonce),
        ("1", "nonce 1")
    );
    assert_eq!(sent[0].node, None);

    client.subscribe(Kind::Cluster, "c", now);
    client.unsubscribe(Kind::Cluster, "a");
    let sent = requests(&mut client);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].resource_names, ["b", "c"]);
    assert_eq!(
        (&*sent[0].version_info, &*sent[0].response_nonce),
        ("1", "nonce 1")
    );

    client.unsubscribe(Kind::Cluster, "c");
    client.subscribe(Kind::Cluster, "c", now);
    let names = requests(&mut client)
        .into_iter()
        .map(|sent| sent.resource_names.join(" "));
    assert_eq!(names.collect::<Vec<_>>(), ["b", "b c"], "it is to be sent again");

    client.unsubscribe(Kind::Cluster, "b");
    client.unsubscribe(Kind::Cluster, "c");
    assert!(
        requests(&mut client)[0].resource_names.is_empty(),
        "it was asked by name before"
    );
}

#[test]
fn a_nack_says_the_last_good_version_and_a_new_stream_does_too() {
    let now = Instant::now();
    let mut client = connected(Kind::Cluster, &["a", "b"], Form::StateOfTheWorld, now);
    requests(&mut client);
    client.received(state(Kind::Cluster, "1", &["a", "b"]), now, all_good);
    requests(&mut client);
    let mut taken = Vec::new();
    let refused = client.received(state(Kind::Cluster, "2", &["a", "b"]), now, |_, name, _| {
        taken.push(name.to_owned());
        (name != "a").then_some(()).ok_or("no".into())
    });
    assert_eq!(taken, ["a", "b"], "the good one counts");
    assert_eq!(refused.told, [(Kind::Cluster, "a".into(), "no".into())]);
    let sent = requests(&mut client);
    assert_eq!(
        (&*sent[0].version_info, &*sent[0].response_nonce),
        ("1", "nonce 2")
    );
    assert_eq!(sent[0].error_detail.as_ref().unwrap().message, "a: no");

    client.disconnected(0);
    client.connected(Form::StateOfTheWorld, now);
    let sent = requests(&mut client);
    assert_eq!((&*sent[0].version_info, &*sent[0].response_nonce), ("1", ""));
    client.disconnected(0);
    client.connected(Form::Delta, now);
    let sent = client.poll_request().unwrap();
    let versions: Vec<_> = sent.initial_resource_versions.into_iter().collect();
    assert_eq!(
        versions,
        ["a", "b"].map(|name| (name.to_owned(), String::new())),
        "a version of a state is none of its resources"
    );
    client.disconnected(0);
    client.connected(Form::StateOfTheWorld, now);
    assert_eq!(
        requests(&mut client)[0].version_info,
        "",
        "changes may have come meanwhile"
    );
}

#[test]
fn a_state_that_is_said_again_though_it_was_refused_is_answered_later() {
    let now = Instant::now();
    let mut client = connected(Kind::Cluster, &["a"], Form::StateOfTheWorld, now);
    requests(&mut client);
    let refuse = |client: &mut Client, version: &str, at: Instant| {
        let refused = client.received(state(Kind::Cluster, version, &["a"]), at, |_, _, _| {
            Err("no".into())
        });
        refused.told.len()
    };
    assert_eq!(refuse(&mut client, "1", now), 1);
    assert_eq!(requests(&mut client).len(), 1);
    assert_eq!(refuse(&mut client, "1", now), 0, "it was told already");
    assert_eq!(requests(&mut client), []);
    let later = now + ANSWER_AGAIN;
    assert_eq!(client.deadline(), Some(later));
    client.tick(later, Silence::IsAnAnswer);
    assert_eq!(
        requests(&mut client)[0].error_detail.as_ref().unwrap().message,
        "a: no"
    );

    assert_eq!(refuse(&mut client, "1", later), 0);
    client.subscribe(Kind::Cluster, "b", later);
    let sent = requests(&mut client);
    assert_eq!(
        (sent.len(), sent[0].resource_names.len()),
        (1, 2),
        "names wait for nothing"
    );
    assert!(sent[0].error_detail.is_some());
    assert_eq!(
        refuse(&mut client, "2", later),
        1,
        "another state is another matter"
    );
    assert_eq!(requests(&mut client).len(), 1);
}

#[test]
fn what_a_state_lacks_is_gone_if_it_was_there_and_its_kind_says_so() {
    let now = Instant::now();
    for (kind, gone) in [
        (Kind::Listener, 1),
        (Kind::Cluster, 1),
        (Kind::Endpoints, 0),
        (Kind::RouteTable, 0),
    ] {
        let mut client = connected(kind, &["a", "b", "c"], Form::StateOfTheWorld, now);
        requests(&mut client);
        client.received(state(kind, "1", &["a", "b"]), now, all_good);
        client.received(state(kind, "2", &["a"]), now, all_good);
        assert_eq!(events(&mut client).len(), gone, "{kind:?}");
        requests(&mut client);
        // `c` was never there: the response may have been on its way when it was asked for.
        client.tick(now + DOES_NOT_EXIST_AFTER, Silence::IsAnAnswer);
        assert_eq!(events(&mut client), [Event::DoesNotExist(kind, "c".into())]);
        assert!(!requests(&mut client)[0].resource_names.contains(&"c".to_owned()));
    }
}

#[test]
fn a_state_that_can_not_be_read_whole_removes_nothing() {
    let now = Instant::now();
    let mut client = connected(Kind::Cluster, &["a", "b"], Form::StateOfTheWorld, now);
    requests(&mut client);
    client.received(state(Kind::Cluster, "1", &["a", "b"]), now, all_good);
    requests(&mut client);
    let mut broken = state(Kind::Cluster, "2", &["a"]);
    broken.resources.push(wire::Any {
        type_url: Kind::Cluster.type_url().into(),
        value: vec![0x0a, 0x7f].into(),
    });
    client.received(broken, now, all_good);
    assert_eq!(events(&mut client), []);
    let sent = requests(&mut client);
    let reason = &sent[0].error_detail.as_ref().unwrap().message;
    assert!(reason.starts_with("resources[1]: not readable"), "{reason}");
    let long = "x".repeat(MAX_VERSION + 1);
    client.received(state(Kind::Cluster, &long, &[]), now, all_good);
    assert_eq!(events(&mut client), []);
    let sent = requests(&mut client);
    assert_eq!(
        sent[0].error_detail.as_ref().unwrap().message,
        "version_info: is too long"
    );
    assert_eq!(sent[0].version_info, "1");
}

/// What a client believes, as a caller keeps it.
#[derive(Default, PartialEq, Debug)]
struct Believed {
    resources: BTreeMap<String, wire::Any>,
    events: Vec<Event>,
}

impl Believed {
    fn hears(&mut self, client: &mut Client, response: impl Into<Response>, now: Instant) {
        client.received(response, now, |_, name, any| {
            self.resources.insert(name.to_owned(), any.clone());
            Ok(())
        });
        self.keeps(client);
    }

    fn keeps(&mut self, client: &mut Client) {
        for event in events(client) {
            if let Event::Removed(_, name) = &event {
                self.resources.remove(name);
            }
            self.events.push(event);
        }
    }
}

#[test]
fn both_forms_tell_the_same_story() {
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    for seed in 1_u64..200 {
        let mut random = seed;
        let mut chance = |of: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % of
        };
        let mut now = Instant::now();
        let mut by_changes = connected(Kind::Cluster, &borrowed, Form::Delta, now);
        let mut by_states = connected(Kind::Cluster, &borrowed, Form::StateOfTheWorld, now);
        by_changes.poll_request();
        requests(&mut by_states);
        let (mut one, mut other) = (Believed::default(), Believed::default());
        let mut there: BTreeMap<&str, u64> = borrowed.iter().map(|name| (*name, 0)).collect();
        let mut told: BTreeMap<&str, u64> = BTreeMap::new();
        for step in 0..40 {
            let is_new = |(name, version): &(&&str, &u64)| told.get(**name) != Some(*version);
            let resource = |(name, version): (&&str, &u64)| wire::Resource {
                name: (*name).to_owned(),
                version: version.to_string(),
                resource: Some(any(Kind::Cluster, name, &version.to_string())),
            };
            let changes = DeltaDiscoveryResponse {
                type_url: Kind::Cluster.type_url().into(),
                nonce: step.to_string(),
                resources: there.iter().filter(is_new).map(resource).collect(),
                removed_resources: told
                    .keys()
                    .filter(|name| !there.contains_key(*name))
                    .map(|name| (*name).to_owned())
                    .collect(),
                ..DeltaDiscoveryResponse::default()
            };
            let all = there.iter().map(resource).filter_map(|each| each.resource);
            let state = DiscoveryResponse {
                version_info: step.to_string(),
                resources: all.collect(),
                type_url: Kind::Cluster.type_url().into(),
                nonce: step.to_string(),
            };
            one.hears(&mut by_changes, changes, now);
            other.hears(&mut by_states, state, now);
            now += SECOND * chance(20) as u32;
            by_changes.tick(now, Silence::IsAnAnswer);
            by_states.tick(now, Silence::IsAnAnswer);
            one.keeps(&mut by_changes);
            other.keeps(&mut by_states);
            assert_eq!(one, other, "seed {seed}, step {step}");
            assert_eq!(by_changes.held(), by_states.held());
            told.clone_from(&there);
            for name in &borrowed {
                match chance(6) {
                    0 => drop(there.remove(name)),
                    1 | 2 => drop(there.insert(name, step + 1)),
                    _ => {}
                }
            }
        }
        assert!(one.events.iter().any(|event| matches!(event, Event::Removed(..))));
    }
}
