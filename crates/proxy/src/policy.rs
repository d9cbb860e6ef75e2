//! What does policy say of those who come through a listener?
//!
//! A listener has a [`Policy`] when something may be forbidden on it: a policy names it, or its default is not to allow
//! everybody. All others cost a look at an empty cell. Requests are judged one by one, before their route is looked
//! for; streams that are not HTTP before their server is called.

use std::sync::Arc;

use mesh_model::policy::{
    ConnectionFacts, Denial, PeerIdentity, PolicyDefault, PolicyMode, PolicySet, RuleId, TargetPolicies,
    Verdict,
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
    /// Why it would be denied if what is in audit mode were enforced.
    pub audited: Option<Denied>,
}

/// What policy denies, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub why: Denial,
    /// Of policies that are enforced, or of those that are only told what they would do.
    pub mode: PolicyMode,
}

/// As what something was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// A stream that is not HTTP.
    Stream,
    /// A request that became a stream of bytes, by this rule or by none. Its head is gone.
    Tunnel(Option<RuleId>),
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
            port: plain_port(listener),
        })
    }

    /// Judges a request.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn request(&self, peer: &Peer, request: &impl RequestView) -> Result<Passed, Denied> {
        let facts = self.facts(peer);
        match &self.rules {
            Some(rules) => passed(rules.request(&facts, request, self.default)),
            None => self.by_default(&facts),
        }
    }

    /// Judges a stream that is not HTTP.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn stream(&self, peer: &Peer) -> Result<Passed, Denied> {
        let facts = self.facts(peer);
        match &self.rules {
            Some(rules) => passed(rules.stream(&facts, self.default)),
            None => self.by_default(&facts),
        }
    }

    /// Whether a request that passed by this rule of the policies `before`, or by none, may go on for all that is known
    /// without its head: the rule must be there, and take no less.
    pub fn keeps(&self, before: Option<&Self>, rule: Option<RuleId>) -> bool {
        let before = before.and_then(|policy| policy.rules.as_deref());
        let rules = self.rules.as_ref();
        rule.is_none_or(|rule| rules.is_some_and(|rules| rules.still_allows(before, rule)))
    }

    /// Whether what passes bytes may go on, now that the policies are these and no longer `before`. Deny rules that are
    /// new and ask for a head that is gone are taken to match: deny rather than skip.
    pub fn still(&self, before: Option<&Self>, peer: &Peer, admitted: Admitted) -> bool {
        let rule = match admitted {
            Admitted::Stream => return self.stream(peer).is_ok(),
            Admitted::Tunnel(rule) => rule,
        };
        let facts = self.facts(peer);
        let known = before.and_then(|policy| policy.rules.as_deref());
        let rules = self.rules.as_deref();
        let barred = rules.is_some_and(|rules| rules.bars(known, &facts));
        let closed = rules.is_some_and(TargetPolicies::is_closed);
        let by_default = || !closed && self.default.judge(&facts).is_ok();
        !barred && self.keeps(before, rule) && (rule.is_some() || by_default())
    }

    /// The names of the policies that a denial is by; none where it is the default's.
    pub fn denied_by(&self, denied: Denied) -> impl Iterator<Item = &str> {
        let rules = self.rules.as_deref().into_iter();
        rules.flat_map(move |rules| rules.denied_by(denied.why, denied.mode))
    }

    /// The port that a client means; none where there is nothing to tell it by.
    pub fn port(&self, peer: &Peer) -> Option<u16> {
        match (peer.called(), peer.original()) {
            (Some(target), _) => Some(target.port()),
            (None, Some(original)) => Some(original.port()),
            (None, None) => self.port,
        }
    }

    fn by_default(&self, facts: &ConnectionFacts<'_>) -> Result<Passed, Denied> {
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
            port: self.port(peer),
        }
    }
}

/// The port that a connection means by itself: the first one of a workload, else the listener's own; none where the kernel
/// chooses that.
fn plain_port(listener: &Listener) -> Option<u16> {
    let first = listener
        .workload
        .as_ref()
        .and_then(|workload| workload.ports.first());
    match (first, &listener.address) {
        (Some(first), _) => Some(first.port),
        (None, Address::Ip(address)) => Some(address.port()).filter(|port| *port != 0),
        (None, Address::Unix(_)) => None,
    }
}

fn passed(verdict: Verdict) -> Result<Passed, Denied> {
    let denied = |mode| move |why| Denied { why, mode };
    match verdict.enforced {
        Ok(rule) => Ok(Passed {
            rule,
            audited: verdict.audited.map(denied(PolicyMode::Audit)),
        }),
        Err(why) => Err(denied(PolicyMode::Enforce)(why)),
    }
}
