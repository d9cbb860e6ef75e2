//! What is the configuration of a proxy that is told two addresses and nothing else?

use mesh_model::resources::{
    AccessLog, Address, Cluster, Discovery, HostPattern, Listener, Resources, WeightedCluster,
};

use crate::parts::{at, everything_to};

/// Where everything goes.
pub(crate) enum To {
    /// An address.
    Address(Address),
    /// A name that is looked up.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Reads where everything goes.
pub(crate) fn target(text: &str) -> Result<To, String> {
    if let Ok(address) = text.parse() {
        return Ok(To::Address(address));
    }
    let name = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match name {
        Some((host, port)) if matches!(host.parse::<HostPattern>(), Ok(HostPattern::Exact(_))) => {
            Ok(To::Name {
                host: host.into(),
                port,
            })
        }
        _ => Err("expected IP:PORT, NAME:PORT or unix:PATH".into()),
    }
}

/// Everything that comes in goes to one place, whatever it speaks.
pub(crate) fn direct(listen: Address, to: To, access_log: Option<AccessLog>) -> Resources {
    const NAME: &str = "main";
    let mut listener = Listener::new(NAME, listen);
    listener.routes = Some(NAME.into());
    listener.tcp = WeightedCluster::all(NAME);
    listener.access_log = access_log;
    let mut cluster = Cluster::new(NAME);
    let mut endpoints = Vec::new();
    match to {
        To::Address(address) => endpoints.push(at(NAME, &address)),
        To::Name { host, port } => cluster.discovery = Discovery::Dns { host, port },
    }
    Resources {
        listeners: vec![listener],
        route_tables: vec![everything_to(NAME)],
        clusters: vec![cluster],
        endpoints,
        policies: Vec::new(),
    }
}
