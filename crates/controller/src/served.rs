//! What of the mesh do sidecars get to see?
//!
//! A [`Batch`] is validated as the data plane will, encoded for the wire, and goes live whole; streams are told that
//! there is another catalogue. What a batch costs follows what it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_model::issue::{Issue, IssueCode};
use mesh_model::resources::{Address, Listener, Resources};
use mesh_model::validate::validate;
use mesh_store::{Batch as Change, Names, Store};
use mesh_xds::kind::Kind;
use mesh_xds::server::Catalogue;
use mesh_xds::translate::{Refusal, ServiceListener, Translate, TrustRoots, WorkloadListener};
use tokio::sync::watch;

use crate::batch::{Batch, Service, Workload, issue};

/// The secret with the roots that workloads are judged by.
pub(crate) const ROOTS: &str = "mesh/roots";
/// The listener that a workload's policies protect.
const INBOUND: &str = "inbound";

/// Everything that is served.
pub(crate) struct Served {
    store: Store,
    services: BTreeMap<String, Service>,
    catalogue: Catalogue,
    live: watch::Sender<Arc<Catalogue>>,
}

impl Served {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            store: Store::default(),
            services: BTreeMap::new(),
            catalogue: Catalogue::default(),
            live: watch::Sender::new(Arc::default()),
        }
    }

    /// Sees what is served.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Catalogue>> {
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
            self.live.send_replace(Arc::new(self.catalogue.clone()));
        }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// Everything that is wrong with it; then nothing has changed.
    pub(crate) fn apply(&mut self, batch: Batch) -> Result<(), Vec<Issue>> {
        let Batch { upsert, delete } = batch;
        let mut issues = Vec::new();
        let mut next = self.catalogue.clone();
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
        put(
            &mut next,
            "routeTables",
            &upsert.route_tables,
            |t| &t.name,
            &mut issues,
        );
        put(&mut next, "clusters", &upsert.clusters, |c| &c.name, &mut issues);
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
                route_tables: delete.route_tables,
                clusters: delete.clusters,
                endpoints: delete.endpoints,
                ..Names::default()
            },
        });
        let staged = staged.map_err(|found| issues.extend(found)).ok();
        let mut services = self.services.clone();
        for name in &delete.services {
            services.remove(name);
        }
        let places: BTreeMap<_, _> = upsert
            .services
            .iter()
            .enumerate()
            .map(|(at, service)| (service.name.clone(), at))
            .collect();
        for (at, service) in upsert.services.into_iter().enumerate() {
            if let Err(message) = check_name(&service.name) {
                issues.push(issue("services", at, "name", IssueCode::BadName, message));
            }
            let listener = ServiceListener {
                name: service.name.clone(),
                route_table: service.route_table.clone(),
            };
            keep(next.put(&service.name, &listener), "services", at, &mut issues);
            services.insert(service.name.clone(), service);
        }
        if let Some(staged) = &staged {
            let tables = &staged.snapshot().route_tables;
            let lost = services
                .values()
                .filter(|service| !tables.contains_key(service.route_table.as_str()));
            for service in lost {
                // One that was there before loses its table by what is deleted.
                let at = places.get(&service.name).copied().unwrap_or_default();
                let message = format!("`{}` has no route table `{}`", service.name, service.route_table);
                issues.push(issue(
                    "services",
                    at,
                    "routeTable",
                    IssueCode::UnknownReference,
                    message,
                ));
            }
        }
        for (at, workload) in upsert.workloads.into_iter().enumerate() {
            issues.extend(check_policies(at, &workload));
            let listener = WorkloadListener {
                name: workload.name.clone(),
                default_policy: workload.default_policy,
                policies: workload.policies,
            };
            keep(next.put(&workload.name, &listener), "workloads", at, &mut issues);
        }
        match staged {
            Some(staged) if issues.is_empty() => {
                self.store.commit(staged);
                self.services = services;
                self.catalogue = next;
                self.live.send_replace(Arc::new(self.catalogue.clone()));
                Ok(())
            }
            _ => Err(issues),
        }
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

/// Names are called as `host:port`.
fn check_name(name: &str) -> Result<(), String> {
    let is_good = name.rsplit_once(':').is_some_and(|(host, port)| {
        let lower = !host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase());
        lower && port.parse::<u16>().is_ok_and(|port| port > 0)
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
        matches!(first, Some(mesh_model::issue::PathStep::Key(key)) if key == "policies")
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
