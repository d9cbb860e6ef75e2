//! What does an update cost when there are ten thousand routes and ten thousand clusters?
//!
//!     cargo run --release -p mesh-proxy --example update_cost [COUNT]
//!
//! One route table is changed, or one cluster, or the endpoints of one, or nothing at all; and everything is replaced by
//! the same again. Printed is the time until the change is live, the median of many.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;
use std::time::{Duration, Instant};

use mesh_model::resources::{
    Action, Address, Cluster, Endpoint, Endpoints, HostPattern, Listener, Locality, PathMatch, Resources,
    Route, RouteMatch, RouteTable, VirtualHost, WeightedCluster,
};
use mesh_proxy::proxy::{Change, Options, Proxy};
use mesh_store::Batch;

const ROUNDS: usize = 21;

fn route(n: usize) -> Route {
    Route {
        name: format!("r{n}"),
        matches: RouteMatch {
            path: Some(PathMatch::Prefix(format!("/service-{n}"))),
            ..RouteMatch::default()
        },
        filters: Default::default(),
        action: Action::Forward {
            to: WeightedCluster::all(format!("c{n}")),
        },
        timeouts: Default::default(),
        hash_key: Vec::new(),
    }
}

fn table(name: &str, routes: impl Iterator<Item = usize>) -> RouteTable {
    RouteTable {
        name: name.into(),
        virtual_hosts: vec![VirtualHost {
            hosts: vec![HostPattern::Any],
            routes: routes.map(route).collect(),
        }],
    }
}

fn cluster(n: usize, connect_ms: u64) -> Cluster {
    let mut cluster = Cluster::new(format!("c{n}"));
    cluster.timeouts.connect = mesh_model::resources::Duration::from_millis(connect_ms);
    cluster
}

fn endpoints(n: usize, port: u16) -> Endpoints {
    Endpoints {
        cluster: format!("c{n}"),
        localities: vec![Locality {
            endpoints: vec![Endpoint::new(Address::Ip(([127, 0, 0, 1], port).into()))],
            ..Locality::default()
        }],
    }
}

/// One listener with all routes, and one with a single route.
fn everything(count: usize) -> Result<Resources, Box<dyn Error>> {
    let listener = |name: &str| -> Result<Listener, Box<dyn Error>> {
        let mut listener = Listener::new(name, "127.0.0.1:0".parse::<Address>()?);
        listener.routes = Some(name.into());
        Ok(listener)
    };
    Ok(Resources {
        listeners: vec![listener("large")?, listener("small")?],
        route_tables: vec![table("large", 0..count), table("small", 0..1)],
        clusters: (0..count).map(|n| cluster(n, 2000)).collect(),
        endpoints: (0..count).map(|n| endpoints(n, 1)).collect(),
        policies: Vec::new(),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let proxy = Proxy::start(Options::default())?;
    let begin = Instant::now();
    proxy.apply(Change::Replace(everything(count)?))?;
    println!("{count} routes, clusters and endpoints");
    println!("first                     {:>9.2} ms", ms(begin.elapsed()));
    let measure = |what: &str, change: &dyn Fn(usize) -> Result<Change, Box<dyn Error>>| {
        let mut spans = Vec::new();
        for round in 0..ROUNDS {
            let change = change(round)?;
            let begin = Instant::now();
            proxy.apply(change)?;
            spans.push(begin.elapsed());
        }
        spans.sort();
        println!("{what:<25} {:>9.2} ms", ms(spans[ROUNDS / 2]));
        Ok::<_, Box<dyn Error>>(())
    };
    let batch = |upsert: Resources| {
        Change::Batch(Batch {
            upsert,
            ..Batch::default()
        })
    };
    measure("nothing", &|_| Ok(batch(Resources::default())))?;
    measure("one cluster", &|round| {
        Ok(batch(Resources {
            clusters: vec![cluster(7, 1000 + round as u64)],
            ..Resources::default()
        }))
    })?;
    measure("one cluster's endpoints", &|round| {
        Ok(batch(Resources {
            endpoints: vec![endpoints(7, 2 + round as u16)],
            ..Resources::default()
        }))
    })?;
    measure("a table of one route", &|round| {
        Ok(batch(Resources {
            route_tables: vec![table("small", round..round + 1)],
            ..Resources::default()
        }))
    })?;
    measure("a table of all routes", &|round| {
        Ok(batch(Resources {
            route_tables: vec![table("large", round % 2..count)],
            ..Resources::default()
        }))
    })?;
    measure("all, the same again", &|_| {
        Ok(Change::Replace(everything(count)?))
    })?;
    Ok(())
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
