//! What does a subscriber ask of a control plane, what does it believe, and what does it keep?
//!
//! A [`Client`] is the protocol of incremental, aggregated xDS without I/O and without a clock: names are subscribed on
//! demand, responses go in, requests and [`Event`]s come out, the caller passes the time and randomness. Streams come and
//! go; what was accepted stays.
//!
//! Invariants:
//! - A resource is believed only when the caller accepts it. A response with one that isn't is answered by a NACK with
//!   the reasons; the good ones of it count, and the last good one of the bad serves on.
//! - A new stream is told the versions of accepted resources only.
//! - No request of a stream is the first of its kind without a name: servers read that as a wish for everything.
//! - Names that nobody knows don't pile up: [`MAX_PENDING`] wait, and [`MAX_PENDING`] are remembered for
//!   [`REMEMBER_UNKNOWN`].
//! - A removal is honoured, an unusual loss of clusters is held first (`loss.rs`).

mod backoff;
mod loss;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::backoff::Backoff;
use self::loss::Loss;
use self::state::{Known, PerKind};
use crate::kind::Kind;
use crate::wire::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

/// Names that may be asked for and not yet answered, of all kinds together.
pub const MAX_PENDING: usize = 256;
/// How long a name that nobody knows is not asked for again.
pub const REMEMBER_UNKNOWN: Duration = Duration::from_secs(5);
/// How long an answer may take before a name counts as unknown, as gRPC has it.
pub const DOES_NOT_EXIST_AFTER: Duration = Duration::from_secs(15);

/// Reasons told in one NACK; the rest are counted.
const MAX_REASONS: usize = 8;
/// `INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// What the caller has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The resource is gone: it was removed, and the time it was held, if it was, is over. The subscription stays.
    Removed(Kind, String),
    /// Nobody knows the name. The subscription is over, unless it is a lasting one.
    DoesNotExist(Kind, String),
    /// Clusters were removed and are kept until then, since too many went at once.
    Held {
        /// How many.
        clusters: usize,
        /// When they go if they don't come back.
        until: Instant,
    },
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
    kinds: [PerKind; Kind::ALL.len()],
    loss: Loss,
    backoff: Backoff,
    events: VecDeque<Event>,
    connected: bool,
    /// Whether this stream has not yet been told who we are.
    unnamed: bool,
}

impl Client {
    /// A subscriber that wants nothing yet.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            kinds: Default::default(),
            loss: Loss::default(),
            backoff: Backoff::default(),
            events: VecDeque::new(),
            connected: false,
            unnamed: true,
        }
    }

    /// Wants a resource.
    pub fn subscribe(&mut self, kind: Kind, name: &str, now: Instant) -> Subscribed {
        let pending: usize = self.kinds.iter().map(PerKind::pending).sum();
        let deadline = self.connected.then(|| now + DOES_NOT_EXIST_AFTER);
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
        let subscribed = self.subscribe(kind, name, now);
        if let Some(want) = self.of(kind).wants.get_mut(name) {
            want.lasts = true;
        }
        subscribed
    }

    /// Wants it no more; it is forgotten.
    pub fn unsubscribe(&mut self, kind: Kind, name: &str) {
        self.of(kind).unwant(name);
    }

    /// A stream was opened: everything is asked for, with what is known of it.
    pub fn connected(&mut self, now: Instant) {
        self.connected = true;
        self.unnamed = true;
        for kind in &mut self.kinds {
            kind.start(now + DOES_NOT_EXIST_AFTER);
        }
    }

    /// The stream ended, or none could be opened: the time to wait before the next.
    pub fn disconnected(&mut self, random: u32) -> Duration {
        self.connected = false;
        for kind in &mut self.kinds {
            kind.stop();
        }
        self.backoff.next(random)
    }

    /// Takes a response. `accept` is asked for each resource that is wanted, in order; its error is told to the server.
    pub fn received(
        &mut self,
        response: DeltaDiscoveryResponse,
        now: Instant,
        mut accept: impl FnMut(Kind, &str, &wire::Any) -> Result<(), String>,
    ) {
        self.backoff.reset();
        // A kind that was not asked for on this stream can't be answered: that would ask for all of it.
        let Some(kind) = Kind::of(&response.type_url).filter(|kind| self.of(*kind).started) else {
            return;
        };
        let mut reasons = Reasons::default();
        for resource in response.resources {
            let Some(want) = self.of(kind).wants.get_mut(&resource.name) else {
                continue;
            };
            let judged = match &resource.resource {
                Some(any) if any.type_url == kind.type_url() => accept(kind, &resource.name, any),
                Some(_) => Err("is of another type than the response".to_owned()),
                None => Err("has no content".to_owned()),
            };
            match judged {
                Ok(()) => want.accepted(resource.version),
                Err(reason) => {
                    // The server has it, so it is not unknown; without a good one before, there is still none.
                    want.refused();
                    reasons.add(&resource.name, &reason);
                }
            }
        }
        self.remove(kind, &response.removed_resources, now);
        self.of(kind)
            .answers
            .push_back((response.nonce, reasons.into_status()));
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
        let held = match kind {
            Kind::Cluster => self.loss.removal(gone.len(), left, now),
            _ => None,
        };
        match held {
            Some(until) => {
                let clusters = gone.len();
                for name in gone {
                    self.of(kind).hold(name, until);
                }
                self.events.push_back(Event::Held { clusters, until });
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
        if of_kind.wants.get(name).is_some_and(|want| want.lasts) {
            of_kind.gone(name);
            self.events.push_back(Event::DoesNotExist(kind, name.to_owned()));
            return;
        }
        of_kind.unwant(name);
        of_kind.remember_unknown(name, now + REMEMBER_UNKNOWN, MAX_PENDING);
        self.events.push_back(Event::DoesNotExist(kind, name.to_owned()));
    }

    /// Does what time has brought. Call it at [`Self::deadline`].
    pub fn tick(&mut self, now: Instant) {
        for kind in Kind::ALL {
            let (late, released) = self.of(kind).due(now);
            for name in late {
                self.unknown(kind, &name, now);
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

    /// The next request to send. Take them until there is none after each call that changes something.
    pub fn poll_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        if !self.connected {
            return None;
        }
        let (kind, mut request) = Kind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, self.of(kind).request()?)))?;
        request.type_url = kind.type_url().to_owned();
        if std::mem::take(&mut self.unnamed) {
            request.node = Some(self.node.clone());
        }
        Some(request)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn of(&mut self, kind: Kind) -> &mut PerKind {
        let [secret, cluster, endpoints, listener, route_table] = &mut self.kinds;
        match kind {
            Kind::Secret => secret,
            Kind::Cluster => cluster,
            Kind::Endpoints => endpoints,
            Kind::Listener => listener,
            Kind::RouteTable => route_table,
        }
    }
}

/// The reasons of a NACK.
#[derive(Default)]
struct Reasons {
    text: Vec<String>,
    more: usize,
}

impl Reasons {
    fn add(&mut self, name: &str, reason: &str) {
        if self.text.len() < MAX_REASONS {
            self.text.push(format!("{name}: {reason}"));
        } else {
            self.more += 1;
        }
    }

    fn into_status(mut self) -> Option<wire::Status> {
        if self.text.is_empty() {
            return None;
        }
        if self.more > 0 {
            self.text.push(format!("and {} more", self.more));
        }
        Some(wire::Status {
            code: INVALID_ARGUMENT,
            message: self.text.join("; "),
        })
    }
}
