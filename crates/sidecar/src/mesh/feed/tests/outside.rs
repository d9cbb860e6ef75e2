//! What is called outside the mesh, and what never is?

use std::cell::Cell;

use super::super::super::settings::Reach;
use super::super::outside::{DECLARED_WITHIN, MAX_EGRESS};
use super::*;

#[test]
fn names_outside_the_mesh_are_looked_up_unless_only_services_may_be_called() {
    let mut feed = feed();
    for name in ["example.test:443", "10.0.0.9:80"] {
        feed.want(name);
        assert!(feed.is_kept(name));
        assert_eq!(unknown(&mut feed, name), Answer::Later);
    }
    assert_eq!(tables(&mut feed), ["10.0.0.9:80", "example.test:443"]);
    assert_eq!(wishes(&feed), ["10.0.0.9:80", "example.test:443"]);
    let mut known = Feed::new(Workload {
        egress: Reach::Known,
        ..workload()
    });
    known.want("example.test:443");
    assert!(!known.is_kept("example.test:443"));
    assert_eq!(unknown(&mut known, "example.test:443"), Answer::Unknown);
    assert_eq!(wishes(&known), [""; 0]);
}

#[test]
fn nothing_is_made_of_names_that_nothing_can_be_connected_to() {
    let long_label = format!("{}.test:80", "a".repeat(64));
    let long_name = format!("{}test:80", "a.".repeat(125));
    for name in [
        "api.v1.2:80",
        "host:0",
        "10.0.0.1:0",
        "[::1]:0",
        "0.0.0.0:80",
        "[::]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "127.1:80",
        "0x7f.1:80",
        "2130706433:80",
        "1:80",
        "a.123:80",
        "-a.test:80",
        "a-.test:80",
        &long_label,
        &long_name,
    ] {
        let mut feed = feed();
        feed.want(name);
        assert!(!feed.is_kept(name), "{name}");
        assert_eq!(unknown(&mut feed, name), Answer::Unknown, "{name}");
        assert_eq!(
            (tables(&mut feed), wishes(&feed)),
            (Vec::new(), Vec::new()),
            "{name}"
        );
    }
    for name in [
        "a_b.test:80",
        "a.1b:80",
        "xn--a.test:65535",
        "255.255.255.255:1",
        "[fe80::1]:80",
    ] {
        let mut feed = feed();
        feed.want(name);
        assert_eq!(unknown(&mut feed, name), Answer::Later, "{name}");
        assert_eq!(tables(&mut feed), [name]);
    }
}

#[test]
fn an_address_that_the_control_plane_has_a_cluster_for_is_called_both_ways() {
    let address = "10.0.0.9:80";
    for outside_first in [true, false] {
        let mut feed = feed();
        let call = |feed: &mut Feed| {
            feed.want(address);
            assert_eq!(unknown(feed, address), Answer::Later);
        };
        if outside_first {
            call(&mut feed);
            assert_eq!(tables(&mut feed), [address]);
            assert_eq!(feed.in_use(), BTreeSet::from([address]));
        }
        feed.want("basket:80");
        basket(&mut feed, address);
        if !outside_first {
            call(&mut feed);
        }
        assert_eq!(tables(&mut feed), [address, "basket:80"]);
        let resources = feed.resources().unwrap();
        let to = |name: &str| {
            let mut tables = resources.route_tables.iter();
            let table = tables.find(|table| table.name == name).unwrap();
            clusters_of(table).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            (to("basket:80"), to(address)),
            (vec![address.to_owned()], vec!["outside/10.0.0.9:80".to_owned()])
        );
        let workload = |name: &str| {
            let mut clusters = resources.clusters.iter();
            clusters
                .find(|cluster| cluster.name == name)
                .unwrap()
                .workload
                .is_some()
        };
        assert!(workload(address) && !workload("outside/10.0.0.9:80"));
        assert_eq!(feed.in_use(), BTreeSet::from([address, "outside/10.0.0.9:80"]));
        feed.removed(Kind::Listener, "basket:80");
        assert_eq!(tables(&mut feed), [address]);
        assert_eq!(feed.in_use(), BTreeSet::from([address]));
    }
}

#[test]
fn no_cluster_of_the_control_plane_stands_for_one_of_the_sidecars_own() {
    let mut feed = feed();
    for name in ["application/3000", "outside/10.0.0.9:80"] {
        let any = cluster(name).to_any().unwrap();
        let refused = feed.accept(Kind::Cluster, name, &any).unwrap_err();
        assert_eq!(refused, "clusters of this sidecar are called so");
    }
}

#[test]
fn names_below_the_trust_domain_never_leave_the_mesh() {
    let mut feed = feed();
    for (name, answer) in [
        ("basket.shop.mesh.test:80", Answer::Unknown),
        ("basket.mesh.test.:80", Answer::Unknown),
        ("mesh.test:80", Answer::Later),
        ("intermesh.test:80", Answer::Later),
        ("mesh.test.example:80", Answer::Later),
    ] {
        feed.want(name);
        assert_eq!(feed.is_kept(name), answer == Answer::Later, "{name}");
        assert_eq!(unknown(&mut feed, name), answer, "{name}");
    }
    let name = "basket.shop.mesh.test:80";
    feed.want(name);
    accept(&mut feed, name, &listener(name, "basket"));
    basket(&mut feed, "b");
    assert!(tables(&mut feed).contains(&name.to_owned()));
}

#[test]
fn a_name_that_comes_to_be_known_is_not_called_outside_the_mesh_from_then_on() {
    let mut feed = feed();
    feed.want("basket:80");
    unknown(&mut feed, "basket:80");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(feed.take_answers(), ["basket:80"]);
    accept(&mut feed, "basket:80", &listener("basket:80", "basket"));
    assert_eq!(tables(&mut feed), [""; 0], "calls wait for the rest");
    assert_eq!(wishes(&feed), ["basket:80", "basket"]);
    feed.want("basket:80");
    basket(&mut feed, "b");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(feed.in_use(), BTreeSet::from(["b"]));
    assert_eq!(feed.take_answers(), ["basket:80"]);
}

#[test]
fn a_name_that_comes_to_be_known_with_its_host_is_called_whichever_is_said_first() {
    for host_first in [true, false] {
        let mut feed = feed();
        feed.want("basket:80");
        assert_eq!(said(&mut feed, "basket:80", false, true), []);
        assert_eq!(tables(&mut feed), ["basket:80"]);
        assert_eq!(feed.take_answers(), ["basket:80"]);
        for of_host in [host_first, !host_first] {
            match of_host {
                true => accept(&mut feed, HOST, &listener(HOST, "basket")),
                false => accept(&mut feed, "basket:80", &listener("basket:80", "basket")),
            }
        }
        assert_eq!(feed.take_undeclared(Instant::now()), [""; 0], "{host_first}");
        assert_eq!(tables(&mut feed), [""; 0], "calls wait for the rest");
        feed.want("basket:80");
        basket(&mut feed, "b");
        assert_eq!(tables(&mut feed), ["basket:80"]);
        assert_eq!(feed.take_answers(), ["basket:80"]);
        assert_eq!(feed.take_undeclared(Instant::now()), [""; 0]);
    }
}

#[test]
fn a_name_whose_listener_is_refused_is_of_the_mesh_all_the_same() {
    let mut feed = feed();
    feed.want("basket:80");
    unknown(&mut feed, "basket:80");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    let any = cluster("basket:80").to_any().unwrap();
    assert!(feed.accept(Kind::Listener, "basket:80", &any).is_err());
    assert_eq!(tables(&mut feed), [""; 0]);
}

const HOST: &str = "basket:*";

/// What is said of a name once all is said, in this order.
fn said(feed: &mut Feed, name: &str, is_of_the_mesh: bool, host_first: bool) -> Vec<Answer> {
    let mut answers = Vec::new();
    for of_host in [host_first, !host_first] {
        match of_host {
            true if is_of_the_mesh => accept(feed, HOST, &listener(HOST, "basket")),
            true => answers.extend(feed.does_not_exist(Kind::Listener, HOST, |_| None)),
            false => answers.extend(feed.does_not_exist(Kind::Listener, name, |_| None)),
        }
    }
    answers.extend(
        feed.take_undeclared(Instant::now())
            .into_iter()
            .map(|name| (name, Answer::Undeclared)),
    );
    assert!(answers.iter().all(|(of, _)| of == name));
    let told = answers.into_iter().map(|(_, answer)| answer);
    told.filter(|answer| *answer != Answer::Later).collect()
}

#[test]
fn a_port_that_a_host_of_the_mesh_does_not_declare_is_never_called_outside() {
    for host_first in [true, false] {
        let mut feed = feed();
        feed.want("basket:30011");
        assert_eq!(hosts(&feed), [HOST], "asked about at once");
        assert!(feed.is_kept(HOST));
        let told = said(&mut feed, "basket:30011", true, host_first);
        assert_eq!(told, [Answer::Undeclared], "{host_first}");
        assert_eq!(tables(&mut feed), [""; 0]);
        assert_eq!((wishes(&feed), hosts(&feed)), (Vec::new(), Vec::new()));
        feed.removed(Kind::Listener, HOST);
        feed.want("basket:30011");
        assert_eq!(said(&mut feed, "basket:30011", false, host_first), []);
        assert_eq!(
            tables(&mut feed),
            ["basket:30011"],
            "there is no such service any more"
        );
    }
}

#[test]
fn a_port_that_is_declared_no_more_is_as_one_that_never_was() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "b");
    let _ = (tables(&mut feed), feed.take_answers());
    feed.removed(Kind::Listener, "basket:80");
    assert_eq!(hosts(&feed), [HOST]);
    accept(&mut feed, HOST, &listener(HOST, "basket"));
    for _ in 0..2 {
        feed.want("basket:80");
        assert_eq!(feed.take_gone(), [""; 0]);
        assert_eq!(feed.take_undeclared(Instant::now()), ["basket:80"]);
        assert_eq!(feed.take_undeclared(Instant::now()), [""; 0]);
        assert_eq!(tables(&mut feed), [""; 0]);
    }
    feed.removed(Kind::Listener, HOST);
    feed.want("basket:80");
    assert_eq!(feed.take_undeclared(Instant::now()), [""; 0]);
    assert_eq!(feed.take_gone(), ["basket:80"], "nothing of the host is left");
    assert_eq!(tables(&mut feed), [""; 0], "nor is it called outside");
    basket(&mut feed, "b");
    assert_eq!(tables(&mut feed), ["basket:80"], "it is declared again");
}

#[test]
fn a_host_that_comes_to_be_of_the_mesh_is_not_called_outside_from_then_on() {
    let mut feed = feed();
    feed.want("basket:30011");
    feed.want("other:30011");
    unknown(&mut feed, "other:30011");
    assert_eq!(said(&mut feed, "basket:30011", false, false), []);
    assert_eq!(tables(&mut feed), ["basket:30011", "other:30011"]);
    assert_eq!(
        hosts(&feed),
        [HOST, "other:*"],
        "asked about as long as it is called"
    );
    let refused = feed.accept(Kind::Listener, HOST, &cluster(HOST).to_any().unwrap());
    assert!(refused.is_err());
    assert_eq!(tables(&mut feed), ["other:30011"]);
    let now = Instant::now();
    assert_eq!(feed.take_undeclared(now), [""; 0], "it may yet be declared");
    let due = feed.undeclared_at().unwrap();
    assert_eq!(due, now + DECLARED_WITHIN);
    feed.want("basket:30011");
    assert_eq!(feed.take_undeclared(due), ["basket:30011"]);
    assert_eq!(
        (feed.undeclared_at(), feed.take_undeclared(due)),
        (None, Vec::new())
    );
    assert_eq!(tables(&mut feed), ["other:30011"]);
}

#[test]
fn what_was_called_outside_and_is_declared_after_its_host_waits_in_between() {
    let mut feed = feed();
    let now = Instant::now();
    feed.want("basket:80");
    assert_eq!(said(&mut feed, "basket:80", false, true), []);
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(feed.take_answers(), ["basket:80"]);
    accept(&mut feed, HOST, &listener(HOST, "basket"));
    assert_eq!(feed.take_undeclared(now), [""; 0]);
    assert_eq!(tables(&mut feed), [""; 0], "nothing goes around the mesh");
    feed.want("basket:80");
    accept(&mut feed, HOST, &listener(HOST, "other"));
    assert_eq!(feed.take_undeclared(now), [""; 0], "nor is it refused");
    assert_eq!(wishes(&feed), ["basket:80"], "it is still asked for");
    basket(&mut feed, "b");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(feed.take_answers(), ["basket:80"]);
    assert_eq!(feed.take_undeclared(now + DECLARED_WITHIN), [""; 0]);
}

#[test]
fn nothing_is_asked_of_the_hosts_of_what_is_known_and_of_what_is_never_called_outside() {
    let mut feed = feed();
    for name in [
        "10.0.0.9:80",
        "[fd00::9]:80",
        "basket.shop.mesh.test:30011",
        "basket:80",
    ] {
        feed.want(name);
    }
    assert_eq!(hosts(&feed), [HOST]);
    basket(&mut feed, "b");
    assert_eq!(hosts(&feed), [""; 0]);
    assert_eq!(unknown(&mut feed, "10.0.0.9:80"), Answer::Later);
    assert_eq!(tables(&mut feed), ["10.0.0.9:80", "basket:80"]);
}

#[test]
fn of_names_outside_the_mesh_the_one_that_is_idle_longest_gives_way() {
    let mut feed = feed();
    let name = |number: usize| format!("h{number:03}.test:80");
    for number in 0..MAX_EGRESS {
        feed.want(&name(number));
        assert_eq!(unknown(&mut feed, &name(number)), Answer::Later);
    }
    assert!(feed.is_full());
    feed.want("more.test:80");
    let asked = Cell::new(false);
    let first = Instant::now();
    let idle = |called: &str| {
        asked.set(true);
        let ago = ["h007.test:80", "h005.test:80"];
        let ago = ago.iter().position(|name| *name == called)?;
        Some(first - Duration::from_secs(ago as u64))
    };
    let answer = unknown_while(&mut feed, "more.test:80", idle);
    assert_eq!(
        answer,
        Answer::Full,
        "those who asked for the others wait for them"
    );
    assert!(!asked.get() && !wishes(&feed).contains(&"more.test:80".to_owned()));

    let _ = (tables(&mut feed), feed.take_answers());
    feed.want("more.test:80");
    assert_eq!(unknown(&mut feed, "more.test:80"), Answer::Full, "all are called");
    feed.want("more.test:80");
    let answer = unknown_while(&mut feed, "more.test:80", idle);
    assert_eq!(answer, Answer::Later);
    // All that was said is said again on another connection.
    feed.does_not_exist(Kind::Listener, "h007.test:*", idle);
    let left = tables(&mut feed);
    assert!(!left.contains(&name(5)) && left.contains(&name(7)));
    assert!(left.contains(&"more.test:80".to_owned()));
    assert!(feed.is_full());
}
