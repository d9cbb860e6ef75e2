//! What a client knows of one kind of resource, and what it still has to say about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::form::Form;
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest, Status};

/// A name that is wanted.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) known: Known,
    /// What the last good one measured.
    pub(super) bytes: usize,
    pub(super) lasts: Lasts,
}

/// How long it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    /// Until nobody knows it.
    UntilUnknown,
    /// Even then: it may come to be.
    UntilUnwanted,
    /// The same, and who says nothing of it has not said that nobody knows it.
    AndSilenceIsNoAnswer,
}

/// What is known of it.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing yet. Without a deadline there is no stream to wait on.
    Pending { deadline: Option<Instant> },
    /// It is there; a later version of it may have been refused. In a state of the world it has no version, which
    /// is told as an empty one: so it is heard of when it is no more.
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

/// What is to be said of a response.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) nonce: String,
    /// The version of a state of the world.
    pub(super) version: Option<String>,
    /// What was wrong.
    pub(super) refused: Option<Status>,
}

impl Answer {
    /// Which state of the world is refused, and why.
    fn refusal(&self) -> Option<(String, Status)> {
        Some((self.version.clone()?, self.refused.clone()?))
    }
}

#[derive(Debug, Default)]
pub(super) struct PerKind {
    pub(super) wants: BTreeMap<String, Want>,
    /// Whether this stream was asked for this kind.
    pub(super) started: bool,
    /// Responses to answer.
    answers: VecDeque<Answer>,
    /// One whose answer waits, and until when.
    waiting: Option<(Instant, Answer)>,
    /// The state of the world that was refused last on this stream, if none was accepted since.
    refused: Option<(String, Status)>,
    /// Of the last state of the world that was answered on this stream.
    nonce: String,
    /// Of the last state of the world that was accepted as a whole.
    version: String,
    subscribe: BTreeSet<String>,
    /// Some of them may be wanted again.
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
            lasts: Lasts::UntilUnknown,
        };
        self.wants.insert(name.to_owned(), want);
        self.subscribe.insert(name.to_owned());
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
    pub(super) fn start(&mut self, form: Form, deadline: Instant) {
        self.stop();
        if form == Form::Delta {
            // What comes now is of no state that was known.
            self.version.clear();
        }
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

    /// Waits for a name whose answer is late until then, unless that `answers`, and it is not wanted otherwise. Gives how long
    /// it is wanted if it is waited for.
    pub(super) fn waits_on(&mut self, name: &str, answers: bool, until: Instant) -> Option<Lasts> {
        let want = self.wants.get_mut(name)?;
        if answers && want.lasts != Lasts::AndSilenceIsNoAnswer {
            return None;
        }
        want.known = Known::Pending {
            deadline: Some(until),
        };
        Some(want.lasts)
    }

    /// The stream ended: what was to be said on it is void, and nobody is waited for.
    pub(super) fn stop(&mut self) {
        self.started = false;
        self.answers.clear();
        self.waiting = None;
        self.refused = None;
        self.nonce.clear();
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

    /// Keeps what is to be said of a response. Some servers say a state that was refused again at once, and would for ever:
    /// then the answer waits until `later`. Gives whether it is so.
    pub(super) fn answer(&mut self, answer: Answer, later: Instant) -> bool {
        let refusal = answer.refusal();
        let is_again = refusal.is_some() && refusal == self.refused;
        self.refused = refusal;
        // Of an answer to what is outdated nobody hears.
        self.waiting = None;
        match is_again {
            true => self.waiting = Some((later, answer)),
            false => self.answers.push_back(answer),
        }
        is_again
    }

    /// The answer that has waited long enough is to be said.
    pub(super) fn answer_late(&mut self, now: Instant) {
        let late = self.waiting.take_if(|(until, _)| *until <= now);
        self.answers.extend(late.map(|(_, answer)| answer));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let at = |want: &Want| match want.known {
            Known::Pending { deadline } => deadline,
            Known::Held { until } => Some(until),
            _ => None,
        };
        let waiting = self.waiting.as_ref().map(|(until, _)| *until);
        self.wants.values().filter_map(at).chain(waiting).min()
    }

    /// Whether something is to be said, and the answer that is said with it, if there is one.
    fn speaks(&mut self) -> Option<Option<Answer>> {
        if !self.started {
            self.unsubscribe.clear();
            if self.subscribe.is_empty() {
                return None;
            }
        }
        let is_news = !self.subscribe.is_empty() || !self.unsubscribe.is_empty();
        // Names are heard of with the answer alone: it waits no longer.
        let waiting = self.waiting.take_if(|_| is_news);
        self.answers.extend(waiting.map(|(_, answer)| answer));
        let answer = self.answers.pop_front();
        let says = is_news || answer.is_some();
        self.started |= says;
        says.then_some(answer)
    }

    /// What there is to say, the kind and the node still to be filled in.
    pub(super) fn request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let first = !self.started;
        let Answer { nonce, refused, .. } = self.speaks()?.unwrap_or_default();
        let subscribe = std::mem::take(&mut self.subscribe);
        let mut unsubscribe = std::mem::take(&mut self.unsubscribe);
        unsubscribe.retain(|name| !subscribe.contains(name));
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe.into_iter().collect(),
            resource_names_unsubscribe: unsubscribe.into_iter().collect(),
            initial_resource_versions: if first { self.versions() } else { BTreeMap::new() },
            response_nonce: nonce,
            error_detail: refused,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// The same on a stream of states of the world, where each request says all names. One that was given up and is wanted
    /// again is left out once, since a server that sees no difference sends nothing.
    pub(super) fn whole_request(&mut self) -> Option<DiscoveryRequest> {
        let mut error_detail = None;
        if let Some(answer) = self.speaks()? {
            self.nonce = answer.nonce;
            error_detail = answer.refused;
            if error_detail.is_none() {
                self.version = answer.version.unwrap_or_default();
            }
        }
        let unsubscribed = std::mem::take(&mut self.unsubscribe);
        self.subscribe.retain(|name| unsubscribed.contains(name));
        let names = self.wants.keys().filter(|name| !self.subscribe.contains(*name));
        Some(DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names: names.cloned().collect(),
            response_nonce: self.nonce.clone(),
            error_detail,
            ..DiscoveryRequest::default()
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
