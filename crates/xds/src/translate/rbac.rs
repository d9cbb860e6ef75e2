//! Policies as RBAC (gRFC A41), for those who know no other form.
//!
//! One filter denies, one allows; what is in audit mode is their shadow rules. RBAC knows nothing of conditions that
//! can't be evaluated: there a header that is missing simply does not match. Our own sidecars read the policies in the
//! mesh's own words, see `listener.rs`.

use mesh_model::policy::{AuthorizationPolicy, Peer, PolicyAction, PolicyDefault, PolicyMode, PolicyRule};
use mesh_model::resources::{GrpcMatch, PathMatch};

use super::matchers::{escaped, to_header, to_regex};
use super::routes::template_pattern;
use super::{Refusal, envelope};
use crate::wire::{
    Authenticated, CidrRange, HeaderMatcher, HttpFilter, PathMatcher, Permission, Permissions, Policy,
    Principal, Principals, Rbac, RbacFilter, StringMatcher,
};

const FILTER: &str = "envoy.filters.http.rbac";
const FILTER_URL: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// The filters that say who may call.
pub(super) fn filters(
    default: PolicyDefault,
    policies: &[AuthorizationPolicy],
) -> Result<Vec<HttpFilter>, Refusal> {
    let of = |action, mode| {
        let all = policies.iter();
        all.filter(move |policy| policy.action == action && policy.mode == mode)
    };
    let deny = rbac(PolicyAction::Deny, of(PolicyAction::Deny, PolicyMode::Enforce))?;
    let would_deny = rbac(PolicyAction::Deny, of(PolicyAction::Deny, PolicyMode::Audit))?;
    let allow = rbac(PolicyAction::Allow, of(PolicyAction::Allow, PolicyMode::Enforce))?;
    // What is enforced already allows under audit too.
    let both = of(PolicyAction::Allow, PolicyMode::Audit).chain(of(PolicyAction::Allow, PolicyMode::Enforce));
    let would_allow = match of(PolicyAction::Allow, PolicyMode::Audit).next() {
        Some(_) => rbac(PolicyAction::Allow, both)?,
        None => None,
    };
    let allow = allow.or_else(|| by_default(default));
    let filter = |suffix: &str, rules: Option<Rbac>, shadow_rules: Option<Rbac>| {
        (rules.is_some() || shadow_rules.is_some()).then(|| HttpFilter {
            name: format!("{FILTER}.{suffix}"),
            typed_config: Some(envelope(FILTER_URL, &RbacFilter { rules, shadow_rules })),
            is_optional: false,
        })
    };
    Ok([
        filter("deny", deny, would_deny),
        filter("allow", allow, would_allow),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// What holds where no policy allows anything; nothing where everybody is allowed.
fn by_default(default: PolicyDefault) -> Option<Rbac> {
    let mut rbac = Rbac::default();
    match default {
        PolicyDefault::Allow => return None,
        PolicyDefault::Deny => {}
        PolicyDefault::AllowAuthenticated => {
            let policy = Policy {
                permissions: vec![any_permission()],
                principals: vec![authenticated(None)],
            };
            rbac.policies.insert("default".to_owned(), policy);
        }
    }
    Some(rbac)
}

fn rbac<'a>(
    action: PolicyAction,
    policies: impl Iterator<Item = &'a AuthorizationPolicy>,
) -> Result<Option<Rbac>, Refusal> {
    let mut rbac = Rbac {
        action: match action {
            PolicyAction::Allow => 0,
            PolicyAction::Deny => 1,
        },
        ..Rbac::default()
    };
    let mut any = false;
    for policy in policies {
        any = true;
        for (number, rule) in policy.rules.iter().enumerate() {
            let name = format!("{}/{number}", policy.name);
            if rbac.policies.insert(name, to_policy(rule)?).is_some() {
                let reason = format!("two policies are called `{}`", policy.name);
                return Err(Refusal::new("policies", reason));
            }
        }
    }
    // An allow policy without rules allows nothing, which is something; a deny policy without rules is nothing.
    let counts = any && (action == PolicyAction::Allow || !rbac.policies.is_empty());
    Ok(counts.then_some(rbac))
}

fn to_policy(rule: &PolicyRule) -> Result<Policy, Refusal> {
    let mut principals = Vec::new();
    principals.extend(one_principal(rule.from.iter().map(principal)));
    principals.extend(one_principal(rule.networks.iter().map(|network| Principal {
        direct_remote_ip: Some(CidrRange {
            address_prefix: network.addr().to_string(),
            prefix_len: Some(network.prefix_len().into()),
        }),
        ..Principal::default()
    })));
    let mut permissions = Vec::new();
    permissions.extend(one_permission(rule.ports.iter().map(|port| Permission {
        destination_port: Some((*port).into()),
        ..Permission::default()
    })));
    permissions.extend(one_permission(rule.methods.iter().map(|method| Permission {
        header: Some(HeaderMatcher {
            name: ":method".to_owned(),
            string_match: Some(exact(method)),
            ..HeaderMatcher::default()
        }),
        ..Permission::default()
    })));
    permissions.extend(one_permission(
        rule.paths.iter().map(|path| url_path(to_path(path))),
    ));
    permissions.extend(one_permission(
        rule.grpc.iter().map(|grpc| url_path(to_grpc(grpc))),
    ));
    if !rule.grpc.is_empty() {
        permissions.push(Permission {
            header: Some(HeaderMatcher {
                name: "content-type".to_owned(),
                string_match: Some(StringMatcher {
                    prefix: Some("application/grpc".to_owned()),
                    ..StringMatcher::default()
                }),
                ..HeaderMatcher::default()
            }),
            ..Permission::default()
        });
    }
    for header in &rule.headers {
        permissions.push(Permission {
            header: Some(to_header(header)?),
            ..Permission::default()
        });
    }
    Ok(Policy {
        permissions: vec![match permissions.is_empty() {
            true => any_permission(),
            false => Permission {
                and_rules: Some(Permissions { rules: permissions }),
                ..Permission::default()
            },
        }],
        principals: vec![match principals.is_empty() {
            true => Principal {
                any: Some(true),
                ..Principal::default()
            },
            false => Principal {
                and_ids: Some(Principals { ids: principals }),
                ..Principal::default()
            },
        }],
    })
}

fn one_principal(of: impl Iterator<Item = Principal>) -> Option<Principal> {
    let ids: Vec<_> = of.collect();
    (!ids.is_empty()).then(|| Principal {
        or_ids: Some(Principals { ids }),
        ..Principal::default()
    })
}

fn one_permission(of: impl Iterator<Item = Permission>) -> Option<Permission> {
    let rules: Vec<_> = of.collect();
    (!rules.is_empty()).then(|| Permission {
        or_rules: Some(Permissions { rules }),
        ..Permission::default()
    })
}

fn any_permission() -> Permission {
    Permission {
        any: Some(true),
        ..Permission::default()
    }
}

fn authenticated(principal_name: Option<StringMatcher>) -> Principal {
    Principal {
        authenticated: Some(Authenticated { principal_name }),
        ..Principal::default()
    }
}

fn principal(peer: &Peer) -> Principal {
    authenticated(match peer {
        Peer::Authenticated => None,
        Peer::Identity(id) => Some(exact(id.as_str())),
        Peer::IdentityPrefix(id) => Some(pattern(format!("{}(/.*)?", escaped(id.as_str())))),
        Peer::Namespace(namespace) => Some(pattern(format!(
            "spiffe://{}/ns/{}/sa/[^/]+",
            escaped(namespace.trust_domain.as_str()),
            escaped(&namespace.name)
        ))),
    })
}

fn to_path(path: &PathMatch) -> StringMatcher {
    match path {
        PathMatch::Exact(path) => exact(path),
        PathMatch::Prefix(prefix) => match prefix.strip_suffix('/') {
            Some(_) => StringMatcher {
                prefix: Some(prefix.clone()),
                ..StringMatcher::default()
            },
            None => pattern(format!("{}(/.*)?", escaped(prefix))),
        },
        PathMatch::Template(template) => pattern(template_pattern(template)),
        PathMatch::Regex(regex) => pattern(regex.clone()),
    }
}

fn to_grpc(grpc: &GrpcMatch) -> StringMatcher {
    match &grpc.method {
        Some(method) => exact(&format!("/{}/{method}", grpc.service)),
        None => StringMatcher {
            prefix: Some(format!("/{}/", grpc.service)),
            ..StringMatcher::default()
        },
    }
}

fn url_path(path: StringMatcher) -> Permission {
    Permission {
        url_path: Some(PathMatcher { path: Some(path) }),
        ..Permission::default()
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        exact: Some(text.to_owned()),
        ..StringMatcher::default()
    }
}

fn pattern(regex: String) -> StringMatcher {
    StringMatcher {
        safe_regex: Some(to_regex(regex)),
        ..StringMatcher::default()
    }
}
