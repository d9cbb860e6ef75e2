//! What does a subscriber ask of a control plane, what does it believe, and what does it keep?
//!
//! A [`Client`] is the protocol of aggregated xDS, incremental or by states of the world ([`Form`]), without I/O and without
//! a clock: names are subscribed on demand, responses go in, requests and [`Event`]s come out, the caller passes the time
//! and randomness. Streams come and go, each of either form; what was accepted stays.
//!
//! Invariants:
//! - A resource is believed only when the caller accepts it. A response with one that isn't is answered by a NACK with
//!   the reasons; the good ones of it count, and the last good one of the bad serves on.
//! - A new stream is told the versions of accepted resources only.
//! - No request of a stream is the first of its kind without a name: servers read that as a wish for everything.
//! - What something here still leads to is not taken away by a server that makes before it breaks: requests go in an order
//!   in which it hears of the new before it may.
//! - Names that nobody knows don't pile up: [`MAX_PENDING`] wait, and [`MAX_PENDING`] are remembered for
//!   [`REMEMBER_UNKNOWN`].
//! - A removal is honoured, an unusual loss is held first (`loss.rs`).
//! - Who says nothing at all has not said that a name is unknown, and who always says so has not by saying nothing
//!   ([`Silence`]). What [`Client::subscribe_until_said`] wants is not unknown before somebody says so, however much is said
//!   of other names.

mod backoff;
mod form;
mod loss;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::backoff::Backoff;
use self::form::Said;
pub use self::form::{Form, Response};
use self::loss::Loss;
use self::state::{Answer, Known, Lasts, PerKind};
use crate::kind::{ByKind, Kind};
use crate::wire::{self, DeltaDiscoveryRequest, DiscoveryRequest, Node};

/// Names that may be asked for and not yet answered, of all kinds together.
pub const MAX_PENDING: usize = 256;
/// How long a name that nobody knows is not asked for again.
pub const REMEMBER_UNKNOWN: Duration = Duration::from_secs(5);
/// How long an answer may take before a name counts as unknown, as gRPC has it.
pub const DOES_NOT_EXIST_AFTER: Duration = Duration::from_secs(15);

/// How long the answer waits to a state of the world that is said again though it was refused, in the same words.
pub const ANSWER_AGAIN: Duration = Duration::from_secs(5);

/// What all resources that are believed may measure together, as they came: 50,000 endpoints that have identities. Each may
/// be small, and there may be many.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The longest version, which is kept as long as its resource; ours are 16 bytes.
const MAX_VERSION: usize = 256;

/// Reasons told in one NACK; the rest are counted.
pub const MAX_REASONS: usize = 8;

/// How a stream begins: who refers to others is asked for before them. A server may say at once what of the one kind is gone
/// that it was asked for, and something of another still leads to it, as far as is known here.
const FROM_ABOVE: [Kind; 5] = [
    Kind::Secret,
    Kind::Listener,
    Kind::RouteTable,
    Kind::Cluster,
    Kind::Endpoints,
];
/// How it goes on: what is referred to is asked for before the answer is that who refers to it came. After that a server may
/// take away what was referred to before.
const FROM_BELOW: [Kind; 5] = [
    Kind::Secret,
    Kind::Endpoints,
    Kind::Cluster,
    Kind::RouteTable,
    Kind::Listener,
];

/// `INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// What the caller has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The resource is gone: it was removed, and the time it was held, if it was, is over. The subscription stays.
    Removed(Kind, String),
    /// Nobody knows the name. The subscription is over, unless it is a lasting one.
    DoesNotExist(Kind, String),
    /// Neither what a name is nor that it is none was said in all that time. It is waited for further on.
    Unsaid(Kind, String),
    /// Resources were removed and are kept until then, since too many went at once.
    Held {
        /// Of what kind.
        kind: Kind,
        /// How many.
        resources: usize,
        /// When they go if they don't come back.
        until: Instant,
    },
}

/// What it means that a control plane says nothing of a name for [`DOES_NOT_EXIST_AFTER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// That nobody knows the name, if anything was said of others: servers of xDS may leave out what is not there.
    IsAnAnswer,
    /// Nothing: it says of every name whether it is there, and did not come to it yet.
    IsNone,
}

/// What became of a wish for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It is being asked for, or already there.
    Yes,
    /// It is known to be unknown, for some seconds more.
    Unknown,
    /// Too many names wait for an answer.
    Full,
}

/// A subscriber.
#[derive(Debug)]
pub struct Client {
    node: Node,
    kinds: ByKind<PerKind>,
    losses: ByKind<Loss>,
    backoff: Backoff,
    events: VecDeque<Event>,
    /// How the stream is spoken, if there is one.
    stream: Option<Form>,
    /// Whether anything was said on this stream.
    heard: bool,
    /// Whether this stream has not yet been told who we are.
    unnamed: bool,
}

impl Client {
    /// A subscriber that wants nothing yet.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            kinds: ByKind::default(),
            losses: ByKind::default(),
            backoff: Backoff::default(),
            events: VecDeque::new(),
            stream: None,
            heard: false,
            unnamed: true,
        }
    }

    /// Wants a resource.
    pub fn subscribe(&mut self, kind: Kind, name: &str, now: Instant) -> Subscribed {
        let pending: usize = self.kinds.iter().map(PerKind::pending).sum();
        let deadline = self.stream.map(|_| now + DOES_NOT_EXIST_AFTER);
        let of_kind = self.of(kind);
        if of_kind.wants.contains_key(name) {
            return Subscribed::Yes;
        }
        if of_kind.is_unknown(name, now) {
            return Subscribed::Unknown;
        }
        if pending >= MAX_PENDING {
            return Subscribed::Full;
        }
        of_kind.want(name, deadline);
        Subscribed::Yes
    }

    /// Wants a resource, and goes on to when nobody knows it: it is told of when it comes to be.
    pub fn subscribe_lasting(&mut self, kind: Kind, name: &str, now: Instant) -> Subscribed {
        self.subscribe_so(kind, name, now, Lasts::UntilUnwanted)
    }

    /// Wants a resource whose absence means something: as [`Self::subscribe_lasting`], and silence is no answer.
    pub fn subscribe_until_said(&mut self, kind: Kind, name: &str, now: Instant) -> Subscribed {
        self.subscribe_so(kind, name, now, Lasts::AndSilenceIsNoAnswer)
    }

    fn subscribe_so(&mut self, kind: Kind, name: &str, now: Instant, lasts: Lasts) -> Subscribed {
        let subscribed = self.subscribe(kind, name, now);
        if let Some(want) = self.of(kind).wants.get_mut(name) {
            want.lasts = lasts;
        }
        subscribed
    }

    /// Wants it no more; it is forgotten.
    pub fn unsubscribe(&mut self, kind: Kind, name: &str) {
        self.of(kind).unwant(name);
    }

    /// A stream was opened: everything is asked for, with what is known of it.
    pub fn connected(&mut self, form: Form, now: Instant) {
        self.stream = Some(form);
        self.heard = false;
        self.unnamed = true;
        for kind in self.kinds.iter_mut() {
            kind.start(form, now + DOES_NOT_EXIST_AFTER);
        }
    }

    /// Something else was heard of the same control plane: it is there, though it may have nothing new to say of resources.
    pub fn heard(&mut self) {
        self.backoff.reset();
    }

    /// How it is called from the next stream on.
    pub fn call(&mut self, id: String) {
        self.node.id = id;
    }

    /// The stream was left for another one, which is opened at once. Nothing failed.
    pub fn left(&mut self) {
        self.stream = None;
        for kind in self.kinds.iter_mut() {
            kind.stop();
        }
    }

    /// The stream ended, or none could be opened: the time to wait before the next.
    pub fn disconnected(&mut self, random: u32) -> Duration {
        self.left();
        self.backoff.next(random)
    }

    /// Takes a response. `accept` is asked for each resource that is wanted, in order; its error is told to the server, and
    /// comes back with all others, unless it was told just before.
    pub fn received(
        &mut self,
        response: impl Into<Response>,
        now: Instant,
        mut accept: impl FnMut(Kind, &str, &wire::Any) -> Result<(), String>,
    ) -> Refused {
        let response = response.into();
        self.heard();
        self.heard = true;
        // A kind that was not asked for on this stream can't be answered: that would ask for all of it.
        let mut refused = Refused::default();
        let Some(kind) = Kind::of(response.type_url()).filter(|kind| self.of(*kind).started) else {
            return refused;
        };
        let Said {
            resources,
            removed,
            nonce,
            version,
        } = response.said(kind, self.of(kind), &mut refused);
        let mut held: usize = self.kinds.iter().map(PerKind::bytes).sum();
        for resource in resources {
            let Some(want) = self.of(kind).wants.get_mut(&resource.name) else {
                continue;
            };
            let bytes = resource.resource.as_ref().map_or(0, |any| any.value.len());
            let others = held - want.bytes;
            let judged = match &resource.resource {
                Some(_) if resource.version.len() > MAX_VERSION => Err("its version is too long".to_owned()),
                Some(_) if others + bytes > MAX_BYTES => Err(format!(
                    "with it {} bytes would be held, {MAX_BYTES} are",
                    others + bytes
                )),
                Some(any) if any.type_url == kind.type_url() => accept(kind, &resource.name, any),
                Some(_) => Err("is of another type than the response".to_owned()),
                None => Err("has no content".to_owned()),
            };
            match judged {
                Ok(()) => {
                    held = others + bytes;
                    want.accepted(resource.version, bytes);
                }
                Err(reason) => {
                    // The server has it, so it is not unknown; without a good one before, there is still none.
                    want.refused();
                    refused.add(kind, resource.name, reason);
                }
            }
        }
        self.remove(kind, &removed, now);
        let answer = Answer {
            nonce,
            version,
            refused: refused.status(),
        };
        match self.of(kind).answer(answer, now + ANSWER_AGAIN) {
            true => Refused::default(),
            false => refused,
        }
    }

    fn remove(&mut self, kind: Kind, names: &[String], now: Instant) {
        let mut gone = Vec::new();
        for name in names {
            match self.of(kind).wants.get(name).map(|want| &want.known) {
                Some(Known::Pending { .. }) => self.unknown(kind, name, now),
                Some(Known::Accepted { .. }) => gone.push(name),
                Some(Known::Refused) => self.of(kind).gone(name),
                Some(Known::Held { .. } | Known::Gone) | None => {}
            }
        }
        if gone.is_empty() {
            return;
        }
        let left = self.of(kind).accepted().saturating_sub(gone.len());
        let loss = self.losses.of_mut(kind);
        match loss.removal(gone.len(), left, now) {
            Some(until) => {
                let resources = gone.len();
                for name in gone {
                    self.of(kind).hold(name, until);
                }
                let held = Event::Held {
                    kind,
                    resources,
                    until,
                };
                self.events.push_back(held);
            }
            None => {
                for name in gone {
                    self.of(kind).gone(name);
                    self.events.push_back(Event::Removed(kind, name.clone()));
                }
            }
        }
    }

    fn unknown(&mut self, kind: Kind, name: &str, now: Instant) {
        let of_kind = self.of(kind);
        if of_kind
            .wants
            .get(name)
            .is_some_and(|want| want.lasts != Lasts::UntilUnknown)
        {
            of_kind.gone(name);
            self.events.push_back(Event::DoesNotExist(kind, name.to_owned()));
            return;
        }
        of_kind.unwant(name);
        of_kind.remember_unknown(name, now + REMEMBER_UNKNOWN, MAX_PENDING);
        self.events.push_back(Event::DoesNotExist(kind, name.to_owned()));
    }

    /// Does what time has brought. Call it at [`Self::deadline`].
    pub fn tick(&mut self, now: Instant, silence: Silence) {
        let answers = self.heard && silence == Silence::IsAnAnswer;
        for kind in Kind::ALL {
            self.of(kind).answer_late(now);
            let (late, released) = self.of(kind).due(now);
            for name in late {
                let waits = self.of(kind).waits_on(&name, answers, now + DOES_NOT_EXIST_AFTER);
                match waits {
                    Some(Lasts::AndSilenceIsNoAnswer) => self.events.push_back(Event::Unsaid(kind, name)),
                    Some(_) => {}
                    None => self.unknown(kind, &name, now),
                }
            }
            for name in released {
                self.of(kind).gone(&name);
                self.events.push_back(Event::Removed(kind, name));
            }
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Instant> {
        self.kinds.iter().filter_map(PerKind::deadline).min()
    }

    /// How many resources were removed and are kept for a while.
    pub fn held(&self) -> usize {
        self.kinds.iter().map(PerKind::held).sum()
    }

    /// Whether a resource is there, was refused, and no good one was there before.
    pub fn is_refused(&self, kind: Kind, name: &str) -> bool {
        let want = self.kinds.of(kind).wants.get(name);
        want.is_some_and(|want| matches!(want.known, Known::Refused))
    }

    /// The next request to send on an incremental stream. Take them until there is none after each call that changes
    /// something.
    pub fn poll_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let (kind, request) = self.poll(Form::Delta, PerKind::request)?;
        Some(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            node: self.node_once(),
            ..request
        })
    }

    /// As [`Self::poll_request`], on a stream of states of the world.
    pub fn poll_whole_request(&mut self) -> Option<DiscoveryRequest> {
        let (kind, request) = self.poll(Form::StateOfTheWorld, PerKind::whole_request)?;
        Some(DiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            node: self.node_once(),
            ..request
        })
    }

    fn poll<T>(&mut self, form: Form, says: impl Fn(&mut PerKind) -> Option<T>) -> Option<(Kind, T)> {
        if self.stream != Some(form) {
            return None;
        }
        let is_begun = |kind: &Kind| self.kinds.of(*kind).started;
        let begins = FROM_ABOVE.map(|kind| Some(kind).filter(|kind| !is_begun(kind)));
        let goes_on = FROM_BELOW.map(|kind| Some(kind).filter(is_begun));
        let mut kinds = begins.into_iter().chain(goes_on).flatten();
        kinds.find_map(|kind| Some((kind, says(self.of(kind))?)))
    }

    /// Who we are, for the first request of a stream.
    fn node_once(&mut self) -> Option<Node> {
        std::mem::take(&mut self.unnamed).then(|| self.node.clone())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn of(&mut self, kind: Kind) -> &mut PerKind {
        self.kinds.of_mut(kind)
    }
}

/// What of a response was refused, and why: a NACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Kind, name and reason of the first [`MAX_REASONS`].
    pub told: Vec<(Kind, String, String)>,
    /// How many more there were.
    pub more: usize,
}

impl Refused {
    fn add(&mut self, kind: Kind, name: String, reason: String) {
        if self.told.len() < MAX_REASONS {
            self.told.push((kind, name, reason));
        } else {
            self.more += 1;
        }
    }

    fn status(&self) -> Option<wire::Status> {
        if self.told.is_empty() {
            return None;
        }
        let told = self.told.iter();
        let mut text: Vec<_> = told
            .map(|(_, name, reason)| format!("{name}: {reason}"))
            .collect();
        if self.more > 0 {
            text.push(format!("and {} more", self.more));
        }
        Some(wire::Status {
            code: INVALID_ARGUMENT,
            message: text.join("; "),
        })
    }
}
