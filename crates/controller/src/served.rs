//! What of the mesh do sidecars get to see?
//!
//! A [`Batch`] is validated as the data plane will, encoded for the wire, and goes live whole; streams are told that
//! there is another catalogue. What a batch costs follows what it changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::resources::{Address, Cluster, Listener, Resources};
use mesh_model::validate::validate;
use mesh_proxy::tls::check_roots;
use mesh_store::{Batch as Change, Names, Snapshot, Store};
use mesh_xds::kind::Kind;
use mesh_xds::server::Catalogue;
use mesh_xds::translate::{Refusal, ServiceListener, Translate, TrustRoots, WorkloadListener};
use tokio::sync::watch;

use crate::batch::{ALL_OTHERS, Batch, Service, Workload, issue};

/// The secret with the roots that workloads are judged by.
pub(crate) const ROOTS: &str = "mesh/roots";
/// The listener that a workload's policies protect.
const INBOUND: &str = "inbound";

/// Everything that is served.
pub(crate) struct Served {
    store: Store,
    /// The route table of each.
    services: BTreeMap<String, String>,
    catalogue: Catalogue,
    /// What is said of workloads that nothing is said of by name.
    general: Option<Workload>,
    live: watch::Sender<Arc<Live>>,
}

/// What is served now.
#[derive(Debug, Default)]
pub(crate) struct Live {
    catalogue: Catalogue,
    general: Option<Workload>,
}

impl Live {
    /// What this workload gets to see.
    pub(crate) fn seen_by(&self, identity: &str) -> Catalogue {
        let general = self.general.as_ref();
        let is_unnamed = |_: &&Workload| !self.catalogue.has(Kind::Listener, identity);
        let seen = general.filter(is_unnamed).and_then(|general| {
            let listener = listener(general, identity);
            // What has no words was refused when it was to be put in place.
            self.catalogue.with(identity, &listener).ok()
        });
        seen.unwrap_or_else(|| self.catalogue.clone())
    }
}

impl Served {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            store: Store::default(),
            services: BTreeMap::new(),
            catalogue: Catalogue::default(),
            general: None,
            live: watch::Sender::new(Arc::default()),
        }
    }

    /// Sees what is served.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// Serves other roots.
    pub(crate) fn roots(&mut self, pem: String) {
        let roots = TrustRoots {
            name: ROOTS.to_owned(),
            pem,
        };
        // Roots have words in every case.
        if self.catalogue.put(ROOTS, &roots).is_ok() {
            self.publish();
        }
    }

    fn publish(&self) {
        self.live.send_replace(Arc::new(Live {
            catalogue: self.catalogue.clone(),
            general: self.general.clone(),
        }));
    }

    /// Makes a change.
    ///
    /// # Errors
    /// Everything that is wrong with it; then nothing has changed.
    pub(crate) fn apply(&mut self, batch: Batch) -> Result<(), Vec<Issue>> {
        let Batch { upsert, delete } = batch;
        let mut issues = Vec::new();
        let mut next = self.catalogue.clone();
        let mut general = self.general.clone();
        for name in &delete.route_tables {
            next.remove(Kind::RouteTable, name);
        }
        for name in &delete.clusters {
            next.remove(Kind::Cluster, name);
        }
        for name in &delete.endpoints {
            next.remove(Kind::Endpoints, name);
        }
        for name in delete.services.iter().chain(&delete.workloads) {
            next.remove(Kind::Listener, name);
        }
        general.take_if(|general| delete.workloads.contains(&general.name));
        put(
            &mut next,
            "routeTables",
            &upsert.route_tables,
            |t| &t.name,
            &mut issues,
        );
        put(&mut next, "clusters", &upsert.clusters, |c| &c.name, &mut issues);
        issues.extend(check_roots_of(&upsert.clusters));
        put(
            &mut next,
            "endpoints",
            &upsert.endpoints,
            |e| &e.cluster,
            &mut issues,
        );
        let staged = self.store.stage(Change {
            upsert: Resources {
                route_tables: upsert.route_tables,
                clusters: upsert.clusters,
                endpoints: upsert.endpoints,
                ..Resources::default()
            },
            delete: Names {
                route_tables: delete.route_tables.clone(),
                clusters: delete.clusters,
                endpoints: delete.endpoints,
                ..Names::default()
            },
        });
        let staged = staged.map_err(|found| issues.extend(found)).ok();
        for (at, service) in upsert.services.iter().enumerate() {
            if let Err(message) = check_name(&service.name) {
                issues.push(issue("services", at, "name", IssueCode::BadName, message));
            }
            let listener = ServiceListener {
                name: service.name.clone(),
                route_table: service.route_table.clone(),
            };
            keep(next.put(&service.name, &listener), "services", at, &mut issues);
        }
        if let Some(staged) = &staged {
            let gone = (&*delete.services, &*delete.route_tables);
            issues.extend(self.without_table(staged.snapshot(), &upsert.services, gone));
        }
        for (at, workload) in upsert.workloads.into_iter().enumerate() {
            issues.extend(check_policies(at, &workload));
            let listener = listener(&workload, &workload.name);
            if listener.general {
                keep(listener.to_any().map(drop), "workloads", at, &mut issues);
                general = Some(workload);
            } else {
                keep(next.put(&workload.name, &listener), "workloads", at, &mut issues);
            }
        }
        match staged {
            Some(staged) if issues.is_empty() => {
                self.store.commit(staged);
                for name in &delete.services {
                    self.services.remove(name);
                }
                let named = upsert.services.into_iter();
                self.services
                    .extend(named.map(|service| (service.name, service.route_table)));
                self.catalogue = next;
                self.general = general;
                self.publish();
                Ok(())
            }
            _ => Err(issues),
        }
    }

    /// Services that have no route table: of the new ones, and where tables go, of those that stay.
    fn without_table(
        &self,
        next: &Snapshot,
        upserted: &[Service],
        (services, tables): (&[String], &[String]),
    ) -> Vec<Issue> {
        let lost = |at: usize, name: &str, table: &str| {
            let message = format!("`{name}` has no route table `{table}`");
            issue("services", at, "routeTable", IssueCode::UnknownReference, message)
        };
        let has = |table: &str| next.route_tables.contains_key(table);
        let of_new = upserted
            .iter()
            .enumerate()
            .filter(|(_, service)| !has(&service.route_table))
            .map(|(at, service)| lost(at, &service.name, &service.route_table));
        let gone: HashSet<&String> = tables.iter().filter(|table| !has(table)).collect();
        if gone.is_empty() {
            return of_new.collect();
        }
        let others: HashSet<&String> = upserted
            .iter()
            .map(|service| &service.name)
            .chain(services)
            .collect();
        let of_old = self
            .services
            .iter()
            .filter(|(name, table)| gone.contains(table) && !others.contains(name))
            .map(|(name, table)| lost(0, name, table));
        of_new.chain(of_old).collect()
    }
}

/// What a workload is told of who may call it.
fn listener(workload: &Workload, identity: &str) -> WorkloadListener {
    WorkloadListener {
        name: identity.to_owned(),
        general: workload.name == ALL_OTHERS,
        default_policy: workload.default_policy,
        policies: workload.policies.clone(),
        ports: workload.ports.clone(),
    }
}

fn put<T: Translate>(
    catalogue: &mut Catalogue,
    kind: &str,
    resources: &[T],
    name: impl Fn(&T) -> &String,
    issues: &mut Vec<Issue>,
) {
    for (at, resource) in resources.iter().enumerate() {
        keep(catalogue.put(name(resource), resource), kind, at, issues);
    }
}

fn keep(put: Result<(), Refusal>, kind: &str, at: usize, issues: &mut Vec<Issue>) {
    if let Err(refusal) = put {
        let Refusal { field, reason } = refusal;
        issues.push(issue(kind, at, &field, IssueCode::BadValue, reason));
    }
}

/// Roots that no sidecar could trust. Whether theirs has any of its system is not known here.
fn check_roots_of(clusters: &[Cluster]) -> impl Iterator<Item = Issue> {
    clusters.iter().enumerate().filter_map(|(at, cluster)| {
        let roots = cluster.tls.as_ref()?.roots.as_ref();
        // What is no text was refused: it is not carried.
        let roots = roots.filter(|roots| roots.path().is_none())?;
        let path = [
            PathStep::Key("clusters".into()),
            PathStep::Index(at),
            PathStep::Key("tls".into()),
        ];
        check_roots(Some(roots), &path).err()
    })
}

/// Names are called as `host:port`.
fn check_name(name: &str) -> Result<(), String> {
    let is_good = name.rsplit_once(':').is_some_and(|(host, port)| {
        let lower = !host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase());
        // Of a host, `*`: that it is of the mesh, so that no other port of it is called around the mesh.
        lower && (port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0))
    });
    match is_good && name.len() <= mesh_protocol::MAX_NAME {
        true => Ok(()),
        false => Err(format!(
            "`{}` can't be called: names are host:port",
            name.escape_debug()
        )),
    }
}

/// What is wrong with a workload's policies, as its own proxy would see them.
fn check_policies(at: usize, workload: &Workload) -> Vec<Issue> {
    let mut listener = Listener::new(INBOUND, Address::Unix("unused".into()));
    listener.routes = Some(INBOUND.into());
    let found = validate(&Resources {
        listeners: vec![listener],
        policies: workload.policies.clone(),
        ..Resources::default()
    });
    let of_policies = found.into_iter().filter(|issue| {
        let first = issue.path.first();
        matches!(first, Some(PathStep::Key(key)) if key == "policies")
    });
    of_policies
        .map(|found| {
            let mut placed = issue("workloads", at, "", found.code, found.message);
            placed.path.extend(found.path);
            placed.expected = found.expected;
            placed
        })
        .collect()
}
