//! A data thread with one listener over the made-up network.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mesh_model::errors::Reason;
use mesh_model::validate::parse;
use mesh_store::Store;
use serde_json::{Value, json};

use super::clock::{MS, SECOND, Sim};
use super::network::{SimNet, SimStream, Weather, pair};
use crate::balance::EndpointStats;
use crate::clock::{Clock, NEVER, Nanos};
use crate::compile::Compiler;
use crate::discovery::Discovered;
use crate::io::wire::Wire;
use crate::log::Log;
use crate::panics::Guard;
use crate::plan::Plan;
use crate::task::serve;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Protocol, Telemetry, TelemetryOptions, ThreadTelemetry};
use crate::thread::{Drain, Listener, Thread};
use crate::upstream::cluster::Cluster;
use crate::upstream::pool::{OpenConnection, Pooled};

/// The proxy under test.
pub(super) struct Proxy {
    sim: Sim,
    net: SimNet,
    thread: Rc<Thread<SimNet>>,
    listener: RefCell<Rc<Listener>>,
    compiler: RefCell<Compiler>,
    store: Store,
    plan: RefCell<Arc<Plan>>,
    telemetry: Arc<Telemetry>,
    weather: Weather,
    open: Rc<Cell<usize>>,
    drains_until: Rc<Cell<Nanos>>,
}

/// Ends a connection in the books also when its task is dropped.
struct Open(Rc<Cell<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Proxy {
    /// A proxy with these resources; its listener is called `web`.
    pub(super) fn new(sim: &Sim, weather: Weather, resources: &Value) -> Rc<Self> {
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let mut compiler = Compiler::new(
            Arc::clone(&telemetry),
            Arc::new(AccessLog::new(Arc::clone(telemetry.log()))),
            None,
        );
        let store = Store::default();
        let plan = compile(sim, &mut compiler, &store, &Plan::default(), resources);
        let net = SimNet::new(sim, weather);
        let thread = Thread::new(
            net.clone(),
            ThreadTelemetry::new(Arc::clone(&telemetry), 0),
            Arc::new(Guard::new(Arc::clone(&telemetry), Arc::new(Log::silent()))),
            None,
            sim.bits(),
        );
        thread.update(Arc::clone(&plan));
        let listener = thread.listener(&"web".into()).unwrap();
        sim.drive(Rc::clone(&thread.timers));
        let proxy = Rc::new(Self {
            sim: sim.clone(),
            net,
            thread: Rc::clone(&thread),
            listener: RefCell::new(listener),
            compiler: RefCell::new(compiler),
            store,
            plan: RefCell::new(plan),
            telemetry,
            weather,
            open: Rc::default(),
            drains_until: Rc::new(Cell::new(NEVER)),
        });
        tick(sim.clone(), thread);
        proxy
    }

    /// Puts other resources in force.
    pub(super) fn update(&self, resources: &Value) {
        let plan = {
            let (mut compiler, before) = (self.compiler.borrow_mut(), self.plan.borrow());
            compile(&self.sim, &mut compiler, &self.store, &before, resources)
        };
        self.thread.update(Arc::clone(&plan));
        *self.plan.borrow_mut() = plan;
        *self.listener.borrow_mut() = self.thread.listener(&"web".into()).unwrap();
    }

    fn listener(&self) -> Rc<Listener> {
        Rc::clone(&self.listener.borrow())
    }

    /// The network that it calls servers over.
    pub(super) fn net(&self) -> &SimNet {
        &self.net
    }

    /// A client's end of a new connection.
    pub(super) fn connect(&self) -> SimStream {
        let (client, server) = pair(&self.sim, self.weather);
        let plan = self.listener().plan();
        let permit = plan.shared.connection(1000).unwrap();
        let future = serve(
            Rc::clone(&self.thread),
            self.listener(),
            server,
            Some(([10, 0, 0, 1], 40_000).into()),
            permit,
        );
        self.open.set(self.open.get() + 1);
        let open = Open(Rc::clone(&self.open));
        self.sim.spawn("connection", async move {
            let _open = open;
            future.await;
        });
        client
    }

    /// Asks clients to leave.
    pub(super) fn lame_duck(&self) {
        self.listener().set_drain(Drain::LameDuck, self.sim.now());
        self.thread.timers.wake_all();
    }

    /// Ends everything within `span`.
    pub(super) fn drain(&self, span: Nanos) {
        let until = self.sim.now() + span;
        self.drains_until.set(until);
        self.listener().set_drain(Drain::Until(until), self.sim.now());
        self.thread.hasten(None, until);
        self.thread.timers.wake_all();
    }

    /// Whether a drain's time is over.
    pub(super) fn is_cut(&self) -> bool {
        self.sim.now() >= self.drains_until.get()
    }

    /// Whether idle connections are told to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.drains_until.get() != NEVER
    }

    /// Open connections of clients.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// What is known of an endpoint.
    pub(super) fn endpoint(&self, address: &str) -> EndpointStats {
        let mut endpoints = self.compiler.borrow().registry.endpoints().into_iter();
        let found = endpoints.find(|(_, endpoint)| endpoint.address.to_string() == address);
        found.unwrap().1.stats(self.sim.now())
    }

    /// Why connections of clients have ended, where there was a reason.
    pub(super) fn ends(&self) -> Vec<Reason> {
        let report = self.telemetry.look(Vec::new());
        let ends = report
            .listeners
            .iter()
            .flat_map(|(_, totals)| totals.closed_by.iter());
        ends.flat_map(|(reason, count)| vec![reason; count as usize])
            .collect()
    }

    /// The `grpc-status` of each gRPC call that ended, and how many count as failed.
    pub(super) fn calls(&self) -> (Vec<Option<u32>>, u64) {
        let report = self.telemetry.look(Vec::new());
        let calls = report
            .routes
            .iter()
            .filter(|(labels, _)| labels.protocol == Protocol::Grpc);
        let (mut statuses, mut failed) = (Vec::new(), 0);
        for (_, totals) in calls {
            let ended = totals.grpc_statuses();
            statuses.extend(ended.flat_map(|(status, count)| vec![status; count as usize]));
            failed += totals.failures;
        }
        (statuses, failed)
    }

    /// A cluster on its thread.
    pub(super) fn cluster(&self, name: &str) -> Rc<Cluster<SimStream>> {
        self.thread.cluster(name).unwrap()
    }

    /// A connection to one of a cluster's servers, as if it had served a request.
    pub(super) fn pooled(&self, cluster: &str) -> Pooled<SimStream> {
        let plan = self.cluster(cluster).plan();
        let stats = self.thread.telemetry.cluster(&plan.label);
        let (stream, _) = pair(&self.sim, self.weather);
        Pooled {
            wire: Wire::new(stream, Rc::clone(&self.thread.buffers)),
            opened: self.sim.now(),
            idle_since: self.sim.now(),
            exchanges: 1,
            epoch: plan.epoch,
            open: OpenConnection::new(plan.permit().unwrap(), stats, 0),
        }
    }

    /// Idle connections to a cluster's servers.
    pub(super) fn idle(&self, cluster: &str) -> usize {
        self.thread.cluster(cluster).unwrap().idle()
    }

    /// Whether no connection to a server is being opened.
    fn is_settled(&self) -> bool {
        let report = self.telemetry.look(Vec::new());
        report.clusters.iter().all(|(name, totals)| {
            let Some(cluster) = self.thread.cluster(name.as_str()) else {
                return totals.active() == 0;
            };
            cluster.plan().shared.open_connections() as usize == cluster.idle()
        })
    }

    /// Drains within `span`, sees that nothing is left, and lets go of everything.
    pub(super) fn finish(&self, span: Nanos) {
        self.end(span);
        self.sim.forget();
    }

    /// Drains within `span` and sees that nothing is left.
    pub(super) fn end(&self, span: Nanos) {
        if self.drains_until.get() == NEVER {
            self.drain(span);
        }
        let end = self.drains_until.get() + MS;
        let over = self.sim.run_until(end.max(self.sim.now() + MS), || {
            self.open.get() == 0 && self.is_settled()
        });
        assert!(over, "connections outlive the drain: {:?}", self.sim.running());
        assert_eq!(self.listener().plan().shared.open_connections(), 0, "permits");
        // Servers' connections that wait in the pool hold no buffer.
        assert_eq!(self.thread.buffers.in_use(), 0, "buffers are out");
        let report = self.telemetry.look(Vec::new());
        for (name, totals) in &report.listeners {
            assert_eq!(totals.active(), 0, "connections of {name:?}");
        }
        for (labels, totals) in &report.routes {
            assert_eq!(totals.active(), 0, "requests of {labels:?}");
        }
        for (_, endpoint) in self.compiler.borrow().registry.endpoints() {
            assert_eq!(endpoint.load(), 0, "in flight at {}", endpoint.address);
        }
        for (name, totals) in &report.clusters {
            // One that was taken out keeps no connections.
            let Some(cluster) = self.thread.cluster(name.as_str()) else {
                assert_eq!(totals.active(), 0, "connections to {name:?}");
                continue;
            };
            let idle = cluster.idle();
            assert_eq!(totals.active(), idle as u64, "connections to {name:?}");
            let shared = Arc::clone(&cluster.plan().shared);
            assert_eq!(shared.open_connections() as usize, idle, "permits of {name:?}");
            assert!(shared.request(1).is_some(), "requests of {name:?}");
        }
    }
}

/// A listener with these settings before a cluster with those, which has these servers.
pub(super) fn resources(listener: &Value, cluster: &Value, servers: &[&str]) -> Value {
    let endpoints: Vec<_> = servers.iter().map(|at| json!({ "address": at })).collect();
    let (mut listener, mut cluster) = (listener.clone(), cluster.clone());
    listener["name"] = "web".into();
    listener["address"] = "127.0.0.1:80".into();
    if !matches!(listener["protocol"].as_str(), Some("tcp" | "tlsPassthrough")) {
        listener["routes"] = "main".into();
    }
    cluster["name"] = "site".into();
    json!({
        "listeners": [listener],
        "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*", "a"], "routes": [
            { "name": "all", "action": { "kind": "forward", "to": [{ "cluster": "site" }] } } ] }] }],
        "clusters": [cluster],
        "endpoints": [{ "cluster": "site", "localities": [{ "endpoints": endpoints }] }],
    })
}

/// The plan of these resources.
fn compile(sim: &Sim, compiler: &mut Compiler, store: &Store, before: &Plan, resources: &Value) -> Arc<Plan> {
    let staged = store.stage_all(parse(&resources.to_string()).unwrap()).unwrap();
    let draft = compiler
        .draft(staged.snapshot(), &Discovered::new(), before, sim.now())
        .unwrap();
    store.commit(staged).unwrap();
    compiler.accept(draft)
}

/// What a data thread does once a second.
fn tick(sim: Sim, thread: Rc<Thread<SimNet>>) {
    let again = sim.clone();
    sim.at(sim.now() + SECOND, move || {
        thread.tick();
        tick(again, thread);
    });
}
