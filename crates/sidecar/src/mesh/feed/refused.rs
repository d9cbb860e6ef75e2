//! Which names can't be in force, and what is without them?
//!
//! All that is known goes live together or not at all. Each resource is looked at when it comes; what shows only beside
//! others, or when it is compiled, refuses the whole. One name would keep out every later policy, endpoint and name: so
//! those that are to blame are left out, and the rest goes live.
//!
//! Invariants: a name that is left out is tried again when something that it needs has changed, and not before; what is
//! refused leaves out one name more, or is not tried again.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::Resources;
use mesh_xds::kind::Kind;

use super::super::own::APPLICATION;
use super::{Feed, Name, clusters_of};

/// What has changed, and what was tried.
#[derive(Default)]
pub(super) struct Tried {
    /// Since the last attempt.
    changed: BTreeSet<(Kind, String)>,
    /// Since what is in force, the last attempt included.
    tried: BTreeSet<(Kind, String)>,
    /// What stood where in the last attempt: paths of issues count in it.
    order: Order,
}

/// The names of resources, each where it stood.
#[derive(Default)]
struct Order {
    tables: Vec<String>,
    clusters: Vec<String>,
    endpoints: Vec<String>,
}

/// What is to blame.
enum Blamed<'a> {
    Table(&'a str),
    Cluster(&'a str),
    /// What this sidecar does whatever is said to it, or who may call.
    Own,
    Unknown,
}

impl Tried {
    /// Something is other than it was.
    pub(super) fn changed(&mut self, kind: Kind, name: &str) {
        self.changed.insert((kind, name.to_owned()));
    }
}

impl Feed {
    /// Names that were left out are tried again where something has changed that they need.
    pub(super) fn try_again(&mut self) {
        let Tried { changed, tried, .. } = &mut self.tried;
        for (name, known) in &mut self.names {
            if known.refused.is_some() && needs(name, known, changed) {
                known.refused = None;
            }
        }
        tried.append(changed);
    }

    /// Notes what stands where in what is tried.
    pub(super) fn note_order(&mut self, resources: &Resources) {
        let (tables, clusters) = (resources.route_tables.iter(), resources.clusters.iter());
        let endpoints = resources.endpoints.iter();
        self.tried.order = Order {
            tables: tables.map(|table| table.name.clone()).collect(),
            clusters: clusters.map(|cluster| cluster.name.clone()).collect(),
            endpoints: endpoints.map(|listed| listed.cluster.clone()).collect(),
        };
    }

    /// What was tried is in force.
    pub(crate) fn in_force(&mut self) {
        self.tried.tried.clear();
        let order = std::mem::take(&mut self.tried.order);
        for (name, known) in &mut self.names {
            known.is_in_force = order.tables.contains(name);
        }
    }

    /// What was tried was refused for these issues, or for a reason that names none. The names that are left out from now
    /// on, and why; where there is none, what is left can't be in force either.
    pub(crate) fn leave_out(&mut self, issues: &[Issue], why: &str) -> Vec<(String, String)> {
        let order = std::mem::take(&mut self.tried.order);
        let mut is_own = false;
        let mut blamed = BTreeMap::new();
        for issue in issues {
            match order.blamed(issue) {
                Blamed::Table(name) | Blamed::Cluster(name) if name.starts_with(APPLICATION) => is_own = true,
                Blamed::Table(table) => {
                    blamed
                        .entry(table.to_owned())
                        .or_insert_with(|| said("its routes", issue));
                }
                Blamed::Cluster(cluster) => {
                    for name in self.callers(cluster) {
                        let reason = || said(&format!("cluster {cluster}"), issue);
                        blamed.entry(name).or_insert_with(reason);
                    }
                }
                Blamed::Own => is_own = true,
                Blamed::Unknown => {}
            }
        }
        let Tried { changed, tried, .. } = &self.tried;
        if blamed.is_empty() && !is_own {
            // Nothing says who it is: whatever is new.
            let new = self
                .names
                .iter()
                .filter(|(name, known)| needs(name, known, tried));
            blamed = new.map(|(name, _)| (name.clone(), why.to_owned())).collect();
        }
        let mut left_out = Vec::new();
        for (name, reason) in blamed {
            let Some(known) = self.names.get_mut(&name) else {
                continue;
            };
            let was_tried = order.tables.contains(&name);
            if was_tried && known.live.is_some() && known.refused.is_none() && !needs(&name, known, changed) {
                known.refused = Some(reason.clone());
                left_out.push((name, reason));
            }
        }
        left_out
    }

    /// The names that are left out, and why.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter();
        names.filter_map(|(name, known)| Some((name.as_str(), known.refused.as_deref()?)))
    }

    /// The names that lead to a cluster.
    fn callers(&self, cluster: &str) -> Vec<String> {
        let leads = |known: &Name| {
            let live = known.live.iter();
            live.flat_map(clusters_of).any(|called| called == cluster)
        };
        let callers = self.names.iter().filter(|(_, known)| leads(known));
        callers.map(|(name, _)| name.clone()).collect()
    }
}

impl Order {
    fn blamed(&self, issue: &Issue) -> Blamed<'_> {
        let Some(PathStep::Key(kind)) = issue.path.first() else {
            return Blamed::Unknown;
        };
        let at = |names| match issue.path.get(1) {
            Some(PathStep::Index(at)) => <[String]>::get(names, *at).map(String::as_str),
            _ => None,
        };
        let blamed = match kind.as_str() {
            "routeTables" => at(&self.tables).map(Blamed::Table),
            "clusters" => at(&self.clusters).map(Blamed::Cluster),
            "endpoints" => at(&self.endpoints).map(Blamed::Cluster),
            "listeners" | "policies" => Some(Blamed::Own),
            _ => None,
        };
        blamed.unwrap_or(Blamed::Unknown)
    }
}

/// Whether a name needs one of these.
fn needs(name: &str, known: &Name, of: &BTreeSet<(Kind, String)>) -> bool {
    let has = |kind, name: &str| of.contains(&(kind, name.to_owned()));
    let mut clusters = known.live.iter().flat_map(clusters_of);
    !of.is_empty()
        && (has(Kind::Listener, name)
            || known
                .table
                .as_deref()
                .is_some_and(|table| has(Kind::RouteTable, table))
            || clusters.any(|cluster| has(Kind::Cluster, cluster) || has(Kind::Endpoints, cluster)))
}

/// An issue, in the words of who knows no paths into what was tried.
fn said(what: &str, issue: &Issue) -> String {
    let within = issue.path.get(2..).unwrap_or_default().to_vec();
    let issue = Issue {
        path: within,
        ..issue.clone()
    };
    format!("{what}: {issue}")
}
