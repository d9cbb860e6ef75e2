//! What is told as it happens?
//!
//! Events go to one [`Events`], which must not wait. What it has no room for is lost, and how many were is told with the next
//! one, or a second later: then [`Controller::sidecars`](crate::Controller::sidecars) says how things stand.
//!
//! Invariant: whoever takes events can tell those of strangers apart, so that they need not take the room of the others; how
//! many of them were lost is told once a second, and no more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mesh_identity::authority::Changed;
use serde::Serialize;
use tokio::sync::Notify;

use crate::fleet::{Nack, SidecarView};

/// When it is told that events were lost, after which there was no other.
const TELL_LOST: Duration = Duration::from_secs(1);

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
    /// Events were lost.
    Lost {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// Whether it is of somebody who need not be of the mesh. Anybody causes as many of these as he likes.
    pub const fn is_of_strangers(&self) -> bool {
        matches!(self, Self::Audit(Audit { refused: Some(_), .. }))
    }
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
    /// The same, of strangers: told now and then, so that they can't have that told all the time either.
    lost_of_strangers: AtomicU64,
    /// Rings when some were lost.
    bell: Notify,
}

impl Out {
    pub(crate) fn new(events: Events) -> Self {
        Self {
            events,
            lost: AtomicU64::new(0),
            lost_of_strangers: AtomicU64::new(0),
            bell: Notify::new(),
        }
    }

    pub(crate) fn send(&self, event: &Event) {
        if event.is_of_strangers() {
            if !(self.events)(event) {
                self.loses(&self.lost_of_strangers, 1);
            }
        } else if !self.tell(self.lost.swap(0, Ordering::Relaxed)) || !(self.events)(event) {
            self.loses(&self.lost, 1);
        }
    }

    /// Tells how many were lost, where nothing else is to be told. Never ends.
    pub(crate) async fn tell_lost(&self) {
        loop {
            self.bell.notified().await;
            tokio::time::sleep(TELL_LOST).await;
            let lost = [&self.lost, &self.lost_of_strangers].map(|lost| lost.swap(0, Ordering::Relaxed));
            self.tell(lost.iter().sum());
        }
    }

    /// Tells that so many were lost, if any. Whether there was room; else it is kept.
    fn tell(&self, lost: u64) -> bool {
        let is_told = lost == 0 || (self.events)(&Event::Lost { count: lost });
        if !is_told {
            self.loses(&self.lost, lost);
        }
        is_told
    }

    fn loses(&self, lost: &AtomicU64, count: u64) {
        lost.fetch_add(count, Ordering::Relaxed);
        self.bell.notify_one();
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
    use std::sync::mpsc::{channel, sync_channel};

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

    fn refused() -> Event {
        Event::Audit(Audit {
            time_ms: 0,
            identity: None,
            address: "127.0.0.1:1".to_owned(),
            proof: "nothing",
            serial: None,
            not_after_ms: None,
            refused: Some("invalid".to_owned()),
        })
    }

    #[tokio::test]
    async fn what_was_lost_is_told_though_nothing_else_is() {
        let (sender, receiver) = sync_channel(1);
        let out = Out::new(Box::new(move |event| sender.try_send(event.clone()).is_ok()));
        let rotated = Event::Rotated { changes: vec![] };
        out.send(&rotated);
        out.send(&rotated);
        out.send(&refused());
        assert_eq!(receiver.recv().unwrap(), rotated);
        let told = async {
            loop {
                if let Ok(event) = receiver.try_recv() {
                    return event;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = out.tell_lost() => {}
            event = told => assert_eq!(event, Event::Lost { count: 2 }),
        }
    }

    #[test]
    fn what_is_lost_of_strangers_is_not_told_each_time() {
        let (sender, receiver) = channel();
        let out = Out::new(Box::new(move |event| {
            !event.is_of_strangers() && sender.send(event.clone()).is_ok()
        }));
        for _ in 0..3 {
            out.send(&refused());
        }
        let rotated = Event::Rotated { changes: vec![] };
        out.send(&rotated);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [rotated]);
    }
}
