//! What of a name that the control plane does not know?
//!
//! It is called outside the mesh, where that may be: what is below the mesh's own trust domain never leaves it. Whatever it
//! looks like it stays subscribed to, since a control plane may have services of any name, of addresses too: when it comes
//! to know one, calls go there, or nowhere.
//!
//! A host that has any service is of the mesh, on ports that it does not declare too: the name may mean something outside
//! as well, and a call there would be in plain text, around every policy. So `host:*` is asked for together with each name
//! that may be outside, and a name that nobody knows is called outside once nobody knows that either. A name that was of the
//! mesh and is no more is never called outside while it is asked for; by `host:*` it is known whether its port alone went.
//!
//! Invariants: at most [`MAX_EGRESS`] names outside the mesh are kept; hosts are asked about as long as one of their names
//! is neither of the mesh nor forgotten.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mesh_model::resources::{Address, Cluster, Discovery, Endpoints, Resources, UpstreamProtocol};
use mesh_xds::kind::Kind;

use super::super::own::OUTSIDE;
use super::super::settings::Reach;
use super::{Feed, Name, Workload, clusters_of, sound};
use crate::direct::{To, target};
use crate::parts::{at, everything_to};

/// Names outside the mesh that are kept at a time: each is subscribed to, looked up, and has its connections.
pub(super) const MAX_EGRESS: usize = 256;

/// How long what was called outside may yet turn out to be declared when its host has come to be of the mesh: some control
/// planes say both in two responses.
pub(super) const DECLARED_WITHIN: Duration = Duration::from_secs(2);

/// The port that stands for all of a host's. No name that is called has it.
const ANY_PORT: &str = ":*";

/// A cluster outside the mesh, with its endpoints unless they are looked up.
pub(super) type Egress = (Cluster, Option<Endpoints>);

/// What whoever asks for a name that nobody knows is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet: it is about to go live.
    Later,
    /// That nobody knows it.
    Unknown,
    /// That its host is of the mesh, and does not declare that port.
    Undeclared,
    /// That too many names outside the mesh are called.
    Full,
}

impl Feed {
    /// Whether a listener is wished for even when nobody knows it. It is always so for one name, or never.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        self.is_own(name) || is_of_all_ports(name) || self.egress(name).is_some()
    }

    /// Nobody knows a resource. What those are told who ask for names that it says something of. When too many names
    /// outside the mesh are kept, the one that has been idle longest gives way.
    pub(crate) fn does_not_exist(
        &mut self,
        kind: Kind,
        name: &str,
        idle_since: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<(String, Answer)> {
        if kind != Kind::Listener {
            self.removed(kind, name);
            return Vec::new();
        }
        if self.is_own(name) {
            self.nothing_is_said();
            return Vec::new();
        }
        let names = if is_of_all_ports(name) {
            self.hosts.insert(name.to_owned(), Host::Outside);
            let mut waiting = self.unknown_of(name);
            waiting.retain(|name| self.names.get(name).is_some_and(|known| known.egress.is_none()));
            waiting
        } else if let Some(known) = self.names.get_mut(name) {
            *known = Name {
                is_unknown: true,
                answered: known.answered,
                dark: known.dark,
                // It was called outside before, by the same.
                is_in_force: known.is_in_force && known.egress.is_some(),
                ..Name::default()
            };
            vec![name.to_owned()]
        } else {
            Vec::new()
        };
        let answers = names.into_iter().map(|name| {
            let answer = self.call_outside(&name, &idle_since);
            (name, answer)
        });
        answers.collect()
    }

    /// Calls a name that nobody knows outside the mesh, where that may be.
    fn call_outside(&mut self, name: &str, idle_since: impl Fn(&str) -> Option<Instant>) -> Answer {
        let host = self.asked_host(name).map(|host| self.hosts.get(&host).copied());
        let answer = match (self.egress(name), host) {
            (None, _) => Answer::Unknown,
            (Some(_), Some(None)) => return Answer::Later,
            (Some(_), Some(Some(Host::OfTheMesh))) => Answer::Undeclared,
            (Some(_), None | Some(Some(Host::Outside))) if !self.make_room(&idle_since) => Answer::Full,
            (Some(egress), None | Some(Some(Host::Outside))) => {
                if let Some(known) = self.names.get_mut(name) {
                    known.egress = Some(egress);
                    known.live = Some(everything_to(name));
                    self.tried.changed(Kind::Listener, name);
                }
                return Answer::Later;
            }
        };
        self.names.remove(name);
        answer
    }

    /// A host is of the mesh: none of its names is called outside from here on. What they are told waits until all is taken
    /// that was said together: the next word may be of a port that it declares. Where one was called, that word may come in
    /// another response: who calls it waits a moment longer rather than be refused, and goes nowhere meanwhile.
    pub(super) fn is_of_the_mesh(&mut self, host: &str) {
        self.hosts.insert(host.to_owned(), Host::OfTheMesh);
        for name in self.unknown_of(host) {
            let was_called = self.names.get_mut(&name).is_some_and(|known| {
                known.live = None;
                known.egress.take().is_some()
            });
            let told = if was_called { Told::Later } else { Told::Now };
            self.undeclared.entry(name).or_insert(told);
        }
    }

    /// A host is asked about no more, or nobody knows it any more.
    pub(super) fn host_removed(&mut self, host: &str) {
        let asks =
            |(name, known): (&String, &Name)| known.table.is_none() && host_of(name).as_deref() == Some(host);
        match self.names.iter().any(asks) {
            true => drop(self.hosts.insert(host.to_owned(), Host::Outside)),
            false => drop(self.hosts.remove(host)),
        }
    }

    /// The names of a host that nobody knows.
    fn unknown_of(&self, host: &str) -> Vec<String> {
        let unknown = self.names.iter().filter(|(_, known)| known.is_unknown);
        let of_host = unknown.filter(|(name, _)| host_of(name).as_deref() == Some(host));
        of_host.map(|(name, _)| name.clone()).collect()
    }

    /// What is asked for to know whether the host of a name is of the mesh; nothing where it does not matter.
    pub(super) fn asked_host(&self, name: &str) -> Option<String> {
        host_of(name).filter(|_| self.may_leave(name).is_some())
    }

    /// The names that turned out to be of hosts of the mesh that do not declare their ports. What nobody ever knew is
    /// forgotten by that.
    pub(crate) fn take_undeclared(&mut self, now: Instant) -> Vec<String> {
        let known = &self.names;
        self.undeclared
            .retain(|name, _| known.get(name).is_some_and(|known| known.is_unknown));
        let due = self.undeclared.extract_if(.., |_, told| match told {
            Told::Now => true,
            Told::Later => {
                *told = Told::At(now + DECLARED_WITHIN);
                false
            }
            Told::At(at) => *at <= now,
        });
        let mut names: Vec<_> = due.map(|(name, _)| name).collect();
        for name in &names {
            self.names.remove(name);
        }
        names.extend(self.take_gone_of(Host::OfTheMesh));
        names
    }

    /// When names are to be told of next that are called no more and may yet be declared.
    pub(crate) fn undeclared_at(&self) -> Option<Instant> {
        let at = |told: &Told| match told {
            Told::At(at) => Some(*at),
            Told::Now | Told::Later => None,
        };
        self.undeclared.values().filter_map(at).min()
    }

    /// What was said of the host of a name that is no more; nothing when it is yet to be said.
    pub(super) fn host_of_gone(&self, name: &str, known: &Name) -> Option<Host> {
        match self.asked_host(name).filter(|_| known.table.is_none()) {
            Some(host) => self.hosts.get(&host).copied(),
            // It is not asked about.
            None => Some(Host::Outside),
        }
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
        let idle = told.filter_map(|(name, known)| Some((idle_since(&known.egress.as_ref()?.0.name)?, name)));
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

    /// Calls the clusters outside the mesh otherwise than those of the control plane, which may have one for the same
    /// address: it may be reached in another way.
    pub(super) fn tell_apart(&mut self) {
        if self.outside().next().is_none() {
            return;
        }
        let of_the_mesh = self.names.values().filter(|known| known.egress.is_none());
        let live = of_the_mesh.filter_map(|known| known.live.as_ref());
        let taken: BTreeSet<_> = live.flat_map(clusters_of).map(ToOwned::to_owned).collect();
        for (name, known) in &mut self.names {
            let Some((cluster, endpoints)) = &mut known.egress else {
                continue;
            };
            let is_called = match taken.contains(name) {
                true => format!("{OUTSIDE}{name}"),
                false => name.clone(),
            };
            if cluster.name == is_called {
                continue;
            }
            cluster.name.clone_from(&is_called);
            if let Some(endpoints) = endpoints {
                endpoints.cluster.clone_from(&is_called);
            }
            known.live = Some(everything_to(&is_called));
        }
    }

    /// Where a name is when it is outside the mesh, if it may be called there. Applications call whatever they are given:
    /// what nothing can be connected to is nowhere.
    fn egress(&self, name: &str) -> Option<Egress> {
        let (cluster, endpoints) = self.may_leave(name)?;
        let resources = Resources {
            route_tables: vec![everything_to(name)],
            clusters: vec![cluster.clone()],
            endpoints: endpoints.clone().into_iter().collect(),
            ..Resources::default()
        };
        sound(&resources).ok().map(|()| (cluster, endpoints))
    }

    /// The same, be it that nothing can be connected to there.
    fn may_leave(&self, name: &str) -> Option<Egress> {
        match self.workload.egress {
            Reach::Known => None,
            Reach::Any => egress(name, &self.workload),
        }
    }
}

/// When those who ask for a name are told that its host does not declare that port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Now,
    /// In a moment, which begins when all is taken that was said together.
    Later,
    At(Instant),
}

/// What the control plane says of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// It has a service, on some port.
    OfTheMesh,
    /// It has none.
    Outside,
}

/// What is asked for to know whether the host of a name is of the mesh; nothing for addresses.
fn host_of(name: &str) -> Option<String> {
    match target(name).ok()? {
        To::Name { host, .. } => Some(host + ANY_PORT),
        To::Address(_) => None,
    }
}

/// Whether a name stands for all ports of a host.
pub(super) fn is_of_all_ports(name: &str) -> bool {
    name.ends_with(ANY_PORT)
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
