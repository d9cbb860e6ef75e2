//! Which clusters have changed, and what do they become?
//!
//! A cluster's plan is made of its resource, its endpoints, listed or found, and its TLS configuration. Each of the three
//! may change alone; the other parts are then taken over.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mesh_model::errors::Reason;
use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::{Address, Cluster, Discovery, Endpoints, Health, UpstreamProtocol};
use mesh_model::spiffe::SpiffeId;
use mesh_store::{ByName as Resources, Snapshot};

use super::{Compiler, no_identity, tls_path, workload_path};
use crate::balance::{Member, Picker};
use crate::clock::Nanos;
use crate::discovery::{Discovered, Found, Known};
use crate::plan::{ByName, Plan};
use crate::tls::{Replaced, server_name};
use crate::upstream::cluster::ClusterPlan;
use crate::upstream::target::TargetTls;
use crate::workload::Outbound;

impl Compiler {
    /// Makes the plan again for these clusters, after something else was found for their names.
    pub fn rediscover<'a>(
        &self,
        plan: &Plan,
        names: impl Iterator<Item = &'a Arc<str>>,
        discovered: &Discovered,
        now: Nanos,
    ) -> Plan {
        let remade = names.filter_map(|name| {
            let old = plan.clusters.get(name)?;
            let known = discovered.get(&old.resource.discovery);
            let same = Protection {
                tls: old.tls.clone(),
                workload: old.workload.clone(),
            };
            let new = self.cluster_plan(&old.resource, old.endpoints.as_ref(), known, same, Some(old), now);
            Some((Arc::clone(name), Arc::new(new)))
        });
        with_clusters(plan, remade.collect())
    }

    /// Makes the plan again for the clusters whose TLS configurations were replaced.
    pub fn retrust(&self, plan: &Plan, replaced: &Replaced) -> Plan {
        let remade = plan.clusters.iter().filter_map(|(name, old)| {
            let tls = old.tls.as_ref()?;
            let config = replaced.get(&tls.config)?;
            let new = ClusterPlan {
                tls: Some(TargetTls::new(Arc::clone(config), tls.server_name.clone())),
                epoch: self.next_epoch(),
                ..ClusterPlan::clone(old)
            };
            Some((Arc::clone(name), Arc::new(new)))
        });
        with_clusters(plan, remade.collect())
    }

    /// All clusters, and the names of those that are new, other or gone.
    pub(super) fn clusters(
        &self,
        snapshot: &Snapshot,
        discovered: &Discovered,
        before: &Plan,
        now: Nanos,
        issues: &mut Vec<Issue>,
    ) -> (Arc<ByName<ClusterPlan>>, Vec<Arc<str>>) {
        let last = &self.last.snapshot;
        let touched = touched(&last.clusters, &snapshot.clusters)
            .chain(touched(&last.endpoints, &snapshot.endpoints))
            .collect::<BTreeMap<_, _>>();
        if touched.is_empty() {
            return (Arc::clone(&before.clusters), Vec::new());
        }
        let mut clusters = ByName::clone(&before.clusters);
        let mut changed = Vec::with_capacity(touched.len());
        for name in touched.into_values() {
            changed.push(Arc::clone(name));
            let Some(cluster) = snapshot.clusters.get(name) else {
                clusters.remove(name);
                continue;
            };
            let endpoints = snapshot.endpoints.get(name);
            let old = before.clusters.get(name);
            match self.cluster(cluster, endpoints, discovered, old, now) {
                Ok(compiled) => {
                    clusters.insert(Arc::clone(name), compiled);
                }
                Err(found) => {
                    let at = snapshot
                        .clusters
                        .keys()
                        .take_while(|other| *other != name)
                        .count();
                    issues.extend(found.into_iter().map(|issue| issue_at(at, issue)));
                }
            }
        }
        (Arc::new(clusters), changed)
    }

    fn cluster(
        &self,
        cluster: &Arc<Cluster>,
        endpoints: Option<&Arc<Endpoints>>,
        discovered: &Discovered,
        old: Option<&Arc<ClusterPlan>>,
        now: Nanos,
    ) -> Result<Arc<ClusterPlan>, Vec<Issue>> {
        let tls = match old {
            Some(old) if old.resource.tls == cluster.tls && old.resource.protocol == cluster.protocol => {
                old.tls.clone()
            }
            _ => self.target_tls(cluster)?,
        };
        let known = discovered.get(&cluster.discovery);
        let workload = self.outbound(cluster, endpoints, old.and_then(|old| old.workload.as_ref()))?;
        let protection = Protection { tls, workload };
        let plan = self.cluster_plan(cluster, endpoints, known, protection, old.map(|old| &**old), now);
        Ok(Arc::new(plan))
    }

    fn cluster_plan(
        &self,
        cluster: &Arc<Cluster>,
        endpoints: Option<&Arc<Endpoints>>,
        known: Option<&Known>,
        protection: Protection,
        old: Option<&ClusterPlan>,
        now: Nanos,
    ) -> ClusterPlan {
        let Protection { tls, workload } = protection;
        let name = cluster.name.as_str();
        let member =
            |address: &Address, identity, weight, priority, locality_weight, zone: &Arc<str>| Member {
                endpoint: self.registry.get_or_create(name, address, identity, now),
                weight,
                priority,
                locality_weight,
                zone: Arc::clone(zone),
            };
        let mut members = Vec::new();
        let mut nobody = Reason::NoEndpoints;
        if cluster.discovery == Discovery::Endpoints {
            for locality in endpoints.iter().flat_map(|endpoints| &endpoints.localities) {
                let zone: Arc<str> = locality.zone.as_str().into();
                for endpoint in locality.endpoints.iter().filter(|e| e.health == Health::Healthy) {
                    members.push(member(
                        &endpoint.address,
                        workload
                            .as_ref()
                            .and(endpoint.identity.as_ref())
                            .map(SpiffeId::as_str),
                        endpoint.weight,
                        locality.priority,
                        locality.weight,
                        &zone,
                    ));
                }
            }
        }
        match known.and_then(|known| known.found.as_deref()) {
            Some(Found::Endpoints(found)) => {
                let zone: Arc<str> = "".into();
                members.extend(found.iter().map(|resolved| {
                    member(
                        &resolved.address,
                        None,
                        resolved.weight,
                        resolved.priority,
                        1,
                        &zone,
                    )
                }));
            }
            Some(Found::Nothing) => nobody = Reason::DnsFailed,
            None => {}
        }
        let epoch = match old {
            Some(old)
                if old.resource.protocol == cluster.protocol
                    && same_tls(&old.tls, &tls)
                    && same_workload(&old.workload, &workload) =>
            {
                old.epoch
            }
            _ => self.next_epoch(),
        };
        ClusterPlan {
            label: self.telemetry.label(name),
            epoch,
            picker: Arc::new(Picker::new(&cluster.balancer, cluster.slow_start.0, members)),
            tls,
            workload,
            shared: old.map_or_else(Arc::default, |old| Arc::clone(&old.shared)),
            resource: Arc::clone(cluster),
            endpoints: endpoints.cloned(),
            call: known.map(|known| Arc::clone(&known.call)),
            nobody,
        }
    }

    /// How the workloads of a cluster are called.
    fn outbound(
        &self,
        cluster: &Cluster,
        endpoints: Option<&Arc<Endpoints>>,
        before: Option<&Outbound>,
    ) -> Result<Option<Outbound>, Vec<Issue>> {
        let Some(workload) = &cluster.workload else {
            return Ok(None);
        };
        // Where the cluster stands is only counted when something is wrong, see `issue_at`.
        let path = workload_path("clusters", 0);
        let tls = self.identity.as_ref().ok_or_else(|| vec![no_identity(&path)])?;
        let localities = endpoints.iter().flat_map(|endpoints| &endpoints.localities);
        let identities = localities
            .flat_map(|locality| &locality.endpoints)
            .filter_map(|endpoint| endpoint.identity.as_ref());
        let outbound = Outbound::new(tls, &workload.server_name, identities, before);
        outbound.map(Some).map_err(|message| {
            vec![Issue {
                message,
                ..no_identity(&path)
            }]
        })
    }

    fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Relaxed)
    }

    /// TLS towards a cluster's servers. A cluster that speaks either version leaves the choice to the server.
    fn target_tls(&self, cluster: &Cluster) -> Result<Option<TargetTls>, Vec<Issue>> {
        let Some(tls) = &cluster.tls else { return Ok(None) };
        let alpn: &[&[u8]] = match cluster.protocol {
            UpstreamProtocol::Auto | UpstreamProtocol::Tcp => &[b"h2", b"http/1.1"],
            UpstreamProtocol::Http1 => &[b"http/1.1"],
            UpstreamProtocol::Http2 => &[b"h2"],
        };
        // Where the cluster stands is only counted when something is wrong, see `issue_at`.
        let path = tls_path("clusters", 0);
        let config = self.clients.config(tls, alpn, &path)?;
        let server_name = server_name(cluster.tls_name(), &path).map_err(|issue| vec![issue])?;
        Ok(Some(TargetTls::new(config, server_name)))
    }
}

/// How the bytes to a cluster are protected.
struct Protection {
    tls: Option<TargetTls>,
    workload: Option<Outbound>,
}

fn same_workload(old: &Option<Outbound>, new: &Option<Outbound>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => old.means_the_same(new),
        _ => false,
    }
}

fn same_tls(old: &Option<TargetTls>, new: &Option<TargetTls>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(&old.config, &new.config) && old.server_name == new.server_name,
        _ => false,
    }
}

/// An issue of the cluster at this place.
fn issue_at(at: usize, mut issue: Issue) -> Issue {
    if let Some(PathStep::Index(index)) = issue.path.get_mut(1) {
        *index = at;
    }
    issue
}

/// A plan with some clusters made anew.
fn with_clusters(plan: &Plan, remade: Vec<(Arc<str>, Arc<ClusterPlan>)>) -> Plan {
    let changed = remade.iter().map(|(name, _)| Arc::clone(name)).collect();
    let mut clusters = ByName::clone(&plan.clusters);
    clusters.extend(remade);
    Plan {
        version: plan.version,
        listeners: Arc::clone(&plan.listeners),
        own: Arc::clone(&plan.own),
        clusters: Arc::new(clusters),
        changed: Some(changed),
    }
}

/// The names under which two maps differ, each with itself as a key. What is shared is told by its pointer, so that this
/// costs a walk and no more.
fn touched<'a, T>(
    old: &'a Arc<Resources<T>>,
    new: &'a Arc<Resources<T>>,
) -> impl Iterator<Item = (&'a str, &'a Arc<str>)> {
    let same = Arc::ptr_eq(old, new);
    let mut old = old.iter().peekable();
    let mut new = new.iter().peekable();
    std::iter::from_fn(move || {
        if same {
            return None;
        }
        next_touched(&mut old, &mut new).map(|name| (&**name, name))
    })
}

type Sorted<'a, T> = Peekable<std::collections::btree_map::Iter<'a, Arc<str>, Arc<T>>>;

fn next_touched<'a, T>(old: &mut Sorted<'a, T>, new: &mut Sorted<'a, T>) -> Option<&'a Arc<str>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some((a, _)), Some((b, _))) if Arc::ptr_eq(a, b) => Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (None, None) => return None,
        };
        match order {
            Less => return old.next().map(|(name, _)| name),
            Greater => return new.next().map(|(name, _)| name),
            Equal => {
                let (before, after) = (old.next()?, new.next()?);
                if !Arc::ptr_eq(before.1, after.1) {
                    return Some(after.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_differ_where_values_are_not_shared() {
        let map = |entries: &[(&str, &Arc<u8>)]| -> Arc<Resources<u8>> {
            let entries = entries.iter();
            Arc::new(
                entries
                    .map(|(name, value)| ((*name).into(), Arc::clone(value)))
                    .collect(),
            )
        };
        let (one, two) = (Arc::new(1), Arc::new(1));
        let old = map(&[("a", &one), ("b", &one), ("d", &one), ("e", &one)]);
        let new = map(&[("a", &one), ("b", &two), ("c", &one), ("e", &one), ("f", &one)]);
        let names = |old, new| touched(old, new).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&old, &new), ["b", "c", "d", "f"]);
        assert_eq!(names(&old, &old), [""; 0]);
        let none = map(&[]);
        assert_eq!(names(&old, &none), ["a", "b", "d", "e"]);
        assert_eq!(names(&none, &old), ["a", "b", "d", "e"]);
    }
}
