//! What is in force while names are looked up?

use super::*;

const SLOW: &str = "slow.example:80";

/// Nobody in the mesh knows it.
fn call_outside(feed: &mut Feed, name: &str) {
    feed.want(name);
    said_outside(feed, name);
}

fn said_outside(feed: &mut Feed, name: &str) {
    for listener in [name, "slow.example:*"] {
        feed.does_not_exist(Kind::Listener, listener, |_| None);
    }
}

fn source(host: &str) -> Discovery {
    let host = host.to_owned();
    Discovery::Dns { host, port: 80 }
}

/// What comes into force now, of names that are called.
fn apply(feed: &mut Feed) -> Vec<String> {
    let tables = feed.resources().unwrap().route_tables.into_iter();
    feed.in_force();
    let named = tables.map(|table| table.name);
    named.filter(|name| !name.starts_with(own::APPLICATION)).collect()
}

#[test]
fn nothing_waits_for_a_name_that_is_looked_up() {
    let mut feed = feed();
    call_outside(&mut feed, SLOW);
    feed.want("basket:80");
    basket(&mut feed, "b");
    assert_eq!(apply(&mut feed), ["basket:80"]);
    assert_eq!(feed.take_answers(), ["basket:80"]);
    assert_eq!(feed.take_sources(), [source("slow.example")]);
    accept(&mut feed, ME, &who_may_call(PolicyDefault::Deny, &[]));
    let resources = feed.resources().unwrap();
    assert_eq!(resources.listeners[0].default_policy, PolicyDefault::Deny);
    assert_eq!(feed.take_sources(), [], "once");
    feed.looked_up(&source("slow.example"));
    assert_eq!(apply(&mut feed), ["basket:80", SLOW]);
    assert_eq!(feed.take_answers(), [SLOW]);
    // All that was said is said again on another connection.
    said_outside(&mut feed, SLOW);
    assert_eq!(apply(&mut feed), ["basket:80", SLOW]);
    assert_eq!(feed.take_sources(), []);
}

#[test]
fn names_of_the_mesh_that_are_looked_up_wait_as_well_and_stay_once_they_are_in_force() {
    let mut feed = feed();
    let billing = |host: &str| Cluster {
        discovery: source(host),
        ..Cluster::new("billing")
    };
    let table = RouteTable {
        name: "billing".into(),
        ..everything_to("billing")
    };
    feed.want("billing:80");
    accept(&mut feed, "billing:80", &listener("billing:80", "billing"));
    accept(&mut feed, "billing", &table);
    accept(&mut feed, "billing", &billing("billing.internal"));
    assert_eq!(apply(&mut feed), [""; 0]);
    assert_eq!(feed.take_sources(), [source("billing.internal")]);
    feed.looked_up(&source("billing.internal"));
    assert_eq!(apply(&mut feed), ["billing:80"]);
    let looked_up_by = |feed: &mut Feed| {
        let mut clusters = feed.resources().unwrap().clusters.into_iter();
        clusters
            .find(|cluster| cluster.name == "billing")
            .unwrap()
            .discovery
    };
    accept(&mut feed, "billing", &billing("billing.example"));
    assert_eq!(apply(&mut feed), ["billing:80"]);
    assert_eq!(looked_up_by(&mut feed), source("billing.internal"), "until then");
    assert_eq!(feed.take_sources(), [source("billing.example")]);
    // Another one meanwhile, which is looked up instead.
    accept(&mut feed, "billing", &billing("billing.test"));
    feed.looked_up(&source("billing.example"));
    assert_eq!(apply(&mut feed), ["billing:80"]);
    assert_eq!(looked_up_by(&mut feed), source("billing.internal"));
    assert_eq!(feed.take_sources(), [source("billing.test")]);
    feed.looked_up(&source("billing.test"));
    assert_eq!(looked_up_by(&mut feed), source("billing.test"));
    assert_eq!(apply(&mut feed), ["billing:80"]);
    assert_eq!(feed.take_sources(), []);
    assert_eq!(looked_up_by(&mut feed), source("billing.test"));
}

#[test]
fn what_was_listed_serves_until_it_is_looked_up_and_not_where_it_is_listed_again() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "b");
    assert_eq!(apply(&mut feed), ["basket:80"]);
    let looked_up = Cluster {
        discovery: source("b.internal"),
        ..Cluster::new("b")
    };
    accept(&mut feed, "b", &looked_up);
    feed.removed(Kind::Endpoints, "b");
    let resources = feed.resources().unwrap();
    assert_eq!(validate(&resources), []);
    assert!(resources.endpoints.contains(&endpoints("b")));
    assert_eq!(feed.take_sources(), [source("b.internal")]);
    // It is taken back.
    accept(&mut feed, "b", &cluster("b"));
    let mut others = endpoints("b");
    others.localities[0].priority = 1;
    accept(&mut feed, "b", &others);
    let resources = feed.resources().unwrap();
    assert!(resources.endpoints.contains(&others) && !resources.endpoints.contains(&endpoints("b")));
    assert_eq!(feed.take_sources(), []);
}

#[test]
fn a_change_that_is_refused_once_it_was_looked_up_is_to_blame() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "b");
    apply(&mut feed);
    let looked_up = Cluster {
        discovery: source("b.internal"),
        ..Cluster::new("b")
    };
    accept(&mut feed, "b", &looked_up);
    apply(&mut feed);
    assert_eq!(feed.take_sources(), [source("b.internal")]);
    feed.looked_up(&source("b.internal"));
    feed.resources().unwrap();
    let left = feed.leave_out(&[], "why");
    assert_eq!(left, [("basket:80".to_owned(), "why".to_owned())]);
}

#[test]
fn a_name_that_was_not_tried_is_not_to_blame() {
    let mut feed = feed();
    call_outside(&mut feed, SLOW);
    feed.resources().unwrap();
    assert_eq!(feed.leave_out(&[], "why"), []);
    assert_eq!(feed.take_sources(), [source("slow.example")]);
    apply(&mut feed);
    feed.looked_up(&source("slow.example"));
    feed.resources().unwrap();
    let left = feed.leave_out(&[], "why");
    assert_eq!(left, [(SLOW.to_owned(), "why".to_owned())], "it is what is new");
}
