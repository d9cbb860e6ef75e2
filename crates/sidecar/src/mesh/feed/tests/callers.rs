//! Who may call the workload, and on which ports?

use super::*;

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
fn ports_that_the_mesh_does_not_declare_are_not_there_until_it_does() {
    let in_force = |feed: &mut Feed| {
        let resources = feed.resources().unwrap();
        assert_eq!(validate(&resources), []);
        let inbound = &resources.listeners[0];
        let ports = inbound.workload.iter().flat_map(|workload| &workload.ports);
        (
            inbound.routes.clone(),
            ports.map(|port| port.port).collect::<Vec<_>>(),
        )
    };
    let declares = |ports: Option<&[u16]>| WorkloadListener {
        ports: ports.map(|ports| ports.iter().copied().collect()),
        ..who_may_call(PolicyDefault::AllowAuthenticated, &[])
    };
    let all = in_force(&mut feed());
    assert_eq!(all.1, [3000], "nothing was said of ports");
    let mut feed = Feed::new(workload());
    accept(&mut feed, ME, &declares(Some(&[3000, 9000])));
    assert_eq!(in_force(&mut feed), all);
    accept(&mut feed, ME, &declares(Some(&[4000])));
    // What has no TLS leads nowhere, either.
    assert_eq!(in_force(&mut feed), (None, Vec::new()));
    feed.removed(Kind::Listener, ME);
    assert_eq!(in_force(&mut feed).1, [0; 0], "the service was taken out");
    let mut again = Feed::new(workload());
    again.restore(feed.kept(None));
    unknown(&mut again, ME);
    assert_eq!(in_force(&mut again).1, [0; 0], "and after a restart");
    accept(&mut feed, ME, &declares(None));
    assert_eq!(in_force(&mut feed), all);
}
