//! How does a snapshot become a plan?
//!
//! What did not change is taken over from the plan before, so the cost follows the change. Runs on the control thread.

mod clusters;
mod written;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mesh_identity::MeshTls;
use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::policy::PolicySet;
use mesh_model::resources::{Action, Listener, Resources, RouteTable, WeightedCluster, WorkloadPorts};
use mesh_model::route::{CompiledRoute, RouteIndex};
use mesh_model::sni::SniIndex;
use mesh_model::spiffe::TrustDomain;
use mesh_store::{Snapshot, Store};

use crate::balance::EndpointRegistry;
use crate::clock::Nanos;
use crate::discovery::Discovered;
use crate::on_demand::{Names, OnDemand};
use crate::plan::{AccessPlan, ByName, Compiled, ListenerPlan, Plan, RouteLabels, Routes};
use crate::policy::Policy;
use crate::telemetry::access_log::{AccessLog, Sampler, Target};
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::tls::{ClientConfigs, ServerTls};
use crate::workload::{Inbound, Port};

pub use self::written::Written;

/// What plans are made of, beside the snapshot.
pub struct Compiler {
    /// The proxy's numbers.
    pub telemetry: Arc<Telemetry>,
    /// What is known of endpoints.
    pub registry: Arc<EndpointRegistry>,
    /// The TLS configurations of clusters.
    pub clients: ClientConfigs,
    /// Who this proxy is, where it is a workload of a mesh.
    pub identity: Option<Arc<MeshTls>>,
    /// Names that listeners ask for on demand.
    pub names: Arc<Names>,
    access_log: Arc<AccessLog>,
    /// Counts what is spoken to clusters: see [`ClusterPlan::epoch`](crate::upstream::cluster::ClusterPlan::epoch).
    epochs: AtomicU64,
    last: Last,
}

/// What the last plan was made of.
#[derive(Clone, Default)]
struct Last {
    snapshot: Arc<Snapshot>,
    routes: Arc<HashMap<Arc<str>, Arc<Routes>>>,
    policies: Arc<PolicySet>,
}

/// A plan that may still be dropped.
pub struct Draft {
    /// The plan.
    pub plan: Plan,
    last: Last,
}

impl Compiler {
    /// A compiler that has made nothing yet.
    pub fn new(
        telemetry: Arc<Telemetry>,
        access_log: Arc<AccessLog>,
        identity: Option<Arc<MeshTls>>,
    ) -> Self {
        Self {
            telemetry,
            identity,
            names: Arc::default(),
            registry: Arc::default(),
            access_log,
            clients: ClientConfigs::new(),
            epochs: AtomicU64::new(0),
            last: Last::default(),
        }
    }

    /// Makes a plan. Nothing is kept until [`Compiler::accept`]. `before` is the plan that was accepted last.
    ///
    /// # Errors
    /// Problems that only show when files are read: certificates, keys, roots.
    pub fn draft(
        &self,
        snapshot: &Arc<Snapshot>,
        discovered: &Discovered,
        before: &Plan,
        now: Nanos,
    ) -> Result<Draft, Vec<Issue>> {
        let mut issues = Vec::new();
        let routes = self.all_routes(snapshot, &mut issues);
        let (clusters, changed) = self.clusters(snapshot, discovered, before, now, &mut issues);
        let policies = self.policies(snapshot, &mut issues);
        let listeners = self.listeners(snapshot, &routes, &policies, before, &mut issues);
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Draft {
            plan: Plan {
                version: snapshot.version,
                listeners,
                clusters,
                changed: Some(changed),
                own: Arc::clone(&before.own),
            },
            last: Last {
                snapshot: Arc::clone(snapshot),
                routes,
                policies,
            },
        })
    }

    /// Takes a draft as what the next one is compared with.
    pub fn accept(&mut self, draft: Draft) -> Arc<Plan> {
        let Draft { plan, last } = draft;
        let before = std::mem::replace(&mut self.last, last);
        let (snapshot, routes) = (&self.last.snapshot, &self.last.routes);
        let clusters = plan.changed.as_ref().is_none_or(|changed| !changed.is_empty());
        let listeners = !Arc::ptr_eq(&before.snapshot.listeners, &snapshot.listeners);
        if clusters {
            self.telemetry
                .retain_clusters(|name| plan.clusters.contains_key(name));
        }
        if listeners {
            self.telemetry
                .retain_listeners(|name| plan.listeners.contains_key(name));
        }
        if clusters || listeners || !Arc::ptr_eq(&before.routes, routes) {
            self.retain_routes(&plan);
        }
        Arc::new(plan)
    }

    fn all_routes(
        &self,
        snapshot: &Snapshot,
        issues: &mut Vec<Issue>,
    ) -> Arc<HashMap<Arc<str>, Arc<Routes>>> {
        let last = &self.last;
        if Arc::ptr_eq(&last.snapshot.route_tables, &snapshot.route_tables) {
            return Arc::clone(&last.routes);
        }
        let mut routes = HashMap::with_capacity(snapshot.route_tables.len());
        for (name, table) in &*snapshot.route_tables {
            let unchanged = same(last.snapshot.route_tables.get(name), Some(table));
            let old = last.routes.get(name).filter(|_| unchanged);
            match old.cloned().map_or_else(|| self.routes(table), Ok) {
                Ok(compiled) => {
                    routes.insert(Arc::clone(name), compiled);
                }
                Err(found) => issues.extend(found),
            }
        }
        Arc::new(routes)
    }

    fn policies(&self, snapshot: &Snapshot, issues: &mut Vec<Issue>) -> Arc<PolicySet> {
        let last = &self.last;
        if Arc::ptr_eq(&last.snapshot.policies, &snapshot.policies) {
            return Arc::clone(&last.policies);
        }
        let policies: Vec<_> = snapshot
            .policies
            .values()
            .map(|policy| (**policy).clone())
            .collect();
        match PolicySet::compile(&policies) {
            Ok(compiled) => Arc::new(compiled),
            Err(found) => {
                issues.extend(found);
                Arc::default()
            }
        }
    }

    fn listeners(
        &self,
        snapshot: &Snapshot,
        routes: &Arc<HashMap<Arc<str>, Arc<Routes>>>,
        policies: &Arc<PolicySet>,
        before: &Plan,
        issues: &mut Vec<Issue>,
    ) -> Arc<ByName<ListenerPlan>> {
        let last = &self.last;
        if Arc::ptr_eq(&last.snapshot.listeners, &snapshot.listeners)
            && Arc::ptr_eq(&last.routes, routes)
            && Arc::ptr_eq(&last.policies, policies)
        {
            return Arc::clone(&before.listeners);
        }
        let mut listeners = ByName::default();
        for (at, (name, listener)) in snapshot.listeners.iter().enumerate() {
            let old = before.listeners.get(name);
            let table = listener
                .routes
                .as_ref()
                .and_then(|table| routes.get(table.as_str()));
            let policy = Policy::new(policies, listener);
            let unchanged = old.is_some_and(|old| {
                Arc::ptr_eq(&old.resource, listener)
                    && same(old.routes.as_ref(), table)
                    && old.policy == policy
                    && old
                        .on_demand
                        .as_ref()
                        .is_none_or(|named| Arc::ptr_eq(&named.tables, routes))
                    && old.workload.as_ref().is_none_or(|workload| {
                        let ports = listener.workload.iter().flat_map(|of| &of.ports);
                        let mut both = workload.ports.iter().zip(ports);
                        both.all(|(port, of)| {
                            let table = of.routes.as_ref().and_then(|table| routes.get(table.as_str()));
                            same(port.routes.as_ref(), table)
                        })
                    })
            });
            let compiled = match old {
                Some(old) if unchanged => Ok(Arc::clone(old)),
                _ => self.listener(at, listener, routes, policy, old),
            };
            match compiled {
                Ok(compiled) => {
                    listeners.insert(Arc::clone(name), compiled);
                }
                Err(found) => issues.extend(found),
            }
        }
        Arc::new(listeners)
    }

    /// Forgets the numbers of routes that are no more, and of those towards clusters that are no more.
    fn retain_routes(&self, plan: &Plan) {
        let none = self.telemetry.none().id();
        self.telemetry.retain_routes(|labels| {
            let Some(listener) = plan.listeners.get(labels.listener.as_str()) else {
                return false;
            };
            let (route, cluster) = (&labels.route, &labels.cluster);
            let mut routes = listener.all_routes();
            let has_route = route.id() == none || routes.any(|routes| routes.labels.has(route.id()));
            let mut ports = listener.workload.iter().flat_map(|workload| &workload.ports);
            let mut has = |port: &str| ports.any(|of| of.label.as_str() == port);
            let has_port = labels.port().is_none_or(&mut has);
            has_route && has_port && (cluster.id() == none || plan.clusters.contains_key(cluster.as_str()))
        });
    }

    fn routes(&self, table: &RouteTable) -> Result<Arc<Routes>, Vec<Issue>> {
        let index = RouteIndex::compile(table)?;
        let names = index.routes().map(CompiledRoute::name);
        let labels = RouteLabels::new(names.map(|name| self.telemetry.label(name)).collect());
        Ok(Arc::new(Routes {
            index,
            labels,
            tcp: streams(table),
        }))
    }

    fn listener(
        &self,
        at: usize,
        listener: &Arc<Listener>,
        tables: &Arc<HashMap<Arc<str>, Arc<Routes>>>,
        policy: Option<Policy>,
        old: Option<&Arc<ListenerPlan>>,
    ) -> Result<Arc<ListenerPlan>, Vec<Issue>> {
        let table = |name: &Option<String>| Some(Arc::clone(tables.get(name.as_ref()?.as_str())?));
        let sni = if listener.sni.is_empty() {
            None
        } else {
            Some(SniIndex::compile(&listener.sni)?)
        };
        let speaks_same = old.is_some_and(|old| old.resource.spoken_protocol() == listener.spoken_protocol());
        let tls = match (
            &listener.tls,
            old.and_then(|old| Some((old.resource.tls.as_ref()?, old.tls.as_ref()?))),
        ) {
            (Some(tls), Some((before, compiled))) if tls == before && speaks_same => {
                Some(Arc::clone(compiled))
            }
            (Some(tls), before) => {
                let path = tls_path("listeners", at);
                let compiled = ServerTls::load(tls, listener.spoken_protocol(), &path)?;
                if let Some((_, before)) = before {
                    compiled.follow(before);
                }
                Some(Arc::new(compiled))
            }
            (None, _) => None,
        };
        let workload = match &listener.workload {
            Some(workload) => Some(self.inbound(at, workload, table, old)?),
            None => None,
        };
        let access = self.access(at, listener)?;
        let shared = old.map_or_else(Arc::default, |old| Arc::clone(&old.shared));
        let label = self.telemetry.label(&listener.name);
        Ok(Arc::new(ListenerPlan::new(
            Arc::clone(listener),
            label,
            shared,
            Compiled {
                routes: table(&listener.routes),
                on_demand: listener.on_demand.then(|| OnDemand {
                    tables: Arc::clone(tables),
                    names: Arc::clone(&self.names),
                }),
                sni,
                tls,
                workload,
                policy,
                access,
            },
        )))
    }

    /// What a listener offers to workloads.
    fn inbound(
        &self,
        at: usize,
        workload: &WorkloadPorts,
        table: impl Fn(&Option<String>) -> Option<Arc<Routes>>,
        old: Option<&Arc<ListenerPlan>>,
    ) -> Result<Inbound, Vec<Issue>> {
        let ports = workload.ports.iter().map(|port| Port {
            port: port.port,
            label: self.telemetry.label(&port.port.to_string()),
            service: port.service.as_deref().map(Into::into),
            routes: table(&port.routes),
            tcp: port.tcp.clone(),
        });
        let ports = ports.collect();
        if let Some(before) = old.and_then(|old| old.workload.as_ref()) {
            return Ok(before.with_ports(ports));
        }
        let path = workload_path("listeners", at);
        let tls = self.identity.as_ref().ok_or_else(|| vec![no_identity(&path)])?;
        Inbound::new(tls, ports).map_err(|error| {
            vec![Issue {
                message: error.to_string(),
                ..no_identity(&path)
            }]
        })
    }

    /// The log of a listener. The same file is opened once, whoever logs to it.
    fn access(&self, at: usize, listener: &Listener) -> Result<Option<AccessPlan>, Vec<Issue>> {
        let Some(log) = &listener.access_log else {
            return Ok(None);
        };
        let target = log
            .path
            .as_ref()
            .map_or(Target::Stdout, |path| Target::File(path.into()));
        match self.access_log.output(&target) {
            Ok(output) => Ok(Some(AccessPlan {
                sampler: Sampler::new(log.sample),
                output,
            })),
            Err(error) => Err(vec![Issue {
                path: vec![
                    PathStep::Key("listeners".into()),
                    PathStep::Index(at),
                    PathStep::Key("accessLog".into()),
                    PathStep::Key("path".into()),
                ],
                code: IssueCode::BadValue,
                message: format!("{}: {error}", log.path.as_deref().unwrap_or("standard output")),
                expected: Some("a file that can be appended to".into()),
                position: None,
            }]),
        }
    }
}

/// Everything that is wrong with resources, the files they name included, without serving them.
///
/// # Errors
/// What is wrong.
pub fn check(mut resources: Resources) -> Result<(), Vec<Issue>> {
    // What it says is looked at, its file is not: to open one would be to make it.
    let issues = mesh_model::validate::validate(&resources);
    if !issues.is_empty() {
        return Err(issues);
    }
    for listener in &mut resources.listeners {
        listener.access_log = None;
    }
    let written = Written::of(&resources);
    let staged = Store::default().stage_all(resources)?;
    // Who serves it is not known here, and not looked at.
    let nobody = "nobody"
        .parse::<TrustDomain>()
        .ok()
        .map(MeshTls::new)
        .map(Arc::new);
    let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
    let access_log = Arc::new(AccessLog::new(Arc::clone(telemetry.log())));
    Compiler::new(telemetry, access_log, nobody)
        .draft(staged.snapshot(), &Discovered::new(), &Plan::default(), 0)
        .map(drop)
        .map_err(|issues| written.place(staged.snapshot(), issues))
}

/// `kind[at].workload`
fn workload_path(kind: &str, at: usize) -> [PathStep; 3] {
    [
        PathStep::Key(kind.into()),
        PathStep::Index(at),
        PathStep::Key("workload".into()),
    ]
}

/// That this proxy has nothing to prove itself with.
fn no_identity(path: &[PathStep]) -> Issue {
    Issue {
        path: path.to_vec(),
        code: IssueCode::Missing,
        message: "this proxy has no identity to prove to workloads".into(),
        expected: Some("a sidecar with a control plane that gives it one".into()),
        position: None,
    }
}

/// Where a table's first route leads that leads somewhere.
fn streams(table: &RouteTable) -> Vec<WeightedCluster> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let mut forwards = routes.filter_map(|route| match &route.action {
        Action::Forward { to } => Some(to.clone()),
        _ => None,
    });
    forwards.next().unwrap_or_default()
}

/// `kind[at].tls`
fn tls_path(kind: &str, at: usize) -> [PathStep; 3] {
    [
        PathStep::Key(kind.into()),
        PathStep::Index(at),
        PathStep::Key("tls".into()),
    ]
}

/// Whether two shared things are the same one.
fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
