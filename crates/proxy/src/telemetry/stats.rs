//! What is counted of a route, a listener and a cluster?
//!
//! One block of cells for each label set and data thread. The thread writes it through the methods here, which are the
//! hot path: no allocation (but for the first reason ever seen), no lock, no formatting. A scrape adds the blocks of
//! all threads into totals.
//!
//! Invariants: totals never go down while a block lives; what is active is what began less what ended, so it needs no
//! cell of its own and can't drift.

use mesh_identity::Rejection;
use mesh_model::errors::Reason;
use once_cell::race::OnceBox;

use super::counter::{Counter, Gauge, ReasonCounters, ReasonTotals};
use super::histogram::{Groups, Histogram, Recent, Snapshot};
use super::labels::{Class, Limit, Protocol};
use crate::telemetry::Nanos;

/// A block of cells with one writing thread, that can be added to others of its kind.
pub trait Block: Default + Send + Sync + 'static {
    /// The sum of blocks.
    type Totals: Default;

    /// Adds this block's counts.
    fn add_to(&self, totals: &mut Self::Totals);

    /// Whether something that was counted as begun has not ended: the block is still needed.
    fn is_busy(&self) -> bool;
}

/// How a request, a call or a stream ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The status the client got; 499 when it went away before. `None` for a stream without statuses.
    pub status: Option<u16>,
    /// The `grpc-status` of a gRPC call.
    pub grpc_status: Option<u32>,
    /// Why the proxy answered or closed by itself; `None` when it did not.
    pub reason: Option<Reason>,
    /// From the head's last byte to the response's last byte, in nanoseconds.
    pub duration: Nanos,
    /// Tries after the first.
    pub retries: u32,
}

/// gRPC statuses that a server is to blame for, as OpenTelemetry's conventions for gRPC have them: UNKNOWN,
/// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_SERVER_FAULTS: [u32; 6] = [2, 4, 12, 13, 14, 15];

/// The statuses 0 to 16, and one for all that gRPC does not know.
const GRPC_STATUSES: usize = 18;

impl Finished {
    /// Whether it counts against the success rate: the server or the proxy failed, not the client.
    pub fn is_failure(&self) -> bool {
        self.reason.is_some_and(|reason| reason.status() >= 500)
            || self.status.is_some_and(|status| status >= 500)
            || self
                .grpc_status
                .is_some_and(|status| GRPC_SERVER_FAULTS.contains(&status))
    }
}

/// One listener, route, cluster and protocol. What most requests count in is one cache line, with the mark in front of it;
/// the rest is elsewhere, so that ten thousand routes lie on few pages.
#[derive(Debug, Default)]
pub struct RouteStats {
    requests: Counter,
    sent: Counter,
    /// Responses of servers with 2xx.
    succeeded: Counter,
    duration: Recent,
    rest: OnceBox<RouteRest>,
}

/// What few requests of a route count in, and its first ones.
#[derive(Debug, Default)]
struct RouteRest {
    received: Counter,
    durations: Groups,
    /// Other responses of servers.
    forwarded: [Counter; Class::COUNT],
    failures: Counter,
    retries: Counter,
    made: OnceBox<[ReasonCounters; Class::COUNT]>,
    grpc: OnceBox<[Counter; GRPC_STATUSES]>,
    audited: Counter,
}

impl RouteStats {
    /// Counts a request, call or stream that begins. Each one must end with [`RouteStats::finished`].
    #[inline]
    pub fn started(&self) {
        self.requests.increment();
    }

    #[inline]
    fn rest(&self) -> &RouteRest {
        self.rest.get_or_init(Box::default)
    }

    /// Counts one that began and would be denied, were the policies in audit mode enforced.
    #[cold]
    pub fn audited(&self) {
        self.rest().audited.increment();
    }

    /// Counts bytes of bodies or streams that came from the client.
    #[inline]
    pub fn received(&self, bytes: u64) {
        // Most requests have no body, and leave alone what they don't need.
        if bytes > 0 {
            self.rest().received.add(bytes);
        }
    }

    /// Counts bytes of bodies or streams that went to the client.
    #[inline]
    pub fn sent(&self, bytes: u64) {
        self.sent.add(bytes);
    }

    /// Counts how a request, call or stream ended.
    #[inline]
    pub fn finished(&self, end: &Finished) {
        let class = Class::of(end.status);
        match end.reason {
            None if class == Class::Success => self.succeeded.increment(),
            None => {
                if let Some(counter) = self.rest().forwarded.get(class.index()) {
                    counter.increment();
                }
            }
            Some(reason) => {
                let made = self.rest().made.get_or_init(Box::default);
                if let Some(counters) = made.get(class.index()) {
                    counters.increment(reason);
                }
            }
        }
        if let Some(status) = end.grpc_status {
            let counters = &self.rest().grpc;
            let counters = counters.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
            let last = counters.len() - 1;
            if let Some(counter) = counters.get((status as usize).min(last)) {
                counter.increment();
            }
        }
        if end.retries > 0 {
            self.rest().retries.add(u64::from(end.retries));
        }
        if end.is_failure() {
            self.rest().failures.increment();
        }
        self.duration.record(end.duration, || &self.rest().durations);
    }
}

impl Block for RouteStats {
    type Totals = RouteTotals;

    fn add_to(&self, totals: &mut RouteTotals) {
        let rest = self.rest.get();
        // Ends before beginnings, so that what runs meanwhile is seen as active and not as ended twice.
        self.duration
            .add_to(rest.map(|rest| &rest.durations), &mut totals.duration);
        if let Some(sum) = totals.forwarded.get_mut(Class::Success.index()) {
            *sum = sum.wrapping_add(self.succeeded.get());
        }
        if let Some(rest) = rest {
            rest.add_to(totals);
        }
        totals.sent = totals.sent.wrapping_add(self.sent.get());
        totals.requests = totals.requests.wrapping_add(self.requests.get());
    }

    fn is_busy(&self) -> bool {
        let mut totals = RouteTotals::default();
        self.add_to(&mut totals);
        totals.active() > 0
    }
}

impl RouteRest {
    fn add_to(&self, totals: &mut RouteTotals) {
        for (sum, counter) in totals.forwarded.iter_mut().zip(&self.forwarded) {
            *sum = sum.wrapping_add(counter.get());
        }
        let made = self.made.get().into_iter().flat_map(|made| made.iter());
        for (sum, counters) in totals.made.iter_mut().zip(made) {
            counters.add_to(sum);
        }
        if let Some(counters) = self.grpc.get() {
            for (sum, counter) in totals.grpc.iter_mut().zip(counters.iter()) {
                *sum = sum.wrapping_add(counter.get());
            }
        }
        for (sum, counter) in [
            (&mut totals.failures, &self.failures),
            (&mut totals.retries, &self.retries),
            (&mut totals.received, &self.received),
            (&mut totals.audited, &self.audited),
        ] {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

/// The sum of [`RouteStats`] over threads.
#[derive(Clone, Debug, Default)]
pub struct RouteTotals {
    /// Requests, calls or streams that began.
    pub requests: u64,
    /// Those that ended and count against the success rate, see [`Finished::is_failure`].
    pub failures: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Those that passed and would be denied, were the policies in audit mode enforced.
    pub audited: u64,
    /// Bytes of bodies and streams from clients.
    pub received: u64,
    /// Bytes of bodies and streams to clients.
    pub sent: u64,
    /// Ends without a reason, by [`Class::index`].
    pub forwarded: [u64; Class::COUNT],
    /// Ends with a reason, by [`Class::index`].
    pub made: [ReasonTotals; Class::COUNT],
    /// gRPC calls by `grpc-status`, 0 to 16; the last is for all others.
    pub grpc: [u64; GRPC_STATUSES],
    /// How long those that ended took.
    pub duration: Snapshot,
}

impl RouteTotals {
    /// What began and has not ended.
    pub fn active(&self) -> u64 {
        self.requests.saturating_sub(self.duration.count())
    }

    /// Every class and reason that occurred, with its count; reason `None` is a response of the server.
    pub fn responses(&self) -> impl Iterator<Item = (Class, Option<Reason>, u64)> + '_ {
        let per_class = Class::ALL.iter().zip(self.forwarded).zip(&self.made);
        per_class.flat_map(|((class, forwarded), made)| {
            let forwarded = (forwarded > 0).then_some((*class, None, forwarded));
            let made = made.iter().map(|(reason, count)| (*class, Some(reason), count));
            forwarded.into_iter().chain(made)
        })
    }

    /// Every gRPC status that occurred, with its count; `None` is a number that gRPC does not know.
    pub fn grpc_statuses(&self) -> impl Iterator<Item = (Option<u32>, u64)> + '_ {
        (0u32..).zip(self.grpc).filter_map(|(status, count)| {
            let known = (status < GRPC_STATUSES as u32 - 1).then_some(status);
            (count > 0).then_some((known, count))
        })
    }
}

/// One counter for each limit.
#[derive(Debug, Default)]
pub struct LimitCounters([Counter; Limit::COUNT]);

impl LimitCounters {
    /// Counts that a limit was reached.
    pub fn increment(&self, limit: Limit) {
        if let Some(counter) = self.0.get(limit.index()) {
            counter.increment();
        }
    }

    fn add_to(&self, totals: &mut LimitTotals) {
        for (sum, counter) in totals.0.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

/// Sums of [`LimitCounters`] over threads.
#[derive(Clone, Debug, Default)]
pub struct LimitTotals([u64; Limit::COUNT]);

impl LimitTotals {
    /// Every limit that was reached at least once, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        let counts = Limit::ALL.iter().zip(self.0);
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(limit, count)| (*limit, count))
    }
}

/// One counter for each way in which a workload is not believed. Where all are, there is no memory for it.
#[derive(Debug, Default)]
pub struct RejectionCounters(OnceBox<[Counter; Rejection::COUNT]>);

impl RejectionCounters {
    fn increment(&self, rejection: Rejection) {
        let counters = self.0.get_or_init(Box::default);
        if let Some(counter) = counters.get(rejection.index()) {
            counter.increment();
        }
    }

    fn add_to(&self, totals: &mut RejectionTotals) {
        let counters = self.0.get().into_iter().flat_map(|counters| counters.iter());
        for (sum, counter) in totals.0.iter_mut().zip(counters) {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

/// Sums of [`RejectionCounters`] over threads.
#[derive(Clone, Debug, Default)]
pub struct RejectionTotals([u64; Rejection::COUNT]);

impl RejectionTotals {
    /// Every rejection that was seen at least once, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Rejection, u64)> + '_ {
        let counts = Rejection::ALL.iter().zip(self.0);
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(rejection, count)| (*rejection, count))
    }
}

/// How a TLS handshake with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It was completed in this many nanoseconds.
    Done(Nanos),
    /// It failed; the reason stands with the connection that closed.
    Failed,
}

/// One listener.
#[derive(Debug, Default)]
pub struct ListenerStats {
    accepted: Counter,
    closed: Counter,
    closed_by: ReasonCounters,
    idle: Gauge,
    detected: [Counter; Protocol::COUNT],
    tls_failed: Counter,
    tls: Histogram,
    limits: LimitCounters,
    rejected: RejectionCounters,
}

impl ListenerStats {
    /// Counts a workload that called and was not believed.
    pub fn rejected(&self, rejection: Rejection) {
        self.rejected.increment(rejection);
    }

    /// Counts an accepted connection. Each one must end with [`ListenerStats::closed`].
    #[inline]
    pub fn accepted(&self) {
        self.accepted.increment();
    }

    /// Counts a connection that ended; a reason when it was not the ordinary end.
    #[inline]
    pub fn closed(&self, reason: Option<Reason>) {
        match reason {
            None => self.closed.increment(),
            Some(reason) => self.closed_by.increment(reason),
        }
    }

    /// Changes how many connections wait for a request.
    #[inline]
    pub fn idle(&self, change: i64) {
        self.idle.add(change);
    }

    /// Counts what a connection turned out to speak.
    #[inline]
    pub fn detected(&self, protocol: Protocol) {
        if let Some(counter) = self.detected.get(protocol.index()) {
            counter.increment();
        }
    }

    /// Counts a TLS handshake.
    #[inline]
    pub fn handshake(&self, end: Handshake) {
        match end {
            Handshake::Done(nanos) => self.tls.record(nanos),
            Handshake::Failed => self.tls_failed.increment(),
        }
    }

    /// Counts that a limit was reached.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits.increment(limit);
    }
}

impl Block for ListenerStats {
    type Totals = ListenerTotals;

    fn add_to(&self, totals: &mut ListenerTotals) {
        self.closed_by.add_to(&mut totals.closed_by);
        totals.idle += self.idle.get();
        totals.closed = totals.closed.wrapping_add(self.closed.get());
        totals.accepted = totals.accepted.wrapping_add(self.accepted.get());
        for (sum, counter) in totals.detected.iter_mut().zip(&self.detected) {
            *sum = sum.wrapping_add(counter.get());
        }
        totals.tls_failed = totals.tls_failed.wrapping_add(self.tls_failed.get());
        self.rejected.add_to(&mut totals.rejected);
        self.tls.add_to(&mut totals.tls);
        self.limits.add_to(&mut totals.limits);
    }

    fn is_busy(&self) -> bool {
        let mut totals = ListenerTotals::default();
        self.add_to(&mut totals);
        totals.active() > 0
    }
}

/// The sum of [`ListenerStats`] over threads.
#[derive(Clone, Debug, Default)]
pub struct ListenerTotals {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that ended in the ordinary way.
    pub closed: u64,
    /// Connections that ended for a reason.
    pub closed_by: ReasonTotals,
    /// Open connections that wait for a request.
    pub idle: i64,
    /// Connections by what they speak, by [`Protocol::index`].
    pub detected: [u64; Protocol::COUNT],
    /// TLS handshakes that failed.
    pub tls_failed: u64,
    /// Workloads that called and were not believed.
    pub rejected: RejectionTotals,
    /// How long the TLS handshakes took that were completed.
    pub tls: Snapshot,
    /// Limits reached.
    pub limits: LimitTotals,
}

impl ListenerTotals {
    /// Open connections.
    pub fn active(&self) -> u64 {
        self.accepted
            .saturating_sub(self.closed.wrapping_add(self.closed_by.total()))
    }
}

/// One cluster.
#[derive(Debug, Default)]
pub struct ClusterStats {
    connected: Histogram,
    failed: ReasonCounters,
    closed: Counter,
    closed_by: ReasonCounters,
    idle: Gauge,
    pool_hits: Counter,
    pool_misses: Counter,
    pending: Gauge,
    limits: LimitCounters,
    rejected: RejectionCounters,
}

impl ClusterStats {
    /// Counts a connection that was made, TLS included, in this many nanoseconds. Each one must end with
    /// [`ClusterStats::closed`].
    pub fn connected(&self, nanos: Nanos) {
        self.connected.record(nanos);
    }

    /// Counts a connection that could not be made.
    pub fn connect_failed(&self, reason: Reason) {
        self.failed.increment(reason);
    }

    /// Counts a connection that ended; a reason when it was this proxy that found it too old.
    pub fn closed(&self, reason: Option<Reason>) {
        match reason {
            None => self.closed.increment(),
            Some(reason) => self.closed_by.increment(reason),
        }
    }

    /// Changes how many connections wait in the pool.
    #[inline]
    pub fn idle(&self, change: i64) {
        self.idle.add(change);
    }

    /// Counts a request that found a connection in the pool.
    #[inline]
    pub fn pool_hit(&self) {
        self.pool_hits.increment();
    }

    /// Counts a request that found none.
    #[inline]
    pub fn pool_miss(&self) {
        self.pool_misses.increment();
    }

    /// Changes how many requests wait for a connection.
    #[inline]
    pub fn pending(&self, change: i64) {
        self.pending.add(change);
    }

    /// Counts that a limit was reached.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits.increment(limit);
    }
}

impl ClusterStats {
    /// Counts a workload that was called and not believed.
    pub fn rejected(&self, rejection: Rejection) {
        self.rejected.increment(rejection);
    }
}

impl Block for ClusterStats {
    type Totals = ClusterTotals;

    fn add_to(&self, totals: &mut ClusterTotals) {
        totals.closed = totals.closed.wrapping_add(self.closed.get());
        self.closed_by.add_to(&mut totals.closed_by);
        totals.idle += self.idle.get();
        self.connected.add_to(&mut totals.connected);
        self.failed.add_to(&mut totals.failed);
        totals.pool_hits = totals.pool_hits.wrapping_add(self.pool_hits.get());
        totals.pool_misses = totals.pool_misses.wrapping_add(self.pool_misses.get());
        totals.pending += self.pending.get();
        self.limits.add_to(&mut totals.limits);
        self.rejected.add_to(&mut totals.rejected);
    }

    fn is_busy(&self) -> bool {
        let mut totals = ClusterTotals::default();
        self.add_to(&mut totals);
        totals.active() > 0 || totals.pending != 0
    }
}

/// The sum of [`ClusterStats`] over threads.
#[derive(Clone, Debug, Default)]
pub struct ClusterTotals {
    /// How long the connections took that were made.
    pub connected: Snapshot,
    /// Connections that could not be made.
    pub failed: ReasonTotals,
    /// Connections that ended with their last request, or by the server's doing.
    pub closed: u64,
    /// Connections that the proxy ended, which were idle for too long or too old.
    pub closed_by: ReasonTotals,
    /// Open connections that wait in the pool.
    pub idle: i64,
    /// Requests that found a connection in the pool.
    pub pool_hits: u64,
    /// Requests that found none.
    pub pool_misses: u64,
    /// Requests that wait for a connection.
    pub pending: i64,
    /// Limits reached.
    pub limits: LimitTotals,
    /// Workloads that were called and not believed.
    pub rejected: RejectionTotals,
}

impl ClusterTotals {
    /// Open connections.
    pub fn active(&self) -> u64 {
        self.connected
            .count()
            .saturating_sub(self.closed.wrapping_add(self.closed_by.total()))
    }
}

// A label set's memory on each thread, without buckets: two groups of them are 480 bytes more. Of a route it is one line,
// with the mark in front of it.
const _: () = assert!(size_of::<RouteStats>() == 64 - 8);
const _: () = assert!(size_of::<RouteRest>() <= 160);
const _: () = assert!(size_of::<ListenerStats>() <= 424);
const _: () = assert!(size_of::<ClusterStats>() <= 408);

#[cfg(test)]
mod tests;
