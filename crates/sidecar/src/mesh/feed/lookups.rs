//! Which names are not called yet, since nobody has said where they are?
//!
//! All that is known goes live at once, and would wait for every name that is to be looked up. A workload calls whatever it
//! is given, and name servers may be silent: who may call, and where others are, must not wait for that. So a name goes live
//! when what it leads to was looked up, or has been looked for as long as anything waits.
//!
//! Invariant: what is in force stays so, whatever it is to be looked up by from now on.

use std::collections::HashMap;

use mesh_model::resources::Discovery;
use mesh_xds::kind::Kind;

use super::{Feed, Name, clusters_of};

/// What names lead to that are not in force, and whether it was looked up.
#[derive(Default)]
pub(super) struct Sought {
    sources: HashMap<Discovery, bool>,
}

impl Feed {
    /// What is to be looked up from now on, so that names go live.
    pub(crate) fn take_sources(&mut self) -> Vec<Discovery> {
        let new = self.names.values().filter(|known| !known.is_in_force);
        let wanted: Vec<_> = new.flat_map(|known| self.sources_of(known)).cloned().collect();
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
