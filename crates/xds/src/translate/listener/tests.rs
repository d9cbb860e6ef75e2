use mesh_model::policy::{PolicyAction, PolicyMode, PolicyTarget};
use prost::Message;

use super::*;

fn policies() -> Vec<AuthorizationPolicy> {
    let rules = r#"[{
        "from": [
            {"kind": "authenticated"},
            {"kind": "identity", "value": "spiffe://mesh.test/ns/shop/sa/web"},
            {"kind": "identityPrefix", "value": "spiffe://mesh.test/ns/shop"},
            {"kind": "namespace", "value": {"trustDomain": "mesh.test", "name": "shop"}}
        ],
        "networks": ["10.0.0.0/8"], "ports": [80, 81], "methods": ["GET", "POST"],
        "paths": [{"kind": "prefix", "value": "/items"}, {"kind": "template", "value": "/a/{b}/{c*}"}],
        "grpc": [{"service": "shop.Basket", "method": "Add"}, {"service": "shop.Till"}],
        "headers": [{"name": "x-team", "value": {"kind": "present"}}]
    }, {}]"#;
    let policy = |name: &str, action, mode| AuthorizationPolicy {
        name: name.into(),
        targets: vec![PolicyTarget::Listener("inbound".into())],
        action,
        mode,
        rules: serde_json::from_str(rules).unwrap(),
    };
    vec![
        policy("a", PolicyAction::Allow, PolicyMode::Enforce),
        policy("b", PolicyAction::Deny, PolicyMode::Enforce),
        policy("c", PolicyAction::Allow, PolicyMode::Audit),
        policy("d", PolicyAction::Deny, PolicyMode::Audit),
    ]
}

fn workload(policies: Vec<AuthorizationPolicy>) -> WorkloadListener {
    WorkloadListener {
        general: false,
        name: "spiffe://mesh.test/ns/shop/sa/basket".into(),
        default_policy: PolicyDefault::AllowAuthenticated,
        policies,
        ports: None,
    }
}

#[test]
fn a_service_leads_to_its_route_table() {
    let service = ServiceListener {
        name: "basket:80".into(),
        route_table: "basket.shop:3000".into(),
    };
    let any = service.to_any().unwrap();
    assert_eq!(ServiceListener::from_any(&any), Ok(service.clone()));
    let mut message = service.to_message().unwrap();
    let manager = |filter: wire::HttpFilter| wire::HttpConnectionManager {
        rds: Some(wire::Rds {
            config_source: Some(wire::ConfigSource::aggregated()),
            route_config_name: "x".into(),
        }),
        http_filters: vec![filter, router()],
        ..wire::HttpConnectionManager::default()
    };
    let mut unknown = wire::HttpFilter {
        name: "envoy.filters.http.ext_authz".into(),
        ..wire::HttpFilter::default()
    };
    let api = |filter| wire::ApiListener {
        api_listener: Some(envelope(HCM_URL, &manager(filter))),
    };
    message.api_listener = Some(api(unknown.clone()));
    let refused = ServiceListener::from_message(message.clone()).unwrap_err();
    assert_eq!(refused.field, "api_listener.http_filters");
    assert!(refused.reason.contains("ext_authz"), "{refused}");
    unknown.is_optional = true;
    message.api_listener = Some(api(unknown));
    assert!(ServiceListener::from_message(message).is_ok());
    assert!(ServiceListener::from_message(wire::Listener::default()).is_err());
}

#[test]
fn a_workloads_policies_come_back_as_they_were() {
    for (default_policy, policies, ports) in [
        (
            PolicyDefault::AllowAuthenticated,
            policies(),
            Some([80, 81].into()),
        ),
        (PolicyDefault::AllowAuthenticated, Vec::new(), None),
        (PolicyDefault::Allow, Vec::new(), Some([].into())),
        (PolicyDefault::Deny, Vec::new(), None),
    ] {
        let workload = WorkloadListener {
            default_policy,
            ports,
            ..workload(policies)
        };
        assert_eq!(
            WorkloadListener::from_any(&workload.to_any().unwrap()),
            Ok(workload)
        );
    }
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let mut twice = policies();
    twice.push(twice[0].clone());
    let refused = workload(twice).to_message().unwrap_err();
    assert!(
        refused.reason.contains("two policies are called `a`"),
        "{refused}"
    );
}

#[test]
fn policies_are_not_believed_when_their_two_forms_differ() {
    let mut message = workload(policies()).to_message().unwrap();
    message.metadata = workload(Vec::new()).to_message().unwrap().metadata;
    let refused = WorkloadListener::from_message(message).unwrap_err();
    assert_eq!(refused.field, "filter_chains");
    let mut stripped = workload(policies()).to_message().unwrap();
    stripped.metadata = None;
    assert!(WorkloadListener::from_message(stripped).is_err());
}

/// What Envoy and gRPC read: denials come first, then what is allowed, then the way on.
#[test]
fn others_read_them_as_rbac() {
    let message = workload(policies()).to_message().unwrap();
    let config = message.filter_chains[0].filters[0].typed_config.clone().unwrap();
    let manager = wire::HttpConnectionManager::decode(config.value).unwrap();
    let rbac = |at: usize| {
        let config = manager.http_filters[at].typed_config.clone().unwrap();
        wire::RbacFilter::decode(config.value).unwrap()
    };
    assert_eq!(manager.http_filters.len(), 3);
    let (deny, allow) = (rbac(0), rbac(1));
    let names = |rbac: &Option<wire::Rbac>| {
        let rbac = rbac.as_ref().unwrap();
        (rbac.action, rbac.policies.keys().cloned().collect::<Vec<_>>())
    };
    let both = |name: &str| vec![format!("{name}/0"), format!("{name}/1")];
    assert_eq!(names(&deny.rules), (1, both("b")));
    assert_eq!(names(&deny.shadow_rules), (1, both("d")));
    assert_eq!(names(&allow.rules), (0, both("a")));
    assert_eq!(names(&allow.shadow_rules), (0, [both("a"), both("c")].concat()));
    let whole = &allow.rules.unwrap().policies["a/0"];
    let namespace = &whole.principals[0].and_ids.as_ref().unwrap().ids[0]
        .or_ids
        .as_ref()
        .unwrap()
        .ids[3];
    let name = namespace
        .authenticated
        .as_ref()
        .unwrap()
        .principal_name
        .clone()
        .unwrap();
    assert_eq!(
        name.safe_regex.unwrap().regex,
        r"spiffe://mesh\.test/ns/shop/sa/[^/]+"
    );
}
