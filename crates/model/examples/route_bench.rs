//! What does a look-up cost, and what an update? `cargo run --release -p mesh-model --example route_bench`
//!
//! Prints nanoseconds for one `RouteIndex::find`, with 1, 10 and 10,000 routes told apart by path prefix, by host, by
//! exact path, by template and by gRPC method, over requests spread evenly. The largest table should cost little more
//! than the smallest: what is left is the cache missing. Beside it, the milliseconds of `RouteIndex::compile`, which an
//! update of the table costs off the data threads; it should grow with the routes and no faster, also for tables that
//! nobody wishes for: regular expressions, and routes that only their headers tell apart.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use mesh_model::resources::*;
use mesh_model::route::{RequestView, RouteIndex};

struct Get {
    host: String,
    path: String,
}

impl RequestView for Get {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> &[u8] {
        b""
    }
    fn header<'a>(&'a self, _: &'a str) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }
    fn is_grpc(&self) -> bool {
        true
    }
}

fn route(path: Option<PathMatch>) -> Route {
    Route {
        name: String::new(),
        matches: RouteMatch {
            path,
            ..RouteMatch::default()
        },
        filters: Filters::default(),
        action: Action::Forward {
            to: WeightedCluster::all("c"),
        },
        timeouts: RouteTimeouts::default(),
        hash_key: Vec::new(),
    }
}

fn one_host(count: usize, path: impl Fn(usize) -> PathMatch) -> Vec<VirtualHost> {
    vec![VirtualHost {
        hosts: vec![HostPattern::Any],
        routes: (0..count).map(|n| route(Some(path(n)))).collect(),
    }]
}

fn table(virtual_hosts: Vec<VirtualHost>) -> RouteTable {
    RouteTable {
        name: "bench".into(),
        virtual_hosts,
    }
}

/// The milliseconds of one compilation, the best of several.
fn compile_ms(table: &RouteTable) -> f64 {
    let once = |_| {
        let start = Instant::now();
        black_box(RouteIndex::compile(black_box(table)).unwrap());
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..5).map(once).fold(f64::INFINITY, f64::min)
}

fn measure(
    name: &str,
    count: usize,
    virtual_hosts: Vec<VirtualHost>,
    request: impl Fn(usize) -> (String, String),
) {
    const ROUNDS: usize = 2_000_000;
    let table = table(virtual_hosts);
    let index = RouteIndex::compile(&table).unwrap();
    let requests: Vec<Get> = (0..1024)
        .map(|n| {
            let (host, path) = request(n * 7919 % count);
            Get { host, path }
        })
        .collect();
    let run = |rounds: usize| {
        let start = Instant::now();
        for round in 0..rounds {
            let found = index.find(black_box(&requests[round % requests.len()]));
            assert!(black_box(found).is_some());
        }
        start.elapsed().as_nanos() as f64 / rounds as f64
    };
    run(ROUNDS / 10);
    let compiled = compile_ms(&table);
    println!(
        "{name:>9}  {count:>6} routes  {:>6.1} ns  {compiled:>8.2} ms to compile",
        run(ROUNDS)
    );
}

/// Tables whose look-ups are scans by nature: only the update is measured.
fn measure_compile(name: &str, count: usize, virtual_hosts: Vec<VirtualHost>) {
    let compiled = compile_ms(&table(virtual_hosts));
    println!("{name:>9}  {count:>6} routes             {compiled:>8.2} ms to compile");
}

/// Routes of one path, told apart by the value of one header.
fn by_header(count: usize) -> Vec<VirtualHost> {
    let with_header = |n: usize| {
        let mut route = route(Some(PathMatch::Exact("/api".into())));
        route.matches.headers = vec![ValueMatch {
            name: "x-tenant".into(),
            value: ValueCondition::Exact(n.to_string()),
            invert: false,
        }];
        route
    };
    vec![VirtualHost {
        hosts: vec![HostPattern::Any],
        routes: (0..count).map(with_header).collect(),
    }]
}

fn main() {
    let host = || "shop.test:8080".to_owned();
    for count in [1, 10, 10_000] {
        let routes = one_host(count, |n| PathMatch::Prefix(format!("/service-{n}/api")));
        measure("prefix", count, routes, |n| {
            (host(), format!("/service-{n}/api/items/42"))
        });
    }
    for count in [1, 10, 10_000] {
        let pattern = |n| HostPattern::Exact(format!("service-{n}.shop.test").into());
        let hosts = (0..count).map(|n| VirtualHost {
            hosts: vec![pattern(n)],
            routes: vec![route(None)],
        });
        measure("host", count, hosts.collect(), |n| {
            (format!("service-{n}.shop.test:8080"), "/api/items/42".into())
        });
    }
    for count in [1, 10, 10_000] {
        let routes = one_host(count, |n| PathMatch::Exact(format!("/service-{n}/api/items")));
        measure("exact", count, routes, |n| {
            (host(), format!("/service-{n}/api/items"))
        });
    }
    for count in [1, 10, 10_000] {
        let routes = one_host(count, |n| {
            PathMatch::Template(format!("/service-{n}/{{id}}/items"))
        });
        measure("template", count, routes, |n| {
            (host(), format!("/service-{n}/42/items"))
        });
    }
    for count in [1, 10, 10_000] {
        let call = |n| {
            let mut route = route(None);
            route.matches.grpc = Some(GrpcMatch {
                service: format!("shop.v{n}.Basket"),
                method: Some("Get".into()),
            });
            route
        };
        let hosts = vec![VirtualHost {
            hosts: vec![HostPattern::Any],
            routes: (0..count).map(call).collect(),
        }];
        measure("grpc", count, hosts, |n| {
            (host(), format!("/shop.v{n}.Basket/Get"))
        });
    }
    for count in [10, 100, 1_000] {
        let routes = one_host(count, |n| PathMatch::Regex(format!("/service-{n}/[0-9]+/.*")));
        measure_compile("regex", count, routes);
    }
    for count in [10, 100, 1_000, 10_000] {
        measure_compile("header", count, by_header(count));
    }
}
