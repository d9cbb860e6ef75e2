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
    accept(&mut feed, "billing", &billing("billing.example"));
    assert_eq!(apply(&mut feed), ["billing:80"]);
    assert_eq!(feed.take_sources(), []);
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
