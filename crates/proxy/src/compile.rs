//! How does a snapshot become a plan?
//!
//! What did not change is taken over from the plan before, so the cost follows the change. Runs on the control thread.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::resources::{
    Address, Cluster, Discovery, Endpoints, Health, Listener, Resources, RouteTable, UpstreamProtocol,
};
use mesh_model::route::RouteIndex;
use mesh_model::sni::SniIndex;
use mesh_store::{Snapshot, Store};

use crate::balance::{EndpointRegistry, Member, Picker};
use crate::clock::Nanos;
use crate::plan::{AccessPlan, ListenerPlan, Plan, Routes};
use crate::telemetry::access_log::{AccessLog, Sampler, Target};
use crate::telemetry::{Label, Telemetry, TelemetryOptions};
use crate::tls::{ClientConfigs, ServerTls, server_name};
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::target::TargetTls;

/// An endpoint that discovery found by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Where it answers.
    pub address: Address,
    /// Its share.
    pub weight: u32,
    /// Lower is preferred.
    pub priority: u32,
}

/// What discovery found, by cluster.
pub type Discovered = HashMap<Arc<str>, Arc<Vec<Resolved>>>;

/// What plans are made of, beside the snapshot.
pub struct Compiler {
    /// The proxy's numbers.
    pub telemetry: Arc<Telemetry>,
    /// What is known of endpoints.
    pub registry: Arc<EndpointRegistry>,
    access_log: Arc<AccessLog>,
    clients: ClientConfigs,
    last: Last,
}

/// What the last plan was made of.
#[derive(Default)]
struct Last {
    snapshot: Arc<Snapshot>,
    discovered: Discovered,
    routes: HashMap<Arc<str>, Arc<Routes>>,
}

/// A plan that may still be dropped.
pub struct Draft {
    /// The plan.
    pub plan: Plan,
    last: Last,
}

impl Compiler {
    /// A compiler that has made nothing yet.
    pub fn new(telemetry: Arc<Telemetry>, access_log: Arc<AccessLog>) -> Self {
        Self {
            telemetry,
            registry: Arc::default(),
            access_log,
            clients: ClientConfigs::new(),
            last: Last::default(),
        }
    }

    /// Makes a plan. Nothing is kept until [`Compiler::accept`].
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
        let mut plan = Plan {
            version: snapshot.version,
            ..Plan::default()
        };
        let mut routes = HashMap::new();
        for (name, table) in &*snapshot.route_tables {
            let old = self
                .last
                .routes
                .get(name)
                .filter(|_| same(self.last.snapshot.route_tables.get(name), Some(table)));
            match old.cloned().map_or_else(|| self.routes(table), Ok) {
                Ok(compiled) => {
                    routes.insert(Arc::clone(name), compiled);
                }
                Err(found) => issues.extend(found),
            }
        }
        for (at, (name, cluster)) in snapshot.clusters.iter().enumerate() {
            let endpoints = snapshot.endpoints.get(name);
            let found = discovered.get(name);
            let old = before.clusters.get(name);
            let unchanged = same(self.last.snapshot.clusters.get(name), Some(cluster))
                && same(self.last.snapshot.endpoints.get(name), endpoints)
                && same(self.last.discovered.get(name), found);
            let compiled = match old {
                Some(old) if unchanged => Ok(Arc::clone(old)),
                _ => self.cluster(at, cluster, endpoints, found, old, now),
            };
            match compiled {
                Ok(compiled) => {
                    plan.clusters.insert(Arc::clone(name), compiled);
                }
                Err(found) => issues.extend(found),
            }
        }
        for (at, (name, listener)) in snapshot.listeners.iter().enumerate() {
            let old = before.listeners.get(name);
            let table = listener
                .routes
                .as_ref()
                .and_then(|table| routes.get(table.as_str()));
            let unchanged = old
                .is_some_and(|old| Arc::ptr_eq(&old.resource, listener) && same(old.routes.as_ref(), table));
            let compiled = match old {
                Some(old) if unchanged => Ok(Arc::clone(old)),
                _ => self.listener(at, listener, table, old),
            };
            match compiled {
                Ok(compiled) => {
                    plan.listeners.insert(Arc::clone(name), compiled);
                }
                Err(found) => issues.extend(found),
            }
        }
        if !issues.is_empty() {
            return Err(issues);
        }
        let last = Last {
            snapshot: Arc::clone(snapshot),
            discovered: discovered.clone(),
            routes,
        };
        Ok(Draft { plan, last })
    }

    /// Takes a draft as what the next one is compared with.
    pub fn accept(&mut self, draft: Draft) -> Arc<Plan> {
        self.last = draft.last;
        let (plan, none) = (&draft.plan, self.telemetry.none().id());
        self.telemetry.retain_routes(|labels| {
            let Some(listener) = plan.listeners.get(labels.listener.as_str()) else {
                return false;
            };
            let (route, cluster) = (&labels.route, &labels.cluster);
            let routes = listener.routes.as_ref();
            let has_route =
                route.id() == none || routes.is_some_and(|routes| routes.label_ids.contains(&route.id()));
            has_route && (cluster.id() == none || plan.clusters.contains_key(cluster.as_str()))
        });
        self.telemetry
            .retain_listeners(|name| draft.plan.listeners.contains_key(name));
        self.telemetry
            .retain_clusters(|name| draft.plan.clusters.contains_key(name));
        self.registry.sweep();
        Arc::new(draft.plan)
    }

    fn routes(&self, table: &RouteTable) -> Result<Arc<Routes>, Vec<Issue>> {
        let index = RouteIndex::compile(table)?;
        let labels: Vec<_> = index
            .routes()
            .iter()
            .map(|route| self.telemetry.label(&route.name))
            .collect();
        Ok(Arc::new(Routes {
            index,
            label_ids: labels.iter().map(Label::id).collect(),
            labels,
        }))
    }

    fn listener(
        &self,
        at: usize,
        listener: &Arc<Listener>,
        routes: Option<&Arc<Routes>>,
        old: Option<&Arc<ListenerPlan>>,
    ) -> Result<Arc<ListenerPlan>, Vec<Issue>> {
        let sni = if listener.sni.is_empty() {
            None
        } else {
            Some(SniIndex::compile(&listener.sni)?)
        };
        let tls = match (
            &listener.tls,
            old.and_then(|old| Some((old.resource.tls.as_ref()?, old.tls.as_ref()?))),
        ) {
            (Some(tls), Some((before, compiled))) if tls == before => Some(Arc::clone(compiled)),
            (Some(tls), _) => Some(Arc::new(ServerTls::load(
                tls,
                listener.protocol,
                &tls_path("listeners", at),
            )?)),
            (None, _) => None,
        };
        let access = self.access(at, listener)?;
        let shared = old.map_or_else(Arc::default, |old| Arc::clone(&old.shared));
        let label = self.telemetry.label(&listener.name);
        Ok(Arc::new(ListenerPlan::new(
            Arc::clone(listener),
            label,
            routes.cloned(),
            sni,
            tls,
            access,
            shared,
        )))
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

    fn cluster(
        &self,
        at: usize,
        cluster: &Arc<Cluster>,
        endpoints: Option<&Arc<Endpoints>>,
        found: Option<&Arc<Vec<Resolved>>>,
        old: Option<&Arc<ClusterPlan>>,
        now: Nanos,
    ) -> Result<Arc<ClusterPlan>, Vec<Issue>> {
        let name = cluster.name.as_str();
        let member = |address: &Address, weight, priority, locality_weight, zone: &Arc<str>| Member {
            endpoint: self.registry.get_or_create(name, address, None, now),
            weight,
            priority,
            locality_weight,
            zone: Arc::clone(zone),
        };
        let mut members = Vec::new();
        if cluster.discovery == Discovery::Endpoints {
            for locality in endpoints.iter().flat_map(|endpoints| &endpoints.localities) {
                let zone: Arc<str> = locality.zone.as_str().into();
                for endpoint in locality.endpoints.iter().filter(|e| e.health == Health::Healthy) {
                    members.push(member(
                        &endpoint.address,
                        endpoint.weight,
                        locality.priority,
                        locality.weight,
                        &zone,
                    ));
                }
            }
        } else {
            let zone: Arc<str> = "".into();
            for resolved in found.iter().flat_map(|found| found.iter()) {
                members.push(member(
                    &resolved.address,
                    resolved.weight,
                    resolved.priority,
                    1,
                    &zone,
                ));
            }
        }
        let tls = match old {
            Some(old) if old.resource.tls == cluster.tls && old.resource.protocol == cluster.protocol => {
                old.tls.clone()
            }
            _ => self.target_tls(at, cluster)?,
        };
        Ok(Arc::new(ClusterPlan {
            label: self.telemetry.label(name),
            picker: Arc::new(Picker::new(&cluster.balancer, cluster.slow_start.0, members)),
            tls,
            shared: old.map_or_else(Arc::default, |old| Arc::clone(&old.shared)),
            resource: Arc::clone(cluster),
        }))
    }

    /// TLS towards a cluster's servers. A cluster that speaks either version leaves the choice to the server.
    fn target_tls(&self, at: usize, cluster: &Cluster) -> Result<Option<TargetTls>, Vec<Issue>> {
        let Some(tls) = &cluster.tls else { return Ok(None) };
        let alpn: &[&[u8]] = match cluster.protocol {
            UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
            UpstreamProtocol::Http1 => &[b"http/1.1"],
            UpstreamProtocol::Http2 => &[b"h2"],
        };
        let path = tls_path("clusters", at);
        let config = self.clients.config(tls, alpn, &path)?;
        let server_name = server_name(cluster.tls_name(), &path).map_err(|issue| vec![issue])?;
        Ok(Some(TargetTls::new(config, server_name)))
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
    let staged = Store::default().stage_all(resources)?;
    let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
    let access_log = Arc::new(AccessLog::new(Arc::clone(telemetry.log())));
    Compiler::new(telemetry, access_log)
        .draft(staged.snapshot(), &Discovered::new(), &Plan::default(), 0)
        .map(drop)
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
