//! What is configured now, and how does it change without ever being half of one thing and half of another?
//!
//! A [`Snapshot`] is immutable; snapshots share what did not change. Writers stage a [`Batch`]: the next snapshot is
//! built and validated as a whole, and refused as a whole, with every error listed. What was staged goes live with
//! [`Store::commit`]; until then, and after a refusal, the last good snapshot serves.
//!
//! There is one writer at a time: a batch staged on a snapshot that is no longer the current one is not committed.
//!
//! What a batch costs follows what it changes: resources are shared, and only what is new, or refers to what is gone, is
//! looked at. What remains for all is a copy of the maps that change.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod part;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_model::issue::Issue;
use mesh_model::policy::AuthorizationPolicy;
use mesh_model::resources::{Cluster, Endpoints, Listener, Resources, RouteTable};
use mesh_model::validate::validate;
use part::Part;
use tokio::sync::watch;

/// Resources of one kind by name. Values are shared between snapshots: a pointer that stayed the same is a resource
/// that did not change.
pub type ByName<T> = BTreeMap<Arc<str>, Arc<T>>;

/// All resources at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts snapshots, from 1; 0 is the empty one before any.
    pub version: u64,
    /// Listeners.
    pub listeners: Arc<ByName<Listener>>,
    /// Route tables.
    pub route_tables: Arc<ByName<RouteTable>>,
    /// Clusters.
    pub clusters: Arc<ByName<Cluster>>,
    /// Endpoints, by their cluster.
    pub endpoints: Arc<ByName<Endpoints>>,
    /// Policies.
    pub policies: Arc<ByName<AuthorizationPolicy>>,
}

/// Names of resources, by kind.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Listeners.
    pub listeners: Vec<String>,
    /// Route tables.
    pub route_tables: Vec<String>,
    /// Clusters.
    pub clusters: Vec<String>,
    /// Clusters whose endpoints are meant.
    pub endpoints: Vec<String>,
    /// Policies.
    pub policies: Vec<String>,
}

/// A change: what is deleted, then what is put in place.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Resources to put in place of those with the same names.
    pub upsert: Resources,
    /// Names to delete. Names that are not there are ignored.
    pub delete: Names,
}

/// A snapshot that was validated and is not yet live.
#[derive(Clone, Debug)]
pub struct Staged {
    snapshot: Arc<Snapshot>,
    base: u64,
}

impl Staged {
    /// The snapshot to be.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

/// The current snapshot and those who wait for the next.
pub struct Store {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Store {
    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Sees the version change. Several changes in a row may be seen as one.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Builds and validates the snapshot that a batch leads to.
    ///
    /// # Errors
    /// Every problem of the whole configuration as it would be.
    pub fn stage(&self, batch: Batch) -> Result<Staged, Vec<Issue>> {
        let base = self.snapshot();
        let part = Part::new(&base, batch);
        let issues = part.validate(&base);
        let (snapshot, issues) = part.put(&base, issues);
        stage(issues, snapshot, &base)
    }

    /// Builds and validates a snapshot that holds these resources and no others.
    ///
    /// # Errors
    /// Every problem of the resources, with paths into them.
    pub fn stage_all(&self, resources: Resources) -> Result<Staged, Vec<Issue>> {
        let base = self.snapshot();
        // Before the maps are made: they would hide duplicates.
        let issues = validate(&resources);
        let snapshot = Snapshot {
            version: base.version + 1,
            listeners: replace(&base.listeners, resources.listeners, |l| &l.name),
            route_tables: replace(&base.route_tables, resources.route_tables, |t| &t.name),
            clusters: replace(&base.clusters, resources.clusters, |c| &c.name),
            endpoints: replace(&base.endpoints, resources.endpoints, |e| &e.cluster),
            policies: replace(&base.policies, resources.policies, |p| &p.name),
        };
        stage(issues, snapshot, &base)
    }

    /// Makes a staged snapshot the current one. `None` when another was committed since it was staged.
    pub fn commit(&self, staged: Staged) -> Option<Arc<Snapshot>> {
        let current = self.current.load();
        if current.version != staged.base {
            return None;
        }
        let previous = self
            .current
            .compare_and_swap(&current, Arc::clone(&staged.snapshot));
        if !Arc::ptr_eq(&previous, &current) {
            return None;
        }
        self.changed.send_replace(staged.snapshot.version);
        Some(staged.snapshot)
    }
}

impl Snapshot {
    /// All resources, copied out: what `mesh compile` prints and `--config` reads.
    pub fn resources(&self) -> Resources {
        fn values<T: Clone>(map: &ByName<T>) -> Vec<T> {
            map.values().map(|resource| T::clone(resource)).collect()
        }
        Resources {
            listeners: values(&self.listeners),
            route_tables: values(&self.route_tables),
            clusters: values(&self.clusters),
            endpoints: values(&self.endpoints),
            policies: values(&self.policies),
        }
    }
}

fn stage(issues: Vec<Issue>, snapshot: Snapshot, base: &Snapshot) -> Result<Staged, Vec<Issue>> {
    if !issues.is_empty() {
        return Err(issues);
    }
    Ok(Staged {
        snapshot: Arc::new(snapshot),
        base: base.version,
    })
}

/// Puts a resource in place, unless an equal one is there: then that one stays, pointer and all.
fn put<T: PartialEq>(map: &mut ByName<T>, old: &ByName<T>, name: &str, resource: T) {
    let resource = match old.get(name) {
        Some(same) if **same == resource => Arc::clone(same),
        _ => Arc::new(resource),
    };
    map.insert(name.into(), resource);
}

fn merge<T: PartialEq>(
    base: &Arc<ByName<T>>,
    delete: &[String],
    upsert: Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Arc<ByName<T>> {
    if delete.is_empty() && upsert.is_empty() {
        return Arc::clone(base);
    }
    let mut map = ByName::clone(base);
    for gone in delete {
        map.remove(gone.as_str());
    }
    for resource in upsert {
        let key = name(&resource).clone();
        put(&mut map, base, &key, resource);
    }
    Arc::new(map)
}

fn replace<T: PartialEq>(
    base: &ByName<T>,
    resources: Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Arc<ByName<T>> {
    let mut map = ByName::new();
    for resource in resources {
        let key = name(&resource).clone();
        put(&mut map, base, &key, resource);
    }
    Arc::new(map)
}

#[cfg(test)]
mod tests {
    use mesh_model::resources::{Address, WeightedCluster};

    use super::*;

    fn resources(port: u16) -> Resources {
        let mut listener = Listener::new("web", format!("127.0.0.1:{port}").parse::<Address>().unwrap());
        listener.tcp = WeightedCluster::all("api");
        Resources {
            listeners: vec![listener],
            clusters: vec![Cluster::new("api"), Cluster::new("other")],
            ..Resources::default()
        }
    }

    fn commit(store: &Store, staged: Result<Staged, Vec<Issue>>) -> Arc<Snapshot> {
        store.commit(staged.unwrap()).unwrap()
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let store = Store::default();
        let first = commit(&store, store.stage_all(resources(8080)));
        let second = commit(&store, store.stage_all(resources(9090)));
        assert_eq!((first.version, second.version), (1, 2));
        assert!(Arc::ptr_eq(&first.clusters["api"], &second.clusters["api"]));
        assert!(!Arc::ptr_eq(&first.listeners["web"], &second.listeners["web"]));
    }

    #[test]
    fn a_bad_batch_is_refused_whole() {
        let store = Store::default();
        let good = commit(&store, store.stage_all(resources(8080)));
        let batch = Batch {
            upsert: Resources {
                clusters: vec![Cluster::new("new")],
                ..Resources::default()
            },
            delete: Names {
                clusters: vec!["api".into()],
                ..Names::default()
            },
        };
        assert!(!store.stage(batch).unwrap_err().is_empty());
        assert!(Arc::ptr_eq(&store.snapshot(), &good));
    }

    #[test]
    fn of_two_writers_the_second_must_look_again() {
        let store = Store::default();
        let mut versions = store.watch();
        let one = store.stage_all(resources(1)).unwrap();
        let two = store.stage_all(resources(2)).unwrap();
        assert!(store.commit(one).is_some());
        assert!(store.commit(two).is_none());
        assert!(versions.has_changed().unwrap());
        assert_eq!(*versions.borrow_and_update(), 1);
    }

    #[test]
    fn batches_add_and_delete() {
        let store = Store::default();
        commit(&store, store.stage_all(resources(8080)));
        let batch = Batch {
            upsert: Resources {
                clusters: vec![Cluster::new("new")],
                ..Resources::default()
            },
            delete: Names {
                clusters: vec!["other".into(), "absent".into()],
                ..Names::default()
            },
        };
        let snapshot = commit(&store, store.stage(batch));
        assert_eq!(
            snapshot.clusters.keys().map(|k| &**k).collect::<Vec<_>>(),
            ["api", "new"]
        );
        assert_eq!(snapshot.resources().clusters.len(), 2);
    }
}
