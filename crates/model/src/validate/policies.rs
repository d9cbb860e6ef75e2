//! Policies: for listeners that are there, with patterns that compile.

use crate::issue::{At, IssueCode, Issues, Problem, shown};
use crate::policy::{AuthorizationPolicy, PolicySet, PolicyTarget};

use crate::syntax;

use super::{Known, missing, names, unknown};

pub(super) fn check(policies: &[AuthorizationPolicy], known: &dyn Known, issues: &mut Issues) {
    let all = At::Root.key("policies");
    names(
        "policy",
        policies.iter().map(|policy| policy.name.as_str()),
        &all,
        issues,
    );
    for (number, policy) in policies.iter().enumerate() {
        let at = all.index(number);
        let targets = at.key("targets");
        if policy.targets.is_empty() {
            issues.add(
                &targets,
                missing("the policy protects nothing", "at least one listener"),
            );
        }
        for (number, PolicyTarget::Listener(name)) in policy.targets.iter().enumerate() {
            if !known.has_listener(name) {
                issues.add(
                    &targets.index(number).key("value"),
                    unknown("listener", name, known.listener_names()),
                );
            }
        }
        let rules = at.key("rules");
        for (number, rule) in policy.rules.iter().enumerate() {
            let methods = rules.index(number);
            let methods = methods.key("methods");
            for (number, method) in rule.methods.iter().enumerate() {
                if !syntax::is_token(method) {
                    let message = format!("{} is not a method", shown(method));
                    let problem = Problem::new(IssueCode::BadValue, message, "a token such as GET");
                    issues.add(&methods.index(number), problem);
                }
            }
        }
    }
    if let Err(found) = PolicySet::compile(policies) {
        issues.extend_below(&all, found);
    }
}
