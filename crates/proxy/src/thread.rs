//! What does a data thread own?
//!
//! Everything here belongs to one thread and is never locked: its deadlines, buffers, connections, the plan it works
//! by. The control thread sends it plans and sockets; see [`crate::worker`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use foldhash::fast::RandomState;
use mesh_http1::{RequestHead, ResponseHead};
use mesh_identity::MeshTls;
use mesh_model::errors::Reason;
use mesh_model::resources::Address;
use tokio::sync::Notify;

use crate::access::AccessQueue;
use crate::balance::Rng;
use crate::buffer::Buffers;
use crate::clock::{NEVER, Nanos, after};
use crate::http2::socket::WriteBuffers;
use crate::io::Net;
use crate::io::splice::Pipes;
use crate::own::For;
use crate::panics::Guard;
use crate::plan::{ListenerPlan, Plan, Timeouts};
use crate::task::AllPlaces;
use crate::telemetry::ThreadTelemetry;
use crate::timer::{Cap, Deadline, Timers};
use crate::upstream::cluster::{Cluster, ClusterPlan};
use crate::upstream::room::Door;
use crate::workload::server;

type ByName<T> = HashMap<Arc<str>, T, RandomState>;
type ClusterPlans = Arc<ByName<Arc<ClusterPlan>>>;

/// Parsed heads kept for the next request.
const KEPT_HEADS: usize = 256;

/// A data thread's own things.
pub struct Thread<N: Net> {
    /// Sockets and time.
    pub net: N,
    /// Deadlines.
    pub timers: Rc<Timers>,
    /// Buffers.
    pub buffers: Rc<Buffers>,
    /// Pipes for bulk that passes from kernel to kernel.
    pub pipes: Rc<Pipes>,
    /// What HTTP/2 connections lend each other.
    pub http2: Rc<mesh_http2::Pool>,
    /// Randomness.
    pub rng: RefCell<Rng>,
    /// What this thread counts.
    pub telemetry: ThreadTelemetry,
    /// What keeps panics to where they happen.
    pub guard: Arc<Guard>,
    /// As whom this proxy takes part in a mesh, where it does.
    identity: Option<Arc<MeshTls>>,
    rejected: Silence,
    denied: Silence,
    audited: Silence,
    /// Wakes whoever waits for another plan.
    pub changed: Notify,
    /// Where other threads knock that wait for what idle connections here hold.
    pub door: Door,
    plan: RefCell<Arc<Plan>>,
    clusters: RefCell<ByName<Rc<Cluster<N::Stream>>>>,
    listeners: RefCell<ByName<Rc<Listener>>>,
    /// Those that were taken out, or have let in clients by other rules than their successors do: as long as somebody is
    /// there.
    former: RefCell<Vec<Weak<Listener>>>,
    #[expect(
        clippy::vec_box,
        reason = "they go from hand to hand, and should be small to move"
    )]
    request_heads: RefCell<Vec<Box<RequestHead>>>,
    #[expect(
        clippy::vec_box,
        reason = "they go from hand to hand, and should be small to move"
    )]
    response_heads: RefCell<Vec<Box<ResponseHead>>>,
    /// Memory for exchanges; see [`crate::task`].
    pub places: AllPlaces,
}

/// What others may cause as often as they like, so that it is not said each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Often {
    /// A workload was not believed.
    Rejected,
    /// Policy denied something.
    Denied,
    /// Policy would deny something.
    Audited,
}

/// Until when nothing is said of something, and how many times it was not.
#[derive(Default)]
struct Silence {
    until: Cell<Nanos>,
    unsaid: Cell<u64>,
}

/// A listener on one thread, shared by its connections.
pub struct Listener {
    plan: RefCell<Arc<ListenerPlan>>,
    /// What judges those who are here: the plan in force, or that of a successor.
    judge: RefCell<Arc<ListenerPlan>>,
    /// What [`ListenerPlan::tightened`] was when it came to be.
    tightened: u64,
    access: RefCell<Option<Rc<AccessQueue>>>,
    /// Counts the times at which all who are here are to be judged again.
    judgement: Cell<u64>,
    drain: Cell<Drain>,
    /// When it was told that idle connections are to end; [`NEVER`] before.
    closing_since: Cell<Nanos>,
    /// When somebody of another machine was written of in the log last.
    stranger_told: Cell<Option<Nanos>>,
    /// When work in flight must be over; caps the deadlines of all its connections.
    end: Rc<Cap>,
    /// The clusters that its plan leads to: those in force or, where it is on its way out, of the time when it was taken out
    /// or succeeded.
    clusters: RefCell<ClusterPlans>,
}

/// How long nothing more is written of clients of other machines.
const TELL_AGAIN: Nanos = 60 * 1_000_000_000;

/// How far a listener is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It serves.
    No,
    /// It still accepts, and asks clients to go elsewhere after their next response.
    LameDuck,
    /// It accepts no more; idle connections close, others end their work by this time.
    Until(Nanos),
}

impl Listener {
    /// A listener that serves.
    fn new(plan: Arc<ListenerPlan>, clusters: ClusterPlans) -> Rc<Self> {
        Self::with_log(plan, clusters, None)
    }

    /// The one that follows this one and admits clients by other rules. Those who are here stay with this.
    fn successor(&self, plan: Arc<ListenerPlan>, clusters: ClusterPlans) -> Rc<Self> {
        Self::with_log(plan, clusters, self.access_queue())
    }

    fn with_log(plan: Arc<ListenerPlan>, clusters: ClusterPlans, log: Option<Rc<AccessQueue>>) -> Rc<Self> {
        Rc::new(Self {
            access: RefCell::new(AccessQueue::update(log, plan.access.as_ref())),
            judge: RefCell::new(Arc::clone(&plan)),
            tightened: plan.tightened(),
            plan: RefCell::new(plan),
            clusters: RefCell::new(clusters),
            judgement: Cell::new(0),
            drain: Cell::new(Drain::No),
            closing_since: Cell::new(NEVER),
            stranger_told: Cell::new(None),
            end: Cap::new(Reason::Draining),
        })
    }

    /// The plan in force.
    pub fn plan(&self) -> Arc<ListenerPlan> {
        Arc::clone(&self.plan.borrow())
    }

    /// Makes of a plan that was in force the one that is. Where it is the same, nothing is counted.
    #[inline]
    pub fn renew(&self, plan: &mut Arc<ListenerPlan>) {
        let current = self.plan.borrow();
        if !Arc::ptr_eq(&current, plan) {
            *plan = Arc::clone(&current);
        }
    }

    /// How many requests one connection may carry, as it is now; 0 for any number.
    pub fn requests_per_connection(&self) -> u32 {
        self.plan.borrow().resource.limits.requests_per_connection
    }

    /// Its deadlines, as they are now.
    pub fn timeouts(&self) -> Timeouts {
        self.plan.borrow().timeouts
    }

    /// The plan that says whether those who are here may stay. It is the newest of the listener's name, also when this
    /// one is on its way out and serves by an older one.
    pub fn judge(&self) -> Arc<ListenerPlan> {
        Arc::clone(&self.judge.borrow())
    }

    /// The same, where it is another one than that by which requests are served.
    #[inline]
    pub fn other_judge(&self, plan: &ListenerPlan) -> Option<Arc<ListenerPlan>> {
        let judge = self.judge.borrow();
        (!std::ptr::eq(&**judge, plan)).then(|| Arc::clone(&judge))
    }

    /// Whether somebody of another machine is to be written of in the log: seldom, since anybody may come.
    pub fn tells_of_stranger(&self, now: Nanos) -> bool {
        let tells = self.stranger_told.get().is_none_or(|at| now - at >= TELL_AGAIN);
        if tells {
            self.stranger_told.set(Some(now));
        }
        tells
    }

    /// Another number than before when whoever is here may have to go: see [`ListenerPlan::still`].
    #[inline]
    pub fn judgement(&self) -> u64 {
        self.judgement.get()
    }

    /// Has all who are here judged again. The caller then wakes them ([`Timers::wake_all`]).
    pub fn judge_again(&self) {
        self.judgement.set(self.judgement.get().wrapping_add(1));
    }

    /// Takes a new plan, and the clusters it leads to. What is under way keeps the plan it began with. True when it judges
    /// otherwise, or deadlines are others, so that the caller wakes all who are here ([`Timers::wake_all`]).
    fn update(&self, plan: Arc<ListenerPlan>, clusters: ClusterPlans) -> bool {
        self.clusters.replace(clusters);
        let deadlines = self.plan.borrow().timeouts != plan.timeouts;
        let before = self.access.take();
        self.access
            .replace(AccessQueue::update(before, plan.access.as_ref()));
        self.plan.replace(Arc::clone(&plan));
        self.judge_by(plan) || deadlines
    }

    /// Whether those who are here could be let in by a new plan in the same way.
    fn is_admitted_by(&self, new: &ListenerPlan) -> bool {
        new.tightened() == self.tightened && new.admits_as(&self.plan.borrow())
    }

    /// Has those who are here judged by a new plan, which may be a successor's. True when it judges otherwise, so that the
    /// caller wakes them ([`Timers::wake_all`]).
    fn judge_by(&self, plan: Arc<ListenerPlan>) -> bool {
        let judges = !plan.judges_as(&self.judge.borrow());
        self.judge.replace(plan);
        if judges {
            self.judge_again();
        }
        judges
    }

    /// Where its finished requests and streams are written down.
    #[inline]
    pub fn access_queue(&self) -> Option<Rc<AccessQueue>> {
        self.access.borrow().clone()
    }

    /// Whether and until when it drains.
    pub fn drain(&self) -> Drain {
        self.drain.get()
    }

    /// Whether connections on which nothing is under way are to end.
    pub fn is_closing(&self) -> bool {
        matches!(self.drain.get(), Drain::Until(_))
    }

    /// When an idle connection ends where they are to: not before `warm`, nor before its socket was looked at once more.
    pub fn closes_idle(&self, warm: Nanos) -> Option<Nanos> {
        self.is_closing().then(|| warm.max(self.closing_since.get()))
    }

    /// When work in flight must be over.
    pub fn drain_deadline(&self) -> Nanos {
        self.end.end()
    }

    /// A deadline for a connection or a stream. It is due at the end of a drain at the latest.
    pub fn deadline(&self, timers: &Rc<Timers>) -> Deadline {
        timers.capped(&self.end)
    }

    /// What caps all that one of its connections has under way, for the reason that it has besides a drain.
    pub fn cap(&self, why: Reason) -> Rc<Cap> {
        Cap::within(Some(Rc::clone(&self.end)), why)
    }

    /// Begins or hastens its end. The caller then wakes all who wait ([`Timers::wake_all`]).
    pub fn set_drain(&self, drain: Drain, now: Nanos) {
        self.drain.set(drain);
        if self.is_closing() {
            self.closing_since.set(self.closing_since.get().min(now));
        }
        self.end.set(match drain {
            Drain::Until(at) => at,
            Drain::No | Drain::LameDuck => NEVER,
        });
    }
}

impl<N: Net> Thread<N> {
    /// A thread with nothing to do yet.
    pub fn new(
        net: N,
        telemetry: ThreadTelemetry,
        guard: Arc<Guard>,
        identity: Option<Arc<MeshTls>>,
        seed: u64,
    ) -> Rc<Self> {
        let buffers = Buffers::new();
        Rc::new(Self {
            net,
            timers: Timers::new(),
            http2: Rc::new(mesh_http2::Pool::new(WriteBuffers(Rc::clone(&buffers)))),
            buffers,
            pipes: Rc::default(),
            rng: RefCell::new(Rng::from_seed(seed)),
            telemetry,
            guard,
            identity,
            rejected: Silence::default(),
            denied: Silence::default(),
            audited: Silence::default(),
            changed: Notify::new(),
            door: Door::default(),
            plan: RefCell::default(),
            clusters: RefCell::default(),
            listeners: RefCell::default(),
            former: RefCell::default(),
            request_heads: RefCell::default(),
            response_heads: RefCell::default(),
            places: AllPlaces::default(),
        })
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.net.now()
    }

    /// Random bits.
    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    /// Whether something may be said of what others cause as often as they like: once a second of each kind. Tells how
    /// many times it was not since the last time.
    #[cold]
    pub fn may_say(&self, of: Often) -> Option<u64> {
        const SILENCE: Nanos = 1_000_000_000;
        let silence = match of {
            Often::Rejected => &self.rejected,
            Often::Denied => &self.denied,
            Often::Audited => &self.audited,
        };
        let now = self.now();
        if now < silence.until.get() {
            silence.unsaid.set(silence.unsaid.get() + 1);
            return None;
        }
        silence.until.set(now + SILENCE);
        Some(silence.unsaid.take())
    }

    /// Says that a workload is not believed, if it may: see [`Thread::may_say`].
    #[cold]
    pub fn say_rejected(&self, what: &str, fields: &[(&str, &dyn std::fmt::Display)]) {
        if self.may_say(Often::Rejected).is_some() {
            self.guard.log.warn(what, fields);
        }
    }

    /// Takes a new plan: clusters and listeners that stay keep their connections. Where clients are let in by other rules
    /// than before ([`ListenerPlan::admits_as`], [`ListenerPlan::tightened`]), whoever came by those before is served by
    /// them and drained, as if the listener had been taken out. Gives the names of such listeners, whose sockets are their
    /// successors' from now on.
    pub fn update(&self, plan: Arc<Plan>) -> Vec<Arc<str>> {
        let mut clusters = self.clusters.borrow_mut();
        let stays = |name: &str, cluster: &Rc<Cluster<N::Stream>>| match plan.clusters.get(name) {
            Some(new) => {
                if !Arc::ptr_eq(new, &cluster.plan()) {
                    cluster.update(Arc::clone(new));
                }
                true
            }
            None => false,
        };
        match &plan.changed {
            Some(changed) => {
                for name in changed {
                    if clusters.get(name).is_some_and(|cluster| !stays(name, cluster)) {
                        clusters.remove(name);
                    }
                }
            }
            None => clusters.retain(|name, cluster| stays(name, cluster)),
        }
        drop(clusters);
        let (mut wakes, mut succeeded) = (false, Vec::new());
        let mut listeners = self.listeners.borrow_mut();
        for (name, listener) in &mut *listeners {
            let Some(new) = plan.listeners.get(name) else {
                continue;
            };
            if listener.is_admitted_by(new) {
                wakes |= listener.update(Arc::clone(new), Arc::clone(&plan.clusters));
                continue;
            }
            let successor = listener.successor(Arc::clone(new), Arc::clone(&plan.clusters));
            successor.drain.set(listener.drain());
            let before = std::mem::replace(listener, successor);
            let (now, span) = (self.now(), new.resource.timeouts.drain.enabled());
            before.set_drain(Drain::Until(after(now, span)), now);
            self.former.borrow_mut().push(Rc::downgrade(&before));
            succeeded.push(Arc::clone(name));
            wakes = true;
        }
        drop(listeners);
        for former in self.former() {
            if let Some(new) = plan.listeners.get(&former.plan.borrow().name) {
                wakes |= former.judge_by(Arc::clone(new));
            }
        }
        *self.plan.borrow_mut() = plan;
        self.changed.notify_waiters();
        if wakes {
            self.timers.wake_all();
        }
        succeeded
    }

    /// The listeners that are no more, where somebody is still there.
    fn former(&self) -> Vec<Rc<Listener>> {
        let mut former = self.former.borrow_mut();
        former.retain(|listener| listener.strong_count() > 0);
        former.iter().filter_map(Weak::upgrade).collect()
    }

    /// Hastens the end of those who came to former listeners, of this name or of any. The caller then wakes them
    /// ([`Timers::wake_all`]).
    pub fn hasten(&self, name: Option<&str>, until: Nanos) {
        for former in self.former() {
            if name.is_none_or(|name| *former.plan.borrow().name == *name) {
                former.set_drain(Drain::Until(until.min(former.drain_deadline())), self.now());
            }
        }
    }

    /// Has everybody judged again, since somebody was revoked: clients, and the servers of what is under way. Idle
    /// connections to servers that were revoked are closed.
    pub fn judge_again(&self) {
        let clusters: Vec<_> = self.clusters.borrow().values().cloned().collect();
        for cluster in clusters {
            cluster.leave(|server| self.has_revoked(server));
        }
        for listener in self.listeners.borrow().values() {
            listener.judge_again();
        }
        for former in self.former() {
            former.judge_again();
        }
        self.timers.wake_all();
    }

    /// Whether a workload is believed no more since its handshake.
    #[cold]
    pub fn has_revoked(&self, workload: &mesh_identity::Peer) -> bool {
        let identity = self.identity.as_ref();
        identity.is_some_and(|identity| identity.denied().denies(workload))
    }

    /// Whether a connection leads to a workload that is believed no more.
    #[cold]
    pub fn leads_to_revoked(&self, stream: &N::Stream) -> bool {
        let Some(identity) = &self.identity else {
            return false;
        };
        let denied = identity.denied();
        !denied.is_empty() && server(stream).is_some_and(|server| denied.denies(&server))
    }

    /// Whether an address leads back to this proxy, see [`crate::own::OwnAddresses::leads_here`].
    pub fn leads_here(&self, address: &Address, by: For) -> bool {
        self.plan.borrow().own.leads_here(address, by)
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<Rc<Cluster<N::Stream>>> {
        if let Some(cluster) = self.clusters.borrow().get(name) {
            return Some(Rc::clone(cluster));
        }
        let plan = self.plan.borrow();
        let (name, plan) = plan.clusters.get_key_value(name)?;
        let cluster = Cluster::new(Arc::clone(plan), Arc::clone(&self.door));
        self.clusters
            .borrow_mut()
            .insert(Arc::clone(name), Rc::clone(&cluster));
        Some(cluster)
    }

    /// A cluster that a listener's plan leads to. Should there be none of its name any more, it is the one that there was,
    /// made for this one use: what it keeps for later goes with it.
    #[inline]
    pub fn cluster_of(&self, listener: &Listener, name: &str) -> Option<Rc<Cluster<N::Stream>>> {
        self.cluster(name).or_else(|| self.former_cluster(listener, name))
    }

    #[cold]
    fn former_cluster(&self, listener: &Listener, name: &str) -> Option<Rc<Cluster<N::Stream>>> {
        let plan = Arc::clone(listener.clusters.borrow().get(name)?);
        Some(Cluster::new(plan, Arc::clone(&self.door)))
    }

    /// The listener of this name, made from the plan when it is new.
    pub fn listener(&self, name: &Arc<str>) -> Option<Rc<Listener>> {
        if let Some(listener) = self.listeners.borrow().get(name) {
            return Some(Rc::clone(listener));
        }
        let listener = {
            let plan = self.plan.borrow();
            Listener::new(Arc::clone(plan.listeners.get(name)?), Arc::clone(&plan.clusters))
        };
        self.listeners
            .borrow_mut()
            .insert(Arc::clone(name), Rc::clone(&listener));
        Some(listener)
    }

    /// Takes a listener out; its connections hold on to it. A new one may have the same name.
    pub fn remove_listener(&self, name: &str) -> Option<Rc<Listener>> {
        let removed = self.listeners.borrow_mut().remove(name);
        self.former.borrow_mut().extend(removed.iter().map(Rc::downgrade));
        removed
    }

    /// Takes all of them out.
    pub fn remove_listeners(&self) -> Vec<Rc<Listener>> {
        let removed: Vec<_> = self.listeners.borrow_mut().drain().map(|(_, it)| it).collect();
        self.former.borrow_mut().extend(removed.iter().map(Rc::downgrade));
        removed
    }

    /// All listeners.
    pub fn listeners(&self) -> Vec<Rc<Listener>> {
        self.listeners.borrow().values().cloned().collect()
    }

    /// What must happen when another thread knocked.
    pub fn give_up(&self) {
        let clusters: Vec<_> = self.clusters.borrow().values().cloned().collect();
        for cluster in clusters {
            cluster.give_up();
        }
    }

    /// What must happen about once a second.
    pub fn tick(&self) {
        let now = self.now();
        let clusters: Vec<_> = self.clusters.borrow().values().cloned().collect();
        for cluster in clusters {
            cluster.sweep(now);
        }
        self.former
            .borrow_mut()
            .retain(|listener| listener.strong_count() > 0);
        self.buffers.trim();
        self.http2.trim();
        self.pipes.trim();
        self.request_heads.borrow_mut().shrink_to(0);
        self.response_heads.borrow_mut().shrink_to(0);
    }

    /// A request head to parse into.
    pub fn request_head(&self) -> Box<RequestHead> {
        self.request_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a request head back.
    pub fn put_request_head(&self, head: Box<RequestHead>) {
        let mut heads = self.request_heads.borrow_mut();
        if heads.len() < KEPT_HEADS {
            heads.push(head);
        }
    }

    /// A response head to parse into.
    pub fn response_head(&self) -> Box<ResponseHead> {
        self.response_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a response head back.
    pub fn put_response_head(&self, head: Box<ResponseHead>) {
        let mut heads = self.response_heads.borrow_mut();
        if heads.len() < KEPT_HEADS {
            heads.push(head);
        }
    }
}
