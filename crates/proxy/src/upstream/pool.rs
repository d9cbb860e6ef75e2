//! Which connections to a server are waiting to be used again?
//!
//! A data thread keeps, for each endpoint, the connections that finished an exchange cleanly: last in, first out, so
//! that a shrinking load lets the rest grow old and be closed. Nothing here waits; a connection whose server closed it
//! is noticed without a system call, since the runtime has then marked it readable. Bounds: `idleConnections` for each
//! endpoint and thread, and the idle timeout, enforced by [`Pool::sweep`] about once a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use mesh_model::errors::Reason;
use mesh_model::resources::ClusterTimeouts;

use super::cluster::{ClusterShared, ConnectionPermit};
use crate::clock::{Nanos, nanos};
use crate::io::Stream;
use crate::io::wire::{ReadSize, Wire};
use crate::telemetry::{ClusterStats, Limit, Own};

/// A connection to a server, between two exchanges or in one.
pub struct Pooled<S> {
    /// The connection.
    pub wire: Wire<S>,
    /// When it was made.
    pub opened: Nanos,
    /// When it last finished an exchange.
    pub idle_since: Nanos,
    /// How many exchanges it has carried; one that has waited in a pool counts as used. Zero: it is new, and a failure is
    /// the server's, not a race with its idle timeout.
    pub exchanges: u32,
    /// The [`ClusterPlan::epoch`](super::cluster::ClusterPlan::epoch) that it was made in.
    pub epoch: u64,
    /// Counts it as open until it is dropped.
    pub open: OpenConnection,
}

/// An open connection in the books, taken out when it is dropped.
pub struct OpenConnection {
    permit: ConnectionPermit,
    stats: Own<ClusterStats>,
    is_idle: bool,
    /// Why this proxy ends it, where it is for its age.
    ended_by: Option<Reason>,
}

impl OpenConnection {
    /// Books a connection that took `nanos` to make.
    pub fn new(permit: ConnectionPermit, stats: Own<ClusterStats>, nanos: Nanos) -> Self {
        stats.connected(nanos);
        Self {
            permit,
            stats,
            is_idle: false,
            ended_by: None,
        }
    }

    /// What it is counted in.
    pub fn shared(&self) -> &Arc<ClusterShared> {
        self.permit.shared()
    }

    /// What counts it.
    pub fn stats(&self) -> &Own<ClusterStats> {
        &self.stats
    }

    /// Ends it for a reason.
    pub fn end(mut self, reason: Reason) {
        self.ended_by = Some(reason);
    }

    /// Counts that its server went beyond a bound.
    pub fn limit_hit(&self, limit: Limit) {
        self.stats.limit_hit(limit);
    }

    /// Counts it as one that waits to be used, or no longer.
    fn idle(&mut self, is_idle: bool) {
        if self.is_idle != is_idle {
            self.is_idle = is_idle;
            self.stats.idle(if is_idle { 1 } else { -1 });
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.idle(false);
        self.stats.closed(self.ended_by);
    }
}

/// How old a connection to a server may be now.
#[derive(Clone, Copy)]
pub struct Ages {
    /// What was idle since before then goes.
    idle: Nanos,
    /// What was made before then goes.
    opened: Nanos,
}

impl Ages {
    /// By a cluster's timeouts.
    pub fn at(now: Nanos, timeouts: &ClusterTimeouts) -> Self {
        let before = |span: mesh_model::resources::Duration| {
            span.enabled().map_or(0, |span| now.saturating_sub(nanos(span)))
        };
        Self {
            idle: before(timeouts.idle),
            opened: before(timeouts.max_connection_age),
        }
    }

    /// Why a connection goes that was opened then and, where it is, is idle since; `None` when it stays.
    pub fn end(self, opened: Nanos, idle_since: Option<Nanos>) -> Option<Reason> {
        if opened < self.opened {
            Some(Reason::MaxConnectionAge)
        } else if idle_since.is_some_and(|since| since < self.idle) {
            Some(Reason::IdleTimeout)
        } else {
            None
        }
    }
}

/// Idle connections to one endpoint, on one thread.
pub struct Pool<S> {
    idle: VecDeque<Pooled<S>>,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self {
            idle: VecDeque::new(),
        }
    }
}

impl<S: Stream> Pool<S> {
    /// The connection that was used last and is still good.
    pub fn take(&mut self) -> Option<Pooled<S>> {
        while let Some(mut pooled) = self.idle.pop_back() {
            if is_quiet(&mut pooled) {
                pooled.open.idle(false);
                return Some(pooled);
            }
        }
        None
    }

    /// Closes up to so many, those that were idle longest. Gives how many there were.
    pub fn close_oldest(&mut self, most: u32) -> u32 {
        let most = self.idle.len().min(most as usize);
        self.idle.drain(..most);
        most as u32
    }

    /// Keeps a connection. Where `most` are kept already, the one that was idle longest goes; with 0, none is kept.
    pub fn put(&mut self, mut pooled: Pooled<S>, most: usize) {
        self.trim(most.saturating_sub(1));
        if most > 0 {
            pooled.open.idle(true);
            // One that came too late for whom it was made has carried none.
            pooled.exchanges = pooled.exchanges.max(1);
            self.idle.push_back(pooled);
        }
    }

    /// Keeps `most`; those that were idle longest go.
    pub fn trim(&mut self, most: usize) {
        while self.idle.len() > most
            && let Some(oldest) = self.idle.pop_front()
        {
            oldest.open.stats.limit_hit(Limit::IdleConnections);
        }
    }

    /// Closes what is too old, or was closed by its server.
    pub fn sweep(&mut self, ages: Ages) {
        self.idle.retain_mut(|pooled| {
            if !is_quiet(pooled) {
                return false;
            }
            pooled.open.ended_by = ages.end(pooled.opened, Some(pooled.idle_since));
            pooled.open.ended_by.is_none()
        });
        if self.idle.is_empty() {
            self.idle.shrink_to_fit();
        }
    }

    /// Closes what does not lead to where it may.
    pub fn retain(&mut self, may: impl Fn(&S) -> bool) {
        self.idle.retain(|pooled| may(&pooled.wire.io));
    }

    /// How many connections are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }
}

/// Between exchanges a server has nothing to say: a connection that gives anything was closed or is out of step.
fn is_quiet<S: Stream>(pooled: &mut Pooled<S>) -> bool {
    pooled
        .wire
        .poll_fill(&mut Context::from_waker(Waker::noop()), ReadSize::Small)
        .is_pending()
}
