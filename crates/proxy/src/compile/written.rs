//! Where did resources stand when they were written?
//!
//! A snapshot has them in the order of their names, and so has what is found while it is compiled. Who wrote them counts
//! in his own order.

use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::Resources;
use mesh_store::{ByName, Snapshot};

/// The names of resources whose files are read, in the order in which they were written.
pub struct Written {
    listeners: Vec<String>,
    clusters: Vec<String>,
}

impl Written {
    /// The order of these.
    pub fn of(resources: &Resources) -> Self {
        let listeners = resources.listeners.iter();
        let clusters = resources.clusters.iter();
        Self {
            listeners: listeners.map(|listener| listener.name.clone()).collect(),
            clusters: clusters.map(|cluster| cluster.name.clone()).collect(),
        }
    }

    /// Issues of a snapshot, where they were written.
    pub fn place(&self, snapshot: &Snapshot, mut issues: Vec<Issue>) -> Vec<Issue> {
        for issue in &mut issues {
            let [PathStep::Key(kind), PathStep::Index(at), ..] = &mut *issue.path else {
                continue;
            };
            let written = match kind.as_str() {
                "listeners" => place(&snapshot.listeners, &self.listeners, *at),
                "clusters" => place(&snapshot.clusters, &self.clusters, *at),
                _ => None,
            };
            *at = written.unwrap_or(*at);
        }
        issues
    }
}

fn place<T>(sorted: &ByName<T>, written: &[String], at: usize) -> Option<usize> {
    let name = sorted.keys().nth(at)?;
    written.iter().position(|other| **other == **name)
}

#[cfg(test)]
mod tests {
    use mesh_model::resources::{ClientTls, Cluster, Pem};

    use super::super::check;
    use super::*;

    #[test]
    fn what_is_wrong_is_told_where_it_was_written() {
        let mut bad = Cluster::new("a");
        bad.tls = Some(ClientTls {
            server_name: Some("a.test".into()),
            roots: Some(Pem("-----BEGIN RUBBISH-----".into())),
            ..ClientTls::default()
        });
        let issues = check(Resources {
            clusters: vec![Cluster::new("c"), Cluster::new("b"), bad],
            ..Resources::default()
        });
        let issues = issues.unwrap_err();
        let places: Vec<_> = issues
            .iter()
            .map(|issue| mesh_model::issue::render_path(&issue.path))
            .collect();
        assert_eq!(places, ["clusters[2].tls.roots"]);
    }
}
