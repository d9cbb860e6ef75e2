//! The verdict against a naive one that reads the documentation aloud, over random policies in random order.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::resources::PathMatch;
use crate::route::RequestView;

struct Get(&'static [u8]);

impl RequestView for Get {
    fn host(&self) -> &[u8] {
        b""
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn path(&self) -> &[u8] {
        self.0
    }
    fn query(&self) -> &[u8] {
        b""
    }
    fn header<'a>(&'a self, _: &'a str) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }
    fn is_grpc(&self) -> bool {
        false
    }
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let id = |text: &str| Peer::Identity(text.parse::<SpiffeId>().unwrap());
    (
        vec(
            select(vec![
                Peer::Authenticated,
                id("spiffe://td/a"),
                id("spiffe://td/b"),
            ]),
            0..2,
        ),
        vec(select(vec![80_u16, 81]), 0..2),
        vec(select(vec!["/a".to_owned(), "/b".into()]), 0..2),
    )
        .prop_map(|(from, ports, paths)| PolicyRule {
            from,
            ports,
            paths: paths.into_iter().map(PathMatch::Exact).collect(),
            ..PolicyRule::default()
        })
}

fn policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    let policy = (
        select(vec![PolicyAction::Allow, PolicyAction::Deny]),
        select(vec![PolicyMode::Enforce, PolicyMode::Audit]),
        select(vec!["web", "other"]),
        vec(rule(), 0..3),
    );
    vec(policy, 0..5).prop_map(|policies| {
        let named = policies.into_iter().enumerate();
        named
            .map(|(number, (action, mode, target, rules))| AuthorizationPolicy {
                name: format!("p{number}"),
                targets: vec![PolicyTarget::Listener(target.into())],
                action,
                mode,
                rules,
            })
            .collect()
    })
}

/// Whether a rule matches, where what can't be evaluated counts as `unsure`. Right because conditions are never turned
/// round here: then each may be rounded alone.
fn matches(rule: &PolicyRule, id: Option<&SpiffeId>, port: Option<u16>, path: &str, unsure: bool) -> bool {
    let from = rule.from.is_empty()
        || rule.from.iter().any(|peer| match peer {
            Peer::Identity(wanted) => id == Some(wanted),
            _ => id.is_some(),
        });
    let port = rule.ports.is_empty() || port.map_or(unsure, |port| rule.ports.contains(&port));
    let exact = |wanted: &PathMatch| *wanted == PathMatch::Exact(path.into());
    let path = rule.paths.is_empty()
        || if path.is_empty() {
            unsure
        } else {
            rule.paths.iter().any(exact)
        };
    from && port && path
}

fn naive(
    policies: &[&AuthorizationPolicy],
    default: bool,
    matches: impl Fn(&PolicyRule, bool) -> bool,
) -> bool {
    let of = |action| policies.iter().filter(move |policy| policy.action == action);
    let denied = of(PolicyAction::Deny).any(|policy| policy.rules.iter().any(|rule| matches(rule, true)));
    let allowed = of(PolicyAction::Allow).any(|policy| policy.rules.iter().any(|rule| matches(rule, false)));
    !denied && (allowed || (default && of(PolicyAction::Allow).next().is_none()))
}

proptest! {
    #[test]
    fn the_verdict_is_the_naive_one_in_any_order(
        (policies, shuffled) in policies().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        who in select(vec![None, Some("spiffe://td/a"), Some("spiffe://td/b"), Some("spiffe://td/c")]),
        port in select(vec![None, Some(80), Some(82)]),
        path in select(vec!["", "/a", "/b", "/c"]),
        default in select(vec![PolicyDefault::Allow, PolicyDefault::AllowAuthenticated, PolicyDefault::Deny]),
    ) {
        let id = who.map(|text| text.parse::<SpiffeId>().unwrap());
        let peer = ConnectionFacts {
            identity: id.as_ref().map_or(PeerIdentity::Anonymous, PeerIdentity::Known),
            address: None,
            port,
        };
        let by_default = match default {
            PolicyDefault::Allow => true,
            PolicyDefault::AllowAuthenticated => id.is_some(),
            PolicyDefault::Deny => false,
        };
        let web = |policy: &&AuthorizationPolicy| policy.targets == [PolicyTarget::Listener("web".into())];
        let all: Vec<_> = policies.iter().filter(web).collect();
        let enforced: Vec<_> = all.iter().copied().filter(|policy| policy.mode == PolicyMode::Enforce).collect();
        let holds = |rule: &PolicyRule, unsure| matches(rule, id.as_ref(), port, path, unsure);
        let passes = naive(&enforced, by_default, holds);
        let audited = passes && !naive(&all, by_default, holds);
        // A stream has no path, and is none of the requests that an allow rule might have been for.
        let of_stream = |rule: &PolicyRule, unsure| matches(rule, id.as_ref(), port, "", unsure);
        let mut allows = enforced.iter().filter(|policy| policy.action == PolicyAction::Allow).flat_map(|policy| &policy.rules);
        let asks_http = allows.any(|rule| !rule.paths.is_empty() && of_stream(rule, true));
        let streams = !asks_http && naive(&enforced, by_default, of_stream);
        for policies in [&policies, &shuffled] {
            let set = PolicySet::compile(policies).unwrap();
            match set.listener("web") {
                None => prop_assert!(all.is_empty()),
                Some(web) => {
                    let verdict = web.request(&peer, &Get(path.as_bytes()), default);
                    prop_assert_eq!(verdict.enforced.is_ok(), passes);
                    prop_assert_eq!(verdict.audited.is_some(), audited);
                    prop_assert_eq!(web.stream(&peer, default).enforced.is_ok(), streams);
                }
            }
        }
    }

    #[test]
    fn what_covers_a_rule_takes_all_that_it_takes(
        (one, other) in (rule(), rule()),
        who in select(vec![None, Some("spiffe://td/a"), Some("spiffe://td/b"), Some("spiffe://td/c")]),
        port in select(vec![None, Some(80), Some(81)]),
        path in select(vec!["", "/a", "/b"]),
    ) {
        let id = who.map(|text| text.parse::<SpiffeId>().unwrap());
        let takes = |rule, unsure| matches(rule, id.as_ref(), port, path, unsure);
        let (asks, others) = (asks::Asks::of(&one), asks::Asks::of(&other));
        if asks.covers(&others) {
            for unsure in [false, true] {
                prop_assert!(takes(&one, unsure) || !takes(&other, unsure));
            }
        }
        prop_assert_eq!(asks.key() == others.key(), asks.covers(&others) && others.covers(&asks));
    }
}
