//! What of a name that the control plane does not know?
//!
//! It is called outside the mesh, where that may be: what is below the mesh's own trust domain never leaves it. Whatever it
//! looks like it stays subscribed to, since a control plane may have services of any name, of addresses too: when it comes
//! to know one, calls go there, or nowhere.
//!
//! Invariant: at most [`MAX_EGRESS`] names outside the mesh are kept.

use std::time::Instant;

use mesh_model::resources::{Address, Cluster, Discovery, Endpoints, UpstreamProtocol};
use mesh_xds::kind::Kind;

use super::{Feed, Name, Workload};
use crate::direct::{To, target};
use crate::parts::{at, everything_to};

/// Names outside the mesh that are kept at a time: each is subscribed to, looked up, and has its connections.
pub(super) const MAX_EGRESS: usize = 256;

/// A cluster outside the mesh, with its endpoints unless they are looked up.
pub(super) type Egress = (Cluster, Option<Endpoints>);

/// What whoever asks for a name that nobody knows is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet: it is about to go live.
    Later,
    /// That nobody knows it.
    Unknown,
    /// That too many names outside the mesh are called.
    Full,
}

impl Feed {
    /// Whether a listener is wished for even when nobody knows it. It is always so for one name, or never.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        name == self.workload.identity.as_str() || self.egress(name).is_some()
    }

    /// Nobody knows a resource. What whoever asks for that name is told. When too many names outside the mesh are kept, the
    /// one that has been idle longest gives way.
    pub(crate) fn does_not_exist(
        &mut self,
        kind: Kind,
        name: &str,
        idle_since: impl Fn(&str) -> Option<Instant>,
    ) -> Answer {
        if kind != Kind::Listener {
            self.removed(kind, name);
            return Answer::Later;
        }
        if name == self.workload.identity.as_str() {
            self.nothing_is_said();
            return Answer::Later;
        }
        let Some(known) = self.names.get_mut(name) else {
            return Answer::Later;
        };
        known.table = None;
        known.live = None;
        known.egress = None;
        let answer = match self.egress(name) {
            None => Answer::Unknown,
            Some(_) if !self.make_room(idle_since) => Answer::Full,
            Some(egress) => {
                if let Some(known) = self.names.get_mut(name) {
                    known.egress = Some(egress);
                    known.live = Some(everything_to(name));
                }
                return Answer::Later;
            }
        };
        self.names.remove(name);
        answer
    }

    /// Whether one more name outside the mesh takes the place of another.
    pub(crate) fn is_full(&self) -> bool {
        self.outside().count() >= MAX_EGRESS
    }

    /// Gives up the name outside the mesh that has been idle longest, where there is no room for another one. Whether there
    /// is room then.
    fn make_room(&mut self, idle_since: impl Fn(&str) -> Option<Instant>) -> bool {
        if !self.is_full() {
            return true;
        }
        // Whoever still waits for one will call it.
        let told = self.outside().filter(|(_, known)| known.answered);
        let idle = told.filter_map(|(name, _)| Some((idle_since(name)?, name)));
        let Some((_, longest)) = idle.min() else {
            return false;
        };
        let longest = longest.clone();
        self.names.remove(&longest);
        true
    }

    /// The names outside the mesh.
    fn outside(&self) -> impl Iterator<Item = (&String, &Name)> {
        let names = self.names.iter();
        names.filter(|(_, known)| known.egress.is_some())
    }

    /// Where a name is when it is outside the mesh, if it may be called there.
    fn egress(&self, name: &str) -> Option<Egress> {
        match self.workload.known_only {
            true => None,
            false => egress(name, &self.workload),
        }
    }
}

/// A name outside the mesh, as a cluster.
fn egress(name: &str, workload: &Workload) -> Option<Egress> {
    let mut cluster = Cluster::new(name);
    let (port, endpoints) = match target(name).ok()? {
        To::Address(Address::Unix(_)) => return None,
        To::Address(Address::Ip(address)) => (address.port(), Some(at(name, &Address::Ip(address)))),
        To::Name { host, .. } if workload.has_name(&host) => return None,
        To::Name { host, port } => {
            cluster.discovery = Discovery::Dns { host, port };
            (port, None)
        }
    };
    if workload.is_opaque(port) {
        cluster.protocol = UpstreamProtocol::Tcp;
    }
    Some((cluster, endpoints))
}
