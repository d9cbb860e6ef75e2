//! What does policy say of those who come through a listener?
//!
//! A listener has a [`Policy`] when something may be forbidden on it: a policy names it, or its default is not to allow
//! everybody. All others cost a look at an empty cell. Requests are judged one by one, before their route is looked
//! for; streams that are not HTTP before their server is called.

use std::sync::Arc;

use mesh_model::errors::Reason;
use mesh_model::policy::{
    ConnectionFacts, Denial, PeerIdentity, PolicyDefault, PolicySet, RuleId, TargetPolicies, Verdict,
};
use mesh_model::resources::{Address, Listener};
use mesh_model::route::RequestView;

use crate::exchange::{Peer, Proved};

/// The policies of a listener, and what holds where they say nothing.
#[derive(Clone)]
pub struct Policy {
    rules: Option<Arc<TargetPolicies>>,
    default: PolicyDefault,
    /// The port of connections that do not say which one they mean.
    port: Option<u16>,
}

/// By what something may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The rule; none where the default says so, or where there is no policy.
    pub rule: Option<RuleId>,
    /// That it would be denied if what is in audit mode were enforced.
    pub audited: bool,
}

/// As what something was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A stream that is not HTTP.
    Stream,
    /// A request, by this rule or by none, whatever became of it.
    Request(Option<RuleId>),
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.rules, &other.rules) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.default == other.default && self.port == other.port
    }
}

impl Policy {
    /// The policy of a listener; nothing where everybody may do everything.
    pub fn new(all: &PolicySet, listener: &Listener) -> Option<Self> {
        let rules = all.listener(&listener.name).cloned();
        if rules.is_none() && listener.default_policy == PolicyDefault::Allow {
            return None;
        }
        Some(Self {
            rules,
            default: listener.default_policy,
            port: match &listener.address {
                Address::Ip(address) => Some(address.port()).filter(|port| *port != 0),
                Address::Unix(_) => None,
            },
        })
    }

    /// Judges a request.
    ///
    /// # Errors
    /// [`Reason::Denied`].
    pub fn request(&self, peer: &Peer, request: &impl RequestView) -> Result<Passed, Reason> {
        let facts = self.facts(peer);
        match &self.rules {
            Some(rules) => passed(rules.request(&facts, request, self.default)),
            None => self.by_default(&facts),
        }
    }

    /// Judges a stream that is not HTTP.
    ///
    /// # Errors
    /// [`Reason::Denied`].
    pub fn stream(&self, peer: &Peer) -> Result<Passed, Reason> {
        let facts = self.facts(peer);
        match &self.rules {
            Some(rules) => passed(rules.stream(&facts, self.default)),
            None => self.by_default(&facts),
        }
    }

    /// Whether what has passed may go on, now that the policies are others: the rule that allowed it must be there
    /// unchanged, and no deny rule may take the peer.
    pub fn still(&self, peer: &Peer, admitted: Admitted) -> bool {
        match admitted {
            Admitted::Stream => self.stream(peer).is_ok(),
            Admitted::Request(rule) => {
                let facts = self.facts(peer);
                match (&self.rules, rule) {
                    (Some(rules), Some(rule)) => rules.still_allows(rule) && !rules.bars(&facts),
                    (Some(rules), None) => !rules.bars(&facts) && self.default.judge(&facts).is_ok(),
                    (None, Some(_)) => false,
                    (None, None) => self.default.judge(&facts).is_ok(),
                }
            }
        }
    }

    fn by_default(&self, facts: &ConnectionFacts<'_>) -> Result<Passed, Reason> {
        passed(Verdict {
            enforced: self.default.judge(facts),
            audited: None,
        })
    }

    fn facts<'a>(&self, peer: &'a Peer) -> ConnectionFacts<'a> {
        ConnectionFacts {
            identity: match peer.proved() {
                Proved::Nothing => PeerIdentity::Anonymous,
                Proved::Unreadable => PeerIdentity::Unreadable,
                Proved::Identity(identity) => PeerIdentity::Known(&identity.id),
            },
            address: peer.ip,
            port: match (peer.called(), peer.original()) {
                (Some(target), _) => Some(target.port()),
                (None, Some(original)) => Some(original.port()),
                (None, None) => self.port,
            },
        }
    }
}

fn passed(verdict: Verdict) -> Result<Passed, Reason> {
    match verdict.enforced {
        Ok(rule) => Ok(Passed {
            rule,
            audited: verdict.audited.is_some(),
        }),
        Err(Denial::Rule(_) | Denial::NotAllowed | Denial::Default) => Err(Reason::Denied),
    }
}
