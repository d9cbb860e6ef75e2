//! Which names are not called yet, since nobody has said where they are?
//!
//! All that is known goes live at once, and would wait for every name that is to be looked up. A workload calls whatever it
//! is given, and name servers may be silent: who may call, and where others are, must not wait for that. So a name goes live
//! when what it leads to was looked up, or has been looked for as long as anything waits. A cluster that is looked up by
//! another name from now on serves by the one before until then.
//!
//! Invariant: what is in force stays so, whatever it is to be looked up by from now on.

use std::collections::{BTreeMap, HashMap};

use mesh_model::resources::{Cluster, Discovery, Endpoints};
use mesh_xds::kind::Kind;

use super::{Feed, Name, clusters_of};

/// What names and clusters lead to that are not in force, and whether it was looked up.
#[derive(Default)]
pub(super) struct Sought {
    sources: HashMap<Discovery, bool>,
    /// Clusters as they are in force, while what they are to be looked up by from now on is.
    serving: BTreeMap<String, Serving>,
}

/// A cluster, and its endpoints where they are listed.
type Serving = (Cluster, Option<Endpoints>);

impl Feed {
    /// What is to be looked up from now on, so that names go live.
    pub(crate) fn take_sources(&mut self) -> Vec<Discovery> {
        let new = self.names.values().filter(|known| !known.is_in_force);
        let changed = self.sought.serving.keys();
        let changed = changed.filter_map(|name| Some(&self.clusters.get(name)?.discovery));
        let wanted: Vec<_> = new
            .flat_map(|known| self.sources_of(known))
            .chain(changed)
            .cloned()
            .collect();
        self.sought.sources.retain(|source, _| wanted.contains(source));
        let mut sources = Vec::new();
        for source in wanted {
            if !self.sought.sources.contains_key(&source) {
                self.sought.sources.insert(source.clone(), false);
                sources.push(source);
            }
        }
        sources
    }

    /// A lookup has ended, or has taken as long as anything waits for it.
    pub(crate) fn looked_up(&mut self, source: &Discovery) {
        let Some(ended) = self.sought.sources.get_mut(source) else {
            return;
        };
        *ended = true;
        let awaited = self.names.iter().filter(|(_, known)| !known.is_in_force);
        let awaited = awaited.filter(|(_, known)| self.sources_of(known).any(|of| of == source));
        for name in awaited.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.tried.changed(Kind::Listener, &name);
        }
        for name in self.sought.serving.keys() {
            let changed = self.clusters.get(name);
            if changed.is_some_and(|changed| changed.discovery == *source) {
                self.tried.changed(Kind::Cluster, name);
            }
        }
    }

    /// A cluster is another than before. One that is in force stays until the new one was looked up.
    pub(super) fn changed_from(&mut self, name: &str, before: Option<Cluster>) {
        let (Some(before), Some(now)) = (before, self.clusters.get(name)) else {
            return;
        };
        if now.discovery == before.discovery || self.sought.serving.contains_key(name) {
            return;
        }
        let mut in_force = self.names.values().filter(|known| known.is_in_force);
        if in_force.any(|known| known.live.iter().flat_map(clusters_of).any(|of| of == name)) {
            let endpoints = self.endpoints.get(name).cloned();
            self.sought.serving.insert(name.to_owned(), (before, endpoints));
        }
    }

    /// Goes on with clusters that are looked up as they are now.
    pub(super) fn go_on_from_serving(&mut self) {
        let Sought { sources, serving } = &mut self.sought;
        let clusters = &self.clusters;
        serving.retain(|name, (before, _)| {
            clusters.get(name).is_some_and(|now| {
                now.discovery != Discovery::Endpoints
                    && now.discovery != before.discovery
                    && sources.get(&now.discovery) != Some(&true)
            })
        });
    }

    /// A cluster as it serves while another one of its name is looked up.
    pub(super) fn serving(&self, name: &str) -> Option<&Serving> {
        self.sought.serving.get(name)
    }

    /// Whether a name is kept out of force until what it leads to was looked up.
    pub(super) fn awaits_lookup(&self, known: &Name) -> bool {
        let is_sought = |source: &Discovery| self.sought.sources.get(source) != Some(&true);
        !known.is_in_force && self.sources_of(known).any(is_sought)
    }

    /// What a name leads to that is to be looked up.
    fn sources_of<'a>(&'a self, known: &'a Name) -> impl Iterator<Item = &'a Discovery> {
        let own = known.egress.as_ref().map(|(cluster, _)| cluster);
        let of_the_mesh = known.live.iter().filter(move |_| own.is_none());
        let named = of_the_mesh.flat_map(clusters_of);
        let clusters = own
            .into_iter()
            .chain(named.filter_map(|name| self.clusters.get(name)));
        let sources = clusters.map(|cluster| &cluster.discovery);
        sources.filter(|source| **source != Discovery::Endpoints)
    }
}
