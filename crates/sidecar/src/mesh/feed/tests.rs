use mesh_model::policy::{PolicyAction, PolicyMode, PolicyTarget};
use mesh_model::resources::{
    Endpoint, ListenerProtocol, Locality, Pem, Respond, Route, UpstreamProtocol, WeightedCluster, WorkloadTls,
};
use mesh_proxy::on_demand;

use super::super::settings::Forward;
use super::super::settings::tests::{ME, workload};
use super::*;
use crate::parts::everything_to;

mod callers;
mod lookups;
mod outside;
mod refused;

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
        ports: None,
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

/// All names that are to be looked up were.
fn look_up(feed: &mut Feed) {
    feed.resources();
    for source in feed.take_sources() {
        feed.looked_up(&source);
    }
}

/// What is in force once all was looked up.
fn tables(feed: &mut Feed) -> Vec<String> {
    look_up(feed);
    let resources = feed.resources().unwrap();
    assert_eq!(validate(&resources), []);
    let named = resources.route_tables.into_iter().map(|table| table.name);
    named.filter(|name| !name.starts_with(own::APPLICATION)).collect()
}

/// What is wished for of names that are called.
fn wishes(feed: &Feed) -> Vec<String> {
    let all = feed.wishes().into_iter();
    all.map(|(_, name)| name)
        .filter(|name| name != ROOTS && name != ME && !is_of_all_ports(name))
        .collect()
}

/// The hosts that are asked about.
fn hosts(feed: &Feed) -> Vec<String> {
    let all = feed.wishes().into_iter();
    all.map(|(_, name)| name)
        .filter(|name| is_of_all_ports(name))
        .collect()
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

#[test]
fn whoever_asks_for_a_name_of_which_something_was_refused_is_told_so_until_it_is_good() {
    type Good = fn(&mut Feed);
    let steps: [(Kind, &str, Good); 4] = [
        (Kind::Listener, "basket:80", |feed| {
            accept(feed, "basket:80", &listener("basket:80", "basket"));
        }),
        (Kind::RouteTable, "basket", |feed| {
            accept(feed, "basket", &everything_to("b"));
        }),
        (Kind::Cluster, "b", |feed| accept(feed, "b", &cluster("b"))),
        (Kind::Endpoints, "b", |feed| accept(feed, "b", &endpoints("b"))),
    ];
    let mut feed = feed();
    for (kind, name, good) in steps {
        feed.want("basket:80");
        let refused = |of, is: &str| (of, is) == (kind, name);
        assert_eq!(feed.take_unusable(|_, _| false), [""; 0], "it is on its way");
        assert_eq!(feed.take_unusable(refused), ["basket:80"], "{kind:?}");
        assert_eq!(feed.take_unusable(refused), [""; 0], "they were told");
        assert_eq!(tables(&mut feed), [""; 0]);
        good(&mut feed);
    }
    feed.want("basket:80");
    assert_eq!(tables(&mut feed), ["basket:80"]);
    assert_eq!(
        feed.take_unusable(|_, _| true),
        [""; 0],
        "the last good one serves"
    );
    assert_eq!(feed.take_answers(), ["basket:80"]);
}

/// The control plane does not know a name or its host, and no name is idle.
fn unknown(feed: &mut Feed, name: &str) -> Answer {
    unknown_while(feed, name, |_| None)
}

fn unknown_while(feed: &mut Feed, name: &str, idle_since: impl Fn(&str) -> Option<Instant>) -> Answer {
    let host = feed.asked_host(name).filter(|host| hosts(feed).contains(host));
    if let Some(host) = host {
        feed.does_not_exist(Kind::Listener, &host, &idle_since);
    }
    let mut answers = feed.does_not_exist(Kind::Listener, name, &idle_since);
    assert!(answers.len() <= 1);
    answers.pop().map_or(Answer::Later, |(of, answer)| {
        assert_eq!(of, name);
        answer
    })
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
        look_up(feed);
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
    feed.forget(now, span, |called| called == Called::Cluster("b"));
    assert_eq!((tables(&mut feed), wishes(&feed)), (Vec::new(), Vec::new()));
}

#[test]
fn a_name_whose_routes_answer_by_themselves_is_kept_while_they_are_called() {
    let mut feed = feed();
    let (now, span) = (Instant::now(), Duration::from_secs(600));
    let table = |actions: Vec<(&str, Action)>| {
        let mut table = everything_to("basket");
        table.name = "basket".into();
        let routes = &mut table.virtual_hosts[0].routes;
        let route = routes.remove(0);
        routes.extend(actions.into_iter().map(|(name, action)| Route {
            name: name.into(),
            action,
            ..route.clone()
        }));
        table
    };
    let closed = Respond {
        status: 503,
        body: String::new(),
        content_type: Respond::TEXT_PLAIN.into(),
    };
    feed.want("maint:80");
    accept(&mut feed, "maint:80", &listener("maint:80", "basket"));
    accept(
        &mut feed,
        "basket",
        &table(vec![("closed", Action::Respond(closed))]),
    );
    assert_eq!(tables(&mut feed), ["maint:80"]);
    assert_eq!(feed.take_answers(), ["maint:80"]);
    assert_eq!(feed.answers_in_use(), BTreeSet::from(["closed"]));
    feed.forget(now, span, |_| false);
    assert_eq!(tables(&mut feed), ["maint:80"]);
    feed.forget(now, span, |called| called == Called::Answer("closed"));
    assert_eq!(tables(&mut feed), [""; 0]);
    // What has no routes at all goes when nobody has asked for it for long.
    feed.want("maint:80");
    accept(&mut feed, "maint:80", &listener("maint:80", "basket"));
    accept(&mut feed, "basket", &table(Vec::new()));
    assert_eq!(tables(&mut feed), ["maint:80"]);
    assert_eq!(feed.take_answers(), ["maint:80"]);
    feed.forget(now, span, |_| true);
    assert_eq!(tables(&mut feed), ["maint:80"]);
    feed.forget(now + span, span, |_| true);
    assert_eq!(tables(&mut feed), [""; 0]);
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
        if removed == Kind::Listener {
            assert_eq!(feed.take_gone(), [""; 0], "its host may declare other ports");
            assert_eq!(hosts(&feed), ["basket:*"]);
            feed.does_not_exist(Kind::Listener, "basket:*", |_| None);
        }
        assert_eq!(feed.take_undeclared(Instant::now()), [""; 0]);
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
fn roots_of_a_server_that_are_none_are_refused() {
    let mut feed = feed();
    let tls = |roots: &str| {
        let mut cluster = Cluster::new("billing");
        cluster.tls = Some(ClientTls {
            server_name: Some("billing.test".into()),
            roots: Some(Pem(roots.into())),
            ..ClientTls::default()
        });
        cluster
    };
    const RUBBISH: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let any = tls(RUBBISH).to_any().unwrap();
    let refused = feed.accept(Kind::Cluster, "billing", &any).unwrap_err();
    assert!(
        refused.starts_with("tls.roots: certificate 1 of the inline PEM"),
        "{refused}"
    );
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

#[test]
fn routes_of_a_table_may_lead_to_one_cluster() {
    let mut feed = feed();
    feed.want("basket:80");
    let to = |cluster: &str, weight| WeightedCluster {
        cluster: cluster.into(),
        weight,
    };
    let mut table = everything_to("b");
    table.name = "basket".into();
    let routes = &mut table.virtual_hosts[0].routes;
    let mut slow = routes[0].clone();
    slow.name = "slow".into();
    slow.action = Action::Forward {
        to: vec![to("b", 1), to("other", 1)],
    };
    routes.insert(0, slow);
    accept(&mut feed, "basket:80", &listener("basket:80", "basket"));
    accept(&mut feed, "basket", &table);
    for name in ["b", "other"] {
        accept(&mut feed, name, &cluster(name));
        accept(&mut feed, name, &endpoints(name));
    }
    assert_eq!(tables(&mut feed), ["basket:80"]);
    let clusters = feed.resources().unwrap().clusters.into_iter();
    let called = clusters
        .map(|cluster| cluster.name)
        .filter(|name| !name.starts_with(own::APPLICATION));
    assert_eq!(called.collect::<Vec<_>>(), ["b", "other"]);
}
