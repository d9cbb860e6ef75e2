use super::*;
use crate::wire::DeltaDiscoveryResponse;

const SECOND: Duration = Duration::from_secs(1);

fn client() -> Client {
    Client::new(Node {
        id: "sidecar-1".into(),
        ..Node::default()
    })
}

/// A response that has these resources at these versions, and says that those are gone.
fn response(kind: Kind, nonce: &str, has: &[(&str, &str)], gone: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |(name, version): &(&str, &str)| wire::Resource {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        resource: Some(wire::Any {
            type_url: kind.type_url().into(),
            value: Default::default(),
        }),
    };
    DeltaDiscoveryResponse {
        type_url: kind.type_url().into(),
        nonce: nonce.into(),
        resources: has.iter().map(resource).collect(),
        removed_resources: gone.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn all_good(_: Kind, _: &str, _: &wire::Any) -> Result<(), String> {
    Ok(())
}

fn requests(client: &mut Client) -> Vec<DeltaDiscoveryRequest> {
    std::iter::from_fn(|| client.poll_request()).collect()
}

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

/// A connected client that has these clusters, and nothing left to say.
fn with_clusters(names: &[String], now: Instant) -> Client {
    let mut client = client();
    for name in names {
        assert_eq!(client.subscribe(Kind::Cluster, name, now), Subscribed::Yes);
    }
    client.connected(Form::Delta, now);
    requests(&mut client);
    let has: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    client.received(response(Kind::Cluster, "n", &has, &[]), now, all_good);
    requests(&mut client);
    client
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("c{number}")).collect()
}

#[test]
fn the_first_request_names_the_node_and_only_what_is_wanted_is_asked_for() {
    let now = Instant::now();
    let mut client = client();
    client.connected(Form::Delta, now);
    assert_eq!(
        requests(&mut client),
        [],
        "nothing wanted, nothing asked: it would mean everything"
    );
    client.subscribe(Kind::Endpoints, "api", now);
    client.subscribe(Kind::Cluster, "api", now);
    let sent = requests(&mut client);
    let kinds: Vec<_> = sent.iter().map(|request| Kind::of(&request.type_url)).collect();
    assert_eq!(kinds, [Some(Kind::Cluster), Some(Kind::Endpoints)]);
    assert_eq!(sent[0].node.as_ref().unwrap().id, "sidecar-1");
    assert_eq!(sent[1].node, None);
    assert_eq!(sent[0].resource_names_subscribe, ["api"]);
    client.unsubscribe(Kind::Cluster, "api");
    let sent = requests(&mut client);
    assert_eq!(sent[0].resource_names_unsubscribe, ["api"]);
    assert_eq!(sent.len(), 1);
}

#[test]
fn what_was_not_asked_for_is_neither_taken_nor_answered() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Cluster, "api", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    let never = |_: Kind, _: &str, _: &wire::Any| -> Result<(), String> { panic!("asked about it") };
    client.received(
        response(Kind::Listener, "1", &[("web", "1")], &["other"]),
        now,
        never,
    );
    client.received(
        response(Kind::Cluster, "2", &[("other", "1")], &["third"]),
        now,
        never,
    );
    let sent = requests(&mut client);
    assert_eq!(sent.len(), 1);
    assert_eq!((&*sent[0].response_nonce, &sent[0].error_detail), ("2", &None));
    assert_eq!(events(&mut client), []);
}

#[test]
fn a_nack_names_what_was_bad_and_a_new_stream_is_told_what_was_good() {
    let now = Instant::now();
    let mut client = client();
    for name in ["a", "b", "c"] {
        client.subscribe(Kind::Cluster, name, now);
    }
    client.connected(Form::Delta, now);
    requests(&mut client);
    let refused = client.received(
        response(Kind::Cluster, "1", &[("a", "1"), ("b", "1"), ("c", "1")], &[]),
        now,
        |_, name, _| {
            if name == "b" {
                Err("filters: not known".into())
            } else {
                Ok(())
            }
        },
    );
    let told = vec![(Kind::Cluster, "b".to_owned(), "filters: not known".to_owned())];
    assert_eq!(refused, Refused { told, more: 0 });
    let sent = requests(&mut client);
    assert_eq!(sent[0].response_nonce, "1");
    assert_eq!(
        sent[0].error_detail.as_ref().unwrap().message,
        "b: filters: not known"
    );
    client.received(
        response(Kind::Cluster, "2", &[("a", "2")], &[]),
        now,
        |_, _, _| Err("no".into()),
    );
    assert!(requests(&mut client)[0].error_detail.is_some());

    client.disconnected(0);
    assert_eq!(client.poll_request(), None);
    client.connected(Form::Delta, now + SECOND);
    let sent = requests(&mut client);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].node.is_some());
    assert_eq!(sent[0].response_nonce, "", "nonces end with their stream");
    assert_eq!(sent[0].resource_names_subscribe, ["a", "b", "c"]);
    let versions: Vec<_> = sent[0]
        .initial_resource_versions
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .collect();
    assert_eq!(versions, [("a", "1"), ("c", "1")], "the last good ones");
}

#[test]
fn a_resource_of_another_type_or_without_content_is_refused_unseen() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Cluster, "api", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    for change in [None, Some(wire::Any::default())] {
        let mut bad = response(Kind::Cluster, "1", &[("api", "1")], &[]);
        bad.resources[0].resource = change;
        client.received(bad, now, |_, _, _| panic!("asked about it"));
        assert!(requests(&mut client)[0].error_detail.is_some());
    }
}

#[test]
fn what_is_believed_is_bounded_in_all() {
    let now = Instant::now();
    let mut client = with_clusters(&names(3), now);
    let sized = |nonce: &str, name: &str, bytes: usize| {
        let mut response = response(Kind::Cluster, nonce, &[(name, nonce)], &[]);
        let any = response.resources[0].resource.as_mut().unwrap();
        any.value = vec![0; bytes].into();
        response
    };
    let mut judged = |response| {
        client.received(response, now, all_good);
        let answer = requests(&mut client).remove(0);
        answer.error_detail.map(|status| status.message)
    };
    assert_eq!(judged(sized("2", "c0", MAX_BYTES / 2)), None);
    assert_eq!(judged(sized("3", "c1", MAX_BYTES / 2)), None);
    let refused = judged(sized("4", "c2", 1)).unwrap();
    assert_eq!(refused, "c2: with it 8388609 bytes would be held, 8388608 are");
    assert_eq!(
        judged(sized("5", "c1", 10)),
        None,
        "what takes its place counts alone"
    );
    assert_eq!(judged(response(Kind::Cluster, "6", &[], &["c0"])), None);
    assert_eq!(
        judged(sized("7", "c2", MAX_BYTES - 10)),
        None,
        "what is gone does not"
    );
    let long = "x".repeat(MAX_VERSION + 1);
    let refused = judged(response(Kind::Cluster, "8", &[("c1", &long)], &[]));
    assert_eq!(refused.unwrap(), "c1: its version is too long");
}

#[test]
fn a_name_that_nobody_answers_for_ends_and_is_remembered() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Cluster, "ghost", now);
    assert_eq!(client.deadline(), None, "without a stream nobody can answer");
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Cluster, "0", &[], &[]), now, all_good);
    requests(&mut client);
    let late = now + DOES_NOT_EXIST_AFTER;
    assert_eq!(client.deadline(), Some(late));
    client.tick(late - SECOND, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), []);
    client.tick(late, Silence::IsAnAnswer);
    assert_eq!(
        events(&mut client),
        [Event::DoesNotExist(Kind::Cluster, "ghost".into())]
    );
    assert_eq!(requests(&mut client)[0].resource_names_unsubscribe, ["ghost"]);
    assert_eq!(
        client.subscribe(Kind::Cluster, "ghost", late + SECOND),
        Subscribed::Unknown
    );
    assert_eq!(
        client.subscribe(Kind::Cluster, "ghost", late + REMEMBER_UNKNOWN),
        Subscribed::Yes
    );
    requests(&mut client);
    let again = late + REMEMBER_UNKNOWN;
    client.received(response(Kind::Cluster, "1", &[], &["ghost"]), again, all_good);
    assert_eq!(
        events(&mut client),
        [Event::DoesNotExist(Kind::Cluster, "ghost".into())],
        "a server that says so is not waited for"
    );
}

#[test]
fn a_refused_resource_is_not_unknown() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Cluster, "bad", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(
        response(Kind::Cluster, "1", &[("bad", "1")], &[]),
        now,
        |_, _, _| Err("no".into()),
    );
    assert_eq!(client.deadline(), None);
    client.tick(now + DOES_NOT_EXIST_AFTER * 2, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), []);
}

#[test]
fn names_without_an_answer_are_bounded() {
    let now = Instant::now();
    let mut client = client();
    for name in names(MAX_PENDING) {
        assert_eq!(client.subscribe(Kind::Cluster, &name, now), Subscribed::Yes);
    }
    assert_eq!(
        client.subscribe(Kind::Listener, "one more", now),
        Subscribed::Full
    );
    assert_eq!(
        client.subscribe(Kind::Cluster, "c0", now),
        Subscribed::Yes,
        "it waits already"
    );
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Cluster, "1", &[("c0", "1")], &[]), now, all_good);
    assert_eq!(client.subscribe(Kind::Listener, "one more", now), Subscribed::Yes);
}

#[test]
fn a_removal_is_honoured_and_the_resource_may_come_back() {
    let now = Instant::now();
    let mut client = with_clusters(&names(10), now);
    client.received(response(Kind::Cluster, "2", &[], &["c3"]), now, all_good);
    assert_eq!(events(&mut client), [Event::Removed(Kind::Cluster, "c3".into())]);
    let mut seen = Vec::new();
    client.received(
        response(Kind::Cluster, "3", &[("c3", "2")], &[]),
        now,
        |_, name, _| {
            seen.push(name.to_owned());
            Ok(())
        },
    );
    assert_eq!(seen, ["c3"]);
}

#[test]
fn losing_over_half_of_all_clusters_is_held() {
    let now = Instant::now();
    let mut client = with_clusters(&names(10), now);
    client.received(
        response(Kind::Cluster, "2", &[], &["c0", "c1", "c2"]),
        now,
        all_good,
    );
    assert_eq!(events(&mut client).len(), 3, "a few go at once");
    let soon = now + SECOND;
    let many = ["c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    client.received(response(Kind::Cluster, "3", &[], &many), soon, all_good);
    let until = soon + SECOND * 30;
    assert_eq!(events(&mut client), [held(Kind::Cluster, 7, until)]);
    assert_eq!(client.held(), 7);
    assert_eq!(client.deadline(), Some(until));
    client.received(
        response(Kind::Cluster, "4", &[("c3", "2"), ("c4", "2")], &[]),
        soon,
        all_good,
    );
    client.tick(until - SECOND, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), []);
    client.tick(until, Silence::IsAnAnswer);
    let gone: Vec<_> = many[2..]
        .iter()
        .map(|name| Event::Removed(Kind::Cluster, (*name).into()))
        .collect();
    assert_eq!(events(&mut client), gone, "those that came back stay");
}

fn held(kind: Kind, resources: usize, until: Instant) -> Event {
    Event::Held {
        kind,
        resources,
        until,
    }
}

#[test]
fn what_clusters_are_reached_by_is_held_too() {
    let now = Instant::now();
    let mut client = client();
    let names = names(10);
    for name in &names {
        client.subscribe(Kind::Endpoints, name, now);
    }
    client.connected(Form::Delta, now);
    requests(&mut client);
    let has: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let gone: Vec<&str> = names.iter().map(String::as_str).collect();
    client.received(response(Kind::Endpoints, "1", &has, &[]), now, all_good);
    client.received(response(Kind::Endpoints, "2", &[], &gone), now, all_good);
    let until = now + SECOND * 30;
    assert_eq!(events(&mut client), [held(Kind::Endpoints, 10, until)]);
    client.tick(until, Silence::IsAnAnswer);
    assert_eq!((events(&mut client).len(), client.held()), (10, 0));
}

#[test]
fn who_says_nothing_at_all_has_not_said_that_a_name_is_unknown() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Listener, "basket", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    let late = now + DOES_NOT_EXIST_AFTER;
    client.tick(late, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), []);
    let later = late + DOES_NOT_EXIST_AFTER;
    assert_eq!(client.deadline(), Some(later));
    client.received(response(Kind::Listener, "1", &[], &[]), late, all_good);
    client.tick(later, Silence::IsAnAnswer);
    let unknown = Event::DoesNotExist(Kind::Listener, "basket".into());
    assert_eq!(events(&mut client), [unknown]);
}

#[test]
fn who_says_of_every_name_whether_it_is_there_has_not_by_saying_nothing() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe(Kind::Listener, "basket", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Listener, "1", &[], &[]), now, all_good);
    let late = now + DOES_NOT_EXIST_AFTER;
    client.tick(late, Silence::IsNone);
    assert_eq!(events(&mut client), []);
    let later = late + DOES_NOT_EXIST_AFTER;
    assert_eq!(client.deadline(), Some(later), "it is waited for further on");
    client.received(response(Kind::Listener, "2", &[], &["basket"]), late, all_good);
    let unknown = Event::DoesNotExist(Kind::Listener, "basket".into());
    assert_eq!(events(&mut client), [unknown]);
}

#[test]
fn waits_between_streams_grow_until_something_is_heard() {
    let now = Instant::now();
    let mut client = with_clusters(&names(1), now);
    assert_eq!(client.disconnected(u32::MAX), SECOND);
    client.connected(Form::Delta, now);
    assert_eq!(
        client.disconnected(u32::MAX),
        SECOND * 2,
        "an open stream alone proves nothing"
    );
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Cluster, "1", &[], &[]), now, all_good);
    assert_eq!(client.disconnected(u32::MAX), SECOND);
    client.connected(Form::Delta, now);
    client.left();
    assert_eq!(requests(&mut client), []);
    client.connected(Form::Delta, now);
    assert_eq!(
        client.disconnected(u32::MAX),
        SECOND * 2,
        "to leave one for another is no failure"
    );
    client.connected(Form::Delta, now);
    client.heard();
    assert_eq!(
        client.disconnected(u32::MAX),
        SECOND,
        "versions are as they were, and nothing is said of resources"
    );
}

#[test]
fn a_lasting_wish_hears_of_what_comes_to_be() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe_lasting(Kind::Listener, "me", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Listener, "1", &[], &["me"]), now, all_good);
    let unknown = Event::DoesNotExist(Kind::Listener, "me".into());
    assert_eq!(events(&mut client), [unknown]);
    assert!(
        requests(&mut client)
            .iter()
            .all(|request| request.resource_names_unsubscribe.is_empty()),
        "it is still wanted"
    );
    let mut taken = 0;
    client.received(
        response(Kind::Listener, "2", &[("me", "1")], &[]),
        now,
        |_, _, _| {
            taken += 1;
            Ok(())
        },
    );
    assert_eq!(taken, 1);
}

#[test]
fn silence_is_no_answer_where_absence_means_something() {
    let now = Instant::now();
    let mut client = client();
    client.subscribe_until_said(Kind::Listener, "me", now);
    client.subscribe(Kind::Listener, "basket", now);
    client.connected(Form::Delta, now);
    requests(&mut client);
    client.received(response(Kind::Cluster, "1", &[], &[]), now, all_good);
    client.received(response(Kind::Listener, "1", &[], &[]), now, all_good);
    let unsaid = Event::Unsaid(Kind::Listener, "me".into());
    let late = now + DOES_NOT_EXIST_AFTER;
    client.tick(late, Silence::IsAnAnswer);
    let unknown = Event::DoesNotExist(Kind::Listener, "basket".into());
    assert_eq!(events(&mut client), [unknown, unsaid.clone()]);
    client.tick(late + SECOND, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), [], "told once in a while");
    let later = late + DOES_NOT_EXIST_AFTER;
    assert_eq!(client.deadline(), Some(later));
    client.tick(later, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), std::slice::from_ref(&unsaid));
    let _ = client.disconnected(0);
    client.connected(Form::Delta, later);
    requests(&mut client);
    let last = later + DOES_NOT_EXIST_AFTER;
    client.tick(last, Silence::IsAnAnswer);
    assert_eq!(
        events(&mut client),
        [unsaid],
        "nor is it where nothing is said at all"
    );
    client.received(response(Kind::Listener, "2", &[], &["me"]), last, all_good);
    let unknown = Event::DoesNotExist(Kind::Listener, "me".into());
    assert_eq!(events(&mut client), [unknown]);
    client.tick(last + DOES_NOT_EXIST_AFTER * 2, Silence::IsAnAnswer);
    assert_eq!(events(&mut client), [], "that was said");
}
