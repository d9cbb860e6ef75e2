//! What is known of one endpoint?
//!
//! An [`EndpointState`] is shared by every data thread and every [`Picker`](super::Picker) that lists the
//! endpoint. Whoever sends it a request holds an [`InFlight`], which counts while it lives: it cannot be
//! forgotten, nor given back twice, so the count never underflows.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use mesh_model::resources::Address;

use super::backoff::{Backoff, Failed};
use super::hash::hash_key;
use super::latency::{Latency, Sample};
use super::{Nanos, Rng};

/// What is known of one endpoint, over all threads. Kept by the [`EndpointRegistry`](super::EndpointRegistry).
///
/// Two cache lines of its own: threads that use neighbours do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
pub struct EndpointState {
    /// Where it answers.
    pub address: Address,
    identity: Option<Box<str>>,
    /// Where it stands on hash rings: from the address alone, so that all proxies agree.
    place: u64,
    added_at: Nanos,
    in_flight: AtomicU32,
    latency: Latency,
    backoff: Backoff,
    requests: AtomicU64,
    connect_failures: AtomicU64,
    ejections: AtomicU64,
    http1: AtomicBool,
}

// Ten thousand endpoints fit in 2 MB.
const _: () = assert!(size_of::<EndpointState>() <= 192);
// Held by every request.
const _: () = assert!(size_of::<InFlight>() <= 24);

impl EndpointState {
    /// An endpoint of which nothing is known yet. `identity` is the TLS identity it must prove, `now` the
    /// moment its slow start begins.
    pub fn new(address: Address, identity: Option<&str>, now: Nanos) -> Self {
        Self {
            place: hash_key(address.to_string().as_bytes()),
            address,
            identity: identity.map(Box::from),
            added_at: now,
            in_flight: AtomicU32::new(0),
            latency: Latency::default(),
            backoff: Backoff::default(),
            requests: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            http1: AtomicBool::new(false),
        }
    }

    /// The TLS identity it must prove, if any.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// What it is looked up by: its address in memory, which is its own as long as it lives.
    pub fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// When it was first seen.
    pub fn added_at(&self) -> Nanos {
        self.added_at
    }

    /// Requests in flight, over all threads.
    #[inline]
    pub fn load(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Average latency in nanoseconds as of `now`; `None` before the first answer.
    #[inline]
    pub fn latency(&self, now: Nanos) -> Option<f32> {
        self.latency.estimate(now)
    }

    /// Whether a request may start: not in backoff, and no other request is probing it.
    #[inline]
    pub fn is_available(&self, now: Nanos) -> bool {
        self.backoff.is_open(now)
    }

    /// Counts a request that starts now, until the guard is finished or dropped.
    #[inline]
    pub fn start(self: &Arc<Self>, now: Nanos) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        let standing = if self.backoff.begin(now) {
            Standing::OnProbe
        } else {
            Standing::Regular
        };
        InFlight {
            endpoint: Arc::clone(self),
            started: now,
            standing: Cell::new(standing),
            answered: None,
        }
    }

    /// A connect (TLS included) failed: takes the endpoint out, 1 s after the first failure, doubling to 60
    /// s, +-20 %.
    pub fn connect_failed(&self, now: Nanos, rng: &mut Rng) {
        self.connect_failures.fetch_add(1, Relaxed);
        if self.backoff.failed(now, rng) == Failed::TakenOut {
            self.ejections.fetch_add(1, Relaxed);
        }
    }

    /// A connect succeeded: the endpoint is in, and its failures are forgotten.
    pub fn connect_succeeded(&self) {
        self.backoff.succeeded();
    }

    /// Whether it chose HTTP/1 when it was last offered both versions (ALPN). A guess for the next connection, which
    /// says so anew.
    pub fn chose_http1(&self) -> bool {
        self.http1.load(Relaxed)
    }

    /// Remembers what it chose.
    pub fn note_choice(&self, http1: bool) {
        if self.chose_http1() != http1 {
            self.http1.store(http1, Relaxed);
        }
    }

    /// Everything that metrics and tools show, as of `now`.
    pub fn stats(&self, now: Nanos) -> EndpointStats {
        EndpointStats {
            available: self.is_available(now),
            in_flight: self.load(),
            latency: self.latency(now),
            failures_in_a_row: self.backoff.failures(),
            requests: self.requests.load(Relaxed),
            connect_failures: self.connect_failures.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
        }
    }

    pub(super) fn place(&self) -> u64 {
        self.place
    }
}

/// An endpoint's numbers at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointStats {
    /// Whether a request may start.
    pub available: bool,
    /// Requests in flight.
    pub in_flight: u32,
    /// Average latency in nanoseconds; `None` before the first answer.
    pub latency: Option<f32>,
    /// Connect failures since the last success, each counted once an outage, up to 255.
    pub failures_in_a_row: u32,
    /// Requests started, retries included.
    pub requests: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Times it was taken out.
    pub ejections: u64,
}

/// Looks whether an endpoint that was out is back, by a connect that outlives its request. Until it is dropped no other
/// request does so, unless that takes too long.
#[derive(Debug)]
pub struct Probe(Arc<EndpointState>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.backoff.inconclusive();
    }
}

/// How a request ended, as far as its endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered: its latency counts.
    Success,
    /// A 5xx, a reset, a timeout: counts as a latency of a second at least, so that failing fast attracts no
    /// traffic.
    Failure,
    /// The client left, or nothing was sent: says nothing about the endpoint and is not recorded.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing left to tell when it ends.
    Regular,
    /// It began while the endpoint was out or due: an answer brings the endpoint back.
    OnProbe,
}

/// A request in flight. Counts in [`EndpointState::load`] until it is finished or dropped.
#[derive(Debug)]
#[must_use = "the request counts as in flight only while this lives"]
pub struct InFlight {
    endpoint: Arc<EndpointState>,
    started: Nanos,
    standing: Cell<Standing>,
    /// What was recorded when the answer's head was there.
    answered: Option<Outcome>,
}

impl InFlight {
    /// Where the request went.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// Gives away the probe that this request is, where it is one: how a connect goes says more.
    #[cold]
    pub fn hand_over(&self) -> Option<Probe> {
        let standing = self.standing.replace(Standing::Regular);
        (standing == Standing::OnProbe).then(|| Probe(Arc::clone(&self.endpoint)))
    }

    /// Says that so much of the time since the request began was not the endpoint's: it waited for the client.
    #[inline]
    pub fn excuse(&mut self, span: Nanos) {
        self.started = self.started.saturating_add(span);
    }

    /// Records how long the answer took, less what was [`excused`](Self::excuse), and what it was, while the request stays in flight: for an answer
    /// whose body streams on, when its head is there. How long the stream is says nothing of how soon the
    /// endpoint answers. Nothing, when that was done.
    #[inline]
    pub fn answered(&mut self, now: Nanos, outcome: Outcome) {
        if self.answered.is_none() {
            self.record(now, now.saturating_sub(self.started), outcome);
            self.answered = Some(outcome);
        }
    }

    /// Ends the request: records it as [`answered`](Self::answered) does, unless that was done, and counts it no
    /// longer. A stream that fails after its head was good counts as a failure besides.
    #[inline]
    pub fn finish(mut self, now: Nanos, outcome: Outcome) {
        match (self.answered, outcome) {
            (None, _) => self.answered(now, outcome),
            (Some(Outcome::Success), Outcome::Failure) => self.record(now, 0, outcome),
            (Some(_), _) => {}
        }
    }

    #[inline]
    fn record(&mut self, now: Nanos, latency: Nanos, outcome: Outcome) {
        match outcome {
            Outcome::Success => {
                self.endpoint.latency.record(now, Sample::Answer(latency));
                if self.standing.get() == Standing::OnProbe {
                    self.standing.set(Standing::Regular);
                    self.endpoint.backoff.succeeded();
                }
            }
            Outcome::Failure => self.endpoint.latency.record(now, Sample::Failure(latency)),
            Outcome::Cancelled => {}
        }
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        if self.standing.get() == Standing::OnProbe {
            self.endpoint.backoff.inconclusive();
        }
    }
}
