//! What is told as it happens?
//!
//! Events go to one [`Events`], which must not wait. What it has no room for is lost, and the next one that it takes says
//! how many were: then [`Controller::sidecars`](crate::Controller::sidecars) says how things stand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use mesh_identity::authority::Changed;
use serde::Serialize;

use crate::fleet::{Nack, SidecarView};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A sidecar said who it is.
    Connected {
        /// It.
        sidecar: SidecarView,
    },
    /// A sidecar takes requests from now on.
    Ready {
        /// It.
        sidecar: SidecarView,
    },
    /// A sidecar takes no new requests from now on.
    Draining {
        /// It.
        sidecar: SidecarView,
    },
    /// A sidecar's stream has ended: it left, or can't be reached.
    Gone {
        /// As it was.
        sidecar: SidecarView,
    },
    /// Somebody asked for a certificate.
    Audit(Audit),
    /// Policy denied something at a workload, or would have.
    Policy(PolicyDecision),
    /// A subscriber refuses what it was sent, or refuses less than before.
    Nack {
        /// Who.
        identity: String,
        /// What it calls itself.
        node: String,
        /// All that it refuses now.
        nacks: Vec<Nack>,
    },
    /// The authority changed.
    Rotated {
        /// How, in order: `rootAnnounced`, `rootSwitched`, `rootDropped`, `issuerRenewed`.
        changes: Vec<&'static str>,
    },
    /// Something of the authority could not be done, and is tried again.
    AuthorityFailed {
        /// What it says.
        reason: String,
    },
    /// Events were lost before this one.
    Lost {
        /// How many.
        count: u64,
    },
}

/// A request for a certificate, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// For whom; `None` where the request does not say it.
    pub identity: Option<String>,
    /// From where.
    pub address: String,
    /// What spoke for it: `certificate`, `token`, `attestation` or `nothing`.
    pub proof: &'static str,
    /// The serial number of the certificate; `None` where there is none.
    pub serial: Option<String>,
    /// The certificate's last second, in milliseconds since 1970.
    pub not_after_ms: Option<u64>,
    /// Why there is none.
    pub refused: Option<String>,
}

/// What policy decided against at a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDecision {
    /// The workload that was called.
    pub identity: String,
    /// What its sidecar calls itself.
    pub node: String,
    /// `enforce`, or `audit`: then it passed.
    pub mode: &'static str,
    /// `rule`: one denies it; `no_rule`: none allows it; `default`: what holds where there is no policy.
    pub why: String,
    /// The policies, the first few of them.
    pub policies: Vec<String>,
    /// The port that was called; `None` where none was that is declared.
    pub port: Option<u32>,
    /// Who called: an identity, or the address of who has none that can be read.
    pub caller: String,
    /// `None` where no HTTP is spoken.
    pub method: Option<String>,
    /// Without its query.
    pub path: Option<String>,
    /// Others that were not told since the one before.
    pub unsaid: u64,
}

impl PolicyDecision {
    /// What a sidecar tells.
    pub(crate) fn at(identity: &str, node: &str, told: mesh_protocol::message::PolicyDecision) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            identity: identity.to_owned(),
            node: node.to_owned(),
            mode: if told.audit { "audit" } else { "enforce" },
            why: told.why,
            policies: told.policies,
            port: (told.port != 0).then_some(told.port),
            caller: told.caller,
            method: some(told.method),
            path: some(told.path),
            unsaid: told.unsaid,
        }
    }
}

/// Takes events. `false`: it had no room.
pub type Events = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// The way of events out.
pub(crate) struct Out {
    events: Events,
    lost: AtomicU64,
}

impl Out {
    pub(crate) fn new(events: Events) -> Self {
        Self {
            events,
            lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn send(&self, event: &Event) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !(self.events)(&Event::Lost { count: lost }) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            return;
        }
        if !(self.events)(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The name of a change.
pub(crate) const fn name_of(changed: Changed) -> &'static str {
    match changed {
        Changed::RootAnnounced => "rootAnnounced",
        Changed::RootSwitched => "rootSwitched",
        Changed::RootDropped => "rootDropped",
        Changed::IssuerRenewed => "issuerRenewed",
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn who_lost_events_is_told_how_many() {
        let (sender, receiver) = sync_channel(1);
        let out = Out::new(Box::new(move |event| sender.try_send(event.clone()).is_ok()));
        let rotated = Event::Rotated { changes: vec![] };
        for _ in 0..4 {
            out.send(&rotated);
        }
        assert_eq!(receiver.recv().unwrap(), rotated);
        // There is room for one: that it lost three is what fits.
        out.send(&rotated);
        assert_eq!(receiver.recv().unwrap(), Event::Lost { count: 3 });
        out.send(&rotated);
        assert_eq!(receiver.recv().unwrap(), Event::Lost { count: 1 });
    }
}
