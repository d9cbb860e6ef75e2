//! Which kinds of resources are there, and in which order do they come?

/// A kind of resource. The order is make before break: roots before whom they vouch for, a route never before its
/// clusters, a cluster with its endpoints at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// SDS.
    Secret,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    RouteTable,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::RouteTable,
    ];

    /// The type of its message.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteTable => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// Whether a state of the world says all there is of it, and may be asked for without names.
    pub(crate) const fn is_whole(self) -> bool {
        matches!(self, Self::Listener | Self::Cluster)
    }

    /// The kind of a message of this type.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

/// One of something for each kind, in the order of [`Kind::ALL`].
#[derive(Clone, Debug, Default)]
pub(crate) struct ByKind<T>([T; Kind::ALL.len()]);

impl<T> ByKind<T> {
    pub(crate) fn of(&self, kind: Kind) -> &T {
        let [secret, cluster, endpoints, listener, route_table] = &self.0;
        match kind {
            Kind::Secret => secret,
            Kind::Cluster => cluster,
            Kind::Endpoints => endpoints,
            Kind::Listener => listener,
            Kind::RouteTable => route_table,
        }
    }

    pub(crate) fn of_mut(&mut self, kind: Kind) -> &mut T {
        let [secret, cluster, endpoints, listener, route_table] = &mut self.0;
        match kind {
            Kind::Secret => secret,
            Kind::Cluster => cluster,
            Kind::Endpoints => endpoints,
            Kind::Listener => listener,
            Kind::RouteTable => route_table,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}
