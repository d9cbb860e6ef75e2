//! How does an operator learn what policy denies, and what it would deny?
//!
//! By a warning, and a [`Decision`] for a host that wants it, that names the policy, the caller and what it asked for, so that a policy can be tried on what really
//! passes before it is enforced. Callers cause these as often as they like, so they are few, see [`Thread::may_say`], and
//! nothing is formatted for those that are left out. What comes from a caller is cut and escaped; its query is left out,
//! which may hold secrets.

use std::fmt::{self, Display, Formatter, Write};

use mesh_model::policy::{Denial, PolicyMode};
use mesh_model::route::RequestView;

use crate::exchange::{Peer, Proved};
use crate::io::Net;
use crate::plan::ListenerPlan;
use crate::policy::{Denied, Policy};
use crate::telemetry::Decision;
use crate::thread::{Often, Thread};

/// The most bytes of a path that are said: what policies tell apart comes first.
const MOST_PATH: usize = 256;

/// The most bytes of a method that are said: the longest one that is registered has 17.
const MOST_METHOD: usize = 32;

/// The most policies that are named: where many stand beside each other, the first ones tell where to look.
const MOST_POLICIES: usize = 4;

/// Says that a request is denied, or would be.
#[cold]
pub(crate) fn request<N: Net>(
    thread: &Thread<N>,
    plan: &ListenerPlan,
    peer: &Peer,
    denied: Denied,
    request: &impl RequestView,
) {
    let method = Cut(request.method(), MOST_METHOD);
    let path = Cut(request.path(), MOST_PATH);
    say(thread, plan, peer, denied, Some((method, path)));
}

/// The same of a stream that is not HTTP.
#[cold]
pub(crate) fn stream<N: Net>(thread: &Thread<N>, plan: &ListenerPlan, peer: &Peer, denied: Denied) {
    say(thread, plan, peer, denied, None);
}

type Field<'a> = (&'a str, &'a dyn Display);

fn say<N: Net>(
    thread: &Thread<N>,
    plan: &ListenerPlan,
    peer: &Peer,
    denied: Denied,
    asked: Option<(Cut<'_>, Cut<'_>)>,
) {
    let (of, message) = match denied.mode {
        PolicyMode::Enforce => (Often::Denied, "a caller was denied"),
        PolicyMode::Audit => (Often::Audited, "a caller would be denied"),
    };
    let (Some(policy), Some(unsaid)) = (&plan.policy, thread.may_say(of)) else {
        return;
    };
    let by = By { policy, denied };
    let why = match denied.why {
        Denial::Rule(_) => "rule",
        Denial::NotAllowed => "no_rule",
        Denial::Default => "default",
    };
    let port = policy.port(peer);
    let caller = Caller(peer);
    let mut fields: Vec<Field<'_>> = Vec::new();
    if denied.why != Denial::Default {
        fields.push(("policy", &by));
    }
    fields.extend::<[Field<'_>; 2]>([("why", &why), ("listener", &plan.name)]);
    if let Some(port) = &port {
        fields.push(("port", port));
    }
    fields.push(("caller", &caller));
    if let Some((method, path)) = &asked {
        fields.extend::<[Field<'_>; 2]>([("method", method), ("path", path)]);
    }
    if unsaid > 0 {
        fields.push(("unsaid", &unsaid));
    }
    thread.guard.log.warn(message, &fields);
    thread.telemetry.shared().decisions().push(|| Decision {
        mode: denied.mode,
        why,
        policies: policy
            .denied_by(denied)
            .take(MOST_POLICIES)
            .map(ToOwned::to_owned)
            .collect(),
        port,
        caller: caller.to_string(),
        asked: asked
            .as_ref()
            .map(|(method, path)| (method.to_string(), path.to_string())),
        unsaid,
    });
}

/// The names of the policies that a denial is by: `readers,writers`.
struct By<'a> {
    policy: &'a Policy,
    denied: Denied,
}

impl Display for By<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut names = self.policy.denied_by(self.denied);
        for (place, name) in names.by_ref().take(MOST_POLICIES).enumerate() {
            if place > 0 {
                f.write_char(',')?;
            }
            f.write_str(name)?;
        }
        match names.count() {
            0 => Ok(()),
            more => write!(f, ",+{more}"),
        }
    }
}

/// Who calls: an identity, or the address of who has none that can be read.
struct Caller<'a>(&'a Peer);

impl Display for Caller<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.proved() {
            Proved::Identity(identity) => identity.id.fmt(f),
            Proved::Nothing | Proved::Unreadable => f.write_str(&self.0.text),
        }
    }
}

/// The first bytes of what a caller sent, of which the rest is `...`; what is not printable ASCII is escaped.
struct Cut<'a>(&'a [u8], usize);

impl Display for Cut<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(bytes, most) = *self;
        match bytes.get(..most) {
            Some(start) if bytes.len() > most => write!(f, "{}...", start.escape_ascii()),
            _ => bytes.escape_ascii().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_sent_is_cut_and_escaped() {
        assert_eq!(Cut(b"/items", 6).to_string(), "/items");
        assert_eq!(Cut(b"/items/1", 6).to_string(), "/items...");
        assert_eq!(Cut(b"/\x1b\n\xff", 6).to_string(), r"/\x1b\n\xff");
        assert_eq!(Cut(b"", 6).to_string(), "");
    }
}
