//! What of the resources does a batch make necessary to look at again?
//!
//! What it puts in place, and what may refer to what it deletes or changes: all listeners when one of them comes or
//! goes, or when a route table goes; all policies when one of them comes or goes, or when a listener goes; the endpoints of a cluster that changes; everything when a cluster goes. All else
//! was valid before and still is.

use std::collections::{HashMap, HashSet};

use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::{Cluster, Resources};
use mesh_model::validate::{Known, validate_part};

use super::{Batch, ByName, Names, Snapshot, merge};

/// What is put in place and looked at, and what goes.
pub(super) struct Part {
    /// Of these, what was there before is the same as before.
    resources: Resources,
    delete: Names,
}

/// What there is once the batch is in place.
struct After<'a> {
    base: &'a Snapshot,
    deleted: &'a Names,
    clusters: HashMap<&'a str, &'a Cluster>,
    tables: HashSet<&'a str>,
    listeners: HashSet<&'a str>,
}

impl Part {
    pub(super) fn new(base: &Snapshot, batch: Batch) -> Self {
        let Batch {
            upsert: mut resources,
            delete,
        } = batch;
        let all = !delete.clusters.is_empty();
        if all || !resources.listeners.is_empty() || !delete.route_tables.is_empty() {
            add(
                &mut resources.listeners,
                &base.listeners,
                &delete.listeners,
                |l| &l.name,
            );
        }
        if all || !resources.policies.is_empty() || !delete.listeners.is_empty() {
            add(&mut resources.policies, &base.policies, &delete.policies, |p| {
                &p.name
            });
        }
        if all {
            add(
                &mut resources.route_tables,
                &base.route_tables,
                &delete.route_tables,
                |t| &t.name,
            );
            add(
                &mut resources.endpoints,
                &base.endpoints,
                &delete.endpoints,
                |e| &e.cluster,
            );
        } else {
            let given: HashSet<_> = resources.endpoints.iter().map(|e| e.cluster.as_str()).collect();
            let of_changed = |cluster: &Cluster| {
                let name = cluster.name.as_str();
                let stays = !given.contains(name) && !delete.endpoints.iter().any(|gone| gone == name);
                base.endpoints.get(name).filter(|_| stays)
            };
            let more: Vec<_> = resources.clusters.iter().filter_map(of_changed).collect();
            resources
                .endpoints
                .extend(more.into_iter().map(|e| (**e).clone()));
        }
        Self { resources, delete }
    }

    /// Every problem, with paths into the part.
    pub(super) fn validate(&self, base: &Snapshot) -> Vec<Issue> {
        let part = &self.resources;
        let after = After {
            base,
            deleted: &self.delete,
            clusters: part.clusters.iter().map(|c| (c.name.as_str(), c)).collect(),
            tables: part.route_tables.iter().map(|t| t.name.as_str()).collect(),
            listeners: part.listeners.iter().map(|l| l.name.as_str()).collect(),
        };
        validate_part(part, &after)
    }

    /// Puts it in place; the issues' paths then lead into the whole.
    pub(super) fn put(self, base: &Snapshot, mut issues: Vec<Issue>) -> (Snapshot, Vec<Issue>) {
        let Self { resources, delete } = self;
        let places: Vec<_> = issues
            .iter()
            .map(|issue| place(&issue.path, &resources))
            .collect();
        let snapshot = Snapshot {
            version: base.version + 1,
            listeners: merge(&base.listeners, &delete.listeners, resources.listeners, |l| {
                &l.name
            }),
            route_tables: merge(
                &base.route_tables,
                &delete.route_tables,
                resources.route_tables,
                |t| &t.name,
            ),
            clusters: merge(&base.clusters, &delete.clusters, resources.clusters, |c| &c.name),
            endpoints: merge(&base.endpoints, &delete.endpoints, resources.endpoints, |e| {
                &e.cluster
            }),
            policies: merge(&base.policies, &delete.policies, resources.policies, |p| &p.name),
        };
        for (issue, place) in issues.iter_mut().zip(places) {
            let at = place.and_then(|(kind, name)| position(&snapshot, kind, &name));
            if let (Some(at), Some(PathStep::Index(index))) = (at, issue.path.get_mut(1)) {
                *index = at;
            }
        }
        (snapshot, issues)
    }
}

/// Adds what stays and is not there yet, in the order of the whole: of two that contradict each other the same one is
/// blamed.
fn add<T: Clone>(list: &mut Vec<T>, base: &ByName<T>, deleted: &[String], name: impl Fn(&T) -> &String) {
    let given: HashSet<_> = list.iter().map(|resource| name(resource).clone()).collect();
    let gone: HashSet<_> = deleted.iter().map(String::as_str).collect();
    let stay = base
        .iter()
        .filter(|(name, _)| !given.contains(&***name) && !gone.contains(&***name));
    list.extend(stay.map(|(_, resource)| T::clone(resource)));
    list.sort_by(|a, b| name(a).cmp(name(b)));
}

#[derive(Clone, Copy)]
enum Kind {
    Listeners,
    RouteTables,
    Clusters,
    Endpoints,
    Policies,
}

/// The kind and name of the resource that a path leads to.
fn place(path: &[PathStep], part: &Resources) -> Option<(Kind, String)> {
    let [PathStep::Key(kind), PathStep::Index(at), ..] = path else {
        return None;
    };
    Some(match kind.as_str() {
        "listeners" => (Kind::Listeners, part.listeners.get(*at)?.name.clone()),
        "routeTables" => (Kind::RouteTables, part.route_tables.get(*at)?.name.clone()),
        "clusters" => (Kind::Clusters, part.clusters.get(*at)?.name.clone()),
        "endpoints" => (Kind::Endpoints, part.endpoints.get(*at)?.cluster.clone()),
        "policies" => (Kind::Policies, part.policies.get(*at)?.name.clone()),
        _ => return None,
    })
}

fn position(snapshot: &Snapshot, kind: Kind, name: &str) -> Option<usize> {
    fn of<T>(map: &ByName<T>, name: &str) -> Option<usize> {
        map.keys().position(|key| **key == *name)
    }
    match kind {
        Kind::Listeners => of(&snapshot.listeners, name),
        Kind::RouteTables => of(&snapshot.route_tables, name),
        Kind::Clusters => of(&snapshot.clusters, name),
        Kind::Endpoints => of(&snapshot.endpoints, name),
        Kind::Policies => of(&snapshot.policies, name),
    }
}

impl After<'_> {
    fn stays(gone: &[String], name: &str) -> bool {
        !gone.iter().any(|gone| gone == name)
    }
}

impl Known for After<'_> {
    fn cluster(&self, name: &str) -> Option<&Cluster> {
        let before = || self.base.clusters.get(name).map(|cluster| &**cluster);
        let put = self.clusters.get(name).copied();
        put.or_else(|| before().filter(|_| Self::stays(&self.deleted.clusters, name)))
    }

    fn has_route_table(&self, name: &str) -> bool {
        self.tables.contains(name)
            || (self.base.route_tables.contains_key(name) && Self::stays(&self.deleted.route_tables, name))
    }

    fn cluster_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let before = self.base.clusters.keys().map(|name| &**name);
        let stay = before.filter(|name| Self::stays(&self.deleted.clusters, name));
        Box::new(self.clusters.keys().copied().chain(stay))
    }

    fn route_table_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let before = self.base.route_tables.keys().map(|name| &**name);
        let stay = before.filter(|name| Self::stays(&self.deleted.route_tables, name));
        Box::new(self.tables.iter().copied().chain(stay))
    }

    fn has_listener(&self, name: &str) -> bool {
        self.listeners.contains(name)
            || (self.base.listeners.contains_key(name) && Self::stays(&self.deleted.listeners, name))
    }

    fn listener_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let before = self.base.listeners.keys().map(|name| &**name);
        let stay = before.filter(|name| Self::stays(&self.deleted.listeners, name));
        Box::new(self.listeners.iter().copied().chain(stay))
    }
}

#[cfg(test)]
mod tests {
    use mesh_model::issue::render_path;
    use mesh_model::policy::{AuthorizationPolicy, PolicyAction, PolicyMode, PolicyTarget};
    use mesh_model::resources::{
        Action, Address, Discovery, Endpoints, HostPattern, Listener, Route, RouteMatch, RouteTable,
        VirtualHost, WeightedCluster,
    };
    use mesh_model::validate::validate;

    use super::super::Store;
    use super::*;

    fn listener(name: &str, port: u16, table: &str) -> Listener {
        let mut listener = Listener::new(name, format!("127.0.0.1:{port}").parse::<Address>().unwrap());
        listener.routes = Some(table.into());
        listener
    }

    fn table(name: &str, cluster: &str) -> RouteTable {
        RouteTable {
            name: name.into(),
            virtual_hosts: vec![VirtualHost {
                hosts: vec![HostPattern::Any],
                routes: vec![Route {
                    name: String::new(),
                    matches: RouteMatch::default(),
                    filters: Default::default(),
                    action: Action::Forward {
                        to: WeightedCluster::all(cluster),
                    },
                    timeouts: Default::default(),
                    hash_key: Vec::new(),
                }],
            }],
        }
    }

    fn dns(name: &str) -> Cluster {
        let mut cluster = Cluster::new(name);
        cluster.discovery = Discovery::Dns {
            host: "a.test".into(),
            port: 80,
        };
        cluster
    }

    fn listed(cluster: &str) -> Endpoints {
        Endpoints {
            cluster: cluster.into(),
            localities: Vec::new(),
        }
    }

    fn policy(name: &str, listener: &str) -> AuthorizationPolicy {
        AuthorizationPolicy {
            name: name.into(),
            targets: vec![PolicyTarget::Listener(listener.into())],
            action: PolicyAction::Deny,
            mode: PolicyMode::Enforce,
            rules: Vec::new(),
        }
    }

    fn store() -> Store {
        let store = Store::default();
        let staged = store.stage_all(Resources {
            listeners: vec![listener("a", 1, "t"), listener("b", 2, "u")],
            route_tables: vec![table("t", "x"), table("u", "y")],
            clusters: vec![Cluster::new("x"), Cluster::new("y"), Cluster::new("z"), dns("d")],
            endpoints: vec![listed("x"), listed("y")],
            policies: vec![policy("p", "b")],
        });
        store.commit(staged.unwrap()).unwrap();
        store
    }

    /// Batches of every kind, good and bad.
    fn batches() -> Vec<Batch> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let put = |upsert: Resources| Batch {
            upsert,
            delete: Names::default(),
        };
        let gone = |delete: Names| Batch {
            upsert: Resources::default(),
            delete,
        };
        vec![
            Batch::default(),
            put(Resources {
                clusters: vec![Cluster::new("new")],
                ..Resources::default()
            }),
            put(Resources {
                clusters: vec![Cluster::new("bad name")],
                ..Resources::default()
            }),
            // A cluster whose endpoints are listed is to find them by itself.
            put(Resources {
                clusters: vec![dns("x")],
                ..Resources::default()
            }),
            Batch {
                upsert: Resources {
                    clusters: vec![dns("x")],
                    ..Resources::default()
                },
                delete: Names {
                    endpoints: names(&["x"]),
                    ..Names::default()
                },
            },
            put(Resources {
                endpoints: vec![listed("d")],
                ..Resources::default()
            }),
            put(Resources {
                endpoints: vec![listed("nobody")],
                ..Resources::default()
            }),
            put(Resources {
                listeners: vec![listener("c", 1, "t")],
                ..Resources::default()
            }),
            put(Resources {
                listeners: vec![listener("a", 3, "none")],
                ..Resources::default()
            }),
            put(Resources {
                route_tables: vec![table("u", "nobody")],
                ..Resources::default()
            }),
            put(Resources {
                route_tables: vec![table("u", "new")],
                clusters: vec![Cluster::new("new")],
                ..Resources::default()
            }),
            gone(Names {
                clusters: names(&["z"]),
                ..Names::default()
            }),
            gone(Names {
                clusters: names(&["y"]),
                ..Names::default()
            }),
            gone(Names {
                clusters: names(&["y"]),
                endpoints: names(&["y"]),
                route_tables: names(&["u"]),
                listeners: names(&["b"]),
                policies: names(&["p"]),
            }),
            gone(Names {
                listeners: names(&["b"]),
                ..Names::default()
            }),
            put(Resources {
                policies: vec![policy("q", "a"), policy("r", "absent")],
                ..Resources::default()
            }),
            gone(Names {
                route_tables: names(&["t"]),
                ..Names::default()
            }),
            gone(Names {
                listeners: names(&["a", "absent"]),
                ..Names::default()
            }),
            // Deleted and put in place: it is there.
            Batch {
                upsert: Resources {
                    clusters: vec![Cluster::new("y")],
                    route_tables: vec![table("t", "y")],
                    ..Resources::default()
                },
                delete: Names {
                    clusters: names(&["y"]),
                    route_tables: names(&["t"]),
                    ..Names::default()
                },
            },
        ]
    }

    #[test]
    fn a_part_is_as_good_as_the_whole() {
        let lines = |issues: &[Issue]| {
            let mut lines: Vec<_> = issues
                .iter()
                .map(|issue| format!("{}: {}", render_path(&issue.path), issue.message))
                .collect();
            lines.sort();
            lines
        };
        let (mut good, mut bad) = (0, 0);
        for (number, batch) in batches().into_iter().enumerate() {
            let store = store();
            let base = store.snapshot();
            let (whole, _) = Part::new(&base, batch.clone()).put(&base, Vec::new());
            let expected = lines(&validate(&whole.resources()));
            let found = match store.stage(batch) {
                Ok(staged) => {
                    good += 1;
                    assert_eq!(staged.snapshot().resources(), whole.resources());
                    Vec::new()
                }
                Err(issues) => {
                    bad += 1;
                    lines(&issues)
                }
            };
            assert_eq!(found, expected, "batch {number}");
        }
        assert_eq!((good, bad), (8, 11));
    }

    #[test]
    fn what_stands_twice_in_a_batch_is_refused() {
        let batch = Batch {
            upsert: Resources {
                clusters: vec![Cluster::new("new"), Cluster::new("new")],
                ..Resources::default()
            },
            delete: Names::default(),
        };
        assert_eq!(store().stage(batch).unwrap_err().len(), 1);
    }

    #[test]
    fn what_is_only_looked_at_stays_the_same() {
        let store = store();
        let batch = Batch {
            upsert: Resources {
                listeners: vec![listener("c", 3, "t")],
                ..Resources::default()
            },
            delete: Names::default(),
        };
        let staged = store.stage(batch).unwrap();
        let (before, after) = (store.snapshot(), staged.snapshot());
        let same = |name: &str| std::sync::Arc::ptr_eq(&before.listeners[name], &after.listeners[name]);
        assert!(same("a") && same("b"));
        assert!(std::sync::Arc::ptr_eq(&before.clusters, &after.clusters));
    }
}
