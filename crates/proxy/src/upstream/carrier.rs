//! Which connection carries a request, and what does a request wait for?
//!
//! ```text
//!   idle HTTP/1 connection, or a place on an HTTP/2 one ──────────────────────────> carrier
//!      └─ none: pending ─> room? ─> connect ─> (ALPN) ─> HTTP/1 or HTTP/2 ────────────^
//!                           └─ no: wait until something comes free ───────────────────^
//! ```
//!
//! Where the server chooses the version (ALPN), requests that come meanwhile wait for its choice, and it is remembered
//! for the next connection. Bounds: `limits.connections`, `limits.pendingRequests`; whoever waits for room does so as
//! long as a connect may take. Where another endpoint may be asked instead, a connect is waited for only for a part of
//! the time that the request has; it goes on meanwhile, for others. And a server that lets no stream be open is waited
//! for only where there is no other.

use std::rc::Rc;
use std::sync::Arc;

use mesh_model::errors::Reason;

use super::cluster::{Cluster, ClusterPlan, ConnectionPermit, PendingPermit, key};
use super::dial::{Dial, chose_http2, connect, greeting, open};
use super::pool::Pooled;
use super::room::wait_for;
use super::target::Offer;
use crate::balance::{EndpointState, InFlight};
use crate::clock::Nanos;
use crate::http2::client::{NoSeat, Opened, Seat};
use crate::io::Net;
use crate::telemetry::{ClusterStats, Limit, Own};
use crate::thread::Thread;
use crate::timer::Deadline;

/// How long a connect is waited for at least before another endpoint is asked: most take less, over any distance.
const LEAST_PATIENCE: Nanos = 250_000_000;

/// What carries a request.
pub enum Carrier<S> {
    /// A connection of its own.
    Http1(Pooled<S>),
    /// A place on a shared one.
    Http2(Seat),
}

/// What is to be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// HTTP/1, whatever else the server could.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the server chooses.
    Either,
}

/// A request that looks for a connection to an endpoint.
pub struct Caller<'a, N: Net> {
    /// Its data thread.
    pub thread: &'a Rc<Thread<N>>,
    /// The cluster.
    pub cluster: &'a Rc<Cluster<N::Stream>>,
    /// The cluster's plan that the request began with.
    pub plan: &'a Arc<ClusterPlan>,
    /// The endpoint.
    pub endpoint: &'a Arc<EndpointState>,
    /// Counts the request there.
    pub in_flight: &'a InFlight,
    /// Whether it wants none of the idle HTTP/1 connections: one of them was found closed.
    pub fresh: bool,
    /// Whether another endpoint may be asked instead.
    pub others: bool,
    /// Wakes its task.
    pub deadline: &'a Deadline,
    /// When nobody wants the answer any more.
    pub not_after: Nanos,
}

/// A request that waits, in the books until it is dropped.
struct Pending {
    _permit: PendingPermit,
    stats: Own<ClusterStats>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.stats.pending(-1);
    }
}

impl<N: Net> Caller<'_, N> {
    /// What carries the request, if something is free.
    pub fn at_once(&self, wanted: Wanted) -> Option<Carrier<N::Stream>> {
        let carrier = self.free(wanted)?;
        self.thread.telemetry.cluster(&self.plan.label).pool_hit();
        Some(carrier)
    }

    /// What carries the request, as soon as something is free.
    ///
    /// # Errors
    /// Why there is nothing.
    pub async fn carrier(&self, wanted: Wanted) -> Result<Carrier<N::Stream>, Reason> {
        let stats = self.thread.telemetry.cluster(&self.plan.label);
        stats.pool_miss();
        let _pending = self.pending(stats)?;
        match wanted {
            Wanted::Http1 => self.http1(Offer::Http1).await,
            Wanted::Either if self.endpoint.chose_http1() => self.http1(Offer::Http).await,
            Wanted::Http2 | Wanted::Either => match self.http2(wanted).await {
                Ok(seat) => Ok(Carrier::Http2(seat)),
                Err(NoSeat::Http1) => self.http1(Offer::Http).await,
                Err(NoSeat::Failed(reason)) => Err(reason),
            },
        }
    }

    fn free(&self, wanted: Wanted) -> Option<Carrier<N::Stream>> {
        let http1 = || self.idle().map(Carrier::Http1);
        let http2 = || {
            let most = self.plan.streams_per_connection();
            self.cluster.http2.take(self.endpoint, most).map(Carrier::Http2)
        };
        match wanted {
            Wanted::Http1 => http1(),
            Wanted::Http2 => http2(),
            Wanted::Either => http2().or_else(http1),
        }
    }

    fn idle(&self) -> Option<Pooled<N::Stream>> {
        if self.fresh {
            return None;
        }
        self.cluster.take(self.endpoint)
    }

    fn pending(&self, stats: Own<ClusterStats>) -> Result<Pending, Reason> {
        let Some(permit) = self
            .plan
            .shared
            .pending(self.plan.resource.limits.pending_requests)
        else {
            stats.limit_hit(Limit::PendingRequests);
            return Err(Reason::UpstreamOverflow);
        };
        stats.pending(1);
        Ok(Pending {
            _permit: permit,
            stats,
        })
    }

    /// A connection of its own, unless the server chooses HTTP/2.
    async fn http1(&self, offer: Offer) -> Result<Carrier<N::Stream>, Reason> {
        if let Some(pooled) = self.idle() {
            return Ok(Carrier::Http1(pooled));
        }
        let permit = match self.cluster.permit(self.plan) {
            Some(permit) => permit,
            None => {
                let room = || match self.cluster.take(self.endpoint) {
                    Some(pooled) => Some(Room::Idle(pooled)),
                    None => self.room().map(Room::Permit),
                };
                self.limit_hit();
                match self.wait(self.waits_until(), room).await? {
                    Room::Permit(permit) => permit,
                    Room::Idle(pooled) => return Ok(Carrier::Http1(pooled)),
                }
            }
        };
        let pooled = self.connects(permit, offer).await?;
        if !chose_http2(&pooled) {
            return Ok(Carrier::Http1(pooled));
        }
        let adopted = adopt(self.thread, self.cluster, self.plan, self.endpoint, pooled);
        Ok(Carrier::Http2(adopted.await?))
    }

    /// Opens a connection, which others may have when it comes too late for this request.
    async fn connects(&self, permit: ConnectionPermit, offer: Offer) -> Result<Pooled<N::Stream>, Reason> {
        let dial = Dial {
            permit,
            offer,
            probe: self.in_flight.hand_over(),
        };
        let late = {
            let (thread, cluster) = (Rc::clone(self.thread), Rc::clone(self.cluster));
            let (plan, endpoint) = (Arc::clone(self.plan), Arc::clone(self.endpoint));
            async move |pooled| {
                if chose_http2(&pooled) {
                    // Its place is free again at once. What failed is in the books.
                    let _ = adopt(&thread, &cluster, &plan, &endpoint, pooled).await;
                } else {
                    cluster.put(&endpoint, pooled);
                }
            }
        };
        let (thread, plan, endpoint) = (self.thread, self.plan, self.endpoint);
        let until = self.patience();
        let opened = open(thread, self.deadline, plan, endpoint, dial, until, late);
        opened.await.map_err(|reason| match reason {
            Reason::RequestTimeout => self.late(until, Reason::ConnectTimeout),
            reason => reason,
        })
    }

    /// A place on a shared connection.
    async fn http2(&self, wanted: Wanted) -> Result<Seat, NoSeat> {
        let most = self.plan.streams_per_connection();
        let (waits_until, patience) = (self.waits_until(), self.patience());
        loop {
            let connections = self.cluster.http2_of(self.plan, self.endpoint);
            self.deadline.set(patience);
            let opens = || self.opens(wanted);
            let checkout = connections.checkout(self.thread, self.endpoint, most, opens);
            let seat = crate::timer::until(self.deadline, checkout).await;
            let is_full = || self.cluster.http2.takes_nobody(self.endpoint);
            match seat.unwrap_or(Err(NoSeat::Failed(self.late(patience, Reason::ConnectTimeout)))) {
                Err(NoSeat::Failed(Reason::ConnectionLimit)) if self.others && is_full() => {
                    return Err(NoSeat::Failed(Reason::UpstreamFull));
                }
                // Room may have come and gone, as long as it is worth waiting for.
                Err(NoSeat::Failed(Reason::ConnectionLimit)) if self.thread.now() < waits_until => {}
                done => return done,
            }
            let free = || {
                let seat = self.cluster.http2.take(self.endpoint, most);
                if seat.is_some() || is_full() {
                    return seat.map(Some);
                }
                // The permit is asked for anew by whoever opens a connection.
                self.room().map(|_| None)
            };
            if !is_full() {
                self.limit_hit();
            }
            match self.wait(waits_until, free).await {
                Ok(Some(seat)) => return Ok(seat),
                Ok(None) => {}
                Err(Reason::ConnectionLimit) if is_full() => {
                    return Err(NoSeat::Failed(Reason::UpstreamFull));
                }
                Err(reason) => return Err(NoSeat::Failed(reason)),
            }
        }
    }

    /// Opens a connection that others wait for as well, so that it does not end with this request.
    fn opens(&self, wanted: Wanted) -> impl Future<Output = Result<Opened<N::Stream>, NoSeat>> + use<N> {
        let (thread, cluster) = (Rc::clone(self.thread), Rc::clone(self.cluster));
        let (plan, endpoint) = (Arc::clone(self.plan), Arc::clone(self.endpoint));
        let probe = self.in_flight.hand_over();
        async move {
            let deadline = thread.timers.deadline();
            let before = plan.connect_deadline(thread.now());
            let permit = cluster
                .permit(&plan)
                .ok_or(NoSeat::Failed(Reason::ConnectionLimit))?;
            let pooled = connect(&thread, &deadline, &plan, &endpoint, permit, Offer::Http)
                .await
                .map_err(NoSeat::Failed)?;
            if wanted == Wanted::Http2 || chose_http2(&pooled) {
                let greeted = greeting(&thread, &plan, &endpoint, &pooled, probe);
                return Ok(Opened {
                    pooled,
                    before,
                    greeted,
                });
            }
            endpoint.connect_succeeded();
            endpoint.note_choice(true);
            cluster.put(&endpoint, pooled);
            Err(NoSeat::Http1)
        }
    }

    /// Permission to open a connection, at the cost of an idle one where that must be.
    fn room(&self) -> Option<ConnectionPermit> {
        let permit = || self.cluster.permit(self.plan);
        permit().or_else(|| self.cluster.make_room(1).then(permit).flatten())
    }

    /// Until when a connect to this endpoint is waited for.
    fn patience(&self) -> Nanos {
        if !self.others {
            return self.not_after;
        }
        let now = self.thread.now();
        let part = self.not_after.saturating_sub(now) / 2;
        now.saturating_add(part.max(LEAST_PATIENCE)).min(self.not_after)
    }

    /// Why a wait is over that was until then: `short` where the request had more time than that.
    fn late(&self, until: Nanos, short: Reason) -> Reason {
        if let Some(cut) = self.deadline.cut() {
            cut
        } else if until < self.not_after {
            short
        } else {
            Reason::RequestTimeout
        }
    }

    fn waits_until(&self) -> Nanos {
        self.plan.connect_deadline(self.thread.now()).min(self.not_after)
    }

    /// Counts that there may be no more connections.
    fn limit_hit(&self) {
        let stats = self.thread.telemetry.cluster(&self.plan.label);
        stats.limit_hit(Limit::Connections);
    }

    /// Waits for room.
    async fn wait<T>(&self, until: Nanos, look: impl FnMut() -> Option<T>) -> Result<T, Reason> {
        self.deadline.set(until);
        let (bells, shared) = (&self.cluster.room, &self.plan.shared);
        let found = wait_for(bells, key(self.endpoint), shared, self.deadline, look).await;
        found.ok_or_else(|| self.late(until, Reason::ConnectionLimit))
    }
}

/// Takes on a connection on which the server chose HTTP/2, and gives a place on it.
async fn adopt<N: Net>(
    thread: &Rc<Thread<N>>,
    cluster: &Cluster<N::Stream>,
    plan: &Arc<ClusterPlan>,
    endpoint: &Arc<EndpointState>,
    pooled: Pooled<N::Stream>,
) -> Result<Seat, Reason> {
    endpoint.note_choice(false);
    let most = plan.streams_per_connection();
    let opened = Opened {
        before: plan.connect_deadline(thread.now()),
        greeted: greeting(thread, plan, endpoint, &pooled, None),
        pooled,
    };
    let connections = cluster.http2_of(plan, endpoint);
    connections.adopt(thread, endpoint, most, opened).await
}

enum Room<S> {
    Idle(Pooled<S>),
    Permit(ConnectionPermit),
}
