//! How is it written down who may do what to whom?

use serde::{Deserialize, Serialize};

use crate::resources::{GrpcMatch, IpNet, Name, PathMatch, ValueMatch, networks};
use crate::spiffe::{SpiffeId, TrustDomain};

/// Who may, or may not, do what to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// Unique name, a metric label.
    pub name: Name,
    /// To whom.
    pub targets: Vec<PolicyTarget>,
    /// What happens to what a rule matches.
    pub action: PolicyAction,
    /// Whether it is enforced. Default: it is.
    #[serde(default)]
    pub mode: PolicyMode,
    /// Any of these. Empty: none, so that an allow policy without rules closes its targets.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// What a policy protects. Services and their ports come beside listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum PolicyTarget {
    /// The listener of this name.
    Listener(Name),
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyAction {
    /// What a rule matches may pass, and what no allow policy of the target matches may not.
    Allow,
    /// What a rule matches may not pass, whatever else allows it.
    Deny,
}

/// Whether a policy is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyMode {
    /// It is. The default: a policy that is only half written down should not be an open door.
    #[default]
    Enforce,
    /// It is only told what it would have denied.
    Audit,
}

/// What holds for a target that no allow policy names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyDefault {
    /// Everybody may. The default outside the mesh, where few have an identity.
    #[default]
    Allow,
    /// Whoever has an identity may.
    AllowAuthenticated,
    /// Nobody may.
    Deny,
}

impl PolicyDefault {
    /// Whether it is the default, which need not be written.
    pub(crate) fn is_allow(&self) -> bool {
        *self == Self::Allow
    }
}

/// All conditions that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyRule {
    /// Who, any of these. Empty: anybody, with or without an identity.
    pub from: Vec<Peer>,
    /// The networks that connections come from, any of these. Empty: all.
    #[serde(deserialize_with = "networks")]
    pub networks: Vec<IpNet>,
    /// The ports that connections come in on, any of these. Empty: all.
    pub ports: Vec<u16>,
    /// Methods, any of these. Empty: all.
    pub methods: Vec<String>,
    /// Paths, any of these. Empty: all.
    pub paths: Vec<PathMatch>,
    /// gRPC calls, any of these. Empty: all.
    pub grpc: Vec<GrpcMatch>,
    /// Header conditions, all of them.
    pub headers: Vec<ValueMatch>,
}

impl PolicyRule {
    /// Whether it asks for something that only an HTTP request has.
    pub(super) fn is_http(&self) -> bool {
        !(self.methods.is_empty() && self.paths.is_empty() && self.grpc.is_empty() && self.headers.is_empty())
    }
}

/// Who a connection's peer is, by its certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "camelCase",
    deny_unknown_fields
)]
pub enum Peer {
    /// Any identity.
    Authenticated,
    /// This one.
    Identity(SpiffeId),
    /// This one and all below it, on segment borders: `spiffe://td/ns/a` takes `spiffe://td/ns/a/sa/b`, not `spiffe://td/ns/ab`.
    IdentityPrefix(SpiffeId),
    /// All of a namespace of a trust domain.
    Namespace(Namespace),
}

/// A namespace. Its trust domain belongs to it: another one may have a namespace of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespace {
    /// Who vouches.
    pub trust_domain: TrustDomain,
    /// The name after `/ns/`.
    pub name: String,
}
