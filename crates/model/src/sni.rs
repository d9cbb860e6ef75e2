//! Where does a TLS stream go that is passed through unopened?
//!
//! By the server name of its ClientHello: the most specific host wins over all routes, as for requests.

use crate::hosts::HostMap;
use crate::issue::{At, Issue, Issues};
use crate::resources::{SniRoute, WeightedCluster};
use crate::route::{duplicate_host, no_weight};

/// The `sni` routes of a listener, made ready for look-ups.
#[derive(Debug)]
pub struct SniIndex {
    hosts: HostMap<u32>,
    /// By the number in `hosts`.
    targets: Vec<Box<[WeightedCluster]>>,
}

impl SniIndex {
    /// Compiles the routes.
    ///
    /// # Errors
    /// Hosts that stand twice and targets that can't be drawn; paths start at the list.
    pub fn compile(routes: &[SniRoute]) -> Result<Self, Vec<Issue>> {
        let mut issues = Issues::default();
        let index = Self::build(routes, &At::Root, &mut issues);
        for (number, route) in routes.iter().enumerate() {
            if route.to.iter().all(|target| target.weight == 0) {
                issues.add(&At::Root.index(number).key("to"), no_weight(&route.to));
            }
        }
        let issues = issues.into_vec();
        if issues.is_empty() { Ok(index) } else { Err(issues) }
    }

    /// The index, and the hosts that stand twice.
    pub(crate) fn build(routes: &[SniRoute], at: &At<'_>, issues: &mut Issues) -> Self {
        let mut hosts = HostMap::new();
        for (number, route) in routes.iter().enumerate() {
            let at = at.index(number);
            let hosts_key = at.key("hosts");
            for (position, pattern) in route.hosts.iter().enumerate() {
                if hosts.insert(pattern, number as u32).is_err() {
                    issues.add(&hosts_key.index(position), duplicate_host(pattern));
                }
            }
        }
        Self {
            hosts,
            targets: routes.iter().map(|route| route.to.as_slice().into()).collect(),
        }
    }

    /// Whether some names go elsewhere than others.
    pub fn tells_names_apart(&self) -> bool {
        self.hosts.tells_apart()
    }

    /// The targets for a server name; `None` when no route takes it. Draw one with
    /// [`pick_cluster`](crate::route::pick_cluster). A client that sent no name meets `*` only.
    pub fn find(&self, server_name: Option<&str>) -> Option<&[WeightedCluster]> {
        self.hosts
            .find(server_name.unwrap_or_default().as_bytes(), |number| {
                self.targets.get(number as usize).map(|targets| &**targets)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::{IssueCode, render_path};

    fn route(hosts: &[&str], cluster: &str) -> SniRoute {
        SniRoute {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            to: WeightedCluster::all(cluster),
        }
    }

    #[test]
    fn the_most_specific_name_wins() {
        let routes = [
            route(&["*"], "any"),
            route(&["*.test"], "wild"),
            route(&["a.test", "*.b.test"], "own"),
        ];
        let index = SniIndex::compile(&routes).unwrap();
        for (name, cluster) in [
            (Some("a.test"), "own"),
            (Some("A.TEST"), "own"),
            (Some("x.b.test"), "own"),
            (Some("b.test"), "wild"),
            (Some("test"), "any"),
            (Some(""), "any"),
            (None, "any"),
        ] {
            assert_eq!(index.find(name).unwrap()[0].cluster, cluster, "{name:?}");
        }
        assert!(SniIndex::compile(&routes[1..]).unwrap().find(None).is_none());
        for (some, told) in [(&routes[..1], false), (&routes[..2], true), (&routes[2..], true)] {
            assert_eq!(SniIndex::compile(some).unwrap().tells_names_apart(), told);
        }
    }

    #[test]
    fn names_stand_once() {
        let nowhere = SniRoute {
            hosts: vec!["b".parse().unwrap()],
            to: vec![],
        };
        let issues = SniIndex::compile(&[route(&["a", "A"], "c"), nowhere]).unwrap_err();
        let seen: Vec<_> = issues
            .iter()
            .map(|issue| (render_path(&issue.path), issue.code))
            .collect();
        assert_eq!(
            seen,
            [
                ("[0].hosts[1]".into(), IssueCode::Duplicate),
                ("[1].to".into(), IssueCode::Missing)
            ]
        );
    }
}
