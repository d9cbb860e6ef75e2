//! What a client knows of one kind of resource, and what it still has to say about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::wire::{DeltaDiscoveryRequest, Status};

/// A name that is wanted.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) known: Known,
    /// What the last good one measured.
    pub(super) bytes: usize,
    /// Whether it is wanted even when nobody knows it: it may come to be.
    pub(super) lasts: bool,
}

/// What is known of it.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing yet. Without a deadline there is no stream to wait on.
    Pending { deadline: Option<Instant> },
    /// It is there; a later version of it may have been refused.
    Accepted { version: String },
    /// It is there and was never good.
    Refused,
    /// It was removed and serves until then.
    Held { until: Instant },
    /// It was removed.
    Gone,
}

impl Want {
    pub(super) fn accepted(&mut self, version: String, bytes: usize) {
        self.known = Known::Accepted { version };
        self.bytes = bytes;
    }

    pub(super) fn refused(&mut self) {
        if matches!(self.known, Known::Pending { .. } | Known::Gone) {
            self.known = Known::Refused;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PerKind {
    pub(super) wants: BTreeMap<String, Want>,
    /// Whether this stream was asked for this kind.
    pub(super) started: bool,
    /// Responses to answer: the nonce, and what was wrong.
    pub(super) answers: VecDeque<(String, Option<Status>)>,
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
    /// Names that nobody knows, and until when that holds; the oldest first.
    unknown: VecDeque<(Instant, String)>,
}

impl PerKind {
    pub(super) fn pending(&self) -> usize {
        let pending = |want: &&Want| matches!(want.known, Known::Pending { .. });
        self.wants.values().filter(pending).count()
    }

    pub(super) fn accepted(&self) -> usize {
        let accepted = |want: &&Want| matches!(want.known, Known::Accepted { .. });
        self.wants.values().filter(accepted).count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.wants.values().map(|want| want.bytes).sum()
    }

    pub(super) fn held(&self) -> usize {
        let held = |want: &&Want| matches!(want.known, Known::Held { .. });
        self.wants.values().filter(held).count()
    }

    pub(super) fn want(&mut self, name: &str, deadline: Option<Instant>) {
        let want = Want {
            known: Known::Pending { deadline },
            bytes: 0,
            lasts: false,
        };
        self.wants.insert(name.to_owned(), want);
        self.subscribe.insert(name.to_owned());
        self.unsubscribe.remove(name);
    }

    pub(super) fn unwant(&mut self, name: &str) {
        if self.wants.remove(name).is_some() {
            self.subscribe.remove(name);
            // Said even of a name that was not sent yet: an earlier wish for it may have been.
            self.unsubscribe.insert(name.to_owned());
        }
    }

    pub(super) fn hold(&mut self, name: &str, until: Instant) {
        self.learn(name, Known::Held { until });
    }

    pub(super) fn gone(&mut self, name: &str) {
        self.learn(name, Known::Gone);
        if let Some(want) = self.wants.get_mut(name) {
            want.bytes = 0;
        }
    }

    fn learn(&mut self, name: &str, known: Known) {
        if let Some(want) = self.wants.get_mut(name) {
            want.known = known;
        }
    }

    pub(super) fn is_unknown(&self, name: &str, now: Instant) -> bool {
        self.unknown
            .iter()
            .any(|(until, unknown)| *until > now && unknown == name)
    }

    pub(super) fn remember_unknown(&mut self, name: &str, until: Instant, most: usize) {
        if self.unknown.len() >= most {
            self.unknown.pop_front();
        }
        self.unknown.push_back((until, name.to_owned()));
    }

    /// A stream begins: all that is wanted is to be said again.
    pub(super) fn start(&mut self, deadline: Instant) {
        self.stop();
        self.subscribe = self.wants.keys().cloned().collect();
        self.wait_on(deadline);
    }

    /// Names without an answer are waited for until then.
    pub(super) fn wait_on(&mut self, deadline: Instant) {
        for want in self.wants.values_mut() {
            if let Known::Pending { deadline: waits } = &mut want.known {
                *waits = Some(deadline);
            }
        }
    }

    /// The stream ended: what was to be said on it is void, and nobody is waited for.
    pub(super) fn stop(&mut self) {
        self.started = false;
        self.answers.clear();
        self.unsubscribe.clear();
        for want in self.wants.values_mut() {
            if let Known::Pending { deadline } = &mut want.known {
                *deadline = None;
            }
        }
    }

    /// Names whose answer is late, and names that were held long enough.
    pub(super) fn due(&mut self, now: Instant) -> (Vec<String>, Vec<String>) {
        let due = |known: &Known| match known {
            Known::Pending { deadline } => deadline.is_some_and(|at| at <= now),
            Known::Held { until } => *until <= now,
            _ => false,
        };
        self.unknown.retain(|(until, _)| *until > now);
        let due = self.wants.iter().filter(|(_, want)| due(&want.known));
        let (late, released): (Vec<_>, Vec<_>) =
            due.partition(|(_, want)| matches!(want.known, Known::Pending { .. }));
        let names = |list: Vec<(&String, &Want)>| list.into_iter().map(|(name, _)| name.clone()).collect();
        (names(late), names(released))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let at = |want: &Want| match want.known {
            Known::Pending { deadline } => deadline,
            Known::Held { until } => Some(until),
            _ => None,
        };
        self.wants.values().filter_map(at).min()
    }

    /// What there is to say, the kind and the node still to be filled in.
    pub(super) fn request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let first = !self.started;
        if first && self.subscribe.is_empty() {
            self.unsubscribe.clear();
            return None;
        }
        let (response_nonce, error_detail) = match self.answers.pop_front() {
            Some(answer) => answer,
            None if self.subscribe.is_empty() && self.unsubscribe.is_empty() => return None,
            None => Default::default(),
        };
        self.started = true;
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: std::mem::take(&mut self.subscribe).into_iter().collect(),
            resource_names_unsubscribe: std::mem::take(&mut self.unsubscribe).into_iter().collect(),
            initial_resource_versions: if first { self.versions() } else { BTreeMap::new() },
            response_nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let version = |(name, want): (&String, &Want)| match &want.known {
            Known::Accepted { version } => Some((name.clone(), version.clone())),
            _ => None,
        };
        self.wants.iter().filter_map(version).collect()
    }
}
