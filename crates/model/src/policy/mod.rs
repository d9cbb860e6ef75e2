//! May this peer do this here?
//!
//! A [`PolicySet`] is compiled from all policies once. A connection asks it for the [`TargetPolicies`] of its listener,
//! which is nothing at all where no policy applies; each request or stream asks those for a [`Verdict`].
//!
//! ```text
//! a deny rule matches                      -> denied
//! an allow policy stands, no rule matches  -> denied
//! an allow rule matches                    -> allowed
//! no allow policy stands                   -> the default
//! ```
//!
//! A condition holds, does not hold, or can't be evaluated (an absent path, several values of a header, bytes that are
//! not UTF-8, a path that servers read in two ways, a certificate that names nobody or two). What can't be evaluated is denied rather than skipped: it fails
//! the conditions of allow rules and meets those of deny rules.
//!
//! Invariants: order means nothing (a property test shuffles, and compares with a naive reading); once
//! warm, nothing is allocated, locked or logged for a verdict, but for a path with parameters; a stream that is not HTTP is denied where an enforced rule
//! asks for HTTP of such a connection, so that waiting with the first byte is no way around policy.

mod asks;
mod conditions;
mod paths;
#[cfg(test)]
mod property_tests;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use conditions::Rule;
use paths::Readings;
pub use rules::*;

use crate::issue::{At, Issue, Issues};
use crate::route::RequestView;
use crate::spiffe::SpiffeId;

/// Who is at the other end, as far as TLS knows.
#[derive(Clone, Copy, Debug)]
pub enum PeerIdentity<'a> {
    /// No verified certificate.
    Anonymous,
    /// A verified certificate without exactly one SPIFFE identity.
    Unreadable,
    /// A verified certificate with this identity.
    Known(&'a SpiffeId),
}

/// What policy knows of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Who.
    pub identity: PeerIdentity<'a>,
    /// Where from. Absent for Unix sockets.
    pub address: Option<IpAddr>,
    /// The port it came in on. Absent for Unix sockets.
    pub port: Option<u16>,
}

/// One rule, as it was when it was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId {
    /// The place of its policy among all.
    pub policy: u32,
    /// The same for the same rule in every set, so that a stream can ask whether it is still there.
    pub key: u64,
}

/// Why something may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// This deny rule matches, or needs HTTP where there is none.
    Rule(RuleId),
    /// There are allow policies, and none of their rules match.
    NotAllowed,
    /// The default says so.
    Default,
}

/// What policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It may pass, by this allow rule or by the default; or not.
    pub enforced: Result<Option<RuleId>, Denial>,
    /// Why it would be denied if the policies in audit mode were enforced too. Nothing if it is denied anyway.
    pub audited: Option<Denial>,
}

/// Every policy, by target.
#[derive(Debug, Default)]
pub struct PolicySet {
    listeners: HashMap<Box<str>, Arc<TargetPolicies>>,
}

impl PolicySet {
    /// Compiles policies.
    ///
    /// # Errors
    /// Every pattern that does not compile, with its place under the list of policies.
    pub fn compile(policies: &[AuthorizationPolicy]) -> Result<Self, Vec<Issue>> {
        let mut issues = Issues::default();
        let mut by_listener: HashMap<&str, TargetPolicies> = HashMap::new();
        for (number, policy) in policies.iter().enumerate() {
            let name: Arc<str> = policy.name.as_str().into();
            let at = At::Root.index(number);
            let at = at.key("rules");
            let mut rules = Vec::with_capacity(policy.rules.len());
            for (position, rule) in policy.rules.iter().enumerate() {
                let place = u32::try_from(number).unwrap_or(u32::MAX);
                let compiled = Rule::compile(place, &name, rule, &at.index(position), &mut issues);
                rules.push(Arc::new(compiled));
            }
            let mut seen: Vec<&str> = Vec::new();
            for PolicyTarget::Listener(listener) in &policy.targets {
                if !seen.contains(&listener.as_str()) {
                    seen.push(listener);
                    by_listener
                        .entry(listener)
                        .or_default()
                        .add(policy, &name, &rules);
                }
            }
        }
        let issues = issues.into_vec();
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            listeners: by_listener
                .into_iter()
                .map(|(name, policies)| (name.into(), Arc::new(policies)))
                .collect(),
        })
    }

    /// The policies of a listener, if there are any.
    pub fn listener(&self, name: &str) -> Option<&Arc<TargetPolicies>> {
        self.listeners.get(name)
    }
}

/// The policies of one target.
#[derive(Debug, Default)]
pub struct TargetPolicies {
    enforced: Rules,
    audited: Rules,
}

/// The rules of one target and mode.
#[derive(Debug, Default)]
struct Rules {
    deny: Vec<Arc<Rule>>,
    allow: Vec<Arc<Rule>>,
    /// The names of the allow policies that stand, be they without rules.
    closed: Vec<Arc<str>>,
}

impl TargetPolicies {
    fn add(&mut self, policy: &AuthorizationPolicy, name: &Arc<str>, rules: &[Arc<Rule>]) {
        let of = match policy.mode {
            PolicyMode::Enforce => &mut self.enforced,
            PolicyMode::Audit => &mut self.audited,
        };
        match policy.action {
            PolicyAction::Allow => {
                of.closed.push(Arc::clone(name));
                of.allow.extend_from_slice(rules);
            }
            PolicyAction::Deny => of.deny.extend_from_slice(rules),
        }
    }

    /// Whether a rule that allowed something is still there and still enforced, be it in another policy. `before` is
    /// where it was: if it is not there, one of the same policy that takes all that it took will do.
    pub fn still_allows(&self, before: Option<&Self>, rule: RuleId) -> bool {
        let allow = &self.enforced.allow;
        if allow.iter().any(|other| other.id.key == rule.key) {
            return true;
        }
        let mut known = before.iter().flat_map(|before| &before.enforced.allow);
        let known = known.find(|known| known.id == rule);
        known.is_some_and(|known| allow.iter().any(|other| other.replaces(known)))
    }

    /// Whether an allow policy is enforced, so that the default says nothing.
    pub fn is_closed(&self) -> bool {
        !self.enforced.closed.is_empty()
    }

    /// The names of the policies of this mode that a denial is by: the one whose rule it is, or the allow policies of
    /// which no rule matches. None where it is the default's.
    pub fn denied_by(&self, denial: Denial, mode: PolicyMode) -> impl Iterator<Item = &str> {
        let of = match mode {
            PolicyMode::Enforce => &self.enforced,
            PolicyMode::Audit => &self.audited,
        };
        let rule = of.deny.iter().find(|rule| denial == Denial::Rule(rule.id));
        let closed = of.closed.iter().filter(move |_| denial == Denial::NotAllowed);
        rule.map(|rule| &*rule.policy)
            .into_iter()
            .chain(closed.map(|name| &**name))
    }

    /// Whether an enforced deny rule takes what was a request of this peer, of which nothing more is known: one that
    /// asks for nothing of HTTP, or one that asks and takes more than any that was there `before`, when the request was
    /// judged.
    pub fn bars(&self, before: Option<&Self>, peer: &ConnectionFacts<'_>) -> bool {
        let was_judged = |rule: &Rule| {
            let known = before.map(|before| before.enforced.deny.iter());
            known.is_some_and(|mut known| known.any(|other| other.covers(rule)))
        };
        let mut deny = self.enforced.deny.iter();
        deny.any(|rule| rule.connection(peer) != Some(false) && !(rule.http && was_judged(rule)))
    }

    /// Judges a request.
    pub fn request(
        &self,
        peer: &ConnectionFacts<'_>,
        request: &impl RequestView,
        default: PolicyDefault,
    ) -> Verdict {
        let path = Readings::of(request.path());
        self.judge(
            default,
            peer,
            |rule| rule.request(peer, &path, request),
            |_| false,
        )
    }

    /// Judges a stream that is not HTTP.
    pub fn stream(&self, peer: &ConnectionFacts<'_>, default: PolicyDefault) -> Verdict {
        let asks_http = |rule: &Rule| rule.http && rule.connection(peer) != Some(false);
        self.judge(default, peer, |rule| rule.stream(peer), asks_http)
    }

    fn judge(
        &self,
        default: PolicyDefault,
        peer: &ConnectionFacts<'_>,
        holds: impl Fn(&Rule) -> Option<bool>,
        bars: impl Fn(&Rule) -> bool,
    ) -> Verdict {
        let judge = |modes: &[&Rules]| {
            let every = |list: fn(&Rules) -> &Vec<Arc<Rule>>| modes.iter().flat_map(move |rules| list(rules));
            let denies = |rule: &&Arc<Rule>| holds(rule) != Some(false);
            if let Some(rule) = every(|rules| &rules.deny).find(denies) {
                return Err(Denial::Rule(rule.id));
            }
            if every(|rules| &rules.allow).any(|rule| bars(rule)) {
                return Err(Denial::NotAllowed);
            }
            if let Some(rule) = every(|rules| &rules.allow).find(|rule| holds(rule) == Some(true)) {
                return Ok(Some(rule.id));
            }
            if modes.iter().any(|rules| !rules.closed.is_empty()) {
                return Err(Denial::NotAllowed);
            }
            default.judge(peer)
        };
        let enforced = judge(&[&self.enforced]);
        let audits = !self.audited.closed.is_empty() || !self.audited.deny.is_empty();
        Verdict {
            enforced,
            audited: (audits && enforced.is_ok())
                .then(|| judge(&[&self.enforced, &self.audited]).err())
                .flatten(),
        }
    }
}

impl PolicyDefault {
    /// What holds where no policy stands.
    pub fn judge(self, peer: &ConnectionFacts<'_>) -> Result<Option<RuleId>, Denial> {
        match (self, peer.identity) {
            (Self::Allow, _) | (Self::AllowAuthenticated, PeerIdentity::Known(_)) => Ok(None),
            _ => Err(Denial::Default),
        }
    }
}
