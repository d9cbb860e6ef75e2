//! What does a workload's proxy do by itself, whatever its control plane says?
//!
//! It takes calls for the ports that were declared, by the mesh too where that names any, and asks for names that its workload calls. A plain listener is there
//! from the beginning, and asks for its name when it is called.

use std::collections::BTreeSet;

use mesh_model::policy::{AuthorizationPolicy, PolicyDefault};
use mesh_model::resources::{
    Cluster, Direction, Listener, ListenerProtocol, Resources, UpstreamProtocol, WeightedCluster,
    WorkloadPort, WorkloadPorts,
};

use crate::parts::{at, everything_to};

use super::settings::{Forward, OutboundFrom, Port, PortProtocol, Workload};

/// The listener that other workloads call.
pub(crate) const INBOUND: &str = "inbound";
/// The listener that the own workload calls.
const OUTBOUND: &str = "outbound";
/// How the names of plain listeners begin: what they lead to follows.
const PLAIN: &str = "forward:";
/// How the names of what is behind a declared port begin: the port follows. They are in one list with the tables of names
/// that are called, and a name is never called so: each has a colon and a port at its end.
pub(super) const APPLICATION: &str = "application/";

/// How the name of a cluster outside the mesh begins where the control plane has one of the same name. What follows is
/// called so.
pub(super) const OUTSIDE: &str = "outside/";

/// The listeners towards others and towards the workload, with what is behind the declared ports. Where the mesh says which
/// ports are `called`, no other is there: its policies say nothing of others.
pub(crate) fn resources(
    workload: &Workload,
    default_policy: PolicyDefault,
    policies: Vec<AuthorizationPolicy>,
    called: Option<&BTreeSet<u16>>,
) -> Resources {
    let mut inbound = Listener::new(INBOUND, workload.inbound.clone());
    inbound.direction = Direction::Inbound;
    inbound.default_policy = default_policy;
    inbound.transparent = workload.transparent;
    let mut resources = Resources {
        policies,
        ..Resources::default()
    };
    let mut ports = Vec::new();
    let is_called = |port: &&Port| called.is_none_or(|called| called.contains(&port.port));
    for port in workload.ports.iter().filter(is_called) {
        let name = format!("{APPLICATION}{}", port.port);
        let is_http = port.protocol != PortProtocol::Tcp;
        if is_http {
            resources.route_tables.push(everything_to(&name));
        }
        resources.clusters.push(application(&name, port));
        resources.endpoints.push(at(&name, &port.application));
        ports.push(WorkloadPort {
            port: port.port,
            service: None,
            routes: is_http.then(|| name.clone()),
            tcp: match port.protocol {
                PortProtocol::Auto | PortProtocol::Tcp => WeightedCluster::all(&*name),
                PortProtocol::Http1 | PortProtocol::Http2 => Vec::new(),
            },
        });
    }
    // What speaks no TLS means the first port: there is nothing to tell it by.
    if let Some(first) = ports.first() {
        inbound.routes.clone_from(&first.routes);
        inbound.tcp.clone_from(&first.tcp);
    }
    inbound.workload = Some(WorkloadPorts { ports });
    resources.listeners.push(inbound);
    if let Some(address) = &workload.outbound {
        let mut outbound = Listener::new(OUTBOUND, address.clone());
        outbound.direction = Direction::Outbound;
        outbound.on_demand = true;
        outbound.forward_proxy = true;
        outbound.transparent = workload.transparent;
        outbound.local_only = workload.outbound_from == OutboundFrom::Local;
        if workload.transparent {
            outbound.opaque_ports.clone_from(&workload.opaque_ports);
        }
        resources.listeners.push(outbound);
    }
    let forward = workload.forward.iter().map(|forward| Listener {
        local_only: workload.outbound_from == OutboundFrom::Local,
        ..plain(forward)
    });
    resources.listeners.extend(forward);
    resources
}

/// Whether a cluster is of this sidecar's making, so that no control plane may have one of that name.
pub(super) fn is_own(cluster: &str) -> bool {
    cluster.starts_with(APPLICATION) || cluster.starts_with(OUTSIDE)
}

/// Whether the own workload calls a listener of this name.
pub(crate) fn is_outbound(listener: &str) -> bool {
    listener == OUTBOUND || listener.starts_with(PLAIN)
}

/// A listener for one name, whatever host its clients ask for.
fn plain(forward: &Forward) -> Listener {
    let mut plain = Listener::new(format!("{PLAIN}{}", forward.name), forward.address.clone());
    plain.direction = Direction::Outbound;
    plain.on_demand = true;
    plain.leads_to = Some(forward.name.clone());
    if forward.is_tcp {
        plain.protocol = ListenerProtocol::Tcp;
    }
    plain
}

fn application(name: &str, port: &Port) -> Cluster {
    let mut cluster = Cluster::new(name);
    cluster.protocol = match port.protocol {
        PortProtocol::Auto | PortProtocol::Tcp => UpstreamProtocol::Auto,
        PortProtocol::Http1 => UpstreamProtocol::Http1,
        PortProtocol::Http2 => UpstreamProtocol::Http2,
    };
    cluster
}
