//! A cluster as one data thread sees it: who is chosen, which connections are there, and what may not grow further.
//!
//! What decides (limits, in-flight counts, latencies, ejections) is shared by all threads in [`ClusterShared`] and in
//! the endpoints' states; connections belong to a thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use foldhash::fast::RandomState;
use mesh_model::errors::Reason;
use mesh_model::resources::{Cluster as ClusterResource, Endpoints};

use super::pool::{Ages, Pool, Pooled};
use super::room::{AtHome, Bell, Bells, Door, Doors};
use super::target::{Offer, Target, TargetTls};
use crate::balance::{EndpointState, Picked, Picker, Rng, Tried};
use crate::clock::{NEVER, Nanos, after, nanos};
use crate::discovery::Call;
use crate::http2::client::Connections;
use crate::io::Stream;
use crate::telemetry::Label;
use crate::workload::{Outbound, server};

/// A cluster, compiled: immutable, shared by all threads, replaced when the resource or its endpoints change.
#[derive(Clone)]
pub struct ClusterPlan {
    /// The name, as it stands in metrics.
    pub label: Label,
    /// The resource.
    pub resource: Arc<ClusterResource>,
    /// Who can be chosen.
    pub picker: Arc<Picker>,
    /// TLS to originate.
    pub tls: Option<TargetTls>,
    /// Mutual TLS between workloads, instead.
    pub workload: Option<Outbound>,
    /// Another number when something else is spoken than before, TLS or HTTP: connections of another epoch, which may
    /// be plaintext or trust somebody else, are not used again.
    pub epoch: u64,
    /// What is counted over all threads; outlives the plan.
    pub shared: Arc<ClusterShared>,
    /// The endpoints that are listed.
    pub endpoints: Option<Arc<Endpoints>>,
    /// Asks for an early lookup of the cluster's name.
    pub call: Option<Arc<Call>>,
    /// Why there is nobody to choose, when there is nobody.
    pub nobody: Reason,
}

/// What all threads count together for a cluster.
#[derive(Default)]
pub struct ClusterShared {
    connections: AtomicU32,
    requests: AtomicU32,
    pending: AtomicU32,
    /// Rung when a connection may be opened again.
    pub room: Bell,
    /// Where who waits for room knocks.
    pub doors: Doors,
}

/// Counts something up to a bound; `None` at the bound. Dropping gives it back, and tells who waits for it.
macro_rules! permit {
    ($(#[$doc:meta])* $name:ident, $field:ident, $take:ident $(, rings $bell:ident)?) => {
        $(#[$doc])*
        pub struct $name(Arc<ClusterShared>);

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.$field.fetch_sub(1, Relaxed);
                $(self.0.$bell.ring_threads();)?
            }
        }

        impl ClusterShared {
            /// Counts one more, unless there are `most`.
            pub fn $take(self: &Arc<Self>, most: u32) -> Option<$name> {
                if self.$field.fetch_add(1, Relaxed) >= most {
                    self.$field.fetch_sub(1, Relaxed);
                    return None;
                }
                Some($name(Arc::clone(self)))
            }
        }
    };
}

permit!(
    /// An open connection.
    ConnectionPermit, connections, connection, rings room
);
permit!(
    /// A request in flight.
    RequestPermit, requests, request
);
permit!(
    /// A request that waits for a connection.
    PendingPermit, pending, pending
);

impl ConnectionPermit {
    /// What it is counted in.
    pub fn shared(&self) -> &Arc<ClusterShared> {
        &self.0
    }
}

impl ClusterShared {
    /// Open connections, over all threads.
    pub fn open_connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }
}

/// Pools by [`key`].
type Pools<S> = HashMap<usize, (Arc<EndpointState>, Pool<S>), RandomState>;

/// A cluster on one thread.
pub struct Cluster<S> {
    plan: RefCell<Arc<ClusterPlan>>,
    /// By endpoint. The endpoint is held, so that its address is nobody else's key.
    pools: RefCell<Pools<S>>,
    /// HTTP/2 connections, by endpoint.
    pub http2: Connections,
    /// Rung when a connection of this thread is idle again, or has a place.
    pub room: Rc<Bells>,
    at_home: RefCell<AtHome>,
    /// Endpoints that were looked at for what is idle.
    #[cfg(test)]
    pub looks: std::cell::Cell<usize>,
}

impl<S: Stream> Cluster<S> {
    /// A cluster without connections, on a thread that has this door.
    pub fn new(plan: Arc<ClusterPlan>, door: Door) -> Rc<Self> {
        let room = Rc::<Bells>::default();
        Rc::new(Self {
            at_home: RefCell::new(AtHome::new(&plan.shared, door)),
            plan: RefCell::new(plan),
            pools: RefCell::default(),
            http2: Connections::new(Rc::clone(&room)),
            room,
            #[cfg(test)]
            looks: std::cell::Cell::default(),
        })
    }

    /// The plan in force.
    pub fn plan(&self) -> Arc<ClusterPlan> {
        Arc::clone(&self.plan.borrow())
    }

    /// Takes a new plan. Connections to endpoints that stay are kept, unless what is spoken to them changed. Idle
    /// ones above its limits are closed. Whoever waits looks again: there may be room now.
    pub fn update(&self, plan: Arc<ClusterPlan>) {
        let old = self.plan.replace(Arc::clone(&plan));
        self.at_home.borrow_mut().follow(&plan.shared);
        let stays = |endpoint: usize| old.epoch == plan.epoch && plan.picker.has(endpoint);
        self.pools.borrow_mut().retain(|endpoint, _| stays(*endpoint));
        self.http2.retain(stays);
        self.trim();
        self.room.ring_all();
    }

    /// Closes idle connections that are more than there may be, since limits may have been lowered.
    fn trim(&self) {
        let plan = self.plan();
        let limits = &plan.resource.limits;
        for (_, pool) in self.pools.borrow_mut().values_mut() {
            pool.trim(limits.idle_connections as usize);
        }
        self.make_room(plan.shared.open_connections().saturating_sub(limits.connections));
    }

    /// Counts one more connection for a request that keeps to this plan, unless there are as many as there may be by now.
    pub fn permit(&self, plan: &ClusterPlan) -> Option<ConnectionPermit> {
        let current = self.plan.borrow();
        let limits = match Arc::ptr_eq(&current.shared, &plan.shared) {
            true => &current.resource.limits,
            false => &plan.resource.limits,
        };
        plan.shared.connection(limits.connections)
    }

    /// Where a request that keeps to this plan lists the HTTP/2 connections that it opens to an endpoint. When something
    /// else is spoken by now, or the endpoint is none of ours any more, that is a list of its own, which nobody else will
    /// see.
    pub fn http2_of(&self, plan: &ClusterPlan, endpoint: &Arc<EndpointState>) -> Connections {
        let current = self.plan.borrow();
        if plan.epoch == current.epoch && current.has(endpoint) {
            self.http2.clone()
        } else {
            Connections::new(Rc::clone(&self.room))
        }
    }

    /// An idle connection to this endpoint.
    pub fn take(&self, endpoint: &Arc<EndpointState>) -> Option<Pooled<S>> {
        self.pools.borrow_mut().get_mut(&key(endpoint))?.1.take()
    }

    /// Keeps a connection for later, if it speaks what is spoken now, its endpoint is still one of ours, there are not more
    /// than there may be, and no other thread waits to open one.
    pub fn put(&self, endpoint: &Arc<EndpointState>, pooled: Pooled<S>) {
        let plan = self.plan.borrow();
        let is_old = pooled.epoch != plan.epoch;
        let is_one_too_many = plan.shared.open_connections() > plan.resource.limits.connections;
        if is_old || is_one_too_many || (plan.shared.room.is_awaited() && !self.room.is_awaited()) {
            return;
        }
        let age = plan.resource.timeouts.max_connection_age.enabled();
        if after(pooled.opened, age) <= pooled.idle_since {
            pooled.open.end(Reason::MaxConnectionAge);
            return;
        }
        let most = plan.resource.limits.idle_connections as usize;
        match self.pools.borrow_mut().entry(key(endpoint)) {
            Entry::Occupied(mut entry) => entry.get_mut().1.put(pooled, most),
            Entry::Vacant(entry) if plan.has(endpoint) => {
                entry
                    .insert((Arc::clone(endpoint), Pool::default()))
                    .1
                    .put(pooled, most);
            }
            Entry::Vacant(_) => {}
        }
        self.room.ring();
    }

    /// Closes so many idle connections to any endpoints, so that others may be opened. False when there are fewer. Each
    /// endpoint is looked at once, and those that have none left are not found again.
    pub fn make_room(&self, wanted: u32) -> bool {
        let (mut left, mut emptied) = (wanted, Vec::new());
        let mut pools = self.pools.borrow_mut();
        for (endpoint, (_, pool)) in &mut *pools {
            if left == 0 {
                break;
            }
            #[cfg(test)]
            self.looks.set(self.looks.get() + 1);
            left -= pool.close_oldest(left);
            if pool.is_empty() {
                emptied.push(*endpoint);
            }
        }
        for endpoint in emptied {
            pools.remove(&endpoint);
        }
        drop(pools);
        self.http2.close_idle(left) == left
    }

    /// Closes idle connections whose time is over.
    pub fn sweep(&self, now: Nanos) {
        let ages = Ages::at(now, &self.plan.borrow().resource.timeouts);
        self.pools.borrow_mut().retain(|_, (_, pool)| {
            pool.sweep(ages);
            !pool.is_empty()
        });
        self.http2.sweep(ages);
        self.trim();
        self.give_up();
    }

    /// Closes as many idle connections as others wait for, who can't reach them. They knock; and as a permit that is free
    /// is anybody's, this is asked from time to time besides.
    pub fn give_up(&self) {
        let plan = self.plan();
        let shared = &plan.shared;
        let waiting = shared.room.waiting();
        if waiting == 0 || self.room.is_awaited() {
            return;
        }
        let most = plan.resource.limits.connections;
        let wanted = shared.open_connections().saturating_add(waiting);
        self.make_room(wanted.saturating_sub(most));
    }

    /// Closes idle connections to workloads that are such, and gives no more places on those that are in use.
    pub fn leave(&self, is_such: impl Fn(&mesh_identity::Peer) -> bool) {
        if self.plan.borrow().workload.is_none() {
            return;
        }
        let may = |stream: &S| !server(stream).is_some_and(|server| is_such(&server));
        self.pools.borrow_mut().retain(|_, (_, pool)| {
            pool.retain(may);
            !pool.is_empty()
        });
        self.http2.leave(&is_such);
    }

    /// Idle connections kept.
    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.pools.borrow().values().map(|(_, pool)| pool.len()).sum()
    }
}

/// What an endpoint's connections are kept under.
pub fn key(endpoint: &Arc<EndpointState>) -> usize {
    endpoint.key()
}

impl ClusterPlan {
    /// Chooses an endpoint that was not tried. The error is why there is none at all; who has tried them all knows better.
    pub fn pick(
        &self,
        now: Nanos,
        rng: &mut Rng,
        hash: Option<u64>,
        tried: &Tried,
    ) -> Result<Picked<'_>, Reason> {
        self.picker.pick(now, rng, hash, tried).map_err(|_| self.nobody)
    }

    /// Whether there is an endpoint besides this one that may be asked and was not.
    pub fn has_other(&self, than: &Arc<EndpointState>, tried: &Tried, now: Nanos) -> bool {
        let members = self.picker.endpoints().iter().enumerate();
        members
            .filter(|(index, member)| member.takes_traffic() && !tried.contains(*index))
            .any(|(_, member)| !Arc::ptr_eq(&member.endpoint, than) && member.endpoint.is_available(now))
    }

    /// Whether an endpoint is one of its members.
    pub fn has(&self, endpoint: &Arc<EndpointState>) -> bool {
        self.picker.has(key(endpoint))
    }

    /// Counts one more connection, unless there are as many as there may be.
    pub fn permit(&self) -> Option<ConnectionPermit> {
        self.shared.connection(self.resource.limits.connections)
    }

    /// Streams on one connection before another is opened.
    pub fn streams_per_connection(&self) -> u32 {
        // With none, connections would be opened for ever.
        self.resource.limits.streams_per_connection.max(1)
    }

    /// Books a connect that failed. When all endpoints are out by now and came from a name, the name is looked up
    /// sooner: they may have moved.
    #[cold]
    pub fn connect_failed(&self, endpoint: &EndpointState, now: Nanos, rng: &mut Rng) {
        endpoint.connect_failed(now, rng);
        let Some(call) = &self.call else { return };
        let members = self.picker.endpoints();
        if members.iter().all(|member| !member.endpoint.is_available(now)) {
            call.raise();
        }
    }

    /// What to connect to for an endpoint.
    ///
    /// # Errors
    /// Nothing says who the workload there must be.
    pub fn target(&self, endpoint: &EndpointState, offer: Offer) -> Result<Target, Reason> {
        let tls = match &self.workload {
            None => self.tls.clone(),
            Some(workload) => {
                let target = workload.target(endpoint.identity());
                Some(target.cloned().ok_or(Reason::UpstreamName)?)
            }
        };
        Ok(Target {
            address: endpoint.address.clone(),
            tls,
            offer,
        })
    }

    /// Until when a connection begun now must stand.
    pub fn connect_deadline(&self, now: Nanos) -> Nanos {
        self.resource
            .timeouts
            .connect
            .enabled()
            .map_or(NEVER, |span| now.saturating_add(nanos(span)))
    }
}
