//! What is in force when something of all that is known can't be?

use std::collections::BTreeSet;

use mesh_model::issue::{Issue, IssueCode, PathStep};

use super::*;

/// Makes a name whole, by a table and a cluster of its own.
fn name(feed: &mut Feed, host: &str) -> String {
    let name = format!("{host}:80");
    feed.want(&name);
    accept(feed, &name, &listener(&name, host));
    let table = RouteTable {
        name: host.into(),
        ..everything_to(host)
    };
    accept(feed, host, &table);
    accept(feed, host, &cluster(host));
    accept(feed, host, &endpoints(host));
    name
}

fn issue(path: Vec<PathStep>) -> Issue {
    Issue {
        path,
        code: IssueCode::BadValue,
        message: "bad".into(),
        expected: None,
        position: None,
    }
}

/// What of these resources is refused where these clusters are no good.
fn refusal(resources: &Resources, bad: &BTreeSet<String>) -> Vec<Issue> {
    let clusters = resources.clusters.iter().enumerate();
    let bad = clusters.filter(|(_, cluster)| bad.contains(&cluster.name));
    bad.map(|(at, _)| {
        issue(vec![
            PathStep::Key("clusters".into()),
            PathStep::Index(at),
            PathStep::Key("tls".into()),
        ])
    })
    .collect()
}

/// Tries until something is in force. What is, of names that are called.
fn serve(feed: &mut Feed, bad: &[&str]) -> Vec<String> {
    let bad = bad.iter().map(|name| (*name).to_owned()).collect();
    loop {
        let resources = feed.resources().unwrap();
        let issues = refusal(&resources, &bad);
        if issues.is_empty() {
            feed.in_force();
            let tables = resources.route_tables.into_iter().map(|table| table.name);
            return tables
                .filter(|name| !name.starts_with(own::APPLICATION))
                .collect();
        }
        assert_ne!(feed.leave_out(&issues, "refused"), [], "it is tried for ever");
    }
}

fn left_out(feed: &Feed) -> Vec<(&str, &str)> {
    feed.left_out().collect()
}

#[test]
fn one_name_keeps_out_no_other_and_no_policy() {
    let mut feed = feed();
    for host in ["a", "b", "c"] {
        name(&mut feed, host);
    }
    assert_eq!(serve(&mut feed, &["b"]), ["a:80", "c:80"]);
    assert_eq!(left_out(&feed), [("b:80", "cluster b: tls: bad")]);
    assert_eq!(feed.take_answers(), ["a:80", "c:80"]);
    assert_eq!(feed.take_unusable(|_, _| false), ["b:80"]);
    accept(&mut feed, ME, &who_may_call(PolicyDefault::Deny, &[]));
    let resources = feed.resources().unwrap();
    assert_eq!(resources.listeners[0].default_policy, PolicyDefault::Deny);
    assert_eq!(refusal(&resources, &BTreeSet::from(["b".to_owned()])), []);
    feed.want("b:80");
    assert_eq!(
        feed.take_unusable(|_, _| false),
        ["b:80"],
        "as often as it is asked for"
    );
}

#[test]
fn a_name_that_is_left_out_is_tried_again_when_something_of_it_changes() {
    let mut feed = feed();
    name(&mut feed, "a");
    name(&mut feed, "b");
    assert_eq!(serve(&mut feed, &["b"]), ["a:80"]);
    // The same once more is no change.
    accept(&mut feed, "b", &cluster("b"));
    name(&mut feed, "c");
    assert_eq!(serve(&mut feed, &[]), ["a:80", "c:80"]);
    let mut other = cluster("b");
    other.protocol = UpstreamProtocol::Http2;
    accept(&mut feed, "b", &other);
    assert_eq!(serve(&mut feed, &["b"]), ["a:80", "c:80"]);
    accept(&mut feed, "b", &cluster("b"));
    assert_eq!(serve(&mut feed, &[]), ["a:80", "b:80", "c:80"]);
    assert_eq!(left_out(&feed), []);
}

#[test]
fn what_changed_while_it_was_tried_is_tried_again_rather_than_left_out() {
    let mut feed = feed();
    name(&mut feed, "a");
    let resources = feed.resources().unwrap();
    let issues = refusal(&resources, &BTreeSet::from(["a".to_owned()]));
    let mut mended = cluster("a");
    mended.protocol = UpstreamProtocol::Http2;
    accept(&mut feed, "a", &mended);
    assert_eq!(feed.leave_out(&issues, "refused"), []);
    assert_eq!(serve(&mut feed, &[]), ["a:80"]);
}

#[test]
fn where_nothing_says_what_is_to_blame_it_is_what_is_new() {
    let mut feed = feed();
    name(&mut feed, "a");
    assert_eq!(serve(&mut feed, &[]), ["a:80"]);
    name(&mut feed, "b");
    for issues in [Vec::new(), vec![issue(Vec::new())]] {
        let mut other = endpoints("b");
        other.localities[0].weight += 1 + issues.len() as u32;
        accept(&mut feed, "b", &other);
        feed.resources().unwrap();
        let left = feed.leave_out(&issues, "why");
        assert_eq!(left, [("b:80".to_owned(), "why".to_owned())]);
        assert_eq!(feed.leave_out(&issues, "why"), [], "nothing else is new");
        assert_eq!(serve(&mut feed, &[]), ["a:80"]);
    }
}

#[test]
fn no_name_is_left_out_for_what_the_sidecar_does_by_itself() {
    let mut feed = feed();
    name(&mut feed, "a");
    // The first table and cluster are those of its application.
    for kind in ["listeners", "policies", "routeTables", "clusters", "endpoints"] {
        feed.resources().unwrap();
        let issue = issue(vec![PathStep::Key(kind.into()), PathStep::Index(0)]);
        assert_eq!(feed.leave_out(&[issue], "why"), []);
    }
    assert_eq!(serve(&mut feed, &[]), ["a:80"]);
}

#[test]
fn names_outside_the_mesh_are_left_out_as_well() {
    let mut feed = feed();
    name(&mut feed, "a");
    feed.want("10.0.0.9:80");
    unknown(&mut feed, "10.0.0.9:80");
    assert_eq!(serve(&mut feed, &["10.0.0.9:80"]), ["a:80"]);
    assert_eq!(
        left_out(&feed),
        [("10.0.0.9:80", "cluster 10.0.0.9:80: tls: bad")]
    );
}

#[test]
fn whatever_is_bad_the_rest_is_in_force() {
    let hosts = ["a", "b", "c", "d", "e"];
    for bits in 0..1_u32 << hosts.len() {
        let mut feed = feed();
        let (bad, good): (Vec<_>, Vec<_>) = hosts
            .iter()
            .enumerate()
            .partition(|(at, _)| bits & (1 << at) != 0);
        let of =
            |these: Vec<(usize, &&'static str)>| these.into_iter().map(|(_, host)| *host).collect::<Vec<_>>();
        let (bad, good) = (of(bad), of(good));
        for host in hosts {
            name(&mut feed, host);
        }
        let expected: Vec<_> = good.iter().map(|host| format!("{host}:80")).collect();
        assert_eq!(serve(&mut feed, &bad), expected);
        assert_eq!(left_out(&feed).len(), bad.len());
    }
}
