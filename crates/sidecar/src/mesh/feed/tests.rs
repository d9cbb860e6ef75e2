use std::cell::Cell;

use mesh_model::policy::{PolicyAction, PolicyMode, PolicyTarget};
use mesh_model::resources::{
    Endpoint, ListenerProtocol, Locality, UpstreamProtocol, WeightedCluster, WorkloadTls,
};
use mesh_proxy::on_demand;

use super::super::settings::Forward;
use super::super::settings::tests::{ME, workload};
use super::outside::MAX_EGRESS;
use super::*;
use crate::parts::everything_to;

fn feed() -> Feed {
    let mut feed = Feed::new(workload());
    accept(
        &mut feed,
        ME,
        &who_may_call(PolicyDefault::AllowAuthenticated, &[]),
    );
    feed
}

/// What the control plane says of who may call this workload.
fn who_may_call(default_policy: PolicyDefault, policies: &[AuthorizationPolicy]) -> WorkloadListener {
    WorkloadListener {
        general: false,
        name: ME.into(),
        default_policy,
        policies: policies.to_vec(),
    }
}

fn accept<T: Translate>(feed: &mut Feed, name: &str, resource: &T) {
    feed.accept(T::KIND, name, &resource.to_any().unwrap()).unwrap();
}

fn listener(name: &str, table: &str) -> ServiceListener {
    ServiceListener {
        name: name.into(),
        route_table: table.into(),
    }
}

fn cluster(name: &str) -> Cluster {
    let mut cluster = Cluster::new(name);
    cluster.workload = Some(WorkloadTls {
        server_name: "p3000.basket.shop.mesh.test".into(),
    });
    cluster
}

fn endpoints(cluster: &str) -> Endpoints {
    let mut endpoint = Endpoint::new("10.0.0.1:4143".parse().unwrap());
    endpoint.identity = Some("spiffe://mesh.test/ns/shop/sa/basket".parse().unwrap());
    Endpoints {
        cluster: cluster.into(),
        localities: vec![Locality {
            endpoints: vec![endpoint],
            ..Locality::default()
        }],
    }
}

/// Makes `basket:80` whole, by the table `basket` and the cluster of this name.
fn basket(feed: &mut Feed, at: &str) {
    accept(feed, "basket:80", &listener("basket:80", "basket"));
    accept(
        feed,
        "basket",
        &RouteTable {
            name: "basket".into(),
            ..everything_to(at)
        },
    );
    accept(feed, at, &cluster(at));
    accept(feed, at, &endpoints(at));
}

fn tables(feed: &mut Feed) -> Vec<String> {
    let resources = feed.resources().unwrap();
    assert_eq!(validate(&resources), []);
    let named = resources.route_tables.into_iter().map(|table| table.name);
    named.filter(|name| !name.starts_with(own::APPLICATION)).collect()
}

fn wishes(feed: &Feed) -> Vec<String> {
    let all = feed.wishes().into_iter();
    all.map(|(_, name)| name)
        .filter(|name| name != ROOTS && name != ME)
        .collect()
}

#[test]
fn nothing_is_served_before_it_is_known_who_may_call() {
    assert!(Feed::new(workload()).resources().is_none());
    assert_eq!(tables(&mut feed()), [""; 0]);
}

#[test]
fn what_was_said_of_who_may_call_holds_when_nothing_is_said_any_more() {
    let closed = AuthorizationPolicy {
        name: "closed".into(),
        targets: vec![PolicyTarget::Listener(own::INBOUND.into())],
        action: PolicyAction::Allow,
        mode: PolicyMode::Enforce,
        rules: Vec::new(),
    };
    let in_force = |feed: &mut Feed| {
        let resources = feed.resources().unwrap();
        (resources.listeners[0].default_policy, resources.policies)
    };
    let mut feed = Feed::new(workload());
    assert_eq!(unknown(&mut feed, ME), Answer::Later);
    assert_eq!(
        in_force(&mut feed),
        (PolicyDefault::AllowAuthenticated, Vec::new()),
        "nothing was ever said"
    );
    let policies = [closed];
    accept(&mut feed, ME, &who_may_call(PolicyDefault::Deny, &policies));
    let said = (PolicyDefault::Deny, policies.to_vec());
    feed.removed(Kind::Listener, ME);
    assert_eq!(in_force(&mut feed), said);
    unknown(&mut feed, ME);
    assert_eq!(in_force(&mut feed), said);
    let mut again = Feed::new(workload());
    again.restore(feed.kept(None));
    unknown(&mut again, ME);
    assert_eq!(in_force(&mut again), said, "and after a restart");
    accept(&mut feed, ME, &who_may_call(PolicyDefault::Allow, &[]));
    assert_eq!(in_force(&mut feed), (PolicyDefault::Allow, Vec::new()));
}

#[test]
fn what_is_said_of_all_others_holds_until_something_is_said_by_name() {
    let default = |feed: &mut Feed| feed.resources().unwrap().listeners[0].default_policy;
    let general = |default| WorkloadListener {
        general: true,
        ..who_may_call(default, &[])
    };
    let mut feed = Feed::new(workload());
    unknown(&mut feed, ME);
    assert_eq!(default(&mut feed), PolicyDefault::AllowAuthenticated);
    accept(&mut feed, ME, &general(PolicyDefault::Allow));
    assert_eq!(default(&mut feed), PolicyDefault::Allow);
    let mut again = Feed::new(workload());
    again.restore(feed.kept(None));
    accept(&mut again, ME, &general(PolicyDefault::Deny));
    assert_eq!(default(&mut again), PolicyDefault::Deny, "after a restart too");
    accept(&mut feed, ME, &who_may_call(PolicyDefault::Deny, &[]));
    accept(&mut feed, ME, &general(PolicyDefault::Allow));
    assert_eq!(
        default(&mut feed),
        PolicyDefault::Deny,
        "the service was taken out"
    );
}

#[test]
fn no_name_that_is_called_is_the_own_application() {
    let mut feed = feed();
    let resources = feed.resources().unwrap();
    let tables = resources.route_tables.iter().map(|table| &table.name);
    let names: Vec<_> = tables
        .chain(resources.clusters.iter().map(|cluster| &cluster.name))
        .collect();
    assert_eq!(names.len(), 2);
    for name in names {
        let called = on_demand::Name::of(name.as_bytes());
        assert!(called.is_none_or(|called| called.as_str() != &**name), "{name}");
    }
}

#[test]
fn a_name_goes_live_when_all_that_it_needs_is_there() {
    let mut feed = feed();
    feed.want("basket:80");
    assert_eq!(wishes(&feed), ["basket:80"]);
    accept(&mut feed, "basket:80", &listener("basket:80", "basket"));
    assert_eq!(wishes(&feed), ["basket:80", "basket"]);
    accept(
        &mut feed,
        "basket",
        &RouteTable {
            name: "basket".into(),
            ..everything_to("b")
        },
    );
    assert_eq!(wishes(&feed), ["b", "basket:80", "basket"]);
    accept(&mut feed, "b", &cluster("b"));
    assert_eq!(wishes(&feed), ["b", "b", "basket:80", "basket"]);
    assert_eq!(tables(&mut feed), [""; 0]);
    assert_eq!(feed.take_answers(), [""; 0]);
    accept(&mut feed, "b", &endpoints("b"));
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(feed.take_answers(), ["basket:80"]);
    assert_eq!(feed.take_answers(), [""; 0]);
}

#[test]
fn what_is_newer_waits_until_it_is_whole() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "old");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    accept(
        &mut feed,
        "basket",
        &RouteTable {
            name: "basket".into(),
            ..everything_to("new")
        },
    );
    let to = |feed: &mut Feed| {
        let resources = feed.resources().unwrap();
        resources
            .clusters
            .into_iter()
            .map(|cluster| cluster.name)
            .find(|name| !name.starts_with(own::APPLICATION))
    };
    assert_eq!(to(&mut feed).as_deref(), Some("old"));
    assert!(wishes(&feed).contains(&"old".to_owned()) && wishes(&feed).contains(&"new".to_owned()));
    accept(&mut feed, "new", &cluster("new"));
    accept(&mut feed, "new", &endpoints("new"));
    assert_eq!(to(&mut feed).as_deref(), Some("new"));
    assert!(!wishes(&feed).contains(&"old".to_owned()));
}

#[test]
fn what_is_removed_goes() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "b");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    feed.removed(Kind::Cluster, "b");
    assert_eq!(tables(&mut feed), [""; 0]);
    accept(&mut feed, "b", &cluster("b"));
    assert_eq!(tables(&mut feed), ["basket:80"]);
    feed.removed(Kind::Listener, "basket:80");
    assert_eq!(tables(&mut feed), [""; 0]);
}

#[test]
fn a_bad_resource_is_refused_and_the_last_good_one_serves() {
    let mut feed = feed();
    feed.want("basket:80");
    basket(&mut feed, "b");
    let mut nobody = endpoints("b");
    nobody.localities[0].endpoints[0].identity = None;
    let refused = feed
        .accept(Kind::Endpoints, "b", &nobody.to_any().unwrap())
        .unwrap_err();
    assert!(refused.contains("identity"), "{refused}");
    assert_eq!(tables(&mut feed), ["basket:80"]);
}

/// The control plane does not know a name, and no name is idle.
fn unknown(feed: &mut Feed, name: &str) -> Answer {
    feed.does_not_exist(Kind::Listener, name, |_| None)
}

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
        known_only: true,
        ..workload()
    });
    known.want("example.test:443");
    assert!(!known.is_kept("example.test:443"));
    assert_eq!(unknown(&mut known, "example.test:443"), Answer::Unknown);
    assert_eq!(wishes(&known), [""; 0]);
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
fn a_name_whose_listener_is_refused_is_of_the_mesh_all_the_same() {
    let mut feed = feed();
    feed.want("basket:80");
    unknown(&mut feed, "basket:80");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    let any = cluster("basket:80").to_any().unwrap();
    assert!(feed.accept(Kind::Listener, "basket:80", &any).is_err());
    assert_eq!(tables(&mut feed), [""; 0]);
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
    let answer = feed.does_not_exist(Kind::Listener, "more.test:80", idle);
    assert_eq!(
        answer,
        Answer::Full,
        "those who asked for the others wait for them"
    );
    assert!(!asked.get() && !wishes(&feed).contains(&"more.test:80".to_owned()));

    let _ = (feed.resources(), feed.take_answers());
    feed.want("more.test:80");
    assert_eq!(unknown(&mut feed, "more.test:80"), Answer::Full, "all are called");
    feed.want("more.test:80");
    let answer = feed.does_not_exist(Kind::Listener, "more.test:80", idle);
    assert_eq!(answer, Answer::Later);
    let left = tables(&mut feed);
    assert!(!left.contains(&name(5)) && left.contains(&name(7)));
    assert!(left.contains(&"more.test:80".to_owned()));
    assert!(feed.is_full());
}

#[test]
fn what_is_opaque_outside_the_mesh_goes_by_its_port_and_inside_by_what_is_said() {
    let mut feed = feed();
    for name in ["db.test:5432", "10.0.0.9:8010", "db.test:443"] {
        feed.want(name);
        unknown(&mut feed, name);
    }
    feed.want("basket:5432");
    accept(&mut feed, "basket:5432", &listener("basket:5432", "b"));
    accept(&mut feed, "b", &everything_to("b"));
    accept(&mut feed, "b", &cluster("b"));
    accept(&mut feed, "b", &endpoints("b"));
    let opaque = |feed: &mut Feed| -> Vec<_> {
        let clusters = feed.resources().unwrap().clusters.into_iter();
        let opaque = clusters.filter(|cluster| cluster.protocol == UpstreamProtocol::Tcp);
        opaque.map(|cluster| cluster.name).collect()
    };
    assert_eq!(opaque(&mut feed), ["10.0.0.9:8010", "db.test:5432"]);
    let mut said = cluster("b");
    said.protocol = UpstreamProtocol::Tcp;
    accept(&mut feed, "b", &said);
    assert_eq!(opaque(&mut feed), ["10.0.0.9:8010", "db.test:5432", "b"]);
}

#[test]
fn names_that_nobody_calls_are_dropped() {
    let mut feed = feed();
    let (now, span) = (Instant::now(), Duration::from_secs(600));
    feed.want("basket:80");
    basket(&mut feed, "b");
    feed.forget(now, span, |_| true);
    assert_eq!(wishes(&feed).len(), 4, "somebody waits for it");
    let _ = (tables(&mut feed), feed.take_answers());
    feed.forget(now, span, |_| false);
    assert_eq!(tables(&mut feed), ["basket:80"]);
    feed.forget(now, span, |cluster| cluster == "b");
    assert_eq!((tables(&mut feed), wishes(&feed)), (Vec::new(), Vec::new()));
}

#[test]
fn a_name_that_is_no_more_is_closed_until_nobody_has_asked_for_it_for_long() {
    let mut feed = feed();
    let (now, span) = (Instant::now(), Duration::from_secs(600));
    feed.want("basket:80");
    basket(&mut feed, "b");
    let _ = (tables(&mut feed), feed.take_answers());
    feed.removed(Kind::Listener, "basket:80");
    feed.forget(now, span, |_| true);
    feed.want("basket:80");
    feed.forget(now + span, span, |_| true);
    assert_eq!(wishes(&feed), ["basket:80"], "somebody waits for it");
    basket(&mut feed, "b");
    let _ = (tables(&mut feed), feed.take_answers());
    feed.removed(Kind::Listener, "basket:80");
    feed.forget(now + span, span, |_| true);
    feed.forget(now + span * 2 - Duration::from_secs(1), span, |_| true);
    assert_eq!((tables(&mut feed), wishes(&feed).len()), (Vec::new(), 1));
    feed.forget(now + span * 2, span, |_| true);
    assert_eq!(wishes(&feed), [""; 0]);
}

#[test]
fn whoever_asks_for_a_name_that_is_no_more_is_told_so_until_it_is_there_again() {
    let mut feed = feed();
    for removed in [Kind::Listener, Kind::Cluster] {
        feed.want("basket:80");
        assert_eq!(feed.take_gone(), [""; 0], "it is on its way");
        basket(&mut feed, "b");
        let _ = (tables(&mut feed), feed.take_answers());
        feed.removed(
            removed,
            if removed == Kind::Cluster {
                "b"
            } else {
                "basket:80"
            },
        );
        assert_eq!(tables(&mut feed), [""; 0]);
        assert_eq!(feed.take_gone(), [""; 0], "nobody asks");
        feed.want("basket:80");
        assert_eq!(feed.take_gone(), ["basket:80"]);
        assert_eq!(feed.take_gone(), [""; 0]);
        basket(&mut feed, "b");
        assert_eq!(tables(&mut feed), ["basket:80"]);
        assert_eq!(feed.take_answers(), [""; 0], "they were told");
    }
}

#[test]
fn a_plain_listener_is_there_before_its_name_is_asked_for() {
    let forward = |name: &str, is_tcp| Forward {
        name: name.into(),
        address: "127.0.0.1:0".parse().unwrap(),
        is_tcp,
    };
    let mut feed = Feed::new(Workload {
        forward: vec![forward("basket:80", false), forward("ledger:5432", true)],
        ..workload()
    });
    accept(
        &mut feed,
        ME,
        &who_may_call(PolicyDefault::AllowAuthenticated, &[]),
    );
    assert_eq!((wishes(&feed), tables(&mut feed)), (Vec::new(), Vec::new()));
    let plain = |feed: &mut Feed| {
        let listeners = feed.resources().unwrap().listeners.into_iter().skip(2);
        let plain = listeners.map(|listener| (listener.name, listener.leads_to, listener.protocol));
        plain.collect::<Vec<_>>()
    };
    let before = plain(&mut feed);
    let of = |name: &str, protocol| (format!("forward:{name}"), Some(name.to_owned()), protocol);
    assert_eq!(
        before,
        [
            of("basket:80", ListenerProtocol::Auto),
            of("ledger:5432", ListenerProtocol::Tcp)
        ]
    );
    feed.want("basket:80");
    basket(&mut feed, "b");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    let _ = feed.take_answers();
    feed.forget(Instant::now(), Duration::ZERO, |_| true);
    assert_eq!((wishes(&feed), tables(&mut feed)), (Vec::new(), Vec::new()));
    assert_eq!(plain(&mut feed), before);
}

#[test]
fn what_was_kept_is_taken_up_again() {
    let mut before = feed();
    before.want("basket:80");
    basket(&mut before, "b");
    let _ = tables(&mut before);
    let kept = serde_json::to_string(&before.kept(None)).unwrap();
    let mut after = Feed::new(workload());
    after.restore(serde_json::from_str(&kept).unwrap());
    assert_eq!(after.resources(), before.resources());
    assert_eq!(after.wishes(), before.wishes());
}

#[test]
fn roots_that_are_none_are_refused() {
    let mut feed = feed();
    let roots = TrustRoots {
        name: ROOTS.into(),
        pem: "no roots".into(),
    };
    let any = roots.to_any().unwrap();
    let refused = feed.accept(Kind::Secret, ROOTS, &any).unwrap_err();
    assert!(refused.contains("the trust bundle"), "{refused}");
    assert_eq!(feed.take_roots(), None);
}

#[test]
fn a_table_leads_to_so_many_clusters_and_no_more() {
    let mut feed = feed();
    let table = |clusters: usize| {
        let to = |number: usize| WeightedCluster {
            cluster: format!("c{number}"),
            weight: 1,
        };
        let mut table = everything_to("c0");
        table.name = "basket".into();
        table.virtual_hosts[0].routes[0].action = Action::Forward {
            to: (0..clusters).map(to).collect(),
        };
        table
    };
    accept(&mut feed, "basket", &table(MAX_CLUSTERS));
    let any = table(MAX_CLUSTERS + 1).to_any().unwrap();
    let refused = feed.accept(Kind::RouteTable, "basket", &any).unwrap_err();
    assert_eq!(refused, "leads to 257 clusters, 256 are taken");
}
