//! Resources that need no configuration to be written.

use mesh_model::resources::{
    Action, Address, Endpoint, Endpoints, Filters, HostPattern, Locality, Route, RouteMatch, RouteTable,
    RouteTimeouts, VirtualHost, WeightedCluster,
};

/// Endpoints with one address.
pub(crate) fn at(cluster: &str, address: &Address) -> Endpoints {
    Endpoints {
        cluster: cluster.to_owned(),
        localities: vec![Locality {
            endpoints: vec![Endpoint::new(address.clone())],
            ..Locality::default()
        }],
    }
}

/// A table that sends every request to a cluster of its name.
pub(crate) fn everything_to(name: &str) -> RouteTable {
    let route = Route {
        name: name.to_owned(),
        matches: RouteMatch::default(),
        filters: Filters::default(),
        action: Action::Forward {
            to: WeightedCluster::all(name),
        },
        timeouts: RouteTimeouts::default(),
        hash_key: Vec::new(),
    };
    RouteTable {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            hosts: vec![HostPattern::Any],
            routes: vec![route],
        }],
    }
}
