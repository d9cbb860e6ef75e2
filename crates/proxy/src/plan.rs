//! What is in force: a snapshot of the resources, compiled for the data threads.
//!
//! A plan is immutable and shared. Everything that can be worked out once is worked out when it is made: route
//! indexes, deadlines as spans, limits of the codec, TLS configurations. A request holds the parts it began with.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use foldhash::fast::RandomState;
use mesh_http1::Limits;
use mesh_model::resources::{Address, Listener, Trusted, WeightedCluster};
use mesh_model::route::{CompiledRoute, RouteIndex};
use mesh_model::sni::SniIndex;

use crate::clock::{Nanos, after};
use crate::exchange::{Peer, Proved};
use crate::on_demand::OnDemand;
use crate::own::OwnAddresses;
use crate::policy::{Admitted, Denied, Policy};
use crate::telemetry::access_log::{Output, Sampler};
use crate::telemetry::{Called, Label, Numbered};
use crate::tls::ServerTls;
use crate::upstream::cluster::ClusterPlan;
use crate::workload::{Inbound, Port};

/// Resources by name.
pub type ByName<T> = HashMap<Arc<str>, Arc<T>, RandomState>;

/// Everything that is in force.
#[derive(Default)]
pub struct Plan {
    /// The snapshot's version.
    pub version: u64,
    /// Listeners by name.
    pub listeners: Arc<ByName<ListenerPlan>>,
    /// Clusters by name.
    pub clusters: Arc<ByName<ClusterPlan>>,
    /// The clusters that are new, other or gone since the plan before; `None` when that is not known.
    pub changed: Option<Vec<Arc<str>>>,
    /// Where this proxy itself listens.
    pub own: Arc<OwnAddresses>,
}

/// A route table, compiled.
pub struct Routes {
    /// What finds a request's route.
    pub index: RouteIndex,
    /// The routes' names as they stand in metrics.
    pub labels: RouteLabels,
    /// Where streams go that are not HTTP, where the table is a name's: as its first route that leads somewhere.
    pub tcp: Vec<WeightedCluster>,
}

/// The names of a table's routes, by the routes' numbers.
pub struct RouteLabels {
    labels: Vec<Label>,
    ids: Ids,
    known: HashSet<u64, RandomState>,
}

impl RouteLabels {
    /// These names, in the order of the routes.
    pub fn new(labels: Vec<Label>) -> Self {
        Self {
            known: labels.iter().map(Label::id).collect(),
            ids: Ids::of(&labels),
            labels,
        }
    }

    /// The name of a route.
    #[inline]
    pub fn of(&self, route: CompiledRoute<'_>) -> Option<Numbered<'_>> {
        let at = route.id() as usize;
        Some(Numbered {
            id: self.ids.get(at)?,
            label: self.labels.get(at)?,
        })
    }

    /// Whether a route of the table has the name of this number.
    pub fn has(&self, id: u64) -> bool {
        self.known.contains(&id)
    }
}

/// The numbers of labels.
enum Ids {
    /// They count on from here, as names that are new do: ten thousand need no memory to be looked up in.
    From(u64),
    Each(Vec<u64>),
}

impl Ids {
    fn of(labels: &[Label]) -> Self {
        let ids = labels.iter().map(Label::id);
        match labels.first().map(Label::id) {
            Some(first) if ids.clone().eq(first..first.saturating_add(labels.len() as u64)) => {
                Self::From(first)
            }
            _ => Self::Each(ids.collect()),
        }
    }

    #[inline]
    fn get(&self, at: usize) -> Option<u64> {
        match self {
            Self::From(first) => Some(first.wrapping_add(at as u64)),
            Self::Each(ids) => ids.get(at).copied(),
        }
    }
}

/// A listener, compiled.
pub struct ListenerPlan {
    /// The name.
    pub name: Arc<str>,
    /// The name, as it stands in metrics.
    pub label: Label,
    /// The resource.
    pub resource: Arc<Listener>,
    /// The routes for HTTP requests, except for those of workloads.
    pub routes: Option<Arc<Routes>>,
    /// The routes by the names that requests are for, instead.
    pub on_demand: Option<OnDemand>,
    /// What workloads may call.
    pub workload: Option<Inbound>,
    /// Who may do what.
    pub policy: Option<Policy>,
    /// Routes for TLS streams that are passed through.
    pub sni: Option<SniIndex>,
    /// TLS to terminate.
    pub tls: Option<Arc<ServerTls>>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds of heads and bodies.
    pub http1: Limits,
    /// Where finished requests and streams are written down.
    pub access: Option<AccessPlan>,
    /// What all threads count together; outlives the plan.
    pub shared: Arc<ListenerShared>,
}

/// What a client means by its connection.
enum Means<'a> {
    /// The listener itself.
    Listener,
    /// A port of the workload.
    Port(&'a Port),
    /// A port that was not declared.
    Nothing,
}

/// The parts of a listener that are compiled.
pub struct Compiled {
    /// See [`ListenerPlan::routes`].
    pub routes: Option<Arc<Routes>>,
    /// See [`ListenerPlan::on_demand`].
    pub on_demand: Option<OnDemand>,
    /// See [`ListenerPlan::sni`].
    pub sni: Option<SniIndex>,
    /// See [`ListenerPlan::tls`].
    pub tls: Option<Arc<ServerTls>>,
    /// See [`ListenerPlan::workload`].
    pub workload: Option<Inbound>,
    /// See [`ListenerPlan::policy`].
    pub policy: Option<Policy>,
    /// See [`ListenerPlan::access`].
    pub access: Option<AccessPlan>,
}

/// A listener's access log, compiled.
pub struct AccessPlan {
    /// Which requests get a line.
    pub sampler: Sampler,
    /// Where lines go.
    pub output: Output,
}

/// A listener's deadlines; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request's head and for the first byte.
    pub header: Option<Duration>,
    /// For a TLS handshake.
    pub handshake: Option<Duration>,
    /// For a whole exchange.
    pub request: Option<Duration>,
    /// Between requests.
    pub idle: Option<Duration>,
    /// For a stream on which nothing moves.
    pub stream_idle: Option<Duration>,
    /// For a TCP stream on which nothing moves.
    pub tcp_idle: Option<Duration>,
    /// A connection's age.
    pub max_connection_age: Option<Duration>,
    /// For what is under way when a connection is too old, or at a drain.
    pub drain: Option<Duration>,
}

impl Timeouts {
    /// When the connection that was made at `opened` is too old.
    pub fn old_at(&self, opened: Nanos) -> Nanos {
        after(opened, self.max_connection_age)
    }

    /// When what is under way on it then is cut, where it was asked to leave at `leaves` or had not to be.
    pub fn old_end(&self, opened: Nanos, leaves: Nanos) -> Nanos {
        after(self.old_at(opened).max(leaves), self.drain)
    }
}

/// What all threads count together for a listener.
#[derive(Default)]
pub struct ListenerShared {
    connections: AtomicU32,
}

/// An open connection of a listener, counted until it is dropped.
pub struct ListenerPermit(Arc<ListenerShared>);

impl Drop for ListenerPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl ListenerShared {
    /// Counts one more connection, unless there are `most`.
    pub fn connection(self: &Arc<Self>, most: u32) -> Option<ListenerPermit> {
        if self.connections.fetch_add(1, Relaxed) >= most {
            self.connections.fetch_sub(1, Relaxed);
            return None;
        }
        Some(ListenerPermit(Arc::clone(self)))
    }

    /// Open connections, over all threads.
    pub fn open_connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }
}

impl ListenerPlan {
    /// Whether a peer is believed no more since its handshake.
    pub fn has_revoked(&self, client: &Peer) -> bool {
        match (&self.workload, client.proved()) {
            (Some(workload), Proved::Identity(identity)) => workload.denies(identity),
            _ => false,
        }
    }

    /// Whether all who are let in by one of these are by the other: policy is the same, and so are the declared ports.
    pub fn judges_as(&self, other: &Self) -> bool {
        let ports = |plan: &Self| {
            let ports = plan.workload.iter().flat_map(|workload| &workload.ports);
            ports
                .map(|port| (port.port, port.service.clone()))
                .collect::<Vec<_>>()
        };
        self.policy == other.policy && ports(self) == ports(other)
    }

    /// Whether what passes bytes, and was let in by an earlier plan, may go on.
    pub fn still(&self, before: &Self, client: &Peer, admitted: Admitted) -> bool {
        let policy = self.policy.as_ref();
        !self.has_revoked(client)
            && self.declares(client)
            && policy.is_none_or(|policy| policy.still(before.policy.as_ref(), client, admitted))
    }

    /// Whether whoever was let in by an earlier plan of this listener could be let in by this one in the same way: what is
    /// asked of clients before they say what they want is the same, and so is for whom they speak. Certificates that the listener shows may be others; for
    /// roots that are files see [`ListenerPlan::tightened`].
    pub fn admits_as(&self, before: &Self) -> bool {
        let (old, new) = (&before.resource, &self.resource);
        let asks_same = || match (&old.tls, &new.tls) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                old.minimum_version == new.minimum_version
                    && old.client_certificates == new.client_certificates
            }
            _ => false,
        };
        let sees_same = || {
            old.proxy_protocol == new.proxy_protocol
                && (!new.proxy_protocol || old.trusted_networks == new.trusted_networks)
        };
        let shuts_out = || new.local_only && !old.local_only;
        Arc::ptr_eq(old, new) || (old.protocol == new.protocol && asks_same() && sees_same() && !shuts_out())
    }

    /// Another number than before when clients that were let in by it may not be any more, though the resource is the same:
    /// see [`ServerTls::tightened`].
    pub fn tightened(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.tightened())
    }

    /// Whether clients may mean another connection than the one that they use. A forward proxy's clients never do.
    pub fn may_be_misdirected(&self) -> bool {
        !self.resource.forward_proxy && self.tls.as_ref().is_some_and(|tls| tls.has_several())
    }

    /// Whether a request for this authority is on the wrong connection.
    #[inline]
    pub fn is_misdirected(&self, client: &Peer, authority: &[u8]) -> bool {
        let Some(said) = client.tls.as_ref() else {
            return false;
        };
        let (Some(asked), Some(shown)) = (said.server_name.as_deref(), said.shown.as_ref()) else {
            return false;
        };
        let tls = self.tls.as_ref().filter(|_| self.may_be_misdirected());
        tls.is_some_and(|tls| tls.is_misdirected(asked, shown, authority))
    }

    /// Why a stream that is not HTTP, and passes, would be denied if the policies in audit mode were enforced.
    pub fn audits(&self, client: &Peer) -> Option<Denied> {
        self.policy.as_ref()?.stream(client).ok()?.audited
    }

    /// Whether requests are read from it.
    pub fn reads_http(&self) -> bool {
        self.routes.is_some() || self.on_demand.is_some()
    }

    /// What a client means by its connection.
    #[inline]
    fn means(&self, client: &Peer) -> Means<'_> {
        let port = match (&self.workload, client.called(), client.original()) {
            (_, None, None) | (None, None, Some(_)) => return Means::Listener,
            (Some(workload), Some(target), _) => workload.port(target),
            (Some(workload), None, Some(original)) => workload.plain_port(original.port()),
            (None, Some(_), _) => None,
        };
        port.map_or(Means::Nothing, Means::Port)
    }

    /// Who calls which port of a workload, as it is counted.
    pub fn called<'a>(&'a self, client: &'a Peer) -> Called<'a> {
        let port = match self.means(client) {
            // Without TLS the first port is meant.
            Means::Listener => self.workload.as_ref().and_then(|workload| workload.ports.first()),
            Means::Port(port) => Some(port),
            Means::Nothing => None,
        };
        Called {
            by: client.label(),
            port: port.map(|port| &port.label),
        }
    }

    /// Whether what a client means was declared.
    pub fn declares(&self, client: &Peer) -> bool {
        !matches!(self.means(client), Means::Nothing)
    }

    /// Whether requests are read from this client. Those that mean nothing are answered.
    pub fn speaks_http(&self, client: &Peer) -> bool {
        match self.means(client) {
            Means::Listener => self.reads_http(),
            Means::Port(port) => port.routes.is_some(),
            Means::Nothing => true,
        }
    }

    /// The routes for the requests of a client to this authority.
    #[inline]
    pub fn routes(&self, client: &Peer, authority: &[u8]) -> Option<&Arc<Routes>> {
        match self.means(client) {
            Means::Listener => match (&self.on_demand, client.tunnel()) {
                (None, _) => self.routes.as_ref(),
                (Some(on_demand), None) => on_demand.table(authority),
                (Some(on_demand), Some(name)) => on_demand.tables.get(name),
            },
            Means::Port(port) => port.routes.as_ref(),
            Means::Nothing => None,
        }
    }

    /// Where a client's streams go that are not HTTP.
    pub fn tcp(&self, client: &Peer) -> &[WeightedCluster] {
        match self.means(client) {
            Means::Listener => &self.resource.tcp,
            Means::Port(port) => &port.tcp,
            Means::Nothing => &[],
        }
    }

    /// Whether streams that are not HTTP go somewhere: to where this client connected to, if nowhere else.
    pub fn takes_streams(&self, client: &Peer) -> bool {
        let names_one = client.original().is_some() || client.tunnel().is_some();
        !self.tcp(client).is_empty() || (self.on_demand.is_some() && names_one)
    }

    /// Whether it is asked who a port is that a connection was made to, before its bytes are looked at.
    pub fn is_opaque_port(&self, port: u16) -> bool {
        self.resource
            .opaque_ports
            .iter()
            .any(|range| range.contains(port))
    }

    /// Whether it matters for which server a TLS client asks.
    pub fn tells_names_apart(&self) -> bool {
        let some_have_their_own = self.sni.as_ref().is_some_and(SniIndex::tells_names_apart);
        self.workload.is_some() || some_have_their_own
    }

    /// All its route tables.
    pub fn all_routes(&self) -> impl Iterator<Item = &Arc<Routes>> {
        let ports = self.workload.iter().flat_map(|workload| &workload.ports);
        let named = self
            .on_demand
            .iter()
            .flat_map(|on_demand| on_demand.tables.values());
        self.routes
            .iter()
            .chain(named)
            .chain(ports.filter_map(|port| port.routes.as_ref()))
    }

    /// Compiles what does not depend on other resources.
    pub fn new(
        resource: Arc<Listener>,
        label: Label,
        shared: Arc<ListenerShared>,
        compiled: Compiled,
    ) -> Self {
        let Compiled {
            routes,
            on_demand,
            sni,
            tls,
            workload,
            policy,
            access,
        } = compiled;
        let t = resource.timeouts;
        Self {
            name: resource.name.as_str().into(),
            label,
            routes,
            on_demand,
            workload,
            policy,
            sni,
            tls,
            timeouts: Timeouts {
                header: t.header.enabled(),
                handshake: t.handshake.enabled(),
                request: t.request.enabled(),
                idle: t.idle.enabled(),
                stream_idle: t.stream_idle.enabled(),
                tcp_idle: t.tcp_idle.enabled(),
                max_connection_age: t.max_connection_age.enabled(),
                drain: t.drain.enabled(),
            },
            http1: Limits {
                head_bytes: resource.limits.header_bytes as usize,
                fields: resource.limits.header_count as usize,
                ..Limits::default()
            },
            access,
            shared,
            resource,
        }
    }

    /// Whether what this client says of its way here is believed.
    pub fn trusts(&self, client: Option<IpAddr>) -> bool {
        let client = client.map(|ip| ip.to_canonical());
        // Who has gone already has no address either.
        let by_socket = || matches!(self.resource.address, Address::Unix(_));
        let mut trusted = self.resource.trusted_networks.iter();
        trusted.any(|trusted| match (trusted, client) {
            (Trusted::Network(network), Some(ip)) => network.contains(&ip),
            (Trusted::Unix, None) => by_socket(),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Telemetry, TelemetryOptions};

    #[test]
    fn labels_are_found_by_their_place_whether_they_count_on_or_not() {
        let telemetry = Telemetry::new(TelemetryOptions::default());
        let labels = |names: &[&str]| -> Vec<_> { names.iter().map(|name| telemetry.label(name)).collect() };
        let fresh = labels(&["a", "b", "c"]);
        for labels in [
            vec![],
            fresh.clone(),
            labels(&["a", "c"]),
            labels(&["c", "b", "a"]),
            labels(&["a", "a"]),
            labels(&["b", "c", "new"]),
        ] {
            let ids = Ids::of(&labels);
            for (at, label) in labels.iter().enumerate() {
                assert_eq!(ids.get(at), Some(label.id()), "{labels:?}");
            }
        }
        assert!(matches!(Ids::of(&fresh), Ids::From(_)));
    }
}
